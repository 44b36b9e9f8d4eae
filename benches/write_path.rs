//! The write path beside its physical limits: what an append with a sync costs, and a memtable insert.
//!
//! `cargo bench --bench write_path`; `KINTSU_BENCH_DIR` names the folder (and so the disk) to use.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench"
)]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kintsu::{Db, Durability, Options, WriteBatch};
use tempfile::TempDir;

const VALUE_BYTES: usize = 100;

fn folder() -> TempDir {
    match std::env::var_os("KINTSU_BENCH_DIR") {
        Some(base) => tempfile::tempdir_in(base).unwrap(),
        None => tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
    }
}

/// 16 bytes, different for each `n`, in no order.
fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

fn open(durability: Durability) -> (TempDir, Db) {
    let folder = folder();
    let db = Options::new(folder.path().join("store"))
        .durability(durability)
        .open()
        .unwrap();
    (folder, db)
}

/// A file whose blocks have all been written before, and synced.
fn prezeroed(folder: &TempDir) -> File {
    let path = folder.path().join("prezeroed");
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)
        .unwrap();
    file.write_all_at(&vec![0; PREZEROED_BYTES], 0).unwrap();
    file.sync_all().unwrap();
    file
}

const PREZEROED_BYTES: usize = 64 << 20;

/// One thread beside the limit: append to a prezeroed file, then fdatasync.
fn one_thread(c: &mut Criterion) {
    let folder = folder();
    let file = prezeroed(&folder);
    let mut group = c.benchmark_group("durable put, 1 thread");
    group.throughput(Throughput::Elements(1));
    let record = [7; 128];
    let mut at = 0;
    group.bench_function("limit: append 128 B + fdatasync", |b| {
        b.iter(|| {
            file.write_all_at(&record, at).unwrap();
            file.sync_data().unwrap();
            at = (at + 128) % (PREZEROED_BYTES as u64 - 128);
        });
    });
    let (_kept, db) = open(Durability::Disk);
    let mut n = 0;
    group.bench_function("kintsu", |b| {
        b.iter(|| {
            n += 1;
            db.put(key(n), [7; VALUE_BYTES]).unwrap();
        });
    });
    group.finish();
}

/// Durable puts from many threads at once.
fn threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("durable put");
    group
        .throughput(Throughput::Elements(1))
        .measurement_time(Duration::from_secs(5));
    for threads in [1_u64, 8, 32] {
        let (_kept, db) = open(Durability::Disk);
        let next = AtomicU64::new(0);
        group.bench_function(format!("kintsu, {threads} threads"), |b| {
            b.iter_custom(|count| put_from(&db, &next, threads, count));
        });
    }
    group.finish();
}

/// Writes `count` keys from `threads` threads; how long that took.
fn put_from(db: &Db, next: &AtomicU64, threads: u64, count: u64) -> Duration {
    let end = next.load(Ordering::Relaxed) + count;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= end {
                        return;
                    }
                    db.put(key(n), [7; VALUE_BYTES]).unwrap();
                }
            });
        }
    });
    let took = begun.elapsed();
    next.store(end, Ordering::Relaxed);
    took
}

/// Makes the n-th key.
type KeyOf = fn(u64) -> [u8; 16];

/// Filling without syncs, in order and at random, one and a hundred a batch.
fn fill(c: &mut Criterion) {
    let mut group = c.benchmark_group("fill");
    let orders: [(&str, KeyOf); 2] = [
        ("in order", |n| u128::from(n).to_be_bytes()),
        ("at random", key),
    ];
    for (order, key) in orders {
        let mut map = BTreeMap::new();
        let mut n = 0;
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("limit: BTreeMap insert, {order}"), |b| {
            b.iter(|| {
                n += 1;
                map.insert(key(n), [7; VALUE_BYTES]);
            });
        });
        drop(black_box(map));
        for batch_size in [1, 100] {
            let (_kept, db) = open(Durability::Buffered);
            let mut n = 0;
            group.throughput(Throughput::Elements(batch_size));
            group.bench_function(format!("kintsu, {order}, {batch_size} a batch"), |b| {
                b.iter(|| {
                    let mut batch = WriteBatch::new();
                    for _ in 0..batch_size {
                        n += 1;
                        batch.put(key(n), [7; VALUE_BYTES]);
                    }
                    db.write(batch).unwrap();
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = one_thread, threads, fill
}
criterion_main!(benches);

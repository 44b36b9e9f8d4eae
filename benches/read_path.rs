//! The read path beside its physical limits: a BTreeMap lookup, and a copy of memory.
//!
//! `cargo bench --bench read_path`; reads run after a flush and settled compaction, from segments.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kintsu::{Db, Durability, Job, Options, WriteBatch};
use tempfile::TempDir;

const KEYS: u64 = 1_000_000;
const VALUE_BYTES: usize = 100;

fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

fn filled() -> (TempDir, Db) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = Options::new(folder.path().join("store"))
        .durability(Durability::Buffered)
        .block_cache_bytes(1 << 30);
    let db = options.open().unwrap();
    for first in (0..KEYS).step_by(1000) {
        let mut batch = WriteBatch::new();
        for n in first..first + 1000 {
            batch.put(key(n), [n as u8; VALUE_BYTES]);
        }
        db.write(batch).unwrap();
    }
    db.flush().unwrap();
    while db.step(Job::Compact).unwrap() {}
    (folder, db)
}

fn get(c: &mut Criterion) {
    let (_kept, db) = filled();
    let map: BTreeMap<_, _> = (0..KEYS)
        .map(|n| (key(n), [n as u8; VALUE_BYTES]))
        .collect();
    let mut group = c.benchmark_group("random get, 1 thread, in cache");
    group.throughput(Throughput::Elements(1));
    let mut n = 0_u64;
    let mut random = move || {
        n = n
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (n >> 33) % KEYS
    };
    for n in 0..KEYS {
        black_box(db.get(key(n)).unwrap());
    }
    group.bench_function("limit: BTreeMap get", |b| {
        b.iter(|| black_box(map.get(&key(random()))))
    });
    group.bench_function("kintsu", |b| {
        b.iter(|| black_box(db.get(key(random())).unwrap().unwrap()));
    });
    group.bench_function("kintsu, absent", |b| {
        b.iter(|| black_box(db.get(key(random() + KEYS)).unwrap()));
    });
    group.finish();
    scan(c, &db);
}

fn scan(c: &mut Criterion, db: &Db) {
    let mut group = c.benchmark_group("full scan, warm");
    group.throughput(Throughput::Elements(KEYS)).sample_size(10);
    let from = vec![7_u8; (KEYS as usize) * (VALUE_BYTES + 16)];
    let mut to = vec![0_u8; from.len()];
    group.bench_function("limit: memcpy of as many bytes", |b| {
        b.iter(|| black_box(&mut to).copy_from_slice(black_box(&from)));
    });
    group.bench_function("kintsu, keys lent", |b| {
        b.iter(|| {
            let mut range = db.range(..).unwrap();
            let mut keys = 0;
            while let Some(item) = range.next_ref().unwrap() {
                black_box(item);
                keys += 1;
            }
            assert_eq!(keys, KEYS);
        });
    });
    group.bench_function("kintsu, backwards", |b| {
        b.iter(|| assert_eq!(db.range(..).unwrap().rev().count() as u64, KEYS));
    });
    group.finish();
}

criterion_group!(benches, get);
criterion_main!(benches);

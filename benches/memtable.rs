//! The memtable against crossbeam's skip list and the standard library's B-tree: one million
//! entries of 16-byte keys and 100-byte values.
//!
//! The peers hold plain pairs of `Vec<u8>`; the memtable also keeps a version of each key, so they
//! have the lighter task. All take their own copy of key and value.
#![allow(dead_code, unused_imports, missing_docs, clippy::unwrap_used)]

// The table is no part of the public interface, so its room is compiled into the benchmark.
#[path = "../src/cursor.rs"]
mod cursor;
#[path = "../src/error.rs"]
mod error;
#[path = "../src/memtable/mod.rs"]
mod memtable;
#[path = "../src/types/mod.rs"]
mod types;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::thread;

use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};
use crossbeam_skiplist::SkipMap;

use self::cursor::Cursor;
use self::memtable::{Bulk, Memtable};
use self::types::{Entry, EntryKind, Index, Version};

const ENTRIES: u64 = 1_000_000;
const VALUE: [u8; 100] = [7; 100];

type Key = [u8; 16];
type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

/// A number that looks drawn at random; no two are the same.
fn scatter(n: u64) -> u64 {
    let mut draw = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    draw = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    draw = (draw ^ (draw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    draw ^ (draw >> 31)
}

/// Keys of 16 random bytes.
fn random_keys(from: u64, count: u64) -> Vec<Key> {
    (from..from + count)
        .map(|n| ((u128::from(scatter(n)) << 64) | u128::from(scatter(!n))).to_be_bytes())
        .collect()
}

/// Keys of 16 decimal digits, in order.
fn ascending_keys() -> Vec<Key> {
    (0..ENTRIES).map(decimal).collect()
}

/// Keys of 16 decimal digits, most of them zeros, shuffled.
fn shuffled_keys() -> Vec<Key> {
    let mut keys = ascending_keys();
    for n in (1..keys.len()).rev() {
        keys.swap(n, (scatter(n as u64) % (n as u64 + 1)) as usize);
    }
    keys
}

fn decimal(n: u64) -> Key {
    format!("{n:016}").into_bytes().try_into().unwrap()
}

fn entry(key: &Key, n: usize) -> Entry<'_> {
    Entry {
        key,
        version: Version {
            index: Index(n as u64 + 1),
            position: 0,
        },
        kind: EntryKind::Put,
        value: &VALUE,
    }
}

fn entries(keys: &[Key]) -> impl Iterator<Item = Entry<'_>> {
    keys.iter().enumerate().map(|(n, key)| entry(key, n))
}

fn fill_memtable(keys: &[Key]) -> Memtable {
    let table = Memtable::new();
    entries(keys).for_each(|entry| table.insert(entry));
    table
}

fn fill_crossbeam(keys: &[Key]) -> SkipMap<Vec<u8>, Vec<u8>> {
    let map = SkipMap::new();
    for key in keys {
        map.insert(key.to_vec(), VALUE.to_vec());
    }
    map
}

fn fill_btree(keys: &[Key]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut map = BTreeMap::new();
    for key in keys {
        map.insert(key.to_vec(), VALUE.to_vec());
    }
    map
}

/// Times `fill`; dropping what it made is not counted.
fn fill<T>(group: &mut Group<'_>, name: &str, fill: impl Fn() -> T) {
    group.bench_function(name, |bencher| {
        bencher.iter_batched(|| (), |()| fill(), BatchSize::PerIteration);
    });
}

fn inserts(criterion: &mut Criterion) {
    let orders = [
        ("insert_random", random_keys(0, ENTRIES)),
        ("insert_shuffled_decimal", shuffled_keys()),
        ("insert_ascending", ascending_keys()),
    ];
    for (order, keys) in &orders {
        let mut group = criterion.benchmark_group(*order);
        group
            .throughput(Throughput::Elements(ENTRIES))
            .sample_size(10);
        fill(&mut group, "memtable", || fill_memtable(keys));
        fill(&mut group, "memtable_bulk", || {
            let table = Arc::new(Memtable::new());
            let mut bulk = Bulk::new(Arc::clone(&table));
            entries(keys).for_each(|entry| bulk.push(entry));
            bulk.link(None, false);
            table
        });
        fill(&mut group, "btree", || fill_btree(keys));
        fill(&mut group, "crossbeam", || fill_crossbeam(keys));
        group.finish();
    }
}

fn two_threads(criterion: &mut Criterion) {
    let keys = random_keys(0, ENTRIES);
    let halves: Vec<&[Key]> = keys.chunks(keys.len() / 2).collect();
    let mut group = criterion.benchmark_group("insert_random_2_threads");
    group
        .throughput(Throughput::Elements(ENTRIES))
        .sample_size(10);
    fill(&mut group, "memtable", || {
        let table = Memtable::new();
        thread::scope(|scope| {
            for half in &halves {
                scope.spawn(|| entries(half).for_each(|entry| table.insert(entry)));
            }
        });
        table
    });
    fill(&mut group, "crossbeam", || {
        let map = SkipMap::new();
        thread::scope(|scope| {
            for half in &halves {
                scope.spawn(|| {
                    for key in *half {
                        map.insert(key.to_vec(), VALUE.to_vec());
                    }
                });
            }
        });
        map
    });
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    for (order, keys) in [
        ("random", random_keys(0, ENTRIES)),
        ("shuffled_decimal", shuffled_keys()),
    ] {
        let table = Arc::new(fill_memtable(&keys));
        let btree = fill_btree(&keys);
        let crossbeam = fill_crossbeam(&keys);
        gets(criterion, order, &keys, (&table, &btree, &crossbeam));
        if order == "random" {
            scans(criterion, (&table, &btree, &crossbeam));
        }
    }
}

type Peers<'a> = (
    &'a Arc<Memtable>,
    &'a BTreeMap<Vec<u8>, Vec<u8>>,
    &'a SkipMap<Vec<u8>, Vec<u8>>,
);

fn gets(criterion: &mut Criterion, order: &str, keys: &[Key], (table, btree, crossbeam): Peers) {
    let mut group = criterion.benchmark_group(format!("get_{order}"));
    group.throughput(Throughput::Elements(1));
    // Keys that are there, in an order of their own.
    let probe = |n: &mut u64| {
        *n += 1;
        &keys[(scatter(*n) % ENTRIES) as usize]
    };
    group.bench_function("memtable", |bencher| {
        let mut n = 0;
        bencher.iter(|| table.get(probe(&mut n), Version::MAX).unwrap().value[0]);
    });
    group.bench_function("btree", |bencher| {
        let mut n = 0;
        bencher.iter(|| btree.get(&probe(&mut n)[..]).unwrap()[0]);
    });
    group.bench_function("crossbeam", |bencher| {
        let mut n = 0;
        bencher.iter(|| crossbeam.get(&probe(&mut n)[..]).unwrap().value()[0]);
    });
    group.finish();
}

fn scans(criterion: &mut Criterion, (table, btree, crossbeam): Peers) {
    let mut group = criterion.benchmark_group("scan");
    group
        .throughput(Throughput::Elements(ENTRIES))
        .sample_size(10);
    group.bench_function("memtable", |bencher| {
        bencher.iter(|| {
            let mut cursor = table.cursor();
            cursor.seek_to_first().unwrap();
            while let Some(entry) = cursor.entry() {
                black_box(entry.value[0]);
                cursor.next().unwrap();
            }
        });
    });
    group.bench_function("btree", |bencher| {
        bencher.iter(|| {
            btree.iter().for_each(|(_, value)| {
                black_box(value[0]);
            })
        });
    });
    group.bench_function("crossbeam", |bencher| {
        bencher.iter(|| {
            crossbeam.iter().for_each(|entry| {
                black_box(entry.value()[0]);
            });
        });
    });
    group.finish();
}

criterion_group!(benches, inserts, two_threads, reads);
criterion_main!(benches);

//! One segment of a million entries, 16-byte keys and 100-byte values: point reads and scans, beside
//! the standard library's B-tree and a plain copy of memory.
//!
//! Nothing here goes to the disk itself but the building: reads come from the block cache, or from the
//! page cache where a name says so.
#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stderr
)]

// A segment is no part of the public interface, so its room is compiled into the benchmark.
#[path = "../src/codec/mod.rs"]
mod codec;
#[path = "../src/cursor.rs"]
mod cursor;
#[path = "../src/environment.rs"]
mod environment;
#[path = "../src/error.rs"]
mod error;
#[path = "../src/parity/mod.rs"]
mod parity;
#[path = "../src/segment/mod.rs"]
mod segment;
#[cfg(feature = "testing")]
#[path = "../src/testing/mod.rs"]
mod testing;
#[path = "../src/types/mod.rs"]
mod types;
#[path = "../src/vfs/mod.rs"]
mod vfs;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};

use self::cursor::Cursor;
use self::segment::{
    BlockCache, ReadPolicy, Segment, SegmentBuilder, SegmentOptions, SegmentSetup,
};
use self::types::{
    Codec, Entry, EntryKind, FileId, Index, KeyspaceId, SegmentMeta, SegmentNumber, StoreId,
    Version,
};
use self::vfs::{DiskVfs, Vfs};

const ENTRIES: u64 = 1_000_000;
const STORE: StoreId = StoreId(1);
const LARGE: u64 = 1 << 30;

/// A number that looks drawn at random; no two are the same.
fn scatter(n: u64) -> u64 {
    let mut draw = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    draw = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    draw = (draw ^ (draw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    draw ^ (draw >> 31)
}

/// Sixteen decimal digits; the even numbers are in the segment, the odd ones are not.
fn key(number: u64) -> [u8; 16] {
    let mut key = [b'0'; 16];
    let mut rest = number;
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn build(dir: &Path, entries: u64, value_bytes: usize) -> SegmentMeta {
    let noise = |number: u64, value: &mut Vec<u8>| {
        value.resize(value_bytes, 0);
        for (nth, word) in value.chunks_mut(8).enumerate() {
            let bytes = scatter(number ^ (nth as u64) << 40).to_le_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        }
    };
    build_of(dir, entries, Codec::None, noise)
}

/// A JSON object of 100 to 300 bytes.
fn json(number: u64, value: &mut Vec<u8>) {
    const NAMES: [&str; 8] = [
        "Anna", "Bela", "Chandra", "Dmitri", "Elif", "Farid", "Greta", "Hugo",
    ];
    const CITIES: [&str; 8] = [
        "Berlin",
        "Hamburg",
        "Reykjavik",
        "Lisboa",
        "Oslo",
        "Praha",
        "Wien",
        "Zagreb",
    ];
    let (one, other) = (scatter(number), scatter(number ^ 1 << 50));
    let name = NAMES[(one >> 30) as usize % 8];
    let city = |bits: u64| CITIES[(other >> bits) as usize % 8];
    let mut text = format!(
        "{{\"id\":{},\"name\":\"{name}\",\"city\":\"{}\",\"active\":{},\"balance\":{}.{:02}",
        one % 100_000_000,
        city(3),
        one & 1 << 50 == 0,
        other % 100_000,
        (other >> 20) % 100,
    );
    if one % 3 > 0 {
        let token = scatter(other);
        text += &format!(
            ",\"email\":\"{name}.{:x}@example.org\",\"token\":\"{token:016x}\"",
            one % 65_536
        );
    }
    if one % 3 == 2 {
        text += &format!(
            ",\"tags\":[\"{}\",\"{name}\"],\"note\":\"visited {} on the way to {}\"",
            city(7),
            city(13),
            city(17)
        );
    }
    text.push('}');
    value.clear();
    value.extend_from_slice(text.as_bytes());
}

fn build_of(
    dir: &Path,
    entries: u64,
    codec: Codec,
    make: impl Fn(u64, &mut Vec<u8>),
) -> SegmentMeta {
    let mut builder = SegmentBuilder::create(SegmentSetup {
        dir: dir.to_owned(),
        vfs: Arc::new(DiskVfs),
        store_id: STORE,
        keyspace: KeyspaceId::DEFAULT,
        number: SegmentNumber(entries),
        file_id: FileId(u128::from(scatter(entries)) << 64 | 1),
        options: SegmentOptions {
            codec,
            ..SegmentOptions::default()
        },
    })
    .unwrap();
    let mut value = Vec::new();
    for number in 0..entries {
        make(number, &mut value);
        let entry = Entry {
            key: &key(number * 2),
            version: Version::newest_at(Index(1 + scatter(number) % ENTRIES)),
            kind: EntryKind::Put,
            value: &value,
        };
        let entry = Entry {
            version: Version {
                position: 0,
                ..entry.version
            },
            ..entry
        };
        builder.add(entry).unwrap();
    }
    builder.finish().unwrap()
}

fn open(dir: &Path, meta: &SegmentMeta, cache_bytes: u64) -> Arc<Segment> {
    open_by(dir, meta, cache_bytes, ReadPolicy::default())
}

fn open_by(dir: &Path, meta: &SegmentMeta, cache_bytes: u64, policy: ReadPolicy) -> Arc<Segment> {
    let cache = Arc::new(BlockCache::with_policy(cache_bytes, policy));
    Arc::new(Segment::open(Arc::new(DiskVfs), dir, STORE, meta, cache).unwrap())
}

/// Puts every block into the cache.
fn warm(segment: &Segment, entries: u64) {
    for number in 0..entries {
        segment.get(&key(number * 2), Version::MAX).unwrap();
    }
}

fn scan(segment: &Arc<Segment>) -> (u64, u64) {
    let mut cursor = segment.cursor();
    let (mut entries, mut bytes) = (0, 0);
    cursor.seek_to_first().unwrap();
    while let Some(entry) = cursor.entry() {
        entries += 1;
        bytes += (entry.key.len() + entry.value.len()) as u64;
        cursor.next().unwrap();
    }
    (entries, bytes)
}

fn scan_back(segment: &Arc<Segment>) -> u64 {
    let mut cursor = segment.cursor();
    let mut entries = 0;
    cursor.seek_to_last().unwrap();
    while let Some(entry) = cursor.entry() {
        entries += black_box(entry).key.len() as u64 / 16;
        cursor.prev().unwrap();
    }
    entries
}

fn point_reads(group: &mut BenchmarkGroup<'_, WallTime>, dir: &Path, meta: &SegmentMeta) {
    let cached = open(dir, meta, LARGE);
    warm(&cached, ENTRIES);
    let uncached = open(dir, meta, 0);
    group.throughput(Throughput::Elements(1));
    let mut draw = 0;
    let mut next = move || {
        draw += 1;
        scatter(draw) % ENTRIES * 2
    };
    let mut random = next;
    group.bench_function("get, block cache", |bencher| {
        bencher.iter(|| cached.get(&key(random()), Version::MAX).unwrap().unwrap());
    });
    let unpinned = ReadPolicy {
        pins: false,
        ..ReadPolicy::default()
    };
    let unpinned = open_by(dir, meta, LARGE, unpinned);
    warm(&unpinned, ENTRIES);
    let mut random = next;
    group.bench_function("get, block cache, nothing pinned", |bencher| {
        bencher.iter(|| unpinned.get(&key(random()), Version::MAX).unwrap().unwrap());
    });
    let mut random = next;
    group.bench_function("get of an absent key", |bencher| {
        bencher.iter(|| cached.get(&key(random() + 1), Version::MAX).unwrap());
    });
    let mut random = next;
    group.bench_function("get, page cache", |bencher| {
        bencher.iter(|| uncached.get(&key(random()), Version::MAX).unwrap().unwrap());
    });
    let maps = ReadPolicy {
        maps: true,
        ..ReadPolicy::default()
    };
    let mapped = open_by(dir, meta, 0, maps);
    group.bench_function("get, page cache, mapped", |bencher| {
        bencher.iter(|| mapped.get(&key(next()), Version::MAX).unwrap().unwrap());
    });
    let tree: BTreeMap<_, _> = (0..ENTRIES)
        .map(|number| (key(number * 2).to_vec(), bytes::Bytes::from(vec![7u8; 100])))
        .collect();
    let mut draw = 0;
    group.bench_function("get, BTreeMap", |bencher| {
        bencher.iter(|| {
            draw += 1;
            let number = scatter(draw) % ENTRIES * 2;
            tree.get(&key(number)[..]).cloned().unwrap()
        });
    });
    let mut cursor = cached.cursor();
    let mut draw = 0;
    group.throughput(Throughput::Elements(100));
    group.bench_function("range of 100 keys, block cache", |bencher| {
        bencher.iter(|| {
            draw += 1;
            let number = scatter(draw) % (ENTRIES - 100) * 2;
            cursor.seek(&key(number), Version::MAX).unwrap();
            for _ in 0..100 {
                black_box(cursor.entry().unwrap());
                cursor.next().unwrap();
            }
        });
    });
}

fn scans(group: &mut BenchmarkGroup<'_, WallTime>, dir: &Path, meta: &SegmentMeta) {
    let cached = open(dir, meta, LARGE);
    warm(&cached, ENTRIES);
    let uncached = open(dir, meta, 0);
    group.throughput(Throughput::Elements(ENTRIES));
    group.sample_size(10);
    for (name, segment) in [("block cache", &cached), ("page cache", &uncached)] {
        group.bench_function(format!("scan, {name}"), |bencher| {
            bencher.iter(|| assert_eq!(scan(segment).0, ENTRIES));
        });
        group.bench_function(format!("scan back, {name}"), |bencher| {
            bencher.iter(|| assert_eq!(scan_back(segment), ENTRIES));
        });
    }
    group.bench_function("verify, page cache", |bencher| {
        bencher.iter(|| assert!(cached.verify(&mut |_| {}).unwrap().is_empty()));
    });
    let from = vec![7u8; meta.bytes as usize];
    let mut to = vec![0u8; meta.bytes as usize];
    group.bench_function("copy of as many bytes", |bencher| {
        bencher.iter(|| to.copy_from_slice(black_box(&from)));
    });
    group.bench_function("build and sync", |bencher| {
        bencher.iter(|| build(dir, ENTRIES + 1, 100));
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("open", |bencher| {
        bencher.iter(|| open(dir, meta, 0));
    });
}

fn large_values(group: &mut BenchmarkGroup<'_, WallTime>, dir: &Path) {
    let entries = 50_000;
    let meta = build(dir, entries, 4096);
    let segment = open(dir, &meta, LARGE);
    warm(&segment, entries);
    let mut draw = 0;
    group.throughput(Throughput::Elements(1));
    group.bench_function("get of 4 KiB, block cache", |bencher| {
        bencher.iter(|| {
            draw += 1;
            let number = scatter(draw) % entries * 2;
            segment.get(&key(number), Version::MAX).unwrap().unwrap()
        });
    });
}

/// Each codec with values that shrink and values that don't.
fn codecs(group: &mut BenchmarkGroup<'_, WallTime>, dir: &Path) {
    const COUNT: u64 = 300_000;
    let noise = |number: u64, value: &mut Vec<u8>| {
        value.clear();
        value.extend((0..13).flat_map(|word| scatter(number * 13 + word).to_le_bytes()));
    };
    let codecs = [Codec::None, Codec::Lz4, Codec::Zstd];
    for codec in codecs
        .into_iter()
        .filter(|codec| codec.missing_feature().is_none())
    {
        for kind in ["JSON", "noise"] {
            let built = || match kind {
                "JSON" => build_of(dir, COUNT, codec, json),
                _ => build_of(dir, COUNT, codec, noise),
            };
            let meta = built();
            let name = codec.name();
            eprintln!("{name}, {kind}: {} bytes", meta.bytes);
            let segment = open(dir, &meta, 0);
            group.sample_size(10);
            group.throughput(Throughput::Elements(COUNT));
            group.bench_function(format!("{name}, {kind}: build and sync"), |bencher| {
                bencher.iter(built);
            });
            group.bench_function(format!("{name}, {kind}: scan, page cache"), |bencher| {
                bencher.iter(|| assert_eq!(scan(&segment).0, COUNT));
            });
            let mut draw = 0;
            group.throughput(Throughput::Elements(1));
            group.sample_size(50);
            group.bench_function(format!("{name}, {kind}: get, page cache"), |bencher| {
                bencher.iter(|| {
                    draw += 1;
                    let number = scatter(draw) % COUNT * 2;
                    segment.get(&key(number), Version::MAX).unwrap().unwrap()
                });
            });
        }
    }
}

fn benches(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let meta = build(dir, ENTRIES, 100);
    let segment = open(dir, &meta, 0);
    eprintln!(
        "{} bytes, index {} bytes, filter {} bytes in memory",
        meta.bytes,
        segment.index_bytes(),
        segment.filter_bytes()
    );
    let mut group = criterion.benchmark_group("segment");
    group.warm_up_time(Duration::from_secs(1));
    group.measurement_time(Duration::from_secs(3));
    point_reads(&mut group, dir, &meta);
    large_values(&mut group, dir);
    scans(&mut group, dir, &meta);
    codecs(&mut group, dir);
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);

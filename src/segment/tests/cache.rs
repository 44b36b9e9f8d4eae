//! The block cache: its limit, what it counts, and index and filter that live in it.

use super::*;
use crate::vfs::{FaultVfs, OperationKind};

const UNPINNED: ReadPolicy = ReadPolicy {
    pins: false,
    maps: false,
};

fn numbered(from: u64, count: u64) -> Vec<Row> {
    let row = |number: u64| {
        let key = format!("key-{number:08}");
        Row::put(key.as_bytes(), 1, &[number as u8; 100])
    };
    (from..from + count).map(row).collect()
}

/// Several segments on one disk.
fn many(count: u64, rows_each: u64) -> (MemoryVfs, Vec<(SegmentMeta, Vec<Row>)>) {
    let memory = MemoryVfs::new();
    memory.create_dir_all(Path::new(FOLDER)).unwrap();
    let built = (0..count).map(|number| {
        let rows = numbered(number * rows_each, rows_each);
        let mut setup = setup(Arc::new(memory.clone()), bare());
        setup.number = SegmentNumber(number + 1);
        setup.file_id = FileId(u128::from(number) << 64 | u128::from(number.wrapping_mul(0x9e37)));
        (build_with(setup, &rows).unwrap(), rows)
    });
    let built = built.collect();
    (memory, built)
}

#[test]
fn the_limit_holds_over_many_segments() {
    let (memory, built) = many(40, 400);
    for pins in [true, false] {
        for limit in [0, 20_000, 200_000, 800_000] {
            let cache = Arc::new(BlockCache::with_policy(
                limit,
                ReadPolicy { pins, maps: false },
            ));
            let open = |meta| open_with(Arc::new(memory.clone()), meta, cache.clone()).unwrap();
            let segments: Vec<_> = built.iter().map(|(meta, _)| open(meta)).collect();
            let all = built.iter().zip(&segments);
            for ((_, rows), segment) in all.clone().chain(all) {
                for row in rows.iter().step_by(7) {
                    let found = segment.get(&row.key, Version::MAX).unwrap();
                    assert_eq!(found, Some(row.found()));
                    assert!(cache.used_bytes() <= limit, "{}", cache.used_bytes());
                }
                assert_eq!(walk(segment, true, rows.len()).unwrap().len(), rows.len());
                assert!(cache.used_bytes() <= limit, "{}", cache.used_bytes());
            }
            assert!(limit < 200_000 || cache.used_bytes() > limit / 2);
        }
    }
}

#[test]
fn hits_misses_and_filters_are_counted() {
    let (memory, built) = many(1, 4_000);
    let (meta, rows) = &built[0];
    let cache = Arc::new(BlockCache::new(16 << 20));
    let segment = open_with(Arc::new(memory), meta, cache.clone()).unwrap();
    assert_eq!(cache.counts(), ReadCounts::default());
    for _ in 0..3 {
        for row in rows {
            segment.get(&row.key, Version::MAX).unwrap().unwrap();
        }
    }
    let counts = cache.counts();
    assert_eq!(counts.cache_misses, segment.blocks());
    assert_eq!(counts.cache_hits, 12_000 - segment.blocks());
    assert_eq!((counts.filter_denials, counts.filter_false_passes), (0, 0));
    for number in 0..10_000 {
        let absent = format!("key-{:08}x", number % 3_999);
        let absent = format!("{absent}{number}");
        assert_eq!(segment.get(absent.as_bytes(), Version::MAX).unwrap(), None);
    }
    let counts = cache.counts();
    let passed = counts.filter_false_passes;
    assert_eq!(counts.filter_denials + passed, 10_000);
    assert!((20..200).contains(&passed), "{passed} of 10,000");
}

#[test]
fn what_is_not_pinned_is_read_when_it_is_needed_and_once() {
    let (memory, built) = many(1, 4_000);
    let (meta, rows) = &built[0];
    let vfs = FaultVfs::on_memory(&memory);
    let cache = Arc::new(BlockCache::with_policy(16 << 20, UNPINNED));
    let reads = || vfs.count(OperationKind::Read);
    let segment = open_with(Arc::new(vfs.clone()), meta, cache.clone()).unwrap();
    assert_eq!(reads(), 2, "footer and properties");
    assert_eq!((segment.index_bytes(), segment.filter_bytes()), (0, 0));
    // The first one reads filter, index and block.
    segment.get(&rows[0].key, Version::MAX).unwrap().unwrap();
    assert_eq!(reads(), 5);
    for row in rows {
        let found = segment.get(&row.key, Version::MAX).unwrap();
        assert_eq!(found, Some(row.found()));
    }
    assert_eq!(reads(), 4 + segment.blocks());
    assert!(cache.used_bytes() > 100 * 4_000 + 5_000);
    let mut cursor = segment.cursor();
    cursor.seek(&rows[70].key, Version::MAX).unwrap();
    assert_eq!(cursor.entry().map(row_of).as_ref(), Some(&rows[70]));
    assert_eq!(reads(), 4 + segment.blocks());
    // No room for any of it: read each time, and right each time.
    let none = Arc::new(BlockCache::with_policy(0, UNPINNED));
    let segment = open_with(Arc::new(vfs.clone()), meta, none).unwrap();
    for _ in 0..2 {
        let before = reads();
        segment.get(&rows[9].key, Version::MAX).unwrap().unwrap();
        assert_eq!(reads() - before, 3);
    }
}

/// Damage in what an open did not look at shows at the first use, and `verify` names it with the rest.
#[test]
fn damage_in_what_is_not_pinned_is_named_when_it_is_used() {
    let (memory, built) = many(1, 400);
    let (meta, rows) = &built[0];
    let footer = open(&memory, meta).unwrap().footer;
    for (place, spoils_scans) in [(footer.index, true), (footer.filter, false)] {
        let damaged = memory.fork();
        assert!(damaged.flip_bit(path_of(meta), place.offset + 40, 2));
        assert!(open(&damaged, meta).is_err(), "pinned, it is looked at");
        let cache = Arc::new(BlockCache::with_policy(1 << 20, UNPINNED));
        let segment = open_with(Arc::new(damaged.clone()), meta, cache).unwrap();
        for _ in 0..2 {
            let damage = damage_of(segment.get(&rows[3].key, Version::MAX)).unwrap();
            assert_eq!(damage[0].offset, place.offset);
        }
        let walked = walk(&segment, true, rows.len());
        assert_eq!(damage_of(walked).is_some(), spoils_scans);
        let (saved, lost) = salvaged(&damaged, meta, true);
        assert!(
            lost.is_empty() && saved == *rows,
            "the blocks are found without it: {lost:?}"
        );
        let damage = segment.verify(&mut |_| {}).unwrap();
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!(damage[0].offset, place.offset);
    }
}

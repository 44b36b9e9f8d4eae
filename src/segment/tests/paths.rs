//! The ways that reads take: through the cache, past it, ahead of it; large values; many versions.

use super::*;
use crate::vfs::{Fault, FaultKind, FaultVfs, OperationKind};

fn rows(count: u64, value_bytes: usize) -> Vec<Row> {
    (0..count)
        .map(|number| {
            let value = vec![number as u8; value_bytes];
            Row::put(format!("key-{number:06}").as_bytes(), number + 1, &value)
        })
        .collect()
}

fn counted(memory: &MemoryVfs) -> FaultVfs {
    FaultVfs::on_memory(memory)
}

#[test]
fn scans_read_ahead_and_leave_the_cache_alone() {
    let rows = rows(4_000, 500);
    let (memory, meta) = build(&rows, bare());
    for forward in [true, false] {
        let vfs = counted(&memory);
        let cache = Arc::new(BlockCache::new(16 << 20));
        let segment = open_with(Arc::new(vfs.clone()), &meta, cache.clone()).unwrap();
        assert!(segment.blocks() > 400);
        let before = vfs.count(OperationKind::Read);
        let mut found = walk(&segment, forward, rows.len()).unwrap();
        if !forward {
            found.reverse();
        }
        assert_eq!(found, rows);
        let reads = vfs.count(OperationKind::Read) - before;
        assert!(reads < 20, "{reads} reads for {} blocks", segment.blocks());
        assert!(cache.used_bytes() < 4 * 4300, "{}", cache.used_bytes());
    }
}

#[test]
fn a_block_is_read_once_while_the_cache_has_room() {
    let rows = rows(500, 100);
    let (memory, meta) = build(&rows, bare());
    let vfs = counted(&memory);
    let cache = Arc::new(BlockCache::new(16 << 20));
    let segment = open_with(Arc::new(vfs.clone()), &meta, cache.clone()).unwrap();
    let before = vfs.count(OperationKind::Read);
    for row in rows.iter().chain(&rows) {
        assert_eq!(
            segment.get(&row.key, Version::MAX).unwrap(),
            Some(row.found())
        );
    }
    assert_eq!(vfs.count(OperationKind::Read) - before, segment.blocks());
    assert!(cache.used_bytes() > 500 * 100);
    // Another segment object of the same file finds them too.
    let again = open_with(Arc::new(vfs.clone()), &meta, cache).unwrap();
    let before = vfs.count(OperationKind::Read);
    again.get(&rows[0].key, Version::MAX).unwrap();
    assert_eq!(vfs.count(OperationKind::Read), before);
}

#[test]
fn the_cache_keeps_its_limit_and_no_block_that_would_fill_it() {
    let mut rows = rows(3_000, 300);
    rows.push(Row::put(b"zzz-large", 1, &vec![3; 100_000]));
    let (memory, meta) = build(&rows, bare());
    for limit in [0, 1, 5_000, 100_000, 400_000, 1_200_000] {
        let cache = Arc::new(BlockCache::new(limit));
        let segment = open_with(Arc::new(memory.clone()), &meta, cache.clone()).unwrap();
        for row in &rows {
            assert_eq!(
                segment.get(&row.key, Version::MAX).unwrap(),
                Some(row.found())
            );
            assert!(cache.used_bytes() <= limit);
        }
        if limit >= 100_000 {
            assert!(
                cache.used_bytes() > limit / 2,
                "{limit}: {}",
                cache.used_bytes()
            );
        }
        let before = cache.used_bytes();
        segment.get(b"zzz-large", Version::MAX).unwrap().unwrap();
        assert_eq!(cache.used_bytes(), before);
    }
}

#[test]
fn a_value_outlives_cursor_segment_and_cache() {
    let rows = rows(100, 200);
    let (memory, meta) = build(&rows, bare());
    let segment = open(&memory, &meta).unwrap();
    let found = segment.get(&rows[50].key, Version::MAX).unwrap().unwrap();
    let mut cursor = segment.cursor();
    cursor.seek_to_last().unwrap();
    let value = cursor.value();
    drop((cursor, segment));
    assert_eq!(found, rows[50].found());
    assert_eq!(value, rows[99].value);
}

#[test]
fn a_large_value_has_a_block_to_itself() {
    let mut rows = rows(40, 50);
    rows.insert(20, Row::put(b"key-000019-large", 1, &vec![9; 3 << 20]));
    let (memory, meta) = build(&rows, bare());
    let blocks: Vec<_> = inspected(&memory, &meta)
        .into_iter()
        .filter_map(|part| match part.content {
            InspectedContent::Block { entries, .. } => Some((entries, part.bytes)),
            _ => None,
        })
        .collect();
    let large: Vec<_> = blocks.iter().filter(|(_, bytes)| *bytes > 4096).collect();
    assert!(
        matches!(large[..], [(1, bytes)] if *bytes > 3 << 20),
        "{blocks:?}"
    );
    let segment = open(&memory, &meta).unwrap();
    for row in &rows {
        assert_eq!(
            segment.get(&row.key, Version::MAX).unwrap(),
            Some(row.found())
        );
    }
    for forward in [true, false] {
        assert_eq!(
            walk(&segment, forward, rows.len()).unwrap().len(),
            rows.len()
        );
    }
    assert_eq!(segment.verify(&mut |_| {}).unwrap(), vec![]);
}

#[test]
fn the_longest_keys_work() {
    let long = |byte| vec![byte; crate::types::KEY_BYTES_MAX];
    let mut almost = long(b'k');
    *almost.last_mut().unwrap() = b'l';
    let rows = [
        Row::put(&long(b'j'), 1, b"1"),
        Row::put(&long(b'k'), 2, b"2"),
        Row::put(&almost, 3, b"3"),
    ];
    for block_bytes in [128, 1 << 20] {
        let options = SegmentOptions {
            block_bytes,
            ..bare()
        };
        let (memory, meta) = build(&rows, options);
        let segment = open(&memory, &meta).unwrap();
        for row in &rows {
            assert_eq!(
                segment.get(&row.key, Version::MAX).unwrap(),
                Some(row.found())
            );
        }
        assert_eq!(walk(&segment, false, 3).unwrap().len(), 3);
    }
}

/// A key that was written over and over has versions in many blocks; each is found with one read.
#[test]
fn one_key_with_versions_in_many_blocks_is_read_in_one() {
    let mut rows = vec![Row::put(b"a", 1, b"before")];
    for index in (1..=2_000).rev() {
        rows.push(Row::put(b"hot", index * 2, &index.to_le_bytes()));
    }
    rows.push(Row::put(b"z", 1, b"after"));
    let (memory, meta) = build(&rows, tiny());
    let vfs = counted(&memory);
    let cache = Arc::new(BlockCache::new(0));
    let segment = open_with(Arc::new(vfs.clone()), &meta, cache).unwrap();
    for index in [1, 2, 3, 77, 2_001, 3_999, 4_000, 9_999] {
        let before = vfs.count(OperationKind::Read);
        let at = Version::newest_at(Index(index));
        let wanted = expected(&rows, b"hot", at).map(Row::found);
        assert_eq!(segment.get(b"hot", at).unwrap(), wanted, "{index}");
        assert_eq!(vfs.count(OperationKind::Read) - before, 1);
    }
}

#[test]
fn most_absent_keys_cost_no_read() {
    let rows = rows(5_000, 20);
    let (memory, meta) = build(&rows, bare());
    let vfs = counted(&memory);
    let cache = Arc::new(BlockCache::new(0));
    let segment = open_with(Arc::new(vfs.clone()), &meta, cache).unwrap();
    let before = vfs.count(OperationKind::Read);
    for number in 0..20_000 {
        let key = format!("key-{number:06}-absent");
        assert_eq!(segment.get(key.as_bytes(), Version::MAX).unwrap(), None);
    }
    // Those behind the last key touch no block in any case.
    let reads = vfs.count(OperationKind::Read) - before;
    assert!((1..100).contains(&reads), "{reads} of 5,000");
}

#[test]
fn a_failed_read_is_an_error_and_the_cursor_can_be_placed_anew() {
    let rows = rows(2_000, 500);
    let (memory, meta) = build(&rows, bare());
    let (mut failed, mut went_around) = (0, 0);
    for n in 1.. {
        let vfs = counted(&memory);
        let cache = Arc::new(BlockCache::new(0));
        let segment = open_with(Arc::new(vfs.clone()), &meta, cache).unwrap();
        let mut cursor = segment.cursor();
        vfs.inject(Fault::once(n, FaultKind::Io));
        let mut seen = Vec::new();
        let outcome = (|| {
            cursor.seek_to_first()?;
            while let Some(entry) = cursor.entry() {
                seen.push(row_of(entry));
                cursor.next()?;
            }
            Ok(())
        })();
        assert_eq!(seen, rows[..seen.len()]);
        if vfs.faults_hit() == 0 {
            assert!(seen.len() == rows.len() && n > 5, "{n}");
            break;
        }
        if outcome.is_ok() {
            // It was reading ahead: the block itself can be read.
            assert_eq!(seen.len(), rows.len());
            went_around += 1;
            continue;
        }
        failed += 1;
        assert!(matches!(outcome, Err(Error::Io { .. })));
        assert!(cursor.entry().is_none());
        cursor.seek(&rows[700].key, Version::MAX).unwrap();
        assert_eq!(cursor.entry().map(row_of).as_ref(), Some(&rows[700]));
    }
    assert!(failed > 0 && went_around > 0, "{failed}, {went_around}");
}

#[test]
fn segments_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Segment>();
    shared::<BlockCache>();
    let rows = rows(2_000, 100);
    let (memory, meta) = build(&rows, bare());
    let cache = Arc::new(BlockCache::new(60_000));
    let segment = open_with(Arc::new(memory), &meta, cache).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (segment, rows) = (&segment, &rows);
            scope.spawn(move || {
                for step in 0..4_000 {
                    let row = &rows[(step * 37 + thread * 501) % rows.len()];
                    let found = segment.get(&row.key, Version::MAX).unwrap();
                    assert_eq!(found, Some(row.found()));
                }
            });
        }
    });
}

//! Any entries, any layout, any moves: the segment does as a sorted list does.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::types::order;

#[derive(Clone, Debug)]
enum Move {
    First,
    Last,
    Seek(Vec<u8>, Version),
    SeekBefore(Vec<u8>),
    Next(u8),
    Prev(u8),
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xff), Just(0)], 0..6),
        2 => vec(any::<u8>(), 0..40),
        1 => (0u8..4, 200..300usize).prop_map(|(byte, bytes)| vec![byte; bytes]),
    ]
}

fn any_version() -> impl Strategy<Value = Version> {
    prop_oneof![
        8 => (1u64..40, 0u32..4).prop_map(|(index, position)| version(index, position)),
        1 => Just(Version::MAX),
        1 => (any::<u64>(), any::<u32>()).prop_map(|(index, position)| version(index, position)),
    ]
}

fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let value = prop_oneof![8 => vec(any::<u8>(), 0..30), 1 => vec(any::<u8>(), 400..700)];
    let row = (any_key(), any_version(), any::<Option<()>>(), value);
    vec(row, 1..120).prop_map(|rows| {
        let mut sorted = BTreeMap::new();
        for (key, version, put, value) in rows {
            let (kind, value) = match put {
                Some(()) => (EntryKind::Put, value),
                None => (EntryKind::Delete, Vec::new()),
            };
            sorted.insert((key, std::cmp::Reverse(version)), (kind, value));
        }
        let row = |((key, version), (kind, value)): ((_, std::cmp::Reverse<_>), _)| Row {
            key,
            version: version.0,
            kind,
            value,
        };
        sorted.into_iter().map(row).collect()
    })
}

fn any_codec() -> impl Strategy<Value = Codec> {
    let zstd = match Codec::Zstd.missing_feature() {
        Some(_) => Codec::Lz4,
        None => Codec::Zstd,
    };
    prop_oneof![Just(Codec::None), Just(Codec::Lz4), Just(zstd)]
}

fn any_options() -> impl Strategy<Value = SegmentOptions> {
    let bits = prop_oneof![Just(0u32), Just(1), Just(10)];
    let options = (32usize..300, 1usize..9, bits, any_codec());
    options.prop_map(
        |(block_bytes, restart_interval, bits, codec)| SegmentOptions {
            block_bytes,
            restart_interval,
            filter_bits_per_key: bits,
            codec,
            parity: Parity::Off,
        },
    )
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        1 => Just(Move::First),
        1 => Just(Move::Last),
        3 => (any_key(), any_version()).prop_map(|(key, version)| Move::Seek(key, version)),
        2 => any_key().prop_map(|key| Move::Seek(key, Version::MAX)),
        2 => any_key().prop_map(Move::SeekBefore),
        4 => (1u8..60).prop_map(Move::Next),
        4 => (1u8..60).prop_map(Move::Prev),
    ]
}

/// Where a cursor over `rows` should stand after a move.
fn moved(rows: &[Row], at: Option<usize>, step: &Move) -> Option<usize> {
    let below = |key: &[u8], version| {
        rows.partition_point(|row| order(&row.key, row.version, key, version) == Ordering::Less)
    };
    match step {
        Move::First => Some(0),
        Move::Last => rows.len().checked_sub(1),
        Move::Seek(key, version) => Some(below(key, *version)),
        Move::SeekBefore(key) => below(key, Version::MAX).checked_sub(1),
        Move::Next(times) => at.map(|at| at + usize::from(*times)),
        Move::Prev(times) => at.and_then(|at| at.checked_sub(usize::from(*times))),
    }
    .filter(|at| *at < rows.len())
}

fn apply(cursor: &mut SegmentCursor, step: &Move) -> Result<()> {
    match step {
        Move::First => cursor.seek_to_first(),
        Move::Last => cursor.seek_to_last(),
        Move::Seek(key, version) => cursor.seek(key, *version),
        Move::SeekBefore(key) => cursor.seek_before(key),
        Move::Next(times) => (0..*times).try_for_each(|_| cursor.next()),
        Move::Prev(times) => (0..*times).try_for_each(|_| cursor.prev()),
    }
}

fn check_meta(meta: &SegmentMeta, rows: &[Row]) {
    let indexes = rows.iter().map(|row| row.version.index);
    let deletes = rows.iter().filter(|row| row.kind == EntryKind::Delete);
    assert_eq!(meta.entries, rows.len() as u64);
    assert_eq!(meta.deletes, deletes.count() as u64);
    assert_eq!(meta.smallest_key, rows[0].key);
    assert_eq!(meta.largest_key, rows[rows.len() - 1].key);
    assert_eq!(Some(meta.smallest_index), indexes.clone().min());
    assert_eq!(Some(meta.largest_index), indexes.max());
}

fn check_gets(segment: &Segment, rows: &[Row], others: &[(Vec<u8>, Version)]) {
    let own = rows.iter().flat_map(|row| {
        let newer = version(row.version.index.0.saturating_add(1), 0);
        let older = version(row.version.index.0.saturating_sub(1), 2);
        let versions = [row.version, Version::MAX, newer, older, version(0, 0)];
        versions.map(|at| (row.key.clone(), at))
    });
    for (key, at) in own.chain(others.iter().cloned()) {
        let wanted = expected(rows, &key, at).map(Row::found);
        assert_eq!(segment.get(&key, at).unwrap(), wanted, "{key:?} at {at:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_segment_does_as_a_sorted_list_does(
        rows in any_rows(),
        options in any_options(),
        others in vec((any_key(), any_version()), 0..30),
        moves in vec(any_move(), 0..40),
        cache_bytes in prop_oneof![Just(0u64), Just(3000), Just(1 << 20)],
        pins in any::<bool>(),
    ) {
        let (memory, meta) = build(&rows, options);
        check_meta(&meta, &rows);
        prop_assert_eq!(meta.bytes, memory.file_bytes(path_of(&meta)).unwrap());
        let cache = Arc::new(BlockCache::with_policy(
            cache_bytes,
            ReadPolicy { pins, maps: pins },
        ));
        let segment = open_with(Arc::new(memory.clone()), &meta, cache.clone()).unwrap();
        check_gets(&segment, &rows, &others);
        prop_assert_eq!(&walk(&segment, true, rows.len()).unwrap(), &rows);
        let mut backward = walk(&segment, false, rows.len()).unwrap();
        backward.reverse();
        prop_assert_eq!(&backward, &rows);
        let mut cursor = segment.cursor();
        prop_assert!(cursor.entry().is_none());
        let mut at = None;
        for step in &moves {
            apply(&mut cursor, step).unwrap();
            at = moved(&rows, at, step);
            let wanted = at.map(|at| rows[at].clone());
            prop_assert_eq!(cursor.entry().map(row_of), wanted.clone(), "after {:?}", step);
            prop_assert_eq!(cursor.value(), wanted.map_or(Vec::new(), |row| row.value));
        }
        prop_assert!(cache.used_bytes() <= cache_bytes);
        prop_assert_eq!(segment.verify(&mut |_| {}).unwrap(), vec![]);
    }
}

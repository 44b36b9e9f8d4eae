//! Bytes of states, edits, headers, frames and names.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::manifest::encoding::{decode_edit, decode_state, put_edit, put_state};
use crate::manifest::format::*;
use crate::types::{Parity, UNIT};

fn any_segment() -> impl Strategy<Value = SegmentMeta> {
    let numbers = any::<(u64, u128, u64, u128, u64, u64, u64, u64)>();
    let keys = (vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..20));
    (numbers, keys).prop_map(|(n, keys)| SegmentMeta {
        number: SegmentNumber(n.0),
        file_id: FileId(n.1),
        bytes: n.2,
        content_bytes: n.7 / 2,
        parity: [Parity::Off, Parity::Standard, Parity::Strong][n.4 as usize % 3],
        digest: n.3,
        entries: n.4,
        deletes: n.5,
        range_deletes: n.5 / 3,
        smallest_key: keys.0,
        largest_key: keys.1,
        is_endless: n.6 % 2 == 1,
        smallest_index: Index(n.6),
        largest_index: Index(n.7),
        loaded_at: Index(n.6 / 2),
    })
}

fn any_log_file() -> impl Strategy<Value = LogFileMeta> {
    any::<(u64, u128, u64, u64, u64, u64, u64, u64)>().prop_map(|n| LogFileMeta {
        number: LogNumber(n.0),
        file_id: FileId(n.1),
        salt: n.2,
        first_lsn: Lsn(n.3),
        capacity: n.4,
        first_index: Index(n.5),
        previous_number: LogNumber(n.6),
        previous_end_lsn: Lsn(n.7),
        parity: [Parity::Off, Parity::Standard, Parity::Strong][(n.0 % 3) as usize],
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<(u32, String, u64)>(), vec(any::<u8>(), 0..20)).prop_map(|(n, options)| {
            Change::KeyspaceCreated {
                id: KeyspaceId(n.0),
                name: n.1,
                index: Index(n.2),
                options,
            }
        }),
        any::<(u32, u64)>().prop_map(|n| Change::KeyspaceDropped {
            id: KeyspaceId(n.0),
            index: Index(n.1),
        }),
        (
            any::<(u32, Vec<u64>, Option<(u64, u64)>)>(),
            vec((any::<u8>(), any_segment()), 0..4)
        )
            .prop_map(|(n, added)| Change::SegmentsReplaced {
                keyspace: KeyspaceId(n.0),
                removed: n.1.into_iter().map(SegmentNumber).collect(),
                added,
                covered: n.2.map(|(index, term)| (Index(index), Term(term))),
            }),
        any_log_file().prop_map(Change::LogFilePrepared),
        any::<Vec<u64>>()
            .prop_map(|n| Change::LogFilesRemoved(n.into_iter().map(LogNumber).collect())),
        any::<u64>().prop_map(|n| Change::NextSegment(SegmentNumber(n))),
    ]
}

/// Sound states, by doing whatever changes of a random list make sense.
fn any_state() -> impl Strategy<Value = ManifestState> {
    let ids = any::<(u128, bool, u128, u64, u64)>();
    let keyspaces = btree_map(
        0..40u32,
        (vec(any::<u8>(), 0..9), any::<(u64, u64)>()),
        0..5,
    );
    let segments = btree_map(1..u64::MAX, (0..40u32, any::<u8>(), any_segment()), 0..12);
    let log_files = btree_map(1..1u64 << 30, any_log_file(), 0..6);
    (ids, keyspaces, segments, log_files).prop_map(|(ids, keyspaces, segments, log_files)| {
        let mut state = empty_state();
        (state.store_id, state.cluster_id) = (StoreId(ids.0), ids.2);
        state.mode = if ids.1 {
            Mode::Member
        } else {
            Mode::Standalone
        };
        (state.member_id, state.created_us) = (ids.3, ids.4);
        let mut attempt = |change| state = state.with(&[change]).unwrap_or(state.clone());
        for (id, (options, n)) in keyspaces {
            attempt(Change::KeyspaceCreated {
                id: KeyspaceId(id),
                name: format!("keyspace {id}"),
                index: Index(n.0),
                options,
            });
        }
        for (number, (id, level, mut meta)) in segments {
            meta.number = SegmentNumber(number);
            if meta.smallest_key > meta.largest_key {
                std::mem::swap(&mut meta.smallest_key, &mut meta.largest_key);
            }
            meta.largest_index = meta.largest_index.max(meta.smallest_index);
            meta.deletes = meta.deletes.min(meta.entries);
            attempt(Change::SegmentsReplaced {
                keyspace: KeyspaceId(id % 3),
                removed: vec![],
                added: vec![(level, meta)],
                covered: None,
            });
        }
        for (number, mut meta) in log_files {
            (meta.number, meta.previous_number) = (LogNumber(number), LogNumber(number - 1));
            (meta.first_lsn, meta.capacity) = (Lsn(number << 30), meta.capacity % (1 << 30));
            attempt(Change::LogFilePrepared(meta));
        }
        state
    })
}

fn encoded<T: ?Sized>(put: impl Fn(&mut Vec<u8>, &T), value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, value);
    bytes
}

proptest! {
    #[test]
    fn edits_come_back(changes in vec(any_change(), 0..6)) {
        let bytes = encoded(put_edit, &changes);
        prop_assert_eq!(decode_edit(&bytes), Some(changes));
    }

    #[test]
    fn states_come_back(state in any_state()) {
        let bytes = encoded(put_state, &state);
        prop_assert_eq!(decode_state(&bytes), Some(state));
    }

    #[test]
    fn frames_come_back(
        payload in vec(any::<u8>(), 0..9000),
        id: u128,
        unit in 1..9usize,
        sequence: u64,
    ) {
        let (id, offset) = (FileId(id), unit * UNIT);
        let put = |out: &mut Vec<u8>| out.extend_from_slice(&payload);
        let frame = encode_frame(id, offset, FrameKind::Edit, sequence, put).unwrap();
        prop_assert_eq!(frame.len() % UNIT, 0);
        let mut file = vec![0; offset];
        file.extend_from_slice(&frame);
        let read = decode_frame(id, &file, offset).unwrap();
        prop_assert_eq!((read.kind, read.sequence), (FrameKind::Edit, sequence));
        prop_assert_eq!(read.range, offset..file.len());
        prop_assert_eq!(&file[read.payload], &payload);
        // Bound to its file and its place.
        prop_assert!(decode_frame(FileId(id.0 ^ 1), &file, offset).is_err());
        file.splice(0..0, [0; UNIT]);
        prop_assert!(decode_frame(id, &file, offset + UNIT).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in vec(any::<u8>(), 0..200)) {
        if let Some(edit) = decode_edit(&bytes) {
            prop_assert_eq!(encoded(put_edit, &edit), bytes.clone());
        }
        prop_assert_eq!(decode_state(&bytes), None);
    }
}

/// What decodes after damage is at least the one value that has these bytes.
fn check_hostile<T>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Option<T>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    for cut in 0..bytes.len() {
        assert!(decode(&bytes[..cut]).is_none(), "cut at {cut}");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(decode(&longer).is_none());
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Some(value) = decode(&bytes) {
            assert_eq!(encode(&value), bytes, "bit {bit}");
        }
    }
}

#[test]
fn edits_and_states_survive_cuts_and_flips() {
    let mut all = edits();
    (all[2], all[4]) = (flush(4, 6), flush(5, 6));
    for edit in &all {
        check_hostile(
            &encoded(put_edit, edit),
            decode_edit,
            |edit: &Vec<Change>| encoded(put_edit, edit),
        );
    }
    for state in states(&all) {
        let encode = |state: &ManifestState| encoded(put_state, state);
        check_hostile(&encode(&state), decode_state, encode);
    }
}

#[test]
fn counts_that_promise_too_much_take_no_memory() {
    for tag in [1, 3, 4, 5] {
        let mut bytes = vec![1, tag, 0];
        bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!(decode_edit(&bytes), None);
    }
    assert_eq!(decode_edit(&[0xff, 0xff, 0xff, 0xff, 0x7f]), None);
}

fn header() -> Header {
    Header {
        store_id: StoreId(3),
        file_id: FileId(4),
        generation: 5,
        capacity: 1 << 20,
    }
}

#[test]
fn headers_come_back_and_no_damaged_one_does() {
    let unit = encode_header(&header());
    assert_eq!(unit.len(), UNIT);
    assert_eq!(decode_header(&unit, 5), Ok(header()));
    assert!(matches!(decode_header(&unit, 6), Err(HeaderFault::Bad(_))));
    for cut in 0..UNIT {
        assert!(decode_header(&unit[..cut], 5).is_err());
    }
    for bit in 0..UNIT * 8 {
        let mut unit = unit.clone();
        unit[bit / 8] ^= 1 << (bit % 8);
        let read = decode_header(&unit, 5);
        assert!(matches!(read, Err(HeaderFault::Bad(_))), "bit {bit}");
    }
}

#[test]
fn headers_that_make_no_sense_are_bad_and_newer_ones_are_told_apart() {
    let with = |change: fn(&mut Header)| {
        let mut header = header();
        change(&mut header);
        decode_header(&encode_header(&header), 5)
    };
    let bad = |read| matches!(read, Err(HeaderFault::Bad(_)));
    assert!(bad(with(|header| header.capacity += 1)));
    assert!(bad(with(
        |header| header.capacity = FILE_BYTES_MAX + UNIT as u64
    )));
    assert!(bad(with(|header| header.generation = 4)));
    let mut unit = encode_header(&header());
    let reseal = |unit: &mut Vec<u8>| {
        let checksum = crate::codec::block_checksum(FileId(4), 0, &unit[..UNIT - 8]);
        unit[UNIT - 8..].copy_from_slice(&checksum.to_le_bytes());
    };
    unit[8] = 2;
    assert!(bad(decode_header(&unit, 5)));
    reseal(&mut unit);
    assert_eq!(decode_header(&unit, 5), Err(HeaderFault::Newer(2)));
    unit[8] = 0;
    reseal(&mut unit);
    assert!(bad(decode_header(&unit, 5)));
}

#[test]
fn a_frame_with_any_bit_flipped_or_cut_anywhere_is_none() {
    let id = FileId(77);
    for payload_bytes in [0, 4064, 4065] {
        let put = |out: &mut Vec<u8>| out.resize(out.len() + payload_bytes, 0xa5);
        let frame = encode_frame(id, 0, FrameKind::State, 3, put).unwrap();
        assert_eq!(
            frame.len(),
            if payload_bytes > 4064 { 2 * UNIT } else { UNIT }
        );
        assert!(decode_frame(id, &frame, 0).is_ok());
        for cut in 0..frame.len() {
            assert!(decode_frame(id, &frame[..cut], 0).is_err());
        }
        for bit in 0..frame.len() * 8 {
            let mut frame = frame.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_frame(id, &frame, 0).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn a_frame_can_be_no_longer_than_a_file() {
    assert_eq!(frame_bytes(0), Some(UNIT));
    assert_eq!(frame_bytes(u64::MAX), None);
    assert_eq!(frame_bytes(FILE_BYTES_MAX), None);
}

#[test]
fn names_are_told_apart() {
    use Name::*;
    let cases = [
        ("manifest-00000001.a", Published(1, Side::A)),
        ("manifest-123456789.b", Published(123_456_789, Side::B)),
        ("manifest-00000002.a.tmp", Temporary(2, Side::A)),
        ("manifest-1.a", Other),
        ("manifest-000000001.a", Other),
        ("manifest-+0000001.a", Other),
        ("manifest-00000001.c", Other),
        ("manifest-00000001.", Other),
        ("manifest-99999999999999999999.a", Other),
        ("manifest-00000001.a.tmp.tmp", Other),
        ("00000001.log", OfAStore),
        ("00000012.ids", OfAStore),
        ("00000012.segment", OfAStore),
        ("vote.b", OfAStore),
        ("00000000.log", Other),
        ("1.log", Other),
        ("LOCK", Other),
        ("readme.log", Other),
    ];
    for (name, expected) in cases {
        assert_eq!(parse_name(name), expected, "{name}");
    }
    let path = temporary_path(Path::new("x"), 7, Side::B);
    assert_eq!(path, Path::new("x/manifest-00000007.b.tmp"));
}

use super::*;
use crate::codec::{header_checksum, payload_hash};
use crate::types::{
    FileId, Index, LogFileMeta, LogNumber, Lsn, Parity, StoreId, StreamId, Term, UNIT,
};
use crate::wal::Append;

const SALT: u64 = 0x5a17;

fn example(payload: &[u8]) -> Append<'_> {
    Append {
        stream: StreamId(3),
        kind: RecordKind::Batch,
        index: Index(300),
        term: Term(2),
        time_us: 1_700_000_000_000_000,
        client: u64::MAX,
        sequence: 0,
        payload,
        payload_hash: payload_hash(payload),
    }
}

fn place() -> Envelope {
    Envelope {
        lsn: Lsn(70_000),
        watermark: Lsn(65_536),
        previous: Some(Lsn(69_000)),
    }
}

fn encode(append: &Append<'_>, place: &Envelope) -> Vec<u8> {
    let mut out = Vec::new();
    encode_record(&mut out, SALT, place, append);
    out
}

/// Whether the bytes decode as a whole record at that position.
fn is_whole(lsn: Lsn, bytes: &[u8]) -> bool {
    decode_header(SALT, lsn, bytes, bytes.len() as u64).is_some_and(|header| {
        let record = &bytes[..header.bytes as usize];
        payload_matches(&header, record)
    })
}

#[test]
fn a_record_is_what_was_encoded() {
    for payload in [&b""[..], b"x", &[7; 5_000]] {
        let append = example(payload);
        let bytes = encode(&append, &place());
        assert_eq!(bytes.len() as u64, record_bytes(&append));
        let header = decode_header(SALT, Lsn(70_000), &bytes, 1 << 20).unwrap();
        assert_eq!(header.watermark, Lsn(65_536));
        assert_eq!(header.previous, Some(Lsn(69_000)));
        assert_eq!(header.kind, RecordKind::Batch);
        assert_eq!(header.stream, StreamId(3));
        assert_eq!(header.index, Index(300));
        assert_eq!(header.term, Term(2));
        assert_eq!(header.time_us, append.time_us);
        assert_eq!(header.client, u64::MAX);
        assert_eq!(header.sequence, 0);
        assert_eq!(&bytes[header.payload_at..], payload);
        assert!(payload_matches(&header, &bytes));
    }
}

/// The bytes themselves: a change of format must not pass unnoticed.
#[test]
fn a_record_has_the_documented_bytes() {
    let append = Append {
        stream: StreamId(0),
        kind: RecordKind::Batch,
        index: Index(1),
        term: Term(0),
        time_us: 300,
        client: 0,
        sequence: 0,
        payload: b"hello",
        payload_hash: payload_hash(b"hello"),
    };
    let place = Envelope {
        lsn: Lsn(8192),
        watermark: Lsn(8190),
        previous: None,
    };
    let bytes = encode(&append, &place);
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex.join(""),
        concat!(
            "0d7a5901",         // header checksum
            "16000000",         // length of the replicated part: 9 + 8 + 5
            "0020000000000000", // position 8192
            "02000000",         // 2 bytes after the watermark
            "00000000",         // the first record of its file
            "94cb394552fe0f5c", // checksum of the replicated part
            "08",               // header length
            "01",               // a batch
            "0001",             // stream 0, index 1
            "00ac02",           // term 0, 300 microseconds
            "0000",             // client 0, sequence 0
            "68656c6c6f",
        )
    );
}

#[test]
fn the_replicated_part_is_the_same_wherever_it_stands() {
    let append = example(b"payload");
    let one = encode(&append, &place());
    let mut other = Vec::new();
    let elsewhere = Envelope {
        lsn: Lsn(1 << 40),
        watermark: Lsn(0),
        previous: None,
    };
    encode_record(&mut other, 99, &elsewhere, &append);
    assert_eq!(one[24..], other[24..]);
    assert_ne!(one[..24], other[..24]);
}

#[test]
fn distances_saturate() {
    let append = example(b"");
    let far = Envelope {
        lsn: Lsn(1 << 40),
        watermark: Lsn(1),
        previous: None,
    };
    let bytes = encode(&append, &far);
    let header = decode_header(SALT, far.lsn, &bytes, 1 << 20).unwrap();
    assert_eq!(
        header.watermark,
        Lsn(0),
        "what is too far to say covers nothing"
    );
}

#[test]
fn no_part_of_a_record_passes_for_one() {
    let bytes = encode(&example(b"some payload"), &place());
    for cut in 0..bytes.len() {
        assert!(!is_whole(Lsn(70_000), &bytes[..cut]), "cut at {cut}");
    }
    assert!(is_whole(Lsn(70_000), &bytes));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = encode(&example(b"some payload"), &place());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!is_whole(Lsn(70_000), &flipped), "bit {bit}");
    }
}

#[test]
fn a_record_elsewhere_or_of_another_file_is_none() {
    let bytes = encode(&example(b"some payload"), &place());
    let room = bytes.len() as u64;
    for lsn in [Lsn(0), Lsn(69_999), Lsn(70_001), Lsn(u64::MAX)] {
        assert_eq!(decode_header(SALT, lsn, &bytes, room), None);
    }
    assert_eq!(decode_header(SALT + 1, Lsn(70_000), &bytes, room), None);
    assert_eq!(decode_header(SALT, Lsn(70_000), &bytes, room - 1), None);
    assert!(decode_header(SALT, Lsn(70_000), &bytes, room).is_some());
    assert_eq!(decode_header(SALT, Lsn(0), &[0; 200], 200), None);
}

/// With a right header checksum over wrong fields, a reader must still neither panic nor believe.
#[test]
fn forged_fields_under_a_right_header_checksum_are_refused() {
    let bytes = encode(&example(b"some payload"), &place());
    let header_end = bytes.len() - b"some payload".len();
    let forge = |at: usize, with: &[u8]| {
        let mut forged = bytes.clone();
        forged[at..at + with.len()].copy_from_slice(with);
        let crc = header_checksum(SALT, &forged[4..24], &forged[24..header_end]);
        forged[..4].copy_from_slice(&crc.to_le_bytes());
        forged
    };
    let len = (bytes.len() - 24) as u32;
    for wrong in [0, 1, 8, 9, len - 1, len + 1, 1 << 31, u32::MAX] {
        assert!(
            !is_whole(Lsn(70_000), &forge(4, &wrong.to_le_bytes())),
            "{wrong}"
        );
    }
    for header_len in (0..=255).filter(|&len| len != bytes[32]) {
        assert!(
            !is_whole(Lsn(70_000), &forge(32, &[header_len])),
            "{header_len}"
        );
    }
    for kind in (0..=255).filter(|&kind| kind != RecordKind::Batch as u8) {
        assert!(!is_whole(Lsn(70_000), &forge(33, &[kind])), "{kind}");
    }
    for (at, &byte) in bytes.iter().enumerate().take(header_end).skip(34) {
        for value in (0..=255).filter(|&value| value != byte) {
            assert!(!is_whole(Lsn(70_000), &forge(at, &[value])), "{at} {value}");
        }
    }
    let too_far = forge(20, &70_001u32.to_le_bytes());
    assert_eq!(decode_header(SALT, Lsn(70_000), &too_far, 1 << 20), None);
}

fn header() -> FileHeader {
    FileHeader {
        store_id: StoreId(0x1234),
        meta: LogFileMeta {
            number: LogNumber(7),
            file_id: FileId(0xabcd),
            salt: 42,
            first_lsn: Lsn(1 << 20),
            capacity: 1 << 16,
            first_index: Index(9),
            previous_number: LogNumber(5),
            previous_end_lsn: Lsn(77_777),
            parity: Parity::Strong,
        },
    }
}

#[test]
fn a_header_unit_is_what_was_encoded_and_no_other_passes() {
    for kind in [HeaderKind::Log, HeaderKind::Identifiers] {
        let unit = header().encode(kind);
        assert_eq!(unit.len(), UNIT);
        assert_eq!(FileHeader::decode(kind, &unit), Ok(header()));
        for cut in 0..UNIT {
            assert!(FileHeader::decode(kind, &unit[..cut]).is_err());
        }
        for bit in 0..UNIT * 8 {
            let mut flipped = unit.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = FileHeader::decode(kind, &flipped);
            assert!(
                matches!(found, Err(HeaderFault::Bad(_))),
                "bit {bit}: {found:?}"
            );
        }
    }
    let sidecar = header().encode(HeaderKind::Identifiers);
    assert!(FileHeader::decode(HeaderKind::Log, &sidecar).is_err());
    assert!(FileHeader::decode(HeaderKind::Log, &[0; UNIT]).is_err());
}

#[test]
fn a_whole_header_of_a_newer_version_is_called_that() {
    let mut unit = header().encode(HeaderKind::Log);
    unit[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let seal = |unit: &mut [u8]| {
        let checksum = crate::codec::block_checksum(FileId(0xabcd), 0, &unit[..UNIT - 8]);
        unit[UNIT - 8..].copy_from_slice(&checksum.to_le_bytes());
    };
    assert!(matches!(
        FileHeader::decode(HeaderKind::Log, &unit),
        Err(HeaderFault::Bad(_))
    ));
    seal(&mut unit);
    assert_eq!(
        FileHeader::decode(HeaderKind::Log, &unit),
        Err(HeaderFault::Newer(VERSION + 1))
    );
}

#[test]
fn headers_that_make_no_sense_are_refused_whole_or_not() {
    let wrong: [fn(&mut LogFileMeta); 8] = [
        |meta| meta.number = LogNumber(0),
        |meta| meta.previous_number = LogNumber(7),
        |meta| meta.capacity = 0,
        |meta| meta.capacity = 4096,
        |meta| meta.capacity += 1,
        |meta| meta.capacity = 1 << 32,
        |meta| meta.first_lsn = Lsn(1),
        |meta| meta.first_lsn = Lsn(u64::MAX - 4095),
    ];
    for change in wrong {
        let mut header = header();
        change(&mut header.meta);
        let unit = header.encode(HeaderKind::Log);
        let found = FileHeader::decode(HeaderKind::Log, &unit);
        assert!(matches!(found, Err(HeaderFault::Bad(_))), "{header:?}");
    }
}

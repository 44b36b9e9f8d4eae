//! Tests of the room: lineages, and small files that nobody has vouched for.

use std::path::Path;

use crate::codec::Reader;
use crate::error::{Error, Result};
use crate::types::{Index, SegmentNumber, StoreId};

use super::format::{BackupContent, Kind, SegmentContent, VolumeContent, decode};
use super::lineage::Lineage;

const STORE: StoreId = StoreId(77);

fn backup() -> BackupContent {
    let lineage = Lineage::original(STORE).branch(Index(5), 1 << 90);
    let segment = |number: u64| SegmentContent {
        digest: u128::MAX / u128::from(number),
        bytes: number * 1_000_003,
        number: SegmentNumber(number),
    };
    BackupContent {
        lineage: lineage.branch(Index(900), 3),
        index: Index(1234),
        time_us: 1 << 50,
        made_us: (1 << 50) + 1,
        segments: vec![segment(3), segment(4)],
        state: b"whatever a manifest says".to_vec(),
    }
}

fn read(bytes: &[u8]) -> Result<BackupContent> {
    let path = Path::new("r/backups/00000009.backup");
    decode(
        path,
        Kind::Backup,
        9,
        Some(STORE),
        bytes,
        BackupContent::take,
    )
}

#[test]
fn small_files_round_trip_and_every_change_is_noticed() {
    let content = backup();
    let bytes = content.encode(9, STORE);
    assert_eq!(read(&bytes).unwrap(), content);
    for cut in 0..bytes.len() {
        assert!(
            matches!(read(&bytes[..cut]), Err(Error::Damaged(_))),
            "{cut}"
        );
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(read(&flipped), Err(Error::Damaged(_))), "{bit}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(read(&longer), Err(Error::Damaged(_))));
}

#[test]
fn a_whole_file_in_the_wrong_place_is_refused() {
    let content = backup();
    let other = content.encode(10, STORE);
    assert!(matches!(read(&other), Err(Error::Damaged(_))));
    let foreign = content.encode(9, StoreId(78));
    assert!(matches!(read(&foreign), Err(Error::ForeignFile { .. })));
    let lineage = Lineage::original(STORE);
    let volume = VolumeContent {
        lineage,
        first: Index(7),
        earlier_last: Index(9),
    };
    let bytes = volume.encode(9, STORE);
    assert!(matches!(read(&bytes), Err(Error::Damaged(_))));
    let path = Path::new("r/log/00000009.volume");
    let again = decode(
        path,
        Kind::Volume,
        9,
        Some(STORE),
        &bytes,
        VolumeContent::take,
    );
    assert_eq!(again.unwrap(), volume);
}

/// Bodies under a right checksum that no program of ours has written.
#[test]
fn hostile_bodies_are_refused_without_panic_or_huge_allocation() {
    let body = |bytes: &[u8]| BackupContent::take(&mut Reader::new(bytes)).is_some();
    let content = backup().encode(9, STORE);
    let whole = &content[48..content.len() - 16];
    assert!(body(whole));
    let mut state = 7_u64;
    for _ in 0..20_000 {
        let mut bytes = whole.to_vec();
        for _ in 0..3 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 20) as u8;
        }
        body(&bytes);
    }
    // A count that the bytes can't have.
    assert!(!body(&[
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1
    ]));
    assert!(!body(&[0]), "a lineage has at least one era");
}

#[test]
fn a_lineage_holds_what_led_to_it_and_nothing_else() {
    let first = Lineage::original(STORE);
    let restored = first.branch(Index(50), 2);
    let twice = restored.branch(Index(70), 3);
    let back = twice.branch(Index(20), 4);
    assert_eq!(twice.newest(), 3);
    for (lineage, era, index, held) in [
        (&first, STORE.0, 9999, true),
        (&first, 2, 10, false),
        (&restored, STORE.0, 50, true),
        (&restored, STORE.0, 51, false),
        (&restored, 2, 51, true),
        (&twice, 2, 70, true),
        (&twice, 2, 71, false),
        (&twice, 3, 71, true),
        (&back, STORE.0, 20, true),
        (&back, STORE.0, 21, false),
        (&back, 2, 60, false),
        (&back, 3, 80, false),
        (&back, 4, 21, true),
    ] {
        assert_eq!(
            lineage.holds(era, Index(index)),
            held,
            "{lineage:?} {era} {index}"
        );
    }
}

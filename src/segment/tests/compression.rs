//! Packed blocks: they hold what was put in, shrink where they can, and are trusted in nothing.

use super::super::block::{Block, BlockBuilder, SECTION_BYTES_MAX};
use super::super::compress::{self, Packer, Unreadable};
use super::super::format::{self, FRAME_BYTES, SectionKind};
use super::*;
use crate::vfs::SeededRng;

/// What packed each block.
fn block_codecs(memory: &MemoryVfs, meta: &SegmentMeta) -> Vec<Codec> {
    let codec = |part: Inspected| match part.content {
        InspectedContent::Block { codec, .. } => Some(codec),
        _ => None,
    };
    let parts = inspected(memory, meta).into_iter();
    parts.filter_map(codec).collect()
}

fn reads_back(memory: &MemoryVfs, meta: &SegmentMeta, rows: &[Row]) {
    let segment = open(memory, meta).unwrap();
    for row in rows {
        let found = segment.get(&row.key, Version::MAX).unwrap();
        assert_eq!(found, Some(row.found()));
    }
    assert_eq!(walk(&segment, true, rows.len()).unwrap(), rows);
    let mut back = walk(&segment, false, rows.len()).unwrap();
    back.reverse();
    assert_eq!(back, rows);
    assert!(segment.verify(&mut |_| {}).unwrap().is_empty());
    for is_known in [true, false] {
        let (saved, lost) = salvaged(memory, meta, is_known);
        assert!(lost.is_empty() && saved == rows, "{lost:?}");
    }
    let parts = inspected(memory, meta);
    assert!(parts.iter().all(|part| part.verdict.is_ok()), "{parts:?}");
}

#[test]
fn packed_blocks_hold_what_was_put_in_and_are_shorter() {
    let mut rows = compressible_rows(3_000);
    rows.push(Row::put(b"zzz-large", 1, &[3; 2_000_000]));
    let plain = build(&rows, bare()).1.bytes;
    for codec in codecs().skip(1) {
        let options = SegmentOptions { codec, ..bare() };
        let (memory, meta) = build(&rows, options);
        assert!(
            meta.bytes < plain / 2,
            "{codec:?}: {} of {plain}",
            meta.bytes
        );
        let codecs = block_codecs(&memory, &meta);
        assert!(codecs.iter().all(|found| *found == codec), "{codecs:?}");
        reads_back(&memory, &meta, &rows);
    }
}

#[test]
fn what_does_not_shrink_is_stored_as_it_is() {
    let mut rng = SeededRng::new(77);
    let mut noise = || (0..100).map(|_| rng.below(256) as u8).collect::<Vec<_>>();
    let rows: Vec<Row> = (0..2_000u64)
        .map(|number| Row::put(format!("key-{number:06}").as_bytes(), 5, &noise()))
        .collect();
    let plain = build(&rows, bare()).1.bytes;
    for codec in codecs() {
        let options = SegmentOptions { codec, ..bare() };
        let (memory, meta) = build(&rows, options);
        assert_eq!(meta.bytes, plain, "{codec:?}");
        let codecs = block_codecs(&memory, &meta);
        assert!(codecs.iter().all(|found| *found == Codec::None));
        reads_back(&memory, &meta, &rows);
    }
}

/// After many blocks that don't shrink, one in some is still tried.
#[test]
fn what_shrinks_again_is_packed_again() {
    let mut rng = SeededRng::new(78);
    for codec in codecs().skip(1) {
        let mut rows = compressible_rows(8_000);
        for row in &mut rows[..4_000] {
            row.value = (0..100).map(|_| rng.below(256) as u8).collect();
        }
        let options = SegmentOptions { codec, ..bare() };
        let (memory, meta) = build(&rows, options);
        let codecs = block_codecs(&memory, &meta);
        let last_plain = codecs.iter().rposition(|found| *found == Codec::None);
        let first_packed = codecs.iter().position(|found| *found == codec);
        let (last_plain, first_packed) = (last_plain.unwrap(), first_packed.unwrap());
        assert!(first_packed > 80 && last_plain < first_packed + 17);
        reads_back(&memory, &meta, &rows);
    }
}

/// The limit for the length of a block is that of the largest entry there can be.
#[test]
fn a_block_of_the_largest_entry_fits_the_limit() {
    use crate::types::{EXPIRY_BYTES, KEY_BYTES_MAX, VALUE_BYTES_MAX};
    let mut builder = BlockBuilder::new(16);
    let (key, value) = (vec![1; KEY_BYTES_MAX], vec![7; 20 << 20]);
    builder.add(
        0,
        Entry {
            key: &key,
            version: version(u64::MAX, u32::MAX),
            kind: EntryKind::Expiring,
            value: &value,
        },
    );
    let missing = VALUE_BYTES_MAX + EXPIRY_BYTES - value.len();
    assert!(builder.finish().len() + missing <= SECTION_BYTES_MAX);
}

/// A packed block of 120 bytes, and its section.
fn packed_section(codec: Codec) -> Vec<u8> {
    let mut builder = BlockBuilder::new(16);
    builder.add(0, Row::put(b"key", 1, &[9; 1_000]).entry());
    let mut packer = Packer::new(codec);
    packer.pack(builder.finish()).unwrap().to_vec()
}

fn unpacked(section: &[u8], codec: Codec) -> Result<Block, Unreadable> {
    compress::block(section.into(), codec, None)
}

#[test]
fn a_forged_length_is_refused() {
    for codec in codecs().skip(1) {
        let sound = packed_section(codec);
        let length = FRAME_BYTES..FRAME_BYTES + 4;
        let bytes = u32::from_le_bytes(sound[length.clone()].try_into().unwrap());
        assert_eq!(
            unpacked(&sound, codec).unwrap().bytes(),
            FRAME_BYTES + bytes as usize
        );
        let largest = (SECTION_BYTES_MAX - FRAME_BYTES) as u32;
        let near = [0, 1, bytes - 1, bytes + 1, largest, largest + 1, u32::MAX];
        for forged in near.into_iter().chain((0..32).map(|bit| 1 << bit)) {
            let mut section = sound.clone();
            section[length.clone()].copy_from_slice(&forged.to_le_bytes());
            assert_eq!(
                unpacked(&section, codec).unwrap_err(),
                Unreadable::Malformed
            );
        }
        for cut in 0..sound.len() {
            assert!(unpacked(&sound[..cut], codec).is_err(), "cut at {cut}");
        }
    }
}

#[test]
fn a_packed_section_that_is_no_block_is_refused() {
    for codec in codecs().skip(1) {
        let (memory, meta) = build(&compressible_rows(100), packed(codec));
        let segment = open(&memory, &meta).unwrap();
        // An index that claims to be packed.
        let place = segment.footer.index;
        let mut bytes = memory.read_file(path_of(&meta)).unwrap();
        let section = &mut bytes[place.offset as usize..place.end() as usize];
        assert!(format::seal_packed(
            FILE,
            place.offset,
            SectionKind::Index,
            codec,
            section
        ));
        memory.write_file(path_of(&meta), &bytes);
        let damage = damage_of(open(&memory, &meta)).unwrap();
        assert!(damage[0].what.contains("packed"), "{damage:?}");
    }
}

#[test]
fn every_flipped_bit_of_a_packed_segment_is_noticed_and_named() {
    for codec in codecs().skip(1) {
        let rows = compressible_rows(30);
        let (memory, meta) = build(&rows, packed(codec));
        for offset in 0..meta.bytes {
            let memory = memory.fork();
            assert!(memory.flip_bit(path_of(&meta), offset, (offset % 8) as u8));
            let Ok(segment) = open(&memory, &meta) else {
                continue;
            };
            for row in &rows {
                if let Ok(found) = segment.get(&row.key, Version::MAX) {
                    assert_eq!(found, Some(row.found()));
                }
            }
            let damage = segment.verify(&mut |_| {}).unwrap();
            assert_eq!(damage.len(), 1, "byte {offset}: {damage:?}");
            assert!((damage[0].offset..damage[0].offset + damage[0].bytes).contains(&offset));
        }
    }
}

#[test]
#[cfg(feature = "zstd")]
fn a_dictionary_is_kept_where_it_pays_and_guarded() {
    let rows = compressible_rows(6_000);
    let options = SegmentOptions {
        codec: Codec::Zstd,
        ..bare()
    };
    let (memory, meta) = build(&rows, options.clone());
    let place = open(&memory, &meta).unwrap().footer.dictionary;
    assert!(place.bytes > 0 && place.bytes <= 4_096 + FRAME_BYTES as u64);
    reads_back(&memory, &meta, &rows);
    // Damaged: named at open, and by `inspect`, which can't read the blocks then.
    let damaged = memory.fork();
    assert!(damaged.flip_bit(path_of(&meta), place.offset + 100, 1));
    let damage = damage_of(open(&damaged, &meta)).unwrap();
    assert_eq!((damage.len(), damage[0].offset), (1, place.offset));
    let parts = inspected(&damaged, &meta);
    assert!(
        parts
            .iter()
            .any(|part| part.offset == place.offset && part.verdict.is_err())
    );
    // Forged: another one under a good checksum is refused, or the blocks are malformed.
    let mut bytes = memory.read_file(path_of(&meta)).unwrap();
    let section = &mut bytes[place.offset as usize..place.end() as usize];
    section[FRAME_BYTES + 4..].reverse();
    assert!(format::seal(
        FILE,
        place.offset,
        SectionKind::Dictionary,
        section
    ));
    let forged = memory.fork();
    forged.write_file(path_of(&meta), &bytes);
    match open(&forged, &meta) {
        Ok(segment) => assert!(damage_of(walk(&segment, true, rows.len())).is_some()),
        refused => assert!(damage_of(refused).is_some()),
    }
    // Few blocks: none.
    let (memory, meta) = build(&rows[..100], options);
    assert_eq!(open(&memory, &meta).unwrap().footer.dictionary.bytes, 0);
}

#[test]
#[cfg(not(feature = "zstd"))]
fn zstd_is_refused_by_a_build_without_it() {
    let refused = |error: Error| match error {
        Error::FeatureMissing { feature, .. } => assert_eq!(feature, "zstd"),
        error => panic!("{error}"),
    };
    let memory = MemoryVfs::new();
    let setup = setup(Arc::new(memory.clone()), packed(Codec::Zstd));
    refused(SegmentBuilder::create(setup).unwrap_err());
    // A block that says it is packed so.
    let (memory, meta) = build(&compressible_rows(10), packed(Codec::Lz4));
    let place = open(&memory, &meta).unwrap().extent(0);
    let mut bytes = memory.read_file(path_of(&meta)).unwrap();
    let section = &mut bytes[place.offset as usize..place.end() as usize];
    let kind = SectionKind::Data;
    assert!(format::seal_packed(
        FILE,
        place.offset,
        kind,
        Codec::Zstd,
        section
    ));
    memory.write_file(path_of(&meta), &bytes);
    let segment = open(&memory, &meta).unwrap();
    refused(segment.get(b"user:00000000", Version::MAX).unwrap_err());
}

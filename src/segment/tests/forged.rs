//! Bytes under good checksums that say nonsense: no panic, no endless walk, no huge allocation.

use super::super::format::{self, Extent, FORMAT_VERSION, SectionKind};
use super::*;
use crate::codec::block_checksum;
use crate::vfs::SeededRng;

const ROUNDS: u64 = 1_500;

/// A segment of many blocks, and its bytes.
struct Sample {
    rows: Vec<Row>,
    memory: MemoryVfs,
    meta: SegmentMeta,
    bytes: Vec<u8>,
    sections: Vec<(SectionKind, Extent)>,
    footer_offset: usize,
}

fn sample() -> Sample {
    let rows = varied_rows(25);
    let (memory, meta) = build(&rows, tiny());
    let segment = open(&memory, &meta).unwrap();
    let mut sections: Vec<_> = (0..segment.index.blocks())
        .map(|number| (SectionKind::Data, segment.extent(number)))
        .collect();
    let footer = segment.footer;
    sections.push((SectionKind::Filter, footer.filter));
    sections.push((SectionKind::Index, footer.index));
    sections.push((SectionKind::Properties, footer.properties));
    Sample {
        bytes: memory.read_file(path_of(&meta)).unwrap(),
        footer_offset: footer.properties.end() as usize,
        rows,
        memory,
        meta,
        sections,
    }
}

impl Sample {
    /// Uses a file in every way there is.
    fn exercise(&self, bytes: &[u8]) {
        self.memory.write_file(path_of(&self.meta), bytes);
        let parts = inspected(&self.memory, &self.meta);
        assert_eq!(
            parts.iter().map(|part| part.bytes).sum::<u64>(),
            bytes.len() as u64
        );
        let segment = match open(&self.memory, &self.meta) {
            Ok(segment) => segment,
            Err(Error::Damaged(_) | Error::NewerFormat { .. } | Error::ForeignFile { .. }) => {
                return;
            }
            Err(error) => panic!("{error}"),
        };
        for row in &self.rows {
            damage_of(segment.get(&row.key, row.version));
            damage_of(segment.get(&row.key[..row.key.len() / 2], Version::MAX));
            let mut cursor = segment.cursor();
            damage_of(cursor.seek(&row.key, row.version));
            damage_of(cursor.next());
            damage_of(cursor.seek_before(&row.key));
            damage_of(cursor.prev());
            damage_of(cursor.prev());
            damage_of(cursor.next());
        }
        damage_of(walk(&segment, true, bytes.len()));
        damage_of(walk(&segment, false, bytes.len()));
        segment.verify(&mut |_| {}).unwrap();
    }
}

/// Changes a few bytes, with a liking for what lengths and offsets look like.
fn mutate(rng: &mut SeededRng, body: &mut [u8]) {
    for _ in 0..=rng.below(4) {
        let at = rng.below(body.len() as u64) as usize;
        let room = body.len() - at;
        match rng.below(6) {
            0 => body[at] ^= 1 << rng.below(8),
            1 => body[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5) as usize],
            2 => body[at] = body[at].wrapping_add(1),
            3 => body[at..at + room.min(4)].fill(0xff),
            4 => body[at..at + room.min(10)].fill(0x80),
            _ => {
                let from = rng.below(body.len() as u64) as usize;
                let count = rng.below(16).min((body.len() - from.max(at)) as u64) as usize;
                body.copy_within(from..from + count, at);
            }
        }
    }
}

#[test]
fn forged_sections_never_panic() {
    let sample = sample();
    let mut rng = SeededRng::new(0x5e9);
    for _ in 0..ROUNDS {
        let mut bytes = sample.bytes.clone();
        for _ in 0..=rng.below(2) {
            let (kind, place) = *rng.pick(&sample.sections).unwrap();
            let section = &mut bytes[place.offset as usize..place.end() as usize];
            mutate(&mut rng, &mut section[format::FRAME_BYTES..]);
            assert!(format::seal(FILE, place.offset, kind, section));
        }
        sample.exercise(&bytes);
    }
}

#[test]
fn forged_frames_headers_and_footers_never_panic() {
    let sample = sample();
    let mut rng = SeededRng::new(0xf007);
    let footer = sample.footer_offset;
    for round in 0..ROUNDS {
        let mut bytes = sample.bytes.clone();
        match round % 3 {
            0 => {
                mutate(&mut rng, &mut bytes[footer..footer + 152]);
                let checksum = block_checksum(FILE, footer as u64, &bytes[footer..footer + 152]);
                bytes[footer + 152..].copy_from_slice(&checksum.to_le_bytes());
            }
            1 => {
                mutate(&mut rng, &mut bytes[..56]);
                let checksum = block_checksum(FILE, 0, &bytes[..56]);
                bytes[56..64].copy_from_slice(&checksum.to_le_bytes());
                // So that the header is looked at.
                bytes[footer] ^= 1;
            }
            _ => {
                let (_, place) = *rng.pick(&sample.sections).unwrap();
                let section = &mut bytes[place.offset as usize..place.end() as usize];
                mutate(&mut rng, &mut section[8..16]);
                let checksum = block_checksum(FILE, place.offset, &section[8..]);
                section[..8].copy_from_slice(&checksum.to_le_bytes());
            }
        }
        sample.exercise(&bytes);
    }
}

/// Every field of a block's end, and every entry's first bytes, set to each telling value.
#[test]
fn every_byte_of_a_forged_block_can_be_anything() {
    let sample = sample();
    for (kind, place) in &sample.sections {
        let range = place.offset as usize..place.end() as usize;
        for at in range.start + format::FRAME_BYTES..range.end {
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut bytes = sample.bytes.clone();
                bytes[at] = value;
                assert!(format::seal(
                    FILE,
                    place.offset,
                    *kind,
                    &mut bytes[range.clone()]
                ));
                sample.memory.write_file(path_of(&sample.meta), &bytes);
                let Ok(segment) = open(&sample.memory, &sample.meta) else {
                    continue;
                };
                damage_of(walk(&segment, true, bytes.len()));
                damage_of(walk(&segment, false, bytes.len()));
                for row in sample.rows.iter().step_by(5) {
                    damage_of(segment.get(&row.key, row.version));
                }
                let damage = segment.verify(&mut |_| {}).unwrap();
                assert_eq!(damage.is_empty(), bytes == sample.bytes, "byte {at}");
            }
        }
    }
}

#[test]
fn a_codec_that_is_not_known_is_refused() {
    let sample = sample();
    let (_, place) = sample.sections[0];
    let mut bytes = sample.bytes.clone();
    let section = &mut bytes[place.offset as usize..place.end() as usize];
    section[9] = 1;
    let checksum = block_checksum(FILE, place.offset, &section[8..]);
    section[..8].copy_from_slice(&checksum.to_le_bytes());
    sample.memory.write_file(path_of(&sample.meta), &bytes);
    let segment = open(&sample.memory, &sample.meta).unwrap();
    let damage = damage_of(segment.get(b"", Version::MAX)).unwrap();
    assert!(damage[0].what.contains("codec"), "{damage:?}");
}

/// A newer format is told from damage: only under a good checksum is its number believed.
#[test]
fn a_newer_format_is_refused_as_such() {
    let sample = sample();
    let footer = sample.footer_offset;
    for newer in [FORMAT_VERSION + 1, u32::MAX] {
        let mut bytes = sample.bytes.clone();
        bytes[8..12].copy_from_slice(&newer.to_le_bytes());
        bytes[footer + 8..footer + 12].copy_from_slice(&newer.to_le_bytes());
        sample.memory.write_file(path_of(&sample.meta), &bytes);
        assert!(damage_of(open(&sample.memory, &sample.meta)).is_some());
        let checksum = block_checksum(FILE, 0, &bytes[..56]);
        bytes[56..64].copy_from_slice(&checksum.to_le_bytes());
        // A newer format may end otherwise, in this case with a footer that means nothing here.
        sample.memory.write_file(path_of(&sample.meta), &bytes);
        let error = open(&sample.memory, &sample.meta).unwrap_err();
        assert!(
            matches!(error, Error::NewerFormat { found, .. } if found == newer),
            "{error}"
        );
    }
}

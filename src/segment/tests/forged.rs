//! Bytes under good checksums that say nonsense: no panic, no endless walk, no huge allocation.

use super::super::block::{Block, BlockBuilder};
use super::super::format::{self, Extent, FORMAT_VERSION, SectionKind};
use super::*;
use crate::codec::{block_checksum, digest};
use crate::vfs::{FaultVfs, OperationKind, SeededRng};

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
    sample_of(Codec::None)
}

fn sample_of(codec: Codec) -> Sample {
    let (rows, options) = match codec {
        Codec::None => (varied_rows(25), tiny()),
        codec => (compressible_rows(40), packed(codec)),
    };
    let (memory, meta) = build(&rows, options);
    let segment = open(&memory, &meta).unwrap();
    let mut sections: Vec<_> = (0..segment.index().unwrap().blocks())
        .map(|number| (SectionKind::Data, segment.extent(number)))
        .collect();
    let footer = segment.footer;
    if footer.dictionary.bytes > 0 {
        sections.push((SectionKind::Dictionary, footer.dictionary));
    }
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

/// Gives a section a right checksum again, and leaves it its codec.
fn seal_again(kind: SectionKind, place: Extent, section: &mut [u8]) {
    let codec = Codec::from_byte(section[9]).unwrap();
    let sealed = format::seal_packed(FILE, place.offset, kind, codec, section);
    assert!(sealed);
}

#[test]
fn forged_sections_never_panic() {
    for codec in codecs() {
        forge_sections(&sample_of(codec));
    }
}

fn forge_sections(sample: &Sample) {
    let mut rng = SeededRng::new(0x5e9);
    for _ in 0..ROUNDS {
        let mut bytes = sample.bytes.clone();
        for _ in 0..=rng.below(2) {
            let (kind, place) = *rng.pick(&sample.sections).unwrap();
            let section = &mut bytes[place.offset as usize..place.end() as usize];
            mutate(&mut rng, &mut section[format::FRAME_BYTES..]);
            seal_again(kind, place, section);
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
                let end = footer + format::FOOTER_BYTES - 8;
                mutate(&mut rng, &mut bytes[footer..end]);
                let checksum = block_checksum(FILE, footer as u64, &bytes[footer..end]);
                bytes[end..].copy_from_slice(&checksum.to_le_bytes());
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
    section[9] = 3;
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

/// A segment one of whose sections was changed under a good checksum and a good digest, opened.
fn forged(
    memory: &MemoryVfs,
    meta: &SegmentMeta,
    kind: SectionKind,
    place: Extent,
    change: impl FnOnce(&mut [u8]),
) -> Result<Arc<Segment>> {
    let mut bytes = memory.read_file(path_of(meta)).unwrap();
    let section = &mut bytes[place.offset as usize..place.end() as usize];
    change(section);
    assert!(format::seal(FILE, place.offset, kind, section));
    memory.write_file(path_of(meta), &bytes);
    let mut whole = digest();
    whole.update(&bytes);
    let meta = SegmentMeta {
        digest: whole.digest128(),
        ..meta.clone()
    };
    open(memory, &meta)
}

/// The one thing that `verify` has to say.
fn named(segment: &Segment, place: Extent, what: &str) {
    let damage = segment.verify(&mut |_| {}).unwrap();
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!(damage[0].offset, place.offset);
    assert!(damage[0].what.contains(what), "{damage:?}");
}

fn numbered(count: u64) -> Vec<Row> {
    (0..count)
        .map(|number| Row::put(format!("key-{number:03}").as_bytes(), 9, b"value"))
        .collect()
}

#[test]
fn verify_names_a_value_that_belongs_to_no_entry() {
    let (memory, meta) = build(&numbered(20), tiny());
    let place = open(&memory, &meta).unwrap().extent(1);
    let segment = forged(&memory, &meta, SectionKind::Data, place, |section| {
        let block = Block::parse(section.to_vec().into()).unwrap();
        let mut last = block.first();
        while let Ok(entry) = block.decode(last)
            && block.has(entry.next)
        {
            last = entry.next;
        }
        // Behind the two lengths of the key stands that of the value.
        section[last.record + 2] -= 1;
    });
    named(&segment.unwrap(), place, "belongs to no entry");
}

#[test]
fn verify_names_counts_that_are_not_those_of_the_entries() {
    let (memory, meta) = build(&numbered(20), tiny());
    let place = open(&memory, &meta).unwrap().footer.properties;
    let segment = forged(&memory, &meta, SectionKind::Properties, place, |section| {
        section[32] += 1;
    });
    named(&segment.unwrap(), place, "counts");
}

/// Makes a block of other entries, each with the bytes that it claims to share.
fn other_block(rows: &[(usize, Row)], section: &mut [u8]) {
    let mut builder = BlockBuilder::new(tiny().restart_interval);
    for (shared, row) in rows {
        builder.add(*shared, row.entry());
    }
    section.copy_from_slice(builder.finish());
}

/// The lookup takes it that keys share all they can; so `verify` must see to it.
#[test]
fn verify_names_keys_that_share_less_than_they_could() {
    let rows = [Row::put(b"aa", 1, b"12"), Row::put(b"ab", 1, b"34")];
    let (memory, meta) = build(&rows, tiny());
    let place = open(&memory, &meta).unwrap().extent(0);
    let segment = forged(&memory, &meta, SectionKind::Data, place, |section| {
        let shorter = Row::put(b"ab", 1, b"3");
        other_block(&[(0, rows[0].clone()), (0, shorter)], section);
    });
    named(&segment.unwrap(), place, "out of order");
}

#[test]
fn verify_names_entries_that_belong_in_another_block() {
    let mut options = tiny();
    options.filter_bits_per_key = 0;
    let (memory, meta) = build(&numbered(20), options);
    let segment = open(&memory, &meta).unwrap();
    let rows = walk(&segment, true, 100).unwrap();
    let in_one: Vec<_> = rows
        .iter()
        .filter(|row| segment.index().unwrap().find(&row.key, row.version) == 1)
        .collect();
    let place = segment.extent(1);
    let segment = forged(&memory, &meta, SectionKind::Data, place, |section| {
        let mut builder = BlockBuilder::new(tiny().restart_interval);
        let mut last_key = Vec::new();
        for row in in_one {
            let mut row = row.clone();
            row.key[0] = b'l';
            builder.add(builder.shared(&last_key, &row.key), row.entry());
            last_key = row.key;
        }
        section.copy_from_slice(builder.finish());
    });
    named(&segment.unwrap(), place, "separators");
}

#[test]
fn an_index_with_a_gap_is_refused() {
    let (memory, meta) = build(&numbered(40), tiny());
    let segment = open(&memory, &meta).unwrap();
    let place = segment.footer.index;
    let outcome = forged(&memory, &meta, SectionKind::Index, place, |section| {
        // The offset of the second block.
        section[20 + 16] += 1;
    });
    let damage = damage_of(outcome).unwrap();
    assert!(
        damage[0].what.contains("a wrong place of block 1"),
        "{damage:?}"
    );
}

#[test]
fn keys_that_no_key_can_be_are_damage() {
    let long = vec![b'k'; 60_000];
    let mut longer = long.clone();
    longer.extend_from_slice(&long);
    let mut builder = BlockBuilder::new(16);
    builder.add(0, Row::put(&long, 1, b"").entry());
    builder.add(long.len(), Row::put(&longer, 1, b"").entry());
    let block = Block::parse(builder.finish().to_vec().into()).unwrap();
    let first = block.decode(block.first()).unwrap();
    assert!(block.decode(first.next).is_err());
    // A key that begins with bytes of a key before it, when there is none.
    let (memory, meta) = build(&numbered(20), tiny());
    let place = open(&memory, &meta).unwrap().extent(0);
    let segment = forged(&memory, &meta, SectionKind::Data, place, |section| {
        let block = Block::parse(section.to_vec().into()).unwrap();
        section[block.first().record] = 1;
    });
    let segment = segment.unwrap();
    for forward in [true, false] {
        assert!(damage_of(walk(&segment, forward, 100)).is_some());
    }
    assert!(damage_of(segment.get(b"key-000", Version::MAX)).is_some());
}

/// Frames wherever one looks, each with a length up to the end of the file.
#[test]
fn inspect_does_not_read_the_square_of_a_hostile_file() {
    let frames = 20_000usize;
    let mut bytes = vec![0; 64];
    for number in 0..frames {
        let left = (16 * (frames - number)) as u32 + 100;
        bytes.extend_from_slice(&[0xee; 8]);
        bytes.extend_from_slice(&[1, 0, 0, 0]);
        bytes.extend_from_slice(&left.to_le_bytes());
    }
    bytes.resize(bytes.len() + 260, 0);
    let memory = MemoryVfs::new();
    memory.write_file("hostile", &bytes);
    let vfs = FaultVfs::on_memory(&memory);
    let mut shown = 0;
    inspect(&vfs, Path::new("hostile"), &mut |part| shown += part.bytes).unwrap();
    assert_eq!(shown, bytes.len() as u64);
    let reads = vfs.count(OperationKind::Read);
    assert!(reads < 1_000, "{reads} reads");
}

//! Every bit flipped, every length cut, and whole files or blocks that are not where they belong: each
//! read is right or says Damaged, and `verify` and `inspect` name the place.

use super::*;
use crate::error::{Damage, Reaction};

/// Small enough to be damaged in every bit, and with several blocks, versions and a filter.
fn small() -> (Vec<Row>, MemoryVfs, SegmentMeta) {
    let rows = varied_rows(14);
    let (memory, meta) = build(&rows, tiny());
    assert!((900..1_800).contains(&meta.bytes), "{}", meta.bytes);
    (rows, memory, meta)
}

/// Reads everything in every way; each answer must be right or Damaged. Returns whether some damage
/// showed.
fn reads_are_right_or_damaged(segment: &Arc<Segment>, rows: &[Row]) -> bool {
    let mut shown = false;
    for row in rows {
        for at in [row.version, Version::MAX] {
            match segment.get(&row.key, at) {
                Ok(found) => assert_eq!(found, expected(rows, &row.key, at).map(Row::found)),
                outcome => shown |= damage_of(outcome).is_some(),
            }
        }
    }
    for forward in [true, false] {
        match walk(segment, forward, rows.len()) {
            Ok(mut found) => {
                if !forward {
                    found.reverse();
                }
                assert_eq!(found, rows);
            }
            outcome => shown |= damage_of(outcome).is_some(),
        }
    }
    shown
}

fn covers(damage: &[Damage], offset: u64) -> bool {
    damage
        .iter()
        .any(|damage| (damage.offset..damage.offset + damage.bytes).contains(&offset))
}

#[test]
fn every_flipped_bit_is_noticed_and_named() {
    let (rows, memory, meta) = small();
    let sound = open(&memory, &meta).unwrap();
    let data_end = sound.footer.data_end();
    for offset in 0..meta.bytes {
        for bit in 0..8 {
            let memory = memory.fork();
            assert!(memory.flip_bit(path_of(&meta), offset, bit));
            let bad = inspected(&memory, &meta);
            let bad = bad.iter().find(|part| part.verdict.is_err()).unwrap();
            assert!(
                (bad.offset..bad.offset + bad.bytes).contains(&offset),
                "{bad:?}"
            );
            let segment = match open(&memory, &meta) {
                Ok(segment) => segment,
                outcome => {
                    let damage = damage_of(outcome).unwrap();
                    assert!(offset >= data_end, "byte {offset} needs no look at open");
                    assert!(covers(&damage, offset), "byte {offset}: {damage:?}");
                    continue;
                }
            };
            assert!(offset < data_end, "byte {offset} was not looked at");
            let shown = reads_are_right_or_damaged(&segment, &rows);
            assert_eq!(
                shown,
                offset >= 64,
                "byte {offset}: blocks show, the header is spare"
            );
            let damage = segment.verify(&mut |_| {}).unwrap();
            assert!(
                damage.len() == 1 && covers(&damage, offset),
                "{offset}: {damage:?}"
            );
        }
    }
}

/// The bits flip while the file is open: what was verified at open is in memory, the rest shows.
#[test]
fn bits_that_flip_behind_an_open_segment_are_noticed_and_named() {
    let (rows, memory, meta) = small();
    for offset in 0..meta.bytes {
        let memory = memory.fork();
        let segment = open(&memory, &meta).unwrap();
        assert!(memory.flip_bit(path_of(&meta), offset, (offset % 8) as u8));
        reads_are_right_or_damaged(&segment, &rows);
        let damage = segment.verify(&mut |_| {}).unwrap();
        assert!(
            damage.len() == 1 && covers(&damage, offset),
            "{offset}: {damage:?}"
        );
    }
}

#[test]
fn a_file_cut_at_any_byte_is_refused_and_named() {
    let (rows, memory, meta) = small();
    for len in 0..meta.bytes {
        let memory = memory.fork();
        let segment = open(&memory, &meta).unwrap();
        assert!(memory.truncate_file(path_of(&meta), len));
        // One that was open meanwhile.
        assert!(reads_are_right_or_damaged(&segment, &rows) || len >= segment.footer.data_end());
        let damage = segment.verify(&mut |_| {}).unwrap();
        assert!(damage.len() == 1 && covers(&damage, len), "{damage:?}");
        assert!(damage[0].what.contains("the file ends"), "{damage:?}");
        // One that is opened afterwards.
        let damage = damage_of(open(&memory, &meta)).unwrap();
        assert!(covers(&damage, len), "{len}: {damage:?}");
        assert!(len > 0 || damage[0].what.contains("empty"));
        let parts = inspected(&memory, &meta);
        assert!(parts.iter().any(|part| part.verdict.is_err()), "{len}");
        assert_eq!(parts.iter().map(|part| part.bytes).sum::<u64>(), len);
    }
}

#[test]
fn a_file_that_grew_is_refused() {
    let (_, memory, meta) = small();
    let segment = open(&memory, &meta).unwrap();
    let mut bytes = memory.read_file(path_of(&meta)).unwrap();
    bytes.extend_from_slice(&[0; 10]);
    memory.write_file(path_of(&meta), bytes);
    let damage = damage_of(open(&memory, &meta)).unwrap();
    assert!(covers(&damage, meta.bytes));
    let damage = segment.verify(&mut |_| {}).unwrap();
    assert!(damage.len() == 1 && covers(&damage, meta.bytes));
}

#[test]
fn all_damage_is_named_at_once() {
    let (_, memory, meta) = small();
    let segment = open(&memory, &meta).unwrap();
    let blocks: Vec<_> = (0..segment.index().unwrap().blocks())
        .map(|number| segment.extent(number))
        .collect();
    for place in blocks.iter().step_by(2) {
        memory.flip_bit(path_of(&meta), place.offset + 20, 0);
    }
    let mut read_bytes = 0;
    let damage = segment.verify(&mut |bytes| read_bytes += bytes).unwrap();
    let named: Vec<_> = damage.iter().map(|damage| damage.offset).collect();
    let struck: Vec<_> = blocks.iter().step_by(2).map(|place| place.offset).collect();
    assert_eq!(named, struck);
    assert_eq!(read_bytes, meta.bytes);
    for extent in [segment.footer.index, segment.footer.filter] {
        memory.flip_bit(path_of(&meta), extent.offset + 17, 3);
    }
    assert_eq!(damage_of(open(&memory, &meta)).unwrap().len(), 2);
}

#[test]
fn a_missing_file_is_named() {
    let (_, memory, meta) = small();
    memory.remove_file(path_of(&meta));
    let damage = damage_of(open(&memory, &meta)).unwrap();
    assert_eq!(damage[0].path, path_of(&meta));
    assert!(damage[0].what.contains("missing"));
}

/// A read that the disk refuses is damage to `verify`, which goes on behind it.
#[test]
fn unreadable_places_are_named_one_by_one() {
    use crate::vfs::{Fault, FaultKind, FaultVfs, OperationKind};
    let (_, memory, meta) = small();
    let vfs = FaultVfs::on_memory(&memory);
    let cache = Arc::new(BlockCache::new(0));
    let segment = open_with(Arc::new(vfs.clone()), &meta, cache).unwrap();
    // The first read, of everything, and then the third of those part by part.
    for n in [1, 4] {
        vfs.inject(Fault::once(n, FaultKind::Io).only(&[OperationKind::Read]));
    }
    let damage = segment.verify(&mut |_| {}).unwrap();
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!(damage[0].offset, segment.extent(1).offset);
    assert!(damage[0].what.contains("could not be read"));
}

fn other_file(change: impl FnOnce(&mut SegmentSetup)) -> (MemoryVfs, SegmentMeta) {
    let memory = MemoryVfs::new();
    memory.create_dir_all(Path::new(FOLDER)).unwrap();
    let mut setup = setup(Arc::new(memory.clone()), tiny());
    change(&mut setup);
    let meta = build_with(setup, &varied_rows(14)).unwrap();
    (memory, meta)
}

#[test]
fn a_file_of_another_store_is_foreign_whatever_its_length() {
    let (_, memory, meta) = small();
    let (foreign, foreign_meta) = other_file(|setup| setup.store_id = StoreId(99));
    let bytes = foreign.read_file(path_of(&foreign_meta)).unwrap();
    for cut in [0, 1, 161, 500] {
        memory.write_file(path_of(&meta), &bytes[..bytes.len() - cut]);
        let error = open(&memory, &meta).unwrap_err();
        assert!(matches!(error, Error::ForeignFile { .. }), "{error}");
        assert_eq!(error.reaction(), Reaction::Refuse);
    }
}

#[test]
fn another_file_of_the_same_store_is_refused() {
    let (_, memory, meta) = small();
    for (other, other_meta) in [
        other_file(|setup| setup.file_id = FileId(99)),
        other_file(|setup| setup.number = SegmentNumber(99)),
    ] {
        let bytes = other.read_file(path_of(&other_meta)).unwrap();
        memory.write_file(path_of(&meta), bytes);
        let damage = damage_of(open(&memory, &meta)).unwrap();
        assert!(damage[0].what.contains("segment 7"), "{damage:?}");
    }
}

#[test]
fn a_block_elsewhere_or_from_another_file_is_refused() {
    let rows: Vec<_> = (0..40u64)
        .map(|number| Row::put(format!("key-{number:03}").as_bytes(), 9, b"same length"))
        .collect();
    let (memory, meta) = build(&rows, tiny());
    let segment = open(&memory, &meta).unwrap();
    let bytes = memory.read_file(path_of(&meta)).unwrap();
    let (one, two) = (segment.extent(1), segment.extent(2));
    assert_eq!(one.bytes, two.bytes);
    let in_one = |row: &&Row| segment.index().unwrap().find(&row.key, Version::MAX) == 1;
    let row = rows.iter().find(in_one).unwrap();
    let block =
        |place: super::super::format::Extent| &bytes[place.offset as usize..place.end() as usize];
    // Misdirected: block 2 stands where block 1 belongs.
    memory.overwrite(path_of(&meta), one.offset, block(two));
    assert!(damage_of(segment.get(&row.key, Version::MAX)).is_some());
    assert_eq!(segment.verify(&mut |_| {}).unwrap().len(), 1);
    memory.overwrite(path_of(&meta), one.offset, block(one));
    assert_eq!(
        segment.get(&row.key, Version::MAX).unwrap(),
        Some(row.found())
    );
    // The same block of the same place in another file with the same entries.
    let other_memory = MemoryVfs::new();
    other_memory.create_dir_all(Path::new(FOLDER)).unwrap();
    let mut other = setup(Arc::new(other_memory.clone()), tiny());
    other.file_id = FileId(FILE.0 + 1);
    let other_meta = build_with(other, &rows).unwrap();
    let other_bytes = other_memory.read_file(path_of(&other_meta)).unwrap();
    let foreign = &other_bytes[one.offset as usize..one.end() as usize];
    assert_eq!(foreign[16..], block(one)[16..]);
    memory.overwrite(path_of(&meta), one.offset, foreign);
    assert_eq!(segment.verify(&mut |_| {}).unwrap()[0].offset, one.offset);
}

#[test]
fn a_manifest_that_says_otherwise_is_believed_over_the_file() {
    let (_, memory, meta) = small();
    let changes: [fn(&mut SegmentMeta); 7] = [
        |meta| meta.entries += 1,
        |meta| meta.deletes += 1,
        |meta| meta.smallest_key.push(0),
        |meta| meta.largest_key.push(0),
        |meta| meta.smallest_index = Index(0),
        |meta| meta.largest_index = Index(u64::MAX),
        |meta| meta.bytes += 1,
    ];
    for change in changes {
        let mut meta = meta.clone();
        change(&mut meta);
        assert!(damage_of(open(&memory, &meta)).is_some());
    }
    let mut other = meta.clone();
    other.digest ^= 1;
    let damage = open(&memory, &other).unwrap().verify(&mut |_| {}).unwrap();
    assert!(damage.len() == 1 && damage[0].what.contains("digest"));
}

/// Whatever is lost, `inspect` shows the rest: here the footer, the index and one block are gone.
#[test]
fn inspect_finds_the_blocks_without_index_and_footer() {
    let (rows, memory, meta) = small();
    let segment = open(&memory, &meta).unwrap();
    let lost = segment.extent(2);
    let blocks = segment.index().unwrap().blocks();
    memory.overwrite(path_of(&meta), lost.offset, vec![0xa5; lost.bytes as usize]);
    let tail = segment.footer.index.offset;
    memory.overwrite(path_of(&meta), tail, vec![0; (meta.bytes - tail) as usize]);
    let parts = inspected(&memory, &meta);
    let mut entries_found = 0;
    let mut good_blocks = 0;
    for part in &parts {
        match &part.content {
            InspectedContent::Block {
                entries, first_key, ..
            } if part.verdict.is_ok() => {
                entries_found += entries;
                good_blocks += 1;
                assert!(rows.iter().any(|row| Some(&row.key) == first_key.as_ref()));
            }
            InspectedContent::Unknown if part.offset < tail => {
                assert_eq!((part.offset, part.bytes), (lost.offset, lost.bytes));
            }
            _ => {}
        }
    }
    assert_eq!(good_blocks, blocks - 1);
    assert!(entries_found < rows.len() as u64 && entries_found > rows.len() as u64 / 2);
    assert_eq!(parts.iter().map(|part| part.bytes).sum::<u64>(), meta.bytes);
}

#[test]
fn inspect_shows_a_sound_file_and_a_file_that_is_none() {
    let (rows, memory, meta) = small();
    let parts = inspected(&memory, &meta);
    assert!(parts.iter().all(|part| part.verdict.is_ok()), "{parts:?}");
    assert_eq!(parts.iter().map(|part| part.bytes).sum::<u64>(), meta.bytes);
    let entries = parts.iter().map(|part| match part.content {
        InspectedContent::Block { entries, .. } => entries,
        _ => 0,
    });
    assert_eq!(entries.sum::<u64>(), rows.len() as u64);
    for bytes in [0, 1, 16, 63, 64, 65, 223, 224, 225, 5_000] {
        memory.write_file(path_of(&meta), vec![1; bytes]);
        let parts = inspected(&memory, &meta);
        assert!(parts.iter().all(|part| part.verdict.is_err()), "{parts:?}");
        assert_eq!(
            parts.iter().map(|part| part.bytes).sum::<u64>(),
            bytes as u64
        );
    }
}

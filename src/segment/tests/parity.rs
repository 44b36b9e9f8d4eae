//! Segments with parity: whatever one bad block is, every read is right, and the file can be written anew
//! as it was.

use std::collections::BTreeSet;

use super::*;
use crate::parity::UNIT_BYTES;

const UNIT: u64 = UNIT_BYTES as u64;

fn options(parity: Parity, codec: Codec) -> SegmentOptions {
    SegmentOptions {
        block_bytes: 1024,
        restart_interval: 8,
        filter_bits_per_key: 10,
        codec,
        parity,
    }
}

fn rows(count: u64) -> Vec<Row> {
    let row = |number: u64| {
        let key = format!("key {number:06}");
        let value = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        Row::put(key.as_bytes(), number + 1, &value.repeat(12))
    };
    (0..count).map(row).collect()
}

/// Every entry, by lookup and by a walk both ways.
fn assert_whole(segment: &Arc<Segment>, rows: &[Row]) {
    for row in rows.iter().step_by(5) {
        let found = segment.get(&row.key, Version::MAX).unwrap();
        assert_eq!(found, Some(row.found()));
    }
    assert_eq!(walk(segment, true, rows.len()).unwrap(), rows);
    let mut backward = walk(segment, false, rows.len()).unwrap();
    backward.reverse();
    assert_eq!(backward, rows);
}

fn damage(memory: &MemoryVfs, meta: &SegmentMeta, place: std::ops::Range<u64>, fill: Option<u8>) {
    let mut bytes = memory.read_file(path_of(meta)).unwrap();
    let end = place.end.min(bytes.len() as u64);
    let place = &mut bytes[place.start as usize..end as usize];
    match fill {
        Some(fill) => place.fill(fill),
        None => place.iter_mut().for_each(|byte| *byte ^= 0x10),
    }
    memory.write_file(path_of(meta), &bytes);
}

/// Writes a segment anew, and checks that it is what it was.
fn assert_mended(memory: &MemoryVfs, segment: &Segment, whole: &[u8], units: &[u64]) {
    let go_on = || Ok(());
    let anew = segment
        .write_anew(memory, Path::new(FOLDER), &go_on)
        .unwrap();
    assert_eq!(anew.units, units);
    assert!(memory.read_file(&anew.path).unwrap() == whole);
    memory.remove_file(&anew.path);
}

#[test]
fn any_one_bad_block_is_read_right_named_and_mended() {
    for (parity, codec) in [
        (Parity::Standard, Codec::None),
        (Parity::Standard, Codec::Lz4),
        (Parity::Strong, Codec::None),
    ] {
        let rows = rows(900);
        let (sound, meta) = build(&rows, options(parity, codec));
        let whole = sound.read_file(path_of(&meta)).unwrap();
        assert_eq!(whole.len() as u64, meta.bytes);
        assert!(meta.content_bytes < meta.bytes);
        let segment = open(&sound, &meta).unwrap();
        assert_eq!(segment.verify(&mut |_| {}).unwrap(), []);
        for start in (0..meta.bytes).step_by(UNIT_BYTES) {
            let fill = [None, Some(0), Some(0xff)][start as usize / UNIT_BYTES % 3];
            for while_open in [false, true] {
                let memory = sound.fork();
                let opened = while_open.then(|| open(&memory, &meta).unwrap());
                damage(&memory, &meta, start..start + UNIT, fill);
                let segment = opened.unwrap_or_else(|| open(&memory, &meta).unwrap());
                assert_whole(&segment, &rows);
                let named = segment.verify(&mut |_| {}).unwrap();
                let hit = |damage: &&crate::error::Damage| {
                    damage.offset < start + UNIT && damage.offset + damage.bytes > start
                };
                assert!(
                    named.iter().any(|damage| hit(&damage)),
                    "{start}: {named:?}"
                );
                assert!(
                    named.iter().all(|damage| hit(&damage)),
                    "{start}: {named:?}"
                );
                let lost = start < meta.content_bytes;
                let lost: &[u64] = if lost { &[start] } else { &[] };
                assert_mended(&memory, &segment, &whole, lost);
                // Whoever writes files anew was told, if a read needed what is lost.
                let told = segment.cache.mendings().next();
                let units = told.map(|(_, mending)| mending.units).unwrap_or_default();
                let expected: BTreeSet<u64> = lost.iter().copied().collect();
                assert!(units.is_subset(&expected), "{units:?}");
            }
        }
    }
}

#[test]
fn a_file_cut_short_or_too_long_is_read_and_mended() {
    let rows = rows(900);
    let (sound, meta) = build(&rows, options(Parity::Standard, Codec::None));
    let whole = sound.read_file(path_of(&meta)).unwrap();
    let shorter = (meta.content_bytes - 2 * UNIT) as usize;
    for length in [
        meta.content_bytes as usize,
        whole.len() - 1,
        whole.len() + 700,
    ] {
        let memory = sound.fork();
        let mut bytes = whole.clone();
        bytes.resize(length, 0x77);
        memory.write_file(path_of(&meta), &bytes);
        let segment = open(&memory, &meta).unwrap();
        assert!(segment.cache.mendings().next().is_some());
        assert_whole(&segment, &rows);
        assert!(!segment.verify(&mut |_| {}).unwrap().is_empty());
        assert_mended(&memory, &segment, &whole, &[]);
    }
    // With the content's end all parity is gone.
    let memory = sound.fork();
    memory.write_file(path_of(&meta), &whole[..shorter]);
    let refused = damage_of(open(&memory, &meta)).unwrap();
    assert!(refused[0].what.contains("bytes long, not"), "{refused:?}");
}

#[test]
fn what_is_beyond_parity_is_refused_and_the_rest_is_not() {
    let rows = rows(4_000);
    let (memory, meta) = build(&rows, options(Parity::Standard, Codec::None));
    let units = meta.content_bytes / UNIT;
    let parity = units.div_ceil(16);
    let segment = open(&memory, &meta).unwrap();
    // One more than there is parity for, in the middle.
    let lost = (units / 2) * UNIT..(units / 2 + parity + 1) * UNIT;
    damage(&memory, &meta, lost.clone(), Some(0));
    let (mut right, mut refused) = (0, 0);
    for row in &rows {
        match segment.get(&row.key, Version::MAX) {
            Ok(found) => {
                assert_eq!(found, Some(row.found()));
                right += 1;
            }
            outcome => {
                let damage = damage_of(outcome).unwrap();
                let block = damage[0].offset..damage[0].offset + damage[0].bytes;
                assert!(block.start < lost.end && block.end > lost.start);
                refused += 1;
            }
        }
    }
    let share = (parity + 1) as f64 / units as f64;
    let refused_share = f64::from(refused) / rows.len() as f64;
    assert!(right > 0 && (share * 0.8..share * 1.5).contains(&refused_share));
    let go_on = || Ok(());
    let anew = segment.write_anew(&memory, Path::new(FOLDER), &go_on);
    assert!(damage_of(anew).is_some());
    assert!(
        memory.file_names(FOLDER).len() == 1,
        "nothing is left of the attempt"
    );
}

/// Everything that `inspect` shows lies one behind the other, and only what was hit is bad.
#[test]
fn inspect_shows_the_parity() {
    let rows = rows(300);
    let (sound, meta) = build(&rows, options(Parity::Strong, Codec::None));
    for at in [
        None,
        Some(meta.content_bytes),
        Some(meta.bytes - 5),
        Some(meta.content_bytes + 9_000),
    ] {
        let memory = sound.fork();
        if let Some(at) = at {
            damage(&memory, &meta, at..at + 1, None);
        }
        let parts = inspected(&memory, &meta);
        let mut end = 0;
        for part in &parts {
            assert_eq!(part.offset, end);
            end += part.bytes;
            let hit = at.is_some_and(|at| (part.offset..end).contains(&at));
            assert_eq!(part.verdict.is_err(), hit, "{part:?}");
        }
        assert_eq!(end, meta.bytes);
        let parity = |part: &&Inspected| matches!(part.content, InspectedContent::Parity { .. });
        assert_eq!(parts.iter().filter(parity).count(), 3);
    }
}

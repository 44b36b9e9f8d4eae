//! Bytes changed, files cut, units lost: in one copy the state is whole and the damage named; in both
//! it is whole or refused.

use super::*;
use crate::manifest::merge::{Merged, Pair};
use crate::manifest::scan::Image;
use crate::testing::SeededRng;
use crate::types::UNIT;

/// Two copies of one generation, five edits long, one of which takes two units; and its state.
struct Copies {
    pair: Pair,
    state: ManifestState,
    /// Where each frame begins, and where the last one ends.
    places: Vec<usize>,
}

fn copies() -> Copies {
    let mut edits = vec![flush(1, 5), flush(2, 2_500), flush(3, 5), flush(4, 5)];
    edits.push(vec![Change::NextSegment(SegmentNumber(90))]);
    let memory = store(&edits);
    let image = |side| {
        let path = file(1, side);
        let bytes = memory.read_file(&path).unwrap();
        Image {
            file_bytes: bytes.len() as u64,
            path,
            present: true,
            bytes,
            unreadable: vec![],
        }
    };
    let pair = Pair {
        generation: 1,
        a: image(Side::A),
        b: image(Side::B),
        older: false,
    };
    let units = [1, 2, 3, 5, 6, 7, 8];
    Copies {
        pair,
        state: states(&edits).pop().unwrap(),
        places: units.map(|unit| unit * UNIT).to_vec(),
    }
}

impl Copies {
    fn image(&mut self, side: Side) -> &mut Image {
        match side {
            Side::A => &mut self.pair.a,
            Side::B => &mut self.pair.b,
        }
    }

    fn end(&self) -> usize {
        *self.places.last().unwrap()
    }

    /// The state is whole, and what was done to that copy is reported.
    fn check_healed(&self, side: Side, case: &dyn std::fmt::Display) -> Merged {
        let merged = self.pair.merge();
        let merged = merged.unwrap_or_else(|error| panic!("{side} {case}: {error}"));
        assert_eq!(merged.state, self.state, "{side} {case}");
        assert!(
            !merged.damage.is_empty() || merged.torn_bytes > 0,
            "{side} {case}: not a word"
        );
        let path = &self.image_of(side).path;
        let elsewhere = merged.damage.iter().find(|damage| damage.path != *path);
        assert_eq!(elsewhere, None, "{side} {case}");
        merged
    }

    fn image_of(&self, side: Side) -> &Image {
        match side {
            Side::A => &self.pair.a,
            Side::B => &self.pair.b,
        }
    }

    /// The state is whole, or the open is refused; says which.
    fn check_never_wrong(&self, case: &dyn std::fmt::Display) -> bool {
        match self.pair.merge() {
            Ok(merged) => assert_eq!(merged.state, self.state, "{case}"),
            Err(Error::Damaged(damage)) => {
                assert!(!damage.is_empty());
                return false;
            }
            Err(other) => panic!("{case}: {other}"),
        }
        true
    }
}

#[test]
fn whole_copies_are_without_damage() {
    let copies = copies();
    let merged = copies.pair.merge().unwrap();
    assert_eq!(merged.state, copies.state);
    assert_eq!((merged.damage, merged.torn_bytes), (vec![], 0));
    assert_eq!(merged.sequence, 6);
}

#[test]
fn every_byte_of_either_copy_changed() {
    let mut copies = copies();
    let mut rng = SeededRng::new(1);
    let (end, all) = (copies.end(), copies.pair.a.bytes.len());
    for side in Side::BOTH {
        // Every byte that was written, and some of those that are still to be.
        for at in (0..end).chain((end..all).step_by(777)) {
            let good = copies.image(side).bytes[at];
            let change = if rng.one_in(2) {
                0xff
            } else {
                1 << rng.below(8)
            };
            copies.image(side).bytes[at] = good ^ change;
            let merged = copies.check_healed(side, &at);
            let first = merged.damage.first();
            // Only of the last edit in B can one not tell that it isn't a crash's doing; and
            // of what follows it in A.
            let last = copies.places[copies.places.len() - 2];
            let torn =
                (side == Side::B && (last..end).contains(&at)) || (side == Side::A && at >= end);
            assert_eq!(first.is_none(), torn, "{side} {at}");
            if let Some(damage) = first {
                let place = copies.places.iter().rev().find(|place| **place <= at);
                assert_eq!(damage.offset, place.map_or(0, |place| *place as u64));
                assert!(damage.bytes > 0);
            }
            copies.image(side).bytes[at] = good;
        }
    }
}

#[test]
fn either_copy_cut_at_every_byte() {
    for side in Side::BOTH {
        let mut copies = copies();
        let (end, all) = (copies.end(), copies.pair.a.bytes.len());
        for cut in (end..all).rev().step_by(509).chain((0..end).rev()) {
            let image = copies.image(side);
            image.bytes.truncate(cut);
            image.file_bytes = cut as u64;
            let merged = copies.check_healed(side, &cut);
            assert_eq!(
                merged
                    .damage
                    .iter()
                    .filter(
                        |damage| damage.offset == cut as u64 && damage.bytes == (all - cut) as u64
                    )
                    .count(),
                1
            );
        }
    }
}

#[test]
fn every_unit_of_either_copy_lost() {
    let mut rng = SeededRng::new(2);
    let mut copies = copies();
    let (end, all) = (copies.end(), copies.pair.a.bytes.len());
    for side in Side::BOTH {
        for at in (0..all).step_by(UNIT) {
            let good = copies.image(side).bytes.clone();
            let unit = at..at + UNIT;
            // The disk can't read it.
            copies.image(side).bytes[unit.clone()].fill(0);
            copies.image(side).unreadable = vec![at];
            copies.check_healed(side, &format!("{at} unreadable"));
            copies.image(side).unreadable.clear();
            // It reads as zeros.
            if at < end {
                let merged = copies.pair.merge().unwrap();
                assert_eq!(merged.state, copies.state, "{side} {at} zeroed");
                let last = copies.places[copies.places.len() - 2];
                let silent = side == Side::B && at == last;
                assert_eq!(merged.damage.is_empty(), silent, "{side} {at} zeroed");
            }
            // It reads as garbage. In B, beyond the last edit, that can't be told from the ruins of
            // an edit that A has lost.
            copies.image(side).bytes[unit].copy_from_slice(&rng.bytes(UNIT));
            if side == Side::B && at >= end {
                assert!(!copies.check_never_wrong(&at));
            } else {
                copies.check_healed(side, &format!("{at} garbled"));
            }
            *copies.image(side) = Image {
                bytes: good,
                ..copies.image(side).clone()
            };
        }
    }
}

#[test]
fn the_same_byte_of_both_copies_changed_is_refused() {
    let mut copies = copies();
    for at in (0..copies.end()).step_by(3) {
        for side in Side::BOTH {
            copies.image(side).bytes[at] ^= 0x10;
        }
        let refused = !copies.check_never_wrong(&at);
        assert!(refused, "{at}");
        for side in Side::BOTH {
            copies.image(side).bytes[at] ^= 0x10;
        }
    }
}

#[test]
fn both_copies_damaged_anywhere_are_never_wrong() {
    let mut rng = SeededRng::new(3);
    let (mut healed, mut refused) = (0, 0);
    for round in 0..4_000 {
        let mut copies = copies_of(&COPIES);
        let mut done = Vec::new();
        for side in Side::BOTH {
            let end = copies.end();
            let image = copies.image(side);
            for _ in 0..=rng.below(2) {
                let at = rng.below(end as u64 + 5_000) as usize;
                match rng.below(5) {
                    0..3 => image.bytes[at.min(end)] ^= 1 << rng.below(8),
                    3 => {
                        let unit = at / UNIT * UNIT;
                        let garbage = rng.bytes(UNIT);
                        image.bytes[unit..unit + UNIT].copy_from_slice(&garbage);
                    }
                    _ => {
                        let unit = at / 512 * 512;
                        image.bytes[unit..unit + 512].fill(0);
                    }
                }
                done.push((side, at));
            }
        }
        // The last edit, bad in A and gone from B without a trace, is what a crash leaves too.
        let last = copies.places[copies.places.len() - 2];
        if copies.pair.b.bytes[last..].iter().all(|byte| *byte == 0) {
            continue;
        }
        match copies.check_never_wrong(&format!("{round} {done:?}")) {
            true => healed += 1,
            false => refused += 1,
        }
    }
    assert!(healed > 1000 && refused > 500, "{healed} {refused}");
}

static COPIES: std::sync::LazyLock<Copies> = std::sync::LazyLock::new(copies);

fn copies_of(copies: &Copies) -> Copies {
    Copies {
        pair: Pair {
            a: copies.pair.a.clone(),
            b: copies.pair.b.clone(),
            ..copies.pair
        },
        state: copies.state.clone(),
        places: copies.places.clone(),
    }
}

#[test]
fn both_copies_cut_are_whole_or_refused() {
    let ends = {
        let copies = &*COPIES;
        let around = |place: &usize| [place - 1, *place, place + 1, place + 40];
        let mut ends: Vec<_> = copies.places.iter().flat_map(around).collect();
        ends.extend([0, 9, 4095, 100_000, copies.pair.a.bytes.len()]);
        ends
    };
    for &a in &ends {
        for &b in &ends {
            let mut copies = copies_of(&COPIES);
            for (side, cut) in [(Side::A, a), (Side::B, b)] {
                let image = copies.image(side);
                image.bytes.truncate(cut);
                image.file_bytes = cut as u64;
            }
            let whole = copies.check_never_wrong(&format!("{a} {b}"));
            // One copy that can be looked into past the end of the log is enough.
            let enough = a.max(b) >= copies.end() + UNIT;
            assert_eq!(whole, enough, "{a} {b}");
        }
    }
}

#[test]
fn stray_bytes_in_unused_space_of_both_copies_harm_nobody() {
    let mut copies = copies();
    let at = copies.end() + 100;
    copies.pair.a.bytes[at + 9] = 1;
    for count in 1..=12 {
        copies.pair.b.bytes[at + count] = 1;
        let merged = copies.pair.merge();
        assert_eq!(merged.is_ok(), count <= 8, "{count}: {merged:?}");
        if let Ok(merged) = merged {
            assert_eq!(merged.state, copies.state);
            assert_eq!((merged.torn_bytes, merged.damage.len()), (110, 1));
        }
    }
}

#[test]
fn damage_is_healed_by_the_next_edit_and_named_until_then() {
    let memory = store(&small_edits());
    assert!(memory.flip_bit(file(1, Side::A), 2 * UNIT as u64 + 50, 3));
    let expected = Damage::new(
        &file(1, Side::A),
        2 * UNIT as u64,
        UNIT as u64,
        "edit 2: the frame's checksum is wrong; the other copy has it",
    );
    let before = memory.read_file(file(1, Side::A));
    for setup in [read_only(&memory), on(&memory), on(&memory)] {
        let (manifest, report) = Manifest::open(setup).unwrap();
        assert_eq!(report.damage, std::slice::from_ref(&expected));
        assert_eq!(report.torn_bytes, 0);
        assert_eq!(Some(manifest.state()), states(&small_edits()).last());
    }
    assert_eq!(verify(&memory, dir()).unwrap(), [expected]);
    assert_eq!(memory.read_file(file(1, Side::A)), before);
    let (mut manifest, _) = Manifest::open(on(&memory)).unwrap();
    manifest.apply(&flush(9, 1)).unwrap();
    assert_eq!(manifest.position(), (2, 5));
    assert_eq!(verify(&memory, dir()).unwrap(), []);
    assert_eq!(memory.file_names(dir()).len(), 2);
}

#[test]
fn a_missing_copy_is_healed_and_named() {
    for (side, what) in [(Side::A, "a"), (Side::B, "b")] {
        let memory = store(&small_edits());
        assert!(memory.remove_file(file(1, side)));
        let (manifest, report) = Manifest::open(on(&memory)).unwrap();
        assert_eq!(Some(manifest.state()), states(&small_edits()).last());
        let missing = Damage::new(&file(1, side), 0, 0, "the file is missing");
        assert_eq!(report.damage, [missing], "{what}");
    }
    let memory = store(&small_edits());
    memory.remove_file(file(1, Side::A));
    memory.flip_bit(file(1, Side::B), 3 * UNIT as u64, 0);
    assert!(matches!(
        Manifest::open(on(&memory)),
        Err(Error::Damaged(_))
    ));
}

#[test]
fn a_generation_without_its_base_is_never_passed_over() {
    let memory = store(&small_edits());
    let old = Side::BOTH.map(|side| memory.read_file(file(1, side)).unwrap());
    let (mut manifest, _) = Manifest::open(on(&memory)).unwrap();
    manifest.apply(&flush(9, 1)).unwrap();
    for (side, bytes) in Side::BOTH.into_iter().zip(old) {
        memory.write_file(file(1, side), bytes); // the removal was lost in a crash
        memory.flip_bit(file(2, side), UNIT as u64 + 5, 5);
    }
    for setup in [read_only(&memory), on(&memory)] {
        let error = Manifest::open(setup).unwrap_err();
        let Error::Damaged(damage) = error else {
            panic!("{error}");
        };
        assert_eq!(damage.len(), 2);
        assert_eq!(damage[0].path, file(2, Side::A));
        assert!(
            damage[0].what.starts_with("the state: "),
            "{}",
            damage[0].what
        );
    }
    assert_eq!(verify(&memory, dir()).unwrap().len(), 2);
}

//! The decision table, and two copies made one, for every combination of what can be found in them.

use super::*;
use crate::manifest::merge::Pair;
use crate::manifest::scan::Image;
use crate::manifest::table::{Found, TABLE, Verdict, decide};
use crate::types::UNIT;

fn is_valid(found: Found) -> bool {
    matches!(found, Found::Last | Found::More)
}

#[test]
fn every_combination_is_in_exactly_one_row() {
    let mut rows_used = vec![0; TABLE.len()];
    for a in Found::ALL {
        for b in Found::ALL {
            for agree in [false, true] {
                let rows = TABLE.iter().enumerate();
                let rows: Vec<_> = rows.filter(|(_, row)| row.is_for(a, b, agree)).collect();
                assert_eq!(rows.len(), 1, "{a:?} {b:?} {agree}");
                let (number, row) = rows[0];
                assert_eq!(decide(a, b, agree), row.verdict);
                rows_used[number] += 1;
                if !(is_valid(a) && is_valid(b)) {
                    assert_eq!(row.verdict, decide(a, b, !agree));
                }
            }
        }
    }
    assert!(rows_used.iter().all(|used| *used > 0), "{rows_used:?}");
    // Every combination is in the rows, and none beside them.
    assert_eq!(rows_used.iter().sum::<usize>(), 6 * 6 * 2);
}

#[test]
fn the_table_keeps_its_promises() {
    use Verdict::*;
    for a in Found::ALL {
        for b in Found::ALL {
            for agree in [false, true] {
                let verdict = decide(a, b, agree);
                let case = format!("{a:?} {b:?} {agree}: {verdict:?}");
                let kept = matches!(verdict, Keep | KeepTornB | KeepHealB | KeepHealA);
                // What is kept is held by the copy that it is taken from.
                match verdict {
                    Keep | KeepTornB | KeepHealB => assert!(is_valid(a), "{case}"),
                    KeepHealA => assert!(is_valid(b) && !is_valid(a), "{case}"),
                    _ => {}
                }
                // What is held is kept, unless the copies contradict each other.
                let contradiction = is_valid(a) && is_valid(b) && !agree;
                if is_valid(a) || is_valid(b) {
                    assert_eq!(kept, !contradiction, "{case}");
                }
                // What may have been acknowledged is never left out in silence.
                let later = a == Found::Followed || b == Found::Followed;
                let in_b = matches!(b, Found::Bytes);
                let nothing_known = a != Found::Blank && b == Found::Lost;
                if !kept && (later || in_b || nothing_known) {
                    assert_eq!(verdict, Damaged, "{case}");
                }
                // One whole copy that never began it is enough to end the log.
                if b == Found::Blank && !is_valid(a) && a != Found::Followed {
                    assert!(matches!(verdict, End | Torn), "{case}");
                }
            }
        }
    }
}

/// What is made of one edit in one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Good,
    Zero,
    Garbage,
    /// The file ends before it.
    Cut,
}

/// All that can be made of three edits in one copy: what follows a cut is cut.
fn all_made() -> Vec<[Made; 3]> {
    use Made::*;
    let each = [Good, Zero, Garbage, Cut];
    let mut all = Vec::new();
    for first in each {
        for second in each {
            for third in each {
                let made = [first, second, third];
                let cut = made.iter().position(|made| *made == Cut).unwrap_or(3);
                if made[cut..].iter().all(|made| *made == Cut) {
                    all.push(made);
                }
            }
        }
    }
    all
}

/// Where edit 0, 1 or 2 stands: each takes a unit, after those of header and state.
fn place(edit: usize) -> usize {
    (2 + edit) * UNIT
}

fn image(bytes: &[u8], side: Side, made: [Made; 3]) -> Image {
    let mut bytes = bytes.to_vec();
    let file_bytes = match made.iter().position(|made| *made == Made::Cut) {
        Some(edit) => place(edit),
        None => bytes.len(),
    };
    for (edit, made) in made.into_iter().enumerate() {
        let unit = &mut bytes[place(edit)..place(edit) + UNIT];
        match made {
            Made::Good => {}
            Made::Garbage => unit.fill(0x5a),
            Made::Zero | Made::Cut => unit.fill(0),
        }
    }
    bytes.truncate(file_bytes);
    Image {
        path: file(1, side),
        present: true,
        bytes,
        file_bytes: file_bytes as u64,
        unreadable: vec![],
    }
}

/// How many edits must be found, from what the copies prove rather than from the table; `None` if
/// the open must be refused.
fn expected(a: [Made; 3], b: [Made; 3]) -> Option<usize> {
    use Made::*;
    let bytes = |made: Made| matches!(made, Good | Garbage);
    let held = |edit: usize| a[edit] == Good || b[edit] == Good;
    // The last edit that both copies must have held once. Bytes after a bad edit in A can be part of
    // it: an edit can take several units.
    let proved = (0..3).rev().find(|&edit| {
        let in_b = b[edit..].iter().any(|made| bytes(*made));
        let after = &a[edit + 1..];
        let begun_in_a = a[edit] == Good && after.iter().any(|made| bytes(*made));
        in_b || begun_in_a || after.contains(&Good)
    });
    let proved = proved.map_or(0, |edit| edit + 1);
    if !(0..proved).all(held) {
        return None;
    }
    // Beyond that A may hold one more. Where neither copy can be looked into, nothing is known.
    let count = proved + usize::from(a.get(proved) == Some(&Good));
    let begun_in_a = match &a[count..] {
        [] => return Some(count),
        [first, rest @ ..] => *first != Zero || rest.contains(&Garbage),
    };
    (!begun_in_a || b[count] != Cut).then_some(count)
}

#[test]
fn every_combination_of_edits_lost_in_two_copies() {
    let edits = small_edits();
    let states = states(&edits);
    let memory = store(&edits);
    let bytes = memory.read_file(file(1, Side::A)).unwrap();
    assert_eq!(memory.read_file(file(1, Side::B)).unwrap(), bytes);
    let (mut kept, mut refused) = (0, 0);
    for made_a in all_made() {
        for made_b in all_made() {
            let pair = Pair {
                generation: 1,
                a: image(&bytes, Side::A, made_a),
                b: image(&bytes, Side::B, made_b),
                older: false,
            };
            let case = format!("{made_a:?} {made_b:?}");
            match (pair.merge(), expected(made_a, made_b)) {
                (Ok(merged), Some(count)) => {
                    assert_eq!(merged.state, states[count], "{case}");
                    assert_eq!(merged.sequence, count as u64 + 1, "{case}");
                    let whole = [Made::Good; 3];
                    let clean = merged.damage.is_empty() && merged.torn_bytes == 0;
                    assert_eq!(clean, is_clean(made_a, made_b), "{case}: {merged:?}");
                    assert!(clean || (made_a, made_b) != (whole, whole));
                    kept += 1;
                }
                (Err(Error::Damaged(damage)), None) => {
                    assert!(!damage.is_empty());
                    refused += 1;
                }
                (merged, expected) => panic!("{case}: {merged:?}, not {expected:?}"),
            }
        }
    }
    assert_eq!(
        (kept + refused, kept > 0, refused > 0),
        (40 * 40, true, true)
    );
}

/// Whether a crash at some moment leaves exactly this: some edits in both, then perhaps one in A.
fn is_clean(a: [Made; 3], b: [Made; 3]) -> bool {
    let count = |made: [Made; 3]| {
        let good = made.iter().take_while(|made| **made == Made::Good).count();
        let rest = made[good..].iter().all(|made| *made == Made::Zero);
        rest.then_some(good)
    };
    match (count(a), count(b)) {
        (Some(a), Some(b)) => a == b || a == b + 1,
        _ => false,
    }
}

#[test]
fn copies_that_contradict_each_other_are_refused() {
    let memory = store(&small_edits());
    let other = disk();
    // The same file id and length, as the entropy is seeded; another state, or another last edit.
    let mut state = empty_state();
    state.created_us += 1;
    Manifest::create(on(&other), state).unwrap();
    let theirs = other.read_file(file(1, Side::B)).unwrap();
    let mut edits = small_edits();
    edits[2] = flush(8, 5);
    let late = store(&edits).read_file(file(1, Side::B)).unwrap();
    for (theirs, says) in [(theirs, "about the state"), (late, "about edit 4")] {
        let memory = memory.fork();
        memory.write_file(file(1, Side::B), &theirs);
        let error = Manifest::open(on(&memory)).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    // Another file id.
    let other = disk();
    let mut setup = on(&other);
    setup.entropy = Arc::new(SeededEntropy::new(8));
    Manifest::create(setup, empty_state()).unwrap();
    let theirs = other.read_file(file(1, Side::B)).unwrap();
    memory.write_file(file(1, Side::B), theirs);
    let error = Manifest::open(on(&memory)).unwrap_err();
    assert!(error.to_string().contains("belong together"), "{error}");
}

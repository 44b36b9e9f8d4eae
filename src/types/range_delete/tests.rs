use super::*;
use crate::types::Index;

fn version(index: u64) -> Version {
    Version::newest_at(Index(index))
}

fn delete(from: &'static str, to: Option<&'static str>, index: u64) -> RangeDelete {
    RangeDelete {
        from: from.into(),
        to: to.map(Into::into),
        version: version(index),
    }
}

/// What the deletions say one by one.
fn plain(all: &[RangeDelete], key: &[u8], at: Version) -> Option<Version> {
    let covering = all.iter().filter(|one| one.covers(key));
    let seen = covering.map(|one| one.version).filter(|v| *v <= at);
    seen.max()
}

fn random(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |n| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % n
    }
}

/// Every small set of deletions against the plain answer: the newest that covers the key.
#[test]
fn answers_what_the_deletions_one_by_one_say() {
    const KEYS: [&str; 6] = ["", "b", "c", "d", "e", "zz"];
    let mut next = random(7);
    for round in 0..3_000 {
        let all: Vec<RangeDelete> = (0..next(6))
            .map(|_| {
                let to = KEYS.get(next(KEYS.len() + 1)).copied();
                delete(KEYS[next(KEYS.len())], to, next(5) as u64 + 1)
            })
            .collect();
        let cut = RangeDeletes::new(all.clone());
        let (lower, upper) = (Bytes::from(KEYS[next(6)]), Bytes::from(KEYS[next(6)]));
        let (steps, _) = Steps::of(&cut.all());
        let part: Vec<_> = steps.within(Some(&lower), Some(&upper)).collect();
        for pair in part.windows(2) {
            assert!(pair[0].to.as_ref().is_some_and(|to| *to <= pair[1].from));
        }
        let part = RangeDeletes::new(part);
        for key in ["", "a", "b", "bb", "c", "cc", "d", "e", "f", "zz", "zzz"] {
            let key = key.as_bytes();
            for at in 0..7 {
                let wanted = plain(&all, key, version(at));
                let found = cut.newest(key, version(at));
                assert_eq!(found, wanted, "round {round}, {key:?} at {at}: {all:?}");
            }
            let inside = lower.as_ref() <= key && key < upper.as_ref();
            let wanted = plain(&all, key, Version::MAX).filter(|_| inside);
            let found = part.newest(key, Version::MAX);
            assert_eq!(found, wanted, "{key:?} of {lower:?} to {upper:?}");
        }
    }
}

/// Many at once, in order or not, on one another or not, as they grow and when they are settled: the answer
/// for a key, and for all keys of its stretch.
#[test]
fn runs_of_runs_answer_the_same() {
    let key = |n: usize| Bytes::copy_from_slice(&(n as u16).to_be_bytes());
    let mut next = random(5);
    for round in 0..24 {
        let (keys, count) = ([8, 60, 3_000][round % 3], [40, 200, 700][next(3)]);
        let (mut grown, mut all) = (RangeDeletes::default(), Vec::new());
        for n in 0..count {
            let from = next(keys);
            let to = match round % 4 {
                0 => from + 1,
                1 => from + next(keys),
                2 => keys - from.min(n * keys / count),
                _ => next(keys + 1),
            };
            let index = if round < 12 { n } else { next(count) };
            let one = RangeDelete {
                from: key(from),
                to: (to < keys).then(|| key(to)),
                version: Version {
                    index: Index(index as u64 + 1),
                    position: next(2) as u32,
                },
            };
            grown.push(one.clone());
            all.extend(Some(one).filter(|one| !one.is_empty()));
            if next(count) > 20 && n + 1 < count {
                continue;
            }
            let settled = RangeDeletes::new(all.iter().cloned());
            for _ in 0..20 {
                let (asked, near) = (key(next(keys + 1)), key(next(keys + 1)));
                let at = [Version::MAX, version(next(n + 2) as u64)][next(2)];
                let wanted = plain(&all, &asked, at);
                for deletes in [&grown, &settled] {
                    let stretch = deletes.stretch(&asked, at);
                    assert_eq!(stretch.newest, wanted, "round {round}, {asked:?} at {at:?}");
                    let is_in =
                        |key: &[u8]| stretch.from <= key && stretch.to.is_none_or(|to| key < to);
                    assert!(is_in(&asked));
                    if is_in(&near) {
                        assert_eq!(plain(&all, &near, at), wanted, "{stretch:?}, {near:?}");
                    }
                }
            }
        }
        let firsts = all.iter().map(|one| &one.from);
        assert_eq!(grown.first_key(), firsts.min());
        assert_eq!(Steps::of(&grown.all()).0, Steps::of(&all).0);
    }
}

/// 10,000 that lie on one another took 50 million versions.
#[test]
fn memory_grows_with_their_number_however_they_lie() {
    const COUNT: usize = 10_000;
    let key = |n: usize| Bytes::from(format!("{n:08}"));
    type Shape = fn(usize) -> (usize, Option<usize>);
    let shapes: [(&str, Shape, usize); 5] = [
        ("rising", |n| (0, Some(n + 1)), 2),
        ("falling", |n| (0, Some(COUNT - n)), 8),
        ("inwards", |n| (n, Some(2 * COUNT - n)), 14),
        ("disjoint", |n| (2 * n, Some(2 * n + 1)), 3),
        (
            "scattered",
            |n| (n * 7_919 % COUNT, Some(n * 7_919 % COUNT + n)),
            14,
        ),
    ];
    for (name, shape, held_each) in shapes {
        let mut deletes = RangeDeletes::default();
        for n in 0..COUNT {
            let (from, to) = shape(n);
            deletes.push(RangeDelete {
                from: key(from),
                to: to.map(key),
                version: version(n as u64 + 1),
            });
        }
        let settled = RangeDeletes::new(deletes.all());
        for deletes in [&deletes, &settled] {
            let held = deletes.runs.iter().map(|run| run.held()).sum::<usize>();
            assert!(
                held <= held_each * COUNT,
                "{name}: {held} steps and deletions"
            );
            let bytes = deletes.bytes();
            assert!(bytes <= 1_000 * COUNT, "{name}: {bytes} bytes");
            assert!(deletes.runs.len() <= 15, "{name}: {}", deletes.runs.len());
        }
        assert_eq!(Steps::of(&settled.all()).0, Steps::of(&deletes.all()).0);
    }
}

#[test]
fn neighbours_that_say_the_same_are_one() {
    let cut = RangeDeletes::new([delete("a", Some("c"), 1), delete("c", None, 1)]);
    assert_eq!(cut.all(), [delete("a", None, 1)]);
    assert!(RangeDeletes::new([delete("c", Some("c"), 1), delete("c", Some("a"), 1)]).is_empty());
}

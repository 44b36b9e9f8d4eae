//! Compares a store with its model. A wrong answer panics; an error is handed back.

use std::ops::Bound;

use kintsu::{Db, Durability, Keyspace, Range, ReadView, Result};

use super::model::{Model, Pair};

/// What a reopened store must have kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survived {
    ProcessDeath,
    PowerLoss,
}

impl Survived {
    pub fn floor(self, model: &Model) -> u64 {
        match self {
            Self::ProcessDeath => model.process,
            Self::PowerLoss => model.disk,
        }
    }
}

/// Settles which records a just opened store has, and checks all of it.
pub fn recovered(db: &Db, model: &mut Model, survived: Survived) -> Result<()> {
    let last = db.last_index().0;
    let floor = survived.floor(model);
    assert!(
        floor <= last,
        "{survived:?}: record {last} is the newest, though {floor} was acknowledged"
    );
    assert!(
        last <= model.last_possible(),
        "record {last} was never written; the newest was {}",
        model.last_possible()
    );
    model.reopened_at(last);
    whole(db, model)
}

/// Everything there is, by every way of reading it.
pub fn whole(db: &Db, model: &Model) -> Result<()> {
    let at = model.last;
    assert_eq!(db.last_index().0, at, "the newest visible record");
    let view = db.view();
    assert_eq!(view.index().0, at);
    let mut names: Vec<&str> = model
        .live(at)
        .into_iter()
        .map(|place| model.keyspaces[place].name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(db.keyspaces(), names, "the names of the keyspaces");
    for place in model.live(at) {
        let keyspace = db.keyspace(&model.keyspaces[place].name)?;
        keyspace_at(&view, &keyspace, model, place, at)?;
        for key in model.known_keys(place) {
            let (found, expected) = (keyspace.get(key)?, model.get(place, key, at));
            if found.as_deref() != expected.as_deref() {
                let (found, expected) = (found.as_deref().map(tag), expected.as_deref().map(tag));
                panic!(
                    "{found:?} instead of {expected:?}: {key:?} in {}",
                    keyspace.name()
                );
            }
        }
    }
    Ok(())
}

/// One keyspace as a view shows it, forward and in reverse.
pub fn keyspace_at(
    view: &ReadView,
    keyspace: &Keyspace,
    model: &Model,
    place: usize,
    at: u64,
) -> Result<()> {
    let expected = model.scan(place, Bound::Unbounded, Bound::Unbounded, at);
    let forward = collect(view.range_in(keyspace, ..)?)?;
    assert_pairs(&forward, &expected, "forward");
    let mut reverse = collect_back(view.range_in(keyspace, ..)?)?;
    reverse.reverse();
    assert_pairs(&reverse, &expected, "in reverse");
    Ok(())
}

pub fn collect(range: Range) -> Result<Vec<Pair>> {
    range
        .map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())))
        .collect()
}

pub fn collect_back(range: Range) -> Result<Vec<Pair>> {
    range
        .rev()
        .map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())))
        .collect()
}

/// As `assert_eq`, with the values shortened to what tells them apart.
#[track_caller]
pub fn assert_pairs(found: &[Pair], expected: &[Pair], how: &str) {
    if found == expected {
        return;
    }
    let short = |pairs: &[Pair]| -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs.map(|(k, v)| (tag(k), tag(v))).collect()
    };
    let (found, expected) = (short(found), short(expected));
    let missing: Vec<_> = expected.iter().filter(|p| !found.contains(p)).collect();
    let wrong: Vec<_> = found.iter().filter(|p| !expected.contains(p)).collect();
    panic!(
        "{how}: {} pairs instead of {}; missing {missing:?}; wrong {wrong:?}",
        found.len(),
        expected.len()
    );
}

/// The beginning of a key or value, enough to tell it from others.
pub fn tag(bytes: &[u8]) -> String {
    let short = &bytes[..bytes.len().min(24)];
    format!("{}#{}", short.escape_ascii(), bytes.len())
}

/// Whether a write with this durability survives that.
pub fn survives(durability: Durability, survived: Survived) -> bool {
    match survived {
        Survived::ProcessDeath => durability >= Durability::Process,
        Survived::PowerLoss => durability >= Durability::Disk,
    }
}

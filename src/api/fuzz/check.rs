//! Compares a store with its model. A wrong answer panics; an error is handed back.

use std::ops::Bound;

use super::key_of;
use super::model::{Model, State, within};
use super::{KEYS, OTHER};
use crate::api::{Db, Range, ReadView};
use crate::error::Result;

type Pair = (Vec<u8>, Vec<u8>);

pub(super) fn collect(range: Range) -> Result<Vec<Pair>> {
    range
        .map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())))
        .collect()
}

fn collect_back(range: Range) -> Result<Vec<Pair>> {
    let all: Result<Vec<Pair>> = range
        .rev()
        .map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())))
        .collect();
    all.map(|mut all| {
        all.reverse();
        all
    })
}

/// Everything that a just opened, or idle, store holds.
pub(super) fn whole(db: &Db, state: &State) -> Result<()> {
    let mut names = vec!["default"];
    names.extend(state.other.iter().map(|_| OTHER));
    assert_eq!(db.keyspaces(), names, "the keyspaces");
    view(db, &db.view(), state)?;
    for in_other in [false, true] {
        let Some(pairs) = state.pairs(in_other) else {
            continue;
        };
        let keyspace = db.keyspace(if in_other { OTHER } else { "default" })?;
        for number in 0..KEYS {
            let key = key_of(number);
            let found = keyspace.get(&key)?;
            assert_eq!(
                found.as_deref(),
                pairs.get(&key).map(Vec::as_slice),
                "{key:?}"
            );
        }
    }
    Ok(())
}

/// Everything as a view shows it, from the front and from the back.
pub(super) fn view(db: &Db, view: &ReadView, state: &State) -> Result<()> {
    for in_other in [false, true] {
        let Some(pairs) = state.pairs(in_other) else {
            continue;
        };
        let Ok(keyspace) = db.keyspace(if in_other { OTHER } else { "default" }) else {
            // Dropped since.
            continue;
        };
        let all = within(pairs, &Bound::Unbounded, &Bound::Unbounded);
        same(&collect(view.range_in(&keyspace, ..)?)?, &all);
        same(&collect_back(view.range_in(&keyspace, ..)?)?, &all);
    }
    Ok(())
}

/// As `assert_eq`, with the values cut to what tells them apart.
pub(super) fn same(found: &[Pair], expected: &[Pair]) {
    if found == expected {
        return;
    }
    let short = |pairs: &[Pair]| -> Vec<(String, String)> {
        let tag = |bytes: &[u8]| format!("{}", bytes[..bytes.len().min(12)].escape_ascii());
        let pairs = pairs.iter();
        pairs.map(|(key, value)| (tag(key), tag(value))).collect()
    };
    panic!("found {:?}, expected {:?}", short(found), short(expected));
}

/// Whatever happened to the files: no value that its key was never given.
pub(super) fn nothing_invented(db: &Db, model: &Model) -> Result<()> {
    for name in db.keyspaces() {
        // (A salvage that has lost its name gives it another.)
        let in_other = name != crate::engine::DEFAULT_KEYSPACE;
        for (key, value) in collect(db.keyspace(&name)?.range(..)?)? {
            let written = model.was_written(in_other, &key, &value);
            assert!(written, "{key:?} = {value:?} was never written");
        }
    }
    Ok(())
}

//! Whether what a damaged store answers is right, or an honest refusal.

use std::collections::BTreeSet;

use super::Damaged;
use crate::api::fuzz::model::{Pairs, State};
use crate::api::fuzz::{KEYS, OTHER, key_of};
use crate::api::{Db, Keyspace};
use crate::error::{Error, Result};

/// Why something was refused, if it was.
#[derive(Default)]
pub(super) struct Refused {
    pub(super) count: usize,
    pub(super) first: Option<Error>,
}

impl Damaged {
    /// A refusal needs a reason, and names it.
    pub(super) fn excuse(&self, error: &Error, what: &str) {
        let named = |path: &std::path::Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            self.changed.contains(&*name)
        };
        let is_honest = match error {
            Error::Damaged(damage) => damage.iter().any(|one| named(&one.path)),
            Error::ForeignFile { path, .. } | Error::NewerFormat { path, .. } => named(path),
            Error::Io { path, .. } => self.is_worn && named(path),
            _ => false,
        };
        assert!(is_honest, "{what}, {:?} damaged: {error:?}", self.changed);
    }

    /// Everything there is, from the front, from the back, and by key. What is answered is right.
    pub(super) fn read(&self, db: &Db, state: &State) -> Refused {
        let mut refused = Refused::default();
        let mut names = vec!["default"];
        names.extend(state.other.iter().map(|_| OTHER));
        assert_eq!(db.keyspaces(), names, "the keyspaces, {:?}", self.changed);
        for in_other in [false, true] {
            let Some(pairs) = state.pairs(in_other) else {
                continue;
            };
            let name = if in_other { OTHER } else { "default" };
            let keyspace = db.keyspace(name).expect("it was listed");
            self.keyspace(&keyspace, pairs, &mut refused);
        }
        refused
    }

    fn note(&self, refused: &mut Refused, error: Error, what: &str) {
        self.excuse(&error, what);
        refused.count += 1;
        refused.first.get_or_insert(error);
    }

    fn keyspace(&self, keyspace: &Keyspace, pairs: &Pairs, refused: &mut Refused) {
        for number in 0..KEYS {
            let key = key_of(number);
            match keyspace.get(&key) {
                Ok(found) => self.same(&key, found.as_deref(), pairs.get(&key)),
                Err(error) => self.note(refused, error, "a read"),
            }
        }
        let mut expected = pairs.iter().map(|(key, value)| (&key[..], &value[..]));
        if let Err(error) = self.walk(keyspace, &mut expected, false) {
            self.note(refused, error, "a walk");
        }
        let mut expected = pairs.iter().rev();
        let mut expected = expected.by_ref().map(|(key, value)| (&key[..], &value[..]));
        if let Err(error) = self.walk(keyspace, &mut expected, true) {
            self.note(refused, error, "a walk in reverse");
        }
    }

    fn same(&self, key: &[u8], found: Option<&[u8]>, expected: Option<&Vec<u8>>) {
        let expected = expected.map(Vec::as_slice);
        let tag = |value: Option<&[u8]>| {
            value.map(|value| value[..value.len().min(12)].escape_ascii().to_string())
        };
        assert!(
            found == expected,
            "{:?} damaged: {} is {:?}, and was {:?}",
            self.changed,
            key[..key.len().min(20)].escape_ascii(),
            tag(found),
            tag(expected),
        );
    }

    /// Until its end, or until it is refused.
    fn walk<'a>(
        &self,
        keyspace: &Keyspace,
        expected: &mut dyn Iterator<Item = (&'a [u8], &'a [u8])>,
        is_reverse: bool,
    ) -> Result<()> {
        let mut range = keyspace.range(..)?;
        loop {
            let item = match is_reverse {
                false => range.next(),
                true => range.next_back(),
            };
            let found = item.transpose()?;
            let found = found.as_ref().map(|(key, value)| (&key[..], &value[..]));
            let expected = expected.next();
            assert!(
                found == expected,
                "{:?} damaged: a walk shows {:?} instead of {:?}",
                self.changed,
                found.map(|(key, _)| key.escape_ascii().to_string()),
                expected.map(|(key, _)| key.escape_ascii().to_string()),
            );
            if found.is_none() {
                return Ok(());
            }
        }
    }

    /// Opens it and reads everything: how much of that is refused, or why all is. `floor` is the least that the store
    /// ends with.
    pub(super) fn open(&self) -> Result<Db> {
        let before = self.files();
        match self.options().open() {
            Ok(db) => {
                let last = db.last_index().0;
                assert!(
                    (self.floor()..=self.model.last()).contains(&last),
                    "{:?} damaged: {last} is left of {}",
                    self.changed,
                    self.model.last()
                );
                Ok(db)
            }
            Err(error) => {
                self.excuse(&error, "the open");
                assert!(before == self.files(), "a refused open has changed files");
                Err(error)
            }
        }
    }

    /// Whether all that a store shows was once written to it.
    pub(super) fn nothing_invented(&self, db: &Db) -> Result<()> {
        crate::api::fuzz::check::nothing_invented(db, &self.model)
    }

    pub(super) fn changed(&self) -> &BTreeSet<String> {
        &self.changed
    }
}

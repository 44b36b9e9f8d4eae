//! What the store must hold: every version of every key, and what was promised of it.
//!
//! A record's number is its index in the store's log: 1, 2, 3 …, without gaps. Promises are prefixes:
//! a record can't be more durable than those before it.

use std::collections::BTreeMap;
use std::ops::Bound;

use kintsu::Durability;

/// A key with its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// One operation of a batch. The keyspace is a place in [`Model::keyspaces`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub keyspace: usize,
    pub key: Vec<u8>,
    /// `None` deletes.
    pub value: Option<Vec<u8>>,
}

/// What one log record does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Batch(Vec<Change>),
    Create(String),
    Drop(usize),
}

/// Versions of one key, oldest first: the record that wrote it, and its value unless it was deleted.
type Versions = Vec<(u64, Option<Vec<u8>>)>;

/// A keyspace that is, or was, there.
#[derive(Clone, Debug)]
pub struct Keyspace {
    pub name: String,
    created: u64,
    dropped: Option<u64>,
    keys: BTreeMap<Vec<u8>, Versions>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Model {
    /// The default one first. Places don't change until a cut takes the newest away.
    pub keyspaces: Vec<Keyspace>,
    /// The newest record that was acknowledged.
    pub last: u64,
    /// Records through this one survive the death of the process.
    pub process: u64,
    /// Records through this one survive the loss of power.
    pub disk: u64,
    /// Records whose outcome is unknown: a reopened store may have the first few of them.
    pub maybe: Vec<Record>,
}

impl Default for Model {
    fn default() -> Self {
        let default = Keyspace {
            name: "default".into(),
            created: 0,
            dropped: None,
            keys: BTreeMap::new(),
        };
        Self {
            keyspaces: vec![default],
            last: 0,
            process: 0,
            disk: 0,
            maybe: Vec::new(),
        }
    }
}

impl Model {
    /// A record was acknowledged with this durability.
    pub fn acknowledge(&mut self, record: &Record, durability: Durability) {
        assert!(
            self.maybe.is_empty(),
            "acknowledged after an unknown outcome"
        );
        self.apply(record);
        self.promise(durability);
    }

    /// Everything so far has this durability.
    pub fn promise(&mut self, durability: Durability) {
        if durability >= Durability::Process {
            self.process = self.last;
        }
        if durability >= Durability::Disk {
            self.disk = self.last;
        }
    }

    fn apply(&mut self, record: &Record) {
        self.last += 1;
        let index = self.last;
        match record {
            Record::Batch(changes) => {
                for change in changes {
                    let keyspace = &mut self.keyspaces[change.keyspace];
                    let versions = keyspace.keys.entry(change.key.clone()).or_default();
                    match versions.last_mut() {
                        Some(last) if last.0 == index => last.1 = change.value.clone(),
                        _ => versions.push((index, change.value.clone())),
                    }
                }
            }
            Record::Create(name) => self.keyspaces.push(Keyspace {
                name: name.clone(),
                created: index,
                dropped: None,
                keys: BTreeMap::new(),
            }),
            Record::Drop(place) => self.keyspaces[*place].dropped = Some(index),
        }
    }

    /// The store was opened again and says that `last` is its newest record: records after it are
    /// gone, and what is there now has been read from the disk and stays.
    pub fn reopened_at(&mut self, last: u64) {
        for record in std::mem::take(&mut self.maybe) {
            if self.last < last {
                self.apply(&record);
            }
        }
        assert!(
            last <= self.last,
            "the store has records that were never written"
        );
        self.keyspaces.retain(|keyspace| keyspace.created <= last);
        for keyspace in &mut self.keyspaces {
            keyspace.dropped = keyspace.dropped.filter(|dropped| *dropped <= last);
            keyspace.keys.retain(|_, versions| {
                versions.retain(|(index, _)| *index <= last);
                !versions.is_empty()
            });
        }
        self.last = last;
        self.process = last;
        self.disk = last;
    }

    /// The newest record that a reopened store can have.
    pub fn last_possible(&self) -> u64 {
        self.last + self.maybe.len() as u64
    }

    pub fn is_live(&self, place: usize, at: u64) -> bool {
        let keyspace = &self.keyspaces[place];
        keyspace.created <= at && keyspace.dropped.is_none_or(|dropped| dropped > at)
    }

    /// The keyspaces there are at a record.
    pub fn live(&self, at: u64) -> Vec<usize> {
        (0..self.keyspaces.len())
            .filter(|place| self.is_live(*place, at))
            .collect()
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        let found = |place: &usize| self.keyspaces[*place].name == name;
        self.live(self.last).into_iter().find(found)
    }

    pub fn get(&self, place: usize, key: &[u8], at: u64) -> Option<&[u8]> {
        newest(self.keyspaces[place].keys.get(key)?, at)
    }

    /// Every key that was ever written.
    pub fn known_keys(&self, place: usize) -> impl Iterator<Item = &Vec<u8>> {
        self.keyspaces[place].keys.keys()
    }

    pub fn scan(
        &self,
        place: usize,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
        at: u64,
    ) -> Vec<Pair> {
        let inside = |key: &[u8]| {
            let above = match lower {
                Bound::Included(lower) => key >= lower,
                Bound::Excluded(lower) => key > lower,
                Bound::Unbounded => true,
            };
            above
                && match upper {
                    Bound::Included(upper) => key <= upper,
                    Bound::Excluded(upper) => key < upper,
                    Bound::Unbounded => true,
                }
        };
        let keys = self.keyspaces[place].keys.iter();
        keys.filter(|(key, _)| inside(key))
            .filter_map(|(key, versions)| Some((key.clone(), newest(versions, at)?.to_vec())))
            .collect()
    }

    pub fn scan_prefix(&self, place: usize, prefix: &[u8], at: u64) -> Vec<Pair> {
        let mut all = self.scan(place, Bound::Unbounded, Bound::Unbounded, at);
        all.retain(|(key, _)| key.starts_with(prefix));
        all
    }
}

fn newest(versions: &[(u64, Option<Vec<u8>>)], at: u64) -> Option<&[u8]> {
    let newest = versions.iter().rev().find(|(index, _)| *index <= at)?;
    newest.1.as_deref()
}

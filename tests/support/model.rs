//! What the store must hold: every version of every key, and what was promised of it.
//!
//! A record's number is its index in the store's log: 1, 2, 3 …, without gaps. Promises are prefixes:
//! a record can't be more durable than those before it.

use std::collections::BTreeMap;
use std::ops::Bound;

use kintsu::Durability;

/// A key with its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// What an operation does to its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Put(Vec<u8>),
    Delete,
    /// Every keyspace appends.
    Merge(Vec<u8>),
    /// Microseconds to live, value.
    PutExpiring(u64, Vec<u8>),
    /// All keys from the operation's key to this one, not included, or to the end.
    DeleteTo(Option<Vec<u8>>),
}

/// One operation of a batch. The keyspace is a place in [`Model::keyspaces`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub keyspace: usize,
    pub key: Vec<u8>,
    pub effect: Effect,
}

/// What one log record does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Batch(Vec<Change>),
    /// Puts of ascending keys in one keyspace.
    Load(Vec<Change>),
    Create(String),
    Drop(usize),
}

/// What was done to one key, oldest first: by which record, and what; of deletions of ranges those that
/// came after something else.
type Versions = Vec<(u64, Effect)>;

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
    pub maybe: Vec<(Record, u64)>,
    /// What the machine's clock says, in microseconds: the time of the next record, at least.
    pub clock_us: u64,
    /// The time of each record; of 0, which is none, as well.
    times: Vec<u64>,
    /// Every record, the first one at 0.
    pub records: Vec<Record>,
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
            clock_us: 0,
            times: vec![0],
            records: Vec::new(),
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
        self.apply(record, self.next_time());
        self.promise(durability);
    }

    /// Whether a record is in the log isn't known.
    pub fn doubt(&mut self, record: Record) {
        self.maybe.push((record, self.next_time()));
    }

    /// Records' times never go back.
    fn next_time(&self) -> u64 {
        self.clock_us.max(self.time(self.last))
    }

    fn time(&self, at: u64) -> u64 {
        self.times[at as usize]
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

    /// Record `index` has been shown to a subscriber: it stays, and so does all before it.
    pub fn shown(&mut self, index: u64) {
        assert!(index <= self.last, "record {index} was never written");
        self.process = self.process.max(index);
        self.disk = self.disk.max(index);
    }

    /// A record and its time.
    pub fn record(&self, index: u64) -> (&Record, u64) {
        (&self.records[index as usize - 1], self.time(index))
    }

    fn apply(&mut self, record: &Record, time_us: u64) {
        self.last += 1;
        self.times.push(time_us);
        self.records.push(record.clone());
        let index = self.last;
        match record {
            Record::Batch(changes) | Record::Load(changes) => {
                for change in changes {
                    self.keyspaces[change.keyspace].change(index, change);
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
        for (record, time_us) in std::mem::take(&mut self.maybe) {
            if self.last < last {
                self.apply(&record, time_us);
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
        self.times.truncate(last as usize + 1);
        self.records.truncate(last as usize);
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

    pub fn get(&self, place: usize, key: &[u8], at: u64) -> Option<Vec<u8>> {
        let versions = self.keyspaces[place].keys.get(key)?;
        newest(versions, at, &self.times)
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
            .filter_map(|(key, versions)| {
                let value = newest(versions, at, &self.times)?;
                Some((key.clone(), value))
            })
            .collect()
    }

    pub fn scan_prefix(&self, place: usize, prefix: &[u8], at: u64) -> Vec<Pair> {
        let mut all = self.scan(place, Bound::Unbounded, Bound::Unbounded, at);
        all.retain(|(key, _)| key.starts_with(prefix));
        all
    }
}

impl Keyspace {
    fn change(&mut self, index: u64, change: &Change) {
        let Effect::DeleteTo(to) = &change.effect else {
            let versions = self.keys.entry(change.key.clone()).or_default();
            versions.push((index, change.effect.clone()));
            return;
        };
        for (_, versions) in self.keys.range_mut(change.key.clone()..) {
            versions.push((index, Effect::Delete));
        }
        if let Some(to) = to {
            let behind = self.keys.range_mut(change.key.clone().max(to.clone())..);
            behind.for_each(|(_, versions)| drop(versions.pop()));
        }
    }
}

/// What a reader at a record sees, at that record's time.
fn newest(versions: &Versions, at: u64, times: &[u64]) -> Option<Vec<u8>> {
    let seen = versions.partition_point(|(index, _)| *index <= at);
    let seen = &versions[..seen];
    let first = seen
        .iter()
        .rposition(|(_, effect)| !matches!(effect, Effect::Merge(_)));
    let mut value: Option<Vec<u8>> = None;
    for (index, effect) in &seen[first.unwrap_or(0)..] {
        value = match effect {
            Effect::Put(put) => Some(put.clone()),
            Effect::Merge(operand) => Some([&value.unwrap_or_default()[..], operand].concat()),
            Effect::PutExpiring(us, put) => {
                let expires = times[*index as usize].saturating_add(*us);
                (expires > times[at as usize]).then(|| put.clone())
            }
            Effect::Delete | Effect::DeleteTo(_) => None,
        };
    }
    value
}

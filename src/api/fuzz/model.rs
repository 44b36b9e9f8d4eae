//! What a store must hold: the records that were written, and what was promised of them.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::types::Durability;

/// Keys and values of a keyspace.
pub(super) type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// One operation of a batch; `None` deletes.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub in_other: bool,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// What one log record does. There are two keyspaces: the default one, and one that comes and goes.
#[derive(Clone, Debug)]
pub(super) enum Record {
    Batch(Vec<Change>),
    Create,
    Drop,
}

/// All that there is at one record.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub default: Pairs,
    pub other: Option<Pairs>,
}

/// See the module. Record n is the n-th; promises are prefixes.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    records: Vec<Record>,
    /// Records through this one survive the death of the process.
    process: u64,
    /// Records through this one survive the loss of power.
    pub disk: u64,
    /// Records through this one survive, or are missed, whatever happens to one file.
    pub identified: u64,
    /// Records whose outcome is unknown: the first few of them may be there.
    maybe: Vec<Record>,
}

impl Model {
    pub fn last(&self) -> u64 {
        self.records.len() as u64
    }

    pub fn last_possible(&self) -> u64 {
        self.last() + self.maybe.len() as u64
    }

    pub fn acknowledge(&mut self, record: Record, durability: Durability) {
        assert!(
            self.maybe.is_empty(),
            "acknowledged after an unknown outcome"
        );
        self.records.push(record);
        self.promise(durability);
    }

    pub fn promise(&mut self, durability: Durability) {
        if durability >= Durability::Process {
            self.process = self.last();
        }
        if durability >= Durability::Disk {
            self.disk = self.last();
        }
    }

    pub fn leave_open(&mut self, record: Record) {
        self.maybe.push(record);
    }

    /// What a record does.
    pub fn record(&self, index: u64) -> Option<&Record> {
        self.records
            .get(usize::try_from(index).ok()?.checked_sub(1)?)
    }

    /// The lowest record that a store can end with after the process has died.
    pub fn process(&self) -> u64 {
        self.process
    }

    /// The store was opened again, and ends with this record.
    pub fn reopened(&mut self, last: u64) {
        self.records.append(&mut self.maybe);
        assert!(last <= self.last(), "a record that was never written");
        self.records.truncate(usize::try_from(last).unwrap_or(0));
        self.process = last;
        self.disk = last;
        self.identified = self.identified.min(last);
    }

    /// With what is unknown as if it were there.
    pub fn at_most(&self) -> Self {
        let mut most = self.clone();
        most.records.append(&mut most.maybe);
        most
    }

    pub fn at(&self, last: u64) -> State {
        let mut state = State::default();
        let last = usize::try_from(last).unwrap_or(0);
        for record in self.records.iter().take(last) {
            match record {
                Record::Create => state.other = Some(Pairs::new()),
                Record::Drop => state.other = None,
                Record::Batch(changes) => changes.iter().for_each(|change| state.apply(change)),
            }
        }
        state
    }

    pub fn now(&self) -> State {
        self.at(self.last())
    }

    /// Whether a key was ever given this value.
    pub fn was_written(&self, in_other: bool, key: &[u8], value: &[u8]) -> bool {
        let records = self.records.iter().chain(&self.maybe);
        let changes = records.flat_map(|record| match record {
            Record::Batch(changes) => &changes[..],
            _ => &[],
        });
        let mut changes = changes.filter(|change| change.in_other == in_other);
        changes.any(|change| change.key == key && change.value.as_deref() == Some(value))
    }
}

impl State {
    pub fn pairs(&self, in_other: bool) -> Option<&Pairs> {
        match in_other {
            true => self.other.as_ref(),
            false => Some(&self.default),
        }
    }

    fn apply(&mut self, change: &Change) {
        let pairs = match change.in_other {
            true => self.other.as_mut(),
            false => Some(&mut self.default),
        };
        // A queued write to a keyspace that was dropped before its turn came has no effect.
        let Some(pairs) = pairs else {
            return;
        };
        match &change.value {
            Some(value) => pairs.insert(change.key.clone(), value.clone()),
            None => pairs.remove(&change.key),
        };
    }
}

/// The pairs of a range, in order.
pub(super) fn within(
    pairs: &Pairs,
    lower: &Bound<Vec<u8>>,
    upper: &Bound<Vec<u8>>,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let above = |key: &Vec<u8>| match lower {
        Bound::Included(lower) => key >= lower,
        Bound::Excluded(lower) => key > lower,
        Bound::Unbounded => true,
    };
    let below = |key: &Vec<u8>| match upper {
        Bound::Included(upper) => key <= upper,
        Bound::Excluded(upper) => key < upper,
        Bound::Unbounded => true,
    };
    let inside = pairs.iter().filter(|(key, _)| above(key) && below(key));
    inside
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

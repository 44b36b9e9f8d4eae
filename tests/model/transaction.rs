//! A transaction beside what it must see, and whether its commit must succeed.

use std::collections::BTreeSet;
use std::ops::Bound;

use kintsu::{Durability, Error, Result, Savepoint, Transaction};

use crate::operation::Advance;
use crate::support::driver::{Driver, after, range};
use crate::support::model::{Change, Effect, Model, Pair, Record};

type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// A transaction, what it has done, and as of when.
pub struct HeldTransaction {
    transaction: Transaction,
    at: u64,
    writes: Vec<Change>,
    keys: BTreeSet<(usize, Vec<u8>)>,
    /// Keyspace, first key, and last key with whether it is in the range; `None`: no end.
    ranges: Vec<(usize, Vec<u8>, Option<(Vec<u8>, bool)>)>,
    savepoints: Vec<(Savepoint, usize)>,
}

impl HeldTransaction {
    pub fn begin(driver: &Driver) -> Result<Self> {
        let transaction = driver.db().transaction()?;
        Ok(Self {
            at: transaction.index().0,
            transaction,
            writes: Vec::new(),
            keys: BTreeSet::new(),
            ranges: Vec::new(),
            savepoints: Vec::new(),
        })
    }

    /// What the transaction sees of a key.
    fn expected(&self, model: &Model, place: usize, key: &[u8]) -> Option<Vec<u8>> {
        let mut value = model.get(place, key, self.at);
        for change in self.writes.iter().filter(|change| change.keyspace == place) {
            let is_same = change.key == key;
            match &change.effect {
                Effect::DeleteTo(to) => {
                    let below = to.as_ref().is_none_or(|to| key < to.as_slice());
                    if change.key.as_slice() <= key && below {
                        value = None;
                    }
                }
                Effect::Put(put) | Effect::PutExpiring(_, put) if is_same => {
                    value = Some(put.clone())
                }
                Effect::Delete if is_same => value = None,
                Effect::Merge(operand) if is_same => {
                    value = Some([&value.unwrap_or_default()[..], operand].concat());
                }
                _ => {}
            }
        }
        value
    }

    /// Whether the store is asked for a key: not if the transaction itself says all of it.
    fn asks(&self, place: usize, key: &[u8]) -> bool {
        !self.writes.iter().any(|change| {
            change.keyspace == place
                && match &change.effect {
                    Effect::DeleteTo(to) => {
                        let below = to.as_ref().is_none_or(|to| key < to.as_slice());
                        change.key.as_slice() <= key && below
                    }
                    Effect::Merge(_) => false,
                    _ => change.key == key,
                }
        })
    }

    pub fn get(&mut self, driver: &Driver, place: usize, key: &[u8]) -> Result<()> {
        let keyspace = driver.db().keyspace(&driver.model.keyspaces[place].name)?;
        let found = self.transaction.get_in(&keyspace, key)?;
        let expected = self.expected(&driver.model, place, key);
        assert!(
            found.as_deref() == expected.as_deref(),
            "get of {key:?} in a transaction"
        );
        if self.asks(place, key) {
            self.keys.insert((place, key.to_vec()));
        }
        Ok(())
    }

    pub fn range(
        &mut self,
        driver: &Driver,
        place: usize,
        bounds: Bounds,
        moves: &[Advance],
    ) -> Result<()> {
        let keyspace = driver.db().keyspace(&driver.model.keyspaces[place].name)?;
        let mut expected = self.scan(&driver.model, place, &bounds);
        let mut found = self.transaction.range_in(&keyspace, bounds.clone())?;
        let (mut first, mut last, mut met) = (None, None, false);
        for Advance { back, steps } in moves {
            for _ in 0..*steps {
                let (pair, wanted) = match back {
                    true => (found.next_back().transpose()?, expected.pop()),
                    false => {
                        let wanted = (!expected.is_empty()).then(|| expected.remove(0));
                        (found.next().transpose()?, wanted)
                    }
                };
                let pair = pair.map(|(key, value)| (key.to_vec(), value.to_vec()));
                assert!(pair == wanted, "{pair:?} instead of {wanted:?}");
                met |= pair.is_none();
                match (back, pair) {
                    (true, Some((key, _))) => last = Some(key),
                    (false, Some((key, _))) => first = Some(key),
                    (_, None) => {}
                }
            }
        }
        drop(found);
        let lower = match bounds.0 {
            Bound::Included(key) => key,
            Bound::Excluded(key) => [&key[..], &[0]].concat(),
            Bound::Unbounded => Vec::new(),
        };
        let upper = match bounds.1 {
            Bound::Included(key) => Some((key, true)),
            Bound::Excluded(key) => Some((key, false)),
            Bound::Unbounded => None,
        };
        // A range without a key in it is no read.
        let has_keys = match &upper {
            None => true,
            Some((upper, true)) => lower <= *upper,
            Some((upper, false)) => lower < *upper,
        };
        if !has_keys {
            return Ok(());
        }
        if met {
            self.ranges.push((place, lower, upper));
            return Ok(());
        }
        if let Some(first) = first {
            self.ranges.push((place, lower, Some((first, true))));
        }
        if let Some(last) = last {
            self.ranges.push((place, last, upper));
        }
        Ok(())
    }

    fn scan(&self, model: &Model, place: usize, bounds: &Bounds) -> Vec<Pair> {
        let (lower, upper) = (bounds.0.as_ref(), bounds.1.as_ref());
        let (lower, upper) = (lower.map(Vec::as_slice), upper.map(Vec::as_slice));
        let stored = model.scan(place, lower, upper, self.at);
        let mut keys: BTreeSet<Vec<u8>> = stored.into_iter().map(|(key, _)| key).collect();
        let own = self.writes.iter().filter(|change| change.keyspace == place);
        let is_in = |key: &Vec<u8>| {
            let above = match lower {
                Bound::Included(lower) => key.as_slice() >= lower,
                Bound::Excluded(lower) => key.as_slice() > lower,
                Bound::Unbounded => true,
            };
            above
                && match upper {
                    Bound::Included(upper) => key.as_slice() <= upper,
                    Bound::Excluded(upper) => key.as_slice() < upper,
                    Bound::Unbounded => true,
                }
        };
        keys.extend(own.map(|change| change.key.clone()).filter(is_in));
        let pairs = keys.into_iter().filter_map(|key| {
            let value = self.expected(model, place, &key)?;
            Some((key, value))
        });
        pairs.collect()
    }

    pub fn write(&mut self, driver: &Driver, change: Change) -> Result<()> {
        let keyspace = &driver
            .db()
            .keyspace(&driver.model.keyspaces[change.keyspace].name)?;
        let (transaction, key) = (&mut self.transaction, &change.key);
        match &change.effect {
            Effect::Put(value) => transaction.put_in(keyspace, key, value),
            Effect::Delete => transaction.delete_in(keyspace, key),
            Effect::Merge(operand) => transaction.merge_in(keyspace, key, operand),
            Effect::PutExpiring(us, value) if change.keyspace == 0 => {
                transaction.put_expiring(key, value, after(*us))
            }
            Effect::PutExpiring(_, value) => transaction.put_in(keyspace, key, value),
            Effect::DeleteTo(to) => transaction.delete_range_in(keyspace, range(key, to)),
        };
        let effect = match change.effect {
            Effect::PutExpiring(_, value) if change.keyspace != 0 => Effect::Put(value),
            other => other,
        };
        self.writes.push(Change { effect, ..change });
        Ok(())
    }

    pub fn savepoint(&mut self) {
        let savepoint = self.transaction.savepoint();
        self.savepoints.push((savepoint, self.writes.len()));
    }

    /// Goes back to the last savepoint but one, if there is one; the last one then is gone.
    pub fn roll_back(&mut self) {
        let Some((last, _)) = self.savepoints.pop() else {
            return;
        };
        if let Some((savepoint, writes)) = self.savepoints.last() {
            assert!(self.transaction.roll_back_to(savepoint));
            self.writes.truncate(*writes);
            assert!(!self.transaction.roll_back_to(&last));
        }
    }

    /// Returns whether it was committed; `false` after a conflict.
    pub fn commit(self, driver: &mut Driver, durability: Durability) -> Result<bool> {
        let Self {
            transaction,
            at,
            writes,
            keys,
            ranges,
            ..
        } = self;
        let live = |change: &Change| driver.model.is_live(change.keyspace, driver.model.last);
        let all_live = writes.iter().all(live);
        let first_before = driver.db().statistics().conflict_window_first;
        let outcome = transaction.commit_with(durability);
        if writes.is_empty() {
            driver.settle();
            return outcome.map(|()| true);
        }
        driver.settle();
        let since = &driver.model.records[at as usize..];
        let changed = since.iter().any(|record| match record {
            Record::Load(_) | Record::Create(_) | Record::Drop(_) => {
                !keys.is_empty() || !ranges.is_empty()
            }
            Record::Batch(changes) => changes.iter().any(|change| hits(change, &keys, &ranges)),
        });
        match outcome {
            Err(Error::Conflict { .. }) => {
                // What waited in the queue came first, and moved the window on.
                let first = driver.db().statistics().conflict_window_first;
                assert!(changed || at + 1 < first.0, "a conflict that is none");
                Ok(false)
            }
            Err(Error::KeyspaceNotFound { .. }) if !all_live => Ok(false),
            Err(error) => {
                let noted = driver.note(Record::Batch(writes), durability, Err(error));
                noted.map(|()| false)
            }
            Ok(()) => {
                assert!(!changed, "committed on top of a conflict");
                assert!(
                    keys.is_empty() || at + 1 >= first_before.0,
                    "it began too long ago"
                );
                assert!(all_live);
                let noted = driver.note(Record::Batch(writes), durability, Ok(()));
                noted.map(|()| true)
            }
        }
    }
}

/// Whether a change is of anything that was read.
fn hits(
    change: &Change,
    keys: &BTreeSet<(usize, Vec<u8>)>,
    ranges: &[(usize, Vec<u8>, Option<(Vec<u8>, bool)>)],
) -> bool {
    let (from, to) = match &change.effect {
        Effect::DeleteTo(to) => (change.key.clone(), to.clone()),
        _ => (change.key.clone(), Some([&change.key[..], &[0]].concat())),
    };
    let covers = |key: &Vec<u8>| from <= *key && to.as_ref().is_none_or(|to| key < to);
    let mut keys = keys.iter();
    keys.any(|(place, key)| *place == change.keyspace && covers(key))
        || ranges.iter().any(|(place, lower, upper)| {
            let begins_in = match upper {
                None => true,
                Some((upper, true)) => from <= *upper,
                Some((upper, false)) => from < *upper,
            };
            let ends_in = to.as_ref().is_none_or(|to| lower < to);
            *place == change.keyspace && begins_in && ends_in
        })
}

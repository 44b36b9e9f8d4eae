//! Iteration in a transaction: the store's keys with the transaction's own writes on top.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::api::Range;
use crate::api::transaction::own::OwnWrites;
use crate::engine::{ReadRange, Reads, Tree};
use crate::error::Result;

type Pair = (Bytes, Bytes);

/// Keys and values of a range as a transaction sees them. Whatever part of the range has been walked over
/// counts as read when it is dropped.
pub struct TransactionRange<'t> {
    store: Range,
    tree: Arc<Tree>,
    own: &'t OwnWrites,
    reads: &'t mut Reads,
    /// Keys with operations of the transaction's own that are still to come.
    own_keys: VecDeque<Bytes>,
    /// What the store gave and hasn't been handed out yet.
    front: Option<Pair>,
    back: Option<Pair>,
    lower: Vec<u8>,
    upper: Option<Vec<u8>>,
    last_front: Option<Bytes>,
    last_back: Option<Bytes>,
    /// Whether the two ends have met, so that the whole range is known; or a read has failed, so that nobody
    /// can say how far it went.
    met: bool,
}

impl std::fmt::Debug for TransactionRange<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionRange").finish_non_exhaustive()
    }
}

impl<'t> TransactionRange<'t> {
    pub(super) fn new(
        store: Range,
        tree: Arc<Tree>,
        own: &'t OwnWrites,
        reads: &'t mut Reads,
        (lower, upper): (Vec<u8>, Option<Vec<u8>>),
    ) -> Self {
        let keys = own.keys_in(tree.id, &lower, upper.as_deref());
        // All of it, until it is known how far it was walked: it may never be dropped.
        reads.ranges.push(ReadRange {
            keyspace: tree.id,
            lower: lower.clone(),
            upper: upper.clone(),
        });
        Self {
            store,
            own_keys: keys.map(Bytes::copy_from_slice).collect(),
            tree,
            own,
            reads,
            front: None,
            back: None,
            lower,
            upper,
            last_front: None,
            last_back: None,
            met: false,
        }
    }

    fn fill_front(&mut self) -> Result<()> {
        if self.front.is_none() {
            self.front = self.store.next().transpose()?;
        }
        if self.front.is_none() {
            self.front = self.back.take();
        }
        Ok(())
    }

    fn fill_back(&mut self) -> Result<()> {
        if self.back.is_none() {
            self.back = self.store.next_back().transpose()?;
        }
        if self.back.is_none() {
            self.back = self.front.take();
        }
        Ok(())
    }

    /// What a key is once the transaction's own operations are on it.
    fn resolve(&self, key: &Bytes, stored: Option<Bytes>) -> Result<Option<Pair>> {
        let value = match self.own.resolve(self.tree.id, key) {
            Some(resolved) => resolved.value(&self.tree.values, key, stored)?,
            None => stored,
        };
        Ok(value.map(|value| (key.clone(), value)))
    }

    fn step_front(&mut self) -> Result<Option<Pair>> {
        loop {
            self.fill_front()?;
            let stored = self.front.as_ref().map(|(key, _)| key);
            let key = match (stored, self.own_keys.front()) {
                (None, None) => return Ok(None),
                (Some(key), None) | (None, Some(key)) => key.clone(),
                (Some(stored), Some(own)) => stored.min(own).clone(),
            };
            self.own_keys.pop_front_if(|own| *own == key);
            let stored = self.front.take_if(|(stored, _)| *stored == key);
            self.last_front = Some(key.clone());
            if let Some(pair) = self.resolve(&key, stored.map(|(_, value)| value))? {
                return Ok(Some(pair));
            }
        }
    }

    fn step_back(&mut self) -> Result<Option<Pair>> {
        loop {
            self.fill_back()?;
            let stored = self.back.as_ref().map(|(key, _)| key);
            let key = match (stored, self.own_keys.back()) {
                (None, None) => return Ok(None),
                (Some(key), None) | (None, Some(key)) => key.clone(),
                (Some(stored), Some(own)) => stored.max(own).clone(),
            };
            self.own_keys.pop_back_if(|own| *own == key);
            let stored = self.back.take_if(|(stored, _)| *stored == key);
            self.last_back = Some(key.clone());
            if let Some(pair) = self.resolve(&key, stored.map(|(_, value)| value))? {
                return Ok(Some(pair));
            }
        }
    }
}

impl Iterator for TransactionRange<'_> {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        let stepped = self.step_front().transpose();
        self.met |= !matches!(stepped, Some(Ok(_)));
        stepped
    }
}

impl DoubleEndedIterator for TransactionRange<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let stepped = self.step_back().transpose();
        self.met |= !matches!(stepped, Some(Ok(_)));
        stepped
    }
}

impl Drop for TransactionRange<'_> {
    fn drop(&mut self) {
        let keyspace = self.tree.id;
        let (lower, upper) = (std::mem::take(&mut self.lower), self.upper.take());
        if self.met {
            return; // All of it counts already.
        }
        let ranges = &mut self.reads.ranges;
        ranges.pop();
        if let Some(last) = self.last_front.take() {
            // Up to the last key, with it.
            let behind = [&last[..], &[0]].concat();
            ranges.push(ReadRange {
                keyspace,
                lower,
                upper: Some(behind),
            });
        }
        if let Some(last) = self.last_back.take() {
            ranges.push(ReadRange {
                keyspace,
                lower: last.to_vec(),
                upper,
            });
        }
    }
}

//! The keys of a range as a reader sees them, from both ends.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::fences::Fenced;
use crate::engine::hiding::Hiding;
use crate::engine::merge::{Direction, Merge};
use crate::engine::tree::{Tree, TreeState};
use crate::engine::values::Values;
use crate::engine::views::{HeldPoint, ReadPoint};
use crate::error::{Error, Result};
use crate::types::{EntryKind, Index, Version};

/// Keys hidden by one range deletion, one behind the other, from which on it is skipped as a whole.
const SKIP_KEYS_MIN: u32 = 16;

/// A walk over the visible keys in `[lower, upper)`. The two ends move towards each other.
///
/// It reads the tables of one moment, which stay as long as it does. Where its point is held, newer tables
/// have all that it may see too: it goes over to them at its next step after there are some, and so pins
/// files and memtables that were replaced only while it rests.
pub(crate) struct Scan {
    tree: Arc<Tree>,
    state: Arc<TreeState>,
    /// The tree's count of changes when `state` was loaded, or before.
    changes: u64,
    at: ReadPoint,
    /// What hides keys of the range.
    hiding: Hiding,
    /// What of the range may be lost.
    fenced: Option<Fenced>,
    /// If it is a single key that is asked for: what these records and all before them wrote may not be all there
    /// is.
    floor: Option<Index>,
    lower: Vec<u8>,
    upper: Option<Vec<u8>>,
    front: Option<Merge>,
    back: Option<Merge>,
    /// The key given out last at the front; nothing at or below it is given out again.
    front_key: Option<Vec<u8>>,
    /// What was met behind the entry given out last at the front.
    met: Option<Error>,
    failed: bool,
    /// Keys hidden by range deletions since the last one given out, or the last skip.
    hidden: u32,
    /// Keeps what the reader may see from being compacted away.
    held: Option<Arc<HeldPoint>>,
}

impl Scan {
    /// A walk over the tables of `tree`, as it is seen at a point that is held, or else is asked for: that is
    /// done after the loading of the tables.
    pub(crate) fn new(
        tree: &Arc<Tree>,
        at: impl FnOnce() -> ReadPoint,
        held: Option<Arc<HeldPoint>>,
        lower: Vec<u8>,
        upper: Option<Vec<u8>>,
    ) -> Self {
        let (front, back, front_key) = (None, None, None);
        let changes = tree.changes();
        let state = tree.load();
        let at = at();
        let mut hiding = Hiding::new(&state, &lower, upper.as_deref(), at.version());
        let fences = &state.fences;
        let fenced = fences.in_the_way(&lower, upper.as_deref(), at.version(), &mut hiding);
        Self {
            tree: tree.clone(),
            state,
            changes,
            at,
            hiding,
            fenced,
            floor: None,
            lower,
            upper,
            front,
            back,
            front_key,
            met: None,
            failed: false,
            hidden: 0,
            held,
        }
    }

    /// A walk over one key, to be made from the front. Of a key that is fenced it gives what is newer than all that
    /// is lost, if that is the whole value.
    pub(crate) fn of_key(tree: &Arc<Tree>, at: impl FnOnce() -> ReadPoint, key: &[u8]) -> Self {
        let upper = [key, &[0]].concat();
        let mut scan = Self::new(tree, at, None, key.to_vec(), Some(upper));
        let seen = scan.state.fences.over(key);
        let seen = seen.filter(|fence| fence.oldest <= scan.at.index);
        scan.floor = seen.map(|fence| fence.newest).max();
        scan
    }

    /// The next key from the front.
    pub(crate) fn next_front(&mut self) -> Result<Option<(&[u8], Bytes)>> {
        if self.failed {
            return Ok(None);
        }
        match self.step_front() {
            Ok(Some(value)) => Ok(self.front_key.as_deref().map(|key| (key, value))),
            Ok(None) => Ok(None),
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        }
    }

    /// The next key from the back.
    pub(crate) fn next_back(&mut self) -> Result<Option<(&[u8], Bytes)>> {
        if self.failed {
            return Ok(None);
        }
        match self.step_back() {
            Ok(Some(value)) => Ok(self.upper.as_deref().map(|key| (key, value))),
            Ok(None) => Ok(None),
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        }
    }

    /// Goes over to the tables as they are now.
    #[cold]
    fn renew(&mut self) {
        if self.held.is_none() {
            return;
        }
        self.changes = self.tree.changes();
        let state = self.tree.load();
        // The tables of a keyspace that was dropped are taken away from it, not from those who read it.
        if self.tree.is_dropped() {
            return;
        }
        let (upper, at) = (self.upper.as_deref(), self.at.version());
        self.hiding = Hiding::new(&state, &self.lower, upper, at);
        // What was given out already, was there.
        let behind = self.front_key.as_ref().map(|key| [key, &[0][..]].concat());
        let lower = behind.as_ref().unwrap_or(&self.lower);
        self.fenced = state.fences.in_the_way(lower, upper, at, &mut self.hiding);
        self.state = state;
        (self.front, self.back) = (None, None);
        self.hidden = 0;
    }

    /// Leaves the key in `front_key`.
    fn step_front(&mut self) -> Result<Option<Bytes>> {
        if self.changes != self.tree.changes() {
            self.renew();
        }
        if self.front.is_none() {
            let lower = self.front_key.as_ref().unwrap_or(&self.lower);
            let upper = self.upper.as_deref();
            let mut merge = Merge::of_tree(&self.state, lower, upper, Direction::Forward);
            merge.seek(lower)?;
            self.front = Some(merge);
        }
        let Some(merge) = &mut self.front else {
            return Ok(None);
        };
        loop {
            if let Some(error) = self.met.take() {
                return Err(error);
            }
            let upper = self.upper.as_deref();
            let entry = merge.entry();
            let entry = entry.filter(|entry| upper.is_none_or(|upper| entry.key < upper));
            if let Some(fenced) = &self.fenced
                && fenced.is_met_by(entry.as_ref(), self.floor)
            {
                return Err(fenced.first.clone());
            }
            let Some(entry) = entry else {
                return Ok(None);
            };
            let shadowed = self.front_key.as_deref() == Some(entry.key);
            if shadowed || !self.at.sees(&entry) {
                merge.advance()?;
                continue;
            }
            let key = self.front_key.get_or_insert_default();
            key.clear();
            key.extend_from_slice(entry.key);
            let deleted = self.hiding.newest(key);
            if deleted.is_some_and(|deleted| deleted > entry.version) {
                merge.advance()?;
                self.hidden += 1;
                if self.hidden >= SKIP_KEYS_MIN {
                    self.hidden = 0;
                    self.hiding.skip(merge, key, Direction::Forward)?;
                }
                continue;
            }
            self.hidden = 0;
            if entry.kind == EntryKind::Merge {
                let chain = Chain::of(merge, &self.tree.values, key, self.at, deleted)?;
                if let Some(fenced) = &self.fenced
                    && self.floor >= chain.end
                {
                    return Err(fenced.first.clone());
                }
                return chain.value(&self.tree.values, key).map(Some);
            }
            let value = self.tree.values.plain(&entry, || merge.value(), self.at);
            let advanced = merge.advance();
            if value.is_some() || self.floor.is_some() {
                self.met = advanced.err();
                return Ok(value);
            }
            advanced?;
        }
    }

    /// Leaves the key in `upper`, which it now is.
    fn step_back(&mut self) -> Result<Option<Bytes>> {
        if self.changes != self.tree.changes() {
            self.renew();
        }
        if self.back.is_none() {
            let lower = self.front_key.as_ref().unwrap_or(&self.lower);
            let upper = self.upper.as_deref();
            let mut merge = Merge::of_tree(&self.state, lower, upper, Direction::Backward);
            merge.seek_before(upper)?;
            self.back = Some(merge);
        }
        let Some(merge) = &mut self.back else {
            return Ok(None);
        };
        loop {
            let front = self.front_key.as_deref();
            let is_left =
                |key: &[u8]| key >= self.lower.as_slice() && front.is_none_or(|front| key > front);
            let entry = merge.entry().filter(|entry| is_left(entry.key));
            if let Some(fenced) = &self.fenced
                && entry.is_none_or(|entry| fenced.to.as_deref().is_none_or(|to| entry.key < to))
            {
                return Err(fenced.last.clone());
            }
            let Some(entry) = entry else {
                return Ok(None);
            };
            let upper = self.upper.get_or_insert_default();
            upper.clear();
            upper.extend_from_slice(entry.key);
            let deleted = self.hiding.newest(upper);
            // Backwards the versions of a key come oldest first: the last one visible wins.
            let mut newest = None;
            let mut operands = Vec::new();
            let mut was_hidden = false;
            while let Some(entry) = merge.entry().filter(|entry| entry.key == upper.as_slice()) {
                if deleted.is_some_and(|deleted| deleted > entry.version) {
                    was_hidden = true;
                } else if self.at.sees(&entry) {
                    if entry.kind == EntryKind::Merge {
                        operands.push(merge.value());
                    } else {
                        operands.clear();
                        newest = self.tree.values.plain(&entry, || merge.value(), self.at);
                    }
                }
                merge.advance()?;
            }
            if !operands.is_empty() {
                return self.tree.values.merged(upper, newest, &operands).map(Some);
            }
            if newest.is_some() {
                self.hidden = 0;
                return Ok(newest);
            }
            self.hidden += u32::from(was_hidden);
            if self.hidden >= SKIP_KEYS_MIN {
                self.hidden = 0;
                self.hiding.skip(merge, upper, Direction::Backward)?;
            }
        }
    }
}

/// What the versions of a key come to, of which the newest visible one is a merge.
struct Chain {
    /// Newest first.
    operands: Vec<Bytes>,
    below: Option<Bytes>,
    /// The record that ends it: nothing older matters. `None` if there is none.
    end: Option<Index>,
}

impl Chain {
    /// The chain at the merge's place. Leaves the merge at the first entry that isn't needed.
    fn of(
        merge: &mut Merge,
        values: &Values,
        key: &[u8],
        at: ReadPoint,
        deleted: Option<Version>,
    ) -> Result<Self> {
        let mut chain = Self {
            operands: Vec::new(),
            below: None,
            end: deleted.map(|deleted| deleted.index),
        };
        while let Some(entry) = merge.entry().filter(|entry| entry.key == key) {
            if deleted.is_some_and(|deleted| deleted > entry.version) {
                break;
            }
            if entry.kind != EntryKind::Merge {
                chain.end = Some(entry.version.index);
                chain.below = values.plain(&entry, || merge.value(), at);
                break;
            }
            chain.operands.push(merge.value());
            merge.advance()?;
        }
        Ok(chain)
    }

    fn value(mut self, values: &Values, key: &[u8]) -> Result<Bytes> {
        self.operands.reverse();
        values.merged(key, self.below, &self.operands)
    }
}

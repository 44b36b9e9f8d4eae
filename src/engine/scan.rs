//! The keys of a range as a reader sees them, from both ends.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::merge::{Direction, Merge};
use crate::engine::tree::TreeState;
use crate::engine::views::HeldIndex;
use crate::error::{Error, Result};
use crate::types::{EntryKind, Index};

/// A walk over the visible keys in `[lower, upper)`. The two ends move towards each other.
pub(crate) struct Scan {
    state: Arc<TreeState>,
    at: Index,
    lower: Vec<u8>,
    upper: Option<Vec<u8>>,
    front: Option<Merge>,
    back: Option<Merge>,
    /// The key given out last at the front; nothing at or below it is given out again.
    front_key: Option<Vec<u8>>,
    /// What was met behind the entry given out last at the front.
    met: Option<Error>,
    failed: bool,
    /// Keeps what the reader may see from being compacted away.
    _held: Option<Arc<HeldIndex>>,
}

impl Scan {
    pub(crate) fn new(
        state: Arc<TreeState>,
        at: Index,
        held: Option<Arc<HeldIndex>>,
        lower: Vec<u8>,
        upper: Option<Vec<u8>>,
    ) -> Self {
        let _held = held;
        let (front, back, front_key) = (None, None, None);
        Self {
            state,
            at,
            lower,
            upper,
            front,
            back,
            front_key,
            met: None,
            failed: false,
            _held,
        }
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

    /// Leaves the key in `front_key`.
    fn step_front(&mut self) -> Result<Option<Bytes>> {
        if self.front.is_none() {
            let (lower, upper) = (&self.lower, self.upper.as_deref());
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
            let Some(entry) = merge.entry() else {
                return Ok(None);
            };
            if self
                .upper
                .as_deref()
                .is_some_and(|upper| entry.key >= upper)
            {
                return Ok(None);
            }
            let shadowed = self.front_key.as_deref() == Some(entry.key);
            if shadowed || entry.version.index > self.at {
                merge.advance()?;
                continue;
            }
            let key = self.front_key.get_or_insert_default();
            key.clear();
            key.extend_from_slice(entry.key);
            let value = (entry.kind == EntryKind::Put).then(|| merge.value());
            let advanced = merge.advance();
            if value.is_some() {
                self.met = advanced.err();
                return Ok(value);
            }
            advanced?;
        }
    }

    /// Leaves the key in `upper`, which it now is.
    fn step_back(&mut self) -> Result<Option<Bytes>> {
        if self.back.is_none() {
            let (lower, upper) = (&self.lower, self.upper.as_deref());
            let mut merge = Merge::of_tree(&self.state, lower, upper, Direction::Backward);
            merge.seek_before(upper)?;
            self.back = Some(merge);
        }
        let Some(merge) = &mut self.back else {
            return Ok(None);
        };
        loop {
            let Some(entry) = merge.entry() else {
                return Ok(None);
            };
            let passed = self
                .front_key
                .as_deref()
                .is_some_and(|front| entry.key <= front);
            if passed || entry.key < self.lower.as_slice() {
                return Ok(None);
            }
            let upper = self.upper.get_or_insert_default();
            upper.clear();
            upper.extend_from_slice(entry.key);
            // Backwards the versions of a key come oldest first: the last one visible wins.
            let mut newest = None;
            while let Some(entry) = merge.entry().filter(|entry| entry.key == upper.as_slice()) {
                if entry.version.index <= self.at {
                    newest = (entry.kind == EntryKind::Put).then(|| merge.value());
                }
                merge.advance()?;
            }
            if newest.is_some() {
                return Ok(newest);
            }
        }
    }
}

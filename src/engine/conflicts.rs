//! Whether what a transaction read has been written since.
//!
//! The answer is a function of the log alone, never of versions that a compaction may have dropped: what
//! counts are the last records ([`window`]), and to have begun before them is always a conflict. So every
//! replica that applies the same log comes to the same answer, and a store that was opened again comes to
//! the one it would have come to before.

mod carried;
mod window;

use std::collections::HashSet;

use crate::engine::batch::{Effect, Operation, Operations};
use crate::engine::queue::Request;
use crate::error::{Error, Result};
use crate::types::{Index, KeyspaceId};
use crate::wal::RecordKind;

pub(crate) use self::carried::WindowPiece;
pub(crate) use self::window::ConflictWindow;

/// A range of keys that was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReadRange {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) lower: Vec<u8>,
    /// The first key behind it; `None`: no end.
    pub(crate) upper: Option<Vec<u8>>,
}

impl ReadRange {
    /// Whether it lies before `key` as a whole.
    fn is_before(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        let ends = self.upper.as_deref().is_some_and(|upper| upper <= key);
        self.keyspace < keyspace || self.keyspace == keyspace && ends
    }
}

/// What a transaction has read, and as of which record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    pub(crate) at: Index,
    pub(crate) keys: HashSet<(KeyspaceId, Vec<u8>)>,
    pub(crate) ranges: Vec<ReadRange>,
}

impl Reads {
    /// All of it in order, for the check. Done by the transaction's own thread.
    pub(crate) fn finish(self) -> ReadSet {
        let single = |(keyspace, lower): (KeyspaceId, Vec<u8>)| {
            let upper = Some([&lower[..], &[0]].concat());
            ReadRange {
                keyspace,
                lower,
                upper,
            }
        };
        let mut ranges = self.ranges;
        ranges.retain(|range| {
            range
                .upper
                .as_ref()
                .is_none_or(|upper| range.lower < *upper)
        });
        ranges.extend(self.keys.into_iter().map(single));
        ranges.sort_unstable();
        ranges.dedup_by(|next, range| {
            let apart = range.is_before(next.keyspace, &next.lower);
            // No upper end lies above all that are.
            if !apart && range.upper.is_some() && (next.upper.is_none() || next.upper > range.upper)
            {
                range.upper = next.upper.take();
            }
            !apart
        });
        ReadSet {
            at: self.at,
            ranges,
        }
    }
}

/// What a transaction has read, in order and without overlaps.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadSet {
    at: Index,
    ranges: Vec<ReadRange>,
}

/// Keys that a record has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch<'a> {
    Key(KeyspaceId, &'a [u8]),
    /// From a key to another, not included; `None`: to the end.
    Range(KeyspaceId, &'a [u8], Option<&'a [u8]>),
    /// Nobody knows which, or which keyspaces there are.
    Everything,
}

impl<'a> From<Operation<'a>> for Touch<'a> {
    fn from(operation: Operation<'a>) -> Self {
        let (keyspace, key) = (operation.keyspace, operation.key);
        match operation.effect {
            Effect::DeleteTo(to) => Self::Range(keyspace, key, to),
            _ => Self::Key(keyspace, key),
        }
    }
}

/// What a record changes.
fn touches(kind: RecordKind, payload: &[u8]) -> impl Iterator<Item = Touch<'_>> {
    let is_batch = kind == RecordKind::Batch;
    let operations = Operations::new(if is_batch { payload } else { &[] });
    // Of what isn't a batch, and of what can't be read, nobody knows.
    let each = operations.map(|operation| operation.map_or(Touch::Everything, Touch::from));
    each.chain((!is_batch).then_some(Touch::Everything))
}

impl ReadSet {
    /// Whether anything was read at all.
    fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether a change is one of what was read.
    fn meets(&self, touch: Touch<'_>) -> bool {
        let (keyspace, key) = match touch {
            Touch::Everything => return true,
            Touch::Key(keyspace, key) | Touch::Range(keyspace, key, _) => (keyspace, key),
        };
        // The first one that doesn't end before it.
        let place = self
            .ranges
            .partition_point(|range| range.is_before(keyspace, key));
        let range = self.ranges.get(place);
        range.is_some_and(|range| {
            let begins = match touch {
                Touch::Range(_, _, to) => to.is_none_or(|to| range.lower.as_slice() < to),
                _ => range.lower.as_slice() <= key,
            };
            range.keyspace == keyspace && begins
        })
    }

    /// Holds it against a record that comes before the transaction's in the same group.
    ///
    /// # Errors
    /// `Conflict`.
    pub(crate) fn check_against(&self, record: &Request) -> Result<()> {
        let mut touched = touches(record.kind, &record.payload);
        match !self.is_empty() && touched.any(|touch| self.meets(touch)) {
            true => Err(written_since()),
            false => Ok(()),
        }
    }
}

fn written_since() -> Error {
    let why = "what the transaction read has been written since";
    Error::Conflict { why }
}

#[cfg(test)]
mod tests;

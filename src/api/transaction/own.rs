//! What a transaction has written itself, and sees before it is committed.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::engine::{Effect, Values};
use crate::error::Result;
use crate::types::KeyspaceId;

/// One operation on a key.
#[derive(Clone, Debug)]
enum Own {
    /// The key has this value, or none.
    Set(Option<Bytes>),
    Merge(Bytes),
}

/// A deletion of a range.
#[derive(Clone, Debug)]
struct OwnRange {
    number: u32,
    keyspace: KeyspaceId,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl OwnRange {
    fn covers(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        let below = self.to.as_deref().is_none_or(|to| key < to);
        self.keyspace == keyspace && self.from.as_slice() <= key && below
    }
}

/// What a transaction's own operations make of a key.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    /// What is below the operands: what the store has (`None`), or a value of the transaction's own, or none.
    base: Option<Option<Bytes>>,
    /// Oldest first.
    operands: Vec<Bytes>,
}

impl Resolved {
    /// Whether the store must be asked.
    pub(super) fn needs_store(&self) -> bool {
        self.base.is_none()
    }

    /// The key's value, if the store has `stored`.
    ///
    /// # Errors
    /// What the merge operator refuses.
    pub(super) fn value(
        self,
        values: &Values,
        key: &[u8],
        stored: Option<Bytes>,
    ) -> Result<Option<Bytes>> {
        let base = self.base.unwrap_or(stored);
        if self.operands.is_empty() {
            return Ok(base);
        }
        values.merged(key, base, &self.operands).map(Some)
    }
}

/// All of it, by key, each operation with its number.
#[derive(Debug, Default)]
pub(super) struct OwnWrites {
    next: u32,
    keys: BTreeMap<(KeyspaceId, Vec<u8>), Vec<(u32, Own)>>,
    ranges: Vec<OwnRange>,
}

impl OwnWrites {
    /// How many operations there are.
    pub(super) fn count(&self) -> u32 {
        self.next
    }

    pub(super) fn add(&mut self, keyspace: KeyspaceId, key: &[u8], effect: Effect<'_>) {
        let number = self.next;
        self.next += 1;
        let own = match effect {
            Effect::Put(value) | Effect::PutUntil(_, value) => {
                Own::Set(Some(Bytes::copy_from_slice(value)))
            }
            Effect::Delete => Own::Set(None),
            Effect::Merge(operand) => Own::Merge(Bytes::copy_from_slice(operand)),
            Effect::DeleteTo(to) => {
                self.ranges.push(OwnRange {
                    number,
                    keyspace,
                    from: key.to_vec(),
                    to: to.map(<[u8]>::to_vec),
                });
                return;
            }
        };
        let all = self.keys.entry((keyspace, key.to_vec())).or_default();
        all.push((number, own));
    }

    /// Takes out all but the first `count` operations.
    pub(super) fn truncate(&mut self, count: u32) {
        self.next = self.next.min(count);
        self.ranges.retain(|range| range.number < count);
        self.keys.retain(|_, all| {
            all.retain(|(number, _)| *number < count);
            !all.is_empty()
        });
    }

    /// What they make of a key; `None` if they leave it alone.
    pub(super) fn resolve(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<Resolved> {
        let covering = self
            .ranges
            .iter()
            .rfind(|range| range.covers(keyspace, key));
        let deleted = covering.map(|range| range.number);
        // A key is looked up by a copy: ranges of pairs can't be borrowed in halves.
        let all = self.keys.get(&(keyspace, key.to_vec()));
        if deleted.is_none() && all.is_none() {
            return None;
        }
        let mut resolved = Resolved {
            base: deleted.map(|_| None),
            operands: Vec::new(),
        };
        for (number, own) in all.into_iter().flatten() {
            if deleted.is_some_and(|deleted| *number < deleted) {
                continue;
            }
            match own {
                Own::Set(value) => {
                    resolved.base = Some(value.clone());
                    resolved.operands.clear();
                }
                Own::Merge(operand) => resolved.operands.push(operand.clone()),
            }
        }
        Some(resolved)
    }

    /// The keys in a range on which there are operations, in order.
    pub(super) fn keys_in(
        &self,
        keyspace: KeyspaceId,
        lower: &[u8],
        upper: Option<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = &[u8]> {
        let end = match upper {
            Some(upper) => Bound::Excluded((keyspace, upper.max(lower).to_vec())),
            None => match keyspace.0.checked_add(1) {
                Some(next) => Bound::Excluded((KeyspaceId(next), Vec::new())),
                None => Bound::Unbounded,
            },
        };
        let begin = Bound::Included((keyspace, lower.to_vec()));
        self.keys
            .range((begin, end))
            .map(|((_, key), _)| key.as_slice())
    }
}

//! What a flush or a compaction writes of what it reads: which versions of a key are still needed, and
//! merges worked out where what is below them is known.
//!
//! The boundaries (the indexes at which somebody reads) cut time into stripes. Nobody can tell versions
//! of one stripe apart, so of each key the newest one in a stripe is needed and, below a merge, what it
//! is merged with. What is newer than every boundary can become one yet: there each record is a stripe
//! of its own.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::views::Boundaries;
use crate::error::Result;
use crate::operator::{self, MergeOperator};
use crate::types::{
    Entry, EntryKind, Fragment, Index, RangeDelete, RangeDeletes, Version, expires_us,
};

/// The boundary that a version is at or below, or, if it is above all, its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stripe {
    Below(usize),
    Record(Index),
}

/// Merges of one key in one stripe, of which it isn't known yet what is below.
#[derive(Debug, Default)]
struct Chain {
    key: Vec<u8>,
    /// Newest first.
    operands: Vec<(Version, Bytes)>,
}

/// What is below a chain.
enum Below<'a> {
    Value(&'a [u8]),
    Nothing,
    Unknown,
}

/// The sink and the rules of one flush or compaction; fed in table order.
pub(crate) struct Rewrite {
    boundaries: Boundaries,
    /// Nothing older than this job's inputs lies below them, so a deletion that all can see has done its
    /// work.
    bottom: bool,
    /// The range deletions of all inputs.
    ranges: RangeDeletes,
    operator: Option<Arc<dyn MergeOperator>>,
    key: Vec<u8>,
    /// The stripe of the version of `key` seen last.
    last: Option<Stripe>,
    /// Whether the rest of that stripe is hidden by what was seen of it.
    hidden: bool,
    chain: Chain,
}

impl Rewrite {
    pub(crate) fn new(
        boundaries: Boundaries,
        bottom: bool,
        ranges: RangeDeletes,
        operator: Option<Arc<dyn MergeOperator>>,
    ) -> Self {
        Self {
            boundaries,
            bottom,
            ranges,
            operator,
            key: Vec::new(),
            last: None,
            hidden: false,
            chain: Chain::default(),
        }
    }

    /// Takes the next entry, and hands on what of it, or of those before it, must be written.
    ///
    /// # Errors
    /// What `write` answers.
    pub(crate) fn feed(
        &mut self,
        entry: &Entry<'_>,
        write: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let stripe = self.stripe(entry.version);
        if self.last.is_none() || self.key != entry.key {
            self.finish(write)?;
            self.key.clear();
            self.key.extend_from_slice(entry.key);
        } else if self.last != Some(stripe) {
            self.end_chain(Below::Unknown, write)?;
            self.hidden = false;
        }
        self.last = Some(stripe);
        if self.hidden {
            return Ok(());
        }
        if self.is_deleted(entry, stripe) {
            self.hidden = true;
            return self.end_chain(Below::Nothing, write).map(drop);
        }
        let is_expired = entry.kind == EntryKind::Expiring
            && expires_us(entry.value).is_some_and(|us| us <= self.boundaries.time_us);
        match entry.kind {
            EntryKind::Merge if self.operator.is_some() => {
                self.push(entry);
                return Ok(());
            }
            EntryKind::Merge => return write(*entry),
            _ => self.hidden = true,
        }
        if !self.chain.operands.is_empty() {
            let below = match entry.kind {
                EntryKind::Put => Below::Value(entry.value),
                EntryKind::Expiring if !is_expired => Below::Unknown,
                _ => Below::Nothing,
            };
            let is_folded = !matches!(below, Below::Unknown);
            if self.end_chain(below, write)? && is_folded {
                return Ok(());
            }
        }
        if is_expired || entry.kind == EntryKind::Delete {
            if self.bottom && stripe == Stripe::Below(0) {
                return Ok(());
            }
            let (kind, value) = (EntryKind::Delete, &[][..]);
            return write(Entry {
                kind,
                value,
                ..*entry
            });
        }
        write(*entry)
    }

    /// Whether this is the key that was fed last.
    pub(crate) fn is_at(&self, key: &[u8]) -> bool {
        self.last.is_some() && self.key == key
    }

    /// Hands on what has been waiting for older versions of the last key. To be called at the end.
    ///
    /// # Errors
    /// What `write` answers.
    pub(crate) fn finish(&mut self, write: &mut dyn FnMut(Entry<'_>) -> Result<()>) -> Result<()> {
        let below = if self.bottom {
            Below::Nothing
        } else {
            Below::Unknown
        };
        self.end_chain(below, write)?;
        self.last = None;
        self.hidden = false;
        Ok(())
    }

    /// The range deletions that are still needed, of the keys from `lower` on and below `upper`.
    pub(crate) fn range_deletes(
        &self,
        lower: Option<&Bytes>,
        upper: Option<&Bytes>,
    ) -> Vec<RangeDelete> {
        let needed = self.ranges.fragments().iter().map(|fragment| Fragment {
            versions: self.needed(&fragment.versions),
            ..fragment.clone()
        });
        let needed = RangeDeletes::of_fragments(needed);
        needed.within(lower, upper).collect()
    }

    fn needed(&self, versions: &[Version]) -> Vec<Version> {
        let mut last = None;
        let mut needed = versions.to_vec();
        needed.retain(|version| {
            let stripe = self.stripe(*version);
            let is_newest = last.replace(stripe) != Some(stripe);
            is_newest && !(self.bottom && stripe == Stripe::Below(0))
        });
        needed
    }

    fn stripe(&self, version: Version) -> Stripe {
        let indexes = &self.boundaries.indexes;
        let at = indexes.partition_point(|boundary| *boundary < version.index);
        if at < indexes.len() {
            Stripe::Below(at)
        } else {
            Stripe::Record(version.index)
        }
    }

    /// Whether a range deletion in the entry's stripe hides it.
    fn is_deleted(&self, entry: &Entry<'_>, stripe: Stripe) -> bool {
        if self.ranges.is_empty() {
            return false;
        }
        let fragment = self.ranges.at(entry.key);
        let next_newer = fragment.and_then(|fragment| {
            let newer = fragment.versions.partition_point(|v| *v > entry.version);
            fragment.versions.get(newer.checked_sub(1)?)
        });
        next_newer.is_some_and(|version| self.stripe(*version) == stripe)
    }

    fn push(&mut self, entry: &Entry<'_>) {
        if self.chain.operands.is_empty() {
            self.chain.key.clear();
            self.chain.key.extend_from_slice(entry.key);
        }
        let operand = Bytes::copy_from_slice(entry.value);
        self.chain.operands.push((entry.version, operand));
    }

    /// Writes the chain as little as can be. Returns whether what is below it is now part of it.
    fn end_chain(
        &mut self,
        below: Below<'_>,
        write: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<bool> {
        let Some((newest, _)) = self.chain.operands.first() else {
            return Ok(false);
        };
        let chain = &self.chain;
        let folded = self.operator.as_deref().and_then(|by| {
            let operands: Vec<Bytes> = chain
                .operands
                .iter()
                .rev()
                .map(|(_, o)| o.clone())
                .collect();
            match below {
                Below::Value(value) => {
                    let merged = operator::merge(by, &chain.key, Some(value), &operands);
                    merged.ok().map(|value| (EntryKind::Put, value))
                }
                Below::Nothing => {
                    let merged = operator::merge(by, &chain.key, None, &operands);
                    merged.ok().map(|value| (EntryKind::Put, value))
                }
                Below::Unknown if operands.len() > 1 => {
                    let combined = operator::combine(by, &chain.key, &operands);
                    combined.map(|operand| (EntryKind::Merge, operand))
                }
                Below::Unknown => None,
            }
        });
        let is_folded = folded.is_some();
        match folded {
            Some((kind, value)) => write(Entry {
                key: &chain.key,
                version: *newest,
                kind,
                value: &value,
            })?,
            // Also what the operator refuses: the reader is told, and nothing is thrown away.
            None => {
                for (version, operand) in &chain.operands {
                    write(Entry {
                        key: &chain.key,
                        version: *version,
                        kind: EntryKind::Merge,
                        value: operand,
                    })?;
                }
            }
        }
        self.chain.operands.clear();
        Ok(is_folded)
    }
}

#[cfg(test)]
mod tests;

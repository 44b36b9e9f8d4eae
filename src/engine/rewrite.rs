//! What a flush or a compaction writes of what it reads: which versions of a key are still needed, and
//! merges worked out where what is below them is known.
//!
//! The boundaries (the indexes at which somebody reads) cut time into stripes. Nobody can tell versions
//! of one stripe apart, so of each key the newest one in a stripe is needed and, below a merge, what it
//! is merged with. What is newer than every boundary can become one yet: there each record is a stripe
//! of its own.
//!
//! Where versions are lost (the keys of a fence), it isn't known what is below anything: merges stay as they are, and
//! deletions stay, since they tell that what is lost doesn't matter.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::fences::Fences;
use crate::engine::views::Boundaries;
use crate::error::Result;
use crate::operator::{self, MergeOperator};
use crate::types::{
    Entry, EntryKind, Index, RangeDelete, RangeDeletes, Steps, VALUE_BYTES_MAX, Version, expires_us,
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
    /// Their lengths together.
    bytes: usize,
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
    ranges: Arc<RangeDeletes>,
    /// Those that are still needed: of each stripe, the newest one first, the newest over each key.
    needed: Vec<Steps>,
    operator: Option<Arc<dyn MergeOperator>>,
    value_bytes_max: usize,
    fences: Fences,
    key: Vec<u8>,
    /// Whether that is fenced.
    is_fenced: bool,
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
        ranges: Arc<RangeDeletes>,
        operator: Option<Arc<dyn MergeOperator>>,
    ) -> Self {
        Self {
            needed: needed(&boundaries, bottom, &ranges),
            boundaries,
            bottom,
            ranges,
            operator,
            value_bytes_max: VALUE_BYTES_MAX,
            fences: Fences::default(),
            key: Vec::new(),
            is_fenced: false,
            last: None,
            hidden: false,
            chain: Chain::default(),
        }
    }

    /// The same where versions are lost of the keys in `fences`; `meets_some` says whether any of them is among those
    /// that are read.
    pub(crate) fn beside(mut self, fences: Fences, meets_some: bool) -> Self {
        if meets_some {
            self.needed = needed(&self.boundaries, false, &self.ranges);
            self.fences = fences;
        }
        self
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
            self.is_fenced =
                !self.fences.is_empty() && self.fences.over(entry.key).next().is_some();
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
            EntryKind::Merge if self.operator.is_some() && !self.is_fenced => {
                return self.push(entry, write);
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
            if self.bottom && !self.is_fenced && stripe == Stripe::Below(0) {
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

    /// The range deletions that are still needed, of the keys from `lower` on and below `upper`, by their
    /// first keys. O(log n) a stripe, and what comes out.
    pub(crate) fn range_deletes(
        &self,
        lower: Option<&Bytes>,
        upper: Option<&Bytes>,
    ) -> Vec<RangeDelete> {
        let stripes = self.needed.iter();
        let mut all: Vec<_> = stripes
            .flat_map(|steps| steps.within(lower, upper))
            .collect();
        all.sort_by(|a, b| a.from.cmp(&b.from));
        all
    }

    fn stripe(&self, version: Version) -> Stripe {
        stripe(&self.boundaries, version)
    }

    /// Whether a range deletion in the entry's stripe hides it.
    fn is_deleted(&self, entry: &Entry<'_>, stripe: Stripe) -> bool {
        let newest = match stripe {
            Stripe::Below(at) => self.boundaries.indexes.get(at).copied(),
            Stripe::Record(index) => Some(index),
        };
        let newest = newest.map_or(entry.version, Version::newest_at);
        let deleted = self.ranges.newest(entry.key, newest);
        deleted.is_some_and(|deleted| deleted > entry.version)
    }

    /// Adds a merge to the chain. One that would hold more than a value can is ended before: so much is in
    /// memory at once.
    fn push(
        &mut self,
        entry: &Entry<'_>,
        write: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        if self.chain.bytes + entry.value.len() > self.value_bytes_max {
            self.end_chain(Below::Unknown, write)?;
        }
        if self.chain.operands.is_empty() {
            self.chain.key.clear();
            self.chain.key.extend_from_slice(entry.key);
        }
        let operand = Bytes::copy_from_slice(entry.value);
        self.chain.bytes += operand.len();
        self.chain.operands.push((entry.version, operand));
        Ok(())
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
        // Longer than a value can be: a segment takes the parts, and a reader the whole.
        let folded = folded.filter(|(_, value)| value.len() <= self.value_bytes_max);
        let is_folded = folded.is_some();
        match folded {
            Some((kind, value)) => write(Entry {
                key: &chain.key,
                version: *newest,
                kind,
                value: &value,
            })?,
            // Also what the operator refuses or makes too long: the reader is told, and nothing is thrown away.
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
        self.chain.bytes = 0;
        Ok(is_folded)
    }
}

fn stripe(boundaries: &Boundaries, version: Version) -> Stripe {
    let indexes = &boundaries.indexes;
    let at = indexes.partition_point(|boundary| *boundary < version.index);
    if at < indexes.len() {
        Stripe::Below(at)
    } else {
        Stripe::Record(version.index)
    }
}

fn needed(boundaries: &Boundaries, bottom: bool, ranges: &RangeDeletes) -> Vec<Steps> {
    let of = |one: &RangeDelete| stripe(boundaries, one.version);
    let all = ranges.all();
    let stripes = all.chunk_by(|one, next| of(one) == of(next)).rev();
    let kept = stripes.filter(|stripe| {
        let is_done = bottom
            && stripe
                .first()
                .is_some_and(|one| of(one) == Stripe::Below(0));
        !is_done
    });
    kept.map(|stripe| Steps::of(stripe).0).collect()
}

#[cfg(test)]
mod tests;

//! Range deletions: every key from one to another is gone.
//!
//! What must be asked of many of them is the newest one over a key that a reader may see, and many may lie
//! on one another: a queue is trimmed by `..k`, with `k` rising. So no list per stretch of keys is kept,
//! which would take n² of memory. They are kept in the order in which they came, the newest few one by one,
//! the others in runs of 32, 128, 512 and so on up to 8,192, as the digits of a number are. Of each run it
//! is known, in order of the keys, which one of it is the newest over which stretch ([`steps`]). A reader to
//! whom some of a run is too new asks the run's parts, of which that is so for one, in a run that came in
//! order; a run of which no two lie on one another needs no parts.
//!
//! So one more costs O(log n), spread over all, and at most the merge of one run of 8,192; a lookup costs
//! O(log² n + n / 8,192); and each is held in five levels at most, which makes the memory linear. What was
//! handed out doesn't change, and shares its runs with what comes after it.

mod run;
mod steps;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use self::run::Run;
pub use self::steps::{Steps, Stretch};
use super::Version;

/// As many are kept one by one before they become a run.
const TAIL_MAX: usize = 32;

/// As many runs of one size become one.
const FANOUT: usize = 4;

/// Runs don't grow beyond this: who adds the last one merges it.
const RUN_MAX: usize = 8192;

/// What is counted for one beside its keys and itself, in bytes: two allocations.
const OVERHEAD_BYTES: usize = 96;

/// One deletion of every key in `from .. to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeDelete {
    /// The first key that is gone.
    pub from: Bytes,
    /// The first key that isn't any more; `None`: all from `from` on are gone.
    pub to: Option<Bytes>,
    /// Which write this is.
    pub version: Version,
}

impl RangeDelete {
    /// Whether it is over before `key`.
    fn ends_at_or_before(&self, key: &[u8]) -> bool {
        self.to.as_deref().is_some_and(|to| to <= key)
    }

    /// Whether there is no key in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends_at_or_before(&self.from)
    }

    /// Whether `key` is in it.
    #[allow(dead_code, reason = "what tests hold the lookups against")]
    #[must_use]
    pub fn covers(&self, key: &[u8]) -> bool {
        self.from.as_ref() <= key && !self.ends_at_or_before(key)
    }
}

/// Range deletions, of which some may lie on others. A clone shares most of its memory.
#[derive(Clone, Debug, Default)]
pub struct RangeDeletes {
    /// In the order in which they came, none smaller than the next.
    runs: Vec<Arc<Run>>,
    /// Those that came last.
    tail: Vec<RangeDelete>,
    /// Bytes of the keys of all that came.
    key_bytes: usize,
}

impl RangeDeletes {
    /// Takes all at once; empty ones are left out, and of equal ones one is kept. O(n log n).
    #[must_use]
    pub fn new(all: impl IntoIterator<Item = RangeDelete>) -> Self {
        let mut all: Vec<RangeDelete> = all.into_iter().filter(|one| !one.is_empty()).collect();
        all.sort_by_key(|one| one.version);
        all.dedup();
        let mut deletes = Self::default();
        all.into_iter().for_each(|one| deletes.push(one));
        deletes.settle();
        deletes
    }

    /// Adds one, if it isn't empty. O(log n), spread over all; in any order, but fastest to ask if the newest
    /// comes last.
    pub fn push(&mut self, one: RangeDelete) {
        if one.is_empty() {
            return;
        }
        let keys = one.from.len() + one.to.as_ref().map_or(0, Bytes::len);
        self.key_bytes += keys + OVERHEAD_BYTES;
        self.tail.push(one);
        if self.tail.len() < TAIL_MAX {
            return;
        }
        self.runs
            .push(Arc::new(Run::of(std::mem::take(&mut self.tail))));
        while let Some(first) = self.runs.len().checked_sub(FANOUT) {
            let same = self.runs.get(first..).unwrap_or_default();
            let size = same.last().map_or(0, |run| run.deletes());
            if size * FANOUT > RUN_MAX || same.iter().any(|run| run.deletes() != size) {
                break;
            }
            let parts = self.runs.split_off(first);
            self.runs.push(Arc::new(Run::join(parts)));
        }
    }

    /// Makes one run of all: no more are to come.
    fn settle(&mut self) {
        if !self.tail.is_empty() {
            self.runs
                .push(Arc::new(Run::of(std::mem::take(&mut self.tail))));
        }
        if self.runs.len() > 1 {
            let parts = std::mem::take(&mut self.runs);
            self.runs.push(Arc::new(Run::join(parts)));
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.tail.is_empty()
    }

    /// Bytes of memory that they take, about. Parts that are shared with others count in each.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let runs: usize = self.runs.iter().map(|run| run.bytes()).sum();
        self.key_bytes + self.tail.len() * size_of::<RangeDelete>() + runs
    }

    /// The first key that one of them deletes.
    #[must_use]
    pub fn first_key(&self) -> Option<&Bytes> {
        let runs = self.runs.iter().filter_map(|run| run.steps().first_key());
        runs.chain(self.tail.iter().map(|one| &one.from)).min()
    }

    /// The newest deletion of `key` that a reader at `at` may see, and around it the stretch of keys of
    /// which the same can be said.
    #[must_use]
    pub fn stretch(&self, key: &[u8], at: Version) -> Stretch<'_> {
        let mut stretch = Stretch::default();
        self.narrow(&mut stretch, key, at);
        stretch
    }

    /// Adds what they say of `key` to what is known of it already.
    pub fn narrow<'a>(&'a self, stretch: &mut Stretch<'a>, key: &[u8], at: Version) {
        // Newest first: what is older than what was found needs no look.
        for one in self.tail.iter().rev() {
            stretch.see(one, key, at);
        }
        for run in self.runs.iter().rev() {
            run.narrow(stretch, key, at);
        }
    }

    /// The newest deletion of `key` that a reader at `at` may see.
    #[must_use]
    pub fn newest(&self, key: &[u8], at: Version) -> Option<Version> {
        if self.is_empty() {
            return None;
        }
        self.stretch(key, at).newest
    }

    /// Every deletion, by version, the oldest first; some may be in pieces. O(n log n).
    #[must_use]
    pub fn all(&self) -> Vec<RangeDelete> {
        let mut all = Vec::new();
        self.runs.iter().for_each(|run| run.collect(&mut all));
        all.extend(self.tail.iter().cloned());
        all.sort_by_key(|one| one.version);
        all
    }
}

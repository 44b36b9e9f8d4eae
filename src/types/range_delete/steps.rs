//! Of some range deletions the newest one over each key.

use bytes::Bytes;

use super::RangeDelete;
use crate::types::Version;

/// Keys around one, of which the same newest deletion can be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch<'a> {
    /// The first of them.
    pub from: &'a [u8],
    /// The first key behind them; `None` if there is no end.
    pub to: Option<&'a [u8]>,
    /// The deletion.
    pub newest: Option<Version>,
}

impl<'a> Stretch<'a> {
    /// Leaves out what is below a key.
    pub fn begin_at(&mut self, from: &'a [u8]) {
        self.from = self.from.max(from);
    }

    /// Leaves out a key and what is above it.
    pub fn end_at(&mut self, to: &'a [u8]) {
        self.to = Some(self.to.map_or(to, |known| known.min(to)));
    }

    /// Adds one deletion to what is known of `key`, which is in the stretch.
    pub(super) fn see(&mut self, one: &'a RangeDelete, key: &[u8], at: Version) {
        if one.version > at || self.newest >= Some(one.version) {
            return;
        }
        if key < one.from.as_ref() {
            self.end_at(&one.from);
        } else if let Some(to) = one.to.as_deref().filter(|to| *to <= key) {
            self.begin_at(to);
        } else {
            self.begin_at(&one.from);
            one.to.iter().for_each(|to| self.end_at(to));
            self.newest = Some(one.version);
        }
    }
}

/// From its key on, up to the next step's, this is the newest deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    from: Bytes,
    newest: Option<Version>,
}

/// The newest deletion over each key: steps by their keys, no two of which in a row say the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps(Vec<Step>);

impl Steps {
    /// Of deletions none of which is empty. Also whether that is all that can be said of them, as no two
    /// lie on one another. O(n log n).
    #[must_use]
    pub fn of(all: &[RangeDelete]) -> (Self, bool) {
        match all {
            [] => (Self::default(), true),
            [one] => (Self::of_one(one), true),
            _ => {
                let (low, high) = all.split_at(all.len() / 2);
                let ((low, low_flat), (high, high_flat)) = (Self::of(low), Self::of(high));
                let (merged, is_flat) = low.merge(&high);
                (merged, is_flat && low_flat && high_flat)
            }
        }
    }

    fn of_one(one: &RangeDelete) -> Self {
        let begin = Step {
            from: one.from.clone(),
            newest: Some(one.version),
        };
        let end = one.to.clone().map(|from| Step { from, newest: None });
        Self([begin].into_iter().chain(end).collect())
    }

    /// The newest of both, and whether nowhere one hides another. O(n).
    pub(super) fn merge(&self, other: &Self) -> (Self, bool) {
        let (mut ours, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let (mut our, mut their) = (None, None);
        let mut merged: Vec<Step> = Vec::with_capacity(self.0.len() + other.0.len());
        let mut is_flat = true;
        loop {
            let from = match (ours.peek().copied(), theirs.peek().copied()) {
                (Some(one), Some(other)) => (&one.from).min(&other.from),
                (Some(only), None) | (None, Some(only)) => &only.from,
                (None, None) => break,
            };
            if let Some(step) = ours.next_if(|step| step.from == *from) {
                our = step.newest;
            }
            if let Some(step) = theirs.next_if(|step| step.from == *from) {
                their = step.newest;
            }
            is_flat &= our.is_none() || their.is_none() || our == their;
            let newest = our.max(their);
            if merged.last().and_then(|last| last.newest) != newest {
                let from = from.clone();
                merged.push(Step { from, newest });
            }
        }
        merged.shrink_to_fit();
        (Self(merged), is_flat)
    }

    /// How many steps there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes of memory beside the keys'.
    pub(super) fn bytes(&self) -> usize {
        self.0.len() * size_of::<Step>()
    }

    pub(super) fn first_key(&self) -> Option<&Bytes> {
        self.0.first().map(|step| &step.from)
    }

    /// What is said of `key`. O(log n).
    pub(super) fn at(&self, key: &[u8]) -> Stretch<'_> {
        let after = self.0.partition_point(|step| step.from.as_ref() <= key);
        let step = after.checked_sub(1).and_then(|at| self.0.get(at));
        Stretch {
            from: step.map_or(&[], |step| &step.from[..]),
            to: self.0.get(after).map(|next| &next.from[..]),
            newest: step.and_then(|step| step.newest),
        }
    }

    /// The stretches that are deleted, cut to the keys from `lower` on and below `upper`, where they are
    /// given. O(log n), and what comes out.
    pub fn within<'a>(
        &'a self,
        lower: Option<&'a Bytes>,
        upper: Option<&'a Bytes>,
    ) -> impl Iterator<Item = RangeDelete> + 'a {
        let behind = |lower: &Bytes| self.0.partition_point(|step| step.from <= *lower);
        let first = lower.map_or(0, |lower| behind(lower).saturating_sub(1));
        let steps = self.0.get(first..).unwrap_or_default();
        let before = move |step: &&Step| upper.is_none_or(|upper| step.from < *upper);
        let ends = steps.iter().skip(1).map(|step| Some(&step.from));
        let inside = steps.iter().take_while(before);
        inside
            .zip(ends.chain([None]))
            .filter_map(move |(step, end)| {
                let from = lower.map_or(&step.from, |lower| lower.max(&step.from));
                let to = match (end, upper) {
                    (Some(end), Some(upper)) => Some(end.min(upper)),
                    (end, upper) => end.or(upper),
                };
                let cut = RangeDelete {
                    from: from.clone(),
                    to: to.cloned(),
                    version: step.newest?,
                };
                (!cut.is_empty()).then_some(cut)
            })
    }
}

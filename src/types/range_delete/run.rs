//! Some range deletions that came behind one another.

use std::sync::Arc;

use super::{RangeDelete, Steps, Stretch};
use crate::types::Version;

/// What tells more than the newest one over each key.
#[derive(Debug)]
enum Parts {
    /// Nothing does: no two lie on one another.
    None,
    Deletes(Vec<RangeDelete>),
    Runs(Vec<Arc<Run>>),
}

/// Range deletions that came behind one another, one at least.
#[derive(Debug)]
pub(super) struct Run {
    oldest: Version,
    newest: Version,
    deletes: usize,
    steps: Steps,
    parts: Parts,
    /// Memory beside the keys', the parts' included.
    bytes: usize,
}

impl Run {
    /// Of deletions none of which is empty.
    pub(super) fn of(all: Vec<RangeDelete>) -> Self {
        let (steps, is_flat) = Steps::of(&all);
        let versions = || all.iter().map(|one| one.version);
        let (oldest, newest) = (versions().min(), versions().max());
        let deletes = all.len();
        let (parts, parts_bytes) = if is_flat {
            (Parts::None, 0)
        } else {
            (Parts::Deletes(all), deletes * size_of::<RangeDelete>())
        };
        Self {
            oldest: oldest.unwrap_or_default(),
            newest: newest.unwrap_or_default(),
            deletes,
            bytes: size_of::<Self>() + steps.bytes() + parts_bytes,
            steps,
            parts,
        }
    }

    pub(super) fn join(parts: Vec<Arc<Self>>) -> Self {
        let (steps, is_flat) = join_steps(&parts);
        let oldest = parts.iter().map(|run| run.oldest).min();
        let newest = parts.iter().map(|run| run.newest).max();
        let deletes = parts.iter().map(|run| run.deletes).sum();
        let (parts, parts_bytes) = if is_flat {
            (Parts::None, 0)
        } else {
            let bytes = parts.iter().map(|run| run.bytes).sum();
            (Parts::Runs(parts), bytes)
        };
        Self {
            oldest: oldest.unwrap_or_default(),
            newest: newest.unwrap_or_default(),
            deletes,
            bytes: size_of::<Self>() + steps.bytes() + parts_bytes,
            steps,
            parts,
        }
    }

    /// How many it was made of.
    pub(super) fn deletes(&self) -> usize {
        self.deletes
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn steps(&self) -> &Steps {
        &self.steps
    }

    /// Adds what it says of `key` to what is known of it.
    pub(super) fn narrow<'a>(&'a self, stretch: &mut Stretch<'a>, key: &[u8], at: Version) {
        if self.oldest > at || stretch.newest >= Some(self.newest) {
            return;
        }
        match &self.parts {
            Parts::Deletes(all) if self.newest > at => {
                all.iter().rev().for_each(|one| stretch.see(one, key, at));
            }
            Parts::Runs(runs) if self.newest > at => {
                let newest_first = runs.iter().rev();
                newest_first.for_each(|run| run.narrow(stretch, key, at));
            }
            _ => {
                let found = self.steps.at(key);
                stretch.begin_at(found.from);
                found.to.into_iter().for_each(|to| stretch.end_at(to));
                let seen = found.newest.filter(|version| *version <= at);
                stretch.newest = stretch.newest.max(seen);
            }
        }
    }

    /// Adds all that are in it.
    pub(super) fn collect(&self, all: &mut Vec<RangeDelete>) {
        match &self.parts {
            Parts::None => all.extend(self.steps.within(None, None)),
            Parts::Deletes(deletes) => all.extend(deletes.iter().cloned()),
            Parts::Runs(runs) => runs.iter().for_each(|run| run.collect(all)),
        }
    }
}

/// The newest of all, and whether that is all that can be said.
fn join_steps(parts: &[Arc<Run>]) -> (Steps, bool) {
    match parts {
        [] => (Steps::default(), true),
        [one] => (one.steps.clone(), matches!(one.parts, Parts::None)),
        _ => {
            let (low, high) = parts.split_at(parts.len() / 2);
            let ((low, low_flat), (high, high_flat)) = (join_steps(low), join_steps(high));
            let (merged, is_flat) = low.merge(&high);
            (merged, is_flat && low_flat && high_flat)
        }
    }
}

#[cfg(test)]
impl Run {
    /// The steps and deletions that it holds, its parts' included.
    pub(super) fn held(&self) -> usize {
        let parts = match &self.parts {
            Parts::None => 0,
            Parts::Deletes(all) => all.len(),
            Parts::Runs(runs) => runs.iter().map(|run| run.held()).sum(),
        };
        self.steps.len() + parts
    }
}

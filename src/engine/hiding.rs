//! What the range deletions of many tables hide from one reader.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::merge::{Direction, Merge};
use crate::engine::tree::TreeState;
use crate::error::Result;
use crate::types::{RangeDeletes, SegmentMeta, Stretch, Version};

/// Tables side by side, each with a key that its range deletions aren't below, in the order of these keys.
type Run = Vec<(Bytes, Arc<RangeDeletes>)>;

/// What the range deletions of the tables of one moment hide from a reader at one version.
///
/// Nothing is worked out before it is asked for, and of the key asked for last it is remembered how far the
/// same holds: a walk asks the tables once a stretch.
pub(crate) struct Hiding {
    at: Version,
    /// Newest first. Those of one run don't lie on one another.
    runs: Vec<Run>,
    known: Option<Known>,
}

/// Of the keys in `from .. to` this is the newest deletion.
struct Known {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    newest: Option<Version>,
}

impl Known {
    fn covers(&self, key: &[u8]) -> bool {
        self.from.as_slice() <= key && self.to.as_deref().is_none_or(|to| key < to)
    }
}

impl From<Stretch<'_>> for Known {
    fn from(stretch: Stretch<'_>) -> Self {
        Self {
            from: stretch.from.to_vec(),
            to: stretch.to.map(<[u8]>::to_vec),
            newest: stretch.newest,
        }
    }
}

impl Hiding {
    /// What is hidden of the keys from `lower` on and below `upper`. All that the reader may see must be in
    /// the tables. O(tables).
    pub(crate) fn new(state: &TreeState, lower: &[u8], upper: Option<&[u8]>, at: Version) -> Self {
        let touches = |meta: &SegmentMeta| {
            let begins_in = upper.is_none_or(|upper| meta.smallest_key.as_slice() < upper);
            meta.range_deletes > 0 && begins_in && !meta.is_before(lower)
        };
        let in_memory = state.memtables().filter_map(|table| table.range_deletes());
        let mut runs: Vec<Run> = in_memory.map(|all| vec![(Bytes::new(), all)]).collect();
        for (level, segments) in state.levels.iter().enumerate() {
            let touching = segments.iter().filter(|segment| touches(segment.meta()));
            let all = touching.filter_map(|segment| {
                let ranges = segment.range_deletes();
                Some((ranges.first_key()?.clone(), ranges.clone()))
            });
            if level == 0 {
                runs.extend(all.map(|one| vec![one]));
            } else {
                runs.extend(Some(all.collect::<Run>()).filter(|run| !run.is_empty()));
            }
        }
        let known = None;
        Self { at, runs, known }
    }

    /// The newest deletion of a range with `key` in it that the reader sees.
    #[inline]
    pub(crate) fn newest(&mut self, key: &[u8]) -> Option<Version> {
        if self.runs.is_empty() {
            return None;
        }
        self.around(key).newest
    }

    /// The newest deletion of a range with `key` in it that the reader sees, and the first key from which on
    /// that may be another one.
    pub(crate) fn stretch(&mut self, key: &[u8]) -> (Option<Version>, Option<Vec<u8>>) {
        let known = self.around(key);
        (known.newest, known.to.clone())
    }

    fn around(&mut self, key: &[u8]) -> &Known {
        let known = self.known.take().filter(|known| known.covers(key));
        let known = known.unwrap_or_else(|| look(&self.runs, key, self.at).into());
        self.known.insert(known)
    }

    /// Takes the merge past the range deletion that hides `key`.
    pub(crate) fn skip(
        &mut self,
        merge: &mut Merge,
        key: &[u8],
        direction: Direction,
    ) -> Result<()> {
        let known = self.around(key);
        let Some(version) = known.newest else {
            return Ok(());
        };
        let place = match direction {
            Direction::Forward => known.to.as_deref(),
            Direction::Backward => Some(&known.from[..]),
        };
        merge.skip(place, version.index)
    }
}

fn look<'a>(runs: &'a [Run], key: &[u8], at: Version) -> Stretch<'a> {
    let mut stretch = Stretch::default();
    for run in runs {
        let after = run.partition_point(|(first, _)| first.as_ref() <= key);
        if let Some((first, ranges)) = after.checked_sub(1).and_then(|place| run.get(place)) {
            // Below it another one of the run has the word.
            stretch.begin_at(first);
            ranges.narrow(&mut stretch, key, at);
        }
        if let Some((next, _)) = run.get(after) {
            stretch.end_at(next);
        }
    }
    stretch
}

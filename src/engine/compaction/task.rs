//! What one compaction reads, and where it writes.

use std::sync::Arc;

use crate::engine::tree::{LEVELS_MAX, Tree, TreeState};
use crate::engine::views::Boundaries;
use crate::segment::Segment;
use crate::types::{Fence, SegmentMeta};

/// One compaction.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) tree: Arc<Tree>,
    /// The level that `upper` is in.
    pub(super) from: usize,
    /// Newest first.
    pub(super) upper: Vec<Arc<Segment>>,
    /// The segments of the target level that share keys with those.
    pub(super) lower: Vec<Arc<Segment>>,
    pub(super) target: usize,
    /// Whether nothing older than the inputs lies below them.
    pub(super) bottom: bool,
}

impl Task {
    pub(crate) fn new(
        tree: &Arc<Tree>,
        state: &TreeState,
        from: usize,
        upper: Vec<Arc<Segment>>,
        target: usize,
    ) -> Self {
        let mut lower = overlapping(state, target, &upper);
        if from == target {
            lower.clear();
        }
        // What is dropped at the bottom may lie anywhere in what is read, not only in `upper`.
        let inputs: Vec<_> = upper.iter().chain(&lower).cloned().collect();
        let bottom =
            (target + 1..LEVELS_MAX).all(|level| overlapping(state, level, &inputs).is_empty());
        Self {
            tree: tree.clone(),
            from,
            upper,
            lower,
            target,
            bottom,
        }
    }

    pub(crate) fn inputs(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.upper.iter().chain(&self.lower)
    }

    /// The inputs, each with its level.
    pub(crate) fn leveled(&self) -> impl Iterator<Item = (usize, &Arc<Segment>)> {
        let upper = self.upper.iter().map(|segment| (self.from, segment));
        let lower = self.lower.iter().map(|segment| (self.target, segment));
        upper.chain(lower)
    }

    /// Whether some of the keys that it reads may be in a fence.
    pub(super) fn touches(&self, fence: &Fence) -> bool {
        self.inputs().any(|segment| {
            let meta = segment.meta();
            let begins_before = meta.is_endless || fence.from.as_ref() <= &meta.largest_key[..];
            begins_before && !fence.ends_at_or_before(&meta.smallest_key)
        })
    }

    /// Whether it writes segments of the last level again where they are.
    pub(super) fn is_in_place(&self) -> bool {
        self.from == self.target
    }

    /// Whether its segments can go to their level as they are.
    pub(super) fn is_move(&self, boundaries: &Boundaries) -> bool {
        let disjoint = |(at, one): (usize, &Arc<Segment>)| {
            let others = self.upper.iter().skip(at + 1);
            others
                .clone()
                .all(|other| !one.meta().overlaps(other.meta()))
        };
        // At the bottom deletions would go: not as they are, then.
        let shrinks = |s: &&Arc<Segment>| self.bottom && superfluous(s, boundaries);
        self.lower.is_empty()
            && !self.is_in_place()
            && self.upper.iter().enumerate().all(disjoint)
            && self.upper.iter().find(shrinks).is_none()
    }

    /// Whether the two can't be done at the same time.
    pub(super) fn meets(&self, other: &Self) -> bool {
        if self.tree.id != other.tree.id {
            return false;
        }
        let both_from_level0 = self.from == 0 && other.from == 0;
        let is_shared = |s: &Arc<Segment>| other.inputs().any(|t| Arc::ptr_eq(s, t));
        let spans = |s: &Arc<Segment>| other.inputs().any(|t| s.meta().overlaps(t.meta()));
        let same_keys = self.target == other.target && self.inputs().any(spans);
        both_from_level0 || same_keys || self.inputs().any(is_shared)
    }
}

/// Whether a quarter of a segment is what, at the bottom, nobody needs: deletions, old versions, values
/// that have expired.
pub(super) fn superfluous(segment: &Segment, boundaries: &Boundaries) -> bool {
    is_read_whole(segment.meta(), boundaries) && is_stale(segment, boundaries)
}

/// Whether nobody reads between, or below, a segment's versions.
pub(super) fn is_read_whole(meta: &SegmentMeta, boundaries: &Boundaries) -> bool {
    let lowest = boundaries.indexes.first();
    lowest.is_some_and(|lowest| meta.largest_index <= *lowest)
}

/// Whether much of a segment is superfluous but for those who still read it.
pub(super) fn is_stale(segment: &Segment, boundaries: &Boundaries) -> bool {
    let meta = segment.meta();
    let stale = segment.stale_entries(boundaries.time_us);
    meta.range_deletes > 0 || stale.saturating_mul(4) > meta.entries
}

/// The segments of a level that share a part of the keys that `segments` span.
pub(super) fn overlapping(
    state: &TreeState,
    level: usize,
    segments: &[Arc<Segment>],
) -> Vec<Arc<Segment>> {
    let Some(smallest) = segments.iter().map(|s| &s.meta().smallest_key).min() else {
        return Vec::new();
    };
    let largest = segments.iter().map(|s| &s.meta().largest_key).max();
    let endless = segments.iter().any(|s| s.meta().is_endless);
    let is_before = |s: &Arc<Segment>| s.meta().is_before(smallest);
    let begins_in = |s: &&Arc<Segment>| endless || Some(&s.meta().smallest_key) <= largest;
    let all = state.levels.get(level).map_or(&[][..], Vec::as_slice);
    if level == 0 {
        let overlaps = |s: &&Arc<Segment>| begins_in(s) && !is_before(s);
        return all.iter().filter(overlaps).cloned().collect();
    }
    let first = all.partition_point(is_before);
    let from = all.get(first..).unwrap_or_default();
    from.iter().take_while(begins_in).cloned().collect()
}

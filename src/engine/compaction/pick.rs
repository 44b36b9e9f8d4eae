//! Which compaction is needed most.

use std::cell::Cell;
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::compaction::Compactions;
use crate::engine::compaction::levels::Shape;
use crate::engine::compaction::task::{Task, is_read_whole, is_stale, overlapping};
use crate::engine::tree::{LEVELS_MAX, Tree, TreeState};
use crate::engine::views::Boundaries;
use crate::segment::Segment;
use crate::types::Index;

/// A task and how much it is needed: 1 is when it begins to be.
struct Pick {
    score: f64,
    task: Task,
}

/// What is picked from, for one tree.
struct Choice<'a> {
    engine: &'a Engine,
    tree: &'a Arc<Tree>,
    state: &'a TreeState,
    shape: Shape,
    compactions: &'a Compactions,
    boundaries: &'a Boundaries,
    /// The lowest index below which somebody reads, and so keeps a segment's space from being given back.
    awaited: &'a Cell<Option<Index>>,
}

impl TreeState {
    /// Bytes of segments in each level.
    pub(crate) fn levels_bytes(&self) -> [u64; LEVELS_MAX] {
        std::array::from_fn(|level| self.level_bytes(level))
    }
}

impl Engine {
    /// The task that is needed most and can be done beside those at work.
    pub(super) fn next_task(&self, compactions: &Compactions) -> Option<Task> {
        let keyspaces = self.keyspaces.load();
        let boundaries = self.views.boundaries();
        let now = self.clock.elapsed();
        let awaited = Cell::new(None);
        let mut best: Option<Pick> = None;
        for tree in keyspaces.trees() {
            if compactions.is_waiting(tree, now) || tree.is_dropped() {
                continue;
            }
            let state = tree.load();
            if !state.broken.is_empty() && compactions.is_busy(tree) {
                // Somebody is saving what can be read of them.
                continue;
            }
            let choice = Choice {
                engine: self,
                tree,
                state: &state,
                shape: Shape::of(&state.levels_bytes(), self.options.level_base_bytes),
                compactions,
                boundaries: &boundaries,
                awaited: &awaited,
            };
            let pick = choice.pick();
            if let Some(pick) = pick
                && best.as_ref().is_none_or(|best| best.score < pick.score)
            {
                best = Some(pick);
            }
        }
        if let (None, Some(index)) = (&best, awaited.get()) {
            self.views.await_release(index);
        }
        best.map(|pick| pick.task)
    }
}

impl Choice<'_> {
    fn pick(&self) -> Option<Pick> {
        let level0 = self.state.level0_runs();
        let level0_score = level0 as f64 / self.engine.options.level0_segments_compact as f64;
        let mut best = (level0_score >= 1.0)
            .then(|| self.level0(level0_score))
            .flatten();
        for level in 1..LEVELS_MAX - 1 {
            let bytes = self.state.level_bytes(level);
            let bytes_max = self.shape.bytes_max.get(level).copied().unwrap_or_default();
            if bytes <= bytes_max {
                continue;
            }
            let score = bytes as f64 / bytes_max.max(1) as f64;
            if best.as_ref().is_none_or(|best| best.score < score) {
                best = self.level(level, score).or(best);
            }
        }
        best.or_else(|| self.superfluous())
    }

    fn free(&self, task: Task) -> Option<Task> {
        let mut running = self.compactions.running.iter();
        let free = !task.upper.is_empty() && running.all(|other| !other.meets(&task));
        free.then_some(task)
    }

    /// All of level 0 into the base.
    fn level0(&self, score: f64) -> Option<Pick> {
        let upper = self.state.levels.first()?.clone();
        let task = Task::new(self.tree, self.state, 0, upper, self.shape.base);
        let task = self.free(task)?;
        Some(Pick { score, task })
    }

    /// The segment of a level that drags the least of the next one with it.
    fn level(&self, level: usize, score: f64) -> Option<Pick> {
        let target = level + 1;
        let time_us = self.boundaries.time_us;
        let cost = |segment: &Arc<Segment>| {
            let below = overlapping(self.state, target, std::slice::from_ref(segment));
            let below: u64 = below.iter().map(|s| s.meta().bytes).sum();
            let stale =
                segment.stale_entries(time_us) as f64 / segment.meta().entries.max(1) as f64;
            // What is rewritten for each byte that leaves the level, less where much of it goes for good.
            below as f64 / segment.meta().bytes.max(1) as f64 * (1.0 - 0.5 * stale.min(1.0))
        };
        let segments = self.state.levels.get(level)?.iter();
        let mut segments: Vec<_> = segments.map(|segment| (cost(segment), segment)).collect();
        segments.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let task = segments.into_iter().find_map(|(_, segment)| {
            let upper = vec![segment.clone()];
            self.free(Task::new(self.tree, self.state, level, upper, target))
        })?;
        Some(Pick { score, task })
    }

    /// When nothing else is to be done: a segment with much in it that nobody needs, on its way down, or,
    /// in the last level, where it is.
    fn superfluous(&self) -> Option<Pick> {
        self.state.segments().find_map(|(level, segment)| {
            let settled = self.compactions.settled.contains(&segment.meta().number);
            if settled || !is_stale(segment, self.boundaries) {
                return None;
            }
            if !is_read_whole(segment.meta(), self.boundaries) {
                let index = segment.meta().largest_index;
                let before = self.awaited.get();
                self.awaited
                    .set(Some(before.map_or(index, |before| before.min(index))));
                return None;
            }
            let score = 0.5;
            if level == 0 {
                return self.level0(score);
            }
            let upper = vec![segment.clone()];
            let below = (level + 1..LEVELS_MAX)
                .find(|below| !overlapping(self.state, *below, &upper).is_empty());
            let target = below.unwrap_or(level);
            let task = Task::new(self.tree, self.state, level, upper, target);
            let task = self.free(task)?;
            Some(Pick { score, task })
        })
    }
}

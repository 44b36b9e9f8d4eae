//! Compaction of a range on demand.

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::compaction::levels::Shape;
use crate::engine::compaction::task::{Task, overlapping};
use crate::engine::jobs::Job;
use crate::engine::tree::{LEVELS_MAX, Tree};
use crate::error::Result;
use crate::segment::Segment;
use crate::types::{Index, SegmentMeta, SegmentNumber};

/// What one call is to bring down.
struct Request<'a> {
    tree: &'a Arc<Tree>,
    lower: &'a [u8],
    upper: Option<&'a [u8]>,
    /// What has been written since is nobody's wish.
    until: Index,
    /// Segments from this number on were written by this call, or since.
    first_new: SegmentNumber,
}

impl Engine {
    /// Flushes, and then brings every segment that shares keys with `lower .. upper` down to the last
    /// level that has any, so that nothing is left there but what somebody can still read.
    pub(crate) fn compact_range(
        &self,
        tree: &Arc<Tree>,
        lower: &[u8],
        upper: Option<&[u8]>,
    ) -> Result<()> {
        let _call = self.calls.enter()?;
        self.flush()?;
        let request = Request {
            tree,
            lower,
            upper,
            until: self.views.visible(),
            first_new: self.new_segment_number(),
        };
        for level in 0..LEVELS_MAX {
            while self.run_made(|| self.make_task(&request, level))? {
                // Nothing is published of a dropped one: it would go on for ever.
                tree.check_not_dropped()?;
            }
        }
        self.step_reclaim()?;
        // What somebody still reads is for the threads.
        self.signals.wake(Job::Reclaim);
        Ok(())
    }

    /// The next task that the request asks for in a level.
    fn make_task(&self, request: &Request<'_>, level: usize) -> Option<Task> {
        let tree = request.tree;
        let state = tree.load();
        let all = state.levels.get(level)?;
        let wanted = |s: &&Arc<Segment>| request.concerns(s.meta());
        let shape = Shape::of(&state.levels_bytes(), self.options.level_base_bytes);
        if level == 0 {
            all.iter().find(wanted)?;
            return Some(Task::new(tree, &state, 0, all.clone(), shape.base));
        }
        let older = |segment: &Arc<Segment>| {
            let upper = std::slice::from_ref(segment);
            (level + 1..LEVELS_MAX).find(|below| !overlapping(&state, *below, upper).is_empty())
        };
        all.iter().filter(wanted).find_map(|segment| {
            // With nothing below, what this call has written is as it should be.
            let is_old = segment.meta().number < request.first_new;
            let shrinks = is_old && segment.may_shrink();
            let target = older(segment).or(shrinks.then_some(level))?;
            Some(Task::new(
                tree,
                &state,
                level,
                vec![segment.clone()],
                target,
            ))
        })
    }

    /// Runs what `make` makes of the tables as they are, once no other task is in its way. `false` if
    /// there is nothing to do.
    fn run_made(&self, make: impl Fn() -> Option<Task>) -> Result<bool> {
        loop {
            self.check_writable()?;
            let claimed = {
                let mut compactions = self.compactions.lock();
                let Some(task) = make() else {
                    return Ok(false);
                };
                compactions.claim(task)
            };
            match claimed {
                Some(task) => return self.run_task(task).map(|()| true),
                None => self.signals.wait_for_job(),
            }
        }
    }
}

impl Request<'_> {
    fn concerns(&self, meta: &SegmentMeta) -> bool {
        let begins_in = self
            .upper
            .is_none_or(|upper| meta.smallest_key.as_slice() < upper);
        begins_in && !meta.is_before(self.lower) && meta.smallest_index <= self.until
    }
}

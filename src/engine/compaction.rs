//! Compaction: keeps the number of segments bounded and gives back the space of what nobody can read any
//! more. `docs/compaction.md` says what is done when, and why.

mod levels;
mod manual;
mod output;
mod pick;
mod task;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::jobs::RETRY_AFTER;
use crate::engine::tree::Tree;
use crate::engine::views::Boundaries;
use crate::error::{Error, Result};
use crate::manifest::Change;
use crate::options::Background;
use crate::segment::Segment;
use crate::types::{Index, KeyspaceId, RangeDeletes, SegmentMeta, SegmentNumber};

pub(crate) use self::task::Task;
use self::task::is_read_whole;

/// What those who compact know of one another.
#[derive(Debug, Default)]
pub(crate) struct Compactions {
    /// The tasks at work; no two of them touch the same segments, or the same keys of one level.
    running: Vec<Arc<Task>>,
    /// Keyspaces whose last compaction failed: they wait for a while.
    failed: HashMap<KeyspaceId, Failed>,
    /// Keyspaces that damage keeps from being compacted.
    pub(crate) stuck: HashSet<KeyspaceId>,
    /// Segments that hold much that looks superfluous and isn't: looking again would not help.
    settled: HashSet<SegmentNumber>,
}

/// How compactions of a keyspace have failed, one after the other.
#[derive(Debug)]
struct Failed {
    times: u32,
    /// When it may be tried again, by the clock's `elapsed`.
    again_at: Duration,
    error: Error,
}

/// A task at work, released when dropped, whatever becomes of it.
pub(crate) struct Claimed<'a> {
    engine: &'a Engine,
    task: Arc<Task>,
}

impl Claimed<'_> {
    pub(crate) fn tree(&self) -> &Arc<Tree> {
        &self.task.tree
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.engine.compactions.lock().release(&self.task);
    }
}

/// Times that a compaction fails before what it can't read, though no checksum says that it is wrong, is taken to
/// be lost; and before one that meets damage of which nothing can be found is given up.
const FAILURES_MAX: u32 = 7;

/// A keyspace whose compactions go on failing is tried again after 1, 2, 4, … seconds, at most so many.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(32);

impl Compactions {
    /// Whether a tree's compaction failed a short time ago, or would fail again.
    fn is_waiting(&self, tree: &Tree, now: Duration) -> bool {
        let failed = self.failed.get(&tree.id);
        self.stuck.contains(&tree.id) || failed.is_some_and(|failed| now < failed.again_at)
    }

    fn note_failure(&mut self, tree: &Tree, error: &Error, now: Duration) {
        let times = self.times_failed(tree);
        if matches!(error, Error::Damaged(_)) && times >= FAILURES_MAX {
            self.failed.remove(&tree.id);
            self.stuck.insert(tree.id);
            return;
        }
        let pause = RETRY_AFTER.saturating_mul(1 << times.min(16));
        let failed = Failed {
            times: times.saturating_add(1),
            again_at: now.saturating_add(pause.min(RETRY_AFTER_MAX)),
            error: error.clone(),
        };
        self.failed.insert(tree.id, failed);
    }

    /// How often in a row compactions of a tree have failed.
    fn times_failed(&self, tree: &Tree) -> u32 {
        self.failed.get(&tree.id).map_or(0, |failed| failed.times)
    }

    fn claim(&mut self, task: Task) -> Option<Arc<Task>> {
        // Whoever comes first puts what is left of broken segments back where they were: nobody else may put
        // anything there meanwhile.
        let is_alone = task.tree.with(|state| !state.broken.is_empty());
        let meets = |other: &Arc<Task>| match is_alone {
            true => other.tree.id == task.tree.id,
            false => other.meets(&task),
        };
        if self.running.iter().any(meets) {
            return None;
        }
        let task = Arc::new(task);
        self.running.push(task.clone());
        Some(task)
    }

    /// Whether a task of this tree is at work.
    pub(crate) fn is_busy(&self, tree: &Tree) -> bool {
        self.running.iter().any(|task| task.tree.id == tree.id)
    }

    fn release(&mut self, task: &Arc<Task>) {
        self.running.retain(|other| !Arc::ptr_eq(other, task));
    }
}

impl Engine {
    /// Takes hold of a task, if none at work is in its way.
    pub(crate) fn claim(&self, task: Task) -> Option<Claimed<'_>> {
        let task = self.compactions.lock().claim(task)?;
        Some(Claimed { engine: self, task })
    }

    /// Runs one compaction, if a tree needs one. `false` if none does. After a failure its tree is left
    /// alone for a while, or, if the caller steps the jobs, until nothing else is to be done.
    pub(crate) fn step_compaction(&self) -> Result<bool> {
        if self.options.read_only {
            return Ok(false);
        }
        let task = {
            let mut compactions = self.compactions.lock();
            let Some(task) = self.next_task(&compactions) else {
                if self.options.background == Background::Manual {
                    compactions.failed.clear();
                }
                return Ok(false);
            };
            compactions.claim(task)
        };
        let Some(task) = task else {
            return Ok(false);
        };
        self.run_task(task).map(|()| true)
    }

    /// Whether a compaction is to be tried again.
    pub(crate) fn has_failed_compactions(&self) -> bool {
        let mut compactions = self.compactions.lock();
        let keyspaces = self.keyspaces.load();
        compactions
            .failed
            .retain(|id, _| keyspaces.get(*id).is_some());
        !compactions.failed.is_empty()
    }

    /// Does a task that has been claimed, and releases it.
    fn run_task(&self, task: Arc<Task>) -> Result<()> {
        let claimed = Claimed { engine: self, task };
        let task = &claimed.task;
        let compacted = || {
            self.check_not_latched()?;
            match self.clear_broken(&task.tree)? {
                // What is left of them isn't in the task.
                true => Ok(()),
                false => self.compact(task),
            }
        };
        let outcome = compacted().or_else(|error| {
            let times = self.compactions.lock().times_failed(&task.tree);
            self.fence_inputs(task, error, times + 1 < FAILURES_MAX)
        });
        if let Err(error) = &outcome {
            self.latch_if_final(error);
        }
        let failure = self.note_outcome(&task.tree, &outcome);
        drop(claimed);
        self.update_pressure();
        self.signals.compacted(failure);
        outcome
    }

    /// Puts what can be read of broken segments in their place, and fences around the rest, before anything else is put
    /// there. `false` if there are none. One that the disk refuses to read time and again is fenced whole.
    fn clear_broken(&self, tree: &Arc<Tree>) -> Result<bool> {
        let broken = || tree.with(|state| state.broken.len());
        let before = broken();
        if before == 0 {
            return Ok(false);
        }
        let times = self.compactions.lock().times_failed(tree);
        self.rescue_broken(tree, times + 1 < FAILURES_MAX)?;
        Ok(broken() < before)
    }

    /// Notes how a compaction of a tree ended. Returns a failure that is still to be made good, if any.
    fn note_outcome(&self, tree: &Tree, outcome: &Result<()>) -> Option<Error> {
        let mut compactions = self.compactions.lock();
        match outcome {
            Ok(()) => {
                compactions.failed.remove(&tree.id);
            }
            // That is none.
            Err(Error::Closed) => {}
            Err(error) => compactions.note_failure(tree, error, self.clock.elapsed()),
        }
        let latest = compactions
            .failed
            .values()
            .max_by_key(|failed| failed.again_at);
        latest.map(|failed| failed.error.clone())
    }

    fn compact(&self, task: &Task) -> Result<()> {
        let _span = tracing::debug_span!(
            "compaction",
            keyspace = task.tree.name,
            from = task.from,
            to = task.target,
            segments = task.inputs().count(),
        )
        .entered();
        if task.is_move(&self.views.boundaries()) {
            self.metrics.moves.add(1);
            return self.publish_move(task);
        }
        let boundaries = self.views.boundaries();
        let mut built = Vec::new();
        let begun = self.clock.elapsed();
        let outcome = self.compact_into(task, &mut built);
        if task.from == 0 && outcome.is_ok() {
            let taken = self.clock.elapsed().saturating_sub(begun);
            let bytes = task.upper.iter().map(|s| s.meta().bytes).sum();
            self.pressure.drained(bytes, taken);
        }
        if let Err(error) = &outcome {
            self.latch_if_final(error);
            self.discard(built.iter());
        }
        outcome?;
        self.forget_fences(task, &boundaries)
    }

    fn compact_into(&self, task: &Task, built: &mut Vec<SegmentMeta>) -> Result<()> {
        // As they are before the merge: what it must keep can only have become less since.
        let boundaries = self.views.boundaries();
        self.merge_segments(task, built)?;
        let (read, written) = (
            task.inputs().map(|s| s.meta().bytes).sum(),
            built.iter().map(|meta| meta.bytes).sum(),
        );
        self.metrics.compactions.add(1);
        self.metrics.compaction_bytes_read.add(read);
        self.metrics.compaction_bytes_written.add(written);
        self.sync_folder()?;
        let opened = built
            .iter()
            .map(|meta| Ok(Arc::new(self.open_segment(meta)?)))
            .collect::<Result<Vec<_>>>()?;
        if task.is_in_place() {
            // If even now much of it looks superfluous, it isn't, unless it is there for a reader.
            let whole = built.iter().filter(|meta| is_read_whole(meta, &boundaries));
            let numbers = whole.map(|meta| meta.number);
            self.compactions.lock().settled.extend(numbers);
        }
        self.publish_compaction(task, opened)
    }

    /// What was lost of a range that everybody knows to be deleted since matters no more.
    fn forget_fences(&self, task: &Task, boundaries: &Boundaries) -> Result<()> {
        let has_none = task.tree.with(|state| state.fences.is_empty());
        let Some(lowest) = boundaries.indexes.first().filter(|_| !has_none) else {
            return Ok(());
        };
        let ranges = RangeDeletes::new(task.inputs().flat_map(|s| s.range_deletes().all()));
        self.change_fences(&task.tree, &|fences| fences.outliving(&ranges, *lowest))
    }

    /// Puts a task's segments a level deeper as they are.
    fn publish_move(&self, task: &Task) -> Result<()> {
        self.publish(task, task.upper.clone(), Vec::new())
    }

    fn publish_compaction(&self, task: &Task, opened: Vec<Arc<Segment>>) -> Result<()> {
        let gone = task.inputs().cloned().collect();
        self.publish(task, opened, gone)
    }

    /// One manifest edit: a task's inputs go, and `added` come in its target level.
    fn publish(
        &self,
        task: &Task,
        added: Vec<Arc<Segment>>,
        garbage: Vec<Arc<Segment>>,
    ) -> Result<()> {
        let removed: Vec<SegmentNumber> = task.inputs().map(|s| s.meta().number).collect();
        let level = u8::try_from(task.target).unwrap_or(u8::MAX);
        let mut manifest = self.manifest.lock();
        if task.tree.is_dropped() || !manifest.state().keyspaces.contains_key(&task.tree.id) {
            drop(manifest);
            if !garbage.is_empty() {
                self.garbage.lock().extend(added);
            }
            return Ok(());
        }
        let replaced = Change::SegmentsReplaced {
            keyspace: task.tree.id,
            removed: removed.clone(),
            added: added.iter().map(|s| (level, s.meta().clone())).collect(),
            covered: None,
        };
        self.calls.check()?;
        manifest.apply(&[replaced, Change::Activity(self.activity().encode())])?;
        task.tree.change(|state| {
            state.remove_segments(&removed);
            for segment in added {
                state.add_segment(task.target, segment);
            }
        });
        drop(manifest);
        self.garbage.lock().extend(garbage);
        let mut compactions = self.compactions.lock();
        removed.iter().for_each(|number| {
            compactions.settled.remove(number);
        });
        Ok(())
    }

    /// Removes the files of segments that nobody reads any more, and of those that nothing names.
    /// `false` if there was nothing to remove.
    pub(crate) fn step_reclaim(&self) -> Result<bool> {
        if self.options.read_only {
            return Ok(false);
        }
        // What was loaded, and is in none of the trees, the archive may still want.
        let wanted = self.first_to_be_archived();
        let is_wanted = |loaded_at: Index| {
            loaded_at > Index(0) && wanted.is_some_and(|first| loaded_at >= first)
        };
        let free: Vec<Arc<Segment>> = self
            .garbage
            .lock()
            .extract_if(.., |s| {
                Arc::strong_count(s) == 1 && !is_wanted(s.meta().loaded_at)
            })
            .collect();
        let mut names: Vec<String> = free
            .iter()
            .map(|s| crate::segment::file_name(s.meta().number))
            .collect();
        drop(free);
        // What an open found may not be what the disk holds: only an edit makes it so.
        if self.manifest.lock().has_begun_generation() {
            names.append(&mut self.discarded.lock());
            if !self.may_want_orphans() {
                names.append(&mut self.orphans.lock());
            }
        }
        for name in &names {
            // A file that can't be removed is found again, and tried again, by the next open.
            let _ = self.options.vfs.remove(&self.options.path.join(name));
        }
        Ok(!names.is_empty())
    }
}

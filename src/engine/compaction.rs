//! Compaction: keeps the number of segments bounded. Level 0 is merged into level 1 when it has too
//! many segments; a deeper level that outgrows its share moves one segment on, in turn.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::merge::{Direction, LevelCursor, Merge, Source};
use crate::engine::retention::Retention;
use crate::engine::tree::{LEVELS_MAX, Tree, TreeState};
use crate::error::{Error, Result};
use crate::manifest::Change;
use crate::segment::{Segment, SegmentBuilder};
use crate::types::{KeyspaceId, SegmentMeta, SegmentNumber};

/// How many times larger each level is than the one above it.
const LEVEL_FACTOR: u64 = 10;

/// What the one who compacts remembers.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    /// Where each level's turn has come to: the largest key moved last.
    turns: HashMap<(KeyspaceId, usize), Vec<u8>>,
    /// Keyspaces whose last compaction failed; they wait until the others are done.
    failed: HashSet<KeyspaceId>,
}

/// What one compaction reads, and where it writes.
struct Task {
    tree: Arc<Tree>,
    /// Newest first.
    upper: Vec<Arc<Segment>>,
    lower: Vec<Arc<Segment>>,
    target: usize,
    bottom: bool,
}

impl Engine {
    /// Runs one compaction, if a tree needs one. `false` if none does. After a failure the next call
    /// goes on with other trees; one that is damaged isn't tried again before the store is reopened.
    pub(crate) fn step_compaction(&self) -> Result<bool> {
        if self.options.read_only {
            return Ok(false);
        }
        let mut cursors = self.compacting.lock();
        let Some(task) = self.next_task(&mut cursors) else {
            cursors.failed.clone_from(&self.stuck.lock());
            return Ok(false);
        };
        self.check_not_latched()?;
        let outcome = self
            .compact(&task)
            .inspect_err(|error| self.latch_if_final(error));
        if let Err(error) = &outcome {
            cursors.failed.insert(task.tree.id);
            if matches!(error, Error::Damaged(_)) {
                self.stuck.lock().insert(task.tree.id);
            }
        }
        self.update_level0_full();
        match &outcome {
            // No reason to refuse a write that waits for room.
            Err(Error::Damaged(_)) => self.signals.finished(&Ok(())),
            outcome => self.signals.finished(outcome),
        }
        outcome.map(|()| true)
    }

    fn next_task(&self, cursors: &mut Cursors) -> Option<Task> {
        let keyspaces = self.keyspaces.load();
        let mut trees = keyspaces.trees();
        trees.find_map(|tree| match cursors.failed.contains(&tree.id) {
            true => None,
            false => self.pick(tree, cursors),
        })
    }

    fn pick(&self, tree: &Arc<Tree>, cursors: &mut Cursors) -> Option<Task> {
        let state = tree.load();
        let level0 = state.levels.first()?;
        if level0.len() >= self.options.level0_segments_compact {
            return Some(Task::new(tree, &state, level0.clone(), 1));
        }
        let mut target_bytes = self.options.level_base_bytes;
        for level in 1..LEVELS_MAX - 1 {
            if state.level_bytes(level) > target_bytes {
                let segments = state.levels.get(level)?;
                let last = cursors.turns.entry((tree.id, level)).or_default();
                let turn = segments.iter().find(|s| s.meta().smallest_key > *last);
                let chosen = turn.or(segments.first())?.clone();
                last.clone_from(&chosen.meta().largest_key);
                return Some(Task::new(tree, &state, vec![chosen], level + 1));
            }
            target_bytes = target_bytes.saturating_mul(LEVEL_FACTOR);
        }
        None
    }

    fn compact(&self, task: &Task) -> Result<()> {
        let mut built = Vec::new();
        let outcome = self.compact_into(task, &mut built);
        if let Err(error) = &outcome {
            self.latch_if_final(error);
            self.discard(built.iter());
        }
        outcome
    }

    fn compact_into(&self, task: &Task, built: &mut Vec<SegmentMeta>) -> Result<()> {
        self.merge_segments(task, built)?;
        self.sync_folder()?;
        let opened = built
            .iter()
            .map(|meta| Ok(Arc::new(self.open_segment(meta)?)))
            .collect::<Result<Vec<_>>>()?;
        self.publish_compaction(task, opened)
    }

    fn merge_segments(&self, task: &Task, built: &mut Vec<SegmentMeta>) -> Result<()> {
        let mut retention = Retention::new(self.views.boundaries(), task.bottom);
        let mut sources: Vec<_> = task
            .upper
            .iter()
            .map(|s| Source::Segment(s.cursor()))
            .collect();
        sources.push(Source::Level(LevelCursor::new(task.lower.clone())));
        let mut merge = Merge::new(sources, Direction::Forward);
        merge.seek(&[])?;
        let mut builder: Option<SegmentBuilder> = None;
        let mut last_key = Vec::new();
        while let Some(entry) = merge.entry() {
            if retention.keeps(&entry) {
                // Versions of one key stay in one segment, so that a level's segments are disjoint.
                let full = builder
                    .as_ref()
                    .is_some_and(|b| b.bytes() >= self.options.segment_bytes);
                if full
                    && last_key != entry.key
                    && let Some(done) = builder.take()
                {
                    built.push(done.finish()?);
                }
                let open = match &mut builder {
                    Some(open) => open,
                    none => none.insert(self.new_builder(task.tree.id)?),
                };
                if let Err(error) = open.add(entry) {
                    builder.take().into_iter().for_each(SegmentBuilder::abandon);
                    return Err(error);
                }
                last_key.clear();
                last_key.extend_from_slice(entry.key);
            }
            if let Err(error) = merge.advance() {
                builder.take().into_iter().for_each(SegmentBuilder::abandon);
                return Err(error);
            }
        }
        if let Some(done) = builder {
            built.push(done.finish()?);
        }
        Ok(())
    }

    fn publish_compaction(&self, task: &Task, opened: Vec<Arc<Segment>>) -> Result<()> {
        let removed: Vec<SegmentNumber> = task
            .upper
            .iter()
            .chain(&task.lower)
            .map(|s| s.meta().number)
            .collect();
        let level = u8::try_from(task.target).unwrap_or(u8::MAX);
        let mut manifest = self.manifest.lock();
        if task.tree.is_dropped() || !manifest.state().keyspaces.contains_key(&task.tree.id) {
            drop(manifest);
            self.garbage.lock().extend(opened);
            return Ok(());
        }
        manifest.apply(&[Change::SegmentsReplaced {
            keyspace: task.tree.id,
            removed: removed.clone(),
            added: opened.iter().map(|s| (level, s.meta().clone())).collect(),
            covered: None,
        }])?;
        task.tree.change(|state| {
            let gone = state.remove_segments(&removed);
            opened
                .into_iter()
                .for_each(|segment| state.add_segment(task.target, segment));
            self.garbage.lock().extend(gone);
        });
        Ok(())
    }

    /// Removes the files of segments that nobody reads any more, and of those that nothing names.
    /// `false` if there was nothing to remove.
    pub(crate) fn step_reclaim(&self) -> Result<bool> {
        if self.options.read_only {
            return Ok(false);
        }
        let free: Vec<Arc<Segment>> = self
            .garbage
            .lock()
            .extract_if(.., |s| Arc::strong_count(s) == 1)
            .collect();
        let mut names: Vec<String> = free
            .iter()
            .map(|s| crate::segment::file_name(s.meta().number))
            .collect();
        drop(free);
        // What an open found may not be what the disk holds: only an edit makes it so.
        if self.manifest.lock().has_begun_generation() {
            names.append(&mut self.orphans.lock());
        }
        for name in &names {
            // A file that can't be removed is found again, and tried again, by the next open.
            let _ = self.options.vfs.remove(&self.options.path.join(name));
        }
        Ok(!names.is_empty())
    }
}

impl Task {
    fn new(tree: &Arc<Tree>, state: &TreeState, upper: Vec<Arc<Segment>>, target: usize) -> Self {
        let lower = overlapping(state, target, &upper);
        // What is dropped at the bottom may lie anywhere in what is read, not only in `upper`.
        let inputs: Vec<_> = upper.iter().chain(&lower).cloned().collect();
        let bottom =
            (target + 1..LEVELS_MAX).all(|level| overlapping(state, level, &inputs).is_empty());
        Self {
            tree: tree.clone(),
            upper,
            lower,
            target,
            bottom,
        }
    }
}

/// The segments of a level that share a part of the key range that `segments` span.
fn overlapping(state: &TreeState, level: usize, segments: &[Arc<Segment>]) -> Vec<Arc<Segment>> {
    let smallest = segments.iter().map(|s| &s.meta().smallest_key).min();
    let largest = segments.iter().map(|s| &s.meta().largest_key).max();
    let overlaps = |segment: &&Arc<Segment>| {
        let meta = segment.meta();
        Some(&meta.largest_key) >= smallest && Some(&meta.smallest_key) <= largest
    };
    state
        .levels
        .get(level)
        .into_iter()
        .flatten()
        .filter(overlaps)
        .cloned()
        .collect()
}

//! The merge of a task's inputs into new segments.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::Engine;
use crate::engine::compaction::task::Task;
use crate::engine::merge::{Direction, LevelCursor, Merge, Source};
use crate::engine::rewrite::Rewrite;
use crate::engine::tree::Tree;
use crate::error::Result;
use crate::segment::{Segment, SegmentBuilder};
use crate::types::{Entry, Index, RangeDeletes, SegmentMeta, Version};

/// The segments being written, one at a time.
struct Output<'a> {
    engine: &'a Engine,
    tree: &'a Tree,
    /// The level that they are for.
    level: usize,
    open: Option<SegmentBuilder>,
    last_key: Vec<u8>,
    /// The first key of the segment at hand; `None` for the first segment.
    lower: Option<Bytes>,
    built: &'a mut Vec<SegmentMeta>,
    /// Bytes written since the rate was last looked at.
    unpaced_bytes: usize,
}

/// How much is written before the rate limit is asked, in bytes.
const PACE_BYTES: usize = 64 << 10;

impl Output<'_> {
    /// Whether the segment at hand ends before this key. Versions of one key stay in one segment, so that
    /// a level's segments are disjoint.
    fn is_full(&self, key: &[u8]) -> bool {
        let bytes = self.open.as_ref().map_or(0, SegmentBuilder::bytes);
        bytes >= self.engine.options.segment_bytes && self.last_key != key
    }

    fn builder(&mut self) -> Result<&mut SegmentBuilder> {
        Ok(match &mut self.open {
            Some(open) => open,
            none => none.insert(self.engine.new_builder(self.tree, self.level)?),
        })
    }

    fn add(&mut self, entry: Entry<'_>) -> Result<()> {
        self.builder()?.add(entry)?;
        self.last_key.clear();
        self.last_key.extend_from_slice(entry.key);
        self.unpaced_bytes += entry.key.len() + entry.value.len();
        if self.unpaced_bytes >= PACE_BYTES {
            self.engine
                .pace_compaction(std::mem::take(&mut self.unpaced_bytes));
        }
        Ok(())
    }

    /// Ends the segment at hand before `upper`, with the range deletions up to there.
    fn cut(&mut self, rewrite: &Rewrite, upper: Option<Bytes>) -> Result<()> {
        let ranges = rewrite.range_deletes(self.lower.as_ref(), upper.as_ref());
        if !ranges.is_empty() {
            self.builder()?.set_range_deletes(ranges);
        }
        if let Some(open) = self.open.take() {
            self.built.push(open.finish()?);
        }
        self.lower = upper;
        Ok(())
    }
}

impl Engine {
    /// Writes what is needed of a task's inputs into new segments, which `built` names even after an error.
    pub(super) fn merge_segments(&self, task: &Task, built: &mut Vec<SegmentMeta>) -> Result<()> {
        let boundaries = self.views.boundaries();
        let ranges = task.inputs().flat_map(|s| s.range_deletes().all());
        let ranges = Arc::new(RangeDeletes::new(ranges));
        // Unread, what is deleted as a whole.
        let gone = |s: &&Arc<Segment>| ranges_hide(&ranges, s, &boundaries.indexes);
        let mut sources: Vec<_> = task
            .upper
            .iter()
            .filter(|s| !gone(s))
            .map(|s| Source::Segment(s.cursor()))
            .collect();
        let lower = task.lower.iter().filter(|s| !gone(s)).cloned().collect();
        sources.push(Source::Level(LevelCursor::new(lower)));
        let operator = task.tree.values.operator().ok().cloned();
        let fences = task.tree.with(|state| state.fences.clone());
        let meets_some = fences.all().iter().any(|fence| task.touches(fence));
        let rewrite = Rewrite::new(boundaries, task.bottom, ranges, operator);
        let mut rewrite = rewrite.beside(fences, meets_some);
        let mut output = Output {
            engine: self,
            tree: &task.tree,
            level: task.target,
            open: None,
            last_key: Vec::new(),
            lower: None,
            built,
            unpaced_bytes: 0,
        };
        let outcome = write_all(sources, &mut rewrite, &mut output);
        if outcome.is_err() {
            output.open.into_iter().for_each(SegmentBuilder::abandon);
        }
        outcome
    }
}

fn write_all(sources: Vec<Source>, rewrite: &mut Rewrite, output: &mut Output<'_>) -> Result<()> {
    let mut merge = Merge::new(sources, Direction::Forward);
    merge.seek(&[])?;
    while let Some(entry) = merge.entry() {
        // Whoever closes the store waits for this.
        output.engine.calls.check()?;
        if output.is_full(entry.key) && !rewrite.is_at(entry.key) {
            rewrite.finish(&mut |entry| output.add(entry))?;
            output.cut(rewrite, Some(Bytes::copy_from_slice(entry.key)))?;
        }
        rewrite.feed(&entry, &mut |entry| output.add(entry))?;
        merge.advance()?;
    }
    rewrite.finish(&mut |entry| output.add(entry))?;
    output.cut(rewrite, None)
}

/// Whether one range deletion hides all of a segment from everybody.
fn ranges_hide(ranges: &RangeDeletes, segment: &Segment, boundaries: &[Index]) -> bool {
    let meta = segment.meta();
    let Some(lowest) = boundaries.first() else {
        return false;
    };
    if meta.is_endless || meta.range_deletes > 0 {
        return false;
    }
    let at = Version::newest_at(*lowest);
    let stretch = ranges.stretch(&meta.smallest_key, at);
    let is_newer = |version: Version| version.index > meta.largest_index;
    stretch.newest.is_some_and(is_newer) && stretch.to.is_none_or(|to| to > &meta.largest_key[..])
}

//! Takes out of the tree what can't be read and can't be put together again, and puts fences in its place: so that
//! compaction goes on, what is left gets parity again, and nobody is told something older instead.
//!
//! The damaged file keeps a name in `quarantine/`.

use std::path::Path;
use std::sync::Arc;

use crate::engine::compaction::Task;
use crate::engine::fences::{Broken, Fences};
use crate::engine::tree::Tree;
use crate::engine::{Engine, LostRange};
use crate::error::{Error, Result};
use crate::journal::{Means, Outcome};
use crate::manifest::Change;
use crate::segment::{LostBlock, Segment, SegmentBuilder, file_name};
use crate::types::{Fence, FileId, SegmentMeta, SegmentNumber};

/// A segment that has lost more places than this is fenced from the first to the last of them.
const FENCES_OF_ONE_MAX: usize = 256;
/// Copies of one file that are kept.
const KEPT_MAX: u64 = 1000;

impl Engine {
    /// What the store has lost, by keyspaces and keys.
    pub(crate) fn lost_ranges(&self) -> Vec<LostRange> {
        let keyspaces = self.keyspaces.load();
        let of_tree = |tree: &Arc<Tree>| {
            let fences = tree.with(|state| state.fences.clone());
            let lost = fences.all().iter().map(|fence| LostRange {
                keyspace: tree.name.clone(),
                from: fence.from.clone(),
                to: fence.to.clone(),
                damage: fences.damage(fence),
            });
            lost.collect::<Vec<_>>()
        };
        keyspaces.trees().flat_map(of_tree).collect()
    }

    /// Takes all fences away. Returns what they were.
    pub(crate) fn accept_losses(&self) -> Result<Vec<LostRange>> {
        self.check_writable()?;
        let _call = self.calls.enter()?;
        let lost = self.lost_ranges();
        let keyspaces = self.keyspaces.load_full();
        for tree in keyspaces.trees() {
            self.fence_broken(tree)?;
            self.change_fences(tree, &|_| Some(Vec::new()))?;
        }
        for one in &lost {
            let file = one.damage.path.file_name().unwrap_or_default();
            let accepted = self.repair(Outcome::Lost, Means::None, &file.to_string_lossy());
            let what = format!("accepted as lost: {}", one.damage.what);
            self.note_repair(&accepted.because(&what));
        }
        Ok(lost)
    }

    /// After a compaction has met an error: takes what can't be read out of its inputs.
    ///
    /// # Errors
    /// The same error, if there is nothing of them that can't be read, or the disk may have it yet; or what the
    /// disk answers.
    pub(super) fn fence_inputs(&self, task: &Task, error: Error, may_wait: bool) -> Result<()> {
        let is_theirs = |path: &Path| {
            let mut inputs = task.inputs();
            inputs.any(|input| path == self.options.path.join(file_name(input.meta().number)))
        };
        let is_read = match &error {
            Error::Damaged(_) => true,
            Error::Io { path, .. } => is_theirs(path),
            _ => false,
        };
        if !is_read {
            return Err(error);
        }
        let mut is_done = false;
        for (level, segment) in task.leveled() {
            is_done |= self.fence_off(&task.tree, level, segment, may_wait)?;
        }
        if is_done { Ok(()) } else { Err(error) }
    }

    /// Takes what can't be read out of a segment that nobody compacts just now. `false` if there is nothing, if
    /// the disk may have it yet, or if somebody does.
    pub(super) fn fence_segment(&self, number: SegmentNumber, file_id: FileId) -> Result<bool> {
        let keyspaces = self.keyspaces.load_full();
        let found = keyspaces.trees().find_map(|tree| {
            let state = tree.load();
            let mut all = state.segments();
            let is_it = |segment: &Segment| {
                (segment.meta().number, segment.meta().file_id) == (number, file_id)
            };
            let (level, segment) = all.find(|(_, segment)| is_it(segment))?;
            let task = Task::new(tree, &state, level, vec![segment.clone()], level);
            Some((task, level, segment.clone()))
        });
        let Some((task, level, segment)) = found else {
            return Ok(false);
        };
        let Some(claimed) = self.claim(task) else {
            return Ok(false);
        };
        self.fence_off(claimed.tree(), level, &segment, true)
    }

    /// Writes what can be read of a segment into a new one, and puts fences where the rest was. `false` if all can
    /// be read; or, if there is time, as long as a part is refused by the disk and not by its checksum.
    fn fence_off(
        &self,
        tree: &Arc<Tree>,
        level: usize,
        segment: &Arc<Segment>,
        may_wait: bool,
    ) -> Result<bool> {
        let go_on = || self.calls.check();
        let lost = segment.rescue(&go_on, &mut |_| Ok(()))?;
        let is_refused = |one: &LostBlock| !matches!(one.error, Error::Damaged(_));
        if lost.is_empty() || (may_wait && lost.iter().any(is_refused)) {
            return Ok(false);
        }
        let (rest, lost) = self.write_rest(tree, level, segment)?;
        let fences = joined(lost);
        let path = self.options.path.join(file_name(segment.meta().number));
        let is_kept = self.set_aside(&path, KEPT_MAX);
        let published = self.publish_fences(tree, level, segment, rest, &fences)?;
        if published {
            match is_kept {
                true => self.garbage.lock().push(segment.clone()),
                false => self.move_aside(&path),
            }
            self.note_fenced(&segment.meta().number, &fences);
            self.cache.mendings().forget(segment.meta().number);
        }
        Ok(published)
    }

    /// What can be read of a segment, in a new one; `None` if that is nothing.
    fn write_rest(
        &self,
        tree: &Tree,
        level: usize,
        segment: &Arc<Segment>,
    ) -> Result<(Option<SegmentMeta>, Vec<LostBlock>)> {
        let mut builder = self.new_builder(tree, level)?;
        let go_on = || self.calls.check();
        let lost = match segment.rescue(&go_on, &mut |entry| builder.add(entry)) {
            Ok(lost) => lost,
            Err(error) => {
                builder.abandon();
                return Err(error);
            }
        };
        builder.set_range_deletes(segment.range_deletes().all());
        let rest = match builder.is_empty() {
            true => {
                SegmentBuilder::abandon(builder);
                None
            }
            false => Some(builder.finish()?),
        };
        Ok((rest, lost))
    }

    /// One manifest edit: a segment goes, what is left of it comes, and fences where the rest was. `false` if it is
    /// no longer there.
    fn publish_fences(
        &self,
        tree: &Arc<Tree>,
        level: usize,
        segment: &Arc<Segment>,
        rest: Option<SegmentMeta>,
        fences: &[Fence],
    ) -> Result<bool> {
        let number = segment.meta().number;
        let opened = match &rest {
            Some(meta) => {
                self.sync_folder()?;
                Some(Arc::new(self.open_segment(meta)?))
            }
            None => None,
        };
        let mut manifest = self.manifest.lock();
        let state = manifest.state().keyspaces.get(&tree.id);
        let state = state.filter(|state| state.segments.contains_key(&number));
        let Some(state) = state.filter(|_| !tree.is_dropped()) else {
            drop(manifest);
            self.discard(rest.iter());
            return Ok(false);
        };
        let all = sorted([&state.fences[..], fences].concat());
        let stored = u8::try_from(level).unwrap_or(u8::MAX);
        let replaced = Change::SegmentsReplaced {
            keyspace: tree.id,
            removed: vec![number],
            added: rest.into_iter().map(|meta| (stored, meta)).collect(),
            covered: None,
        };
        let keyspace = tree.id;
        let fences = all.clone();
        self.calls.check()?;
        manifest
            .apply(&[replaced, Change::Fenced { keyspace, fences }])
            .inspect_err(|error| self.latch_if_final(error))?;
        tree.change(|state| {
            state.remove_segments(&[number]);
            if let Some(opened) = opened {
                state.add_segment(level, opened);
            }
            state.fences = in_force(&self.options.path, all, &state.broken);
        });
        Ok(true)
    }

    /// Takes the segments that couldn't be opened out of the store. Nothing may be put beside them before.
    pub(super) fn fence_broken(&self, tree: &Arc<Tree>) -> Result<()> {
        let broken = tree.with(|state| state.broken.clone());
        if broken.is_empty() {
            return Ok(());
        }
        let path = |one: &Broken| self.options.path.join(file_name(one.meta.number));
        let kept: Vec<bool> = broken
            .iter()
            .map(|one| self.set_aside(&path(one), KEPT_MAX))
            .collect();
        let mut manifest = self.manifest.lock();
        if let Some(state) = manifest.state().keyspaces.get(&tree.id) {
            let there = broken.iter().map(|one| one.meta.number);
            let removed = there.filter(|number| state.segments.contains_key(number));
            let theirs = broken.iter().map(|one| one.fence.clone());
            let all = sorted(state.fences.iter().cloned().chain(theirs).collect());
            let replaced = Change::SegmentsReplaced {
                keyspace: tree.id,
                removed: removed.collect(),
                added: Vec::new(),
                covered: None,
            };
            let keyspace = tree.id;
            let fences = all.clone();
            manifest
                .apply(&[replaced, Change::Fenced { keyspace, fences }])
                .inspect_err(|error| self.latch_if_final(error))?;
            tree.change(|state| {
                state.broken.clear();
                state.fences = Fences::new(&self.options.path, all);
            });
        }
        drop(manifest);
        for (one, kept) in broken.iter().zip(kept) {
            match kept {
                true => self.discard([&one.meta].into_iter()),
                false => self.move_aside(&path(one)),
            }
            self.note_fenced(&one.meta.number, std::slice::from_ref(&one.fence));
        }
        Ok(())
    }

    /// One manifest edit: the fences of a tree become what `change` makes of them, if it makes anything of them.
    pub(super) fn change_fences(
        &self,
        tree: &Arc<Tree>,
        change: &dyn Fn(&Fences) -> Option<Vec<Fence>>,
    ) -> Result<()> {
        let mut manifest = self.manifest.lock();
        let Some(state) = manifest.state().keyspaces.get(&tree.id) else {
            return Ok(());
        };
        if state.fences.is_empty() {
            return Ok(());
        }
        let now = Fences::new(&self.options.path, state.fences.clone());
        let Some(fences) = change(&now) else {
            return Ok(());
        };
        let keyspace = tree.id;
        let changed = Change::Fenced {
            keyspace,
            fences: fences.clone(),
        };
        manifest
            .apply(&[changed])
            .inspect_err(|error| self.latch_if_final(error))?;
        tree.change(|state| {
            state.fences = in_force(&self.options.path, fences, &state.broken);
        });
        Ok(())
    }

    fn note_fenced(&self, number: &SegmentNumber, fences: &[Fence]) {
        let name = file_name(*number);
        tracing::error!(
            segment = number.0,
            places = fences.len(),
            "versions are lost; fenced"
        );
        let lost = self.repair(Outcome::Lost, Means::None, &name);
        let places = fences.iter().map(|fence| (fence.offset, fence.bytes));
        let what = fences.first().map_or("", |fence| &fence.what);
        self.note_repair(&lost.at(places).because(what));
    }
}

/// All that readers must not pass.
pub(super) fn in_force(dir: &Path, mut fences: Vec<Fence>, broken: &[Arc<Broken>]) -> Fences {
    fences.extend(broken.iter().map(|one| one.fence.clone()));
    Fences::new(dir, fences)
}

fn sorted(mut fences: Vec<Fence>) -> Vec<Fence> {
    fences.sort_by(|one, next| one.from.cmp(&next.from));
    fences
}

/// A fence for each place; one for those that follow each other, and one for all if there are too many.
fn joined(lost: Vec<LostBlock>) -> Vec<Fence> {
    let is_crowded = lost.len() > FENCES_OF_ONE_MAX;
    let mut fences: Vec<Fence> = Vec::new();
    for LostBlock { fence, .. } in lost {
        match fences.last_mut() {
            Some(last) if is_crowded || last.offset + last.bytes == fence.offset => {
                last.bytes = fence.offset.saturating_add(fence.bytes) - last.offset;
                last.to = fence.to;
            }
            _ => fences.push(fence),
        }
    }
    fences
}

//! Takes out of the tree what can't be read and can't be put together again, and puts fences in its place: so that
//! compaction goes on, what is left gets parity again, and nobody is told something older instead.
//!
//! The damaged file keeps a name in `quarantine/`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::engine::compaction::Task;
use crate::engine::fences::{Broken, Fences};
use crate::engine::mending::KEPT_MAX;
use crate::engine::tree::Tree;
use crate::engine::{Engine, Job, LostRange};
use crate::error::{Error, Result};
use crate::journal::{Means, Outcome};
use crate::manifest::Change;
use crate::segment::{LostBlock, LostPart, Segment, SegmentBuilder, Wreck, file_name};
use crate::types::{Fence, FileId, RangeDeletes, SegmentMeta, SegmentNumber};

/// A segment that has lost more places than this is fenced from the first to the last of them.
const FENCES_OF_ONE_MAX: usize = 256;

/// How sure it is that what can't be read is lost.
#[derive(Clone, Copy, Debug)]
struct Haste {
    /// What the disk refuses may be there the next time.
    may_wait: bool,
    /// It can't be mended, whatever of it can be read.
    beyond: bool,
}

impl Engine {
    /// What the store has lost, by keyspaces and keys.
    pub(crate) fn lost_ranges(&self) -> Vec<LostRange> {
        let keyspaces = self.keyspaces.load();
        let of_tree = |tree: &Arc<Tree>| {
            let fences = tree.with(|state| state.fences.clone());
            named(tree, &fences)
        };
        keyspaces.trees().flat_map(of_tree).collect()
    }

    /// Takes all fences away. Returns what they were.
    pub(crate) fn accept_losses(&self) -> Result<Vec<LostRange>> {
        self.check_writable()?;
        let _call = self.calls.enter()?;
        let mut lost = Vec::new();
        let keyspaces = self.keyspaces.load_full();
        for tree in keyspaces.trees() {
            self.rescue_broken(tree, false)?;
            let accepted = Mutex::new(Vec::new());
            self.change_fences(tree, &|fences| {
                *accepted.lock() = named(tree, fences);
                Some(Vec::new())
            })?;
            lost.append(&mut accepted.into_inner());
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
            let haste = Haste {
                may_wait,
                beyond: false,
            };
            is_done |= self.fence_off(&task.tree, level, segment, haste)?;
        }
        if is_done { Ok(()) } else { Err(error) }
    }

    /// Takes what can't be read out of a segment that is beyond mending, and writes what is left anew. `false` if the
    /// disk may have it yet and `may_wait`, or if somebody compacts it, and so meets the same.
    pub(super) fn fence_segment(
        &self,
        number: SegmentNumber,
        file_id: FileId,
        may_wait: bool,
    ) -> Result<bool> {
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
        let haste = Haste {
            may_wait,
            beyond: true,
        };
        let fenced = self.fence_off(claimed.tree(), level, &segment, haste)?;
        drop(claimed);
        self.signals.wake(Job::Compact);
        self.signals.wake(Job::Reclaim);
        Ok(fenced)
    }

    /// Writes what can be read of a segment into a new one, and puts fences where the rest was. `false` if all can
    /// be read, unless it is `beyond` mending all the same; or, if there is time, as long as a part is refused by the
    /// disk and not by its checksum.
    fn fence_off(
        &self,
        tree: &Arc<Tree>,
        level: usize,
        segment: &Arc<Segment>,
        Haste { may_wait, beyond }: Haste,
    ) -> Result<bool> {
        let go_on = || self.calls.check();
        let must_wait = |lost: &[LostBlock]| {
            let is_refused = |one: &LostBlock| !matches!(one.error, Error::Damaged(_));
            may_wait && lost.iter().any(is_refused)
        };
        let lost = segment.rescue(&go_on, &mut |_| Ok(()))?;
        if (lost.is_empty() && !beyond) || must_wait(&lost) {
            return Ok(false);
        }
        let (rest, lost) = self.write_rest(tree, level, segment)?;
        if must_wait(&lost) {
            self.discard(rest.iter());
            return Ok(false);
        }
        let fences = joined(lost);
        let path = self.options.path.join(file_name(segment.meta().number));
        let is_kept = self.set_aside(&path, KEPT_MAX);
        let number = segment.meta().number;
        let stored = u8::try_from(level).unwrap_or(u8::MAX);
        let published = self.publish_fences(tree, stored, number, rest, &fences)?;
        if published {
            match is_kept {
                true => self.garbage.lock().push(segment.clone()),
                false => self.move_aside(&path),
            }
            self.note_fenced(&number, &fences);
            self.cache.mendings().forget(number);
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
        Ok((builder.finish_unless_empty()?, lost))
    }

    /// One manifest edit: a segment goes, what is left of it comes, and fences where the rest was. `false` if it is
    /// no longer there.
    fn publish_fences(
        &self,
        tree: &Arc<Tree>,
        level: u8,
        number: SegmentNumber,
        rest: Option<SegmentMeta>,
        fences: &[Fence],
    ) -> Result<bool> {
        let opened = self.sync_folder().and_then(|()| {
            let opened = rest.as_ref().map(|meta| self.open_segment(meta));
            opened.transpose()
        });
        let opened = opened.inspect_err(|_| self.discard(rest.iter()))?;
        let mut manifest = self.manifest.lock();
        let state = manifest.state().keyspaces.get(&tree.id);
        // It may have been moved meanwhile, or be gone.
        let there = |segments: &BTreeMap<SegmentNumber, (u8, SegmentMeta)>| {
            segments.get(&number).is_some_and(|(at, _)| *at == level)
        };
        let state = state.filter(|state| there(&state.segments));
        let Some(state) = state.filter(|_| !tree.is_dropped()) else {
            drop(manifest);
            self.discard(rest.iter());
            return Ok(false);
        };
        let all = sorted([&state.fences[..], fences].concat());
        let replaced = Change::SegmentsReplaced {
            keyspace: tree.id,
            removed: vec![number],
            added: rest.iter().map(|meta| (level, meta.clone())).collect(),
            covered: None,
        };
        let keyspace = tree.id;
        let fences = all.clone();
        if let Err(closed) = self.calls.check() {
            drop(manifest);
            self.discard(rest.iter());
            return Err(closed);
        }
        let applied = manifest.apply(&[replaced, Change::Fenced { keyspace, fences }]);
        if let Err(error) = applied {
            self.latch_if_final(&error);
            self.discard(rest.iter());
            return Err(error);
        }
        tree.change(|state| {
            state.remove_segments(&[number]);
            state.broken.retain(|broken| broken.meta.number != number);
            if let Some(opened) = opened {
                state.add_segment(usize::from(level), Arc::new(opened));
            }
            state.fences = in_force(&self.options.path, all, &state.broken);
        });
        Ok(true)
    }

    /// Takes the segments that couldn't be opened out of the store. Nothing may be put beside them before.
    pub(super) fn fence_broken(&self, tree: &Arc<Tree>) -> Result<()> {
        self.take_out_broken(tree, &|broken| Ok((None, vec![broken.fence.clone()])))
    }

    /// The same, but for what of them can be read block by block. One that the disk refuses to read is left as it is
    /// if that `may_wait`, and is fenced whole if not. All are tried.
    ///
    /// # Errors
    /// The first that one of them met.
    pub(super) fn rescue_broken(&self, tree: &Arc<Tree>, may_wait: bool) -> Result<()> {
        self.take_out_broken(tree, &|broken| {
            let path = self.options.path.join(file_name(broken.meta.number));
            match self.rest_of_wreck(tree, broken) {
                // Whatever else fails is no reason to give up what can be read.
                Err(Error::Io { path: of, .. }) if !may_wait && of == path => {
                    Ok((None, vec![broken.fence.clone()]))
                }
                rest => rest,
            }
        })
    }

    fn take_out_broken(
        &self,
        tree: &Arc<Tree>,
        rest_of: &dyn Fn(&Broken) -> Result<(Option<SegmentMeta>, Vec<Fence>)>,
    ) -> Result<()> {
        let mut outcome = Ok(());
        for broken in tree.with(|state| state.broken.clone()) {
            outcome = outcome.and(self.take_out(tree, &broken, rest_of));
        }
        outcome
    }

    fn take_out(
        &self,
        tree: &Arc<Tree>,
        broken: &Broken,
        rest_of: &dyn Fn(&Broken) -> Result<(Option<SegmentMeta>, Vec<Fence>)>,
    ) -> Result<()> {
        let (rest, fences) = rest_of(broken)?;
        let path = self.options.path.join(file_name(broken.meta.number));
        let is_kept = self.set_aside(&path, KEPT_MAX);
        if self.publish_fences(tree, broken.level, broken.meta.number, rest, &fences)? {
            match is_kept {
                true => self.discard([&broken.meta].into_iter()),
                false => self.move_aside(&path),
            }
            self.note_fenced(&broken.meta.number, &fences);
        }
        Ok(())
    }

    /// What can be read of a segment that can't be opened, in a new one, and fences around the rest.
    fn rest_of_wreck(
        &self,
        tree: &Tree,
        broken: &Broken,
    ) -> Result<(Option<SegmentMeta>, Vec<Fence>)> {
        let (meta, whole) = (&broken.meta, &broken.fence);
        let path = self.options.path.join(file_name(meta.number));
        let vfs = self.options.vfs.as_ref();
        let mut wreck = match Wreck::open(vfs, &path, meta.number, Some(meta)) {
            Ok(wreck) => wreck,
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok((None, vec![whole.clone()]));
            }
            Err(Error::Damaged(_) | Error::ForeignFile { .. }) => {
                return Ok((None, vec![whole.clone()]));
            }
            Err(error) => return Err(error),
        };
        let mut builder = self.new_builder(tree, usize::from(broken.level))?;
        let entries = match self.copy_wreck(&mut wreck, &mut builder) {
            Ok(entries) => entries,
            Err(error) => {
                builder.abandon();
                return match error {
                    // It isn't what it says it is.
                    Error::TableOrder { .. } => Ok((None, vec![whole.clone()])),
                    error => Err(error),
                };
            }
        };
        let ranges = RangeDeletes::new(wreck.range_deletes().cloned());
        let lost = wreck.lost();
        // Without its properties nobody knows what it has deleted; and what it doesn't tell of must be somewhere.
        let has_ranges = meta.range_deletes == 0 || wreck.properties().is_some();
        let is_told = !lost.is_empty() || entries == meta.entries;
        let fences = match has_ranges && is_told {
            true => lost.iter().map(|part| fence_of(part, whole)).collect(),
            false => vec![whole.clone()],
        };
        builder.set_range_deletes(ranges.all());
        Ok((builder.finish_unless_empty()?, fences))
    }

    /// Returns how many entries there were.
    fn copy_wreck(&self, wreck: &mut Wreck, builder: &mut SegmentBuilder) -> Result<u64> {
        let mut entries = 0;
        loop {
            self.calls.check()?;
            wreck.next()?;
            let Some(entry) = wreck.entry() else {
                return Ok(entries);
            };
            builder.add(entry)?;
            entries += 1;
        }
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
        if fences.is_empty() {
            let what =
                "beyond mending, but its content could be read, and is in another segment now";
            let mended = self.repair(Outcome::Mended, Means::Memory, &name);
            return self.note_repair(&mended.because(what));
        }
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

fn named(tree: &Tree, fences: &Fences) -> Vec<LostRange> {
    let lost = fences.all().iter().map(|fence| LostRange {
        keyspace: tree.name.clone(),
        from: fence.from.clone(),
        to: fence.to.clone(),
        damage: fences.damage(fence),
    });
    lost.collect()
}

/// All that readers must not pass.
pub(super) fn in_force(dir: &Path, mut fences: Vec<Fence>, broken: &[Arc<Broken>]) -> Fences {
    fences.extend(broken.iter().map(|one| one.fence.clone()));
    Fences::new(dir, fences)
}

/// A part of a segment that is lost, as a fence.
fn fence_of(part: &LostPart, whole: &Fence) -> Fence {
    let from = part.from.as_deref().map(Bytes::copy_from_slice);
    let fence = Fence {
        from: from.unwrap_or_else(|| whole.from.clone()),
        to: part
            .to
            .as_deref()
            .map(Fence::behind)
            .or_else(|| whole.to.clone()),
        offset: part.damage.offset,
        bytes: part.damage.bytes,
        what: part.damage.what.clone(),
        ..whole.clone()
    };
    match fence.ends_at_or_before(&fence.from) {
        // What is told of the keys around it makes no sense.
        true => whole.clone(),
        false => fence,
    }
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

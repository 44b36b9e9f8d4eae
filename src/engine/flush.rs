//! Flush: frozen memtables become segments, and the log before them can go.
//!
//! All keyspaces are frozen together. A generation is the step of the log between two freezes; one
//! flush makes one generation durable and says so in one manifest edit, so every keyspace covers the
//! same index, an idle one doesn't pin the log, and a batch across keyspaces is flushed as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::cursor::Cursor;
use crate::engine::Engine;
use crate::engine::commit::CommitState;
use crate::engine::compaction::Compactions;
use crate::engine::generation::Generation;
use crate::engine::jobs::Job;
use crate::engine::rewrite::Rewrite;
use crate::engine::tree::{Frozen, LEVELS_MAX, Tree};
use crate::error::{Error, Result};
use crate::manifest::Change;
use crate::memtable::Memtable;
use crate::options::Background;
use crate::segment::{Segment, SegmentBuilder, SegmentOptions, SegmentSetup};
use crate::types::{Compression, FileId, Index, KeyspaceId, SegmentMeta, SegmentNumber, Term};

/// Generations that may wait for their flush before writers wait too.
const GENERATIONS_MAX: usize = 2;

impl Engine {
    /// Makes room for a group of so many bytes: freezes the active memtables if they are full, waiting
    /// while too many are frozen already, and slows the writer as compaction needs it.
    pub(super) fn make_room(
        &self,
        state: &mut CommitState,
        bytes: usize,
        loads: bool,
    ) -> Result<()> {
        self.slow_down(bytes, &mut state.owed)?;
        let appended = self.log.appended_bytes();
        let log_bytes = state.replayed_bytes + appended.saturating_sub(state.active_since);
        let full = state.active_bytes >= self.options.write_buffer_bytes
            || (log_bytes >= self.options.log_bytes_before_flush && state.active_bytes > 0);
        if full || loads {
            // A load freezes them itself, at its record.
            self.wait_for_room()?;
        }
        if full {
            self.freeze(state);
            self.signals.wake(Job::Flush);
        }
        Ok(())
    }

    /// Waits until another generation may be frozen; a full disk ends the wait with an error.
    fn wait_for_room(&self) -> Result<()> {
        let blocked = || self.generations.lock().len() >= GENERATIONS_MAX;
        if !blocked() {
            return Ok(());
        }
        let begun = self.clock.elapsed();
        while blocked() {
            self.check_writable()?;
            if self.options.background == Background::Manual {
                if !self.step_flush()? {
                    break;
                }
            } else {
                // Nothing is flushed any more if the store is latched: not to be waited for, then.
                let waits = || blocked() && self.latched().is_none();
                self.signals.wait_for_room(waits)?;
            }
        }
        let taken = self.clock.elapsed().saturating_sub(begun);
        self.metrics.flush_waits.add(taken);
        Ok(())
    }

    /// Turns the active memtables into a generation. The caller leads, so nothing is being inserted.
    pub(super) fn freeze(&self, state: &mut CommitState) {
        let mut tables = Vec::new();
        for tree in self.keyspaces.load().trees() {
            if tree.with(|tables| tables.active.is_empty()) {
                continue;
            }
            tree.change(|tables_now| {
                let active = std::mem::replace(&mut tables_now.active, Arc::new(Memtable::new()));
                let frozen = Frozen::Memtable(active);
                tables_now.frozen.insert(0, frozen.clone());
                tables.push((tree.clone(), frozen));
            });
        }
        let catalog: Vec<Change> = state.catalog.drain(..).map(|(_, change)| change).collect();
        let newest = self.generations.lock().back().map(|newest| newest.covered);
        let nothing = tables.is_empty() && catalog.is_empty();
        if nothing && newest.unwrap_or(self.covered()) >= state.last_index {
            return;
        }
        let generation = Generation {
            covered: state.last_index,
            covered_time_us: state.last_time_us,
            tables,
            catalog,
            window: state.next_piece(),
        };
        self.generations.lock().push_back(Arc::new(generation));
        state.active_bytes = 0;
        state.begin_memtables(self.log.appended_bytes());
    }

    /// The index through which every keyspace's segments hold everything.
    pub(super) fn covered(&self) -> Index {
        self.manifest
            .lock()
            .state()
            .keyspaces
            .values()
            .map(|k| k.covered)
            .min()
            .unwrap_or_default()
    }

    /// Flushes everything written before the call, in the calling thread.
    pub(crate) fn flush(&self) -> Result<()> {
        let _call = self.calls.enter()?;
        self.check_writable()?;
        self.freeze(&mut self.commit.lock());
        // What others freeze meanwhile is theirs to wait for.
        let Some(last) = self.generations.lock().back().cloned() else {
            return Ok(());
        };
        let waits = || {
            self.generations
                .lock()
                .iter()
                .any(|g| Arc::ptr_eq(g, &last))
        };
        while waits() && self.step_flush()? {
            self.calls.check()?;
        }
        Ok(())
    }

    /// Flushes the oldest generation. `false` if there is none.
    pub(crate) fn step_flush(&self) -> Result<bool> {
        let _flushing = self.flushing.lock();
        let Some(generation) = self.generations.lock().front().cloned() else {
            return Ok(false);
        };
        if self.options.read_only {
            return Ok(false);
        }
        self.check_not_latched()?;
        let mut built = Vec::new();
        let outcome = self
            .flush_generation(&generation, &mut built)
            .inspect_err(|error| self.latch_if_final(error));
        if outcome.is_err() {
            self.discard(built.iter().map(|(_, meta)| meta));
        }
        self.update_pressure();
        self.signals.flushed(&outcome);
        outcome?;
        self.signals.wake(Job::Compact);
        self.signals.wake(Job::Backup);
        self.purge_log(generation.covered);
        Ok(true)
    }

    /// Flushes the oldest generation, or else what a dropped keyspace has left: its space is given back by
    /// a flush. `false` if there is neither.
    pub(super) fn step_flush_job(&self) -> Result<bool> {
        let flushed = self.step_flush()?;
        Ok(flushed || (self.freeze_dropped() && self.step_flush()?))
    }

    /// Asks for a flush.
    pub(crate) fn wake_flush(&self) {
        self.signals.wake(Job::Flush);
    }

    /// Whether a keyspace was dropped and no flush is on its way to say so. It may have to be asked twice,
    /// as whoever leads may be waiting for a flush.
    pub(super) fn awaits_drop(&self) -> bool {
        !self.options.read_only && !self.dropped.lock().is_empty()
    }

    /// Makes a generation of a dropped keyspace's end, if nobody leads just now.
    fn freeze_dropped(&self) -> bool {
        if !self.awaits_drop() || self.check_writable().is_err() {
            return false;
        }
        let Some(mut state) = self.commit.try_lock() else {
            return false;
        };
        self.freeze(&mut state);
        true
    }

    pub(super) fn check_not_latched(&self) -> Result<()> {
        match self.latched() {
            Some(cause) => Err(Error::Poisoned { cause }),
            None => Ok(()),
        }
    }

    fn flush_generation(
        &self,
        generation: &Generation,
        built: &mut Vec<(Arc<Tree>, SegmentMeta)>,
    ) -> Result<()> {
        let _span = tracing::debug_span!("flush", through = generation.covered.0).entered();
        // Before anything of this generation is published the log must hold all of it: else a crash
        // could keep a batch's half in this segment and lose the other half.
        self.log.sync()?;
        self.views.settle_time(generation.covered_time_us);
        for (tree, table) in &generation.tables {
            let Frozen::Memtable(table) = table else {
                continue;
            };
            // One that a later generation drops is still there in between: whoever copies the store then must
            // find all of it.
            if generation.drops(tree) || table.is_empty() {
                continue;
            }
            if let Some(meta) = self.build_segment(tree, table)? {
                self.metrics.flushes.add(1);
                self.metrics.flush_bytes.add(meta.bytes);
                built.push((tree.clone(), meta));
            }
        }
        if !built.is_empty() {
            self.sync_folder()?;
        }
        let opened = built
            .iter()
            .map(|(tree, meta)| Ok((tree.clone(), Arc::new(self.open_segment(meta)?))))
            .collect::<Result<Vec<_>>>()?;
        self.publish_generation(generation, &opened)
    }

    fn build_segment(&self, tree: &Tree, table: &Arc<Memtable>) -> Result<Option<SegmentMeta>> {
        let ranges = table.range_deletes().unwrap_or_default();
        let operator = tree.values.operator().ok().cloned();
        let mut rewrite = Rewrite::new(self.views.boundaries(), false, ranges, operator);
        let mut builder = self.new_builder(tree, 0)?;
        let mut cursor = table.cursor();
        let mut fill = || -> Result<()> {
            cursor.seek_to_first()?;
            while let Some(entry) = cursor.entry() {
                rewrite.feed(&entry, &mut |entry| builder.add(entry))?;
                cursor.next()?;
            }
            rewrite.finish(&mut |entry| builder.add(entry))
        };
        match fill() {
            Ok(()) => {
                builder.set_range_deletes(rewrite.range_deletes(None, None));
                builder.finish_unless_empty()
            }
            Err(error) => {
                builder.abandon();
                Err(error)
            }
        }
    }

    /// Puts segments that were built and not published on the list of files to be removed. Not if the
    /// store is latched: then the manifest may name them after all.
    pub(super) fn discard<'a>(&self, built: impl Iterator<Item = &'a SegmentMeta>) {
        if self.latched().is_none() {
            let names = built.map(|meta| crate::segment::file_name(meta.number));
            self.discarded.lock().extend(names);
        }
    }

    /// A segment for a level of a tree.
    pub(super) fn new_builder(&self, tree: &Tree, level: usize) -> Result<SegmentBuilder> {
        let filter_bits_per_key = tree.options.filter_bits_per_key;
        let Compression { upper, last } = tree.options.compression;
        SegmentBuilder::create(SegmentSetup {
            dir: self.options.path.clone(),
            vfs: self.options.vfs.clone(),
            store_id: self.store_id,
            keyspace: tree.id,
            number: self.new_segment_number(),
            file_id: FileId(self.options.entropy.next_u128()),
            options: SegmentOptions {
                block_bytes: self.options.block_bytes,
                filter_bits_per_key: filter_bits_per_key
                    .unwrap_or(self.options.filter_bits_per_key),
                codec: if level + 1 < LEVELS_MAX { upper } else { last },
                parity: self.options.parity,
                ..SegmentOptions::default()
            },
        })
    }

    pub(super) fn open_segment(&self, meta: &SegmentMeta) -> Result<Segment> {
        let (vfs, cache) = (self.options.vfs.clone(), self.cache.clone());
        Segment::open(vfs, &self.options.path, self.store_id, meta, cache)
    }

    /// Makes new names in the store's folder durable. A failure is final: what the folder will hold
    /// after a crash is unknown, and asking again proves nothing.
    pub(super) fn sync_folder(&self) -> Result<()> {
        self.options
            .vfs
            .sync_dir(&self.options.path)
            .map_err(|source| {
                let error = Error::io("sync the folder", &self.options.path, source);
                Error::OutcomeUnknown {
                    cause: error.to_string().into(),
                }
            })
    }

    /// The level for segments that were loaded: the deepest that nothing above shares keys with, so that
    /// they needn't be written again. A compaction under way may write where nothing is yet.
    fn level_for(
        &self,
        compactions: &Compactions,
        tree: &Tree,
        segments: &[Arc<Segment>],
    ) -> usize {
        // Nor is anything put beside a segment that can't be opened and isn't out of the way.
        let has_broken = tree.with(|state| !state.broken.is_empty());
        if has_broken || compactions.is_busy(tree) {
            return 0;
        }
        let state = tree.load();
        let is_free = |level: &usize| {
            let all = state.levels.get(*level).map_or(&[][..], Vec::as_slice);
            let overlaps = |s: &Arc<Segment>| all.iter().any(|t| t.meta().overlaps(s.meta()));
            !segments.iter().any(overlaps)
        };
        let first_used = (0..LEVELS_MAX).find(|level| !is_free(level));
        match first_used {
            None => LEVELS_MAX - 1,
            Some(used) => used.saturating_sub(1),
        }
    }

    /// One manifest edit for all keyspaces, and the trees changed to match.
    fn publish_generation(
        &self,
        generation: &Generation,
        opened: &[(Arc<Tree>, Arc<Segment>)],
    ) -> Result<()> {
        // So that no compaction is begun between the choice of a level and the edit.
        let compactions = self.compactions.lock();
        let mut placed: BTreeMap<KeyspaceId, Vec<(usize, Arc<Segment>)>> = BTreeMap::new();
        for (tree, segment) in opened {
            let own = placed.entry(tree.id).or_default();
            own.push((0, segment.clone()));
        }
        let mut needless = Vec::new();
        for (tree, table) in &generation.tables {
            if let Frozen::Loaded(segments) = table {
                if generation.drops(tree) {
                    needless.extend(segments.iter().cloned());
                    continue;
                }
                let level = self.level_for(&compactions, tree, segments);
                let all = segments.iter().map(|s| (level, s.clone()));
                placed.entry(tree.id).or_default().extend(all);
            }
        }
        let mut manifest = self.manifest.lock();
        let mut changes = generation.catalog.clone();
        let known = generation.known_at_its_end(manifest.state());
        changes.push(Change::CoveredTime(generation.covered_time_us));
        changes.push(Change::Activity(self.activity().encode()));
        let pieces = &manifest.state().conflict_window;
        changes.extend(generation.window.change(pieces));
        for keyspace in known {
            let own = placed.get(&keyspace).into_iter().flatten();
            let added = own.map(|(level, segment)| (*level as u8, segment.meta().clone()));
            let added = added.collect();
            let covered = Some((generation.covered, Term(0)));
            changes.push(Change::SegmentsReplaced {
                keyspace,
                removed: Vec::new(),
                added,
                covered,
            });
        }
        let next = self.next_segment.load(Ordering::Relaxed);
        changes.push(Change::NextSegment(SegmentNumber(next)));
        // The folder may be somebody else's by now, but for this lock and the wait of whoever closes.
        self.calls.check()?;
        manifest.apply(&changes)?;
        for (tree, table) in &generation.tables {
            tree.change(|state| {
                state.frozen.retain(|frozen| !frozen.is(table));
                for (level, segment) in placed.get(&tree.id).into_iter().flatten() {
                    state.add_segment(*level, segment.clone());
                }
            });
        }
        drop(manifest);
        drop(compactions);
        self.garbage.lock().extend(needless);
        self.note_flushed(generation);
        self.generations.lock().pop_front();
        self.release_dropped(generation.covered);
        Ok(())
    }

    fn note_flushed(&self, generation: &Generation) {
        let mut flushed = self.flushed.lock();
        flushed.retain(|table| table.strong_count() > 0);
        for (_, table) in &generation.tables {
            if let Frozen::Memtable(table) = table {
                flushed.push(Arc::downgrade(table));
            }
        }
    }

    /// Gives up the segments of keyspaces whose end the manifest now knows.
    fn release_dropped(&self, covered: Index) {
        let mut dropped = self.dropped.lock();
        for (_, tree) in dropped.extract_if(.., |(index, _)| *index <= covered) {
            let segments: Vec<_> = tree.load().segments().map(|(_, s)| s.clone()).collect();
            tree.change(|state| {
                state.levels.iter_mut().for_each(Vec::clear);
                state.frozen.clear();
            });
            self.garbage.lock().extend(segments);
        }
    }
}

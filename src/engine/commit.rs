//! A group's way: indexes and a time, the log, one sync, the memtables, visible.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::batch::{Operations, TableWrite};
use crate::engine::catalog::CatalogOperation;
use crate::engine::conflicts::{ConflictWindow, WindowPiece};
use crate::engine::jobs::Job;
use crate::engine::queue::Request;
use crate::error::{Damage, Error, Result};
use crate::manifest::Change;
use crate::memtable::Memtable;
use crate::options::Background;
use crate::types::{Durability, Index, KeyspaceId, StreamId, Term, Version};
use crate::wal::{Append, RecordKind};

/// A memtable's cost of an entry beyond its bytes, for deciding when it is full.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// How often a growing log asks for a file in reserve, if no sync does.
const PREPARE_EVERY_BYTES: u64 = 4 << 20;

/// What only the leader touches.
#[derive(Debug)]
pub(crate) struct CommitState {
    /// Index of the last record given to the log.
    pub(crate) last_index: Index,
    /// Time of that record, never decreasing.
    pub(crate) last_time_us: u64,
    /// Bytes in the active memtables, about.
    pub(crate) active_bytes: usize,
    /// What had been appended to the log when the active memtables were begun, in bytes.
    pub(crate) active_since: u64,
    /// Bytes of log that were replayed into the active memtables.
    pub(crate) replayed_bytes: u64,
    /// In which stretch of `PREPARE_EVERY_BYTES` the log ended last.
    log_stretch: u64,
    /// What writers should have waited for compaction and haven't yet.
    pub(crate) owed: Duration,
    /// What transactions are held against.
    pub(super) window: ConflictWindow,
    /// Through which record generations have what the window has.
    pub(super) carried: Index,
    /// Catalog changes applied but not yet in the manifest.
    pub(crate) catalog: Vec<(Index, Change)>,
}

impl CommitState {
    /// Without a conflict window yet.
    pub(crate) fn new(last_index: Index, last_time_us: u64, replayed_bytes: u64) -> Self {
        Self {
            last_index,
            last_time_us,
            active_bytes: 0,
            log_stretch: 0,
            active_since: 0,
            replayed_bytes,
            owed: Duration::ZERO,
            window: ConflictWindow::new(0, last_index),
            carried: last_index,
            catalog: Vec::new(),
        }
    }

    /// Takes a record into the conflict window, once.
    pub(super) fn note_record(&mut self, index: Index, request: &Request) {
        if self.window.last() < index {
            self.window.push(index, request.kind, &request.payload);
        }
    }

    /// What the conflict window has of the records since the last call.
    pub(super) fn next_piece(&mut self) -> WindowPiece {
        let piece = self.window.piece_after(self.carried);
        self.carried = self.window.last();
        piece
    }

    /// The memtables are new, and empty.
    pub(crate) fn begin_memtables(&mut self, appended_bytes: u64) {
        self.active_since = appended_bytes;
        self.replayed_bytes = 0;
    }
}

impl Engine {
    /// Writes one record and waits for its durability. Returns its index.
    pub(crate) fn write(&self, request: Arc<Request>) -> Result<Index> {
        self.check_writable()?;
        if self.options.background == Background::Manual {
            self.queue.push_unled(request.clone());
            loop {
                if let Some(outcome) = request.take_outcome() {
                    return outcome;
                }
                self.step_commit();
            }
        }
        if self.queue.push(request.clone()) || request.wait() {
            self.lead(request.durability);
        }
        // A leader's own request is the oldest that waits, so it is in the group it leads.
        request.take_outcome().unwrap_or(Err(Error::Closed))
    }

    fn lead(&self, durability: Durability) {
        let mut group = Vec::new();
        let mut state = self.commit.lock();
        if durability == Durability::Disk {
            self.queue.gather();
        }
        self.queue.take(&mut group);
        self.commit_group(&mut state, &group);
        drop(state);
        self.queue.finish(&mut group);
    }

    /// Takes one waiting group through, without waking anybody. `false` if none waited.
    pub(crate) fn step_commit(&self) -> bool {
        let mut state = self.commit.lock();
        let mut group = Vec::new();
        self.queue.take(&mut group);
        if group.is_empty() {
            return false;
        }
        self.commit_group(&mut state, &group);
        drop(state);
        self.queue.finish_unled(&mut group);
        true
    }

    fn commit_group(&self, state: &mut CommitState, group: &[Arc<Request>]) {
        let bytes = group.iter().map(|request| request.payload.len()).sum();
        let loads = group.iter().any(|request| request.kind == RecordKind::Load);
        let writable = self.check_writable();
        let ready = writable.and_then(|()| self.make_room(state, bytes, loads));
        if let Err(error) = ready {
            return fail_group(group, &error);
        }
        let keyspaces = self.keyspaces.load();
        let known = |r: &Arc<Request>| r.touched.iter().all(|id| keyspaces.get(id).is_some());
        if group.iter().all(known) {
            return self.commit_known(state, group);
        }
        // Rare: somebody's keyspace was dropped while the write waited.
        let (good, bad): (Vec<_>, Vec<_>) = group.iter().cloned().partition(known);
        for request in bad {
            let missing = request
                .touched
                .iter()
                .find(|id| keyspaces.get(*id).is_none());
            let name = format!("#{}", missing.unwrap_or_default());
            request.complete(Err(Error::KeyspaceNotFound { name }));
        }
        if !good.is_empty() {
            self.commit_known(state, &good);
        }
    }

    fn commit_known(&self, state: &mut CommitState, group: &[Arc<Request>]) {
        if group.iter().all(|request| request.reads.is_none()) {
            return self.commit_valid(state, group);
        }
        // Each is held against those before it, in this group too, as if they were in the window.
        let mut valid: Vec<Arc<Request>> = Vec::with_capacity(group.len());
        for request in group {
            let checked = request.reads.as_ref().map_or(Ok(()), |reads| {
                state.window.check(reads, &valid)?;
                valid.iter().try_for_each(|r| reads.check_against(r))
            });
            match checked {
                Ok(()) => valid.push(request.clone()),
                Err(conflict) => {
                    self.metrics.conflicts.add(1);
                    request.complete(Err(conflict));
                }
            }
        }
        if !valid.is_empty() {
            self.commit_valid(state, &valid);
        }
    }

    fn commit_valid(&self, state: &mut CommitState, group: &[Arc<Request>]) {
        // What is committed again comes alone, and has its time already.
        let given = group.iter().find_map(|request| request.time_us);
        let time_us = given.unwrap_or_else(|| self.clock.wall_us());
        let time_us = time_us.max(state.last_time_us);
        let first = state.last_index.next();
        if let Err(error) = self.log_group(group, first, time_us) {
            return fail_group(group, &error);
        }
        for (index, request) in (first.0..).map(Index).zip(group) {
            let applied = self.apply(state, index, time_us, request);
            state.note_record(index, request);
            // Both at once: who freezes meanwhile wants the time of the last record.
            (state.last_index, state.last_time_us) = (index, time_us);
            if let Err(error) = applied {
                // Only a batch of our own encoding gets here, so this can't happen; if it does, the
                // memtables no longer say what the log says.
                self.latch(&error);
                request.complete(Err(error));
                continue;
            }
            request.complete(Ok(index));
        }
        self.note_conflict_floor(&state.window);
        self.views.advance(state.last_index, time_us);
        self.feed.wake();
        self.wake_log_job(state, group);
    }

    /// Synced records have identifiers to be made durable; a log that grows needs a file in reserve.
    fn wake_log_job(&self, state: &mut CommitState, group: &[Arc<Request>]) {
        let stretch = self.log.end_lsn().0 / PREPARE_EVERY_BYTES;
        let grown = std::mem::replace(&mut state.log_stretch, stretch) != stretch;
        if grown || group.iter().any(|r| r.durability == Durability::Disk) {
            self.signals.wake(Job::SyncIdentifiers);
        }
        if grown {
            self.signals.wake(Job::Backup);
        }
    }

    /// Appends the group to the log with the strongest durability that any of it asks for.
    fn log_group(&self, group: &[Arc<Request>], first: Index, time_us: u64) -> Result<()> {
        let durability = group.iter().map(|r| r.durability).max().unwrap_or_default();
        let appended = if let [only] = group {
            self.log.append(&[record(first, time_us, only)], durability)
        } else {
            let indexes = (first.0..).map(Index);
            let appends: Vec<Append<'_>> = indexes
                .zip(group)
                .map(|(index, r)| record(index, time_us, r))
                .collect();
            self.log.append(&appends, durability)
        };
        let end = appended.inspect_err(|error| self.latch_if_final(error))?;
        if durability == Durability::Disk {
            let _span = tracing::trace_span!("sync", records = group.len()).entered();
            let begun = self.clock.elapsed();
            self.log
                .sync_to(end)
                .inspect_err(|error| self.latch_if_final(error))?;
            let taken = self.clock.elapsed().saturating_sub(begun);
            self.metrics.syncs.add(taken);
        }
        let bytes: usize = group.iter().map(|request| request.payload.len()).sum();
        self.metrics.records.add(group.len() as u64);
        self.metrics.record_bytes.add(bytes as u64);
        Ok(())
    }

    fn apply(
        &self,
        state: &mut CommitState,
        index: Index,
        time_us: u64,
        request: &Request,
    ) -> Result<()> {
        match request.kind {
            RecordKind::Batch => {
                state.active_bytes +=
                    request.payload.len() + request.operations as usize * ENTRY_OVERHEAD_BYTES;
                let grown = self.apply_batch(index, time_us, &request.payload)?;
                state.active_bytes = state.active_bytes.saturating_add_signed(grown);
                Ok(())
            }
            RecordKind::Catalog => {
                let change = self.apply_catalog(index, &request.payload)?;
                state.catalog.push((index, change));
                Ok(())
            }
            RecordKind::Load => self.apply_load(state, index, time_us, request),
            _ => Ok(()),
        }
    }

    /// Puts a batch's operations into the memtables. Returns by how many bytes its range deletions made
    /// them grow.
    fn apply_batch(&self, index: Index, time_us: u64, payload: &[u8]) -> Result<isize> {
        let (mut scratch, mut grown) = (Vec::new(), 0);
        let keyspaces = self.keyspaces.load();
        let mut table: Option<(KeyspaceId, Arc<Memtable>)> = None;
        for (position, operation) in (0..).zip(Operations::new(payload)) {
            let operation = operation.map_err(|_| self.malformed(index, "batch"))?;
            if table
                .as_ref()
                .is_none_or(|(id, _)| *id != operation.keyspace)
            {
                let Some(tree) = keyspaces.get(operation.keyspace) else {
                    continue;
                };
                table = Some((operation.keyspace, tree.with(|state| state.active.clone())));
            }
            if let Some((_, table)) = &table {
                let version = Version { index, position };
                match operation.to_table(version, time_us, &mut scratch) {
                    TableWrite::Entry(entry) => table.insert(entry),
                    TableWrite::Range(range) => grown += table.delete_range(range),
                }
            }
        }
        Ok(grown)
    }

    /// Creates or drops a keyspace in memory; the manifest learns of it with the next flush.
    pub(crate) fn apply_catalog(&self, index: Index, payload: &[u8]) -> Result<Change> {
        let operation =
            CatalogOperation::decode(payload).ok_or_else(|| self.malformed(index, "catalog"))?;
        let mut keyspaces = self.keyspaces.load().as_ref().clone();
        match &operation {
            CatalogOperation::Create { .. } => {
                let tree = operation.new_tree(&self.options.merge_operators);
                keyspaces.insert(Arc::new(
                    tree.ok_or_else(|| self.malformed(index, "catalog"))?,
                ));
            }
            CatalogOperation::Drop { id } => {
                if let Some(tree) = keyspaces.remove(*id) {
                    tree.mark_dropped();
                    self.dropped.lock().push((index, tree));
                }
            }
        }
        self.keyspaces.store(Arc::new(keyspaces));
        Ok(operation.into_change(index))
    }

    pub(crate) fn malformed(&self, index: Index, what: &str) -> Error {
        let what =
            format!("the {what} in record {index} can't be read, though its checksum is right");
        let mut damage = Damage::new(&self.options.path, 0, 0, what);
        damage.indexes = Some((index, index));
        Error::damaged(damage)
    }
}

fn record(index: Index, time_us: u64, request: &Request) -> Append<'_> {
    Append {
        stream: StreamId(0),
        kind: request.kind,
        index,
        term: Term(0),
        time_us,
        client: 0,
        sequence: 0,
        payload: &request.payload,
        payload_hash: request.payload_hash,
    }
}

fn fail_group(group: &[Arc<Request>], error: &Error) {
    for request in group {
        request.complete(Err(error.clone()));
    }
}

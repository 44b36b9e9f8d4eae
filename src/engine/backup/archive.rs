//! The archive: the records of the store's log, in a log of their own beside the backups.
//!
//! A record is archived once it is durable here, and goes from here once it is durable there: the purge
//! asks [`Engine::not_yet_archived`].
//!
//! What a bulk load brings is in no record. Its segments are copied beside the backups' before the record
//! that names them is archived; until then their files stay, whatever compactions have made of them
//! ([`Engine::first_to_be_archived`]), as long as the log has the record.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::Engine;
use crate::engine::backup::capture::not_final;
use crate::engine::backup::contents;
use crate::engine::backup::volume::Volume;
use crate::engine::jobs::Job;
use crate::engine::load::LoadOperation;
use crate::error::{Error, Result};
use crate::snapshot::{Repository, SegmentContent};
use crate::types::{Durability, Index};
use crate::wal::{Append, Record, RecordKind, payload_hash};

/// Bytes of records written at once.
const GROUP_BYTES: usize = 1 << 20;
/// Bytes of records that one step takes.
const STEP_BYTES: usize = 8 << 20;
/// How long the end of a store waits for the archive to have everything.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Whether to go on with what may take long; the error with which to end if not.
type GoOn<'a> = &'a dyn Fn() -> Result<()>;

/// What is known of the archive.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    /// Every record through this one is durable in the archive; 0 until the archive was looked at.
    through: AtomicU64,
    /// The store's last record when it was opened.
    opened_at: Index,
    /// Every record through this one was passed: it is archived, or what it loaded is gone.
    passed: AtomicU64,
    /// Up to this position there was nothing to archive when it was last looked at.
    looked_at: AtomicU64,
    /// The last record that a volume may have which can't be read.
    pub(super) unread_last: AtomicU64,
    /// When the repository was last taken back from a store of another era.
    pub(super) taken_back: Mutex<Option<Duration>>,
    volume: Mutex<Option<Volume>>,
}

impl Archive {
    /// Nothing is known of it yet.
    pub(crate) fn new(opened_at: Index) -> Self {
        Self {
            opened_at,
            ..Self::default()
        }
    }

    /// Every record through this one is durable in the archive, as far as is known.
    pub(crate) fn through(&self) -> Index {
        Index(self.through.load(Ordering::Acquire))
    }

    fn passed(&self) -> Index {
        Index(self.passed.load(Ordering::Acquire))
    }

    fn note(&self, last: Index) {
        self.through.fetch_max(last.0, Ordering::AcqRel);
    }

    fn pass(&self, index: Index) {
        self.passed.fetch_max(index.0, Ordering::AcqRel);
    }

    /// The store's last record when it was opened.
    fn opened_at(&self) -> Index {
        self.opened_at
    }
}

impl Engine {
    /// The first record that isn't archived yet, if there is an archive.
    pub(crate) fn not_yet_archived(&self) -> Option<Index> {
        let archived = self.archive.through().next();
        self.options.archive.as_ref().map(|_| archived)
    }

    /// The first record whose segments are still wanted for the archive, if there is one: the log has it, and
    /// it isn't archived.
    pub(crate) fn first_to_be_archived(&self) -> Option<Index> {
        let next = self.not_yet_archived()?;
        Some(next.max(self.log.first_index()))
    }

    /// Whether the archive may want a file that nothing named when the store was opened. What the log's
    /// records say of it is read only when they are archived.
    pub(crate) fn may_want_orphans(&self) -> bool {
        let wanted = self.first_to_be_archived();
        wanted.is_some_and(|first| first <= self.archive.opened_at())
    }

    /// Archives every record that was written before the call. Returns the last one archived.
    pub(crate) fn archive_now(&self) -> Result<Index> {
        let _call = self.calls.enter()?;
        self.check_writable()?;
        if self.options.archive.is_none() {
            return Err(Error::InvalidOption {
                name: "archive_to",
                why: "the store was opened without an archive".into(),
            });
        }
        self.sync()?;
        // What is written from here on is for the next call.
        let until = self.log.last_index();
        let done = || self.archive.through().max(self.archive.passed()) >= until;
        while !done() && self.step_archive()? {
            self.calls.check()?;
        }
        Ok(self.archive.through())
    }

    /// Archives some records that have become durable. `false` if there were none.
    pub(crate) fn step_archive(&self) -> Result<bool> {
        self.step_archive_while(&|| self.calls.check())
    }

    /// As [`Engine::step_archive`]; asks `go_on` before what may take long.
    fn step_archive_while(&self, go_on: GoOn<'_>) -> Result<bool> {
        let Some(repository) = &self.options.archive else {
            return Ok(false);
        };
        let mut current = self.archive.volume.lock();
        let before = self.archive.through();
        let outcome = self.archive_some(repository, &mut current, go_on);
        drop(current);
        if let Ok(true) = outcome {
            self.purge_log(self.covered());
        }
        if self.archive.through() > before {
            self.signals.wake(Job::Reclaim);
        }
        outcome
    }

    fn archive_some(
        &self,
        repository: &Path,
        current: &mut Option<Volume>,
        go_on: GoOn<'_>,
    ) -> Result<bool> {
        let durable = self.log.durable_lsn();
        let looked_at = durable.0.saturating_add(1);
        if self.archive.looked_at.load(Ordering::Acquire) == looked_at {
            return Ok(false);
        }
        if current.is_none() {
            let opened = self.open_volume(repository);
            *current = opened.map_err(|error| not_final(error, repository))?;
            if let Some(volume) = current {
                let last = volume.last.0;
                self.archive.through.fetch_max(last, Ordering::AcqRel);
            }
        }
        let last = current.as_ref().map(|volume| volume.last);
        let last = last.unwrap_or_default().max(self.archive.passed());
        let from = last.next().max(self.log.first_index());
        if from > self.log.last_index() {
            self.archive.looked_at.store(looked_at, Ordering::Release);
            return Ok(false);
        }
        let read = self.log.read_from(from);
        let mut reader = read.inspect_err(|error| self.latch_if_final(error))?;
        let (mut group, mut group_bytes, mut bytes) = (Vec::new(), 0, 0);
        while bytes < STEP_BYTES
            && let Some(record) = reader.next()?
            && record.lsn < durable
        {
            bytes += record.payload.len() + 1;
            if record.kind == RecordKind::Load {
                self.archive_group(repository, current, &std::mem::take(&mut group))?;
                group_bytes = 0;
                let archived = self.archive_load(repository, current, record, go_on);
                archived.map_err(|error| not_final(error, repository))?;
                continue;
            }
            group_bytes += record.payload.len();
            group.push(record);
            if group_bytes >= GROUP_BYTES {
                self.archive_group(repository, current, &group)?;
                (group, group_bytes) = (Vec::new(), 0);
            }
        }
        self.archive_group(repository, current, &group)?;
        if bytes == 0 {
            // What comes next isn't durable yet.
            self.archive.looked_at.store(looked_at, Ordering::Release);
        }
        Ok(bytes > 0)
    }

    /// Writes records that follow each other to the archive, durably.
    fn archive_group(
        &self,
        repository: &Path,
        current: &mut Option<Volume>,
        group: &[Record],
    ) -> Result<()> {
        let written = self.write_group(repository, current, group);
        written.map_err(|error| not_final(error, repository))
    }

    fn write_group(
        &self,
        repository: &Path,
        current: &mut Option<Volume>,
        group: &[Record],
    ) -> Result<()> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return Ok(());
        };
        self.volume_for(repository, current, first.index)?;
        self.append_group(current, group, last.index)
    }

    /// Writes records to the volume that was chosen for them.
    fn append_group(
        &self,
        current: &mut Option<Volume>,
        group: &[Record],
        last: Index,
    ) -> Result<()> {
        let Some(volume) = current else {
            return Err(Error::Closed);
        };
        let appends: Vec<Append<'_>> = group.iter().map(append).collect();
        let appended = volume.log.append(&appends, Durability::Disk);
        if let Err(error) = appended.and_then(|end| volume.log.sync_to(end)) {
            // It is opened again, and read again, before it is written to again.
            *current = None;
            return Err(error);
        }
        volume.last = last;
        self.archive.note(last);
        Ok(())
    }

    /// Copies what a record has loaded, then writes the record. If it is gone, the record is passed over,
    /// which leaves a gap until the next backup.
    fn archive_load(
        &self,
        repository: &Path,
        current: &mut Option<Volume>,
        record: Record,
        go_on: GoOn<'_>,
    ) -> Result<()> {
        let load = LoadOperation::decode(&record.payload);
        let load = load.ok_or_else(|| self.malformed(record.index, "load"))?;
        let volume = self.volume_for(repository, current, record.index)?.number;
        let segments = contents(&self.options.path, load.segments.iter());
        let (vfs, store_id) = (self.options.vfs.clone(), self.store_id);
        // A backup of this store under way is waited for.
        let alone = self.backups.lock();
        let (taken, lock) = Repository::take(vfs, repository, store_id)?;
        let added = taken.add_load(volume, record.index, &segments, go_on);
        drop(lock);
        drop(alone);
        match added {
            // To the volume that the note names.
            Ok(()) => self.append_group(current, std::slice::from_ref(&record), record.index),
            Err(error) if self.is_gone(&error, &segments) => {
                let why = "what it loaded is gone: the archive has a gap until the next backup";
                tracing::warn!(record = record.index.0, why);
                self.archive.pass(record.index);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether an error means that a loaded segment was removed, as it may be once the log had lost its record
    /// or while nobody archived; it is no damage then.
    fn is_gone(&self, error: &Error, files: &[(SegmentContent, PathBuf)]) -> bool {
        let Error::Io { path, source, .. } = error else {
            return false;
        };
        let missing = files.iter().find(|(_, file)| file == path);
        let missing = missing.filter(|_| source.kind() == ErrorKind::NotFound);
        missing.is_some_and(|(content, _)| {
            let keyspaces = self.keyspaces.load_full();
            let is_named = keyspaces
                .trees()
                .any(|tree| tree.load().with_number(content.number).is_some());
            !is_named
        })
    }

    /// Archives what there is, before the store is let go and when nobody is at work in it any more; as far as
    /// that works, and soon.
    pub(crate) fn archive_rest(&self) {
        if self.options.archive.is_none() || self.latched().is_some() {
            return;
        }
        let since = self.clock.elapsed();
        let in_time = || match self.clock.elapsed().saturating_sub(since) < CLOSE_WITHIN {
            true => Ok(()),
            false => Err(Error::Closed),
        };
        let rest = loop {
            match self.step_archive_while(&in_time) {
                Ok(true) if in_time().is_ok() => {}
                Ok(true) | Err(Error::Closed) => break "there wasn't time".to_owned(),
                Ok(false) => return,
                Err(error) => break error.to_string(),
            }
        };
        let through = self.archive.through().0;
        tracing::warn!(through, rest, "the end of the log isn't archived");
    }

    /// Ends the volume that is written to.
    pub(crate) fn close_archive(&self) {
        if let Some(volume) = self.archive.volume.lock().take() {
            // Its records are durable; the end marker is for whoever looks at it.
            let _ = volume.log.close_and_trim();
        }
    }
}

fn append(record: &Record) -> Append<'_> {
    Append {
        stream: record.stream,
        kind: record.kind,
        index: record.index,
        term: record.term,
        time_us: record.time_us,
        client: record.client,
        sequence: record.sequence,
        payload: &record.payload,
        payload_hash: payload_hash(&record.payload),
    }
}

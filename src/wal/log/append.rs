//! Appending, syncing, closing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::protect::Patience;
use super::{Log, ViewFile, Writer};
use crate::error::{Error, Result};
use crate::types::{Durability, Index, LogFileMeta, LogNumber, Lsn, StreamId};
use crate::vfs::File;
use crate::wal::Append;
use crate::wal::create::create_file;
use crate::wal::format::{RecordKind, UNIT_BYTES, is_plausible, record_bytes};
use crate::wal::identify::{Job, identify_anew};
use crate::wal::judge::end_payload;
use crate::wal::names;
use crate::wal::options::GROUP_BYTES_MAX;
use crate::wal::protect::ParityJob;
use crate::wal::timeline::Mark;
use crate::wal::writer::{Active, NewFile};

/// How many files may wait for their last identifiers before an append sees to it.
const FINISHED_MAX: usize = 2;

impl Log {
    /// Appends a group of records, in one write, and returns the position after the last of them.
    ///
    /// `Buffered` leaves them in memory (until there are `buffer_bytes` of them), `Process` hands them to
    /// the operating system, `Disk` does so in whole units, ready for [`Log::sync_to`], which makes
    /// them durable: **`append` itself never syncs** what it appends. So the next group can be
    /// written while this one is being synced.
    ///
    /// # Errors
    /// `LogOrder` if an index is neither the next one, nor one that is there (which supersedes it and all
    /// after it), nor the one given to [`Log::skip_to`]; `BatchTooLarge` for a group over
    /// [`crate::wal::GROUP_BYTES_MAX`]; `Closed`, `ReadOnly`, `Poisoned`; `NoSpace` and other answers
    /// of the disk if a new file was needed and couldn't be made: nothing has been appended then, and
    /// it can be tried again. `OutcomeUnknown` if a write or a sync failed; the log then takes no more.
    pub fn append(&self, records: &[Append<'_>], durability: Durability) -> Result<Lsn> {
        let mut writer = self.writer.lock();
        self.check_writable(&writer)?;
        self.check_order(&writer, records)?;
        let end = self.append_group(&mut writer, records, durability)?;
        let many_wait = writer.finished.len() > FINISHED_MAX;
        drop(writer);
        if many_wait {
            self.catch_up();
        }
        Ok(end)
    }

    /// Writes identifiers, and parity, that nobody came to write in time. What it fails with, the next call meets.
    fn catch_up(&self) {
        if self.write_identifiers().is_ok() {
            let _ = self.protect(Patience::Hurried);
        }
    }

    /// Lets the next append begin at `index`, above the last one: what is between is of no more use (the
    /// tree covers it), and so is what came before; [`Log::first_index`] is `index` from then on.
    /// Without effect if `index` isn't above the next one.
    pub fn skip_to(&self, index: Index) {
        self.writer.lock().skip = Some(index);
    }

    fn check_order(&self, writer: &Writer, records: &[Append<'_>]) -> Result<()> {
        let refuse = |why: String| Err(Error::LogOrder { why });
        let (first, last) = {
            let view = self.view.lock();
            (view.timeline.first(), view.timeline.last())
        };
        let mut next = last.0.saturating_add(1);
        let mut skip = writer.skip.filter(|index| index.0 > next);
        for record in records {
            let index = record.index;
            if record.kind.is_local() {
                return refuse(format!("{:?} records are the log's own", record.kind));
            }
            if index.0 == 0 || index.0 == u64::MAX {
                return refuse(format!("index {index} can't be used"));
            }
            if Some(index) != skip.take() {
                if index.0 > next {
                    return refuse(format!(
                        "record {index} comes before its time: {next} is next"
                    ));
                }
                if index < first && index.0 < next {
                    return refuse(format!("record {index} is below the log's first, {first}"));
                }
            }
            next = index.0.saturating_add(1);
        }
        Ok(())
    }

    /// Appends records whose order has been checked.
    pub(super) fn append_group(
        &self,
        writer: &mut Writer,
        records: &[Append<'_>],
        durability: Durability,
    ) -> Result<Lsn> {
        if records.is_empty() {
            return Ok(self.end_lsn());
        }
        let mut group_bytes: u64 = 0;
        for record in records {
            group_bytes = group_bytes.saturating_add(record_bytes(record));
        }
        if group_bytes > GROUP_BYTES_MAX {
            return Err(Error::BatchTooLarge {
                bytes: usize::try_from(group_bytes).unwrap_or(usize::MAX),
                limit: usize::try_from(GROUP_BYTES_MAX).unwrap_or(usize::MAX),
            });
        }
        let buffer_bytes = self.setup.options.buffer_bytes;
        let active = self.make_room(writer, records.len() as u64, group_bytes, durability)?;
        let watermark = Lsn(self.durable.load(Ordering::Acquire));
        let before = active.pending.len();
        for record in records {
            active.push(record, watermark);
        }
        active.pending_groups += 1;
        let wrote = match durability {
            Durability::Disk => active.write_out(true, buffer_bytes),
            Durability::Buffered if active.buffered_bytes() < buffer_bytes => Ok(()),
            Durability::Process | Durability::Buffered => active.write_out(false, buffer_bytes),
        };
        wrote.map_err(|e| self.poison(&e))?;
        let (end, written) = (active.end(), active.written());
        let appended = active.pending.get(before..).unwrap_or_default();
        {
            let mut view = self.view.lock();
            for (one, record) in appended.iter().zip(records) {
                view.timeline.record(&Mark {
                    lsn: one.lsn,
                    kind: one.kind,
                    index: one.index,
                    term: one.term,
                    time_us: record.time_us,
                });
            }
            let top = view.timeline.last();
            if let Some(file) = view.files.last_mut() {
                let begun = self.end_lsn().0.max(file.meta.first_lsn.0 + UNIT_BYTES);
                let appended_bytes = end.0.saturating_sub(begun);
                self.appended.fetch_add(appended_bytes, Ordering::AcqRel);
                file.end = written.min(end);
                file.top = top;
            }
        }
        writer.skip = None;
        self.end.store(end.0, Ordering::Release);
        Ok(end)
    }

    /// The active file, with room for a group: a new one if need be.
    fn make_room<'w>(
        &self,
        writer: &'w mut Writer,
        records: u64,
        group_bytes: u64,
        durability: Durability,
    ) -> Result<&'w mut Active> {
        if durability == Durability::Disk
            && let Some(active) = &mut writer.active
            && !active.is_buffered()
        {
            active.start_fresh_unit();
        }
        match &writer.active {
            None => self.begin(writer, group_bytes)?,
            Some(active) if !active.has_room(group_bytes) => self.rotate(writer, group_bytes)?,
            Some(_) => {}
        }
        let Some(active) = &mut writer.active else {
            return Err(Error::Closed);
        };
        if self.setup.options.identifier_delay.is_zero() {
            // They must be written before the sync is acknowledged: then it is too late to refuse.
            let waiting = active.pending.len() as u64 + records;
            active
                .identifiers
                .reserve(waiting, active.pending_groups + 1)?;
        }
        Ok(active)
    }

    /// Takes a number and positions for a new file. They are never given out again.
    pub(super) fn describe_file(
        &self,
        writer: &mut Writer,
        capacity: u64,
        previous: LogNumber,
        previous_end: Lsn,
    ) -> Result<LogFileMeta> {
        let meta = LogFileMeta {
            number: writer.next_number,
            file_id: crate::types::FileId(self.setup.entropy.next_u128()),
            salt: self.setup.entropy.next_u64(),
            first_lsn: writer.next_lsn,
            capacity,
            first_index: Index(0),
            previous_number: previous,
            previous_end_lsn: previous_end,
            parity: self.setup.options.parity,
        };
        if !is_plausible(&meta) {
            let why = "there is no number or position left for another log file".into();
            return Err(Error::LogOrder { why });
        }
        writer.next_number.0 += 1;
        writer.next_lsn.0 += capacity;
        Ok(meta)
    }

    /// Makes a file; what a failure leaves of it is removed with the next purge.
    pub(super) fn create(&self, meta: LogFileMeta) -> Result<NewFile> {
        let number = meta.number;
        let made = create_file(&self.setup, self.store_id, meta);
        made.map_err(|error| {
            self.discard(number);
            match error {
                Error::OutcomeUnknown { .. } => self.poison(&error),
                other => other,
            }
        })
    }

    /// Puts a file that isn't used on the list of those to be removed.
    pub(super) fn discard(&self, number: LogNumber) {
        let paths = names::all_paths(&self.setup.dir, number, self.setup.options.parity);
        self.view.lock().void.extend(paths);
    }

    /// Makes the first file since the log was opened. What recovery decided about the old ones becomes
    /// durable with it.
    fn begin(&self, writer: &mut Writer, group_bytes: u64) -> Result<()> {
        while let Some((meta, end)) = writer.unidentified.first() {
            // (It may have been purged meanwhile.)
            let is_kept = |number| {
                let files = &self.view.lock().files;
                files.iter().any(|file| file.meta.number == number)
            };
            if is_kept(meta.number) {
                identify_anew(&self.setup, self.store_id, meta, *end)?;
            }
            writer.unidentified.remove(0);
        }
        let (previous, previous_end) = {
            let view = self.view.lock();
            let last = view.files.last();
            last.map_or((LogNumber(0), Lsn(0)), |file| (file.meta.number, file.end))
        };
        let capacity = self.setup.options.capacity_for(group_bytes);
        let meta = self.describe_file(writer, capacity, previous, previous_end)?;
        let new = self.create(meta)?;
        self.protect_old_files();
        self.use_file(writer, new);
        Ok(())
    }

    /// Makes a file the one that is appended to.
    fn use_file(&self, writer: &mut Writer, new: NewFile) {
        let mut view = self.view.lock();
        let top = view.timeline.last();
        view.files.push(ViewFile {
            end: Lsn(new.meta.first_lsn.0 + UNIT_BYTES),
            meta: new.meta.clone(),
            top,
        });
        writer.active = Some(Active::new(new));
    }

    /// Ends the active file and goes on to the next.
    fn rotate(&self, writer: &mut Writer, group_bytes: u64) -> Result<()> {
        let capacity = self.setup.options.capacity_for(group_bytes);
        let fits = |new: &mut NewFile| new.meta.capacity >= capacity;
        let new = match writer.next.take_if(fits) {
            Some(new) => new,
            None => {
                let previous = writer.active.as_ref().map(|active| active.meta.number);
                let previous = previous.unwrap_or_default();
                let meta = self.describe_file(writer, capacity, previous, Lsn(0))?;
                self.create(meta)?
            }
        };
        if let Some(unused) = writer.next.take() {
            // Too small, and its positions now lie before the log's.
            self.discard(unused.meta.number);
        }
        self.finish(writer, Some(new.meta.number))?;
        self.use_file(writer, new);
        Ok(())
    }

    /// Makes all of the active file durable, ends it with an `End` record, and makes that durable.
    pub(super) fn finish(&self, writer: &mut Writer, next: Option<LogNumber>) -> Result<()> {
        let Some(mut active) = writer.active.take() else {
            return Ok(());
        };
        let finished = self.finish_file(&mut active, next);
        let (number, end) = (active.meta.number, active.end());
        if finished.is_ok() {
            let seal = Some(end);
            writer.finished.push(Job {
                file: Arc::clone(&active.identifiers),
                identifiers: std::mem::take(&mut active.pending),
                seal,
                parity: ParityJob::of(active.parity.as_ref(), end, true),
            });
            let mut view = self.view.lock();
            for file in &mut view.files {
                if file.meta.number == number {
                    file.end = end;
                }
            }
            drop(view);
            self.mendings.sealed(number);
        }
        finished.map_err(|e| self.poison(&e))
    }

    fn finish_file(&self, active: &mut Active, next: Option<LogNumber>) -> Result<()> {
        let buffer_bytes = self.setup.options.buffer_bytes;
        active.write_out(true, buffer_bytes)?;
        if active.end().0 > self.durable.load(Ordering::Acquire) {
            self.sync_file(&*active.file, &active.path, active.end())?;
        }
        let (index, term, time_us) = {
            let timeline = &self.view.lock().timeline;
            (
                timeline.last(),
                timeline.last_term(),
                timeline.last_time_us(),
            )
        };
        let payload = end_payload(next.map(|number| number.0));
        let end = Append {
            stream: StreamId(0),
            kind: RecordKind::End,
            index,
            term,
            time_us,
            client: 0,
            sequence: 0,
            payload: &payload,
            payload_hash: crate::codec::payload_hash(&payload),
        };
        active.start_fresh_unit();
        active.push(&end, Lsn(self.durable.load(Ordering::Acquire)));
        active.write_out(true, buffer_bytes)?;
        self.sync_file(&*active.file, &active.path, active.end())?;
        self.end.fetch_max(active.end().0, Ordering::AcqRel);
        self.note_due();
        Ok(())
    }

    /// Makes everything before `lsn` durable (and its identifiers, if they aren't to be delayed). Appends
    /// go on meanwhile; those who wait here at the same time share a sync. Where nobody calls
    /// [`Log::step_identifiers`] when [`Log::identifiers_due`] says so, this does it now and then.
    ///
    /// # Errors
    /// `OutcomeUnknown` if the sync failed, or an earlier write or sync has; `LogOrder` if nothing has
    /// been appended there.
    pub fn sync_to(&self, lsn: Lsn) -> Result<()> {
        if self.durable_lsn() >= lsn {
            return Ok(());
        }
        let _turn = self.sync_turn.lock();
        if self.durable_lsn() >= lsn {
            return Ok(());
        }
        let unknown = |cause: &Arc<str>| Error::OutcomeUnknown {
            cause: Arc::clone(cause),
        };
        let (file, path, target) = {
            let mut writer = self.writer.lock();
            if let Some(cause) = self.latch.get() {
                return Err(unknown(cause));
            }
            if lsn > self.end_lsn() {
                let why = format!("{lsn} is after the log's end, {}", self.end_lsn());
                return Err(Error::LogOrder { why });
            }
            self.hand_over(&mut writer)?
        };
        if target.0 > self.durable.load(Ordering::Acquire)
            && let Some(file) = file
        {
            self.sync_file(&*file, &path, target)?;
            self.note_due();
        }
        self.settle()?;
        if self.identifiers_overdue() {
            self.catch_up();
        }
        Ok(())
    }

    /// Syncs a log file; what is before `target` is durable then. One at a time: of two who sync a file
    /// together, the kernel tells only one that what both waited for was lost.
    fn sync_file(&self, file: &dyn File, path: &std::path::Path, target: Lsn) -> Result<()> {
        let _alone = self.syncing.lock();
        if let Some(cause) = self.latch.get() {
            let cause = Arc::clone(cause);
            return Err(Error::OutcomeUnknown { cause });
        }
        let synced = file.sync_data();
        synced.map_err(|e| self.poison(&Error::io("sync", path, e)))?;
        self.durable.fetch_max(target.0, Ordering::AcqRel);
        Ok(())
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// As [`Log::sync_to`].
    pub fn sync(&self) -> Result<()> {
        self.sync_to(self.end_lsn())
    }

    /// Writes out what is buffered, sets the next record on a fresh unit, and says what is to be synced.
    #[allow(clippy::type_complexity, reason = "used once, right above")]
    fn hand_over(
        &self,
        writer: &mut Writer,
    ) -> Result<(Option<Arc<dyn File>>, std::path::PathBuf, Lsn)> {
        let Some(active) = &mut writer.active else {
            return Ok((None, std::path::PathBuf::new(), self.end_lsn()));
        };
        let wrote = active.write_out(false, self.setup.options.buffer_bytes);
        wrote.map_err(|e| self.poison(&e))?;
        active.start_fresh_unit();
        let end = active.end();
        if let Some(file) = self.view.lock().files.last_mut() {
            file.end = end;
        }
        Ok((Some(Arc::clone(&active.file)), active.path.clone(), end))
    }

    /// Lets what is durable be acknowledged; writes identifiers first if they aren't to be delayed.
    fn settle(&self) -> Result<()> {
        let durable = self.durable.load(Ordering::Acquire);
        if self.setup.options.identifier_delay.is_zero() {
            // The records are durable already: it is too late to refuse them.
            self.write_identifiers().map_err(|e| self.poison(&e))?;
            // Identifiers are never overdue then. Each of these holds a file open.
            if self.held_for_parity() > FINISHED_MAX {
                let _ = self.protect(Patience::Hurried);
            }
        }
        self.settled.fetch_max(durable, Ordering::AcqRel);
        Ok(())
    }

    /// Hands what is buffered to the operating system.
    ///
    /// # Errors
    /// `Poisoned`; `OutcomeUnknown` if the write failed.
    pub fn write_out(&self) -> Result<()> {
        self.check_latch()?;
        self.write_out_for_readers()
    }

    /// Before reading: what is in memory only is handed to the operating system.
    pub(super) fn write_out_for_readers(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        let Some(active) = &mut writer.active else {
            return Ok(());
        };
        if !active.is_buffered() || self.latch.get().is_some() {
            return Ok(());
        }
        let wrote = active.write_out(false, self.setup.options.buffer_bytes);
        wrote.map_err(|e| self.poison(&e))?;
        let end = active.end();
        if let Some(file) = self.view.lock().files.last_mut() {
            file.end = end;
        }
        Ok(())
    }
}

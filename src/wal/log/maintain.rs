//! What is done in the background or now and then: identifiers, the next file, purging, truncation.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::protect::Patience;
use super::{Log, View, ViewFile, Writer};
use crate::error::{Error, Result};
use crate::types::{Durability, Index, LogNumber, Lsn, StreamId, Term};
use crate::wal::Append;
use crate::wal::format::{RecordKind, UNIT_BYTES, round_up};
use crate::wal::identify::{Job, StepError};
use crate::wal::names;
use crate::wal::options::LogAccess;
use crate::wal::protect::ParityJob;

/// How far beyond four times their delay identifiers may wait before a sync writes them itself.
const OVERDUE: Duration = Duration::from_millis(20);

impl Log {
    /// Writes and syncs the identifiers of what has become durable, and then the parity of each full MiB of it. True
    /// if there was anything to write.
    ///
    /// # Errors
    /// `NoSpace`, and then it can be tried again; `Poisoned`; `OutcomeUnknown` if a write or a sync
    /// failed (what they identify is durable all the same).
    pub fn step_identifiers(&self) -> Result<bool> {
        let identified = self.write_identifiers()?;
        let protected = self.protect(Patience::Patient)?;
        Ok(identified || protected)
    }

    /// Writes a few slots of the parity that waits for it. True if there may be more.
    ///
    /// # Errors
    /// As [`Log::step_identifiers`].
    pub(crate) fn step_parity(&self) -> Result<bool> {
        let mut protector = self.parity_turn.lock();
        self.protect_next(&mut protector)?;
        Ok(self.has_unprotected())
    }

    /// [`Log::step_identifiers`] without parity.
    pub(crate) fn write_identifiers(&self) -> Result<bool> {
        self.check_latch()?;
        let mut queue = self.identifier_turn.lock();
        self.due_since_us.store(0, Ordering::Release);
        self.take_jobs(&mut queue);
        let mut done = false;
        while let Some(job) = queue.front() {
            match job.run() {
                Ok(()) => {
                    let job = queue.pop_front();
                    self.protect_later(job.and_then(|job| job.parity));
                    done = true;
                }
                Err(StepError::Refused(error)) => {
                    self.note_due();
                    return Err(error);
                }
                Err(StepError::Final(error)) => return Err(self.poison(&error)),
            }
        }
        Ok(done)
    }

    fn take_jobs(&self, queue: &mut std::collections::VecDeque<Job>) {
        let mut writer = self.writer.lock();
        let Writer {
            finished, active, ..
        } = &mut *writer;
        let mut jobs = std::mem::take(finished);
        if let Some(active) = active {
            let durable = Lsn(self.durable.load(Ordering::Acquire));
            let count = active.pending.partition_point(|one| one.end() <= durable);
            if count > 0 {
                let rest = active.pending.split_off(count);
                let identifiers = std::mem::replace(&mut active.pending, rest);
                active.pending_groups = active.pending.len() as u64;
                let file = Arc::clone(&active.identifiers);
                let seal = None;
                let parity = ParityJob::of(active.parity.as_ref(), durable, false);
                jobs.push(Job {
                    file,
                    identifiers,
                    seal,
                    parity,
                });
            }
        }
        for mut job in jobs {
            match queue.back_mut() {
                Some(last) if Arc::ptr_eq(&last.file, &job.file) && last.seal.is_none() => {
                    last.identifiers.append(&mut job.identifiers);
                    last.seal = job.seal;
                    last.parity = job.parity;
                }
                _ => queue.push_back(job),
            }
        }
    }

    /// Whether identifiers have waited for as long as they may, or parity can be written.
    #[must_use]
    pub fn identifiers_due(&self) -> bool {
        self.have_waited(self.setup.options.identifier_delay) || self.has_unprotected()
    }

    /// Whether they have waited for so long that nobody seems to see to it.
    pub(super) fn identifiers_overdue(&self) -> bool {
        self.have_waited(4 * self.setup.options.identifier_delay + OVERDUE)
    }

    pub(super) fn have_waited(&self, delay: Duration) -> bool {
        let since = self.due_since_us.load(Ordering::Acquire);
        let Some(since) = since.checked_sub(1) else {
            return false;
        };
        let now = self.setup.clock.elapsed();
        now.saturating_sub(Duration::from_micros(since)) >= delay
    }

    /// Notes that identifiers wait to be written.
    pub(super) fn note_due(&self) {
        let now = u64::try_from(self.setup.clock.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
        let _ = self.due_since_us.compare_exchange(
            0,
            now.saturating_add(1),
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    /// Makes the next file ready, if the log is being appended to and none is. True if one was made.
    ///
    /// # Errors
    /// `NoSpace` and whatever else the disk or the registry answers; the log isn't harmed, and it can be
    /// tried again. `Poisoned`.
    pub fn step_prepare(&self) -> Result<bool> {
        let _turn = self.prepare_turn.lock();
        let (meta, previous) = {
            let mut writer = self.writer.lock();
            let Some(active) = &writer.active else {
                return Ok(false);
            };
            if writer.next.is_some() || writer.closed {
                return Ok(false);
            }
            self.check_latch()?;
            let previous = active.meta.number;
            let capacity = self.setup.options.capacity_for(0);
            let meta = self.describe_file(&mut writer, capacity, previous, Lsn(0))?;
            (meta, previous)
        };
        let new = self.create(meta)?;
        let mut writer = self.writer.lock();
        let active = writer.active.as_ref().map(|active| active.meta.number);
        if active == Some(previous) && writer.next.is_none() {
            writer.next = Some(new);
        } else {
            // The log has moved on meanwhile.
            self.discard(new.meta.number);
        }
        Ok(true)
    }

    /// Supersedes every record above `index`, durably. Without effect if there is none.
    ///
    /// # Errors
    /// `Purged` if `index` is more than one below the log's first; else as [`Log::append`] and
    /// [`Log::sync_to`].
    pub fn truncate_after(&self, index: Index) -> Result<()> {
        let (first, last) = (self.first_index(), self.last_index());
        if index >= last {
            return self.check_writable(&self.writer.lock());
        }
        if index.0.saturating_add(1) < first.0 {
            return Err(Error::Purged {
                asked: index,
                first,
            });
        }
        let term = match index < first {
            true => Term(0),
            false => self
                .read_from(index)?
                .next()?
                .map_or(Term(0), |record| record.term),
        };
        let end = {
            let mut writer = self.writer.lock();
            self.check_writable(&writer)?;
            let record = Append {
                stream: StreamId(0),
                kind: RecordKind::Truncate,
                index,
                term,
                time_us: self.last_time_us(),
                client: 0,
                sequence: 0,
                payload: &[],
                payload_hash: crate::codec::payload_hash(&[]),
            };
            self.append_group(&mut writer, &[record], Durability::Disk)?
        };
        self.sync_to(end)
    }

    /// Removes whole files that hold nothing from `index` on, oldest first, and files that don't belong to
    /// the log. The newest file that holds anything durable always stays. Returns how many log files were removed.
    ///
    /// # Errors
    /// Whatever the registry (nothing has been removed then) or the disk answers; the log isn't harmed,
    /// and a later purge removes the rest. `ReadOnly`, `Poisoned`.
    pub fn purge_before(&self, index: Index) -> Result<u64> {
        if self.setup.access == LogAccess::ReadOnly {
            return Err(Error::ReadOnly);
        }
        self.check_latch()?;
        let durable = Lsn(self.durable.load(Ordering::Acquire));
        if !purgeable(&self.view.lock(), index, durable).is_empty() {
            // What makes old files needless gets its identifiers first: rot could else pass for a torn
            // write, and leave less than there was before it. (A full disk must not keep room from being
            // made.)
            match self.write_identifiers() {
                Ok(_) | Err(Error::NoSpace { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let _turn = self.prepare_turn.lock();
        // Until the first append, that may be about to read the old files.
        let _writer = Some(self.writer.lock()).filter(|writer| writer.active.is_none());
        let (numbers, paths) = {
            let view = self.view.lock();
            let numbers = purgeable(&view, index, durable);
            let mut paths = removable(&view, durable);
            let metas = view.files.iter().map(|file| &file.meta);
            for meta in metas.filter(|meta| numbers.contains(&meta.number)) {
                paths.extend(names::all_paths(&self.setup.dir, meta.number, meta.parity));
            }
            (numbers, paths)
        };
        if paths.is_empty() {
            return Ok(0);
        }
        if let Some(registry) = &self.setup.registry {
            registry.removed(&log_numbers(&paths))?;
        }
        self.forget(&numbers, &paths, durable);
        numbers
            .iter()
            .for_each(|&number| self.mendings.forget(number));
        self.remove_all(&paths)?;
        self.view.lock().void.retain(|path| !paths.contains(path));
        Ok(numbers.len() as u64)
    }

    /// Takes files out of the log; they stay on the list of those to be removed until they are.
    fn forget(&self, numbers: &[LogNumber], paths: &[PathBuf], durable: Lsn) {
        let mut view = self.view.lock();
        let Some(last) = view
            .files
            .iter()
            .rev()
            .find(|file| numbers.contains(&file.meta.number))
        else {
            return;
        };
        let top = view.timeline.top_before(last.end, last.top, durable);
        view.files
            .retain(|file| !numbers.contains(&file.meta.number));
        let start = view
            .files
            .first()
            .map_or(Lsn(0), |file| file.meta.first_lsn);
        view.timeline.forget_before(start, top.next());
        let holes: Vec<_> = view
            .holes
            .iter()
            .filter(|hole| hole.to > start)
            .cloned()
            .collect();
        view.holes = holes.into();
        for path in paths {
            if !view.void.contains(path) {
                view.void.push(path.clone());
            }
        }
    }

    fn remove_all(&self, paths: &[PathBuf]) -> Result<()> {
        let vfs = &self.setup.vfs;
        let sync = || {
            let synced = vfs.sync_dir(&self.setup.dir);
            // Final, as everywhere: others may have names to be made durable there.
            synced.map_err(|e| self.poison(&Error::io("sync", &self.setup.dir, e)))
        };
        for path in paths {
            match vfs.remove(path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", path, e));
                }
                _ => {}
            }
            if self.setup.registry.is_none() {
                // One after the other: a hole among the files would be taken for a lost one.
                sync()?;
            }
        }
        sync()
    }

    /// Makes everything durable, ends the log with an `End` record, and seals its identifiers and its parity. Appends
    /// are refused from now on; reads go on. A log that wasn't appended to is left as it is.
    ///
    /// # Errors
    /// `Poisoned`; `OutcomeUnknown` if a write or a sync failed.
    pub fn close(&self) -> Result<()> {
        {
            let mut writer = self.writer.lock();
            if writer.closed {
                return Ok(());
            }
            writer.closed = true;
            self.check_latch()?;
            self.finish(&mut writer, None)?;
        }
        match self.step_identifiers() {
            // The `End` record proves as much; the next writer makes up for it.
            Ok(_) | Err(Error::NoSpace { .. }) => {}
            Err(Error::Poisoned { cause }) => return Err(Error::OutcomeUnknown { cause }),
            Err(other) => return Err(other),
        }
        let durable = self.durable.load(Ordering::Acquire);
        self.settled.fetch_max(durable, Ordering::AcqRel);
        Ok(())
    }
    /// As [`Log::close`], and gives back the room that was taken for records to come in the last file. (In
    /// a store's own log it isn't worth it: the next writer makes that log's room anew at once.)
    ///
    /// # Errors
    /// As [`Log::close`]. That room can't be given back is none.
    pub(crate) fn close_and_trim(&self) -> Result<()> {
        let last = {
            let writer = self.writer.lock();
            let active = writer.active.as_ref();
            active.map(|active| {
                let (file, sidecar) = (Arc::clone(&active.file), Arc::clone(&active.identifiers));
                (active.meta.clone(), file, sidecar, active.parity.clone())
            })
        };
        self.close()?;
        let Some((meta, file, sidecar, parity)) = last else {
            return Ok(());
        };
        let end = self.end_lsn().0.checked_sub(meta.first_lsn.0);
        if let Some(end) = end.filter(|end| *end <= meta.capacity) {
            // After the end marker nothing counts.
            let _ = file.set_len(round_up(end));
            let _ = sidecar.trim();
            parity.inspect(|parity| parity.trim(end));
        }
        Ok(())
    }
}

/// Whether a file holds anything durable, and so won't be void after a crash.
fn has_durable(file: &ViewFile, durable: Lsn) -> bool {
    durable.0 > file.meta.first_lsn.0 + UNIT_BYTES
}

/// The oldest files, up to the first that holds anything from `index` on; never the newest that holds
/// anything durable, so that a crash can't leave a log that has forgotten where it was.
fn purgeable(view: &View, index: Index, durable: Lsn) -> Vec<LogNumber> {
    let newer = view.files.iter().skip(1);
    let pairs = view.files.iter().zip(newer);
    pairs
        .take_while(|(file, next)| {
            has_durable(next, durable)
                && view.timeline.top_before(file.end, file.top, durable) < index
        })
        .map(|(file, _)| file.meta.number)
        .collect()
}

/// Files that don't belong to the log. Those above its newest file that holds anything durable stay: they
/// keep their positions from being given out again, and an `End` record may name one of them.
fn removable(view: &View, durable: Lsn) -> Vec<PathBuf> {
    let mut files = view.files.iter().rev();
    let newest = files.find(|file| has_durable(file, durable));
    let newest = newest.map(|file| file.meta.number);
    let older = |path: &&PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(names::parse).map(|(number, _)| number);
        number < newest
    };
    view.void.iter().filter(older).cloned().collect()
}

fn log_numbers(paths: &[PathBuf]) -> Vec<LogNumber> {
    let mut numbers: Vec<LogNumber> = paths
        .iter()
        .filter_map(|path| names::parse(path.file_name()?.to_str()?))
        .filter(|(_, kind)| *kind == names::NameKind::Log)
        .map(|(number, _)| number)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

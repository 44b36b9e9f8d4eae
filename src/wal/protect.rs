//! Writes parity of what a log file has: a slot for each full MiB that is durable, and for what is left when the file
//! is sealed.
//!
//! Invariants:
//! - a slot is written only after the sync that made its bytes durable, and after their identifiers;
//! - what a slot covers never changes again, so writing it twice writes the same bytes.
//!
//! A file stays without a part of its parity if that can't be written or synced: the records are durable without it, and
//! a slot that the disk has not, or half, doesn't pass for one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::parity::{SlotCoder, Slots};
use crate::types::{LogFileMeta, Lsn, UNIT};
use crate::vfs::{Access, File};

use super::folder::is_lenient;
use super::format::{FileHeader, HeaderKind, round_up};
use super::heal::{GROUP_BYTES, Healer};
use super::identify::StepError;
use super::names;
use super::options::LogSetup;
use super::scan::{Item, Scanner};
use super::source::Source;

/// How many groups are written before anything else is looked at again: a few milliseconds' work.
const GROUPS_AT_ONCE: u64 = 8;

/// A file of parity that is being written, of a log file that is or was appended to.
#[derive(Debug)]
pub(crate) struct ParityFile {
    path: PathBuf,
    file: Arc<dyn File>,
    log_path: PathBuf,
    log: Arc<dyn File>,
    meta: LogFileMeta,
    /// Groups that have been written.
    done: Mutex<u64>,
}

/// A log file that parity is to be written for.
#[derive(Clone, Debug)]
pub(crate) enum ParityJob {
    /// One that this log has appended to.
    Own {
        file: Arc<ParityFile>,
        /// All before this position is durable.
        to: Lsn,
        /// The log in this file ends there.
        is_sealed: bool,
    },
    /// One from before this log was opened, which ends there.
    Old { meta: LogFileMeta, end: Lsn },
}

/// How far a step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more to do.
    More,
    /// All is done that can be, with so many groups written in the end.
    Done(u64),
}

/// What writing parity takes.
#[derive(Default)]
pub(crate) struct Protector {
    coder: SlotCoder,
    content: Vec<u8>,
}

impl fmt::Debug for Protector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protector").finish_non_exhaustive()
    }
}

impl ParityJob {
    /// Whether it is of a file that this log has appended to.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Own { .. })
    }

    /// Whether `more` is of the same file that is appended to, and goes further.
    pub fn is_begun_by(&self, more: &Self) -> bool {
        match (self, more) {
            (Self::Own { file, .. }, Self::Own { file: of_more, .. }) => Arc::ptr_eq(file, of_more),
            _ => false,
        }
    }

    /// Whether both ask for the same.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Own { to, is_sealed, .. },
                Self::Own {
                    to: other_to,
                    is_sealed: other_sealed,
                    ..
                },
            ) => self.is_begun_by(other) && (to, is_sealed) == (other_to, other_sealed),
            (
                Self::Old { meta, end },
                Self::Old {
                    meta: other_meta,
                    end: other_end,
                },
            ) => (meta, end) == (other_meta, other_end),
            _ => false,
        }
    }

    /// For a file that is appended to.
    pub fn of(file: Option<&Arc<ParityFile>>, to: Lsn, is_sealed: bool) -> Option<Self> {
        let file = Arc::clone(file?);
        Some(Self::Own {
            file,
            to,
            is_sealed,
        })
    }

    /// The log file.
    pub fn meta(&self) -> &LogFileMeta {
        match self {
            Self::Own { file, .. } => &file.meta,
            Self::Old { meta, .. } => meta,
        }
    }

    /// Writes and syncs the next slots.
    pub fn step(
        &self,
        setup: &LogSetup<'_>,
        protector: &mut Protector,
    ) -> Result<Progress, StepError> {
        match self {
            Self::Own {
                file,
                to,
                is_sealed,
            } => file.write(protector, *to, *is_sealed),
            Self::Old { meta, end } => protect_old(setup, protector, meta, *end),
        }
    }
}

impl ParityFile {
    /// Makes the file for a new log file, with all the room that it will need. The caller syncs the folder.
    ///
    /// # Errors
    /// What the disk answers.
    pub fn create(setup: &LogSetup<'_>, meta: &LogFileMeta, log: &Arc<dyn File>) -> Result<Self> {
        let path = names::parity_path(&setup.dir, meta.number);
        let file = setup.vfs.open(&path, Access::CreateOrTruncate);
        let file = file.map_err(|e| Error::io("create", &path, e))?;
        let taken = file.preallocate(Slots::new(meta.parity).file_bytes(meta.capacity));
        taken.map_err(|e| Error::io("make room in", &path, e))?;
        Ok(Self {
            path,
            file,
            log_path: names::log_path(&setup.dir, meta.number),
            log: Arc::clone(log),
            meta: meta.clone(),
            done: Mutex::new(0),
        })
    }

    /// Gives back the room behind what the parity of a log file of so many bytes takes.
    pub fn trim(&self, content_bytes: u64) {
        let bytes = Slots::new(self.meta.parity).file_bytes(content_bytes);
        // It is only room.
        let _ = self.file.set_len(bytes);
    }

    fn write(
        &self,
        protector: &mut Protector,
        to: Lsn,
        is_sealed: bool,
    ) -> Result<Progress, StepError> {
        let mut done = self.done.lock();
        let end = to.0.saturating_sub(self.meta.first_lsn.0);
        let end = end.min(self.meta.capacity);
        let wanted = match is_sealed {
            true => end.div_ceil(GROUP_BYTES),
            false => end / GROUP_BYTES,
        };
        let before = *done;
        let stop = wanted.min(before.saturating_add(GROUPS_AT_ONCE));
        for group in before..stop {
            let read = |buffer: &mut [u8], offset| {
                let read = self.log.read_at(buffer, offset);
                read.map_err(|e| Error::io("read", &self.log_path, e))
            };
            let slot = match protector.slot(&self.meta, group, end, read) {
                Ok(slot) => slot,
                Err(error) => {
                    // What can't be read has no parity; that is no reason to stop writing.
                    tracing::warn!(%error, "no parity can be made of a part of the log");
                    continue;
                }
            };
            self.put(group, &slot)?;
        }
        if stop > before {
            self.sync()?;
            *done = stop;
        }
        Ok(match stop < wanted {
            true => Progress::More,
            false => Progress::Done(stop - before.min(stop)),
        })
    }

    fn put(&self, group: u64, slot: &[u8]) -> Result<(), StepError> {
        let written = self
            .file
            .write_at(slot, Slots::new(self.meta.parity).start(group));
        written.map_err(|e| StepError::Refused(Error::io("write", &self.path, e)))
    }

    fn sync(&self) -> Result<(), StepError> {
        let synced = self.file.sync_data();
        synced.map_err(|e| StepError::Refused(Error::io("sync", &self.path, e)))
    }
}

impl Protector {
    /// The slot of a group of a log that ends, or is durable, up to the offset `end`.
    pub fn slot(
        &mut self,
        meta: &LogFileMeta,
        group: u64,
        end: u64,
        read: impl Fn(&mut [u8], u64) -> Result<usize>,
    ) -> Result<Vec<u8>> {
        let start = group.saturating_mul(GROUP_BYTES);
        let end = end.min(start.saturating_add(GROUP_BYTES));
        let bytes = round_up(end).saturating_sub(start);
        self.content.clear();
        self.content.resize(bytes as usize, 0);
        let found = read(&mut self.content, start)? as u64;
        if start.saturating_add(found) < end {
            // Parity of what isn't there would vouch for zeros.
            let why = std::io::ErrorKind::UnexpectedEof.into();
            return Err(Error::io(
                "read",
                &names::log_path(Path::new(""), meta.number),
                why,
            ));
        }
        let (level, file_id) = (meta.parity, meta.file_id);
        let slot = self.coder.encode(level, file_id, group, &self.content, end);
        slot.map_err(|e| Error::io("make parity of", Path::new("a log file"), e))
    }
}

/// Writes the slots that are missing of a file whose log ends at `end`, if all that it holds is as it was written.
fn protect_old(
    setup: &LogSetup<'_>,
    protector: &mut Protector,
    meta: &LogFileMeta,
    end: Lsn,
) -> Result<Progress, StepError> {
    let end = end.0.saturating_sub(meta.first_lsn.0).min(meta.capacity);
    let mut healer = Healer::new(&*setup.vfs, &setup.dir, meta);
    let missing = missing_groups(&mut healer, end);
    if missing.is_empty() {
        return Ok(Progress::Done(0));
    }
    let Ok(Some(source)) = clean_source(setup, meta, end, &mut healer) else {
        return Ok(Progress::Done(0));
    };
    let path = names::parity_path(&setup.dir, meta.number);
    let opened = match setup.vfs.open(&path, Access::Write) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            setup.vfs.open(&path, Access::CreateOrTruncate)
        }
        opened => opened,
    };
    let file = opened.map_err(|e| StepError::Refused(Error::io("open", &path, e)))?;
    for &group in &missing {
        let slot = protector.slot(meta, group, end, |buffer, at| source.read(buffer, at));
        let slot = slot.map_err(StepError::Refused)?;
        let written = file.write_at(&slot, Slots::new(meta.parity).start(group));
        written.map_err(|e| StepError::Refused(Error::io("write", &path, e)))?;
    }
    let synced = file.sync_data();
    synced.map_err(|e| StepError::Refused(Error::io("sync", &path, e)))?;
    let synced = setup.vfs.sync_dir(&setup.dir);
    synced.map_err(|e| StepError::Final(Error::io("sync", &setup.dir, e)))?;
    Ok(Progress::Done(missing.len() as u64))
}

/// The groups of a file whose log ends at the offset `end` that have no whole table for all of it.
pub(crate) fn missing_groups(healer: &mut Healer, end: u64) -> Vec<u64> {
    let groups = 0..end.div_ceil(GROUP_BYTES);
    let missing = groups.filter(|&group| {
        let wanted = end.min((group + 1) * GROUP_BYTES);
        let table = healer.table(group);
        table.is_none_or(|table| table.end() < wanted)
    });
    missing.collect()
}

/// A log file with what parity makes good; `None` if that leaves something that isn't as it was written before the
/// offset `end`.
fn clean_source(
    setup: &LogSetup<'_>,
    meta: &LogFileMeta,
    end: u64,
    healer: &mut Healer,
) -> Result<Option<Source>> {
    let path = names::log_path(&setup.dir, meta.number);
    let opened = setup.vfs.open(&path, Access::Read);
    let file = opened.map_err(|e| Error::io("open", &path, e))?;
    let source = Source::new(&path, file, is_lenient(setup))?.strict();
    healer.heal_all(&source);
    let source = source.patched(healer.patches());
    let mut header = [0; UNIT];
    source.read(&mut header, 0)?;
    if FileHeader::decode(HeaderKind::Log, &header).is_err() {
        return Ok(None);
    }
    let mut scanner = Scanner::new(source.clone(), meta, end);
    while let Some(item) = scanner.next()? {
        match item {
            Item::Record(_) | Item::Stray { .. } => {}
            Item::Damaged { .. } | Item::Gap { .. } | Item::Tail { .. } => return Ok(None),
        }
    }
    Ok(Some(source))
}

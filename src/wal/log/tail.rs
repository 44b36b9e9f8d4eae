//! Follows a log beside the one who writes it. Changes nothing; syncs what it is about to show.
//!
//! Within the newest file new records are found where the last one ended, so looking again costs one
//! small read. Once a newer file is in use, the log is opened again: judging what a rotation, a crash
//! or a purge has made of it is recovery's business alone.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;

use super::{Log, own};
use crate::error::{Error, Result};
use crate::types::{Index, LogFileMeta, LogNumber, Lsn, UNIT};
use crate::vfs::{Access, File};
use crate::wal::format::{
    FileHeader, HeaderKind, RECORD_HEADER_BYTES_MAX, UNIT_BYTES, decode_header,
};
use crate::wal::names::{self, NameKind};
use crate::wal::options::{LogAccess, LogSetup};
use crate::wal::reader::{LogReader, Record};

/// How many bytes of payload are taken at once, so that one sync is for many records.
const BATCH_BYTES: usize = 1 << 20;
/// How many records are.
const BATCH_RECORDS: usize = 1024;

/// Goes through a log from a record on, and on as it grows: see [`Log::follow`].
#[derive(Debug)]
pub struct LogTail {
    setup: LogSetup<'static>,
    /// The record to be read next.
    next: Index,
    /// `None` when the log is to be opened again.
    reader: Option<LogReader>,
    newest: Option<Newest>,
    /// Read and durable.
    ready: VecDeque<Record>,
}

/// The file that is, or was, appended to.
#[derive(Debug)]
struct Newest {
    meta: LogFileMeta,
    file: Arc<dyn File>,
    /// Where the log ended in it when it was opened: what is wrong before that is damage.
    judged: Lsn,
    /// All before this position is durable.
    durable: Lsn,
}

impl Log {
    /// Turns a log that was opened to read into a reader of what is in it from `index` on, and of what its
    /// writer appends from now on. 0 stands for the first record there is. For logs that are appended to
    /// only: a record that is superseded after it was shown is an error.
    ///
    /// # Errors
    /// `Purged` if the log begins after `index`, `NotYetWritten` if it ends more than one before it;
    /// `LogOrder` for a log that was opened to write; whatever the disk answers.
    pub fn follow(self, index: Index) -> Result<LogTail> {
        if self.setup.access != LogAccess::ReadOnly {
            let why = "only a log that was opened to read can be followed".into();
            return Err(Error::LogOrder { why });
        }
        let last = self.last_index();
        let next = match index {
            Index(0) => self.first_index(),
            index => index,
        };
        if next > last.next() {
            let asked = next;
            return Err(Error::NotYetWritten { asked, last });
        }
        let (reader, newest) = start(&self, next)?;
        Ok(LogTail {
            setup: own(self.setup),
            next,
            reader: Some(reader),
            newest,
            ready: VecDeque::new(),
        })
    }
}

fn start(log: &Log, next: Index) -> Result<(LogReader, Option<Newest>)> {
    let (reader, newest) = log.read_on_from(next)?;
    let Some((meta, judged)) = newest else {
        return Ok((reader, None));
    };
    let path = names::log_path(&log.setup.dir, meta.number);
    let opened = log.setup.vfs.open(&path, Access::Read);
    let file = opened.map_err(|e| Error::io("open", &path, e))?;
    let durable = Lsn(0);
    let newest = Newest {
        meta,
        file,
        judged,
        durable,
    };
    Ok((reader, Some(newest)))
}

impl LogTail {
    /// The next record; `None` if there is none yet. What it returns is durable: it has synced it itself
    /// if need be. (But where the writer's sync has failed, the system may show, and call synced, what
    /// is not on the disk.)
    ///
    /// Costs a small read and a look at the folder if there is nothing new. When the writer has gone on to
    /// a new file, the log is opened again, which costs as much as [`Log::open`].
    ///
    /// # Errors
    /// `Purged`, `Damaged`, `LogOrder` or `NotYetWritten` (what was shown has been taken back), whatever the disk answers. After an error
    /// the same place is tried again.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator would end, or go on after an error"
    )]
    pub fn next(&mut self) -> Result<Option<Record>> {
        if let Some(record) = self.ready.pop_front() {
            return Ok(Some(record));
        }
        let is_fresh = self.reader.is_none();
        if is_fresh {
            self.reopen()?;
        }
        let is_stale = match self.fill() {
            // A file that was purged may have had nothing that is wanted, and a gap be one that the writer
            // was about to fill.
            Err(Error::Purged { .. }) if !is_fresh => true,
            Ok(()) => self.ready.is_empty() && self.has_newer_file()?,
            Err(error) => return Err(error),
        };
        if is_stale {
            self.reopen()?;
            self.fill()?;
        }
        Ok(self.ready.pop_front())
    }

    /// The index of the record that comes next.
    #[must_use]
    pub fn next_index(&self) -> Index {
        self.ready.front().map_or(self.next, |record| record.index)
    }

    /// Opens the log again where it was left.
    fn reopen(&mut self) -> Result<()> {
        self.reader = None;
        let mut setup = again(&self.setup);
        setup.needed_above = Index(self.next.0.saturating_sub(1));
        let (log, _) = Log::open(setup)?;
        let (asked, last) = (self.next, log.last_index());
        if asked > last.next() {
            return Err(Error::NotYetWritten { asked, last });
        }
        let (reader, newest) = start(&log, self.next)?;
        self.reader = Some(reader);
        self.newest = newest;
        Ok(())
    }

    /// Reads on, and makes durable what it has read.
    fn fill(&mut self) -> Result<()> {
        // Whatever goes wrong, what was read and isn't ready is read again.
        let Some(mut reader) = self.reader.take() else {
            return Ok(());
        };
        reader.read_again();
        let (mut read, mut bytes) = (Vec::new(), 0);
        let mut next = self.next;
        while bytes < BATCH_BYTES && read.len() < BATCH_RECORDS {
            let Some(record) = self.read(&mut reader)? else {
                break;
            };
            if record.index != next && read.is_empty() {
                return Err(self.out_of_order(record.index));
            }
            if record.index != next {
                // To be met again, with all before it dealt with.
                return self.take(read, None);
            }
            next = record.index.next();
            bytes += record.payload.len();
            read.push(record);
        }
        self.take(read, Some(reader))
    }

    /// What was read becomes ready, once it is durable.
    fn take(&mut self, read: Vec<Record>, reader: Option<LogReader>) -> Result<()> {
        if let (Some(newest), Some(last)) = (&mut self.newest, read.last()) {
            // Files before the newest are durable: it wasn't begun before.
            if last.lsn >= newest.durable && last.lsn >= newest.meta.first_lsn {
                let path = names::log_path(&self.setup.dir, newest.meta.number);
                let synced = newest.file.sync_data();
                synced.map_err(|e| Error::io("sync", &path, e))?;
                newest.durable = Lsn(last.lsn.0.saturating_add(1));
            }
        }
        if let Some(last) = read.last() {
            self.next = last.index.next();
        }
        self.ready.extend(read);
        self.reader = reader;
        Ok(())
    }

    /// The next record; `None` if it isn't there, or not all of it.
    fn read(&self, reader: &mut LogReader) -> Result<Option<Record>> {
        match reader.next() {
            Err(Error::Damaged(damage)) => match (&self.newest, reader.front()) {
                (Some(newest), Some(at)) if at >= newest.judged => Ok(None),
                _ => Err(Error::Damaged(damage)),
            },
            other => other,
        }
    }

    fn out_of_order(&self, found: Index) -> Error {
        let asked = self.next;
        if found > asked {
            let first = found;
            return Error::Purged { asked, first };
        }
        let why = format!("record {found} has been written anew, though it was shown");
        Error::LogOrder { why }
    }

    /// Whether a file after the newest one known has anything in it.
    fn has_newer_file(&self) -> Result<bool> {
        let known = self.newest.as_ref().map(|newest| newest.meta.number);
        let listed = self.setup.vfs.list(&self.setup.dir);
        let listed = listed.map_err(|e| Error::io("list", &self.setup.dir, e))?;
        for entry in listed {
            match names::parse(&entry.name) {
                Some((number, NameKind::Log))
                    if Some(number) > known && self.is_used(number)? =>
                {
                    return Ok(true);
                }
                _ => {}
            }
        }
        Ok(false)
    }

    /// Whether a record begins where a file's first one does.
    fn is_used(&self, number: LogNumber) -> Result<bool> {
        let path = names::log_path(&self.setup.dir, number);
        let file = match self.setup.vfs.open(&path, Access::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        let mut bytes = vec![0; UNIT + RECORD_HEADER_BYTES_MAX];
        let read = file.read_at(&mut bytes, 0);
        let read = read.map_err(|e| Error::io("read", &path, e))?;
        bytes.truncate(read);
        let Some((unit, record)) = bytes.split_at_checked(UNIT) else {
            return Ok(false);
        };
        let Ok(FileHeader { meta, .. }) = FileHeader::decode(HeaderKind::Log, unit) else {
            return Ok(false);
        };
        let lsn = Lsn(meta.first_lsn.0.saturating_add(UNIT_BYTES));
        let room = meta.capacity.saturating_sub(UNIT_BYTES);
        Ok(decode_header(meta.salt, lsn, record, room).is_some())
    }
}

/// The same setup once more.
fn again(setup: &LogSetup<'static>) -> LogSetup<'static> {
    LogSetup {
        dir: setup.dir.clone(),
        vfs: Arc::clone(&setup.vfs),
        clock: Arc::clone(&setup.clock),
        entropy: Arc::clone(&setup.entropy),
        store_id: setup.store_id,
        options: setup.options.clone(),
        registry: setup.registry.clone(),
        known: Vec::new(),
        needed_above: setup.needed_above,
        access: setup.access,
        damage: setup.damage,
        parallel: setup.parallel,
        progress: None,
    }
}

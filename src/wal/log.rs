//! The log itself: who may append, in which order, how durably; and what is told of it.
//!
//! Locks are taken in this order: `sync_turn`, `parity_turn`, `identifier_turn`, `prepare_turn`, `writer`, `view`.
//! No disk is waited for under `view`.

mod append;
mod maintain;
mod mend;
mod protect;
mod tail;

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

pub(crate) use self::mend::MendedLog;
pub use self::tail::LogTail;

use crate::error::{Error, Result};
use crate::types::{Index, LogFileMeta, LogNumber, Lsn, StoreId, Term};
use crate::vfs::Lock;

use super::format::UNIT_BYTES;
use super::identify::Job;
use super::mending::Mendings;
use super::options::{LogAccess, LogReport, LogSetup};
use super::protect::{ParityJob, Protector};
use super::reader::{LogReader, Wanted};
use super::recovery::{self, Hole};
use super::timeline::Timeline;
use super::writer::{Active, NewFile};

/// An ordered sequence of records on disk. See the [module](super).
///
/// Threads share it by reference (or in an `Arc`). Dropping it writes nothing: what was appended with
/// `Durability::Buffered` and never synced is then lost, as that level says.
pub struct Log {
    setup: LogSetup<'static>,
    store_id: StoreId,
    sync_turn: Mutex<()>,
    /// Held over each sync of a log file.
    syncing: Mutex<()>,
    identifier_turn: Mutex<VecDeque<Job>>,
    /// Held by the one who writes parity.
    parity_turn: Mutex<Protector>,
    /// Files that parity is to be written for.
    unprotected: Mutex<VecDeque<ParityJob>>,
    prepare_turn: Mutex<()>,
    writer: Mutex<Writer>,
    view: Mutex<View>,
    mendings: Arc<Mendings>,
    /// All before this position is durable.
    durable: AtomicU64,
    /// All before this position may be acknowledged as durable: its identifiers are too, if they must be.
    settled: AtomicU64,
    /// After the last record.
    end: AtomicU64,
    /// Bytes appended since it was opened.
    appended: AtomicU64,
    /// When identifiers began to wait, in microseconds, plus one; 0 if none do.
    due_since_us: AtomicU64,
    latch: OnceLock<Arc<str>>,
    _lock: Option<Box<dyn Lock>>,
}

/// What only the one who appends looks at.
#[derive(Debug)]
struct Writer {
    active: Option<Active>,
    next: Option<NewFile>,
    next_number: LogNumber,
    next_lsn: Lsn,
    /// Identifiers of files that are no longer appended to.
    finished: Vec<Job>,
    /// Files from before this log was opened, whose identifiers are to be written anew.
    unidentified: Vec<(LogFileMeta, Lsn)>,
    skip: Option<Index>,
    closed: bool,
}

/// What readers look at.
#[derive(Debug)]
struct View {
    /// Oldest first; the last may be the one that is appended to.
    files: Vec<ViewFile>,
    /// Files that don't belong to the log, to be removed with the next purge.
    void: Vec<PathBuf>,
    timeline: Timeline,
    holes: Arc<[Hole]>,
}

/// One file of the log.
#[derive(Clone, Debug)]
struct ViewFile {
    meta: LogFileMeta,
    /// Where the log ends in it; for the one that is appended to, of what the system has.
    end: Lsn,
    /// The last index at its end.
    top: Index,
}

impl ViewFile {
    /// Bytes of log in it.
    fn bytes(&self) -> u64 {
        let begin = self.meta.first_lsn.0 + UNIT_BYTES;
        self.end.0.saturating_sub(begin)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.setup.dir)
            .field("store_id", &self.store_id)
            .field("end", &self.end_lsn())
            .field("durable", &self.durable_lsn())
            .field("poisoned", &self.latch.get())
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log in a folder, or begins one. Nothing is written before the first append, so it
    /// works with a full disk.
    ///
    /// Takes time and memory proportional to the log that is there (about 1 GB/s; the identifiers of
    /// one file at a time).
    ///
    /// # Errors
    /// `Damaged`, with every damaged place, if records above `needed_above` are touched and
    /// `DamagePolicy::Refuse` is set; `ForeignFile`, `NewerFormat`, `Locked`, `NotAStore` (no such
    /// folder, read-only), `InvalidOption`; whatever the disk answers.
    pub fn open(setup: LogSetup<'_>) -> Result<(Self, LogReport)> {
        setup.options.validate()?;
        let mut lock = None;
        if setup.access == LogAccess::ReadWrite {
            let created = setup.vfs.create_dir_all(&setup.dir);
            created.map_err(|e| Error::io("create", &setup.dir, e))?;
            if setup.registry.is_none() {
                lock = Some(take_lock(&setup)?);
            }
        }
        let found = recovery::recover(&setup)?;
        let store_id = match found.store_id {
            StoreId(0) => StoreId(setup.entropy.next_u128().max(1)),
            store_id => store_id,
        };
        let unidentified = found.files.iter().filter(|file| !file.identified);
        let writer = Writer {
            active: None,
            next: None,
            next_number: found.next_number,
            next_lsn: found.next_lsn,
            finished: Vec::new(),
            unidentified: unidentified
                .map(|file| (file.meta.clone(), file.end))
                .collect(),
            skip: None,
            closed: false,
        };
        let end = found.files.last().map_or(0, |file| file.end.0);
        let mendings = Arc::new(Mendings::default());
        for file in &found.files {
            mendings.note(file.meta.number, &file.healed);
        }
        let files = found.files.into_iter().map(|file| ViewFile {
            meta: file.meta,
            end: file.end,
            top: file.top,
        });
        let view = View {
            files: files.collect(),
            void: found.void,
            timeline: found.timeline,
            holes: found.holes.into(),
        };
        let log = Self {
            setup: own(setup),
            store_id,
            sync_turn: Mutex::new(()),
            syncing: Mutex::new(()),
            identifier_turn: Mutex::new(VecDeque::new()),
            parity_turn: Mutex::default(),
            unprotected: Mutex::default(),
            prepare_turn: Mutex::new(()),
            writer: Mutex::new(writer),
            view: Mutex::new(view),
            mendings,
            durable: AtomicU64::new(end),
            settled: AtomicU64::new(end),
            end: AtomicU64::new(end),
            appended: AtomicU64::new(0),
            due_since_us: AtomicU64::new(0),
            latch: OnceLock::new(),
            _lock: lock,
        };
        Ok((log, found.report))
    }

    /// The store that the log belongs to.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// The lowest index from which on the log is without gaps; one above [`Log::last_index`] if it holds
    /// nothing.
    #[must_use]
    pub fn first_index(&self) -> Index {
        let view = self.view.lock();
        match view.timeline.begun() {
            true => view.timeline.first(),
            false => Index(1),
        }
    }

    /// The index of the last record that counts; 0 if there never was one.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.view.lock().timeline.last()
    }

    /// The term of the last record; 0 if there is none.
    #[must_use]
    pub fn last_term(&self) -> Term {
        self.view.lock().timeline.last_term()
    }

    /// The latest time of any record; 0 if there is none.
    #[must_use]
    pub fn last_time_us(&self) -> u64 {
        self.view.lock().timeline.last_time_us()
    }

    /// The position after the last record.
    #[must_use]
    pub fn end_lsn(&self) -> Lsn {
        Lsn(self.end.load(Ordering::Acquire))
    }

    /// Bytes appended since it was opened, with what was filled up. (Positions tell less: from file to file
    /// they pass over what stayed free.)
    #[must_use]
    pub fn appended_bytes(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// All before this position is durable.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.settled.load(Ordering::Acquire))
    }

    /// Bytes of log that are kept, headers and unused room not counted.
    #[must_use]
    pub fn bytes_retained(&self) -> u64 {
        let view = self.view.lock();
        view.files.iter().map(ViewFile::bytes).sum()
    }

    /// How many files the log has.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.view.lock().files.len() as u64
    }

    /// Why the log takes no more writes, if a write or sync has failed.
    #[must_use]
    pub fn poisoned(&self) -> Option<Arc<str>> {
        self.latch.get().cloned()
    }

    /// Reads the records that count, from `index` on, up to what was appended before this call. 0 stands
    /// for the first there is; an index above the last one gives an empty reader.
    ///
    /// Costs a binary search and at most about 64 KiB of log read in vain.
    ///
    /// # Errors
    /// `Purged` if the log begins after `index` (unless damage is tolerated: then it reads from what
    /// there is). A failed write of what was only buffered so far latches the log.
    pub fn read_from(&self, index: Index) -> Result<LogReader> {
        self.write_out_for_readers()?;
        let view = self.view.lock();
        LogReader::new(
            &self.setup,
            wanted(index, None),
            &view.timeline,
            view.files.iter().map(|file| (file.meta.clone(), file.end)),
            self.known_damage(&view),
        )
    }

    /// What readers are told of damage, and whom they tell.
    fn known_damage(&self, view: &View) -> (Arc<[Hole]>, Arc<Mendings>) {
        (Arc::clone(&view.holes), Arc::clone(&self.mendings))
    }

    /// As [`Log::read_from`], but only what is durable (see [`Log::durable_lsn`]), and without ever waiting
    /// for those who append and sync. `at` is where an earlier reader of this log stood when it had read
    /// all before `index` ([`LogReader::position`]): then nothing is read in vain.
    ///
    /// # Errors
    /// `Purged`, as [`Log::read_from`].
    pub fn read_durable_from(&self, index: Index, at: Option<Lsn>) -> Result<LogReader> {
        // What is durable was written before: the view knows of it.
        let durable = self.durable_lsn();
        let view = self.view.lock();
        let files = view.files.iter();
        LogReader::new(
            &self.setup,
            wanted(index, at),
            &view.timeline,
            files.map(|file| (file.meta.clone(), file.end.min(durable))),
            self.known_damage(&view),
        )
    }

    /// A reader from `index` on that goes on behind the log's end, in its newest file; and that file, with
    /// the log's end in it.
    fn read_on_from(&self, index: Index) -> Result<(LogReader, Option<(LogFileMeta, Lsn)>)> {
        let view = self.view.lock();
        let newest = view.files.last();
        let newest = newest.map(|file| (file.meta.clone(), file.end));
        let end = newest.as_ref().map(|(_, end)| *end);
        let wanted = Wanted {
            index,
            at: end.filter(|_| index > view.timeline.last()),
            following: end.or(Some(Lsn(0))),
        };
        let older = view.files.iter().rev().skip(1).rev();
        let older = older.map(|file| (file.meta.clone(), file.end));
        let files = older.chain(newest.iter().map(|(meta, _)| {
            let capacity = Lsn(meta.first_lsn.0.saturating_add(meta.capacity));
            (meta.clone(), capacity)
        }));
        let damage = self.known_damage(&view);
        let reader = LogReader::new(&self.setup, wanted, &view.timeline, files, damage)?;
        Ok((reader, newest))
    }

    /// Bytes of log above a record, to about 64 KiB; counted as [`Log::bytes_retained`] does.
    #[must_use]
    pub fn bytes_above(&self, index: Index) -> u64 {
        let view = self.view.lock();
        if index >= view.timeline.last() {
            return 0;
        }
        let start = view.timeline.start_for(index.next()).unwrap_or_default();
        let files = view.files.iter();
        files
            .map(|file| file.bytes().min(file.end.0.saturating_sub(start.0)))
            .sum()
    }

    /// An index with about so many bytes of log, or more, from it through record `through`; the log's first one
    /// if there are fewer. (Bytes that stayed free between two files count.)
    #[must_use]
    pub fn index_before(&self, through: Index, bytes: u64) -> Index {
        let view = self.view.lock();
        let timeline = &view.timeline;
        let first = if timeline.begun() {
            timeline.first()
        } else {
            Index(1)
        };
        let place = timeline.start_for(through.next());
        let before = place.and_then(|lsn| lsn.0.checked_sub(bytes));
        let index = before.and_then(|before| timeline.index_at(Lsn(before)));
        index.unwrap_or(first).max(first)
    }

    /// The lowest index to purge before so that at most so many bytes of log are left, counted as
    /// [`Log::bytes_retained`] does; 0 if there are no more than that. O(files).
    #[must_use]
    pub fn index_within(&self, bytes: u64) -> Index {
        let durable = Lsn(self.durable.load(Ordering::Acquire));
        let view = self.view.lock();
        let mut left = bytes;
        for file in view.files.iter().rev() {
            match left.checked_sub(file.bytes()) {
                Some(rest) => left = rest,
                None => {
                    let top = view.timeline.top_before(file.end, file.top, durable);
                    return top.next();
                }
            }
        }
        Index(0)
    }

    /// Fails if a write or sync has failed before.
    fn check_latch(&self) -> Result<()> {
        match self.latch.get() {
            Some(cause) => Err(Error::Poisoned {
                cause: Arc::clone(cause),
            }),
            None => Ok(()),
        }
    }

    /// Latches, and says that the outcome is unknown.
    fn poison(&self, error: &Error) -> Error {
        let cause = self.latch.get_or_init(|| error.to_string().into());
        Error::OutcomeUnknown {
            cause: Arc::clone(cause),
        }
    }

    fn check_writable(&self, writer: &Writer) -> Result<()> {
        if self.setup.access == LogAccess::ReadOnly {
            return Err(Error::ReadOnly);
        }
        if writer.closed {
            return Err(Error::Closed);
        }
        self.check_latch()
    }
}

fn wanted(index: Index, at: Option<Lsn>) -> Wanted {
    let following = None;
    Wanted {
        index,
        at,
        following,
    }
}

/// The setup without what is only of use while opening.
fn own(setup: LogSetup<'_>) -> LogSetup<'static> {
    LogSetup {
        dir: setup.dir,
        vfs: setup.vfs,
        clock: setup.clock,
        entropy: setup.entropy,
        store_id: setup.store_id,
        options: setup.options,
        registry: setup.registry,
        known: Vec::new(),
        needed_above: setup.needed_above,
        access: setup.access,
        damage: setup.damage,
        parallel: setup.parallel,
        progress: None,
    }
}

/// Takes the folder's lock, for a log that stands alone.
fn take_lock(setup: &LogSetup<'_>) -> Result<Box<dyn Lock>> {
    let path = setup.dir.join("LOCK");
    setup.vfs.lock(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => Error::Locked {
            path: setup.dir.clone(),
        },
        _ => Error::io("lock", &path, e),
    })
}

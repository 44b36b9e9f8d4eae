//! What a log is opened with, and what opening it found.

use std::fmt::{self, Debug};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::environment::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::error::{Damage, Error, Result};
use crate::types::{Index, LogFileMeta, LogNumber, Parity, StoreId};
use crate::vfs::{DiskVfs, Vfs};

use super::format::{UNIT_BYTES, round_up};

/// Smallest capacity of a log file, in bytes.
pub const FILE_BYTES_MIN: u64 = 16 << 10;
/// Largest capacity of a log file that can be chosen, in bytes.
pub const FILE_BYTES_MAX: u64 = 2 << 30;
/// Largest group of records that one append takes, in bytes.
pub const GROUP_BYTES_MAX: u64 = 2 << 30;

/// How a log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Capacity of a log file, in bytes: 16 KiB to 2 GiB, rounded up to whole units of 4 KiB. Files are
    /// preallocated at that size. A group of records that doesn't fit gets a file of its own size.
    pub file_bytes: u64,
    /// How long after its record's sync an identifier may be written, at most 60 s. 0: before the sync is
    /// acknowledged, which costs about one more sync for each.
    pub identifier_delay: Duration,
    /// How many bytes of records may wait in memory before they are handed to the operating system:
    /// 0 to 1 GiB.
    pub buffer_bytes: usize,
    /// How much parity is kept of log files, in a file beside each: 7 % more bytes, or 13 %.
    pub parity: Parity,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            identifier_delay: Duration::from_millis(10),
            buffer_bytes: 1 << 20,
            parity: Parity::Standard,
        }
    }
}

impl LogOptions {
    /// Checks every limit.
    ///
    /// # Errors
    /// `InvalidOption`, which names the option and its range.
    pub fn validate(&self) -> Result<()> {
        if !(FILE_BYTES_MIN..=FILE_BYTES_MAX).contains(&self.file_bytes) {
            return Err(Error::InvalidOption {
                name: "file_bytes",
                why: format!(
                    "{} is not within {FILE_BYTES_MIN} to {FILE_BYTES_MAX}",
                    self.file_bytes
                ),
            });
        }
        if self.identifier_delay > Duration::from_secs(60) {
            return Err(Error::InvalidOption {
                name: "identifier_delay",
                why: format!("{:?} is over 60 s", self.identifier_delay),
            });
        }
        if self.buffer_bytes > 1 << 30 {
            return Err(Error::InvalidOption {
                name: "buffer_bytes",
                why: format!("{} is not within 0 to 1 GiB", self.buffer_bytes),
            });
        }
        Ok(())
    }

    /// The capacity of a file that holds a group of so many bytes: the usual one, or one of its own
    /// (header, group, and a unit for the `End` record).
    pub(super) fn capacity_for(&self, group_bytes: u64) -> u64 {
        let own = round_up(group_bytes).saturating_add(2 * UNIT_BYTES);
        round_up(self.file_bytes).max(own)
    }
}

/// Who is told which log files make the log: the manifest of a store.
pub trait LogRegistry: Send + Sync + Debug {
    /// A file is ready and its name durable; records go into it only after this has returned `Ok`.
    ///
    /// # Errors
    /// Whatever keeps it from being noted durably; then the file isn't used.
    fn prepared(&self, meta: &LogFileMeta) -> Result<()>;

    /// These files are about to be removed, and are no longer part of the log once this has returned. Some
    /// may never have been noted, or have been removed from the notes before.
    ///
    /// # Errors
    /// Whatever keeps it from being noted durably; then nothing is removed.
    fn removed(&self, numbers: &[LogNumber]) -> Result<()>;
}

/// How the folder is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogAccess {
    /// To read and to append. The one writer; see [`LogSetup::registry`] for who holds the lock.
    #[default]
    ReadWrite,
    /// To read what is there, perhaps beside a live writer. Changes nothing.
    ReadOnly,
}

/// What to do about damage to records that are needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DamagePolicy {
    /// Refuse to open, with all of it in the error.
    #[default]
    Refuse,
    /// Open with what is readable; all of it is in the report. For salvage.
    Tolerate,
}

/// All that a log is opened with.
pub struct LogSetup<'a> {
    /// The folder.
    pub dir: PathBuf,
    /// The disk.
    pub vfs: Arc<dyn Vfs>,
    /// Time, for the identifiers' delay.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for ids and salts.
    pub entropy: Arc<dyn Entropy>,
    /// The store that the files must belong to; `StoreId(0)`: the one that the first file names, or
    /// a new one.
    pub store_id: StoreId,
    /// How the log is kept.
    pub options: LogOptions,
    /// Who is told which files make the log. Without one the log stands alone: when opened to write it
    /// takes the folder's `LOCK` itself, and it can't tell oldest files that went missing from purged
    /// ones.
    pub registry: Option<Arc<dyn LogRegistry>>,
    /// The files that the registry knows. If there are any, each must be there.
    pub known: Vec<LogFileMeta>,
    /// Only records above this index are needed; damage to others is reported, never refused.
    pub needed_above: Index,
    /// To read and to append, or only to read.
    pub access: LogAccess,
    /// What to do about damage.
    pub damage: DamagePolicy,
    /// Whether opening may read files in a second thread. What it does is the same; the order in which
    /// the disk is asked isn't.
    pub parallel: bool,
    /// Called now and then with the bytes read so far and in all.
    pub progress: Option<&'a (dyn Fn(u64, u64) + Sync)>,
}

impl LogSetup<'_> {
    /// A log that stands alone in a folder of the operating system's disk, with default options.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            vfs: Arc::new(DiskVfs),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy::default()),
            store_id: StoreId(0),
            options: LogOptions::default(),
            registry: None,
            known: Vec::new(),
            needed_above: Index(0),
            access: LogAccess::ReadWrite,
            damage: DamagePolicy::Refuse,
            parallel: true,
            progress: None,
        }
    }
}

impl Debug for LogSetup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSetup")
            .field("dir", &self.dir)
            .field("store_id", &self.store_id)
            .field("options", &self.options)
            .field("known", &self.known.len())
            .field("needed_above", &self.needed_above)
            .field("access", &self.access)
            .field("damage", &self.damage)
            .finish_non_exhaustive()
    }
}

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    /// Whole records found, superseded ones included.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of an unfinished write at the end, discarded: nothing in them was acknowledged as durable.
    pub torn_bytes: u64,
    /// Files that make the log.
    pub files: u64,
    /// Blocks of 4 KiB that weren't as they were written, and that parity put together again. (A store writes their files
    /// anew; a log that stands alone goes on with what parity makes of them.)
    pub healed_blocks: u64,
    /// All damage, needed or not, healed or not.
    pub damage: Vec<Damage>,
    /// The part of it that touches records that are needed: `DamagePolicy::Refuse` would have refused.
    pub needed: Vec<Damage>,
    /// Whether the log was closed.
    pub ended_cleanly: bool,
    /// How long it took.
    pub elapsed: Duration,
}

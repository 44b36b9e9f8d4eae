//! Validated configuration of a store.

mod keyspace;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::environment::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::error::{Error, Result};
use crate::operator::{MergeOperator, MergeOperators};
use crate::types::{Durability, Parity};
use crate::vfs::{DiskVfs, Vfs};

pub use self::keyspace::KeyspaceOptions;

/// Who drives flush, compaction and the log's upkeep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Background {
    /// Threads of the store's own.
    #[default]
    Threads,
    /// Nobody but the caller's `step` calls, and writers that find no room: for simulations, where
    /// the whole store runs in one thread in an order that a seed decides.
    Manual,
}

/// How far a long open has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of log read so far.
    pub bytes_done: u64,
    /// Bytes of log to read.
    pub bytes_total: u64,
}

/// Told how far a long open has come.
pub type ProgressCallback = Arc<dyn Fn(Progress) + Send + Sync>;

/// When a store backs itself up, and where to. A backup is due once either limit is reached and there is
/// something new; what it meets shows in [`Statistics`](crate::Statistics) and stops no writer.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let (path, repository) = (folder.path().join("store"), folder.path().join("backups"));
/// use std::time::Duration;
/// use kintsu::{BackupPolicy, Options};
/// let policy = BackupPolicy::new(repository)
///     .every(Duration::from_secs(3600))
///     .every_log_bytes(1 << 30)
///     .keep(24);
/// let db = Options::new(path).backup_policy(policy).open()?;
/// # Ok::<(), kintsu::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupPolicy {
    /// The repository.
    pub repository: PathBuf,
    /// A backup for so many bytes of log, counted from the open on; 0: never for that.
    pub every_log_bytes: u64,
    /// A backup for so much time, by the wall clock; `None`: never for that.
    pub every: Option<Duration>,
    /// Backups that are kept. At least 1.
    pub keep: usize,
}

impl BackupPolicy {
    /// An hour's backups for a day, into the repository `path`.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            repository: path.as_ref().to_owned(),
            every_log_bytes: 0,
            every: Some(Duration::from_secs(3600)),
            keep: 24,
        }
    }

    /// A backup for so many bytes of log; 0: never for that. Default: 0.
    #[must_use]
    pub fn every_log_bytes(mut self, bytes: u64) -> Self {
        self.every_log_bytes = bytes;
        self
    }

    /// A backup for so much time; `None`: never for that. Default: an hour.
    #[must_use]
    pub fn every(mut self, every: impl Into<Option<Duration>>) -> Self {
        self.every = every.into();
        self
    }

    /// How many backups are kept; older ones are pruned after each new one. Default: 24.
    #[must_use]
    pub fn keep(mut self, keep: usize) -> Self {
        self.keep = keep;
        self
    }
}

/// How a store is opened. Every limit is explicit; [`Options::validate`] holds the ranges.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path();
/// let db = kintsu::Options::new(path).write_buffer_bytes(16 << 20).open()?;
/// # Ok::<(), kintsu::Error>(())
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) path: PathBuf,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) background: Background,
    pub(crate) create_if_missing: bool,
    pub(crate) read_only: bool,
    pub(crate) allow_unsafe_file_system: bool,
    pub(crate) durability: Durability,
    pub(crate) write_buffer_bytes: usize,
    pub(crate) log_file_bytes: u64,
    pub(crate) log_bytes_before_flush: u64,
    pub(crate) log_buffer_bytes: usize,
    pub(crate) log_retained_bytes_max: u64,
    pub(crate) log_retained_bytes_min: u64,
    pub(crate) conflict_window_bytes: usize,
    pub(crate) identifier_delay: Duration,
    pub(crate) block_bytes: usize,
    pub(crate) block_cache_bytes: u64,
    pub(crate) pin_index_and_filter: bool,
    pub(crate) map_segments: bool,
    pub(crate) filter_bits_per_key: u32,
    pub(crate) parity: Parity,
    pub(crate) disk_slow_after: Duration,
    pub(crate) scrub_every: Option<Duration>,
    pub(crate) scrub_bytes_per_second: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) level_base_bytes: u64,
    pub(crate) level0_segments_compact: usize,
    pub(crate) level0_segments_stop: usize,
    pub(crate) compaction_bytes_per_second: u64,
    pub(crate) compaction_threads: usize,
    pub(crate) default_keyspace: KeyspaceOptions,
    pub(crate) merge_operators: MergeOperators,
    pub(crate) archive: Option<PathBuf>,
    pub(crate) backup_policy: Option<BackupPolicy>,
    pub(crate) progress: Option<ProgressCallback>,
    pub(crate) tolerate_damage: bool,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("path", &self.path)
            .field("background", &self.background)
            .field("read_only", &self.read_only)
            .field("durability", &self.durability)
            .field("write_buffer_bytes", &self.write_buffer_bytes)
            .field("log_file_bytes", &self.log_file_bytes)
            .field("block_cache_bytes", &self.block_cache_bytes)
            .finish_non_exhaustive()
    }
}

/// One setter an option: `name: type` with its doc.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        impl Options {
            $($(#[$doc])* #[must_use] pub fn $name(mut self, $name: $type) -> Self {
                self.$name = $name;
                self
            })*
        }
    };
}

setters! {
    /// Whether an empty or missing folder becomes a new store. Default: true.
    create_if_missing: bool;
    /// Opens without writing a byte and without the lock, beside a live writer if there is one. Shows
    /// what was in the files when it was opened. Default: false.
    read_only: bool;
    /// Opens on a file system that can't keep the promises (a network share, say). Default: false.
    allow_unsafe_file_system: bool;
    /// What an acknowledged write survives unless the write says otherwise. Default:
    /// [`Durability::Disk`].
    durability: Durability;
    /// Memory for writes not yet flushed; up to three times this while flushing. 64 KiB to 4 GiB,
    /// default 64 MiB.
    write_buffer_bytes: usize;
    /// Length of a log file. 64 KiB to 2 GiB, default 64 MiB.
    log_file_bytes: u64;
    /// Log written since the last flush began that starts another one even if the write buffer isn't
    /// full; bounds the time that an open takes. 64 KiB to 1 TiB, default 256 MiB.
    log_bytes_before_flush: u64;
    /// Memory for [`Durability::Buffered`] writes before they go to the operating system. 0 to 64 MiB,
    /// default 256 KiB.
    log_buffer_bytes: usize;
    /// The most log that subscriptions can hold back from being purged, in bytes: once a flush finds more,
    /// it purges what segments hold, and a subscriber that is too slow meets [`Error::Purged`]. All of the log is
    /// read when the store is opened. Up to 1 PiB, default 1 GiB.
    log_retained_bytes_max: u64;
    /// How much log is kept for subscribers that may come, in bytes, though nobody needs it now: as many of the
    /// newest files as fit. At most `log_retained_bytes_max`, default 0.
    log_retained_bytes_min: u64;
    /// How much may be written while a transaction is open before it is too old to commit, in bytes of payload and
    /// 64 more for each record. The keys of so much stand in memory, in the manifest, and in each snapshot and
    /// backup. Everybody who writes to a store is to have the same. Up to 64 MiB, default 1 MiB.
    conflict_window_bytes: usize;
    /// How long after its sync a record's identifier may become durable; 0 = before the
    /// acknowledgement. At most 10 s, default 10 ms.
    identifier_delay: Duration;
    /// Entries a segment block holds, in bytes. 256 to 1 MiB, default 4 KiB.
    block_bytes: usize;
    /// Memory for verified blocks. Default 64 MiB.
    block_cache_bytes: u64;
    /// Whether each segment keeps its block index and its filter in memory from the open on, beside the
    /// block cache: some 2 bytes a key, and none of it is ever read twice. If not, they are read and
    /// verified when they are needed and live in the block cache under its limit, and an open reads less;
    /// damage in them then shows at the first read that needs them. An index or filter of more than a
    /// sixteenth of the cache is not kept: leave room. Default: true.
    pin_index_and_filter: bool;
    /// Whether segments are read through a mapping of them into memory: a block that isn't in the block
    /// cache but in the system's page cache then costs no system call. It is copied and verified as ever.
    ///
    /// **The hazard:** what would be an error of a read, a bad sector or a file that someone cut short,
    /// ends the process with `SIGBUS` instead; so does a network file system that went away. No damage can
    /// then be named or mended. Leave it off where a disk may fail. Default: false.
    map_segments: bool;
    /// Bits of Bloom filter for each key in a segment; 0 = no filter. At most 64, default 10.
    filter_bits_per_key: u32;
    /// How much parity segments and log files are written with, so that blocks of them that were lost can be put
    /// together again. Each file keeps what it has until it is written anew. Default: [`Parity::Standard`].
    parity: Parity;
    /// What the scrubber reads in a second, in bytes, and a fourth of it while others read from the disk; 0: as much
    /// as it can. At least 64 KiB, default 16 MiB.
    scrub_bytes_per_second: u64;
    /// Where compaction cuts segments. 4 KiB to 16 GiB, default 64 MiB. Every segment is kept open: a store
    /// takes one file handle for each `segment_bytes` that it holds, at least one for each keyspace that has
    /// been flushed, and some for the log. The usual limit of a process, 1,024, ends at 60 GiB by default:
    /// raise it (`ulimit -n`), or choose larger segments.
    segment_bytes: u64;
    /// Bytes in the first level below level 0 before there is another one above it; each level has ten
    /// times as much as the one above.
    /// 4 KiB to 1 TiB, default 256 MiB.
    level_base_bytes: u64;
    /// Segments in level 0 that start a compaction. 2 to 64, default 4.
    level0_segments_compact: usize;
    /// What compaction may write in a second, in bytes; 0: as much as it can. Default 0.
    compaction_bytes_per_second: u64;
    /// Threads that compact. 1 to 64, default 1.
    compaction_threads: usize;
    /// Segments in level 0 beyond which writers are slowed to a crawl; they get slower from twice
    /// `level0_segments_compact` on. Above `level0_segments_compact`, at most
    /// 1,024, default 24.
    level0_segments_stop: usize;
}

impl Options {
    /// The defaults, for a store in the folder `path`.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            vfs: Arc::new(DiskVfs),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy::default()),
            background: Background::Threads,
            create_if_missing: true,
            read_only: false,
            allow_unsafe_file_system: false,
            durability: Durability::Disk,
            write_buffer_bytes: 64 << 20,
            log_file_bytes: 64 << 20,
            log_bytes_before_flush: 256 << 20,
            log_buffer_bytes: 256 << 10,
            log_retained_bytes_max: 1 << 30,
            log_retained_bytes_min: 0,
            conflict_window_bytes: 1 << 20,
            identifier_delay: Duration::from_millis(10),
            block_bytes: 4 << 10,
            block_cache_bytes: 64 << 20,
            pin_index_and_filter: true,
            map_segments: false,
            filter_bits_per_key: 10,
            parity: Parity::Standard,
            disk_slow_after: Duration::from_secs(1),
            scrub_every: Some(Duration::from_secs(7 * 24 * 3600)),
            scrub_bytes_per_second: 16 << 20,
            segment_bytes: 64 << 20,
            level_base_bytes: 256 << 20,
            level0_segments_compact: 4,
            level0_segments_stop: 24,
            compaction_bytes_per_second: 0,
            compaction_threads: 1,
            default_keyspace: KeyspaceOptions::default(),
            merge_operators: MergeOperators::default(),
            archive: None,
            backup_policy: None,
            progress: None,
            tolerate_damage: false,
        }
    }

    /// Called from time to time during a long open.
    #[must_use]
    pub fn progress(mut self, callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(callback));
        self
    }

    /// What options the default keyspace has if this open creates the store.
    #[must_use]
    pub fn default_keyspace(mut self, options: KeyspaceOptions) -> Self {
        self.default_keyspace = options;
        self
    }

    /// Says what a name of a merge operator stands for. [`Counter`](crate::Counter) and
    /// [`Append`](crate::Append) are known in every store.
    #[must_use]
    pub fn merge_operator(mut self, name: &str, operator: impl MergeOperator) -> Self {
        self.merge_operators.register(name, Arc::new(operator));
        self
    }

    /// Archives the log in a backup repository, so that a restore can reach any record and any time after a
    /// backup. Log files, and the segments of bulk loads, are kept until their records are archived, up to
    /// `log_retained_bytes_max` bytes of log; beyond that the archive has a gap until the next backup. Default: no archive.
    #[must_use]
    pub fn archive_to(mut self, repository: impl AsRef<Path>) -> Self {
        self.archive = Some(repository.as_ref().to_owned());
        self
    }

    /// From when on a read, write or sync means that the disk is held up, besides a second for each 16 MiB that it
    /// moves: it then shows as slow in [`Db::health`](crate::Db::health). Default: 1 s. At least 20 ms:
    /// reads and writes are timed by a clock that goes by ticks.
    #[must_use]
    pub fn disk_slow_after(mut self, after: Duration) -> Self {
        self.disk_slow_after = after;
        self
    }

    /// How often every byte of the store is read to find damage that nobody has met yet, by the wall clock; `None`:
    /// never. Default: every seven days.
    #[must_use]
    pub fn scrub_every(mut self, every: impl Into<Option<Duration>>) -> Self {
        self.scrub_every = every.into();
        self
    }

    /// Makes backups now and then. Default: only when [`Db::backup_to`](crate::Db::backup_to) is called.
    #[must_use]
    pub fn backup_policy(mut self, policy: BackupPolicy) -> Self {
        self.backup_policy = Some(policy);
        self
    }

    /// These options for a store under construction in another folder, which backs nothing up.
    pub(crate) fn rebased(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.path);
        (self.archive, self.backup_policy) = (None, None);
        (self.read_only, self.create_if_missing) = (false, false);
        self.tolerate_damage = false;
        self
    }

    /// Another file system than the machine's.
    #[must_use]
    pub fn vfs(mut self, vfs: Arc<dyn Vfs>) -> Self {
        self.vfs = vfs;
        self
    }

    /// Another clock than the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another source of randomness than the machine's.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Who drives the background jobs. Default: [`Background::Threads`].
    #[must_use]
    pub fn background(mut self, background: Background) -> Self {
        self.background = background;
        self
    }

    /// Checks every option against its range.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] names the first that is out of range.
    pub fn validate(&self) -> Result<()> {
        range(
            "write_buffer_bytes",
            self.write_buffer_bytes as u64,
            64 << 10,
            4 << 30,
        )?;
        range("log_file_bytes", self.log_file_bytes, 64 << 10, 2 << 30)?;
        range(
            "log_bytes_before_flush",
            self.log_bytes_before_flush,
            64 << 10,
            1 << 40,
        )?;
        range(
            "log_buffer_bytes",
            self.log_buffer_bytes as u64,
            0,
            64 << 20,
        )?;
        let (retained_min, retained_max) =
            (self.log_retained_bytes_min, self.log_retained_bytes_max);
        range("log_retained_bytes_max", retained_max, 0, 1 << 50)?;
        range("log_retained_bytes_min", retained_min, 0, retained_max)?;
        let slow_ms = u64::try_from(self.disk_slow_after.as_millis()).unwrap_or(u64::MAX);
        range("disk_slow_after (ms)", slow_ms, 20, 3_600_000)?;
        if let Some(every) = self.scrub_every {
            range("scrub_every (s)", every.as_secs(), 1, u64::MAX)?;
        }
        match self.scrub_bytes_per_second {
            0 => {}
            rate => range("scrub_bytes_per_second", rate, 64 << 10, u64::MAX)?,
        }
        let window = self.conflict_window_bytes as u64;
        range("conflict_window_bytes", window, 0, 64 << 20)?;
        let delay_us = u64::try_from(self.identifier_delay.as_micros()).unwrap_or(u64::MAX);
        range("identifier_delay (µs)", delay_us, 0, 10_000_000)?;
        range("block_bytes", self.block_bytes as u64, 256, 1 << 20)?;
        range(
            "filter_bits_per_key",
            u64::from(self.filter_bits_per_key),
            0,
            64,
        )?;
        range("segment_bytes", self.segment_bytes, 4 << 10, 16 << 30)?;
        range("level_base_bytes", self.level_base_bytes, 4 << 10, 1 << 40)?;
        range("compaction_threads", self.compaction_threads as u64, 1, 64)?;
        if self.default_keyspace.time_to_live.is_some() {
            let why = "only a keyspace of its own can have a time to live".to_owned();
            return Err(Error::InvalidOption {
                name: "default_keyspace",
                why,
            });
        }
        self.default_keyspace.validate(&self.path)?;
        if let Some(policy) = &self.backup_policy {
            range("backup_policy (keep)", policy.keep as u64, 1, u64::MAX)?;
        }
        let compact = self.level0_segments_compact as u64;
        range("level0_segments_compact", compact, 2, 64)?;
        range(
            "level0_segments_stop",
            self.level0_segments_stop as u64,
            compact + 1,
            1024,
        )
    }
}

fn range(name: &'static str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::InvalidOption {
        name,
        why: format!("{value} is not within {least} to {most}"),
    })
}

//! Validated configuration of a store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::environment::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::error::{Error, Result};
use crate::operator::{MergeOperator, MergeOperators};
use crate::types::{Codec, Compression, Durability};
use crate::vfs::{DiskVfs, Vfs};

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

/// How a keyspace treats what is put into it. Kept in the store from the keyspace's creation on.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let db = kintsu::Db::open(folder.path())?;
/// use kintsu::{Counter, KeyspaceOptions};
/// let options = KeyspaceOptions::default().merge_operator(Counter::NAME);
/// let hits = db.create_keyspace_with("hits", options)?;
/// hits.merge("/index.html", 1_i64.to_le_bytes())?;
/// hits.merge("/index.html", 1_i64.to_le_bytes())?;
/// assert_eq!(hits.get("/index.html")?.as_deref(), Some(&2_i64.to_le_bytes()[..]));
/// # Ok::<(), kintsu::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyspaceOptions {
    /// How long a value put by `put` lives; `None`: until it is deleted.
    pub time_to_live: Option<Duration>,
    /// Name of the operator that merges use.
    pub merge_operator: Option<String>,
    /// What packs the blocks of its segments.
    pub compression: Compression,
    /// Bits of Bloom filter for each key in its segments; `None`: as many as the store's options say.
    pub filter_bits_per_key: Option<u32>,
}

impl Default for KeyspaceOptions {
    fn default() -> Self {
        Self {
            time_to_live: None,
            merge_operator: None,
            compression: Compression::all(Codec::Lz4),
            filter_bits_per_key: None,
        }
    }
}

impl KeyspaceOptions {
    /// How long values live that are put without saying so. Default: until they are deleted.
    #[must_use]
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = Some(time_to_live);
        self
    }

    /// Which operator merges use, by the name under which it is registered. Default: none, and merges
    /// are refused.
    #[must_use]
    pub fn merge_operator(mut self, name: impl Into<String>) -> Self {
        self.merge_operator = Some(name.into());
        self
    }

    /// What packs the blocks of its segments, level by level. Segments that were written before keep
    /// theirs. Default: LZ4 in all levels.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = kintsu::Db::open(folder.path())?;
    /// use kintsu::{Codec, Compression, KeyspaceOptions};
    /// let options = KeyspaceOptions::default().compression(Compression::new(Codec::None, Codec::Lz4));
    /// let notes = db.create_keyspace_with("notes", options)?;
    /// assert_eq!(notes.options().compression.last, Codec::Lz4);
    /// # Ok::<(), kintsu::Error>(())
    /// ```
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How many bits of Bloom filter each key in its segments gets; 0 = no filter. At most 64. Default: as
    /// many as [`Options::filter_bits_per_key`] says whenever a segment is written.
    #[must_use]
    pub fn filter_bits_per_key(mut self, bits: u32) -> Self {
        self.filter_bits_per_key = Some(bits);
        self
    }

    /// Checks every option against its range, and that this build can serve it; `path` is the store's.
    pub(crate) fn validate(&self, path: &Path) -> Result<()> {
        if let Some(bits) = self.filter_bits_per_key {
            range("filter_bits_per_key", u64::from(bits), 0, 64)?;
        }
        self.check_features(path)
    }

    /// Checks that this build can serve it.
    pub(crate) fn check_features(&self, path: &Path) -> Result<()> {
        match self.compression.missing_feature() {
            Some(feature) => Err(Error::FeatureMissing {
                path: path.to_owned(),
                feature,
            }),
            None => Ok(()),
        }
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
    pub(crate) identifier_delay: Duration,
    pub(crate) block_bytes: usize,
    pub(crate) block_cache_bytes: u64,
    pub(crate) pin_index_and_filter: bool,
    pub(crate) filter_bits_per_key: u32,
    pub(crate) segment_bytes: u64,
    pub(crate) level_base_bytes: u64,
    pub(crate) level0_segments_compact: usize,
    pub(crate) level0_segments_stop: usize,
    pub(crate) compaction_bytes_per_second: u64,
    pub(crate) compaction_threads: usize,
    pub(crate) default_keyspace: KeyspaceOptions,
    pub(crate) merge_operators: MergeOperators,
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
    /// Bits of Bloom filter for each key in a segment; 0 = no filter. At most 64, default 10.
    filter_bits_per_key: u32;
    /// Where compaction cuts segments. 4 KiB to 16 GiB, default 64 MiB.
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
            identifier_delay: Duration::from_millis(10),
            block_bytes: 4 << 10,
            block_cache_bytes: 64 << 20,
            pin_index_and_filter: true,
            filter_bits_per_key: 10,
            segment_bytes: 64 << 20,
            level_base_bytes: 256 << 20,
            level0_segments_compact: 4,
            level0_segments_stop: 24,
            compaction_bytes_per_second: 0,
            compaction_threads: 1,
            default_keyspace: KeyspaceOptions::default(),
            merge_operators: MergeOperators::default(),
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

//! What a store is made of, in numbers.

use std::sync::{Arc, Weak};

use crate::engine::Engine;
use crate::engine::metrics::Activity;
use crate::engine::pins::PinKind;
use crate::engine::scrub::ScrubStatus;
use crate::error::Error;
use crate::types::{Index, Lsn, StoreId};
use crate::watch::DiskHealth;

/// Numbers of a whole store at one moment.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let db = kintsu::Db::open(folder.path())?;
/// db.put("key", "value")?;
/// let statistics = db.statistics();
/// assert_eq!(statistics.activity.records, 1);
/// assert_eq!(statistics.activity.syncs.count, 1);
/// assert_eq!(statistics.keyspaces[0].memtable_entries, 1);
/// # Ok::<(), kintsu::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// The store's random identity.
    pub store_id: StoreId,
    /// Index of the newest record that can be read.
    pub last_index: Index,
    /// Index through which segments hold everything; the log is replayed from here at an open.
    pub covered_index: Index,
    /// Where the log ends.
    pub log_end: Lsn,
    /// Through where the log is known to be on disk.
    pub log_durable: Lsn,
    /// Bytes of log retained.
    pub log_bytes: u64,
    /// Bytes of verified blocks in memory, and of indexes and filters that aren't pinned.
    pub block_cache_bytes: u64,
    /// Frozen memtables that wait for their flush.
    pub generations_waiting: usize,
    /// Views and iterators alive.
    pub views: usize,
    /// The lowest index that one of them holds; what it sees can't be compacted away.
    pub oldest_view: Option<Index>,
    /// The time of the record at that index, or of a later one that it sees by, in microseconds since 1970.
    pub oldest_view_time_us: Option<u64>,
    /// What it has done since it was opened.
    pub activity: Activity,
    /// What the run before, or the one that still goes on beside a read-only open, had done at its last flush
    /// or compaction.
    pub activity_before: Option<Activity>,
    /// Subscriptions of the change feed.
    pub subscribers: usize,
    /// The lowest record that somebody pins the log from; see `Options::log_retained_bytes_max`.
    pub log_pinned: Option<Index>,
    /// The lowest record that the log still has; one above `last_index` if it has none.
    pub log_first_index: Index,
    /// The first record whose changes transactions are still held against. One that began before the record ahead of
    /// it, and has read something, can't commit. One above the last record if the store is read-only.
    pub conflict_window_first: Index,
    /// Bytes of segments that are superseded, and stay because somebody still reads them or they await their
    /// removal.
    pub superseded_bytes: u64,
    /// Bytes of memtables that were flushed, and stay because somebody still reads them.
    pub superseded_memtable_bytes: u64,
    /// Why the store takes no more writes, if so.
    pub latched: Option<String>,
    /// What the last flush or compaction met, until one succeeds.
    pub background_failure: Option<String>,
    /// Every record through this one is in the archive, as far as is known.
    pub archived_index: Option<Index>,
    /// Backups made by policy since the store was opened.
    pub backups_made: u64,
    /// What the last backup by policy, or the archive, met, until one succeeds.
    pub backup_failure: Option<String>,
    /// Blocks of 4,096 bytes of segments and log files that were found damaged and put together again from parity, by
    /// the open and since; each counted once until its file is written anew.
    pub healed_blocks: u64,
    /// Segments written anew because something of them was damaged, since the store was opened.
    pub mended_segments: u64,
    /// Segments of which a read has found something damaged and put it together again, and that aren't written
    /// anew yet; or can't be, since more of them is damaged than parity makes up for: see `mend_failure`.
    pub damaged_segments: usize,
    /// Log files written anew because something of them was damaged, since the store was opened.
    pub mended_log_files: u64,
    /// Log files of which something was damaged and put together again, and that aren't written anew yet; or can't be.
    /// One that is appended to waits until it is full.
    pub damaged_log_files: usize,
    /// What the last attempt to write one anew met, until one succeeds.
    pub mend_failure: Option<String>,
    /// How the disk does; see also [`Db::health`](crate::Db::health).
    pub disk: DiskHealth,
    /// How far the scrubber has come.
    pub scrub: ScrubStatus,
    /// The keyspaces, by name.
    pub keyspaces: Vec<KeyspaceStatistics>,
}

/// Numbers of one keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyspaceStatistics {
    /// Its name.
    pub name: String,
    /// Bytes in memtables, frozen ones included.
    pub memtable_bytes: u64,
    /// Entries in memtables, old versions and deletions included.
    pub memtable_entries: u64,
    /// Segments in each level, from level 0, up to the last that has any.
    pub level_segments: Vec<usize>,
    /// Bytes in each level.
    pub level_bytes: Vec<u64>,
    /// Bytes of memory that the segments' block indexes take; 0 if they aren't pinned.
    pub index_bytes: u64,
    /// Bytes of memory that the segments' filters take; 0 if they aren't pinned.
    pub filter_bytes: u64,
    /// Entries in segments, old versions and deletions included.
    pub segment_entries: u64,
    /// Range deletions in segments, cut where a segment ends.
    pub range_deletes: u64,
    /// Ranges of keys of which something is lost; see `Db::lost_ranges`.
    pub lost_ranges: usize,
    /// Tables that a read may have to look at: memtables, runs of level 0, levels. What filters and bounds
    /// leave of them is less.
    pub read_amplification: usize,
}

impl KeyspaceStatistics {
    /// Bytes in all levels for each byte in the last one that has any: what old versions and deletions
    /// may take at most, give or take what is new; `None` without segments.
    #[must_use]
    pub fn space_amplification(&self) -> Option<f64> {
        let last = *self.level_bytes.last()?;
        let all: u64 = self.level_bytes.iter().sum();
        (last > 0).then(|| all as f64 / last as f64)
    }
}

impl Engine {
    /// What it has done since it was opened.
    pub(crate) fn activity(&self) -> Activity {
        let log_bytes = self.log.appended_bytes();
        self.metrics.read(log_bytes, self.cache.counts())
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let (views, oldest) = self.views.summary();
        let keyspaces = self.keyspaces.load();
        // One lock at a time: in the struct below a guard would live until its end, and whoever waits for
        // room holds the signals while it looks at the generations.
        let generations_waiting = self.generations.lock().len();
        let superseded_bytes = {
            let garbage = self.garbage.lock();
            garbage.iter().map(|segment| segment.meta().bytes).sum()
        };
        let superseded_memtable_bytes = {
            let flushed = self.flushed.lock();
            let tables = flushed.iter().filter_map(Weak::upgrade);
            tables.map(|table| table.bytes() as u64).sum()
        };
        Statistics {
            store_id: self.store_id,
            last_index: self.views.visible(),
            covered_index: self.covered(),
            log_end: self.log.end_lsn(),
            log_durable: self.log.durable_lsn(),
            log_bytes: self.log.bytes_retained(),
            block_cache_bytes: self.cache.used_bytes(),
            generations_waiting,
            views,
            oldest_view: oldest.map(|point| point.index),
            oldest_view_time_us: oldest.map(|point| point.time_us),
            activity: self.activity(),
            activity_before: self.activity_before,
            subscribers: self.pins.count(PinKind::Subscriber),
            log_pinned: self.pins.lowest(self.log.first_index()),
            log_first_index: self.log.first_index(),
            conflict_window_first: self.conflict_floor().next(),
            superseded_bytes,
            superseded_memtable_bytes,
            latched: self.latched().map(|cause| cause.to_string()),
            background_failure: self.signals.last_failure().map(|error| error.to_string()),
            archived_index: self
                .options
                .archive
                .as_ref()
                .map(|_| self.archive.through()),
            backups_made: self.backup_job.made(),
            backup_failure: self.backup_job.failure().map(|error| error.to_string()),
            healed_blocks: self.cache.mendings().units() + self.log.mendings().units(),
            mended_segments: self.cache.mendings().mended(),
            damaged_segments: self.cache.mendings().damaged(),
            mended_log_files: self.log.mendings().mended(),
            damaged_log_files: self.log.mendings().damaged(),
            mend_failure: self.mend_failure.lock().as_ref().map(Error::to_string),
            disk: self.disk_health(),
            scrub: self.scrub_status(),
            keyspaces: keyspaces.trees().map(of_tree).collect(),
        }
    }
}

fn of_tree(tree: &Arc<super::Tree>) -> KeyspaceStatistics {
    let state = tree.load();
    let tables = || state.memtables();
    let used = state
        .levels
        .iter()
        .rposition(|level| !level.is_empty())
        .map_or(0, |last| last + 1);
    KeyspaceStatistics {
        name: tree.name.clone(),
        memtable_bytes: tables().map(|table| table.bytes() as u64).sum(),
        memtable_entries: tables().map(|table| table.entries() as u64).sum(),
        level_segments: state.levels.iter().take(used).map(Vec::len).collect(),
        level_bytes: (0..used).map(|level| state.level_bytes(level)).collect(),
        index_bytes: state.segments().map(|(_, s)| s.index_bytes()).sum(),
        filter_bytes: state.segments().map(|(_, s)| s.filter_bytes()).sum(),
        segment_entries: state
            .segments()
            .map(|(_, segment)| segment.meta().entries)
            .sum(),
        range_deletes: state.segments().map(|(_, s)| s.meta().range_deletes).sum(),
        lost_ranges: state.fences.all().len(),
        read_amplification: 1
            + state.frozen.len()
            + state.level0_runs()
            + state
                .levels
                .iter()
                .skip(1)
                .filter(|level| !level.is_empty())
                .count(),
    }
}

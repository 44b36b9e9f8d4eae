//! What a store is made of, in numbers.

use std::sync::Arc;

use crate::engine::Engine;
use crate::types::{Index, Lsn, StoreId};

/// Numbers of a whole store at one moment.
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
    /// Bytes of log files kept.
    pub log_bytes: u64,
    /// Bytes of verified blocks in memory, and of indexes and filters that aren't pinned.
    pub block_cache_bytes: u64,
    /// Times that the block cache had what a read wanted, since the open.
    pub block_cache_hits: u64,
    /// Times that it didn't.
    pub block_cache_misses: u64,
    /// Lookups in a segment that its filter ended without a read, since the open.
    pub filter_denials: u64,
    /// Lookups that a filter let pass though the key wasn't found in the segment. This, divided by the sum
    /// of both, is the real rate of false positives.
    pub filter_false_passes: u64,
    /// Frozen memtables that wait for their flush.
    pub generations_waiting: usize,
    /// Views and iterators alive.
    pub views: usize,
    /// The lowest index that one of them holds; what it sees can't be compacted away.
    pub oldest_view: Option<Index>,
    /// What writers have been made to wait for compaction since the open, in microseconds.
    pub write_delay_us: u64,
    /// Why the store takes no more writes, if so.
    pub latched: Option<String>,
    /// What the last flush or compaction met, until one succeeds.
    pub background_failure: Option<String>,
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
}

impl Engine {
    pub(crate) fn statistics(&self) -> Statistics {
        let (views, oldest_view) = self.views.summary();
        let keyspaces = self.keyspaces.load();
        let reads = self.cache.counts();
        Statistics {
            store_id: self.store_id,
            last_index: self.views.visible(),
            covered_index: self.covered(),
            log_end: self.log.end_lsn(),
            log_durable: self.log.durable_lsn(),
            log_bytes: self.log.bytes_retained(),
            block_cache_bytes: self.cache.used_bytes(),
            block_cache_hits: reads.cache_hits,
            block_cache_misses: reads.cache_misses,
            filter_denials: reads.filter_denials,
            filter_false_passes: reads.filter_false_passes,
            generations_waiting: self.generations.lock().len(),
            views,
            oldest_view,
            write_delay_us: self.pressure.waited_us(),
            latched: self.latched().map(|cause| cause.to_string()),
            background_failure: self.signals.last_failure().map(|error| error.to_string()),
            keyspaces: keyspaces.trees().map(of_tree).collect(),
        }
    }
}

fn of_tree(tree: &Arc<super::Tree>) -> KeyspaceStatistics {
    let state = tree.load();
    let tables = || std::iter::once(&state.active).chain(&state.frozen);
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
    }
}

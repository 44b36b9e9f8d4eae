//! What a store has done since it was opened: counts, bytes, and how long syncs and waits took.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::codec::{Reader, put_varint};
use crate::segment::ReadCounts;
use crate::watch::{Gathered, Latencies};

/// What a store has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activity {
    /// Records written.
    pub records: u64,
    /// Bytes of their payloads: what the store was asked to keep.
    pub record_bytes: u64,
    /// Bytes that the log's address space has grown by, headers and padding included.
    pub log_bytes: u64,
    /// Memtables flushed.
    pub flushes: u64,
    /// Bytes of the segments that flushes wrote.
    pub flush_bytes: u64,
    /// Compactions that read and wrote segments.
    pub compactions: u64,
    /// Compactions that only moved segments to another level.
    pub moves: u64,
    /// Bytes of the segments that compactions read.
    pub compaction_bytes_read: u64,
    /// Bytes of the segments that compactions wrote.
    pub compaction_bytes_written: u64,
    /// Transactions that met a conflict.
    pub conflicts: u64,
    /// Times that the block cache had what a read wanted.
    pub block_cache_hits: u64,
    /// Times that it didn't.
    pub block_cache_misses: u64,
    /// Lookups in a segment that its filter ended without a read.
    pub filter_denials: u64,
    /// Lookups that a filter let pass though the key wasn't found in the segment.
    pub filter_false_passes: u64,
    /// Syncs of the log for writers.
    pub syncs: Latencies,
    /// Waits of writers for a flush.
    pub flush_waits: Latencies,
    /// Waits of writers because compaction is behind.
    pub slow_downs: Latencies,
}

impl Activity {
    /// Bytes written to the disk for each byte that the store was asked to keep; `None` before the first.
    #[must_use]
    pub fn write_amplification(&self) -> Option<f64> {
        let tables = self
            .flush_bytes
            .saturating_add(self.compaction_bytes_written);
        let written = self.log_bytes.saturating_add(tables);
        (self.record_bytes > 0).then(|| written as f64 / self.record_bytes as f64)
    }
}

impl Activity {
    /// The part of lookups in the block cache that found what they wanted; `None` before the first.
    #[must_use]
    pub fn block_cache_hit_rate(&self) -> Option<f64> {
        let all = self
            .block_cache_hits
            .saturating_add(self.block_cache_misses);
        (all > 0).then(|| self.block_cache_hits as f64 / all as f64)
    }

    /// Of the lookups of keys that aren't in a segment, the part that its filter let pass; `None` before the
    /// first.
    #[must_use]
    pub fn filter_false_positive_rate(&self) -> Option<f64> {
        let all = self.filter_denials.saturating_add(self.filter_false_passes);
        (all > 0).then(|| self.filter_false_passes as f64 / all as f64)
    }

    /// Each number, in the order of their tags. New ones go to the end.
    fn fields(&mut self) -> Vec<&mut u64> {
        let Self {
            records,
            record_bytes,
            log_bytes,
            flushes,
            flush_bytes,
            compactions,
            moves,
            compaction_bytes_read,
            compaction_bytes_written,
            conflicts,
            block_cache_hits,
            block_cache_misses,
            filter_denials,
            filter_false_passes,
            syncs,
            flush_waits,
            slow_downs,
        } = self;
        let mut all = vec![
            records,
            record_bytes,
            log_bytes,
            flushes,
            flush_bytes,
            compactions,
            moves,
            compaction_bytes_read,
            compaction_bytes_written,
            conflicts,
            block_cache_hits,
            block_cache_misses,
            filter_denials,
            filter_false_passes,
        ];
        let latencies = [syncs, flush_waits, slow_downs];
        all.extend(latencies.into_iter().flat_map(Latencies::fields));
        all
    }

    /// Pairs of a tag and a number, those that are 0 left out.
    pub(crate) fn encode(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for (tag, number) in (0..).zip(self.fields()) {
            if *number > 0 {
                put_varint(&mut out, tag);
                put_varint(&mut out, *number);
            }
        }
        out
    }

    /// What [`Activity::encode`] wrote; numbers of other versions are passed over. `None` if there is
    /// nothing.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut activity = Self::default();
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let (tag, number) = (reader.varint()?, reader.varint()?);
            let tag = usize::try_from(tag).unwrap_or(usize::MAX);
            if let Some(field) = activity.fields().get_mut(tag) {
                **field = number;
            }
        }
        (!bytes.is_empty()).then_some(activity)
    }
}

/// The counters behind an [`Activity`].
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) records: Count,
    pub(crate) record_bytes: Count,
    pub(crate) flushes: Count,
    pub(crate) flush_bytes: Count,
    pub(crate) compactions: Count,
    pub(crate) moves: Count,
    pub(crate) compaction_bytes_read: Count,
    pub(crate) compaction_bytes_written: Count,
    pub(crate) conflicts: Count,
    pub(crate) syncs: Gathered,
    pub(crate) flush_waits: Gathered,
    pub(crate) slow_downs: Gathered,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metrics {
    pub(crate) fn read(&self, log_bytes: u64, reads: ReadCounts) -> Activity {
        Activity {
            records: self.records.read(),
            record_bytes: self.record_bytes.read(),
            log_bytes,
            flushes: self.flushes.read(),
            flush_bytes: self.flush_bytes.read(),
            compactions: self.compactions.read(),
            moves: self.moves.read(),
            compaction_bytes_read: self.compaction_bytes_read.read(),
            compaction_bytes_written: self.compaction_bytes_written.read(),
            conflicts: self.conflicts.read(),
            block_cache_hits: reads.cache_hits,
            block_cache_misses: reads.cache_misses,
            filter_denials: reads.filter_denials,
            filter_false_passes: reads.filter_false_passes,
            syncs: self.syncs.read(),
            flush_waits: self.flush_waits.read(),
            slow_downs: self.slow_downs.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_activity_is_read_as_it_was_written_by_newer_versions_too() {
        let mut activity = Activity::default();
        assert_eq!(Activity::decode(&activity.encode()), None);
        for (number, field) in (0..).zip(activity.fields()) {
            *field = number * number * 1_000_003;
        }
        let mut bytes = activity.encode();
        assert_eq!(Activity::decode(&bytes), Some(activity));
        for cut in 0..bytes.len() {
            // Half a pair is nothing; whatever else comes out, nothing panics.
            let _ = Activity::decode(&bytes[..cut]);
        }
        put_varint(&mut bytes, u64::MAX);
        put_varint(&mut bytes, 7);
        assert_eq!(Activity::decode(&bytes), Some(activity));
    }
}

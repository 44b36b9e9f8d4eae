//! What a store has done since it was opened: counts, bytes, and how long syncs and waits took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// The longest time that is told apart from longer ones, in microseconds (an hour).
const LATENCY_MAX_US: u64 = 3_600_000_000;
/// Digits of a latency that count.
const LATENCY_DIGITS: u8 = 2;

/// How long something took, of all times that it happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latencies {
    /// How often it happened.
    pub count: u64,
    /// Half of the times it took at most so long, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 times.
    pub p99_us: u64,
    /// 999 of 1,000 times.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
    /// All together.
    pub total_us: u64,
}

/// Gathers latencies, to two digits.
#[derive(Debug)]
pub(crate) struct Gathered {
    inside: Mutex<(Option<Histogram<u64>>, u64)>,
}

impl Default for Gathered {
    fn default() -> Self {
        // The bounds are constants that the crate takes; without a histogram nothing is told, and no more.
        let histogram = Histogram::new_with_max(LATENCY_MAX_US, LATENCY_DIGITS).ok();
        Self {
            inside: Mutex::new((histogram, 0)),
        }
    }
}

impl Gathered {
    pub(crate) fn add(&self, taken: Duration) {
        let us = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX);
        let (histogram, total_us) = &mut *self.inside.lock();
        *total_us = total_us.saturating_add(us);
        if let Some(histogram) = histogram {
            histogram.saturating_record(us);
        }
    }

    pub(crate) fn read(&self) -> Latencies {
        let (histogram, total_us) = &*self.inside.lock();
        let Some(histogram) = histogram else {
            return Latencies::default();
        };
        Latencies {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
            total_us: *total_us,
        }
    }
}

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
        let written = self.log_bytes + self.flush_bytes + self.compaction_bytes_written;
        (self.record_bytes > 0).then(|| written as f64 / self.record_bytes as f64)
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
    pub(crate) fn read(&self, log_bytes: u64) -> Activity {
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
    fn latencies_are_told_to_two_digits() {
        let gathered = Gathered::default();
        for ms in 1..=1000 {
            gathered.add(Duration::from_millis(ms));
        }
        let read = gathered.read();
        assert_eq!((read.count, read.total_us), (1000, 500_500_000));
        let near = |found: u64, wanted: u64| found.abs_diff(wanted) * 50 <= wanted;
        assert!(
            near(read.p50_us, 500_000) && near(read.p99_us, 990_000),
            "{read:?}"
        );
        assert!(near(read.max_us, 1_000_000), "{read:?}");
        gathered.add(Duration::from_secs(100_000));
        assert!(gathered.read().max_us >= LATENCY_MAX_US / 100 * 99);
    }
}

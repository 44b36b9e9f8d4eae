//! How long something took, of all the times that it happened.

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

impl Latencies {
    pub(crate) fn fields(&mut self) -> [&mut u64; 6] {
        let Self {
            count,
            p50_us,
            p99_us,
            p999_us,
            max_us,
            total_us,
        } = self;
        [count, p50_us, p99_us, p999_us, max_us, total_us]
    }
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

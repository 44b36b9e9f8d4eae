//! How writers are slowed when compaction falls behind: a little at first, and never to a halt.
//!
//! What counts is the number of segments in level 0, which every read has to look through. From twice
//! the number that starts a compaction on, writers get as many bytes a second as level 0 loses to
//! compaction, times a factor that falls from 1.25 to 0.25 as the number rises to the highest that is
//! wanted, and further above it. So the number settles below that, and no writer waits longer than what it
//! writes is worth.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::tree::TreeState;
use crate::error::{Error, Result};
use crate::options::{Background, Options};

/// Bytes a second that level 0 is taken to lose before that has been measured.
const FIRST_GUESS: u64 = 64 << 20;
/// The slowest that writers ever get, in bytes a second.
const SLOWEST: u64 = 1 << 20;
/// Waits shorter than this are added up.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// No single wait is longer.
const WAIT_MAX: Duration = Duration::from_millis(20);

/// A writer leaves no more than this to those after it: one huge batch must not hold up many small ones.
const OWED_MAX: Duration = Duration::from_secs(1);

/// What is known of compaction's progress.
#[derive(Debug)]
pub(crate) struct Pressure {
    /// The most segments that any tree has in level 0.
    level0: AtomicUsize,
    /// Bytes a second that level 0 loses to compaction, of late.
    drained: AtomicU64,
    /// When the rate limit lets compaction write again, since the clock's beginning, in microseconds.
    paced_until_us: AtomicU64,
}

impl Default for Pressure {
    fn default() -> Self {
        Self {
            level0: AtomicUsize::new(0),
            drained: AtomicU64::new(FIRST_GUESS),
            paced_until_us: AtomicU64::new(0),
        }
    }
}

impl Pressure {
    /// Bytes a second that writers may write now; `None`: as many as they can.
    fn allowed(&self, options: &Options) -> Option<u64> {
        let level0 = self.level0.load(Ordering::Acquire);
        let start = (options.level0_segments_compact * 2).min(options.level0_segments_stop - 1);
        if level0 < start {
            return None;
        }
        let (above, whole) = (level0 - start, options.level0_segments_stop - start);
        let part = above as f64 / whole as f64;
        let factor = if part < 1.0 {
            1.25 - part
        } else {
            0.25 / (part * part)
        };
        let drained = self.drained.load(Ordering::Relaxed) as f64;
        Some(((drained * factor) as u64).max(SLOWEST))
    }

    /// Notes that a compaction took `bytes` out of level 0.
    pub(crate) fn drained(&self, bytes: u64, taken: Duration) {
        let rate = (bytes as f64 / taken.as_secs_f64().max(1e-6)) as u64;
        let before = self.drained.load(Ordering::Relaxed);
        self.drained.store(before / 2 + rate / 2, Ordering::Relaxed);
    }
}

impl Engine {
    /// Looks again how far compaction is behind.
    pub(crate) fn update_pressure(&self) {
        let keyspaces = self.keyspaces.load();
        // What damage keeps from being compacted must not slow everybody's writes as well.
        let stuck = self.compactions.lock().stuck.clone();
        let trees = keyspaces.trees().filter(|tree| !stuck.contains(&tree.id));
        let most = trees
            .map(|tree| tree.with(TreeState::level0_runs))
            .max()
            .unwrap_or(0);
        self.pressure.level0.store(most, Ordering::Release);
    }

    /// Slows a writer of so many bytes as compaction needs it. `owed` is what it has not waited yet.
    pub(crate) fn slow_down(&self, bytes: usize, owed: &mut Duration) -> Result<()> {
        let Some(allowed) = self.pressure.allowed(&self.options) else {
            *owed = Duration::ZERO;
            return Ok(());
        };
        if self.options.background == Background::Manual {
            return self.compact_below_stop();
        }
        *owed += Duration::from_secs_f64(bytes as f64 / allowed as f64);
        if *owed >= WAIT_MIN {
            let wait = (*owed).min(WAIT_MAX);
            *owed = (*owed - wait).min(OWED_MAX);
            self.signals.pause(wait);
            self.metrics.slow_downs.add(wait);
        }
        Ok(())
    }

    /// Where nobody else compacts, the writer does.
    fn compact_below_stop(&self) -> Result<()> {
        while self.pressure.level0.load(Ordering::Acquire) >= self.options.level0_segments_stop {
            match self.step_compaction() {
                Ok(true) => {}
                Ok(false) => break,
                // The tree is left out from now on.
                Err(Error::Damaged(_)) => self.update_pressure(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes a compaction that has written so many bytes wait as its rate limit asks.
    pub(crate) fn pace_compaction(&self, bytes: usize) {
        let limit = self.options.compaction_bytes_per_second;
        if limit == 0 || self.options.background == Background::Manual {
            return;
        }
        let now_us = u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX);
        let cost_us = (bytes as u64).saturating_mul(1_000_000) / limit;
        let paced = &self.pressure.paced_until_us;
        let mut before = paced.load(Ordering::Relaxed);
        let until = loop {
            let until = before.max(now_us).saturating_add(cost_us);
            match paced.compare_exchange_weak(before, until, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break until,
                Err(now) => before = now,
            }
        };
        self.signals
            .pause(Duration::from_micros(until.saturating_sub(now_us)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_get_slower_and_never_stop() {
        let options = Options::new("")
            .level0_segments_compact(4)
            .level0_segments_stop(24);
        let pressure = Pressure::default();
        let mut last = u64::MAX;
        for level0 in 0..200 {
            pressure.level0.store(level0, Ordering::Relaxed);
            let allowed = pressure.allowed(&options);
            assert_eq!(allowed.is_none(), level0 < 8);
            let allowed = allowed.unwrap_or(u64::MAX);
            assert!(allowed <= last && allowed >= SLOWEST);
            last = allowed;
        }
        assert_eq!(last, SLOWEST);
    }

    #[test]
    fn the_rate_follows_what_compaction_does() {
        let options = Options::new("");
        let pressure = Pressure::default();
        pressure.level0.store(13, Ordering::Relaxed);
        let before = pressure.allowed(&options).unwrap();
        for _ in 0..10 {
            pressure.drained(1 << 30, Duration::from_secs(1));
        }
        assert!(pressure.allowed(&options).unwrap() > before * 10);
    }
}

//! The seams for time and randomness. Nothing else in the library asks a clock or a generator.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from.
pub trait Clock: Send + Sync + Debug {
    /// Wall time in microseconds since 1970; may jump. Stamped into log records.
    fn wall_us(&self) -> u64;
    /// Time since some fixed moment; never goes back. For delays and measuring.
    fn elapsed(&self) -> Duration;

    /// Time since some other fixed moment, to a few milliseconds, for where [`Clock::elapsed`] would cost too much.
    /// Only differences of two such readings mean something.
    fn elapsed_coarse(&self) -> Duration {
        self.elapsed()
    }
}

/// Lets every other thread of the machine go before this one, where the system can do that for a single thread.
pub(crate) fn give_way() {
    /// The lowest priority that there is, counted from the usual one.
    #[cfg(target_os = "linux")]
    const LAST: i32 = 19;
    // Only politeness: without it the work is done all the same.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(LAST);
}

/// Where randomness comes from (ids and salts; nothing secret).
pub trait Entropy: Send + Sync + Debug {
    /// 64 random bits.
    fn next_u64(&self) -> u64;

    /// 128 random bits.
    fn next_u128(&self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

#[allow(clippy::disallowed_methods, reason = "this is the seam")]
impl SystemClock {
    /// A clock that counts from now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the seam")]
impl Clock for SystemClock {
    fn wall_us(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The kernel's clock of the last tick: no look at the hardware.
    #[cfg(target_os = "linux")]
    fn elapsed_coarse(&self) -> Duration {
        use rustix::time::{ClockId, clock_gettime};
        let now = clock_gettime(ClockId::MonotonicCoarse);
        // Neither part is negative on this clock.
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
    }
}

/// Randomness from the hasher keys that the standard library draws from the operating system.
#[derive(Debug, Default)]
pub struct SystemEntropy {
    drawn: AtomicU64,
}

impl Entropy for SystemEntropy {
    fn next_u64(&self) -> u64 {
        use std::hash::{BuildHasher, RandomState};
        // Each RandomState is keyed from the operating system and then incremented; the counter
        // and the process id keep two draws of one key apart.
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        RandomState::new().hash_one((drawn, std::process::id()))
    }
}

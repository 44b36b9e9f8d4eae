//! A clock that the test moves.

use std::time::Duration;

use parking_lot::Mutex;

use crate::environment::Clock;

/// A clock that goes on only when it is told to, or by a fixed tick at each reading.
#[derive(Debug)]
pub struct ManualClock {
    time: Mutex<Time>,
}

#[derive(Debug)]
struct Time {
    wall_us: u64,
    elapsed: Duration,
    tick: Duration,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl ManualClock {
    /// A clock that stands at 2020-01-01 00:00:00 UTC, with nothing elapsed and no tick.
    #[must_use]
    pub fn new() -> Self {
        Self {
            time: Mutex::new(Time {
                wall_us: 1_577_836_800_000_000,
                elapsed: Duration::ZERO,
                tick: Duration::ZERO,
            }),
        }
    }

    /// Lets time pass, on the wall and elapsed.
    pub fn advance(&self, by: Duration) {
        self.time.lock().advance(by);
    }

    /// Sets the wall time, forward or back; what has elapsed stays.
    pub fn set_wall_us(&self, wall_us: u64) {
        self.time.lock().wall_us = wall_us;
    }

    /// Sets what has elapsed. It never goes back: a smaller value is ignored.
    pub fn set_elapsed(&self, elapsed: Duration) {
        let mut time = self.time.lock();
        time.elapsed = time.elapsed.max(elapsed);
    }

    /// Lets this much time pass at each reading, after it; zero to stop that.
    pub fn tick_on_read(&self, tick: Duration) {
        self.time.lock().tick = tick;
    }
}

impl Time {
    fn advance(&mut self, by: Duration) {
        let by_us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.wall_us = self.wall_us.saturating_add(by_us);
        self.elapsed = self.elapsed.saturating_add(by);
    }
}

impl Clock for ManualClock {
    fn wall_us(&self) -> u64 {
        let mut time = self.time.lock();
        let now = time.wall_us;
        let tick = time.tick;
        time.advance(tick);
        now
    }

    fn elapsed(&self) -> Duration {
        let mut time = self.time.lock();
        let now = time.elapsed;
        let tick = time.tick;
        time.advance(tick);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_still_until_moved() {
        let clock = ManualClock::new();
        let start_us = clock.wall_us();
        assert_eq!(
            (clock.wall_us(), clock.elapsed()),
            (start_us, Duration::ZERO)
        );
        clock.advance(Duration::from_millis(3));
        assert_eq!(clock.wall_us(), start_us + 3000);
        assert_eq!(clock.elapsed(), Duration::from_millis(3));
    }

    #[test]
    fn the_wall_may_jump_back_and_elapsed_may_not() {
        let clock = ManualClock::new();
        clock.set_wall_us(5);
        assert_eq!(clock.wall_us(), 5);
        clock.set_elapsed(Duration::from_secs(2));
        clock.set_elapsed(Duration::from_secs(1));
        assert_eq!(clock.elapsed(), Duration::from_secs(2));
    }

    #[test]
    fn it_ticks_after_each_reading() {
        let clock = ManualClock::new();
        clock.tick_on_read(Duration::from_micros(7));
        let first = clock.wall_us();
        assert_eq!(clock.wall_us(), first + 7);
        assert_eq!(clock.elapsed(), Duration::from_micros(14));
    }
}

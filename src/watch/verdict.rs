//! What was noted of a disk, and what follows from it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Gathered, Latencies};

/// What is older than this says nothing of the disk as it is now.
const RECENT: Duration = Duration::from_secs(600);
/// Syncs whose median is taken.
const SYNCS_COMPARED: usize = 64;
/// How many times the best median so far makes a disk a slow one …
const TIMES_THE_BEST: u32 = 8;
/// … if it is at least this part of what a single call may take.
const PART_OF_SLOW: u32 = 10;

/// How a disk does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DiskState {
    /// As it should.
    #[default]
    Well,
    /// In the last ten minutes it has held up a call for longer than
    /// [`Options::disk_slow_after`](crate::Options::disk_slow_after), or holds one up now; or the median of 64 small
    /// syncs that ended in that time is 8 times the best of any 64 before, and at least a tenth of it.
    Slow,
    /// In the last ten minutes a call has failed, for a reason that isn't in what was asked for. No room is none.
    Erring,
}

impl fmt::Display for DiskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Well => "well",
            Self::Slow => "slow",
            Self::Erring => "erring",
        })
    }
}

/// How the disk under a store does, and has done since the store was opened. Only calls for files of the store count,
/// not those of a backup's repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskHealth {
    /// The verdict.
    pub state: DiskState,
    /// Every sync, of files and of the folder.
    pub syncs: Latencies,
    /// The median of the last whole 64 syncs of at most 1 MiB, in microseconds; 0 before there were so many.
    pub recent_sync_us: u64,
    /// The lowest such median, in microseconds.
    pub best_sync_us: u64,
    /// How long the oldest sync that is still under way has taken by now, in microseconds.
    pub waiting_sync_us: Option<u64>,
    /// Reads, writes and syncs that took longer than [`Options::disk_slow_after`](crate::Options::disk_slow_after) and
    /// a second more for each 16 MiB.
    pub slow_calls: u64,
    /// The longest of those, in microseconds.
    pub slowest_call_us: u64,
    /// Calls that failed.
    pub errors: u64,
    /// The last failure, with the file's name.
    pub last_error: Option<String>,
    /// How long ago that was, in microseconds.
    pub last_error_age_us: Option<u64>,
}

/// A sync that is under way.
#[derive(Debug)]
pub(crate) struct Waiting(u64);

/// The notes.
#[derive(Debug, Default)]
pub(crate) struct DiskWatch {
    syncs: Gathered,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    next: u64,
    /// Syncs under way: when each began, and until when it isn't slow.
    waiting: BTreeMap<u64, (Duration, Duration)>,
    /// Small syncs since the last median, in microseconds.
    gathered_us: Vec<u64>,
    recent_us: u64,
    best_us: u64,
    last_median: Option<Duration>,
    slow_calls: u64,
    slowest: Duration,
    last_slow: Option<Duration>,
    errors: u64,
    last_error: Option<(Duration, String)>,
}

impl DiskWatch {
    pub(super) fn sync_begins(&self, now: Duration, allowed: Duration) -> Waiting {
        let mut seen = self.seen.lock();
        seen.next = seen.next.wrapping_add(1);
        let id = seen.next;
        seen.waiting.insert(id, (now, now.saturating_add(allowed)));
        Waiting(id)
    }

    pub(super) fn sync_ends(
        &self,
        waiting: Waiting,
        now: Duration,
        taken: Duration,
        is_small: bool,
    ) {
        self.syncs.add(taken);
        let mut seen = self.seen.lock();
        seen.waiting.remove(&waiting.0);
        if is_small {
            seen.compare(now, micros(taken));
        }
    }

    pub(super) fn was_slow(&self, now: Duration, path: &Path, taken: Duration) {
        tracing::warn!(path = %path.display(), taken_us = micros(taken), "the disk has held up a call");
        let mut seen = self.seen.lock();
        seen.slow_calls = seen.slow_calls.saturating_add(1);
        seen.slowest = seen.slowest.max(taken);
        seen.last_slow = Some(now);
    }

    pub(super) fn failed(&self, now: Duration, path: &Path, error: &io::Error) {
        let name = path.file_name().unwrap_or(path.as_os_str());
        let mut seen = self.seen.lock();
        seen.errors = seen.errors.saturating_add(1);
        seen.last_error = Some((now, format!("{}: {error}", name.to_string_lossy())));
    }

    /// What follows from the notes, where single calls are slow after so long.
    pub fn health(&self, now: Duration, slow_after: Duration) -> DiskHealth {
        let seen = self.seen.lock();
        let since = |then: Duration| now.saturating_sub(then);
        let oldest = seen.waiting.values().map(|(began, _)| since(*began)).max();
        let (last_error_at, last_error) = seen.last_error.clone().unzip();
        let is_recent = |then: Option<Duration>| then.is_some_and(|then| since(then) <= RECENT);
        let has_slowed = is_recent(seen.last_median) && seen.has_slowed(slow_after);
        let state = if is_recent(last_error_at) {
            DiskState::Erring
        } else if is_recent(seen.last_slow) || seen.is_held_up(now) || has_slowed {
            DiskState::Slow
        } else {
            DiskState::Well
        };
        DiskHealth {
            state,
            syncs: self.syncs.read(),
            recent_sync_us: seen.recent_us,
            best_sync_us: seen.best_us,
            waiting_sync_us: oldest.map(micros),
            slow_calls: seen.slow_calls,
            slowest_call_us: micros(seen.slowest),
            errors: seen.errors,
            last_error,
            last_error_age_us: last_error_at.map(|then| micros(since(then))),
        }
    }
}

impl Seen {
    fn compare(&mut self, now: Duration, us: u64) {
        self.gathered_us.push(us);
        if self.gathered_us.len() < SYNCS_COMPARED {
            return;
        }
        self.gathered_us.sort_unstable();
        let middle = self.gathered_us.get(SYNCS_COMPARED / 2);
        self.recent_us = middle.copied().unwrap_or_default();
        self.gathered_us.clear();
        self.last_median = Some(now);
        self.best_us = match self.best_us {
            0 => self.recent_us,
            best => best.min(self.recent_us),
        };
    }

    fn is_held_up(&self, now: Duration) -> bool {
        self.waiting.values().any(|(_, until)| now >= *until)
    }

    fn has_slowed(&self, slow_after: Duration) -> bool {
        let floor = micros(slow_after / PART_OF_SLOW).max(1);
        let times = self.best_us.saturating_mul(u64::from(TIMES_THE_BEST));
        self.recent_us >= floor && self.recent_us >= times
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

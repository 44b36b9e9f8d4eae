//! Who still reads at which index, so that compaction keeps what they may see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::engine::jobs::{Job, Signals};
use crate::types::{Entry, EntryKind, Index, Version, expires_us};

/// What a reader sees: every record up to an index, at a time by which values expire. The time is that
/// of the record, or of a later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadPoint {
    pub(crate) index: Index,
    pub(crate) time_us: u64,
}

impl ReadPoint {
    /// The newest version that the reader sees.
    #[inline]
    pub(crate) fn version(self) -> Version {
        Version::newest_at(self.index)
    }

    /// Whether an entry's value has expired for the reader.
    #[inline]
    pub(crate) fn is_expired(self, kind: EntryKind, value: &[u8]) -> bool {
        kind == EntryKind::Expiring && expires_us(value).is_none_or(|us| us <= self.time_us)
    }

    /// Whether the reader sees this version.
    #[inline]
    pub(crate) fn sees(self, entry: &Entry<'_>) -> bool {
        entry.version.index <= self.index
    }
}

/// What a compaction that begins now must keep readable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Boundaries {
    /// Every index at which somebody reads or may begin to read, ascending. Whatever is newer than the
    /// last one is to be kept whole.
    pub(crate) indexes: Vec<Index>,
    /// Nobody reads at an earlier time.
    pub(crate) time_us: u64,
}

/// Readers of one index.
#[derive(Clone, Copy, Debug)]
struct Holders {
    count: usize,
    /// The earliest time that one of them has, or had.
    time_us: u64,
}

/// The points that readers hold, and the newest one that is visible to new readers.
#[derive(Debug, Default)]
pub(crate) struct Views {
    visible: AtomicU64,
    time_us: AtomicU64,
    /// A time that no loss of power takes back: that of a record that is durable.
    durable_time_us: AtomicU64,
    held: Mutex<BTreeMap<Index, Holders>>,
    /// Once nobody reads below this index, a compaction can give space back; 0 if none waits for that.
    /// Changed under the lock of `held`.
    awaited: AtomicU64,
    signals: Arc<Signals>,
}

/// A point held until dropped.
#[derive(Debug)]
pub(crate) struct HeldPoint {
    views: Arc<Views>,
    point: ReadPoint,
}

impl Views {
    /// Highest index whose effects, and those of all before it, can be read.
    #[inline]
    pub(crate) fn visible(&self) -> Index {
        Index(self.visible.load(Ordering::Acquire))
    }

    /// Where a reader that begins now reads.
    #[inline]
    pub(crate) fn point(&self) -> ReadPoint {
        // The index first: so the time is never that of a record before it.
        let index = self.visible();
        let time_us = self.time_us.load(Ordering::Relaxed);
        ReadPoint { index, time_us }
    }

    /// Makes everything through `index` visible, whose record has this time.
    pub(crate) fn advance(&self, index: Index, time_us: u64) {
        self.time_us.store(time_us, Ordering::Relaxed);
        self.visible.store(index.0, Ordering::Release);
    }

    /// A record of this time, and all before it, are durable.
    pub(crate) fn settle_time(&self, time_us: u64) {
        self.durable_time_us.fetch_max(time_us, Ordering::AcqRel);
    }

    /// Holds the newest visible point. The lock orders this against [`Views::boundaries`]: a compaction
    /// either sees this holder, or ran its cut at an index that is not above ours.
    pub(crate) fn hold(self: &Arc<Self>) -> HeldPoint {
        let mut held = self.held.lock();
        let point = self.point();
        let time_us = point.time_us;
        let first = Holders { count: 0, time_us };
        held.entry(point.index).or_insert(first).count += 1;
        let views = self.clone();
        HeldPoint { views, point }
    }

    /// What must stay readable from now on.
    pub(crate) fn boundaries(&self) -> Boundaries {
        let held = self.held.lock();
        let mut indexes: Vec<Index> = held.keys().copied().collect();
        let visible = self.point();
        if indexes.last() != Some(&visible.index) {
            indexes.push(visible.index);
        }
        let times = held.values().map(|holders| holders.time_us);
        let mut time_us = times.fold(visible.time_us, u64::min);
        // A loss of power may take back the record whose time is visible: what expired only by that time
        // lives again then.
        time_us = time_us.min(self.durable_time_us.load(Ordering::Acquire));
        Boundaries { indexes, time_us }
    }

    pub(crate) fn signals(&self) -> &Arc<Signals> {
        &self.signals
    }

    /// Wakes the compaction once nobody reads below `index` any more, which may be so by now.
    pub(crate) fn await_release(&self, index: Index) {
        let held = self.held.lock();
        self.awaited.store(index.0, Ordering::Relaxed);
        self.tell_if_released(held.keys().next());
    }

    /// Called with the lowest point held, under the lock. Short-lived readers pay a relaxed load.
    #[inline]
    fn tell_if_released(&self, lowest: Option<&Index>) {
        let awaited = self.awaited.load(Ordering::Relaxed);
        if awaited > 0 && lowest.is_none_or(|lowest| lowest.0 >= awaited) {
            self.awaited.store(0, Ordering::Relaxed);
            self.signals.wake(Job::Compact);
        }
    }

    /// How many readers hold a point, and the lowest one held.
    pub(crate) fn summary(&self) -> (usize, Option<ReadPoint>) {
        let held = self.held.lock();
        let count = held.values().map(|holders| holders.count).sum();
        let lowest = held.iter().next().map(|(index, holders)| ReadPoint {
            index: *index,
            time_us: holders.time_us,
        });
        (count, lowest)
    }
}

impl HeldPoint {
    pub(crate) fn point(&self) -> ReadPoint {
        self.point
    }
}

impl Drop for HeldPoint {
    fn drop(&mut self) {
        let mut held = self.views.held.lock();
        if let Some(holders) = held.get_mut(&self.point.index) {
            holders.count -= 1;
            if holders.count == 0 {
                held.remove(&self.point.index);
                self.views.tell_if_released(held.keys().next());
            }
        }
    }
}

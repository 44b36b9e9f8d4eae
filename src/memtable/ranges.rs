//! The range deletions of a memtable: few, so that each one is added to a list, and cut into fragments
//! when somebody looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Memtable;
use crate::types::{RangeDelete, RangeDeletes, Version};

/// What is counted for one beside its keys, in bytes.
const OVERHEAD_BYTES: usize = 128;

#[derive(Debug, Default)]
struct Inside {
    all: Vec<RangeDelete>,
    /// As many of `all` as `cut` was made of.
    cut_of: usize,
    cut: Arc<RangeDeletes>,
}

/// Range deletions that may still grow in number.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// Read without the lock: most tables have none.
    count: AtomicUsize,
    bytes: AtomicUsize,
    inside: Mutex<Inside>,
}

impl Memtable {
    /// Adds the deletion of a range; without effect if it is empty. Safe to repeat. O(1); the next look
    /// at it takes O(n log n).
    pub fn delete_range(&self, range: RangeDelete) {
        if range.is_empty() {
            return;
        }
        let ranges = self.ranges();
        let key_bytes = range.from.len() + range.to.as_ref().map_or(0, bytes::Bytes::len);
        ranges
            .bytes
            .fetch_add(key_bytes + OVERHEAD_BYTES, Ordering::Relaxed);
        ranges.inside.lock().all.push(range);
        ranges.count.fetch_add(1, Ordering::Release);
    }

    /// The range deletions that are in it now; `None` if there are none, which is quick to say.
    #[inline]
    #[must_use]
    pub fn range_deletes(&self) -> Option<Arc<RangeDeletes>> {
        if self.ranges().count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut inside = self.ranges().inside.lock();
        if inside.cut_of != inside.all.len() {
            inside.cut = Arc::new(RangeDeletes::new(inside.all.iter().cloned()));
            inside.cut_of = inside.all.len();
        }
        Some(Arc::clone(&inside.cut))
    }

    /// The newest deletion of a range with `key` in it that is no newer than `at`.
    #[inline]
    #[must_use]
    pub fn deleted(&self, key: &[u8], at: Version) -> Option<Version> {
        self.range_deletes()?.newest(key, at)
    }

    /// How many there are.
    pub(super) fn range_count(&self) -> usize {
        self.ranges().count.load(Ordering::Relaxed)
    }

    /// Bytes of memory that they take.
    pub(super) fn range_bytes(&self) -> usize {
        self.ranges().bytes.load(Ordering::Relaxed)
    }
}

//! Who still reads at which index, so that compaction keeps what they may see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::types::Index;

/// The indexes that readers hold, and the newest one that is visible to new readers.
#[derive(Debug, Default)]
pub(crate) struct Views {
    visible: AtomicU64,
    held: Mutex<BTreeMap<Index, usize>>,
}

/// An index held until dropped.
#[derive(Debug)]
pub(crate) struct HeldIndex {
    views: Arc<Views>,
    index: Index,
}

impl Views {
    /// Highest index whose effects, and those of all before it, can be read.
    #[inline]
    pub(crate) fn visible(&self) -> Index {
        Index(self.visible.load(Ordering::Acquire))
    }

    /// Makes everything through `index` visible.
    pub(crate) fn advance(&self, index: Index) {
        self.visible.store(index.0, Ordering::Release);
    }

    /// Holds the newest visible index. The lock orders this against [`Views::boundaries`]: a compaction
    /// either sees this holder, or ran its cut at an index that is not above ours.
    pub(crate) fn hold(self: &Arc<Self>) -> HeldIndex {
        let mut held = self.held.lock();
        let index = self.visible();
        *held.entry(index).or_insert(0) += 1;
        HeldIndex {
            views: self.clone(),
            index,
        }
    }

    /// Every index at which somebody reads or may begin to read, ascending: what a compaction that
    /// begins now must keep readable. Whatever is newer than the last one it must keep whole.
    pub(crate) fn boundaries(&self) -> Vec<Index> {
        let held = self.held.lock();
        let mut all: Vec<Index> = held.keys().copied().collect();
        let visible = self.visible();
        if all.last() != Some(&visible) {
            all.push(visible);
        }
        all
    }

    /// How many readers hold an index, and the lowest one held.
    pub(crate) fn summary(&self) -> (usize, Option<Index>) {
        let held = self.held.lock();
        (held.values().sum(), held.keys().next().copied())
    }
}

impl HeldIndex {
    pub(crate) fn index(&self) -> Index {
        self.index
    }
}

impl Drop for HeldIndex {
    fn drop(&mut self) {
        let mut held = self.views.held.lock();
        if let Some(count) = held.get_mut(&self.index) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.index);
            }
        }
    }
}

//! The range deletions of a memtable: each one is put in its place when it comes, so that neither the next
//! look nor the next commit has to wait until all are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use super::Memtable;
use crate::types::{RangeDelete, RangeDeletes, Version};

/// Range deletions that may still grow in number.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// Read without the lock: most tables have none.
    count: AtomicUsize,
    bytes: AtomicUsize,
    /// Changed in place unless somebody holds what was handed out.
    all: RwLock<Arc<RangeDeletes>>,
}

impl Memtable {
    /// Adds the deletion of a range; without effect if it is empty. Safe to repeat. Returns by how many
    /// bytes the table's memory grew. O(log n), spread over all.
    pub fn delete_range(&self, range: RangeDelete) -> isize {
        if range.is_empty() {
            return 0;
        }
        let ranges = self.ranges();
        let mut all = ranges.all.write();
        Arc::make_mut(&mut all).push(range);
        let bytes = all.bytes();
        let before = ranges.bytes.swap(bytes, Ordering::Relaxed);
        ranges.count.fetch_add(1, Ordering::Release);
        bytes.cast_signed().wrapping_sub(before.cast_signed())
    }

    /// The range deletions that are in it now; `None` if there are none, which is quick to say. O(1).
    #[inline]
    #[must_use]
    pub fn range_deletes(&self) -> Option<Arc<RangeDeletes>> {
        if self.ranges().count.load(Ordering::Acquire) == 0 {
            return None;
        }
        Some(Arc::clone(&self.ranges().all.read()))
    }

    /// The newest deletion of a range with `key` in it that is no newer than `at`.
    #[inline]
    #[must_use]
    pub fn deleted(&self, key: &[u8], at: Version) -> Option<Version> {
        if self.ranges().count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.ranges().all.read().newest(key, at)
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::Index;

    fn range(from: &[u8], to: Option<&[u8]>, index: u64, position: u32) -> RangeDelete {
        RangeDelete {
            from: Bytes::copy_from_slice(from),
            to: to.map(Bytes::copy_from_slice),
            version: Version {
                index: Index(index),
                position,
            },
        }
    }

    /// What the deletions say one by one.
    fn plain(all: &[RangeDelete], key: &[u8], at: Version) -> Option<Version> {
        let covering = all.iter().filter(|one| one.covers(key));
        let seen = covering.map(|one| one.version).filter(|v| *v <= at);
        seen.max()
    }

    /// Deletions come while somebody looks: each look sees all that came before it.
    #[test]
    fn every_look_sees_all_that_came_before() {
        let mut state = 11_u64;
        let mut next = move |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % n
        };
        let keys: Vec<Vec<u8>> = (0..40_u8)
            .map(|n| vec![n / 7, n % 7][..1 + usize::from(n % 2)].to_vec())
            .collect();
        for round in 0..60 {
            // Enough, now and then, for runs of runs.
            let steps = if round % 20 == 0 { 700 } else { 25 };
            let (table, mut all) = (Memtable::new(), Vec::new());
            let mut held = None;
            for step in 0..steps {
                let from = &keys[next(40) as usize];
                let to = keys.get(next(44) as usize);
                let one = range(
                    from,
                    to.map(Vec::as_slice),
                    1 + next(9) + step / 10,
                    next(3) as u32,
                );
                let before = (table.range_count(), table.range_bytes(), table.is_empty());
                table.delete_range(one.clone());
                let after = (table.range_count(), table.range_bytes(), table.is_empty());
                if one.is_empty() {
                    assert_eq!(before, after, "an empty range counts for nothing");
                } else {
                    assert!(after.0 == before.0 + 1 && after.1 > before.1 && !after.2);
                    all.push(one);
                }
                if next(3 + step / 10) > 0 {
                    continue;
                }
                for key in &keys {
                    let index = Index(next(11 + step / 10));
                    for at in [Version::newest_at(index), Version { index, position: 1 }] {
                        let found = table.deleted(key, at);
                        let what = format!("round {round}, step {step}, {key:?} at {at:?}");
                        assert_eq!(found, plain(&all, key, at), "{what}");
                    }
                }
                // What was handed out stays as it was.
                if let Some((then, count)) = held.replace((table.range_deletes(), all.len())) {
                    let then: Arc<RangeDeletes> = then.unwrap_or_default();
                    for key in &keys {
                        let found = then.newest(key, Version::MAX);
                        assert_eq!(found, plain(&all[..count], key, Version::MAX));
                    }
                }
            }
        }
    }

    #[test]
    fn a_range_that_comes_again_changes_nothing() {
        let table = Memtable::new();
        assert!(table.range_deletes().is_none());
        for _ in 0..3 {
            table.delete_range(range(b"b", Some(b"d"), 4, 0));
        }
        table.delete_range(range(b"d", Some(b"b"), 5, 0));
        let ranges = RangeDeletes::new(table.range_deletes().unwrap().all());
        assert_eq!(ranges.all(), [range(b"b", Some(b"d"), 4, 0)]);
        assert_eq!(table.deleted(b"d", Version::MAX), None);
        assert_eq!(table.deleted(b"c", Version::default()), None);
    }
}

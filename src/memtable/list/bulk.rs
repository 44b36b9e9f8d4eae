//! Many entries at once: each is copied into the arena as it comes, while its bytes are still near the
//! processor; then all are sorted, and linked in that order, so that no search begins anew.
//!
//! Until they are linked nobody knows of them but the [`Bulk`], whose positions therefore never leave
//! this module; and they are linked once, since that takes the bulk.

use std::cmp::Ordering;
use std::hint::black_box;
use std::sync::Arc;

use super::arena::Slab;
use super::hint;
use super::search::{Led, Near, Place};
use super::{Added, IndexNode, Link, Memory, Memtable};
use crate::types::{Entry, order};

/// How many keys are brought near the processor before they are linked: waiting for several at once
/// takes as long as for one.
const TOUCHED_AHEAD: usize = 32;
/// Entries from which on a second thread is worth starting.
const PARALLEL_ENTRIES_MIN: usize = if cfg!(test) { 4 } else { 20_000 };

/// A key, with one version, that is in the arena and in no list yet.
#[derive(Clone, Copy)]
struct Ready {
    /// The key's first bytes after the bulk's base.
    prefix: u64,
    position: u32,
}

/// Entries on their way into a table. Dropped without [`Bulk::link`], they leave their memory to the
/// table and are never seen.
///
/// Several versions of one key are copied twice, but for the oldest.
pub struct Bulk {
    table: Arc<Memtable>,
    ready: Vec<Ready>,
    /// What all keys so far begin with; the first one, cut to that.
    base: Vec<u8>,
    slab: Slab,
    is_sorted: bool,
}

/// The key that was linked last, so that the next is found from there.
#[derive(Clone, Copy)]
struct Finger<'a> {
    key: &'a [u8],
    place: Place<'a>,
    leaf: &'a IndexNode,
}

/// Two sorted sequences to be linked as one.
#[derive(Clone, Copy)]
struct Pair<'a> {
    table: &'a Memtable,
    left: &'a [Ready],
    right: &'a [Ready],
    /// Whether prefixes of the one mean the same as those of the other.
    same_base: bool,
}

impl Bulk {
    /// Nothing yet, for a table.
    #[must_use]
    pub fn new(table: Arc<Memtable>) -> Self {
        Self {
            table,
            ready: Vec::new(),
            base: Vec::new(),
            slab: Slab::default(),
            is_sorted: false,
        }
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &Arc<Memtable> {
        &self.table
    }

    /// Copies an entry. Nobody sees it before [`Bulk::link`]. O(1).
    pub fn push(&mut self, entry: Entry<'_>) {
        if self.ready.is_empty() {
            self.base = entry.key.to_vec();
        } else {
            let pairs = self.base.iter().zip(entry.key);
            let common = pairs.take_while(|(a, b)| a == b).count();
            self.base.truncate(common);
        }
        let position = self.table.make_ready(Some(&mut self.slab), entry);
        self.ready.push(Ready {
            prefix: 0,
            position,
        });
        self.is_sorted = false;
    }

    /// Sorts what has been pushed, as [`Bulk::link`] does otherwise. O(n log n).
    pub fn sort(&mut self) {
        if std::mem::replace(&mut self.is_sorted, true) {
            return;
        }
        let (table, skip) = (&*self.table, self.base.len());
        for ready in &mut self.ready {
            let key = table.key(ready.position).bytes();
            ready.prefix = prefix(key.get(skip..).unwrap_or_default());
        }
        self.ready
            .sort_unstable_by(|a, b| order_ready(table, *a, *b));
    }

    /// Links all entries, and those of another bulk. An entry whose key and version the table has
    /// already is left out. Two threads share the work where `parallel` allows it and it is much.
    pub fn link(mut self, other: Option<Self>, parallel: bool) {
        self.sort();
        let mut other = match other {
            Some(other) if !Arc::ptr_eq(&other.table, &self.table) => {
                other.link(None, parallel);
                Self::new(Arc::clone(&self.table))
            }
            other => other.unwrap_or_else(|| Self::new(Arc::clone(&self.table))),
        };
        other.sort();
        let pair = Pair {
            table: &self.table,
            left: &self.ready,
            right: &other.ready,
            same_base: self.base == other.base,
        };
        if parallel && pair.left.len() + pair.right.len() >= PARALLEL_ENTRIES_MIN {
            let (low, high) = pair.halve();
            std::thread::scope(|scope| {
                scope.spawn(|| low.link());
                high.link();
            });
        } else {
            pair.link();
        }
    }
}

/// The first eight bytes, so that comparing the numbers orders as comparing the keys does, as far as
/// they differ there.
fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let taken = key.len().min(8);
    bytes[..taken].copy_from_slice(&key[..taken]);
    u64::from_be_bytes(bytes)
}

/// The table's order; of equal ones the first that came.
fn order_ready(table: &Memtable, a: Ready, b: Ready) -> Ordering {
    a.prefix
        .cmp(&b.prefix)
        .then_with(|| order_keys(table, a, b))
}

fn order_keys(table: &Memtable, a: Ready, b: Ready) -> Ordering {
    let [one, other] = [a, b].map(|ready| table.ready_entry(ready.position));
    order(one.key, one.version, other.key, other.version).then(a.position.cmp(&b.position))
}

impl<'a> Pair<'a> {
    /// The lower half of both and the upper half. O(log n).
    fn halve(self) -> (Self, Self) {
        let half = (self.left.len() + self.right.len()) / 2;
        let mut low = half.saturating_sub(self.right.len());
        let mut high = half.min(self.left.len());
        while low < high {
            let middle = low.midpoint(high);
            // (`middle` is below `high`, so at least one comes from the right.)
            let right = self.right[half - middle - 1];
            if self.order(self.left[middle], right) == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let (left_low, left_high) = self.left.split_at(low);
        let (right_low, right_high) = self.right.split_at(half - low);
        let part = |left, right| Self {
            left,
            right,
            ..self
        };
        (part(left_low, right_low), part(left_high, right_high))
    }

    fn order(&self, left: Ready, right: Ready) -> Ordering {
        match self.same_base {
            true => order_ready(self.table, left, right),
            false => order_keys(self.table, left, right),
        }
    }

    /// Links all, in order.
    fn link(self) {
        let table = self.table;
        let mut rest = self;
        let mut near = Vec::with_capacity(TOUCHED_AHEAD);
        // Versions of one key come newest first, but go in the other way round, so that their list
        // grows at the end where it should.
        let mut run: Vec<(u32, Entry<'a>)> = Vec::new();
        let (mut finger, mut count) = (None, 0);
        loop {
            near.clear();
            near.extend(rest.by_ref().take(TOUCHED_AHEAD));
            if near.is_empty() {
                break;
            }
            black_box(
                near.iter()
                    .fold(0, |sum, ready| sum ^ table.touch(ready.position)),
            );
            for ready in &near {
                let entry = table.ready_entry(ready.position);
                if let Some((_, last)) = run.last() {
                    if last.key != entry.key {
                        finger = table.link_run(&run, finger, &mut count);
                        run.clear();
                    } else if last.version == entry.version {
                        continue;
                    }
                }
                run.push((ready.position, entry));
            }
        }
        table.link_run(&run, finger, &mut count);
        table.count(count);
    }

    fn is_left_first(&self) -> bool {
        match (self.left.first(), self.right.first()) {
            (Some(left), Some(right)) => self.order(*left, *right) == Ordering::Less,
            (left, _) => left.is_some(),
        }
    }
}

impl Iterator for Pair<'_> {
    type Item = Ready;

    fn next(&mut self) -> Option<Ready> {
        let part = match self.is_left_first() {
            true => &mut self.left,
            false => &mut self.right,
        };
        let (first, rest) = part.split_first()?;
        *part = rest;
        Some(*first)
    }
}

impl Memtable {
    /// Links the versions of one key, given newest first.
    fn link_run<'a>(
        &'a self,
        run: &[(u32, Entry<'a>)],
        finger: Option<Finger<'a>>,
        count: &mut usize,
    ) -> Option<Finger<'a>> {
        let (&(ready, oldest), newer) = run.split_last()?;
        let key = oldest.key;
        let led = match finger.and_then(|finger| self.near(finger, key)) {
            Some(near) => Led::Near(near),
            None => self.descend_to_insert(key),
        };
        let (position, leaf, is_new) = match led {
            Led::To(position) => {
                let is_new = self.add_version(self.key(position), oldest);
                (position, None, is_new)
            }
            Led::Near(near) => {
                let Added {
                    position,
                    leaf,
                    is_new,
                } = self.add_key(oldest, Some(ready), near);
                (position, Some(leaf), is_new)
            }
        };
        let newer = newer.iter().rev();
        let added = newer.filter(|(_, entry)| self.add_version(self.key(position), *entry));
        *count += usize::from(is_new) + added.count();
        leaf.map(|leaf| Finger {
            key,
            place: self.place(position, 0),
            leaf,
        })
    }

    /// Leads to a key that comes right after that of the finger, if it does.
    fn near<'a>(&'a self, finger: Finger<'a>, key: &[u8]) -> Option<Near<'a>> {
        if finger.key >= key {
            return None;
        }
        let hint = hint::hint(hint::difference(finger.key, key, 0), key);
        let link = Link(finger.place.link.load(Memory::Acquire));
        if link.position() != 0 && hint >= link.hint() {
            return None;
        }
        Some(Near {
            place: Place {
                hint,
                ..finger.place
            },
            past: link.position(),
            leaf: finger.leaf,
            leaf_hint: self.seen_from(finger.leaf, key),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{EntryKind, Index, Version};

    fn bulk_of(table: &Arc<Memtable>, seed: usize, len: usize, keys: &[Vec<u8>]) -> Bulk {
        let mut bulk = Bulk::new(Arc::clone(table));
        for n in 0..len {
            bulk.push(Entry {
                key: &keys[(n * 7919 + seed * 104_729) % keys.len()],
                version: Version::newest_at(Index((2 * n + seed % 2) as u64)),
                kind: EntryKind::Put,
                value: b"value",
            });
        }
        bulk.sort();
        bulk
    }

    #[test]
    fn halves_split_what_is_merged_in_the_middle() {
        let keys: Vec<Vec<u8>> = (0..50u8)
            .map(|n| vec![n % 5; usize::from(n % 11)])
            .collect();
        let lengths = [0, 1, 2, 3, 7, 40, 41];
        for (left, right) in lengths
            .iter()
            .flat_map(|l| lengths.iter().map(move |r| (*l, *r)))
        {
            let table = Arc::new(Memtable::new());
            let (left, right) = (
                bulk_of(&table, 1, left, &keys),
                bulk_of(&table, 2, right, &keys),
            );
            let pair = Pair {
                table: &table,
                left: &left.ready,
                right: &right.ready,
                same_base: left.base == right.base,
            };
            let all: Vec<_> = pair.map(|ready| ready.position).collect();
            assert_eq!(all.len(), left.ready.len() + right.ready.len());
            let entries = all.iter().map(|position| table.ready_entry(*position));
            assert!(entries.is_sorted_by(|a, b| a.order(b) != Ordering::Greater));
            let (low, high) = pair.halve();
            assert_eq!(low.count(), all.len() / 2);
            let halves: Vec<_> = low.chain(high).map(|ready| ready.position).collect();
            assert_eq!(halves, all);
        }
    }

    #[test]
    fn bulks_of_two_tables_each_go_into_their_own() {
        let [one, other] = [(); 2].map(|()| Arc::new(Memtable::new()));
        let keys = [b"a".to_vec(), b"b".to_vec()];
        let bulk = bulk_of(&one, 1, 2, &keys);
        bulk.link(Some(bulk_of(&other, 1, 1, &keys)), true);
        assert_eq!((one.entries(), other.entries()), (2, 1));
    }

    #[test]
    fn a_bulk_that_is_dropped_is_never_seen() {
        let table = Arc::new(Memtable::new());
        drop(bulk_of(&table, 1, 9, &[b"a".to_vec(), b"b".to_vec()]));
        assert_eq!(table.entries(), 0);
        assert!(table.get(b"a", Version::MAX).is_none());
    }
}

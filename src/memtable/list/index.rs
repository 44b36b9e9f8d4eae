//! The nodes of the index: a tree over the list that leads a search to a place shortly before its
//! target.
//!
//! It only ever advises. Whatever it names is an entry of the list, and whether that one is before the
//! target follows from the two words compared, not from how the tree is built. So an index that is
//! out of date, or that lacks entries, costs steps along the list and nothing else; that is why nodes
//! may be changed in place under the eyes of searches, one atomic word at a time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::arena::{Arena, UNIT};
use super::node::Link;

/// Slots of a node, which together with its other fields fill whole cache lines.
pub const SLOTS: usize = 14;
/// Slots looked at side by side.
const LANES: usize = 2;
const _: () = assert!(SLOTS.is_multiple_of(LANES) && size_of::<IndexNode>() == 128);

/// A node. Its slots are in no order; each names an entry (on the lowest level) or a node one level
/// down, with the hint of the entry's key, or of that node's anchor, as seen from this one's anchor.
#[repr(C)]
pub struct IndexNode {
    /// The position of an entry that all slots come after; 0 for the head of the list.
    pub anchor: u32,
    /// The node one level down that has the same anchor; 0 on the lowest level.
    pub first: u32,
    /// Whether two slots may have the same hint, so that the greater word isn't always the later one.
    has_equal: AtomicBool,
    slots: [AtomicU64; SLOTS],
}

/// The words of a node, copied out.
pub struct Words {
    words: [Link; SLOTS],
    count: usize,
}

impl IndexNode {
    /// A node of its own in the arena, which names `words`, given in order; returns its position.
    pub fn write(arena: &Arena, anchor: u32, first: u32, words: &[Link]) -> u32 {
        debug_assert!(words.len() <= SLOTS);
        let (position, pointer) = arena.allocate(size_of::<Self>().div_ceil(UNIT));
        let slot = |at| AtomicU64::new(words.get(at).map_or(Link::END.0, |link: &Link| link.0));
        let node = Self {
            anchor,
            first,
            has_equal: AtomicBool::new(has_equal(words)),
            slots: std::array::from_fn(slot),
        };
        // SAFETY: the piece is long enough, aligned to `UNIT`, and ours alone.
        unsafe { pointer.cast::<Self>().write(node) };
        position
    }

    /// The node at a position.
    ///
    /// # Safety
    /// `position` came from [`IndexNode::write`] on this arena, in this thread or through a chain of
    /// release and acquire from the one that wrote it.
    #[inline]
    pub unsafe fn at(arena: &Arena, position: u32) -> &Self {
        // SAFETY: `write` initialised it before the caller could know of it, it stays as long as the
        // arena, and only its atomics change.
        unsafe { &*arena.pointer(position).cast_const().cast::<Self>() }
    }

    /// Of the slots whose hint is not above `hint` one with the greatest.
    #[inline]
    pub fn nearest(&self, hint: u32) -> Option<Link> {
        let limit = Link::new(hint, u32::MAX).0;
        // No branches, since which way they go would be anyone's guess, and no long chain of steps
        // that wait for one another.
        let mut nearest = [0; LANES];
        for slots in self.slots.chunks_exact(LANES) {
            for (nearest, slot) in nearest.iter_mut().zip(slots) {
                let word = slot.load(Ordering::Acquire);
                *nearest = (*nearest).max(if word <= limit { word } else { 0 });
            }
        }
        let nearest = nearest.into_iter().fold(0, u64::max);
        (nearest != 0).then_some(Link(nearest))
    }

    /// Whether slots of the same hint have to be told apart by their keys.
    #[inline]
    pub fn has_equal(&self) -> bool {
        self.has_equal.load(Ordering::Relaxed)
    }

    /// Fills a free slot; false if there is none.
    pub fn add(&self, link: Link) -> bool {
        for slot in &self.slots {
            let word = slot.load(Ordering::Relaxed);
            if word == Link::END.0 {
                // Release: who finds the word finds what it names.
                let (success, failure) = (Ordering::Release, Ordering::Relaxed);
                if slot
                    .compare_exchange(word, link.0, success, failure)
                    .is_ok()
                {
                    return true;
                }
            } else if Link(word).hint() == link.hint() {
                // Two threads that add equal hints at once may both miss the other's: slower, not wrong.
                self.has_equal.store(true, Ordering::Relaxed);
            }
        }
        false
    }

    /// Whether no slot is free.
    pub fn is_full(&self) -> bool {
        self.slots
            .iter()
            .all(|slot| slot.load(Ordering::Relaxed) != Link::END.0)
    }

    /// What is in the slots.
    pub fn words(&self) -> Words {
        let mut words = Words {
            words: [Link::END; SLOTS],
            count: 0,
        };
        for slot in &self.slots {
            let link = Link(slot.load(Ordering::Acquire));
            if link != Link::END {
                words.words[words.count] = link;
                words.count += 1;
            }
        }
        words
    }

    /// Fills the slots of a full node anew, with some of what was in them, in order.
    pub fn keep(&self, words: &[Link]) {
        for (at, slot) in self.slots.iter().enumerate() {
            let link = words.get(at).copied().unwrap_or(Link::END);
            slot.store(link.0, Ordering::Release);
        }
        self.has_equal.store(has_equal(words), Ordering::Relaxed);
    }
}

/// Whether two of some words that are in order have the same hint.
fn has_equal(words: &[Link]) -> bool {
    words.array_windows().any(|[a, b]| a.hint() == b.hint())
}

impl Words {
    pub fn as_slice(&self) -> &[Link] {
        &self.words[..self.count]
    }

    pub fn as_mut_slice(&mut self) -> &mut [Link] {
        &mut self.words[..self.count]
    }
}

//! The nodes of the index: a tree over the list that leads a search to a place shortly before its
//! target.
//!
//! It only ever advises. Whatever it names is an entry of the list, and whether that one is before the
//! target follows from the two words compared, not from how the tree is built. So an index that is
//! out of date, or that lacks entries, costs steps along the list and nothing else; that is why nodes
//! may be changed in place under the eyes of searches, one atomic word at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use super::arena::{Arena, UNIT};
use super::node::Link;

/// Slots of a node, which together with its other fields fill whole cache lines.
pub const SLOTS: usize = 31;

/// A node. Its slots are in no order; each names an entry (on the lowest level) or a node one level
/// down, with the hint of the entry's key, or of that node's anchor, as seen from this one's anchor.
#[repr(C)]
pub struct IndexNode {
    /// The position of an entry that all slots come after; 0 for the head of the list.
    pub anchor: u32,
    /// The node one level down that has the same anchor; 0 on the lowest level.
    pub first: u32,
    slots: [AtomicU64; SLOTS],
}

/// The words of a node, copied out.
pub struct Words {
    words: [Link; SLOTS],
    count: usize,
}

impl IndexNode {
    /// A node of its own in the arena; returns its position.
    pub fn write(arena: &Arena, anchor: u32, first: u32, words: &[Link]) -> u32 {
        debug_assert!(words.len() <= SLOTS);
        let (position, pointer) = arena.allocate(size_of::<Self>().div_ceil(UNIT));
        let slot = |at| AtomicU64::new(words.get(at).map_or(Link::END.0, |link: &Link| link.0));
        let node = Self {
            anchor,
            first,
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

    /// Of the slots whose word is below `hint` the one with the greatest; and whether some slot's word
    /// equals it.
    #[inline]
    pub fn nearest(&self, hint: u32) -> (Option<Link>, bool) {
        let limit = u64::from(hint) << 32;
        let (mut nearest, mut tied) = (0, false);
        for slot in &self.slots {
            let word = slot.load(Ordering::Acquire);
            // No branch in here: which way it goes is anyone's guess.
            nearest = nearest.max(if word < limit { word } else { 0 });
            tied |= word >> 32 == u64::from(hint);
        }
        ((nearest != 0).then_some(Link(nearest)), tied)
    }

    /// Fills a free slot; false if there is none.
    pub fn add(&self, link: Link) -> bool {
        self.slots.iter().any(|slot| {
            slot.load(Ordering::Relaxed) == Link::END.0
                // Release: who finds the word finds what it names.
                && slot
                    .compare_exchange(
                        Link::END.0,
                        link.0,
                        Ordering::Release,
                        Ordering::Relaxed,
                    )
                    .is_ok()
        })
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

    /// Fills the slots of a full node anew, with some of what was in them.
    pub fn keep(&self, words: &[Link]) {
        for (at, slot) in self.slots.iter().enumerate() {
            let link = words.get(at).copied().unwrap_or(Link::END);
            slot.store(link.0, Ordering::Release);
        }
    }
}

impl Words {
    pub fn as_slice(&self) -> &[Link] {
        &self.words[..self.count]
    }

    pub fn as_mut_slice(&mut self) -> &mut [Link] {
        &mut self.words[..self.count]
    }
}

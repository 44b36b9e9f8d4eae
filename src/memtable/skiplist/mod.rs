//! The ordered list under the memtable: a skip list whose nodes live in an arena. This module is the
//! only one in Kintsu that may hold `unsafe`.
//!
//! # Safety argument
//! 1. **Memory.** Nodes lie in an arena that never moves or frees anything before the list is
//!    dropped (`arena.rs`). Whatever is handed out borrows the list or holds an `Arc` of it.
//! 2. **Publication.** A node is written whole (links, header, key, value) before its position is
//!    stored anywhere shared; that store is a release (a link's compare-and-swap, or a tail's
//!    store), and every load of a link or a tail is an acquire. So whoever can name a node sees it
//!    whole. After that only its links change, and they are atomics. Nothing ever holds a `&mut` to
//!    arena memory.
//! 3. **Positions** are read from links and tails of this very list, or returned by [`Node::write`]
//!    on its arena; they never leave this module but inside a [`Walker`], which holds the list too.
//! 4. **Levels.** A node is linked at level `n` only if its height is above `n`, and from bottom to
//!    top; so a tower that was reached at level `n` has links `0 ..= n`. A tail of level `n` names
//!    only nodes linked at level `n`. The head has all levels.
//!
//! What the list needs to be right, beyond memory safety:
//! 5. A link and the hint that goes with it are one word, so no search sees a hint of another node.
//! 6. Links change only from a node to one between it and the link's owner, and nodes are never
//!    unlinked: a node that was before the target stays before it, so a search that resumes at one
//!    finds whatever was inserted meanwhile.
//! 7. An entry is in the table from its compare-and-swap at level 0 on. That one succeeds only if the
//!    successor is the one it was compared with, so equal (key, version) can't get in twice.

mod arena;
mod node;

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering as Memory};

use self::arena::Arena;
use self::node::{Link, Node, Tower};
use super::hint;
use crate::types::{Entry, Version};

/// Levels: enough for some millions of entries, after which searches get longer only slowly.
const HEIGHT_MAX: usize = 20;

/// One in this many nodes of a level is on the next one as well, as a power of two.
const BRANCHING_LOG: u32 = 1;

/// What a search looks for: the first entry at or after it.
#[derive(Clone, Copy)]
struct Target<'t> {
    key: &'t [u8],
    version: Version,
}

/// The head or a node before the target, and the target's hint as seen from there.
#[derive(Clone, Copy)]
struct Place<'a> {
    tower: Tower<'a>,
    /// The node's position; 0 for the head.
    position: u32,
    hint: u32,
}

/// The node that a search last compared itself with and found not to be before its target.
#[derive(Clone, Copy)]
struct Past {
    /// Its position; 0 if there was none.
    position: u32,
    /// Whether its key is the target's.
    same_key: bool,
    /// Whether its version is the target's as well.
    same: bool,
}

impl Past {
    const NONE: Self = Self {
        position: 0,
        same_key: false,
        same: false,
    };
}

/// Where a search ended: right before its target.
struct Gap<'a> {
    before: Place<'a>,
    /// The position of the first entry at or after the target; 0 if there is none.
    after: u32,
    /// Whether that entry has the target's key.
    same_key: bool,
    /// Whether that entry is the target, in key and version.
    same: bool,
}

/// Keeps what inserts write away from what searches read.
#[repr(align(128))]
struct Apart<T>(T);

/// The ordered in-memory table of one tree: every version of every key since the last flush.
///
/// Safe to use from many threads: inserts only wait for memory, reads wait for nothing.
pub struct Memtable {
    /// Highest level first.
    head: [AtomicU64; HEIGHT_MAX],
    arena: Arena,
    /// For each level a node that was the last one on it, not long ago; 0 if there was none.
    tails: Apart<[AtomicU32; HEIGHT_MAX]>,
    entries: Apart<AtomicUsize>,
}

impl Memtable {
    /// An empty table. Takes no memory beyond itself before the first insert.
    #[must_use]
    pub fn new() -> Self {
        Self {
            head: [const { AtomicU64::new(Link::END.0) }; HEIGHT_MAX],
            arena: Arena::new(),
            tails: Apart([const { AtomicU32::new(0) }; HEIGHT_MAX]),
            entries: Apart(AtomicUsize::new(0)),
        }
    }

    /// Entries in the table, every version counted. O(1).
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries.0.load(Memory::Relaxed)
    }

    /// Bytes of memory in use, for keys, values and all that goes with them. O(1); never falls.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arena.bytes()
    }

    /// [`Memtable::insert`].
    pub(super) fn add(&self, entry: Entry<'_>) {
        let target = Target::of(&entry);
        let mut splice = [self.start(target); HEIGHT_MAX];
        let splice = &mut splice[..self.height()];
        if self.splice_at_end(target, splice) || !self.search(target, splice).same {
            self.link_in(entry, splice);
        }
    }

    /// [`Memtable::insert_sorted`].
    pub(super) fn add_sorted<'e>(&self, mut entries: impl Iterator<Item = Entry<'e>>) {
        let Some(first) = entries.next() else {
            return;
        };
        let mut finger = Finger::new(self, first);
        finger.insert(first);
        for entry in entries {
            finger.go_to(entry);
            finger.insert(entry);
        }
    }

    /// The newest entry of `key` that is no newer than `at`.
    pub(super) fn newest(&self, key: &[u8], at: Version) -> Option<Entry<'_>> {
        let gap = self.search(Target { key, version: at }, &mut []);
        if !gap.same_key {
            return None;
        }
        // SAFETY: read from a link of this list, with acquire.
        Some(unsafe { Node::at(&self.arena, gap.after) }.entry())
    }

    /// A walker that is nowhere yet.
    pub(super) fn walker(self: &Arc<Self>) -> Walker {
        Walker {
            table: Arc::clone(self),
            position: 0,
        }
    }

    /// The head, as seen by a target.
    fn start(&self, target: Target<'_>) -> Place<'_> {
        Place {
            tower: Tower::of_head(&self.head),
            position: 0,
            // The head counts as the empty key: no key sorts before that.
            hint: hint::hint(hint::difference(&[], target.key, 0), target.key),
        }
    }

    /// The height of the next node. Drawn from what the arena has given out, so that it follows
    /// neither keys nor versions, and the same inserts make the same list.
    fn height(&self) -> usize {
        let mut draw = self.arena.clock().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        draw = (draw ^ (draw >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        draw ^= draw >> 32;
        let height = 1 + draw.trailing_zeros() / BRANCHING_LOG;
        (height as usize).min(HEIGHT_MAX)
    }

    /// The link of a place at a level.
    #[inline]
    fn follow(&self, tower: Tower<'_>, level: usize) -> Link {
        // SAFETY: every caller reached the tower at this level or a higher one (see 4 above).
        Link(unsafe { tower.link(level) }.load(Memory::Acquire))
    }

    /// Walks along one level to the last node before the target; returns it, and the link out of it
    /// that leads past the target.
    #[inline]
    fn walk<'a>(
        &'a self,
        level: usize,
        mut place: Place<'a>,
        target: Target<'_>,
        past: &mut Past,
    ) -> (Place<'a>, Link) {
        loop {
            let link = self.follow(place.tower, level);
            if place.hint < link.hint() {
                return (place, link);
            }
            let position = link.position();
            if place.hint == link.hint() && (position == 0 || position == past.position) {
                return (place, link);
            }
            // SAFETY: read from a link of this list, with acquire.
            let node = unsafe { Node::at(&self.arena, position) };
            let hint = if place.hint > link.hint() {
                hint::beyond(place.hint, link.hint(), target.key)
            } else {
                let from = hint::bit(place.hint) as usize / 8;
                match target.compare(node, from) {
                    (Ordering::Greater, bit, _) => hint::hint(bit, target.key),
                    (order, _, same_key) => {
                        *past = Past {
                            position,
                            same_key,
                            same: order == Ordering::Equal,
                        };
                        return (place, link);
                    }
                }
            };
            place = Place {
                tower: node.tower(),
                position,
                hint,
            };
        }
    }

    /// Finds where the target belongs, and notes for the levels of `splice` where they were left.
    fn search<'a>(&'a self, target: Target<'_>, splice: &mut [Place<'a>]) -> Gap<'a> {
        self.search_from(self.start(target), HEIGHT_MAX - 1, target, splice)
    }

    /// [`Memtable::search`] from a place that was reached at level `top`.
    #[inline]
    fn search_from<'a>(
        &'a self,
        mut place: Place<'a>,
        top: usize,
        target: Target<'_>,
        splice: &mut [Place<'a>],
    ) -> Gap<'a> {
        let mut past = Past::NONE;
        let mut link = Link::END;
        for level in (0..=top).rev() {
            (place, link) = self.walk(level, place, target, &mut past);
            if let Some(slot) = splice.get_mut(level) {
                *slot = place;
            }
        }
        // The hints of equal keys are equal, so a search does compare itself with such a one.
        let compared = link.position() != 0 && link.position() == past.position;
        Gap {
            before: place,
            after: link.position(),
            same_key: compared && past.same_key,
            same: compared && past.same,
        }
    }

    /// Fills `splice` if the target comes after all entries there are; else returns false.
    fn splice_at_end<'a>(&'a self, target: Target<'_>, splice: &mut [Place<'a>]) -> bool {
        for (level, slot) in splice.iter_mut().enumerate() {
            let position = self.tails.0[level].load(Memory::Acquire);
            if position == 0 {
                if level == 0 {
                    return false;
                }
                continue;
            }
            // SAFETY: tails name nodes of this list, stored with release once linked at their level.
            let node = unsafe { Node::at(&self.arena, position) };
            if level == 0 && self.follow(node.tower(), 0) != Link::END {
                return false;
            }
            let (order, bit, _) = target.compare(node, 0);
            if order != Ordering::Greater {
                return false;
            }
            *slot = Place {
                tower: node.tower(),
                position,
                hint: hint::hint(bit, target.key),
            };
        }
        true
    }

    /// Puts an entry in, between the places of the splice (as many as the node is to be high) and what
    /// follows them by now; returns its place, or `None` if it was there already.
    fn link_in<'a>(&'a self, entry: Entry<'_>, splice: &[Place<'a>]) -> Option<Place<'a>> {
        let target = Target::of(&entry);
        let (position, node) = Node::write(&self.arena, entry, splice.len());
        for (level, place) in splice.iter().enumerate() {
            let mut place = *place;
            loop {
                let mut past = Past::NONE;
                let link;
                (place, link) = self.walk(level, place, target, &mut past);
                if past.same {
                    // Another thread was first: its copy is in, ours lies unused.
                    debug_assert_eq!(level, 0);
                    return None;
                }
                let onward = self.onward(target, place.hint, link);
                // SAFETY: the node is as high as the splice is long.
                let own = unsafe { node.tower().link(level) };
                own.store(onward.0, Memory::Relaxed);
                // SAFETY: the place was reached at this level.
                let shared = unsafe { place.tower.link(level) };
                let new = Link::new(place.hint, position);
                // Release: the node is written before anyone sees it, its link at this level included.
                let swapped =
                    shared.compare_exchange(link.0, new.0, Memory::Release, Memory::Relaxed);
                if swapped.is_ok() {
                    if link.position() == 0 {
                        // Release: as above. If two threads cross here, an older tail stays: slower,
                        // not wrong.
                        self.tails.0[level].store(position, Memory::Release);
                    }
                    break;
                }
            }
        }
        self.entries.0.fetch_add(1, Memory::Relaxed);
        Some(Place {
            tower: node.tower(),
            position,
            hint: 0,
        })
    }

    /// The link from the target onward to where `link` leads, which leads past the target from a
    /// place from which the target's hint is `hint`.
    #[inline]
    fn onward(&self, target: Target<'_>, hint: u32, link: Link) -> Link {
        if link.position() == 0 || hint::is_nearer(hint, link.hint()) {
            // Seen from the target, that node parts in the same bit as seen from the place.
            return link;
        }
        // SAFETY: read from a link of this list, with acquire.
        let key = unsafe { Node::at(&self.arena, link.position()) }.key();
        let bit = if hint == link.hint() {
            hint::difference(target.key, key, hint::bit(hint) as usize / 8)
        } else {
            hint::difference_of(hint, link.hint())
        };
        Link::new(hint::hint(bit, key), link.position())
    }
}

impl<'t> Target<'t> {
    fn of(entry: &Entry<'t>) -> Self {
        Self {
            key: entry.key,
            version: entry.version,
        }
    }

    /// How the target stands to a node whose key agrees with its own before byte `from`; the first
    /// bit in which the keys differ; whether they are equal.
    #[inline]
    fn compare(self, node: Node<'_>, from: usize) -> (Ordering, u32, bool) {
        let key = node.key();
        let bit = hint::difference(self.key, key, from);
        if bit < hint::SAME {
            return (hint::order_at(bit, self.key), bit, false);
        }
        let by_key = self.key.cmp(key);
        let order = by_key.then_with(|| node.version().cmp(&self.version));
        (order, bit, by_key == Ordering::Equal)
    }
}

/// Where the last of several entries in order went in, at every level, so that the next one is found
/// from there.
struct Finger<'a, 'e> {
    table: &'a Memtable,
    /// The last entry.
    last: Entry<'e>,
    /// Places before it (or its own); their hints are out of date.
    places: [Place<'a>; HEIGHT_MAX],
    /// For each place the first bit in which its key differs from that of the last entry.
    bits: [u32; HEIGHT_MAX],
    /// Whether the last entry is in the table.
    same: bool,
}

impl<'a, 'e> Finger<'a, 'e> {
    fn new(table: &'a Memtable, first: Entry<'e>) -> Self {
        let target = Target::of(&first);
        let mut finger = Self {
            table,
            last: first,
            places: [table.start(target); HEIGHT_MAX],
            bits: [0; HEIGHT_MAX],
            same: false,
        };
        finger.descend(HEIGHT_MAX - 1, table.start(target), target);
        finger
    }

    /// Searches from a place at level `top` down, and notes all below.
    fn descend(&mut self, top: usize, from: Place<'a>, target: Target<'_>) {
        let gap = self
            .table
            .search_from(from, top, target, &mut self.places[..=top]);
        for (bit, place) in self.bits[..=top].iter_mut().zip(&self.places) {
            *bit = hint::bit(place.hint);
        }
        self.same = gap.same;
    }

    /// Goes to where an entry belongs; fast if that is not far behind the last one.
    fn go_to(&mut self, entry: Entry<'e>) {
        let target = Target::of(&entry);
        let difference = hint::difference(self.last.key, entry.key, 0);
        let is_after = self.last.order(&entry) == Ordering::Less;
        self.last = entry;
        if !is_after {
            return self.descend(HEIGHT_MAX - 1, self.table.start(target), target);
        }
        // Of three keys in order, the outer two differ in the first bit in which any two do.
        for bit in &mut self.bits {
            *bit = difference.min(*bit);
        }
        let mut level = 0;
        loop {
            let place = self.place(level, entry.key);
            let link = self.table.follow(place.tower, level);
            if place.hint < link.hint() || link.position() == 0 || level == HEIGHT_MAX - 1 {
                return self.descend(level, place, target);
            }
            level += 1;
        }
    }

    /// The place at a level, with the hint of the key.
    fn place(&self, level: usize, key: &[u8]) -> Place<'a> {
        Place {
            hint: hint::hint(self.bits[level], key),
            ..self.places[level]
        }
    }

    /// Puts the entry in that the finger went to, unless it is there.
    fn insert(&mut self, entry: Entry<'e>) {
        if self.same {
            return;
        }
        let height = self.table.height();
        for level in 0..height {
            self.places[level] = self.place(level, entry.key);
        }
        if let Some(place) = self.table.link_in(entry, &self.places[..height]) {
            self.places[..height].fill(place);
            self.bits[..height].fill(hint::SAME);
        }
    }
}

/// A position in a table that it keeps alive.
#[derive(Clone)]
pub struct Walker {
    table: Arc<Memtable>,
    /// 0 if nowhere. Else read from this table's links.
    position: u32,
}

impl Walker {
    fn node(&self) -> Option<Node<'_>> {
        // SAFETY: a walker's position was read from a link of its table, with acquire, by the thread
        // that made or moved it, and whoever has the walker now got it from that thread.
        (self.position != 0).then(|| unsafe { Node::at(&self.table.arena, self.position) })
    }

    /// The entry here.
    pub fn entry(&self) -> Option<Entry<'_>> {
        self.node().map(Node::entry)
    }

    /// Goes to the first entry.
    pub fn first(&mut self) {
        let head = Tower::of_head(&self.table.head);
        self.position = self.table.follow(head, 0).position();
    }

    /// Goes to the last entry.
    pub fn last(&mut self) {
        let (mut tower, mut position) = (Tower::of_head(&self.table.head), 0);
        for level in (0..HEIGHT_MAX).rev() {
            loop {
                let next = self.table.follow(tower, level).position();
                if next == 0 {
                    break;
                }
                // SAFETY: read from a link of this list, with acquire.
                tower = unsafe { Node::at(&self.table.arena, next) }.tower();
                position = next;
            }
        }
        self.position = position;
    }

    /// Goes to the first entry at or after (key, version).
    pub fn seek(&mut self, key: &[u8], version: Version) {
        let target = Target { key, version };
        self.position = self.table.search(target, &mut []).after;
    }

    /// Goes to the last entry before (key, version).
    pub fn seek_before(&mut self, key: &[u8], version: Version) {
        let target = Target { key, version };
        self.position = self.table.search(target, &mut []).before.position;
    }

    /// Goes to the next entry. O(1).
    pub fn next(&mut self) {
        if let Some(node) = self.node() {
            self.position = self.table.follow(node.tower(), 0).position();
        }
    }

    /// Goes to the entry before. O(log n): links lead forward only.
    pub fn prev(&mut self) {
        if let Some(node) = self.node() {
            let target = Target {
                key: node.key(),
                version: node.version(),
            };
            self.position = self.table.search(target, &mut []).before.position;
        }
    }
}

impl AsRef<[u8]> for Walker {
    /// The value here, at an address that stays as long as the walker.
    fn as_ref(&self) -> &[u8] {
        self.entry().map_or(&[], |entry| entry.value)
    }
}

//! The ordered list under the memtable: a linked list of entries in an arena, and a tree over it that
//! leads searches to the right stretch. This module is the only one in Kintsu that may hold `unsafe`.
//!
//! # Safety argument
//! 1. **Memory.** Nodes lie in arenas that never move or free anything before the list is dropped
//!    (`arena.rs`). Whatever is handed out borrows the list or holds an `Arc` of it.
//! 2. **Publication.** A node is written whole before its position is stored anywhere shared. Each
//!    such store (of a link, an index slot, the root, the reference) is a release, and each load of
//!    one is an acquire; so whoever can name a node sees it whole. After that only its atomics
//!    change. Nothing ever holds a `&mut` to arena memory.
//! 3. **Positions** are read from links, slots, the root and the reference of this very list, or were
//!    returned by `write` on its arenas; positions of entries are in links, slots of the lowest
//!    index level, anchors and the reference, those of index nodes in the root, `first` and the slots
//!    of higher levels. They never leave this module but inside a [`Walker`], which holds the list.
//!
//! What the list needs to be right, beyond memory safety:
//! 4. A link and the hint that goes with it are one word, so no search sees a hint of another node.
//! 5. Links change only from a node to one between it and the link's owner, and nodes are never
//!    unlinked: a node that was before the target stays before it, so a search that starts at one
//!    finds whatever was inserted meanwhile.
//! 6. An entry is in the table from the compare-and-swap on that links it. That one succeeds only if
//!    the next node is the one it was compared with, so equal (key, version) can't get in twice.
//! 7. The index only names places before the target (`index.rs`). Searches never wait for it; inserts
//!    that find a node of it full while another splits one leave their entry out of it.

mod arena;
mod index;
mod node;

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering as Memory};

use parking_lot::Mutex;

use self::arena::Arena;
use self::index::IndexNode;
use self::node::{Link, Node};
use super::hint;
use crate::types::{Entry, Version};

/// What a search looks for: the first entry at or after it.
#[derive(Clone, Copy)]
struct Target<'t> {
    key: &'t [u8],
    version: Version,
}

/// The head or a node before the target, and the target's hint as seen from there. The head sees with
/// the eyes of the reference.
#[derive(Clone, Copy)]
struct Place<'a> {
    link: &'a AtomicU64,
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

/// How the index led a search: down to a node of the lowest level, and from there to a place.
struct Descent<'a> {
    place: Place<'a>,
    past: Past,
    leaf: &'a IndexNode,
    /// The target's hint as seen from the leaf's anchor.
    leaf_hint: u32,
}

/// A node of the index on the way to a target.
#[derive(Clone, Copy)]
struct Step<'a> {
    position: u32,
    node: &'a IndexNode,
}

/// Where a search ended: right before its target.
struct Gap<'a> {
    before: Place<'a>,
    link: Link,
    /// Whether the first entry at or after the target has its key.
    same_key: bool,
    /// Whether that entry is the target, in key and version.
    same: bool,
}

/// Keeps what inserts write away from what searches read.
#[repr(align(128))]
struct Apart<T>(T);

/// The ordered in-memory table of one tree: every version of every key since the last flush.
///
/// Safe to use from many threads: neither inserts nor reads wait for one another.
pub struct Memtable {
    head: AtomicU64,
    /// The first entry that ever came, by which the head sees; 0 before that.
    reference: AtomicU32,
    /// The top node of the index, and its level above; 0 before there is one.
    root: AtomicU64,
    nodes: Arena,
    index: Arena,
    /// Held by whoever splits a node of the index. Nobody waits for it.
    splitting: Apart<Mutex<()>>,
    entries: Apart<AtomicUsize>,
}

/// Levels of the index. Its nodes are at least half full but for the last of each level, so this is
/// more than 32-bit positions can fill.
const LEVELS_MAX: usize = 16;

impl Memtable {
    /// An empty table. Takes no memory beyond itself before the first insert.
    #[must_use]
    pub fn new() -> Self {
        Self {
            head: AtomicU64::new(Link::END.0),
            reference: AtomicU32::new(0),
            root: AtomicU64::new(0),
            nodes: Arena::new(),
            index: Arena::new(),
            splitting: Apart(Mutex::new(())),
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
        self.nodes.bytes() + self.index.bytes()
    }

    /// [`Memtable::insert`].
    pub(super) fn add(&self, entry: Entry<'_>) {
        let target = Target::of(&entry);
        let descent = self.descend_to_insert(target);
        if let Some(place) = self.link_in(entry, descent.place, descent.past) {
            self.add_to_index(target, place.position, descent.leaf, descent.leaf_hint);
        }
    }

    /// [`Memtable::insert_sorted`].
    pub(super) fn add_sorted<'e>(&self, entries: impl Iterator<Item = Entry<'e>>) {
        // The last entry, its place, and the index node that it is in.
        let mut last: Option<(Entry<'e>, Place<'_>, &IndexNode)> = None;
        for entry in entries {
            let target = Target::of(&entry);
            let near = last.and_then(|(before, place, leaf)| {
                if before.order(&entry) != Ordering::Less {
                    return None;
                }
                let bit = hint::difference(before.key, entry.key, 0);
                let place = Place {
                    hint: hint::hint(bit, entry.key),
                    ..place
                };
                let link = Link(place.link.load(Memory::Acquire));
                let is_next = link.position() == 0 || place.hint < link.hint();
                is_next.then_some((place, leaf))
            });
            let (place, past, leaf, leaf_hint) = match near {
                Some((place, leaf)) => (place, Past::NONE, leaf, None),
                None => {
                    let descent = self.descend_to_insert(target);
                    let Descent {
                        place,
                        past,
                        leaf,
                        leaf_hint,
                    } = descent;
                    (place, past, leaf, Some(leaf_hint))
                }
            };
            let Some(place) = self.link_in(entry, place, past) else {
                last = None;
                continue;
            };
            let leaf_hint = leaf_hint.unwrap_or_else(|| self.seen_from(leaf, target.key));
            let leaf = self.add_to_index(target, place.position, leaf, leaf_hint);
            last = Some((entry, place, leaf));
        }
    }

    /// The newest entry of `key` that is no newer than `at`.
    pub(super) fn newest(&self, key: &[u8], at: Version) -> Option<Entry<'_>> {
        let gap = self.search(Target { key, version: at })?;
        gap.same_key.then(|| self.node(gap.link).entry())
    }

    /// A walker that is nowhere yet.
    pub(super) fn walker(self: &Arc<Self>) -> Walker {
        Walker {
            table: Arc::clone(self),
            position: 0,
        }
    }

    /// The node that a link of this list, which must not lead nowhere, leads to.
    #[inline]
    fn node(&self, link: Link) -> Node<'_> {
        self.node_at(link.position())
    }

    #[inline]
    fn node_at(&self, position: u32) -> Node<'_> {
        debug_assert_ne!(position, 0);
        // SAFETY: every caller has read it where positions of entries are, with acquire (2 and 3
        // above).
        unsafe { Node::at(&self.nodes, position) }
    }

    #[inline]
    fn index_node(&self, position: u32) -> &IndexNode {
        debug_assert_ne!(position, 0);
        // SAFETY: every caller has read it where positions of index nodes are, with acquire (2 and 3
        // above).
        unsafe { IndexNode::at(&self.index, position) }
    }

    /// The place of a node that comes before the target.
    #[inline]
    fn place(&self, position: u32, hint: u32) -> Place<'_> {
        let link = match position {
            0 => &self.head,
            _ => self.node_at(position).link(),
        };
        Place {
            link,
            position,
            hint,
        }
    }

    /// The hint of a key as seen from an index node.
    fn seen_from(&self, node: &IndexNode, key: &[u8]) -> u32 {
        let eyes = match node.anchor {
            0 => self.reference.load(Memory::Acquire),
            anchor => anchor,
        };
        hint::hint(hint::difference(self.node_at(eyes).key(), key, 0), key)
    }

    /// Walks along the list to the last node before the target.
    #[inline]
    fn walk<'a>(&'a self, mut place: Place<'a>, target: Target<'_>, mut past: Past) -> Gap<'a> {
        loop {
            let link = Link(place.link.load(Memory::Acquire));
            let is_last = link.position() == 0;
            if place.hint < link.hint() || is_last || link.position() == past.position {
                // The hints of equal keys are equal, so such a one has been compared.
                let compared = !is_last && link.position() == past.position;
                return Gap {
                    before: place,
                    link,
                    same_key: compared && past.same_key,
                    same: compared && past.same,
                };
            }
            let node = self.node(link);
            let hint = if place.hint > link.hint() {
                hint::beyond(link.hint(), place.hint, target.key)
            } else {
                match target.compare(node, place.hint) {
                    Ok(hint) => hint,
                    Err(not_before) => {
                        past = Past {
                            position: link.position(),
                            ..not_before
                        };
                        continue;
                    }
                }
            };
            place = Place {
                link: node.link(),
                position: link.position(),
                hint,
            };
        }
    }

    /// Finds where the target belongs; `None` if the table is empty.
    fn search(&self, target: Target<'_>) -> Option<Gap<'_>> {
        let descent = self.descend(target, |_| ())?;
        Some(self.walk(descent.place, target, descent.past))
    }

    /// Goes down the index to a place before the target, and shows each node on the way; `None` if
    /// there is no index yet.
    #[inline]
    fn descend<'a>(
        &'a self,
        target: Target<'_>,
        mut visit: impl FnMut(Step<'a>),
    ) -> Option<Descent<'a>> {
        let root = self.root.load(Memory::Acquire);
        if root == 0 {
            return None;
        }
        let (mut level, mut position) = (root >> 32, root as u32);
        let mut node = self.index_node(position);
        let mut hint = self.seen_from(node, target.key);
        let mut past = Past::NONE;
        loop {
            visit(Step { position, node });
            let next = match node.nearest(hint) {
                Some(link) if link.hint() == hint || node.has_equal() => {
                    self.next_by_keys(node, level, hint, target, &mut past)
                }
                Some(link) => Some((link.position(), hint::beyond(link.hint(), hint, target.key))),
                None => None,
            };
            if level == 0 {
                let (before, place_hint) = next.unwrap_or((node.anchor, hint));
                return Some(Descent {
                    place: self.place(before, place_hint),
                    past,
                    leaf: node,
                    leaf_hint: hint,
                });
            }
            (position, hint) = next.unwrap_or((node.first, hint));
            level -= 1;
            node = self.index_node(position);
        }
    }

    /// Where to go on from a node where hints don't decide, since slots share one or have the target's
    /// own: what the last slot before the target names, and the target's hint from there.
    #[inline(never)]
    fn next_by_keys(
        &self,
        node: &IndexNode,
        level: u64,
        hint: u32,
        target: Target<'_>,
        past: &mut Past,
    ) -> Option<(u32, u32)> {
        let mut below: Option<Link> = None;
        let mut tied: Option<(u32, u32, Node<'_>)> = None;
        for &link in node.words().as_slice() {
            if link.hint() < hint
                && below.is_none_or(|below| self.order(below, link, level) == Ordering::Less)
            {
                below = Some(link);
            }
            if link.hint() != hint {
                continue;
            }
            let position = self.entry_of(link, level);
            let node = self.node_at(position);
            match target.compare(node, hint) {
                Ok(hint) => {
                    let is_later = |last: Node<'_>| node.order(last) == Ordering::Greater;
                    if tied.is_none_or(|(_, _, last)| is_later(last)) {
                        tied = Some((link.position(), hint, node));
                    }
                }
                Err(not_before) => {
                    *past = Past {
                        position,
                        ..not_before
                    };
                }
            }
        }
        if let Some((position, hint, _)) = tied {
            return Some((position, hint));
        }
        let below = below?;
        let hint = hint::beyond(below.hint(), hint, target.key);
        Some((below.position(), hint))
    }

    /// The position of the entry by which a slot of an index node is ordered.
    fn entry_of(&self, link: Link, level: u64) -> u32 {
        match level {
            0 => link.position(),
            _ => self.index_node(link.position()).anchor,
        }
    }

    /// [`Memtable::descend`], beginning the index if there is none.
    fn descend_to_insert(&self, target: Target<'_>) -> Descent<'_> {
        loop {
            if let Some(descent) = self.descend(target, |_| ()) {
                return descent;
            }
            self.begin(target);
        }
    }

    /// Makes the reference and the root.
    #[cold]
    fn begin(&self, target: Target<'_>) {
        // A copy of the first key, which is not in the list.
        let entry = Entry {
            key: target.key,
            version: target.version,
            kind: crate::types::EntryKind::Put,
            value: &[],
        };
        let _guard = self.splitting.0.lock();
        if self.root.load(Memory::Acquire) == 0 {
            let (reference, _) = Node::write(&self.nodes, entry);
            self.reference.store(reference, Memory::Release);
            let root = IndexNode::write(&self.index, 0, 0, &[]);
            self.root.store(root.into(), Memory::Release);
        }
    }

    /// Puts an entry in, after `place` and whatever lies between by now; returns its place, or `None`
    /// if it was there already.
    fn link_in<'a>(&'a self, entry: Entry<'_>, place: Place<'a>, past: Past) -> Option<Place<'a>> {
        let target = Target::of(&entry);
        let mut gap = self.walk(place, target, past);
        if gap.same {
            return None;
        }
        // Before the node is written: the next node is far away, and copying fills the time.
        let mut onward = self.onward(target, &gap);
        let (position, node) = Node::write(&self.nodes, entry);
        loop {
            node.link().store(onward.0, Memory::Relaxed);
            let link = Link::new(gap.before.hint, position);
            // Release: the node is written before anyone sees it, its link included.
            let swapped = gap.before.link.compare_exchange(
                gap.link.0,
                link.0,
                Memory::Release,
                Memory::Relaxed,
            );
            if swapped.is_ok() {
                self.entries.0.fetch_add(1, Memory::Relaxed);
                return Some(Place {
                    link: node.link(),
                    position,
                    hint: 0,
                });
            }
            gap = self.walk(gap.before, target, Past::NONE);
            if gap.same {
                // Another thread was first: its copy is in, ours lies unused.
                return None;
            }
            onward = self.onward(target, &gap);
        }
    }

    /// The link from the target to the first node after its gap.
    #[inline]
    fn onward(&self, target: Target<'_>, gap: &Gap<'_>) -> Link {
        let (hint, link) = (gap.before.hint, gap.link);
        if link.position() == 0 || hint::carries_over(hint, link.hint()) {
            return link;
        }
        let key = self.node(link).key();
        let bit = if hint == link.hint() {
            hint::difference(target.key, key, hint::bit(hint) as usize / 8)
        } else {
            hint::difference_of(hint, link.hint())
        };
        Link::new(hint::hint(bit, key), link.position())
    }

    /// Names an entry in the index; returns the node that names it, or should.
    fn add_to_index<'a>(
        &'a self,
        target: Target<'_>,
        position: u32,
        leaf: &'a IndexNode,
        leaf_hint: u32,
    ) -> &'a IndexNode {
        if leaf.add(Link::new(leaf_hint, position)) {
            leaf
        } else {
            self.split_for(target, position).unwrap_or(leaf)
        }
    }

    /// Splits what is full on the way to an entry, and names it; `None` if another thread is splitting.
    #[cold]
    fn split_for(&self, target: Target<'_>, position: u32) -> Option<&IndexNode> {
        let _guard = self.splitting.0.try_lock()?;
        loop {
            let mut path = Path::new(self.step_at_root());
            let descent = self.descend(target, |step| path.push(step))?;
            if descent.leaf.add(Link::new(descent.leaf_hint, position)) {
                return Some(descent.leaf);
            }
            // The topmost node that must be split so that those below it can be.
            let mut depth = path.count - 1;
            while depth > 0 && path.steps[depth - 1].node.is_full() {
                depth -= 1;
            }
            if let Some(leaf) = self.split(&path, depth, target, position) {
                return Some(leaf);
            }
        }
    }

    fn step_at_root(&self) -> Step<'_> {
        let position = self.root.load(Memory::Acquire) as u32;
        Step {
            position,
            node: self.index_node(position),
        }
    }

    /// Splits one node of a path, whose parent has room. Returns the new node if it names the entry at
    /// `position`, which belongs in it.
    fn split(
        &self,
        path: &Path<'_>,
        depth: usize,
        target: Target<'_>,
        position: u32,
    ) -> Option<&IndexNode> {
        let level = (path.count - 1 - depth) as u64;
        let old = path.steps[depth];
        let mut words = old.node.words();
        let words = words.as_mut_slice();
        words.sort_unstable_by(|&a, &b| self.order(a, b, level));
        let end = words
            .last()
            .map(|&link| self.node_at(self.entry_of(link, level)));
        let is_after_all = end.is_some_and(|end| target.compare(end, 0).is_ok());
        let (kept, new) = if level == 0 && is_after_all {
            // Keys that rise leave full nodes behind them, not half empty ones.
            (words.len(), IndexNode::write(&self.index, position, 0, &[]))
        } else {
            let middle = words.len() / 2;
            (middle, self.split_off(&words[middle..], level))
        };
        let new_node = self.index_node(new);
        let key = self.node_at(new_node.anchor).key();
        if depth == 0 {
            let link = Link::new(self.seen_from(old.node, key), new);
            let root = IndexNode::write(&self.index, 0, old.position, &[link]);
            let root = (level + 1) << 32 | u64::from(root);
            self.root.store(root, Memory::Release);
        } else {
            let parent = path.steps[depth - 1].node;
            let added = parent.add(Link::new(self.seen_from(parent, key), new));
            debug_assert!(added);
        }
        // Only now: until the new node could be found, its entries had to be found here.
        if kept < words.len() {
            old.node.keep(&words[..kept]);
        }
        (new_node.anchor == position).then_some(new_node)
    }

    /// A new node with what the words name, which are in order, anchored at the first.
    fn split_off(&self, words: &[Link], level: u64) -> u32 {
        let (own, others) = (words[0], &words[1..]);
        let anchor = self.entry_of(own, level);
        let first = if level == 0 { 0 } else { own.position() };
        let mut seen = [Link::END; index::SLOTS];
        for (seen, &link) in seen.iter_mut().zip(others) {
            *seen = if hint::carries_over(own.hint(), link.hint()) {
                link
            } else {
                let key = self.node_at(self.entry_of(link, level)).key();
                let bit = hint::difference(self.node_at(anchor).key(), key, 0);
                Link::new(hint::hint(bit, key), link.position())
            };
        }
        IndexNode::write(&self.index, anchor, first, &seen[..others.len()])
    }

    /// The position of the last entry; 0 if there is none.
    fn last(&self) -> u32 {
        let root = self.root.load(Memory::Acquire);
        if root == 0 {
            return 0;
        }
        let mut node = self.index_node(root as u32);
        for level in (0..=root >> 32).rev() {
            let words = node.words();
            let greatest = words
                .as_slice()
                .iter()
                .copied()
                .max_by(|&a, &b| self.order(a, b, level));
            if level > 0 {
                node = self.index_node(greatest.map_or(node.first, Link::position));
                continue;
            }
            let mut place = self.place(greatest.map_or(node.anchor, Link::position), 0);
            loop {
                let link = Link(place.link.load(Memory::Acquire));
                if link.position() == 0 {
                    return place.position;
                }
                place = self.place(link.position(), 0);
            }
        }
        0
    }

    /// The order of two slots of one index node.
    fn order(&self, a: Link, b: Link, level: u64) -> Ordering {
        a.hint().cmp(&b.hint()).then_with(|| {
            let [a, b] = [a, b].map(|link| self.node_at(self.entry_of(link, level)));
            a.order(b)
        })
    }
}

/// The nodes of the index on the way down to a target, from the root.
struct Path<'a> {
    steps: [Step<'a>; LEVELS_MAX],
    count: usize,
}

impl<'a> Path<'a> {
    /// An empty path; `step` fills the room.
    fn new(step: Step<'a>) -> Self {
        Self {
            steps: [step; LEVELS_MAX],
            count: 0,
        }
    }

    fn push(&mut self, step: Step<'a>) {
        self.steps[self.count] = step;
        self.count += 1;
    }
}

impl Past {
    const NONE: Self = Self {
        position: 0,
        same_key: false,
        same: false,
    };
}

impl<'t> Target<'t> {
    fn of(entry: &Entry<'t>) -> Self {
        Self {
            key: entry.key,
            version: entry.version,
        }
    }

    /// Compares the target with a node that some reference sees under the same hint: the target's hint
    /// as seen from the node if it comes after it, else what is to be remembered of the node.
    #[inline]
    fn compare(self, node: Node<'_>, hint: u32) -> Result<u32, Past> {
        let key = node.key();
        let bit = hint::difference(self.key, key, hint::bit(hint) as usize / 8);
        let (order, same_key) = if bit < hint::SAME {
            (hint::order_at(bit, self.key), false)
        } else {
            let by_key = self.key.cmp(key);
            let by_version = || node.version().cmp(&self.version);
            (by_key.then_with(by_version), by_key == Ordering::Equal)
        };
        if order == Ordering::Greater {
            return Ok(hint::hint(bit, self.key));
        }
        Err(Past {
            position: 0,
            same_key,
            same: order == Ordering::Equal,
        })
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
    /// The node here.
    fn node(&self) -> Option<Node<'_>> {
        // A walker's position was read from a link of its table, with acquire, by the thread that
        // moved it here; whoever has the walker now got it from that thread.
        (self.position != 0).then(|| self.table.node_at(self.position))
    }

    /// The entry here.
    pub fn entry(&self) -> Option<Entry<'_>> {
        self.node().map(Node::entry)
    }

    /// Goes to the first entry.
    pub fn first(&mut self) {
        self.position = Link(self.table.head.load(Memory::Acquire)).position();
    }

    /// Goes to the last entry. O(log n).
    pub fn last(&mut self) {
        self.position = self.table.last();
    }

    /// Goes to the first entry at or after (key, version). O(log n).
    pub fn seek(&mut self, key: &[u8], version: Version) {
        let gap = self.table.search(Target { key, version });
        self.position = gap.map_or(0, |gap| gap.link.position());
    }

    /// Goes to the last entry before (key, version). O(log n).
    pub fn seek_before(&mut self, key: &[u8], version: Version) {
        let gap = self.table.search(Target { key, version });
        self.position = gap.map_or(0, |gap| gap.before.position);
    }

    /// Goes to the next entry. O(1).
    pub fn next(&mut self) {
        if let Some(node) = self.node() {
            self.position = Link(node.link().load(Memory::Acquire)).position();
        }
    }

    /// Goes to the entry before. O(log n): links lead forward only.
    pub fn prev(&mut self) {
        if let Some(node) = self.node() {
            let (key, version) = (node.key(), node.version());
            let gap = self.table.search(Target { key, version });
            self.position = gap.map_or(0, |gap| gap.before.position);
        }
    }
}

impl AsRef<[u8]> for Walker {
    /// The value here, at an address that stays as long as the walker.
    fn as_ref(&self) -> &[u8] {
        self.entry().map_or(&[], |entry| entry.value)
    }
}

#[cfg(test)]
mod tests;

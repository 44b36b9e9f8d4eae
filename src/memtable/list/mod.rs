//! The ordered list under the memtable: a linked list of keys in an arena, each with the list of its
//! versions, and a tree over the keys that leads searches to the right stretch. This module holds
//! `unsafe`; the only other one in Kintsu reads mapped files.
//!
//! # Safety argument
//! 1. **Memory.** Keys, versions and index nodes lie in arenas that never move or free anything before
//!    the list is dropped (`arena.rs`). Whatever is handed out borrows the list or holds an `Arc` of
//!    it.
//! 2. **Publication.** Each of them is written whole before its position is stored anywhere shared.
//!    Each such store (of a link, an index slot, the root, the reference, a newest or older version)
//!    is a release, and each load of one is an acquire; so whoever can name it sees it whole. (A
//!    jump is part of the version that holds it, and names one that its writer knew of.) After that
//!    only atomics change. Nothing ever holds a `&mut` to arena memory.
//! 3. **Positions** are read from this very list, or were returned by `write` on its arenas. Those of
//!    keys are in links, slots of the lowest index level, anchors, the reference, and in a [`Bulk`],
//!    which holds the list and stays in this module; those of index
//!    nodes in the root, `first` and the slots of higher levels; those of versions in `newest`,
//!    `older` and jumps. They never leave this module but inside a [`Walker`] or a [`Bulk`], each of
//!    which holds the list; both can go from thread to thread, as whatever moves them sees to 2.
//!
//! What the list needs to be right, beyond memory safety:
//! 4. A link and the hint that goes with it are one word, so no search sees a hint of another key.
//! 5. Links change only from a key to one between it and the link's owner, and keys are never
//!    unlinked: a key that was before the target stays before it, so a search that starts at one
//!    finds whatever was inserted meanwhile. The same holds for versions.
//! 6. A key, with its first version, is in the table from the compare-and-swap on that links it. That
//!    one succeeds only if the next key is the one it was compared with, so equal keys can't get in
//!    twice. The same holds for versions.
//! 7. The index only names places before the target (`index.rs`). Searches never wait for it; inserts
//!    that find a node of it full while another splits one leave their key out of it.

mod arena;
mod bulk;
mod index;
mod node;
mod search;
mod split;
mod walker;

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering as Memory};

use parking_lot::Mutex;

use self::arena::{Arena, Slab};
pub use self::bulk::Bulk;
use self::index::IndexNode;
use self::node::{Key, KeyVersion, Link};
use self::search::{Gap, Led, Near};
pub use self::walker::Walker;
use super::hint;
use super::ranges::Ranges;
use crate::types::{Entry, EntryKind, Version};

/// How a key was put in.
#[derive(Clone, Copy)]
struct Added<'a> {
    position: u32,
    /// The index node that names it, or should.
    leaf: &'a IndexNode,
    /// Whether the table didn't have this version of it.
    is_new: bool,
}

/// Keeps what inserts write away from what searches read.
#[repr(align(128))]
struct Apart<T>(T);

/// The ordered in-memory table of one tree: every version of every key since the last flush.
///
/// Safe to use from many threads: neither inserts nor reads wait for one another.
pub struct Memtable {
    head: AtomicU64,
    /// A copy of the first key that ever came, by which the head sees; 0 before that.
    reference: AtomicU32,
    /// The top node of the index, and its level above; 0 before there is one.
    root: AtomicU64,
    nodes: Arena,
    index: Arena,
    /// Held by whoever splits a node of the index, for which nobody waits, or makes the first one.
    splitting: Apart<Mutex<()>>,
    entries: Apart<AtomicUsize>,
    ranges: Ranges,
}

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
            ranges: Ranges::default(),
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
        self.nodes.bytes() + self.index.bytes() + self.range_bytes()
    }

    /// The deletions of ranges.
    pub(super) fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// [`Memtable::insert`].
    pub(super) fn add(&self, entry: Entry<'_>) {
        let added = match self.descend_to_insert(entry.key) {
            Led::To(position) => self.add_version(self.key(position), entry),
            Led::Near(near) => self.add_key(entry, None, near).is_new,
        };
        self.count(usize::from(added));
    }

    /// Counts entries that are in the table from now on.
    fn count(&self, entries: usize) {
        self.entries.0.fetch_add(entries, Memory::Relaxed);
    }

    /// Copies a key and its version into the arena, and into no list; returns the position.
    fn make_ready(&self, slab: Option<&mut Slab>, entry: Entry<'_>) -> u32 {
        Key::write(&self.nodes, slab, entry).0
    }

    /// What [`Memtable::make_ready`] put at a position.
    fn ready_entry(&self, position: u32) -> Entry<'_> {
        let key = self.key(position);
        key.first_entry(&self.nodes, position)
    }

    /// Reads what linking a key will read.
    fn touch(&self, position: u32) -> u8 {
        self.key(position)
            .bytes()
            .first()
            .copied()
            .unwrap_or_default()
    }

    /// The newest entry of `key` that is no newer than `at`.
    pub(super) fn newest(&self, key: &[u8], at: Version) -> Option<Entry<'_>> {
        let (position, is_same) = self.search(key);
        if !is_same {
            return None;
        }
        let key = self.key(position);
        let (_, found) = self.versions_around(key, at);
        Some(key.entry(self.version(found)?))
    }

    /// The key at a position, which must not be 0.
    #[inline]
    fn key(&self, position: u32) -> Key<'_> {
        debug_assert_ne!(position, 0);
        // SAFETY: every caller has read it where positions of keys are, with acquire (2 and 3 above),
        // or got it from `Key::write`.
        unsafe { Key::at(&self.nodes, position) }
    }

    /// The version at a position, if that isn't 0.
    #[inline]
    fn version(&self, position: u32) -> Option<KeyVersion<'_>> {
        // SAFETY: every caller has read it where positions of versions are, with acquire (2 and 3
        // above).
        (position != 0).then(|| unsafe { KeyVersion::at(&self.nodes, position) })
    }

    /// The index node at a position, which must not be 0.
    #[inline]
    fn index_node(&self, position: u32) -> &IndexNode {
        debug_assert_ne!(position, 0);
        // SAFETY: every caller has read it where positions of index nodes are, with acquire (2 and 3
        // above), or got it from `IndexNode::write`.
        unsafe { IndexNode::at(&self.index, position) }
    }

    /// [`Memtable::descend`], beginning the index if there is none.
    fn descend_to_insert(&self, key: &[u8]) -> Led<'_> {
        loop {
            if let Some(led) = self.descend(key, true, |_| ()) {
                return led;
            }
            self.begin(key);
        }
    }

    /// Makes the reference and the root.
    #[cold]
    fn begin(&self, key: &[u8]) {
        let entry = Entry {
            key,
            version: Version::default(),
            kind: EntryKind::Delete,
            value: &[],
        };
        let _guard = self.splitting.0.lock();
        if self.root.load(Memory::Acquire) == 0 {
            let (reference, _) = Key::write(&self.nodes, None, entry);
            self.reference.store(reference, Memory::Release);
            let root = IndexNode::write(&self.index, 0, 0, &[]);
            self.root.store(root.into(), Memory::Release);
        }
    }

    /// Puts a key in, with its first version (which may be ready, at a position), or adds the version if
    /// another thread has put it in by now. The caller counts it.
    fn add_key<'a>(&'a self, entry: Entry<'_>, ready: Option<u32>, near: Near<'a>) -> Added<'a> {
        let mut gap = self.walk(near.place, entry.key, near.past);
        let to_the_same = |gap: Gap<'a>| Added {
            position: gap.link.position(),
            leaf: near.leaf,
            is_new: self.add_version(self.key(gap.link.position()), entry),
        };
        if gap.is_same {
            return to_the_same(gap);
        }
        // Before the key is written: the next one is far away, and copying fills the time.
        let mut onward = self.onward(entry.key, &gap);
        let position = ready.unwrap_or_else(|| self.make_ready(None, entry));
        let key = self.key(position);
        loop {
            key.link().store(onward.0, Memory::Relaxed);
            let link = Link::new(gap.before.hint, position);
            // Release: the key is written before anyone sees it, its link included.
            let swapped = gap.before.link.compare_exchange(
                gap.link.0,
                link.0,
                Memory::Release,
                Memory::Relaxed,
            );
            if swapped.is_ok() {
                break;
            }
            gap = self.walk(gap.before, entry.key, 0);
            if gap.is_same {
                // Another thread was first: its copy is in, ours lies unused.
                return to_the_same(gap);
            }
            onward = self.onward(entry.key, &gap);
        }
        let leaf = match near.leaf.add(Link::new(near.leaf_hint, position)) {
            true => None,
            false => self.split_for(entry.key, position),
        };
        Added {
            position,
            leaf: leaf.unwrap_or(near.leaf),
            is_new: true,
        }
    }

    /// The link from the target to the first key after its gap.
    #[inline]
    fn onward(&self, target: &[u8], gap: &Gap<'_>) -> Link {
        let (hint, link) = (gap.before.hint, gap.link);
        if link.position() == 0 || hint::carries_over(hint, link.hint()) {
            return link;
        }
        let key = self.key(link.position()).bytes();
        let bit = if hint == link.hint() {
            hint::difference(target, key, hint::bit(hint) as usize / 8)
        } else {
            hint::difference_of(hint, link.hint())
        };
        Link::new(hint::hint(bit, key), link.position())
    }

    /// Adds a version to a key, unless it has it; says whether it did. The caller counts it.
    fn add_version(&self, key: Key<'_>, entry: Entry<'_>) -> bool {
        let mut written = None;
        loop {
            let (newer, older) = self.versions_around(key, entry.version);
            let older = self.version(older);
            if older.is_some_and(|older| older.record.version() == entry.version) {
                return false;
            }
            let own = *written.get_or_insert_with(|| KeyVersion::write(&self.nodes, entry));
            own.put_before(&self.nodes, older);
            let link = newer.map_or(key.newest(), |newer| &newer.record.older);
            // Release: the version is written before anyone sees it.
            let swapped = link.compare_exchange(
                older.map_or(0, |older| older.position),
                own.position,
                Memory::Release,
                Memory::Relaxed,
            );
            if swapped.is_ok() {
                return true;
            }
        }
    }

    /// Of a key's versions the last that is newer than `version`, and the position of the next one
    /// after that, which isn't; 0 if there is none. O(log n) if they came in order.
    fn versions_around<'a>(
        &'a self,
        key: Key<'a>,
        version: Version,
    ) -> (Option<KeyVersion<'a>>, u32) {
        let mut newer = None;
        let mut position = key.newest().load(Memory::Acquire);
        while let Some(mut next) = self.version(position)
            && next.record.version() > version
        {
            let jump = next.jump(&self.nodes);
            if jump.record.version() > version {
                next = jump;
            }
            newer = Some(next);
            position = next.record.older.load(Memory::Acquire);
        }
        (newer, position)
    }

    /// The position of the oldest version of a key.
    fn oldest(&self, key: Key<'_>) -> u32 {
        match self.versions_around(key, Version::default()) {
            (Some(newer), 0) => newer.position,
            (_, oldest) => oldest,
        }
    }
}

#[cfg(test)]
mod tests;

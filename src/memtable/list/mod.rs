//! The ordered list under the memtable: a linked list of keys in an arena, each with the list of its
//! versions, and a tree over the keys that leads searches to the right stretch. This module is the only
//! one in Kintsu that may hold `unsafe`.
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
//!    keys are in links, slots of the lowest index level, anchors and the reference; those of index
//!    nodes in the root, `first` and the slots of higher levels; those of versions in `newest`,
//!    `older` and jumps. They never leave this module but inside a [`Walker`], which holds the list.
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
mod index;
mod node;

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering as Memory};

use parking_lot::Mutex;

use self::arena::Arena;
use self::index::IndexNode;
use self::node::{Key, KeyVersion, Link};
use super::hint;
use crate::types::{Entry, EntryKind, Version};

/// The head or a key before the target, and the target's hint as seen from there. The head sees with
/// the eyes of the reference.
#[derive(Clone, Copy)]
struct Place<'a> {
    link: &'a AtomicU64,
    /// The key's position; 0 for the head.
    position: u32,
    hint: u32,
}

/// How the index led a search.
enum Led<'a> {
    /// To the target itself, at this position.
    To(u32),
    Near(Near<'a>),
}

/// A place before the target, to which the index led.
#[derive(Clone, Copy)]
struct Near<'a> {
    place: Place<'a>,
    /// The position of a key known not to be before the target; 0 if none is known.
    past: u32,
    /// The node of the lowest level, and the target's hint as seen from its anchor.
    leaf: &'a IndexNode,
    leaf_hint: u32,
}

/// Where a search goes on from an index node.
enum Next {
    /// The target is here.
    To(u32),
    /// Down to what a slot names, which sees the target under a hint; or to what the anchor names.
    Down(Option<(u32, u32)>),
}

/// A node of the index on the way to a target.
#[derive(Clone, Copy)]
struct Step<'a> {
    position: u32,
    node: &'a IndexNode,
}

/// The last key before a target, and its link.
struct Gap<'a> {
    before: Place<'a>,
    link: Link,
    /// Whether the link leads to the target itself.
    is_same: bool,
}

/// The last key that [`Memtable::insert_sorted`] put in, so that the next is found from there.
#[derive(Clone, Copy)]
struct Finger<'a, 'e> {
    key: &'e [u8],
    place: Place<'a>,
    leaf: &'a IndexNode,
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
        match self.descend_to_insert(entry.key) {
            Led::To(position) => self.add_version(self.key(position), entry),
            Led::Near(near) => {
                self.add_key(entry, near);
            }
        }
    }

    /// [`Memtable::insert_sorted`].
    pub(super) fn add_sorted<'e>(&self, entries: impl Iterator<Item = Entry<'e>>) {
        // Versions of one key come newest first, but go in the other way round, so that their list
        // grows at the end where it should.
        let mut run: Vec<Entry<'e>> = Vec::new();
        let mut finger = None;
        for entry in entries {
            if let Some(last) = run.last() {
                match (last.key == entry.key).then(|| last.version.cmp(&entry.version)) {
                    Some(Ordering::Equal) => continue,
                    Some(Ordering::Greater) => {}
                    Some(Ordering::Less) | None => {
                        finger = self.add_run(&run, finger);
                        run.clear();
                    }
                }
            }
            run.push(entry);
        }
        self.add_run(&run, finger);
    }

    /// Adds versions of one key, given newest first.
    fn add_run<'a, 'e>(
        &'a self,
        run: &[Entry<'e>],
        finger: Option<Finger<'a, 'e>>,
    ) -> Option<Finger<'a, 'e>> {
        let (&oldest, newer) = run.split_last()?;
        let key = oldest.key;
        let led = match finger.and_then(|finger| self.near(finger, key)) {
            Some(near) => Led::Near(near),
            None => self.descend_to_insert(key),
        };
        let (position, leaf) = match led {
            Led::To(position) => {
                self.add_version(self.key(position), oldest);
                (position, None)
            }
            Led::Near(near) => {
                let (position, leaf) = self.add_key(oldest, near);
                (position, Some(leaf))
            }
        };
        for &entry in newer.iter().rev() {
            self.add_version(self.key(position), entry);
        }
        leaf.map(|leaf| Finger {
            key,
            place: self.place(position, 0),
            leaf,
        })
    }

    /// Leads to a key that comes right after that of the finger, if it does.
    fn near<'a>(&'a self, finger: Finger<'a, '_>, key: &[u8]) -> Option<Near<'a>> {
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

    /// A walker that is nowhere yet.
    pub(super) fn walker(self: &Arc<Self>) -> Walker {
        Walker {
            table: Arc::clone(self),
            key: 0,
            version: 0,
        }
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

    /// The place of a key that comes before the target, or of the head.
    #[inline]
    fn place(&self, position: u32, hint: u32) -> Place<'_> {
        let link = match position {
            0 => &self.head,
            _ => self.key(position).link(),
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
        hint::hint(hint::difference(self.key(eyes).bytes(), key, 0), key)
    }

    /// Walks along the list to the last key before the target.
    #[inline]
    fn walk<'a>(&'a self, mut place: Place<'a>, target: &[u8], past: u32) -> Gap<'a> {
        loop {
            let link = Link(place.link.load(Memory::Acquire));
            let position = link.position();
            let mut gap = Gap {
                before: place,
                link,
                is_same: false,
            };
            if place.hint < link.hint() || position == 0 || position == past {
                return gap;
            }
            let key = self.key(position);
            let hint = if place.hint > link.hint() {
                hint::beyond(link.hint(), place.hint, target)
            } else {
                match compare(target, key, place.hint) {
                    Ok(hint) => hint,
                    Err(is_same) => {
                        gap.is_same = is_same;
                        return gap;
                    }
                }
            };
            place = Place {
                link: key.link(),
                position,
                hint,
            };
        }
    }

    /// The position of the first key at or after the target, 0 if there is none; and whether it is the
    /// target.
    fn search(&self, target: &[u8]) -> (u32, bool) {
        match self.descend(target, true, |_| ()) {
            None => (0, false),
            Some(Led::To(position)) => (position, true),
            Some(Led::Near(near)) => {
                let gap = self.walk(near.place, target, near.past);
                (gap.link.position(), gap.is_same)
            }
        }
    }

    /// The position of the last key before the target; 0 if there is none.
    fn search_before(&self, target: &[u8]) -> u32 {
        match self.descend(target, false, |_| ()) {
            Some(Led::Near(near)) => {
                let gap = self.walk(near.place, target, near.past);
                gap.before.position
            }
            Some(Led::To(_)) | None => 0,
        }
    }

    /// Goes down the index to a place before the target, or if that will do to the target itself, and
    /// shows each node on the way; `None` if there is no index yet.
    #[inline]
    fn descend<'a>(
        &'a self,
        target: &[u8],
        itself_will_do: bool,
        mut visit: impl FnMut(Step<'a>),
    ) -> Option<Led<'a>> {
        let root = self.root.load(Memory::Acquire);
        if root == 0 {
            return None;
        }
        let (mut level, mut position) = (root >> 32, root as u32);
        let mut node = self.index_node(position);
        let mut hint = self.seen_from(node, target);
        let mut past = 0;
        loop {
            visit(Step { position, node });
            let next = match node.nearest(hint) {
                Some(link) if link.hint() == hint || node.has_equal() => {
                    let known = (node, level, hint);
                    match self.next_by_keys(known, target, itself_will_do, &mut past) {
                        Next::To(position) => return Some(Led::To(position)),
                        Next::Down(next) => next,
                    }
                }
                Some(link) => Some((link.position(), hint::beyond(link.hint(), hint, target))),
                None => None,
            };
            if level == 0 {
                let (before, place_hint) = next.unwrap_or((node.anchor, hint));
                return Some(Led::Near(Near {
                    place: self.place(before, place_hint),
                    past,
                    leaf: node,
                    leaf_hint: hint,
                }));
            }
            (position, hint) = next.unwrap_or((node.first, hint));
            level -= 1;
            node = self.index_node(position);
        }
    }

    /// Where to go on from a node where hints don't decide, since slots share one or have the target's
    /// own.
    #[inline(never)]
    fn next_by_keys(
        &self,
        (node, level, hint): (&IndexNode, u64, u32),
        target: &[u8],
        itself_will_do: bool,
        past: &mut u32,
    ) -> Next {
        // The last slot before the target of those that see it under another hint, and of the others.
        let mut below: Option<Link> = None;
        let mut tied: Option<(Link, u32)> = None;
        let is_after = |link, last| self.order(last, link, level) == Ordering::Less;
        for &link in node.words().as_slice() {
            if link.hint() < hint && below.is_none_or(|last| is_after(link, last)) {
                below = Some(link);
            }
            if link.hint() != hint {
                continue;
            }
            let position = self.key_of(link, level);
            match compare(target, self.key(position), hint) {
                Ok(hint) => {
                    if tied.is_none_or(|(last, _)| is_after(link, last)) {
                        tied = Some((link, hint));
                    }
                }
                Err(true) if itself_will_do => return Next::To(position),
                Err(_) => *past = position,
            }
        }
        let next = match (tied, below) {
            (Some((link, hint)), _) => Some((link.position(), hint)),
            (None, Some(link)) => {
                let hint = hint::beyond(link.hint(), hint, target);
                Some((link.position(), hint))
            }
            (None, None) => None,
        };
        Next::Down(next)
    }

    /// The position of the key by which a slot of an index node is ordered.
    fn key_of(&self, link: Link, level: u64) -> u32 {
        match level {
            0 => link.position(),
            _ => self.index_node(link.position()).anchor,
        }
    }

    /// The order of two slots of one index node.
    fn order(&self, a: Link, b: Link, level: u64) -> Ordering {
        a.hint().cmp(&b.hint()).then_with(|| {
            let [a, b] = [a, b].map(|link| self.key(self.key_of(link, level)));
            a.bytes().cmp(b.bytes())
        })
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
            let (reference, _) = Key::write(&self.nodes, entry);
            self.reference.store(reference, Memory::Release);
            let root = IndexNode::write(&self.index, 0, 0, &[]);
            self.root.store(root.into(), Memory::Release);
        }
    }

    /// Puts a key in, with its first version, or adds the version if another thread has put it in by
    /// now. Returns the key's position, and the index node that names it, or should.
    fn add_key<'a>(&'a self, entry: Entry<'_>, near: Near<'a>) -> (u32, &'a IndexNode) {
        let mut gap = self.walk(near.place, entry.key, near.past);
        if gap.is_same {
            self.add_version(self.key(gap.link.position()), entry);
            return (gap.link.position(), near.leaf);
        }
        // Before the key is written: the next one is far away, and copying fills the time.
        let mut onward = self.onward(entry.key, &gap);
        let (position, key) = Key::write(&self.nodes, entry);
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
                self.add_version(self.key(gap.link.position()), entry);
                return (gap.link.position(), near.leaf);
            }
            onward = self.onward(entry.key, &gap);
        }
        self.entries.0.fetch_add(1, Memory::Relaxed);
        let leaf = match near.leaf.add(Link::new(near.leaf_hint, position)) {
            true => None,
            false => self.split_for(entry.key, position),
        };
        (position, leaf.unwrap_or(near.leaf))
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

    /// Adds a version to a key, unless it has it.
    fn add_version(&self, key: Key<'_>, entry: Entry<'_>) {
        let mut written = None;
        loop {
            let (newer, older) = self.versions_around(key, entry.version);
            let older = self.version(older);
            if older.is_some_and(|older| older.record.version() == entry.version) {
                return;
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
                self.entries.0.fetch_add(1, Memory::Relaxed);
                return;
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

    /// Splits what is full on the way to a key, and names it; `None` if another thread is splitting.
    #[cold]
    fn split_for(&self, key: &[u8], position: u32) -> Option<&IndexNode> {
        let _guard = self.splitting.0.try_lock()?;
        loop {
            let mut path = Path {
                steps: [None; LEVELS_MAX],
                count: 0,
            };
            let Led::Near(near) = self.descend(key, false, |step| path.push(step))? else {
                return None;
            };
            if near.leaf.add(Link::new(near.leaf_hint, position)) {
                return Some(near.leaf);
            }
            if let Some(leaf) = self.split(&path, key, position) {
                return Some(leaf);
            }
        }
    }

    /// Splits the topmost node of a path that has to be, so that those below it can be. Returns the new
    /// node if it is the one for the key.
    fn split(&self, path: &Path<'_>, key: &[u8], position: u32) -> Option<&IndexNode> {
        let (level, old, parent) = path.first_to_split()?;
        let mut words = old.node.words();
        let words = words.as_mut_slice();
        words.sort_unstable_by(|&a, &b| self.order(a, b, level));
        let last = words.last().map(|&link| self.key(self.key_of(link, level)));
        let is_after_all = last.is_some_and(|last| last.bytes() < key);
        let (kept, new) = if level == 0 && is_after_all {
            // Keys that rise leave full nodes behind them, not half empty ones.
            (words.len(), IndexNode::write(&self.index, position, 0, &[]))
        } else {
            let middle = words.len() / 2;
            (middle, self.split_off(&words[middle..], level))
        };
        let new_node = self.index_node(new);
        let new_key = self.key(new_node.anchor).bytes();
        if let Some(parent) = parent {
            let added = parent.add(Link::new(self.seen_from(parent, new_key), new));
            debug_assert!(added);
        } else {
            let link = Link::new(self.seen_from(old.node, new_key), new);
            let root = IndexNode::write(&self.index, 0, old.position, &[link]);
            let root = (level + 1) << 32 | u64::from(root);
            self.root.store(root, Memory::Release);
        }
        // Only now: until the new node could be found, its keys had to be found here.
        if kept < words.len() {
            old.node.keep(&words[..kept]);
        }
        (new_node.anchor == position).then_some(new_node)
    }

    /// A new node with what the words name, which are in order, anchored at the first.
    fn split_off(&self, words: &[Link], level: u64) -> u32 {
        let (own, others) = (words[0], &words[1..]);
        let anchor = self.key_of(own, level);
        let first = if level == 0 { 0 } else { own.position() };
        let mut seen = [Link::END; index::SLOTS];
        for (seen, &link) in seen.iter_mut().zip(others) {
            *seen = if hint::carries_over(own.hint(), link.hint()) {
                link
            } else {
                let key = self.key(self.key_of(link, level)).bytes();
                let bit = hint::difference(self.key(anchor).bytes(), key, 0);
                Link::new(hint::hint(bit, key), link.position())
            };
        }
        IndexNode::write(&self.index, anchor, first, &seen[..others.len()])
    }

    /// The position of the last key; 0 if there is none.
    fn last_key(&self) -> u32 {
        let root = self.root.load(Memory::Acquire);
        if root == 0 {
            return 0;
        }
        let mut node = self.index_node(root as u32);
        let mut level = root >> 32;
        loop {
            let words = node.words();
            let words = words.as_slice().iter().copied();
            let last = words.max_by(|&a, &b| self.order(a, b, level));
            if level == 0 {
                break self.last_key_from(last.map_or(node.anchor, Link::position));
            }
            node = self.index_node(last.map_or(node.first, Link::position));
            level -= 1;
        }
    }

    /// [`Memtable::last_key`], going along the list.
    fn last_key_from(&self, position: u32) -> u32 {
        let mut place = self.place(position, 0);
        loop {
            let link = Link(place.link.load(Memory::Acquire));
            if link.position() == 0 {
                return place.position;
            }
            place = self.place(link.position(), 0);
        }
    }
}

/// Compares the target with a key that some reference sees under the same hint: the target's hint as
/// seen from that key if it comes after it, else whether it is that key.
#[inline]
fn compare(target: &[u8], key: Key<'_>, hint: u32) -> Result<u32, bool> {
    let key = key.bytes();
    let bit = hint::difference(target, key, hint::bit(hint) as usize / 8);
    let order = if bit < hint::SAME {
        hint::order_at(bit, target)
    } else {
        target.cmp(key)
    };
    match order {
        Ordering::Greater => Ok(hint::hint(bit, target)),
        order => Err(order == Ordering::Equal),
    }
}

/// The nodes of the index on the way down to a target, from the root.
struct Path<'a> {
    steps: [Option<Step<'a>>; LEVELS_MAX],
    count: usize,
}

impl<'a> Path<'a> {
    fn push(&mut self, step: Step<'a>) {
        self.steps[self.count] = Some(step);
        self.count += 1;
    }

    /// The topmost node below which all are full, itself included: its level, itself, and its parent,
    /// which has room, if there is one.
    fn first_to_split(&self) -> Option<(u64, Step<'a>, Option<&'a IndexNode>)> {
        let mut level = 0;
        let mut steps = self.steps[..self.count].iter().rev().flatten();
        let mut step = *steps.next()?;
        for parent in steps {
            if !parent.node.is_full() {
                return Some((level, step, Some(parent.node)));
            }
            step = *parent;
            level += 1;
        }
        Some((level, step, None))
    }
}

/// A position in a table that it keeps alive.
#[derive(Clone)]
pub struct Walker {
    table: Arc<Memtable>,
    /// The positions of a key and of one of its versions; 0 if nowhere. They were read from the table,
    /// with acquire, by the thread that moved the walker here; whoever has it now got it from there.
    key: u32,
    version: u32,
}

impl Walker {
    /// The entry here.
    pub fn entry(&self) -> Option<Entry<'_>> {
        let version = self.table.version(self.version)?;
        Some(self.table.key(self.key).entry(version))
    }

    /// Goes to the newest version of the key at a position; nowhere if that is 0.
    fn go_to_newest(&mut self, key: u32) {
        self.key = key;
        self.version = match key {
            0 => 0,
            key => self.table.key(key).newest().load(Memory::Acquire),
        };
    }

    /// Goes to the oldest version of the key at a position; nowhere if that is 0.
    fn go_to_oldest(&mut self, key: u32) {
        self.key = key;
        self.version = match key {
            0 => 0,
            key => self.table.oldest(self.table.key(key)),
        };
    }

    /// Goes to the newest version of the next key.
    fn next_key(&mut self) {
        let link = self.table.key(self.key).link().load(Memory::Acquire);
        self.go_to_newest(Link(link).position());
    }

    /// Goes to the first entry. O(1).
    pub fn first(&mut self) {
        let link = Link(self.table.head.load(Memory::Acquire));
        self.go_to_newest(link.position());
    }

    /// Goes to the last entry. O(log n).
    pub fn last(&mut self) {
        self.go_to_oldest(self.table.last_key());
    }

    /// Goes to the first entry at or after (key, version). O(log n).
    pub fn seek(&mut self, key: &[u8], version: Version) {
        let (position, is_same) = self.table.search(key);
        self.go_to_newest(position);
        if is_same {
            let key = self.table.key(position);
            let (_, found) = self.table.versions_around(key, version);
            self.version = found;
            if found == 0 {
                self.next_key();
            }
        }
    }

    /// Goes to the last entry whose key is before `key`. O(log n).
    pub fn seek_before(&mut self, key: &[u8]) {
        self.go_to_oldest(self.table.search_before(key));
    }

    /// Goes to the next entry. O(1).
    pub fn next(&mut self) {
        if let Some(version) = self.table.version(self.version) {
            self.version = version.record.older.load(Memory::Acquire);
            if self.version == 0 {
                self.next_key();
            }
        }
    }

    /// Goes to the entry before. O(log n): links lead forward only.
    pub fn prev(&mut self) {
        let Some(version) = self.table.version(self.version) else {
            return;
        };
        let key = self.table.key(self.key);
        let (newer, _) = self.table.versions_around(key, version.record.version());
        match newer {
            Some(newer) => self.version = newer.position,
            None => self.go_to_oldest(self.table.search_before(key.bytes())),
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

//! How the index grows: full nodes are split, one thread at a time.

use std::sync::atomic::Ordering as Memory;

use super::index::{self, IndexNode};
use super::node::Link;
use super::search::Led;
use super::{Memtable, hint};

/// Levels of the index. Its nodes are at least half full but for the last of each level, so this is
/// more than 32-bit positions can fill.
const LEVELS_MAX: usize = 16;

/// A node of the index on the way to a target.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    pub position: u32,
    pub node: &'a IndexNode,
}

impl Memtable {
    /// Splits what is full on the way to a key, and names it; `None` if another thread is splitting.
    #[cold]
    pub(super) fn split_for(&self, key: &[u8], position: u32) -> Option<&IndexNode> {
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
    pub(super) fn split(&self, path: &Path<'_>, key: &[u8], position: u32) -> Option<&IndexNode> {
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
    pub(super) fn split_off(&self, words: &[Link], level: u64) -> u32 {
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
}

/// The nodes of the index on the way down to a target, from the root.
pub struct Path<'a> {
    pub steps: [Option<Step<'a>>; LEVELS_MAX],
    pub count: usize,
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

//! Searches: down the index to a place shortly before the target, and from there along the list.

use std::cmp::Ordering;
use std::sync::atomic::{AtomicU64, Ordering as Memory};

use super::index::IndexNode;
use super::node::{Key, Link};
use super::split::Step;
use super::{Memtable, hint};

/// The head or a key before the target, and the target's hint as seen from there. The head sees with
/// the eyes of the reference.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub link: &'a AtomicU64,
    /// The key's position; 0 for the head.
    pub position: u32,
    pub hint: u32,
}

/// How the index led a search.
pub enum Led<'a> {
    /// To the target itself, at this position.
    To(u32),
    Near(Near<'a>),
}

/// A place before the target, to which the index led.
#[derive(Clone, Copy)]
pub struct Near<'a> {
    pub place: Place<'a>,
    /// The position of a key known not to be before the target; 0 if none is known.
    pub past: u32,
    /// The node of the lowest level, and the target's hint as seen from its anchor.
    pub leaf: &'a IndexNode,
    pub leaf_hint: u32,
}

/// Where a search goes on from an index node.
pub enum Next {
    /// The target is here.
    To(u32),
    /// Down to what a slot names, which sees the target under a hint; or to what the anchor names.
    Down(Option<(u32, u32)>),
}

/// The last key before a target, and its link.
pub struct Gap<'a> {
    pub before: Place<'a>,
    pub link: Link,
    /// Whether the link leads to the target itself.
    pub is_same: bool,
}

impl Memtable {
    /// The place of a key that comes before the target, or of the head.
    #[inline]
    pub(super) fn place(&self, position: u32, hint: u32) -> Place<'_> {
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
    pub(super) fn seen_from(&self, node: &IndexNode, key: &[u8]) -> u32 {
        let eyes = match node.anchor {
            0 => self.reference.load(Memory::Acquire),
            anchor => anchor,
        };
        hint::hint(hint::difference(self.key(eyes).bytes(), key, 0), key)
    }

    /// Walks along the list to the last key before the target.
    #[inline]
    pub(super) fn walk<'a>(&'a self, mut place: Place<'a>, target: &[u8], past: u32) -> Gap<'a> {
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
    pub(super) fn search(&self, target: &[u8]) -> (u32, bool) {
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
    pub(super) fn search_before(&self, target: &[u8]) -> u32 {
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
    pub(super) fn descend<'a>(
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
    pub(super) fn next_by_keys(
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
    pub(super) fn key_of(&self, link: Link, level: u64) -> u32 {
        match level {
            0 => link.position(),
            _ => self.index_node(link.position()).anchor,
        }
    }

    /// The order of two slots of one index node.
    pub(super) fn order(&self, a: Link, b: Link, level: u64) -> Ordering {
        a.hint().cmp(&b.hint()).then_with(|| {
            let [a, b] = [a, b].map(|link| self.key(self.key_of(link, level)));
            a.bytes().cmp(b.bytes())
        })
    }

    /// The position of the last key; 0 if there is none.
    pub(super) fn last_key(&self) -> u32 {
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
    pub(super) fn last_key_from(&self, position: u32) -> u32 {
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

//! A place in a block: steps from entry to entry, and puts their keys together on the way.

use std::cmp::Ordering;
use std::ops::Range;

use super::block::{Block, Decoded, Malformed, Place, RawEntry};
use crate::types::{Entry, EntryKind, Version, order};

/// The most bytes of keys in one group of a block. Groups are of 16 entries, so far less is written.
const GROUP_KEY_BYTES_MAX: usize = 64 << 20;

/// A place in a block, with the whole key of the entry there. Its memory is used again for the next
/// block.
#[derive(Debug, Default)]
pub struct BlockCursor {
    key: Vec<u8>,
    at: Place,
    next: Place,
    version: Version,
    kind: Option<EntryKind>,
    /// Entries before this one in its group, decoded on the way to it; the nearest last.
    before: Vec<Before>,
    before_keys: Vec<u8>,
}

#[derive(Debug)]
struct Before {
    at: Place,
    key_start: usize,
    entry: RawEntry,
}

impl BlockCursor {
    /// The entry here, if the cursor stands at one.
    #[inline]
    pub fn entry<'a>(&'a self, block: &'a Block) -> Option<Entry<'a>> {
        Some(Entry {
            key: &self.key,
            version: self.version,
            kind: self.kind?,
            value: block.slice(self.value_range()),
        })
    }

    /// Where the value of the entry here stands.
    #[inline]
    pub fn value_range(&self) -> Range<usize> {
        self.at.value..self.next.value
    }

    /// Stands nowhere, before the block's first entry.
    pub fn reset(&mut self, block: &Block) {
        self.start_at(block.first());
    }

    fn start_at(&mut self, at: Place) {
        self.key.clear();
        self.before.clear();
        self.before_keys.clear();
        self.kind = None;
        self.at = at;
        self.next = at;
    }

    /// Goes to the next entry; false at the end of the block.
    #[inline]
    pub fn next(&mut self, block: &Block) -> Decoded<bool> {
        if !block.has(self.next) {
            self.kind = None;
            return Ok(false);
        }
        if !self.before.is_empty() {
            self.before.clear();
            self.before_keys.clear();
        }
        let entry = block.decode(self.next)?;
        if entry.shared > self.key.len() {
            return Err(Malformed);
        }
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(block.suffix(&entry));
        self.at = self.next;
        self.take(&entry);
        Ok(true)
    }

    #[inline]
    fn take(&mut self, entry: &RawEntry) {
        self.next = entry.next;
        self.version = entry.version;
        self.kind = Some(entry.kind);
    }

    /// Goes to the first entry at or after (`key`, `version`); false if there is none in the block.
    pub fn seek(&mut self, block: &Block, key: &[u8], version: Version) -> Decoded<bool> {
        self.start_at(block.group_before(key, version)?);
        while self.next(block)? {
            if order(&self.key, self.version, key, version) != Ordering::Less {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes to the last entry.
    pub fn seek_to_last(&mut self, block: &Block) -> Decoded<bool> {
        self.start_at(block.end());
        self.prev(block)
    }

    /// Goes to the entry before; false at the front of the block. One decoding an entry, a group of
    /// them at a time.
    pub fn prev(&mut self, block: &Block) -> Decoded<bool> {
        if self.before.is_empty() {
            if self.at.record <= block.first().record {
                self.kind = None;
                return Ok(false);
            }
            self.fill_before(block)?;
        }
        let Some(before) = self.before.pop() else {
            return Err(Malformed);
        };
        let key = self.before_keys.get(before.key_start..).unwrap_or_default();
        self.key.clear();
        self.key.extend_from_slice(key);
        self.before_keys.truncate(before.key_start);
        self.at = before.at;
        self.take(&before.entry);
        Ok(true)
    }

    /// Decodes the group's entries before this one.
    fn fill_before(&mut self, block: &Block) -> Decoded<()> {
        let (mut below, mut not_below) = (0, block.restarts());
        let mut place = block.first();
        while below < not_below {
            let middle = below.midpoint(not_below);
            let at = block.restart(middle)?;
            if at.record < self.at.record {
                below = middle + 1;
                place = at;
            } else {
                not_below = middle;
            }
        }
        self.before_keys.clear();
        let mut last_key = 0..0;
        while place.record < self.at.record {
            let entry = block.decode(place)?;
            if entry.shared > last_key.len() {
                return Err(Malformed);
            }
            let key_start = self.before_keys.len();
            let shared = last_key.start..last_key.start + entry.shared;
            self.before_keys.extend_from_within(shared);
            self.before_keys.extend_from_slice(block.suffix(&entry));
            last_key = key_start..self.before_keys.len();
            if last_key.end > GROUP_KEY_BYTES_MAX {
                return Err(Malformed);
            }
            self.before.push(Before {
                at: place,
                key_start,
                entry,
            });
            place = entry.next;
        }
        if place == self.at {
            return Ok(());
        }
        self.before.clear();
        Err(Malformed)
    }
}

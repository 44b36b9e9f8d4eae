//! Walks through a table that stays alive meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering as Memory;

use super::Memtable;
use super::node::Link;
use crate::types::{Entry, Version};

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

impl Memtable {
    /// A walker that is nowhere yet.
    pub fn walker(self: &Arc<Self>) -> Walker {
        Walker {
            table: Arc::clone(self),
            key: 0,
            version: 0,
        }
    }
}

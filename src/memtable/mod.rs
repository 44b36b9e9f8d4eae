//! The ordered in-memory table: what was written since the last flush.
//!
//! A skip list in an arena ([`list`], the one module with `unsafe`), whose links carry a hint of
//! the key they lead to ([`hint`]). Entries are only ever added, in any order, from any thread; the
//! memory goes all at once, when the last holder of the table, of a cursor or of a shared value does.

mod cursor;
mod hint;
#[allow(
    unsafe_code,
    reason = "memory that many threads share; the argument stands at its top"
)]
mod list;
mod ranges;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

pub use self::cursor::MemtableCursor;
pub use self::list::{Bulk, Memtable};
use crate::types::{Entry, Found, Version};

/// Values from this length on are shared with the table rather than copied out of it, which keeps the
/// whole table in memory for as long as the value is held.
const SHARED_VALUE_BYTES_MIN: usize = 4096;

impl Memtable {
    /// Adds a copy of an entry. Without effect if one with its key and version is there already, so
    /// replay may repeat itself. O(log n); O(1) if it sorts after all others.
    pub fn insert(&self, entry: Entry<'_>) {
        self.add(entry);
    }

    /// The newest version of `key` that is no newer than `at`, whatever it says. O(log n).
    #[allow(dead_code, reason = "the lookup itself, for tests and benches")]
    #[must_use]
    pub fn get(&self, key: &[u8], at: Version) -> Option<Entry<'_>> {
        self.newest(key, at)
    }

    /// [`Memtable::get`] with a value that may outlive the borrow: copied if it is short, else shared.
    #[must_use]
    pub fn find(self: &Arc<Self>, key: &[u8], at: Version) -> Option<Found> {
        let entry = self.newest(key, at)?;
        Some(Found {
            version: entry.version,
            kind: entry.kind,
            value: share(entry.value, || {
                let mut walker = self.walker();
                walker.seek(key, entry.version);
                walker
            }),
        })
    }

    /// Whether nothing was inserted yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries() == 0 && self.range_count() == 0
    }

    /// A cursor over all entries, those inserted meanwhile included.
    #[must_use]
    pub fn cursor(self: &Arc<Self>) -> MemtableCursor {
        MemtableCursor::new(self.walker())
    }
}

impl Default for Memtable {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Memtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memtable")
            .field("entries", &self.entries())
            .field("bytes", &self.bytes())
            .finish()
    }
}

/// A value as bytes of their own: copied, or shared through an owner if it is long.
fn share(value: &[u8], owner: impl FnOnce() -> list::Walker) -> Bytes {
    if value.len() < SHARED_VALUE_BYTES_MIN {
        Bytes::copy_from_slice(value)
    } else {
        Bytes::from_owner(owner())
    }
}

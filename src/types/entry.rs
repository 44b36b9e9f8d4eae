//! One version of one key, as memtables and segments hold it.

use std::cmp::Ordering;

use bytes::Bytes;

use super::{EntryKind, Version};

/// One version of one key, borrowed from whatever holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The user's key.
    pub key: &'a [u8],
    /// Which write this is.
    pub version: Version,
    /// Whether it puts or deletes.
    pub kind: EntryKind,
    /// The value; empty for a deletion.
    pub value: &'a [u8],
}

impl Entry<'_> {
    /// The order of every table: keys ascending, versions of one key newest first.
    #[must_use]
    pub fn order(&self, other: &Entry<'_>) -> Ordering {
        order(self.key, self.version, other.key, other.version)
    }
}

/// [`Entry::order`] for the parts.
#[must_use]
pub fn order(key: &[u8], version: Version, other_key: &[u8], other_version: Version) -> Ordering {
    key.cmp(other_key).then_with(|| other_version.cmp(&version))
}

/// What a point lookup found: the newest version that the reader may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which write this is.
    pub version: Version,
    /// Whether it puts or deletes.
    pub kind: EntryKind,
    /// The value; empty for a deletion. Shares its memory with the block it came from where it can.
    pub value: Bytes,
}

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
    /// What it says of the key.
    pub kind: EntryKind,
    /// The value or operand; empty for a deletion.
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

/// What stands before an expiring value, in bytes: when it expires, in microseconds since 1970 by the time
/// in the log's records (little-endian).
pub const EXPIRY_BYTES: usize = 8;

/// When an expiring entry's value expires.
#[must_use]
pub fn expires_us(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// What a point lookup found: the newest version that the reader may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which write this is.
    pub version: Version,
    /// What it says of the key.
    pub kind: EntryKind,
    /// The value or operand; empty for a deletion. Shares its memory with the block it came from where it can.
    pub value: Bytes,
}

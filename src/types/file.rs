//! What the manifest says of a segment and of a log file.

use super::{FileId, Index, LogNumber, Lsn, Parity, SegmentNumber, Version};

/// All that must be known of a segment before it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentMeta {
    /// Its number; the file is `{number:08}.segment`.
    pub number: SegmentNumber,
    /// Random id, also in the file itself.
    pub file_id: FileId,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Bytes of it that are no parity; those come first.
    pub content_bytes: u64,
    /// How much parity it has.
    pub parity: Parity,
    /// XXH3-128 of the whole file.
    pub digest: u128,
    /// Entries, deletions included.
    pub entries: u64,
    /// Deletions among them.
    pub deletes: u64,
    /// Range deletions, cut where the segment ends.
    pub range_deletes: u64,
    /// Smallest key that an entry has or a range deletion deletes.
    pub smallest_key: Vec<u8>,
    /// Largest key of an entry, or the end of a range deletion, which is not in it itself, if that is
    /// larger.
    pub largest_key: Vec<u8>,
    /// Whether a range deletion in it has no end; then there is no largest key.
    pub is_endless: bool,
    /// Lowest index of a version, be it an entry's or a range deletion's.
    pub smallest_index: Index,
    /// Highest index of a version.
    pub largest_index: Index,
    /// If not 0: the record that loaded it whole, whose index all its versions have, whatever the file
    /// says; it was written before that was known.
    pub loaded_at: Index,
}

impl SegmentMeta {
    /// The version of an entry that the file says has version `stored`.
    #[inline]
    #[must_use]
    pub fn version(&self, stored: Version) -> Version {
        match self.loaded_at {
            Index(0) => stored,
            index => Version { index, ..stored },
        }
    }

    /// Whether all that it says is of keys below `key`.
    #[must_use]
    pub fn is_before(&self, key: &[u8]) -> bool {
        !self.is_endless && self.largest_key.as_slice() < key
    }

    /// Whether it may say something of `key`.
    #[must_use]
    pub fn spans(&self, key: &[u8]) -> bool {
        self.smallest_key.as_slice() <= key && !self.is_before(key)
    }

    /// Whether there may be a key of which both say something.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        !self.is_before(&other.smallest_key) && !other.is_before(&self.smallest_key)
    }
}

/// All that must be known of a log file to read it when its own header is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFileMeta {
    /// Its number; the files are `{number:08}.log`, `.ids` and `.parity`.
    pub number: LogNumber,
    /// Random id, also in both files.
    pub file_id: FileId,
    /// Random salt, mixed into every header checksum in the file.
    pub salt: u64,
    /// The LSN of the file's byte 0.
    pub first_lsn: Lsn,
    /// Length of the file in bytes; the file owns the LSNs `first_lsn .. first_lsn + capacity`.
    pub capacity: u64,
    /// Lowest index a record in it can have; 0 if it was prepared before that was known.
    pub first_index: Index,
    /// The file whose records come before this one's; 0 if none. Files between are void.
    pub previous_number: LogNumber,
    /// Where the log ends in the previous file (exclusive): what lies beyond was discarded. 0 if the
    /// previous file ends with its own `End` record.
    pub previous_end_lsn: Lsn,
    /// How much parity is written for it, in `{number:08}.parity`.
    pub parity: Parity,
}

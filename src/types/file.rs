//! What the manifest says of a segment and of a log file.

use super::{FileId, Index, LogNumber, Lsn, SegmentNumber};

/// All that must be known of a segment before it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// Its number; the file is `{number:08}.segment`.
    pub number: SegmentNumber,
    /// Random id, also in the file itself.
    pub file_id: FileId,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// XXH3-128 of the whole file.
    pub digest: u128,
    /// Entries, deletions included.
    pub entries: u64,
    /// Deletions among them.
    pub deletes: u64,
    /// Smallest key.
    pub smallest_key: Vec<u8>,
    /// Largest key.
    pub largest_key: Vec<u8>,
    /// Lowest index of an entry's version.
    pub smallest_index: Index,
    /// Highest index of an entry's version.
    pub largest_index: Index,
}

/// All that must be known of a log file to read it when its own header is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFileMeta {
    /// Its number; the files are `{number:08}.log` and `{number:08}.ids`.
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
}

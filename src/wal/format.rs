//! The bytes of a log file: header unit and records. `docs/format-log.md` says the same in prose.
//!
//! Invariants:
//! - a record's bytes hold its own position, so whether a record begins at a place is one compare
//!   and one checksum;
//! - the header checksum is salted with the file's salt: what another file left on the disk never
//!   passes;
//! - the replicated part (all after the envelope) is the same bytes on every replica.

mod file_header;
mod record;

pub(crate) use file_header::{FileHeader, HeaderFault, HeaderKind, NUMBER_MAX, is_plausible};
pub(crate) use record::{
    Envelope, RECORD_HEADER_BYTES_MAX, RecordHeader, decode_header, encode_record, payload_matches,
    record_bytes,
};

use crate::types::UNIT;

/// The newest log format that this version reads, and the one that it writes.
pub(crate) const VERSION: u32 = 1;

/// [`UNIT`] as the disk counts.
pub(crate) const UNIT_BYTES: u64 = UNIT as u64;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// An encoded batch of writes; what is in it is its reader's business.
    Batch = 1,
    /// A change to the catalog of keyspaces.
    Catalog = 2,
    /// Nothing: a leader's first record of its term.
    Noop = 3,
    /// A change of a cluster's membership.
    Config = 4,
    /// The log ends after this record's index; what came above it is superseded. Local: written by
    /// [`super::Log::truncate_after`] only.
    Truncate = 5,
    /// The last record of a file. Local: written by the log itself only.
    End = 6,
    /// Segments that were written beforehand become part of the store; which ones is their reader's
    /// business.
    Load = 7,
}

impl RecordKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Batch,
        Self::Catalog,
        Self::Noop,
        Self::Config,
        Self::Truncate,
        Self::End,
        Self::Load,
    ];

    /// Reads the byte that stands for a kind.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Whether it belongs to this copy of the log only and is never replicated.
    #[must_use]
    pub fn is_local(self) -> bool {
        matches!(self, Self::Truncate | Self::End)
    }
}

/// The next multiple of [`UNIT`] at or above; saturates.
pub(crate) fn round_up(offset: u64) -> u64 {
    offset
        .checked_next_multiple_of(UNIT_BYTES)
        .unwrap_or(u64::MAX - (u64::MAX % UNIT_BYTES))
}

#[cfg(test)]
mod tests;

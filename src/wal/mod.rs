//! The write-ahead log: an ordered sequence of records, each with an index and a term.
//!
//! For those who need only a log, and what the store itself stands on. Records are appended in groups,
//! made durable by [`Log::sync_to`], read back from an index on, truncated after an index and purged
//! before one. After any crash what was durable is there, in order; a write that never became
//! durable is dropped, and damage to one that did is never taken for that: it is named, with file,
//! offset and positions, and the open is refused (see [`DamagePolicy`]).
//!
//! ```
//! # fn main() -> kintsu::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let folder = folder.path();
//! use kintsu::Durability;
//! use kintsu::wal::{Append, Index, Log, LogSetup, RecordKind};
//!
//! let (log, report) = Log::open(LogSetup::new(folder))?;
//! assert_eq!(report.torn_bytes, 0);
//! for (index, payload) in (1..).zip(["first", "second", "third"]) {
//!     let record = Append::new(RecordKind::Batch, Index(index), payload.as_bytes());
//!     let end = log.append(&[record], Durability::Disk)?;
//!     log.sync_to(end)?; // now it survives the loss of power
//! }
//!
//! let mut reader = log.read_from(Index(2))?;
//! while let Some(record) = reader.next()? {
//!     println!("{}: {:?}", record.index, record.payload);
//! }
//! log.truncate_after(Index(2))?;
//! assert_eq!(log.last_index(), Index(2));
//! log.close()?;
//! # Ok(())
//! # }
//! ```

mod create;
mod folder;
mod format;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod heal;
mod identifiers;
mod identify;
mod inspect;
mod judge;
mod log;
mod mending;
mod names;
mod options;
mod protect;
mod reader;
mod recovery;
mod scan;
mod source;
mod table;
mod term_vote;
mod timeline;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use self::folder::lost_files;
pub use self::format::RecordKind;
pub use self::inspect::{Inspected, InspectedUnit, inspect};
pub(crate) use self::log::MendedLog;
pub use self::log::{Log, LogTail};
pub use self::options::{
    DamagePolicy, FILE_BYTES_MAX, FILE_BYTES_MIN, GROUP_BYTES_MAX, LogAccess, LogOptions,
    LogRegistry, LogReport, LogSetup,
};
pub use self::reader::{LogReader, Record};
pub(crate) use self::term_vote::check_vote;
pub use self::term_vote::{TermVote, Vote};
pub use crate::types::{
    Durability, FileId, Index, LogFileMeta, LogNumber, Lsn, Parity, StoreId, StreamId, Term,
};

/// A record to be appended.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// Which replicated log it belongs to; 0 in a standalone store.
    pub stream: StreamId,
    /// What it is; not `Truncate` or `End`.
    pub kind: RecordKind,
    /// Its place in the logical log.
    pub index: Index,
    /// The term of the leader that appends it; 0 in a standalone store.
    pub term: Term,
    /// When it is appended, in microseconds since 1970; never decreasing.
    pub time_us: u64,
    /// Whose request it is; 0 if that doesn't matter.
    pub client: u64,
    /// Which of the client's requests.
    pub sequence: u64,
    /// What is appended.
    pub payload: &'a [u8],
    /// [`payload_hash`] of the payload, so that it can be computed before a lock is taken. If it is
    /// wrong, the record will read as damaged.
    pub payload_hash: u64,
}

impl<'a> Append<'a> {
    /// A record of a log that stands alone: stream, term, time and client are 0.
    #[must_use]
    pub fn new(kind: RecordKind, index: Index, payload: &'a [u8]) -> Self {
        Self {
            stream: StreamId(0),
            kind,
            index,
            term: Term(0),
            time_us: 0,
            client: 0,
            sequence: 0,
            payload,
            payload_hash: payload_hash(payload),
        }
    }
}

/// The hash of a payload that [`Append::payload_hash`] asks for.
#[must_use]
pub fn payload_hash(payload: &[u8]) -> u64 {
    crate::codec::payload_hash(payload)
}

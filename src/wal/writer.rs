//! The file that is being appended to: encodes records into a buffer and writes it out.
//!
//! Invariants:
//! - bytes of the file before `buffer_at` have been handed to the operating system, none after;
//! - once a sync has been asked for, the next record starts on a fresh unit, so that a torn write
//!   can't garble what that sync made durable;
//! - room for an `End` record is kept free, on a unit of its own;
//! - beyond what has been handed over the file holds zeros, some of them written ahead: a small group
//!   whose sync must also turn reserved space into written space takes half as long again (ext4).

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::types::{LogFileMeta, Lsn};
use crate::vfs::File;

use super::Append;
use super::format::{Envelope, UNIT_BYTES, encode_record, record_bytes, round_up};
use super::identifiers::Identifier;
use super::identify::IdentifierFile;
use super::protect::ParityFile;

/// Memory that the buffer keeps between writes however small `buffer_bytes` is, so that an append
/// needn't allocate.
const BUFFER_KEPT_BYTES: usize = 32 << 10;
/// A group that is to be synced, and smaller than [`LARGE_BYTES`], writes zeros along up to the next
/// multiple of this, where it is the first to reach that far.
const AHEAD_BYTES: u64 = 512 << 10;
/// From here on a group pays for its space itself: writing everything twice would cost more.
const LARGE_BYTES: u64 = 64 << 10;

/// A file that is ready to be appended to.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub meta: LogFileMeta,
    pub path: PathBuf,
    pub file: Arc<dyn File>,
    pub identifiers: Arc<IdentifierFile>,
    pub parity: Option<Arc<ParityFile>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Active {
    pub meta: LogFileMeta,
    pub path: PathBuf,
    pub file: Arc<dyn File>,
    pub identifiers: Arc<IdentifierFile>,
    pub parity: Option<Arc<ParityFile>>,
    /// What has been appended and not yet been put on its way to the identifiers.
    pub pending: Vec<Identifier>,
    /// Appends among those.
    pub pending_groups: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    /// Up to where the file's space has been written to.
    ahead: u64,
    fresh_unit: bool,
    previous: Option<Lsn>,
    end: Lsn,
}

impl Active {
    pub fn new(new: NewFile) -> Self {
        Self {
            end: Lsn(new.meta.first_lsn.0 + UNIT_BYTES),
            meta: new.meta,
            path: new.path,
            file: new.file,
            identifiers: new.identifiers,
            parity: new.parity,
            pending: Vec::new(),
            pending_groups: 0,
            buffer: Vec::new(),
            buffer_at: UNIT_BYTES,
            ahead: UNIT_BYTES,
            fresh_unit: true,
            previous: None,
        }
    }

    /// The position after the last record.
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// The position up to which the operating system has the file's bytes.
    pub fn written(&self) -> Lsn {
        Lsn(self.meta.first_lsn.0 + self.buffer_at)
    }

    /// Whether there is anything that the operating system hasn't got.
    pub fn is_buffered(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Bytes that the operating system hasn't got.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// From now on the next record starts on a fresh unit.
    pub fn start_fresh_unit(&mut self) {
        self.fresh_unit = true;
    }

    fn start(&self) -> u64 {
        match self.buffer.is_empty() && self.fresh_unit {
            true => round_up(self.buffer_at),
            false => self.buffer_at + self.buffer.len() as u64,
        }
    }

    /// Whether a group fits, with room left for an `End` record.
    pub fn has_room(&self, group_bytes: u64) -> bool {
        let end = round_up(self.start().saturating_add(group_bytes));
        end <= self.meta.capacity - UNIT_BYTES
    }

    /// Encodes a record into the buffer. The caller has asked whether there is room.
    pub fn push(&mut self, append: &Append<'_>, watermark: Lsn) {
        if self.buffer.is_empty() {
            self.buffer_at = self.start();
            self.fresh_unit = false;
        }
        let offset = self.buffer_at + self.buffer.len() as u64;
        let lsn = Lsn(self.meta.first_lsn.0 + offset);
        let place = Envelope {
            lsn,
            watermark: watermark.min(lsn),
            previous: self.previous,
        };
        let bytes = record_bytes(append);
        debug_assert!(offset + bytes <= self.meta.capacity);
        let checksum = encode_record(&mut self.buffer, self.meta.salt, &place, append);
        self.previous = Some(lsn);
        self.end = Lsn(lsn.0 + bytes);
        self.pending.push(Identifier {
            lsn,
            bytes,
            kind: append.kind,
            index: append.index,
            term: append.term,
            checksum,
        });
    }

    /// Hands the buffer to the operating system in one write; `whole_units`, for a sync to come, pads it
    /// with zeros, and now and then writes some ahead.
    ///
    /// # Errors
    /// What the disk answers; nothing more may then be written.
    pub fn write_out(&mut self, whole_units: bool, buffer_bytes: usize) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut end = self.buffer_at + self.buffer.len() as u64;
        let mut written_to = end;
        if whole_units {
            end = round_up(end);
            written_to = self.zeros_to(end);
            let padded = written_to - self.buffer_at;
            self.buffer.resize(padded as usize, 0);
        }
        let written = self.file.write_at(&self.buffer, self.buffer_at);
        written.map_err(|e| Error::io("append to", &self.path, e))?;
        self.buffer_at = end;
        self.ahead = self.ahead.max(written_to);
        self.buffer.clear();
        self.buffer
            .shrink_to(2 * buffer_bytes.max(BUFFER_KEPT_BYTES));
        Ok(())
    }

    /// Up to where zeros go along with a buffer that ends at `end`.
    fn zeros_to(&self, end: u64) -> u64 {
        if end <= self.ahead || end - self.buffer_at >= LARGE_BYTES {
            return end;
        }
        end.next_multiple_of(AHEAD_BYTES).min(self.meta.capacity)
    }
}

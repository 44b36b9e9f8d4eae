//! Goes through one log file and tells records from what isn't one. Judges nothing.
//!
//! After a place where no record begins, the next is looked for at the next unit, and then at every
//! byte: a record holds its own position. The distance to the record before tells whether any are
//! missing in between.

use crate::error::Result;
use crate::types::{LogFileMeta, Lsn};

use super::format::{
    RECORD_HEADER_BYTES_MAX, RecordHeader, RecordKind, UNIT_BYTES, decode_header, payload_matches,
    round_up,
};
use super::source::{Source, Window};

/// How much is searched at once.
const SEARCH_BYTES: usize = 256 << 10;
static ZEROS: [u8; UNIT_BYTES as usize] = [0; UNIT_BYTES as usize];
/// Bytes of a record up to the end of its position.
const LSN_END: usize = 16;

/// What was found next. Offsets are in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A whole record.
    Record(RecordHeader),
    /// A record whose header is right and whose payload isn't.
    Damaged {
        /// Its header.
        header: RecordHeader,
        /// Where what came before it ended.
        after: u64,
    },
    /// At least one record is missing before the one that comes next.
    Gap {
        /// Where what came before ended.
        from: u64,
        /// Where the next record begins.
        to: u64,
        /// The last record that is missing.
        last: Option<Lsn>,
    },
    /// Padding that isn't zero; no record is missing.
    Stray {
        /// From.
        from: u64,
        /// To, exclusive.
        to: u64,
    },
    /// No record begins from here on.
    Tail {
        /// Where what came before ended.
        from: u64,
        /// After the last byte that isn't zero; `from` if there is none.
        used_to: u64,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Scanner {
    window: Window,
    salt: u64,
    first_lsn: Lsn,
    limit: u64,
    at: u64,
    last: Option<Lsn>,
    pending: Option<(RecordHeader, u64)>,
    done: bool,
}

impl Scanner {
    /// Looks at the records that lie before `limit`, an offset.
    pub fn new(source: Source, meta: &LogFileMeta, limit: u64) -> Self {
        Self {
            window: Window::new(source),
            salt: meta.salt,
            first_lsn: meta.first_lsn,
            limit: limit.min(meta.capacity),
            at: UNIT_BYTES,
            last: None,
            pending: None,
            done: false,
        }
    }

    /// How far it has come, as an offset.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The payload of the record that was returned last.
    pub fn payload(&mut self, header: &RecordHeader) -> Result<&[u8]> {
        let bytes = self.record(header)?;
        Ok(bytes.get(header.payload_at..).unwrap_or_default())
    }

    fn record(&mut self, header: &RecordHeader) -> Result<&[u8]> {
        let offset = header.lsn.0 - self.first_lsn.0;
        let len = usize::try_from(header.bytes).unwrap_or(usize::MAX);
        let bytes = self.window.view(offset, len)?;
        Ok(&bytes[..len.min(bytes.len())])
    }

    /// The next item; `None` at the limit, or after an `End` record or a tail.
    pub fn next(&mut self) -> Result<Option<Item>> {
        if let Some((header, after)) = self.pending.take() {
            return self.take(header, after).map(Some);
        }
        if self.done || self.at >= self.limit {
            return Ok(None);
        }
        let from = self.at;
        if let Some(header) = self.header_at(from)? {
            return self.place(from, header, from).map(Some);
        }
        let aligned = round_up(from);
        if aligned != from
            && let Some(header) = self.header_at(aligned)?
        {
            let len = (aligned - from) as usize;
            let view = self.window.view(from, len)?;
            let padding = view.get(..len).unwrap_or(view);
            let used_to = from + used_bytes(padding) as u64;
            return self.place(from, header, used_to).map(Some);
        }
        match self.search(from)? {
            (Some(header), used_to) => self.place(from, header, used_to).map(Some),
            (None, used_to) => {
                self.done = true;
                Ok(Some(Item::Tail { from, used_to }))
            }
        }
    }

    /// Decides what lies between `from` and the next record.
    fn place(&mut self, from: u64, header: RecordHeader, used_to: u64) -> Result<Item> {
        let to = header.lsn.0 - self.first_lsn.0;
        if header.previous != self.last {
            let last = header.previous;
            self.pending = Some((header, to));
            return Ok(Item::Gap { from, to, last });
        }
        if used_to > from {
            self.pending = Some((header, from));
            return Ok(Item::Stray { from, to: used_to });
        }
        self.take(header, from)
    }

    fn take(&mut self, header: RecordHeader, after: u64) -> Result<Item> {
        let good = payload_matches(&header, self.record(&header)?);
        self.at = header.end().0 - self.first_lsn.0;
        self.last = Some(header.lsn);
        if !good {
            return Ok(Item::Damaged { header, after });
        }
        self.done = header.kind == RecordKind::End;
        Ok(Item::Record(header))
    }

    fn header_at(&mut self, offset: u64) -> Result<Option<RecordHeader>> {
        let Some(room) = self.limit.checked_sub(offset) else {
            return Ok(None);
        };
        let lsn = Lsn(self.first_lsn.0 + offset);
        let bytes = self.window.view(offset, RECORD_HEADER_BYTES_MAX)?;
        Ok(decode_header(self.salt, lsn, bytes, room))
    }

    /// Looks at every offset from `from` on for a record's header. Also says where the last byte
    /// before it is that isn't zero.
    fn search(&mut self, from: u64) -> Result<(Option<RecordHeader>, u64)> {
        let end = self.limit.min(self.window.source().len());
        let mut used_to = from;
        let mut at = from;
        while at < end {
            let view = self.window.view(at, SEARCH_BYTES)?;
            let len = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(view.len());
            let is_last = at + len as u64 >= end;
            // What begins near the view's end is looked at with the next view.
            let block_len = match is_last {
                true => len,
                false => len.saturating_sub(RECORD_HEADER_BYTES_MAX),
            };
            for start in (0..block_len).step_by(UNIT_BYTES as usize) {
                let stop = (start + UNIT_BYTES as usize).min(block_len);
                let block = &view[start..stop];
                let mut offset = start;
                if block == &ZEROS[..block.len()] {
                    // No position is all zero: one must reach into the next block.
                    offset = stop.saturating_sub(LSN_END).max(start);
                } else {
                    used_to = at + (start + used_bytes(block)) as u64;
                }
                while offset < stop {
                    let here = at + offset as u64;
                    let lsn = Lsn(self.first_lsn.0 + here);
                    if begins_at(view, offset, lsn)
                        && let Some(header) =
                            decode_header(self.salt, lsn, &view[offset..], self.limit - here)
                    {
                        return Ok((Some(header), used_to.min(here)));
                    }
                    offset += 1;
                }
            }
            if is_last || block_len == 0 {
                break;
            }
            at += block_len as u64;
        }
        Ok((None, used_to))
    }
}

/// The length of `bytes`, at most a unit, without the zeros at its end.
fn used_bytes(bytes: &[u8]) -> usize {
    // Padding is zeros as a rule, and then one comparison says so.
    match ZEROS.get(..bytes.len()) {
        Some(zeros) if zeros == bytes => 0,
        _ => bytes
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |at| at + 1),
    }
}

/// Whether the bytes at an offset hold the position that a record there would.
#[inline]
fn begins_at(view: &[u8], offset: usize, lsn: Lsn) -> bool {
    let bytes = view.get(offset + 8..offset + LSN_END);
    bytes.is_some_and(|bytes| bytes == lsn.0.to_le_bytes())
}

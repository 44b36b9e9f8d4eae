//! The table of checksums: which units of a file are as they were written.

use crate::codec::{Reader, block_checksum};
use crate::types::{FileId, Parity};

use super::{GROUP_UNITS, Geometry};

/// Bytes of the tail behind a table.
pub const TAIL_BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"KINTPARI";
const FORMAT_VERSION: u32 = 1;
const CHECKSUM_BYTES: usize = 8;
/// Checksums in a piece, which has its own in front.
const PIECE_CHECKSUMS: usize = 511;
const PIECE_BYTES: u64 = (PIECE_CHECKSUMS as u64 + 1) * CHECKSUM_BYTES as u64;

/// Bytes of a table of so many checksums, with its tail.
pub fn table_bytes(checksums: u64) -> u64 {
    let pieces = checksums.div_ceil(PIECE_CHECKSUMS as u64);
    (checksums + pieces) * CHECKSUM_BYTES as u64 + TAIL_BYTES as u64
}

/// A copy of the table, as it stands at `offset`.
pub fn encode(file: FileId, offset: u64, checksums: &[u64], tail: Tail) -> Vec<u8> {
    let mut out = Vec::with_capacity(table_bytes(checksums.len() as u64) as usize);
    for piece in checksums.chunks(PIECE_CHECKSUMS) {
        let start = out.len();
        out.extend_from_slice(&[0; CHECKSUM_BYTES]);
        for checksum in piece {
            out.extend_from_slice(&checksum.to_le_bytes());
        }
        let covered = out.get(start + CHECKSUM_BYTES..).unwrap_or_default();
        let checksum = block_checksum(file, offset + start as u64, covered);
        if let Some(room) = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
            *room = checksum.to_le_bytes();
        }
    }
    out.extend_from_slice(&tail.encode(offset + out.len() as u64));
    out
}

/// Where the piece that holds this checksum lies within a table, and where the checksum stands in it.
pub fn piece_of(checksum: u64, checksums: u64) -> (std::ops::Range<u64>, usize) {
    let piece = checksum / PIECE_CHECKSUMS as u64;
    let start = piece * PIECE_BYTES;
    let held = (checksums - piece * PIECE_CHECKSUMS as u64).min(PIECE_CHECKSUMS as u64);
    let place = (checksum % PIECE_CHECKSUMS as u64) as usize;
    (start..start + (held + 1) * CHECKSUM_BYTES as u64, place)
}

/// The checksums in a piece that was read at `offset`; `None` if it is not as it was written.
pub fn decode_piece(file: FileId, offset: u64, bytes: &[u8]) -> Option<Vec<u64>> {
    let (stored, covered) = bytes.split_first_chunk::<CHECKSUM_BYTES>()?;
    if u64::from_le_bytes(*stored) != block_checksum(file, offset, covered) {
        return None;
    }
    let (numbers, rest) = covered.as_chunks::<CHECKSUM_BYTES>();
    rest.is_empty()
        .then(|| numbers.iter().map(|n| u64::from_le_bytes(*n)).collect())
}

/// How a protected file lies, in its last bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// How much parity there is.
    pub level: Parity,
    /// Length of the content, in bytes.
    pub content_bytes: u64,
    /// The file's own id.
    pub file_id: FileId,
}

impl Tail {
    /// Its bytes at `offset`.
    pub fn encode(&self, offset: u64) -> [u8; TAIL_BYTES] {
        let mut out = Vec::with_capacity(TAIL_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(GROUP_UNITS as u16).to_le_bytes());
        out.extend_from_slice(&(self.level.units_per_group() as u16).to_le_bytes());
        out.extend_from_slice(&self.content_bytes.to_le_bytes());
        out.extend_from_slice(&self.file_id.0.to_le_bytes());
        out.resize(TAIL_BYTES - CHECKSUM_BYTES, 0);
        let checksum = block_checksum(self.file_id, offset, &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.first_chunk().copied().unwrap_or([0; TAIL_BYTES])
    }

    /// Reads the tail that stands at `offset` in a file of `file_bytes`. `None` if there is none, or it isn't as
    /// it was written.
    #[must_use]
    pub fn decode(bytes: &[u8; TAIL_BYTES], offset: u64, file_bytes: u64) -> Option<Self> {
        let (covered, stored) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        let mut reader = Reader::new(covered);
        if reader.array() != Some(MAGIC) || reader.u32() != Some(FORMAT_VERSION) {
            return None;
        }
        let group_units = u64::from(reader.u16()?);
        let parity_units = u64::from(reader.u16()?);
        let content_bytes = reader.u64()?;
        let file_id = FileId(reader.u128()?);
        if u64::from_le_bytes(*stored) != block_checksum(file_id, offset, covered) {
            return None;
        }
        let level = Parity::from_units_per_group(parity_units)?;
        let tail = Self {
            level,
            content_bytes,
            file_id,
        };
        let fits = Geometry::new(level, content_bytes).file_bytes() == file_bytes;
        (group_units == GROUP_UNITS && level != Parity::Off && fits).then_some(tail)
    }
}

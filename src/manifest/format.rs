//! The bytes of a manifest file: names, the header unit, frames (`docs/format-manifest.md`).
//! What stands inside a frame is the business of `encoding`.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::codec::{Reader, block_checksum, header_checksum, seed};
use crate::types::{FileId, StoreId, UNIT};

/// First bytes of every manifest file.
pub(super) const MAGIC: [u8; 8] = *b"KinManif";
/// The format version written here, and the newest that is read.
pub(super) const VERSION: u32 = 1;
/// Longest manifest file, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a frame before its payload.
pub(super) const FRAME_HEADER_BYTES: usize = 32;
/// Where the checksum of the header unit stands; it ends the unit, in every format version.
const HEADER_CHECKSUM_AT: usize = UNIT - 8;

/// Which of the two copies: `A` is always written, and synced, first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// `manifest-{generation:08}.a`
    A,
    /// `manifest-{generation:08}.b`
    B,
}

impl Side {
    /// Both, in the order in which they are written.
    pub(super) const BOTH: [Self; 2] = [Self::A, Self::B];
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// The file of one copy of one generation.
pub(super) fn path(dir: &Path, generation: u64, side: Side) -> PathBuf {
    dir.join(format!("manifest-{generation:08}.{side}"))
}

/// The name of that file until it is published.
pub(super) fn temporary_path(dir: &Path, generation: u64, side: Side) -> PathBuf {
    dir.join(format!("manifest-{generation:08}.{side}.tmp"))
}

/// A name in the store's folder, as far as the manifest cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A copy of a generation.
    Published(u64, Side),
    /// One that was never published.
    Temporary(u64, Side),
    /// A file that only a store has.
    OfAStore,
    /// None of our business.
    Other,
}

/// Reads a name in the store's folder.
pub(super) fn parse_name(name: &str) -> Name {
    if let Some(rest) = name.strip_prefix("manifest-") {
        let (rest, temporary) = match rest.strip_suffix(".tmp") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let parsed = Side::BOTH.into_iter().find_map(|side| {
            let digits = rest.strip_suffix(&side.to_string())?.strip_suffix('.')?;
            Some((parse_number(digits)?, side))
        });
        return match parsed {
            Some((generation, side)) if temporary => Name::Temporary(generation, side),
            Some((generation, side)) => Name::Published(generation, side),
            None => Name::Other,
        };
    }
    let numbered = |ending| {
        name.strip_suffix(ending)
            .and_then(parse_number)
            .is_some_and(|number| number > 0)
    };
    if [".log", ".ids", ".parity", ".segment"]
        .into_iter()
        .any(numbered)
        || name == "vote.a"
        || name == "vote.b"
    {
        return Name::OfAStore;
    }
    Name::Other
}

/// Eight or more decimal digits, without needless zeros.
fn parse_number(digits: &str) -> Option<u64> {
    let number: u64 = digits.parse().ok()?;
    (format!("{number:08}") == digits).then_some(number)
}

/// What the header unit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub store_id: StoreId,
    /// Shared by the two copies of a generation, which are the same bytes.
    pub file_id: FileId,
    pub generation: u64,
    /// Length of the file in bytes; it never changes.
    pub capacity: u64,
}

/// Why a header unit can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// It is intact, and of this newer version.
    Newer(u32),
    /// It is not what was written.
    Bad(&'static str),
}

/// The header unit.
pub(super) fn encode_header(header: &Header) -> Vec<u8> {
    let mut unit = Vec::with_capacity(UNIT);
    unit.extend_from_slice(&MAGIC);
    unit.extend_from_slice(&VERSION.to_le_bytes());
    unit.extend_from_slice(&[0; 4]);
    unit.extend_from_slice(&header.file_id.0.to_le_bytes());
    unit.extend_from_slice(&header.store_id.0.to_le_bytes());
    unit.extend_from_slice(&header.generation.to_le_bytes());
    unit.extend_from_slice(&header.capacity.to_le_bytes());
    unit.resize(HEADER_CHECKSUM_AT, 0);
    let checksum = block_checksum(header.file_id, 0, &unit);
    unit.extend_from_slice(&checksum.to_le_bytes());
    unit
}

/// Reads the header unit of the file that is named for `generation`.
pub(super) fn decode_header(bytes: &[u8], generation: u64) -> Result<Header, HeaderFault> {
    const SHORT: HeaderFault = HeaderFault::Bad("the header is cut short");
    let unit = bytes.get(..UNIT).ok_or(SHORT)?;
    let (body, checksum) = unit.split_at(HEADER_CHECKSUM_AT);
    let mut reader = Reader::new(body);
    let magic = reader.array().ok_or(SHORT)?;
    let version = reader.u32().ok_or(SHORT)?;
    let reserved = reader.u32().ok_or(SHORT)?;
    let file_id = FileId(reader.u128().ok_or(SHORT)?);
    if magic != MAGIC {
        return Err(HeaderFault::Bad("this is no header of a manifest"));
    }
    if block_checksum(file_id, 0, body).to_le_bytes() != checksum {
        return Err(HeaderFault::Bad("the header's checksum is wrong"));
    }
    if version > VERSION {
        return Err(HeaderFault::Newer(version));
    }
    let header = Header {
        store_id: StoreId(reader.u128().ok_or(SHORT)?),
        file_id,
        generation: reader.u64().ok_or(SHORT)?,
        capacity: reader.u64().ok_or(SHORT)?,
    };
    if header.generation != generation {
        return Err(HeaderFault::Bad("the header is of another generation"));
    }
    let units = header.capacity.is_multiple_of(UNIT as u64);
    if version == 0 || reserved != 0 || !units || header.capacity > FILE_BYTES_MAX {
        return Err(HeaderFault::Bad("the header makes no sense"));
    }
    Ok(header)
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum FrameKind {
    /// A whole state: the first frame of a file.
    State = u32::from_le_bytes(*b"Stat"),
    /// An edit: every other.
    Edit = u32::from_le_bytes(*b"Edit"),
}

/// A frame that was read and found intact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub kind: FrameKind,
    pub sequence: u64,
    /// Where the whole frame lies in the file, padding included.
    pub range: Range<usize>,
    /// Where its payload lies in the file.
    pub payload: Range<usize>,
}

/// How many bytes a frame with a payload of this length takes; `None` if it fits in no file.
pub(super) fn frame_bytes(payload_bytes: u64) -> Option<usize> {
    let bytes = payload_bytes
        .checked_add(FRAME_HEADER_BYTES as u64)?
        .checked_next_multiple_of(UNIT as u64)?;
    (bytes < FILE_BYTES_MAX).then(|| usize::try_from(bytes).ok())?
}

/// A frame to be written at `offset` of the file `file_id`: `put` appends the payload. `None` if the
/// payload is too long for any file.
pub(super) fn encode_frame(
    file_id: FileId,
    offset: usize,
    kind: FrameKind,
    sequence: u64,
    put: impl FnOnce(&mut Vec<u8>),
) -> Option<Vec<u8>> {
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    put(&mut frame);
    let payload_bytes = (frame.len() - FRAME_HEADER_BYTES) as u64;
    frame.resize(frame_bytes(payload_bytes)?, 0);
    let (header, body) = frame.split_at_mut(FRAME_HEADER_BYTES);
    let checksum = block_checksum(file_id, body_offset(offset), body);
    header[4..8].copy_from_slice(&(kind as u32).to_le_bytes());
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    header[16..24].copy_from_slice(&payload_bytes.to_le_bytes());
    header[24..32].copy_from_slice(&checksum.to_le_bytes());
    let salt = seed(file_id, offset as u64);
    let checksum = header_checksum(salt, &header[4..], &[]);
    header[..4].copy_from_slice(&checksum.to_le_bytes());
    Some(frame)
}

fn body_offset(offset: usize) -> u64 {
    (offset + FRAME_HEADER_BYTES) as u64
}

/// Reads the frame at `offset` of a whole file; or says what is wrong with it.
pub(super) fn decode_frame(
    file_id: FileId,
    file: &[u8],
    offset: usize,
) -> Result<Frame, &'static str> {
    const CUT: &str = "the frame is cut short";
    let rest = file.get(offset..).ok_or(CUT)?;
    let (header, body) = rest.split_at_checked(FRAME_HEADER_BYTES).ok_or(CUT)?;
    let mut reader = Reader::new(header);
    let checksum = reader.u32().ok_or(CUT)?;
    let salt = seed(file_id, offset as u64);
    if header_checksum(salt, reader.rest(), &[]) != checksum {
        return Err("the checksum of the frame's header is wrong");
    }
    let kind = match reader.u32().ok_or(CUT)? {
        kind if kind == FrameKind::State as u32 => FrameKind::State,
        kind if kind == FrameKind::Edit as u32 => FrameKind::Edit,
        _ => return Err("the frame is of an unknown kind"),
    };
    let sequence = reader.u64().ok_or(CUT)?;
    let payload_bytes = reader.u64().ok_or(CUT)?;
    let checksum = reader.u64().ok_or(CUT)?;
    let bytes = frame_bytes(payload_bytes).ok_or("the frame is longer than any file")?;
    let body = body.get(..bytes - FRAME_HEADER_BYTES).ok_or(CUT)?;
    if block_checksum(file_id, body_offset(offset), body) != checksum {
        return Err("the frame's checksum is wrong");
    }
    let start = offset + FRAME_HEADER_BYTES;
    Ok(Frame {
        kind,
        sequence,
        range: offset..offset + bytes,
        // Not above `bytes`, which fits.
        payload: start..start + payload_bytes as usize,
    })
}

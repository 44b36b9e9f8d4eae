//! The outer form of a segment file: header, framed sections, footer. Shared by writer
//! and readers; the bytes are written down in `docs/format-segment.md`.
//!
//! Nothing here touches a disk. Every decoder takes bytes that nobody has vouched for and says what
//! is wrong with them in words; who calls knows the path and the offset.

use crate::codec::{Reader, block_checksum};
use crate::types::{Codec, FileId, KeyspaceId, SegmentNumber, StoreId};

/// The newest format that this version reads, and the one it writes.
pub const FORMAT_VERSION: u32 = 1;
/// Length of the header, in bytes; the first block follows it.
pub const HEADER_BYTES: usize = 64;
/// Length of the footer, in bytes.
pub const FOOTER_BYTES: usize = 136;
/// Length of what stands before the body of every section, in bytes.
pub const FRAME_BYTES: usize = 16;
/// Shortest file that can be a segment, in bytes.
pub const FILE_BYTES_MIN: u64 = (HEADER_BYTES + FOOTER_BYTES) as u64;

const HEADER_MAGIC: [u8; 8] = *b"KINTSEGH";
const FOOTER_MAGIC: [u8; 8] = *b"KINTSEGF";
const IDENTITY_BYTES: usize = 56;
const CHECKSUM_BYTES: usize = 8;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SectionKind {
    /// Entries.
    Data = 1,
    /// One separator, offset and length a data block.
    Index = 2,
    /// Which keys the file may hold.
    Filter = 3,
    /// Counts and bounds.
    Properties = 4,
    /// What the blocks were compressed against.
    Dictionary = 5,
}

impl SectionKind {
    /// Reads the byte that stands for a kind.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Data),
            2 => Some(Self::Index),
            3 => Some(Self::Filter),
            4 => Some(Self::Properties),
            5 => Some(Self::Dictionary),
            _ => None,
        }
    }

    /// The kind in words, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "block",
            Self::Index => "index",
            Self::Filter => "filter",
            Self::Properties => "properties",
            Self::Dictionary => "dictionary",
        }
    }
}

/// Where a section lies in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Its first byte.
    pub offset: u64,
    /// Its length with its frame; 0 if there is none.
    pub bytes: u64,
}

impl Extent {
    /// The first byte after it.
    pub fn end(self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }
}

/// Whose file this is. Stands in the header and again in the footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The store.
    pub store_id: StoreId,
    /// The keyspace in it.
    pub keyspace: KeyspaceId,
    /// The number in the file's name.
    pub number: SegmentNumber,
    /// The file's own random id.
    pub file_id: FileId,
}

/// Why a header or footer was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not what was written there.
    Damaged(String),
    /// A whole and undamaged one of a later format.
    NewerFormat(u32),
}

impl Identity {
    fn encode(&self, magic: [u8; 8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.extend_from_slice(&magic);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.keyspace.0.to_le_bytes());
        out.extend_from_slice(&self.store_id.0.to_le_bytes());
        out.extend_from_slice(&self.number.0.to_le_bytes());
        out.extend_from_slice(&self.file_id.0.to_le_bytes());
        debug_assert_eq!(out.len(), IDENTITY_BYTES);
        out
    }

    /// The identity and version that the bytes claim, whatever their checksum says.
    fn decode(bytes: &[u8], magic: [u8; 8]) -> Result<(Self, u32), String> {
        let mut reader = Reader::new(bytes);
        if reader.array() != Some(magic) {
            return Err("not a segment: its magic bytes are missing".into());
        }
        let parts = (|| {
            let version = reader.u32()?;
            let identity = Self {
                keyspace: KeyspaceId(reader.u32()?),
                store_id: StoreId(reader.u128()?),
                number: SegmentNumber(reader.u64()?),
                file_id: FileId(reader.u128()?),
            };
            Some((identity, version))
        })();
        parts.ok_or_else(|| "cut short".into())
    }

    /// The header of a file with this identity.
    pub fn encode_header(&self) -> Vec<u8> {
        let mut out = self.encode(HEADER_MAGIC);
        let checksum = block_checksum(self.file_id, 0, &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        debug_assert_eq!(out.len(), HEADER_BYTES);
        out
    }

    /// Reads and verifies a header.
    pub fn decode_header(bytes: &[u8]) -> Result<Self, Refusal> {
        let damaged = |what: String| Refusal::Damaged(format!("header: {what}"));
        let (identity, version) = Self::decode(bytes, HEADER_MAGIC).map_err(damaged)?;
        let found = bytes.get(IDENTITY_BYTES..HEADER_BYTES);
        let covered = bytes.get(..IDENTITY_BYTES).unwrap_or_default();
        check(found, identity.file_id, 0, covered).map_err(damaged)?;
        check_version(version)?;
        Ok(identity)
    }

    /// The file id in a header's bytes, verified by nothing.
    pub fn claimed_file_id(bytes: &[u8]) -> Option<FileId> {
        let id = bytes.get(IDENTITY_BYTES - 16..)?.first_chunk()?;
        Some(FileId(u128::from_le_bytes(*id)))
    }
}

/// Compares a stored checksum with that of the bytes it should cover.
fn check(stored: Option<&[u8]>, file: FileId, offset: u64, covered: &[u8]) -> Result<(), String> {
    let stored = stored
        .and_then(|bytes| bytes.first_chunk())
        .ok_or("cut short")?;
    let stored = u64::from_le_bytes(*stored);
    let computed = block_checksum(file, offset, covered);
    if stored == computed {
        return Ok(());
    }
    Err(format!(
        "checksum {computed:016x} does not match the stored {stored:016x}"
    ))
}

/// To be called only once the checksum has vouched for the number.
fn check_version(version: u32) -> Result<(), Refusal> {
    match version {
        FORMAT_VERSION => Ok(()),
        0 => Err(Refusal::Damaged("format version 0 never existed".into())),
        newer => Err(Refusal::NewerFormat(newer)),
    }
}

/// The last bytes of the content: what a reader looks at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Whose file this is.
    pub identity: Identity,
    /// Where the content of the file ends, and its parity begins.
    pub content_bytes: u64,
    /// The filter; no bytes if there is none.
    pub filter: Extent,
    /// The block index.
    pub index: Extent,
    /// The properties.
    pub properties: Extent,
    /// The dictionary; no bytes, at 0, if there is none.
    pub dictionary: Extent,
}

impl Footer {
    /// The footer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.identity.encode(FOOTER_MAGIC);
        out.extend_from_slice(&self.content_bytes.to_le_bytes());
        for extent in [self.filter, self.index, self.properties, self.dictionary] {
            out.extend_from_slice(&extent.offset.to_le_bytes());
            out.extend_from_slice(&extent.bytes.to_le_bytes());
        }
        debug_assert_eq!(out.len(), FOOTER_BYTES - CHECKSUM_BYTES);
        let offset = self.content_bytes.saturating_sub(FOOTER_BYTES as u64);
        let checksum = block_checksum(self.identity.file_id, offset, &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads and verifies the footer that was found at `offset`.
    pub fn decode(bytes: &[u8], offset: u64) -> Result<Self, Refusal> {
        let damaged = |what: String| Refusal::Damaged(format!("footer: {what}"));
        let (identity, version) = Identity::decode(bytes, FOOTER_MAGIC).map_err(damaged)?;
        let covered_bytes = FOOTER_BYTES - CHECKSUM_BYTES;
        let covered = bytes.get(..covered_bytes).unwrap_or_default();
        check(
            bytes.get(covered_bytes..),
            identity.file_id,
            offset,
            covered,
        )
        .map_err(damaged)?;
        check_version(version)?;
        let footer =
            Self::decode_fields(identity, covered).ok_or_else(|| damaged("cut short".into()))?;
        footer.check_layout(offset).map_err(damaged)?;
        Ok(footer)
    }

    fn decode_fields(identity: Identity, bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes.get(IDENTITY_BYTES..)?);
        let content_bytes = reader.u64()?;
        let mut extents = [Extent::default(); 4];
        for extent in &mut extents {
            extent.offset = reader.u64()?;
            extent.bytes = reader.u64()?;
        }
        let [filter, index, properties, dictionary] = extents;
        Some(Self {
            identity,
            content_bytes,
            filter,
            index,
            properties,
            dictionary,
        })
    }

    /// Sections lie one behind the other, from the last block to the footer.
    fn check_layout(&self, offset: u64) -> Result<(), String> {
        let whole = self.content_bytes == offset.saturating_add(FOOTER_BYTES as u64);
        let dictionary_fits = match self.dictionary {
            Extent { bytes: 0, offset } => offset == 0,
            place => place.end() == self.filter.offset && place.bytes >= FRAME_BYTES as u64,
        };
        let filter_fits = self.data_end() >= HEADER_BYTES as u64
            && self.filter.end() == self.index.offset
            && self.index.end() == self.properties.offset
            && self.properties.end() == offset;
        let lengths_fit = [self.index, self.properties]
            .iter()
            .all(|extent| extent.bytes >= FRAME_BYTES as u64);
        if whole && dictionary_fits && filter_fits && lengths_fit {
            return Ok(());
        }
        Err("its sections do not lie one behind the other".into())
    }

    /// Where the data blocks end.
    pub fn data_end(&self) -> u64 {
        match self.dictionary.bytes {
            0 => self.filter.offset,
            _ => self.dictionary.offset,
        }
    }
}

/// Fills in the frame at the front of a section that is to be written at `offset`: `section` begins
/// with [`FRAME_BYTES`] bytes of room.
///
/// Returns false, and leaves it alone, if the section is longer than a frame can say (4 GiB).
#[must_use]
pub fn seal(file: FileId, offset: u64, kind: SectionKind, section: &mut [u8]) -> bool {
    seal_packed(file, offset, kind, Codec::None, section)
}

/// As [`seal`], for a section whose body this codec made.
#[must_use]
pub fn seal_packed(
    file: FileId,
    offset: u64,
    kind: SectionKind,
    codec: Codec,
    section: &mut [u8],
) -> bool {
    let Ok(bytes) = u32::try_from(section.len()) else {
        return false;
    };
    let Some((frame, _)) = section.split_first_chunk_mut::<FRAME_BYTES>() else {
        return false;
    };
    frame[8] = kind as u8;
    frame[9] = codec.byte();
    frame[10..12].fill(0);
    frame[12..16].copy_from_slice(&bytes.to_le_bytes());
    let checksum = block_checksum(file, offset, section.get(8..).unwrap_or_default());
    if let Some(room) = section.first_chunk_mut::<8>() {
        *room = checksum.to_le_bytes();
    }
    true
}

/// The frame of a section, verified by nothing yet.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// What it says it holds.
    pub kind: SectionKind,
    /// What made its body.
    pub codec: Codec,
    /// The length it claims, frame included.
    pub bytes: u32,
}

impl Frame {
    /// Reads a frame if these bytes look like one.
    pub fn peek(bytes: &[u8]) -> Option<Self> {
        let frame: &[u8; FRAME_BYTES] = bytes.first_chunk()?;
        let kind = SectionKind::from_byte(frame[8])?;
        let codec = Codec::from_byte(frame[9])?;
        let bytes = u32::from_le_bytes([frame[12], frame[13], frame[14], frame[15]]);
        (frame[10] == 0 && frame[11] == 0 && bytes as usize >= FRAME_BYTES).then_some(Self {
            kind,
            codec,
            bytes,
        })
    }
}

/// Verifies a whole section found at `offset`, which should be of this kind. Says what made its body:
/// only that of a block can be packed.
///
/// # Errors
/// What is wrong with it, in words.
pub fn verify_section(
    file: FileId,
    offset: u64,
    kind: SectionKind,
    section: &[u8],
) -> Result<Codec, String> {
    let name = kind.name();
    check(
        section.get(..8),
        file,
        offset,
        section.get(8..).unwrap_or_default(),
    )
    .map_err(|what| format!("{name}: {what}"))?;
    let frame = Frame::peek(section).ok_or_else(|| match section.get(9) {
        Some(&codec) if Codec::from_byte(codec).is_none() => {
            format!("{name}: codec {codec} is not known to this version")
        }
        _ => format!("{name}: not a section"),
    })?;
    if frame.kind != kind || frame.bytes as usize != section.len() {
        return Err(format!(
            "{name}: a {} of {} bytes stands here",
            frame.kind.name(),
            frame.bytes
        ));
    }
    if frame.codec != Codec::None && kind != SectionKind::Data {
        return Err(format!("{name}: packed with {}", frame.codec.name()));
    }
    Ok(frame.codec)
}

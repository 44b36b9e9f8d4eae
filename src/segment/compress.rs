//! Packed blocks: a block's body through a codec. Shared by writer and readers; the bytes are written
//! down in `docs/format-segment.md`.
//!
//! Body of a packed section: length of the body as it was (4 bytes), then what the codec made of it. The
//! checksum covers the packed bytes, so nothing reaches a codec that isn't as it was written. But a
//! checksum can be forged: the length is bounded before memory is taken for it, and what comes out must
//! be exactly so long.

#[cfg(not(feature = "zstd"))]
#[path = "compress/no_zstd.rs"]
mod zstd;
#[cfg(feature = "zstd")]
mod zstd;

use std::borrow::Cow;

use bytes::Bytes;
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

use super::block::{Block, SECTION_BYTES_MAX};
use super::format::FRAME_BYTES;
use crate::types::Codec;

pub use zstd::{Dictionary, SAMPLE_BYTES, train};

/// Where the packed bytes begin in a section.
const PACKED_START: usize = FRAME_BYTES + 4;
/// A byte of LZ4 stands for no more bytes than this.
const LZ4_RATIO_MAX: usize = 255;
/// Blocks in a row that don't shrink, after which most are stored as they are without a try.
const MISSES_MAX: u32 = 16;
/// Of those, one in so many is tried all the same: what follows may be of another kind.
const TRY_ONE_IN: u32 = 16;

/// Why a section whose checksum is right is not a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It says nonsense.
    Malformed,
    /// It may be right: this build can't tell, without this feature.
    MissingFeature(&'static str),
}

impl Unreadable {
    /// In words, for messages.
    pub fn what(self) -> String {
        match self {
            Self::Malformed => "block: malformed under a good checksum".into(),
            Self::MissingFeature(name) => {
                format!("block: packed; this build lacks the feature `{name}`")
            }
        }
    }
}

/// Packs blocks one after the other; its memory is used again for the next.
pub struct Packer {
    codec: Codec,
    table: CompressTable,
    zstd: Option<zstd::Encoder>,
    packed: Vec<u8>,
    /// Blocks in a row that didn't shrink.
    misses: u32,
}

impl Packer {
    /// A packer with this codec, for one that this build has.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            table: CompressTable::default(),
            zstd: None,
            packed: Vec::new(),
            misses: 0,
        }
    }

    /// Which codec it packs with.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// From here on packs against a dictionary, if the codec can.
    pub fn set_dictionary(&mut self, dictionary: &[u8]) {
        self.zstd = zstd::Encoder::new(dictionary);
    }

    /// The section with its body packed, its frame still to be sealed; `None` if that would not make it
    /// shorter by an eighth.
    pub fn pack(&mut self, section: &[u8]) -> Option<&mut [u8]> {
        if self.codec == Codec::None || self.skips() {
            return None;
        }
        let body = section.get(FRAME_BYTES..)?;
        let body_bytes = u32::try_from(body.len()).ok()?;
        if section.len() > SECTION_BYTES_MAX {
            return None;
        }
        self.packed.clear();
        self.packed.resize(FRAME_BYTES, 0);
        self.packed.extend_from_slice(&body_bytes.to_le_bytes());
        let packed_bytes = match self.codec {
            Codec::None => None,
            Codec::Lz4 => self.pack_lz4(body),
            Codec::Zstd => self.pack_zstd(body),
        };
        let room = section.len() - section.len() / 8;
        match packed_bytes.map(|bytes| PACKED_START + bytes) {
            Some(bytes) if bytes <= room => {
                self.misses = 0;
                self.packed.truncate(bytes);
                Some(&mut self.packed)
            }
            _ => {
                self.misses = self.misses.saturating_add(1);
                None
            }
        }
    }

    /// Whether this block is not worth a try.
    fn skips(&mut self) -> bool {
        if self.misses < MISSES_MAX {
            return false;
        }
        self.misses += 1;
        let skips = !self.misses.is_multiple_of(TRY_ONE_IN);
        if !skips {
            self.misses = MISSES_MAX;
        }
        skips
    }

    fn pack_lz4(&mut self, body: &[u8]) -> Option<usize> {
        let room = PACKED_START + get_maximum_output_size(body.len());
        self.packed.resize(room, 0);
        let out = self.packed.get_mut(PACKED_START..)?;
        compress_into_with_table(body, out, &mut self.table).ok()
    }

    fn pack_zstd(&mut self, body: &[u8]) -> Option<usize> {
        if self.zstd.is_none() {
            self.zstd = zstd::Encoder::new(&[]);
        }
        // More would not be taken.
        self.packed.resize(PACKED_START + body.len(), 0);
        let out = self.packed.get_mut(PACKED_START..)?;
        self.zstd.as_mut()?.encode(body, out)
    }

    /// Gives back memory that only a large value needed.
    pub fn shrink(&mut self, keep_bytes: usize) {
        if self.packed.capacity() > keep_bytes {
            self.packed = Vec::new();
        }
    }
}

/// The block in a verified section, with its body unpacked.
///
/// # Errors
/// If it is none, or can't be unpacked by this build.
pub fn block(
    section: Cow<'_, [u8]>,
    codec: Codec,
    dictionary: Option<&Dictionary>,
) -> Result<Block, Unreadable> {
    let section = match codec {
        Codec::None => section.into_owned(),
        codec => unpack(&section, codec, dictionary)?,
    };
    Block::parse(Bytes::from(section)).map_err(|_| Unreadable::Malformed)
}

/// The section as it was before it was packed; its frame is zeros.
fn unpack(
    section: &[u8],
    codec: Codec,
    dictionary: Option<&Dictionary>,
) -> Result<Vec<u8>, Unreadable> {
    let malformed = Unreadable::Malformed;
    let length = section.get(FRAME_BYTES..).and_then(<[u8]>::first_chunk);
    let packed = section.get(PACKED_START..).ok_or(malformed)?;
    let body_bytes = u32::from_le_bytes(*length.ok_or(malformed)?) as usize;
    let bytes_max = match codec {
        Codec::Lz4 => packed.len().saturating_mul(LZ4_RATIO_MAX),
        _ => usize::MAX,
    };
    if body_bytes > bytes_max.min(SECTION_BYTES_MAX - FRAME_BYTES) {
        return Err(malformed);
    }
    if let Some(feature) = codec.missing_feature() {
        return Err(Unreadable::MissingFeature(feature));
    }
    let mut plain = vec![0; FRAME_BYTES + body_bytes];
    let body = plain.get_mut(FRAME_BYTES..).ok_or(malformed)?;
    let found = match codec {
        Codec::None => None,
        Codec::Lz4 => decompress_into(packed, body).ok(),
        Codec::Zstd => zstd::decode(packed, body, dictionary),
    };
    if found == Some(body_bytes) {
        Ok(plain)
    } else {
        Err(malformed)
    }
}

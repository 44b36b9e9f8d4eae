//! Shows what stands in a segment file, damaged or not, with no manifest to go by.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::block_cursor::BlockCursor;
use super::compress::{self, Dictionary, Unreadable};
use super::file::{Handle, SegmentFile};
use super::filter::Filter;
use super::format::{
    Extent, FOOTER_BYTES, FRAME_BYTES, Footer, Frame, HEADER_BYTES, Identity, Refusal, SectionKind,
    verify_section,
};
use super::index::BlockIndex;
use super::open::open_dictionary;
use super::properties::Properties;

use crate::error::{Error, Result};
use crate::parity::{Geometry, Tail, Trailer, find_tail};
use crate::types::{Codec, FileId, Parity, SegmentNumber};
use crate::vfs::{Access, Vfs};

/// Read at once while looking for the next section behind damage, in bytes.
const SEARCH_BYTES: u64 = 1 << 20;

/// One part of a segment file.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// Where it begins.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// What is wrong with it, if anything is. The content below is then what the bytes seem to say.
    pub verdict: Result<(), String>,
    /// What it holds.
    pub content: InspectedContent,
}

/// What a part of a segment file holds.
#[derive(Clone, Debug)]
pub enum InspectedContent {
    /// The header.
    Header {
        /// Whose file it is.
        identity: Option<Identity>,
    },
    /// A block of entries.
    Block {
        /// What packed it.
        codec: Codec,
        /// Its length as it was before; as it is, if it can't be unpacked.
        plain_bytes: u64,
        /// Entries that can be decoded.
        entries: u64,
        /// The first of their keys.
        first_key: Option<Vec<u8>>,
        /// The last of their keys.
        last_key: Option<Vec<u8>>,
    },
    /// What the blocks were packed against.
    Dictionary {
        /// Whether this build can use it.
        usable: bool,
    },
    /// The filter.
    Filter {
        /// Whether this version can ask it.
        usable: bool,
    },
    /// The block index.
    Index {
        /// Blocks that it names.
        blocks: u64,
    },
    /// Counts and bounds.
    Properties {
        /// What they say.
        properties: Option<Properties>,
    },
    /// The footer.
    Footer {
        /// What it says.
        footer: Option<Footer>,
    },
    /// A part of the parity behind the content.
    Parity {
        /// Which part.
        name: &'static str,
    },
    /// Bytes in which no part can be recognised.
    Unknown,
}

/// Reads the file at `path` and shows each of its parts in the order of the file.
///
/// Needs neither a manifest nor an index: behind damage it looks for the next section whose checksum
/// is right. Reads the whole file, one section at a time.
///
/// # Errors
/// What the disk answers; damage is shown, not returned.
pub fn inspect(vfs: &dyn Vfs, path: &Path, show: &mut dyn FnMut(Inspected)) -> Result<()> {
    let file = vfs
        .open(path, Access::Read)
        .map_err(|error| Error::io("open", path, error))?;
    let file_bytes = file
        .len()
        .map_err(|error| Error::io("read the length of", path, error))?;
    let file = SegmentFile {
        file: Handle::new(file),
        path: path.to_owned(),
        file_id: FileId::default(),
        number: SegmentNumber::default(),
        // It is shown as it is.
        geometry: Geometry::new(Parity::Off, file_bytes),
        mendings: Arc::default(),
        dictionary: None,
    };
    Inspection::new(file, file_bytes)?.run(show)
}

struct Inspection {
    file: SegmentFile,
    header: Inspected,
    footer: Inspected,
    /// What stands behind the footer.
    trailer: Option<Trailer>,
    index: Option<BlockIndex>,
    /// Where the footer begins, or the file ends if it has no room for one.
    end: u64,
    /// How many bytes may still be read in looking for sections: a file made for it could else take
    /// the square of its length.
    search_bytes: u64,
}

impl Inspection {
    fn new(file: SegmentFile, file_bytes: u64) -> Result<Self> {
        let mut file = file;
        let (header, header_id) = inspect_header(&file, file_bytes)?;
        let units = |offset: u64, buffer: &mut [u8]| file.read_into(buffer, offset).is_ok();
        let tail = find_tail(&units, file_bytes);
        let trailer = tail.map(|tail| {
            let Tail {
                level,
                content_bytes,
                file_id,
            } = tail;
            Trailer::read(&units, level, content_bytes, file_id)
        });
        let content_bytes = tail.map_or(file_bytes, |tail| tail.content_bytes);
        let (footer, decoded) = inspect_footer(&file, content_bytes)?;
        let footer_id = decoded.map(|footer| footer.identity.file_id);
        file.file_id = header_id
            .filter(|_| header.verdict.is_ok())
            .or(footer_id)
            .or(header_id)
            .unwrap_or_default();
        let index = decoded.and_then(|footer| read_index(&file, &footer));
        let dictionary = decoded.map(|footer| open_dictionary(&file, &footer));
        file.dictionary = dictionary.and_then(Result::ok).flatten();
        Ok(Self {
            file,
            header,
            end: footer.offset,
            footer,
            trailer,
            index,
            search_bytes: file_bytes.saturating_mul(4).saturating_add(16 << 20),
        })
    }

    fn run(mut self, show: &mut dyn FnMut(Inspected)) -> Result<()> {
        let mut offset = self.header.bytes;
        show(self.header.clone());
        while offset < self.end {
            let part = match self.section_at(offset)? {
                Some(part) => part,
                None => self.unknown(offset)?,
            };
            offset += part.bytes;
            show(part);
        }
        show(self.footer);
        let Some(trailer) = self.trailer else {
            return Ok(());
        };
        for (part, place) in trailer.parts() {
            let (offset, bytes) = (place.start, place.end - place.start);
            let read = self.file.read(Extent { offset, bytes })?;
            show(Inspected {
                offset,
                bytes,
                verdict: trailer.check(part, &read),
                content: InspectedContent::Parity { name: part.name() },
            });
        }
        Ok(())
    }

    /// The length that the index gives to the block at `offset`.
    fn known_bytes(&self, offset: u64) -> Option<u64> {
        let index = self.index.as_ref()?;
        let (mut low, mut high) = (0, index.blocks());
        while low < high {
            let middle = low.midpoint(high);
            let place = index.extent(middle)?;
            if place.offset == offset {
                return Some(place.bytes);
            }
            if place.offset < offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        None
    }

    /// The section at `offset`: a good one, or a bad one whose length the index vouches for.
    fn section_at(&self, offset: u64) -> Result<Option<Inspected>> {
        let frame = self.frame_at(offset)?;
        let known = self.known_bytes(offset);
        let Some(bytes) = known.or(frame.map(|frame| frame.bytes.into())) else {
            return Ok(None);
        };
        if bytes > self.end - offset {
            return Ok(None);
        }
        let kind = match (known, frame) {
            (None, Some(frame)) => frame.kind,
            _ => SectionKind::Data,
        };
        let section = Bytes::from(self.file.read(Extent { offset, bytes })?);
        let verdict = verify_section(self.file.file_id, offset, kind, &section);
        if verdict.is_err() && known.is_none() && !self.plausible_end(offset + bytes)? {
            return Ok(None);
        }
        let dictionary = self.file.dictionary.as_ref();
        Ok(Some(content(offset, kind, section, verdict, dictionary)))
    }

    /// Whether something may follow here, so that the length which led here may be right.
    fn plausible_end(&self, offset: u64) -> Result<bool> {
        Ok(offset == self.end || self.frame_at(offset)?.is_some())
    }

    fn frame_at(&self, offset: u64) -> Result<Option<Frame>> {
        let bytes = (self.end - offset).min(FRAME_BYTES as u64);
        let frame = self.file.read(Extent { offset, bytes })?;
        Ok(Frame::peek(&frame))
    }

    /// The bytes from `offset` to the next good section.
    fn unknown(&mut self, offset: u64) -> Result<Inspected> {
        let next = self.search(offset + 1)?;
        Ok(Inspected {
            offset,
            bytes: next - offset,
            verdict: Err("nothing here can be recognised".into()),
            content: InspectedContent::Unknown,
        })
    }

    /// Where the next good section begins; the end if there is none.
    fn search(&mut self, from: u64) -> Result<u64> {
        let mut start = from;
        while start < self.end {
            // The last bytes are read again with the next piece: a frame may straddle the two.
            let bytes = (self.end - start).min(SEARCH_BYTES);
            let piece = self.file.read(Extent {
                offset: start,
                bytes,
            })?;
            for (at, frame) in piece.windows(FRAME_BYTES).enumerate() {
                let offset = start + at as u64;
                if let Some(frame) = Frame::peek(frame)
                    && self.is_good(offset, frame)?
                {
                    return Ok(offset);
                }
            }
            if bytes < SEARCH_BYTES || self.search_bytes == 0 {
                break;
            }
            start += bytes - (FRAME_BYTES as u64 - 1);
        }
        Ok(self.end)
    }

    fn is_good(&mut self, offset: u64, frame: Frame) -> Result<bool> {
        let bytes = u64::from(frame.bytes);
        if bytes > self.end - offset || bytes > self.search_bytes {
            return Ok(false);
        }
        self.search_bytes -= bytes;
        let section = self.file.read(Extent { offset, bytes })?;
        Ok(verify_section(self.file.file_id, offset, frame.kind, &section).is_ok())
    }
}

fn words(refusal: Refusal) -> String {
    match refusal {
        Refusal::Damaged(what) => what,
        Refusal::NewerFormat(version) => format!("of format {version}, newer than this version"),
    }
}

/// The header and the file id in it, right or not.
fn inspect_header(file: &SegmentFile, file_bytes: u64) -> Result<(Inspected, Option<FileId>)> {
    let bytes = file_bytes.min(HEADER_BYTES as u64);
    let header = file.read(Extent { offset: 0, bytes })?;
    let decoded = Identity::decode_header(&header);
    let part = Inspected {
        offset: 0,
        bytes,
        content: InspectedContent::Header {
            identity: decoded.as_ref().ok().copied(),
        },
        verdict: decoded.map(drop).map_err(words),
    };
    Ok((part, Identity::claimed_file_id(&header)))
}

/// The footer; one of no bytes at the end of the content if there is no room for one.
fn inspect_footer(file: &SegmentFile, content_bytes: u64) -> Result<(Inspected, Option<Footer>)> {
    let bytes = match content_bytes.checked_sub(HEADER_BYTES as u64) {
        Some(room) if room >= FOOTER_BYTES as u64 => FOOTER_BYTES as u64,
        _ => 0,
    };
    let offset = content_bytes - bytes;
    let decoded = Footer::decode(&file.read(Extent { offset, bytes })?, offset);
    let footer = decoded.as_ref().ok().copied();
    let part = Inspected {
        offset,
        bytes,
        verdict: match bytes {
            0 => Err("the file ends without a footer".into()),
            _ => decoded.map(drop).map_err(words),
        },
        content: InspectedContent::Footer { footer },
    };
    Ok((part, footer))
}

/// The index, if it is good: only then does it help.
fn read_index(file: &SegmentFile, footer: &Footer) -> Option<BlockIndex> {
    let section = file.read(footer.index).ok()?;
    let offset = footer.index.offset;
    verify_section(file.file_id, offset, SectionKind::Index, &section).ok()?;
    BlockIndex::parse(section.into(), HEADER_BYTES as u64..footer.data_end()).ok()
}

/// Decodes as much of a section as can be.
fn content(
    offset: u64,
    kind: SectionKind,
    section: Bytes,
    verdict: Result<Codec, String>,
    dictionary: Option<&Dictionary>,
) -> Inspected {
    let bytes = section.len() as u64;
    let (content, decoded) = match kind {
        SectionKind::Data => {
            let frame = Frame::peek(&section);
            let claimed = frame.map_or(Codec::None, |frame| frame.codec);
            block_content(&section, verdict.clone().unwrap_or(claimed), dictionary)
        }
        SectionKind::Index => {
            let count = section.get(FRAME_BYTES..).and_then(<[u8]>::first_chunk);
            let blocks = count.map_or(0, |count| u32::from_le_bytes(*count).into());
            (InspectedContent::Index { blocks }, Ok(()))
        }
        SectionKind::Dictionary => {
            let body = section.get(FRAME_BYTES..).unwrap_or_default();
            let usable = Dictionary::parse(body).is_ok();
            (InspectedContent::Dictionary { usable }, Ok(()))
        }
        SectionKind::Filter => {
            let filter = Filter::parse(&section);
            let usable = matches!(filter, Ok(Some(_)));
            (InspectedContent::Filter { usable }, filter.map(drop))
        }
        SectionKind::Properties => {
            let properties = section.get(FRAME_BYTES..).and_then(Properties::decode);
            let decoded = match properties {
                Some(_) => Ok(()),
                None => Err("properties: malformed under a good checksum".to_owned()),
            };
            (InspectedContent::Properties { properties }, decoded)
        }
    };
    Inspected {
        offset,
        bytes,
        verdict: verdict.map(drop).and(decoded),
        content,
    }
}

fn block_content(
    section: &[u8],
    codec: Codec,
    dictionary: Option<&Dictionary>,
) -> (InspectedContent, Result<(), String>) {
    let mut entries = 0;
    let mut first_key = None;
    let mut last_key: Option<Vec<u8>> = None;
    let mut plain_bytes = section.len() as u64;
    let mut walk = || {
        let block = compress::block(Cow::Borrowed(section), codec, dictionary)?;
        plain_bytes = block.bytes() as u64;
        let malformed = |_| Unreadable::Malformed;
        let mut cursor = BlockCursor::default();
        cursor.reset(&block);
        while cursor.next(&block).map_err(malformed)? {
            entries += 1;
            let key = cursor.entry(&block).map_or(&[][..], |entry| entry.key);
            first_key.get_or_insert_with(|| key.to_vec());
            let last_key = last_key.get_or_insert_default();
            last_key.clear();
            last_key.extend_from_slice(key);
        }
        Ok(())
    };
    let decoded: Result<(), Unreadable> = walk();
    let content = InspectedContent::Block {
        codec,
        plain_bytes,
        entries,
        first_key,
        last_key,
    };
    (content, decoded.map_err(Unreadable::what))
}

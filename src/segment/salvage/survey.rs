//! What a file's header, footer and sections say, as far as they can be read, and where its blocks are.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{LostPart, Place, Wreck};
use crate::codec::Reader;
use crate::error::{Error, Result};
use crate::parity::{Geometry, find_tail};
use crate::segment::compress::Dictionary;
use crate::segment::file::{Handle, SegmentFile};
use crate::segment::format::{
    Extent, FILE_BYTES_MIN, FOOTER_BYTES, FORMAT_VERSION, FRAME_BYTES, Footer, Frame, HEADER_BYTES,
    Identity, Refusal, SectionKind, verify_section,
};
use crate::segment::index::{BlockIndex, RECORD_BYTES as INDEX_RECORD_BYTES};
use crate::segment::open::{open_dictionary, open_index};
use crate::segment::properties::Properties;
use crate::types::{FileId, Parity, SegmentMeta, SegmentNumber};
use crate::vfs::{Access, Vfs};

/// Read at once while looking for the next section behind damage, in bytes.
const SEARCH_BYTES: u64 = 1 << 20;
/// Read at once where the disk can't read all of that.
const SECTOR_BYTES: u64 = 4096;

/// See [`Wreck::open`].
pub(super) fn open(
    vfs: &dyn Vfs,
    path: &Path,
    number: SegmentNumber,
    known: Option<&SegmentMeta>,
) -> Result<Wreck> {
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
        number,
        geometry: Geometry::new(Parity::Off, file_bytes),
        mendings: Arc::default(),
        dictionary: None,
    };
    let mut survey = Survey {
        wreck: Wreck::new(file, number),
        file_bytes,
        search_bytes: file_bytes.saturating_mul(4).saturating_add(16 << 20),
    };
    survey.run(known)?;
    Ok(survey.wreck)
}

struct Survey {
    wreck: Wreck,
    file_bytes: u64,
    /// How many bytes may still be read in looking for sections: a file made for it could else take
    /// the square of its length.
    search_bytes: u64,
}

impl Survey {
    fn run(&mut self, known: Option<&SegmentMeta>) -> Result<()> {
        let content_bytes = self.place(known);
        let header = self.header()?;
        let footer = self.footer(content_bytes, header.is_some())?;
        let of_file = |identity: &Identity| known.is_none_or(|k| k.file_id == identity.file_id);
        self.wreck.identity = footer.map(|footer| footer.identity).or(header);
        if let Some(identity) = self.wreck.identity.filter(|found| !of_file(found)) {
            let what = format!(
                "this is segment {} with id {}, where another belongs",
                identity.number, identity.file_id
            );
            let (offset, bytes) = (0, self.file_bytes);
            self.lose(Extent { offset, bytes }, &what);
            return Ok(());
        }
        if known.is_none()
            && let Some(identity) = self.wreck.identity
        {
            self.wreck.file.file_id = identity.file_id;
        }
        self.wreck.known = known.cloned();
        self.wreck.loaded_at = known.map(|known| known.loaded_at).unwrap_or_default();
        if let Some(footer) = footer {
            self.sections(&footer)?;
        }
        match &self.wreck.index {
            Some(index) => {
                let places = (0..index.blocks()).filter_map(|block| index.extent(block));
                self.wreck.places = places.map(Place::Block).collect();
            }
            None => {
                self.walk(footer.map_or(content_bytes, |footer| footer.data_end()));
                self.end_unsure(content_bytes);
            }
        }
        if self.wreck.properties.is_none() && known.is_none_or(|k| k.range_deletes > 0) {
            let (offset, bytes) = match footer {
                Some(footer) => (footer.properties.offset, footer.properties.bytes),
                None => (content_bytes.min(self.file_bytes), 0),
            };
            let what = "its properties can't be read: keys that its range deletions deleted, if it has any, \
                        may be back";
            self.lose(Extent { offset, bytes }, what);
        }
        Ok(())
    }

    /// Without an index, and with nothing that follows the blocks, there may have been more of them.
    fn end_unsure(&mut self, content_bytes: u64) {
        let wreck = &mut self.wreck;
        if wreck.index.is_some() || wreck.properties.is_some() {
            return;
        }
        let offset = self.file_bytes.min(content_bytes);
        let bytes = content_bytes - offset;
        let what = "what followed is lost, if anything did";
        wreck
            .places
            .push(Place::Gap(Extent { offset, bytes }, what));
    }

    fn lose(&mut self, place: Extent, what: &str) {
        let damage = self.wreck.file.damage(place, what);
        let (from, to) = (None, None);
        self.wreck.lost.push(LostPart { damage, from, to });
    }

    /// How the file lies, and where its content ends.
    fn place(&mut self, known: Option<&SegmentMeta>) -> u64 {
        let file = &mut self.wreck.file;
        if let Some(known) = known {
            file.geometry = Geometry::new(known.parity, known.content_bytes);
            file.file_id = known.file_id;
            return known.content_bytes;
        }
        let units = |offset: u64, buffer: &mut [u8]| file.read_into(buffer, offset).is_ok();
        let Some(tail) = find_tail(&units, self.file_bytes) else {
            return self.file_bytes;
        };
        file.geometry = Geometry::new(tail.level, tail.content_bytes);
        file.file_id = tail.file_id;
        tail.content_bytes
    }

    /// Bytes as they are, or as parity makes them.
    fn read(&self, place: Extent) -> Option<Vec<u8>> {
        let file = &self.wreck.file;
        file.read(place).ok().or_else(|| file.heal(place))
    }

    fn header(&mut self) -> Result<Option<Identity>> {
        let place = Extent {
            offset: 0,
            bytes: (HEADER_BYTES as u64).min(self.file_bytes),
        };
        let read = self.wreck.file.read(place).unwrap_or_default();
        let healed = || self.wreck.file.heal(place).unwrap_or_default();
        let claimed = Identity::claimed_file_id(&read);
        let decoded = match Identity::decode_header(&read) {
            Err(Refusal::Damaged(_)) => Identity::decode_header(&healed()),
            decoded => decoded,
        };
        match decoded {
            Ok(identity) => Ok(Some(identity)),
            Err(Refusal::NewerFormat(found)) => Err(self.newer(found)),
            Err(Refusal::Damaged(_)) => {
                // It may be right all the same: each block's checksum says so, or doesn't.
                if self.wreck.file.file_id == FileId::default() {
                    self.wreck.file.file_id = claimed.unwrap_or_default();
                }
                Ok(None)
            }
        }
    }

    fn footer(&mut self, content_bytes: u64, has_header: bool) -> Result<Option<Footer>> {
        if content_bytes < FILE_BYTES_MIN {
            return Ok(None);
        }
        let offset = content_bytes - FOOTER_BYTES as u64;
        let bytes = FOOTER_BYTES as u64;
        let place = Extent { offset, bytes };
        let read = self.wreck.file.read(place).unwrap_or_default();
        let decoded = match Footer::decode(&read, offset) {
            Err(Refusal::Damaged(_)) => match self.wreck.file.heal(place) {
                Some(healed) => Footer::decode(&healed, offset),
                None => return Ok(None),
            },
            decoded => decoded,
        };
        match decoded {
            Err(Refusal::NewerFormat(found)) if !has_header => Err(self.newer(found)),
            decoded => Ok(decoded.ok()),
        }
    }

    fn newer(&self, found: u32) -> Error {
        Error::NewerFormat {
            path: self.wreck.file.path.clone(),
            found,
            supported: FORMAT_VERSION,
        }
    }

    /// What stands around the blocks, with a footer to go by.
    fn sections(&mut self, footer: &Footer) -> Result<()> {
        let dictionary = open_dictionary(&self.wreck.file, footer);
        self.wreck.file.dictionary = readable(dictionary)?.flatten();
        let place = footer.properties;
        let section = self.wreck.file.read_section(place, SectionKind::Properties);
        let section = readable(section)?;
        self.wreck.properties = section.and_then(|section| properties(&section));
        self.wreck.index = readable(open_index(&self.wreck.file, footer))?;
        Ok(())
    }

    /// Goes from section to section, and looks for the next one behind what isn't one.
    fn walk(&mut self, end: u64) {
        let end = end.min(self.file_bytes);
        let mut offset = HEADER_BYTES as u64;
        while offset < end {
            match self.section_at(offset, end) {
                Some((kind, section)) => {
                    let bytes = section.len() as u64;
                    self.take(kind, Extent { offset, bytes }, section);
                    offset += bytes;
                }
                None => {
                    let next = self.search(offset + 1, end);
                    let bytes = next - offset;
                    let is_footer = next == end && bytes == FOOTER_BYTES as u64;
                    // With an index it is known where all blocks are.
                    if !is_footer && self.wreck.index.is_none() {
                        let what = "nothing here can be recognised";
                        let gap = Place::Gap(Extent { offset, bytes }, what);
                        self.wreck.places.push(gap);
                    }
                    offset = next;
                }
            }
        }
    }

    fn take(&mut self, kind: SectionKind, place: Extent, section: Vec<u8>) {
        match kind {
            SectionKind::Data => self.wreck.places.push(Place::Block(place)),
            SectionKind::Dictionary => {
                let body = section.get(FRAME_BYTES..).unwrap_or_default();
                self.wreck.file.dictionary = Dictionary::parse(body).ok();
            }
            SectionKind::Properties => self.wreck.properties = properties(&section),
            SectionKind::Index => {
                let data = HEADER_BYTES as u64..blocks_end(&section);
                let index = BlockIndex::parse(Bytes::from(section), data);
                if let Ok(index) = index {
                    let places = (0..index.blocks()).filter_map(|block| index.extent(block));
                    self.wreck.places = places.map(Place::Block).collect();
                    self.wreck.index = Some(index);
                }
            }
            SectionKind::Filter => {}
        }
    }

    /// The good section at `offset`, from the disk or from parity.
    fn section_at(&mut self, offset: u64, end: u64) -> Option<(SectionKind, Vec<u8>)> {
        let file = &self.wreck.file;
        let bytes = (end - offset).min(FRAME_BYTES as u64);
        let place = Extent { offset, bytes };
        let good = |read: &dyn Fn(Extent) -> Option<Vec<u8>>| {
            let frame = Frame::peek(&read(place)?)?;
            let bytes = u64::from(frame.bytes);
            let section = (bytes <= end - offset).then(|| read(Extent { offset, bytes }))??;
            verify_section(file.file_id, offset, frame.kind, &section).ok()?;
            Some((frame.kind, section))
        };
        good(&|place| file.read(place).ok()).or_else(|| good(&|place| file.heal(place)))
    }

    /// Where the next good section begins; the end if there is none.
    fn search(&mut self, from: u64, end: u64) -> u64 {
        let mut start = from;
        while start < end {
            // The last bytes are read again with the next piece: a frame may straddle the two.
            let bytes = (end - start).min(SEARCH_BYTES);
            let piece = self.read_leniently(start, bytes);
            for (at, frame) in piece.windows(FRAME_BYTES).enumerate() {
                let offset = start + at as u64;
                if let Some(frame) = Frame::peek(frame)
                    && self.is_good(offset, frame, end)
                {
                    return offset;
                }
            }
            if bytes < SEARCH_BYTES || self.search_bytes == 0 {
                break;
            }
            start += bytes - (FRAME_BYTES as u64 - 1);
        }
        end
    }

    /// Bytes as they are; zeros where the disk can't read.
    fn read_leniently(&self, offset: u64, bytes: u64) -> Vec<u8> {
        if let Ok(read) = self.wreck.file.read(Extent { offset, bytes }) {
            return read;
        }
        let mut all = Vec::new();
        while (all.len() as u64) < bytes {
            let at = offset + all.len() as u64;
            let here = (SECTOR_BYTES - at % SECTOR_BYTES).min(bytes - all.len() as u64);
            let place = Extent {
                offset: at,
                bytes: here,
            };
            let read = self.read(place);
            all.extend(read.unwrap_or_else(|| vec![0; here as usize]));
        }
        all
    }

    fn is_good(&mut self, offset: u64, frame: Frame, end: u64) -> bool {
        let bytes = u64::from(frame.bytes);
        if bytes > end - offset || bytes > self.search_bytes {
            return false;
        }
        self.search_bytes -= bytes;
        let Ok(section) = self.wreck.file.read(Extent { offset, bytes }) else {
            return false;
        };
        verify_section(self.wreck.file.file_id, offset, frame.kind, &section).is_ok()
    }
}

/// Where the last block ends that an index names.
fn blocks_end(section: &[u8]) -> u64 {
    let mut reader = Reader::new(section.get(FRAME_BYTES..).unwrap_or_default());
    let last = || {
        let blocks = reader.u32()?.checked_sub(1)?;
        reader.bytes(
            usize::try_from(blocks)
                .ok()?
                .checked_mul(INDEX_RECORD_BYTES)?,
        )?;
        reader.u64()?.checked_add(reader.u32()?.into())
    };
    let mut last = last;
    last().unwrap_or(HEADER_BYTES as u64)
}

fn properties(section: &[u8]) -> Option<Properties> {
    section.get(FRAME_BYTES..).and_then(Properties::decode)
}

/// `None` if it is lost; an error only if this build can't read it.
fn readable<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Err(error @ (Error::FeatureMissing { .. } | Error::NewerFormat { .. })) => Err(error),
        outcome => Ok(outcome.ok()),
    }
}

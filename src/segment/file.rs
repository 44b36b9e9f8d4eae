//! The file under a segment: reads that are verified, and the words for what is wrong with it.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::block::Block;
use super::compress::{self, Dictionary, Unreadable};
use super::format::{Extent, SectionKind, verify_section};
use super::mending::Mendings;
use crate::error::{Damage, Error, Result};
use crate::parity::{Geometry, Healed, heal};
use crate::types::{Codec, FileId, SegmentNumber};
use crate::vfs::File;

/// An open file, which can be exchanged for another one with the same content.
pub(super) struct Handle(ArcSwap<Arc<dyn File>>);

impl Handle {
    pub(super) fn new(file: Arc<dyn File>) -> Self {
        Self(ArcSwap::from_pointee(file))
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.load().read_at(buffer, offset)
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        self.0.load().len()
    }

    pub(super) fn replace(&self, file: Arc<dyn File>) {
        self.0.store(Arc::new(file));
    }
}

/// The file under a segment: reads, and the words for what is wrong with it.
pub(super) struct SegmentFile {
    pub(super) file: Handle,
    pub(super) path: PathBuf,
    pub(super) file_id: FileId,
    pub(super) number: SegmentNumber,
    /// How its parity lies.
    pub(super) geometry: Geometry,
    /// Who is told of what was put together again.
    pub(super) mendings: Arc<Mendings>,
    /// What its blocks were packed against.
    pub(super) dictionary: Option<Dictionary>,
}

impl SegmentFile {
    pub(super) fn damage(&self, place: Extent, what: impl Into<String>) -> Damage {
        Damage::new(&self.path, place.offset, place.bytes, what)
    }

    pub(super) fn damaged(&self, place: Extent, what: impl Into<String>) -> Error {
        Error::damaged(self.damage(place, what))
    }

    /// Reads bytes that the file must have. Call it only with a length that the file's own length
    /// has vouched for.
    pub(super) fn read(&self, place: Extent) -> Result<Vec<u8>> {
        let bytes = usize::try_from(place.bytes)
            .map_err(|_| self.damaged(place, "longer than this machine can address"))?;
        let mut buffer = vec![0; bytes];
        self.read_into(&mut buffer, place.offset)?;
        Ok(buffer)
    }

    pub(super) fn read_into(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let found = self
            .file
            .read_at(buffer, offset)
            .map_err(|error| Error::io("read", &self.path, error))?;
        if found == buffer.len() {
            return Ok(());
        }
        let missing = Extent {
            offset: offset + found as u64,
            bytes: (buffer.len() - found) as u64,
        };
        Err(self.damaged(missing, "the file ends before its content does"))
    }

    /// Reads a section and verifies its checksum.
    pub(super) fn read_section(&self, place: Extent, kind: SectionKind) -> Result<Bytes> {
        let section = self.read(place).map(Cow::Owned);
        let (section, _) = self.sound(place, kind, section)?;
        Ok(section.into_owned().into())
    }

    fn verify(&self, offset: u64, kind: SectionKind, section: &[u8]) -> Result<Codec> {
        verify_section(self.file_id, offset, kind, section).map_err(|what| {
            let bytes = section.len() as u64;
            self.damaged(Extent { offset, bytes }, what)
        })
    }

    /// A section that is as it was written: as it was read, or else as parity makes it.
    fn sound<'a>(
        &self,
        place: Extent,
        kind: SectionKind,
        read: Result<Cow<'a, [u8]>>,
    ) -> Result<(Cow<'a, [u8]>, Codec)> {
        let checked = read.and_then(|section| {
            let codec = self.verify(place.offset, kind, &section)?;
            Ok((section, codec))
        });
        match checked {
            Err(error @ (Error::Damaged(_) | Error::Io { .. } | Error::NoSpace { .. })) => {
                let Some(section) = self.heal(place) else {
                    self.mendings.note(self.number, self.file_id, &[]);
                    return Err(error);
                };
                let codec = self.verify(place.offset, kind, &section)?;
                Ok((Cow::Owned(section), codec))
            }
            sound => sound,
        }
    }

    /// The bytes of a place as they were written, if parity can tell. Those who write the file anew are told.
    pub(super) fn heal(&self, place: Extent) -> Option<Vec<u8>> {
        let healed = self.healed(place).ok()?;
        // None if the disk has it right after all, asked again.
        if !healed.units.is_empty() {
            self.mendings.note(self.number, self.file_id, &healed.units);
        }
        Some(healed.bytes)
    }

    /// The bytes of a place as they were written, and what had to be put together again.
    pub(super) fn healed(&self, place: Extent) -> Result<Healed> {
        let units = |offset: u64, buffer: &mut [u8]| {
            let wanted = buffer.len();
            let read = self.file.read_at(buffer, offset);
            read.is_ok_and(|bytes| bytes == wanted)
        };
        let range = place.offset..place.end();
        let healed = heal(&units, &self.geometry, self.file_id, range);
        healed.map_err(|why| self.damaged(place, format!("beyond repair: {why}")))
    }

    /// Verifies the bytes of a data block that were read at a place, or puts them together again.
    pub(super) fn verified_block(
        &self,
        place: Extent,
        section: Result<Cow<'_, [u8]>>,
    ) -> Result<Block> {
        let (section, codec) = self.sound(place, SectionKind::Data, section)?;
        let block = compress::block(section, codec, self.dictionary.as_ref());
        block.map_err(|why| self.unreadable(place, why))
    }

    pub(super) fn unreadable(&self, place: Extent, why: Unreadable) -> Error {
        match why {
            Unreadable::Malformed => self.damaged(place, why.what()),
            Unreadable::MissingFeature(feature) => self.missing_feature(feature),
        }
    }

    pub(super) fn missing_feature(&self, feature: &'static str) -> Error {
        let path = self.path.clone();
        Error::FeatureMissing { path, feature }
    }
}

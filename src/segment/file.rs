//! The file under a segment: reads that are verified, and the words for what is wrong with it.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::block::Block;
use super::compress::{self, Dictionary, Unreadable};
use super::format::{Extent, SectionKind, verify_section};
use crate::error::{Damage, Error, Result};
use crate::types::{Codec, FileId};
use crate::vfs::File;

/// The file under a segment: reads, and the words for what is wrong with it.
pub(super) struct SegmentFile {
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    pub(super) file_id: FileId,
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
        let section = self.read(place)?;
        self.verify(place.offset, kind, &section)?;
        Ok(section.into())
    }

    fn verify(&self, offset: u64, kind: SectionKind, section: &[u8]) -> Result<Codec> {
        verify_section(self.file_id, offset, kind, section).map_err(|what| {
            let bytes = section.len() as u64;
            self.damaged(Extent { offset, bytes }, what)
        })
    }

    /// Verifies the bytes of a data block that were read at `offset`.
    pub(super) fn verified_block(&self, offset: u64, section: Cow<'_, [u8]>) -> Result<Block> {
        let codec = self.verify(offset, SectionKind::Data, &section)?;
        let bytes = section.len() as u64;
        let block = compress::block(section, codec, self.dictionary.as_ref());
        block.map_err(|why| self.unreadable(Extent { offset, bytes }, why))
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

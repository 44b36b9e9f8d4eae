//! The bytes of a segment on their way to its file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::compress::Packer;
use super::format::{Extent, SectionKind, seal_packed};
use crate::codec::digest;
use crate::error::{Error, Result};
use crate::parity::ParityEncoder;
use crate::types::{Codec, FileId};
use crate::vfs::File;

/// What is gathered before it is handed to the disk, in bytes.
pub const WRITE_BYTES: usize = 512 << 10;

/// The bytes on their way to the file.
pub struct Output {
    /// The file.
    pub file: Arc<dyn File>,
    /// Its path.
    pub path: PathBuf,
    buffer: Vec<u8>,
    /// Bytes handed to the disk.
    pub written: u64,
    /// A hash of those.
    pub digest: Xxh3,
    /// What makes the trailer from what goes by.
    parity: Option<ParityEncoder>,
    /// Set once a write has failed: what is in the file is then unknown, and nothing may follow.
    broken: bool,
}

impl Output {
    /// Begins a new, empty file with these bytes.
    pub fn new(file: Arc<dyn File>, path: PathBuf, header: Vec<u8>, parity: ParityEncoder) -> Self {
        Self {
            file,
            path,
            buffer: header,
            written: 0,
            digest: digest(),
            parity: Some(parity),
            broken: false,
        }
    }

    /// Where the next byte goes.
    pub fn offset(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Appends bytes, which may stay in memory for a while.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > WRITE_BYTES {
            self.flush()?;
        }
        if bytes.len() < WRITE_BYTES {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.write(bytes)
    }

    /// Hands everything to the disk.
    pub fn flush(&mut self) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = self.write(&buffer);
        buffer.clear();
        self.buffer = buffer;
        outcome
    }

    /// Hands everything to the disk, and then the parity of it. Returns how many bytes are none.
    pub fn finish(&mut self) -> Result<u64> {
        self.flush()?;
        let content_bytes = self.written;
        if let Some(parity) = self.parity.take() {
            let trailer = parity.finish();
            let trailer = trailer.map_err(|e| Error::io("make parity for", &self.path, e))?;
            self.write(&trailer)?;
        }
        Ok(content_bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.check()?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.broken = true;
        self.file
            .write_at(bytes, self.written)
            .map_err(|error| Error::io("write", &self.path, error))?;
        self.broken = false;
        self.digest.update(bytes);
        if let Some(parity) = &mut self.parity {
            let made = parity.update(bytes);
            made.map_err(|error| Error::io("make parity for", &self.path, error))?;
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Refuses once a write has failed.
    pub fn check(&self) -> Result<()> {
        if !self.broken {
            return Ok(());
        }
        let error = io::Error::other("an earlier write to it failed");
        Err(Error::io("write", &self.path, error))
    }

    /// Writes a block, packed if that makes it shorter.
    pub fn write_block(
        &mut self,
        packer: &mut Packer,
        file: FileId,
        section: &mut [u8],
    ) -> Result<Extent> {
        let offset = self.offset();
        let codec = packer.codec();
        let (codec, section) = match packer.pack(section) {
            Some(packed) => (codec, packed),
            None => (Codec::None, section),
        };
        if !seal_packed(file, offset, SectionKind::Data, codec, section) {
            return Err(self.too_large());
        }
        self.append(section)?;
        let bytes = section.len() as u64;
        packer.shrink(WRITE_BYTES);
        Ok(Extent { offset, bytes })
    }

    /// What to say of a section that no frame can hold.
    pub fn too_large(&self) -> Error {
        let error = io::Error::new(io::ErrorKind::FileTooLarge, "a section of over 4 GiB");
        Error::io("write", &self.path, error)
    }
}

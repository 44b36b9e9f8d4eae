//! Reading a file through a mapping of it into memory.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use memmap2::{MmapOptions, MmapRaw};

use super::File;

/// A file that is read through a mapping.
///
/// What is read is copied out, and checked by the caller in the copy: a page may be dropped and read again
/// from the disk at any time, so a check of the mapping itself would tell nothing of the next look at it.
#[derive(Debug)]
pub(super) struct MappedFile {
    /// `None` for an empty file, which can't be mapped.
    mapping: Option<MmapRaw>,
}

impl MappedFile {
    /// Maps an existing file, as long as it is now.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = fs::File::open(path)?;
        let empty = file.metadata()?.len() == 0;
        let mapping = match empty {
            true => None,
            false => Some(MmapOptions::new().map_raw_read_only(&file)?),
        };
        Ok(Self { mapping })
    }
}

impl File for MappedFile {
    /// A bad sector under the mapping, or a file that someone cut short, kills the process here.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(mapping) = &self.mapping else {
            return Ok(0);
        };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = buffer.len().min(mapping.len().saturating_sub(offset));
        if bytes > 0 {
            // SAFETY: `offset + bytes` is within the mapping, which lives as long as `self`; `buffer` has
            // room for `bytes` and is no part of it. No reference to the mapped bytes is made, so nothing
            // is promised of them: who writes to the file meanwhile garbles the copy, which is checked.
            unsafe {
                let from = mapping.as_ptr().add(offset);
                buffer.as_mut_ptr().copy_from_nonoverlapping(from, bytes);
            }
        }
        Ok(bytes)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.mapping.as_ref().map_or(0, MmapRaw::len) as u64)
    }

    fn preallocate(&self, _: u64) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }
}

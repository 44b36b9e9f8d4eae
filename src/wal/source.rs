//! Bytes of one log file as recovery sees them: through the cache where a sync is proved, past it where
//! it isn't.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::vfs::File;

use super::format::UNIT_BYTES;

/// How much is read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Where to read a file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    path: PathBuf,
    file: Arc<dyn File>,
    /// The same file past the page cache, for offsets from the given one on.
    direct: Option<(u64, Arc<dyn File>)>,
    len: u64,
    /// Units that can't be read count as damaged, in place of an error.
    lenient: bool,
    /// Units that parity knows better than the disk, by their offsets.
    patches: Arc<Patches>,
}

/// Units of a file as they should be, by their offsets.
pub(crate) type Patches = BTreeMap<u64, Vec<u8>>;

impl Source {
    /// A file to read through the cache.
    pub fn new(path: &Path, file: Arc<dyn File>, lenient: bool) -> Result<Self> {
        let len = file.len().map_err(|e| Error::io("read", path, e))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            direct: None,
            len,
            lenient,
            patches: Arc::default(),
        })
    }

    /// From `offset` on reads go past the page cache.
    pub fn read_direct_from(&mut self, offset: u64, file: Arc<dyn File>) -> Result<()> {
        self.len = file.len().map_err(|e| Error::io("read", &self.path, e))?;
        self.direct = Some((offset, file));
        Ok(())
    }

    /// The file's length.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The same file with these units in place of what the disk has there.
    pub fn patched(&self, patches: &Patches) -> Self {
        let last = patches
            .last_key_value()
            .map_or(0, |(at, _)| at + UNIT_BYTES);
        let mut patched = self.clone();
        // What was cut off may be among them.
        patched.len = self.len.max(last);
        patched.patches = Arc::new(patches.clone());
        patched
    }

    /// The same file, of which what can't be read is an error.
    pub fn strict(&self) -> Self {
        let mut strict = self.clone();
        strict.lenient = false;
        strict
    }

    /// Fills `buffer` from `offset`; returns how much there was before the end of the file.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        if self.patches.is_empty() {
            return self.read_disk(buffer, offset);
        }
        let there = self.len.saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX);
        let there = there.min(buffer.len());
        let Some(buffer) = buffer.get_mut(..there) else {
            return Ok(0);
        };
        match self.read_disk(buffer, offset) {
            Ok(read) => {
                buffer.iter_mut().skip(read).for_each(|byte| *byte = 0);
                self.patch(buffer, offset);
            }
            Err(_) => self.read_around_patches(buffer, offset)?,
        }
        Ok(there)
    }

    /// Puts the patches into what was read from `offset` on.
    fn patch(&self, buffer: &mut [u8], offset: u64) {
        let end = offset.saturating_add(buffer.len() as u64);
        let first = offset - offset % UNIT_BYTES;
        for (&at, unit) in self.patches.range(first..end) {
            let (skip, to) = (offset.saturating_sub(at), at.saturating_sub(offset));
            let unit = unit.get(skip as usize..).unwrap_or_default();
            let room = buffer.get_mut(to as usize..).unwrap_or_default();
            let bytes = unit.len().min(room.len());
            if let (Some(room), Some(unit)) = (room.get_mut(..bytes), unit.get(..bytes)) {
                room.copy_from_slice(unit);
            }
        }
    }

    /// Unit by unit, those that needn't be asked of the disk not.
    fn read_around_patches(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let mut at = 0;
        while at < buffer.len() {
            let here = offset + at as u64;
            let end = (at + (UNIT_BYTES - here % UNIT_BYTES) as usize).min(buffer.len());
            let Some(part) = buffer.get_mut(at..end) else {
                break;
            };
            if self.patches.contains_key(&(here - here % UNIT_BYTES)) {
                self.patch(part, here);
            } else {
                let read = self.read_disk(part, here)?;
                part.iter_mut().skip(read).for_each(|byte| *byte = 0);
            }
            at = end;
        }
        Ok(())
    }

    fn read_disk(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let Some((from, direct)) = &self.direct else {
            return self.read_from(&*self.file, buffer, offset);
        };
        if offset >= *from {
            return self.read_from(&**direct, buffer, offset);
        }
        let cached = usize::try_from(from - offset).unwrap_or(usize::MAX);
        if cached >= buffer.len() {
            return self.read_from(&*self.file, buffer, offset);
        }
        let (head, tail) = buffer.split_at_mut(cached);
        let read = self.read_from(&*self.file, head, offset)?;
        if read < cached {
            return Ok(read);
        }
        Ok(read + self.read_from(&**direct, tail, *from)?)
    }

    fn read_from(&self, file: &dyn File, buffer: &mut [u8], offset: u64) -> Result<usize> {
        match file.read_at(buffer, offset) {
            Ok(read) => Ok(read),
            Err(_) if self.lenient => Ok(self.read_what_can_be_read(file, buffer, offset)),
            Err(error) => Err(Error::io("read", &self.path, error)),
        }
    }

    /// Reads unit by unit; one that can't be read is left zero.
    fn read_what_can_be_read(&self, file: &dyn File, buffer: &mut [u8], offset: u64) -> usize {
        let there = self.len.saturating_sub(offset);
        let there = usize::try_from(there)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let mut at = 0;
        while at < there {
            let to_boundary = UNIT_BYTES - (offset + at as u64) % UNIT_BYTES;
            let end = (at + to_boundary as usize).min(there);
            if file
                .read_at(&mut buffer[at..end], offset + at as u64)
                .is_err()
            {
                buffer[at..end].fill(0);
            }
            at = end;
        }
        there
    }
}

/// A stretch of a file in memory, which moves as it is asked for what lies further on.
#[derive(Debug)]
pub(crate) struct Window {
    source: Source,
    start: u64,
    bytes: Vec<u8>,
    filled: usize,
}

impl Window {
    pub fn new(source: Source) -> Self {
        Self {
            source,
            start: 0,
            bytes: Vec::new(),
            filled: 0,
        }
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    /// At least `want` bytes from `offset`, or all up to the file's end.
    pub fn view(&mut self, offset: u64, want: usize) -> Result<&[u8]> {
        let within = offset.checked_sub(self.start);
        let at = within.and_then(|at| usize::try_from(at).ok());
        let there = at.and_then(|at| self.filled.checked_sub(at)).unwrap_or(0);
        let rest = self.source.len().saturating_sub(offset);
        let wanted = (want as u64).min(rest) as usize;
        if there >= wanted {
            let at = at.unwrap_or(self.filled).min(self.filled);
            return Ok(&self.bytes[at..self.filled]);
        }
        let load = wanted
            .max(CHUNK_BYTES)
            .min(usize::try_from(rest).unwrap_or(usize::MAX));
        if self.bytes.len() < load {
            self.bytes.resize(load, 0);
        }
        self.filled = 0;
        self.start = offset;
        self.filled = self.source.read(&mut self.bytes[..load], offset)?;
        Ok(&self.bytes[..self.filled])
    }
}

//! Writes a damaged segment anew, byte for byte as it was.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::Extent;
use super::open::open_file;
use super::output::Output;
use super::reader::Segment;
use super::temporary_name;
use crate::codec::digest;
use crate::error::{Damage, Error, Result};
use crate::parity::{GROUP_UNITS, ParityEncoder, UNIT_BYTES};
use crate::vfs::{Access, File, Vfs};

/// A copy of a segment that is as the file was when it was written. It has a temporary name.
#[derive(Clone, Debug)]
pub struct Anew {
    /// Where it is.
    pub path: PathBuf,
    /// Offsets of the units of content that had to be put together again.
    pub units: Vec<u64>,
    /// Open, to be read.
    file: Arc<dyn File>,
}

impl Segment {
    /// Whether the file is what the manifest says, to the byte. Reads all of it and asks `go_on` before each MiB: past
    /// the page cache by its name, on a disk that has a way to do that; as reads see it, without one.
    ///
    /// # Errors
    /// What `go_on` answers. What the disk can't read isn't whole, nor is what has lost its name.
    pub fn is_whole(&self, disk: Option<&dyn Vfs>, go_on: &dyn Fn() -> Result<()>) -> Result<bool> {
        let direct = match disk.map(|disk| disk.open(&self.file.path, Access::ReadDirect)) {
            Some(Err(error)) if error.kind() == ErrorKind::NotFound => return Ok(false),
            direct => direct.and_then(std::io::Result::ok),
        };
        let read_at = |buffer: &mut [u8], offset| match &direct {
            Some(file) => file.read_at(buffer, offset),
            None => self.file.file.read_at(buffer, offset),
        };
        let mut digest = digest();
        let mut buffer = vec![0; GROUP_UNITS as usize * UNIT_BYTES];
        let mut offset = 0;
        loop {
            go_on()?;
            match read_at(&mut buffer, offset) {
                Ok(0) => return Ok(digest.digest128() == self.meta.digest),
                Ok(bytes) => {
                    digest.update(buffer.get(..bytes).unwrap_or_default());
                    offset += bytes as u64;
                }
                Err(_) => return Ok(false),
            }
        }
    }

    /// Damage of which nobody knows where in the file it is.
    #[must_use]
    pub fn damage_as_a_whole(&self, what: &str) -> Damage {
        let bytes = self.meta.bytes;
        self.file.damage(Extent { offset: 0, bytes }, what)
    }

    /// Reads from the copy from now on. It is to be put in the segment's place.
    pub fn read_from(&self, anew: Anew) {
        self.file.file.replace(anew.file);
    }

    /// Writes the segment anew beside itself, from what is good of it and from its parity, and makes it durable.
    /// The copy is the file as it was published, proved by the digest in the manifest; putting it in its place is
    /// the caller's business. `go_on` is asked before each MiB.
    ///
    /// # Errors
    /// `Damaged` if too much is lost, what the disk answers, or what `go_on` does. What was written is then removed
    /// as far as the disk lets it.
    pub fn write_anew(
        &self,
        vfs: &dyn Vfs,
        dir: &Path,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Anew> {
        let path = dir.join(temporary_name(self.meta.number));
        let written = self.write_content(vfs, &path, go_on);
        if written.is_err() {
            let _ = vfs.remove(&path);
        }
        written
    }

    fn write_content(
        &self,
        vfs: &dyn Vfs,
        path: &Path,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Anew> {
        let file = vfs.open(path, Access::CreateOrTruncate);
        let file = file.map_err(|error| Error::io("create", path, error))?;
        let parity = ParityEncoder::new(self.meta.parity, self.meta.file_id);
        let mut output = Output::new(Arc::clone(&file), path.to_owned(), Vec::new(), parity);
        let mut units = Vec::new();
        let group_bytes = GROUP_UNITS * UNIT_BYTES as u64;
        let mut offset = 0;
        while offset < self.meta.content_bytes {
            go_on()?;
            let bytes = group_bytes.min(self.meta.content_bytes - offset);
            let place = Extent { offset, bytes };
            match self.file.healed(place) {
                Ok(healed) => {
                    output.append(&healed.bytes)?;
                    units.extend(healed.units);
                }
                // With nothing left of the parity the content may still be whole: the digest will tell.
                Err(why) => {
                    let read = self.file.read(place).map_err(|_| why)?;
                    output.append(&read)?;
                }
            }
            offset += bytes;
        }
        output.finish()?;
        file.sync_data()
            .map_err(|error| Error::io("sync", path, error))?;
        if output.digest.digest128() != self.meta.digest {
            let place = Extent {
                offset: 0,
                bytes: self.meta.bytes,
            };
            let what = "it is damaged beyond what parity makes up for";
            return Err(self.file.damaged(place, what));
        }
        // Now, while nothing depends on whether it can be.
        let file = open_file(vfs, path, self.cache.policy());
        let file = file.map_err(|error| Error::io("open", path, error))?;
        let path = path.to_owned();
        Ok(Anew { path, units, file })
    }
}

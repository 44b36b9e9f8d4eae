//! Walks a folder of files.

use std::fs::{self, DirEntry, Metadata, ReadDir};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

/// Something in a folder that is no folder.
pub struct Found {
    /// Its path from where the walk began, with `/` between the names.
    pub key: Vec<u8>,
    /// Its path.
    pub path: PathBuf,
    /// Its length, if it is a regular file.
    pub bytes: Option<u64>,
}

/// Everything under a folder, in no order. Links aren't followed. A folder that can't be listed is an
/// error, after which the walk can go on.
pub struct Walk {
    pending: Vec<(PathBuf, Vec<u8>)>,
    current: Option<(ReadDir, PathBuf, Vec<u8>)>,
    left_out: Option<Identity>,
    /// Whether the folder to leave out has been met.
    pub met: bool,
}

/// Which folder it is, whatever path leads there.
pub type Identity = (u64, u64);

/// The folder that this describes.
pub fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

impl Walk {
    /// Begins at `root` and leaves out the folder `left_out`, be it `root` or under it.
    pub fn new(root: &Path, left_out: &Path) -> Self {
        let folder = |path| fs::metadata(path).ok().map(|found| identity(&found));
        let left_out = folder(left_out);
        let met = left_out.is_some() && folder(root) == left_out;
        let pending = if met {
            Vec::new()
        } else {
            vec![(root.to_owned(), Vec::new())]
        };
        Self {
            pending,
            current: None,
            left_out,
            met,
        }
    }

    /// The next entry of the current folder, or of the next one.
    fn entry(&mut self) -> Option<Outcome<(DirEntry, Vec<u8>)>> {
        loop {
            if let Some((entries, path, prefix)) = &mut self.current {
                match entries.next() {
                    Some(Ok(entry)) => {
                        let mut key = prefix.clone();
                        key.extend_from_slice(entry.file_name().as_bytes());
                        return Some(Ok((entry, key)));
                    }
                    Some(Err(error)) => return Some(Err(Failure::file("list", path, &error))),
                    None => self.current = None,
                }
            }
            let (path, prefix) = self.pending.pop()?;
            match fs::read_dir(&path) {
                Ok(entries) => self.current = Some((entries, path, prefix)),
                Err(error) => return Some(Err(Failure::file("list", &path, &error))),
            }
        }
    }

    /// What the entry is; `None` for a folder, which is walked later.
    fn found(&mut self, entry: &DirEntry, mut key: Vec<u8>) -> Outcome<Option<Found>> {
        let path = entry.path();
        let metadata = entry.metadata();
        let metadata = metadata.map_err(|error| Failure::file("look at", &path, &error))?;
        if !metadata.is_dir() {
            let bytes = metadata.is_file().then_some(metadata.len());
            return Ok(Some(Found { key, path, bytes }));
        }
        if self.left_out == Some(identity(&metadata)) {
            self.met = true;
        } else {
            key.push(b'/');
            self.pending.push((path, key));
        }
        Ok(None)
    }
}

impl Iterator for Walk {
    type Item = Outcome<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = match self.entry()? {
                Ok((entry, key)) => self.found(&entry, key),
                Err(failure) => Err(failure),
            };
            if let Some(found) = found.transpose() {
                return Some(found);
            }
        }
    }
}

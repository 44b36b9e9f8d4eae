//! Records from a folder of files.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kintsu::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use super::loader::Loader;
use crate::console::Console;
use crate::failure::{Failure, Outcome};

/// A file to be loaded.
struct Found {
    /// Its path from the folder, with `/` between the names: the key.
    key: Vec<u8>,
    path: PathBuf,
    bytes: u64,
}

/// The files under a folder.
pub struct Folder {
    files: Vec<Found>,
    bytes: u64,
    skipped: u64,
}

impl Folder {
    /// Finds all regular files under `root`, in the order of their keys. Links and special files are
    /// skipped and counted; so is `store`, if it lies there, or it would be loaded into itself.
    pub fn survey(root: &Path, store: &Path, console: &Console) -> Outcome<Self> {
        let mut folder = Self { files: Vec::new(), bytes: 0, skipped: 0 };
        let store = fs::metadata(store).ok().map(|metadata| identity(&metadata));
        let mut pending = vec![(root.to_owned(), Vec::new())];
        while let Some((path, prefix)) = pending.pop() {
            let failed = |error: io::Error| Failure::file("list", &path, &error);
            for entry in fs::read_dir(&path).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let path = entry.path();
                let metadata =
                    entry.metadata().map_err(|error| Failure::file("look at", &path, &error))?;
                let mut key = prefix.clone();
                key.extend_from_slice(entry.file_name().as_bytes());
                if metadata.is_dir() && store == Some(identity(&metadata)) {
                    console.warn(&format!("{} is the store itself; skipped", path.display()));
                } else if metadata.is_dir() {
                    key.push(b'/');
                    pending.push((path, key));
                } else if metadata.is_file() {
                    folder.add(Found { key, path, bytes: metadata.len() })?;
                } else {
                    folder.skipped += 1;
                }
            }
        }
        folder.files.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        Ok(folder)
    }

    fn add(&mut self, found: Found) -> Outcome {
        check(&found.path, found.key.len(), found.bytes)?;
        self.bytes += found.bytes;
        self.files.push(found);
        Ok(())
    }

    /// Bytes in all files, when they were looked for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Entries left out.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Loads them all.
    pub fn load(&self, loader: &mut Loader<'_>) -> Outcome {
        let mut content = Vec::new();
        for found in &self.files {
            content.clear();
            let read = File::open(&found.path)
                .and_then(|file| file.take(VALUE_BYTES_MAX as u64 + 1).read_to_end(&mut content));
            read.map_err(|error| Failure::file("read", &found.path, &error))?;
            // It may have grown since it was found.
            check(&found.path, found.key.len(), content.len() as u64)?;
            loader.put(&found.key, &content, content.len() as u64)?;
        }
        Ok(())
    }
}

/// Which folder it is, whatever path leads there.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn check(path: &Path, key_bytes: usize, bytes: u64) -> Outcome {
    if bytes > VALUE_BYTES_MAX as u64 {
        let what = format!(
            "{} has {bytes} bytes or more; a value can have {VALUE_BYTES_MAX}",
            path.display()
        );
        return Err(Failure::Input(what));
    }
    if key_bytes > KEY_BYTES_MAX {
        let what = format!(
            "the path {} is too long to be a key, which can have {KEY_BYTES_MAX} bytes",
            path.display()
        );
        return Err(Failure::Input(what));
    }
    Ok(())
}

//! Records from a folder of files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use kintsu::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use super::loader::Loader;
use crate::console::Console;
use crate::failure::{Failure, Outcome};
use crate::walk::{Found, Walk};

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
        let mut folder = Self {
            files: Vec::new(),
            bytes: 0,
            skipped: 0,
        };
        let mut walk = Walk::new(root, store);
        for found in &mut walk {
            let found = found?;
            match found.bytes {
                Some(bytes) => {
                    check(&found, bytes)?;
                    folder.bytes += bytes;
                    folder.files.push(found);
                }
                None => folder.skipped += 1,
            }
        }
        if walk.met {
            console.warn(&format!(
                "{} is the store itself; it was left out",
                store.display()
            ));
        }
        folder
            .files
            .sort_unstable_by(|one, other| one.key.cmp(&other.key));
        Ok(folder)
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
            read(found, &mut content)?;
            // It may have grown since it was found.
            check(found, content.len() as u64)?;
            loader.put(&found.key, &content, content.len() as u64)?;
        }
        Ok(())
    }
}

/// Reads a file, or one byte more of it than a value can have.
pub fn read(found: &Found, content: &mut Vec<u8>) -> Outcome {
    content.clear();
    let read = File::open(&found.path)
        .and_then(|file| file.take(VALUE_BYTES_MAX as u64 + 1).read_to_end(content));
    read.map(drop)
        .map_err(|error| Failure::file("read", &found.path, &error))
}

fn check(found: &Found, bytes: u64) -> Outcome {
    let path = found.path.display();
    let what = if bytes > VALUE_BYTES_MAX as u64 {
        format!("{path} has {bytes} bytes or more; a value can have {VALUE_BYTES_MAX}")
    } else if found.key.len() > KEY_BYTES_MAX {
        format!("the path {path} is too long to be a key, which can have {KEY_BYTES_MAX} bytes")
    } else {
        return Ok(());
    };
    Err(Failure::Input(what))
}

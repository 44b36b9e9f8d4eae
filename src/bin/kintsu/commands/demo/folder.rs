//! The demo's folder, and copies of the store in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kintsu::environment::{Entropy, SystemEntropy};

use crate::console::Console;
use crate::failure::{Failure, Outcome};

/// A folder that goes with the demo, unless it is to be kept.
pub struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    /// A new folder among the temporary ones, or the one to keep.
    pub fn create(keep: Option<&Path>) -> Outcome<Self> {
        let path = match keep {
            Some(path) => path.to_owned(),
            None => {
                let random = SystemEntropy::default().next_u64();
                std::env::temp_dir().join(format!("kintsu-demo-{random:016x}"))
            }
        };
        let failed = |error: io::Error| Failure::file("create", &path, &error);
        fs::create_dir_all(&path).map_err(failed)?;
        if fs::read_dir(&path).map_err(failed)?.next().is_some() {
            return Err(Failure::Usage(format!("{} isn't empty", path.display())));
        }
        let folder = Self {
            path,
            keep: keep.is_some(),
        };
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies every file of a store to a new folder here.
    pub fn copy_store(&self, store: &Path, name: &str) -> Outcome<PathBuf> {
        let copy = self.path.join(name);
        let copied = || {
            fs::create_dir(&copy)?;
            for entry in fs::read_dir(store)? {
                let entry = entry?;
                fs::copy(entry.path(), copy.join(entry.file_name()))?;
            }
            Ok(())
        };
        copied().map_err(|error: io::Error| Failure::file("copy the store to", &copy, &error))?;
        Ok(copy)
    }

    /// Removes it, unless something went wrong or somebody wants to keep it.
    pub fn finish(mut self, went_well: bool, console: &Console) {
        if self.keep || !went_well {
            self.keep = true;
            let path = self.path.display();
            console.note("note", &format!("everything is kept in {path}"));
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // What can't be removed stays among the temporary files, which harms nobody.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

//! The folder of a campaign: nothing but its own is ever touched in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kintsu::vfs::{DiskVfs, Lock, Vfs};

use crate::failure::{Failure, Outcome};

/// The file that says whose folder it is; also what is locked.
const MARKER: &str = "kintsu-torture";
const MARKER_TEXT: &str = "This folder belongs to `kintsu torture`, which removes what is in it.\n";
const ROUND: &str = "round-";

/// A folder that is held.
pub struct Folder {
    path: PathBuf,
    /// Whether it wasn't there before.
    is_new: bool,
    _lock: Box<dyn Lock>,
}

/// Whether the file that says so was written by a torture, and not by somebody who likes its name.
fn is_ours(marker: &Path) -> bool {
    let is_file = fs::symlink_metadata(marker).is_ok_and(|found| found.is_file());
    is_file && fs::read(marker).is_ok_and(|text| text == MARKER_TEXT.as_bytes())
}

impl Folder {
    /// Takes a folder that is missing, empty, or left by an earlier campaign, whose rounds go.
    pub fn take(path: &Path) -> Outcome<Self> {
        let failed = |error: io::Error| Failure::file("use", path, &error);
        let is_new = !path.try_exists().map_err(failed)?;
        if !is_new {
            let entries = fs::read_dir(path).map_err(failed)?;
            let names: Vec<String> = entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<_>>()
                .map_err(failed)?;
            let is_ours = is_ours(&path.join(MARKER));
            let is_own = |name: &String| is_ours && (name == MARKER || name.starts_with(ROUND));
            let foreign = |name: &&String| !is_own(name);
            if let Some(foreign) = names.iter().find(foreign) {
                return Err(Failure::Usage(format!(
                    "{} isn't empty ({foreign}): torture takes a folder that is missing, empty, or left by an \
                     earlier torture",
                    path.display()
                )));
            }
        }
        fs::create_dir_all(path).map_err(failed)?;
        // Absolute, since other processes work in it as well.
        let path = fs::canonicalize(path).map_err(failed)?;
        let marker = path.join(MARKER);
        fs::write(&marker, MARKER_TEXT).map_err(failed)?;
        let lock = DiskVfs.lock(&marker).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                Failure::Usage(format!("another torture is at work in {}", path.display()))
            }
            _ => failed(error),
        })?;
        let folder = Self {
            path,
            is_new,
            _lock: lock,
        };
        folder.remove_rounds()?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of a round, yet to be made.
    pub fn round(&self, number: u64, kind: &str) -> PathBuf {
        self.path.join(format!("{ROUND}{number:06}-{kind}"))
    }

    fn remove_rounds(&self) -> Outcome {
        let removed = || -> io::Result<()> {
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(ROUND) {
                    match entry.file_type()?.is_dir() {
                        true => fs::remove_dir_all(entry.path())?,
                        false => fs::remove_file(entry.path())?,
                    }
                }
            }
            Ok(())
        };
        removed().map_err(|error| Failure::file("clear", &self.path, &error))
    }

    /// Leaves it as it was before, or away if it wasn't there.
    pub fn tidy(self) -> Outcome {
        self.remove_rounds()?;
        let removed = || -> io::Result<()> {
            fs::remove_file(self.path.join(MARKER))?;
            match self.is_new {
                true => fs::remove_dir(&self.path),
                false => Ok(()),
            }
        };
        removed().map_err(|error| Failure::file("clear", &self.path, &error))
    }
}

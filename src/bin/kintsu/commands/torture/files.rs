//! Files of stores, as the file system has them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

/// The files of a folder with this extension, by name; none if there is no such folder.
pub fn with_extension(folder: &Path, extension: &str) -> Outcome<Vec<PathBuf>> {
    let mut files = all(folder)?;
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    Ok(files)
}

/// The files of a folder, by name, without those of folders in it.
pub fn all(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let listed = || -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    };
    listed().map_err(|error| Failure::file("list", folder, &error))
}

/// Copies a store, without what it has in quarantine.
pub fn copy(from: &Path, to: &Path) -> Outcome {
    let failed = |error: io::Error| Failure::file("copy a store to", to, &error);
    fs::create_dir(to).map_err(failed)?;
    for path in all(from)? {
        let name = path.file_name().unwrap_or_default();
        fs::copy(&path, to.join(name)).map_err(failed)?;
    }
    Ok(())
}

/// Removes a folder with everything in it.
pub fn remove(folder: &Path) -> Outcome {
    fs::remove_dir_all(folder).map_err(|error| Failure::file("remove", folder, &error))
}

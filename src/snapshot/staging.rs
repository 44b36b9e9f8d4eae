//! A folder that is built aside and published whole.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::vfs::{DirEntry, Lock, Vfs};

use super::files::{sync_folder, temporary};

/// Who builds in the folder holds the lock on this file in it.
const LOCK_FILE: &str = "staging.tmp";

/// A folder under construction, `TARGET.tmp`, which nobody takes for what it will be.
#[derive(Debug)]
pub struct Staging {
    vfs: Arc<dyn Vfs>,
    target: PathBuf,
    dir: PathBuf,
    is_ours: fn(&str) -> bool,
    lock: Option<Box<dyn Lock>>,
}

impl Staging {
    /// Begins with an empty folder; what an earlier attempt left in it is removed. `is_ours` says which
    /// names such an attempt can have left.
    ///
    /// # Errors
    /// `FolderNotEmpty` if there is something at `target`, or something foreign in the folder; `Locked` if
    /// somebody else is at it; or what the disk answers.
    pub fn begin(vfs: Arc<dyn Vfs>, target: &Path, is_ours: fn(&str) -> bool) -> Result<Self> {
        check_free(&*vfs, target)?;
        let dir = temporary(target);
        let made = vfs.create_dir_all(&dir);
        made.map_err(|error| Error::io("create the folder", &dir, error))?;
        list_ours(&*vfs, &dir, is_ours)?;
        let path = dir.join(LOCK_FILE);
        let lock = vfs.lock(&path).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => Error::Locked { path: dir.clone() },
            _ => Error::io("lock", &path, error),
        })?;
        let staging = Self {
            vfs,
            target: target.to_owned(),
            dir,
            is_ours,
            lock: Some(lock),
        };
        staging.clear()?;
        Ok(staging)
    }

    /// Where to build.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes everything in the folder, to begin again.
    ///
    /// # Errors
    /// `FolderNotEmpty` if there is something foreign in it, and then nothing is removed; or what the disk
    /// answers.
    pub fn clear(&self) -> Result<()> {
        let entries = list_ours(&*self.vfs, &self.dir, self.is_ours)?;
        for entry in entries.iter().filter(|entry| entry.name != LOCK_FILE) {
            let path = self.dir.join(&entry.name);
            let removed = self.vfs.remove(&path);
            removed.map_err(|error| Error::io("remove", &path, error))?;
        }
        Ok(())
    }

    /// Makes the folder durable and gives it its name.
    ///
    /// # Errors
    /// What the disk answers. If it is the last step that failed, the folder has its name, and may lose it
    /// with the power.
    pub fn publish(mut self) -> Result<()> {
        let path = self.dir.join(LOCK_FILE);
        let removed = self.vfs.remove(&path);
        removed.map_err(|error| Error::io("remove", &path, error))?;
        sync_folder(&*self.vfs, &self.dir)?;
        let renamed = self.vfs.rename(&self.dir, &self.target);
        renamed.map_err(|error| match error.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                let path = self.target.clone();
                Error::FolderNotEmpty { path }
            }
            _ => Error::io("publish", &self.target, error),
        })?;
        self.lock = None;
        match self.target.parent() {
            Some(parent) => sync_folder(&*self.vfs, parent),
            None => Ok(()),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Gives space back, as far as that works; who comes next does the rest.
        if self.lock.is_some() {
            let _ = self.clear();
        }
    }
}

/// What is in a folder, if all of it is what an earlier attempt can have left.
fn list_ours(vfs: &dyn Vfs, dir: &Path, is_ours: fn(&str) -> bool) -> Result<Vec<DirEntry>> {
    let listed = vfs.list(dir);
    let entries = listed.map_err(|error| Error::io("list", dir, error))?;
    if entries
        .iter()
        .any(|entry| entry.is_dir || !is_ours(&entry.name))
    {
        let path = dir.to_owned();
        return Err(Error::FolderNotEmpty { path });
    }
    Ok(entries)
}

/// Whether a folder is missing or empty.
fn check_free(vfs: &dyn Vfs, target: &Path) -> Result<()> {
    match vfs.list(target) {
        Ok(entries) if entries.is_empty() => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != ErrorKind::NotADirectory => {
            Err(Error::io("list", target, error))
        }
        _ => {
            let path = target.to_owned();
            Err(Error::FolderNotEmpty { path })
        }
    }
}

//! A folder that is built aside and published whole.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::vfs::{DirEntry, Lock, Vfs};

use super::files::{sync_folder, temporary};

/// The mark of a folder under construction; who builds in it holds the lock on this file.
pub const STAGING_FILE: &str = "staging.tmp";

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
    /// Begins with an empty folder. What an earlier attempt left in it is removed, if the folder has the
    /// mark of one: nothing is ever touched in a folder that was made by anybody else. `is_ours` says which
    /// names such an attempt can have left.
    ///
    /// # Errors
    /// `FolderNotEmpty` if there is something at `target`, or something foreign in the folder; `Locked` if
    /// somebody else is at it; `InvalidOption` if nothing can be published under this name; or what the
    /// disk answers.
    pub fn begin(vfs: Arc<dyn Vfs>, target: &Path, is_ours: fn(&str) -> bool) -> Result<Self> {
        let target = normal(&*vfs, target)?;
        check_free(&*vfs, &target)?;
        let dir = temporary(&target);
        let made = vfs.create_dir_all(&dir);
        made.map_err(|error| Error::io("create the folder", &dir, error))?;
        let before = list_ours(&*vfs, &dir, is_ours)?;
        let path = dir.join(STAGING_FILE);
        let lock = vfs.lock(&path).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => Error::Locked { path: dir.clone() },
            _ => Error::io("lock", &path, error),
        })?;
        // Nothing may become durable in the folder before its mark is.
        sync_folder(&*vfs, &dir)?;
        let mut staging = Self {
            vfs,
            target,
            dir,
            is_ours,
            lock: Some(lock),
        };
        let cleared = match before.is_empty() {
            true => staging.check_fresh(),
            false => staging.clear(),
        };
        if cleared.is_err() {
            // It isn't ours to clear.
            staging.lock = None;
        }
        cleared.map(|()| staging)
    }

    /// Refuses a folder that was empty before it was marked, and into which somebody has put something.
    fn check_fresh(&self) -> Result<()> {
        let entries = list_ours(&*self.vfs, &self.dir, self.is_ours)?;
        if entries.iter().all(|entry| entry.name == STAGING_FILE) {
            return Ok(());
        }
        // Others must not take it for what an attempt has left.
        let _ = self.vfs.remove(&self.dir.join(STAGING_FILE));
        let path = self.dir.clone();
        Err(Error::FolderNotEmpty { path })
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
        for entry in entries.iter().filter(|entry| entry.name != STAGING_FILE) {
            let path = self.dir.join(&entry.name);
            let removed = self.vfs.remove(&path);
            removed.map_err(|error| Error::io("remove", &path, error))?;
        }
        Ok(())
    }

    /// Makes the folder durable and gives it its name, and then takes its mark away. (The mark of one that
    /// was published just before a crash goes when the store is opened: [`end_staging`].)
    ///
    /// # Errors
    /// What the disk answers. If it is the last step that failed, the folder has its name, and may lose it
    /// with the power.
    pub fn publish(mut self) -> Result<()> {
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
        if let Some(parent) = self.target.parent() {
            sync_folder(&*self.vfs, parent)?;
        }
        // Not before: the folder may have its old name again after a crash. Whoever opens it to write removes
        // what stays.
        let _ = self.vfs.remove(&self.target.join(STAGING_FILE));
        Ok(())
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

/// Takes the mark from a folder that was published, before anything is written to it: from now on it is
/// nobody's to clear. Whoever is building in it keeps it.
///
/// # Errors
/// What the disk answers.
pub fn end_staging(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    let path = dir.join(STAGING_FILE);
    let _lock = match vfs.lock(&path) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
        lock => lock.map_err(|error| Error::io("lock", &path, error))?,
    };
    let removed = vfs.remove(&path);
    removed.map_err(|error| Error::io("remove", &path, error))?;
    sync_folder(vfs, dir)
}

/// The path without a trailing slash, if a folder can be published under it.
fn normal(vfs: &dyn Vfs, target: &Path) -> Result<PathBuf> {
    let refused = |why: &str| {
        let why = format!("{}: {why}", target.display());
        Err(Error::InvalidOption { name: "path", why })
    };
    let normal: PathBuf = target.components().collect();
    if normal.file_name().is_none() {
        return refused("it doesn't end with the name of the folder to be made; write that out");
    }
    let is_link = vfs.is_link(&normal);
    match is_link.map_err(|error| Error::io("look at", &normal, error))? {
        true => refused("it is a symbolic link; name the folder that it stands for"),
        false => Ok(normal),
    }
}

/// What is in a folder, if it is empty, or has the mark of an earlier attempt and nothing that such an attempt
/// can't have left.
fn list_ours(vfs: &dyn Vfs, dir: &Path, is_ours: fn(&str) -> bool) -> Result<Vec<DirEntry>> {
    let listed = vfs.list(dir);
    let entries = listed.map_err(|error| Error::io("list", dir, error))?;
    let is_marked = entries.iter().any(|entry| entry.name == STAGING_FILE);
    let is_foreign = |entry: &DirEntry| entry.is_dir || !is_ours(&entry.name);
    if entries.iter().any(is_foreign) || !is_marked && !entries.is_empty() {
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

//! Removal of old backups, and of what only they needed.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::snapshot::files::{publish, read, sync_folder};
use crate::snapshot::format::{BackupContent, LoadContent, VolumeContent};
use crate::vfs::Access;

use super::{BACKUPS, LOG, Listed, Repository, SEGMENTS};

/// What a prune removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Backups.
    pub backups: u64,
    /// Segments that only they needed.
    pub segments: u64,
    /// Volumes of the archive that only they needed.
    pub volumes: u64,
    /// Bytes of all these files.
    pub bytes: u64,
    /// Descriptions and notes of loads that can't be read, because of which no segment was removed.
    pub unreadable: u64,
}

impl Repository {
    /// Removes all but the newest `keep` backups that can be read, and what only those needed. The caller
    /// holds the lock.
    ///
    /// # Errors
    /// What the disk answers; a later call removes the rest.
    pub fn prune(&self, keep: usize) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        let mut kept: Vec<(u64, BackupContent)> = Vec::new();
        let mut old = Vec::new();
        for listed in self.backups()?.into_iter().rev() {
            match listed.content {
                Ok(content) if kept.len() < keep => kept.push((listed.number, content)),
                Ok(_) => old.push(listed.path),
                // Older than those that are kept: of no use to anybody.
                Err(Error::Damaged(_)) if kept.len() >= keep => old.push(listed.path),
                Err(_) => pruned.unreadable += 1,
            }
        }
        if kept.is_empty() {
            return Ok(pruned);
        }
        let mut removed = Vec::new();
        for path in old {
            let description = read(&*self.vfs, &path);
            pruned.bytes += self.remove(&path)?;
            pruned.backups += 1;
            removed.extend(description.ok().map(|bytes| (path, bytes)));
        }
        sync_folder(&*self.vfs, &self.dir.join(BACKUPS)).inspect_err(|_| {
            // They may come back with the power, whatever a later sync says, and must not find their
            // segments gone: so they are put back, to be removed again.
            for (path, bytes) in &removed {
                let _ = publish(&*self.vfs, path, bytes);
            }
        })?;
        self.prune_volumes(&kept, &mut pruned)?;
        let loads = self.prune_loads(&mut pruned)?;
        if pruned.unreadable == 0 {
            let backups = kept.iter().flat_map(|(_, backup)| &backup.segments);
            let loaded = loads.iter().flat_map(|load| &load.segments);
            let needed = backups.chain(loaded);
            let needed = needed.map(|segment| self.segment_path(segment.digest));
            self.prune_segments(&needed.collect(), &mut pruned)?;
        }
        Ok(pruned)
    }

    /// Removes the notes of loads whose volume is gone, and returns the others.
    fn prune_loads(&self, pruned: &mut Pruned) -> Result<Vec<LoadContent>> {
        let volumes = self.numbers(LOG, "volume")?;
        let mut kept = Vec::new();
        let mut removed = false;
        for load in self.loads()? {
            if !volumes.contains(&load.number) {
                pruned.bytes += self.remove(&load.path)?;
                removed = true;
                continue;
            }
            match load.content {
                Ok(content) => kept.push(content),
                Err(_) => pruned.unreadable += 1,
            }
        }
        if removed {
            // If they come back with the power, they count for nothing: their volume was gone before.
            sync_folder(&*self.vfs, &self.dir.join(LOG))?;
        }
        Ok(kept)
    }

    fn prune_segments(&self, needed: &BTreeSet<PathBuf>, pruned: &mut Pruned) -> Result<()> {
        for entry in self.list(SEGMENTS)? {
            let path = self.dir.join(SEGMENTS).join(&entry.name);
            if is_segment(&entry.name) && !entry.is_dir && !needed.contains(&path) {
                pruned.bytes += self.remove(&path)?;
                pruned.segments += 1;
            }
        }
        sync_folder(&*self.vfs, &self.dir.join(SEGMENTS))
    }

    /// Removes volumes that end before the oldest backup: each one after which another of its era begins no
    /// later. (The newest of an era may be written to right now.)
    fn prune_volumes(&self, kept: &[(u64, BackupContent)], pruned: &mut Pruned) -> Result<()> {
        let oldest = kept.iter().map(|(_, backup)| backup.index).min();
        let oldest = oldest.unwrap_or_default();
        let volumes = self.volumes()?;
        for volume in &volumes {
            let Ok(content) = &volume.content else {
                continue;
            };
            let is_next = |other: &&Listed<VolumeContent>| {
                other.number > volume.number
                    && other.content.as_ref().is_ok_and(|other| {
                        other.lineage.newest() == content.lineage.newest()
                            && other.first <= oldest.next()
                    })
            };
            if volumes.iter().any(|other| is_next(&other)) {
                pruned.bytes += self.remove_volume(volume.number)?;
                pruned.volumes += 1;
            }
        }
        Ok(())
    }

    fn remove_volume(&self, number: u64) -> Result<u64> {
        let mut bytes = 0;
        let folder = self.volume_dir(number);
        match self.vfs.list(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            entries => {
                // Newest first, the lock last: what is left by a crash is a log without its end.
                let entries = entries.map_err(|error| Error::io("list", &folder, error))?;
                for entry in entries.iter().rev().filter(|entry| !entry.is_dir) {
                    bytes += self.remove(&folder.join(&entry.name))?;
                }
                sync_folder(&*self.vfs, &folder)?;
            }
        }
        bytes += self.remove(&self.volume_path(number))?;
        sync_folder(&*self.vfs, &self.dir.join(LOG))?;
        Ok(bytes)
    }

    /// Removes a file; returns how long it was.
    fn remove(&self, path: &Path) -> Result<u64> {
        let failed = |error| Error::io("remove", path, error);
        let bytes = self
            .vfs
            .open(path, Access::Read)
            .and_then(|file| file.len());
        let bytes = bytes.map_err(failed)?;
        self.vfs.remove(path).map_err(failed)?;
        Ok(bytes)
    }
}

fn is_segment(name: &str) -> bool {
    let stem = name.strip_suffix(".segment");
    stem.is_some_and(|stem| stem.len() == 32 && stem.bytes().all(|b| b.is_ascii_hexdigit()))
}

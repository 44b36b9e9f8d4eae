//! Removal of old backups, and of what only they needed.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::snapshot::files::{publish, read, sync_folder};
use crate::snapshot::format::{BackupContent, LoadContent, VolumeContent};
use crate::types::Index;
use crate::vfs::Access;

use super::{BACKUPS, LOCK_FILE, LOG, Listed, Repository, SEGMENTS};

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
    /// Removes all but the newest `keep` backups that can be read of each lineage, and what only those
    /// needed. The caller holds the lock.
    ///
    /// # Errors
    /// What the disk answers; a later call removes the rest.
    pub fn prune(&self, keep: usize) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        let backups = self.backups()?;
        let wanted = wanted(&backups, keep);
        let oldest = wanted.first().copied().unwrap_or_default();
        let mut kept: Vec<(u64, BackupContent)> = Vec::new();
        let mut old = Vec::new();
        for listed in backups.into_iter().rev() {
            match listed.content {
                Ok(content) if wanted.contains(&listed.number) => {
                    kept.push((listed.number, content));
                }
                Ok(_) => old.push(listed.path),
                // Older than those that are kept: of no use to anybody.
                Err(Error::Damaged(_)) if wanted.len() >= keep && listed.number < oldest => {
                    old.push(listed.path);
                }
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

    /// Removes the notes of loads whose volume is gone, with all of its records, and returns the others.
    fn prune_loads(&self, pruned: &mut Pruned) -> Result<Vec<LoadContent>> {
        let volumes = self.volumes()?.into_iter();
        let volumes: BTreeSet<u64> = volumes.map(|volume| volume.number).collect();
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

    /// Removes volumes that end before the oldest backup.
    fn prune_volumes(&self, kept: &[(u64, BackupContent)], pruned: &mut Pruned) -> Result<()> {
        let oldest = kept.iter().map(|(_, backup)| backup.index).min();
        for number in spare(&self.volumes()?, oldest.unwrap_or_default()) {
            pruned.bytes += self.remove_volume(number)?;
            pruned.volumes += 1;
        }
        Ok(())
    }

    /// The volumes that no backup needs, and that a prune may have half removed.
    ///
    /// # Errors
    /// What the disk answers to the listings.
    pub fn spare_volumes(&self) -> Result<BTreeSet<u64>> {
        let backups = self.backups()?;
        let contents = backups.iter().filter_map(|b| b.content.as_ref().ok());
        match contents.map(|backup| backup.index).min() {
            Some(oldest) => Ok(spare(&self.volumes()?, oldest)),
            None => Ok(BTreeSet::new()),
        }
    }

    /// Removes a volume of which nothing is needed. The caller holds the lock.
    ///
    /// # Errors
    /// What the disk answers; a prune removes the rest.
    pub fn remove_volume(&self, number: u64) -> Result<u64> {
        let mut bytes = 0;
        let folder = self.volume_dir(number);
        match self.vfs.list(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            entries => {
                // Newest first, the lock last: what is left by a crash is a log without its end.
                let mut entries = entries.map_err(|error| Error::io("list", &folder, error))?;
                entries.reverse();
                entries.sort_by_key(|entry| entry.name == LOCK_FILE);
                for entry in entries.iter().filter(|entry| !entry.is_dir) {
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

/// The numbers of the newest `keep` backups of each lineage. A store that was restored and went on has those of
/// the store that it came from in its lineage, and of those the newest stays in any case; what that one did
/// after it is a lineage of its own, which loses nothing by what others do.
fn wanted(backups: &[Listed<BackupContent>], keep: usize) -> BTreeSet<u64> {
    let readable: Vec<_> = backups
        .iter()
        .filter_map(|b| Some((b.number, b.content.as_ref().ok()?)))
        .collect();
    let mut wanted = BTreeSet::new();
    for (number, content) in &readable {
        let era = content.lineage.newest();
        // One that has all that the era has, and more, speaks for it.
        let is_within = |other: &BackupContent| {
            let own = readable
                .iter()
                .filter(|(_, own)| own.lineage.newest() == era);
            other.lineage.newest() != era
                && own
                    .clone()
                    .all(|(_, own)| other.lineage.holds(era, own.index))
        };
        let is_newest = !readable
            .iter()
            .any(|(other, content)| other > number && content.lineage.newest() == era);
        if !is_newest {
            continue;
        }
        if readable.iter().any(|(_, other)| is_within(other)) {
            // Its store may still be there, and its archive go on from this one.
            wanted.insert(*number);
            continue;
        }
        let lineage = &content.lineage;
        let line = readable.iter().rev();
        let line = line.filter(|(_, b)| lineage.holds(b.lineage.newest(), b.index));
        wanted.extend(line.take(keep).map(|(number, _)| *number));
    }
    wanted
}

/// The volumes that have nothing above the oldest backup, as a later one of their era says. (The newest of an
/// era may be written to right now.)
fn spare(volumes: &[Listed<VolumeContent>], oldest: Index) -> BTreeSet<u64> {
    let readable = || {
        let readable = volumes.iter();
        readable.filter_map(|v| Some((v.number, v.content.as_ref().ok()?)))
    };
    let is_spare = |number: u64, content: &VolumeContent| {
        let era = content.lineage.newest();
        readable().any(|(other, next)| {
            other > number && next.lineage.newest() == era && next.earlier_last <= oldest
        })
    };
    let spare = readable().filter(|(number, content)| is_spare(*number, content));
    spare.map(|(number, _)| number).collect()
}

fn is_segment(name: &str) -> bool {
    let stem = name.strip_suffix(".segment");
    stem.is_some_and(|stem| stem.len() == 32 && stem.bytes().all(|b| b.is_ascii_hexdigit()))
}

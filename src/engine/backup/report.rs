//! What snapshots, backups and restores tell of themselves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::snapshot::{BackupContent, Listed, Repository};
use crate::types::Index;
use crate::vfs::Vfs;

/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotReport {
    /// It holds every record through this one.
    pub index: Index,
    /// The time of that record, in microseconds since 1970.
    pub time_us: u64,
    /// Segments in it.
    pub segments: u64,
    /// Bytes of segments that it shares with the store, as hard links.
    pub bytes_linked: u64,
    /// Bytes of segments that had to be copied.
    pub bytes_copied: u64,
}

/// What a backup holds, and what making it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Its number in the repository.
    pub number: u64,
    /// It holds every record through this one.
    pub index: Index,
    /// The time of that record, in microseconds since 1970.
    pub time_us: u64,
    /// Segments in it.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Segments that the repository lacked.
    pub segments_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
}

/// A backup in a repository.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Backup {
    /// Its number in the repository.
    pub number: u64,
    /// Of which era of the store it is: each restore and each snapshot begins a new one, at random.
    pub era: u128,
    /// It holds every record through this one.
    pub index: Index,
    /// The time of that record, in microseconds since 1970.
    pub time_us: u64,
    /// When it was made, in microseconds since 1970.
    pub made_us: u64,
    /// Segments in it, many of them shared with other backups.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What keeps its description from being read, if anything does; then the numbers above but the first
    /// are 0.
    pub unreadable: Option<Error>,
}

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneReport {
    /// Backups.
    pub backups: u64,
    /// Segments that only they needed.
    pub segments: u64,
    /// Volumes of the archive that only they needed.
    pub volumes: u64,
    /// Bytes of all these files.
    pub bytes: u64,
    /// Descriptions of newer backups, and notes of what archived records load, that can't be read, because
    /// of which no segment was removed.
    pub unreadable: u64,
}

/// An era of which a repository has something: a stretch of a store's life between two restores.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupEra {
    /// Its id.
    pub id: u128,
    /// The highest number in the repository that a backup or a volume of it has. A restore follows the era
    /// with the highest, if it isn't told another.
    pub newest: u64,
    /// Backups of it that can be read.
    pub backups: u64,
    /// Every record through this one is in one of them; 0 if there are none.
    pub index: Index,
}

/// The eras in a repository, the one that a restore follows last.
pub(crate) fn list_eras(vfs: Arc<dyn Vfs>, path: &Path) -> Result<Vec<BackupEra>> {
    let repository = Repository::open(vfs, path)?;
    let backups = repository.backups()?;
    let contents = || backups.iter().filter_map(|b| b.content.as_ref().ok());
    let lineages = repository.lineages()?.into_iter();
    Ok(lineages
        .map(|(newest, lineage)| {
            let id = lineage.newest();
            let own = || contents().filter(|backup| backup.lineage.newest() == id);
            BackupEra {
                id,
                newest,
                backups: own().count() as u64,
                index: own().map(|backup| backup.index).max().unwrap_or_default(),
            }
        })
        .collect())
}

/// The point to which a store is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestorePoint {
    /// Everything there is.
    Newest,
    /// Every record through this one.
    Index(Index),
    /// Every record at or before this time, in microseconds since 1970.
    Time(u64),
}

/// A backup, or a volume of the archive, that a restore could not use.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Skipped {
    /// Its number in the repository.
    pub number: u64,
    /// Its description, which may be whole.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: Error,
}

/// What a restore made, and of what.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The era whose records were followed; the store itself has begun one of its own.
    pub era: u128,
    /// The backup that it began with.
    pub backup: u64,
    /// The store holds every record through this one.
    pub index: Index,
    /// The time of that record, in microseconds since 1970.
    pub time_us: u64,
    /// Bytes of segments, each verified by its digest.
    pub bytes: u64,
    /// Records taken from the archive.
    pub records: u64,
    /// Whether the point was reached: nothing that the repository is known to have held up to there is
    /// missing.
    pub reached: bool,
    /// Newer backups that could not be used, and volumes of the archive whose description can't be read.
    pub skipped: Vec<Skipped>,
}

/// The backups of a repository, oldest first.
///
/// # Errors
/// [`Error::Repository`] if there is none; [`Error::Damaged`], or what the disk answers.
pub(crate) fn list(vfs: Arc<dyn Vfs>, repository: &Path) -> Result<Vec<Backup>> {
    let repository = Repository::open(vfs, repository)?;
    Ok(repository.backups()?.into_iter().map(of_listed).collect())
}

fn of_listed(listed: Listed<BackupContent>) -> Backup {
    let empty = Backup {
        number: listed.number,
        era: 0,
        index: Index(0),
        time_us: 0,
        made_us: 0,
        segments: 0,
        bytes: 0,
        unreadable: None,
    };
    match listed.content {
        Ok(content) => Backup {
            era: content.lineage.newest(),
            index: content.index,
            time_us: content.time_us,
            made_us: content.made_us,
            segments: content.segments.len() as u64,
            bytes: total(content.segments.iter().map(|segment| segment.bytes)),
            ..empty
        },
        Err(error) => Backup {
            unreadable: Some(error),
            ..empty
        },
    }
}

/// A sum of what files say, which may be anything.
pub(super) fn total(lengths: impl Iterator<Item = u64>) -> u64 {
    lengths.fold(0, u64::saturating_add)
}

//! Snapshots, backups and restore.

use std::path::{Path, PathBuf};

use crate::api::Db;
use crate::engine::{
    self, Backup, BackupEra, BackupReport, PruneReport, RepositoryReport, RestorePoint,
    RestoreReport, SnapshotReport, VerifyProgress,
};
use crate::error::Result;
use crate::options::Options;
use crate::types::Index;

impl Db {
    /// Makes a folder that is a store with everything written before the call, while writing goes on. It
    /// shares segments with this one, as hard links, where the file system allows that, and goes its own
    /// way from here on. All of it is there, durably, once this returns; after a crash or an error there is
    /// none of it, but for `PATH.tmp`, which the next call takes over.
    ///
    /// Takes a flush, and time in proportion to the number of segments (to their bytes, where they can't
    /// be linked).
    ///
    /// # Errors
    /// - [`Error::FolderNotEmpty`](crate::Error::FolderNotEmpty): `path` must be missing or empty.
    /// - [`Error::Locked`](crate::Error::Locked): another snapshot to the same path is at work.
    /// - [`Error::Damaged`](crate::Error::Damaged): a segment that had to be copied isn't what was written.
    /// - Those of [`Db::flush`], and what the disk answers.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = kintsu::Db::open(folder.path().join("store"))?;
    /// # let path = folder.path().join("copy");
    /// db.put("key", "before")?;
    /// db.snapshot_to(&path)?;
    /// db.put("key", "after")?;
    /// let copy = kintsu::Db::open(&path)?;
    /// assert_eq!(copy.get("key")?.as_deref(), Some(&b"before"[..]));
    /// # Ok::<(), kintsu::Error>(())
    /// ```
    pub fn snapshot_to(&self, path: impl AsRef<Path>) -> Result<SnapshotReport> {
        self.engine().snapshot_to(path.as_ref())
    }

    /// Adds a backup of everything written before the call to the repository `path`, while writing goes
    /// on; the repository is made if there is none. Only segments that it lacks are copied, each verified
    /// by its digest. A backup that is cut short isn't there, and the next one copies only what is
    /// still missing. See [`Repository`].
    ///
    /// # Errors
    /// - [`Error::Repository`](crate::Error::Repository): it is another store's, it holds something else,
    ///   or it has records that this store has lost.
    /// - [`Error::Locked`](crate::Error::Locked): somebody else is changing it.
    /// - [`Error::Damaged`](crate::Error::Damaged): a segment isn't what was written; no damaged one is
    ///   ever added.
    /// - Those of [`Db::flush`], and what the disks answer.
    pub fn backup_to(&self, path: impl AsRef<Path>) -> Result<BackupReport> {
        self.engine().backup_to(path.as_ref())
    }

    /// Archives every record written before the call. Returns the last one archived: a restore can reach it
    /// and every one between the newest backup and it. Otherwise records are archived in the background,
    /// some time after they have become durable.
    ///
    /// # Errors
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) if the store was opened without
    /// [`Options::archive_to`]; as [`Db::backup_to`].
    pub fn archive_now(&self) -> Result<Index> {
        self.engine().archive_now()
    }
}

/// A folder with backups of one store, and perhaps an archive of its log.
///
/// Nothing is opened or held: every call looks anew, and all but [`Repository::prune`] only read. What
/// is in it, byte by byte: `docs/backup.md`.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let (path, backups) = (folder.path().join("store"), folder.path().join("backups"));
/// # let new = folder.path().join("new");
/// use kintsu::{Options, Repository, RestorePoint};
///
/// let db = Options::new(&path).archive_to(&backups).open()?;
/// db.put("key", "first")?;
/// db.backup_to(&backups)?;
/// db.put("key", "second")?;
/// let good = db.last_index();
/// db.put("key", "a mistake")?;
/// db.archive_now()?;
/// db.close()?;
///
/// let repository = Repository::new(&backups);
/// assert_eq!(repository.backups()?.len(), 1);
/// let report = repository.restore(Options::new(&new), RestorePoint::Index(good))?;
/// assert!(report.reached);
/// let db = kintsu::Db::open(&new)?;
/// assert_eq!(db.get("key")?.as_deref(), Some(&b"second"[..]));
/// # Ok::<(), kintsu::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Repository {
    path: PathBuf,
    options: Options,
    era: Option<u128>,
}

impl Repository {
    /// The repository in the folder `path`, on the machine's disk.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_owned();
        let options = Options::new(&path);
        let era = None;
        Self { path, options, era }
    }

    /// On the disk that `options` name, if that isn't the machine's.
    #[must_use]
    pub fn on_disk_of(mut self, options: &Options) -> Self {
        self.options = self.options.vfs(options.vfs.clone());
        self
    }

    /// With an era for restores to follow: one of [`Repository::eras`], or of [`Backup::era`]. Without it
    /// they follow that of the store which was backed up or archived last, which may be a mere test of
    /// a restore.
    #[must_use]
    pub fn of_era(mut self, era: u128) -> Self {
        self.era = Some(era);
        self
    }

    /// The eras of the store of which there is something, the one that a restore follows unless it is told
    /// another last.
    ///
    /// # Errors
    /// As [`Repository::backups`].
    pub fn eras(&self) -> Result<Vec<BackupEra>> {
        engine::list_eras(self.options.vfs.clone(), &self.path)
    }

    /// Its backups, oldest first.
    ///
    /// # Errors
    /// [`Error::Repository`](crate::Error::Repository) if there is no repository;
    /// [`Error::Damaged`](crate::Error::Damaged), [`Error::NewerFormat`](crate::Error::NewerFormat), or
    /// what the disk answers. A description that can't be read is in the list, and says so.
    pub fn backups(&self) -> Result<Vec<Backup>> {
        engine::list_backups(self.options.vfs.clone(), &self.path)
    }

    /// Removes all but the newest `keep` backups of each lineage (a restored store's count along with those
    /// that it has behind it; the newest of each era stays in any case), and the segments and archived records that only those
    /// needed. A crash leaves files that the next prune removes.
    ///
    /// # Errors
    /// As [`Repository::backups`]; [`Error::Locked`](crate::Error::Locked) while a backup is made;
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) for 0.
    pub fn prune(&self, keep: usize) -> Result<PruneReport> {
        engine::prune_backups(self.options.vfs.clone(), &self.path, keep)
    }

    /// Reads and checks every byte that a restore could need: descriptions, the digest of every segment, the
    /// archive.
    ///
    /// # Errors
    /// As [`Repository::backups`]. Damage is in the report.
    pub fn verify(&self, progress: impl FnMut(VerifyProgress)) -> Result<RepositoryReport> {
        engine::verify_repository(&self.options, &self.path, progress)
    }

    /// Makes the store that `target` names as it was at a point: from the newest backup that is whole and
    /// at or before it, every segment verified by its digest, and the archived records after that. All of it
    /// is there, durably, once this returns; after a crash or an error there is none of it, but for
    /// `PATH.tmp`, which the next call takes over. The disk is `target`'s.
    ///
    /// A backup that is damaged is passed over for the next older one, and more of the archive; the report
    /// names it. **Look at [`RestoreReport::reached`]**: where the archive doesn't go as far as the point, the
    /// store is as new as it can be.
    ///
    /// The store has the same id and goes on by itself from there; backed up to the same repository, its
    /// records are never mixed with those that it left behind.
    ///
    /// # Errors
    /// - [`Error::FolderNotEmpty`](crate::Error::FolderNotEmpty): the folder must be missing or empty.
    /// - [`Error::Repository`](crate::Error::Repository): there is none, or no backup at or before the
    ///   point, or nothing of the era.
    /// - [`Error::InvalidOption`](crate::Error::InvalidOption): the path doesn't end with the name of a
    ///   folder, or is a symbolic link.
    /// - [`Error::Damaged`](crate::Error::Damaged): no backup at or before the point is whole, or archived
    ///   records are damaged before others that are wanted.
    /// - [`Error::ArchiveGap`](crate::Error::ArchiveGap): the archive lacks records before others that are
    ///   wanted.
    /// - What the disk answers.
    pub fn restore(&self, target: Options, point: RestorePoint) -> Result<RestoreReport> {
        engine::restore(&self.path, target, point, self.era)
    }
}

/// Makes the store `target` from a backup repository, as it was at a point: [`Repository::restore`] with the
/// default options.
///
/// # Errors
/// As [`Repository::restore`].
pub fn restore(
    repository: impl AsRef<Path>,
    target: impl AsRef<Path>,
    point: RestorePoint,
) -> Result<RestoreReport> {
    Repository::new(repository).restore(Options::new(target), point)
}

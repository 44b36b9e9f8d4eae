//! The layout of a backup repository, and the order in which it is changed.

mod loads;
mod prune;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::types::{STRAY_NUMBER_MIN, SegmentNumber, StoreId};
use crate::vfs::{Access, DirEntry, Lock, Vfs};

use super::files::{CopyFailure, Expected, copy, publish, read, sync_folder};
use super::format::{BackupContent, Kind, SegmentContent, VolumeContent, decode, encode};
use super::lineage::Lineage;

const LOCK_FILE: &str = "LOCK";
const IDENTITY_FILE: &str = "repository";
const SEGMENTS: &str = "segments";
const BACKUPS: &str = "backups";
const LOG: &str = "log";

/// A repository.
#[derive(Clone, Debug)]
pub struct Repository {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    store_id: StoreId,
}

/// A description that was found, or what is wrong with it.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    /// What it says.
    pub content: Result<T>,
}

impl Repository {
    /// Looks at a repository; writes nothing.
    ///
    /// # Errors
    /// `Repository` if there is none, `Damaged`, `NewerFormat`, or what the disk answers.
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path) -> Result<Self> {
        let path = dir.join(IDENTITY_FILE);
        let bytes = match read(&*vfs, &path) {
            Err(Error::Io { source, .. })
                if matches!(
                    source.kind(),
                    ErrorKind::NotFound | ErrorKind::NotADirectory
                ) =>
            {
                return Err(refused(dir, "there is no backup repository here"));
            }
            bytes => bytes?,
        };
        let mut store_id = StoreId(0);
        decode(&path, Kind::Repository, 0, None, &bytes, |_| Some(()))?;
        // The frame is right, so the id is where it should be.
        if let Some(id) = bytes.get(32..48).and_then(|id| id.try_into().ok()) {
            store_id = StoreId(u128::from_le_bytes(id));
        }
        let dir = dir.to_owned();
        Ok(Self { vfs, dir, store_id })
    }

    /// Takes a repository to change it; one is made for this store if there is none.
    ///
    /// # Errors
    /// `Repository` if it is another store's, or something else lies in the folder; `Locked`; or as
    /// [`Repository::open`].
    pub fn take(vfs: Arc<dyn Vfs>, dir: &Path, store_id: StoreId) -> Result<(Self, Box<dyn Lock>)> {
        let make = |folder: &Path| {
            let made = vfs.create_dir_all(folder);
            made.map_err(|error| Error::io("create the folder", folder, error))
        };
        make(dir)?;
        check_ours(&*vfs, dir)?;
        let lock = lock(&*vfs, dir)?;
        for folder in [SEGMENTS, BACKUPS, LOG] {
            make(&dir.join(folder))?;
        }
        for folder in [
            dir.to_owned(),
            dir.join(SEGMENTS),
            dir.join(BACKUPS),
            dir.join(LOG),
        ] {
            remove_temporary(&*vfs, &folder)?;
        }
        let identity = dir.join(IDENTITY_FILE);
        match vfs.open(&identity, Access::Read) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let bytes = encode(Kind::Repository, 0, store_id, |_| {});
                publish(&*vfs, &identity, &bytes)?;
            }
            Err(error) => return Err(Error::io("open", &identity, error)),
        }
        // Also a name that an earlier attempt gave may not be durable yet.
        sync_folder(&*vfs, dir)?;
        let repository = Self::open(vfs, dir)?;
        if repository.store_id != store_id {
            let why = format!(
                "it belongs to store {}, and this is {store_id}",
                repository.store_id
            );
            return Err(refused(dir, why));
        }
        Ok((repository, lock))
    }

    /// Takes a repository that is there, to change it.
    ///
    /// # Errors
    /// As [`Repository::open`], and `Locked`.
    pub fn lock(&self) -> Result<Box<dyn Lock>> {
        lock(&*self.vfs, &self.dir)
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its disk.
    #[must_use]
    pub fn vfs(&self) -> &Arc<dyn Vfs> {
        &self.vfs
    }

    /// Whose backups are in it.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// The file of a segment.
    #[must_use]
    pub fn segment_path(&self, digest: u128) -> PathBuf {
        let name = format!("{digest:032x}.segment");
        self.dir.join(SEGMENTS).join(name)
    }

    /// The folder of a volume.
    #[must_use]
    pub fn volume_dir(&self, number: u64) -> PathBuf {
        self.dir.join(LOG).join(format!("{number:08}"))
    }

    fn backup_path(&self, number: u64) -> PathBuf {
        self.dir.join(BACKUPS).join(format!("{number:08}.backup"))
    }

    fn volume_path(&self, number: u64) -> PathBuf {
        self.dir.join(LOG).join(format!("{number:08}.volume"))
    }

    fn list(&self, folder: &str) -> Result<Vec<DirEntry>> {
        let path = self.dir.join(folder);
        match self.vfs.list(&path) {
            // A repository that was never finished has nothing in it.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            entries => entries.map_err(|error| Error::io("list", &path, error)),
        }
    }

    /// The numbers of the files in a folder with this extension, ascending.
    fn numbers(&self, folder: &str, extension: &str) -> Result<BTreeSet<u64>> {
        let entries = self.list(folder)?;
        let files = entries.iter().filter(|entry| !entry.is_dir);
        Ok(files
            .filter_map(|entry| numbered(&entry.name, extension))
            .collect())
    }

    /// Every backup there is, oldest first, those that can't be read included.
    ///
    /// # Errors
    /// What the disk answers to the listing.
    pub fn backups(&self) -> Result<Vec<Listed<BackupContent>>> {
        let numbers = self.numbers(BACKUPS, "backup")?.into_iter();
        Ok(numbers.map(|number| self.backup(number)).collect())
    }

    fn backup(&self, number: u64) -> Listed<BackupContent> {
        let path = self.backup_path(number);
        let content = self.content(&path, Kind::Backup, number, BackupContent::take);
        Listed {
            number,
            path,
            content,
        }
    }

    fn volume(&self, number: u64) -> Listed<VolumeContent> {
        let path = self.volume_path(number);
        let content = self.content(&path, Kind::Volume, number, VolumeContent::take);
        Listed {
            number,
            path,
            content,
        }
    }

    /// Every volume of the archive there is, oldest first, those that can't be read included: also those of
    /// which only the records are left.
    ///
    /// # Errors
    /// What the disk answers to the listings.
    pub fn volumes(&self) -> Result<Vec<Listed<VolumeContent>>> {
        let mut numbers = self.numbers(LOG, "volume")?;
        for entry in self.list(LOG)?.iter().filter(|entry| entry.is_dir) {
            // The folder of one that was pruned stays, and is empty.
            if let Some(number) = parse_number(&entry.name)
                && !numbers.contains(&number)
                && self.has_records(number)?
            {
                numbers.insert(number);
            }
        }
        let numbers = numbers.into_iter();
        Ok(numbers.map(|number| self.volume(number)).collect())
    }

    /// Whether there are log files in a volume's folder.
    fn has_records(&self, volume: u64) -> Result<bool> {
        let folder = self.volume_dir(volume);
        let entries = self.vfs.list(&folder);
        let entries = entries.map_err(|error| Error::io("list", &folder, error))?;
        Ok(entries.iter().any(|entry| entry.name.ends_with(".log")))
    }

    fn content<T>(
        &self,
        path: &Path,
        kind: Kind,
        number: u64,
        take: impl FnOnce(&mut crate::codec::Reader<'_>) -> Option<T>,
    ) -> Result<T> {
        let bytes = read(&*self.vfs, path)?;
        decode(path, kind, number, Some(self.store_id), &bytes, take)
    }

    /// A number above all that were given out.
    fn next_number(&self) -> Result<u64> {
        let mut highest = 0;
        for folder in [BACKUPS, LOG] {
            for entry in self.list(folder)? {
                let stem = entry.name.split('.').next().unwrap_or_default();
                highest = highest.max(parse_number(stem).unwrap_or(0));
            }
        }
        Ok(highest + 1)
    }

    /// Whether a segment is there, by its name and length.
    ///
    /// # Errors
    /// What the disk answers.
    pub fn has_segment(&self, segment: &SegmentContent) -> Result<bool> {
        let path = self.segment_path(segment.digest);
        let file = match self.vfs.open(&path, Access::Read) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            file => file.map_err(|error| Error::io("open", &path, error))?,
        };
        let bytes = file.len();
        Ok(bytes.map_err(|error| Error::io("measure", &path, error))? == segment.bytes)
    }

    /// Adds the segments that are missing, from the paths given with them, and makes them durable. Returns
    /// how many were copied, and their bytes. The caller holds the lock, and `go_on` is asked before each. One that
    /// can't be copied is copied again if `mend` says that it is whole now.
    ///
    /// # Errors
    /// `Damaged` if a segment isn't what it must be, what the disks answer, or what `go_on` does. What was copied stays for
    /// the next attempt.
    pub fn add_segments(
        &self,
        segments: &[(SegmentContent, PathBuf)],
        go_on: impl Fn() -> Result<()>,
        mend: impl Fn(SegmentNumber) -> Result<bool>,
    ) -> Result<(u64, u64)> {
        let folder = self.dir.join(SEGMENTS);
        let (mut added, mut bytes) = (Vec::new(), 0);
        for (segment, from) in segments {
            go_on()?;
            if self.has_segment(segment)? {
                continue;
            }
            let to = self.segment_path(segment.digest);
            let copy = || copy(&*self.vfs, from, &to, segment.expected());
            let copied = match copy() {
                Err(CopyFailure::Source(_)) if mend(segment.number)? => copy(),
                copied => copied,
            };
            copied.map_err(CopyFailure::into_error)?;
            bytes += segment.bytes;
            added.push(to);
        }
        sync_folder(&*self.vfs, &folder).inspect_err(|_| {
            // A later sync proves nothing of these names.
            for path in &added {
                let _ = self.vfs.remove(path);
            }
        })?;
        Ok((added.len() as u64, bytes))
    }

    /// Copies a segment out, verifying it.
    ///
    /// # Errors
    /// What keeps the source from being read, or the target from being written.
    pub fn fetch_segment(&self, segment: &SegmentContent, to: &Path) -> Result<(), CopyFailure> {
        let from = self.segment_path(segment.digest);
        copy(&*self.vfs, &from, to, segment.expected())
    }

    /// Publishes a backup whose segments are durable. Returns its number. The caller holds the lock.
    ///
    /// # Errors
    /// What the disk answers; then there is no backup.
    pub fn add_backup(&self, content: &BackupContent) -> Result<u64> {
        let number = self.next_number()?;
        let bytes = content.encode(number, self.store_id);
        self.publish(BACKUPS, &self.backup_path(number), &bytes)?;
        Ok(number)
    }

    /// Publishes the description of a new volume, whose folder is there before it. Returns its number. The
    /// caller holds the lock.
    ///
    /// # Errors
    /// What the disk answers; then there is no volume.
    pub fn add_volume(&self, content: &VolumeContent) -> Result<u64> {
        let number = self.next_number()?;
        let folder = self.volume_dir(number);
        let made = self.vfs.create_dir_all(&folder);
        made.map_err(|error| Error::io("create the folder", &folder, error))?;
        let bytes = content.encode(number, self.store_id);
        self.publish(LOG, &self.volume_path(number), &bytes)?;
        Ok(number)
    }

    fn publish(&self, folder: &str, path: &Path, bytes: &[u8]) -> Result<()> {
        publish(&*self.vfs, path, bytes)?;
        sync_folder(&*self.vfs, &self.dir.join(folder)).inspect_err(|_| {
            // It may never become durable: better that nobody sees it.
            let _ = self.vfs.remove(path);
        })
    }

    /// The lineage of each era that has a backup or a volume that can be read, the one with the newest of
    /// these last, each with its highest number.
    ///
    /// # Errors
    /// What the disk answers to the listings.
    pub fn lineages(&self) -> Result<Vec<(u64, Lineage)>> {
        let backups = self.backups()?.into_iter();
        let backups = backups.filter_map(|b| Some((b.number, b.content.ok()?.lineage)));
        let volumes = self.volumes()?.into_iter();
        let volumes = volumes.filter_map(|v| Some((v.number, v.content.ok()?.lineage)));
        let mut lineages: Vec<(u64, Lineage)> = Vec::new();
        for (number, lineage) in backups.chain(volumes) {
            let era = lineage.newest();
            match lineages.iter_mut().find(|(_, known)| known.newest() == era) {
                Some((highest, _)) => *highest = number.max(*highest),
                None => lineages.push((number, lineage)),
            }
        }
        lineages.sort_by_key(|(number, _)| *number);
        Ok(lineages)
    }

    /// The backup of an era that holds the most records.
    ///
    /// # Errors
    /// What the disk answers to the listing.
    pub fn newest_backup(&self, era: u128) -> Result<Option<BackupContent>> {
        let backups = self.backups()?.into_iter();
        let contents = backups.filter_map(|b| b.content.ok());
        let of_era = contents.filter(|backup| backup.lineage.newest() == era);
        Ok(of_era.max_by_key(|backup| (backup.index, backup.made_us)))
    }

    /// Whether there is a backup or a volume of another era with a higher number.
    ///
    /// # Errors
    /// What the disk answers to the listings.
    pub fn has_other_above(&self, number: u64, era: u128) -> Result<bool> {
        for found in self.numbers(BACKUPS, "backup")?.range(number + 1..) {
            let content = self.backup(*found).content;
            if content.is_ok_and(|content| content.lineage.newest() != era) {
                return Ok(true);
            }
        }
        for found in self.numbers(LOG, "volume")?.range(number + 1..) {
            let content = self.volume(*found).content;
            if content.is_ok_and(|content| content.lineage.newest() != era) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl SegmentContent {
    /// What the file must be.
    #[must_use]
    pub fn expected(&self) -> Expected {
        Expected {
            digest: self.digest,
            bytes: self.bytes,
        }
    }
}

fn refused(dir: &Path, why: impl Into<String>) -> Error {
    Error::Repository {
        path: dir.to_owned(),
        why: why.into(),
    }
}

fn lock(vfs: &dyn Vfs, dir: &Path) -> Result<Box<dyn Lock>> {
    let path = dir.join(LOCK_FILE);
    vfs.lock(&path).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => Error::Locked {
            path: dir.to_owned(),
        },
        _ => Error::io("lock", &path, error),
    })
}

/// Removes what an earlier attempt left unpublished.
fn remove_temporary(vfs: &dyn Vfs, folder: &Path) -> Result<()> {
    let listed = vfs.list(folder);
    for entry in listed.map_err(|error| Error::io("list", folder, error))? {
        if entry.name.ends_with(".tmp") && !entry.is_dir {
            let path = folder.join(&entry.name);
            let removed = vfs.remove(&path);
            removed.map_err(|error| Error::io("remove", &path, error))?;
        }
    }
    Ok(())
}

/// Refuses a folder that holds something else.
fn check_ours(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    let listed = vfs.list(dir);
    let entries = listed.map_err(|error| Error::io("list", dir, error))?;
    let is_ours = |entry: &DirEntry| match entry.is_dir {
        true => [SEGMENTS, BACKUPS, LOG].contains(&entry.name.as_str()),
        false => {
            entry.name == LOCK_FILE
                || entry.name == IDENTITY_FILE
                || entry.name.strip_suffix(".tmp") == Some(IDENTITY_FILE)
        }
    };
    if entries.iter().any(|entry| entry.name == IDENTITY_FILE) {
        return Ok(());
    }
    match entries.iter().find(|entry| !is_ours(entry)) {
        Some(entry) => Err(refused(
            dir,
            format!("it is none, and holds {}", entry.name),
        )),
        None => Ok(()),
    }
}

/// The number in a name like `00000001.backup`.
fn numbered(name: &str, extension: &str) -> Option<u64> {
    let (stem, found) = name.rsplit_once('.')?;
    (found == extension).then(|| parse_number(stem)).flatten()
}

/// Eight or more digits, and nothing that was never given out.
fn parse_number(stem: &str) -> Option<u64> {
    let digits = stem.len() >= 8 && stem.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| stem.parse().ok()).flatten()?;
    (number < STRAY_NUMBER_MIN).then_some(number)
}

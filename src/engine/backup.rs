//! Snapshots, backups, the archive of the log, and restore. `docs/backup.md` says what is on disk after
//! each step; the files' bytes and the repository's layout are room `snapshot`'s.

mod archive;
mod capture;
mod job;
mod load_again;
mod lost;
mod report;
mod restore;
mod timeline;
mod verify;
mod volume;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::folder::is_ours;
use crate::error::{Error, Result};
use crate::segment::file_name;
use crate::snapshot::{
    BackupContent, CopyFailure, Lineage, Repository, SegmentContent, Staging, link_or_copy,
    read_lineage, write_lineage,
};
use crate::types::{SegmentMeta, SegmentNumber};
use crate::vfs::Vfs;

pub(crate) use self::archive::Archive;
pub(crate) use self::job::BackupJob;
pub use self::report::{
    Backup, BackupEra, BackupReport, PruneReport, RestorePoint, RestoreReport, Skipped,
    SnapshotReport,
};
pub(crate) use self::report::{list, list_eras};
pub(crate) use self::restore::restore;
pub use self::verify::{RepositoryReport, verify_repository};

/// Removes all but the newest backups of a repository, and what only those needed.
pub(crate) fn prune(vfs: Arc<dyn Vfs>, repository: &Path, keep: usize) -> Result<PruneReport> {
    if keep == 0 {
        let why = "a prune that keeps nothing is no prune: remove the folder".to_owned();
        return Err(Error::InvalidOption { name: "keep", why });
    }
    let repository = Repository::open(vfs, repository)?;
    let _lock = repository.lock()?;
    let pruned = repository.prune(keep)?;
    Ok(PruneReport {
        backups: pruned.backups,
        segments: pruned.segments,
        volumes: pruned.volumes,
        bytes: pruned.bytes,
        unreadable: pruned.unreadable,
    })
}

impl Engine {
    /// Makes a folder that is a store with everything that was written before the call.
    pub(crate) fn snapshot_to(&self, target: &Path) -> Result<SnapshotReport> {
        let _call = self.calls.enter()?;
        self.check_writable()?;
        let vfs = &self.options.vfs;
        let lineage = self.lineage()?;
        let staging = Staging::begin(vfs.clone(), target, is_ours)?;
        let captured = self.capture()?;
        let dir = staging.dir();
        self.create_manifest(dir, captured.state.clone())?;
        let mut report = SnapshotReport {
            index: captured.index,
            time_us: captured.time_us,
            ..SnapshotReport::default()
        };
        for (content, path) in self.contents(&captured) {
            self.calls.check()?;
            let to = dir.join(file_name(content.number));
            let link = || link_or_copy(&**vfs, &path, &to, content.expected());
            let linked = match link() {
                Err(CopyFailure::Source(_)) if self.mend_source(&captured, content.number)? => {
                    link()
                }
                linked => linked,
            };
            match linked.map_err(CopyFailure::into_error)? {
                true => report.bytes_linked += content.bytes,
                false => report.bytes_copied += content.bytes,
            }
            report.segments += 1;
        }
        let era = self.options.entropy.next_u128();
        let lineage = lineage.branch(captured.index, era);
        write_lineage(&**vfs, dir, self.store_id, &lineage)?;
        staging.publish()?;
        Ok(report)
    }

    /// Adds a backup of everything that was written before the call to a repository.
    pub(crate) fn backup_to(&self, repository: &Path) -> Result<BackupReport> {
        let _call = self.calls.enter()?;
        self.check_writable()?;
        let _alone = self.backups.lock();
        let lineage = self.lineage()?;
        let vfs = self.options.vfs.clone();
        let (repository, _lock) = Repository::take(vfs, repository, self.store_id)?;
        // (Before the flush, after which the log may be purged.)
        self.check_backups(&repository, &lineage)?;
        self.check_archive(&repository, &lineage)?;
        let captured = self.capture()?;
        self.check_segments(&repository, &lineage, &captured)?;
        let contents = self.contents(&captured);
        let mend = |number| self.mend_source(&captured, number);
        let (segments_copied, bytes_copied) =
            repository.add_segments(&contents, || self.calls.check(), mend)?;
        let content = BackupContent {
            lineage,
            index: captured.index,
            time_us: captured.time_us,
            made_us: self.clock.wall_us(),
            segments: contents.into_iter().map(|(content, _)| content).collect(),
            state: captured.state.encode(),
        };
        let number = repository.add_backup(&content)?;
        Ok(BackupReport {
            number,
            index: content.index,
            time_us: content.time_us,
            segments: content.segments.len() as u64,
            bytes: content.segments.iter().map(|segment| segment.bytes).sum(),
            segments_copied,
            bytes_copied,
        })
    }

    /// Mends a segment whose file can't be copied as it is. Whether it is whole now.
    fn mend_source(&self, captured: &capture::Captured, number: SegmentNumber) -> Result<bool> {
        let mut segments = captured.segments.iter();
        match segments.find(|segment| segment.meta().number == number) {
            Some(segment) => self.mend_now(segment),
            None => Ok(false),
        }
    }

    /// From which restores this store comes.
    pub(super) fn lineage(&self) -> Result<Lineage> {
        read_lineage(&*self.options.vfs, &self.options.path, self.store_id)
    }

    /// The segments of a captured state, each with its file.
    fn contents(&self, captured: &capture::Captured) -> Vec<(SegmentContent, PathBuf)> {
        let metas = captured.segments.iter().map(|segment| segment.meta());
        contents(&self.options.path, metas)
    }
}

/// Segments of the store in a folder, each with its file.
fn contents<'a>(
    dir: &Path,
    metas: impl Iterator<Item = &'a SegmentMeta>,
) -> Vec<(SegmentContent, PathBuf)> {
    metas
        .map(|meta| (content(meta), dir.join(file_name(meta.number))))
        .collect()
}

fn content(meta: &SegmentMeta) -> SegmentContent {
    SegmentContent {
        digest: meta.digest,
        bytes: meta.bytes,
        number: meta.number,
    }
}

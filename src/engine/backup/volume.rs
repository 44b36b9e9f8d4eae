//! The volumes of the archive: which one is written to, and when another is begun.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::backup::timeline::last_of;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::snapshot::{Lineage, Repository, VolumeContent};
use crate::types::{Index, StoreId};
use crate::wal::{DamagePolicy, Log, LogAccess, LogOptions, LogSetup};

/// Log files in one volume.
const VOLUME_FILES: u64 = 16;
/// How often a repository is taken back from a store of another era that archives there as well.
const TAKE_BACK_EVERY: Duration = Duration::from_secs(3600);

/// The volume that is written to.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) number: u64,
    pub(super) log: Log,
    pub(super) first: Index,
    pub(super) last: Index,
}

impl Engine {
    /// The volume in which a record is the next.
    pub(super) fn volume_for<'a>(
        &self,
        repository: &Path,
        current: &'a mut Option<Volume>,
        first: Index,
    ) -> Result<&'a mut Volume> {
        let volume_bytes = VOLUME_FILES.saturating_mul(self.options.log_file_bytes);
        let goes_on = match &*current {
            Some(volume) => {
                volume.last.next() == first
                    && volume.log.files() <= VOLUME_FILES
                    && volume.log.bytes_retained() < volume_bytes
                    && !self.is_overtaken(repository, volume.number)?
            }
            None => false,
        };
        let volume = match current.take() {
            Some(volume) if goes_on => volume,
            old => self.new_volume(repository, first, old)?,
        };
        Ok(current.insert(volume))
    }

    /// Whether a store of another era has added something to the repository since a volume was begun. The
    /// highest number says whose the repository is: this store takes it back with a new volume, but not
    /// again and again, as two would that archive side by side.
    fn is_overtaken(&self, path: &Path, number: u64) -> Result<bool> {
        let repository = Repository::open(self.options.vfs.clone(), path)?;
        if !repository.has_other_above(number, self.lineage()?.newest())? {
            return Ok(false);
        }
        let now = self.clock.elapsed();
        let mut taken_back = self.archive.taken_back.lock();
        if taken_back.is_some_and(|at| now.saturating_sub(at) < TAKE_BACK_EVERY) {
            let why =
                "a store restored from it archives there as well: give each its own repository";
            return Err(Error::Repository {
                path: path.to_owned(),
                why: why.to_owned(),
            });
        }
        *taken_back = Some(now);
        Ok(true)
    }

    /// The newest volume of this store's era, if it can be written to.
    pub(super) fn open_volume(&self, path: &Path) -> Result<Option<Volume>> {
        let lineage = self.lineage()?;
        let vfs = self.options.vfs.clone();
        // A backup of this store under way is waited for.
        let _alone = self.backups.lock();
        let (repository, _lock) = Repository::take(vfs, path, self.store_id)?;
        self.check_backups(&repository, &lineage)?;
        let volumes = repository.volumes()?.into_iter().rev();
        let mut ours = volumes.filter_map(|volume| {
            let content = volume.content.ok()?;
            (content.lineage == lineage).then_some((volume.number, content.first))
        });
        let Some((number, first)) = ours.next() else {
            return Ok(None);
        };
        let setup = volume_setup(&self.options, self.store_id, &repository, number);
        let log = match Log::open(setup) {
            Ok((log, _)) => log,
            // A new one is begun, which overlaps it as far as the store's log goes back.
            Err(Error::Damaged(_)) => {
                let last = self.log.last_index().0;
                self.archive.unread_last.store(last, Ordering::Release);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let last = log.last_index().max(Index(first.0.saturating_sub(1)));
        if last < first {
            log.skip_to(first);
        }
        if let Some(record) = last_of(&log)? {
            self.check_record(path, &record)?;
        }
        Ok(Some(Volume {
            number,
            log,
            first,
            last,
        }))
    }

    /// Begins a volume, after another or with a gap in between.
    fn new_volume(&self, path: &Path, first: Index, old: Option<Volume>) -> Result<Volume> {
        let lineage = self.lineage()?;
        let vfs = self.options.vfs.clone();
        let _alone = self.backups.lock();
        let (repository, _lock) = Repository::take(vfs, path, self.store_id)?;
        if let Some(old) = old {
            // Its records are durable; the end marker is for whoever looks at it.
            let _ = old.log.close_and_trim();
            if old.last < old.first {
                // An empty one that isn't the newest would be taken for one that has lost its records.
                repository.remove_volume(old.number)?;
            }
        }
        let unread_last = self.archive.unread_last.load(Ordering::Acquire);
        let number = repository.add_volume(&VolumeContent {
            lineage,
            first,
            earlier_last: Index(unread_last.max(first.0.saturating_sub(1))),
        })?;
        let setup = volume_setup(&self.options, self.store_id, &repository, number);
        let (log, _) = Log::open(setup)?;
        log.skip_to(first);
        let last = Index(first.0.saturating_sub(1));
        Ok(Volume {
            number,
            log,
            first,
            last,
        })
    }
}

/// How a volume is opened to be written to.
fn volume_setup(
    options: &Options,
    store_id: StoreId,
    repository: &Repository,
    number: u64,
) -> LogSetup<'static> {
    LogSetup {
        dir: repository.volume_dir(number),
        vfs: options.vfs.clone(),
        clock: options.clock.clone(),
        entropy: options.entropy.clone(),
        store_id,
        options: LogOptions {
            file_bytes: options.log_file_bytes,
            // What is gone from the store must not be taken for torn here.
            identifier_delay: Duration::ZERO,
            buffer_bytes: options.log_buffer_bytes,
            parity: options.parity,
        },
        registry: None,
        known: Vec::new(),
        needed_above: Index(0),
        access: LogAccess::ReadWrite,
        damage: DamagePolicy::Refuse,
        parallel: false,
        progress: None,
    }
}

/// How a volume is opened to be read.
pub(super) fn volume_reader(
    options: &Options,
    repository: &Repository,
    number: u64,
    needed_above: Index,
    damage: DamagePolicy,
) -> LogSetup<'static> {
    LogSetup {
        access: LogAccess::ReadOnly,
        vfs: Arc::clone(repository.vfs()),
        needed_above,
        damage,
        ..volume_setup(options, repository.store_id(), repository, number)
    }
}

/// Whether a lineage's own era ended before a volume's first record.
pub(super) fn is_of(lineage: &Lineage, volume: &VolumeContent) -> bool {
    lineage.holds(volume.lineage.newest(), volume.first)
}

//! Refuses a repository that contradicts the store: somebody has put an older copy of the store's folder in place,
//! and its records, from there on, are others than those that were backed up or archived.

use std::collections::HashMap;
use std::path::Path;

use crate::engine::Engine;
use crate::engine::backup::capture::Captured;
use crate::engine::backup::volume::volume_reader;
use crate::error::{Error, Result};
use crate::snapshot::{Lineage, Repository};
use crate::types::Index;
use crate::wal::{DamagePolicy, Log, Record};

impl Engine {
    /// Refuses a repository with a backup that holds more of this store's era than the store itself, or
    /// something else: somebody has put an older copy of the folder in place, and its records contradict
    /// those.
    pub(super) fn check_backups(&self, repository: &Repository, lineage: &Lineage) -> Result<()> {
        let Some(backup) = repository.newest_backup(lineage.newest())? else {
            return Ok(());
        };
        self.check_reaches(repository.dir(), backup.index)?;
        let own = self.own_record(backup.index)?;
        match own.filter(|own| own.time_us != backup.time_us) {
            None => Ok(()),
            Some(_) => {
                let what = format!("another record {}", backup.index);
                Err(self.other_timeline(repository.dir(), &what))
            }
        }
    }

    /// The same where the log tells nothing any more: in one era, a number is given to one segment.
    pub(super) fn check_segments(
        &self,
        repository: &Repository,
        lineage: &Lineage,
        captured: &Captured,
    ) -> Result<()> {
        let Some(backup) = repository.newest_backup(lineage.newest())? else {
            return Ok(());
        };
        let held = backup.segments.iter();
        let held: HashMap<_, _> = held.map(|held| (held.number, held.digest)).collect();
        let other = captured.segments.iter().map(|s| s.meta()).find(|meta| {
            let digest = held.get(&meta.number);
            digest.is_some_and(|digest| *digest != meta.digest)
        });
        other.map_or(Ok(()), |meta| {
            let what = format!("another segment {}", meta.number);
            Err(self.other_timeline(repository.dir(), &what))
        })
    }

    fn other_timeline(&self, repository: &Path, what: &str) -> Error {
        let why = format!(
            "it holds {what} of this store's era than the store: an older copy of the store's folder was put \
             in place and written to. Use another repository for this store, or restore from this one"
        );
        Error::Repository {
            path: repository.to_owned(),
            why,
        }
    }

    fn check_reaches(&self, repository: &Path, held: Index) -> Result<()> {
        let last = self.views.visible();
        if held <= last {
            return Ok(());
        }
        let why = format!(
            "it holds this store's records up to {held}, and the store ends at {last}: an older copy of its \
             folder was put in place. Use another repository for this store, or restore from this one"
        );
        Err(Error::Repository {
            path: repository.to_owned(),
            why,
        })
    }

    /// Refuses an archive that has more of this store's era than the store, or something else.
    pub(super) fn check_archive(&self, repository: &Repository, lineage: &Lineage) -> Result<()> {
        let path = repository.dir();
        if self.options.archive.as_deref() == Some(path) && self.archive.through() > Index(0) {
            // It was checked when its volume was opened, and nobody else has written to it since.
            return Ok(());
        }
        for volume in repository.volumes()?.into_iter().rev() {
            let era = volume.content.map(|content| content.lineage.newest());
            if era.ok() != Some(lineage.newest()) {
                continue;
            }
            let tolerate = DamagePolicy::Tolerate;
            let setup = volume_reader(&self.options, repository, volume.number, Index(0), tolerate);
            let record = match Log::open(setup) {
                Ok((log, _)) => last_of(&log)?,
                Err(Error::NotAStore { .. }) => None,
                Err(error) => return Err(error),
            };
            if let Some(record) = record {
                return self.check_record(path, &record);
            }
        }
        Ok(())
    }

    /// Refuses a repository with a record of this store's era that isn't this store's.
    pub(super) fn check_record(&self, repository: &Path, record: &Record) -> Result<()> {
        self.check_reaches(repository, record.index)?;
        match self.own_record(record.index)? {
            Some(own)
                if (own.kind, own.time_us, &own.payload)
                    != (record.kind, record.time_us, &record.payload) =>
            {
                Err(self.other_timeline(repository, &format!("another record {}", record.index)))
            }
            _ => Ok(()),
        }
    }

    /// A record of the store, if its log still has it.
    fn own_record(&self, index: Index) -> Result<Option<Record>> {
        if index < self.log.first_index() || index > self.log.last_index() {
            return Ok(None);
        }
        let record = match self.log.read_from(index) {
            Ok(mut reader) => reader.next(),
            Err(error) => Err(error),
        };
        match record {
            Ok(record) => Ok(record.filter(|record| record.index == index)),
            Err(Error::Purged { .. }) => Ok(None),
            Err(error) => {
                self.latch_if_final(&error);
                Err(error)
            }
        }
    }
}

/// The last record of a volume that can be read, if there is one.
pub(super) fn last_of(log: &Log) -> Result<Option<Record>> {
    if log.last_index() < log.first_index() {
        return Ok(None);
    }
    log.read_from(log.last_index())?.next()
}

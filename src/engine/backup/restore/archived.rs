//! The archived records, as a restore reads them: from whichever volume has them, up to what is damaged or missing.

use crate::engine::backup::lost::{Volume, lost_records, volume_missing};
use crate::engine::backup::restore::Restore;
use crate::engine::backup::volume::volume_reader;
use crate::error::{Error, Result};
use crate::types::Index;
use crate::wal::{DamagePolicy, Log, LogReader, Record};

/// A volume that is being read.
pub(super) struct Reader {
    reader: LogReader,
    /// What was read in advance.
    peeked: Option<Record>,
    pub(super) era: u128,
}

impl Reader {
    pub(super) fn next(&mut self) -> Result<Option<Record>> {
        match self.peeked.take() {
            Some(record) => Ok(Some(record)),
            None => self.reader.next(),
        }
    }
}

impl Restore<'_> {
    /// Reads the archive from record `next` on, in the volume that was begun last of those that have it.
    /// `None` if there is none; what that means for the restore has been noted then.
    pub(super) fn reader_at(&mut self, next: Index) -> Result<Option<Reader>> {
        let mut damaged = Vec::new();
        let mut whole = Vec::new();
        for volume in &self.volumes {
            let era = volume.content.lineage.newest();
            if volume.content.first > next || !self.lineage.holds(era, next) {
                continue;
            }
            match self.open_volume(volume, next) {
                Ok(Some(reader)) => return Ok(Some(reader)),
                // What is damaged and was begun before can't have it either.
                Ok(None) if next > volume.content.earlier_last => whole.push(era),
                Ok(None) => {}
                // Another may have the same records, or this one may have them before the damage.
                Err(error) => {
                    if let Some(reader) = self.open_damaged(volume, next)? {
                        return Ok(Some(reader));
                    }
                    if !whole.contains(&era) {
                        damaged.push((volume.number, error));
                    }
                }
            }
        }
        self.end_before(next, damaged).map(|()| None)
    }

    fn open_volume(&self, volume: &Volume, index: Index) -> Result<Option<Reader>> {
        let above = Index(index.0.saturating_sub(1));
        let setup = volume_reader(
            self.options,
            self.repository,
            volume.number,
            above,
            DamagePolicy::Refuse,
        );
        let era = volume.content.lineage.newest();
        let log = match Log::open(setup) {
            Ok((log, _)) => log,
            Err(Error::NotAStore { .. }) => return Err(volume_missing(self.repository, volume)),
            Err(error) => return Err(error),
        };
        let is_newest = !self
            .volumes
            .iter()
            .any(|other| other.number > volume.number && other.content.lineage.newest() == era);
        if let Some(damage) = lost_records(self.repository, volume, &log, is_newest)?
            && (log.last_index() < index || log.first_index() > index)
        {
            return Err(Error::damaged(damage));
        }
        if log.last_index() < index || log.first_index() > index {
            return Ok(None);
        }
        let reader = log.read_from(index)?;
        let peeked = None;
        Ok(Some(Reader {
            reader,
            peeked,
            era,
        }))
    }

    /// Reads on from record `index` in a damaged volume, if that one is whole.
    fn open_damaged(&self, volume: &Volume, index: Index) -> Result<Option<Reader>> {
        let reader = self.first_from(volume, index)?;
        Ok(reader.filter(|reader| {
            let peeked = reader.peeked.as_ref();
            peeked.is_some_and(|record| record.index == index)
        }))
    }

    /// Reads what is whole in a volume, from the first such record at or after `index` on.
    fn first_from(&self, volume: &Volume, index: Index) -> Result<Option<Reader>> {
        let tolerate = DamagePolicy::Tolerate;
        let (repository, number) = (self.repository, volume.number);
        let setup = volume_reader(self.options, repository, number, Index(0), tolerate);
        let log = match Log::open(setup) {
            Ok((log, _)) => log,
            Err(Error::NotAStore { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if log.last_index() < index {
            return Ok(None);
        }
        let mut reader = log.read_from(index)?;
        let peeked = reader.next()?;
        let era = volume.content.lineage.newest();
        Ok(peeked.is_some().then_some(Reader {
            reader,
            peeked,
            era,
        }))
    }

    /// Nobody has record `next`: refuses to end before it if the archive goes on beyond it with records that
    /// are wanted, and notes what it may have been in.
    fn end_before(&mut self, next: Index, damaged: Vec<(u64, Error)>) -> Result<()> {
        let mut found: Option<Record> = None;
        for volume in &self.volumes {
            let is_damaged = damaged.iter().any(|(number, _)| *number == volume.number);
            if volume.content.first <= next && !is_damaged {
                continue;
            }
            let Some(Reader { peeked, era, .. }) = self.first_from(volume, next.next())? else {
                continue;
            };
            let is_first = |record: &Record| {
                let first = found.as_ref();
                first.is_none_or(|first| record.index < first.index)
            };
            let of_lineage = peeked.filter(|record| self.lineage.holds(era, record.index));
            if let Some(record) = of_lineage.filter(is_first) {
                found = Some(record);
            }
        }
        if let Some(record) = found
            && self.note_known(record.index, record.time_us)
        {
            let gap = Error::ArchiveGap {
                path: self.repository.dir().to_owned(),
                from: next,
                to: Index(record.index.0.saturating_sub(1)),
            };
            let mut damaged = damaged.into_iter();
            return Err(damaged.next().map_or(gap, |(_, error)| error));
        }
        for (number, why) in damaged {
            // What it held is unknown, and nothing after it is.
            self.missed_unread = true;
            self.skip(number, self.repository.volume_dir(number), why);
        }
        Ok(())
    }
}

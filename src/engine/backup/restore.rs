//! Restore: a backup, verified as it is copied, and the archived records after it.

mod archived;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::backup::capture::{create_manifest, not_final};
use crate::engine::backup::load_again::{bring, loaded_by, taken_number};
use crate::engine::backup::lost::Volume;
use crate::engine::backup::report::{RestorePoint, RestoreReport, Skipped, total};
use crate::engine::backup::volume::is_of;
use crate::engine::folder::is_ours;
use crate::engine::load::Cargo;
use crate::engine::queue::Request;
use crate::error::{Damage, Error, Result};
use crate::manifest::ManifestState;
use crate::options::Options;
use crate::segment::file_name;
use crate::snapshot::{
    BackupContent, CopyFailure, Lineage, Listed, Repository, Staging, write_lineage,
};
use crate::types::{Index, STRAY_NUMBER_MIN, SegmentNumber};
use crate::wal::{Record, RecordKind};

/// Builds the store that `target` names from a repository, as it was at a point. Nothing is changed in the
/// repository.
///
/// # Errors
/// As `Repository::restore` of the API.
pub(crate) fn restore(
    repository: &Path,
    target: Options,
    point: RestorePoint,
    era: Option<u128>,
) -> Result<RestoreReport> {
    target.validate()?;
    let repository = Repository::open(target.vfs.clone(), repository)?;
    let path = target.path.clone();
    let staging = Staging::begin(target.vfs.clone(), &path, is_ours)?;
    let options = target.rebased(staging.dir());
    let lineage = choose(&repository, era)?;
    let mut first_number = repository.number_above_loads()?;
    let restore = loop {
        let mut restore = Restore::new(&repository, &options, point, &lineage, first_number)?;
        let backup = restore.fetch(&staging)?;
        let replayed = restore.replay(&backup);
        let Some(taken) = restore.taken else {
            replayed?;
            break restore;
        };
        // The note that would have kept that number free is lost. Once more, further above.
        let further = first_number.max(taken).0.saturating_mul(2);
        first_number = SegmentNumber(further.min(STRAY_NUMBER_MIN / 2));
        staging.clear()?;
    };
    let era = options.entropy.next_u128();
    let lineage = restore.lineage.branch(restore.report.index, era);
    write_lineage(
        &*options.vfs,
        staging.dir(),
        repository.store_id(),
        &lineage,
    )?;
    let report = restore.finish();
    staging.publish()?;
    Ok(report)
}

/// The lineage to be followed: that of an era, or of the newest thing there is.
fn choose(repository: &Repository, era: Option<u128>) -> Result<Lineage> {
    let mut lineages = repository.lineages()?.into_iter().rev();
    let mut lineages = lineages.by_ref().map(|(_, lineage)| lineage);
    let chosen = match era {
        Some(era) => lineages.find(|lineage| lineage.newest() == era),
        None => lineages.next(),
    };
    if let Some(lineage) = chosen {
        return Ok(lineage);
    }
    if let Some(era) = era {
        let path = repository.dir().to_owned();
        let why = format!("it has nothing of era {era:032x}");
        return Err(Error::Repository { path, why });
    }
    let backups = repository.backups()?.into_iter();
    let damage = backups.filter_map(|b| b.content.err()).collect();
    Err(none_left(repository.dir(), damage))
}

/// A restore at work.
struct Restore<'a> {
    repository: &'a Repository,
    /// Of the store under construction.
    options: &'a Options,
    point: RestorePoint,
    lineage: Lineage,
    backups: Vec<Listed<BackupContent>>,
    /// Of the lineage, those that were begun later first.
    volumes: Vec<Volume>,
    /// What the repository is known to have held, up to the point.
    known: Index,
    /// The highest record of the lineage that the repository is known to have, wanted or not.
    highest: Index,
    /// Records that are beyond the point: the one after the last that is restored proves that this was the
    /// last before it.
    beyond: Vec<Index>,
    /// Whether the description of a newer backup, or of a volume, can't be read: nobody knows what it held.
    missed_unread: bool,
    /// The first number for segments that the restored store makes itself: those that archived records load
    /// keep theirs, which stand in them.
    first_number: SegmentNumber,
    /// A number that a loaded segment needs, and that has been given out.
    taken: Option<SegmentNumber>,
    report: RestoreReport,
}

impl<'a> Restore<'a> {
    fn new(
        repository: &'a Repository,
        options: &'a Options,
        point: RestorePoint,
        lineage: &Lineage,
        first_number: SegmentNumber,
    ) -> Result<Self> {
        let backups = repository.backups()?;
        let mut volumes = Vec::new();
        let mut report = RestoreReport {
            era: lineage.newest(),
            ..RestoreReport::default()
        };
        for volume in repository.volumes()?.into_iter().rev() {
            match volume.content {
                Ok(content) if is_of(lineage, &content) => {
                    let number = volume.number;
                    volumes.push(Volume { number, content });
                }
                Ok(_) => {}
                Err(why) => report.skipped.push(Skipped {
                    number: volume.number,
                    path: volume.path,
                    why,
                }),
            }
        }
        Ok(Self {
            repository,
            options,
            point,
            lineage: lineage.clone(),
            backups,
            volumes,
            known: Index(0),
            highest: Index(0),
            beyond: Vec::new(),
            // What a volume holds that nobody knows whose it is can be anything.
            missed_unread: !report.skipped.is_empty(),
            first_number,
            taken: None,
            report,
        })
    }

    /// Whether a record is at or before the point.
    fn wants(&self, index: Index, time_us: u64) -> bool {
        match self.point {
            RestorePoint::Newest => true,
            RestorePoint::Index(last) => index <= last,
            RestorePoint::Time(last_us) => time_us <= last_us,
        }
    }

    /// Copies the newest backup that is whole, and at or before the point.
    fn fetch(&mut self, staging: &Staging) -> Result<BackupContent> {
        let (mut candidates, mut unread) = (Vec::new(), 0);
        for listed in std::mem::take(&mut self.backups) {
            match listed.content {
                Ok(content) => {
                    let era = content.lineage.newest();
                    if self.lineage.holds(era, content.index)
                        && self.note_known(content.index, content.time_us)
                    {
                        candidates.push((listed.number, listed.path, content));
                    }
                }
                Err(why) => {
                    unread = unread.max(listed.number);
                    self.skip(listed.number, listed.path, why);
                }
            }
        }
        candidates.sort_by_key(|(number, _, content)| (content.index, *number));

        for (number, path, content) in candidates.into_iter().rev() {
            match self.copy(staging, number, &content) {
                Ok(()) => {
                    self.report.backup = number;
                    self.report.index = content.index;
                    self.report.time_us = content.time_us;
                    // Of those that can't be read only the number tells which are newer.
                    self.missed_unread |= unread > number;
                    let backups = path.parent();
                    self.report.skipped.retain(|skipped| {
                        skipped.number > number || skipped.path.parent() != backups
                    });
                    return Ok(content);
                }
                Err(CopyFailure::Source(why)) => {
                    self.skip(number, path, why);
                    staging.clear()?;
                }
                Err(CopyFailure::Target(error)) => return Err(error),
            }
        }
        let skipped = std::mem::take(&mut self.report.skipped).into_iter();
        let errors = skipped.map(|skipped| skipped.why).collect();
        Err(none_left(self.repository.dir(), errors))
    }

    fn skip(&mut self, number: u64, path: PathBuf, why: Error) {
        self.report.skipped.push(Skipped { number, path, why });
    }

    fn copy(
        &mut self,
        staging: &Staging,
        number: u64,
        content: &BackupContent,
    ) -> Result<(), CopyFailure> {
        let malformed = || {
            let path = self
                .repository
                .dir()
                .join(format!("backups/{number:08}.backup"));
            let what = "the manifest's state in it can't be read, though its checksum is right";
            CopyFailure::Source(Error::damaged(Damage::new(&path, 0, 0, what)))
        };
        let state = ManifestState::decode(&content.state).ok_or_else(malformed)?;
        let named: Vec<_> = state
            .keyspaces
            .values()
            .flat_map(|k| k.segments.keys().copied())
            .collect();
        let listed: Vec<_> = content.segments.iter().map(|s| s.number).collect();
        if state.store_id != self.repository.store_id()
            || !named.iter().all(|number| listed.contains(number))
            || listed.len() != named.len()
        {
            return Err(malformed());
        }
        // Nothing is written for a backup that lacks a segment.
        for segment in &content.segments {
            match self.repository.has_segment(segment) {
                Ok(true) => {}
                Ok(false) => {
                    let path = self.repository.segment_path(segment.digest);
                    let what = format!("a segment of backup {number} is missing or cut short");
                    let damage = Damage::new(&path, 0, segment.bytes, what);
                    return Err(CopyFailure::Source(Error::damaged(damage)));
                }
                Err(error) => return Err(CopyFailure::Source(error)),
            }
        }
        create_manifest(
            self.options.vfs.clone(),
            self.options.entropy.clone(),
            staging.dir(),
            state,
        )
        .map_err(CopyFailure::Target)?;
        self.report.bytes = 0;
        for segment in &content.segments {
            let to = staging.dir().join(file_name(segment.number));
            self.repository.fetch_segment(segment, &to)?;
            self.report.bytes = total([self.report.bytes, segment.bytes].into_iter());
        }
        Ok(())
    }

    /// Commits the archived records after the backup again, up to the point.
    fn replay(&mut self, backup: &BackupContent) -> Result<()> {
        let mut engine: Option<Arc<Engine>> = None;
        let outcome = self.replay_into(backup.index, &mut engine);
        let Some(engine) = engine else {
            return outcome;
        };
        let closed = outcome.and_then(|()| engine.close());
        engine.abandon();
        closed.map_err(|error| not_final(error, &self.options.path))
    }

    fn replay_into(&mut self, from: Index, engine: &mut Option<Arc<Engine>>) -> Result<()> {
        let mut next = from.next();
        while self.point != RestorePoint::Index(Index(next.0.saturating_sub(1))) {
            let begun = next;
            let Some(mut reader) = self.reader_at(next)? else {
                return Ok(());
            };
            while let Some(record) = reader.next()? {
                if record.index != next || !self.lineage.holds(reader.era, record.index) {
                    break;
                }
                if !self.note_known(record.index, record.time_us) {
                    return Ok(());
                }
                let engine = match engine {
                    Some(engine) => engine,
                    None => {
                        let (opened, _) = Engine::open(self.options.clone())?;
                        self.first_number = opened.number_segments_from(self.first_number);
                        engine.insert(opened)
                    }
                };
                self.commit_again(engine, &record)?;
                next = record.index.next();
                self.report.index = record.index;
                self.report.time_us = record.time_us;
                self.report.records += 1;
            }
            if next == begun {
                break;
            }
        }
        Ok(())
    }

    /// Takes a record through the commit path with the index and time that it had.
    fn commit_again(&mut self, engine: &Engine, record: &Record) -> Result<()> {
        let cargo = match record.kind {
            RecordKind::Batch | RecordKind::Catalog | RecordKind::Noop => Cargo::default(),
            RecordKind::Load => {
                let load = loaded_by(engine, record)?;
                self.taken = taken_number(engine, self.first_number, &load);
                if self.taken.is_some() {
                    let why = format!("record {} needs numbers that are taken", record.index);
                    return Err(Error::ManifestEdit { why });
                }
                let lengths = load.segments.iter().map(|meta| meta.bytes);
                self.report.bytes = total(lengths.chain([self.report.bytes]));
                bring(self.repository, engine, record.index, &load)?
            }
            kind => {
                let why = format!(
                    "record {} is a {kind:?}, which can't be restored",
                    record.index
                );
                return Err(Error::LogOrder { why });
            }
        };
        let index = engine.write(Request::of_record(record, cargo))?;
        if index != record.index {
            let why = format!("record {} came to be record {index}", record.index);
            return Err(Error::LogOrder { why });
        }
        Ok(())
    }

    /// Notes that the repository has a record. Whether it is at or before the point.
    fn note_known(&mut self, index: Index, time_us: u64) -> bool {
        self.highest = self.highest.max(index);
        let is_wanted = self.wants(index, time_us);
        match is_wanted {
            true => self.known = self.known.max(index),
            false => self.beyond.push(index),
        }
        is_wanted
    }

    fn finish(mut self) -> RestoreReport {
        self.report.reached = match self.point {
            RestorePoint::Index(index) => self.report.index == index,
            RestorePoint::Newest => self.report.index >= self.known && !self.missed_unread,
            RestorePoint::Time(_) => {
                let next = self.report.index.next();
                let is_last = self.highest < next || self.beyond.contains(&next);
                self.report.index >= self.known && is_last && !self.missed_unread
            }
        };
        self.report
    }
}

/// No backup can be used: all that is wrong, or that there is none.
fn none_left(dir: &Path, errors: Vec<Error>) -> Error {
    let mut damage = Vec::new();
    for error in errors {
        match error {
            Error::Damaged(found) => damage.extend(found),
            other => return other,
        }
    }
    if damage.is_empty() {
        let why = "it has no backup at or before that point".to_owned();
        let path = dir.to_owned();
        return Error::Repository { path, why };
    }
    Error::Damaged(damage)
}

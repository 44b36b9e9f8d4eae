//! Verification of a repository: every byte that a restore could need is read and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::engine::backup::lost::{Volume, lost_records, volume_missing};
use crate::engine::backup::report::total;
use crate::engine::backup::volume::volume_reader;
use crate::engine::load::LoadOperation;
use crate::engine::verify::VerifyProgress;
use crate::error::{Damage, Error, Result};
use crate::options::Options;
use crate::snapshot::{Repository, digest_of};
use crate::types::Index;
use crate::wal::{DamagePolicy, Log, RecordKind};

/// What a verification of a repository found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepositoryReport {
    /// Backups whose description is right.
    pub backups: u64,
    /// Segments checked, each once.
    pub segments: u64,
    /// Records of the archive checked.
    pub records: u64,
    /// Bytes checked.
    pub bytes: u64,
    /// Everything that isn't as it was written.
    pub damage: Vec<Damage>,
}

/// Reads every description, computes the digest of every segment that one names, and reads the archive.
/// Writes nothing.
///
/// # Errors
/// [`Error::Repository`] if there is none, [`Error::NewerFormat`], or what the disk answers.
pub fn verify_repository(
    options: &Options,
    path: &Path,
    mut progress: impl FnMut(VerifyProgress),
) -> Result<RepositoryReport> {
    let repository = Repository::open(options.vfs.clone(), path)?;
    let mut report = RepositoryReport::default();
    let mut segments = Needed::new();
    for backup in repository.backups()? {
        match note(&mut report, &backup.path, backup.content)? {
            Some(content) => {
                report.backups += 1;
                let needed = content.segments.iter();
                segments.extend(needed.map(|segment| (segment.digest, segment.bytes)));
            }
            None => continue,
        }
    }
    verify_archive(options, &repository, &mut report, &mut segments)?;
    let lengths = segments.iter().map(|(_, bytes)| *bytes);
    let bytes_total = total(lengths);
    let mut bytes_done = 0;
    for (digest, bytes) in segments {
        let path = repository.segment_path(digest);
        let expected = crate::snapshot::Expected { digest, bytes };
        let checked = digest_of(&**repository.vfs(), &path, expected, &mut |bytes| {
            bytes_done += bytes;
            progress(VerifyProgress {
                bytes_done,
                bytes_total,
            });
        });
        note(&mut report, &path, checked)?;
        report.segments += 1;
    }
    report.bytes += bytes_done;
    Ok(report)
}

/// The segments that are needed: each digest with its length.
type Needed = BTreeSet<(u128, u64)>;

/// Reads the volumes of the archive, and what is noted of loads; adds what their records load to what is
/// needed.
fn verify_archive(
    options: &Options,
    repository: &Repository,
    report: &mut RepositoryReport,
    needed: &mut Needed,
) -> Result<()> {
    let mut noted = BTreeSet::new();
    for load in repository.loads()? {
        let place = load.content.as_ref().map(|content| content.index);
        noted.extend(place.ok().map(|index| (load.number, index)));
        if let Some(content) = note(report, &load.path, load.content)? {
            let segments = content.segments.iter();
            needed.extend(segments.map(|segment| (segment.digest, segment.bytes)));
        }
    }
    let spare = repository.spare_volumes()?;
    let mut newest = BTreeMap::new();
    let listed = repository.volumes()?;
    for volume in &listed {
        if let Ok(content) = &volume.content {
            newest.insert(content.lineage.newest(), volume.number);
        }
    }
    for volume in listed {
        let Some(content) = note(report, &volume.path, volume.content)? else {
            continue;
        };
        let number = volume.number;
        let is_newest = newest.get(&content.lineage.newest()) == Some(&number);
        let described = Volume { number, content };
        let tolerate = DamagePolicy::Tolerate;
        let setup = volume_reader(options, repository, number, Index(0), tolerate);
        let (log, found) = match Log::open(setup) {
            Err(Error::NotAStore { .. }) => {
                if !spare.contains(&number) {
                    let missing = Err::<(), _>(volume_missing(repository, &described));
                    note(report, &volume.path, missing)?;
                }
                continue;
            }
            opened => opened?,
        };
        report.records += found.records;
        report.bytes += found.bytes;
        // (Where records are damaged, that says what is lost; what parity has made up for is none of them.)
        let has_lost = found.damage.iter().any(|damage| damage.lsns.is_some());
        if !has_lost && !spare.contains(&number) {
            let lost = lost_records(repository, &described, &log, is_newest)?;
            report.damage.extend(lost);
        }
        report.damage.extend(found.damage);
        let loads = note(report, &volume.path, loads_in(&log))?;
        for (index, load) in loads.unwrap_or_default() {
            let Some(load) = load else {
                let what = format!("the load in record {index} can't be read");
                report.damage.push(Damage::new(&volume.path, 0, 0, what));
                continue;
            };
            let segments = load.segments.iter();
            needed.extend(segments.map(|meta| (meta.digest, meta.bytes)));
            let path = repository.load_path(volume.number, index);
            let is_unread = report.damage.iter().any(|damage| damage.path == path);
            if !noted.contains(&(volume.number, index)) && !is_unread {
                let what = format!("the note of what record {index} loads is missing");
                report.damage.push(Damage::new(&path, 0, 0, what));
            }
        }
    }
    Ok(())
}

/// The records of a volume that load segments.
fn loads_in(log: &Log) -> Result<Vec<(Index, Option<LoadOperation>)>> {
    let mut loads = Vec::new();
    let mut reader = log.read_from(Index(0))?;
    while let Some(record) = reader.next()? {
        if record.kind == RecordKind::Load {
            loads.push((record.index, LoadOperation::decode(&record.payload)));
        }
    }
    Ok(loads)
}

/// Notes what is wrong with a file, if that is all that is wrong.
fn note<T>(report: &mut RepositoryReport, path: &Path, found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Error::Damaged(damage)) => {
            report.damage.extend(damage);
            Ok(None)
        }
        Err(error @ (Error::Io { .. } | Error::ForeignFile { .. })) => {
            report
                .damage
                .push(Damage::new(path, 0, 0, error.to_string()));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

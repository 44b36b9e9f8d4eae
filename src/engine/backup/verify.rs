//! Verification of a repository: every byte that a restore could need is read and checked.

use std::collections::BTreeSet;
use std::path::Path;

use crate::engine::backup::archive::volume_reader;
use crate::engine::verify::VerifyProgress;
use crate::error::{Damage, Error, Result};
use crate::options::Options;
use crate::snapshot::{Repository, digest_of};
use crate::types::Index;
use crate::wal::{DamagePolicy, Log};

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
    let mut segments = BTreeSet::new();
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
    let bytes_total = segments.iter().map(|(_, bytes)| bytes).sum();
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
    report.bytes = bytes_done;
    for volume in repository.volumes()? {
        if note(&mut report, &volume.path, volume.content)?.is_none() {
            continue;
        }
        let tolerate = DamagePolicy::Tolerate;
        let setup = volume_reader(options, &repository, volume.number, Index(0), tolerate);
        let (_, found) = match Log::open(setup) {
            // Begun, and nothing has been written to it yet.
            Err(Error::NotAStore { .. }) => continue,
            opened => opened?,
        };
        report.records += found.records;
        report.bytes += found.bytes;
        report.damage.extend(found.damage);
    }
    Ok(report)
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

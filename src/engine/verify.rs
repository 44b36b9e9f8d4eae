//! Verification: every byte of a store read and checked, nothing written.

use crate::engine::Engine;
use crate::error::{Damage, Error, Result};
use crate::options::{Background, Options};

/// How far a verification has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Bytes checked so far.
    pub bytes_done: u64,
    /// Bytes to check, as far as is known: the log is counted as it is read.
    pub bytes_total: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Segments checked.
    pub segments: u64,
    /// Bytes checked.
    pub bytes: u64,
    /// Log records checked that segments don't hold yet.
    pub records: u64,
    /// Bytes at the tail of log or manifest that were never acknowledged as durable.
    pub torn_bytes: u64,
    /// Everything that isn't as it was written, healed or not.
    pub damage: Vec<Damage>,
    /// Files in the folder that aren't Kintsu's.
    pub foreign_files: Vec<String>,
}

/// Reads and checks every byte of the store that `options` name: both copies of the manifest, every
/// log record and identifier, every block of every segment and the digest of the whole. Writes
/// nothing, takes no lock, and runs beside a live writer.
///
/// # Errors
/// [`Error::NotAStore`] and its like if there is nothing to verify, [`Error::Damaged`] if the manifest
/// is beyond reading, or what the disk answers. Damage that leaves the rest readable is in the report.
pub fn verify(options: Options, mut progress: impl FnMut(VerifyProgress)) -> Result<VerifyReport> {
    let mut options = options.read_only(true).background(Background::Manual);
    options.tolerate_damage = true;
    let (engine, found) = Engine::open(options)?;
    let mut report = VerifyReport {
        bytes: found.log_bytes_read,
        records: found.records_replayed,
        torn_bytes: found.torn_bytes,
        damage: found.damage,
        foreign_files: found.foreign_files,
        ..VerifyReport::default()
    };
    // The open is content with one good copy of the manifest; here both must be good.
    let manifest = crate::manifest::verify(engine.options.vfs.as_ref(), &engine.options.path)?;
    for damage in manifest {
        if !report.damage.contains(&damage) {
            report.damage.push(damage);
        }
    }
    match engine.lineage() {
        Err(Error::Damaged(damage)) => report.damage.extend(damage),
        lineage => drop(lineage?),
    }
    // Those around segments that can't be opened are there already.
    let is_new = |damage: &Damage| report.damage.iter().all(|known| known.path != damage.path);
    let lost = engine.lost_ranges().into_iter().map(|lost| lost.damage);
    let lost: Vec<_> = lost.filter(is_new).collect();
    report.damage.extend(lost);
    let keyspaces = engine.keyspaces.load_full();
    let mut segments = Vec::new();
    for tree in keyspaces.trees() {
        let state = tree.load();
        segments.extend(state.segments().map(|(_, segment)| segment.clone()));
        segments.extend(state.loaded().flat_map(|loaded| loaded.iter().cloned()));
    }
    let bytes_total = report.bytes + segments.iter().map(|s| s.meta().bytes).sum::<u64>();
    let mut bytes_done = report.bytes;
    for segment in segments {
        match segment.verify(&mut |bytes| {
            bytes_done += bytes;
            progress(VerifyProgress {
                bytes_done,
                bytes_total,
            });
        }) {
            Ok(damage) => report.damage.extend(damage),
            Err(Error::Damaged(damage)) => report.damage.extend(damage),
            Err(error) => return Err(error),
        }
        report.segments += 1;
    }
    report.bytes = bytes_done;
    progress(VerifyProgress {
        bytes_done,
        bytes_total,
    });
    Ok(report)
}

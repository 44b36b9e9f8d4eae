//! The store's folder: what may become a store, who holds it, and which files in it are whose.

use std::collections::HashSet;
use std::path::Path;

use crate::engine::mending::QUARANTINE;
use crate::engine::recovery::RecoveryReport;
use crate::error::{Damage, Error, Result};
use crate::journal::{JOURNAL_FILE, JOURNAL_OLD_FILE, PROGRESS_FILE};
use crate::manifest::{Manifest, ManifestState};
use crate::options::Options;
use crate::snapshot::{LINEAGE_COPY_FILE, LINEAGE_FILE, STAGING_FILE, end_staging};
use crate::types::{STRAY_NUMBER_MIN, SegmentNumber};
use crate::vfs::Lock;

/// Whether there is a store in the folder that `options` name.
pub(crate) fn is_store(options: &Options) -> Result<bool> {
    match options.vfs.list(&options.path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::io("list the folder", &options.path, source)),
        Ok(_) => Manifest::is_present(options.vfs.as_ref(), &options.path),
    }
}

/// Checks what the folder is, takes the lock, and creates the store if it is missing.
pub(super) fn prepare_folder(
    options: &Options,
    report: &mut RecoveryReport,
    create: impl FnOnce(&Options) -> Result<()>,
) -> Result<Option<Box<dyn Lock>>> {
    let (vfs, path) = (options.vfs.as_ref(), options.path.as_path());
    let names = match vfs.list(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if options.read_only || !options.create_if_missing {
                return Err(not_a_store(path, "there is no such folder"));
            }
            let made = vfs.create_dir_all(path);
            made.map_err(|source| Error::io("create the folder", path, source))?;
            Vec::new()
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(not_a_store(path, "it is not a folder"));
        }
        Err(source) => return Err(Error::io("list the folder", path, source)),
    };
    check_file_system(options)?;
    let present = Manifest::is_present(vfs, path)?;
    let kinds: Vec<_> = names
        .iter()
        .map(|e| (e.name.clone(), kind_of(&e.name)))
        .collect();
    report.foreign_files = kinds
        .iter()
        .filter(|(_, k)| *k == Kind::Foreign)
        .map(|(name, _)| name.clone())
        .collect();
    if !present {
        check_may_create(options, &kinds)?;
    }
    if options.read_only {
        return Ok(None);
    }
    let lock_path = path.join(LOCK_FILE);
    let lock = vfs.lock(&lock_path).map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => Error::Locked {
            path: path.to_owned(),
        },
        _ => Error::io("lock", &lock_path, source),
    })?;
    if names.iter().any(|entry| entry.name == STAGING_FILE) {
        end_staging(vfs, path)?;
    }
    // Somebody may have created the store between the look and the lock.
    if !Manifest::is_present(vfs, path)? {
        create(options)?;
        report.created = true;
    }
    Ok(Some(lock))
}

fn check_file_system(options: &Options) -> Result<()> {
    if options.allow_unsafe_file_system || options.read_only {
        return Ok(());
    }
    let path = &options.path;
    let found = options.vfs.file_system(path);
    let found = found.map_err(|source| Error::io("look at the file system of", path, source))?;
    match found.refused {
        Some(why) => {
            let path = path.clone();
            Err(Error::UnsafeFileSystem {
                path,
                file_system: found.name,
                why,
            })
        }
        None => Ok(()),
    }
}

/// A folder without a manifest may become a store only if there is nothing in it that could be
/// somebody's.
fn check_may_create(options: &Options, kinds: &[(String, Kind)]) -> Result<()> {
    let path = options.path.as_path();
    let ours: Vec<_> = kinds
        .iter()
        .filter(|(_, k)| matches!(k, Kind::Data))
        .map(|(name, _)| name)
        .collect();
    if let Some(name) = ours.first() {
        let what = format!("the store's manifest is missing, though {name} is there");
        return Err(Error::damaged(Damage::new(
            &path.join("manifest"),
            0,
            0,
            what,
        )));
    }
    if let Some((name, _)) = kinds.iter().find(|(_, kind)| *kind == Kind::Foreign) {
        return Err(not_a_store(
            path,
            &format!("it holds {name} and no manifest"),
        ));
    }
    if options.read_only || !options.create_if_missing {
        return Err(not_a_store(path, "it is empty"));
    }
    Ok(())
}

fn not_a_store(path: &Path, why: &str) -> Error {
    Error::NotAStore {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

/// The lock's file name.
const LOCK_FILE: &str = "LOCK";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A log file, its identifiers or parity, a segment, a manifest, term and vote, lineage.
    Data,
    /// The lock, a file not yet published, what was damaged and set aside, or what is told of that.
    Transient,
    /// Nothing of ours.
    Foreign,
}

fn kind_of(name: &str) -> Kind {
    let notes = [
        LOCK_FILE,
        QUARANTINE,
        JOURNAL_FILE,
        JOURNAL_OLD_FILE,
        PROGRESS_FILE,
    ];
    if notes.contains(&name) || name.ends_with(".tmp") {
        return Kind::Transient;
    }
    let numbered = |stem: &str| stem.len() >= 8 && stem.bytes().all(|b| b.is_ascii_digit());
    let ours = match name.rsplit_once('.') {
        None => name == LINEAGE_FILE,
        Some((stem, "log" | "ids" | "parity" | "segment")) => numbered(stem),
        Some(("vote", "a" | "b")) => true,
        Some((_, "copy")) => name == LINEAGE_COPY_FILE,
        Some((stem, "a" | "b")) => stem.strip_prefix("manifest-").is_some_and(numbered),
        _ => false,
    };
    if ours { Kind::Data } else { Kind::Foreign }
}

/// Whether a file of this name holds a part of a store's data.
pub(super) fn is_data(name: &str) -> bool {
    kind_of(name) == Kind::Data
}

/// Whether a file of this name can be a store's.
pub(super) fn is_ours(name: &str) -> bool {
    kind_of(name) != Kind::Foreign
}

/// The next free segment number, and the files that neither the manifest nor a record names: segments never
/// published and
/// temporary files. They are removed by the first reclaim.
pub(super) fn survey(
    options: &Options,
    state: &ManifestState,
    loaded: &HashSet<SegmentNumber>,
) -> Result<(SegmentNumber, Vec<String>)> {
    let fences = state
        .keyspaces
        .values()
        .flat_map(|keyspace| &keyspace.fences);
    let fenced = fences.map(|fence| &fence.segment);
    let named: HashSet<String> = state
        .keyspaces
        .values()
        .flat_map(|keyspace| keyspace.segments.keys())
        .chain(loaded)
        // What was lost with its file may have come back with it: for `salvage`, not for the writer to remove.
        .chain(fenced)
        .map(|number| crate::segment::file_name(*number))
        .collect();
    let mut next = state.next_segment.0;
    let mut orphans = Vec::new();
    let entries = options.vfs.list(&options.path);
    for entry in entries.map_err(|source| Error::io("list the folder", &options.path, source))? {
        // Also one that isn't published yet has a number, which somebody may still be about to give it.
        let (name, is_published) = match entry.name.strip_suffix(".tmp") {
            Some(name) => (name, false),
            None => (entry.name.as_str(), true),
        };
        let Some(stem) = name.strip_suffix(".segment") else {
            continue;
        };
        let number = stem.parse::<u64>().ok();
        let number =
            number.filter(|number| kind_of(name) == Kind::Data && *number < STRAY_NUMBER_MIN);
        if let Some(number) = number {
            next = next.max(number.saturating_add(1));
        }
        let is_orphan = match is_published {
            true => number.is_some() && !named.contains(name),
            false => true,
        };
        if is_orphan {
            orphans.push(entry.name);
        }
    }
    Ok((SegmentNumber(next), orphans))
}

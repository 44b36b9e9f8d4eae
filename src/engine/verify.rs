//! Verification: every byte of a store, or of one file, read and checked, nothing written.

mod file;
mod map;
mod names;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::file::{FileReport, verify_file};
pub use self::map::{BlockState, FileMap, FilePlace};

use crate::engine::Engine;
use crate::error::{Damage, Error, Result};
use crate::options::{Background, Options};
use crate::segment::{Segment, Wreck, file_name};
use crate::types::{KeyspaceId, SegmentMeta};
use crate::wal::{DamagePolicy, Log, LogAccess, LogSetup};

/// How far a verification has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Bytes checked so far.
    pub bytes_done: u64,
    /// Bytes to check, as far as is known: the log is counted as it is read.
    pub bytes_total: u64,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Everything is as it was written.
    #[default]
    Whole,
    /// Something isn't, and all of it can be made so again: from parity, or from another copy.
    Mendable,
    /// Something is lost. The store opens, and refuses what needs that.
    Damaged,
    /// Something is lost, and the store can't be opened.
    Unopenable,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// How bad it is.
    pub severity: Severity,
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
    /// Of the damage, what nothing makes up for.
    pub lost: Vec<Damage>,
    /// Every file that is part of the store, and what in it isn't whole.
    pub files: Vec<FileMap>,
    /// Files in the folder that have a name of Kintsu's, and that nothing names: left over from before a crash, or
    /// put there. The next writer removes those that it knows to be of no use.
    pub leftover_files: Vec<String>,
    /// Files in the folder that aren't Kintsu's.
    pub foreign_files: Vec<String>,
}

/// Reads and checks every byte of the store that `options` name: both copies of the manifest, every
/// log record and identifier, every block of every segment and the digest of the whole; and that all
/// and only what the manifest names is there. Writes nothing, takes no lock, and runs beside a live writer.
///
/// A snapshot made by [`Db::snapshot_to`](crate::Db::snapshot_to) is a store; for a backup repository there is
/// [`Repository::verify`](crate::Repository::verify), for a single file [`verify_file`].
///
/// # Errors
/// [`Error::NotAStore`] and its like if there is nothing to verify, or what the disk answers. Damage is in the
/// report, also if the store can't be opened because of it.
pub fn verify(options: Options, mut progress: impl FnMut(VerifyProgress)) -> Result<VerifyReport> {
    let options = options.read_only(true).background(Background::Manual);
    let mut tolerant = options.clone();
    tolerant.tolerate_damage = true;
    let (engine, found) = match Engine::open(tolerant) {
        Err(Error::Damaged(damage)) => return unopenable(&options, damage),
        opened => opened?,
    };
    let mut verification = Verification {
        options: &options,
        maps: BTreeMap::new(),
        report: VerifyReport {
            bytes: found.log_bytes_read,
            records: found.records_replayed,
            torn_bytes: found.torn_bytes,
            foreign_files: found.foreign_files,
            ..VerifyReport::default()
        },
    };
    verification.others(&engine, found.damage)?;
    verification.segments(&engine, &mut progress)?;
    verification.fences(&engine);
    verification.names(&engine)?;
    Ok(verification.finish())
}

struct Verification<'a> {
    options: &'a Options,
    maps: BTreeMap<PathBuf, FileMap>,
    report: VerifyReport,
}

impl Verification<'_> {
    /// Everything that isn't a segment.
    fn others(&mut self, engine: &Engine, found: Vec<Damage>) -> Result<()> {
        let (vfs, dir) = (self.options.vfs.as_ref(), self.options.path.as_path());
        let mut damage = found;
        // The open is content with one good copy of the manifest; here both must be good.
        for one in crate::manifest::verify(vfs, dir)? {
            if !damage.contains(&one) {
                damage.push(one);
            }
        }
        let refused = match damage.is_empty() {
            true => Vec::new(),
            false => self.refused(engine)?,
        };
        for one in damage {
            // (Segments are judged when they are read.)
            let is_segment = one.path.extension().is_some_and(|of| of == "segment");
            if is_segment {
                continue;
            }
            let is_same = |other: &Damage| other.path == one.path && other.offset == one.offset;
            let is_lost = refused.iter().any(is_same);
            self.note(one, !is_lost)?;
        }
        for (one, has_copy) in crate::snapshot::check_lineage(vfs, dir, engine.store_id)? {
            self.note(one, has_copy)?;
        }
        Ok(())
    }

    /// What an open that means it refuses; says so in the severity.
    fn refused(&mut self, engine: &Engine) -> Result<Vec<Damage>> {
        let mut refused = match Engine::open(self.options.clone()) {
            Ok(_) => return Ok(Vec::new()),
            Err(Error::Damaged(damage)) => damage,
            Err(error) => return Err(error),
        };
        self.report.severity = Severity::Unopenable;
        // An open that a segment stops hasn't come to the log.
        refused.extend(self.needed_log(engine)?);
        Ok(refused)
    }

    /// Damage to records that no segment has.
    fn needed_log(&self, engine: &Engine) -> Result<Vec<Damage>> {
        let state = engine.manifest.lock().state().clone();
        let opened = Log::open(LogSetup {
            vfs: self.options.vfs.clone(),
            store_id: state.store_id,
            known: state.log_files.values().cloned().collect(),
            needed_above: engine.covered(),
            access: LogAccess::ReadOnly,
            damage: DamagePolicy::Tolerate,
            parallel: false,
            ..LogSetup::new(&self.options.path)
        });
        match opened {
            Ok((_, report)) => Ok(report.needed),
            Err(Error::Damaged(damage)) => Ok(damage),
            Err(error) => Err(error),
        }
    }

    fn note(&mut self, damage: Damage, can_be_mended: bool) -> Result<()> {
        let map = self.map(&damage.path)?;
        let state = state_of(can_be_mended);
        map.add_damage(&damage, state);
        self.count(damage, can_be_mended);
        Ok(())
    }

    fn count(&mut self, damage: Damage, can_be_mended: bool) {
        let severity = match can_be_mended {
            true => Severity::Mendable,
            false => {
                self.report.lost.push(damage.clone());
                Severity::Damaged
            }
        };
        self.report.severity = self.report.severity.max(severity);
        self.report.damage.push(damage);
    }

    fn map(&mut self, path: &Path) -> Result<&mut FileMap> {
        if !self.maps.contains_key(path) {
            let map = FileMap::of(self.options.vfs.as_ref(), path)?;
            self.maps.insert(path.to_owned(), map);
        }
        Ok(self.maps.entry(path.to_owned()).or_default())
    }

    fn segments(
        &mut self,
        engine: &Engine,
        progress: &mut dyn FnMut(VerifyProgress),
    ) -> Result<()> {
        let keyspaces = engine.keyspaces.load_full();
        let mut segments: Vec<Arc<Segment>> = Vec::new();
        for tree in keyspaces.trees() {
            let state = tree.load();
            segments.extend(state.segments().map(|(_, segment)| segment.clone()));
            segments.extend(state.loaded().flat_map(|loaded| loaded.iter().cloned()));
        }
        let manifest = engine.manifest.lock().state().clone();
        // The log may have dropped keyspaces whose segments a writer at work is about to remove.
        let exists = |id: &KeyspaceId| keyspaces.get(*id).is_some();
        let there = manifest.keyspaces.iter().filter(|(id, _)| exists(id));
        let named = there.flat_map(|(_, keyspace)| keyspace.segments.values());
        let is_open = |meta: &SegmentMeta| segments.iter().any(|s| s.meta().number == meta.number);
        let closed: Vec<_> = named
            .map(|(_, meta)| meta.clone())
            .filter(|m| !is_open(m))
            .collect();
        let sizes = segments.iter().map(|segment| segment.meta().bytes);
        let bytes_total =
            self.report.bytes + sizes.chain(closed.iter().map(|m| m.bytes)).sum::<u64>();
        let mut bytes_done = self.report.bytes;
        let mut tell = |bytes: u64| {
            bytes_done += bytes;
            progress(VerifyProgress {
                bytes_done,
                bytes_total,
            });
        };
        for segment in segments {
            self.segment(&segment, &mut tell)?;
        }
        for meta in closed {
            self.closed(engine, &meta)?;
            tell(meta.bytes);
        }
        tell(0);
        self.report.bytes = bytes_done;
        Ok(())
    }

    fn segment(&mut self, segment: &Arc<Segment>, tell: &mut dyn FnMut(u64)) -> Result<()> {
        let damage = match segment.verify(tell) {
            Ok(damage) | Err(Error::Damaged(damage)) => damage,
            Err(error) => return Err(error),
        };
        let meta = segment.meta();
        let path = self.options.path.join(file_name(meta.number));
        let mut map = FileMap::new(&path, meta.bytes);
        for (damage, judged) in damage.iter().zip(segment.judge(&damage)) {
            let state = state_of(judged.can_be_mended);
            for (offset, bytes) in judged.places {
                map.add(offset, bytes, state, &damage.what);
            }
            self.count(damage.clone(), judged.can_be_mended);
        }
        self.maps.insert(path, map);
        self.report.segments += 1;
        Ok(())
    }

    /// A segment that can't be opened: which of its blocks can be read all the same.
    fn closed(&mut self, engine: &Engine, meta: &SegmentMeta) -> Result<()> {
        let (vfs, dir) = (self.options.vfs.as_ref(), self.options.path.as_path());
        let path = dir.join(file_name(meta.number));
        let mut map = FileMap::new(&path, meta.bytes);
        let mut lost = Vec::new();
        match Wreck::open(vfs, &path, meta.number, Some(meta)) {
            Ok(mut wreck) => {
                loop {
                    wreck.next()?;
                    if wreck.entry().is_none() {
                        break;
                    }
                }
                lost.extend(wreck.lost().iter().map(|part| part.damage.clone()));
                let (disk, cache) = (self.options.vfs.clone(), engine.cache.clone());
                let opened = Segment::open(disk, dir, engine.store_id, meta, cache);
                if let Err(Error::Damaged(damage)) = opened {
                    lost.extend(damage);
                }
            }
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                map.is_missing = true;
                lost.push(Damage::new(&path, 0, meta.bytes, "the file is missing"));
            }
            Err(error) => lost.push(Damage::new(&path, 0, meta.bytes, error.to_string())),
        }
        lost.sort_by_key(|damage| damage.offset);
        lost.dedup();
        for damage in lost {
            map.add_damage(&damage, BlockState::Damaged);
            self.count(damage, false);
        }
        self.maps.insert(path, map);
        self.report.segments += 1;
        Ok(())
    }

    /// What was lost before, and is refused since.
    fn fences(&mut self, engine: &Engine) {
        for lost in engine.lost_ranges() {
            let is_known = |known: &Damage| known.path == lost.damage.path;
            if !self.report.lost.iter().any(is_known) {
                self.count(lost.damage, false);
            }
        }
    }

    fn names(&mut self, engine: &Engine) -> Result<()> {
        let names = names::look(engine)?;
        for path in &names.named {
            self.map(path)?;
        }
        self.report.leftover_files = names.leftover;
        Ok(())
    }

    fn finish(mut self) -> VerifyReport {
        let maps = std::mem::take(&mut self.maps).into_values();
        self.report.files = maps.collect();
        for map in &mut self.report.files {
            map.settle();
        }
        self.report
    }
}

fn state_of(can_be_mended: bool) -> BlockState {
    match can_be_mended {
        true => BlockState::Mendable,
        false => BlockState::Damaged,
    }
}

/// A store of which the manifest can't be read: each file is looked at by itself.
fn unopenable(options: &Options, damage: Vec<Damage>) -> Result<VerifyReport> {
    let mut report = VerifyReport {
        severity: Severity::Unopenable,
        lost: damage.clone(),
        damage,
        ..VerifyReport::default()
    };
    let dir = options.path.as_path();
    let entries = options.vfs.list(dir);
    for entry in entries.map_err(|error| Error::io("list the folder", dir, error))? {
        if entry.is_dir || !super::folder::is_ours(&entry.name) {
            continue;
        }
        let Ok(one) = verify_file(options, &dir.join(&entry.name)) else {
            continue;
        };
        report.bytes += one.map.bytes;
        report.segments += u64::from(entry.name.ends_with(".segment"));
        for damage in one.damage {
            if !report.damage.contains(&damage) {
                report.damage.push(damage);
            }
        }
        report.files.push(one.map);
    }
    report.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(report)
}

//! Open: manifest, segments, log, replay. Nothing is written: every cut that recovery decides on is made
//! durable by the first write after it, so an open needs no room and can be cut short at any point.

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::engine::catalog::{DEFAULT_KEYSPACE, Keyspaces};
use crate::engine::commit::CommitState;
use crate::engine::replay::Replay;
use crate::engine::tree::Tree;
use crate::engine::views::Views;
use crate::engine::{Engine, Queue, Signals, compaction};
use crate::error::{Damage, Error, Result};
use crate::manifest::{
    KeyspaceState, Manifest, ManifestAccess, ManifestReport, ManifestSetup, ManifestState,
};
use crate::options::{Options, Progress};
use crate::segment::{BlockCache, Segment};
use crate::types::{
    Index, KeyspaceId, LogFileMeta, LogNumber, Lsn, Mode, SegmentNumber, StoreId, Term,
};
use crate::vfs::Lock;
use crate::wal::{DamagePolicy, Log, LogAccess, LogOptions, LogRegistry, LogReport, LogSetup};

/// What an open found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whether the store was created by this open.
    pub created: bool,
    /// Whether the store had been closed, not merely left.
    pub closed_cleanly: bool,
    /// Log records applied again.
    pub records_replayed: u64,
    /// Bytes of log read.
    pub log_bytes_read: u64,
    /// Bytes of a write that was never acknowledged as durable, dropped from the tail of the log and
    /// of the manifest.
    pub torn_bytes: u64,
    /// Damage that could be healed or that touches nothing the store still needs.
    pub damage: Vec<Damage>,
    /// Files in the folder that aren't Kintsu's; they were left alone.
    pub foreign_files: Vec<String>,
    /// How long the open took, in microseconds.
    pub duration_us: u64,
}

/// Where the manifest notes log files.
#[derive(Debug)]
struct Registry(Arc<Mutex<Manifest>>);

impl LogRegistry for Registry {
    fn prepared(&self, meta: &LogFileMeta) -> Result<()> {
        self.0
            .lock()
            .apply(&[crate::manifest::Change::LogFilePrepared(meta.clone())])
    }

    fn removed(&self, numbers: &[LogNumber]) -> Result<()> {
        self.0
            .lock()
            .apply(&[crate::manifest::Change::LogFilesRemoved(numbers.to_vec())])
    }
}

/// How often a read-only open begins again when a live writer moves files away under it.
const READ_ONLY_TRIES: usize = 8;

impl Engine {
    /// Opens the store that `options` name, creating it if they say so.
    ///
    /// # Errors
    /// Every error of [`Error`] that names a folder, a file or an option.
    pub(crate) fn open(options: Options) -> Result<(Arc<Self>, RecoveryReport)> {
        options.validate()?;
        let clock = options.clock.clone();
        let started = clock.elapsed();
        let mut tries = if options.read_only {
            READ_ONLY_TRIES
        } else {
            1
        };
        let (engine, mut report) = loop {
            tries -= 1;
            match Self::open_once(&options) {
                Err(error) if tries > 0 && may_be_a_race(&error) => {}
                other => break other?,
            }
        };
        let duration: Duration = clock.elapsed().saturating_sub(started);
        report.duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let engine = Arc::new(engine);
        engine.start_threads()?;
        Ok((engine, report))
    }

    fn open_once(options: &Options) -> Result<(Self, RecoveryReport)> {
        let mut report = RecoveryReport::default();
        let lock = prepare_folder(options, &mut report)?;
        let (manifest, state) = open_manifest(options, &mut report)?;
        let position = manifest.position();
        let manifest = Arc::new(Mutex::new(manifest));
        let cache = Arc::new(BlockCache::new(options.block_cache_bytes));
        let keyspaces = open_trees(options, &state, &cache, &mut report)?;
        let covered = state
            .keyspaces
            .values()
            .map(|k| k.covered)
            .min()
            .unwrap_or_default();
        let (log, log_report) = open_log(options, &state, covered, &manifest)?;
        report.closed_cleanly = log_report.ended_cleanly;
        report.log_bytes_read = log_report.bytes;
        report.torn_bytes += log_report.torn_bytes;
        report.damage.extend(log_report.damage);

        let mut replay = Replay::new(options, &state, keyspaces);
        replay.run(&log, covered)?;
        report.records_replayed = replay.records;
        if options.read_only {
            check_still_current(options, position)?;
        }
        let (engine, active_bytes) =
            Self::assemble(options, &state, manifest, cache, log, replay, lock)?;
        engine.commit.lock().active_bytes = active_bytes;
        engine.update_level0_full();
        Ok((engine, report))
    }

    fn assemble(
        options: &Options,
        state: &ManifestState,
        manifest: Arc<Mutex<Manifest>>,
        cache: Arc<BlockCache>,
        log: Log,
        replay: Replay,
        lock: Option<Box<dyn Lock>>,
    ) -> Result<(Self, usize)> {
        let highest_covered = state
            .keyspaces
            .values()
            .map(|k| k.covered)
            .max()
            .unwrap_or_default();
        let last_index = log
            .last_index()
            .max(highest_covered)
            .max(state.catalog_index);
        log.skip_to(last_index.next());
        let (next_segment, orphans) = survey(options, state)?;
        let views = Arc::new(Views::default());
        views.advance(last_index);
        // What was replayed counts towards the next flush as if it had been written just now.
        let active_since = Lsn(log.end_lsn().0.saturating_sub(log.bytes_retained()));
        let mut commit = CommitState::new(last_index, log.last_time_us(), active_since);
        commit.catalog = replay.catalog;
        let engine = Self {
            options: options.clone(),
            store_id: state.store_id,
            clock: options.clock.clone(),
            log,
            manifest,
            keyspaces: ArcSwap::from_pointee(replay.keyspaces),
            catalog: Mutex::new(()),
            next_keyspace: AtomicU64::new(u64::from(replay.next_keyspace.0)),
            queue: Queue::default(),
            commit: Mutex::new(commit),
            views,
            cache,
            next_segment: AtomicU64::new(next_segment.0),
            generations: Mutex::new(VecDeque::new()),
            flushing: Mutex::new(()),
            compacting: Mutex::new(compaction::Cursors::default()),
            dropped: Mutex::new(replay.dropped),
            garbage: Mutex::new(Vec::new()),
            orphans: Mutex::new(orphans),
            level0_full: AtomicBool::new(false),
            signals: Signals::default(),
            threads: Mutex::new(Vec::new()),
            latched: OnceLock::new(),
            closed: AtomicBool::new(false),
            lock: Mutex::new(lock),
        };
        Ok((engine, replay.bytes))
    }
}

/// A file that vanished, or that changed while it was read, under a read-only open.
fn may_be_a_race(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        Error::Damaged(_) => true,
        _ => false,
    }
}

/// Checks what the folder is, takes the lock, and creates the store if it is missing.
fn prepare_folder(options: &Options, report: &mut RecoveryReport) -> Result<Option<Box<dyn Lock>>> {
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

fn create(options: &Options) -> Result<()> {
    let default = KeyspaceState {
        name: DEFAULT_KEYSPACE.to_owned(),
        created: Index(0),
        covered: Index(0),
        covered_term: Term(0),
        options: Vec::new(),
        segments: Default::default(),
    };
    let state = ManifestState {
        store_id: StoreId(options.entropy.next_u128()),
        mode: Mode::Standalone,
        cluster_id: 0,
        member_id: 0,
        created_us: options.clock.wall_us(),
        next_segment: SegmentNumber(1),
        next_keyspace: KeyspaceId(1),
        catalog_index: Index(0),
        keyspaces: [(KeyspaceId::DEFAULT, default)].into(),
        log_files: Default::default(),
    };
    Manifest::create(manifest_setup(options), state).map(drop)
}

fn manifest_setup(options: &Options) -> ManifestSetup {
    ManifestSetup {
        dir: options.path.clone(),
        vfs: options.vfs.clone(),
        entropy: options.entropy.clone(),
        access: if options.read_only {
            ManifestAccess::ReadOnly
        } else {
            ManifestAccess::ReadWrite
        },
    }
}

fn open_manifest(
    options: &Options,
    report: &mut RecoveryReport,
) -> Result<(Manifest, ManifestState)> {
    let (manifest, found): (Manifest, ManifestReport) = Manifest::open(manifest_setup(options))?;
    report.torn_bytes += found.torn_bytes;
    report.damage.extend(found.damage);
    let state = manifest.state().clone();
    if state.mode == Mode::Member && !options.read_only {
        return Err(Error::MemberStore {
            path: options.path.clone(),
        });
    }
    Ok((manifest, state))
}

fn open_trees(
    options: &Options,
    state: &ManifestState,
    cache: &Arc<BlockCache>,
    report: &mut RecoveryReport,
) -> Result<Keyspaces> {
    let mut default = None;
    let mut others = Vec::new();
    let mut damage = Vec::new();
    for (id, keyspace) in &state.keyspaces {
        let tree = Tree::new(*id, keyspace.name.clone());
        let mut opened = Vec::new();
        for (level, meta) in keyspace.segments.values() {
            let (vfs, cache) = (options.vfs.clone(), cache.clone());
            match Segment::open(vfs, &options.path, state.store_id, meta, cache) {
                Ok(segment) => opened.push((usize::from(*level), Arc::new(segment))),
                Err(Error::Damaged(found)) => damage.extend(found),
                Err(error) => return Err(error),
            }
        }
        tree.change(|tables| {
            opened
                .into_iter()
                .for_each(|(level, segment)| tables.add_segment(level, segment));
        });
        if *id == KeyspaceId::DEFAULT {
            default = Some(tree)
        } else {
            others.push(Arc::new(tree))
        }
    }
    if !damage.is_empty() {
        if !options.tolerate_damage {
            return Err(Error::Damaged(damage));
        }
        report.damage.extend(damage);
    }
    let default = default.ok_or_else(|| {
        let what = "the manifest has no default keyspace";
        Error::damaged(Damage::new(&options.path.join("manifest"), 0, 0, what))
    })?;
    Ok(Keyspaces::new(Arc::new(default), others))
}

fn open_log(
    options: &Options,
    state: &ManifestState,
    covered: Index,
    manifest: &Arc<Mutex<Manifest>>,
) -> Result<(Log, LogReport)> {
    let progress = options.progress.clone();
    let told = move |bytes_done, bytes_total| {
        if let Some(callback) = &progress {
            callback(Progress {
                bytes_done,
                bytes_total,
            });
        }
    };
    Log::open(LogSetup {
        dir: options.path.clone(),
        vfs: options.vfs.clone(),
        clock: options.clock.clone(),
        entropy: options.entropy.clone(),
        store_id: state.store_id,
        options: LogOptions {
            file_bytes: options.log_file_bytes,
            identifier_delay: options.identifier_delay,
            buffer_bytes: options.log_buffer_bytes,
        },
        registry: Some(Arc::new(Registry(manifest.clone()))),
        known: state.log_files.values().cloned().collect(),
        needed_above: covered,
        access: if options.read_only {
            LogAccess::ReadOnly
        } else {
            LogAccess::ReadWrite
        },
        damage: if options.tolerate_damage {
            DamagePolicy::Tolerate
        } else {
            DamagePolicy::Refuse
        },
        progress: Some(&told),
    })
}

/// A read-only open must not mix one moment's manifest with another's files.
fn check_still_current(options: &Options, position: (u64, u64)) -> Result<()> {
    let (manifest, _) = Manifest::open(manifest_setup(options))?;
    if manifest.position() == position {
        return Ok(());
    }
    let moved = std::io::Error::new(std::io::ErrorKind::NotFound, "the writer was too fast");
    Err(Error::io("read a steady state of", &options.path, moved))
}

/// The lock's file name.
const LOCK_FILE: &str = "LOCK";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A log file, its identifiers, a segment, a manifest, term and vote.
    Data,
    /// The lock, or a file not yet published.
    Transient,
    /// Nothing of ours.
    Foreign,
}

fn kind_of(name: &str) -> Kind {
    if name == LOCK_FILE || name.ends_with(".tmp") {
        return Kind::Transient;
    }
    let numbered = |stem: &str| stem.len() >= 8 && stem.bytes().all(|b| b.is_ascii_digit());
    let ours = match name.rsplit_once('.') {
        Some((stem, "log" | "ids" | "segment")) => numbered(stem),
        Some(("vote", "a" | "b")) => true,
        Some((stem, "a" | "b")) => stem.strip_prefix("manifest-").is_some_and(numbered),
        _ => false,
    };
    if ours { Kind::Data } else { Kind::Foreign }
}

/// The next free segment number, and the files that nothing names: segments never published and
/// temporary files. They are removed by the first reclaim.
fn survey(options: &Options, state: &ManifestState) -> Result<(SegmentNumber, Vec<String>)> {
    let named: HashSet<String> = state
        .keyspaces
        .values()
        .flat_map(|keyspace| keyspace.segments.keys())
        .map(|number| crate::segment::file_name(*number))
        .collect();
    let mut next = state.next_segment.0;
    let mut orphans = Vec::new();
    let entries = options.vfs.list(&options.path);
    for entry in entries.map_err(|source| Error::io("list the folder", &options.path, source))? {
        let segment = entry.name.strip_suffix(".segment").map(str::parse::<u64>);
        if let Some(Ok(number)) = segment
            && kind_of(&entry.name) == Kind::Data
        {
            next = next.max(number.saturating_add(1));
            if !named.contains(&entry.name) {
                orphans.push(entry.name);
            }
        } else if entry.name.ends_with(".segment.tmp") {
            orphans.push(entry.name);
        }
    }
    Ok((SegmentNumber(next), orphans))
}

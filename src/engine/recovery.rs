//! Open: manifest, segments, log, replay. Nothing is written: every cut that recovery decides on is made
//! durable by the first write after it, so an open needs no room and can be cut short at any point.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::engine::calls::Calls;
use crate::engine::catalog::{DEFAULT_KEYSPACE, Keyspaces};
use crate::engine::catalog::{decode_options, encode_options};
use crate::engine::commit::CommitState;
use crate::engine::compaction::Compactions;
use crate::engine::feed::Feed;
use crate::engine::fences::Broken;
use crate::engine::fencing::in_force;
use crate::engine::folder::{prepare_folder, survey};
use crate::engine::metrics::{Activity, Metrics};
use crate::engine::pressure::Pressure;
use crate::engine::replay::Replay;
use crate::engine::scrub::Scrub;
use crate::engine::tree::Tree;
use crate::engine::views::Views;
use crate::engine::{Archive, BackupJob, Engine, Queue};
use crate::error::{Damage, Error, Result};
use crate::manifest::{
    KeyspaceState, Manifest, ManifestAccess, ManifestReport, ManifestSetup, ManifestState,
};
use crate::options::{Background, Options, Progress};
use crate::segment::{BlockCache, ReadPolicy, Segment};
use crate::types::{
    Index, KeyspaceId, LogFileMeta, LogNumber, Mode, SegmentMeta, SegmentNumber, StoreId, Term,
};
use crate::vfs::Lock;
use crate::wal::{DamagePolicy, Log, LogAccess, LogOptions, LogRegistry, LogReport, LogSetup};
use crate::watch::{DiskWatch, WatchedVfs};

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
    /// Blocks of 4,096 bytes of the log that weren't as they were written, and that parity put together again.
    pub healed_blocks: u64,
    /// Damage that could be healed, that touches nothing the store still needs, or that is fenced (see
    /// [`Db::lost_ranges`](crate::Db::lost_ranges)).
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
        let mut manifest = self.0.lock();
        // A file that was made and never noted is removed all the same.
        let known = &manifest.state().log_files;
        let noted = numbers.iter().filter(|number| known.contains_key(number));
        let noted = noted.copied().collect();
        manifest.apply(&[crate::manifest::Change::LogFilesRemoved(noted)])
    }
}

/// How often a read-only open begins again when a live writer moves files away under it. Each time it
/// loses the race only if the writer flushes meanwhile.
pub(super) const RACES_MAX: usize = 200;
/// How often it begins again when what it read looks damaged: a writer at work can make it look so.
const DOUBTS_MAX: usize = 8;

impl Engine {
    /// Opens the store that `options` name, creating it if they say so.
    ///
    /// # Errors
    /// Every error of [`Error`] that names a folder, a file or an option.
    pub(crate) fn open(options: Options) -> Result<(Arc<Self>, RecoveryReport)> {
        options.validate()?;
        let disk = Arc::<DiskWatch>::default();
        let options = watched(options, &disk);
        let clock = options.clock.clone();
        let started = clock.elapsed();
        let span = tracing::info_span!("open", path = %options.path.display());
        let entered = span.enter();
        let (mut races, mut doubts) = (0, 0);
        let (mut engine, mut report) = loop {
            match Self::open_once(&options) {
                Err(error) if options.read_only && races < RACES_MAX && is_a_race(&error) => {
                    races += 1;
                }
                Err(Error::Damaged(_)) if options.read_only && doubts < DOUBTS_MAX => doubts += 1,
                other => break other?,
            }
        };
        engine.disk = disk;
        let duration: Duration = clock.elapsed().saturating_sub(started);
        report.duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        for damage in &report.damage {
            tracing::warn!(%damage, "damage that is tolerated or costs nothing");
        }
        tracing::info!(
            records_replayed = report.records_replayed,
            torn_bytes = report.torn_bytes,
            duration_us = report.duration_us,
            "open"
        );
        drop(entered);
        let engine = Arc::new(engine);
        engine.start_threads().inspect_err(|_| engine.abandon())?;
        Ok((engine, report))
    }

    fn open_once(options: &Options) -> Result<(Self, RecoveryReport)> {
        let mut report = RecoveryReport::default();
        let lock = prepare_folder(options, &mut report, create)?;
        let (manifest, state) = open_manifest(options, &mut report)?;
        let position = manifest.position();
        let manifest = Arc::new(Mutex::new(manifest));
        let policy = ReadPolicy {
            pins: options.pin_index_and_filter,
            maps: options.map_segments,
        };
        let cache = BlockCache::with_policy(options.block_cache_bytes, policy);
        let cache = Arc::new(cache);
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
        report.healed_blocks = log_report.healed_blocks;
        report.damage.extend(log_report.damage);

        let mut replay = Replay::new(options, &state, keyspaces);
        let opener = |meta: &SegmentMeta| {
            let (vfs, cache) = (options.vfs.clone(), cache.clone());
            Segment::open(vfs, &options.path, state.store_id, meta, cache)
        };
        replay.run(&log, covered, &opener)?;
        report.damage.append(&mut replay.damage);
        report.records_replayed = replay.records;
        if options.read_only {
            check_still_current(options, position)?;
        }
        let (engine, active_bytes) =
            Self::assemble(options, &state, manifest, cache, log, replay, lock)?;
        engine.commit.lock().active_bytes = active_bytes;
        engine.begin_window()?;
        engine.update_pressure();
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
        let covered = || state.keyspaces.values().map(|k| k.covered);
        let highest_covered = covered().max().unwrap_or_default();
        let last_index = log
            .last_index()
            .max(highest_covered)
            .max(state.catalog_index);
        log.skip_to(last_index.next());
        let (next_segment, orphans) = survey(options, state, &replay.loaded)?;
        let views = Arc::new(Views::default());
        let last_time_us = log.last_time_us().max(state.covered_time_us);
        views.advance(last_index, last_time_us);
        views.settle_time(last_time_us);
        // What was replayed counts towards the next flush as if it had been written just now.
        let replayed_bytes = log.bytes_above(covered().min().unwrap_or_default());
        let mut commit = CommitState::new(last_index, last_time_us, replayed_bytes);
        commit.catalog = replay.catalog;
        let engine = Self {
            options: options.clone(),
            store_id: state.store_id,
            clock: options.clock.clone(),
            disk: Arc::default(),
            log,
            manifest,
            keyspaces: ArcSwap::from_pointee(replay.keyspaces),
            catalog: Mutex::new(()),
            next_keyspace: AtomicU64::new(u64::from(replay.next_keyspace.0)),
            queue: Queue::default(),
            commit: Mutex::new(commit),
            signals: views.signals().clone(),
            views,
            scrub: Scrub::default(),
            journal_turn: Mutex::default(),
            conflict_floor: AtomicU64::new(0),
            feed: Feed::default(),
            mend_turn: Mutex::default(),
            mend_failure: Mutex::default(),
            pins: Arc::default(),
            cache,
            next_segment: AtomicU64::new(next_segment.0),
            generations: Mutex::new(replay.generations),
            flushing: Mutex::new(()),
            compactions: Mutex::new(Compactions::default()),
            pressure: Pressure::default(),
            metrics: Metrics::default(),
            activity_before: Activity::decode(&state.activity),
            dropped: Mutex::new(replay.dropped),
            garbage: Mutex::new(Vec::new()),
            flushed: Mutex::new(Vec::new()),
            orphans: Mutex::new(orphans),
            discarded: Mutex::default(),
            backups: Mutex::new(()),
            archive: Archive::new(last_index),
            backup_job: BackupJob::default(),
            threads: Mutex::new(Vec::new()),
            latched: OnceLock::new(),
            calls: Calls::default(),
            lock: Mutex::new(lock),
        };
        Ok((engine, replay.bytes))
    }
}

/// The options of a store whose disk is watched from the open on.
fn watched(mut options: Options, disk: &Arc<DiskWatch>) -> Options {
    let (clock, slow_after) = (options.clock.clone(), options.disk_slow_after);
    let watched = WatchedVfs::new(options.vfs, &options.path, clock, slow_after, disk.clone());
    options.vfs = Arc::new(watched);
    options
}

/// Whether a file vanished under a read-only open.
fn is_a_race(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        Error::Purged { .. } => true,
        _ => false,
    }
}

fn create(options: &Options) -> Result<()> {
    let default = KeyspaceState {
        name: DEFAULT_KEYSPACE.to_owned(),
        created: Index(0),
        covered: Index(0),
        covered_term: Term(0),
        options: encode_options(&options.default_keyspace),
        segments: Default::default(),
        fences: Vec::new(),
    };
    let state = ManifestState {
        store_id: StoreId(options.entropy.next_u128()),
        mode: Mode::Standalone,
        cluster_id: 0,
        member_id: 0,
        created_us: options.clock.wall_us(),
        next_segment: SegmentNumber(1),
        next_keyspace: KeyspaceId(1),
        covered_time_us: 0,
        catalog_index: Index(0),
        activity: Vec::new(),
        conflict_window: Vec::new(),
        keyspaces: [(KeyspaceId::DEFAULT, default)].into(),
        log_files: Default::default(),
    };
    Manifest::create(manifest_setup(options), state).map(drop)
}

pub(super) fn manifest_setup(options: &Options) -> ManifestSetup {
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
    for (id, keyspace) in &state.keyspaces {
        let tree = open_tree(options, *id, keyspace)?;
        let (mut opened, mut broken) = (Vec::new(), Vec::new());
        let mut is_broken = |level: u8, meta: &SegmentMeta, found: &[Damage]| {
            let what = found.first().map_or("", |one| &one.what).to_owned();
            let (meta, fence) = (meta.clone(), Segment::fence_around(meta, what));
            broken.push(Arc::new(Broken { level, meta, fence }));
        };
        for (level, meta) in keyspace.segments.values() {
            let (vfs, cache) = (options.vfs.clone(), cache.clone());
            match Segment::open(vfs, &options.path, state.store_id, meta, cache) {
                Ok(segment) if segment.keyspace() != *id => {
                    let path = options.path.join(crate::segment::file_name(meta.number));
                    let what = format!("it belongs to keyspace {}, not {id}", segment.keyspace());
                    let found = Damage::new(&path, 0, meta.bytes, what);
                    is_broken(*level, meta, std::slice::from_ref(&found));
                    report.damage.push(found);
                }
                Ok(segment) => opened.push((usize::from(*level), Arc::new(segment))),
                Err(Error::Damaged(found)) => {
                    is_broken(*level, meta, &found);
                    report.damage.extend(found);
                }
                Err(error @ (Error::Io { .. } | Error::ForeignFile { .. }))
                    if options.tolerate_damage =>
                {
                    let path = options.path.join(crate::segment::file_name(meta.number));
                    let found = Damage::new(&path, 0, meta.bytes, error.to_string());
                    is_broken(*level, meta, std::slice::from_ref(&found));
                    report.damage.push(found);
                }
                Err(error) => return Err(error),
            }
        }
        tree.change(|tables| {
            opened
                .into_iter()
                .for_each(|(level, segment)| tables.add_segment(level, segment));
            tables.fences = in_force(&options.path, keyspace.fences.clone(), &broken);
            tables.broken = broken;
        });
        if *id == KeyspaceId::DEFAULT {
            default = Some(tree)
        } else {
            others.push(Arc::new(tree))
        }
    }
    let default = default.ok_or_else(|| {
        let what = "the manifest has no default keyspace";
        Error::damaged(Damage::new(&options.path.join("manifest"), 0, 0, what))
    })?;
    Ok(Keyspaces::new(Arc::new(default), others))
}

fn open_tree(options: &Options, id: KeyspaceId, keyspace: &KeyspaceState) -> Result<Tree> {
    let name = keyspace.name.clone();
    let keyspace_options = decode_options(&keyspace.options);
    let keyspace_options = keyspace_options.ok_or_else(|| Error::NewerFormat {
        path: options.path.join("manifest"),
        found: 2,
        supported: 1,
    })?;
    keyspace_options.check_features(&options.path)?;
    Ok(Tree::new(
        id,
        name,
        keyspace_options,
        &options.merge_operators,
    ))
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
            parity: options.parity,
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
        parallel: options.background == Background::Threads,
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

//! Replay: the log's records since the last flush, back into memtables.
//!
//! Operations are copied into the memtables' memory as they are read, then sorted and linked in one
//! sweep, which is several times faster than inserting them one by one. Where threads are allowed, two
//! share each step: each reads and sorts one half of the log, and links one half of the keys.
//!
//! What the log does to a keyspace is read before it is known whether the keyspace is there: the
//! record that creates or drops it may be in the other half. So each keyspace's span of records is
//! held against its life afterwards.

mod part;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

use crate::engine::catalog::{CatalogOperation, Keyspaces};
use crate::engine::generation::Generation;
use crate::engine::tree::{Frozen, Tree};
use crate::error::{Damage, Error, Result};
use crate::manifest::{Change, ManifestState};
use crate::memtable::Memtable;
use crate::options::{Background, Options};
use crate::segment::Segment;
use crate::types::{Index, KeyspaceId, SegmentMeta, SegmentNumber};
use crate::wal::Log;

use self::part::{LoadRecord, Part, Written};

/// Bytes of log from which on two threads share the work.
const PARALLEL_BYTES_MIN: u64 = 4 << 20;

/// Opens a segment that a record names.
pub(super) type Opener<'a> = dyn Fn(&SegmentMeta) -> Result<Segment> + 'a;

/// What replay has rebuilt so far.
pub(super) struct Replay {
    pub(super) keyspaces: Keyspaces,
    pub(super) catalog: Vec<(Index, Change)>,
    pub(super) dropped: Vec<(Index, Arc<Tree>)>,
    pub(super) next_keyspace: KeyspaceId,
    pub(super) records: u64,
    pub(super) bytes: usize,
    /// Time of the last record that was read, or of the last that the segments cover.
    time_us: u64,
    /// What is frozen already, oldest first, since something was loaded on top of it.
    pub(super) generations: VecDeque<Arc<Generation>>,
    /// The segments that were loaded.
    pub(super) loaded: HashSet<SegmentNumber>,
    /// Damage in them, if it is tolerated.
    pub(super) damage: Vec<Damage>,
    catalog_index: Index,
    covered: HashMap<KeyspaceId, Index>,
    options: Options,
}

/// What the readers of the log's parts share.
struct Ground {
    options: Options,
    catalog_index: Index,
    covered: HashMap<KeyspaceId, Index>,
    /// The tables to write to, also those of keyspaces that may come to light only later.
    tables: Mutex<HashMap<KeyspaceId, Arc<Memtable>>>,
}

impl Ground {
    fn table(&self, keyspace: KeyspaceId) -> Arc<Memtable> {
        let mut tables = self.tables.lock();
        Arc::clone(tables.entry(keyspace).or_default())
    }

    fn covered(&self, keyspace: KeyspaceId) -> Index {
        // One that the manifest doesn't know was dropped, if the manifest's catalog is as new as that;
        // ids are never used again.
        let known = self.covered.get(&keyspace).copied();
        known.unwrap_or(self.catalog_index)
    }
}

impl Replay {
    pub(super) fn new(options: &Options, state: &ManifestState, keyspaces: Keyspaces) -> Self {
        let covered = state.keyspaces.iter().map(|(id, k)| (*id, k.covered));
        Self {
            keyspaces,
            catalog: Vec::new(),
            dropped: Vec::new(),
            next_keyspace: state.next_keyspace,
            records: 0,
            bytes: 0,
            time_us: state.covered_time_us,
            generations: VecDeque::new(),
            loaded: HashSet::new(),
            damage: Vec::new(),
            catalog_index: state.catalog_index,
            covered: covered.collect(),
            options: options.clone(),
        }
    }

    /// Applies every record above `covered`, checking that none is missing.
    pub(super) fn run(&mut self, log: &Log, covered: Index, opener: &Opener<'_>) -> Result<()> {
        if log.last_index() <= covered {
            return Ok(());
        }
        let mut first = covered.next();
        let first_kept = log.first_index();
        if first_kept > first {
            missing(&self.options, first, Index(first_kept.0 - 1))?;
            // Damage that is tolerated leaves records before it, which no longer count as the log's.
            if !self.options.tolerate_damage {
                first = first_kept;
            }
        }
        // Mostly one step: only what was loaded as a whole divides what is older from what is newer.
        while let Some(load) = self.run_to_load(log, first)? {
            first = load.index.next();
            self.load(load, opener)?;
        }
        let trees = self.keyspaces.trees();
        self.bytes = trees
            .map(|tree| tree.with(|state| state.active.bytes()))
            .sum();
        Ok(())
    }

    /// Applies every record from `first` on, through the first one that loads segments, which is handed back.
    fn run_to_load(&mut self, log: &Log, first: Index) -> Result<Option<LoadRecord>> {
        let end = log.last_index().next();
        let mut ground = self.ground();
        let mut parts = self.read(&ground, log, first, end)?;
        if parts.len() > 1
            && let Some(load) = parts.iter().find_map(|part| part.load.as_ref())
        {
            // Read in halves, of which the second knew nothing of a load in the first: once more.
            let end = load.index.next();
            drop(parts);
            for tree in self.keyspaces.trees() {
                tree.change(|state| state.active = Arc::default());
            }
            ground = self.ground();
            parts = vec![Part::read(&ground, log, first, end)?];
        }
        let tables = ground.tables.into_inner();
        self.records += parts.iter().map(|part| part.records).sum::<u64>();
        let times = parts.iter().map(|part| part.time_us);
        self.time_us = times.fold(self.time_us, u64::max);
        let lives = self.apply_catalog(&parts, tables)?;
        self.check(&parts, &lives)?;
        let load = parts.iter_mut().find_map(|part| part.load.take());
        self.link(parts);
        Ok(load)
    }

    fn ground(&self) -> Ground {
        let trees = self.keyspaces.trees();
        let tables = trees.map(|tree| (tree.id, tree.with(|state| state.active.clone())));
        Ground {
            options: self.options.clone(),
            catalog_index: self.catalog_index,
            covered: self.covered.clone(),
            tables: Mutex::new(tables.collect()),
        }
    }

    /// Freezes what is older than a load, and puts the load's segments on top of it.
    fn load(&mut self, record: LoadRecord, opener: &Opener<'_>) -> Result<()> {
        let (index, time_us) = (record.index, record.time_us);
        let mut tables = Vec::new();
        for tree in self.keyspaces.trees() {
            if tree.with(|state| state.active.is_empty()) {
                continue;
            }
            tree.change(|state| {
                let active = std::mem::take(&mut state.active);
                state.frozen.insert(0, Frozen::Memtable(active.clone()));
                tables.push((tree.clone(), active));
            });
        }
        let catalog = self.catalog.drain(..).map(|(_, change)| change).collect();
        let older = Generation::of_tables(Index(index.0 - 1), self.time_us, tables, catalog);
        self.time_us = time_us;
        self.generations.push_back(Arc::new(older));
        let Some(tree) = self.keyspaces.get(record.operation.keyspace).cloned() else {
            if self.options.tolerate_damage {
                return Ok(());
            }
            return Err(malformed(&self.options, index));
        };
        let mut segments = Vec::new();
        for meta in &record.operation.segments {
            self.loaded.insert(meta.number);
            match opener(meta) {
                Ok(segment) => segments.push(Arc::new(segment.loaded_at(index))),
                Err(Error::Damaged(damage)) if self.options.tolerate_damage => {
                    self.damage.extend(damage);
                }
                Err(error) => return Err(error),
            }
        }
        let segments = Arc::new(segments);
        tree.change(|state| state.frozen.insert(0, Frozen::Loaded(segments.clone())));
        let generation = Generation::of_load(index, time_us, tree, segments);
        self.generations.push_back(Arc::new(generation));
        Ok(())
    }

    /// Damage that is tolerated leaves gaps, and then halves of the indexes mean little.
    fn is_parallel(&self) -> bool {
        self.options.background == Background::Threads && !self.options.tolerate_damage
    }

    fn read(&self, ground: &Ground, log: &Log, first: Index, end: Index) -> Result<Vec<Part>> {
        if !self.is_parallel() || log.bytes_retained() < PARALLEL_BYTES_MIN {
            return Ok(vec![Part::read(ground, log, first, end)?]);
        }
        let middle = Index(first.0.midpoint(log.last_index().0));
        thread::scope(|scope| {
            let low = scope.spawn(|| Part::read(ground, log, first, middle));
            let high = Part::read(ground, log, middle, end);
            match low.join() {
                Ok(low) => Ok(vec![low?, high?]),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Creates and drops keyspaces. Returns from which record to which they live, if not for ever.
    fn apply_catalog(
        &mut self,
        parts: &[Part],
        mut tables: HashMap<KeyspaceId, Arc<Memtable>>,
    ) -> Result<HashMap<KeyspaceId, (Index, Index)>> {
        let always = (Index(0), Index(u64::MAX));
        let trees = self.keyspaces.trees();
        let mut lives: HashMap<_, _> = trees.map(|tree| (tree.id, always)).collect();
        for (index, payload) in parts.iter().flat_map(|part| &part.catalog) {
            let index = *index;
            let operation = CatalogOperation::decode(payload);
            let operation = operation.ok_or_else(|| malformed(&self.options, index))?;
            match &operation {
                CatalogOperation::Create { id, .. } => {
                    let id = *id;
                    lives.insert(id, (index, always.1));
                    let tree = operation.new_tree(&self.options.merge_operators);
                    let tree = tree.ok_or_else(|| malformed(&self.options, index))?;
                    tree.options.check_features(&self.options.path)?;
                    let table = tables.remove(&id).unwrap_or_default();
                    tree.change(|state| state.active = table);
                    self.keyspaces.insert(Arc::new(tree));
                    self.next_keyspace = self.next_keyspace.max(KeyspaceId(id.0.saturating_add(1)));
                }
                CatalogOperation::Drop { id } => {
                    if let Some(life) = lives.get_mut(id) {
                        life.1 = index;
                    }
                    if let Some(tree) = self.keyspaces.remove(*id) {
                        tree.mark_dropped();
                        self.dropped.push((index, tree));
                    }
                }
            }
            self.catalog.push((index, operation.into_change(index)));
        }
        Ok(lives)
    }

    /// Whether each keyspace was there when it was written to. Records up to the manifest's catalog may
    /// have written to one that was dropped since; for later ones something would be missing.
    fn check(&self, parts: &[Part], lives: &HashMap<KeyspaceId, (Index, Index)>) -> Result<()> {
        if self.options.tolerate_damage {
            return Ok(());
        }
        for (id, written) in parts.iter().flat_map(|part| &part.written) {
            let Some((first, last)) = written.span else {
                continue;
            };
            let outside = match lives.get(id) {
                Some((_, dropped)) if last > *dropped => Some(last),
                Some((created, _)) if first < *created => Some(first),
                Some(_) => None,
                None => Some(first),
            };
            if let Some(index) = outside {
                return Err(malformed(&self.options, index));
            }
        }
        Ok(())
    }

    /// Lets what was read be seen.
    fn link(&self, parts: Vec<Part>) {
        let mut parts = parts.into_iter();
        let mut low = parts.next().unwrap_or_default().written;
        let mut high = parts.next().unwrap_or_default().written;
        for tree in self.keyspaces.trees() {
            let bulk = |written: Written| written.bulk;
            let (one, other) = (low.remove(&tree.id), high.remove(&tree.id));
            match (one.map(bulk), other.map(bulk)) {
                (Some(one), other) => one.link(other, self.is_parallel()),
                (None, Some(other)) => other.link(None, self.is_parallel()),
                (None, None) => {}
            }
        }
    }
}

fn malformed(options: &Options, index: Index) -> Error {
    let what = format!("record {index} can't be read, though its checksum is right");
    let mut damage = Damage::new(&options.path, 0, 0, what);
    damage.indexes = Some((index, index));
    Error::damaged(damage)
}

/// Records that aren't there: damage, unless it is tolerated.
fn missing(options: &Options, from: Index, to: Index) -> Result<()> {
    if options.tolerate_damage {
        return Ok(());
    }
    let mut damage = Damage::new(&options.path, 0, 0, "log records are missing");
    damage.indexes = Some((from, to));
    Err(Error::damaged(damage))
}

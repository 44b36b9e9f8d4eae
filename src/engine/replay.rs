//! Replay: the log's records since the last flush, back into memtables.
//!
//! Records are read in stretches; a stretch's operations are sorted and inserted in one sweep, which is
//! several times faster than one by one.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::batch::Operations;
use crate::engine::catalog::{CatalogOperation, Keyspaces};
use crate::engine::tree::Tree;
use crate::error::{Damage, Error, Result};
use crate::manifest::{Change, ManifestState};
use crate::options::{Background, Options};
use crate::types::{Entry, EntryKind, Index, KeyspaceId, Version, order};
use crate::wal::{Log, Record, RecordKind};

/// Payload bytes sorted at once; bounds the memory beside the memtables.
const STRETCH_BYTES: usize = 256 << 20;

/// Operations from which on two threads share the sorting and inserting.
const PARALLEL_OPERATIONS_MIN: usize = 50_000;

/// What replay has rebuilt so far.
pub(super) struct Replay {
    pub(super) keyspaces: Keyspaces,
    pub(super) catalog: Vec<(Index, Change)>,
    pub(super) dropped: Vec<(Index, Arc<Tree>)>,
    pub(super) next_keyspace: KeyspaceId,
    pub(super) records: u64,
    pub(super) bytes: usize,
    catalog_index: Index,
    covered: Vec<(KeyspaceId, Index)>,
    path: std::path::PathBuf,
    tolerate_damage: bool,
    parallel: bool,
    stretch: Vec<(Index, Bytes)>,
    stretch_bytes: usize,
}

/// An operation that waits to be sorted; the key's first bytes stand in the entry itself, so most
/// comparisons touch nothing else.
struct Sortable<'a> {
    keyspace: KeyspaceId,
    prefix: u64,
    key: &'a [u8],
    version: Version,
    kind: EntryKind,
    value: &'a [u8],
}

impl Replay {
    pub(super) fn new(options: &Options, state: &ManifestState, keyspaces: Keyspaces) -> Self {
        Self {
            keyspaces,
            catalog: Vec::new(),
            dropped: Vec::new(),
            next_keyspace: state.next_keyspace,
            records: 0,
            bytes: 0,
            catalog_index: state.catalog_index,
            covered: state
                .keyspaces
                .iter()
                .map(|(id, k)| (*id, k.covered))
                .collect(),
            path: options.path.clone(),
            tolerate_damage: options.tolerate_damage,
            parallel: options.background == Background::Threads,
            stretch: Vec::new(),
            stretch_bytes: 0,
        }
    }

    /// Applies every record above `covered`, checking that none is missing.
    pub(super) fn run(&mut self, log: &Log, covered: Index) -> Result<()> {
        if log.last_index() <= covered {
            return Ok(());
        }
        let mut first = covered.next();
        let first_kept = log.first_index();
        if first_kept > first {
            self.missing(first, Index(first_kept.0 - 1))?;
            // Damage that is tolerated leaves records before it, which no longer count as the log's.
            if !self.tolerate_damage {
                first = first_kept;
            }
        }
        let mut reader = log.read_from(first)?;
        let mut expected = first;
        while let Some(record) = reader.next()? {
            if record.index > expected {
                self.missing(expected, Index(record.index.0 - 1))?;
            }
            expected = record.index.next();
            self.take(record)?;
        }
        self.finish_stretch()
    }

    fn missing(&self, from: Index, to: Index) -> Result<()> {
        if self.tolerate_damage {
            return Ok(());
        }
        let mut damage = Damage::new(&self.path, 0, 0, "log records are missing");
        damage.indexes = Some((from, to));
        Err(Error::damaged(damage))
    }

    fn take(&mut self, record: Record) -> Result<()> {
        self.records += 1;
        match record.kind {
            RecordKind::Batch => {
                self.stretch_bytes += record.payload.len();
                self.stretch.push((record.index, record.payload));
                if self.stretch_bytes >= STRETCH_BYTES {
                    self.finish_stretch()?;
                }
                Ok(())
            }
            RecordKind::Catalog if record.index > self.catalog_index => {
                // What came before it goes to the keyspaces as they were.
                self.finish_stretch()?;
                self.apply_catalog(record.index, &record.payload)
            }
            _ => Ok(()),
        }
    }

    fn apply_catalog(&mut self, index: Index, payload: &[u8]) -> Result<()> {
        let operation = CatalogOperation::decode(payload).ok_or_else(|| self.malformed(index))?;
        let change = match operation {
            CatalogOperation::Create { id, name, options } => {
                self.keyspaces.insert(Arc::new(Tree::new(id, name.clone())));
                self.next_keyspace = self.next_keyspace.max(KeyspaceId(id.0 + 1));
                Change::KeyspaceCreated {
                    id,
                    name,
                    index,
                    options,
                }
            }
            CatalogOperation::Drop { id } => {
                if let Some(tree) = self.keyspaces.remove(id) {
                    tree.mark_dropped();
                    self.dropped.push((index, tree));
                }
                Change::KeyspaceDropped { id, index }
            }
        };
        self.catalog.push((index, change));
        Ok(())
    }

    fn malformed(&self, index: Index) -> Error {
        let what = format!("record {index} can't be read, though its checksum is right");
        let mut damage = Damage::new(&self.path, 0, 0, what);
        damage.indexes = Some((index, index));
        Error::damaged(damage)
    }

    /// Sorts what has been read and inserts it.
    fn finish_stretch(&mut self) -> Result<()> {
        let stretch = std::mem::take(&mut self.stretch);
        self.stretch_bytes = 0;
        let mut all = Vec::with_capacity(stretch.len());
        for (index, payload) in &stretch {
            self.collect(*index, payload, &mut all)?;
        }
        self.insert(&mut all);
        let trees = self.keyspaces.trees();
        self.bytes = trees
            .map(|tree| tree.with(|state| state.active.bytes()))
            .sum();
        Ok(())
    }

    /// Sorts and inserts, the lower half of the keys beside the upper one if there are many.
    fn insert(&self, all: &mut [Sortable<'_>]) {
        let middle = all.len() / 2;
        if !self.parallel || all.len() < PARALLEL_OPERATIONS_MIN {
            return self.insert_part(all);
        }
        let (low, _, _) = all.select_nth_unstable_by(middle, Sortable::order);
        let low_len = low.len();
        let (low, high) = all.split_at_mut(low_len);
        std::thread::scope(|scope| {
            scope.spawn(|| self.insert_part(low));
            self.insert_part(high);
        });
    }

    fn insert_part(&self, part: &mut [Sortable<'_>]) {
        part.sort_unstable_by(Sortable::order);
        for run in part.chunk_by(|a, b| a.keyspace == b.keyspace) {
            let first = run.first();
            if let Some(tree) = first.and_then(|first| self.keyspaces.get(first.keyspace)) {
                let table = tree.with(|state| state.active.clone());
                table.insert_sorted(run.iter().map(Sortable::entry));
            }
        }
    }

    fn collect<'a>(
        &self,
        index: Index,
        payload: &'a [u8],
        all: &mut Vec<Sortable<'a>>,
    ) -> Result<()> {
        for (position, operation) in (0..).zip(Operations::new(payload)) {
            let operation = operation.map_err(|_| self.malformed(index))?;
            let keyspace = operation.keyspace;
            let covered = self
                .covered
                .iter()
                .find(|(id, _)| *id == keyspace)
                .map(|(_, c)| *c);
            if covered.is_some_and(|covered| index <= covered) {
                continue;
            }
            if self.keyspaces.get(keyspace).is_none() {
                // Dropped later on, in a step that the manifest has already taken; ids are never
                // used again. If the manifest hasn't got that far, something is missing.
                if index > self.catalog_index && !self.tolerate_damage {
                    return Err(self.malformed(index));
                }
                continue;
            }
            let version = Version { index, position };
            let (key, kind, value) = (operation.key, operation.kind, operation.value);
            all.push(Sortable {
                keyspace,
                prefix: prefix(key),
                key,
                version,
                kind,
                value,
            });
        }
        Ok(())
    }
}

impl<'a> Sortable<'a> {
    fn order(&self, other: &Self) -> Ordering {
        self.keyspace
            .cmp(&other.keyspace)
            .then_with(|| self.prefix.cmp(&other.prefix))
            .then_with(|| order(self.key, self.version, other.key, other.version))
    }

    fn entry(&self) -> Entry<'a> {
        Entry {
            key: self.key,
            version: self.version,
            kind: self.kind,
            value: self.value,
        }
    }
}

/// The first eight bytes, so that comparing the numbers orders as comparing the keys does, as far as
/// they differ there.
fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let taken = key.len().min(8);
    bytes[..taken].copy_from_slice(&key[..taken]);
    u64::from_be_bytes(bytes)
}

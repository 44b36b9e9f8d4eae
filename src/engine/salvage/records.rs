//! The log's records, before and behind whatever can't be read of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::batch::{Operations, TableWrite};
use crate::engine::catalog::{CatalogOperation, decode_options};
use crate::engine::load::LoadOperation;
use crate::engine::salvage::is_final;
use crate::engine::salvage::known::Known;
use crate::error::{Damage, Error, Result};
use crate::memtable::Memtable;
use crate::options::{KeyspaceOptions, Options};
use crate::types::{Index, KeyspaceId, SegmentMeta, SegmentNumber, Version};
use crate::wal::{
    DamagePolicy, Log, LogAccess, LogOptions, LogSetup, Record, RecordKind, lost_files,
};

/// Bytes of log up to which also what segments should have is read: they may have lost it.
const SPARE_BYTES_MAX: u64 = 2 << 30;

/// What the log says.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) records: u64,
    /// What isn't in the segments, by the manifest.
    pub(super) tables: BTreeMap<KeyspaceId, Arc<Memtable>>,
    /// What is in segments, or may be.
    pub(super) spare: BTreeMap<KeyspaceId, Arc<Memtable>>,
    /// Keyspaces that came into being, with name and options.
    pub(super) created: BTreeMap<KeyspaceId, (String, Option<KeyspaceOptions>)>,
    pub(super) dropped: BTreeSet<KeyspaceId>,
    /// Segments that were loaded: into which keyspace, and by which record.
    pub(super) loaded: BTreeMap<SegmentNumber, (KeyspaceId, Index, SegmentMeta)>,
    pub(super) damage: Vec<Damage>,
    /// Of the damage, what the store needed.
    pub(super) lost: Vec<Damage>,
    pub(super) assumed: Vec<String>,
    /// From this record on none is missing.
    pub(super) unbroken_from: Index,
}

/// Reads what there is.
///
/// # Errors
/// `NewerFormat`; everything else is in the report.
pub(super) fn read(options: &Options, known: &Known) -> Result<Read> {
    let mut read = Read::default();
    let covered = covered(known);
    let opened = Log::open(LogSetup {
        dir: options.path.clone(),
        vfs: options.vfs.clone(),
        clock: options.clock.clone(),
        entropy: options.entropy.clone(),
        store_id: known.store_id,
        options: LogOptions {
            file_bytes: options.log_file_bytes,
            identifier_delay: options.identifier_delay,
            buffer_bytes: options.log_buffer_bytes,
            parity: options.parity,
        },
        registry: None,
        known: known.log_files(),
        needed_above: covered,
        access: LogAccess::ReadOnly,
        damage: DamagePolicy::Tolerate,
        parallel: false,
        progress: None,
    });
    let (log, report) = match opened {
        Ok(opened) => opened,
        Err(error) if is_final(&error) => return Err(error),
        Err(Error::Damaged(damage)) => {
            read.lost.clone_from(&damage);
            read.damage = damage;
            return Ok(read);
        }
        Err(error) => {
            let path = options.path.join("log");
            read.lose(Damage::new(&path, 0, 0, error.to_string()));
            return Ok(read);
        }
    };
    read.damage = report.damage;
    read.lost = report.needed;
    if !known.is_whole() {
        for path in lost_files(options.vfs.as_ref(), &options.path).unwrap_or_default() {
            let what = "the file is missing, though identifiers of what was in it are there";
            let is_told = read.lost.iter().any(|damage| damage.path == path);
            if !is_told {
                read.lose(Damage::new(&path, 0, 0, what));
            }
        }
    }
    let first = match log.bytes_retained() > SPARE_BYTES_MAX && known.is_whole() {
        true => {
            let why = format!(
                "the log is over {} GiB: what segments should have was not read from it",
                SPARE_BYTES_MAX >> 30
            );
            read.assumed.push(why);
            covered.next()
        }
        false => Index(0),
    };
    read.run(options, known, &log, first, covered);
    Ok(read)
}

/// Up to here the segments have everything, by the manifest.
fn covered(known: &Known) -> Index {
    let state = known.state.iter().filter(|_| known.is_whole());
    let keyspaces = state.flat_map(|state| state.keyspaces.values());
    keyspaces.map(|k| k.covered).min().unwrap_or_default()
}

impl Read {
    fn lose(&mut self, damage: Damage) {
        self.damage.push(damage.clone());
        self.lost.push(damage);
    }

    fn run(&mut self, options: &Options, known: &Known, log: &Log, first: Index, covered: Index) {
        let malformed = |index: Index, what: String| {
            let mut damage = Damage::new(&options.path.join("log"), 0, 0, what);
            damage.indexes = Some((index, index));
            damage
        };
        let mut reader = match log.read_from(first) {
            Ok(reader) => reader,
            Err(error) => return self.lose(malformed(first, error.to_string())),
        };
        let mut last: Option<Index> = known.is_whole().then_some(covered);
        self.unbroken_from = Index(u64::MAX);
        let mut previous = None;
        loop {
            let record = match reader.next() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => {
                    let next = last.unwrap_or_default().next();
                    self.lose(malformed(next, error.to_string()));
                    break;
                }
            };
            self.records += 1;
            if let Some(last) = last.filter(|last| record.index > last.next())
                && !self.lost.iter().any(|damage| covers(damage, last.next()))
            {
                let mut damage = malformed(last.next(), "records are missing here".into());
                damage.indexes = Some((last.next(), Index(record.index.0 - 1)));
                self.lose(damage);
            }
            if previous.is_none_or(|previous: Index| record.index > previous.next()) {
                self.unbroken_from = record.index;
            }
            previous = Some(previous.map_or(record.index, |before| before.max(record.index)));
            last = Some(last.map_or(record.index, |last| last.max(record.index)));
            if self.take(known, &record).is_none() {
                let what = "the record can't be read, though its checksum is right";
                self.lose(malformed(record.index, what.to_owned()));
            }
        }
    }

    /// `None` if it makes no sense.
    fn take(&mut self, known: &Known, record: &Record) -> Option<()> {
        match record.kind {
            RecordKind::Batch => {
                let mut scratch = Vec::new();
                for (position, operation) in (0..).zip(Operations::new(&record.payload)) {
                    let operation = operation.ok()?;
                    let index = record.index;
                    let tables = match is_covered(known, operation.keyspace, index) {
                        true => &mut self.spare,
                        false => &mut self.tables,
                    };
                    let table = tables.entry(operation.keyspace).or_default();
                    let version = Version { index, position };
                    match operation.to_table(version, record.time_us, &mut scratch) {
                        TableWrite::Entry(entry) => table.insert(entry),
                        TableWrite::Range(range) => drop(table.delete_range(range)),
                    }
                }
            }
            RecordKind::Catalog => match CatalogOperation::decode(&record.payload)? {
                CatalogOperation::Create { id, name, options } => {
                    self.created.insert(id, (name, decode_options(&options)));
                }
                CatalogOperation::Drop { id } => {
                    self.dropped.insert(id);
                }
            },
            RecordKind::Load => {
                let operation = LoadOperation::decode(&record.payload)?;
                for mut meta in operation.segments {
                    let number = meta.number;
                    meta.loaded_at = record.index;
                    let loaded = (operation.keyspace, record.index, meta);
                    self.loaded.insert(number, loaded);
                }
            }
            _ => {}
        }
        Some(())
    }
}

fn covers(damage: &Damage, index: Index) -> bool {
    let indexes = damage.indexes.as_ref();
    indexes.is_none_or(|(from, to)| *from <= index && index <= *to)
}

/// Whether segments have this record, or may have it.
pub(super) fn is_covered(known: &Known, keyspace: KeyspaceId, index: Index) -> bool {
    let Some(state) = known.state.as_ref().filter(|_| known.is_whole()) else {
        return true;
    };
    let covered = state.keyspaces.get(&keyspace).map(|k| k.covered);
    index <= covered.unwrap_or(state.catalog_index)
}

//! Reading a part of the log into the memtables' memory, for replay.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::batch::{Operations, TableWrite};
use crate::engine::load::LoadOperation;
use crate::engine::replay::{Ground, malformed, missing};
use crate::error::Result;
use crate::memtable::Bulk;
use crate::types::{Index, KeyspaceId, Version};
use crate::wal::{Log, RecordKind};

/// What a part of the log did to one keyspace.
pub(super) struct Written {
    pub(super) bulk: Bulk,
    /// The first and the last record that did it, of those above the manifest's catalog.
    pub(super) span: Option<(Index, Index)>,
    /// Records up to this one are in segments already.
    covered: Index,
}

/// A record that loads segments.
pub(super) struct LoadRecord {
    pub(super) index: Index,
    pub(super) time_us: u64,
    pub(super) operation: LoadOperation,
}

/// A part of the log, read.
#[derive(Default)]
pub(super) struct Part {
    pub(super) records: u64,
    /// Time of the last record before a load, 0 if there is none.
    pub(super) time_us: u64,
    /// Changes of the catalog that the manifest doesn't have yet.
    pub(super) catalog: Vec<(Index, Bytes)>,
    /// The first record that loads segments, if there is one: nothing behind it was read.
    pub(super) load: Option<LoadRecord>,
    pub(super) written: BTreeMap<KeyspaceId, Written>,
}

impl Part {
    /// Reads from `first` up to before `end`, checking that no record is missing, and
    /// sorts what there is.
    ///
    /// Ends with the first record that loads segments.
    ///
    /// # Errors
    /// Damage, above all a record that isn't there; whatever the disk answers.
    pub(super) fn read(ground: &Ground, log: &Log, first: Index, end: Index) -> Result<Self> {
        let mut part = Self::default();
        let mut reader = log.read_from(first)?;
        let mut expected = first;
        loop {
            let next = reader.next()?;
            let index = next.as_ref().map(|record| record.index);
            let reached = index.map_or(end, |index| index.min(end));
            if reached > expected {
                missing(&ground.options, expected, Index(reached.0 - 1))?;
            }
            let Some(record) = next.filter(|record| record.index < end) else {
                break;
            };
            expected = record.index.next();
            part.records += 1;
            match record.kind {
                RecordKind::Batch => {
                    part.push(ground, record.index, record.time_us, &record.payload)?;
                }
                RecordKind::Catalog if record.index > ground.catalog_index => {
                    // A copy: the payload shares its memory with all that was read with it.
                    let payload = Bytes::copy_from_slice(&record.payload);
                    part.catalog.push((record.index, payload));
                }
                RecordKind::Load => {
                    let operation = LoadOperation::decode(&record.payload);
                    let operation =
                        operation.ok_or_else(|| malformed(&ground.options, record.index))?;
                    if record.index > ground.covered(operation.keyspace) {
                        part.load = Some(LoadRecord {
                            index: record.index,
                            time_us: record.time_us,
                            operation,
                        });
                        break;
                    }
                }
                _ => {}
            }
            part.time_us = record.time_us;
        }
        for written in part.written.values_mut() {
            written.bulk.sort();
        }
        Ok(part)
    }

    fn push(&mut self, ground: &Ground, index: Index, time_us: u64, payload: &[u8]) -> Result<()> {
        let mut scratch = Vec::new();
        let mut last: Option<(KeyspaceId, &mut Written)> = None;
        for (position, operation) in (0..).zip(Operations::new(payload)) {
            let operation = operation.map_err(|_| malformed(&ground.options, index))?;
            let keyspace = operation.keyspace;
            let written = match last.take() {
                Some((id, written)) if id == keyspace => written,
                _ => self.written.entry(keyspace).or_insert_with(|| Written {
                    bulk: Bulk::new(Arc::clone(&ground.table(keyspace))),
                    span: None,
                    covered: ground.covered(keyspace),
                }),
            };
            if index > ground.catalog_index {
                let first = written.span.map_or(index, |(first, _)| first);
                written.span = Some((first, index));
            }
            if index > written.covered {
                let version = Version { index, position };
                match operation.to_table(version, time_us, &mut scratch) {
                    TableWrite::Entry(entry) => written.bulk.push(entry),
                    TableWrite::Range(range) => {
                        written.bulk.table().delete_range(range);
                    }
                }
            }
            last = Some((keyspace, written));
        }
        Ok(())
    }
}

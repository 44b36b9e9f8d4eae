//! What a record of the log did, as a subscriber is told.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::batch::{Effect, Operation, Operations};
use crate::engine::catalog::{CatalogOperation, decode_options};
use crate::engine::load::LoadOperation;
use crate::options::KeyspaceOptions;
use crate::types::{Index, KeyspaceId, SegmentMeta};
use crate::wal::{Record, RecordKind};

/// A committed record, with everything that it changed.
///
/// Keys and values share their memory with the piece of log that they were read in (up to 1 MiB, or the
/// record's own size): copy what is to be kept for long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedRecord {
    /// Its place in the log. What is to be remembered: the feed goes on from the one after it.
    pub index: Index,
    /// Its time, in microseconds since 1970; never less than that of the record before.
    pub time_us: u64,
    /// What it changed, in the order in which it took effect: all of it, or none.
    pub changes: Vec<FeedChange>,
}

/// A keyspace, as far as the log tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FeedKeyspace {
    /// Its number, which no other keyspace of the store ever has.
    pub id: KeyspaceId,
    /// Its name. `None` if it had been dropped before the subscription began, which didn't meet its creation.
    pub name: Option<Arc<str>>,
}

impl std::fmt::Display for FeedKeyspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "#{}", self.id),
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedChange {
    /// A key was set to a value.
    Put {
        /// Where.
        keyspace: FeedKeyspace,
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// A key was set to a value until a time.
    PutExpiring {
        /// Where.
        keyspace: FeedKeyspace,
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// When it expires, in microseconds since 1970 by the time of the log's records.
        expires_us: u64,
    },
    /// A key was deleted, if it was there.
    Delete {
        /// Where.
        keyspace: FeedKeyspace,
        /// The key.
        key: Bytes,
    },
    /// A range of keys was deleted.
    DeleteRange {
        /// Where.
        keyspace: FeedKeyspace,
        /// The first key of the range.
        from: Bytes,
        /// The first key behind it; `None`: it has no end.
        to: Option<Bytes>,
    },
    /// A key's value was changed by an operand, in the way that the keyspace's merge operator knows.
    Merge {
        /// Where.
        keyspace: FeedKeyspace,
        /// The key.
        key: Bytes,
        /// The operand.
        operand: Bytes,
    },
    /// A keyspace was created.
    KeyspaceCreated {
        /// Which one.
        keyspace: FeedKeyspace,
        /// With these options.
        options: KeyspaceOptions,
    },
    /// Sorted keys were loaded as a whole, in place of what they had before: see `Db::bulk_load`. The keys are
    /// in the segments, not in the log.
    Loaded {
        /// Where.
        keyspace: FeedKeyspace,
        /// The segments, in the order of their keys: each with its digest, its bounds, and how many keys it has.
        segments: Vec<SegmentMeta>,
    },
    /// A keyspace was dropped, with all that was in it.
    KeyspaceDropped {
        /// Which one.
        keyspace: FeedKeyspace,
    },
}

impl FeedChange {
    /// The keyspace that was changed.
    #[must_use]
    pub fn keyspace(&self) -> &FeedKeyspace {
        match self {
            Self::Put { keyspace, .. }
            | Self::PutExpiring { keyspace, .. }
            | Self::Delete { keyspace, .. }
            | Self::DeleteRange { keyspace, .. }
            | Self::Merge { keyspace, .. }
            | Self::Loaded { keyspace, .. }
            | Self::KeyspaceCreated { keyspace, .. }
            | Self::KeyspaceDropped { keyspace } => keyspace,
        }
    }
}

/// What a record's payload turned out to be.
#[derive(Debug)]
pub(crate) enum Decoded {
    Effects(FeedRecord),
    /// It changes nothing that a user put into the store.
    Nothing,
    /// It can't be read, though its checksum is right.
    Malformed(&'static str),
}

/// Reads records in the log's order, and keeps the names of keyspaces.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    names: HashMap<KeyspaceId, Arc<str>>,
}

impl Decoder {
    /// With keyspaces that are known already. Numbers are never used again, so a name is right for all
    /// records.
    pub(crate) fn new<'a>(known: impl IntoIterator<Item = (KeyspaceId, &'a str)>) -> Self {
        let named = known.into_iter().map(|(id, name)| (id, name.into()));
        Self {
            names: named.collect(),
        }
    }

    fn keyspace(&self, id: KeyspaceId) -> FeedKeyspace {
        let name = self.names.get(&id).cloned();
        FeedKeyspace { id, name }
    }

    pub(crate) fn decode(&mut self, record: &Record) -> Decoded {
        let (what, changes) = match record.kind {
            RecordKind::Batch => ("batch", self.batch(record)),
            RecordKind::Catalog => (
                "catalog",
                self.catalog(&record.payload).map(|one| vec![one]),
            ),
            RecordKind::Load => ("load", self.load(&record.payload).map(|one| vec![one])),
            _ => return Decoded::Nothing,
        };
        match changes {
            Some(changes) => Decoded::Effects(FeedRecord {
                index: record.index,
                time_us: record.time_us,
                changes,
            }),
            None => Decoded::Malformed(what),
        }
    }

    fn batch(&self, record: &Record) -> Option<Vec<FeedChange>> {
        let mut last: Option<FeedKeyspace> = None;
        let mut changes = Vec::new();
        for operation in Operations::new(&record.payload) {
            let operation = operation.ok()?;
            // Most batches have one keyspace.
            let same = last.take().filter(|last| last.id == operation.keyspace);
            let keyspace = same.unwrap_or_else(|| self.keyspace(operation.keyspace));
            last = Some(keyspace.clone());
            changes.push(change(record, keyspace, &operation));
        }
        Some(changes)
    }

    fn load(&self, payload: &[u8]) -> Option<FeedChange> {
        let load = LoadOperation::decode(payload)?;
        Some(FeedChange::Loaded {
            keyspace: self.keyspace(load.keyspace),
            segments: load.segments,
        })
    }

    /// Notes the keyspace of a `Catalog` record, and says what the record did.
    pub(crate) fn catalog(&mut self, payload: &[u8]) -> Option<FeedChange> {
        Some(match CatalogOperation::decode(payload)? {
            CatalogOperation::Create { id, name, options } => {
                self.names.insert(id, name.into());
                FeedChange::KeyspaceCreated {
                    keyspace: self.keyspace(id),
                    options: decode_options(&options)?,
                }
            }
            CatalogOperation::Drop { id } => FeedChange::KeyspaceDropped {
                keyspace: self.keyspace(id),
            },
        })
    }
}

fn change(record: &Record, keyspace: FeedKeyspace, operation: &Operation<'_>) -> FeedChange {
    // The operation borrows from the payload, so these are pieces of it.
    let bytes = |part: &[u8]| record.payload.slice_ref(part);
    let key = bytes(operation.key);
    match operation.effect {
        Effect::Put(value) => FeedChange::Put {
            keyspace,
            key,
            value: bytes(value),
        },
        Effect::PutUntil(expiry, value) => FeedChange::PutExpiring {
            keyspace,
            key,
            value: bytes(value),
            expires_us: expiry.at(record.time_us),
        },
        Effect::Delete => FeedChange::Delete { keyspace, key },
        Effect::Merge(operand) => FeedChange::Merge {
            keyspace,
            key,
            operand: bytes(operand),
        },
        Effect::DeleteTo(to) => FeedChange::DeleteRange {
            keyspace,
            from: key,
            to: to.map(bytes),
        },
    }
}

#[cfg(test)]
mod tests;

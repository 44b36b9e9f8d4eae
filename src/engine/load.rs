//! Bulk load: segments that were written beforehand become part of the store with one record.
//!
//! The segments are written, synced and named before the record that names them, so whoever finds the record
//! finds them. All versions in them get the record's index, which wasn't known when they were written.
//! The memtables are frozen at that record, so that what was loaded stands between what is older
//! and what is newer; the next flush puts it into a level, as it is.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::codec::{Reader, put_varint};
use crate::engine::Engine;
use crate::engine::commit::CommitState;
use crate::engine::generation::Generation;
use crate::engine::jobs::Job;
use crate::engine::queue::Request;
use crate::engine::tree::{Frozen, LEVELS_MAX, Tree};
use crate::error::{Error, Result};
use crate::manifest::{put_segment, read_segment};
use crate::segment::{Segment, SegmentBuilder};
use crate::types::{Durability, Entry, EntryKind, Index, KeyspaceId, SegmentMeta, Version};

/// What a `Load` record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoadOperation {
    pub(crate) keyspace: KeyspaceId,
    /// By key, disjoint.
    pub(crate) segments: Vec<SegmentMeta>,
}

/// Segments on their way into a tree.
pub(crate) type Cargo = Mutex<Option<(Arc<Tree>, Vec<Segment>)>>;

impl LoadOperation {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, u64::from(self.keyspace.0));
        put_varint(&mut out, self.segments.len() as u64);
        for meta in &self.segments {
            put_segment(&mut out, 0, meta);
        }
        out
    }

    /// `None` if the payload isn't one, though its checksum is right.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let keyspace = KeyspaceId(u32::try_from(reader.varint()?).ok()?);
        let count = reader.varint()?;
        let mut segments = Vec::new();
        for _ in 0..count {
            segments.push(read_segment(&mut reader)?.1);
        }
        let ascends = segments.is_sorted_by(|a: &SegmentMeta, b| a.is_before(&b.smallest_key));
        let plain = segments
            .iter()
            .all(|s| s.range_deletes == 0 && s.entries > 0);
        let whole = reader.is_empty() && ascends && plain && count > 0;
        whole.then_some(Self { keyspace, segments })
    }
}

/// The segments of a load that isn't committed yet, written one after the other.
pub(crate) struct Loading {
    engine: Arc<Engine>,
    tree: Arc<Tree>,
    open: Option<SegmentBuilder>,
    built: Vec<SegmentMeta>,
    last_key: Option<Vec<u8>>,
    entries: u64,
}

impl Loading {
    pub(crate) fn new(engine: Arc<Engine>, tree: Arc<Tree>) -> Result<Self> {
        engine.check_writable()?;
        if tree.options.time_to_live.is_some() {
            let why = "segments are written before the time is known from which on values live";
            return Err(Error::InvalidOption {
                name: "time_to_live",
                why: why.to_owned(),
            });
        }
        Ok(Self {
            engine,
            tree,
            open: None,
            built: Vec::new(),
            last_key: None,
            entries: 0,
        })
    }

    /// Entries added so far.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// Adds a key with its value, above all before it.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let _call = self.engine.calls.enter()?;
        if self.last_key.as_deref().is_some_and(|last| last >= key) {
            let path = self.engine.options.path.clone();
            let shown = key.get(..64).unwrap_or(key).escape_ascii();
            let why = format!("key \"{shown}\" is not above the one before");
            return Err(Error::TableOrder { path, why });
        }
        let full = |open: &SegmentBuilder| open.bytes() >= self.engine.options.segment_bytes;
        if self.open.as_ref().is_some_and(full)
            && let Some(open) = self.open.take()
        {
            self.built.push(open.finish()?);
        }
        let builder = match &mut self.open {
            Some(open) => open,
            none => none.insert(self.engine.new_builder(&self.tree, LEVELS_MAX - 1)?),
        };
        builder.add(Entry {
            key,
            version: Version::default(),
            kind: EntryKind::Put,
            value,
        })?;
        self.entries += 1;
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        Ok(())
    }

    /// Writes the record. Returns its index; `None` if there was nothing to load.
    pub(crate) fn commit(mut self) -> Result<Option<Index>> {
        let engine = self.engine.clone();
        let _call = engine.calls.enter()?;
        self.engine.check_writable()?;
        self.tree.check_not_dropped()?;
        if let Some(open) = self.open.take()
            && !open.is_empty()
        {
            self.built.push(open.finish()?);
        }
        if self.built.is_empty() {
            return Ok(None);
        }
        let folder = self.engine.sync_folder();
        folder.inspect_err(|error| self.engine.latch_if_final(error))?;
        let opened = self.built.iter().map(|meta| self.engine.open_segment(meta));
        let opened = opened.collect::<Result<Vec<_>>>()?;
        let operation = LoadOperation {
            keyspace: self.tree.id,
            segments: self.built.clone(),
        };
        let cargo = Mutex::new(Some((self.tree.clone(), opened)));
        let request = Request::of_load(self.tree.id, operation.encode(), cargo);
        let written = self.engine.write(request);
        if !matches!(&written, Err(error) if !may_be_written(error)) {
            // The record names them, or may.
            self.built.clear();
        }
        written.map(Some)
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        // Once the store is let go the folder may be somebody else's: the next open clears up.
        let Ok(_call) = self.engine.calls.enter() else {
            return;
        };
        if let Some(open) = self.open.take() {
            open.abandon();
        }
        self.engine.discard(self.built.iter());
        self.engine.signals.wake(Job::Reclaim);
    }
}

/// Whether a record may be in the log after this error.
fn may_be_written(error: &Error) -> bool {
    matches!(error, Error::OutcomeUnknown { .. })
}

impl Request {
    /// A load on its way; always synced.
    fn of_load(keyspace: KeyspaceId, payload: Vec<u8>, cargo: Cargo) -> Arc<Self> {
        let kind = crate::wal::RecordKind::Load;
        Self::of_cargo(kind, payload, keyspace, Durability::Disk, cargo)
    }
}

impl Engine {
    /// Puts what a record has loaded between what is older and what is newer. The caller leads.
    pub(super) fn apply_load(
        &self,
        state: &mut CommitState,
        index: Index,
        time_us: u64,
        request: &Request,
    ) -> Result<()> {
        self.freeze(state);
        let Some((tree, segments)) = request.cargo.lock().take() else {
            return Err(self.malformed(index, "load"));
        };
        let segments = segments.into_iter().map(|s| Arc::new(s.loaded_at(index)));
        let segments: Arc<Vec<_>> = Arc::new(segments.collect());
        tree.change(|state| state.frozen.insert(0, Frozen::Loaded(segments.clone())));
        state.note_record(index, request);
        let mut generation = Generation::of_load(index, time_us, tree, segments);
        generation.window = state.next_piece();
        self.generations.lock().push_back(Arc::new(generation));
        state.begin_memtables(self.log.appended_bytes());
        self.signals.wake(Job::Flush);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(smallest: &str, largest: &str) -> SegmentMeta {
        SegmentMeta {
            entries: 3,
            smallest_key: smallest.into(),
            largest_key: largest.into(),
            ..SegmentMeta::default()
        }
    }

    #[test]
    fn records_round_trip_and_hostile_ones_are_none() {
        let load = LoadOperation {
            keyspace: KeyspaceId(300),
            segments: vec![meta("a", "c"), meta("d", "d")],
        };
        let bytes = load.encode();
        assert_eq!(LoadOperation::decode(&bytes), Some(load.clone()));
        for cut in 0..bytes.len() {
            assert_eq!(LoadOperation::decode(&bytes[..cut]), None);
        }
        assert_eq!(LoadOperation::decode(&[&bytes[..], &[0]].concat()), None);
        let overlapping = LoadOperation {
            segments: vec![meta("a", "c"), meta("c", "d")],
            ..load
        };
        assert_eq!(LoadOperation::decode(&overlapping.encode()), None);
    }
}

//! The conflict window: which keys the last records have changed.
//!
//! Which records those are is a function of the log: as many of the newest as cost no more than the limit, where
//! a record costs its payload's length and [`RECORD_COST`]. So a window that is rebuilt from the log, or from one
//! that was carried along and the log after it, is the same window.
//!
//! Of each record only what a check asks for is kept, one record behind the other in chunks of memory: u32 length
//! of what follows the cost, u32 cost, and then for each operation one byte (0: everything may have changed;
//! 1: a key; 2: a range; 3: a range without end), and but for 0 varint keyspace, *bytes* key, and for 2 *bytes*
//! the range's end.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::codec::{Reader, put_prefixed, put_varint};
use crate::engine::conflicts::{ReadSet, Touch, WindowPiece, touches, written_since};
use crate::engine::queue::Request;
use crate::error::{Error, Result};
use crate::types::{Index, KeyspaceId};
use crate::wal::RecordKind;

/// What a record costs beside its payload: more than it takes in memory beside its keys.
const RECORD_COST: usize = 64;
/// How large a chunk grows, but for one record.
const CHUNK_BYTES: usize = 16 << 10;
/// What a record has in a chunk before its touches.
const HEAD_BYTES: usize = 8;

const EVERYTHING: u8 = 0;
const KEY: u8 = 1;
const RANGE: u8 = 2;
const ENDLESS_RANGE: u8 = 3;

/// What the last records have changed. See the module.
#[derive(Clone, Debug)]
pub(crate) struct ConflictWindow {
    /// What its records may cost.
    limit: usize,
    cost: usize,
    /// Nothing is known of this record and those before it.
    floor: Index,
    /// The newest record.
    last: Index,
    chunks: VecDeque<Chunk>,
    /// A chunk's memory, to be used again.
    spare: Vec<u8>,
}

/// Records that follow each other.
#[derive(Clone, Debug)]
struct Chunk {
    /// The record before the first one that still counts.
    before: Index,
    /// Where that first one begins.
    at: usize,
    bytes: Vec<u8>,
}

impl Chunk {
    fn records(&self) -> impl Iterator<Item = (Index, Kept<'_>)> {
        let mut reader = Reader::new(self.bytes.get(self.at..).unwrap_or_default());
        let mut index = self.before;
        std::iter::from_fn(move || {
            index = index.next();
            Some((index, Kept::read(&mut reader)?))
        })
    }
}

/// A record in a chunk.
struct Kept<'a> {
    cost: usize,
    touches: &'a [u8],
}

impl<'a> Kept<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let len = usize::try_from(reader.u32()?).ok()?;
        let cost = usize::try_from(reader.u32()?).ok()?;
        let touches = reader.bytes(len)?;
        Some(Self { cost, touches })
    }

    /// What it changed; `None` in place of something that can't be read.
    fn touches(&self) -> impl Iterator<Item = Option<Touch<'a>>> {
        let mut reader = Reader::new(self.touches);
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            let touch = read_touch(&mut reader);
            if touch.is_none() {
                reader = Reader::new(&[]);
            }
            Some(touch)
        })
    }

    fn is_met_by(&self, reads: &ReadSet) -> bool {
        self.touches()
            .any(|touch| reads.meets(touch.unwrap_or(Touch::Everything)))
    }
}

impl ConflictWindow {
    /// A window that knows nothing of record `last` and those before it. `limit`: what its records may cost, in
    /// bytes.
    pub(crate) fn new(limit: usize, last: Index) -> Self {
        Self {
            limit,
            cost: 0,
            floor: last,
            last,
            chunks: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// What its records may cost.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Nothing is known of this record and those before it.
    pub(crate) fn floor(&self) -> Index {
        self.floor
    }

    /// The newest record.
    pub(crate) fn last(&self) -> Index {
        self.last
    }

    /// Takes the next record in, and forgets old ones beyond the limit. Takes time in proportion to the record, with
    /// what earlier ones have put off.
    pub(crate) fn push(&mut self, index: Index, kind: RecordKind, payload: &[u8]) {
        self.push_with(index, cost_of(payload), |out| {
            for touch in touches(kind, payload) {
                put_touch(out, touch);
            }
        });
    }

    fn push_with(&mut self, index: Index, cost: usize, put: impl FnOnce(&mut Vec<u8>)) {
        let follows = index == self.last.next();
        self.last = index;
        let cost_kept = u32::try_from(cost).ok().filter(|_| cost <= self.limit);
        let Some(cost_kept) = cost_kept else {
            return self.forget(index);
        };
        if !follows {
            self.forget(Index(index.0.saturating_sub(1)));
            self.last = index;
        }
        self.evict_to(self.limit - cost);
        self.cost += cost;
        let chunk = self.chunk(index);
        let at = chunk.len();
        chunk.extend_from_slice(&[0; 4]);
        chunk.extend_from_slice(&cost_kept.to_le_bytes());
        put(chunk);
        let len = u32::try_from(chunk.len() - at - HEAD_BYTES);
        match (len, chunk.get_mut(at..at + 4)) {
            (Ok(len), Some(place)) => place.copy_from_slice(&len.to_le_bytes()),
            // A payload of 4 GiB is over every limit.
            _ => self.forget(index),
        }
    }

    /// Where to put a record.
    fn chunk(&mut self, index: Index) -> &mut Vec<u8> {
        let full = |chunk: &Chunk| chunk.bytes.len() >= CHUNK_BYTES;
        if self.chunks.back().is_none_or(full) {
            self.chunks.push_back(Chunk {
                before: Index(index.0.saturating_sub(1)),
                at: 0,
                bytes: std::mem::take(&mut self.spare),
            });
        }
        let last = self.chunks.len() - 1;
        &mut self.chunks[last].bytes
    }

    /// Forgets the oldest records until the others cost no more than this.
    fn evict_to(&mut self, cost: usize) {
        while self.cost > cost {
            let Some(chunk) = self.chunks.front_mut() else {
                return self.forget(self.last);
            };
            let mut reader = Reader::new(chunk.bytes.get(chunk.at..).unwrap_or_default());
            let before = reader.rest().len();
            let Some(kept) = Kept::read(&mut reader) else {
                return self.forget(self.last);
            };
            self.cost -= kept.cost.min(self.cost);
            chunk.at += before - reader.rest().len();
            chunk.before = chunk.before.next();
            self.floor = chunk.before;
            if chunk.at == chunk.bytes.len()
                && let Some(chunk) = self.chunks.pop_front()
            {
                self.recycle(chunk.bytes);
            }
        }
    }

    fn recycle(&mut self, mut bytes: Vec<u8>) {
        // One that had to grow for a large record goes.
        if bytes.capacity() <= 2 * CHUNK_BYTES {
            bytes.clear();
            self.spare = bytes;
        }
    }

    /// Forgets everything up to this record, which is the newest.
    pub(crate) fn forget(&mut self, up_to: Index) {
        self.chunks.clear();
        self.cost = 0;
        (self.floor, self.last) = (up_to, up_to);
    }

    /// Whether what was read still is so, once the records `next` have come, which aren't looked at. Takes time in
    /// proportion to the operations since, times the logarithm of what was read.
    ///
    /// # Errors
    /// `Conflict`.
    pub(crate) fn check(&self, reads: &ReadSet, next: &[Arc<Request>]) -> Result<()> {
        if reads.is_empty() {
            return Ok(());
        }
        if reads.at < self.floor_with(next) {
            let why = "the transaction began too long ago";
            return Err(Error::Conflict { why });
        }
        if reads.at >= self.last {
            return Ok(());
        }
        let after = self
            .chunks
            .partition_point(|chunk| chunk.before <= reads.at);
        let since = self.chunks.range(after.saturating_sub(1)..);
        let mut records = since
            .flat_map(Chunk::records)
            .filter(|(index, _)| *index > reads.at);
        match records.any(|(_, kept)| kept.is_met_by(reads)) {
            true => Err(written_since()),
            false => Ok(()),
        }
    }

    /// What the floor is once these records have come.
    fn floor_with(&self, next: &[Arc<Request>]) -> Index {
        let costs = next.iter().map(|r| cost_of(&r.payload));
        let Some(room) = self.limit.checked_sub(costs.sum()) else {
            return self.last.next();
        };
        let (mut cost, mut floor) = (self.cost, self.floor);
        for (index, kept) in self.chunks.iter().flat_map(Chunk::records) {
            if cost <= room {
                break;
            }
            (cost, floor) = (cost.saturating_sub(kept.cost), index);
        }
        floor
    }

    /// What it has of the records after this one, to be carried along.
    pub(crate) fn piece_after(&self, index: Index) -> WindowPiece {
        let before = self.floor.max(index);
        let mut bytes = Vec::new();
        put_varint(&mut bytes, before.0);
        put_varint(&mut bytes, self.last.0);
        let chunks = self.chunks.iter().flat_map(Chunk::records);
        for (_, kept) in chunks.filter(|(index, _)| *index > before) {
            put_record(&mut bytes, &kept);
        }
        let floor = self.floor;
        WindowPiece { floor, bytes }
    }

    /// Takes in a piece that was carried along. One that can't be read, or doesn't follow, is as if nothing had been
    /// known before its end.
    pub(crate) fn take_piece(&mut self, bytes: &[u8]) {
        let mut reader = Reader::new(bytes);
        let (Some(before), Some(last)) = (reader.varint(), reader.varint()) else {
            return self.forget(self.last);
        };
        if Index(before) != self.last {
            self.forget(Index(before));
        }
        while let Some(kept) = Kept::read(&mut reader)
            && kept.touches().all(|touch| touch.is_some())
        {
            let index = self.last.next();
            self.push_with(index, kept.cost, |out| out.extend_from_slice(kept.touches));
        }
        if !reader.is_empty() || self.last != Index(last) {
            self.forget(Index(last));
        }
    }
}

/// The newest record of a piece.
pub(super) fn last_of(piece: &[u8]) -> Option<Index> {
    let mut reader = Reader::new(piece);
    reader.varint()?;
    reader.varint().map(Index)
}

fn cost_of(payload: &[u8]) -> usize {
    payload.len().saturating_add(RECORD_COST)
}

fn put_record(out: &mut Vec<u8>, kept: &Kept<'_>) {
    for number in [kept.touches.len(), kept.cost] {
        // (Both were read from 32 bits.)
        out.extend_from_slice(&(number as u32).to_le_bytes());
    }
    out.extend_from_slice(kept.touches);
}

fn put_touch(out: &mut Vec<u8>, touch: Touch<'_>) {
    let (tag, keyspace, key, to) = match touch {
        Touch::Everything => return out.push(EVERYTHING),
        Touch::Key(keyspace, key) => (KEY, keyspace, key, None),
        Touch::Range(keyspace, key, None) => (ENDLESS_RANGE, keyspace, key, None),
        Touch::Range(keyspace, key, to) => (RANGE, keyspace, key, to),
    };
    out.push(tag);
    put_varint(out, u64::from(keyspace.0));
    put_prefixed(out, key);
    if let Some(to) = to {
        put_prefixed(out, to);
    }
}

fn read_touch<'a>(reader: &mut Reader<'a>) -> Option<Touch<'a>> {
    let tag = reader.u8()?;
    if tag == EVERYTHING {
        return Some(Touch::Everything);
    }
    let keyspace = KeyspaceId(u32::try_from(reader.varint()?).ok()?);
    let key = reader.prefixed()?;
    match tag {
        KEY => Some(Touch::Key(keyspace, key)),
        RANGE => Some(Touch::Range(keyspace, key, Some(reader.prefixed()?))),
        ENDLESS_RANGE => Some(Touch::Range(keyspace, key, None)),
        _ => None,
    }
}

//! The properties of a segment: counts, bounds and range deletions. Shared by writer and readers; the bytes
//! are written down in `docs/format-segment.md`.

use bytes::Bytes;

use crate::codec::{Reader, put_varint};
use crate::types::{
    BOUND_BYTES_MAX, EntryKind, Index, KEY_BYTES_MAX, RangeDelete, SegmentMeta, Version, expires_us,
};

/// Counts and bounds of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Entries, deletions included.
    pub entries: u64,
    /// Deletions among them.
    pub deletes: u64,
    /// Distinct keys.
    pub keys: u64,
    /// Sum of the lengths of all entries' keys, before compression.
    pub key_bytes: u64,
    /// Sum of the lengths of all values.
    pub value_bytes: u64,
    /// Entries that expire.
    pub expiring: u64,
    /// When the last of them does, in microseconds since 1970.
    pub latest_expiry_us: u64,
    /// Data blocks.
    pub blocks: u64,
    /// Lowest index of an entry's version; the highest there is if there is no entry.
    pub smallest_index: Index,
    /// Highest index of an entry's version.
    pub largest_index: Index,
    /// Bytes of entries a block was to hold.
    pub block_bytes: u32,
    /// Entries from one whole key to the next.
    pub restart_interval: u32,
    /// Bits of filter a key; 0 = no filter.
    pub filter_bits_per_key: u32,
    /// Smallest key of an entry.
    pub smallest_key: Vec<u8>,
    /// Largest key of an entry.
    pub largest_key: Vec<u8>,
    /// The range deletions: by key, and of the same keys newest first.
    pub range_deletes: Vec<RangeDelete>,
}

impl Properties {
    /// Appends the body of the section.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for number in [
            self.entries,
            self.deletes,
            self.keys,
            self.key_bytes,
            self.value_bytes,
            self.expiring,
            self.latest_expiry_us,
            self.blocks,
            self.smallest_index.0,
            self.largest_index.0,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [
            self.block_bytes,
            self.restart_interval,
            self.filter_bits_per_key,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for key in [&self.smallest_key, &self.largest_key] {
            put_varint(out, key.len() as u64);
            out.extend_from_slice(key);
        }
        put_varint(out, self.range_deletes.len() as u64);
        for range in &self.range_deletes {
            put_range(out, range);
        }
    }

    /// Reads the body of the section.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let mut properties = Self {
            entries: reader.u64()?,
            deletes: reader.u64()?,
            keys: reader.u64()?,
            key_bytes: reader.u64()?,
            value_bytes: reader.u64()?,
            expiring: reader.u64()?,
            latest_expiry_us: reader.u64()?,
            blocks: reader.u64()?,
            smallest_index: Index(reader.u64()?),
            largest_index: Index(reader.u64()?),
            block_bytes: reader.u32()?,
            restart_interval: reader.u32()?,
            filter_bits_per_key: reader.u32()?,
            smallest_key: decode_key(&mut reader)?,
            largest_key: decode_key(&mut reader)?,
            range_deletes: Vec::new(),
        };
        let ranges = reader.varint()?;
        for _ in 0..ranges {
            properties.range_deletes.push(decode_range(&mut reader)?);
        }
        reader.is_empty().then_some(properties)
    }

    /// Counts an entry's time of expiry, if it has one.
    pub fn count_expiry(&mut self, kind: EntryKind, value: &[u8]) {
        if kind == EntryKind::Expiring {
            let us = expires_us(value).unwrap_or_default();
            self.expiring += 1;
            self.latest_expiry_us = self.latest_expiry_us.max(us);
        }
    }

    /// Writes the counts and bounds of entries and range deletions together into `meta`.
    pub fn bound(&self, meta: &mut SegmentMeta) {
        meta.entries = self.entries;
        meta.deletes = self.deletes;
        meta.range_deletes = self.range_deletes.len() as u64;
        let ranges = || self.range_deletes.iter();
        let entries = |key| (self.entries > 0).then_some(key);
        let smallest = ranges().map(|range| &range.from[..]);
        let smallest = smallest.chain(entries(&self.smallest_key[..])).min();
        let largest = ranges().filter_map(|range| range.to.as_deref());
        let largest = largest.chain(entries(&self.largest_key[..])).max();
        meta.smallest_key = smallest.unwrap_or_default().to_vec();
        // Of a range deletion without an end nothing is largest, but something must stand there.
        meta.largest_key = largest.or(smallest).unwrap_or_default().to_vec();
        meta.is_endless = ranges().any(|range| range.to.is_none());
        if meta.loaded_at > Index(0) {
            (meta.smallest_index, meta.largest_index) = (meta.loaded_at, meta.loaded_at);
            return;
        }
        let indexes = || ranges().map(|range| range.version.index);
        meta.smallest_index = indexes().fold(self.smallest_index, Index::min);
        meta.largest_index = indexes().fold(self.largest_index, Index::max);
    }
}

fn put_range(out: &mut Vec<u8>, range: &RangeDelete) {
    out.push(range.to.is_some().into());
    for key in [Some(&range.from), range.to.as_ref()].into_iter().flatten() {
        put_varint(out, key.len() as u64);
        out.extend_from_slice(key);
    }
    put_varint(out, range.version.index.0);
    put_varint(out, range.version.position.into());
}

fn decode_range(reader: &mut Reader<'_>) -> Option<RangeDelete> {
    let has_end = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let mut bound = || {
        let bound = reader.prefixed()?;
        (bound.len() <= BOUND_BYTES_MAX).then(|| Bytes::copy_from_slice(bound))
    };
    let from = bound()?;
    let to = if has_end { Some(bound()?) } else { None };
    let version = Version {
        index: Index(reader.varint()?),
        position: u32::try_from(reader.varint()?).ok()?,
    };
    let range = RangeDelete { from, to, version };
    (!range.is_empty()).then_some(range)
}

fn decode_key(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    let key = reader.prefixed()?;
    (key.len() <= KEY_BYTES_MAX).then(|| key.to_vec())
}

//! Entries that the input makes up, and what a segment of them must answer.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::testing::Input;
use crate::types::{EXPIRY_BYTES, Entry, EntryKind, Found, Index, RangeDelete, Version, order};

/// The most that are made.
const ROWS_MAX: usize = 48;

/// One entry, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub key: Vec<u8>,
    pub version: Version,
    pub kind: EntryKind,
    pub value: Vec<u8>,
}

impl Row {
    pub fn entry(&self) -> Entry<'_> {
        Entry {
            key: &self.key,
            version: self.version,
            kind: self.kind,
            value: &self.value,
        }
    }

    pub fn of_entry(entry: Entry<'_>) -> Self {
        Self {
            key: entry.key.to_vec(),
            version: entry.version,
            kind: entry.kind,
            value: entry.value.to_vec(),
        }
    }

    pub fn found(&self) -> Found {
        Found {
            version: self.version,
            kind: self.kind,
            value: self.value.clone().into(),
        }
    }

    /// Whether it comes before (`key`, `version`) in a table.
    pub fn is_before(&self, key: &[u8], version: Version) -> bool {
        order(&self.key, self.version, key, version) == Ordering::Less
    }
}

/// Entries in table order, at least one, and range deletions beside them.
#[derive(Debug)]
pub(super) struct Rows {
    rows: Vec<Row>,
    /// As they were made: in any order, on top of one another.
    ranges: Vec<RangeDelete>,
}

impl Rows {
    pub fn of(input: &mut Input<'_>) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        let drawn = usize::from(input.u8());
        let count = 1 + drawn % ROWS_MAX;
        let ranges = (0..drawn / ROWS_MAX).map(|_| range(input)).collect();
        while rows.len() < count {
            let row = row(input, rows.last());
            rows.push(row);
            if input.is_empty() {
                break;
            }
        }
        rows.sort_by(|one, other| one.entry().order(&other.entry()));
        rows.dedup_by(|one, other| (&one.key, one.version) == (&other.key, other.version));
        Self { rows, ranges }
    }

    pub fn all(&self) -> &[Row] {
        &self.rows
    }

    pub fn ranges(&self) -> &[RangeDelete] {
        &self.ranges
    }

    /// The newest range deletion of a key that isn't newer than `at`, of all, one by one.
    pub fn deleted(&self, key: &[u8], at: Version) -> Option<Version> {
        let covering = self.ranges.iter().filter(|range| range.covers(key));
        let versions = covering.map(|range| range.version);
        versions.filter(|version| *version <= at).max()
    }

    /// The newest version of a key that isn't newer than `at`.
    pub fn newest(&self, key: &[u8], at: Version) -> Option<&Row> {
        let mut versions = self.rows.iter().filter(|row| row.key == key);
        versions.find(|row| row.version <= at)
    }
}

/// A range deletion; now and then an empty one.
fn range(input: &mut Input<'_>) -> RangeDelete {
    let shape = input.u8();
    let from = Bytes::copy_from_slice(input.bytes(4));
    let to = match shape & 7 {
        0 => None,
        1 | 2 => Some([&from[..], &[shape]].concat().into()),
        _ => Some(Bytes::copy_from_slice(input.bytes(4))),
    };
    let index = match shape >> 3 & 3 {
        0 => input.number(),
        1 => u64::from(input.u16()),
        _ => u64::from(input.u8()),
    };
    let version = Version {
        index: Index(index),
        position: u32::from(shape >> 6),
    };
    RangeDelete { from, to, version }
}

/// An entry whose key often has something in common with the one before.
fn row(input: &mut Input<'_>, last: Option<&Row>) -> Row {
    let shape = input.u8();
    let mut key = match last {
        Some(last) if shape & 3 != 0 => last.key[..input.place(last.key.len() + 1)].to_vec(),
        _ => Vec::new(),
    };
    if shape & 12 != 0 {
        key.extend_from_slice(input.bytes(12));
    }
    if shape > 250 {
        key.resize(key.len() + 300, shape);
    }
    let index = match shape >> 4 & 3 {
        0 => u64::from(input.u8()),
        1 => last.map_or(0, |last| last.version.index.0),
        2 => u64::from(input.u16()),
        _ => input.number(),
    };
    let position = u32::from(shape >> 6);
    let kind = match (shape & 0x20, shape % 5) {
        (0, 0) => EntryKind::Merge,
        (0, 1) => EntryKind::Expiring,
        (0, _) => EntryKind::Put,
        _ => EntryKind::Delete,
    };
    let mut value = match kind {
        EntryKind::Delete => Vec::new(),
        _ => vec![shape; input.place(if shape > 240 { 700 } else { 40 })],
    };
    if kind == EntryKind::Expiring {
        value.resize(value.len().max(EXPIRY_BYTES), shape);
    }
    let version = Version {
        index: Index(index),
        position,
    };
    Row {
        key,
        version,
        kind,
        value,
    }
}

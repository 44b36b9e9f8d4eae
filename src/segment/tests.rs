//! What the tests of this room share: small segments on a simulated disk, and what they should hold.

mod cache;
mod compression;
mod damage;
mod forged;
mod model;
mod parity;
mod paths;
mod publish;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::counters::ReadCounts;
use super::*;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::types::{
    Codec, Entry, EntryKind, FileId, Found, Index, KeyspaceId, Parity, SegmentMeta, StoreId,
    Version,
};
use crate::vfs::{MemoryVfs, Vfs};

const STORE: StoreId = StoreId(0x5704e);
const FILE: FileId = FileId(0xf11e << 64 | 0x1d);
const NUMBER: SegmentNumber = SegmentNumber(7);
const FOLDER: &str = "store";

/// One entry, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    key: Vec<u8>,
    version: Version,
    kind: EntryKind,
    value: Vec<u8>,
}

impl Row {
    fn put(key: &[u8], index: u64, value: &[u8]) -> Self {
        Self {
            key: key.to_vec(),
            version: version(index, 0),
            kind: EntryKind::Put,
            value: value.to_vec(),
        }
    }

    fn entry(&self) -> Entry<'_> {
        Entry {
            key: &self.key,
            version: self.version,
            kind: self.kind,
            value: &self.value,
        }
    }

    fn found(&self) -> Found {
        Found {
            version: self.version,
            kind: self.kind,
            value: self.value.clone().into(),
        }
    }
}

fn version(index: u64, position: u32) -> Version {
    Version {
        index: Index(index),
        position,
    }
}

/// Blocks as small as can be, so that a few entries make many.
fn tiny() -> SegmentOptions {
    SegmentOptions {
        block_bytes: 128,
        restart_interval: 3,
        filter_bits_per_key: 10,
        codec: Codec::None,
        parity: Parity::Off,
    }
}

/// As large as they are by default, and without parity, so that damage shows.
fn bare() -> SegmentOptions {
    SegmentOptions {
        parity: Parity::Off,
        ..SegmentOptions::default()
    }
}

/// The codecs that this build has.
fn codecs() -> impl Iterator<Item = Codec> {
    let all = [Codec::None, Codec::Lz4, Codec::Zstd];
    all.into_iter()
        .filter(|codec| codec.missing_feature().is_none())
}

/// Blocks small enough that there are several, large enough to be worth packing.
fn packed(codec: Codec) -> SegmentOptions {
    SegmentOptions {
        block_bytes: 512,
        codec,
        ..tiny()
    }
}

/// Values with much in common.
fn compressible_rows(count: u64) -> Vec<Row> {
    let value = |number: u64| {
        let (one, other) = (number * 7919 % 1000, number * 104_729 % 10_000);
        format!("{{\"id\":{one},\"name\":\"user-{other}\",\"active\":true,\"city\":\"Reykjavik\"}}")
    };
    let row = |number| {
        let key = format!("user:{number:08}");
        Row::put(key.as_bytes(), number + 1, value(number).as_bytes())
    };
    (0..count).map(row).collect()
}

fn setup(vfs: Arc<dyn Vfs>, options: SegmentOptions) -> SegmentSetup {
    SegmentSetup {
        dir: PathBuf::from(FOLDER),
        vfs,
        store_id: STORE,
        keyspace: KeyspaceId(3),
        number: NUMBER,
        file_id: FILE,
        options,
    }
}

fn build_with(setup: SegmentSetup, rows: &[Row]) -> Result<SegmentMeta> {
    let mut builder = SegmentBuilder::create(setup)?;
    for row in rows {
        if let Err(error) = builder.add(row.entry()) {
            builder.abandon();
            return Err(error);
        }
    }
    builder.finish()
}

/// A published segment on a disk of its own.
fn build(rows: &[Row], options: SegmentOptions) -> (MemoryVfs, SegmentMeta) {
    let memory = MemoryVfs::new();
    memory.create_dir_all(Path::new(FOLDER)).unwrap();
    let meta = build_with(setup(Arc::new(memory.clone()), options), rows).unwrap();
    (memory, meta)
}

fn open_with(
    vfs: Arc<dyn Vfs>,
    meta: &SegmentMeta,
    cache: Arc<BlockCache>,
) -> Result<Arc<Segment>> {
    Segment::open(vfs, Path::new(FOLDER), STORE, meta, cache).map(Arc::new)
}

fn open(memory: &MemoryVfs, meta: &SegmentMeta) -> Result<Arc<Segment>> {
    let cache = Arc::new(BlockCache::new(1 << 20));
    open_with(Arc::new(memory.clone()), meta, cache)
}

fn path_of(meta: &SegmentMeta) -> PathBuf {
    Path::new(FOLDER).join(file_name(meta.number))
}

/// Keys with several versions each, deletions, long shared prefixes, and the empty key.
fn varied_rows(keys: u64) -> Vec<Row> {
    let mut rows = vec![Row::put(b"", 5, b"the empty key")];
    for number in 0..keys {
        let key = format!(
            "user:{:04}:{}",
            number / 3,
            "abc".repeat(number as usize % 3)
        );
        let mut index = 40 + number * 7 % 31;
        for nth in 0..=number % 3 {
            let kind = if (number + nth) % 5 == 4 {
                EntryKind::Delete
            } else {
                EntryKind::Put
            };
            let value = match kind {
                EntryKind::Put => vec![number as u8; (number % 17) as usize],
                _ => Vec::new(),
            };
            rows.push(Row {
                key: key.clone().into_bytes(),
                version: version(index, nth as u32),
                kind,
                value,
            });
            index -= 3;
        }
    }
    rows
}

/// What a lookup should find.
fn expected<'a>(rows: &'a [Row], key: &[u8], at: Version) -> Option<&'a Row> {
    rows.iter().find(|row| row.key == key && row.version <= at)
}

fn row_of(entry: Entry<'_>) -> Row {
    Row {
        key: entry.key.to_vec(),
        version: entry.version,
        kind: entry.kind,
        value: entry.value.to_vec(),
    }
}

/// Every entry from front to back, or from back to front.
fn walk(segment: &Arc<Segment>, forward: bool, most: usize) -> Result<Vec<Row>> {
    let mut cursor = segment.cursor();
    if forward {
        cursor.seek_to_first()?;
    } else {
        cursor.seek_to_last()?;
    }
    let mut rows = Vec::new();
    while let Some(entry) = cursor.entry() {
        rows.push(row_of(entry));
        assert_eq!(cursor.value(), rows.last().unwrap().value);
        assert!(rows.len() <= most, "more entries than the file has bytes");
        if forward {
            cursor.next()?;
        } else {
            cursor.prev()?;
        }
    }
    Ok(rows)
}

fn damage_of<T>(outcome: Result<T>) -> Option<Vec<crate::error::Damage>> {
    match outcome {
        Ok(_) => None,
        Err(Error::Damaged(damage)) => {
            assert!(!damage.is_empty());
            Some(damage)
        }
        Err(error) => panic!("neither right nor damaged: {error}"),
    }
}

/// What a walk without the open segment finds, and what it misses.
fn salvaged(memory: &MemoryVfs, meta: &SegmentMeta, is_known: bool) -> (Vec<Row>, Vec<LostPart>) {
    let known = is_known.then_some(meta);
    let mut wreck = Wreck::open(memory, &path_of(meta), meta.number, known).unwrap();
    let mut rows = Vec::new();
    loop {
        wreck.next().unwrap();
        match wreck.entry() {
            Some(entry) => rows.push(row_of(entry)),
            None => return (rows, wreck.lost().to_vec()),
        }
    }
}

fn inspected(memory: &MemoryVfs, meta: &SegmentMeta) -> Vec<Inspected> {
    let mut parts = Vec::new();
    inspect(memory, &path_of(meta), &mut |part| parts.push(part)).unwrap();
    parts
}

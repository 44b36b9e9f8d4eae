//! Hostile bytes for segments: sound ones that were damaged, and forged ones.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a check that fails must stop the fuzzer"
)]

mod forged;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::rows::{Row, Rows};
use super::{
    BlockCache, Inspected, LostPart, ReadPolicy, Segment, SegmentBuilder, SegmentCursor,
    SegmentOptions, SegmentSetup, Wreck, file_name, inspect,
};
use crate::cursor::Cursor;
use crate::error::{Damage, Error, Result};
use crate::testing::{Input, MemoryVfs, edit_file};
use crate::types::{
    Codec, FileId, KeyspaceId, Parity, RangeDeletes, SegmentMeta, SegmentNumber, StoreId, Version,
};
use crate::vfs::Vfs;

const STORE: StoreId = StoreId(0x5704e);
const FILE: FileId = FileId(0xf11e << 64 | 0x1d);
const NUMBER: SegmentNumber = SegmentNumber(7);
const KEYSPACE: KeyspaceId = KeyspaceId(3);

/// Opens and reads a segment made of these bytes, in every way there is: never a panic, never a walk
/// without an end, and, where no checksum was forged, never a wrong answer.
pub fn segment_reader(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 4 {
        0 | 1 => damaged(&mut input),
        2 => forged::sections(&mut input),
        _ => forged::raw(&mut input),
    }
}

fn dir() -> &'static Path {
    Path::new("store")
}

fn path() -> PathBuf {
    dir().join(file_name(NUMBER))
}

fn setup(disk: &MemoryVfs, options: SegmentOptions) -> SegmentSetup {
    SegmentSetup {
        dir: dir().to_owned(),
        vfs: Arc::new(disk.clone()),
        store_id: STORE,
        keyspace: KEYSPACE,
        number: NUMBER,
        file_id: FILE,
        options,
    }
}

fn build(disk: &MemoryVfs, options: SegmentOptions, rows: &Rows) -> SegmentMeta {
    let made = disk.create_dir_all(dir());
    made.expect("a simulated disk makes folders");
    let created = SegmentBuilder::create(setup(disk, options));
    let mut builder = created.expect("a segment is begun");
    for row in rows.all() {
        let added = builder.add(row.entry());
        added.expect("an entry in order is taken");
    }
    builder.set_range_deletes(RangeDeletes::new(rows.ranges().iter().cloned()).all());
    builder
        .finish()
        .expect("a segment with an entry is finished")
}

/// Opened with a cache of so many bytes, which pins indexes and filters, or doesn't.
type Cached = (u64, bool);

fn open(disk: &MemoryVfs, meta: &SegmentMeta, cached: Cached) -> Result<Arc<Segment>> {
    let cache = Arc::new(BlockCache::with_policy(
        cached.0,
        ReadPolicy {
            pins: cached.1,
            maps: cached.1,
        },
    ));
    Segment::open(Arc::new(disk.clone()), dir(), STORE, meta, cache).map(Arc::new)
}

/// A sound segment, damaged before or after it is opened.
fn damaged(input: &mut Input<'_>) {
    let disk = MemoryVfs::new();
    let shape = input.u8();
    let options = SegmentOptions {
        block_bytes: 32 << (shape % 6),
        restart_interval: 1 + input.place(5),
        filter_bits_per_key: input.pick(&[0, 1, 10]),
        codec: codec_of(shape / 6),
        parity: [Parity::Off, Parity::Standard, Parity::Strong][usize::from(shape / 36) % 3],
    };
    let cached = (
        input.pick(&[0, 4 << 10, 1 << 20]),
        (shape / 18).is_multiple_of(2),
    );
    let while_open = input.flag();
    // What is done to the file stands before the rows: they take all that is left.
    let edits = input.below(4);
    let mut decided = Input::new(input.bytes(200));
    let rows = Rows::of(input);
    let meta = build(&disk, options, &rows);
    let opened_before = while_open.then(|| open(&disk, &meta, cached).expect("it is sound"));
    let before = disk.read_file(path());
    for _ in 0..edits {
        edit_file(&mut decided, &disk, &path());
    }
    let changed = disk.read_file(path()) != before;
    let parts = show(&disk);
    let named = parts.iter().any(|part| part.verdict.is_err());
    assert_eq!(named, changed, "what `inspect` says: {parts:?}");
    salvage(&disk, Some(&meta), &rows, changed);
    salvage(&disk, None, &rows, changed);
    let segment = match opened_before {
        Some(segment) => segment,
        None => match open(&disk, &meta, cached) {
            Ok(segment) => segment,
            Err(error) => {
                assert!(changed, "a sound file is refused: {error}");
                damage_of::<()>(Err(error));
                return;
            }
        },
    };
    check_ranges(&segment, &rows);
    let damage = segment.verify(&mut |_| {}).expect("a simulated disk reads");
    assert_eq!(
        !damage.is_empty(),
        changed,
        "what `verify` says: {damage:?}"
    );
    let reads = read_all(&segment, &rows) + wander(&segment, &rows, input);
    assert!(changed || reads == 0, "a sound file answered Damaged");
}

/// What an open segment says of range deletions was read when it was opened, and is right.
fn check_ranges(segment: &Arc<Segment>, rows: &Rows) {
    let ranges = segment.range_deletes();
    let written = RangeDeletes::new(rows.ranges().iter().cloned()).all();
    assert_eq!(segment.meta().range_deletes, written.len() as u64);
    let bounds = rows.ranges().iter();
    let bounds = bounds
        .flat_map(|r| [Some(&r.from), r.to.as_ref()])
        .flatten();
    let keys = rows.all().iter().map(|row| &row.key[..]);
    let versions = rows.all().iter().map(|row| row.version);
    let versions: Vec<Version> = versions
        .chain(rows.ranges().iter().map(|range| range.version))
        .chain([Version::default(), Version::MAX])
        .collect();
    for key in keys.chain(bounds.map(|bound| &bound[..])) {
        let behind = [key, b"\x00"].concat();
        for (key, at) in versions
            .iter()
            .flat_map(|at| [(key, *at), (&behind[..], *at)])
        {
            let expected = rows.deleted(key, at);
            assert_eq!(ranges.newest(key, at), expected, "{key:?} at {at:?}");
            assert!(expected.is_none() || segment.meta().spans(key), "{key:?}");
        }
    }
}

/// One of the codecs that this build has.
fn codec_of(number: u8) -> Codec {
    let codec = [Codec::None, Codec::Lz4, Codec::Zstd][usize::from(number % 3)];
    match codec.missing_feature() {
        Some(_) => Codec::Lz4,
        None => codec,
    }
}

/// What was damaged; any other error is wrong here.
fn damage_of<T>(outcome: Result<T>) -> Option<Vec<Damage>> {
    match outcome {
        Ok(_) => None,
        Err(Error::Damaged(damage)) => {
            assert!(!damage.is_empty(), "damage without a place");
            for one in &damage {
                assert_eq!(one.path, path());
            }
            Some(damage)
        }
        Err(error) => panic!("neither right nor Damaged: {error}"),
    }
}

/// Reads everything; each answer is right or Damaged. How often it was Damaged.
fn read_all(segment: &Arc<Segment>, rows: &Rows) -> usize {
    let mut refused = 0;
    for row in rows.all() {
        for (key, at) in [
            (&row.key[..], row.version),
            (&row.key[..], Version::MAX),
            (&row.key[..row.key.len() / 2], Version::MAX),
        ] {
            match segment.get(key, at) {
                Ok(found) => assert_eq!(found, rows.newest(key, at).map(Row::found), "{key:?}"),
                refusal => refused += usize::from(damage_of(refusal).is_some()),
            }
        }
    }
    for forward in [true, false] {
        match walk(segment, forward, rows.all().len()) {
            Ok(found) => assert!(found == rows.all(), "walked {forward}: {found:?}"),
            refusal => refused += usize::from(damage_of(refusal).is_some()),
        }
    }
    refused
}

/// Whatever was done to the file: what a walk over its blocks shows was written, and what it doesn't show is named.
fn salvage(disk: &MemoryVfs, known: Option<&SegmentMeta>, rows: &Rows, changed: bool) {
    let wreck = Wreck::open(disk, &path(), NUMBER, known);
    let mut wreck = wreck.expect("who salvages goes on");
    let mut shown = Vec::new();
    loop {
        wreck.next().expect("who salvages goes on");
        let Some(entry) = wreck.entry() else {
            break;
        };
        shown.push(Row::of_entry(entry));
        assert!(rows.all().contains(&shown[shown.len() - 1]), "invented");
    }
    let missing: Vec<_> = rows
        .all()
        .iter()
        .filter(|row| !shown.contains(row))
        .collect();
    assert_eq!(shown.len() + missing.len(), rows.all().len(), "shown twice");
    assert!(changed || wreck.lost().is_empty(), "{:?}", wreck.lost());
    for row in missing {
        let holds = |lost: &LostPart| {
            let above = lost.from.as_deref().is_none_or(|from| from <= &row.key[..]);
            above && lost.to.as_deref().is_none_or(|to| &row.key[..] <= to)
        };
        assert!(
            wreck.lost().iter().any(holds),
            "{row:?} went unnoticed: {:?}",
            wreck.lost()
        );
    }
}

/// Every entry from front to back, or from back to front and then turned round.
fn walk(segment: &Arc<Segment>, forward: bool, most: usize) -> Result<Vec<Row>> {
    let mut cursor = segment.cursor();
    match forward {
        true => cursor.seek_to_first()?,
        false => cursor.seek_to_last()?,
    }
    let mut found = Vec::new();
    while let Some(entry) = cursor.entry() {
        found.push(Row::of_entry(entry));
        assert_eq!(cursor.value(), entry.value);
        assert!(found.len() <= most, "it finds no end");
        match forward {
            true => cursor.next()?,
            false => cursor.prev()?,
        }
    }
    if !forward {
        found.reverse();
    }
    Ok(found)
}

/// A cursor that goes where the input sends it, and an index into the rows that goes along.
fn wander(segment: &Arc<Segment>, rows: &Rows, input: &mut Input<'_>) -> usize {
    let mut refused = 0;
    let mut cursor = segment.cursor();
    let mut place = None;
    for _ in 0..60 {
        if input.is_empty() {
            break;
        }
        let step = input.u8();
        let (moved, expected) = go(&mut cursor, rows, step, place);
        match moved {
            Ok(()) => {
                let found = cursor.entry().map(Row::of_entry);
                let expected_row = expected.and_then(|at| rows.all().get(at));
                assert_eq!(
                    found.as_ref(),
                    expected_row,
                    "after step {step} from {place:?}"
                );
                place = expected;
            }
            refusal => {
                damage_of(refusal);
                refused += 1;
                assert_eq!(cursor.entry(), None, "after damage it is nowhere");
                place = None;
            }
        }
    }
    refused
}

/// One move, and where it should lead.
fn go(
    cursor: &mut SegmentCursor,
    rows: &Rows,
    step: u8,
    place: Option<usize>,
) -> (Result<()>, Option<usize>) {
    let all = rows.all();
    let inside = |at: usize| (at < all.len()).then_some(at);
    let row = &all[usize::from(step / 8) % all.len()];
    match step % 8 {
        0 | 1 => (cursor.next(), place.and_then(|at| inside(at + 1))),
        2 | 3 => (cursor.prev(), place.and_then(|at| at.checked_sub(1))),
        4 => {
            let at = all.partition_point(|one| one.is_before(&row.key, row.version));
            (cursor.seek(&row.key, row.version), inside(at))
        }
        5 => {
            let key = [&row.key[..], b"\x00"].concat();
            let at = all.partition_point(|one| one.key < key);
            (cursor.seek(&key, Version::MAX), inside(at))
        }
        6 => {
            let at = all.partition_point(|one| one.key < row.key);
            (cursor.seek_before(&row.key), at.checked_sub(1))
        }
        _ if step & 8 == 0 => (cursor.seek_to_first(), Some(0)),
        _ => (cursor.seek_to_last(), Some(all.len() - 1)),
    }
}

/// All parts of the file, which they must fill from front to back.
fn show(disk: &MemoryVfs) -> Vec<Inspected> {
    let mut parts: Vec<Inspected> = Vec::new();
    let mut end = 0;
    let looked = inspect(disk, &path(), &mut |part| {
        assert_eq!(part.offset, end, "a gap between parts");
        end += part.bytes;
        parts.push(part);
    });
    looked.expect("a simulated disk reads");
    assert_eq!(Some(end), disk.file_bytes(path()), "the parts aren't all");
    parts
}

//! Tests of the whole room; what they share.

mod copies;
mod crash;
mod damage;
mod encoding;
mod failure;
mod open;
mod readers;
mod state;

use super::*;
use crate::testing::{FaultVfs, MemoryVfs, SeededEntropy};
use crate::types::{
    Index, KeyspaceId, LogFileMeta, LogNumber, Lsn, Mode, Parity, SegmentMeta, SegmentNumber,
    StoreId, Term,
};
use std::collections::BTreeMap;
use std::sync::Arc;

fn dir() -> &'static Path {
    Path::new("store")
}

fn setup(vfs: Arc<dyn Vfs>, access: ManifestAccess) -> ManifestSetup {
    ManifestSetup {
        dir: dir().to_owned(),
        vfs,
        entropy: Arc::new(SeededEntropy::new(7)),
        access,
    }
}

fn on(memory: &MemoryVfs) -> ManifestSetup {
    setup(Arc::new(memory.clone()), ManifestAccess::ReadWrite)
}

fn on_faults(vfs: &FaultVfs) -> ManifestSetup {
    setup(Arc::new(vfs.clone()), ManifestAccess::ReadWrite)
}

fn read_only(memory: &MemoryVfs) -> ManifestSetup {
    setup(Arc::new(memory.clone()), ManifestAccess::ReadOnly)
}

/// A disk with the store's empty folder.
fn disk() -> MemoryVfs {
    let memory = MemoryVfs::new();
    memory.create_dir_all(dir()).unwrap();
    memory
}

fn file(generation: u64, side: Side) -> PathBuf {
    format::path(dir(), generation, side)
}

/// The state of a new store: a default keyspace and nothing else.
fn empty_state() -> ManifestState {
    let keyspace = KeyspaceState {
        name: "default".into(),
        created: Index(0),
        covered: Index(0),
        covered_term: Term(0),
        options: vec![1, 2, 3],
        segments: BTreeMap::new(),
        fences: Vec::new(),
    };
    ManifestState {
        store_id: StoreId(0x5702e),
        mode: Mode::Standalone,
        cluster_id: 0,
        member_id: 0,
        created_us: 1_577_836_800_000_000,
        next_segment: SegmentNumber(1),
        next_keyspace: KeyspaceId(1),
        covered_time_us: 0,
        catalog_index: Index(0),
        activity: Vec::new(),
        conflict_window: Vec::new(),
        keyspaces: BTreeMap::from([(KeyspaceId::DEFAULT, keyspace)]),
        log_files: BTreeMap::new(),
    }
}

fn segment(number: u64, key_bytes: usize) -> SegmentMeta {
    SegmentMeta {
        number: SegmentNumber(number),
        file_id: FileId(u128::from(number) << 70 | 5),
        bytes: 4096 * number,
        content_bytes: 4096 * number,
        parity: Parity::Off,
        digest: u128::MAX / u128::from(number),
        entries: 100,
        deletes: 3,
        range_deletes: 0,
        smallest_key: vec![b'a'; key_bytes],
        largest_key: vec![b'b'; key_bytes],
        is_endless: false,
        smallest_index: Index(number),
        largest_index: Index(number + 4),
        loaded_at: Index(0),
    }
}

fn log_file(number: u64) -> LogFileMeta {
    LogFileMeta {
        number: LogNumber(number),
        file_id: FileId(u128::from(number) + 99),
        salt: 0xdead_beef << number,
        first_lsn: Lsn(number << 26),
        capacity: 1 << 26,
        first_index: Index(0),
        previous_number: LogNumber(number - 1),
        previous_end_lsn: Lsn(0),
        parity: Parity::Standard,
    }
}

/// A flush: a segment comes, with keys of that length, and covers up to its own number.
fn flush(number: u64, key_bytes: usize) -> Vec<Change> {
    vec![Change::SegmentsReplaced {
        keyspace: KeyspaceId::DEFAULT,
        removed: vec![],
        added: vec![(0, segment(number, key_bytes))],
        covered: Some((Index(number), Term(0))),
    }]
}

/// A long list of edits of every kind, each of which makes sense after those before it. Some are so
/// large that generations change on the way.
fn edits() -> Vec<Vec<Change>> {
    let replace = |removed: &[u64], added: Vec<(u8, SegmentMeta)>| Change::SegmentsReplaced {
        keyspace: KeyspaceId::DEFAULT,
        removed: removed.iter().copied().map(SegmentNumber).collect(),
        added,
        covered: None,
    };
    vec![
        vec![Change::LogFilePrepared(log_file(1))],
        vec![
            Change::KeyspaceCreated {
                id: KeyspaceId(1),
                name: "second".into(),
                index: Index(3),
                options: vec![9; 40],
            },
            Change::NextSegment(SegmentNumber(4)),
        ],
        flush(4, 60_000),
        vec![Change::LogFilePrepared(log_file(2))],
        flush(5, 60_000),
        vec![replace(&[4, 5], vec![(1, segment(6, 10))])],
        vec![Change::LogFilesRemoved(vec![LogNumber(1)])],
        vec![replace(&[6], vec![(2, segment(6, 10))])],
        vec![Change::KeyspaceDropped {
            id: KeyspaceId(1),
            index: Index(9),
        }],
        flush(9, 3),
    ]
}

/// The states before the first of these edits, after it, after the second …
fn states(edits: &[Vec<Change>]) -> Vec<ManifestState> {
    let mut states = vec![empty_state()];
    for edit in edits {
        let next = states.last().unwrap().with(edit).unwrap();
        states.push(next);
    }
    states
}

/// A store with these edits, in one generation, and closed.
fn store(edits: &[Vec<Change>]) -> MemoryVfs {
    let memory = disk();
    let mut manifest = Manifest::create(on(&memory), empty_state()).unwrap();
    for edit in edits {
        manifest.apply(edit).unwrap();
    }
    memory
}

/// Three small edits.
fn small_edits() -> Vec<Vec<Change>> {
    vec![flush(1, 5), flush(2, 5), flush(3, 5)]
}

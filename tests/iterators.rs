//! Views and iterators that are held while the store goes on: they see what they saw, and pin no more than
//! that takes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::Path;
use std::sync::Arc;

use kintsu::testing::MemoryVfs;
use kintsu::vfs::Vfs;
use kintsu::{Background, Db, Job, Options};

const KEYS: u32 = 500;

fn options(memory: &MemoryVfs) -> Options {
    Options::new("store")
        .vfs(Arc::new(memory.clone()))
        .background(Background::Manual)
        .segment_bytes(4 << 10)
        .level_base_bytes(8 << 10)
}

fn key(number: u32) -> String {
    format!("key-{number:05}")
}

fn value(round: u32, number: u32) -> String {
    format!("{round}:{number}:").repeat(8)
}

/// Each round replaces all, deletes a part, and is flushed and compacted; what is replaced is removed as far
/// as nobody holds it.
fn round(db: &Db, round: u32) {
    for number in 0..KEYS {
        db.put(key(number), value(round, number)).unwrap();
    }
    let from = round * 37 % KEYS;
    db.delete_range(key(from)..key(from + 20)).unwrap();
    db.delete(key(from / 2)).unwrap();
    db.flush().unwrap();
    db.compact_range(..).unwrap();
    while db.step(Job::Reclaim).unwrap() {}
}

fn segment_files(memory: &MemoryVfs) -> usize {
    let names = memory.list(Path::new("store")).unwrap();
    let is_segment = |name: &&kintsu::vfs::DirEntry| name.name.ends_with(".segment");
    names.iter().filter(is_segment).count()
}

fn segments(db: &Db) -> usize {
    let statistics = db.statistics();
    statistics.keyspaces[0].level_segments.iter().sum()
}

/// An iterator that is stepped while the store goes on gives what it would have given at once, from both
/// ends, and what it has left behind is removed.
#[test]
fn an_iterator_moves_on_to_the_tables_that_replace_its_own() {
    let memory = MemoryVfs::new();
    let db = options(&memory).open().unwrap();
    round(&db, 0);
    let expected: Vec<_> = db.range(..).unwrap().map(Result::unwrap).collect();
    let mut range = db.range(..).unwrap();
    let (mut front, mut back) = (Vec::new(), Vec::new());
    for number in 1..8 {
        for _ in 0..40 {
            front.extend(range.next().transpose().unwrap());
        }
        for _ in 0..11 {
            back.extend(range.next_back().transpose().unwrap());
        }
        round(&db, number);
        assert!(db.statistics().superseded_bytes > 0, "it rests on them");
        // One step, and they can go.
        front.extend(range.next().transpose().unwrap());
        while db.step(Job::Reclaim).unwrap() {}
        let statistics = db.statistics();
        assert_eq!(statistics.superseded_bytes, 0);
        assert_eq!(statistics.superseded_memtable_bytes, 0);
        assert_eq!(statistics.views, 1);
        assert!(statistics.oldest_view.unwrap() < statistics.last_index);
        assert_eq!(segment_files(&memory), segments(&db));
    }
    front.extend(range.by_ref().map(Result::unwrap));
    front.extend(back.into_iter().rev());
    assert_eq!(front, expected);
    // With the last holder goes what only it could see.
    let before = db.statistics().keyspaces[0].segment_entries;
    drop(range);
    db.compact_range(..).unwrap();
    let statistics = db.statistics();
    assert_eq!((statistics.views, statistics.oldest_view), (0, None));
    assert!(statistics.keyspaces[0].segment_entries < before);
}

/// A view that is held pins the versions that it sees, and not one file or memtable.
#[test]
fn a_view_pins_versions_and_no_files() {
    let memory = MemoryVfs::new();
    let db = options(&memory).open().unwrap();
    round(&db, 0);
    let view = db.view();
    let expected: Vec<_> = view.range(..).unwrap().map(Result::unwrap).collect();
    for number in 1..5 {
        round(&db, number);
        let statistics = db.statistics();
        assert_eq!(statistics.superseded_bytes, 0);
        assert_eq!(statistics.superseded_memtable_bytes, 0);
        assert_eq!(segment_files(&memory), segments(&db));
        // Of each key the version that the view sees, and the newest one.
        assert!(statistics.keyspaces[0].segment_entries <= u64::from(2 * KEYS));
    }
    let found: Vec<_> = view.range(..).unwrap().map(Result::unwrap).collect();
    assert_eq!(found, expected);
}

/// Memtables that were flushed under an iterator stay in memory until its next step, and that is said.
#[test]
fn memtables_that_an_iterator_rests_on_are_counted() {
    let memory = MemoryVfs::new();
    let db = options(&memory).open().unwrap();
    db.put("a", "1").unwrap();
    db.put("b", "2").unwrap();
    let mut range = db.range(..).unwrap();
    range.next().unwrap().unwrap();
    db.put("b", "3").unwrap();
    db.flush().unwrap();
    assert!(db.statistics().superseded_memtable_bytes > 0);
    let (key, value) = range.next().unwrap().unwrap();
    assert_eq!((&key[..], &value[..]), (&b"b"[..], &b"2"[..]));
    assert_eq!(db.statistics().superseded_memtable_bytes, 0);
}

/// What was open when its keyspace was dropped goes on to its end.
#[test]
fn an_iterator_outlives_its_keyspace() {
    let memory = MemoryVfs::new();
    let db = options(&memory).open().unwrap();
    let users = db.create_keyspace("users").unwrap();
    for number in 0..KEYS {
        users.put(key(number), value(0, number)).unwrap();
    }
    db.flush().unwrap();
    let mut range = users.range(..).unwrap();
    range.next().unwrap().unwrap();
    db.drop_keyspace("users").unwrap();
    db.flush().unwrap();
    while db.step(Job::Reclaim).unwrap() {}
    assert!(db.statistics().superseded_bytes > 0);
    range.next_back().unwrap().unwrap();
    assert_eq!(range.by_ref().map(Result::unwrap).count() as u32, KEYS - 2);
    drop(range);
    while db.step(Job::Reclaim).unwrap() {}
    assert_eq!(segment_files(&memory), 0);
}

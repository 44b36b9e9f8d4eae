//! The real disk, real processes and real threads: children killed with SIGKILL in the middle of their
//! writes, two processes at one store, many threads, a million keys.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

#[path = "processes/child.rs"]
mod child;
mod support;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kintsu::environment::{Clock, SystemClock};
use kintsu::testing::SeededRng;
use kintsu::{
    Bytes, Db, Durability, Error, Keyspace, Options, Range, ReadView, RecoveryReport, Statistics,
    WriteBatch,
};

use child::{Child, WRITERS, counter_key, item_key, item_value};
use support::scale;

/// What the roles of [`child`] begin with; a test by its own account, so that the test binary can be
/// started again as a child.
#[test]
fn child_role() {
    child::play_role();
}

/// What a store that a loading child has written to holds: each writer's counter, checked against its
/// items.
fn check_load(db: &Db) -> Vec<u64> {
    let view = db.view();
    let mut counters = Vec::new();
    for writer in 0..WRITERS {
        let counter = view.get(counter_key(writer)).unwrap();
        let counter = counter.map_or(0, |bytes| number(&bytes));
        let mut items = 0;
        for item in view.prefix(format!("item {writer:02} ")).unwrap() {
            let (key, value) = item.unwrap();
            items += 1;
            assert_eq!(key, item_key(writer, items), "a hole, or half a batch");
            assert_eq!(value, item_value(writer, items));
        }
        assert_eq!(items, counter, "writer {writer}: half a batch");
        counters.push(counter);
    }
    counters
}

fn number(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

#[test]
fn sigkill_in_a_loop() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = SeededRng::new(1);
    let rounds = 25 * scale();
    let (mut acknowledged, mut replayed, mut torn) = (0, 0, 0);
    let mut counters = vec![0; WRITERS];
    for round in 0..rounds {
        let mut child = Child::start("load", folder.path());
        let wanted = rng.between(1, 400);
        let mut told: Vec<(usize, u64)> = (0..wanted)
            .map(|_| child::parse(&child.next_line().unwrap()).unwrap())
            .collect();
        told.extend(child.kill());
        for (writer, count) in told {
            acknowledged += 1;
            counters[writer] = count.max(counters[writer]);
        }
        let db = child::load_options(folder.path()).open().unwrap();
        let found = check_load(&db);
        for writer in 0..WRITERS {
            assert!(
                found[writer] >= counters[writer],
                "round {round}: writer {writer} was told {}, and {} is there",
                counters[writer],
                found[writer]
            );
        }
        counters = found;
        replayed += db.recovery_report().records_replayed;
        torn += u64::from(db.recovery_report().torn_bytes > 0);
        match round % 3 {
            0 => db.close().unwrap(),
            _ => drop(db),
        }
    }
    println!(
        "sigkill: {rounds} children killed, {acknowledged} acknowledged writes all found, \
         {replayed} records replayed, {torn} torn tails"
    );
}

#[test]
fn two_processes_at_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let db = child::load_options(folder.path()).open().unwrap();
    let mut second = Child::start("open", folder.path());
    assert_eq!(second.next_line().unwrap(), "locked");
    second.wait();
    assert!(matches!(
        child::load_options(folder.path()).open(),
        Err(Error::Locked { .. })
    ));
    db.put("still", "mine").unwrap();
    db.close().unwrap();
    let mut second = Child::start("open", folder.path());
    assert_eq!(second.next_line().unwrap(), "opened");
    assert!(matches!(
        child::load_options(folder.path()).open(),
        Err(Error::Locked { .. })
    ));
    second.kill();
    let db = child::load_options(folder.path()).open().unwrap();
    assert_eq!(db.get("still").unwrap().as_deref(), Some(&b"mine"[..]));
}

#[test]
fn a_reader_beside_a_live_writer() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Child::start("load", folder.path());
    let mut told = [0; WRITERS];
    let mut seen = vec![0; WRITERS];
    let rounds = 60 * scale();
    let mut segments = 0;
    for round in 0..rounds {
        for _ in 0..20 {
            let line = child.next_line().unwrap();
            let (writer, count) = child::parse(&line).unwrap();
            told[writer] = count;
        }
        let db = child::load_options(folder.path()).read_only(true).open();
        let db = db.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        let found = check_load(&db);
        for writer in 0..WRITERS {
            assert!(
                found[writer] >= told[writer],
                "what was acknowledged isn't seen"
            );
            assert!(found[writer] >= seen[writer], "time goes back");
        }
        seen = found;
        assert!(matches!(db.put("a", "b"), Err(Error::ReadOnly)));
        let statistics = db.statistics();
        let levels = statistics
            .keyspaces
            .iter()
            .flat_map(|keyspace| &keyspace.level_segments);
        segments = levels.sum::<usize>().max(segments);
    }
    child.kill();
    assert!(segments > 0, "the writer never flushed");
    let written: u64 = seen.iter().sum();
    println!(
        "reader beside a writer: {rounds} opens, {written} batches seen, up to {segments} segments"
    );
}

#[test]
fn many_threads_write_durably_and_batches_stay_whole() {
    const THREADS: u64 = 32;
    let each = 60 * scale();
    let folder = tempfile::tempdir().unwrap();
    let db = child::load_options(folder.path()).open().unwrap();
    let other = db.create_keyspace("other").unwrap();
    let done = AtomicBool::new(false);
    let checks = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    check_pairs(&db, &other);
                    checks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (db, other) = (&db, &other);
                scope.spawn(move || write_pairs(db, other, thread, each))
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Release);
    });
    check_pairs(&db, &other);
    drop((db, other));
    let db = child::load_options(folder.path()).open().unwrap();
    let other = db.keyspace("other").unwrap();
    for thread in 0..THREADS {
        let last = db.get(thread.to_be_bytes()).unwrap().unwrap();
        assert_eq!(number(&last), each, "an acknowledged write is gone");
    }
    check_pairs(&db, &other);
    let checks = checks.into_inner();
    println!(
        "threads: {THREADS} × {each} durable batches over two keyspaces, {checks} views checked"
    );
}

/// Here nothing waits for the disk, so that readers meet groups that are just being applied.
#[test]
fn large_batches_stay_whole_without_syncs() {
    const WRITERS: u64 = 3;
    const KEYS: u64 = 60;
    let rounds = 1500 * scale();
    let folder = tempfile::tempdir().unwrap();
    let db = Options::new(folder.path()).open().unwrap();
    let other = db.create_keyspace("other").unwrap();
    let working = AtomicU64::new(WRITERS);
    let checks = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (db, other, working) = (&db, &other, &working);
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut batch = WriteBatch::new();
                    for key in 0..KEYS {
                        let key = [writer.to_be_bytes(), key.to_be_bytes()].concat();
                        batch.put(&key, round.to_be_bytes());
                        batch.put_in(other, &key, round.to_be_bytes());
                    }
                    db.write_with(batch, Durability::Buffered).unwrap();
                }
                working.fetch_sub(1, Ordering::AcqRel);
            });
        }
        scope.spawn(|| {
            while working.load(Ordering::Acquire) > 0 {
                check_pairs(&db, &other);
                checks.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    check_pairs(&db, &other);
    let checks = checks.into_inner();
    println!("threads: {WRITERS} × {rounds} batches of {KEYS} × 2 keys, {checks} views checked");
}

fn write_pairs(db: &Db, other: &Keyspace, thread: u64, each: u64) {
    for count in 1..=each {
        let mut batch = WriteBatch::new();
        let key = thread.to_be_bytes();
        batch
            .put(key, count.to_string())
            .put_in(other, key, count.to_string());
        db.write(batch).unwrap();
        let found = db.get(key).unwrap().unwrap();
        assert_eq!(number(&found), count, "a thread doesn't see its own write");
    }
}

/// Each batch writes the same to both keyspaces.
fn check_pairs(db: &Db, other: &Keyspace) {
    let view = db.view();
    let all = |range: Range| -> HashMap<Bytes, Bytes> { range.map(|item| item.unwrap()).collect() };
    let one = all(view.range(..).unwrap());
    let two = all(view.range_in(other, ..).unwrap());
    assert_eq!(one, two, "half a batch is visible");
}

fn million(name: &str, role: &str) {
    let folder = tempfile::tempdir().unwrap();
    let count = child::MILLION * scale();
    let mut child = Child::start_with(role, folder.path(), &count.to_string());
    assert_eq!(child.next_line().unwrap(), "loaded");
    child.kill();
    let clock = SystemClock::new();
    let db = child::million_options(folder.path(), role).open().unwrap();
    let opened = clock.elapsed();
    let report = db.recovery_report().clone();
    let counted = db.range(..).unwrap().inspect(|item| assert!(item.is_ok()));
    let counted = counted.count() as u64;
    assert_eq!(counted, count);
    let mut rng = SeededRng::new(3);
    for _ in 0..20_000 {
        let number = rng.below(count);
        let value = db.get(child::million_key(number)).unwrap().unwrap();
        assert_eq!(value, child::million_value(number));
        assert!(!db.contains(child::million_key(count + number)).unwrap());
    }
    println!(
        "million, {name}: {count} keys found after SIGKILL; open took {} ms, {} records replayed",
        opened.as_millis(),
        report.records_replayed
    );
}

#[test]
fn a_million_keys_in_the_log() {
    million("in the log", "million");
}

#[test]
fn a_million_keys_in_segments() {
    million("in segments", "million-small");
}

fn shared<T: Send + Sync + 'static>() {}

#[test]
fn everything_can_be_shared() {
    shared::<Db>();
    shared::<Keyspace>();
    shared::<ReadView>();
    shared::<Range>();
    shared::<WriteBatch>();
    shared::<Options>();
    shared::<Error>();
    shared::<RecoveryReport>();
    shared::<Statistics>();
}

#[test]
fn use_after_close() {
    let folder = tempfile::tempdir().unwrap();
    let db = child::load_options(folder.path()).open().unwrap();
    let users = db.create_keyspace("users").unwrap();
    db.put("a", "1").unwrap();
    users.put("b", "2").unwrap();
    let (clone, view) = (db.clone(), db.view());
    let mut range = db.range(..).unwrap();
    db.close().unwrap();
    let closed = |outcome: kintsu::Result<()>| {
        assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
    };
    closed(clone.put("a", "3"));
    closed(clone.delete("a"));
    closed(clone.write(WriteBatch::new()));
    closed(clone.get("a").map(drop));
    closed(clone.contains("a").map(drop));
    closed(clone.range(..).map(drop));
    closed(clone.prefix("a").map(drop));
    closed(clone.keyspace("users").map(drop));
    closed(clone.create_keyspace("x").map(drop));
    closed(clone.drop_keyspace("users"));
    closed(clone.sync());
    closed(clone.flush());
    closed(users.get("b").map(drop));
    closed(users.put("b", "3"));
    closed(view.get("a").map(drop));
    closed(view.range(..).map(drop));
    closed(clone.clone().close());
    let (key, value) = range.next().unwrap().unwrap();
    assert_eq!((&key[..], &value[..]), (&b"a"[..], &b"1"[..]));
    assert!(range.next().is_none());
    // It can be opened again at once, though handles are still about.
    let again = child::load_options(folder.path()).open().unwrap();
    assert_eq!(again.get("a").unwrap().as_deref(), Some(&b"1"[..]));
    drop((clone, users, view, range));
    again.put("a", "4").unwrap();
}

/// Dropping the last handle while others still read and write in other threads.
#[test]
fn close_while_threads_are_busy() {
    for round in 0..10 * scale() {
        let folder = tempfile::tempdir().unwrap();
        let db = child::load_options(folder.path()).open().unwrap();
        let acknowledged: Vec<_> = (0..4).map(|_| Arc::new(AtomicU64::new(0))).collect();
        std::thread::scope(|scope| {
            for (thread, acknowledged) in acknowledged.iter().enumerate() {
                let (db, acknowledged) = (db.clone(), acknowledged.clone());
                scope.spawn(move || write_until_closed(&db, thread, &acknowledged));
            }
            while acknowledged
                .iter()
                .any(|count| count.load(Ordering::Acquire) <= round)
            {
                std::thread::yield_now();
            }
            db.close().unwrap();
        });
        check_acknowledged(folder.path(), &acknowledged);
    }
}

fn write_until_closed(db: &Db, thread: usize, acknowledged: &AtomicU64) {
    for count in 1.. {
        let mut batch = WriteBatch::new();
        batch.put(thread.to_be_bytes(), count.to_string());
        let durability = match count % 3 {
            0 => Durability::Disk,
            1 => Durability::Process,
            _ => Durability::Buffered,
        };
        match db.write_with(batch, durability) {
            Ok(()) => acknowledged.store(count, Ordering::Release),
            Err(Error::Closed) => return,
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// A close promises everything that was acknowledged before it.
fn check_acknowledged(folder: &Path, acknowledged: &[Arc<AtomicU64>]) {
    let db = child::load_options(folder).open().unwrap();
    assert!(db.recovery_report().closed_cleanly);
    for (thread, acknowledged) in acknowledged.iter().enumerate() {
        let found = db.get(thread.to_be_bytes()).unwrap().unwrap();
        assert_eq!(number(&found), acknowledged.load(Ordering::Acquire));
    }
}

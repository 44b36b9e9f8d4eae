//! The change feed: what a subscriber is shown, when, and for how long it can be had.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use kintsu::testing::{Fault, FaultKind, OperationKind, TearUnit};
use kintsu::{
    Append, Db, Durability, Error, FeedChange, FeedRecord, Index, Job, KeyspaceOptions, Options,
    Subscription, WriteBatch,
};

use support::store::Machine;

/// All that there is now.
fn drain(feed: &mut Subscription) -> Vec<FeedRecord> {
    std::iter::from_fn(|| feed.try_next().unwrap()).collect()
}

fn indexes(records: &[FeedRecord]) -> Vec<u64> {
    records.iter().map(|record| record.index.0).collect()
}

fn put(db: &Db, key: &str, bytes: usize, durability: Durability) {
    let mut batch = WriteBatch::new();
    batch.put(key, support::workload::value(bytes as u64, bytes));
    db.write_with(batch, durability).unwrap();
}

#[test]
fn every_kind_of_change_is_told_in_order_and_nothing_twice() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    let mut feed = db.subscribe(Index(1)).unwrap();
    assert_eq!(feed.try_next().unwrap(), None);
    db.put("a", "1").unwrap();
    let options = KeyspaceOptions::default().merge_operator(Append::NAME);
    let users = db.create_keyspace_with("users", options).unwrap();
    let mut batch = WriteBatch::new();
    batch.merge_in(&users, "b", "2");
    batch.put_expiring("c", "3", Duration::from_micros(50));
    batch.delete_range("d".."f");
    batch.delete_in(&users, "");
    db.write(batch).unwrap();
    db.drop_keyspace("users").unwrap();
    let all = drain(&mut feed);
    assert_eq!(indexes(&all), [1, 2, 3, 4]);
    assert_eq!(feed.next_index(), Index(5));
    let names = |record: &FeedRecord| -> Vec<String> {
        let changes = record.changes.iter();
        changes.map(|c| c.keyspace().to_string()).collect()
    };
    assert!(
        matches!(&all[1].changes[..], [FeedChange::KeyspaceCreated { options, .. }]
        if options.merge_operator.as_deref() == Some(Append::NAME))
    );
    assert_eq!(names(&all[2]), ["users", "default", "default", "users"]);
    assert!(
        matches!(&all[2].changes[1], FeedChange::PutExpiring { expires_us, .. }
        if *expires_us == all[2].time_us + 50)
    );
    assert_eq!(names(&all[3]), ["users"]);
    // One who comes later can't know the name of what was dropped, unless the creation is among what it reads.
    let later = drain(&mut db.subscribe(Index(3)).unwrap());
    assert_eq!(names(&later[0]), ["#1", "default", "default", "#1"]);
    let from_creation = drain(&mut db.subscribe(Index(2)).unwrap());
    assert_eq!(from_creation, all[1..]);
    let none = drain(&mut db.subscribe(db.last_index().next()).unwrap());
    assert!(none.is_empty());
}

#[test]
fn a_position_beyond_the_end_is_refused() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    db.put("a", "1").unwrap();
    let beyond = db.subscribe(Index(3)).map(drop);
    let (asked, last) = (Index(3), Index(1));
    assert!(
        matches!(&beyond, Err(Error::NotYetWritten { asked: a, last: l }) if (*a, *l) == (asked, last)),
        "{beyond:?}"
    );
    let beside = machine.options().read_only(true).open().unwrap();
    let refused = beside.subscribe(Index(1)).map(drop);
    assert!(matches!(refused, Err(Error::ReadOnly)), "{refused:?}");
}

/// Whatever is shown is on disk by then, though nobody else has synced it.
#[test]
fn what_was_shown_survives_the_loss_of_power() {
    for durability in [Durability::Buffered, Durability::Process] {
        let machine = Machine::new(1);
        let db = machine.options().open().unwrap();
        for n in 0..10 {
            put(&db, "key", n, durability);
        }
        let before = machine.faults.count(OperationKind::SyncData);
        let mut feed = db.subscribe(Index(4)).unwrap();
        assert_eq!(
            machine.faults.count(OperationKind::SyncData),
            before,
            "who doesn't read doesn't sync"
        );
        let shown = drain(&mut feed);
        assert_eq!(indexes(&shown), [4, 5, 6, 7, 8, 9, 10]);
        for seed in 0..5 {
            let machine = machine.rebooted(machine.memory.crash(seed, TearUnit::Sector));
            let db = machine.options().open().unwrap();
            assert_eq!(db.last_index(), Index(10));
            assert_eq!(drain(&mut db.subscribe(Index(4)).unwrap()), shown);
        }
    }
}

#[test]
fn a_latched_store_shows_what_is_durable_and_then_says_why_no_more_comes() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    db.put("a", "1").unwrap();
    put(&db, "b", 10, Durability::Process);
    let mut feed = db.subscribe(Index(1)).unwrap();
    let mut caught_up = db.subscribe(Index(3)).unwrap();
    let sync = Fault::once(1, FaultKind::Io).only(&[OperationKind::SyncData]);
    machine.faults.inject(sync);
    assert!(matches!(
        db.put("c", "3"),
        Err(Error::OutcomeUnknown { .. })
    ));
    assert_eq!(feed.next().unwrap().index, Index(1));
    for _ in 0..2 {
        let end = feed.next();
        assert!(matches!(end, Err(Error::Poisoned { .. })), "{end:?}");
        let end = caught_up.next();
        assert!(matches!(end, Err(Error::Poisoned { .. })), "{end:?}");
    }
}

/// The subscriber's own sync is the one that fails.
#[test]
fn a_sync_that_fails_for_a_subscriber_latches_the_store() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    put(&db, "b", 10, Durability::Process);
    let mut feed = db.subscribe(Index(1)).unwrap();
    let sync = Fault::once(1, FaultKind::Io).only(&[OperationKind::SyncData]);
    machine.faults.inject(sync);
    let end = feed.try_next();
    assert!(matches!(end, Err(Error::Poisoned { .. })), "{end:?}");
    assert!(matches!(db.put("c", "3"), Err(Error::Poisoned { .. })));
}

#[test]
fn a_closed_store_gives_what_is_left() {
    for close in [true, false] {
        let machine = Machine::new(1);
        let db = machine.options().open().unwrap();
        let mut feed = db.subscribe(Index(1)).unwrap();
        for n in 0..5 {
            put(&db, "key", n, Durability::Buffered);
        }
        if close {
            db.close().unwrap();
        } else {
            drop(db);
        }
        for n in 1..=5 {
            assert_eq!(feed.next().unwrap().index, Index(n));
        }
        assert!(matches!(feed.next(), Err(Error::Closed)));
        let waited = feed.next_timeout(Duration::from_secs(100));
        assert!(matches!(waited, Err(Error::Closed)));
        // The store is let go: the subscription doesn't hold it.
        let db = machine.options().open().unwrap();
        assert_eq!(drain(&mut db.subscribe(Index(1)).unwrap()).len(), 5);
    }
}

/// Writes about 40 KiB, which fills most of a file of the log, and flushes.
fn write_much_and_flush(db: &Db) {
    for _ in 0..4 {
        put(db, "much", 10_000, Durability::Buffered);
    }
    db.flush().unwrap();
}

#[test]
fn a_subscription_pins_the_log_and_resumes_after_a_restart() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    db.create_keyspace("idle").unwrap().put("a", "b").unwrap();
    let mut feed = db.subscribe(Index(1)).unwrap();
    for _ in 0..10 {
        write_much_and_flush(&db);
    }
    let statistics = db.statistics();
    assert_eq!(statistics.subscribers, 1);
    assert_eq!(statistics.log_pinned, Some(Index(1)));
    assert_eq!(statistics.log_first_index, Index(1));
    assert!(statistics.log_bytes > 400_000);
    let first: Vec<_> = (0..20).map(|_| feed.next().unwrap()).collect();
    db.close().unwrap();
    // What it had yet to read is kept by the close as well.
    let db = machine.options().open().unwrap();
    let mut again = db.subscribe(Index(21)).unwrap();
    let rest = drain(&mut again);
    let all: Vec<u64> = indexes(&first).into_iter().chain(indexes(&rest)).collect();
    assert_eq!(all, (1..=42).collect::<Vec<_>>());
    write_much_and_flush(&db);
    let statistics = db.statistics();
    assert_eq!(statistics.log_pinned, Some(Index(42)));
    assert!(statistics.log_first_index <= Index(42));
    assert!(statistics.log_bytes < 200_000, "{statistics:?}");
    // An idle keyspace pins nothing.
    drop((feed, again));
    write_much_and_flush(&db);
    write_much_and_flush(&db);
    let statistics = db.statistics();
    assert_eq!((statistics.subscribers, statistics.log_pinned), (0, None));
    assert!(statistics.log_first_index > Index(42));
    assert!(statistics.log_bytes < 100_000);
    let purged = db.subscribe(Index(43)).map(drop);
    let first = statistics.log_first_index;
    assert!(
        matches!(&purged, Err(Error::Purged { asked: Index(43), first: f }) if *f == first),
        "{purged:?}"
    );
    assert_eq!(db.subscribe(Index(0)).unwrap().next().unwrap().index, first);
}

#[test]
fn a_slow_subscriber_holds_no_more_than_the_limit_and_is_told() {
    let machine = Machine::new(1);
    let limit = |options: Options| options.log_retained_bytes_max(200 << 10);
    let db = limit(machine.options()).open().unwrap();
    let mut slow = db.subscribe(Index(1)).unwrap();
    let mut half = db.subscribe(Index(1)).unwrap();
    put(&db, "first", 10, Durability::Disk);
    write_much_and_flush(&db);
    half.next().unwrap();
    for _ in 0..10 {
        write_much_and_flush(&db);
        assert!(db.statistics().log_bytes <= 200 << 10);
    }
    let first = db.statistics().log_first_index;
    assert!(first > Index(10));
    for _ in 0..2 {
        let purged = slow.next();
        assert!(
            matches!(&purged, Err(Error::Purged { asked: Index(1), first: f }) if *f == first),
            "{purged:?}"
        );
    }
    // One that fell behind while it read has its file open, and meets the gap behind that.
    let shown = std::iter::from_fn(|| half.next().ok()).count() as u64;
    assert_eq!(shown, 4);
    let asked = half.next_index();
    let purged = half.next();
    assert!(
        matches!(&purged, Err(Error::Purged { asked: a, first: f }) if (*a, *f) == (asked, first)),
        "{purged:?}"
    );
    // A pin that holds nothing any more holds nothing up.
    assert_eq!(db.statistics().log_pinned, None);
}

/// The file that a reader begins in, so as to meet its first record, may be purged before it gets there.
#[test]
fn a_file_that_would_be_read_in_vain_is_not_missed() {
    let machine = Machine::new(1);
    let options = machine.options().log_file_bytes(100_000);
    let db = options.open().unwrap();
    for bytes in [70_000, 10, 90_000] {
        put(&db, "key", bytes, Durability::Disk);
    }
    let mut feed = db.subscribe(Index(3)).unwrap();
    db.flush().unwrap();
    assert_eq!(db.statistics().log_first_index, Index(3));
    assert_eq!(indexes(&drain(&mut feed)), [3]);
}

#[test]
fn log_is_kept_for_those_who_may_come() {
    let machine = Machine::new(1);
    let options = machine.options().log_retained_bytes_min(300 << 10);
    let db = options.open().unwrap();
    for _ in 0..20 {
        write_much_and_flush(&db);
    }
    let bytes = db.statistics().log_bytes;
    assert!(((200 << 10)..=(300 << 10)).contains(&bytes), "{bytes}");
    db.close().unwrap();
    // What is merely kept is no reason to flush after an open.
    let options = machine.options().log_retained_bytes_min(300 << 10);
    let db = options.open().unwrap();
    for n in 0..4 {
        put(&db, "key", n, Durability::Disk);
    }
    assert_eq!(db.statistics().generations_waiting, 0);
    let refused = machine
        .options()
        .log_retained_bytes_min(2)
        .log_retained_bytes_max(1)
        .validate();
    assert!(matches!(refused, Err(Error::InvalidOption { .. })));
}

/// With every sync point of it: rotation, prepared files, identifiers, purge, replay.
#[test]
fn a_subscriber_beside_all_jobs_misses_nothing() {
    let machine = Machine::new(7);
    let db = machine.options().open().unwrap();
    let mut feed = db.subscribe(Index(1)).unwrap();
    let (mut seen, mut written) = (0, 0);
    for round in 0..60 {
        let durability = [Durability::Buffered, Durability::Process, Durability::Disk][round % 3];
        for n in 0..round % 7 {
            put(&db, "key", 3_000 * n, durability);
            written += 1;
        }
        let jobs = Job::ALL;
        db.step(jobs[round % jobs.len()]).unwrap();
        if round % 5 == 0 {
            db.flush().unwrap();
        }
        for _ in 0..round % 4 {
            if let Some(record) = feed.try_next().unwrap() {
                seen += 1;
                assert_eq!(record.index, Index(seen));
            }
        }
    }
    seen += drain(&mut feed).len() as u64;
    assert_eq!(seen, written);
}

/// From the files alone: what has left the writer's process, made durable by whoever shows it.
#[test]
fn a_follower_beside_all_jobs_misses_nothing() {
    let machine = Machine::new(7);
    let db = machine.options().open().unwrap();
    let mut feed = machine.options().follow(Index(1)).unwrap();
    assert_eq!(feed.try_next().unwrap(), None);
    let mut written = 0;
    for round in 0..100 {
        let durability = [Durability::Process, Durability::Disk][round % 2];
        for n in 0..round % 7 {
            put(&db, "key", 3_000 * n, durability);
            written += 1;
        }
        if round % 3 == 0 {
            db.step(Job::ALL[round % Job::ALL.len()]).unwrap();
        }
        if round % 25 == 0 {
            // A file of its own.
            put(&db, "key", 100_000, Durability::Disk);
            written += 1;
        }
        while feed.try_next().unwrap().is_some() {}
        assert_eq!(feed.next_index(), Index(written + 1));
        let machine = machine.rebooted(machine.memory.crash(round as u64, TearUnit::Page));
        if round % 10 == 0 {
            let db = machine.options().open().unwrap();
            assert_eq!(db.last_index(), Index(written));
        }
    }
    db.flush().unwrap();
    let first = db.statistics().log_first_index;
    assert!(first > Index(2));
    let purged = machine.options().follow(Index(2)).map(drop);
    assert!(matches!(purged, Err(Error::Purged { asked: Index(2), first: f }) if f == first));
    let oldest = machine.options().follow(Index(0)).unwrap();
    assert_eq!(oldest.next_index(), first);
    let beyond = machine.options().follow(Index(written + 2)).map(drop);
    assert!(matches!(beyond, Err(Error::NotYetWritten { .. })));
    // The store is closed and opened again: the same follower goes on.
    db.close().unwrap();
    assert_eq!(feed.try_next().unwrap(), None);
    let db = machine.options().open().unwrap();
    assert_eq!(feed.try_next().unwrap(), None);
    put(&db, "after", 10, Durability::Buffered);
    assert_eq!(feed.try_next().unwrap(), None);
    db.sync().unwrap();
    let after = feed.try_next().unwrap().unwrap();
    assert_eq!(after.index, Index(written + 1));
}

#[test]
fn a_follower_that_is_too_slow_is_told() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    put(&db, "first", 10, Durability::Disk);
    let mut feed = machine.options().follow(Index(1)).unwrap();
    feed.try_next().unwrap().unwrap();
    for _ in 0..4 {
        write_much_and_flush(&db);
    }
    // What is in the file that it has open it still gets.
    let shown = std::iter::from_fn(|| feed.try_next().ok().flatten()).count();
    assert!(shown <= 5, "{shown}");
    let (asked, first) = (feed.next_index(), db.statistics().log_first_index);
    for _ in 0..2 {
        let purged = feed.try_next();
        assert!(
            matches!(&purged, Err(Error::Purged { asked: a, first: f }) if (*a, *f) == (asked, first)),
            "{purged:?}"
        );
    }
}

/// Each operation of the disk fails once: the reader is told, tries again, and misses nothing.
#[test]
fn a_failing_disk_costs_a_reader_nothing_but_time() {
    for is_follower in [false, true] {
        let mut failed = 0;
        for n in 1.. {
            let machine = Machine::new(1);
            let db = machine.options().open().unwrap();
            for bytes in [10, 30_000, 20_000, 30_000, 10, 50_000, 3] {
                put(&db, "key", bytes, Durability::Process);
            }
            let mut subscription = db.subscribe(Index(1)).unwrap();
            let mut follower = machine.options().follow(Index(1)).unwrap();
            put(&db, "last", 60_000, Durability::Process);
            machine.faults.inject(Fault::once(n, FaultKind::Io));
            let (mut next, mut errors) = (1, 0);
            loop {
                let read = match is_follower {
                    true => follower.try_next(),
                    false => subscription.try_next(),
                };
                match read {
                    Ok(Some(record)) => {
                        assert_eq!(record.index, Index(next));
                        next += 1;
                    }
                    Ok(None) => break,
                    Err(Error::Poisoned { .. }) if !is_follower => {
                        // It was its sync: what it has shown is there, and the rest isn't promised.
                        let machine = machine.rebooted(machine.memory.crash(n, TearUnit::Page));
                        let db = machine.options().open().unwrap();
                        assert!(db.last_index() >= Index(next - 1));
                        next = 9;
                        errors += 1;
                        break;
                    }
                    Err(error) => {
                        assert!(matches!(error, Error::Io { .. }), "{error:?}");
                        errors += 1;
                    }
                }
            }
            assert_eq!(next, 9);
            assert!(errors <= 1);
            failed += errors;
            if machine.faults.faults_hit() == 0 {
                break;
            }
        }
        assert!(failed > 5, "{failed}");
    }
}

/// What a map is after all of a feed.
fn apply(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, record: &FeedRecord) {
    for change in &record.changes {
        match change {
            FeedChange::Put { key, value, .. } => {
                map.insert(key.to_vec(), value.to_vec());
            }
            FeedChange::Delete { key, .. } => {
                map.remove(&key[..]);
            }
            FeedChange::DeleteRange { from, to, .. } => {
                map.retain(|key, _| {
                    key[..] < from[..] || to.as_ref().is_some_and(|to| key[..] >= to[..])
                });
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn two_subscribers_beside_many_writers_see_the_same() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 400;
    let folder = tempfile::tempdir().unwrap();
    let db = Options::new(folder.path())
        .write_buffer_bytes(64 << 10)
        .log_file_bytes(64 << 10)
        .open()
        .unwrap();
    let read = |mut feed: Subscription| {
        move || {
            let mut all = Vec::new();
            loop {
                match feed.next() {
                    Ok(record) => all.push(record),
                    Err(Error::Closed) => return all,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    let one = thread::spawn(read(db.subscribe(Index(1)).unwrap()));
    let other = thread::spawn(read(db.subscribe(Index(1)).unwrap()));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let db = &db;
            scope.spawn(move || {
                for n in 0..EACH {
                    let mut batch = WriteBatch::new();
                    let key = format!("{}", n * 7 % 50);
                    match (n + writer) % 9 {
                        0 => batch.delete(key),
                        1 => batch.delete_range(key.clone()..format!("{key}5")),
                        _ => batch.put(key, format!("{writer} {n} {}", "x".repeat(200))),
                    };
                    let durability = match n % 40 {
                        0 => Durability::Disk,
                        n if n % 2 == 0 => Durability::Process,
                        _ => Durability::Buffered,
                    };
                    db.write_with(batch, durability).unwrap();
                }
            });
        }
    });
    let content: BTreeMap<_, _> = db
        .range(..)
        .unwrap()
        .map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())))
        .collect::<Result<_, _>>()
        .unwrap();
    db.close().unwrap();
    let (one, other) = (one.join().unwrap(), other.join().unwrap());
    assert!(one == other);
    let counted: Vec<u64> = (1..=WRITERS * EACH).collect();
    assert_eq!(indexes(&one), counted);
    let mut map = BTreeMap::new();
    one.iter().for_each(|record| apply(&mut map, record));
    assert!(map == content);
}

/// Each write is met by a reader that waits for it, whatever the two threads do meanwhile.
#[test]
fn nobody_waits_for_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(folder.path()).durability(Durability::Process);
    let db = options.open().unwrap();
    for round in 0..200 {
        let next = db.last_index().next();
        let mut feed = db.subscribe(next).unwrap();
        let writer = thread::spawn({
            let db = db.clone();
            move || db.put("key", "value")
        });
        if round % 2 == 0 {
            assert_eq!(feed.next().unwrap().index, next);
        } else {
            let found = feed.next_timeout(Duration::from_secs(600)).unwrap();
            assert_eq!(found.map(|record| record.index), Some(next));
        }
        writer.join().unwrap().unwrap();
        assert_eq!(feed.next_timeout(Duration::ZERO).unwrap(), None);
    }
}

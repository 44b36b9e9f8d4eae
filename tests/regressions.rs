//! One small test for each fault that a campaign has found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

#[path = "regressions/lifecycle.rs"]
mod lifecycle;
#[path = "regressions/others.rs"]
mod others;
#[path = "regressions/ranges.rs"]
mod ranges;
mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kintsu::testing::{Fault, FaultKind, OperationKind, TearUnit};
use kintsu::{Durability, Error, Job, Options, WriteBatch};

use support::store::Machine;

/// The log refused limits that the store's options allow, after the store had been created.
#[test]
fn a_store_opens_with_every_option_at_either_end() {
    let ends: [(&str, fn(Options) -> Options); 16] = [
        ("log file", |o| o.log_file_bytes(64 << 10)),
        ("log file", |o| o.log_file_bytes(2 << 30)),
        ("log before flush", |o| o.log_bytes_before_flush(64 << 10)),
        ("log before flush", |o| o.log_bytes_before_flush(1 << 40)),
        ("log buffer", |o| o.log_buffer_bytes(0)),
        ("log buffer", |o| o.log_buffer_bytes(64 << 20)),
        ("identifier delay", |o| o.identifier_delay(Duration::ZERO)),
        ("identifier delay", |o| {
            o.identifier_delay(Duration::from_secs(10))
        }),
        ("block", |o| o.block_bytes(256)),
        ("block", |o| o.block_bytes(1 << 20)),
        ("filter", |o| o.filter_bits_per_key(0)),
        ("filter", |o| o.filter_bits_per_key(64)),
        ("segment", |o| o.segment_bytes(4 << 10)),
        ("segment", |o| o.segment_bytes(16 << 30)),
        ("write buffer", |o| o.write_buffer_bytes(64 << 10)),
        ("write buffer", |o| o.write_buffer_bytes(4 << 30)),
    ];
    for (name, tune) in ends {
        let machine = Machine::new(1);
        let db = tune(machine.options()).open();
        let db = db.unwrap_or_else(|error| panic!("{name}: {error}"));
        for durability in [Durability::Buffered, Durability::Process, Durability::Disk] {
            let mut batch = WriteBatch::new();
            batch.put("key", vec![1; 1000]);
            db.write_with(batch, durability).unwrap();
        }
        db.flush().unwrap();
        db.close().unwrap();
        let db = tune(machine.options()).open().unwrap();
        assert!(db.contains("key").unwrap());
    }
}

/// A latched store went on to compact, on a disk that can't be believed any more.
#[test]
fn a_latched_store_compacts_no_more() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    for _ in 0..3 {
        db.put("key", vec![1; 100]).unwrap();
        db.flush().unwrap();
    }
    let sync = Fault::once(1, FaultKind::Io).only(&[OperationKind::SyncData]);
    machine.faults.inject(sync);
    let failed = db.put("key", "lost?");
    assert!(
        matches!(failed, Err(Error::OutcomeUnknown { .. })),
        "{failed:?}"
    );
    let changes = machine.faults.changes();
    let compacted = db.step(Job::Compact);
    assert!(
        matches!(compacted, Err(Error::Poisoned { .. })),
        "{compacted:?}"
    );
    assert_eq!(machine.faults.changes(), changes);
}

/// What an open had found in the folder without its being durable (the sync of the folder had failed
/// before) made it remove segments that the manifest, after a loss of power, still named.
#[test]
fn an_open_removes_nothing_before_its_manifest_is_durable() {
    let mut compactions_failed = 0;
    for n in 1..6 {
        let machine = Machine::new(n);
        let db = machine.options().open().unwrap();
        for value in [b"old", b"new"] {
            db.put("key", value).unwrap();
            db.flush().unwrap();
        }
        db.close().unwrap();
        // Compaction publishes a new generation of the manifest, and its names get lost.
        let db = machine.options().open().unwrap();
        let sync = Fault::once(n, FaultKind::Io).only(&[OperationKind::SyncDir]);
        machine.faults.inject(sync);
        let compacted = db.step(Job::Compact);
        drop(db);
        machine.faults.clear_faults();
        compactions_failed += u64::from(matches!(compacted, Err(Error::OutcomeUnknown { .. })));
        let db = machine.options().open().unwrap();
        while db.step(Job::Reclaim).unwrap() {}
        for seed in 0..10 {
            let machine = machine.rebooted(machine.memory.crash(seed, TearUnit::Page));
            let db = machine.options().open().unwrap();
            assert_eq!(db.get("key").unwrap().as_deref(), Some(&b"new"[..]));
        }
    }
    assert!(compactions_failed > 0);
}

/// A lock that was let go of by closing its file alone was still held by whatever child another thread
/// was just starting, until that child ran its program.
#[test]
fn a_closed_store_can_be_opened_while_children_are_started() {
    let folder = tempfile::tempdir().unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let busy = || !done.load(std::sync::atomic::Ordering::Acquire);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while busy() {
                let mut child = std::process::Command::new("true").spawn().unwrap();
                child.wait().unwrap();
            }
        });
        for round in 0..60 {
            let opened = Options::new(folder.path()).log_file_bytes(64 << 10).open();
            if let Err(error) = opened {
                done.store(true, std::sync::atomic::Ordering::Release);
                panic!("round {round}: {error}");
            }
        }
        done.store(true, std::sync::atomic::Ordering::Release);
    });
}

/// The first write after an open looked for a log file that a flush had purged before it.
#[test]
fn the_first_write_after_a_flush_that_purged_the_log() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    for _ in 0..3 {
        db.put("key", vec![1; 30_000]).unwrap();
    }
    let machine = machine.rebooted(machine.memory.kill());
    drop(db);
    let db = machine.options().open().unwrap();
    db.flush().unwrap();
    db.put("key", "value").unwrap();
}

fn log_files(machine: &Machine) -> usize {
    let names = machine.files().into_iter().map(|(name, _)| name);
    names.filter(|name| name.ends_with(".log")).count()
}

/// A file that a crash left between its making and its being noted was refused by the manifest with all
/// others that the purge wanted to remove; the log then grew for ever.
#[test]
fn a_log_file_that_was_never_noted_does_not_stop_the_purge() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    db.put("key", "value").unwrap();
    drop(db);
    let newest = machine.files().into_iter().map(|(name, _)| name);
    let newest = newest.filter(|name| name.ends_with(".log")).max().unwrap();
    let number: u64 = newest.split('.').next().unwrap().parse().unwrap();
    let stray = support::store::path(&format!("{:08}.log", number + 1));
    assert!(machine.memory.write_file(&stray, []));
    let db = machine.options().open().unwrap();
    for n in 0..20 {
        db.put(format!("{n}"), vec![1; 30_000]).unwrap();
        db.flush().unwrap();
    }
    assert!(machine.memory.read_file(&stray).is_none(), "still there");
    assert!(log_files(&machine) < 4, "{} log files", log_files(&machine));
}

/// Counting on from a number that somebody else put into a name came to the end of all numbers.
#[test]
fn names_with_the_highest_numbers_are_left_alone() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    db.put("key", "value").unwrap();
    db.close().unwrap();
    let strays = [
        "9223372036854775807.log",
        "18446744073709551615.segment",
        "9223372036854775808.segment",
    ];
    for name in strays {
        assert!(machine.memory.write_file(support::store::path(name), []));
    }
    for round in 0..3 {
        let db = machine.options().open().unwrap();
        assert_eq!(db.range(..).unwrap().count(), 1 + 10 * round);
        for n in 0..10 {
            db.put(format!("{round}-{n}"), vec![1; 20_000]).unwrap();
        }
        if round == 1 {
            db.flush().unwrap();
            while db.step(Job::Compact).unwrap() {}
        }
        drop(db);
    }
    let db = machine.options().open().unwrap();
    assert_eq!(db.range(..).unwrap().count(), 31);
}

/// The first keyspace with a damaged segment kept all others from being compacted, and in the end
/// everybody from writing.
#[test]
fn damage_in_one_keyspace_leaves_the_others_at_work() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    let broken = db.create_keyspace("a").unwrap();
    let whole = db.create_keyspace("b").unwrap();
    broken.put("key", vec![7; 900]).unwrap();
    db.flush().unwrap();
    let segment = machine.files().into_iter().map(|(name, _)| name);
    let segment = segment
        .filter(|name| name.ends_with(".segment"))
        .max()
        .unwrap();
    // In the block.
    assert!(
        machine
            .memory
            .flip_bit(support::store::path(&segment), 90, 3)
    );
    for n in 0..40_u32 {
        broken.put("key", n.to_be_bytes()).unwrap();
        whole.put(format!("{n}"), n.to_be_bytes()).unwrap();
        db.flush().unwrap();
        while db.step(Job::Compact).unwrap() {}
    }
    assert_eq!(whole.range(..).unwrap().count(), 40);
    let statistics = db.statistics();
    let of = |name: &str| {
        statistics
            .keyspaces
            .iter()
            .find(|k| k.name == name)
            .unwrap()
    };
    assert!(of("b").level_segments[0] < 4);
    // What is lost is fenced, and the damaged one goes on as well.
    assert!(of("a").level_segments[0] < 4);
    assert_eq!(of("a").lost_ranges, 1);
    assert_eq!(
        broken.get("key").unwrap().as_deref(),
        Some(&39_u32.to_be_bytes()[..])
    );
}

/// Each try of a flush that met a full disk left the segments behind that it had built before.
#[test]
fn a_flush_that_fails_leaves_nothing_behind() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    for name in ["a", "b", "c"] {
        let keyspace = db.create_keyspace(name).unwrap();
        keyspace.put("key", vec![7; 900]).unwrap();
    }
    for round in 0..5 {
        // The third segment doesn't fit.
        let full = Fault::once(3, FaultKind::NoSpace).only(&[OperationKind::Create]);
        machine.faults.inject(full);
        let flushed = db.flush();
        assert!(
            matches!(flushed, Err(Error::NoSpace { .. })),
            "{round}: {flushed:?}"
        );
        machine.faults.clear_faults();
        while db.step(Job::Reclaim).unwrap() {}
        let names = machine.files().into_iter().map(|(name, _)| name);
        let left: Vec<String> = names.filter(|name| name.contains("segment")).collect();
        assert_eq!(left, [""; 0], "{round}");
    }
    db.flush().unwrap();
    assert_eq!(db.keyspace("c").unwrap().range(..).unwrap().count(), 1);
}

/// Compaction dropped what had expired by the time of a record that was visible and not yet durable; the
/// power failed, the record was gone, and by the time before it the value should have been there.
#[test]
fn nothing_expires_for_good_by_a_time_that_can_be_taken_back() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    db.put_expiring("key", "value", Duration::from_millis(20))
        .unwrap();
    db.flush().unwrap();
    db.put("other", "value").unwrap();
    db.flush().unwrap();
    machine.clock.advance(Duration::from_millis(30));
    let mut batch = WriteBatch::new();
    batch.put("later", "value");
    db.write_with(batch, Durability::Buffered).unwrap();
    assert!(!db.contains("key").unwrap());
    while db.step(Job::Compact).unwrap() {}
    let machine = machine.rebooted(machine.memory.crash(1, TearUnit::Page));
    let db = machine.options().open().unwrap();
    assert!(!db.contains("later").unwrap());
    assert!(db.contains("key").unwrap());
}

/// The statistics kept a lock while they asked for another one, which writers that wait for a flush take the
/// other way round: both waited for ever, and then everybody.
#[test]
fn statistics_beside_writers_that_wait_for_a_flush() {
    let folder = tempfile::tempdir().unwrap();
    let db = Options::new(folder.path())
        .write_buffer_bytes(64 << 10)
        .durability(Durability::Buffered)
        .open()
        .unwrap();
    let writing = AtomicBool::new(true);
    let looks = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while writing.load(Ordering::Acquire) {
                assert!(db.statistics().generations_waiting < 4);
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        for n in 0..150_u32 {
            db.put(n.to_be_bytes(), vec![7; 40_000]).unwrap();
        }
        writing.store(false, Ordering::Release);
    });
    assert!(looks.into_inner() > 0);
}

/// A segment that was superseded while somebody read it stayed on the disk, after its last reader had gone,
/// until something else gave the jobs work.
#[test]
fn the_last_reader_gives_the_space_back() {
    let folder = tempfile::tempdir().unwrap();
    let db = Options::new(folder.path()).open().unwrap();
    db.put("key", vec![7; 10_000]).unwrap();
    db.flush().unwrap();
    let mut range = db.range(..).unwrap();
    db.delete("key").unwrap();
    db.compact_range(..).unwrap();
    // Its first step takes it to the tables as they are.
    assert!(db.statistics().superseded_bytes > 0);
    assert!(range.next().unwrap().is_ok());
    drop(range);
    for _ in 0..1_000 {
        if db.statistics().superseded_bytes == 0 {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    panic!("{:?}", db.statistics());
}

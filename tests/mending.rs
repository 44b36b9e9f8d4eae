//! Damage in segments that have parity: reads go on as if nothing were, and the files are written anew as they
//! were, while the store is in use.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use kintsu::testing::{Fault, FaultKind, MemoryVfs, TearUnit};
use kintsu::{Background, Db, Error, Job, Options, Parity};

use support::noise::{key, value};
use support::store::{FOLDER, Machine, path};

const KEYS: u64 = 3_000;

fn options(machine: &Machine) -> Options {
    let options = machine.options().parity(Parity::Standard);
    let options = options.segment_bytes(64 << 10).block_bytes(1024);
    options
        .write_buffer_bytes(1 << 20)
        .log_bytes_before_flush(8 << 20)
}

/// A store with all of its keys in segments.
fn filled(seed: u64) -> Machine {
    let machine = Machine::new(seed);
    let db = options(&machine).open().unwrap();
    for number in 0..KEYS {
        db.put(key(number), value(number)).unwrap();
    }
    db.flush().unwrap();
    db.close().unwrap();
    machine
}

#[track_caller]
fn assert_whole(db: &Db) {
    for number in 0..KEYS {
        let found = db.get(key(number)).unwrap();
        assert_eq!(found.as_deref(), Some(&value(number)[..]));
    }
    assert_eq!(db.range(..).unwrap().count() as u64, KEYS);
}

fn segments(memory: &MemoryVfs) -> Vec<String> {
    let names = memory.file_names(FOLDER).into_iter();
    names.filter(|name| name.ends_with(".segment")).collect()
}

fn largest(memory: &MemoryVfs) -> String {
    let names = segments(memory).into_iter();
    let largest = names.max_by_key(|name| memory.file_bytes(path(name)));
    largest.unwrap()
}

/// One block of a segment, zeroed.
fn lose(memory: &MemoryVfs, name: &str, block: usize) {
    let mut bytes = memory.read_file(path(name)).unwrap();
    let end = ((block + 1) * 4096).min(bytes.len());
    bytes[block * 4096..end].fill(0);
    memory.write_file(path(name), &bytes);
}

#[test]
fn every_block_of_every_segment_is_mended_in_use() {
    let machine = filled(1);
    let names = segments(&machine.memory);
    let mut mended = 0;
    for name in &names {
        let whole = machine.memory.read_file(path(name)).unwrap();
        for block in 0..whole.len().div_ceil(4096) {
            let memory = machine.memory.fork();
            let machine = machine.rebooted(memory.clone());
            lose(&memory, name, block);
            let db = options(&machine).open().unwrap();
            assert_whole(&db);
            while db.step(Job::Mend).unwrap() {}
            let statistics = db.statistics();
            assert_eq!(statistics.damaged_segments, 0);
            if statistics.mended_segments == 1 {
                mended += 1;
                assert!(statistics.healed_blocks >= 1);
                assert!(memory.read_file(path(name)).unwrap() == whole);
                let kept = format!("{FOLDER}/quarantine/{name}.1");
                assert!(memory.read_file(kept).unwrap() != whole);
                assert_whole(&db);
                assert_eq!(db.statistics().healed_blocks, statistics.healed_blocks);
            }
            db.close().unwrap();
            let again = options(&machine).open().unwrap();
            assert_whole(&again);
        }
    }
    // Nobody needs the header, or the parity, in order to read.
    assert!(mended > 50, "{mended}");
}

#[test]
fn a_store_that_mends_by_itself_needs_no_asking() {
    let machine = filled(2);
    let name = &largest(&machine.memory);
    let whole = machine.memory.read_file(path(name)).unwrap();
    lose(&machine.memory, name, 1);
    let db = options(&machine)
        .background(Background::Threads)
        .open()
        .unwrap();
    assert_whole(&db);
    for _ in 0..3_000 {
        if db.statistics().mended_segments > 0 {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    let statistics = db.statistics();
    assert_eq!(statistics.mended_segments, 1);
    assert!(statistics.healed_blocks >= 1);
    assert!(machine.memory.read_file(path(name)).unwrap() == whole);
    assert_whole(&db);
}

#[test]
fn without_parity_damage_is_refused_as_ever() {
    let machine = Machine::new(3);
    let db = machine.options().open().unwrap();
    for number in 0..KEYS {
        db.put(key(number), value(number)).unwrap();
    }
    db.flush().unwrap();
    db.close().unwrap();
    let largest = largest(&machine.memory);
    machine.memory.flip_bit(path(&largest), 2_000, 1);
    let db = machine.options().open().unwrap();
    let refused = (0..KEYS).filter(|number| {
        let found = db.get(key(*number));
        match found {
            Ok(found) => {
                assert_eq!(found.as_deref(), Some(&value(*number)[..]));
                false
            }
            Err(Error::Damaged(_)) => true,
            Err(other) => panic!("{other}"),
        }
    });
    assert!(refused.count() > 0);
}

/// A store with one lost block, and what the file was.
fn damaged(seed: u64) -> (Machine, String, Vec<u8>) {
    let machine = filled(seed);
    let name = largest(&machine.memory);
    let whole = machine.memory.read_file(path(&name)).unwrap();
    machine.memory.overwrite(path(&name), 3 * 4096, [0; 4096]);
    (machine, name, whole)
}

/// Opens, reads everything and mends; the store may be gone in the middle of it.
fn mend(machine: &Machine) -> kintsu::Result<()> {
    let db = options(machine).open()?;
    for number in 0..KEYS {
        assert_eq!(db.get(key(number))?.as_deref(), Some(&value(number)[..]));
    }
    db.mend()?;
    db.close()
}

#[test]
fn the_power_fails_at_every_change_of_a_mending() {
    let (damaged, name, whole) = damaged(4);
    for changes in 0.. {
        let memory = damaged.memory.fork();
        let machine = damaged.rebooted(memory.clone());
        machine.faults.crash_after_changes(changes);
        let outcome = mend(&machine);
        if !machine.faults.crashed() {
            outcome.unwrap();
            assert!(changes > 5, "{changes}");
            assert!(memory.read_file(path(&name)).unwrap() == whole);
            break;
        }
        for unit in [TearUnit::Sector, TearUnit::Page] {
            let machine = damaged.rebooted(memory.crash(changes, unit));
            mend(&machine).unwrap();
            assert!(machine.memory.read_file(path(&name)).unwrap() == whole);
            let left = machine.memory.file_names(FOLDER).into_iter();
            let left: Vec<_> = left.filter(|name| name.ends_with(".tmp")).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

#[test]
fn every_operation_of_a_mending_fails_once() {
    let (damaged, name, whole) = damaged(5);
    for kind in [FaultKind::Io, FaultKind::IoAfter, FaultKind::NoSpace] {
        let mut failed = 0;
        for n in 1.. {
            let memory = damaged.memory.fork();
            let machine = damaged.rebooted(memory.clone());
            let db = options(&machine).open().unwrap();
            assert_whole(&db);
            machine.faults.inject(Fault::once(n, kind));
            let outcome = db.mend();
            let hit = machine.faults.faults_hit() > 0;
            failed += u64::from(outcome.is_err());
            // Whatever it was, reads go on.
            assert_whole(&db);
            machine.faults.clear_faults();
            drop(db);
            let machine = damaged.rebooted(memory.kill());
            mend(&machine).unwrap();
            assert!(machine.memory.read_file(path(&name)).unwrap() == whole);
            if !hit {
                break;
            }
        }
        assert!(failed > 0, "{kind:?}");
    }
}

/// What was loaded and isn't flushed yet stays where it stands among older and newer tables.
#[test]
fn what_is_newer_than_a_mended_load_is_not_hidden_by_it() {
    let machine = Machine::new(6);
    let db = options(&machine).open().unwrap();
    let mut load = db.bulk_load().unwrap();
    for number in 0..KEYS {
        load.add(key(number), value(number)).unwrap();
    }
    load.commit().unwrap();
    let name = largest(&machine.memory);
    let whole = machine.memory.read_file(path(&name)).unwrap();
    machine.memory.overwrite(path(&name), 3 * 4096, [0; 4096]);
    assert_whole(&db);
    assert_eq!(db.mend().unwrap(), 1);
    assert!(machine.memory.read_file(path(&name)).unwrap() == whole);
    db.flush().unwrap();
    for number in 0..KEYS {
        db.put(key(number), b"newer").unwrap();
    }
    db.flush().unwrap();
    for number in 0..KEYS {
        let found = db.get(key(number)).unwrap();
        assert_eq!(found.as_deref(), Some(&b"newer"[..]));
    }
    while db.step(Job::Compact).unwrap() {}
    assert!(
        db.range(..)
            .unwrap()
            .all(|item| item.unwrap().1 == b"newer"[..])
    );
}

/// More lost than there is parity for: said by name, and what is left is written anew.
#[test]
fn what_can_not_be_mended_is_said() {
    let (machine, name, _) = damaged(7);
    let db = options(&machine).open().unwrap();
    assert_whole(&db);
    // Meanwhile most of the rest goes as well.
    let bytes = machine.memory.file_bytes(path(&name)).unwrap();
    machine
        .memory
        .overwrite(path(&name), 5 * 4096, vec![0; bytes as usize]);
    assert_eq!(db.mend().unwrap(), 0);
    let statistics = db.statistics();
    assert_eq!(
        (statistics.damaged_segments, statistics.mended_segments),
        (0, 0)
    );
    let lost: Vec<_> = db
        .lost_ranges()
        .into_iter()
        .map(|lost| lost.damage)
        .collect();
    assert_eq!(statistics.keyspaces[0].lost_ranges, lost.len());
    let told = (0..KEYS).filter(|number| match db.get(key(*number)) {
        Ok(found) => {
            assert_eq!(found.as_deref(), Some(&value(*number)[..]));
            true
        }
        Err(Error::Damaged(damage)) => {
            assert!(lost.contains(&damage[0]), "{damage:?}");
            false
        }
        Err(other) => panic!("{other}"),
    });
    assert!(told.count() > 0);
}

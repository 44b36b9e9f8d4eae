//! Bugs that others have had, each with a test by its name. `mutants/` has a patch for each that brings it into
//! this code, on which its test turns red.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kintsu::testing::{Fault, FaultKind, MemoryVfs, OperationKind, TearUnit};
use kintsu::{Db, Durability, Error, Job, Parity, WriteBatch};

use crate::support::noise::{key, value};
use crate::support::store::{FOLDER, Machine, path};

fn put(db: &Db, number: u64, durability: Durability) -> kintsu::Result<()> {
    let mut batch = WriteBatch::new();
    batch.put(key(number), value(number));
    db.write_with(batch, durability)
}

fn put_long(db: &Db, number: u64, bytes: usize) {
    db.put(key(number), vec![number as u8; bytes]).unwrap();
}

/// The keys from 0 on that are there: no gap, and each with its value.
fn count(db: &Db) -> u64 {
    let found = db.range(..).unwrap().map(Result::unwrap);
    let mut count = 0;
    for (number, (found, of)) in (0..).zip(found) {
        assert_eq!(found, key(number).as_bytes());
        assert_eq!(of, value(number));
        count += 1;
    }
    count
}

fn open(machine: &Machine) -> Db {
    machine.options().open().expect("the open")
}

/// Whatever the power leaves of the disk, `check` holds.
fn after_each_power_loss(machine: &Machine, check: impl Fn(&Machine)) {
    for seed in 0..60 {
        for unit in [TearUnit::Sector, TearUnit::Page] {
            check(&machine.rebooted(machine.memory.crash(seed, unit)));
        }
    }
}

fn log(number: u64) -> String {
    path(&format!("{number:08}.log"))
}

/// Where the record with this number in its file begins.
fn record(memory: &MemoryVfs, number: usize) -> usize {
    let bytes = memory.read_file(log(1)).unwrap();
    let at = |offset: usize| u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap());
    let first = at(64);
    let begins = |offset: &usize| at(offset + 8) == first + *offset as u64;
    (4096..bytes.len() - 40).filter(begins).nth(number).unwrap()
}

/// Five durable records, each a group; the identifiers of none are durable yet.
fn five() -> Machine {
    let machine = Machine::new(50);
    let db = open(&machine);
    for number in 0..5 {
        put(&db, number, Durability::Disk).unwrap();
    }
    machine.rebooted(machine.memory.kill())
}

fn refused_as_damaged(machine: &Machine) {
    let refused = machine.options().open().err();
    let is_named = matches!(&refused, Some(Error::Damaged(damage))
        if damage.iter().any(|damage| damage.path.ends_with("00000001.log")));
    assert!(is_named, "{refused:?}");
}

#[test]
fn etcd_6368_a_new_log_file_keeps_its_name() {
    let machine = Machine::new(51);
    let db = open(&machine);
    for number in 0..5 {
        put_long(&db, number, 30_000);
        after_each_power_loss(&machine, |machine| {
            let found = open(machine).range(..).unwrap().count() as u64;
            assert_eq!(found, number + 1);
        });
    }
}

#[test]
fn etcd_11488_a_torn_tail_is_no_reason_not_to_open() {
    let machine = five();
    let last = record(&machine.memory, 4);
    assert!(machine.memory.overwrite(log(1), last as u64, [0; 300]));
    assert_eq!(count(&open(&machine)), 4);
}

#[test]
fn etcd_14098_zeros_are_not_the_end_of_the_log() {
    let machine = five();
    let second = record(&machine.memory, 1);
    assert!(machine.memory.overwrite(log(1), second as u64, [0; 40]));
    refused_as_damaged(&machine);
}

#[test]
fn badger_613_fjall_68_pebble_453_damage_does_not_end_the_log() {
    let machine = Machine::new(52);
    let db = open(&machine);
    for number in 0..5 {
        put(&db, number, Durability::Disk).unwrap();
    }
    machine.clock.advance(std::time::Duration::from_millis(20));
    while db.step(Job::SyncIdentifiers).unwrap() {}
    for number in 0..5 {
        let machine = machine.rebooted(machine.memory.kill());
        let at = record(&machine.memory, number) as u64 + 60;
        assert!(machine.memory.flip_bit(log(1), at, 3));
        match machine.options().open() {
            Ok(db) => assert_eq!(count(&db), 5),
            Err(error) => assert!(matches!(error, Error::Damaged(_)), "{error:?}"),
        }
    }
}

#[test]
fn fjall_68_a_header_that_is_too_long_is_no_panic() {
    let machine = five();
    let mut bytes = machine.memory.read_file(log(1)).unwrap();
    let at = bytes.len() - 60;
    let first = u64::from_le_bytes(bytes[64..72].try_into().unwrap());
    bytes[at + 8..at + 16].copy_from_slice(&(first + at as u64).to_le_bytes());
    bytes[at + 32] = 0xff;
    machine.memory.write_file(log(1), &bytes);
    let opened = catch_unwind(AssertUnwindSafe(|| machine.options().open()));
    match opened.expect("no panic") {
        Ok(db) => assert_eq!(count(&db), 5),
        Err(error) => assert!(matches!(error, Error::Damaged(_)), "{error:?}"),
    }
}

#[test]
fn bbolt_562_nothing_is_named_before_it_is_durable() {
    let machine = Machine::new(53);
    let db = open(&machine);
    for number in 0..40 {
        put(&db, number, Durability::Disk).unwrap();
    }
    db.flush().unwrap();
    after_each_power_loss(&machine, |machine| assert_eq!(count(&open(machine)), 40));
}

#[test]
fn redb_620_writes_resume_once_there_is_room() {
    let machine = Machine::new(54);
    let db = open(&machine);
    let mut pages = 0;
    let number = (0..).find(|number| {
        pages += 1;
        machine.memory.set_capacity(Some(pages * 4096));
        let full = db.put(key(*number), vec![7; 20_000]);
        matches!(full, Err(Error::NoSpace { .. }))
    });
    machine.memory.set_capacity(None);
    db.put(key(number.unwrap()), b"there is room").unwrap();
    let last = db.last_index();
    drop(db);
    let machine = machine.rebooted(machine.memory.kill());
    assert_eq!(open(&machine).last_index(), last);
}

#[test]
fn raft_engine_344_a_full_disk_is_no_reason_not_to_open() {
    let machine = five();
    let large = 1 << 40;
    machine.memory.set_capacity(Some(large));
    let used = large - machine.memory.bytes_free().unwrap();
    machine.memory.set_capacity(Some(used));
    let db = open(&machine);
    assert_eq!(count(&db), 5);
    assert!(matches!(
        put(&db, 5, Durability::Disk),
        Err(Error::NoSpace { .. })
    ));
    machine.memory.set_capacity(None);
    put(&db, 5, Durability::Disk).unwrap();
    assert_eq!(count(&db), 6);
}

/// A store with parity of which more is lost than that makes up for.
fn beyond_parity() -> (Machine, String) {
    let machine = Machine::new(55);
    let options = || machine.options().parity(Parity::Standard);
    let options = options().segment_bytes(256 << 10);
    let options = options.write_buffer_bytes(1 << 20);
    let db = options.log_bytes_before_flush(8 << 20).open().unwrap();
    for number in 0..1_000 {
        db.put(key(number), value(number)).unwrap();
    }
    db.flush().unwrap();
    db.close().unwrap();
    let mut names = machine.memory.file_names(FOLDER).into_iter();
    let name = path(&names.rfind(|name| name.ends_with(".segment")).unwrap());
    let bytes = machine.memory.file_bytes(&name).unwrap();
    assert!(bytes > 20 * 4096);
    let lost = vec![0xa5; 12 * 4096];
    assert!(machine.memory.overwrite(&name, 4096, lost));
    (machine, name)
}

#[test]
fn redb_1290_damage_gets_no_fresh_checksum() {
    let (machine, _) = beyond_parity();
    // As it was found, and as mending, fencing and another open have left it: what is lost stays refused.
    for _ in 0..3 {
        let db = open(&machine);
        assert_eq!(db.scrub().unwrap().mended, 0);
        let _ = db.mend();
        let mut refused = 0;
        for number in 0..1_000 {
            match db.get(key(number)) {
                Ok(found) => assert_eq!(found.as_deref(), Some(&value(number)[..])),
                Err(error) => {
                    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 0);
    }
}

#[test]
fn redb_1333_repair_of_what_can_not_be_repaired_is_no_panic() {
    let (machine, _) = beyond_parity();
    let db = open(&machine);
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let read = db.range(..).unwrap().any(|item| item.is_err());
        let report = db.scrub().unwrap();
        let mended = report.mended + db.mend().unwrap_or(0);
        (read, mended)
    }));
    assert_eq!(tried.expect("no panic"), (true, 0));
}

#[test]
fn sled_1533_a_process_that_is_stopped_loses_nothing() {
    let machine = Machine::new(56);
    let db = open(&machine);
    for number in 0..9 {
        put(&db, number, Durability::Process).unwrap();
        let killed = machine.rebooted(machine.memory.kill());
        assert_eq!(count(&open(&killed)), number + 1);
    }
}

#[test]
fn rocksdb_6288_6963_a_read_error_is_not_the_end_of_the_log() {
    for n in 1.. {
        let machine = five();
        let fault = Fault::for_good(n, FaultKind::Io).only(&[OperationKind::Read]);
        machine.faults.inject(fault.on(".log"));
        match machine.options().open() {
            Ok(db) => assert_eq!(count(&db), 5),
            Err(error) => assert!(
                matches!(error, Error::Io { .. } | Error::Damaged(_)),
                "{error:?}"
            ),
        }
        if machine.faults.faults_hit() == 0 {
            break;
        }
    }
}

#[test]
fn pebble_871_a_log_that_was_closed_says_so() {
    let machine = five();
    let db = open(&machine);
    put(&db, 5, Durability::Disk).unwrap();
    db.close().unwrap();
    let machine = machine.rebooted(machine.memory.kill());
    let db = open(&machine);
    assert!(db.recovery_report().closed_cleanly);
    assert_eq!(count(&db), 6);
}

#[test]
fn raft_engine_288_a_rewrite_that_is_interrupted_loses_nothing() {
    let before = five();
    for changes in 0.. {
        let machine = before.rebooted(before.memory.fork());
        machine.faults.crash_after_changes(changes);
        // The first write after an open begins a new generation of the manifest.
        let opened = machine.options().open();
        let written = opened.and_then(|db| put(&db, 5, Durability::Disk));
        if !machine.faults.crashed() {
            written.unwrap();
            break;
        }
        for seed in 0..10 {
            let machine = machine.rebooted(machine.memory.crash(seed, TearUnit::Sector));
            assert!(count(&open(&machine)) >= 5);
        }
    }
}

#[test]
fn leveldb_1287_a_torn_log_is_not_appended_to() {
    let machine = five();
    let last = record(&machine.memory, 4) as u64;
    assert!(machine.memory.flip_bit(log(1), last + 60, 3));
    let db = open(&machine);
    assert_eq!(count(&db), 4);
    let torn = machine.memory.read_file(log(1)).unwrap();
    for number in 4..8 {
        put(&db, number, Durability::Disk).unwrap();
    }
    assert!(machine.memory.read_file(log(1)).unwrap() == torn);
    after_each_power_loss(&machine, |machine| assert_eq!(count(&open(machine)), 8));
}

#[test]
fn canonical_raft_320_no_index_is_given_twice() {
    for kind in [FaultKind::Io, FaultKind::IoAfter, FaultKind::ShortWrite] {
        let machine = Machine::new(57);
        let db = open(&machine);
        for number in 0..3 {
            put(&db, number, Durability::Disk).unwrap();
        }
        let last = db.last_index();
        let fault = Fault::once(1, kind).only(&[OperationKind::Write]);
        machine.faults.inject(fault.on(".log"));
        let failed = put(&db, 3, Durability::Disk);
        assert!(
            matches!(failed, Err(Error::OutcomeUnknown { .. })),
            "{failed:?}"
        );
        let next = put(&db, 9, Durability::Disk);
        assert!(matches!(next, Err(Error::Poisoned { .. })), "{next:?}");
        assert_eq!(db.last_index(), last);
        drop(db);
        let machine = machine.rebooted(machine.memory.kill());
        assert!((3..=4).contains(&count(&open(&machine))));
    }
}

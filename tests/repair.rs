//! Repair: what it lists is what it does, what it gives up is kept as evidence, and a crash in the middle changes
//! nothing about where it ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use std::collections::BTreeMap;

use kintsu::testing::{MemoryVfs, TearUnit};
use kintsu::{Db, Error, Options, Parity, RepairMode, RepairReport, Severity, repair, verify};

use support::noise::{key, value};
use support::store::{FOLDER, Machine, files, path};

const KEYS: u64 = 300;

fn options(machine: &Machine) -> Options {
    let options = machine.options().parity(Parity::Standard);
    options
        .write_buffer_bytes(1 << 20)
        .log_bytes_before_flush(8 << 20)
}

/// Keys 0 to 299 in segments; keys 300 to 499 in the log alone.
fn filled() -> Machine {
    let machine = Machine::new(9);
    let db = options(&machine).open().unwrap();
    for number in 0..KEYS {
        db.put(key(number), value(number)).unwrap();
        if number % 100 == 99 {
            db.flush().unwrap();
        }
    }
    for number in KEYS..KEYS + 200 {
        db.put(key(number), value(number)).unwrap();
    }
    db.sync().unwrap();
    machine.rebooted(machine.memory.kill())
}

fn content(machine: &Machine) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let db: Db = options(machine).open().unwrap();
    let all = db.range(..).unwrap().map(|pair| {
        let (key, value) = pair.unwrap();
        (key.to_vec(), value.to_vec())
    });
    let all = all.collect();
    db.close().unwrap();
    all
}

fn named(memory: &MemoryVfs, end: &str) -> Vec<String> {
    let mut names = memory.file_names(FOLDER);
    names.retain(|name| name.ends_with(end));
    names.sort();
    names
}

type Hurt = fn(&MemoryVfs);

fn overwrite(memory: &MemoryVfs, name: &str, offset: u64, bytes: usize) {
    assert!(memory.overwrite(path(name), offset, vec![0xa5; bytes]));
}

/// What is done to the store, and how bad that is.
const LOSSES: [(&str, Hurt); 5] = [
    ("blocks of a segment", |disk| {
        overwrite(disk, &named(disk, ".segment")[1], 600, 9_000);
    }),
    ("a segment's index, footer and parity", |disk| {
        let name = &named(disk, ".segment")[0];
        let bytes = disk.file_bytes(path(name)).unwrap();
        overwrite(disk, name, bytes / 2, (bytes / 2) as usize);
    }),
    ("a segment", |disk| {
        assert!(disk.remove_file(path(&named(disk, ".segment")[2])));
    }),
    ("records in the middle of the log", |disk| {
        // No segment has these.
        let needle = key(KEYS + 90).into_bytes();
        let place = named(disk, ".log").into_iter().find_map(|name| {
            let bytes = disk.read_file(path(&name)).unwrap();
            let at = bytes.windows(needle.len()).position(|at| at == needle);
            at.map(|at| (name, at as u64))
        });
        let (name, at) = place.unwrap();
        // Parity would make up for it.
        disk.remove_file(path(&name.replace(".log", ".parity")));
        overwrite(disk, &name, at, 400);
    }),
    ("a segment and log", |disk| {
        LOSSES[1].1(disk);
        LOSSES[3].1(disk);
    }),
];

fn names_key(report: &RepairReport, key: &[u8]) -> bool {
    report.lost.iter().any(|lost| {
        let above = lost.from.as_deref().is_none_or(|from| from <= key);
        above && lost.to.as_deref().is_none_or(|to| key <= to)
    })
}

/// Gives up what is lost, and looks at what is left.
fn give_up(machine: &Machine, what: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let report = repair(options(machine), RepairMode::AcceptLoss);
    let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(report.severity, Severity::Whole, "{what}: {report:#?}");
    let verified = verify(options(machine), |_| {}).unwrap();
    assert_eq!(verified.severity, Severity::Whole, "{what}: {verified:#?}");
    content(machine)
}

#[test]
fn what_is_lost_is_listed_then_given_up_and_the_rest_is_there() {
    for (what, hurt) in LOSSES {
        let whole = filled();
        hurt(&whole.memory);
        let before = files(&whole.memory);
        let listed = repair(options(&whole), RepairMode::List).unwrap();
        assert!(
            listed.severity >= Severity::Damaged && !listed.lost.is_empty(),
            "{what}"
        );
        assert_eq!(
            files(&whole.memory),
            before,
            "{what}: a list changes nothing"
        );
        let left = give_up(&whole, what);
        let evidence = whole.memory.file_names(format!("{FOLDER}/quarantine"));
        assert_eq!(
            evidence.is_empty(),
            what == "a segment",
            "{what}: {evidence:?}"
        );
        for number in 0..KEYS + 200 {
            let key = key(number).into_bytes();
            match left.get(&key) {
                Some(found) => assert_eq!(found, &value(number), "{what}"),
                None => assert!(names_key(&listed, &key), "{what}: {number} went silently"),
            }
        }
        assert!(left.len() as u64 > KEYS / 2, "{what}: {}", left.len());
        assert!((left.len() as u64) < KEYS + 200, "{what}");
        let told = kintsu::repairs(&options(&whole)).unwrap();
        assert!(
            told.repairs.iter().any(|r| r.what.contains("given up")),
            "{told:?}"
        );
        // And it is a store like any other.
        let db = options(&whole).open().unwrap();
        db.put("new", "value").unwrap();
        db.close().unwrap();
        assert_eq!(content(&whole).get(&b"new"[..]).unwrap(), b"value");
    }
}

#[test]
fn without_leave_nothing_is_given_up() {
    for (what, hurt) in LOSSES {
        let whole = filled();
        hurt(&whole.memory);
        let report = repair(options(&whole), RepairMode::Mend).unwrap();
        assert!(
            report.severity >= Severity::Damaged && !report.lost.is_empty(),
            "{what}"
        );
        // What can be opened refuses what it has lost.
        if report.severity == Severity::Damaged {
            let db = options(&whole).open().unwrap();
            let reads = (0..KEYS + 200).map(|number| db.get(key(number)));
            assert!(reads.filter_map(Result::err).count() > 0, "{what}");
            db.close().unwrap();
        }
    }
}

#[test]
fn what_can_be_mended_is_and_nothing_is_lost() {
    let whole = filled();
    let intact: Vec<_> = files(&whole.memory);
    let segment = named(&whole.memory, ".segment")[0].clone();
    overwrite(&whole.memory, &segment, 300, 50);
    overwrite(&whole.memory, &named(&whole.memory, ".b")[0], 4_096, 50);
    let listed = repair(options(&whole), RepairMode::List).unwrap();
    assert_eq!(
        (listed.severity, listed.lost.len()),
        (Severity::Mendable, 0)
    );
    let report = repair(options(&whole), RepairMode::Mend).unwrap();
    assert_eq!(report.severity, Severity::Whole, "{report:#?}");
    assert!(report.mended >= 2, "{report:#?}");
    let bytes = whole.memory.read_file(path(&segment)).unwrap();
    assert!(intact.contains(&(segment, bytes)));
    assert_eq!(content(&whole).len() as u64, KEYS + 200);
}

#[test]
fn a_manifest_that_can_not_be_read_is_refused() {
    let whole = filled();
    for end in [".a", ".b"] {
        overwrite(&whole.memory, &named(&whole.memory, end)[0], 4_096, 50);
    }
    for mode in [RepairMode::List, RepairMode::AcceptLoss] {
        let refused = repair(options(&whole), mode);
        assert!(matches!(refused, Err(Error::Damaged(_))), "{refused:?}");
    }
}

#[test]
fn beside_a_writer_it_is_refused() {
    let whole = filled();
    LOSSES[0].1(&whole.memory);
    let db = options(&whole).open().unwrap();
    let refused = repair(options(&whole), RepairMode::AcceptLoss);
    assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
    db.close().unwrap();
}

/// Power is lost at each operation in turn, and in the repair after that once more.
#[test]
fn campaign_a_crash_anywhere_ends_in_the_same_store() {
    for (what, hurt) in LOSSES {
        let whole = filled();
        hurt(&whole.memory);
        let start = whole.memory.fork();
        let expected = give_up(&whole.rebooted(start.fork()), what);
        let mut crashes = 0;
        for at in (0..).step_by(3) {
            let machine = whole.rebooted(start.fork());
            machine.faults.crash_after_changes(at);
            let ended = repair(options(&machine), RepairMode::AcceptLoss);
            if ended.is_ok() {
                break;
            }
            crashes += 1;
            let memory = machine.memory.crash(at, TearUnit::Sector);
            let machine = whole.rebooted(memory);
            machine.faults.crash_after_changes(at / 2 + 7);
            let _ = repair(options(&machine), RepairMode::AcceptLoss);
            let memory = machine.memory.crash(at + 1, TearUnit::Sector);
            let left = give_up(&whole.rebooted(memory), &format!("{what}, crash at {at}"));
            assert_eq!(left, expected, "{what}, crash at {at}");
        }
        println!("repair of {what}: {crashes} crashes, twice each");
        assert!(crashes > 10, "{crashes}");
    }
}

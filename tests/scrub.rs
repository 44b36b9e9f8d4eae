//! Damage that nobody has met: the scrubber finds it, and has it mended while the store is in use.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use kintsu::testing::{Fault, FaultKind, MemoryVfs, TearUnit};
use kintsu::{
    Db, Error, Job, Options, Parity, RepairMeans, RepairOutcome, Repository, RestorePoint,
};

use support::noise::{key, value};
use support::store::{FOLDER, Machine, path};

const KEYS: u64 = 600;

fn options(machine: &Machine) -> Options {
    let options = machine.options().parity(Parity::Standard);
    let options = options.segment_bytes(16 << 10).block_bytes(512);
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
        if number % 150 == 149 {
            db.flush().unwrap();
        }
    }
    db.close().unwrap();
    machine
}

#[track_caller]
fn assert_whole(db: &Db) {
    for number in 0..KEYS {
        let found = db.get(key(number)).unwrap();
        assert_eq!(found.as_deref(), Some(&value(number)[..]));
    }
}

fn files(memory: &MemoryVfs, end: &str) -> Vec<PathBuf> {
    let names = memory.file_names(FOLDER).into_iter();
    names
        .filter(|name| name.ends_with(end))
        .map(|name| path(&name).into())
        .collect()
}

#[test]
fn a_whole_store_is_whole() {
    let machine = filled(1);
    let db = options(&machine).open().unwrap();
    for number in 0..10 {
        db.put(key(number), value(number)).unwrap();
    }
    let report = db.scrub().unwrap();
    let segments = files(&machine.memory, ".segment");
    assert!(segments.len() > 3);
    assert_eq!(report.segments, segments.len() as u64);
    assert_eq!(report.records, 10);
    let bytes = segments
        .iter()
        .map(|s| machine.memory.file_bytes(s).unwrap());
    assert!(report.bytes > bytes.sum());
    assert_eq!((report.damage.len(), report.mended), (0, 0));
    assert!(db.repairs().unwrap().repairs.is_empty());
    assert!(machine.memory.file_bytes(path("kintsu.repairs")).is_none());
}

/// Header, blocks, index, footer, parity, its tables and the tail.
#[test]
fn any_bad_unit_of_a_cold_segment_is_found_and_mended() {
    let machine = filled(2);
    let db = options(&machine).open().unwrap();
    let segment = files(&machine.memory, ".segment").remove(0);
    let whole = machine.memory.read_file(&segment).unwrap();
    let units = whole.len().div_ceil(4096);
    for unit in 0..units {
        let begin = unit * 4096;
        let end = whole.len().min(begin + 4096);
        let garbage = vec![0xa5; end - begin];
        machine.memory.overwrite(&segment, begin as u64, garbage);
        let report = db.scrub().unwrap();
        assert_eq!(report.mended, 1, "unit {unit}");
        assert!(!report.damage.is_empty());
        assert!(
            report
                .damage
                .iter()
                .all(|d| d.path.ends_with(segment.file_name().unwrap()))
        );
        let now = machine.memory.read_file(&segment).unwrap();
        assert!(now == whole, "unit {unit}");
        let repairs = db.repairs().unwrap().repairs;
        let last = &repairs[unit];
        assert_eq!(repairs.len(), unit + 1);
        assert_eq!(
            (last.outcome, last.means),
            (RepairOutcome::Mended, RepairMeans::Parity)
        );
        assert!(segment.ends_with(&last.file));
        if !last.places.is_empty() {
            assert_eq!(last.places, [(begin as u64, 4096)]);
        }
    }
    assert_whole(&db);
    assert_eq!(db.scrub().unwrap().damage.len(), 0);
}

#[test]
fn a_segment_that_lost_its_name_gets_it_again() {
    let machine = filled(3);
    let db = options(&machine).open().unwrap();
    let segment = files(&machine.memory, ".segment").remove(1);
    let whole = machine.memory.read_file(&segment).unwrap();
    assert!(machine.memory.remove_file(&segment));
    let report = db.scrub().unwrap();
    assert_eq!(report.mended, 1, "{report:?}");
    assert!(machine.memory.read_file(&segment).unwrap() == whole);
    assert_whole(&db);
    db.close().unwrap();
    assert_whole(&options(&machine).open().unwrap());
}

#[test]
fn what_is_beyond_parity_is_told_and_all_else_goes_on() {
    let machine = filled(4);
    let db = options(&machine).open().unwrap();
    let segments = files(&machine.memory, ".segment");
    let bytes = machine.memory.file_bytes(&segments[0]).unwrap() as usize;
    machine
        .memory
        .overwrite(&segments[0], 4096, vec![0; bytes - 8192]);
    machine.memory.overwrite(&segments[1], 4096, vec![0; 4096]);
    let report = db.scrub().unwrap();
    assert_eq!(report.mended, 1);
    let lost = |d: &&kintsu::Damage| d.path == segments[0];
    assert!(report.damage.iter().find(lost).is_some());
    let repairs = db.repairs().unwrap().repairs;
    let outcomes: Vec<_> = repairs.iter().map(|r| r.outcome).collect();
    assert!(outcomes.contains(&RepairOutcome::Lost) && outcomes.contains(&RepairOutcome::Mended));
    assert_eq!(db.statistics().damaged_segments, 0);
    assert_eq!(db.statistics().keyspaces[0].lost_ranges, 1);
    db.put("more", "writes").unwrap();
}

#[test]
fn a_damaged_copy_of_the_manifest_is_written_anew() {
    let machine = filled(5);
    let db = options(&machine).open().unwrap();
    db.put("a", "generation begins").unwrap();
    db.flush().unwrap();
    for side in [".a", ".b", "both"] {
        let copies = match side {
            "both" => [files(&machine.memory, ".a"), files(&machine.memory, ".b")].concat(),
            side => files(&machine.memory, side),
        };
        for copy in &copies {
            machine.memory.overwrite(copy, 4_100, [0x5a; 64]);
        }
        let report = db.scrub().unwrap();
        assert!(!report.damage.is_empty(), "{side}");
        assert_eq!(report.mended, 1);
        let repair = db.repairs().unwrap().repairs.pop().unwrap();
        assert_eq!(
            (repair.outcome, repair.means),
            (RepairOutcome::Mended, RepairMeans::Memory)
        );
        assert_eq!(db.scrub().unwrap().damage.len(), 0);
    }
    db.close().unwrap();
    let db = options(&machine).open().unwrap();
    assert_eq!(db.recovery_report().damage, []);
    assert_whole(&db);
}

/// A crash could have left it so; a running store knows better.
#[test]
fn an_edit_that_is_gone_from_a_copy_is_missed() {
    let machine = filled(11);
    let db = options(&machine).open().unwrap();
    for _ in 0..2 {
        db.put("a", "generation, and an edit in it").unwrap();
        db.flush().unwrap();
    }
    for sides in [&[".b"][..], &[".a", ".b"]] {
        db.put("another", "edit").unwrap();
        db.flush().unwrap();
        for side in sides {
            let copy = files(&machine.memory, side).pop().unwrap();
            let bytes = machine.memory.read_file(&copy).unwrap();
            let last = bytes
                .chunks(4096)
                .rposition(|unit| unit.iter().any(|b| *b != 0));
            let offset = last.unwrap() as u64 * 4096;
            machine.memory.overwrite(&copy, offset, [0; 4096]);
        }
        let report = db.scrub().unwrap();
        assert_eq!((report.damage.len(), report.mended), (1, 1), "{sides:?}");
        assert_eq!(db.scrub().unwrap().damage, []);
    }
    db.close().unwrap();
    assert_whole(&options(&machine).open().unwrap());
}

#[test]
fn log_that_rots_under_a_running_store_costs_nothing() {
    let machine = filled(6);
    let db = options(&machine).open().unwrap();
    for number in 0..20 {
        db.put(format!("new {number}"), value(number)).unwrap();
    }
    let place_in = |log: &PathBuf| {
        let bytes = machine.memory.read_file(log).unwrap();
        bytes.windows(6).position(|part| part == b"new 10")
    };
    let mut logs = files(&machine.memory, ".log").into_iter();
    let found = logs.find_map(|log| place_in(&log).map(|place| (log, place)));
    let (log, place) = found.unwrap();
    assert!(machine.memory.flip_bit(&log, place as u64, 3));
    let report = db.scrub().unwrap();
    assert_eq!((report.damage.len(), report.mended), (1, 1), "{report:?}");
    let repair = db.repairs().unwrap().repairs.pop().unwrap();
    assert_eq!(
        (repair.outcome, repair.means),
        (RepairOutcome::Mended, RepairMeans::Memory)
    );
    assert_eq!(db.scrub().unwrap().damage.len(), 0);
    drop(db);
    // As if the power had gone: the log alone couldn't tell.
    let machine = machine.rebooted(machine.memory.crash(1, TearUnit::Sector));
    let db = options(&machine).open().unwrap();
    for number in 0..20 {
        let found = db.get(format!("new {number}")).unwrap();
        assert_eq!(found.as_deref(), Some(&value(number)[..]));
    }
}

#[test]
fn either_copy_of_the_lineage_is_written_anew() {
    let machine = filled(7);
    let db = options(&machine).open().unwrap();
    db.backup_to("repository").unwrap();
    db.close().unwrap();
    let target = machine.options_at("restored");
    let repository = Repository::new("repository").on_disk_of(&target);
    repository.restore(target, RestorePoint::Newest).unwrap();
    let db = machine.options_at("restored").open().unwrap();
    for name in ["lineage", "lineage.copy"] {
        let copy = PathBuf::from("restored").join(name);
        let whole = machine.memory.read_file(&copy).unwrap();
        machine.memory.flip_bit(&copy, 20, 1);
        assert_eq!(db.scrub().unwrap().mended, 1);
        assert_eq!(machine.memory.read_file(&copy).unwrap(), whole);
        machine.memory.remove_file(&copy);
        assert_eq!(db.scrub().unwrap().mended, 1);
        assert_eq!(machine.memory.read_file(&copy).unwrap(), whole);
    }
    assert_eq!(db.scrub().unwrap().damage, []);
    assert_eq!(db.repairs().unwrap().repairs.len(), 4);
}

/// The parity's tables, which no read needs.
#[test]
fn a_backup_has_what_it_copies_mended_first() {
    let machine = filled(10);
    let db = options(&machine).open().unwrap();
    let segments = files(&machine.memory, ".segment");
    for segment in &segments[..2] {
        let bytes = machine.memory.file_bytes(segment).unwrap();
        machine.memory.overwrite(segment, bytes - 30, [0; 8]);
    }
    let report = db.backup_to("repository").unwrap();
    assert_eq!(report.segments_copied, segments.len() as u64);
    assert_eq!(db.statistics().mended_segments, 2);
    assert_eq!(db.scrub().unwrap().damage, []);
    // Beyond parity.
    db.put("more", "to copy").unwrap();
    db.flush().unwrap();
    let newest = files(&machine.memory, ".segment").pop().unwrap();
    let bytes = machine.memory.file_bytes(&newest).unwrap();
    machine
        .memory
        .overwrite(&newest, 0, vec![0; bytes as usize]);
    assert!(matches!(db.backup_to("repository"), Err(Error::Damaged(_))));
    // What is lost is known by then, and what is left can be copied.
    assert_eq!(db.lost_ranges().len(), 1);
    db.backup_to("repository").unwrap();
}

#[test]
fn it_comes_when_it_is_due_and_goes_on_where_it_was() {
    let machine = filled(8);
    let every = Duration::from_secs(3600);
    let open = || options(&machine).scrub_every(every).open().unwrap();
    let mut db = open();
    assert!(!db.step(Job::Scrub).unwrap());
    machine.clock.advance(every);
    let segments = files(&machine.memory, ".segment").len() as u64;
    let mut total = 0;
    for step in 1..=segments {
        assert!(db.step(Job::Scrub).unwrap());
        let status = db.statistics().scrub;
        assert!(status.started_us.is_some());
        assert!(status.bytes_done > 0 && status.bytes_done <= status.bytes_total);
        assert!(total == 0 || status.bytes_total == total);
        total = status.bytes_total;
        if step == segments / 2 {
            db.close().unwrap();
            db = open();
            assert_eq!(db.statistics().scrub.bytes_total, total);
        }
    }
    assert_eq!(db.statistics().scrub.bytes_done, total);
    // The log and the small copies.
    assert!(db.step(Job::Scrub).unwrap());
    assert!(!db.step(Job::Scrub).unwrap());
    let status = db.statistics().scrub;
    assert_eq!((status.started_us, status.bytes_done), (None, 0));
    assert!(status.finished_us.is_some());
    assert_eq!(status.report.segments, segments - segments / 2);
    db.close().unwrap();
    let db = open();
    assert!(!db.step(Job::Scrub).unwrap());
    machine.clock.advance(every);
    // What was written since is for the round after.
    db.put("new", "value").unwrap();
    assert!(db.step(Job::Scrub).unwrap());
    db.flush().unwrap();
    let mut steps = 1;
    while db.step(Job::Scrub).unwrap() {
        steps += 1;
    }
    assert_eq!(steps, segments + 1);
    assert!(
        !options(&machine)
            .scrub_every(None)
            .read_only(true)
            .open()
            .unwrap()
            .step(Job::Scrub)
            .unwrap()
    );
}

#[test]
fn any_operation_may_fail_and_the_next_round_finds_all() {
    let base = filled(9);
    let segment = files(&base.memory, ".segment").remove(0);
    let whole = base.memory.read_file(&segment).unwrap();
    for kind in [FaultKind::Io, FaultKind::IoAfter, FaultKind::NoSpace] {
        let mut failed = 0;
        for n in 1.. {
            let machine = base.rebooted(base.memory.fork());
            let db = options(&machine).open().unwrap();
            machine.memory.overwrite(&segment, 8192, [0; 4096]);
            machine.faults.inject(Fault::once(n, kind));
            let outcome = db.scrub();
            let hit = machine.faults.faults_hit() > 0;
            machine.faults.clear_faults();
            let has_failed = outcome.is_ok_and(|report| !report.failures.is_empty());
            failed += u64::from(has_failed);
            assert_whole(&db);
            if db.statistics().latched.is_none() {
                db.scrub().unwrap();
                assert!(machine.memory.read_file(&segment).unwrap() == whole, "{n}");
                assert!(db.scrub().unwrap().damage.is_empty());
            }
            drop(db);
            assert_whole(&options(&machine).open().unwrap());
            if !hit {
                break;
            }
        }
        assert!(failed > 0, "{kind:?}");
    }
}

//! Damage in log files that have parity: the store opens as if nothing were, all of it is there, and the files are
//! written anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use kintsu::testing::{Fault, FaultKind, MemoryVfs, OperationKind, TearUnit};
use kintsu::{
    Db, Error, Index, Job, Options, Parity, RecoveryReport, RepairMeans, RepairOutcome, Repository,
    RestorePoint, Subscription,
};

use support::noise::{key, value};
use support::store::{FOLDER, Machine, path};

const KEYS: u64 = 2_000;
const UNIT: u64 = 4096;

/// All of it in the log, in several files.
fn options(machine: &Machine) -> Options {
    let options = machine.options().parity(Parity::Standard);
    let options = options.segment_bytes(64 << 10).block_bytes(1024);
    options
        .write_buffer_bytes(1 << 20)
        .log_file_bytes(128 << 10)
        .log_bytes_before_flush(8 << 20)
}

/// A store whose process died, and which had all of its keys in the log.
fn filled(seed: u64) -> Machine {
    let machine = Machine::new(seed);
    let db = options(&machine).open().unwrap();
    fill(&db, 0);
    drop(db);
    machine.rebooted(machine.memory.crash(seed, TearUnit::Page))
}

fn reopened(machine: &Machine) -> (Db, RecoveryReport) {
    let db = options(machine).open().unwrap();
    let report = db.recovery_report().clone();
    (db, report)
}

fn fill(db: &Db, from: u64) {
    for number in from..from + KEYS {
        db.put(key(number), value(number)).unwrap();
        if number % 50 == 49 {
            db.step(Job::SyncIdentifiers).unwrap();
        }
    }
    db.step(Job::SyncIdentifiers).unwrap();
}

#[track_caller]
fn assert_whole(db: &Db) {
    for number in 0..KEYS {
        let found = db.get(key(number)).unwrap();
        assert_eq!(found.as_deref(), Some(&value(number)[..]));
    }
}

fn logs(memory: &MemoryVfs) -> Vec<String> {
    let names = memory.file_names(FOLDER).into_iter();
    names.filter(|name| name.ends_with(".log")).collect()
}

fn lose(memory: &MemoryVfs, name: &str, unit: u64, with: u8) {
    let bytes = vec![with; UNIT as usize];
    assert!(memory.overwrite(path(name), unit * UNIT, bytes));
}

#[test]
fn a_log_that_is_read_at_an_open_is_mended_after_it() {
    let machine = filled(1);
    let names = logs(&machine.memory);
    assert!(names.len() > 2, "{names:?}");
    let name = &names[0];
    let whole = machine.memory.read_file(path(name)).unwrap();
    for unit in 0..whole.len() as u64 / UNIT - 1 {
        let memory = machine.memory.fork();
        let machine = machine.rebooted(memory.clone());
        lose(&memory, name, unit, 0x77);
        let before = machine.files();
        let (db, report) = reopened(&machine);
        assert_eq!(report.healed_blocks, 1, "unit {unit}");
        assert_eq!(machine.files(), before, "an open has written");
        assert_whole(&db);
        assert_eq!(db.statistics().healed_blocks, 1);
        assert_eq!(db.statistics().damaged_log_files, 1);
        while db.step(Job::Mend).unwrap() {}
        let statistics = db.statistics();
        assert_eq!(statistics.mended_log_files, 1);
        assert_eq!(statistics.damaged_log_files, 0);
        assert!(memory.read_file(path(name)).unwrap() == whole);
        let kept = format!("{FOLDER}/quarantine/{name}.1");
        assert!(memory.read_file(kept).unwrap() != whole);
        let repairs = db.repairs().unwrap().repairs;
        let repair = repairs.last().unwrap();
        assert_eq!(
            (repair.outcome, repair.means, &repair.file),
            (RepairOutcome::Mended, RepairMeans::Parity, name)
        );
        assert_eq!(repair.places, [(unit * UNIT, UNIT)]);
        drop(db);
        let (db, report) = reopened(&machine);
        assert_eq!((report.healed_blocks, report.damage.len()), (0, 0));
        assert_whole(&db);
    }
}

#[test]
fn verify_and_salvage_and_readers_beside_see_what_parity_has() {
    let machine = filled(2);
    let name = &logs(&machine.memory)[1];
    lose(&machine.memory, name, 7, 0);
    assert!(machine.memory.wear_out(path(name), 9 * UNIT, UNIT));
    let before = machine.memory.file_names(FOLDER);
    let report = kintsu::verify(options(&machine), |_| {}).unwrap();
    assert_eq!(report.records, KEYS);
    let offsets: Vec<u64> = report.damage.iter().map(|damage| damage.offset).collect();
    assert_eq!(offsets, [7 * UNIT, 9 * UNIT], "{:?}", report.damage);
    assert!(
        report
            .damage
            .iter()
            .all(|damage| damage.path.ends_with(name))
    );
    assert_eq!(machine.memory.file_names(FOLDER), before);
    assert_whole(&options(&machine).read_only(true).open().unwrap());
    let target = machine.options_at("salvaged");
    let salvaged = kintsu::salvage(options(&machine), target).unwrap();
    assert!(salvaged.damage.iter().all(|d| d.what.contains("makes up")));
    assert_whole(&machine.options_at("salvaged").open().unwrap());
}

#[test]
fn a_store_with_a_damaged_log_opens_with_a_full_disk() {
    let machine = filled(3);
    lose(&machine.memory, &logs(&machine.memory)[0], 5, 1);
    machine.memory.set_capacity(Some(0));
    let db = options(&machine).open().unwrap();
    assert_whole(&db);
    assert!(matches!(db.step(Job::Mend), Err(Error::NoSpace { .. })));
    assert_eq!(db.statistics().damaged_log_files, 1);
    machine.memory.set_capacity(None);
    while db.step(Job::Mend).unwrap() {}
    assert_eq!(db.statistics().damaged_log_files, 0);
}

/// Until there is nothing more.
fn drain(feed: &mut Subscription) -> u64 {
    std::iter::from_fn(|| feed.try_next().unwrap()).count() as u64
}

#[test]
fn log_that_is_kept_for_feeds_alone_is_healed_and_scrubbed() {
    let machine = Machine::new(4);
    let kept = |machine: &Machine| {
        let options = options(machine).log_bytes_before_flush(64 << 10);
        options
            .log_retained_bytes_min(64 << 20)
            .log_retained_bytes_max(128 << 20)
    };
    let db = kept(&machine).open().unwrap();
    fill(&db, 0);
    db.flush().unwrap();
    let names = logs(&machine.memory);
    assert!(names.len() > 2, "{names:?}");
    let whole = machine.memory.read_file(path(&names[0])).unwrap();
    // Nobody has read it yet.
    lose(&machine.memory, &names[0], 4, 9);
    let report = db.scrub().unwrap();
    assert_eq!((report.damage.len(), report.mended), (1, 1), "{report:?}");
    assert!(machine.memory.read_file(path(&names[0])).unwrap() == whole);
    // A feed reads it first, and can't be kept waiting.
    lose(&machine.memory, &names[1], 4, 9);
    assert!(machine.memory.wear_out(path(&names[0]), 3 * UNIT, 8 * UNIT));
    let mut feed = db.subscribe(Index(1)).unwrap();
    assert_eq!(drain(&mut feed), KEYS);
    assert_eq!(db.statistics().damaged_log_files, 2);
    while db.step(Job::Mend).unwrap() {}
    assert_eq!(db.statistics().mended_log_files, 3);
    assert_eq!(db.scrub().unwrap().damage, []);
    drop(feed);
    // The parity rots as well.
    let parity = names[0].replace(".log", ".parity");
    let good = machine.memory.read_file(path(&parity)).unwrap();
    for unit in 0..good.len() as u64 / UNIT {
        lose(&machine.memory, &parity, unit, 0x21);
        let report = db.scrub().unwrap();
        assert_eq!(
            (report.damage.len(), report.mended),
            (1, 1),
            "{unit}: {report:?}"
        );
        assert!(machine.memory.read_file(path(&parity)).unwrap() == good);
    }
    // What is beyond it is said, once nobody needs the file to open the store.
    for unit in 3..20 {
        lose(&machine.memory, &names[0], unit, 1);
    }
    let report = db.scrub().unwrap();
    assert_eq!((report.damage.len(), report.mended), (17, 0), "{report:?}");
    let mut feed = db.subscribe(Index(1)).unwrap();
    let met = loop {
        match feed.try_next() {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(met, Err(Error::Damaged(_))), "{met:?}");
}

#[test]
fn the_archive_reads_a_damaged_log_and_heals_in_its_own() {
    let machine = Machine::new(5);
    let archiving = |machine: &Machine| options(machine).archive_to("repository");
    let db = archiving(&machine).open().unwrap();
    db.backup_to("repository").unwrap();
    fill(&db, 0);
    let names = logs(&machine.memory);
    lose(&machine.memory, &names[0], 6, 0);
    lose(&machine.memory, &names[1], 8, 3);
    assert_eq!(db.archive_now().unwrap(), Index(KEYS));
    assert_eq!(db.statistics().damaged_log_files, 2);
    db.close().unwrap();
    let mut damaged = 0;
    for folder in ["repository/log/00000001", "repository/log/00000002"] {
        for name in machine.memory.file_names(folder) {
            if name.ends_with(".log") {
                let file = format!("{folder}/{name}");
                assert!(
                    machine
                        .memory
                        .overwrite(&file, 5 * UNIT, vec![7; UNIT as usize])
                );
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0);
    let target = machine.options_at("restored");
    let repository = Repository::new("repository").on_disk_of(&target);
    repository.restore(target, RestorePoint::Newest).unwrap();
    assert_whole(&machine.options_at("restored").open().unwrap());
}

#[test]
fn without_parity_a_damaged_log_is_refused_as_ever() {
    let machine = Machine::new(6);
    let db = options(&machine).parity(Parity::Off).open().unwrap();
    fill(&db, 0);
    drop(db);
    let machine = machine.rebooted(machine.memory.kill());
    let names = machine.memory.file_names(FOLDER);
    assert!(names.iter().all(|name| !name.ends_with(".parity")));
    lose(&machine.memory, &logs(&machine.memory)[0], 5, 1);
    // Whatever is asked for now.
    let opened = options(&machine).parity(Parity::Strong).open();
    assert!(matches!(opened, Err(Error::Damaged(_))));
}

#[test]
fn a_crash_or_a_failure_anywhere_in_mending_leaves_a_store_that_opens() {
    let whole = filled(7);
    let names = logs(&whole.memory);
    for unit in [1, 2, 11] {
        lose(&whole.memory, &names[0], unit, 0xee);
    }
    for k in 0.. {
        let machine = whole.rebooted(whole.memory.fork());
        let db = options(&machine).open().unwrap();
        machine.faults.crash_after_changes(k);
        let done = db.step(Job::Mend).is_ok_and(|more| more) && !machine.faults.crashed();
        drop(db);
        let machine = machine.rebooted(machine.memory.crash(k, TearUnit::Sector));
        let db = options(&machine).open().unwrap();
        assert_whole(&db);
        while db.step(Job::Mend).unwrap() {}
        db.put("more", "1").unwrap();
        db.close().unwrap();
        let (db, report) = reopened(&machine);
        assert_eq!(report.damage, [], "crash after {k}");
        assert_whole(&db);
        if done {
            break;
        }
        assert!(k < 100);
    }
    for n in 1..100 {
        let machine = whole.rebooted(whole.memory.fork());
        let db = options(&machine).open().unwrap();
        let kinds: Vec<_> = OperationKind::ALL
            .into_iter()
            .filter(|kind| *kind != OperationKind::SyncDir)
            .collect();
        machine
            .faults
            .inject(Fault::once(n, FaultKind::Io).only(&kinds));
        let _ = db.step(Job::Mend);
        let is_over = machine.faults.faults_hit() == 0;
        machine.faults.clear_faults();
        assert_whole(&db);
        assert_eq!(db.statistics().latched, None, "{n}");
        db.mend().unwrap();
        assert_eq!(db.statistics().damaged_log_files, 0, "{n}");
        drop(db);
        let report = reopened(&machine).1;
        assert_eq!(report.damage, [], "{n}");
        if is_over {
            assert!(n > 10, "{n}");
            break;
        }
    }
}

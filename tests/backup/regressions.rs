//! What a review once found: each test fails without its mend.

use std::path::Path;
use std::time::Duration;

use kintsu::environment::Clock;
use kintsu::vfs::Vfs;
use kintsu::{Background, BackupPolicy, Durability, Error, Index, Job, RestorePoint};

use crate::support::backup::*;
use crate::support::check::Survived;
use crate::support::driver::Driver;
use crate::support::store::{FOLDER, Machine};

fn put(db: &kintsu::Db, key: &str) {
    let mut batch = kintsu::WriteBatch::new();
    batch.put(key, vec![5; 100]);
    db.write_with(batch, Durability::Disk).unwrap();
}

/// The log files of volumes, and what belongs to them.
fn volume_files(machine: &Machine, ending: &str) -> Vec<String> {
    let files = repository_files(machine).into_iter();
    let files = files.filter(|path| path.split('/').count() == 4 && path.ends_with(ending));
    files.collect()
}

fn newest(machine: &Machine, to: &str) -> kintsu::Result<kintsu::RestoreReport> {
    restore(machine, to, RestorePoint::Newest)
}

#[track_caller]
fn assert_damaged(machine: &Machine) {
    let report = repository(machine).verify(|_| {}).unwrap();
    assert!(!report.damage.is_empty(), "verify finds nothing");
    match newest(machine, "of the damaged") {
        Ok(report) => assert!(!report.reached, "{report:?}"),
        Err(error) => assert!(is_about_damage(&error), "{error:?}"),
    }
}

#[test]
fn a_store_under_the_name_of_a_staging_folder_is_left_alone() {
    let mut driver = plain(40);
    write(&mut driver, 5).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    let machine = driver.machine.clone();
    for (target, at) in [(SNAPSHOT, "snapshot.tmp"), (RESTORED, "restored.tmp")] {
        let db = machine.options_at(at).open().unwrap();
        put(&db, "acknowledged");
        // Of itself, too: its own folder is in the way.
        let own = db.snapshot_to(target);
        assert!(matches!(own, Err(Error::FolderNotEmpty { .. })), "{own:?}");
        put(&db, "later");
        db.close().unwrap();
        let before = machine.memory.file_names(at);
        let refused = driver.db().snapshot_to(target).map(drop);
        let restored = newest(&machine, target).map(drop);
        for refused in [refused, restored] {
            assert!(
                matches!(refused, Err(Error::FolderNotEmpty { .. })),
                "{refused:?}"
            );
        }
        assert_eq!(machine.memory.file_names(at), before);
        let db = machine.options_at(at).open().unwrap();
        assert!(db.get("later").unwrap().is_some());
    }
}

#[test]
fn a_published_folder_loses_its_mark_before_it_is_written_to() {
    let mut driver = plain(41);
    write(&mut driver, 5).unwrap();
    driver.db().snapshot_to(SNAPSHOT).unwrap();
    let memory = driver.machine.memory.clone();
    // As a crash right after the rename leaves it.
    memory.write_file("snapshot/staging.tmp", b"");
    let db = driver.machine.options_at(SNAPSHOT).open().unwrap();
    let names = memory.file_names(SNAPSHOT);
    assert!(!names.contains(&"staging.tmp".to_owned()), "{names:?}");
    put(&db, "acknowledged");
    db.close().unwrap();
    let vfs: &dyn Vfs = &memory;
    vfs.rename(SNAPSHOT.as_ref(), "again.tmp".as_ref()).unwrap();
    let refused = driver.db().snapshot_to("again");
    assert!(
        matches!(refused, Err(Error::FolderNotEmpty { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_target_is_a_name_with_or_without_a_slash() {
    let mut driver = plain(42);
    write(&mut driver, 5).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    driver.db().snapshot_to("with slash/").unwrap();
    works_at(&driver.machine, &driver.model, "with slash", 5);
    newest(&driver.machine, "restored/").unwrap();
    works_at(&driver.machine, &driver.model, RESTORED, 5);
    for odd in [".", "..", "a/.."] {
        let refused = driver.db().snapshot_to(Path::new(odd));
        assert!(
            matches!(refused, Err(Error::InvalidOption { .. })),
            "{refused:?}"
        );
    }
}

/// The store as it was, with the repository as it is.
fn put_back(driver: &Driver, before: &kintsu::testing::MemoryVfs) -> Machine {
    for path in repository_files(&driver.machine) {
        before.write_file(&path, driver.machine.memory.read_file(&path).unwrap());
    }
    driver.machine.rebooted(before.kill())
}

#[track_caller]
fn assert_refused(done: kintsu::Result<impl std::fmt::Debug>) {
    let Err(Error::Repository { why, .. }) = &done else {
        panic!("{done:?}");
    };
    assert!(why.contains("older copy"), "{why}");
}

#[test]
fn an_older_copy_is_behind_the_archive_as_well() {
    let mut driver = archiving(43);
    write(&mut driver, 1).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    driver.sync().unwrap();
    let before = driver.machine.memory.fork();
    write(&mut driver, 2).unwrap();
    assert_eq!(driver.db().archive_now().unwrap(), Index(3));
    let machine = put_back(&driver, &before);
    machine.clock.advance(Duration::from_secs(1));
    let old = machine.options_at(FOLDER).open().unwrap();
    put(&old, "other");
    assert_refused(old.backup_to(REPOSITORY));
    // And once it has overtaken the archive.
    for _ in 0..3 {
        put(&old, "other");
    }
    assert_refused(old.backup_to(REPOSITORY));
    old.close().unwrap();
    let options = machine.options_at(FOLDER).archive_to(REPOSITORY);
    let old = options.open().unwrap();
    assert_refused(old.archive_now());
    assert_refused(old.backup_to(REPOSITORY));
    // A restored store goes on in a new era.
    newest(&machine, RESTORED).unwrap();
    let restored = machine.options_at(RESTORED).open().unwrap();
    put(&restored, "more");
    restored.backup_to(REPOSITORY).unwrap();
}

#[test]
fn an_older_copy_that_has_overtaken_the_backups_is_refused() {
    let mut driver = plain(44);
    write(&mut driver, 3).unwrap();
    driver.sync().unwrap();
    let before = driver.machine.memory.fork();
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    let machine = put_back(&driver, &before);
    machine.clock.advance(Duration::from_secs(1));
    let old = machine.options_at(FOLDER).open().unwrap();
    for _ in 0..9 {
        put(&old, "other");
    }
    assert_refused(old.backup_to(REPOSITORY));
    // Also when its log tells nothing any more.
    old.flush().unwrap();
    for _ in 0..5 {
        let mut batch = kintsu::WriteBatch::new();
        batch.put("large", vec![7; 30_000]);
        old.write_with(batch, Durability::Disk).unwrap();
    }
    old.flush().unwrap();
    assert_refused(old.backup_to(REPOSITORY));
}

#[test]
fn a_time_is_reached_only_if_the_record_after_it_was_seen() {
    let mut driver = plain(45);
    let start_us = now_us(&driver.machine);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    write(&mut driver, 4).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    for (records, index, reached) in [(5, 3, false), (6, 3, false), (7, 7, true), (9, 7, true)] {
        let point = RestorePoint::Time(start_us + records * 1000);
        let to = format!("to {records}");
        let report = restore(&driver.machine, &to, point).unwrap();
        let found = (report.index, report.reached);
        assert_eq!(found, (Index(index), reached), "{records}");
    }
}

/// A backup at record 3, and an archive of several volumes, each with several files.
fn volumes(seed: u64) -> Driver {
    let mut driver = archiving(seed);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    for number in 0..60_u64 {
        let mut batch = kintsu::WriteBatch::new();
        batch.put(number.to_le_bytes(), vec![number as u8; 30_000]);
        driver.db().write_with(batch, Durability::Disk).unwrap();
        if number % 10 == 0 {
            driver.db().archive_now().unwrap();
        }
    }
    driver.db().archive_now().unwrap();
    driver.let_go();
    driver
}

#[test]
fn a_volume_that_lost_its_oldest_files_is_damaged() {
    let driver = volumes(46);
    let logs = volume_files(&driver.machine, ".log");
    for path in &logs[..2] {
        driver.machine.memory.remove_file(path);
        let identifiers = path.replace(".log", ".ids");
        driver.machine.memory.remove_file(identifiers);
    }
    assert_damaged(&driver.machine);
}

#[test]
fn a_volume_without_its_folder_is_damaged() {
    for last in [false, true] {
        let driver = volumes(47);
        let logs = volume_files(&driver.machine, ".log");
        let path = if last { logs.last() } else { logs.first() };
        let folder = Path::new(path.unwrap()).parent().unwrap();
        let vfs: &dyn Vfs = &driver.machine.memory;
        vfs.rename(folder, "gone".as_ref()).unwrap();
        assert_damaged(&driver.machine);
    }
}

#[test]
fn identifiers_without_their_log_file_are_a_loss() {
    let mut driver = archiving(48);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    write(&mut driver, 3).unwrap();
    driver.db().archive_now().unwrap();
    driver.let_go();
    let logs = volume_files(&driver.machine, ".log");
    assert_eq!(logs.len(), 1);
    driver.machine.memory.remove_file(&logs[0]);
    assert_damaged(&driver.machine);
}

#[test]
fn a_damaged_old_volume_is_no_reason_to_refuse_what_is_whole() {
    let mut driver = archiving(49);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    write(&mut driver, 6).unwrap();
    driver.db().archive_now().unwrap();
    driver.close().unwrap();
    for path in volume_files(&driver.machine, "") {
        // All that says where the file's records are.
        for byte in 0..100 {
            driver.machine.memory.flip_bit(&path, byte * 3, 1);
        }
    }
    // All that it could have added is unknown.
    let report = newest(&driver.machine, "first").unwrap();
    assert_eq!((report.index, report.reached), (Index(3), false));
    assert_eq!(report.skipped.len(), 1);
    let point = RestorePoint::Index(Index(3));
    assert!(restore(&driver.machine, "index", point).unwrap().reached);
    driver.open(Survived::ProcessDeath).unwrap();
    write(&mut driver, 2).unwrap();
    driver.db().archive_now().unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    let report = newest(&driver.machine, "second").unwrap();
    assert_eq!((report.index, report.reached), (Index(11), true));
}

#[test]
fn what_is_whole_before_the_damage_is_restored() {
    let mut driver = archiving(50);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    write(&mut driver, 9).unwrap();
    driver.db().archive_now().unwrap();
    driver.let_go();
    let logs = volume_files(&driver.machine, ".log");
    let bytes = driver.machine.memory.read_file(&logs[0]).unwrap();
    // Before the page of the end marker.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 4096 * 4096;
    let used = bytes[..end].iter().rposition(|byte| *byte != 0).unwrap();
    let place = used as u64 - 2;
    driver.machine.memory.flip_bit(&logs[0], place, 1);
    check_restore(
        &driver.machine,
        &driver.model,
        RestorePoint::Index(Index(8)),
        8,
    );
    assert_damaged(&driver.machine);
}

#[test]
fn opening_and_closing_costs_the_archive_little_and_volumes_end() {
    let driver = plain(51);
    let machine = driver.machine.clone();
    drop(driver);
    let open = || {
        let options = machine.options_at("often").log_file_bytes(1 << 20);
        options.archive_to(REPOSITORY).open().unwrap()
    };
    let db = open();
    put(&db, "first");
    db.backup_to(REPOSITORY).unwrap();
    db.close().unwrap();
    for _ in 0..40 {
        let db = open();
        put(&db, "often");
        db.archive_now().unwrap();
        db.close().unwrap();
    }
    let files = repository_files(&machine);
    let bytes = files
        .iter()
        .filter_map(|path| machine.memory.file_bytes(path));
    assert!(bytes.sum::<u64>() < 2 << 20);
    let report = newest(&machine, RESTORED).unwrap();
    assert_eq!((report.index, report.reached), (Index(41), true));
    let volumes = || {
        let names = machine.memory.file_names("repository/log");
        names
            .iter()
            .filter(|name| name.ends_with(".volume"))
            .count()
    };
    assert!(volumes() >= 3, "{}", volumes());
    open().backup_to(REPOSITORY).unwrap();
    repository(&machine).prune(1).unwrap();
    assert_eq!(volumes(), 1);
    assert_eq!(repository(&machine).verify(|_| {}).unwrap().damage, []);
}

#[test]
fn an_idle_store_archives_within_a_moment() {
    let machine = Machine::new(52);
    let options = machine.options().background(Background::Threads);
    let db = options.archive_to(REPOSITORY).open().unwrap();
    db.backup_to(REPOSITORY).unwrap();
    put(&db, "key");
    let clock = kintsu::environment::SystemClock::new();
    let begun = clock.elapsed();
    while db.statistics().archived_index != Some(Index(1)) {
        assert!(
            clock.elapsed() - begun < Duration::from_secs(60),
            "it never comes"
        );
        std::thread::yield_now();
    }
    put(&db, "at the end");
    db.close().unwrap();
    let report = newest(&machine, RESTORED).unwrap();
    assert_eq!((report.index, report.reached), (Index(2), true));
}

#[test]
fn an_archive_that_can_not_be_reached_is_no_reason_not_to_close() {
    let mut driver = archiving(53);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    write(&mut driver, 3).unwrap();
    let vfs: &dyn Vfs = &driver.machine.memory.clone();
    let lock = vfs.lock("repository/LOCK".as_ref()).unwrap();
    driver.close().unwrap();
    drop(lock);
    driver.open(Survived::ProcessDeath).unwrap();
    driver.close().unwrap();
    let report = newest(&driver.machine, RESTORED).unwrap();
    assert_eq!((report.index, report.reached), (Index(6), true));
}

#[test]
fn a_clock_that_was_ahead_stops_no_backups() {
    let hour = Duration::from_secs(3600);
    let policy = BackupPolicy::new(REPOSITORY).every(hour);
    let driver = Driver::new(Machine::new(54));
    let mut driver = driver.tuned(move |options| options.backup_policy(policy.clone()));
    driver.open(Survived::ProcessDeath).unwrap();
    let right_us = now_us(&driver.machine);
    driver.machine.clock.advance(hour * 24 * 365);
    write(&mut driver, 1).unwrap();
    driver.step_all(Job::Backup).unwrap();
    driver.machine.clock.set_wall_us(right_us);
    put(driver.db(), "one more");
    driver.db().step(Job::Backup).unwrap();
    let backups = repository(&driver.machine).backups().unwrap();
    assert_eq!(backups.len(), 2);
}

#[test]
fn a_lost_lineage_is_damage() {
    let mut driver = plain(55);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    newest(&driver.machine, RESTORED).unwrap();
    driver.machine.memory.remove_file("restored/lineage");
    let options = driver.machine.options_at(RESTORED);
    let refused = options.open().unwrap().backup_to(REPOSITORY);
    assert!(matches!(refused, Err(Error::Damaged(_))), "{refused:?}");
    let found = kintsu::verify(driver.machine.options_at(RESTORED), |_| {}).unwrap();
    assert_eq!(found.damage.len(), 1);
}

#[test]
fn a_pruned_volume_loses_its_lock_last() {
    let driver = volumes(56);
    let db = driver.machine.options_at(FOLDER).open().unwrap();
    db.backup_to(REPOSITORY).unwrap();
    drop(db);
    driver.machine.faults.record_changes();
    assert!(repository(&driver.machine).prune(1).unwrap().volumes > 0);
    let script = driver.machine.faults.take_script();
    let lock = script.iter().rposition(|line| line == "remove LOCK");
    let log = script
        .iter()
        .rposition(|line| line.contains("remove 0000") && line.ends_with(".log"));
    assert!(lock > log && log.is_some(), "{script:?}");
}

#[test]
fn a_test_of_a_restore_takes_nothing_away() {
    let mut driver = archiving(57);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    write(&mut driver, 3).unwrap();
    driver.db().archive_now().unwrap();
    let machine = driver.machine.clone();
    let point = RestorePoint::Index(Index(4));
    let original = restore(&machine, "a test", point).unwrap().era;
    let test = machine.options_at("a test").open().unwrap();
    for _ in 0..3 {
        put(&test, "of the test");
        test.backup_to(REPOSITORY).unwrap();
    }
    let eras = repository(&machine).eras().unwrap();
    let found: Vec<_> = eras.iter().map(|era| (era.backups, era.index.0)).collect();
    assert_eq!(found, [(1, 3), (3, 7)]);
    assert_eq!(eras[0].id, original);
    assert_eq!(repository(&machine).backups().unwrap()[3].era, eras[1].id);
    let report = newest(&machine, "of the test").unwrap();
    assert_eq!((report.index, report.era), (Index(7), eras[1].id));
    let of_original = || repository(&machine).of_era(original);
    let options = machine.options_at("of the original");
    let report = of_original()
        .restore(options, RestorePoint::Newest)
        .unwrap();
    let found = (report.index, report.reached, report.era);
    assert_eq!(found, (Index(6), true, original));
    open_at(&machine, &driver.model, "of the original", 6);
    let none = repository(&machine).of_era(1);
    let none = none.restore(machine.options_at("none"), RestorePoint::Newest);
    assert!(matches!(none, Err(Error::Repository { .. })), "{none:?}");

    // A prune counts each by itself.
    let pruned = repository(&machine).prune(1).unwrap();
    assert_eq!((pruned.backups, pruned.volumes), (2, 0));
    let options = machine.options_at("pruned");
    let report = of_original()
        .restore(options, RestorePoint::Newest)
        .unwrap();
    assert_eq!((report.index, report.reached), (Index(6), true));

    // The store in use takes the repository back as soon as it archives again.
    write(&mut driver, 1).unwrap();
    driver.db().archive_now().unwrap();
    let report = newest(&machine, RESTORED).unwrap();
    let found = (report.index, report.reached, report.era);
    assert_eq!(found, (Index(7), true, original));
    works_at(&machine, &driver.model, RESTORED, 7);
}

#[test]
fn backups_before_a_restore_count_as_those_of_the_store_that_goes_on() {
    let mut driver = plain(58);
    for _ in 0..3 {
        write(&mut driver, 3).unwrap();
        driver.db().backup_to(REPOSITORY).unwrap();
    }
    driver.let_go();
    let machine = driver.machine.clone();
    newest(&machine, RESTORED).unwrap();
    let restored = machine.options_at(RESTORED).open().unwrap();
    for _ in 0..2 {
        put(&restored, "more");
        restored.backup_to(REPOSITORY).unwrap();
    }
    assert_eq!(repository(&machine).prune(3).unwrap().backups, 2);
    assert_eq!(repository(&machine).prune(1).unwrap().backups, 1);
}

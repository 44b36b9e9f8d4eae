//! The archive: restore to every record and every time, eras that are never mixed, gaps that are named.

use kintsu::{Durability, Error, Index, Job, RestorePoint, WriteBatch};

use crate::support::Context;
use crate::support::backup::*;
use crate::support::check::Survived;

/// Records, a backup after some of them, and the rest in the archive alone.
fn history(seed: u64) -> crate::support::driver::Driver {
    let mut driver = archiving(seed);
    write(&mut driver, 5).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    write(&mut driver, 12).unwrap();
    driver.flush().unwrap();
    driver.step_all(Job::Backup).unwrap();
    write(&mut driver, 6).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    write(&mut driver, 7).unwrap();
    assert_eq!(driver.db().archive_now().unwrap(), Index(30));
    driver
}

#[test]
fn a_store_is_restored_to_every_record_and_every_time() {
    let driver = history(10);
    let start_us = now_us(&driver.machine) - 30_000;
    for index in 5..=30 {
        let _context = Context("index", index);
        let point = RestorePoint::Index(Index(index));
        check_restore(&driver.machine, &driver.model, point, index);
        // Each record was written a millisecond after the one before.
        for us in [0, 1, 999] {
            let point = RestorePoint::Time(start_us + index * 1000 + us);
            check_restore(&driver.machine, &driver.model, point, index);
        }
    }
    check_restore(&driver.machine, &driver.model, RestorePoint::Newest, 30);
    let early = restore(&driver.machine, RESTORED, RestorePoint::Index(Index(4)));
    assert!(matches!(early, Err(Error::Repository { .. })), "{early:?}");
    let late = restore(&driver.machine, RESTORED, RestorePoint::Index(Index(31))).unwrap();
    assert_eq!((late.index, late.reached), (Index(30), false));
    works_at(&driver.machine, &driver.model, RESTORED, 30);
}

#[test]
fn a_record_keeps_its_time_when_it_is_restored() {
    let mut driver = history(11);
    let machine = driver.machine.rebooted(driver.machine.memory.fork());
    let report = restore(&machine, RESTORED, RestorePoint::Newest).unwrap();
    assert_eq!(report.time_us, now_us(&machine));
    // Later backups of the restored store say the same time.
    let mut restored = open_at(&machine, &driver.model, RESTORED, 30);
    let backup = restored.db().backup_to(REPOSITORY).unwrap();
    assert_eq!(backup.time_us, report.time_us);
    restored.let_go();
    driver.let_go();
}

#[test]
fn what_a_restore_left_behind_is_never_mixed_in() {
    let driver = history(12);
    let machine = driver.machine.rebooted(driver.machine.memory.fork());
    restore(&machine, RESTORED, RestorePoint::Index(Index(20))).unwrap();
    let mut model = driver.model.clone();
    (model.process, model.disk) = (0, 0);
    let there = machine.clone();
    let second = crate::support::driver::Driver::resume(machine.clone(), model);
    let mut second = second.tuned(move |_| there.options_at(RESTORED).archive_to(REPOSITORY));
    second.open(Survived::ProcessDeath).unwrap();
    assert_eq!(second.model.last, 20);
    // Other records than those that the first store has under these indexes, and more of them.
    second
        .machine
        .clock
        .advance(std::time::Duration::from_secs(1));
    write(&mut second, 1).unwrap();
    second.db().archive_now().unwrap();
    write(&mut second, 14).unwrap();
    second.db().archive_now().unwrap();
    for index in (5..=35).filter(|index| *index != 4) {
        let _context = Context("index", index);
        let point = RestorePoint::Index(Index(index));
        let disk = second.machine.rebooted(second.machine.memory.fork());
        let report = restore(&disk, "third", point).unwrap();
        assert!(report.reached, "{report:?}");
        open_at(&disk, &second.model, "third", index);
        assert!(
            index < 23 || report.backup < 5,
            "a backup of the other era: {report:?}"
        );
    }
    second.db().backup_to(REPOSITORY).unwrap();
    let disk = second.machine.rebooted(second.machine.memory.fork());
    restore(&disk, "third", RestorePoint::Newest).unwrap();
    works_at(&disk, &second.model, "third", 35);
}

#[test]
fn an_older_copy_of_the_folder_is_refused() {
    let mut driver = plain(13);
    write(&mut driver, 5).unwrap();
    driver.flush().unwrap();
    let before = driver.machine.memory.fork();
    write(&mut driver, 5).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    for path in repository_files(&driver.machine) {
        before.write_file(&path, driver.machine.memory.read_file(&path).unwrap());
    }
    let machine = driver.machine.rebooted(before.kill());
    let old = machine
        .options_at(crate::support::store::FOLDER)
        .open()
        .unwrap();
    let refused = old.backup_to(REPOSITORY);
    assert!(
        matches!(refused, Err(Error::Repository { .. })),
        "{refused:?}"
    );
}

#[test]
fn the_log_waits_for_the_archive_and_a_gap_is_named() {
    let mut driver = archiving(14);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    let fill = |driver: &mut crate::support::driver::Driver, times: u64| {
        for _ in 0..times {
            let mut batch = WriteBatch::new();
            batch.put("large", vec![7; 40_000]);
            driver.db().write_with(batch, Durability::Disk).unwrap();
        }
    };
    // The archive can't be reached: somebody holds the repository.
    let vfs = kintsu::testing::FaultVfs::on_memory(&driver.machine.memory);
    let lock = kintsu::vfs::Vfs::lock(&vfs, "repository/LOCK".as_ref()).unwrap();
    fill(&mut driver, 10);
    driver.db().flush().unwrap();
    assert!(driver.db().step(Job::Backup).is_err());
    let statistics = driver.db().statistics();
    assert!(statistics.backup_failure.is_some());
    assert!(statistics.log_bytes >= 400_000, "held back: {statistics:?}");
    drop(lock);
    driver.db().archive_now().unwrap();
    let statistics = driver.db().statistics();
    assert_eq!(statistics.archived_index, Some(Index(13)));
    assert!(statistics.log_bytes < 200_000, "let go: {statistics:?}");
    driver.db().step(Job::Backup).unwrap();
    assert_eq!(driver.db().statistics().backup_failure, None);

    let lock = kintsu::vfs::Vfs::lock(&vfs, "repository/LOCK".as_ref()).unwrap();
    driver.let_go();
    let db = driver.options().open().unwrap();
    for _ in 0..40 {
        let mut batch = WriteBatch::new();
        batch.put("large", vec![8; 40_000]);
        db.write_with(batch, Durability::Disk).unwrap();
    }
    db.flush().unwrap();
    assert!(
        db.statistics().log_bytes < 1_300_000,
        "beyond the limit it goes"
    );
    drop(lock);
    db.put("small", "x").unwrap();
    assert_eq!(db.archive_now().unwrap(), Index(54));
    let gap = restore(&driver.machine, RESTORED, RestorePoint::Newest);
    let Err(Error::ArchiveGap { from, to, .. }) = gap else {
        panic!("{gap:?}");
    };
    assert_eq!(from, Index(14));
    assert!(to >= Index(15) && to < Index(54), "{to}");
    let report = restore(&driver.machine, RESTORED, RestorePoint::Index(Index(13))).unwrap();
    assert!(report.reached);
    db.backup_to(REPOSITORY).unwrap();
    let report = restore(&driver.machine, "newest", RestorePoint::Newest).unwrap();
    assert_eq!((report.index, report.reached), (Index(54), true));
}

#[test]
fn volumes_follow_each_other_and_are_pruned() {
    let mut driver = archiving(15);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    for number in 0..90_u64 {
        let mut batch = WriteBatch::new();
        batch.put(number.to_le_bytes(), vec![number as u8; 30_000]);
        driver.db().write_with(batch, Durability::Buffered).unwrap();
        if number % 10 == 0 {
            driver.db().archive_now().unwrap();
        }
    }
    assert_eq!(driver.db().archive_now().unwrap(), Index(93));
    let volumes = || {
        let names = driver.machine.memory.file_names("repository/log");
        names.len()
    };
    assert!(volumes() > 2, "{}", volumes());
    let report = restore(&driver.machine, RESTORED, RestorePoint::Index(Index(80))).unwrap();
    assert_eq!((report.index, report.records), (Index(80), 77));
    driver.db().backup_to(REPOSITORY).unwrap();
    let pruned = repository(&driver.machine).prune(1).unwrap();
    assert!(pruned.volumes > 0);
    assert_eq!(volumes(), 1);
    driver.db().put("after", "x").unwrap();
    driver.db().archive_now().unwrap();
    let report = restore(&driver.machine, "newest", RestorePoint::Newest).unwrap();
    assert_eq!((report.index, report.reached), (Index(94), true));
}

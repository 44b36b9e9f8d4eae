//! Bulk loads: what they bring is in the archive before their record, and comes back with it.

use std::time::Duration;

use kintsu::testing::FaultVfs;
use kintsu::{Durability, Error, FeedChange, Index, Job, RestorePoint, WriteBatch};

use crate::support::Context;
use crate::support::backup::*;
use crate::support::check::Survived;
use crate::support::driver::Driver;
use crate::support::store::{FOLDER, Machine};

/// The names of the segments in a folder.
fn segments(machine: &Machine, folder: &str) -> Vec<String> {
    let mut names = machine.memory.file_names(folder);
    names.retain(|name| name.ends_with(".segment"));
    names
}

/// Loads, and says which segments came of it.
fn load_named(driver: &mut Driver, keyspace: usize) -> Vec<String> {
    let before = segments(&driver.machine, FOLDER);
    load_one(driver, keyspace).unwrap();
    let mut names = segments(&driver.machine, FOLDER);
    names.retain(|name| !before.contains(name));
    assert!(names.len() > 1, "a load of several segments");
    names
}

/// Makes other segments of all there is, and gives back what nobody needs any more.
fn compact_away(driver: &mut Driver) {
    driver.flush().unwrap();
    for place in driver.model.live(driver.model.last) {
        let name = driver.model.keyspaces[place].name.clone();
        let keyspace = driver.db().keyspace(&name).unwrap();
        keyspace.compact_range(..).unwrap();
    }
    driver.step_all(Job::Reclaim).unwrap();
}

fn keeps(machine: &Machine, names: &[String]) -> bool {
    let there = segments(machine, FOLDER);
    names.iter().all(|name| there.contains(name))
}

fn lacks(machine: &Machine, names: &[String]) -> bool {
    let there = segments(machine, FOLDER);
    names.iter().all(|name| !there.contains(name))
}

fn verified(machine: &Machine) -> Vec<kintsu::Damage> {
    repository(machine).verify(|_| {}).unwrap().damage
}

/// Records that are too large for the log to keep many of them.
fn fill(driver: &mut Driver, records: u64) {
    for _ in 0..records {
        let mut batch = WriteBatch::new();
        batch.put("large", vec![7; 40_000]);
        driver.db().write_with(batch, Durability::Disk).unwrap();
    }
    driver.db().flush().unwrap();
}

/// A backup at record 5; loads at 8, 9 and 13, each written over afterwards; records up to 16.
fn history(seed: u64) -> Driver {
    let mut driver = archiving(seed);
    write(&mut driver, 5).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    write(&mut driver, 2).unwrap();
    load_one(&mut driver, 0).unwrap();
    load_one(&mut driver, 1).unwrap();
    write(&mut driver, 3).unwrap();
    load_one(&mut driver, 0).unwrap();
    write(&mut driver, 3).unwrap();
    driver
}

#[test]
fn a_store_with_loads_is_restored_to_every_record_and_every_time() {
    let mut driver = history(40);
    assert_eq!(driver.db().archive_now().unwrap(), Index(16));
    compact_away(&mut driver);
    let start_us = now_us(&driver.machine) - 16_000;
    for index in 5..=16 {
        let _context = Context("index", index);
        let point = RestorePoint::Index(Index(index));
        check_restore(&driver.machine, &driver.model, point, index);
        for us in [0, 999] {
            let point = RestorePoint::Time(start_us + index * 1000 + us);
            check_restore(&driver.machine, &driver.model, point, index);
        }
    }
    check_restore(&driver.machine, &driver.model, RestorePoint::Newest, 16);
    assert_eq!(verified(&driver.machine), []);
    let machine = driver.machine.rebooted(driver.machine.memory.fork());
    let report = restore(&machine, RESTORED, RestorePoint::Newest).unwrap();
    assert_eq!((report.records, report.reached), (11, true));
    works_at(&machine, &driver.model, RESTORED, 16);
}

#[test]
fn the_restored_store_is_archived_and_restored_in_turn() {
    let mut driver = history(41);
    driver.db().archive_now().unwrap();
    restore(&driver.machine, RESTORED, RestorePoint::Index(Index(13))).unwrap();
    let mut model = driver.model.clone();
    (model.process, model.disk) = (0, 0);
    driver.let_go();
    let there = driver.machine.clone();
    let second = Driver::resume(driver.machine.clone(), model);
    let mut second = second.tuned(move |_| there.options_at(RESTORED).archive_to(REPOSITORY));
    second.open(Survived::ProcessDeath).unwrap();
    assert_eq!(second.model.last, 13);
    for _ in 0..3 {
        write(&mut second, 1).unwrap();
        load_one(&mut second, 0).unwrap();
        second.flush().unwrap();
    }
    assert_eq!(second.db().archive_now().unwrap(), Index(19));
    // From the first backup on, through both lives.
    for index in 5..=19 {
        let _context = Context("index", index);
        let point = RestorePoint::Index(Index(index));
        check_restore(&second.machine, &second.model, point, index);
    }
}

#[test]
fn what_a_load_brought_stays_until_it_is_archived() {
    let mut driver = archiving(42);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    // The archive can't be reached: somebody holds the repository.
    let vfs = FaultVfs::on_memory(&driver.machine.memory);
    let hold = || kintsu::vfs::Vfs::lock(&vfs, "repository/LOCK".as_ref()).unwrap();
    let lock = hold();
    let loaded = load_named(&mut driver, 0);
    write(&mut driver, 3).unwrap();
    wipe(&mut driver);
    compact_away(&mut driver);
    assert!(driver.db().step(Job::Backup).is_err());
    assert!(keeps(&driver.machine, &loaded));
    drop(lock);
    // And over a crash: nothing names them then.
    driver.reboot(driver.machine.memory.kill());
    driver.open(Survived::ProcessDeath).unwrap();
    write(&mut driver, 1).unwrap();
    compact_away(&mut driver);
    assert!(keeps(&driver.machine, &loaded));
    driver.db().archive_now().unwrap();
    let last = driver.model.last;
    for index in 3..=last {
        let point = RestorePoint::Index(Index(index));
        check_restore(&driver.machine, &driver.model, point, index);
    }
    assert_eq!(verified(&driver.machine), []);
    driver.step_all(Job::Reclaim).unwrap();
    assert!(lacks(&driver.machine, &loaded), "archived, and kept on");
    driver.check().unwrap();
}

#[test]
fn what_a_load_brought_goes_once_the_log_is_too_long() {
    let mut driver = archiving(43);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    driver.let_go();
    let vfs = FaultVfs::on_memory(&driver.machine.memory);
    let lock = kintsu::vfs::Vfs::lock(&vfs, "repository/LOCK".as_ref()).unwrap();
    driver.open(Survived::ProcessDeath).unwrap();
    let loaded = load_named(&mut driver, 0);
    wipe(&mut driver);
    compact_away(&mut driver);
    assert!(keeps(&driver.machine, &loaded));
    fill(&mut driver, 40);
    driver.step_all(Job::Reclaim).unwrap();
    assert!(
        lacks(&driver.machine, &loaded),
        "it holds the disk for ever"
    );
    drop(lock);
    driver.db().put("small", "x").unwrap();
    assert_eq!(driver.db().archive_now().unwrap(), Index(46));
    let gap = restore(&driver.machine, RESTORED, RestorePoint::Newest);
    assert!(matches!(gap, Err(Error::ArchiveGap { .. })), "{gap:?}");
    driver.db().backup_to(REPOSITORY).unwrap();
    let report = restore(&driver.machine, RESTORED, RestorePoint::Newest).unwrap();
    assert_eq!((report.index, report.reached), (Index(46), true));
    assert_eq!(verified(&driver.machine), []);
}

/// Opened without an archive for a while, the store keeps nothing for it.
#[test]
fn a_load_that_nobody_archived_is_a_gap() {
    let mut driver = archiving(44);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    driver.db().archive_now().unwrap();
    driver.let_go();
    let mut plain = Driver::resume(driver.machine.clone(), driver.model.clone());
    plain.open(Survived::ProcessDeath).unwrap();
    let loaded = load_named(&mut plain, 0);
    compact_away(&mut plain);
    wipe(&mut plain);
    compact_away(&mut plain);
    assert!(lacks(&plain.machine, &loaded));
    // The log still has its record.
    assert!(plain.db().statistics().log_first_index <= Index(4));
    plain.let_go();
    driver.model = plain.model.clone();
    driver.open(Survived::ProcessDeath).unwrap();
    assert_eq!(driver.db().archive_now().unwrap(), Index(5));
    let gap = restore(&driver.machine, RESTORED, RestorePoint::Newest);
    let Err(Error::ArchiveGap { from, to, .. }) = gap else {
        panic!("{gap:?}");
    };
    assert_eq!((from, to), (Index(4), Index(4)));
    driver.db().backup_to(REPOSITORY).unwrap();
    write(&mut driver, 1).unwrap();
    load_one(&mut driver, 0).unwrap();
    driver.db().archive_now().unwrap();
    check_restore(&driver.machine, &driver.model, RestorePoint::Newest, 7);
    assert_eq!(verified(&driver.machine), []);
}

#[test]
fn damage_in_what_was_loaded_is_found_by_verify_and_by_restore() {
    let driver = history(45);
    let before = segments(&driver.machine, "repository/segments");
    driver.db().archive_now().unwrap();
    let mut loaded = segments(&driver.machine, "repository/segments");
    loaded.retain(|name| !before.contains(name));
    assert!(loaded.len() > 3);
    for name in &loaded {
        let path = format!("repository/segments/{name}");
        for gone in [false, true] {
            let _context = Context("file", (name, gone));
            let machine = driver.machine.rebooted(driver.machine.memory.fork());
            match gone {
                true => machine.memory.remove_file(&path),
                false => machine.memory.flip_bit(&path, 300, 3),
            };
            let found = verified(&machine);
            assert!(
                found.len() == 1 && found[0].path.ends_with(name),
                "{found:?}"
            );
            let refused = restore(&machine, RESTORED, RestorePoint::Newest);
            let Err(Error::Damaged(damage)) = refused else {
                panic!("{refused:?}");
            };
            assert!(damage[0].path.ends_with(name), "{damage:?}");
            assert!(!is_there(&machine, RESTORED));
            check_restore(&machine, &driver.model, RestorePoint::Index(Index(7)), 7);
        }
    }
    // The notes only say which numbers and segments are taken.
    let names = driver.machine.memory.file_names("repository/log");
    let notes: Vec<_> = names.iter().filter(|n| n.ends_with(".load")).collect();
    assert_eq!(notes.len(), 3, "{names:?}");
    for name in notes {
        let path = format!("repository/log/{name}");
        for gone in [false, true] {
            let machine = driver.machine.rebooted(driver.machine.memory.fork());
            match gone {
                true => machine.memory.remove_file(&path),
                false => machine.memory.flip_bit(&path, 40, 3),
            };
            let found = verified(&machine);
            assert!(
                found.len() == 1 && found[0].path.ends_with(name),
                "{found:?}"
            );
            check_restore(&machine, &driver.model, RestorePoint::Newest, 16);
            let pruned = repository(&machine).prune(1).unwrap();
            assert_eq!(pruned.unreadable, u64::from(!gone));
        }
    }
}

#[test]
fn prune_keeps_what_was_loaded_as_long_as_the_log_that_names_it() {
    let mut driver = history(46);
    driver.db().archive_now().unwrap();
    compact_away(&mut driver);
    let loads = || {
        let names = driver.machine.memory.file_names("repository/log");
        names.iter().filter(|n| n.ends_with(".load")).count()
    };
    assert_eq!(loads(), 3);
    driver.db().backup_to(REPOSITORY).unwrap();
    let pruned = repository(&driver.machine).prune(1).unwrap();
    assert_eq!((pruned.backups, pruned.volumes), (1, 0));
    assert_eq!(loads(), 3);
    assert_eq!(verified(&driver.machine), []);

    let before = segments(&driver.machine, "repository/segments").len();
    for number in 0..90_u64 {
        let mut batch = WriteBatch::new();
        batch.put("large", vec![number as u8; 30_000]);
        driver.db().write_with(batch, Durability::Buffered).unwrap();
        if number % 10 == 0 {
            driver.db().archive_now().unwrap();
        }
    }
    driver.db().archive_now().unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    let pruned = repository(&driver.machine).prune(1).unwrap();
    assert!(pruned.volumes > 0 && pruned.segments >= 3, "{pruned:?}");
    assert_eq!(loads(), 0);
    let after = segments(&driver.machine, "repository/segments").len();
    assert!(after < before, "{before} to {after}");
    assert_eq!(verified(&driver.machine), []);
    let report = restore(&driver.machine, RESTORED, RestorePoint::Newest).unwrap();
    assert_eq!((report.index, report.reached), (Index(106), true));
}

/// A snapshot and a backup begin with a flush, which puts what was loaded into a level.
#[test]
fn a_load_that_is_not_flushed_yet_is_in_snapshots_and_backups() {
    let mut driver = plain(47);
    write(&mut driver, 6).unwrap();
    let loaded = load_named(&mut driver, 1);
    write(&mut driver, 1).unwrap();
    let second = load_named(&mut driver, 0);
    let report = driver.db().snapshot_to(SNAPSHOT).unwrap();
    assert_eq!(report.index, Index(9));
    let there = segments(&driver.machine, SNAPSHOT);
    let all = loaded.iter().chain(&second);
    assert!(all.clone().all(|name| there.contains(name)));
    load_one(&mut driver, 1).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    compact_away(&mut driver);
    works_at(&driver.machine, &driver.model, SNAPSHOT, 9);
    check_restore(&driver.machine, &driver.model, RestorePoint::Newest, 10);
    // Begun before a backup, and committed after it.
    let machine = driver.machine.rebooted(driver.machine.memory.fork());
    let db = driver.db();
    let mut load = db.bulk_load().unwrap();
    load.add("begun early", "x").unwrap();
    db.backup_to(REPOSITORY).unwrap();
    load.commit().unwrap();
    drop(machine);
    let report = restore(&driver.machine, RESTORED, RestorePoint::Newest).unwrap();
    assert_eq!(report.index, Index(10));
}

#[test]
fn a_follower_is_shown_a_load_whose_segments_are_gone() {
    let mut driver = history(48);
    driver.db().archive_now().unwrap();
    let mut follower = driver.options().follow(Index(8)).unwrap();
    let mut feed = driver.db().subscribe(Index(8)).unwrap();
    compact_away(&mut driver);
    driver.machine.clock.advance(Duration::from_millis(1));
    for record in [
        follower.try_next().unwrap().unwrap(),
        feed.try_next().unwrap().unwrap(),
    ] {
        let [FeedChange::Loaded { segments, .. }] = &record.changes[..] else {
            panic!("{record:?}");
        };
        assert_eq!(record.index, Index(8));
        assert_eq!(segments.iter().map(|s| s.entries).sum::<u64>(), LOADED);
    }
}

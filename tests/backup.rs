//! Snapshots, backups, the archive and restore: what each of them holds, compared key by key with a model;
//! power loss at every change of the disk, every operation failing, every file damaged.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

#[path = "backup/archive.rs"]
mod archive;
#[path = "backup/archives.rs"]
mod archives;
#[path = "backup/campaigns.rs"]
mod campaigns;
#[path = "backup/damage.rs"]
mod damage;
#[path = "backup/loads.rs"]
mod loads;
#[path = "backup/regressions.rs"]
mod regressions;
mod support;

use std::time::Duration;

use kintsu::{BackupPolicy, Error, Index, Job, RestorePoint};

use support::backup::*;
use support::store::FOLDER;

#[test]
fn a_snapshot_is_a_store_that_goes_its_own_way() {
    let mut driver = plain(1);
    write(&mut driver, 25).unwrap();
    let report = driver.db().snapshot_to(SNAPSHOT).unwrap();
    assert_eq!(report.index, Index(25));
    assert_eq!(report.time_us, now_us(&driver.machine));
    assert!(report.bytes_linked > 0 && report.bytes_copied == 0);
    let names = driver.machine.memory.file_names(SNAPSHOT);
    assert!(
        !names.iter().any(|name| name.ends_with(".tmp")),
        "{names:?}"
    );
    assert!(driver.machine.memory.file_names("snapshot.tmp").is_empty());

    write(&mut driver, 10).unwrap();
    driver.step_all(Job::Compact).unwrap();
    driver.step_all(Job::Reclaim).unwrap();
    works_at(&driver.machine, &driver.model, SNAPSHOT, 25);
    driver.check().unwrap();
    driver.sync().unwrap();
    works_at(
        &driver.machine.rebooted(driver.machine.memory.kill()),
        &driver.model,
        FOLDER,
        35,
    );

    let lineage = format!("{SNAPSHOT}/lineage");
    let memory = driver.machine.memory.fork();
    memory.flip_bit(&lineage, 40, 2);
    let damaged = driver.machine.rebooted(memory).options_at(SNAPSHOT);
    let found = kintsu::verify(damaged.clone(), |_| {}).unwrap();
    assert_eq!(found.damage.len(), 1);
    let refused = damaged.open().unwrap().backup_to(REPOSITORY);
    assert!(matches!(refused, Err(Error::Damaged(_))), "{refused:?}");

    let copy = open_at(&driver.machine, &driver.model, SNAPSHOT, 25);
    let report = copy.db().snapshot_to("second").unwrap();
    assert_eq!(report.index, Index(25));
    works_at(&driver.machine, &driver.model, "second", 25);
}

#[test]
fn an_empty_store_has_snapshots_and_backups_too() {
    let driver = plain(2);
    driver.db().snapshot_to(SNAPSHOT).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    works_at(&driver.machine, &driver.model, SNAPSHOT, 0);
    check_restore(&driver.machine, &driver.model, RestorePoint::Newest, 0);
}

#[test]
fn nothing_is_built_where_something_is() {
    let mut driver = plain(3);
    write(&mut driver, 3).unwrap();
    let memory = &driver.machine.memory;
    memory.write_file("full/file", b"somebody's");
    memory.write_file("other.tmp/file", b"somebody's");
    memory.write_file("just a file", b"somebody's");
    for target in ["full", "other", "just a file", FOLDER] {
        let refused = driver.db().snapshot_to(target);
        assert!(
            matches!(refused, Err(Error::FolderNotEmpty { .. })),
            "{target}: {refused:?}"
        );
    }
    driver.db().backup_to(REPOSITORY).unwrap();
    for target in ["full", "other", FOLDER] {
        let refused = restore(&driver.machine, target, RestorePoint::Newest);
        assert!(
            matches!(refused, Err(Error::FolderNotEmpty { .. })),
            "{refused:?}"
        );
    }
    for target in ["full", FOLDER] {
        let refused = driver.db().backup_to(target);
        assert!(
            matches!(refused, Err(Error::Repository { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(memory.file_names("full"), ["file"]);
    assert_eq!(memory.file_names("other.tmp"), ["file"]);
    driver.check().unwrap();
}

#[test]
fn a_repository_belongs_to_one_store() {
    let mut driver = plain(4);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    let other = driver.machine.options_at("another store").open().unwrap();
    let refused = other.backup_to(REPOSITORY);
    assert!(
        matches!(refused, Err(Error::Repository { .. })),
        "{refused:?}"
    );
    let none = kintsu::Repository::new("nowhere").on_disk_of(&driver.machine.options());
    assert!(matches!(none.backups(), Err(Error::Repository { .. })));
}

#[test]
fn increments_copy_what_is_new_and_prune_removes_what_nobody_needs() {
    let mut driver = plain(5);
    let mut copied = Vec::new();
    for _ in 0..5 {
        write(&mut driver, 8).unwrap();
        let report = driver.db().backup_to(REPOSITORY).unwrap();
        assert_eq!(report.index.0, driver.model.last);
        copied.push((report.segments_copied, report.segments));
    }
    assert!(
        copied.iter().skip(1).all(|(copied, all)| copied < all),
        "{copied:?}"
    );
    let again = driver.db().backup_to(REPOSITORY).unwrap();
    assert_eq!((again.segments_copied, again.bytes_copied), (0, 0));
    for index in [8, 16, 24, 32, 40] {
        let point = RestorePoint::Index(Index(index));
        check_restore(&driver.machine, &driver.model, point, index);
    }
    driver.step_all(Job::Compact).unwrap();
    write(&mut driver, 1).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();

    let repository = repository(&driver.machine);
    let listed = repository.backups().unwrap();
    assert_eq!(listed.len(), 7);
    assert!(listed.is_sorted_by_key(|backup| (backup.number, backup.index, backup.time_us)));
    let segments = || {
        driver
            .machine
            .memory
            .file_names("repository/segments")
            .len()
    };
    let before = segments();
    assert!(matches!(
        repository.prune(0),
        Err(Error::InvalidOption { .. })
    ));
    let pruned = repository.prune(2).unwrap();
    assert_eq!(pruned.backups, 5);
    assert_eq!(pruned.segments as usize, before - segments());
    assert!(pruned.bytes > 0);
    assert_eq!(repository.backups().unwrap().len(), 2);
    assert_eq!(repository.prune(2).unwrap(), Default::default());
    for (point, index) in [
        (RestorePoint::Newest, 41),
        (RestorePoint::Index(Index(40)), 40),
    ] {
        check_restore(&driver.machine, &driver.model, point, index);
    }
    let gone = restore(&driver.machine, RESTORED, RestorePoint::Index(Index(39)));
    assert!(matches!(gone, Err(Error::Repository { .. })), "{gone:?}");
    assert!(repository.verify(|_| {}).unwrap().damage.is_empty());
}

#[test]
fn what_the_archive_lacks_is_not_pretended() {
    let mut driver = plain(6);
    write(&mut driver, 8).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    let point = RestorePoint::Index(Index(11));
    let report = restore(&driver.machine, RESTORED, point).unwrap();
    assert_eq!((report.index, report.reached), (Index(8), false));
}

#[test]
fn a_snapshot_is_copied_where_links_are_not_to_be_had() {
    let mut driver = plain(7);
    write(&mut driver, 20).unwrap();
    let kinds = &[kintsu::testing::OperationKind::Link];
    // Any error of a link is one of the disk but those that say that there is no such thing.
    let fault = kintsu::testing::Fault::for_good(1, kintsu::testing::FaultKind::Io).only(kinds);
    driver.machine.faults.inject(fault);
    let failed = driver.db().snapshot_to(SNAPSHOT);
    assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
    driver.machine.faults.clear_faults();
    let db = driver.options().vfs(std::sync::Arc::new(linkless::Linkless(
        driver.machine.faults.clone(),
    )));
    driver.let_go();
    let db = db.open().unwrap();
    let report = db.snapshot_to(SNAPSHOT).unwrap();
    assert!(report.bytes_copied > 0 && report.bytes_linked == 0);
    works_at(&driver.machine, &driver.model, SNAPSHOT, 20);
}

/// A store with a policy, and its repository's backups.
fn by_policy(policy: BackupPolicy) -> support::driver::Driver {
    let mut driver = support::driver::Driver::new(support::store::Machine::new(8))
        .tuned(move |options| options.backup_policy(policy.clone()));
    driver.open(support::check::Survived::ProcessDeath).unwrap();
    driver
}

fn made(driver: &support::driver::Driver) -> Vec<u64> {
    match repository(&driver.machine).backups() {
        Ok(backups) => backups.iter().map(|backup| backup.index.0).collect(),
        Err(Error::Repository { .. }) => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_policy_makes_backups_by_time_and_keeps_the_newest() {
    let hour = Duration::from_secs(3600);
    let mut driver = by_policy(BackupPolicy::new(REPOSITORY).every(hour).keep(2));
    driver.step_all(Job::Backup).unwrap();
    assert_eq!(made(&driver), [0; 0], "there is nothing to back up");
    let advance = |driver: &support::driver::Driver, short_ms: u64| {
        let clock = &driver.machine.clock;
        clock.advance(hour - Duration::from_millis(short_ms));
    };
    for round in 1..=4 {
        // Each write takes a millisecond.
        write(&mut driver, 1).unwrap();
        driver.step_all(Job::Backup).unwrap();
        let before = made(&driver);
        advance(&driver, 3);
        write(&mut driver, 1).unwrap();
        driver.step_all(Job::Backup).unwrap();
        assert_eq!(made(&driver), before, "it isn't due yet");
        driver.machine.clock.advance(Duration::from_millis(2));
        driver.step_all(Job::Backup).unwrap();
        let first = (2 * round - 2).max(1);
        assert_eq!(made(&driver), [first, 2 * round]);
        if round == 2 {
            // The newest is found again after a restart.
            driver.close().unwrap();
            driver.open(support::check::Survived::PowerLoss).unwrap();
        }
    }
    let statistics = driver.db().statistics();
    assert_eq!(
        (statistics.backups_made, statistics.backup_failure),
        (2, None)
    );
}

#[test]
fn a_policy_makes_backups_by_bytes_of_log_and_tries_again_after_a_failure() {
    let policy = BackupPolicy::new(REPOSITORY)
        .every(None)
        .every_log_bytes(20_000);
    let mut driver = by_policy(policy);
    write(&mut driver, 3).unwrap();
    driver.step_all(Job::Backup).unwrap();
    assert_eq!(made(&driver), [0; 0]);
    driver.db().put("large", vec![1; 20_000]).unwrap();
    let vfs: &dyn kintsu::vfs::Vfs = &driver.machine.memory.clone();
    let lock = vfs.lock("repository/LOCK".as_ref()).unwrap();
    let failed = driver.step(Job::Backup);
    assert!(matches!(failed, Err(Error::Locked { .. })), "{failed:?}");
    let statistics = driver.db().statistics();
    assert!(statistics.backup_failure.unwrap().contains(REPOSITORY));
    assert_eq!(statistics.latched, None);
    driver.db().put("writers", "go on").unwrap();
    drop(lock);
    driver.step_all(Job::Backup).unwrap();
    assert_eq!(made(&driver), [5]);
    assert_eq!(driver.db().statistics().backup_failure, None);
}

#[test]
fn threads_back_up_while_writing_goes_on() {
    let machine = support::store::Machine::new(9);
    let policy = BackupPolicy::new(REPOSITORY)
        .every(None)
        .every_log_bytes(100_000)
        .keep(3);
    let options = machine.options().background(kintsu::Background::Threads);
    let db = options
        .archive_to(REPOSITORY)
        .backup_policy(policy)
        .open()
        .unwrap();
    let mut written = 0_u64;
    while db.statistics().backups_made < 4 {
        db.put(written.to_be_bytes(), vec![7; 5_000]).unwrap();
        written += 1;
        assert!(written < 1_000_000, "{:?}", db.statistics());
    }
    loop {
        // The thread may hold the repository right now.
        match db.archive_now() {
            Err(Error::Locked { .. }) => std::thread::yield_now(),
            done => break assert_eq!(done.unwrap(), Index(written)),
        }
    }
    db.close().unwrap();
    let report = restore(&machine, RESTORED, RestorePoint::Newest).unwrap();
    assert_eq!((report.index, report.reached), (Index(written), true));
    let db = machine.options_at(RESTORED).open().unwrap();
    assert_eq!(db.range(..).unwrap().count() as u64, written);
}

/// A disk without hard links.
mod linkless {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    use kintsu::testing::FaultVfs;
    use kintsu::vfs::{Access, DirEntry, File, FileSystem, Lock, Vfs};

    #[derive(Debug)]
    pub struct Linkless(pub FaultVfs);

    impl Vfs for Linkless {
        fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
            self.0.open(path, access)
        }
        fn create_dir_all(&self, path: &Path) -> io::Result<()> {
            self.0.create_dir_all(path)
        }
        fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
            self.0.list(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.0.rename(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            self.0.remove(path)
        }
        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            self.0.sync_dir(path)
        }
        fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
            self.0.lock(path)
        }
        fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
            self.0.file_system(path)
        }
    }
}

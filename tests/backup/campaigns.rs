//! Power loss at every change of the disk, and every operation failing, while a snapshot, a backup, the
//! archive, a restore or a prune is at work.
//!
//! The store is unharmed, the backups that were there are whole, the new one is whole or absent, and doing
//! it again completes it.

use kintsu::testing::{Fault, FaultKind, MemoryVfs, OperationKind, SyncFailure, TearUnit};
use kintsu::{Error, Index, Job, RestorePoint, Result};

use crate::support::backup::*;
use crate::support::check::Survived;
use crate::support::driver::Driver;
use crate::support::model::Model;
use crate::support::store::Machine;
use crate::support::workload::is_final;
use crate::support::{Context, scale};

/// What is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Snapshot,
    Backup,
    Archive,
    Restore,
    Prune,
}

const TASKS: [Task; 5] = [
    Task::Snapshot,
    Task::Backup,
    Task::Archive,
    Task::Restore,
    Task::Prune,
];

/// The records that are archived, or in a backup, before a task begins.
const BEFORE: u64 = 17;
/// The records that there are then.
const ALL: u64 = 21;

/// A store, and a repository with two backups and an archive.
struct Ground {
    memory: MemoryVfs,
    machine: Machine,
    model: Model,
}

impl Ground {
    fn new() -> Self {
        let mut driver = archiving(20);
        write(&mut driver, 5).unwrap();
        driver.db().backup_to(REPOSITORY).unwrap();
        write(&mut driver, 8).unwrap();
        driver.flush().unwrap();
        driver.step_all(Job::Compact).unwrap();
        driver.db().backup_to(REPOSITORY).unwrap();
        write(&mut driver, BEFORE - 14).unwrap();
        load_one(&mut driver, 0).unwrap();
        assert_eq!(driver.db().archive_now().unwrap(), Index(BEFORE));
        load_one(&mut driver, 0).unwrap();
        write(&mut driver, ALL - BEFORE - 3).unwrap();
        wipe(&mut driver);
        write(&mut driver, 1).unwrap();
        driver.sync().unwrap();
        // What was loaded last is wanted by the archive alone.
        driver.flush().unwrap();
        driver.db().compact_range(..).unwrap();
        driver.step_all(Job::Reclaim).unwrap();
        driver.let_go();
        let machine = driver.machine.clone();
        Self {
            memory: machine.memory.kill(),
            machine,
            model: driver.model,
        }
    }

    /// The store, open on a copy of the disk.
    fn open(&self) -> Driver {
        let machine = self.machine.rebooted(self.memory.fork());
        let driver = Driver::resume(machine, self.model.clone());
        let mut driver = driver.tuned(|options| options.archive_to(REPOSITORY));
        driver.open(Survived::PowerLoss).unwrap();
        driver
    }
}

fn run(task: Task, driver: &Driver) -> Result<()> {
    match task {
        Task::Snapshot => driver.db().snapshot_to(SNAPSHOT).map(drop),
        Task::Backup => driver.db().backup_to(REPOSITORY).map(drop),
        Task::Archive => driver.db().archive_now().map(drop),
        Task::Restore => {
            let report = restore(&driver.machine, RESTORED, RestorePoint::Newest)?;
            if report.reached {
                assert_eq!(report.index, Index(BEFORE));
                return Ok(());
            }
            // What couldn't be read was passed over, and that was said.
            let skipped = report.skipped.first().expect("a reason").clone();
            open_at(&driver.machine, &driver.model, RESTORED, report.index.0);
            let vfs: &dyn kintsu::vfs::Vfs = &driver.machine.memory;
            vfs.rename(RESTORED.as_ref(), "passed over".as_ref())
                .unwrap();
            vfs.sync_dir("".as_ref()).unwrap();
            Err(skipped.why)
        }
        Task::Prune => repository(&driver.machine).prune(1).map(drop),
    }
}

/// Where a task builds a store, and what that must hold.
fn target(task: Task) -> Option<(&'static str, u64)> {
    match task {
        Task::Snapshot => Some((SNAPSHOT, ALL)),
        Task::Restore => Some((RESTORED, BEFORE)),
        _ => None,
    }
}

/// A disk on which a task was cut short: what was there is there, what is new is whole or absent. Returns
/// whether it is there.
fn check(task: Task, machine: &Machine, model: &Model) -> bool {
    let verified = repository(machine).verify(|_| {}).unwrap();
    assert_eq!(verified.damage, []);
    if task != Task::Prune {
        check_restore(machine, model, RestorePoint::Index(Index(5)), 5);
    }
    check_restore(machine, model, RestorePoint::Index(Index(15)), 15);
    let disk = machine.rebooted(machine.memory.fork());
    let newest = restore(&disk, "newest", RestorePoint::Newest).unwrap();
    assert!(newest.reached && newest.skipped.is_empty(), "{newest:?}");
    assert!((BEFORE..=ALL).contains(&newest.index.0), "{newest:?}");
    open_at(&disk, model, "newest", newest.index.0);
    if let Some((folder, index)) = target(task)
        && is_there(machine, folder)
    {
        works_at(machine, model, folder, index);
        return true;
    }
    false
}

/// Starts again on what is left, and does the task anew.
fn again(task: Task, machine: &Machine, model: &Model, seed: u64) {
    let was_there = check(task, machine, model);
    let driver = Driver::resume(machine.clone(), model.clone());
    let mut driver = driver.tuned(|options| options.archive_to(REPOSITORY));
    driver.open(Survived::PowerLoss).unwrap();
    match run(task, &driver) {
        Err(Error::FolderNotEmpty { .. }) if was_there => {}
        done => done.expect("the second attempt"),
    }
    completed(task, &driver, seed);
    write(&mut driver, 2).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    let last = driver.model.last;
    check_restore(machine, &driver.model, RestorePoint::Newest, last);
}

/// What a task that was done leaves, after a loss of power as well.
fn completed(task: Task, driver: &Driver, seed: u64) {
    let memory = &driver.machine.memory;
    let disks = [
        memory.crash(seed, TearUnit::Sector),
        memory.crash(seed, TearUnit::Page),
        memory.fork(),
    ];
    for (at, disk) in disks.into_iter().enumerate() {
        // One of them each time; all in a long run.
        if at as u64 != seed % 3 && scale() == 1 {
            continue;
        }
        let machine = driver.machine.rebooted(disk);
        let there = check(task, &machine, &driver.model);
        assert_eq!(there, target(task).is_some());
        if matches!(task, Task::Backup | Task::Archive) {
            check_restore(&machine, &driver.model, RestorePoint::Newest, ALL);
        }
        if task == Task::Prune {
            let backups = repository(&machine).backups().unwrap();
            assert_eq!(backups.len(), 1);
        }
        let names = repository_files(&machine).into_iter();
        let litter: Vec<_> = names.filter(|name| name.ends_with(".tmp")).collect();
        assert!(
            litter.is_empty() || !matches!(task, Task::Backup),
            "{litter:?}"
        );
    }
}

#[test]
fn campaign_power_is_lost_at_every_change() {
    let ground = Ground::new();
    for task in TASKS {
        let _task = Context("task", task);
        let mut points = 0;
        loop {
            let _point = Context("power lost after changes", points);
            let driver = ground.open();
            driver.machine.faults.crash_after_changes(points);
            let done = run(task, &driver);
            if !driver.machine.faults.crashed() {
                done.unwrap();
                (0..3).for_each(|seed| completed(task, &driver, seed));
                break;
            }
            for seed in 0..scale() + 1 {
                let unit = [TearUnit::Sector, TearUnit::Page][seed as usize % 2];
                let seed = points * 1001 + seed;
                let disk = driver.machine.memory.crash(seed, unit);
                again(task, &driver.machine.rebooted(disk), &driver.model, seed);
            }
            points += 1;
        }
        assert!(points > 4, "{task:?} has {points} changes");
        println!("backup crash points, {task:?}: {points} points");
    }
}

/// Does the task while the n-th operation fails; whether one did.
fn fail(ground: &Ground, task: Task, fault: Fault, n: u64) -> bool {
    let mut driver = ground.open();
    driver.machine.faults.inject(fault);
    let outcome = run(task, &driver);
    let hit = driver.machine.faults.faults_hit() > 0;
    driver.machine.faults.clear_faults();
    if let Err(error) = &outcome {
        assert!(hit, "{error:?}");
        let latched = driver.db().statistics().latched.is_some();
        assert!(latched == is_final(error), "latched {latched} by {error:?}");
    }
    driver.check().unwrap();
    if driver.db().statistics().latched.is_some() {
        driver.let_go();
        driver.reboot(driver.machine.memory.kill());
        driver.open(Survived::ProcessDeath).unwrap();
    }
    // At once, on what the failure has left, or after a loss of power.
    if n.is_multiple_of(2) || scale() > 1 {
        let disk = driver.machine.memory.crash(n, TearUnit::Sector);
        again(task, &driver.machine.rebooted(disk), &driver.model, n);
        if scale() == 1 {
            return hit;
        }
    }
    let was_there = target(task).is_some_and(|(folder, _)| is_there(&driver.machine, folder));
    match run(task, &driver) {
        Err(Error::FolderNotEmpty { .. }) if was_there => {}
        done => {
            done.expect("the second attempt");
            completed(task, &driver, n);
        }
    }
    hit
}

#[test]
fn campaign_every_operation_fails() {
    use OperationKind as K;
    let ground = Ground::new();
    let syncs = [K::SyncData, K::SyncDir];
    let variants: [(&str, FaultKind, &[K]); 4] = [
        ("fails", FaultKind::Io, &[]),
        (
            "finds no room",
            FaultKind::NoSpace,
            &[K::Create, K::Write, K::Preallocate, K::Rename],
        ),
        (
            "is done and fails",
            FaultKind::IoAfter,
            &[K::Rename, K::Create, K::Link, K::Remove],
        ),
        ("loses its pages", FaultKind::Io, &syncs),
    ];
    for (name, kind, only) in variants {
        for task in TASKS {
            let _task = Context("task", (task, name));
            let mut n = 1;
            loop {
                let _n = Context("n", n);
                let fault = Fault::once(n, kind).only(only);
                let lost = SyncFailure::PagesReverted;
                if !fail(&ground, task, fault.sync_failure(lost), n) {
                    break;
                }
                n += 1;
            }
            println!(
                "backup, an operation {name}, {task:?}: {} operations",
                n - 1
            );
        }
    }
}

#[test]
fn a_backup_cut_short_copies_only_what_is_missing() {
    let mut first = plain(21);
    for _ in 0..3 {
        write(&mut first, 5).unwrap();
        first.flush().unwrap();
    }
    first.let_go();
    let boot = |memory: &MemoryVfs| {
        let machine = first.machine.rebooted(memory.fork());
        let mut driver = Driver::resume(machine, first.model.clone());
        driver.open(Survived::ProcessDeath).unwrap();
        driver
    };
    let whole = boot(&first.machine.memory)
        .db()
        .backup_to(REPOSITORY)
        .unwrap();
    assert!(whole.segments_copied >= 3, "{whole:?}");
    let mut seen = std::collections::BTreeSet::new();
    for changes in 0.. {
        let driver = boot(&first.machine.memory);
        driver.machine.faults.crash_after_changes(changes);
        let done = driver.db().backup_to(REPOSITORY).is_ok();
        if done {
            break;
        }
        let driver = boot(&driver.machine.memory.kill());
        let again = driver.db().backup_to(REPOSITORY).unwrap();
        seen.insert(again.segments_copied);
    }
    assert!(
        seen.contains(&0) && seen.len() as u64 > whole.segments_copied,
        "{seen:?}"
    );
}

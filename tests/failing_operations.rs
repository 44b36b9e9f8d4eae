//! The n-th operation of the disk fails, for n = 1, 2, 3 … until none is reached: with an I/O error,
//! with a full disk, half-way through a write; once and for good; and failed syncs whose pages are kept
//! or reverted in the cache. And a disk that really is full.
//!
//! No panic; errors that ask for the right reaction; reads go on after a latch; what was acknowledged is
//! there after a restart and after a loss of power; a full disk refuses writes without latching, opens,
//! and takes writes again once there is room.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use std::time::Duration;

use kintsu::testing::{Fault, FaultKind, OperationKind, SeededRng, SyncFailure, TearUnit};
use kintsu::{Error, Job, Reaction, Result};

use support::check::Survived;
use support::driver::Driver;
use support::store::Machine;
use support::workload::{EVERYTHING, Step, afterwards, is_final};
use support::{Context, scale};

use OperationKind as K;

/// What only looks at the disk.
const LOOKS: &[K] = &[K::Open, K::Read, K::Len, K::List, K::FileSystem];
/// What changes it.
const CHANGES: &[K] = &[
    K::Create,
    K::Write,
    K::SyncData,
    K::SetLen,
    K::Preallocate,
    K::CreateDir,
    K::Rename,
    K::Remove,
    K::SyncDir,
];
/// What can find no room.
const GROWS: &[K] = &[
    K::Create,
    K::Write,
    K::SetLen,
    K::Preallocate,
    K::CreateDir,
    K::Rename,
];

/// One way in which the disk fails.
#[derive(Clone, Copy, Debug)]
struct Variant {
    kind: FaultKind,
    for_good: bool,
    only: &'static [K],
    sync: SyncFailure,
    /// Whether what a sync has acknowledged may be lost all the same, because the disk lied.
    lies: bool,
    at_once: bool,
}

impl Variant {
    const fn new(kind: FaultKind, for_good: bool, only: &'static [K]) -> Self {
        let sync = SyncFailure::PagesKept;
        Self {
            kind,
            for_good,
            only,
            sync,
            lies: false,
            at_once: false,
        }
    }

    const fn sync(self, sync: SyncFailure) -> Self {
        Self { sync, ..self }
    }

    fn fault(&self, n: u64) -> Fault {
        let fault = match self.for_good {
            true => Fault::for_good(n, self.kind),
            false => Fault::once(n, self.kind),
        };
        fault.only(self.only).sync_failure(self.sync)
    }

    fn driver(&self) -> Driver {
        let driver = Driver::new(Machine::new(11));
        match self.at_once {
            true => driver.tuned(|options| options.identifier_delay(Duration::ZERO)),
            false => driver,
        }
    }

    /// Whether reads can't be struck.
    fn reads_are_safe(&self) -> bool {
        !self.only.contains(&K::Read)
    }

    /// After a failed sync what merely was handed to the system can be lost, though the process goes on;
    /// after one that lied, anything.
    fn lower(&self, driver: &mut Driver) {
        let syncs = self.only.contains(&K::SyncData) || self.only.contains(&K::SyncDir);
        if driver.machine.faults.faults_hit() <= driver.faults_excused || !syncs {
            return;
        }
        if self.lies {
            driver.model.disk = 0;
        }
        driver.model.process = driver.model.disk;
    }
}

/// What has been seen in one variant.
#[derive(Debug, Default)]
struct Counts {
    runs: u64,
    retried: u64,
    latched: u64,
    open_refused: u64,
    reopened: u64,
    refused_for_good: u64,
}

/// Whether an error is one that a failing disk may lead to.
fn assert_class(error: &Error, step: Step, driver: &Driver, variant: &Variant) {
    let expected = match error {
        Error::Io { .. } | Error::NoSpace { .. } => Reaction::Retry,
        Error::OutcomeUnknown { .. } | Error::Poisoned { .. } => Reaction::Stop,
        Error::Damaged(_) if variant.lies => Reaction::Repair,
        other => panic!("{step:?} answers {other:?}"),
    };
    assert_eq!(error.reaction(), expected);
    if let Some(db) = &driver.db {
        let latched = db.statistics().latched.is_some();
        assert_eq!(latched, is_final(error), "{step:?}: {error:?}");
    }
}

/// Does a step; after an error checks that reads go on, and that it says the truth about writes.
fn take(driver: &mut Driver, variant: &Variant, step: Step, counts: &mut Counts) {
    let _step = Context("step", step);
    variant.lower(driver);
    let Err(error) = driver.take(step) else {
        if step == Step::Open && driver.db.is_some() {
            driver.faults_excused = driver.machine.faults.faults_hit();
        }
        return;
    };
    assert_class(&error, step, driver, variant);
    if driver.db.is_none() {
        counts.open_refused += 1;
        if !variant.for_good && !variant.lies && step == Step::Open {
            variant.lower(driver);
            driver.take(step).expect("a second try to open");
            driver.faults_excused = driver.machine.faults.faults_hit();
        }
        return;
    }
    let read = driver.check();
    assert!(
        read.is_ok() || variant.for_good && !variant.reads_are_safe(),
        "{read:?}"
    );
    if is_final(&error) {
        counts.latched += 1;
        let again = driver.take(Step::Put("after", 1, kintsu::Durability::Buffered));
        assert!(matches!(again, Err(Error::Poisoned { .. })), "{again:?}");
    } else if !variant.for_good && step != Step::Job(Job::Commit) {
        counts.retried += 1;
        driver.take(step).expect("a second try");
        driver.check().expect("reads after a second try");
    }
}

/// The disk is well again: restart, or lose power, or both, and look at what is there.
fn reopen(mut driver: Driver, variant: &Variant, rng: &mut SeededRng, counts: &mut Counts) {
    variant.lower(&mut driver);
    let Driver {
        machine, model, db, ..
    } = driver;
    machine.faults.clear_faults();
    let restart = machine.rebooted(machine.memory.kill());
    let unit = if rng.one_in(2) {
        TearUnit::Sector
    } else {
        TearUnit::Page
    };
    let power_loss = machine.rebooted(machine.memory.crash(rng.next_u64(), unit));
    // The store that lived through it goes last, as one that nobody closed.
    drop(db);
    let left = machine.rebooted(machine.memory.clone());
    let ways = [
        (power_loss, Survived::PowerLoss, "power loss"),
        (restart, Survived::ProcessDeath, "kill"),
        (left, Survived::ProcessDeath, "drop"),
    ];
    // Each fault is followed by one of them; by all of them in a long run.
    let only = rng.below(3) as usize;
    for (at, (machine, survived, how)) in ways.into_iter().enumerate() {
        if at != only && scale() == 1 {
            continue;
        }
        let _how = Context("reopened after", how);
        let mut driver = Driver::resume(machine, model.clone());
        match driver.open(survived) {
            Ok(()) => {}
            Err(Error::Damaged(_)) if variant.lies => {
                counts.refused_for_good += 1;
                continue;
            }
            Err(error) => panic!("{error:?}"),
        }
        counts.reopened += 1;
        let steps = afterwards(rng.next_u64());
        // What a restart has read must not hang on pages that never got to the disk; a flush at the
        // end of the steps would hide that.
        let before = rng.below(steps.len() as u64 + 1) as usize;
        let (before, after) = steps.split_at(before);
        driver.run(before).expect("writes after reopening");
        if !variant.only.contains(&K::SyncDir) {
            let disk = driver.machine.memory.crash(rng.next_u64(), unit);
            driver.reboot(disk);
            driver
                .open(Survived::PowerLoss)
                .expect("after another loss of power");
        }
        driver.run(after).expect("more writes after reopening");
    }
}

fn campaign(name: &str, variants: &[Variant]) {
    for variant in variants {
        let _variant = Context("variant", variant);
        let mut counts = Counts::default();
        for n in 1.. {
            let _n = Context("n", n);
            let mut driver = variant.driver();
            driver.machine.faults.inject(variant.fault(n));
            for step in EVERYTHING {
                take(&mut driver, variant, *step, &mut counts);
            }
            if driver.machine.faults.faults_hit() == 0 {
                break;
            }
            counts.runs += 1;
            for seed in 0..scale() {
                let mut rng = SeededRng::new(n * 1000 + seed);
                if seed + 1 == scale() {
                    reopen(driver, variant, &mut rng, &mut counts);
                    break;
                }
                let machine = driver.machine.rebooted(driver.machine.memory.fork());
                let copy = Driver::resume(machine, driver.model.clone());
                reopen(copy, variant, &mut rng, &mut counts);
            }
        }
        assert!(counts.runs > 10, "{counts:?}");
        println!("failing operations, {name}, {variant:?}: {counts:?}");
    }
}

#[test]
fn each_change_fails_once() {
    campaign("changes", &[Variant::new(FaultKind::Io, false, CHANGES)]);
}

#[test]
fn each_change_fails_for_good() {
    campaign("changes", &[Variant::new(FaultKind::Io, true, CHANGES)]);
}

#[test]
fn each_change_is_done_and_fails() {
    campaign(
        "changes",
        &[Variant::new(FaultKind::IoAfter, false, CHANGES)],
    );
}

#[test]
fn each_look_fails() {
    let variants = [
        Variant::new(FaultKind::Io, false, LOOKS),
        Variant::new(FaultKind::Io, true, LOOKS),
    ];
    campaign("looks", &variants);
}

#[test]
fn each_write_finds_no_room() {
    let variants = [
        Variant::new(FaultKind::NoSpace, false, GROWS),
        Variant::new(FaultKind::NoSpace, true, GROWS),
    ];
    campaign("no space", &variants);
}

#[test]
fn each_write_stops_half_way() {
    let variants = [
        Variant::new(FaultKind::ShortWrite, false, &[K::Write]),
        Variant::new(FaultKind::ShortWrite, true, &[K::Write]),
    ];
    campaign("short writes", &variants);
}

#[test]
fn each_sync_fails_and_loses_its_pages() {
    use SyncFailure::{PagesKept, PagesReverted};
    let syncs = |for_good| Variant::new(FaultKind::Io, for_good, &[K::SyncData]);
    let at_once = |variant| Variant {
        at_once: true,
        ..variant
    };
    let variants = [
        syncs(false).sync(PagesKept),
        syncs(true).sync(PagesKept),
        syncs(false).sync(PagesReverted),
        syncs(true).sync(PagesReverted),
        at_once(syncs(false).sync(PagesKept)),
        at_once(syncs(false).sync(PagesReverted)),
    ];
    campaign("syncs", &variants);
}

/// Here the disk says that something is durable which isn't. Nobody can keep a promise then; but a wrong
/// answer is still none, and what was known durable before must not be lost silently.
#[test]
fn each_sync_fails_and_says_so_late() {
    let late = Variant::new(FaultKind::Io, false, &[K::SyncData, K::SyncDir]);
    let late = Variant {
        lies: true,
        ..late.sync(SyncFailure::ReportedLate)
    };
    campaign("late reports", &[late]);
}

/// Does a step on a disk that may be full. Whether it met that.
fn take_on_full_disk(driver: &mut Driver, step: Step) -> bool {
    let _step = Context("step on a full disk", step);
    let Err(error) = driver.take(step) else {
        return false;
    };
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    assert_eq!(error.reaction(), Reaction::Retry);
    if let Some(db) = &driver.db {
        assert_eq!(db.statistics().latched, None);
        driver.check().expect("reads on a full disk");
    }
    true
}

/// Bytes that the disk has in use.
fn used_bytes(driver: &Driver) -> u64 {
    let large = 1 << 40;
    driver.machine.memory.set_capacity(Some(large));
    let used = large - driver.machine.memory.bytes_free().unwrap();
    driver.machine.memory.set_capacity(None);
    used
}

/// Opens with not one byte free, reads everything, and writes once there is room.
fn reopen_without_room(driver: &mut Driver) -> Result<()> {
    let used = used_bytes(driver);
    driver.machine.memory.set_capacity(Some(used));
    assert_eq!(driver.machine.memory.bytes_free(), Some(0));
    driver.open(Survived::ProcessDeath)?;
    let refused = driver.take(Step::Put("full", 1, kintsu::Durability::Disk));
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
    driver.check()?;
    driver.machine.memory.set_capacity(None);
    driver.run(&afterwards(used))?;
    driver.close()
}

/// The disk is full after so many pages; there is room again after the first refusal, or only after the
/// store has been dropped.
fn fill_up(pages: u64, stays_full: bool) -> (u64, bool) {
    let _pages = Context("pages", (pages, stays_full));
    let mut driver = Driver::new(Machine::new(13));
    driver.machine.memory.set_capacity(Some(pages * 4096));
    let mut refused = 0;
    for step in EVERYTHING {
        let step = *step;
        if !take_on_full_disk(&mut driver, step) {
            continue;
        }
        refused += 1;
        if !stays_full {
            driver.machine.memory.set_capacity(None);
            if step != Step::Job(Job::Commit) {
                driver.take(step).expect("there is room again");
            }
        } else if driver.db.is_none() && step == Step::Open {
            break;
        }
    }
    driver.let_go();
    if driver.model.last > 0 {
        reopen_without_room(&mut driver).expect("a store on a full disk");
    }
    (refused, refused > 0)
}

#[test]
fn the_disk_fills_up() {
    let (mut runs, mut refused) = (0, 0);
    for stays_full in [false, true] {
        for pages in 0.. {
            let (some, full) = fill_up(pages, stays_full);
            runs += 1;
            refused += some;
            if !full {
                break;
            }
        }
    }
    println!("disk full: {runs} sizes of disk, {refused} steps refused, none latched");
}

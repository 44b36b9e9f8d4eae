//! The n-th operation of the disk fails, for n = 1, 2, 3 … until none is reached: with an I/O error,
//! with a full disk, half-way through a write; once and for good; and failed syncs of each kind of file, whose
//! pages are kept or reverted in the cache, or which are reported late.
//!
//! No panic; errors that ask for the right reaction; reads go on after a latch; what was acknowledged is
//! there after the store has gone on, after a restart and after a loss of power.

use std::time::Duration;

use kintsu::testing::{Fault, FaultKind, OperationKind, SeededRng, SyncFailure, TearUnit};
use kintsu::{Error, Job, Reaction};

use crate::support::Context;
use crate::support::check::Survived;
use crate::support::driver::Driver;
use crate::support::store::Machine;
use crate::support::workload::{EVERYTHING, Step, afterwards, is_final};

use super::play::Plan;
use super::table::{Played, Table, Verdict};

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
    /// Only files and folders whose names have this in them.
    on: &'static str,
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
            on: "",
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
        fault.only(self.only).on(self.on).sync_failure(self.sync)
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

/// Does a step; after an error checks that reads go on, and that it says the truth about writes. Says what
/// the error was like.
fn take(driver: &mut Driver, variant: &Variant, step: Step) -> Option<&'static str> {
    let _step = Context("step", step);
    variant.lower(driver);
    let Err(error) = driver.take(step) else {
        if step == Step::Open && driver.db.is_some() {
            driver.faults_excused = driver.machine.faults.faults_hit();
        }
        return None;
    };
    assert_class(&error, step, driver, variant);
    if driver.db.is_none() {
        if !variant.for_good && !variant.lies && step == Step::Open {
            variant.lower(driver);
            driver.take(step).expect("a second try to open");
            driver.faults_excused = driver.machine.faults.faults_hit();
        }
        return Some(NOT_OPENED);
    }
    let read = driver.check();
    assert!(
        read.is_ok() || variant.for_good && !variant.reads_are_safe(),
        "{read:?}"
    );
    if is_final(&error) {
        let again = driver.take(Step::Put("after", 1, kintsu::Durability::Buffered));
        assert!(matches!(again, Err(Error::Poisoned { .. })), "{again:?}");
        return Some(LATCHED);
    }
    if !variant.for_good && step != Step::Job(Job::Commit) {
        driver.take(step).expect("a second try");
        driver.check().expect("reads after a second try");
    }
    Some(REFUSED)
}

const NOT_OPENED: &str = "the open failed";
const LATCHED: &str = "latched, reads go on";
const REFUSED: &str = "the call failed, and can be made again";

/// What comes after a fault, once the disk is well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The store is dropped by the process that went on with it, and opened again.
    GoOn,
    /// The process dies.
    Restart,
    /// The machine loses power.
    Reboot,
}

const AFTER: [After; 3] = [After::GoOn, After::Restart, After::Reboot];

/// Looks at what is there, and writes on. Whether it was refused as damaged, by a disk that lied.
fn reopen(mut driver: Driver, variant: &Variant, after: After, rng: &mut SeededRng) -> bool {
    variant.lower(&mut driver);
    let Driver {
        machine, model, db, ..
    } = driver;
    machine.faults.clear_faults();
    let unit = *rng.pick(&[TearUnit::Sector, TearUnit::Page]).unwrap();
    let (machine, survived) = match after {
        After::GoOn => {
            drop(db);
            let left = machine.rebooted(machine.memory.clone());
            (left, Survived::ProcessDeath)
        }
        After::Restart => {
            let left = machine.memory.kill();
            (machine.rebooted(left), Survived::ProcessDeath)
        }
        After::Reboot => {
            let left = machine.memory.crash(rng.next_u64(), unit);
            (machine.rebooted(left), Survived::PowerLoss)
        }
    };
    let mut driver = Driver::resume(machine, model);
    match driver.open(survived) {
        Ok(()) => {}
        Err(Error::Damaged(_)) if variant.lies => return true,
        Err(error) => panic!("{error:?}"),
    }
    let steps = afterwards(rng.next_u64());
    // What a restart has read must not hang on pages that never got to the disk; a flush at the
    // end of the steps would hide that.
    let before = rng.below(steps.len() as u64 + 1) as usize;
    let (before, after) = steps.split_at(before);
    driver.run(before).expect("writes after reopening");
    if !variant.only.contains(&K::SyncDir) {
        let disk = driver.machine.memory.crash(rng.next_u64(), unit);
        driver.reboot(disk);
        match driver.open(Survived::PowerLoss) {
            Err(Error::Damaged(_)) if variant.lies => return true,
            other => other.expect("after another loss of power"),
        }
    }
    driver.run(after).expect("more writes after reopening");
    false
}

/// The n-th operation that a variant counts fails; `None` if there are fewer.
fn fail(variant: &Variant, n: u64, after: After, seed: u64) -> Option<Verdict> {
    let _variant = Context("variant, n, after", (variant, n, after));
    let mut driver = variant.driver();
    driver.machine.faults.inject(variant.fault(n));
    let mut said = None;
    for step in EVERYTHING {
        let answer = take(&mut driver, variant, *step);
        said = said.or(answer);
    }
    if driver.machine.faults.faults_hit() == 0 {
        return None;
    }
    let mut rng = SeededRng::new((n * 1000 + after as u64) ^ seed << 40);
    Some(match reopen(driver, variant, after, &mut rng) {
        true => Verdict::Refused("damaged, after a disk that lied"),
        false => said.map_or(Verdict::Harmless, Verdict::Refused),
    })
}

/// Series, place, variant: what fails, and how.
const OPERATIONS: &[(&str, &str, Variant)] = {
    use FaultKind::{Io, IoAfter, NoSpace, ShortWrite};
    &[
        (
            "io-once",
            "a change: I/O error, once",
            Variant::new(Io, false, CHANGES),
        ),
        (
            "io-good",
            "a change: I/O error, for good",
            Variant::new(Io, true, CHANGES),
        ),
        (
            "io-done",
            "a change: done, and I/O error",
            Variant::new(IoAfter, false, CHANGES),
        ),
        (
            "look-once",
            "a look: I/O error, once",
            Variant::new(Io, false, LOOKS),
        ),
        (
            "look-good",
            "a look: I/O error, for good",
            Variant::new(Io, true, LOOKS),
        ),
        (
            "room-once",
            "no room, once",
            Variant::new(NoSpace, false, GROWS),
        ),
        (
            "room-good",
            "no room, for good",
            Variant::new(NoSpace, true, GROWS),
        ),
        (
            "short-once",
            "half a write, once",
            Variant::new(ShortWrite, false, &[K::Write]),
        ),
        (
            "short-good",
            "half a write, for good",
            Variant::new(ShortWrite, true, &[K::Write]),
        ),
    ]
};

pub fn operations(plan: &Plan) -> Table {
    let mut table = Table::default();
    for (series, place, variant) in OPERATIONS {
        // Each n with one of the three ways to go on; in the long form with each of them.
        let ways = plan.pick(1, 3);
        table.add(
            plan.play("the n-th operation fails", series, u64::MAX, |number| {
                let n = number / ways + 1;
                let after = AFTER[((number + plan.seed) % 3) as usize];
                let verdict = fail(variant, n, after, plan.seed)?;
                Some(Played::new(*place, verdict))
            }),
        );
    }
    table
}

/// Whose syncs fail: operation, part of the name, place.
const SYNCED: &[(&[K], &str, &str)] = &[
    (&[K::SyncData], ".log", "log"),
    (&[K::SyncData], ".ids", "identifiers"),
    (&[K::SyncData], "manifest", "manifest"),
    (&[K::SyncData], ".segment", "segment"),
    (&[K::SyncDir], "", "folder"),
];

const SYNC_FAILURES: &[(SyncFailure, &str)] = &[
    (SyncFailure::PagesKept, "pages kept"),
    (SyncFailure::PagesReverted, "pages reverted"),
    (SyncFailure::ReportedLate, "reported late"),
];

/// The n-th sync of a kind of file fails. One that is reported late says of something that it is durable
/// which isn't: nobody can keep a promise then; but a wrong answer is still none, and damage has a name.
pub fn syncs(plan: &Plan) -> Table {
    let mut table = Table::default();
    for (only, on, kind) in SYNCED {
        for (failure, how) in SYNC_FAILURES {
            for (for_good, at_once) in [(false, false), (true, false), (false, true)] {
                let lies = *failure == SyncFailure::ReportedLate;
                if lies && (for_good || at_once) || !plan.long && for_good {
                    continue;
                }
                let variant = Variant {
                    lies,
                    on,
                    at_once,
                    ..Variant::new(FaultKind::Io, for_good, only).sync(*failure)
                };
                let series = format!("sync-{kind}-{how}-{for_good}-{at_once}").replace(' ', "-");
                table.add(
                    plan.play("the n-th sync fails", &series, u64::MAX, |number| {
                        let after = AFTER[number as usize % 3];
                        let verdict = fail(&variant, number / 3 + 1, after, plan.seed)?;
                        let place = format!("{kind}: {how}, then {after:?}");
                        Some(Played::new(place, verdict))
                    }),
                );
            }
        }
    }
    table
}

//! Power loss at every point of a workload that touches everything: recover, check, write on, lose
//! power again at a random point of that, recover, check, write. And power loss at every point of
//! recovery itself.
//!
//! What was acknowledged as durable is there, the rest is a prefix of what was written, never half a
//! batch; a recovery that is cut short changes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use kintsu::Options;
use kintsu::testing::{MemoryVfs, SeededRng, TearUnit};

use support::check::Survived;
use support::driver::Driver;
use support::model::Model;
use support::store::Machine;
use support::workload::{EVERYTHING, afterwards};
use support::{Context, only_seed, scale};

/// A disk after a loss of power, and what it must hold.
struct Crashed {
    machine: Machine,
    model: Model,
    disk: MemoryVfs,
    seed: u64,
}

impl Crashed {
    fn machine(&self) -> Machine {
        self.machine.rebooted(self.disk.fork())
    }

    fn driver(&self, tune: fn(Options) -> Options) -> Driver {
        Driver::resume(self.machine(), self.model.clone()).tuned(tune)
    }
}

/// Runs the workload until the power fails after `changes` changes of the disk. `None` if it came to
/// its end before that.
fn run_until(changes: u64, tune: fn(Options) -> Options) -> Option<Driver> {
    let mut driver = Driver::new(Machine::new(7)).tuned(tune);
    driver.machine.faults.crash_after_changes(changes);
    let outcome = driver.run(EVERYTHING);
    let crashed = driver.machine.faults.crashed();
    assert!(crashed || outcome.is_ok(), "{outcome:?} with the power on");
    crashed.then_some(driver)
}

/// Recovers, checks, writes, closes, opens once more. Returns the newest record that was recovered,
/// and the changes that opening alone and all of it took.
fn recover(crashed: &Crashed, tune: fn(Options) -> Options) -> (u64, u64, u64) {
    let mut driver = crashed.driver(tune);
    driver.open(Survived::PowerLoss).expect("recovery");
    let (last, opening) = (driver.model.last, driver.machine.faults.changes());
    let steps = afterwards(crashed.seed);
    driver.run(&steps).expect("writes after recovery");
    let all = driver.machine.faults.changes();
    driver.check().expect("reads after recovery");
    driver.close().expect("closing after recovery");
    driver
        .open(Survived::PowerLoss)
        .expect("opening a closed store");
    assert!(driver.db().recovery_report().closed_cleanly);
    (last, opening, all)
}

/// Loses power again after so many changes since the restart; `last` is what an undisturbed recovery
/// finds.
fn crash_again(
    crashed: &Crashed,
    changes: u64,
    last: u64,
    rng: &mut SeededRng,
    unit: TearUnit,
    tune: fn(Options) -> Options,
) {
    let _context = Context("power lost again after changes", changes);
    let mut driver = crashed.driver(tune);
    driver.machine.faults.crash_after_changes(changes);
    let opened = driver.open(Survived::PowerLoss);
    if opened.is_ok() {
        assert_eq!(driver.model.last, last, "two recoveries of one disk differ");
        let outcome = driver.run(&afterwards(crashed.seed));
        assert!(driver.machine.faults.crashed() || outcome.is_ok());
    } else {
        assert!(driver.machine.faults.crashed(), "{opened:?}");
    }
    let disk = driver.machine.memory.crash(rng.next_u64(), unit);
    let was_open = opened.is_ok();
    driver.reboot(disk);
    driver.open(Survived::PowerLoss).expect("second recovery");
    assert!(
        was_open || driver.model.last == last,
        "a recovery that was cut short has changed what there is: {} instead of {last}",
        driver.model.last
    );
    let steps = afterwards(crashed.seed + 1);
    driver
        .run(&steps)
        .expect("writes after the second recovery");
    let disk = driver.machine.memory.crash(rng.next_u64(), unit);
    driver.reboot(disk);
    driver.open(Survived::PowerLoss).expect("third recovery");
}

/// The process dies, not the machine; the power fails after so many changes since the restart. Whatever
/// an open has shown must still be there then.
fn die_first(driver: &Driver, rng: &mut SeededRng, plan: Plan) {
    let machine = driver.machine.rebooted(driver.machine.memory.kill());
    let mut second = Driver::resume(machine, driver.model.clone()).tuned(plan.tune);
    let changes = rng.below(40);
    let _context = Context("killed, and then the power lost after changes", changes);
    second.machine.faults.crash_after_changes(changes);
    let opened = second.open(Survived::ProcessDeath);
    if opened.is_ok() {
        let outcome = second.run(&afterwards(rng.next_u64()));
        assert!(second.machine.faults.crashed() || outcome.is_ok());
    } else {
        assert!(second.machine.faults.crashed(), "{opened:?}");
    }
    let disk = second.machine.memory.crash(rng.next_u64(), plan.unit);
    second.reboot(disk);
    second
        .open(Survived::PowerLoss)
        .expect("recovery after both");
    let steps = afterwards(rng.next_u64());
    second.run(&steps).expect("writes after both");
}

/// How much of the work a test does.
#[derive(Clone, Copy)]
struct Plan {
    name: &'static str,
    unit: TearUnit,
    tune: fn(Options) -> Options,
    seeds: u64,
    /// Every so many crash points recovery is cut short at each of its changes.
    every_recovery: u64,
}

fn campaign(plan: Plan) {
    let Plan {
        name, unit, tune, ..
    } = plan;
    let seeds = plan.seeds * scale();
    let (mut points, mut recoveries, mut again) = (0, 0, 0);
    while let Some(driver) = run_until(points, tune) {
        let _point = Context("power lost after changes", points);
        let exhaustive = points % plan.every_recovery == 0;
        for number in 0..seeds {
            let seed = only_seed().unwrap_or(points * 1_000_003 + number);
            let _seed = Context("KINTSU_SEED", seed);
            let crashed = Crashed {
                machine: driver.machine.clone(),
                model: driver.model.clone(),
                disk: driver.machine.memory.crash(seed, unit),
                seed,
            };
            let (last, opening, all) = recover(&crashed, tune);
            recoveries += 1;
            let mut rng = SeededRng::new(seed);
            let within = rng.below(all + 1);
            crash_again(&crashed, within, last, &mut rng, unit, tune);
            die_first(&driver, &mut rng, plan);
            again += 2;
            if exhaustive && number == 0 {
                // A little past the open: its cuts become durable with the first write.
                for change in 0..all.min(opening + 12) {
                    crash_again(&crashed, change, last, &mut rng, unit, tune);
                    again += 1;
                }
            }
        }
        points += 1;
    }
    assert!(points > 200, "the workload is too short");
    println!(
        "crash points, {name}: {points} points, {recoveries} recoveries checked, {again} second crashes"
    );
}

fn as_is(options: Options) -> Options {
    options
}

fn at_once(options: Options) -> Options {
    options
        .identifier_delay(std::time::Duration::ZERO)
        .log_buffer_bytes(0)
}

#[test]
fn sectors() {
    campaign(Plan {
        name: "512 bytes",
        unit: TearUnit::Sector,
        tune: as_is,
        seeds: 2,
        every_recovery: 20,
    });
}

#[test]
fn pages() {
    campaign(Plan {
        name: "4,096 bytes",
        unit: TearUnit::Page,
        tune: as_is,
        seeds: 2,
        every_recovery: 20,
    });
}

#[test]
fn identifiers_before_the_acknowledgement() {
    campaign(Plan {
        name: "identifiers at once, 512 bytes",
        unit: TearUnit::Sector,
        tune: at_once,
        seeds: 1,
        every_recovery: 50,
    });
    campaign(Plan {
        name: "identifiers at once, 4,096 bytes",
        unit: TearUnit::Page,
        tune: at_once,
        seeds: 1,
        every_recovery: 50,
    });
}

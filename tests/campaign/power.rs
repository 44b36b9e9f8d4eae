//! Power loss: with every subset of the last batch's sectors on the disk, at every change of a workload that
//! touches everything, and at every change inside recovery and inside mending, twice in a row.
//!
//! What was acknowledged as durable is there, the rest is a prefix of what was written, never half a
//! batch; a recovery that is cut short changes nothing. (A crash before or after a read leaves the same, so
//! the operations that count are those that change the disk.)

use kintsu::testing::{MemoryVfs, SeededRng, TearUnit};
use kintsu::{Durability, Job, Options};

use crate::support::Context;
use crate::support::check::Survived;
use crate::support::driver::Driver;
use crate::support::model::Model;
use crate::support::store::{FOLDER, Machine, path};
use crate::support::workload::{EVERYTHING, Step, afterwards};

use super::play::Plan;
use super::sample::{File, Sample, files_in, tune};
use super::table::{Played, Table, Verdict};

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
fn die_first(driver: &Driver, rng: &mut SeededRng, way: Way) {
    let machine = driver.machine.rebooted(driver.machine.memory.kill());
    let mut second = Driver::resume(machine, driver.model.clone()).tuned(way.tune);
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
    let disk = second.machine.memory.crash(rng.next_u64(), way.unit);
    second.reboot(disk);
    second
        .open(Survived::PowerLoss)
        .expect("recovery after both");
    let steps = afterwards(rng.next_u64());
    second.run(&steps).expect("writes after both");
}

/// One way of losing power.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    series: &'static str,
    unit: TearUnit,
    tune: fn(Options) -> Options,
}

const WAYS: [Way; 4] = [
    Way {
        name: "units of 512",
        series: "power-512",
        unit: TearUnit::Sector,
        tune: as_is,
    },
    Way {
        name: "units of 4,096",
        series: "power-4096",
        unit: TearUnit::Page,
        tune: as_is,
    },
    Way {
        name: "units of 512, identifiers at once",
        series: "power-512-at-once",
        unit: TearUnit::Sector,
        tune: at_once,
    },
    Way {
        name: "units of 4,096, identifiers at once",
        series: "power-4096-at-once",
        unit: TearUnit::Page,
        tune: at_once,
    },
];

fn as_is(options: Options) -> Options {
    options
}

fn at_once(options: Options) -> Options {
    options
        .identifier_delay(std::time::Duration::ZERO)
        .log_buffer_bytes(0)
}

/// Power lost at each change of the workload, by seeds: what is unsynced is kept, dropped or garbage unit by
/// unit, and names that no sync of their folder has made durable are there or not.
pub fn power_loss(plan: &Plan) -> Table {
    let mut table = Table::default();
    for way in WAYS {
        // Points, and then seeds; the quick form takes every other point, from the seed on.
        let (every, seeds) = plan.pick((2, 1), (1, 20));
        table.add(
            plan.play("power loss, then another", way.series, u64::MAX, |n| {
                let point = n / seeds * every + plan.seed % every;
                let driver = run_until(point, way.tune)?;
                let seed = (point * 1_000_003 + n % seeds) ^ plan.seed << 40;
                lose_power(&driver, way, seed, point.is_multiple_of(plan.pick(40, 20)));
                Some(Played::new(way.name, Verdict::Harmless))
            }),
        );
    }
    table
}

fn lose_power(driver: &Driver, way: Way, seed: u64, each_change_of_recovery: bool) {
    let Way { unit, tune, .. } = way;
    let crashed = Crashed {
        machine: driver.machine.clone(),
        model: driver.model.clone(),
        disk: driver.machine.memory.crash(seed, unit),
        seed,
    };
    let (last, opening, all) = recover(&crashed, tune);
    let mut rng = SeededRng::new(seed);
    let within = rng.below(all + 1);
    crash_again(&crashed, within, last, &mut rng, unit, tune);
    die_first(driver, &mut rng, way);
    if each_change_of_recovery {
        // A little past the open: its cuts become durable with the first write.
        for change in 0..all.min(opening + 12) {
            crash_again(&crashed, change, last, &mut rng, unit, tune);
        }
    }
}

/// A disk with nothing on it but these files.
fn disk_of(files: &[File]) -> MemoryVfs {
    let disk = MemoryVfs::new();
    for (path, bytes) in files {
        disk.write_file(path, bytes);
    }
    disk
}

/// A store whose last batch was written and never synced: its files as the disk has them, and what of the
/// log is in doubt, unit by unit.
struct Unsynced {
    driver: Driver,
    durable: Vec<File>,
    log: usize,
    written: Vec<u8>,
    units: Vec<usize>,
    unit: usize,
}

fn unsynced(unit: usize, bytes: usize) -> Unsynced {
    let mut driver = Driver::new(Machine::new(19));
    let steps = [
        Step::Open,
        Step::Create("users"),
        Step::Batch(40, Durability::Disk),
        Step::Put("a", 700, Durability::Disk),
        Step::Put("b", 100, Durability::Disk),
        Step::Advance(20),
        Step::All(Job::SyncIdentifiers),
        Step::Put("c", 900, Durability::Disk),
    ];
    driver.run(&steps).unwrap();
    // Two records in one group: half a batch, or the second without the first, would show.
    driver
        .run(&[Step::Batch(bytes, Durability::Buffered)])
        .unwrap();
    driver.run(&[Step::Batch(30, Durability::Process)]).unwrap();
    let memory = &driver.machine.memory;
    let mut durable = files_in(memory, FOLDER);
    let is_log = |file: &File| file.0.ends_with("00000001.log");
    let log = durable.iter().position(is_log).unwrap();
    let written = durable[log].1.clone();
    for (path, bytes) in &mut durable {
        *bytes = memory.read_durable(path.as_str()).unwrap();
    }
    let same = |at: usize| written[at..at + unit] == durable[log].1[at..at + unit];
    let units = (0..written.len()).step_by(unit).filter(|at| !same(*at));
    let units = units.collect();
    Unsynced {
        driver,
        durable,
        log,
        written,
        units,
        unit,
    }
}

/// Every subset of the last batch's units on the disk; then it is written to and power is lost again.
pub fn last_batch(plan: &Plan) -> Table {
    let mut table = Table::default();
    let cases = [
        (512, plan.pick(1_100, 2_000), "subset-512", "units of 512"),
        (
            4096,
            plan.pick(7_000, 11_000),
            "subset-4096",
            "units of 4,096",
        ),
    ];
    for (unit, bytes, series, place) in cases {
        let made = unsynced(unit, bytes);
        let count = 1 << made.units.len();
        assert!((16..1 << 16).contains(&count), "{count} subsets");
        let model = made.driver.model.clone();
        let Unsynced {
            durable,
            log,
            written,
            units,
            unit,
            ..
        } = made;
        let fault = "every subset of the last batch's units";
        table.add(plan.play(fault, series, count, |subset| {
            let mut files = durable.clone();
            for (at, start) in units.iter().enumerate() {
                let end = start + unit;
                if subset & 1 << at != 0 {
                    files[log].1[*start..end].copy_from_slice(&written[*start..end]);
                }
            }
            let machine = Machine::with_disk(disk_of(&files), subset);
            let mut driver = Driver::resume(machine, model.clone());
            driver.open(Survived::PowerLoss).expect("recovery");
            for step in afterwards(subset).iter().take(2 + subset as usize % 3) {
                driver.take(*step).expect("a write after recovery");
            }
            let disk = driver.machine.memory.crash(subset, TearUnit::Page);
            driver.reboot(disk);
            driver.open(Survived::PowerLoss).expect("second recovery");
            driver.run(&afterwards(subset + 1)).expect("writes");
            Some(Played::new(place, Verdict::Harmless))
        }));
    }
    table
}

/// Power lost at each change of recovery and the first writes after it, and at each of the recovery after
/// that.
pub fn twice_in_recovery(plan: &Plan) -> Table {
    let first = run_until(plan.pick(140, 150) + plan.seed % 60, as_is).unwrap();
    let crashed = |disk, model| Crashed {
        machine: first.machine.clone(),
        model,
        disk,
        seed: 1,
    };
    let disk = first.machine.memory.crash(plan.seed, TearUnit::Sector);
    let whole = crashed(disk, first.model.clone());
    let (_, opening, all) = recover(&whole, as_is);
    let changes = plan.pick(all.min(opening + 24), all);
    let count = changes * changes;
    plan.play(
        "power lost twice inside recovery",
        "recovery-twice",
        count,
        |n| {
            let (once, twice) = (n / changes, n % changes);
            let mut driver = whole.driver(as_is);
            for (at, change) in [once, twice].into_iter().enumerate() {
                driver.machine.faults.crash_after_changes(change);
                let opened = driver.open(Survived::PowerLoss);
                let outcome = opened.and_then(|()| driver.run(&afterwards(1)));
                assert!(outcome.is_ok() || driver.machine.faults.crashed());
                let unit = [TearUnit::Sector, TearUnit::Page][at];
                let disk = driver.machine.memory.crash(n ^ plan.seed, unit);
                driver.reboot(disk);
            }
            driver.open(Survived::PowerLoss).expect("third recovery");
            driver.run(&afterwards(n)).expect("writes afterwards");
            Some(Played::new("recovery and first writes", Verdict::Harmless))
        },
    )
}

/// Opens, meets the damage by reading everything, and mends.
fn mend(sample: &Sample, machine: &Machine) -> kintsu::Result<()> {
    let mut driver = Driver::resume(machine.clone(), sample.model.clone()).tuned(tune);
    driver.open(Survived::PowerLoss)?;
    driver.db().scrub()?;
    driver.db().mend()?;
    driver.check()
}

/// Power lost at each change of a mending, and at each of the mending that comes after it.
pub fn twice_in_mending(plan: &Plan) -> Table {
    let sample = Sample::take();
    let is_segment = |(name, _): &&File| name.ends_with(".segment");
    let mut segments: Vec<_> = sample.files.iter().filter(is_segment).collect();
    segments.sort_by_key(|(_, bytes)| std::cmp::Reverse(bytes.len()));
    // The first that the store needs: those that are no longer in it are removed, not mended.
    let found = segments.into_iter().find_map(|(segment, whole)| {
        let damaged = sample.disk.fork();
        assert!(damaged.overwrite(segment, 0, [0; 4096]));
        let machine = sample.machine(&damaged.fork(), 0);
        mend(&sample, &machine).expect("mending");
        let mended = machine.memory.read_file(segment).as_ref() == Some(whole);
        let changes = machine.faults.changes();
        mended.then_some((segment, whole, damaged, changes))
    });
    let (segment, whole, damaged, changes) = found.expect("a segment that is mended");
    let name = segment.rsplit('/').next().unwrap();
    let count = changes * changes;
    plan.play(
        "power lost twice inside mending",
        "mending-twice",
        count,
        |n| {
            let mut disk = damaged.fork();
            for (at, change) in [n / changes, n % changes].into_iter().enumerate() {
                let machine = sample.machine(&disk, n);
                machine.faults.crash_after_changes(change);
                let outcome = mend(&sample, &machine);
                assert!(outcome.is_ok() || machine.faults.crashed(), "{outcome:?}");
                let unit = [TearUnit::Sector, TearUnit::Page][at];
                disk = machine.memory.crash(n ^ plan.seed, unit);
            }
            let machine = sample.machine(&disk, n);
            mend(&sample, &machine).expect("mending after two crashes");
            assert!(
                machine.memory.read_file(path(name)).unwrap() == *whole,
                "the mended file"
            );
            let left = machine.memory.file_names(FOLDER).into_iter();
            let left: Vec<_> = left.filter(|name| name.ends_with(".tmp")).collect();
            assert!(left.is_empty(), "{left:?}");
            Some(Played::new("open, scrub, mend", Verdict::Repaired))
        },
    )
}

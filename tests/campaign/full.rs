//! A disk that really is full: writes are refused without latching, reads go on, the store opens with not one
//! byte free, and takes writes again once there is room.

use kintsu::{Error, Job, Reaction, Result};

use crate::support::Context;
use crate::support::check::Survived;
use crate::support::driver::Driver;
use crate::support::store::Machine;
use crate::support::workload::{EVERYTHING, Step, afterwards};

use super::play::Plan;
use super::table::{Played, Table, Verdict};

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

/// Disks of 0, 1, 2 … pages, until one is large enough.
pub fn fills_up(plan: &Plan) -> Table {
    let mut table = Table::default();
    for (stays_full, series) in [(false, "full-once"), (true, "full")] {
        let place = match stays_full {
            true => "no room until the store is dropped",
            false => "no room for one step",
        };
        table.add(plan.play("the disk is full", series, u64::MAX, |pages| {
            let (refused, full) = fill_up(pages, stays_full);
            let verdict = match refused {
                0 => Verdict::Harmless,
                _ => Verdict::Refused("no space left, writes resume"),
            };
            full.then_some(Played::new(place, verdict))
        }));
    }
    table
}

//! The loss of power, again and again, under threads that write to the real disk: what a disk would have left
//! is written to a folder of its own, and recovered there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kintsu::testing::{FaultVfs, MemoryVfs, TearUnit};

use super::files;
use super::load::{Done, Store, options, write_all};
use super::mirror::{MirrorVfs, materialise};
use super::oracle::{Bounds, Model};
use super::plan::Each;
use super::round::{Round, Step, expect, none_failed};
use crate::failure::{Failure, Outcome};

/// Losses of power, even if time is short.
const LOSSES_MIN: u64 = 2;

/// Plays a round.
pub fn play(round: &mut Round) -> Step {
    let path = round.path("store");
    let plan = round.plan(512);
    let mirror = MirrorVfs::new(&path).map_err(|error| Failure::file("mirror", &path, &error))?;
    let on_mirror = options(&path).vfs(Arc::new(mirror.clone()));
    let store = expect("creating the store", Store::open(on_mirror))?;
    let done = Done::default();
    let over = AtomicBool::new(false);
    let mut model = Model::new(plan);
    let more = |_: usize, _: u64| !over.load(Ordering::SeqCst);
    let (played, errors) = thread::scope(|scope| {
        let writers = scope.spawn(|| write_all(&store, &plan, &done, &more));
        let played = lose_power(round, &mirror, &path, &done, &mut model);
        over.store(true, Ordering::SeqCst);
        let ended = writers.join();
        // A panic goes on in the caller, who counts it.
        (
            played,
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    });
    round.counts.acknowledged += done.acknowledged().iter().sum::<u64>();
    played?;
    none_failed("writing", errors)?;
    // The store itself has lost nothing meanwhile.
    let positions = done.acknowledged();
    expect("closing", store.db.close())?;
    drop(store.second);
    round.recover(
        &path,
        &model,
        &Bounds {
            low: positions,
            high: done.started(),
        },
    )?;
    Ok(())
}

/// Cuts the power until the time is over.
fn lose_power(
    round: &mut Round,
    mirror: &MirrorVfs,
    store: &Path,
    done: &Done,
    model: &mut Model,
) -> Step {
    let (_never, nobody) = mpsc::channel::<()>();
    while round.counts.power_losses < LOSSES_MIN || !round.is_over() {
        // Nobody ever sends: this passes a little time.
        let _ = nobody.recv_timeout(Duration::from_millis(round.rng.between(1, 250)));
        // In this order: what was acknowledged before is due, what begins after can't be there.
        let low = done.disk();
        let mut left = crash(round, mirror.memory());
        let high = done.started();
        round.counts.power_losses += 1;
        if round.rng.one_in(3) {
            left = crash_in_recovery(round, &left, store);
        }
        model.advance(&low);
        recover(round, &left, store, model, low, high)?;
    }
    Ok(())
}

/// What a loss of power leaves.
fn crash(round: &mut Round, memory: &MemoryVfs) -> MemoryVfs {
    let unit = match round.rng.one_in(2) {
        true => TearUnit::Sector,
        false => TearUnit::Page,
    };
    memory.crash(round.rng.next_u64(), unit)
}

/// Recovers on the simulated disk, and loses power there again before that is done.
fn crash_in_recovery(round: &mut Round, left: &MemoryVfs, store: &Path) -> MemoryVfs {
    let faulty = FaultVfs::on_memory(left);
    faulty.crash_after_changes(round.rng.below(40));
    // It is refused when the power goes, unless that is later than its end.
    drop(options(store).vfs(Arc::new(faulty)).open());
    round.counts.power_losses += 1;
    round.counts.power_losses_in_recovery += 1;
    crash(round, left)
}

/// Recovers on the real disk what the simulated one has left.
fn recover(
    round: &mut Round,
    left: &MemoryVfs,
    store: &Path,
    model: &Model,
    low: Each<u64>,
    high: Each<u64>,
) -> Step {
    let copy = round.path("after-power-loss");
    materialise(left, store, &copy)?;
    let recovered = round.recover(&copy, model, &Bounds { low, high });
    if recovered.is_err() {
        keep(round, left, store)?;
    }
    recovered?;
    Ok(files::remove(&copy)?)
}

/// What the loss of power left, as it was before it was recovered.
fn keep(round: &Round, left: &MemoryVfs, store: &Path) -> Outcome {
    let evidence: PathBuf = round.path("as-power-loss-left-it");
    materialise(left, store, &evidence)
}

//! A process that writes is killed: in its work, in its open, in the midst of flushes, compactions and mending.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::child::{Call, Worker};
use super::files;
use super::load::Done;
use super::oracle::{Bounds, Broken, Model};
use super::plan::THREADS;
use super::round::{Round, Step};
use crate::failure::Failure;

/// Kills at least so many times, even if time is short.
const KILLS_MIN: u64 = 2;

/// Plays a round.
pub fn play(round: &mut Round) -> Step {
    let path = round.path("store");
    let plan = round.plan(512);
    let mut model = Model::new(plan);
    while round.counts.kills < KILLS_MIN || !round.is_over() {
        if round.rng.one_in(2) {
            blemish(round, &path)?;
        }
        let from = model.positions();
        let done = Done::from(&from);
        let busy = ["--busy".to_owned()];
        let mut worker = Worker::start(&Call {
            store: &path,
            plan,
            from,
            more: &busy,
            under: &[],
        })?;
        // Some die while they open the store.
        let most = if round.rng.one_in(3) { 40 } else { 700 };
        let time = Duration::from_millis(round.rng.between(1, most));
        let was_killed = worker.watch(&plan, &done, time)?;
        let (said, status, _) = worker.end()?;
        if !was_killed || said.refused.is_some() || !said.failed.is_empty() {
            let what = format!("the writer ended by itself ({status}): {said:?}");
            return Err(Broken::Unexpected(what).into());
        }
        round.counts.kills += 1;
        round.counts.kills_in_open += u64::from(!said.opened);
        let acknowledged = done.acknowledged();
        for thread in 0..THREADS {
            let (before, now) = (from.get(thread), acknowledged.get(thread));
            let new = now.unwrap_or(&0).saturating_sub(*before.unwrap_or(&0));
            round.counts.acknowledged += new;
        }
        // A thread has one write under way.
        let bounds = Bounds {
            low: done.process(),
            high: acknowledged.map(|number| number + 1),
        };
        let positions = round.recover(&path, &model, &bounds)?;
        model.advance(&positions);
    }
    Ok(())
}

/// A bad block in a segment, which parity makes up for: something to be mended while the kill comes.
fn blemish(round: &mut Round, store: &Path) -> Step {
    let segments = files::with_extension(store, "segment")?;
    let Some(path) = round.rng.pick(&segments) else {
        return Ok(());
    };
    let damage = |rng: &mut kintsu::testing::SeededRng| -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        let blocks = file.metadata()?.len() / 4096;
        file.write_all_at(&rng.bytes(4096), rng.below(blocks) * 4096)
    };
    damage(&mut round.rng).map_err(|error| Failure::file("damage", path, &error))?;
    round.blemished = true;
    round.counts.damaged_places += 1;
    round.counts.damaged_bytes += 4096;
    Ok(())
}

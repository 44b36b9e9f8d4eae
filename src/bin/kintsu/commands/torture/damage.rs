//! Files of a store are damaged, closed or open: what there is redundancy for must be right all the same, anything
//! else right or refused by name.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kintsu::testing::SeededRng;
use kintsu::{Options, Severity};

use super::child::{Call, Worker};
use super::files;
use super::load::{Done, Store, options};
use super::oracle::{Bounds, Broken, Model, intact, names};
use super::plan::Each;
use super::round::{End, Round, Step, expect};
use crate::failure::Failure;

const BLOCK: u64 = 4096;
/// The longest run that parity of a group of 1 MiB heals wherever it begins.
const RUN_MAX: u64 = 61_440;
/// Files with less content than this have parity for shorter runs only.
const GROUP: u64 = 1 << 20;
/// Places damaged, even if time is short.
const CASES_MIN: u64 = 8;

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Bit,
    ZeroedBlock,
    GarbledBlock,
    BlockFromElsewhere,
    Run,
    Cut,
}

const HOW: [How; 6] = [
    How::Bit,
    How::ZeroedBlock,
    How::GarbledBlock,
    How::BlockFromElsewhere,
    How::Run,
    How::Cut,
];

/// One case.
#[derive(Debug)]
struct Case {
    how: How,
    file: String,
    offset: u64,
    bytes: u64,
    /// Whether all must be right.
    is_strict: bool,
    /// Whether records that nothing proves were there may be taken for a torn tail.
    may_look_torn: bool,
}

/// A store to be damaged, and what is in it.
struct Sample {
    path: PathBuf,
    was_killed: bool,
    /// What was there when it was last closed, before it was killed.
    closed: Model,
    /// How many writes of each thread are there.
    positions: Each<u64>,
}

impl Sample {
    /// What must be there after a case. The tail of a log that was left by a kill, not yet synced and identified, may
    /// look torn once it is damaged: then what came after the last close may be gone from some record on.
    fn bounds(&self, case: Option<&Case>) -> Bounds {
        let may_look_torn = case.is_some_and(|case| case.may_look_torn);
        let mut bounds = Bounds::exactly(self.positions);
        if may_look_torn {
            bounds.low = self.closed.positions();
        }
        bounds
    }
}

/// Plays a round.
pub fn play(round: &mut Round) -> Step {
    let sample = make_store(round)?;
    let mut cases = 0;
    while cases < CASES_MIN || !round.is_over() {
        let copy = round.path("damaged");
        files::copy(&sample.path, &copy)?;
        match round.rng.one_in(3) {
            true => while_open(round, &copy, &sample)?,
            false => while_closed(round, &copy, &sample)?,
        }
        cases += 1;
        files::remove(&copy)?;
    }
    Ok(())
}

/// A store with all kinds of files, as a killed process or as a clean end leaves it.
fn make_store(round: &mut Round) -> Step<Sample> {
    let path = round.path("store");
    let was_killed = round.rng.one_in(2);
    let mut model = Model::new(round.plan(1024));
    let written = write_and_kill(round, &path, &model)?;
    let positions = round.recover(&path, &model, &written)?;
    model.advance(&positions);
    let mut sample = Sample {
        path,
        was_killed,
        closed: model,
        positions,
    };
    if was_killed {
        let written = write_and_kill(round, &sample.path, &sample.closed)?;
        // Looked at without a touch.
        let store = expect("opening to read", Store::open(reader(&sample.path)))?;
        sample.positions = round
            .check(&store, &sample.closed, &written, None)?
            .positions;
    }
    Ok(sample)
}

/// Has a process write for a while, and kills it. How much must be there, and may be.
fn write_and_kill(round: &mut Round, path: &Path, model: &Model) -> Step<Bounds> {
    let from = model.positions();
    let done = Done::from(&from);
    let mut worker = Worker::start(&Call {
        store: path,
        plan: *model.plan(),
        from,
        more: &[],
        under: &[],
    })?;
    let time = Duration::from_millis(round.rng.between(200, 900));
    let was_killed = worker.watch(model.plan(), &done, time)?;
    let (said, status, _) = worker.end()?;
    if !was_killed || said.refused.is_some() || !said.failed.is_empty() {
        let what = format!("the writer ended by itself ({status}): {said:?}");
        return Err(Broken::Unexpected(what).into());
    }
    let acknowledged = done.acknowledged();
    for (now, before) in acknowledged.iter().zip(&from) {
        round.counts.acknowledged += now - before;
    }
    Ok(Bounds {
        low: done.process(),
        high: acknowledged.map(|number| number + 1),
    })
}

fn reader(path: &Path) -> Options {
    options(path).read_only(true)
}

fn while_closed(round: &mut Round, copy: &Path, sample: &Sample) -> Step {
    let Some(mut case) = damage(round, copy, &HOW, sample.was_killed)? else {
        return Ok(());
    };
    case.may_look_torn = sample.was_killed && case.file.ends_with(".log");
    let outcome = match Store::open(options(copy).create_if_missing(false)) {
        Err(error) if !case.is_strict && names(&error, &case.file) => {
            salvage(round, copy, sample).map(|()| false)
        }
        store => {
            let store = expect("opening", store);
            store.and_then(|store| judge(round, store, copy, sample, &case))
        }
    };
    settle(round, &case, outcome)
}

fn while_open(round: &mut Round, copy: &Path, sample: &Sample) -> Step {
    let store = expect("opening", Store::open(options(copy)))?;
    round.check(&store, &sample.closed, &sample.bounds(None), None)?;
    let Some(case) = damage(round, copy, &HOW[..5], sample.was_killed)? else {
        return Ok(());
    };
    let outcome = judge(round, store, copy, sample, &case);
    settle(round, &case, outcome)
}

/// Reads all of an open store, has it mended, and reads it again, then reopened. Whether everything was right.
fn judge(round: &mut Round, store: Store, copy: &Path, sample: &Sample, case: &Case) -> Step<bool> {
    let model = &sample.closed;
    let damaged = (!case.is_strict).then_some(case.file.as_str());
    let first = round.check(&store, model, &sample.bounds(Some(case)), damaged)?;
    // Whatever it is, it stays so.
    let bounds = Bounds::exactly(first.positions);
    let mut refused = first.refused;
    expect("scrubbing", store.db.scrub())?;
    refused += round.check(&store, model, &bounds, damaged)?.refused;
    let Store { db, second } = store;
    drop(second);
    expect("closing", db.close())?;
    match Store::open(reader(copy)) {
        Err(error) if !case.is_strict && names(&error, &case.file) => refused += 1,
        store => {
            let store = expect("opening again", store)?;
            refused += round.check(&store, model, &bounds, damaged)?.refused;
        }
    }
    if case.is_strict {
        let report = expect("verifying", kintsu::verify(options(copy), |_| ()))?;
        if report.severity > Severity::Mendable {
            let what = format!("verify says {:?}: {:?}", report.severity, report.lost);
            return Err(Broken::Lost(what).into());
        }
    }
    Ok(refused == 0)
}

/// What can be read of a store that refuses to be opened must be right.
fn salvage(round: &mut Round, copy: &Path, sample: &Sample) -> Step {
    let to = round.path("salvaged");
    let salvaged = kintsu::salvage(options(copy), options(&to));
    expect("salvaging", salvaged)?;
    let db = expect("opening what was salvaged", reader(&to).open())?;
    intact(&db, sample.closed.plan(), &sample.positions)?;
    drop(db);
    Ok(files::remove(&to)?)
}

/// Counts a case, and says of a broken one what it was.
fn settle(round: &mut Round, case: &Case, outcome: Step<bool>) -> Step {
    round.counts.damaged_places += 1;
    round.counts.damaged_bytes += case.bytes;
    let told = |what: String| {
        let Case {
            how,
            file,
            offset,
            bytes,
            ..
        } = case;
        format!("{what} (after {how:?}: {bytes} bytes at {offset} of {file})")
    };
    match outcome {
        Ok(true) => round.counts.repaired += 1,
        Ok(false) => round.counts.refused += 1,
        Err(End::Broken(broken)) => {
            return Err(End::Broken(match broken {
                Broken::Lost(what) => Broken::Lost(told(what)),
                Broken::Wrong(what) => Broken::Wrong(told(what)),
                Broken::Unexpected(what) => Broken::Unexpected(told(what)),
            }));
        }
        Err(failed) => return Err(failed),
    }
    Ok(())
}

/// Damages a file. Nothing if there was nothing to change.
fn damage(round: &mut Round, store: &Path, how: &[How], was_killed: bool) -> Step<Option<Case>> {
    let mut paths = files::all(store)?;
    paths.retain(|path| path.extension().is_none_or(|found| found != "tmp"));
    let rng = &mut round.rng;
    // As many of each kind, however many files it has.
    let mut kinds: Vec<&str> = paths.iter().map(|path| kind(path)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let chosen = rng.pick(&kinds).copied().unwrap_or_default();
    let of_kind: Vec<&PathBuf> = paths.iter().filter(|path| kind(path) == chosen).collect();
    // What the log alone has is in its last file in use, mostly.
    let in_use = |path: &&PathBuf| std::fs::read(path).is_ok_and(|bytes| used(&bytes) > BLOCK);
    let last = of_kind.iter().rev().copied().find(in_use);
    let path = match rng.one_in(2) {
        true if chosen == "log" => last.as_ref(),
        _ => rng.pick(&of_kind),
    };
    let (Some(path), Some(how)) = (path, rng.pick(how)) else {
        return Ok(None);
    };
    let path = path.to_path_buf();
    let failed = |error: io::Error| Failure::file("damage", &path, &error);
    let before = match std::fs::read(&path) {
        // An open store removes what it no longer needs.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(failed)?,
    };
    let Some((offset, after)) = change(rng, *how, &before) else {
        return Ok(None);
    };
    let changed = match write_changed(&path, &before, &after) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        changed => changed.map_err(failed)?,
    };
    if changed == 0 {
        return Ok(None);
    }
    let logs: Vec<&PathBuf> = paths.iter().filter(|path| kind(path) == "log").collect();
    let is_last = logs.last() == Some(&&path);
    Ok(Some(Case {
        how: *how,
        file: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        is_strict: is_strict(chosen, *how, &before, offset, was_killed || is_last),
        offset,
        bytes: changed,
        may_look_torn: false,
    }))
}

/// A kind of file, by its name.
fn kind(path: &Path) -> &'static str {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match name.rsplit_once('.') {
        Some((stem, _)) if stem.starts_with("manifest") => "manifest",
        Some((_, "segment")) => "segment",
        Some((_, "ids")) => "identifiers",
        Some((_, "parity")) => "log parity",
        Some((_, "log")) => "log",
        _ => "other",
    }
}

/// Where anything but zeros ends.
fn used(bytes: &[u8]) -> u64 {
    let last = bytes.iter().rposition(|byte| *byte != 0);
    last.map_or(0, |at| at as u64 + 1)
}

/// The offset of the change, and the file after it.
fn change(rng: &mut SeededRng, how: How, before: &[u8]) -> Option<(u64, Vec<u8>)> {
    let mut after = before.to_vec();
    // Mostly where something is, sometimes in the room behind it.
    let reach = match rng.one_in(8) {
        true => before.len() as u64,
        false => used(before),
    };
    let blocks = reach.div_ceil(BLOCK);
    // Half of the time among the last that are in use: what is newest.
    let first = match rng.one_in(2) {
        true => blocks.saturating_sub(32),
        false => 0,
    };
    let block = rng.between(first, blocks.saturating_sub(1)) * BLOCK;
    let mut put = |rng: &mut SeededRng, offset: u64, bytes: u64, garbage: bool| {
        let start = usize::try_from(offset).ok()?;
        let end = usize::try_from(offset + bytes).ok()?.min(before.len());
        let piece = after.get_mut(start..end)?;
        match garbage {
            true => rng.fill(piece),
            false => piece.fill(0),
        }
        Some(())
    };
    let offset = match how {
        How::Bit => {
            let offset = (block + rng.below(BLOCK)).min(reach.checked_sub(1)?);
            let byte = after.get_mut(usize::try_from(offset).ok()?)?;
            *byte ^= 1 << rng.below(8);
            offset
        }
        How::ZeroedBlock | How::GarbledBlock => {
            put(rng, block, BLOCK, how == How::GarbledBlock)?;
            block
        }
        How::BlockFromElsewhere => {
            let from = usize::try_from(rng.below(blocks) * BLOCK).ok()?;
            let to = usize::try_from(block).ok()?;
            let length = (BLOCK as usize)
                .min(before.len() - from)
                .min(before.len() - to);
            let piece = before.get(from..from + length)?;
            after.get_mut(to..to + length)?.copy_from_slice(piece);
            block
        }
        How::Run => {
            let offset = rng.below(reach);
            let garbage = rng.one_in(2);
            let bytes = rng.between(1, RUN_MAX);
            put(rng, offset, bytes, garbage)?;
            offset
        }
        How::Cut => {
            let length = rng.below(reach);
            after.truncate(usize::try_from(length).ok()?);
            length
        }
    };
    Some((offset, after))
}

/// Writes what has changed in its place. How many bytes have.
fn write_changed(path: &Path, before: &[u8], after: &[u8]) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).open(path)?;
    let differs = |(old, new): (&u8, &u8)| old != new;
    let mut changed = (before.len() - after.len()) as u64;
    if let Some(first) = before.iter().zip(after).position(differs) {
        let last = before.iter().zip(after).rposition(differs);
        let end = last.map_or(first, |last| last + 1);
        let piece = after.get(first..end).unwrap_or_default();
        file.write_all_at(piece, first as u64)?;
        changed += piece.len() as u64;
    }
    if before.len() != after.len() {
        file.set_len(after.len() as u64)?;
    }
    Ok(changed)
}

/// Whether there is redundancy for it, as docs/faults.md and docs/format-parity.md say. `is_open_ended`: the file
/// may have a last part that has no parity yet, if it is one of the log.
fn is_strict(kind: &str, how: How, before: &[u8], offset: u64, is_open_ended: bool) -> bool {
    let length = before.len() as u64;
    let in_room = offset + RUN_MAX > used(before);
    match (kind, how) {
        ("segment", How::Cut) => length - offset <= BLOCK,
        ("segment", How::Run) => length >= GROUP + GROUP / 8,
        ("segment", _) => true,
        ("log", How::Cut) => false,
        ("log", _) if is_open_ended => false,
        ("log", How::Run) => used(before) >= GROUP,
        ("log", _) => true,
        // Garbage behind the last edit looks like an edit that the other copy has lost.
        ("manifest", How::Bit | How::ZeroedBlock | How::Cut) => true,
        ("manifest", _) => !in_room,
        ("identifiers", How::Run | How::Cut) => false,
        ("identifiers", _) => !is_open_ended,
        _ => true,
    }
}

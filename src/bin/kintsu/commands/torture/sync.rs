//! I/O that fails: by a disk that is told to, and, where strace is there and may, by the kernel's own calls.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kintsu::environment::{Clock, SystemClock};
use kintsu::testing::{
    Fault, FaultKind, FaultVfs, MemoryVfs, OperationKind, SyncFailure, TearUnit,
};
use kintsu::vfs::{DiskVfs, Vfs};

use super::child::{Call, Said, Worker, is_of_io};
use super::files;
use super::load::{Done, Store, options, write_all};
use super::mirror::materialise;
use super::oracle::{Bounds, Broken, Model};
use super::plan::Plan;
use super::round::{Round, Step, expect, none_failed};

/// Stores of each kind, even if time is short.
const STORES_MIN: u64 = 2;
/// How long one is written to.
const TIME: Duration = Duration::from_millis(400);

/// Calls of the kernel that are made to fail; the last is no change, so it may strike once only.
const CALLS: [&str; 5] = [
    "fdatasync",
    "fsync",
    "fdatasync,fsync",
    "pwrite64",
    "pread64",
];

/// Plays a round.
pub fn play(round: &mut Round) -> Step {
    let strace = can_trace();
    if let Err(why) = &strace {
        round
            .skipped
            .push(format!("failing calls of the kernel, because {why}"));
    }
    let mut stores = 0;
    while stores < STORES_MIN || !round.is_over() {
        stores += 1;
        on_disk(round)?;
        on_forgetful_disk(round)?;
        if strace.is_ok() {
            by_the_kernel(round)?;
        }
    }
    Ok(())
}

/// Whether calls can be made to fail here; else why not.
fn can_trace() -> Result<(), String> {
    let tried = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync"])
        .args(["-e", "inject=fsync:error=EIO", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or_default().to_owned();
            Err(format!("strace can't trace here: {said}"))
        }
        Err(error) => Err(format!("strace can't be run: {error}")),
    }
}

/// A fault for a store that is written to.
fn fault(round: &mut Round) -> Fault {
    let rng = &mut round.rng;
    let kinds: [&[OperationKind]; 5] = [
        &[OperationKind::SyncData],
        &[OperationKind::SyncDir],
        &[OperationKind::Write],
        &[
            OperationKind::Create,
            OperationKind::Rename,
            OperationKind::Remove,
        ],
        &[OperationKind::Preallocate, OperationKind::SetLen],
    ];
    let kind = rng.pick(&kinds).copied().unwrap_or_default();
    let how = match rng.below(3) {
        0 => FaultKind::IoAfter,
        1 => FaultKind::ShortWrite,
        _ => FaultKind::Io,
    };
    let most = if kind.contains(&OperationKind::Write) {
        2_000
    } else {
        60
    };
    let at = rng.between(1, most);
    match rng.one_in(2) {
        true => Fault::once(at, how).only(kind),
        false => Fault::for_good(at, how).only(kind),
    }
}

/// Writes to a store until something fails, and reads it then.
fn write_until_failure(
    round: &mut Round,
    path: &Path,
    vfs: Arc<dyn Vfs>,
    plan: Plan,
    stop: impl Fn() -> bool + Sync,
    clear: impl FnOnce(),
) -> Step<Done> {
    let done = Done::default();
    let store = match Store::open(options(path).vfs(vfs)) {
        Err(error) if is_of_io(&error) => return Ok(done),
        store => expect("opening a store on a failing disk", store)?,
    };
    let clock = SystemClock::new();
    let more = |_: usize, _: u64| clock.elapsed() < TIME && !stop();
    let errors = write_all(&store, &plan, &done, &more);
    clear();
    round.counts.acknowledged += done.acknowledged().iter().sum::<u64>();
    let others = errors.into_iter().filter(|error| !is_of_io(error));
    none_failed("writing to a failing disk", others)?;
    let bounds = Bounds {
        low: done.acknowledged(),
        high: done.started(),
    };
    round.check(&store, &Model::new(plan), &bounds, None)?;
    Ok(done)
}

/// The real disk, whose calls fail when they are told to.
fn on_disk(round: &mut Round) -> Step {
    let path = round.path("failing");
    let plan = round.plan(256);
    let vfs = FaultVfs::new(Arc::new(DiskVfs));
    vfs.inject(fault(round));
    let shared: Arc<dyn Vfs> = Arc::new(vfs.clone());
    let done = write_until_failure(round, &path, shared, plan, || false, || vfs.clear_faults())?;
    round.counts.failed_calls += u64::from(vfs.faults_hit() > 0);
    // The machine goes on: what the system was handed is there.
    let bounds = Bounds {
        low: done.process(),
        high: done.started(),
    };
    round.recover(&path, &Model::new(plan), &bounds)?;
    Ok(files::remove(&path)?)
}

/// A simulated disk that forgets what a failed sync should have written, and then loses power.
fn on_forgetful_disk(round: &mut Round) -> Step {
    let path = round.path("forgetful");
    let plan = round.plan(256);
    let memory = MemoryVfs::new();
    let vfs = FaultVfs::on_memory(&memory);
    let failure = match round.rng.one_in(2) {
        true => SyncFailure::PagesKept,
        false => SyncFailure::PagesReverted,
    };
    let fault = Fault::once(round.rng.between(1, 60), FaultKind::Io)
        .only(&[OperationKind::SyncData, OperationKind::SyncDir])
        .sync_failure(failure);
    // The log's syncs are those that acknowledgements wait for.
    let fault = match round.rng.one_in(2) {
        true => fault.on(".log"),
        false => fault,
    };
    vfs.inject(fault);
    // A few writes after the failure, before a flush makes segments of what the log has lost.
    let after = AtomicU64::new(0);
    let stop = || vfs.faults_hit() > 0 && after.fetch_add(1, Ordering::SeqCst) >= 12;
    let (mut left, seed) = (None, round.rng.next_u64());
    let shared: Arc<dyn Vfs> = Arc::new(vfs.clone());
    let done = write_until_failure(round, &path, shared, plan, stop, || {
        // Before it is closed, which would make up for much.
        left = Some(memory.crash(seed, TearUnit::Sector));
        vfs.clear_faults();
    })?;
    round.counts.failed_calls += u64::from(vfs.faults_hit() > 0);
    let left = left.unwrap_or_else(|| memory.crash(seed, TearUnit::Sector));
    let copy = round.path("after-failed-sync");
    materialise(&left, &path, &copy)?;
    let bounds = Bounds {
        low: done.disk(),
        high: done.started(),
    };
    round.recover(&copy, &Model::new(plan), &bounds)?;
    Ok(files::remove(&copy)?)
}

/// A process of whose system calls one kind is made to fail.
fn by_the_kernel(round: &mut Round) -> Step {
    let path = round.path("failing-calls");
    let plan = round.plan(256);
    let call = round.rng.pick(&CALLS).copied().unwrap_or("fdatasync");
    // Each thread has a count of its own.
    let most = if call.starts_with('p') { 80 } else { 30 };
    // Before its `main` the loader reads as well.
    let before = if call == "pread64" { 24 } else { 0 };
    let at = before + round.rng.between(1, most);
    let once = call == "pread64" || round.rng.one_in(2);
    let when = if once {
        at.to_string()
    } else {
        format!("{at}+")
    };
    let inject = format!("inject={call}:error=EIO:when={when}");
    let under = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"].map(str::to_owned);
    let under = [
        &under[..],
        &[format!("trace={call}"), "-e".into(), inject.clone()],
    ]
    .concat();
    let done = Done::default();
    let mut worker = Worker::start(&Call {
        store: &path,
        plan,
        from: Default::default(),
        more: &[format!("--milliseconds={}", TIME.as_millis())],
        under: &under,
    })?;
    let was_killed = worker.watch(&plan, &done, Duration::from_secs(30))?;
    let (said, status, went_well) = worker.end()?;
    judge(
        &said,
        was_killed || !went_well,
        &format!("{inject}: {status}: {said:?}"),
    )?;
    let acknowledged = done.acknowledged();
    round.counts.acknowledged += acknowledged.iter().sum::<u64>();
    let has_failed = said.refused.is_some() || !said.failed.is_empty();
    round.counts.failed_calls += u64::from(has_failed);
    round.counts.failed_calls_real += u64::from(has_failed);
    let bounds = Bounds {
        low: done.process(),
        high: acknowledged.map(|number| number + 1),
    };
    round.recover(&path, &Model::new(plan), &bounds)?;
    Ok(files::remove(&path)?)
}

/// Whether a process took its failed calls as it should.
fn judge(said: &Said, ended_badly: bool, told: &str) -> Result<(), Broken> {
    let of_io = |why: &String| {
        ["io ", "outcome_unknown ", "poisoned "]
            .iter()
            .any(|kind| why.starts_with(kind))
    };
    let refused = said.refused.as_ref();
    let is_due = refused.is_none_or(of_io) && said.failed.iter().all(of_io);
    let has_read = said.read || refused.is_some();
    if ended_badly || !is_due || !has_read || said.broken.is_some() {
        return Err(Broken::Unexpected(format!("under failing calls, {told}")));
    }
    Ok(())
}

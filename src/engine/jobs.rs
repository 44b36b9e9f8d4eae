//! The background jobs: each `step` does one piece of work; threads, or a simulation, call it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::engine::Engine;
use crate::environment::give_way;
use crate::error::{Error, Result};
use crate::operator::panic_message;
use crate::options::Background;

/// A kind of background work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// Take one group of waiting writes through the log.
    Commit,
    /// Turn the oldest frozen memtables into segments.
    Flush,
    /// Merge segments.
    Compact,
    /// Make the identifiers of synced log records durable.
    SyncIdentifiers,
    /// Prepare the next log file.
    PrepareLog,
    /// Remove the files of segments that nobody reads any more.
    Reclaim,
    /// Archive what has become durable, and make the backup that the policy asks for.
    Backup,
    /// Write a damaged segment or log file anew, from what its parity makes of it.
    Mend,
    /// Read a segment, or the rest of the store, to find damage that nobody has met.
    Scrub,
}

impl Job {
    /// Every kind, for those who drive the jobs themselves.
    pub const ALL: [Self; 9] = [
        Self::Commit,
        Self::Flush,
        Self::Compact,
        Self::SyncIdentifiers,
        Self::PrepareLog,
        Self::Reclaim,
        Self::Backup,
        Self::Mend,
        Self::Scrub,
    ];
}

/// How long a job that failed waits before it looks again without being asked.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How many log files may be held open for a thread that gets no time.
const HELD_FOR_PARITY_MAX: usize = 16;

#[derive(Debug, Default)]
struct State {
    flush: bool,
    compact: bool,
    log: bool,
    parity: bool,
    backup: bool,
    mend: bool,
    stop: bool,
    /// Failures of flush so far.
    flush_failures: u64,
    /// What the last flush met, and the last compaction, until one succeeds.
    flush_failure: Option<Error>,
    compact_failure: Option<Error>,
}

/// What wakes the threads, and the writers that wait for room.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    state: Mutex<State>,
    flush: Condvar,
    compact: Condvar,
    log: Condvar,
    parity: Condvar,
    backup: Condvar,
    mend: Condvar,
    room: Condvar,
    stopped: Condvar,
}

impl Signals {
    /// Asks for a job.
    pub(crate) fn wake(&self, job: Job) {
        let mut state = self.state.lock();
        let (asked, condvar) = match job {
            Job::Flush => (&mut state.flush, &self.flush),
            Job::Compact | Job::Reclaim => (&mut state.compact, &self.compact),
            Job::SyncIdentifiers | Job::PrepareLog | Job::Commit => (&mut state.log, &self.log),
            Job::Backup => (&mut state.backup, &self.backup),
            Job::Mend => (&mut state.mend, &self.mend),
            // It looks at the clock by itself.
            Job::Scrub => return,
        };
        if !std::mem::replace(asked, true) {
            condvar.notify_one();
        }
    }

    /// Asks for the parity of what has been identified.
    fn wake_parity(&self) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.parity, true) {
            self.parity.notify_one();
        }
    }

    /// Wakes everybody to look at what has changed.
    pub(crate) fn wake_all(&self) {
        let _state = self.state.lock();
        for condvar in [
            &self.flush,
            &self.compact,
            &self.log,
            &self.parity,
            &self.backup,
            &self.mend,
            &self.room,
            &self.stopped,
        ] {
            condvar.notify_all();
        }
    }

    /// Tells those who wait that a flush has ended.
    pub(crate) fn flushed(&self, outcome: &Result<()>) {
        let mut state = self.state.lock();
        state.flush_failures += u64::from(outcome.is_err());
        state.flush_failure = outcome.as_ref().err().cloned();
        self.room.notify_all();
    }

    /// Tells those who wait that a compaction has ended, and with which failure compaction stands now.
    pub(crate) fn compacted(&self, failure: Option<Error>) {
        self.state.lock().compact_failure = failure;
        self.room.notify_all();
    }

    /// The failure of the last flush or compaction, until one succeeds.
    pub(crate) fn last_failure(&self) -> Option<Error> {
        let state = self.state.lock();
        let failure = state.flush_failure.as_ref();
        failure.or(state.compact_failure.as_ref()).cloned()
    }

    /// Waits for a flush while `blocked`.
    ///
    /// # Errors
    /// What a flush met when it tried.
    pub(crate) fn wait_for_room(&self, blocked: impl Fn() -> bool) -> Result<()> {
        let mut before = self.state.lock().flush_failures;
        self.wake(Job::Flush);
        let mut state = self.state.lock();
        while !state.stop && blocked() {
            if state.flush_failures != before {
                // If a flush has succeeded since, there may be room.
                match &state.flush_failure {
                    Some(failure) => return Err(failure.clone()),
                    None => before = state.flush_failures,
                }
            }
            // The time-out is for the latch, which is set without this lock.
            self.room.wait_for(&mut state, RETRY_AFTER);
        }
        if state.stop {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// Waits until a flush or a compaction ends, or a little.
    pub(crate) fn wait_for_job(&self) {
        let mut state = self.state.lock();
        if !state.stop {
            self.room.wait_for(&mut state, RETRY_AFTER);
        }
    }

    fn stop(&self) {
        self.state.lock().stop = true;
        self.wake_all();
    }

    /// Waits until `asked` is set, taking it back, or the time is over. `false` when all must stop.
    fn wait(
        &self,
        condvar: &Condvar,
        asked: impl Fn(&mut State) -> &mut bool,
        at_most: Option<Duration>,
    ) -> bool {
        let mut state = self.state.lock();
        if !state.stop && !*asked(&mut state) {
            match at_most {
                Some(at_most) => {
                    condvar.wait_for(&mut state, at_most);
                }
                None => condvar.wait(&mut state),
            }
        }
        *asked(&mut state) = false;
        !state.stop
    }

    /// Waits until there may be something to back up. `false` when all must stop.
    pub(crate) fn wait_for_backup(&self, failures: u32, pause: Option<Duration>) -> bool {
        let Some(times) = failures.checked_sub(1) else {
            return self.wait(&self.backup, |s| &mut s.backup, pause);
        };
        // What failed is left for a while, whoever asks.
        self.pause(RETRY_AFTER.saturating_mul(1 << times.min(5)));
        !self.state.lock().stop
    }

    /// Waits for `duration`. `false` when all must stop.
    pub(crate) fn rest(&self, duration: Duration) -> bool {
        self.pause(duration);
        !self.state.lock().stop
    }

    /// Waits for `duration`, or until all must stop.
    pub(crate) fn pause(&self, duration: Duration) {
        let mut state = self.state.lock();
        if !state.stop && !duration.is_zero() {
            self.stopped.wait_for(&mut state, duration);
        }
    }
}

impl Engine {
    /// Does one piece of a job's work. `false` if there was nothing to do.
    ///
    /// # Errors
    /// What the disk answers, or damage; the job's inputs are as they were.
    pub(crate) fn step(&self, job: Job) -> Result<bool> {
        match job {
            Job::Commit => Ok(self.step_commit()),
            Job::Flush => self.step_flush_job(),
            Job::Compact => self.step_compaction(),
            Job::SyncIdentifiers => self.step_log(|| self.log.step_identifiers()),
            Job::PrepareLog => self.step_log(|| self.log.step_prepare()),
            Job::Reclaim => self.step_reclaim(),
            Job::Backup => self.step_backup(),
            Job::Mend => self.step_mend(),
            Job::Scrub => self.step_scrub(),
        }
    }

    fn step_log(&self, step: impl Fn() -> Result<bool>) -> Result<bool> {
        if self.options.read_only || self.latched().is_some() {
            return Ok(false);
        }
        step().inspect_err(|error| self.latch_if_final(error))
    }

    /// Starts the threads that drive the jobs.
    pub(crate) fn start_threads(self: &Arc<Self>) -> Result<()> {
        if self.options.background == Background::Manual || self.options.read_only {
            return Ok(());
        }
        self.start_thread("kintsu-flush", Self::flush_loop)?;
        if self.awaits_drop() {
            self.signals.wake(Job::Flush);
        }
        for _ in 0..self.options.compaction_threads {
            self.start_thread("kintsu-compact", Self::compact_loop)?;
        }
        if self.has_backup_job() {
            self.start_thread("kintsu-backup", Self::backup_loop)?;
            self.signals.wake(Job::Backup);
        }
        self.start_thread("kintsu-mend", Self::mend_loop)?;
        if self.options.scrub_every.is_some() {
            self.start_thread("kintsu-scrub", Self::scrub_loop)?;
        }
        // Log files from before may have parity, whatever is wanted now.
        self.start_thread("kintsu-parity", Self::parity_loop)?;
        self.start_thread("kintsu-log", Self::log_loop)
    }

    fn start_thread(self: &Arc<Self>, name: &str, body: fn(&Self)) -> Result<()> {
        let engine = self.clone();
        let thread = Builder::new()
            .name(name.into())
            .spawn(move || engine.run_job(body))
            .map_err(|source| Error::io("start a thread for", &self.options.path, source))?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Runs a job's thread. One that panics leaves its work undone for good, so nobody may count on it.
    fn run_job(&self, body: fn(&Self)) {
        let ended = catch_unwind(AssertUnwindSafe(|| body(self)));
        if let Err(panic) = ended {
            let name = std::thread::current().name().unwrap_or("a job").to_owned();
            let cause = format!("{name} panicked: {}", panic_message(&*panic)).into();
            self.latch(&Error::Poisoned { cause });
        }
    }

    /// Stops the threads and waits for them.
    pub(crate) fn stop_threads(&self) {
        self.signals.stop();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // It catches what it panics with.
            let _ = thread.join();
        }
    }

    fn flush_loop(&self) {
        let mut failed = false;
        while self.signals.wait(
            &self.signals.flush,
            |s| &mut s.flush,
            failed.then_some(RETRY_AFTER),
        ) {
            failed = loop {
                match self.step_flush_job() {
                    Ok(true) => {}
                    Ok(false) => break self.awaits_drop(),
                    Err(_) => break self.latched().is_none(),
                }
            };
            self.signals.wake(Job::Reclaim);
        }
    }

    fn compact_loop(&self) {
        // Nobody says when the last reader of a superseded segment goes, or when what failed would succeed:
        // look again.
        let held = || !self.garbage.lock().is_empty() || self.has_failed_compactions();
        while self.signals.wait(
            &self.signals.compact,
            |s| &mut s.compact,
            held().then_some(RETRY_AFTER),
        ) {
            loop {
                // What failed is left for a while; others can go on.
                if let Ok(false) = self.step_compaction() {
                    break;
                }
                // Where one was needed another may be, which a second thread could do.
                self.signals.wake(Job::Compact);
                let reclaimed = self.step_reclaim();
                let stop = self.signals.state.lock().stop;
                if reclaimed.is_err() || stop || self.latched().is_some() {
                    break;
                }
            }
            let _ = self.step_reclaim();
        }
    }

    /// Mends what reads have found, as soon as they have.
    fn mend_loop(&self) {
        let signals = self.signals.clone();
        let mendings = self.cache.mendings();
        mendings.wake_by(move || signals.wake(Job::Mend));
        let signals = self.signals.clone();
        let mendings = self.log.mendings();
        mendings.wake_by(move || signals.wake(Job::Mend));
        let mut failures = 0_u32;
        loop {
            let outcome = loop {
                match self.step_mend() {
                    Ok(true) if !self.calls.is_closed() => {}
                    outcome => break outcome,
                }
            };
            // Nobody says when what failed would succeed: look again, and again later.
            let pause = RETRY_AFTER.saturating_mul(1 << failures.min(5));
            let retry = outcome.is_err().then_some(pause);
            failures = retry.map_or(0, |_| failures.saturating_add(1));
            if !self
                .signals
                .wait(&self.signals.mend, |s| &mut s.mend, retry)
            {
                return;
            }
        }
    }

    fn log_loop(&self) {
        while self.signals.wait(&self.signals.log, |s| &mut s.log, None) {
            self.signals.pause(self.options.identifier_delay);
            // Errors that matter have latched the store; a full disk shows at the next write.
            let _ = self.step_log(|| self.log.write_identifiers());
            if self.log.has_unprotected() {
                self.signals.wake_parity();
            }
            if self.log.held_for_parity() > HELD_FOR_PARITY_MAX {
                // Each holds file handles.
                let _ = self.step_log(|| self.log.step_parity());
            }
            let _ = self.step(Job::PrepareLog);
        }
    }

    /// Writes the log's parity, behind all who have something more urgent to do: where there is no core to spare it
    /// waits, and of what is purged meanwhile it need not be written.
    fn parity_loop(&self) {
        give_way();
        while self
            .signals
            .wait(&self.signals.parity, |s| &mut s.parity, None)
        {
            while let Ok(true) = self.step_log(|| self.log.step_parity()) {
                if self.signals.state.lock().stop {
                    return;
                }
            }
        }
    }
}

//! The process that is killed, or whose calls are made to fail: it writes, says what was acknowledged, and
//! keeps the store's jobs busy meanwhile.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Args;
use kintsu::environment::{Clock, SystemClock};
use kintsu::{Error, Reaction};

use super::full;
use super::load::{Done, Store, options, write_all};
use super::oracle::{Bounds, Model, check};
use super::plan::{Each, Plan, THREADS};
use crate::failure::{Failure, Outcome, kind_of};

/// A process that says nothing for so long is taken to hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The store's folder
    store: PathBuf,
    /// What it writes
    #[arg(long)]
    seed: u64,
    /// Keys of each thread
    #[arg(long)]
    slots: u64,
    /// How many writes of each thread are there already
    #[arg(long, value_delimiter = ',', default_value = "0,0,0,0")]
    from: Vec<u64>,
    /// Scrub, mend and compact meanwhile
    #[arg(long)]
    busy: bool,
    /// End after so many milliseconds
    #[arg(long, default_value_t = 60_000)]
    milliseconds: u64,
    /// Fill up a small file system that is made here, in place of a store; its size
    #[arg(long, value_name = "BYTES")]
    fill: Option<u64>,
    /// With --fill: an ext4 image in place of memory
    #[arg(long)]
    image: bool,
}

/// Writes until it is killed, until its time is over, or until every thread has met an error. Acknowledgements, and
/// what failed, go to standard output, a line each.
pub fn run(arguments: &Arguments) -> Outcome {
    end_at_panics();
    let plan = Plan {
        seed: arguments.seed,
        slots: arguments.slots,
    };
    if let Some(bytes) = arguments.fill {
        return full::in_namespace(&arguments.store, plan, bytes, arguments.image);
    }
    let store = match Store::open(options(&arguments.store)) {
        Ok(store) => store,
        Err(error) => return tell(&format!("refused {} {error}", kind_of(&error))),
    };
    tell("open")?;
    let mut from = Each::default();
    for (to, from) in from.iter_mut().zip(&arguments.from) {
        *to = *from;
    }
    let done = Done::from(&from);
    let clock = SystemClock::new();
    let time = Duration::from_millis(arguments.milliseconds);
    let over = AtomicBool::new(false);
    let errors = thread::scope(|scope| {
        if arguments.busy {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    if let Err(error) = busy(&store) {
                        return tell(&format!("failed {} {error}", kind_of(&error)));
                    }
                }
                Ok(())
            });
        }
        let more = |thread: usize, number: u64| {
            tell(&format!("{thread} {number}")).is_ok() && clock.elapsed() < time
        };
        let errors = write_all(&store, &plan, &done, &more);
        over.store(true, Ordering::SeqCst);
        errors
    });
    for error in &errors {
        tell(&format!("failed {} {error}", kind_of(error)))?;
    }
    // Reads go on, whatever has failed.
    let bounds = Bounds {
        low: done.acknowledged(),
        high: done.started(),
    };
    let mut base = Model::new(plan);
    base.advance(&from);
    match check(&store, &base, &bounds, None) {
        Ok(_) => tell("read"),
        Err(broken) => tell(&format!("broken {broken}")),
    }
}

/// A panic of any thread, also of the store's own, ends the process: whoever started it counts that.
fn end_at_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        std::process::abort();
    }));
}

/// One turn of what a store does beside its writes.
fn busy(store: &Store) -> kintsu::Result<()> {
    store.db.scrub()?;
    store.db.mend()?;
    store.db.flush()?;
    store.db.compact_range(..)
}

/// One line, at once.
fn tell(line: &str) -> Outcome {
    let mut out = io::stdout().lock();
    let told = writeln!(out, "{}", line.replace('\n', " ")).and_then(|()| out.flush());
    told.map_err(|error| Failure::write("standard output", &error))
}

/// What such a process has said.
#[derive(Debug, Default)]
pub struct Said {
    /// Whether it had opened the store.
    pub opened: bool,
    /// Whether the store refused to be opened, and why.
    pub refused: Option<String>,
    /// Kinds of errors that its writes met.
    pub failed: Vec<String>,
    /// Whether everything was read at the end, and was right.
    pub read: bool,
    /// What was broken.
    pub broken: Option<String>,
}

/// Such a process at work.
pub struct Worker {
    process: Child,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    clock: SystemClock,
    said: Said,
}

/// How such a process is called.
pub struct Call<'a> {
    /// The store.
    pub store: &'a Path,
    /// What it writes.
    pub plan: Plan,
    /// From where on.
    pub from: Each<u64>,
    /// Further arguments.
    pub more: &'a [String],
    /// What runs it: a program and its arguments; nothing to run it as it is.
    pub under: &'a [String],
}

impl Worker {
    /// Starts one.
    pub fn start(call: &Call<'_>) -> Outcome<Self> {
        let failed = |error: io::Error| Failure::File(format!("could not run the writer: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = match call.under.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        let from = call.from.map(|number| number.to_string()).join(",");
        command
            .arg("torture-child")
            .arg(format!("--seed={}", call.plan.seed))
            .arg(format!("--slots={}", call.plan.slots))
            .arg(format!("--from={from}"))
            .args(call.more)
            .arg("--")
            .arg(call.store)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = command.spawn().map_err(failed)?;
        let (sender, lines) = mpsc::channel();
        let output = process.stdout.take();
        // Read to the end even after a kill: what was said before counts. A line cut short says nothing.
        let reader = output.map(|output| {
            thread::spawn(move || {
                let mut output = BufReader::new(output);
                let mut line = String::new();
                while matches!(output.read_line(&mut line), Ok(bytes) if bytes > 0) {
                    if line.ends_with('\n') && sender.send(line.trim_end().to_owned()).is_err() {
                        return;
                    }
                    line.clear();
                }
            })
        });
        Ok(Self {
            process,
            lines,
            reader,
            clock: SystemClock::new(),
            said: Said::default(),
        })
    }

    /// Takes in what it says until it ends, or until `time` is over; then it is killed. Whether it was.
    pub fn watch(&mut self, plan: &Plan, done: &Done, time: Duration) -> Outcome<bool> {
        let mut killed = false;
        loop {
            let left = match killed {
                true => PATIENCE,
                false => time.saturating_sub(self.clock.elapsed()),
            };
            match self.lines.recv_timeout(left) {
                Ok(line) => self.hear(&line, plan, done),
                Err(RecvTimeoutError::Disconnected) => return Ok(killed),
                Err(RecvTimeoutError::Timeout) if killed => {
                    return Err(Failure::File("a killed writer doesn't end".into()));
                }
                Err(RecvTimeoutError::Timeout) => {
                    // On Unix this is SIGKILL: the process gets no chance to tidy up.
                    let kill = self.process.kill();
                    kill.map_err(|error| {
                        Failure::File(format!("could not kill the writer: {error}"))
                    })?;
                    killed = true;
                }
            }
        }
    }

    fn hear(&mut self, line: &str, plan: &Plan, done: &Done) {
        match line.split_once(' ') {
            None if line == "open" => self.said.opened = true,
            None if line == "read" => self.said.read = true,
            Some(("refused", why)) => self.said.refused = Some(why.into()),
            Some(("failed", why)) => self.said.failed.push(why.into()),
            Some(("broken", what)) => self.said.broken = Some(what.into()),
            Some((thread, number)) => {
                if let (Ok(thread), Ok(number)) = (thread.parse(), number.parse())
                    && thread < THREADS
                {
                    done.acknowledge(thread, number, plan.durability(thread, number));
                }
            }
            None => {}
        }
    }

    /// Waits for its end. What it said, and how it ended.
    pub fn end(mut self) -> Outcome<(Said, String, bool)> {
        let status = self.process.wait();
        let status = status
            .map_err(|error| Failure::File(format!("could not await the writer: {error}")))?;
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let said = std::mem::take(&mut self.said);
        Ok((said, status.to_string(), status.success()))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Nothing is left behind if a round ends early. One that has ended can't be killed, which is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether an error is among those that failing I/O may be answered with.
pub fn is_of_io(error: &Error) -> bool {
    matches!(
        error,
        Error::Io { .. } | Error::OutcomeUnknown { .. } | Error::Poisoned { .. }
    ) && error.reaction() != Reaction::Repair
}

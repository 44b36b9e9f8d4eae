//! Kills a writer in the middle of its work, and looks for everything that it had acknowledged.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use kintsu::environment::{Clock, SystemClock};
use kintsu::{Db, Options, RecoveryReport};
use serde_json::{Value, json};

use super::Arguments;
use super::folder::Folder;
use super::input::{Comparison, Files};
use super::records::{Name, PREFIX};
use super::screen::Screen;
use crate::failure::{Failure, Outcome};
use crate::text;

/// Threads that write at once, so that groups of writes are in flight when the kill comes.
const THREADS: u32 = 8;
const SIGKILL: i32 = 9;
/// A writer that acknowledges nothing for so long is taken to hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the store holds of the write load, against what was acknowledged.
#[derive(Debug, Default)]
struct Found {
    /// Acknowledged and there.
    acknowledged: u64,
    /// Acknowledged and not there: must never be.
    lost: u64,
    /// There with another value than was written: must never be.
    wrong: u64,
    /// Written when the kill came, not yet acknowledged, and there nevertheless.
    unacknowledged: u64,
}

/// What came of one kill.
#[derive(Debug)]
struct Round {
    acknowledged: u64,
    found: Found,
    time: Duration,
    report: RecoveryReport,
}

/// All rounds.
#[derive(Debug, Default)]
pub struct Kills {
    rounds: Vec<Round>,
    /// The number of the last acknowledged record, for each round and thread.
    last: BTreeMap<(u32, u32), u64>,
    /// The store as the last kill left it.
    pub crashed_copy: PathBuf,
}

impl Kills {
    /// Whether every acknowledged write was found each time.
    pub fn held(&self) -> bool {
        self.rounds
            .iter()
            .all(|round| round.found.lost == 0 && round.found.wrong == 0)
    }

    /// How many kills.
    pub fn count(&self) -> u64 {
        self.rounds.len() as u64
    }

    /// Writes acknowledged in all rounds.
    pub fn acknowledged(&self) -> u64 {
        self.last.values().map(|last| last + 1).sum()
    }

    /// The records that the last writer had acknowledged, from the middle of its work on.
    pub fn recent(&self) -> impl Iterator<Item = Name> {
        let last_round = self.last.keys().map(|(round, _)| *round).max();
        let of_last = self
            .last
            .iter()
            .filter(move |((round, _), _)| Some(*round) == last_round);
        of_last.flat_map(|((round, thread), last)| {
            let (round, thread) = (*round, *thread);
            (last / 2..=*last).map(move |number| Name {
                round,
                thread,
                number,
            })
        })
    }

    /// Reads every acknowledged record, one by one, from a store, damaged or not.
    pub fn read_all(&self, db: &Db) -> Outcome<Comparison> {
        let mut comparison = Comparison::default();
        for ((round, thread), last) in &self.last {
            for number in 0..=*last {
                let name = Name {
                    round: *round,
                    thread: *thread,
                    number,
                };
                comparison.add(db.get(name.key()), |value| value == name.value())?;
            }
        }
        Ok(comparison)
    }

    /// In numbers.
    pub fn to_json(&self) -> Value {
        let round = |round: &Round| {
            json!({
                "acknowledged": round.acknowledged,
                "found": round.found.acknowledged,
                "lost": round.found.lost,
                "wrong": round.found.wrong,
                "found_unacknowledged": round.found.unacknowledged,
                "write_seconds": round.time.as_secs_f64(),
                "reopen_us": round.report.duration_us,
                "records_replayed": round.report.records_replayed,
                "torn_bytes": round.report.torn_bytes,
            })
        };
        self.rounds.iter().map(round).collect()
    }
}

/// Writes and kills as often as asked for, and reopens the store each time.
pub fn run(
    arguments: &Arguments,
    folder: &Folder,
    store: &Path,
    files: &mut Files,
    screen: &mut Screen<'_>,
) -> Outcome<Kills> {
    screen.step("Kill a writer in the middle of its work")?;
    screen.line(&format!(
        "a child process puts records from {THREADS} threads, each synced to disk before it is \
         acknowledged; then SIGKILL"
    ))?;
    let mut kills = Kills::default();
    let slice = Duration::from_secs_f64(arguments.seconds / f64::from(arguments.kills));
    for round in 1..=arguments.kills {
        let is_last = round == arguments.kills;
        // The last writer keeps all of its work in the log, for the damage to come.
        let write_buffer_bytes = if is_last { 1 << 30 } else { 1 << 20 };
        let (last, time) = write_and_kill(store, round, write_buffer_bytes, slice)?;
        let acknowledged = last.values().map(|last| last + 1).sum();
        kills.last.extend(
            last.into_iter()
                .map(|(thread, last)| ((round, thread), last)),
        );
        if is_last {
            kills.crashed_copy = folder.copy_store(store, "copy-with-damaged-log")?;
        }
        let db = Options::new(store).create_if_missing(false).open()?;
        let report = db.recovery_report().clone();
        let found = look(&db, &kills)?;
        let outcome = Round {
            acknowledged,
            found,
            time,
            report,
        };
        tell(round, &outcome, screen)?;
        kills.rounds.push(outcome);
        if is_last {
            files.compare(&db, screen)?;
            db.close()?;
        }
    }
    screen.line(
        "SIGKILL takes the process, not the machine; the loss of power is played by the tests, on a \
         simulated disk that forgets",
    )?;
    Ok(kills)
}

fn tell(round: u32, outcome: &Round, screen: &mut Screen<'_>) -> Outcome {
    let Round {
        acknowledged,
        found,
        time,
        report,
    } = outcome;
    let held = found.lost == 0 && found.wrong == 0;
    let rate = text::count(text::per_second(*acknowledged, *time));
    screen.verdict(
        held,
        &format!(
            "kill {round} after {}: {} acknowledged ({rate}/s); of {} in all, {} found, {} lost, {} \
             wrong",
            text::duration(*time),
            text::plural(*acknowledged, "write"),
            text::count(found.acknowledged + found.lost),
            text::count(found.acknowledged),
            text::count(found.lost),
            text::count(found.wrong),
        ),
    )?;
    screen.line(&format!(
        "reopened in {}: {} replayed, {} torn bytes dropped, {} under way at a kill found too",
        text::duration(Duration::from_micros(report.duration_us)),
        text::plural(report.records_replayed, "record"),
        text::count(report.torn_bytes),
        text::plural(found.unacknowledged, "write"),
    ))
}

/// The number of each thread's last acknowledged record.
type Last = BTreeMap<u32, u64>;

/// Starts a writer, lets it work for `slice`, kills it, and returns what it had acknowledged.
fn write_and_kill(
    store: &Path,
    round: u32,
    write_buffer_bytes: usize,
    slice: Duration,
) -> Outcome<(Last, Duration)> {
    let failed =
        |error: std::io::Error| Failure::File(format!("could not run the writer: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .arg("demo-writer")
        .arg(format!("--round={round}"))
        .arg(format!("--threads={THREADS}"))
        .arg(format!("--write-buffer-bytes={write_buffer_bytes}"))
        .arg("--")
        .arg(store)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let output = child.stdout.take();
    let watched = thread::scope(|scope| {
        let (sender, acknowledgements) = mpsc::channel();
        // The pipe is read to its end even after the kill: what was said before counts.
        let reader = output.map(|output| scope.spawn(move || read(output, &sender)));
        let watched = watch(&mut child, &acknowledgements, slice);
        if let Some(reader) = reader {
            let _ = reader.join();
        }
        watched
    });
    let status = child.wait().map_err(failed)?;
    if status.signal() != Some(SIGKILL) {
        let what = format!("the writer ended by itself ({status}) before it could be killed");
        return Err(Failure::File(what));
    }
    watched
}

/// Passes on each whole line. A line that the kill cut short acknowledges nothing.
fn read(output: impl Read, sender: &mpsc::Sender<(u32, u64)>) {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    while matches!(output.read_line(&mut line), Ok(bytes) if bytes > 0) {
        let acknowledgement = line.strip_suffix('\n').and_then(|line| {
            let (thread, number) = line.split_once(' ')?;
            Some((thread.parse().ok()?, number.parse().ok()?))
        });
        if let Some(acknowledgement) = acknowledgement
            && sender.send(acknowledgement).is_err()
        {
            return;
        }
        line.clear();
    }
}

/// Collects acknowledgements, and kills once the slice since the first one is over.
fn watch(
    child: &mut Child,
    acknowledgements: &Receiver<(u32, u64)>,
    slice: Duration,
) -> Outcome<(Last, Duration)> {
    let clock = SystemClock::new();
    let mut last = Last::new();
    let mut first_at = None;
    let mut killed_at = None;
    loop {
        let left = match first_at {
            None => PATIENCE,
            Some(first_at) => (slice + first_at).saturating_sub(clock.elapsed()),
        };
        if killed_at.is_none() && left.is_zero() {
            kill(child)?;
            killed_at = Some(clock.elapsed());
        }
        let left = if killed_at.is_some() { PATIENCE } else { left };
        match acknowledgements.recv_timeout(left) {
            Ok((thread, number)) => {
                first_at.get_or_insert_with(|| clock.elapsed());
                last.insert(thread, number);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if first_at.is_some() && killed_at.is_none() => {}
            Err(RecvTimeoutError::Timeout) => {
                kill(child)?;
                return Err(Failure::File("the writer acknowledges nothing".into()));
            }
        }
    }
    let first_at = first_at.unwrap_or_default();
    Ok((last, killed_at.unwrap_or_default().saturating_sub(first_at)))
}

fn kill(child: &mut Child) -> Outcome {
    // On Unix this is SIGKILL: the process gets no chance to tidy up.
    let killed = child.kill();
    killed.map_err(|error| Failure::File(format!("could not kill the writer: {error}")))
}

/// Compares all of the write load that the store holds with what was acknowledged, in all rounds.
fn look(db: &Db, kills: &Kills) -> Outcome<Found> {
    let mut found = Found::default();
    let mut seen: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for record in db.prefix(PREFIX)? {
        let (key, value) = record?;
        let Some(name) = Name::of_key(&key) else {
            found.wrong += 1;
            continue;
        };
        if name.value() != value {
            found.wrong += 1;
        }
        let thread = (name.round, name.thread);
        match kills.last.get(&thread) {
            Some(last) if name.number <= *last => *seen.entry(thread).or_default() += 1,
            // A thread has one write under way: anything further can't have been written.
            last if name.number == last.map_or(0, |last| last + 1) => found.unacknowledged += 1,
            _ => found.wrong += 1,
        }
    }
    for (thread, last) in &kills.last {
        let seen = seen.get(thread).copied().unwrap_or_default();
        found.acknowledged += seen;
        found.lost += last + 1 - seen;
    }
    Ok(found)
}

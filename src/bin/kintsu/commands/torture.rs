//! `kintsu torture`: the bad day, on the user's own machine and disk, for as long as asked for.
//!
//! Rounds of each kind take turns. Each writes to a store, strikes it, opens it again, and looks for everything that
//! was acknowledged; what is found is kept, with the command that plays the round again.

pub mod child;
mod damage;
mod files;
mod folder;
mod full;
mod kill;
mod load;
mod mirror;
mod oracle;
mod plan;
mod power;
mod report;
mod round;
mod sync;

use std::collections::VecDeque;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use kintsu::environment::{Entropy, SystemEntropy};
use kintsu::testing::SeededRng;
use parking_lot::Mutex;

use self::folder::Folder;
use self::oracle::Broken;
use self::report::{Finding, Live, Report};
use self::round::{Counts, End, Kind, Round, Step};
use crate::console::Console;
use crate::failure::{Failure, Outcome, exit};

const ROUND_MIN: Duration = Duration::from_millis(200);
const ROUND_MAX: Duration = Duration::from_secs(3);

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A folder on the disk in question: missing, empty, or left by an earlier torture
    folder: PathBuf,
    /// How long, such as 90s, 10m or 8h; each kind has a round even if it is short
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_time)]
    time: Duration,
    /// Where chance begins [default: anywhere; the report says where]
    #[arg(long)]
    seed: Option<u64>,
    /// Only these kinds
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    only: Vec<Kind>,
    /// Only the round of this number, as a report names it
    #[arg(long, value_name = "NUMBER")]
    round: Option<u64>,
    /// Write the report to this file as well, as Markdown
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Look for writes that nobody made: shows that a campaign can fail
    #[arg(long, hide = true)]
    claim_unwritten: bool,
}

/// `90s`, `10m`, `8h`; a bare number is seconds.
fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(['s', 'm', 'h']);
    let unit = match text.strip_prefix(digits) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        _ => 0,
    };
    let number: Option<u64> = digits.parse().ok();
    match number.and_then(|number| number.checked_mul(unit)) {
        Some(seconds) if unit > 0 && seconds <= 366 * 86_400 => Ok(Duration::from_secs(seconds)),
        _ => Err("write 90s, 10m or 8h".into()),
    }
}

/// Runs the campaign; fine only if nothing was found.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let folder = Folder::take(&arguments.folder)?;
    let mut report = Report {
        seed: arguments
            .seed
            .unwrap_or_else(|| SystemEntropy::default().next_u64() >> 32),
        ..Report::default()
    };
    let mut live = Live::new(console);
    let played = play_rounds(arguments, console, &folder, &mut report, &mut live);
    live.finish();
    report.time = console.elapsed();
    report.broke_off = played.is_err();
    drop(std::panic::take_hook());
    if played.is_err() {
        let path = folder.path().display();
        console.note(
            "note",
            &format!("the campaign can't go on; everything is kept in {path}"),
        );
    }
    let told = tell(arguments, console, &report);
    if !report.findings.is_empty() {
        // That counts more than a report that can't be written.
        if let Err(failure) = &told {
            console.fail(failure);
        }
        return Err(Failure::Told(exit::BROKEN));
    }
    played.and(told)?;
    folder.tidy()
}

/// Writes the report to where it is wanted.
fn tell(arguments: &Arguments, console: &mut Console, report: &Report) -> Outcome {
    match console.json {
        true => console.value(&report.to_json())?,
        false => write!(console, "{}", report.to_markdown())?,
    }
    let Some(path) = &arguments.report else {
        return Ok(());
    };
    let written = fs::write(path, report.to_markdown());
    written.map_err(|error| Failure::file("write", path, &error))
}

/// A campaign under way.
struct Campaign<'a> {
    arguments: &'a Arguments,
    folder: &'a Folder,
    report: &'a mut Report,
    live: &'a mut Live,
    panics: Panics,
    /// How long a round may take.
    slice: Duration,
}

/// Plays rounds until the time is over, or until something is found.
fn play_rounds(
    arguments: &Arguments,
    console: &Console,
    folder: &Folder,
    report: &mut Report,
    live: &mut Live,
) -> Outcome {
    // They take turns.
    let mut kinds = match arguments.only.is_empty() {
        true => VecDeque::from(Kind::ALL),
        false => VecDeque::from(arguments.only.clone()),
    };
    let slice = arguments.time / u32::try_from(2 * kinds.len()).unwrap_or(1);
    let mut campaign = Campaign {
        arguments,
        folder,
        report,
        live,
        panics: keep_panics(),
        slice: slice.clamp(ROUND_MIN, ROUND_MAX),
    };
    let all = kinds.len() as u64;
    let (first, last) = match arguments.round {
        Some(round) => (round, round),
        None => (0, u64::MAX),
    };
    for number in first..=last {
        let left = arguments.time.saturating_sub(console.elapsed());
        if number - first >= all && left.is_zero() {
            break;
        }
        let Some(kind) = kinds.pop_front() else {
            break;
        };
        campaign.report.time = console.elapsed();
        campaign.live.tell(campaign.report, kind, left);
        match campaign.play(kind, number)? {
            Played::Fine => kinds.push_back(kind),
            Played::Broken => break,
            // It can't be done here, and won't be tried again.
            Played::Not => {}
        }
    }
    Ok(())
}

/// What came of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Played {
    Fine,
    Broken,
    /// Nothing of it can be done on this machine.
    Not,
}

impl Campaign<'_> {
    /// Plays a round, and reports it.
    fn play(&mut self, kind: Kind, number: u64) -> Outcome<Played> {
        let path = self.folder.round(number, kind.word());
        let seed = seed_of(self.report.seed, kind, number);
        let mut round = Round::begin(path.clone(), seed, self.slice)?;
        round.claim_unwritten = self.arguments.claim_unwritten;
        let outcome = play(&mut round, kind, &self.panics);
        for what in &round.skipped {
            if let Some(line) = self.report.skip(kind, what) {
                self.live.note(&line);
            }
        }
        let nothing = !round.skipped.is_empty() && round.counts == Counts::default();
        if outcome.is_ok() && nothing {
            self.report.count(kind, &round.counts);
            files::remove(&path)?;
            return Ok(Played::Not);
        }
        round.counts.rounds += 1;
        if let Err(End::Broken(broken)) = &outcome {
            round.counts.count(broken);
            self.report.findings.push(Finding {
                kind,
                round: number,
                what: broken.to_string(),
                kept: path.display().to_string(),
                repeat: format!(
                    "kintsu torture {} --seed {} --only {} --round {number}",
                    another(&self.arguments.folder),
                    self.report.seed,
                    kind.word()
                ),
            });
        }
        self.report.count(kind, &round.counts);
        match outcome {
            Ok(()) => files::remove(&path).map(|()| Played::Fine),
            Err(End::Broken(_)) => Ok(Played::Broken),
            Err(End::Failed(failure)) => Err(failure),
        }
    }
}

/// Another folder beside this one, as a shell takes it: in this one the evidence is kept.
fn another(folder: &Path) -> String {
    let path = format!("{}-again", folder.display());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    match path.bytes().all(is_plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

/// What a round follows from.
fn seed_of(seed: u64, kind: Kind, number: u64) -> u64 {
    let mut mixed = SeededRng::new(seed).next_u64();
    for part in [kind as u64, number] {
        mixed = SeededRng::new(mixed ^ part).next_u64();
    }
    mixed
}

/// What panics have said, of any thread.
type Panics = Arc<Mutex<Vec<String>>>;

/// A panic is a finding like others, also of a thread that nobody waits for.
fn keep_panics() -> Panics {
    let panics = Panics::default();
    let kept = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |info| kept.lock().push(info.to_string())));
    panics
}

fn play(round: &mut Round, kind: Kind, panics: &Panics) -> Step {
    let outcome = catch_unwind(AssertUnwindSafe(|| match kind {
        Kind::Kill => kill::play(round),
        Kind::Power => power::play(round),
        Kind::Damage => damage::play(round),
        Kind::Full => full::play(round),
        Kind::Sync => sync::play(round),
    }));
    let said = std::mem::take(&mut *panics.lock());
    match (outcome, said.is_empty()) {
        (Ok(outcome), true) => outcome,
        _ => Err(Broken::Unexpected(format!("a panic: {}", said.join("; "))).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let seconds = |text| parse_time(text).map(|time| time.as_secs()).ok();
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("10m"), Some(600));
        assert_eq!(seconds("8h"), Some(28_800));
        assert_eq!(seconds("7"), Some(7));
        for wrong in [
            "",
            "s",
            "1d",
            "-1s",
            "1.5m",
            "1sm",
            "99999999999999999999",
            "9999999h",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_round_has_a_seed_of_its_own() {
        let seeds = [
            seed_of(1, Kind::Kill, 0),
            seed_of(1, Kind::Kill, 1),
            seed_of(1, Kind::Power, 0),
            seed_of(2, Kind::Kill, 0),
        ];
        for (at, seed) in seeds.iter().enumerate() {
            assert!(!seeds[at + 1..].contains(seed));
        }
        assert_eq!(seeds[0], seed_of(1, Kind::Kill, 0));
    }
}

//! What became of each fault, counted by fault and place, and how that is printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

/// How a store, or a restore from a repository, took a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is right, and nothing needed mending: the fault struck what nobody needs, or what was never
    /// acknowledged.
    Harmless,
    /// All is right, and the store has said that it made it so.
    Repaired,
    /// An error names what is wrong; all that isn't refused is right.
    Refused(&'static str),
    /// Acknowledged data isn't there, and nobody says so.
    Lost(String),
    /// A value that was never written, an older one, a key that came back, an error of the wrong kind.
    Wrong(String),
    /// The code under test has panicked.
    Panicked(String),
}

/// One case: where the fault struck, how it was taken, and whether a refusal is allowed there.
#[derive(Clone, Debug)]
pub struct Played {
    pub place: String,
    pub verdict: Verdict,
    pub may_refuse: bool,
}

impl Played {
    pub fn new(place: impl Into<String>, verdict: Verdict) -> Self {
        let place = place.into();
        let may_refuse = true;
        Self {
            place,
            verdict,
            may_refuse,
        }
    }

    /// Here is redundancy: a refusal counts as a failure.
    #[must_use]
    pub fn must_be_right(mut self) -> Self {
        self.may_refuse = false;
        self
    }
}

/// One line of the table.
#[derive(Clone, Debug, Default)]
struct Row {
    count: u64,
    harmless: u64,
    repaired: u64,
    refused: BTreeMap<&'static str, u64>,
    lost: u64,
    wrong: u64,
    panics: u64,
}

/// The table so far, and what in it must not be.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: BTreeMap<(String, String), Row>,
    /// The cases, by name, with what was wrong with them.
    failures: Vec<(String, String)>,
}

/// The failures that are named; the rest is counted.
const FAILURES_NAMED_MAX: usize = 40;

impl Table {
    pub fn count(&mut self, fault: &str, case: &str, played: Played) {
        let key = (fault.to_owned(), played.place);
        let row = self.rows.entry(key).or_default();
        row.count += 1;
        let failure = match played.verdict {
            Verdict::Harmless => {
                row.harmless += 1;
                None
            }
            Verdict::Repaired => {
                row.repaired += 1;
                None
            }
            Verdict::Refused(why) => {
                *row.refused.entry(why).or_default() += 1;
                let forbidden = format!("refused ({why}) where redundancy exists");
                (!played.may_refuse).then_some(forbidden)
            }
            Verdict::Lost(why) => {
                row.lost += 1;
                Some(format!("lost without notice: {why}"))
            }
            Verdict::Wrong(why) => {
                row.wrong += 1;
                Some(format!("wrong answer: {why}"))
            }
            Verdict::Panicked(why) => {
                row.panics += 1;
                Some(format!("panic: {why}"))
            }
        };
        if let Some(why) = failure {
            self.failures.push((case.to_owned(), why));
        }
    }

    pub fn add(&mut self, other: Self) {
        for (key, row) in other.rows {
            let own = self.rows.entry(key).or_default();
            own.count += row.count;
            own.harmless += row.harmless;
            own.repaired += row.repaired;
            own.lost += row.lost;
            own.wrong += row.wrong;
            own.panics += row.panics;
            for (why, count) in row.refused {
                *own.refused.entry(why).or_default() += count;
            }
        }
        self.failures.extend(other.failures);
    }

    pub fn cases(&self) -> u64 {
        self.rows.values().map(|row| row.count).sum()
    }

    pub fn has_failed(&self) -> bool {
        !self.failures.is_empty()
    }

    /// The rows, as Markdown.
    fn lines(&self) -> Vec<String> {
        let rows = self.rows.iter();
        rows.map(|((fault, place), row)| {
            let reasons = row.refused.iter();
            let reasons: Vec<_> = reasons.map(|(why, n)| format!("{n}: {why}")).collect();
            let refused = match reasons.is_empty() {
                true => "0".to_owned(),
                false => reasons.join("; "),
            };
            format!(
                "| {fault} | {place} | {} | {} | {} | {refused} | {} | {} | {} |",
                row.count, row.harmless, row.repaired, row.lost, row.wrong, row.panics
            )
        })
        .collect()
    }

    pub fn print(&self) {
        println!("{HEAD}");
        for line in self.lines() {
            println!("{line}");
        }
        println!("\n{} cases, {} failures", self.cases(), self.failures.len());
        for (case, why) in self.failures.iter().take(FAILURES_NAMED_MAX) {
            println!("FAILED {case}: {why}");
        }
        if let Some((case, _)) = self.failures.first() {
            println!("the first again: {case}");
        }
    }

    /// Adds the rows to a file: processes that run one fault each fill it one after the other.
    pub fn append_to(&self, path: &str) -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.append(true).create(true).open(path)?;
        let mut text = String::new();
        if file.metadata()?.len() == 0 {
            let _ = writeln!(text, "{HEAD}");
        }
        for line in self.lines() {
            let _ = writeln!(text, "{line}");
        }
        file.write_all(text.as_bytes())
    }
}

const HEAD: &str = "| fault | where | count | harmless | repaired | refused, and why | lost without notice | wrong answers | panics |\n|---|---|---|---|---|---|---|---|---|";

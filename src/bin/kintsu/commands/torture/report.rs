//! What a campaign has done and found: while it goes on, as a table, and as JSON.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

use super::round::{Counts, Kind};
use crate::console::{Console, complain, stderr_is_terminal};
use crate::text;

/// How often a line is written where nobody looks.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// A broken promise, and how to see it again.
#[derive(Clone, Debug)]
pub struct Finding {
    /// In which kind of round.
    pub kind: Kind,
    /// In which round.
    pub round: u64,
    /// What.
    pub what: String,
    /// Where everything is kept.
    pub kept: String,
    /// The command that plays the round again.
    pub repeat: String,
}

/// All of a campaign.
#[derive(Debug, Default)]
pub struct Report {
    /// Where chance begins.
    pub seed: u64,
    /// How long it took.
    pub time: Duration,
    /// What each kind has counted.
    pub kinds: Vec<(Kind, Counts)>,
    /// What couldn't be done here, and why.
    pub skipped: Vec<String>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Whether it couldn't go on.
    pub broke_off: bool,
}

impl Report {
    /// Counts a round.
    pub fn count(&mut self, kind: Kind, counts: &Counts) {
        if let Some((_, all)) = self.kinds.iter_mut().find(|(found, _)| *found == kind) {
            all.add(counts);
        } else {
            self.kinds.push((kind, *counts));
        }
    }

    /// Takes note of what couldn't be done; once.
    pub fn skip(&mut self, kind: Kind, what: &str) -> Option<String> {
        let line = format!("skipped: {}: {what}", kind.word());
        let is_new = !self.skipped.contains(&line);
        is_new.then(|| {
            self.skipped.push(line.clone());
            line
        })
    }

    /// All kinds together.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for (_, counts) in &self.kinds {
            total.add(counts);
        }
        total
    }

    /// In one line.
    pub fn line(&self) -> String {
        let total = self.total();
        let rounds: Vec<String> = self
            .kinds
            .iter()
            .map(|(kind, counts)| format!("{} {}", kind.word(), counts.rounds))
            .collect();
        format!(
            "{} ({}), {} acknowledged, {}; {} lost, {} wrong, {} unexpected",
            text::plural(total.rounds, "round"),
            rounds.join(", "),
            text::plural(total.acknowledged, "write"),
            text::plural(total.checks, "check"),
            total.lost,
            total.wrong,
            total.unexpected,
        )
    }

    /// As Markdown.
    pub fn to_markdown(&self) -> String {
        let mut rows = vec![vec!["what".to_owned()]];
        let mut columns: Vec<Counts> = self.kinds.iter().map(|(_, counts)| *counts).collect();
        columns.push(self.total());
        if let Some(head) = rows.first_mut() {
            head.extend(self.kinds.iter().map(|(kind, _)| kind.word().to_owned()));
            head.push("all".into());
        }
        for (at, (name, said, all)) in self.total().each().into_iter().enumerate() {
            if all == 0 && !["lost", "wrong", "unexpected"].contains(&name) {
                continue;
            }
            let mut row = vec![said.to_owned()];
            for counts in &columns {
                let figure = counts.each().get(at).map_or(0, |(_, _, figure)| *figure);
                row.push(text::count(figure));
            }
            rows.push(row);
        }
        let mut out = format!(
            "# kintsu torture\n\nVersion {}, seed {}, {}.\n\n{}",
            env!("CARGO_PKG_VERSION"),
            self.seed,
            text::duration(self.time),
            table(&rows),
        );
        for line in &self.skipped {
            out.push_str(&format!("\n{line}\n"));
        }
        for finding in &self.findings {
            out.push_str(&format!(
                "\n**{}, round {}: {}**\n\nEverything is kept in {}; the same round again: `{}`\n",
                finding.kind.word(),
                finding.round,
                finding.what,
                finding.kept,
                finding.repeat,
            ));
        }
        let verdict = if !self.findings.is_empty() {
            "A promise was broken."
        } else if self.broke_off {
            "The campaign broke off."
        } else if self.total().rounds == 0 {
            "Nothing was tested."
        } else {
            "Every promise was kept."
        };
        out.push_str(&format!("\n{verdict}\n"));
        out
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let kinds = self.kinds.iter();
        let kinds: Map<String, Value> = kinds
            .map(|(kind, counts)| (kind.word().to_owned(), counts.to_json()))
            .collect();
        let finding = |finding: &Finding| {
            json!({
                "kind": finding.kind.word(),
                "round": finding.round,
                "what": finding.what,
                "kept": finding.kept,
                "repeat": finding.repeat,
            })
        };
        json!({
            "held": self.findings.is_empty() && !self.broke_off && self.total().rounds > 0,
            "broke_off": self.broke_off,
            "seed": self.seed,
            "seconds": self.time.as_secs_f64(),
            "total": self.total().to_json(),
            "kinds": kinds,
            "skipped": self.skipped,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}

/// A table whose columns stand one below the other, also for those who read it as it is.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (at, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            match column {
                0 => out.push_str(&format!("| {cell}{padding} |")),
                _ => out.push_str(&format!(" {padding}{cell} |")),
            }
        }
        out.push('\n');
        if at == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(*width);
                match column {
                    0 => out.push_str(&format!("| {dashes} |")),
                    _ => out.push_str(&format!(" {dashes}: |").replacen(" -", " ", 1)),
                }
            }
            out.push('\n');
        }
    }
    out
}

/// How far it has come: a line that is redrawn where a person looks, one now and then elsewhere.
pub struct Live {
    bar: Option<ProgressBar>,
    json: bool,
    told_at: Duration,
}

impl Live {
    /// Begins.
    pub fn new(console: &Console) -> Self {
        let bar = (!console.json && stderr_is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{spinner} {wide_msg}");
            // A template that doesn't parse would leave the default style, which is fine too.
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let bar = bar.with_style(style);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self {
            bar,
            json: console.json,
            told_at: Duration::ZERO,
        }
    }

    /// Tells what is done, and what comes next.
    pub fn tell(&mut self, report: &Report, next: Kind, left: Duration) {
        let line = format!("{}; {} left", report.line(), text::about(left));
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} now; {line}", next.word()));
        } else if report.time.saturating_sub(self.told_at) >= LINE_INTERVAL {
            self.told_at = report.time;
            if self.json {
                let mut progress = report.to_json();
                progress["left_seconds"] = json!(left.as_secs_f64());
                complain(&format!("{}\n", json!({ "progress": progress })));
            } else {
                complain(&format!("tortured: {line}\n"));
            }
        }
    }

    /// A line that stays.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None if self.json => complain(&format!("{}\n", json!({ "note": line }))),
            None => complain(&format!("{line}\n")),
        }
    }

    /// Takes the line away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

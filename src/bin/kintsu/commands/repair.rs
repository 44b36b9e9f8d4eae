//! `kintsu repair STORE`

use clap::Args;
use kintsu::{RepairMode, RepairReport, Severity};
use serde_json::json;

use crate::commands::salvage::{in_words, lost_json};
use crate::commands::verify::{end, name};
use crate::console::Console;
use crate::failure::{Outcome, damage_json};
use crate::store::StoreArguments;
use crate::text;

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    /// Do it; without this it only says what it would do
    #[arg(long)]
    apply: bool,
    /// Also give up what is lost, so that the rest can be used; damaged files are kept in quarantine/
    #[arg(long, requires = "apply")]
    accept_loss: bool,
}

/// Says what is damaged and what would be lost, or mends and gives up.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let mode = match (arguments.apply, arguments.accept_loss) {
        (false, _) => RepairMode::List,
        (true, false) => RepairMode::Mend,
        (true, true) => RepairMode::AcceptLoss,
    };
    let options = arguments.store.options().log_file_bytes(1 << 20);
    let report = kintsu::repair(options, mode)?;
    match console.json {
        true => console.value(&json!({
            "severity_before": name(report.severity_before),
            "severity": name(report.severity),
            "changed": report.has_changed,
            "mendable": report.mendable.iter().map(damage_json).collect::<Vec<_>>(),
            "lost": report.lost.iter().map(lost_json).collect::<Vec<_>>(),
            "mended": report.mended,
            "quarantined": report.quarantined,
        }))?,
        false => tell(mode, &report, console)?,
    }
    end(report.severity)
}

fn tell(mode: RepairMode, report: &RepairReport, console: &mut Console) -> Outcome {
    let is_open = report.severity_before < Severity::Unopenable;
    let mends = match mode {
        RepairMode::List => "can be mended",
        RepairMode::Mend if !is_open => "can be mended once the rest is given up",
        RepairMode::Mend | RepairMode::AcceptLoss => "mended",
    };
    for damage in &report.mendable {
        writeln!(console, "{mends}: {damage}")?;
    }
    let loses = match mode {
        RepairMode::AcceptLoss => "given up",
        RepairMode::List | RepairMode::Mend => "lost",
    };
    for lost in &report.lost {
        writeln!(console, "{loses}: {}", in_words(lost))?;
    }
    for name in &report.quarantined {
        writeln!(console, "kept in quarantine: {name}")?;
    }
    let words = match (mode, report.severity) {
        (_, Severity::Whole) if report.severity_before == Severity::Whole => "no damage",
        (_, Severity::Whole) => "the store is whole now",
        (RepairMode::List, Severity::Mendable) => {
            "nothing was changed; `kintsu repair STORE --apply` mends it"
        }
        (RepairMode::List, _) => {
            "nothing was changed; restore a backup, or copy what is readable with `kintsu salvage`, or give up \
             what is lost with `kintsu repair STORE --apply --accept-loss`"
        }
        (_, Severity::Mendable) => "something couldn't be mended now; it can be tried again",
        (RepairMode::Mend, _) => {
            "what is lost was left alone; `--accept-loss` gives it up, so that the rest can be used"
        }
        (RepairMode::AcceptLoss, _) => {
            "something is still damaged; `kintsu salvage` copies what is readable"
        }
    };
    writeln!(
        console,
        "{}, {}: {words}",
        text::plural(report.mendable.len() as u64, "mendable place"),
        text::plural(report.lost.len() as u64, "lost one"),
    )
}

//! `kintsu restore REPOSITORY STORE`

use std::path::PathBuf;

use clap::Args;
use kintsu::{Index, Options, Repository, RestorePoint, RestoreReport};
use serde_json::json;

use crate::console::Console;
use crate::failure::{Failure, Outcome, exit};
use crate::moment;
use crate::text;

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The backup repository
    repository: PathBuf,
    /// The folder of the store to be made; must be missing or empty
    store: PathBuf,
    /// Only records up to this one
    #[arg(long, value_name = "N", conflicts_with = "time")]
    index: Option<u64>,
    /// Only records up to this moment: RFC 3339 (2026-03-01T12:30:00Z), or microseconds since 1970
    #[arg(long, value_name = "MOMENT", value_parser = moment::parse)]
    time: Option<u64>,
    /// Restore even to a file system that can't keep the promises (a network share, say)
    #[arg(long)]
    allow_unsafe_file_system: bool,
}

/// Restores, and says to which record and of what.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let point = match (arguments.index, arguments.time) {
        (Some(index), _) => RestorePoint::Index(Index(index)),
        (None, Some(time_us)) => RestorePoint::Time(time_us),
        (None, None) => RestorePoint::Newest,
    };
    let target =
        Options::new(&arguments.store).allow_unsafe_file_system(arguments.allow_unsafe_file_system);
    let report = Repository::new(&arguments.repository).restore(target, point)?;
    if console.json {
        console.value(&to_json(&report))?;
    } else {
        tell(arguments, &report, console)?;
    }
    if report.reached {
        Ok(())
    } else {
        Err(Failure::Told(if report.skipped.is_empty() {
            exit::OTHER
        } else {
            exit::DAMAGE
        }))
    }
}

fn to_json(report: &RestoreReport) -> serde_json::Value {
    let skipped = report.skipped.iter().map(|skipped| {
        json!({
            "number": skipped.number,
            "file": skipped.path.to_string_lossy(),
            "why": skipped.why.to_string(),
        })
    });
    json!({
        "backup": report.backup,
        "index": report.index.0,
        "time_us": report.time_us,
        "bytes": report.bytes,
        "records": report.records,
        "reached": report.reached,
        "skipped": skipped.collect::<Vec<_>>(),
    })
}

fn tell(arguments: &Arguments, report: &RestoreReport, console: &mut Console) -> Outcome {
    for skipped in &report.skipped {
        let path = skipped.path.display();
        console.warn(&format!("passed over {path}: {}", skipped.why));
    }
    writeln!(
        console,
        "{} holds everything up to record {} ({}): backup {}, {}, and {} of the archive",
        arguments.store.display(),
        text::count(report.index.0),
        moment::format(report.time_us),
        report.backup,
        text::bytes(report.bytes),
        text::plural(report.records, "record"),
    )?;
    if !report.reached {
        writeln!(
            console,
            "the point was not reached: the repository has nothing newer that can be used"
        )?;
    }
    Ok(())
}

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
    /// Follow this era, as `backup --list` names it (its first digits do), not the one that was backed up or
    /// archived last
    #[arg(long)]
    era: Option<String>,
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
    let repository = Repository::new(&arguments.repository);
    let repository = match &arguments.era {
        Some(digits) => {
            let era = era(&repository, digits)?;
            repository.of_era(era)
        }
        None => repository,
    };
    let report = repository.restore(target, point)?;
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

/// The one era that begins with some digits.
fn era(repository: &Repository, digits: &str) -> Outcome<u128> {
    let eras = repository.eras()?.into_iter().map(|era| era.id);
    let mut found = eras.filter(|id| format!("{id:032x}").starts_with(&digits.to_lowercase()));
    match (found.next(), found.next()) {
        (Some(era), None) => Ok(era),
        (None, _) => Err(Failure::Usage(format!(
            "the repository has no era {digits}"
        ))),
        (Some(_), Some(_)) => {
            let why = format!("{digits} is the beginning of several eras: give more of it");
            Err(Failure::Usage(why))
        }
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
        "era": format!("{:032x}", report.era),
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

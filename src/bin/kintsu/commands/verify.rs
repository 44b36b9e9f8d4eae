//! `kintsu verify STORE`

use clap::Args;
use kintsu::{Damage, Error, VerifyReport};
use serde_json::json;

use crate::console::Console;
use crate::failure::{Failure, Outcome, damage_json, exit};
use crate::progress::Progress;
use crate::store::StoreArguments;
use crate::text;

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
}

/// Reads every byte and says what is wrong with it.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let mut progress = Progress::new(console, "verified", None, Some(0));
    let verified = kintsu::verify(arguments.store.options(), |so_far| {
        progress.set_total(so_far.bytes_total);
        progress.tell_if_due(0, so_far.bytes_done);
    });
    progress.finish();
    let report = match verified {
        Ok(report) => report,
        Err(Error::Damaged(damage)) => {
            // Beyond this damage nothing could be read; it is all that there is to report.
            tell_damage(console, &damage, None)?;
            return Err(Failure::Told(exit::DAMAGE));
        }
        Err(error) => return Err(error.into()),
    };
    if console.json {
        tell_damage(console, &report.damage, Some(&report))?;
    } else {
        tell(console, &report)?;
    }
    if report.damage.is_empty() {
        Ok(())
    } else {
        Err(Failure::Told(exit::DAMAGE))
    }
}

fn tell(console: &mut Console, report: &VerifyReport) -> Outcome {
    for name in &report.foreign_files {
        console.warn(&format!("{name} is no file of Kintsu's; it was left alone"));
    }
    writeln!(
        console,
        "checked {} in {}: {}, {} of log that no segment holds yet",
        text::bytes(report.bytes),
        text::duration(console.elapsed()),
        text::plural(report.segments, "segment"),
        text::plural(report.records, "record"),
    )?;
    if report.torn_bytes > 0 {
        writeln!(
            console,
            "{} at the end of the log or the manifest are torn: they were never acknowledged as \
             durable, and the next open drops them",
            text::bytes(report.torn_bytes)
        )?;
    }
    if report.damage.is_empty() {
        return writeln!(console, "no damage");
    }
    tell_damage(console, &report.damage, None)
}

fn tell_damage(console: &mut Console, damage: &[Damage], report: Option<&VerifyReport>) -> Outcome {
    if console.json {
        return console.value(&json!({
            "healthy": damage.is_empty(),
            "damage": damage.iter().map(damage_json).collect::<Vec<_>>(),
            "bytes": report.map(|report| report.bytes),
            "segments": report.map(|report| report.segments),
            "records": report.map(|report| report.records),
            "torn_bytes": report.map(|report| report.torn_bytes),
            "foreign_files": report.map(|report| &report.foreign_files),
            "seconds": console.elapsed().as_secs_f64(),
        }));
    }
    for place in damage {
        writeln!(console, "damaged: {place}")?;
    }
    writeln!(
        console,
        "{}; if the store can't be opened, or answers with damage, `kintsu salvage` copies what is \
         readable",
        text::plural(damage.len() as u64, "damaged place")
    )
}

//! `kintsu scrub STORE`

use clap::Args;
use kintsu::ScrubReport;
use serde_json::json;

use crate::console::Console;
use crate::failure::{Failure, Outcome, damage_json, exit};
use crate::store::StoreArguments;
use crate::text;

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
}

/// Reads every byte, mends what can be mended, and says what it was.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let db = arguments.store.open_to_write(console, false)?;
    let report = db.scrub()?;
    let statistics = db.statistics();
    let fenced: usize = statistics.keyspaces.iter().map(|one| one.lost_ranges).sum();
    let left = statistics.damaged_segments as u64 + report.lost + fenced as u64;
    db.close()?;
    tell(console, &report, left)?;
    if left > 0 || !report.failures.is_empty() {
        return Err(Failure::Told(exit::DAMAGE));
    }
    Ok(())
}

fn tell(console: &mut Console, report: &ScrubReport, left: u64) -> Outcome {
    if console.json {
        return console.value(&json!({
            "healthy": left == 0 && report.failures.is_empty(),
            "failures": report.failures,
            "damage": report.damage.iter().map(damage_json).collect::<Vec<_>>(),
            "mended": report.mended,
            "beyond_repair": left,
            "bytes": report.bytes,
            "segments": report.segments,
            "records": report.records,
            "seconds": console.elapsed().as_secs_f64(),
        }));
    }
    writeln!(
        console,
        "read {} in {}: {}, {} of log that no segment holds yet",
        text::bytes(report.bytes),
        text::duration(console.elapsed()),
        text::plural(report.segments, "segment"),
        text::plural(report.records, "record"),
    )?;
    for place in &report.damage {
        writeln!(console, "damaged: {place}")?;
    }
    for failure in &report.failures {
        writeln!(console, "not read, or not mended: {failure}")?;
    }
    if !report.failures.is_empty() {
        return Ok(());
    }
    match (report.damage.len(), left) {
        (0, 0) => writeln!(console, "no damage"),
        (_, 0) => writeln!(console, "all of it mended"),
        (_, left) => writeln!(
            console,
            "{} mended; {} beyond repair: what is lost is refused, all else is served; `kintsu verify` names the keys",
            text::plural(report.mended, "file"),
            text::plural(left, "place"),
        ),
    }
}

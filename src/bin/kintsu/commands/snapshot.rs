//! `kintsu snapshot STORE PATH`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::console::Console;
use crate::failure::Outcome;
use crate::store::StoreArguments;
use crate::text;

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    /// The new store's folder; must be missing or empty
    path: PathBuf,
}

/// Makes a folder that is a store with what this one holds.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let db = arguments.store.open_for_one_write(console, false)?;
    let report = db.snapshot_to(&arguments.path)?;
    db.close()?;
    if console.json {
        return console.value(&json!({
            "path": arguments.path.to_string_lossy(),
            "index": report.index.0,
            "time_us": report.time_us,
            "segments": report.segments,
            "bytes_linked": report.bytes_linked,
            "bytes_copied": report.bytes_copied,
        }));
    }
    writeln!(
        console,
        "{} holds everything up to record {}: {}, {} linked, {} copied",
        arguments.path.display(),
        text::count(report.index.0),
        text::plural(report.segments, "segment"),
        text::bytes(report.bytes_linked),
        text::bytes(report.bytes_copied),
    )
}

//! `kintsu repairs STORE`

use clap::Args;
use kintsu::Repair;
use serde_json::{Value, json};

use crate::console::Console;
use crate::failure::Outcome;
use crate::store::StoreArguments;
use crate::{moment, text};

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
}

/// Shows what was found damaged, and what became of it.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let found = kintsu::repairs(&arguments.store.options())?;
    if console.json {
        return console.value(&json!({
            "repairs": found.repairs.iter().map(to_json).collect::<Vec<_>>(),
            "unreadable_lines": found.unreadable_lines,
        }));
    }
    for repair in &found.repairs {
        let places: Vec<_> = repair
            .places
            .iter()
            .map(|(offset, bytes)| format!("{offset}+{bytes}"))
            .collect();
        let at = if places.is_empty() { "" } else { " at " };
        writeln!(
            console,
            "{}  {} {} (by {}){at}{}: {}",
            moment::format(repair.time_us),
            repair.outcome,
            repair.file,
            repair.means,
            places.join(","),
            repair.what,
        )?;
    }
    if found.unreadable_lines > 0 {
        let lines = text::plural(found.unreadable_lines, "line");
        console.warn(&format!("{lines} of the journal can't be read"));
    }
    if found.repairs.is_empty() {
        writeln!(console, "no damage was ever written down")?;
    }
    Ok(())
}

fn to_json(repair: &Repair) -> Value {
    let place = |(offset, bytes): &(u64, u64)| json!({ "offset": offset, "bytes": bytes });
    json!({
        "time_us": repair.time_us,
        "outcome": repair.outcome.to_string(),
        "means": repair.means.to_string(),
        "file": repair.file,
        "places": repair.places.iter().map(place).collect::<Vec<_>>(),
        "what": repair.what,
    })
}

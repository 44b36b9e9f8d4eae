//! `kintsu salvage STORE NEW`

use std::path::PathBuf;

use clap::Args;
use kintsu::Options;
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
    /// The folder of the new store; must be missing or empty
    new: PathBuf,
}

/// Copies, and says what couldn't be. The damaged store stays as it is.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let to = Options::new(&arguments.new)
        .allow_unsafe_file_system(arguments.store.allow_unsafe_file_system);
    let report = kintsu::salvage(arguments.store.options(), to)?;
    if console.json {
        console.value(&json!({
            "operations": report.operations,
            "keys": report.keys,
            "damage": report.damage.iter().map(damage_json).collect::<Vec<_>>(),
        }))?;
    } else {
        for place in &report.damage {
            writeln!(console, "unreadable: {place}")?;
        }
        writeln!(
            console,
            "{} in {} now",
            text::plural(report.keys, "key"),
            arguments.new.display()
        )?;
        if !report.damage.is_empty() {
            writeln!(
                console,
                "a key whose newest value lay in the unreadable places is missing there, or has an \
                 older value"
            )?;
        }
    }
    if report.damage.is_empty() {
        Ok(())
    } else {
        Err(Failure::Told(exit::DAMAGE))
    }
}

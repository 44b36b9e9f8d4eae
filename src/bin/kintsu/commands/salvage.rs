//! `kintsu salvage STORE NEW`

use std::path::PathBuf;

use clap::Args;
use kintsu::{KeyspaceOptions, Lost, Options, SalvageReport};
use serde_json::{Value, json};

use crate::console::Console;
use crate::escape::escape;
use crate::failure::{Failure, Outcome, damage_json, exit};
use crate::store::StoreArguments;
use crate::text;

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    /// The folder of the new store; must be missing or empty
    #[arg(required_unless_present = "list_only")]
    new: Option<PathBuf>,
    /// Only say what would be copied and what is missing
    #[arg(long, conflicts_with = "new")]
    list_only: bool,
    /// The merge operator of keyspaces whose options are lost with the manifest
    #[arg(long, value_name = "NAME")]
    merge_operator: Option<String>,
}

/// Copies, and says what couldn't be. The damaged store stays as it is.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let from = arguments.store.options();
    let report = match &arguments.new {
        None => kintsu::salvage_list(from)?,
        Some(new) => {
            let mut unknown = KeyspaceOptions::default();
            if let Some(name) = &arguments.merge_operator {
                unknown = unknown.merge_operator(name);
            }
            let to = Options::new(new)
                .allow_unsafe_file_system(arguments.store.allow_unsafe_file_system)
                .default_keyspace(unknown);
            kintsu::salvage(from, to)?
        }
    };
    match console.json {
        true => console.value(&to_json(&report))?,
        false => tell(arguments, &report, console)?,
    }
    match report.is_complete() {
        true => Ok(()),
        false => Err(Failure::Told(exit::DAMAGE)),
    }
}

fn tell(arguments: &Arguments, report: &SalvageReport, console: &mut Console) -> Outcome {
    for assumed in &report.assumed {
        writeln!(console, "assumed: {assumed}")?;
    }
    for lost in &report.lost {
        writeln!(console, "missing: {}", in_words(lost))?;
    }
    for (keyspace, key) in &report.uncertain_keys {
        let (keyspace, key) = (escape(keyspace.as_bytes()), escape(key));
        writeln!(
            console,
            "uncertain, and left out: key {key} of keyspace {keyspace}"
        )?;
    }
    let named = report.uncertain_keys.len() as u64;
    if report.uncertain > named {
        writeln!(
            console,
            "uncertain, and left out: {} more",
            report.uncertain - named
        )?;
    }
    let keys = text::plural(report.keys, "key");
    match &arguments.new {
        Some(new) => writeln!(console, "{keys} in {} now", new.display())?,
        None => writeln!(console, "{keys} can be copied; nothing was written")?,
    }
    if !report.lost.is_empty() {
        writeln!(
            console,
            "a key whose newest value lay in the missing places is missing in the new store, or has an older \
             value; one that was deleted there may be back"
        )?;
    }
    Ok(())
}

/// A loss in a line.
pub fn in_words(lost: &Lost) -> String {
    let mut words = lost.damage.to_string();
    if let Some(keyspace) = &lost.keyspace {
        words.push_str(&format!("; keyspace {}", escape(keyspace.as_bytes())));
    }
    match (&lost.from, &lost.to) {
        (None, None) => {}
        (Some(from), Some(to)) => {
            words.push_str(&format!("; keys from {} to {}", escape(from), escape(to)));
        }
        (Some(from), None) => words.push_str(&format!("; keys from {} on", escape(from))),
        (None, Some(to)) => words.push_str(&format!("; keys up to {}", escape(to))),
    }
    words
}

/// A loss as JSON.
pub fn lost_json(lost: &Lost) -> Value {
    let mut value = damage_json(&lost.damage);
    let key = |key: &Option<Vec<u8>>| key.as_ref().map(|key| escape(key));
    value["keyspace"] = json!(lost.keyspace);
    value["key_from"] = json!(key(&lost.from));
    value["key_to"] = json!(key(&lost.to));
    value
}

fn to_json(report: &SalvageReport) -> Value {
    let uncertain = report.uncertain_keys.iter();
    let uncertain = uncertain.map(|(keyspace, key)| json!([keyspace, escape(key)]));
    json!({
        "complete": report.is_complete(),
        "operations": report.operations,
        "keys": report.keys,
        "records": report.records,
        "has_manifest": report.has_manifest,
        "assumed": report.assumed,
        "damage": report.damage.iter().map(damage_json).collect::<Vec<_>>(),
        "missing": report.lost.iter().map(lost_json).collect::<Vec<_>>(),
        "uncertain": report.uncertain,
        "uncertain_keys": uncertain.collect::<Vec<_>>(),
    })
}

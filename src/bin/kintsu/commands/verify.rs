//! `kintsu verify PATH`

mod html;

use std::fs;
use std::path::PathBuf;

use clap::Args;
use kintsu::{Damage, FileReport, Repository, Severity, VerifyReport};
use serde_json::{Value, json};

use self::html::Page;
use crate::console::Console;
use crate::failure::{Failure, Outcome, damage_json, exit};
use crate::progress::Progress;
use crate::store::StoreArguments;
use crate::text;

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A store's folder, a backup repository, or one file of a store
    #[command(flatten)]
    store: StoreArguments,
    /// Write a page with a map of every file's blocks there; it needs nothing but a browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Reads every byte and says what is wrong with it.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let path = &arguments.store.store;
    if path.is_file() {
        return run_file(arguments, console);
    }
    if path.join("repository").is_file() {
        return run_repository(arguments, console);
    }
    let mut progress = Progress::new(console, "verified", None, Some(0));
    let verified = kintsu::verify(arguments.store.options(), |so_far| {
        progress.set_total(so_far.bytes_total);
        progress.tell_if_due(0, so_far.bytes_done);
    });
    progress.finish();
    let report = verified?;
    if let Some(file) = &arguments.html {
        let page = Page {
            title: path.display().to_string(),
            severity: report.severity,
            files: &report.files,
            damage: &report.damage,
            leftover_files: &report.leftover_files,
            foreign_files: &report.foreign_files,
            bytes: report.bytes,
        };
        write_page(file, &page)?;
    }
    match console.json {
        true => console.value(&store_json(&report, console))?,
        false => tell(console, &report)?,
    }
    end(report.severity)
}

fn run_file(arguments: &Arguments, console: &mut Console) -> Outcome {
    let path = &arguments.store.store;
    let report = kintsu::verify_file(&arguments.store.options(), path)?;
    if let Some(file) = &arguments.html {
        let page = Page {
            title: path.display().to_string(),
            severity: report.severity,
            files: std::slice::from_ref(&report.map),
            damage: &report.damage,
            leftover_files: &[],
            foreign_files: &[],
            bytes: report.map.bytes,
        };
        write_page(file, &page)?;
    }
    match console.json {
        true => console.value(&file_json(&report))?,
        false => tell_file(console, &report)?,
    }
    end(report.severity)
}

fn run_repository(arguments: &Arguments, console: &mut Console) -> Outcome {
    if arguments.html.is_some() {
        let what =
            "--html shows a store or a file; of a repository verify says what is wrong in words";
        return Err(Failure::Usage(what.to_owned()));
    }
    let repository = Repository::new(&arguments.store.store);
    let report = repository.verify(|_| {})?;
    let severity = match report.damage.is_empty() {
        true => Severity::Whole,
        false => Severity::Damaged,
    };
    if console.json {
        console.value(&json!({
            "healthy": report.damage.is_empty(),
            "severity": name(severity),
            "damage": report.damage.iter().map(damage_json).collect::<Vec<_>>(),
            "backups": report.backups,
            "segments": report.segments,
            "records": report.records,
            "bytes": report.bytes,
        }))?;
    } else {
        for place in &report.damage {
            writeln!(console, "damaged: {place}")?;
        }
        writeln!(
            console,
            "checked {} in a repository with {}: {}; `kintsu backup STORE REPOSITORY --verify` restores the newest as well",
            text::bytes(report.bytes),
            text::plural(report.backups, "backup"),
            text::plural(report.damage.len() as u64, "damaged place"),
        )?;
    }
    end(severity)
}

fn write_page(file: &PathBuf, page: &Page<'_>) -> Outcome {
    let written = fs::write(file, page.write());
    written.map_err(|error| Failure::file("write", file, &error))
}

/// How a severity is called.
pub fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Whole => "whole",
        Severity::Mendable => "mendable",
        Severity::Damaged => "damaged",
        Severity::Unopenable => "unopenable",
    }
}

/// Ends with the severity's code.
pub fn end(severity: Severity) -> Outcome {
    match severity {
        Severity::Whole => Ok(()),
        Severity::Mendable => Err(Failure::Told(exit::MENDABLE)),
        Severity::Damaged => Err(Failure::Told(exit::DAMAGE)),
        Severity::Unopenable => Err(Failure::Told(exit::UNOPENABLE)),
    }
}

fn tell(console: &mut Console, report: &VerifyReport) -> Outcome {
    for name in &report.foreign_files {
        console.warn(&format!("{name} is no file of Kintsu's; it was left alone"));
    }
    for name in &report.leftover_files {
        writeln!(
            console,
            "left over: {name} is named by nothing; the next writer looks after it"
        )?;
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
    tell_places(console, &report.damage, &report.lost)?;
    let advice = match report.severity {
        Severity::Whole => "no damage",
        Severity::Mendable => {
            "nothing is lost: what is damaged can be put together again; `kintsu scrub` does so now"
        }
        Severity::Damaged => {
            "something is lost: what needs it is refused, all else is served; restore a backup, or \
             `kintsu salvage` copies what is readable"
        }
        Severity::Unopenable => {
            "the store can't be opened; restore a backup, or `kintsu salvage` copies what is readable"
        }
    };
    writeln!(console, "{advice}")
}

fn tell_file(console: &mut Console, report: &FileReport) -> Outcome {
    tell_places(console, &report.damage, &report.lost)?;
    for what in &report.unchecked {
        writeln!(console, "not checked: {what}")?;
    }
    writeln!(
        console,
        "{}: {}",
        report.map.name,
        match report.severity {
            Severity::Whole => "no damage",
            Severity::Mendable => "what is damaged can be put together again",
            Severity::Damaged | Severity::Unopenable => "damaged",
        }
    )
}

fn tell_places(console: &mut Console, damage: &[Damage], lost: &[Damage]) -> Outcome {
    for place in damage {
        let word = match lost.contains(place) {
            true => "damaged",
            false => "mendable",
        };
        writeln!(console, "{word}: {place}")?;
    }
    if !damage.is_empty() {
        writeln!(
            console,
            "{}, of which {} can't be mended",
            text::plural(damage.len() as u64, "damaged place"),
            lost.len()
        )?;
    }
    Ok(())
}

fn places(damage: &[Damage], lost: &[Damage]) -> Vec<Value> {
    let place = |damage: &Damage| {
        let mut value = damage_json(damage);
        value["can_be_mended"] = json!(!lost.contains(damage));
        value
    };
    damage.iter().map(place).collect()
}

fn store_json(report: &VerifyReport, console: &Console) -> Value {
    json!({
        "healthy": report.severity == Severity::Whole,
        "severity": name(report.severity),
        "damage": places(&report.damage, &report.lost),
        "bytes": report.bytes,
        "segments": report.segments,
        "records": report.records,
        "torn_bytes": report.torn_bytes,
        "leftover_files": report.leftover_files,
        "foreign_files": report.foreign_files,
        "seconds": console.elapsed().as_secs_f64(),
    })
}

fn file_json(report: &FileReport) -> Value {
    json!({
        "healthy": report.severity == Severity::Whole,
        "severity": name(report.severity),
        "damage": places(&report.damage, &report.lost),
        "bytes": report.map.bytes,
        "not_checked": report.unchecked,
    })
}

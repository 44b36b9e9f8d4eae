//! `kintsu backup STORE REPOSITORY`

mod verify;

use std::path::PathBuf;

use clap::Args;
use kintsu::{Backup, BackupEra, Repository};
use serde_json::{Value, json};

use crate::console::Console;
use crate::failure::{Failure, Outcome, exit};
use crate::moment;
use crate::store::StoreArguments;
use crate::text;

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    /// The backup repository; made if it is missing
    repository: PathBuf,
    /// Archive the log as well, so that every later record can be restored to; then the store's next writer
    /// must archive too
    #[arg(long, conflicts_with_all = ["list", "prune", "verify"])]
    archive: bool,
    /// List the backups instead of making one
    #[arg(long, conflicts_with_all = ["prune", "verify"])]
    list: bool,
    /// Remove all but the newest N backups instead of making one
    #[arg(long, value_name = "N", conflicts_with = "verify")]
    prune: Option<usize>,
    /// Check every byte of the repository, and restore the newest backup to a temporary folder, instead of
    /// making one
    #[arg(long)]
    verify: bool,
}

/// Makes a backup, or does what is asked for instead.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let repository = Repository::new(&arguments.repository);
    if arguments.list {
        return list(&repository, console);
    }
    if let Some(keep) = arguments.prune {
        return prune(&repository, keep, console);
    }
    if arguments.verify {
        let store = &arguments.store;
        return verify::run(store, &arguments.repository, &repository, console);
    }
    let options = arguments.store.options();
    let options = match arguments.archive {
        true => options.archive_to(&arguments.repository),
        // What little is written needs no larger log file.
        false => options.log_file_bytes(1 << 20),
    };
    let options = options.create_if_missing(false);
    let db = crate::store::open(options, console)?;
    let archived = match arguments.archive {
        true => Some(db.archive_now()?),
        false => None,
    };
    let report = db.backup_to(&arguments.repository)?;
    db.close()?;
    if console.json {
        return console.value(&json!({
            "number": report.number,
            "index": report.index.0,
            "time_us": report.time_us,
            "segments": report.segments,
            "bytes": report.bytes,
            "segments_copied": report.segments_copied,
            "bytes_copied": report.bytes_copied,
            "archived_index": archived.map(|index| index.0),
        }));
    }
    writeln!(
        console,
        "backup {} holds everything up to record {}: {} in {}, of which {} were copied",
        report.number,
        text::count(report.index.0),
        text::bytes(report.bytes),
        text::plural(report.segments, "segment"),
        text::bytes(report.bytes_copied),
    )
}

fn list(repository: &Repository, console: &mut Console) -> Outcome {
    let backups = repository.backups()?;
    let unreadable = backups.iter().any(|backup| backup.unreadable.is_some());
    if console.json {
        let backups: Vec<Value> = backups.iter().map(to_json).collect();
        let eras = repository.eras()?;
        let eras: Vec<Value> = eras.iter().map(era_to_json).collect();
        console.value(&json!({ "backups": backups, "eras": eras }))?;
    } else {
        writeln!(
            console,
            "{:>8} {:>8} {:>14} {:>28} {:>28} {:>10} {:>9}",
            "backup", "era", "record", "of", "made", "bytes", "segments"
        )?;
        for backup in &backups {
            tell(backup, console)?;
        }
    }
    if unreadable {
        return Err(Failure::Told(exit::DAMAGE));
    }
    Ok(())
}

fn tell(backup: &Backup, console: &mut Console) -> Outcome {
    if let Some(error) = &backup.unreadable {
        return writeln!(console, "{:>8} unreadable: {error}", backup.number);
    }
    writeln!(
        console,
        "{:>8} {:>8} {:>14} {:>28} {:>28} {:>10} {:>9}",
        backup.number,
        // As many digits as tell one from another in practice; `--json` has all.
        format!("{:08x}", backup.era >> 96),
        text::count(backup.index.0),
        moment::format(backup.time_us),
        moment::format(backup.made_us),
        text::bytes(backup.bytes),
        text::count(backup.segments),
    )
}

fn era_to_json(era: &BackupEra) -> Value {
    json!({
        "era": format!("{:032x}", era.id),
        "newest": era.newest,
        "backups": era.backups,
        "index": era.index.0,
    })
}

fn to_json(backup: &Backup) -> Value {
    json!({
        "number": backup.number,
        "era": backup.unreadable.is_none().then(|| format!("{:032x}", backup.era)),
        "index": backup.index.0,
        "time_us": backup.time_us,
        "made_us": backup.made_us,
        "bytes": backup.bytes,
        "segments": backup.segments,
        "unreadable": backup.unreadable.as_ref().map(ToString::to_string),
    })
}

fn prune(repository: &Repository, keep: usize, console: &mut Console) -> Outcome {
    let report = repository.prune(keep)?;
    if console.json {
        console.value(&json!({
            "backups": report.backups,
            "segments": report.segments,
            "volumes": report.volumes,
            "bytes": report.bytes,
            "unreadable": report.unreadable,
        }))?;
    } else {
        writeln!(
            console,
            "removed {}, {} and {} of the archive: {}",
            text::plural(report.backups, "backup"),
            text::plural(report.segments, "segment"),
            text::plural(report.volumes, "volume"),
            text::bytes(report.bytes),
        )?;
    }
    if report.unreadable > 0 {
        console.warn("segments were left alone: a newer backup's description can't be read");
        return Err(Failure::Told(exit::DAMAGE));
    }
    Ok(())
}

//! `kintsu backup STORE REPOSITORY --verify`: a backup that was restored and read is one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use kintsu::{Db, Error, Options, Repository, RestorePoint, RestoreReport};
use serde_json::json;

use crate::console::Console;
use crate::escape::escape;
use crate::failure::{Failure, Outcome, damage_json, exit};
use crate::progress::Progress;
use crate::store::StoreArguments;
use crate::text;

/// A folder beside the repository, removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(repository: &Path) -> Self {
        // Not inside of it, however it is written: `backups/`, `.`, a link.
        let repository = fs::canonicalize(repository).unwrap_or_else(|_| repository.to_owned());
        let mut name = OsString::from(repository.as_os_str());
        name.push(format!("-verify-{}", std::process::id()));
        Self(name.into())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whatever stays is in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
        // What a restore that failed had put aside.
        let mut aside = OsString::from(self.0.as_os_str());
        aside.push(".tmp");
        let _ = fs::remove_dir_all(aside);
    }
}

/// Checks every byte, restores the newest state, reads all of that, and compares it with the store if that is
/// at the same record.
pub fn run(
    store: &StoreArguments,
    path: &Path,
    repository: &Repository,
    console: &mut Console,
) -> Outcome {
    let mut progress = Progress::new(console, "verified", None, Some(0));
    let report = repository.verify(|so_far| {
        progress.set_total(so_far.bytes_total);
        progress.tell_if_due(0, so_far.bytes_done);
    });
    progress.finish();
    let report = report?;
    let scratch = Scratch::beside(path);
    let target = Options::new(&scratch.0).allow_unsafe_file_system(true);
    let restored = repository.restore(target, RestorePoint::Newest);
    let (restored, keys, compared) = match restored {
        Ok(restored) => {
            let (keys, compared) = read(store, &scratch.0, &restored, console)?;
            (Some(restored), keys, compared)
        }
        Err(error) if report.damage.is_empty() => return Err(error.into()),
        Err(_) => (None, 0, None),
    };
    let healthy = report.damage.is_empty()
        && compared != Some(false)
        && restored.as_ref().is_some_and(|restored| restored.reached);
    if console.json {
        console.value(&json!({
            "healthy": healthy,
            "backups": report.backups,
            "segments": report.segments,
            "records": report.records,
            "bytes": report.bytes,
            "damage": report.damage.iter().map(damage_json).collect::<Vec<_>>(),
            "restored_index": restored.as_ref().map(|restored| restored.index.0),
            "keys": keys,
            "equals_store": compared,
        }))?;
    } else {
        for place in &report.damage {
            writeln!(console, "damaged: {place}")?;
        }
        writeln!(
            console,
            "checked {}: {}, {}, {} of the archive",
            text::bytes(report.bytes),
            text::plural(report.backups, "backup"),
            text::plural(report.segments, "segment"),
            text::plural(report.records, "record"),
        )?;
        tell_restored(restored.as_ref(), keys, compared, console)?;
    }
    match healthy {
        true => Ok(()),
        false => Err(Failure::Told(exit::DAMAGE)),
    }
}

fn tell_restored(
    restored: Option<&RestoreReport>,
    keys: u64,
    compared: Option<bool>,
    console: &mut Console,
) -> Outcome {
    let Some(restored) = restored else {
        return writeln!(console, "nothing could be restored");
    };
    let compared = match compared {
        Some(true) => "every key and value is that of the store",
        Some(false) => "NOT WHAT THE STORE HOLDS",
        None => "the store is at another record, or it can't be read (all of it): not compared",
    };
    writeln!(
        console,
        "restored up to record {}: {} read; {compared}",
        text::count(restored.index.0),
        text::plural(keys, "key"),
    )
}

/// Reads all of a restored store: how many keys there are, and whether they are the store's.
fn read(
    store: &StoreArguments,
    folder: &Path,
    restored: &RestoreReport,
    console: &Console,
) -> Outcome<(u64, Option<bool>)> {
    let options = Options::new(folder).read_only(true);
    let checked = kintsu::verify(options.clone(), |_| {})?;
    if let Some(place) = checked.damage.first() {
        let what = format!("the restored store is damaged: {place}");
        return Err(Failure::File(what));
    }
    let copy = options.open()?;
    let original = store.options().read_only(true).open().ok();
    let original = original.filter(|db| db.last_index() == restored.index);
    let mut keys = 0;
    let mut same = original
        .as_ref()
        .is_none_or(|db| db.keyspaces() == copy.keyspaces());
    let mut all_read = true;
    for name in copy.keyspaces() {
        match compare(&copy, original.as_ref().filter(|_| same), &name) {
            Ok((count, equal)) => {
                keys += count;
                same &= equal;
            }
            // Only the program that has the operator can tell what its values are.
            Err(Failure::Store(Error::UnknownMergeOperator { name, operator })) => {
                let name = escape(name.as_bytes());
                console.warn(&format!(
                    "keyspace {name} can't be read here, nor compared: its merge operator {operator:?} is the \
                     program's own; its files are whole"
                ));
                all_read = false;
            }
            Err(failure) => return Err(failure),
        }
    }
    let compared = original.map(|_| same);
    Ok((keys, compared.filter(|same| all_read || !same)))
}

/// The keys of a keyspace, and whether they and their values are those of the other store.
fn compare(copy: &Db, original: Option<&Db>, name: &str) -> Outcome<(u64, bool)> {
    let mut theirs = match original {
        Some(db) => Some(db.keyspace(name)?.range(..)?),
        None => None,
    };
    let (mut keys, mut same) = (0, true);
    let mut all = copy.keyspace(name)?.range(..)?;
    while let Some((key, value)) = all.next_ref()? {
        keys += 1;
        let Some(theirs) = &mut theirs else {
            continue;
        };
        if same && theirs.next_ref()? != Some((key, value)) {
            crate::console::complain(&format!(
                "key {} of keyspace {} differs\n",
                escape(key),
                escape(name.as_bytes())
            ));
            same = false;
        }
    }
    if let Some(theirs) = &mut theirs {
        same &= theirs.next_ref()?.is_none();
    }
    Ok((keys, same))
}

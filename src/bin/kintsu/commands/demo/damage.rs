//! Changes one byte in copies of the store, and shows what is reported, and what is mended.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use kintsu::{Damage, Db, Error, Options};
use serde_json::{Value, json};

use super::folder::Folder;
use super::input::{Comparison, Files};
use super::kill::Kills;
use super::records::Name;
use super::screen::Screen;
use crate::failure::{Failure, Outcome, damage_json};
use crate::text;

/// One byte of one file.
struct Place {
    path: PathBuf,
    offset: u64,
}

/// A byte that was changed, and what was reported.
struct Case {
    place: Place,
    reported: Vec<Damage>,
    held: bool,
}

/// All of them.
pub struct Cases(Vec<Case>);

impl Cases {
    /// Whether each was reported as what it is, and nothing wrong was served.
    pub fn held(&self) -> bool {
        self.0.iter().all(|case| case.held)
    }

    /// In numbers.
    pub fn to_json(&self) -> Value {
        let case = |case: &Case| {
            json!({
                "file": case.place.path.to_string_lossy(),
                "offset": case.place.offset,
                "reported": case.reported.iter().map(damage_json).collect::<Vec<_>>(),
                "held": case.held,
            })
        };
        self.0.iter().map(case).collect()
    }
}

/// Damages a copy's log and another copy's segment.
pub fn run(
    folder: &Folder,
    store: &Path,
    files: &Files,
    kills: &Kills,
    screen: &mut Screen<'_>,
) -> Outcome<Cases> {
    screen.step("Change one byte in copies of the store")?;
    let log = in_log(folder, files, kills, screen)?;
    let segment = in_segment(folder, store, files, kills, screen)?;
    Ok(Cases(vec![log, segment]))
}

/// A byte in an acknowledged record, as the last kill left it: the open must put it together again from parity, or
/// refuse, if the file's last full MiB doesn't reach that far.
fn in_log(folder: &Folder, files: &Files, kills: &Kills, screen: &mut Screen<'_>) -> Outcome<Case> {
    let copy = &kills.crashed_copy;
    let (place, name) = find_in_log(copy, kills)?;
    flip(&place)?;
    let file = file_name(&place.path);
    let (key, offset) = (name.key(), text::count(place.offset));
    screen.line(&format!(
        "in the log: the byte at {offset} of {file}, in the value of {key}"
    ))?;
    let mut healed = false;
    let reported = match Options::new(copy).create_if_missing(false).open() {
        Err(error @ Error::Damaged(_)) => {
            screen.quote(&format!("error: {error}"))?;
            damage_of(error)
        }
        Err(error) => {
            screen.quote(&format!("error: {error}"))?;
            Vec::new()
        }
        Ok(db) => {
            let report = db.recovery_report();
            healed = report.healed_blocks == 1;
            report.damage.clone()
        }
    };
    let named = names(&reported, &place);
    let what = match healed {
        true => "the open names the place, and puts it together again from parity",
        false => "the open is refused, and names the place",
    };
    screen.verdict(named, what)?;

    let salvaged = folder.path().join("salvaged");
    kintsu::salvage(Options::new(copy), Options::new(&salvaged))?;
    let db = Options::new(&salvaged).read_only(true).open()?;
    let (files_read, written) = (files.read_all(&db)?, kills.read_all(&db)?);
    let missing = written.missing;
    let held = files_read.is_whole() && written.wrong == 0 && written.refused == 0;
    let held = held && (missing == 0) == healed;
    screen.verdict(
        held,
        &format!(
            "salvaged into a new store: all {} and {} of {}, none of them wrong",
            text::plural(files_read.identical, "file"),
            text::count(written.identical),
            text::plural(
                written.identical + missing + written.wrong,
                "acknowledged write"
            ),
        ),
    )?;
    Ok(Case {
        place,
        reported,
        held: named && held,
    })
}

/// A byte in the middle of the largest segment: everything is served all the same, put together from parity, and
/// the file is written anew as it was.
fn in_segment(
    folder: &Folder,
    store: &Path,
    files: &Files,
    kills: &Kills,
    screen: &mut Screen<'_>,
) -> Outcome<Case> {
    let copy = folder.copy_store(store, "copy-with-damaged-segment")?;
    let Some((bytes, path)) = with_extension(&copy, "segment")?.into_iter().max() else {
        return Err(Failure::File("the store has no segment to damage".into()));
    };
    let place = Place {
        path,
        offset: bytes / 2,
    };
    let whole = read(&place.path)?;
    flip(&place)?;
    let file = file_name(&place.path);
    screen.line(&format!(
        "in a segment: the byte at {} of {file}",
        text::count(place.offset)
    ))?;
    let reported = kintsu::verify(Options::new(&copy), |_| ())?.damage;
    let verified = names(&reported, &place);
    let places = text::plural(reported.len() as u64, "damaged place");
    screen.verdict(verified, &format!("verify reports {places}, this one"))?;
    let db = Options::new(&copy).create_if_missing(false).open()?;
    let served_well = read_damaged(&db, files, kills, screen)?;
    db.mend()?;
    let mended = db.statistics().mended_segments == 1 && read(&place.path)? == whole;
    screen.verdict(
        mended,
        &format!("{file} was written anew while it was read, and is what it was, byte for byte"),
    )?;
    drop(db);
    Ok(Case {
        place,
        reported,
        held: verified && served_well && mended,
    })
}

/// Reads everything from a store with a damaged segment. Whether all of it came back right.
fn read_damaged(db: &Db, files: &Files, kills: &Kills, screen: &mut Screen<'_>) -> Outcome<bool> {
    let mut all = files.read_all(db)?;
    all.merge(kills.read_all(db)?);
    let Comparison {
        identical,
        refused,
        wrong,
        missing,
        refusal,
    } = all;
    if let Some(refusal) = &refusal {
        screen.quote(&format!("error: {refusal}"))?;
    }
    let right = refused == 0 && wrong == 0 && missing == 0;
    let told = format!(
        "all {} served and right: what was damaged is put together from parity",
        text::plural(identical, "read")
    );
    screen.verdict(right, &told)?;
    Ok(right)
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    fs::read(path).map_err(|error| Failure::file("read", path, &error))
}

fn damage_of(error: Error) -> Vec<Damage> {
    match error {
        Error::Damaged(damage) => damage,
        _ => Vec::new(),
    }
}

/// Whether the report names the place: the file, and a stretch that the byte lies in.
fn names(reported: &[Damage], place: &Place) -> bool {
    reported.iter().any(|damage| {
        let same_file = damage.path.file_name() == place.path.file_name();
        let end = damage.offset.saturating_add(damage.bytes.max(1));
        same_file && (damage.offset..end).contains(&place.offset)
    })
}

fn flip(place: &Place) -> Outcome {
    let flipped = || {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&place.path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, place.offset)?;
        file.write_all_at(&byte.map(|byte| byte ^ 0x10), place.offset)
    };
    flipped().map_err(|error: io::Error| Failure::file("damage", &place.path, &error))
}

/// The files of a store that have this extension, with their lengths.
fn with_extension(store: &Path, extension: &str) -> Outcome<Vec<(u64, PathBuf)>> {
    let listed = || {
        let mut files = Vec::new();
        for entry in fs::read_dir(store)? {
            let entry = entry?;
            if entry
                .path()
                .extension()
                .is_some_and(|found| found == extension)
            {
                files.push((entry.metadata()?.len(), entry.path()));
            }
        }
        Ok(files)
    };
    listed().map_err(|error: io::Error| Failure::file("list", store, &error))
}

/// A byte in the value of an acknowledged record that lies in the log.
fn find_in_log(store: &Path, kills: &Kills) -> Outcome<(Place, Name)> {
    let mut logs = with_extension(store, "log")?;
    // The last record was written to the last file.
    logs.sort_unstable_by(|(_, one), (_, other)| other.cmp(one));
    for (_, path) in logs {
        let content = read(&path)?;
        for name in kills.recent().take(4) {
            let key = name.key();
            let found = content
                .windows(key.len())
                .position(|window| window == key.as_bytes());
            if let Some(at) = found {
                // Past the key and the value's length, some bytes into the value.
                let offset = (at + key.len() + 16) as u64;
                return Ok((Place { path, offset }, name));
            }
        }
    }
    Err(Failure::File(
        "found no acknowledged record in the log to damage".into(),
    ))
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

//! Real files for the demo, and what must come back for each.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kintsu::{Bytes, Db, Error, VALUE_BYTES_MAX};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::screen::Screen;
use crate::commands::load::files::read;
use crate::commands::load::loader::Loader;
use crate::console::complain;
use crate::failure::{Failure, Outcome};
use crate::text;
use crate::walk::{Found, Walk};

/// Larger files are passed over, or there would be few of them.
const FILE_BYTES_MAX: u64 = 16 << 20;
const _: () = assert!(FILE_BYTES_MAX <= VALUE_BYTES_MAX as u64);

/// What reading many records one by one has shown.
#[derive(Debug, Default)]
pub struct Comparison {
    /// As they were written.
    pub identical: u64,
    /// Answered with another value: must never be.
    pub wrong: u64,
    /// Answered with "absent".
    pub missing: u64,
    /// Answered with damage.
    pub refused: u64,
    /// The first of those answers.
    pub refusal: Option<Error>,
}

impl Comparison {
    /// Counts the answer to one read.
    pub fn add(
        &mut self,
        answer: kintsu::Result<Option<Bytes>>,
        is_right: impl FnOnce(&[u8]) -> bool,
    ) -> Outcome {
        match answer {
            Ok(Some(value)) if is_right(&value) => self.identical += 1,
            Ok(Some(_)) => self.wrong += 1,
            Ok(None) => self.missing += 1,
            Err(error @ Error::Damaged(_)) => {
                self.refused += 1;
                self.refusal.get_or_insert(error);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Counts the other's answers as well.
    pub fn merge(&mut self, other: Self) {
        self.identical += other.identical;
        self.wrong += other.wrong;
        self.missing += other.missing;
        self.refused += other.refused;
        self.refusal = self.refusal.take().or(other.refusal);
    }

    /// Whether every answer was as it should be.
    pub fn is_whole(&self) -> bool {
        self.wrong == 0 && self.missing == 0 && self.refused == 0
    }
}

/// The real files.
pub struct Files {
    /// Where they are from.
    pub root: PathBuf,
    found: Vec<Found>,
    /// Of each file that was loaded, its key and its content's digest.
    loaded: Vec<(Vec<u8>, u128)>,
    /// Bytes loaded.
    pub bytes: u64,
    /// How long that took.
    pub load_time: Duration,
    differing: u64,
}

impl Files {
    /// Looks for real files: at `input`, or at the places where they are to be expected.
    pub fn find(input: Option<&Path>, bytes_max: u64, store: &Path) -> Outcome<Self> {
        let candidates = input.map_or_else(candidates, |input| vec![input.to_owned()]);
        for root in candidates {
            let found = survey(&root, bytes_max, store);
            if !found.is_empty() {
                return Ok(Self {
                    root,
                    found,
                    loaded: Vec::new(),
                    bytes: 0,
                    load_time: Duration::ZERO,
                    differing: 0,
                });
            }
        }
        Err(Failure::Usage(
            "found no files to load; name a folder with --input".into(),
        ))
    }

    /// Loads them all, path and content.
    pub fn load(&mut self, db: &Db, screen: &mut Screen<'_>) -> Outcome {
        let total = self.found.iter().filter_map(|found| found.bytes).sum();
        let keyspace = db.keyspace(kintsu::DEFAULT_KEYSPACE)?;
        let mut loader = Loader::new(db, keyspace, screen.console, Some(total), 64 << 20);
        let mut content = Vec::new();
        for found in &self.found {
            if let Err(failure) = read(found, &mut content) {
                // Somebody else's file, not the store's: the demo goes on without it.
                complain(&format!(
                    "note: {}\n",
                    failure.message().unwrap_or_default()
                ));
                continue;
            }
            let key = key_of(&found.key);
            loader.put(&key, &content, content.len() as u64)?;
            self.loaded.push((key, xxh3_128(&content)));
            self.bytes += content.len() as u64;
        }
        loader.sync()?;
        self.load_time = loader.finish().1;
        Ok(())
    }

    /// How many are loaded.
    pub fn count(&self) -> u64 {
        self.loaded.len() as u64
    }

    /// Whether every comparison so far went as it should.
    pub fn held(&self) -> bool {
        self.differing == 0
    }

    /// Reads all of them from the store; each must be there, and identical.
    pub fn compare(&mut self, db: &Db, screen: &mut Screen<'_>) -> Outcome {
        let Comparison {
            identical,
            wrong,
            missing,
            refused,
            refusal,
        } = self.read_all(db)?;
        if let Some(refusal) = &refusal {
            screen.quote(&format!("error: {refusal}"))?;
        }
        let differing = wrong + missing + refused;
        self.differing += differing;
        let told = match differing {
            0 => format!(
                "all {} read back, identical",
                text::plural(identical, "file")
            ),
            _ => format!(
                "{} not read back as they were loaded",
                text::plural(differing, "file")
            ),
        };
        screen.verdict(differing == 0, &told)
    }

    /// Reads all of them from a store, damaged or not.
    pub fn read_all(&self, db: &Db) -> Outcome<Comparison> {
        let mut comparison = Comparison::default();
        for (key, digest) in &self.loaded {
            comparison.add(db.get(key), |content| xxh3_128(content) == *digest)?;
        }
        Ok(comparison)
    }

    /// In numbers.
    pub fn to_json(&self) -> Value {
        json!({
            "from": self.root.to_string_lossy(),
            "files": self.count(),
            "bytes": self.bytes,
            "seconds": self.load_time.as_secs_f64(),
            "differing": self.differing,
        })
    }
}

fn key_of(path: &[u8]) -> Vec<u8> {
    [b"files/", path].concat()
}

/// The places where real files are to be expected, best first.
fn candidates() -> Vec<PathBuf> {
    let mut roots = Vec::new();
    let sysroot = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .ok();
    if let Some(output) = sysroot.filter(|output| output.status.success())
        && let Ok(sysroot) = String::from_utf8(output.stdout)
    {
        let sysroot = PathBuf::from(sysroot.trim_end());
        roots.push(sysroot.join("share/doc/rust/html"));
        roots.push(sysroot.join("lib/rustlib/src"));
    }
    if let Some(home) = std::env::home_dir() {
        roots.push(home.join(".cargo/registry/src"));
    }
    roots.push("/usr/share/doc".into());
    roots.push(".".into());
    roots
}

/// Regular files of moderate size under `root`, up to `bytes_max` together, in the order of their keys.
fn survey(root: &Path, bytes_max: u64, store: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    let mut bytes = 0;
    // What can't be listed is passed over: the demo needs some files, not all.
    for file in Walk::new(root, store).flatten() {
        let Some(file_bytes) = file.bytes.filter(|bytes| *bytes <= FILE_BYTES_MAX) else {
            continue;
        };
        if bytes + file_bytes > bytes_max {
            break;
        }
        bytes += file_bytes;
        found.push(file);
    }
    found.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    found
}

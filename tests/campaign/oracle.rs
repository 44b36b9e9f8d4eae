//! Opens what a fault has left, reads everything in every way, writes on, opens again, and says how it was
//! taken. Refused reads are noted, and all others must be right.

use std::path::Path;

use kintsu::testing::MemoryVfs;
use kintsu::{Db, Error, Job, Range, Result};

use crate::support::driver::Driver;
use crate::support::feeds;
use crate::support::model::{Model, Pair};
use crate::support::store::files;
use crate::support::workload::{Step, afterwards};
use crate::support::{check, model};

use super::sample::{Sample, tune};
use super::table::Verdict;
use kintsu::Durability::{Buffered, Disk};

/// What reading has shown so far.
pub struct Seen<'a> {
    /// Names of the files that were tampered with; an error must name one of them.
    changed: &'a [&'a str],
    refused: Option<&'static str>,
    healed: bool,
    lost: Option<String>,
    wrong: Option<String>,
}

/// Whether an error names one of the files.
pub fn names(error: &Error, files: &[&str]) -> bool {
    let is = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        files
            .iter()
            .any(|file| file.rsplit('/').next() == Some(&name))
    };
    match error {
        Error::Damaged(damage) => damage.iter().any(|damage| is(&damage.path)),
        Error::ForeignFile { path, .. } | Error::NewerFormat { path, .. } => is(path),
        _ => false,
    }
}

impl<'a> Seen<'a> {
    pub fn new(changed: &'a [&'a str]) -> Self {
        Self {
            changed,
            refused: None,
            healed: false,
            lost: None,
            wrong: None,
        }
    }

    /// Takes note of an error: a refusal if it names what is damaged.
    pub fn refuse(&mut self, error: &Error, where_: &str) {
        let why = match error {
            Error::Damaged(_) => "damaged, by name",
            Error::ForeignFile { .. } => "of another store, by name",
            Error::NewerFormat { .. } => "of a newer version, by name",
            _ => "",
        };
        if why.is_empty() || !names(error, self.changed) {
            self.wrong.get_or_insert(format!("{where_}: {error:?}"));
            return;
        }
        if std::env::var_os("KINTSU_CAMPAIGN_CASE").is_some() {
            println!("{where_}: {error}");
        }
        self.refused.get_or_insert(why);
    }

    fn compare(&mut self, found: Option<&[u8]>, expected: Option<&[u8]>, place: &str) {
        if found == expected {
            return;
        }
        let show = |value: Option<&[u8]>| value.map(check::tag);
        let text = format!("{place}: {:?} instead of {:?}", show(found), show(expected));
        match found {
            None => self.lost.get_or_insert(text),
            Some(_) => self.wrong.get_or_insert(text),
        };
    }

    /// Everything there is, by point reads and by scans in both directions.
    pub fn read(&mut self, db: &Db, model: &Model) {
        let at = model.last;
        let (last, damage) = (db.last_index().0, &db.recovery_report().damage);
        self.healed |= !damage.is_empty();
        if last != at {
            let text = format!("the newest record is {last} instead of {at}");
            let slot = if last < at {
                &mut self.lost
            } else {
                &mut self.wrong
            };
            slot.get_or_insert(text);
            return;
        }
        let mut names: Vec<_> = model.live(at).into_iter().collect();
        names.sort_by_key(|place| &model.keyspaces[*place].name);
        let expected: Vec<_> = names.iter().map(|p| &model.keyspaces[*p].name).collect();
        if db.keyspaces().iter().ne(expected) {
            self.lost.get_or_insert("a keyspace".into());
            return;
        }
        for place in names {
            self.keyspace(db, model, place);
        }
        self.healed |= db.statistics().healed_blocks > 0;
    }

    fn keyspace(&mut self, db: &Db, model: &Model, place: usize) {
        let at = model.last;
        let name = &model.keyspaces[place].name;
        let keyspace = match db.keyspace(name) {
            Ok(keyspace) => keyspace,
            Err(error) => return self.refuse(&error, name),
        };
        for key in model.known_keys(place) {
            let expected = model.get(place, key, at);
            match keyspace.get(key) {
                Ok(found) => {
                    let text = format!("{name}, {}", check::tag(key));
                    self.compare(found.as_deref(), expected.as_deref(), &text);
                }
                Err(error) => self.refuse(&error, "a point read"),
            }
        }
        let (lower, upper) = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let mut expected = model.scan(place, lower, upper, at);
        self.scan(
            keyspace.range(..),
            |range| range.next(),
            &expected,
            "forward",
        );
        expected.reverse();
        self.scan(
            keyspace.range(..),
            |range| range.next_back(),
            &expected,
            "in reverse",
        );
    }

    /// A scan until its end, or until it is refused.
    fn scan(
        &mut self,
        range: Result<Range>,
        step: impl Fn(&mut Range) -> Option<Result<(kintsu::Bytes, kintsu::Bytes)>>,
        expected: &[Pair],
        how: &str,
    ) {
        let mut range = match range {
            Ok(range) => range,
            Err(error) => return self.refuse(&error, how),
        };
        let mut pairs = expected.iter();
        while let Some(item) = step(&mut range) {
            let (key, value) = match item {
                Ok(pair) => pair,
                Err(error) => return self.refuse(&error, how),
            };
            let Some((expected, of)) = pairs.next() else {
                let text = format!("{how}: {} came back", check::tag(&key));
                self.wrong.get_or_insert(text);
                return;
            };
            if *expected != key[..] {
                let lacks = pairs.any(|(other, _)| *other == key[..]);
                let text = format!(
                    "{how}: {} where {} is due",
                    check::tag(&key),
                    check::tag(expected)
                );
                let slot = if lacks {
                    &mut self.lost
                } else {
                    &mut self.wrong
                };
                slot.get_or_insert(text);
                return;
            }
            self.compare(Some(&value), Some(of), how);
        }
        if let Some((missing, _)) = pairs.next() {
            let text = format!("{how}: ends before {}", check::tag(missing));
            self.lost.get_or_insert(text);
        }
    }

    /// Takes an error for a refusal.
    fn attempt(&mut self, outcome: Result<()>, what: &str) -> bool {
        if let Err(error) = &outcome {
            self.refuse(error, what);
        }
        outcome.is_ok()
    }

    pub fn verdict(self) -> Verdict {
        match self {
            Self {
                wrong: Some(why), ..
            } => Verdict::Wrong(why),
            Self {
                lost: Some(why), ..
            } => Verdict::Lost(why),
            Self {
                refused: Some(why), ..
            } => Verdict::Refused(why),
            Self { healed: true, .. } => Verdict::Repaired,
            _ => Verdict::Harmless,
        }
    }
}

/// What is done with the store after it has been read.
fn work_on(driver: &mut Driver, seen: &mut Seen, number: u64) -> Result<()> {
    if number.is_multiple_of(2) {
        let report = driver.db().scrub()?;
        seen.healed |= report.mended > 0;
    }
    driver.step_all(Job::Mend)?;
    driver.run(&[
        Step::Put("after", 30, Buffered),
        Step::Delete("e", Disk),
        Step::Batch(20, Disk),
    ])?;
    match number % 8 {
        0 => driver.run(&afterwards(number))?,
        1 => driver.flush()?,
        _ => {}
    }
    let statistics = driver.db().statistics();
    seen.healed |= statistics.healed_blocks > 0 || statistics.mended_segments > 0;
    Ok(())
}

/// Opens a store of which these files were tampered with, and goes on with it.
pub fn examine(sample: &Sample, disk: &MemoryVfs, changed: &[&str], number: u64) -> Verdict {
    let machine = sample.machine(disk, number);
    let mut driver = Driver::resume(machine, sample.model.clone()).tuned(tune);
    let mut seen = Seen::new(changed);
    let before = disk.fork();
    match driver.options().open() {
        Ok(db) => driver.db = Some(db),
        Err(error) => {
            seen.refuse(&error, "the open");
            assert!(
                files(&before) == files(disk),
                "a refused open has changed files: {error}"
            );
            return seen.verdict();
        }
    }
    seen.read(driver.db(), &driver.model);
    if seen.lost.is_some() || seen.wrong.is_some() {
        return seen.verdict();
    }
    let shown = feeds::read_all(&mut driver);
    seen.attempt(shown, "the feed");
    let worked = work_on(&mut driver, &mut seen, number);
    seen.attempt(worked, "writing on");
    let expected = driver.model.clone();
    match number % 3 {
        0 => driver.let_go(),
        _ => {
            let closed = driver.close();
            seen.attempt(closed, "closing");
        }
    }
    again(driver, &mut seen, expected);
    seen.verdict()
}

/// Opens what was written on, and reads all of it again.
fn again(driver: Driver, seen: &mut Seen, expected: model::Model) {
    match driver.options().open() {
        Ok(db) => seen.read(&db, &expected),
        // What was refused to be read may be refused to be opened, and the other way round.
        Err(error) => seen.refuse(&error, "the second open"),
    }
}

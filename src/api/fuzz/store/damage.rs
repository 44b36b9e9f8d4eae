//! A damaged store is used as any other.

use super::{Damaged, sample};
use crate::api::Db;
use crate::api::fuzz::model::{Change, Record};
use crate::api::fuzz::{KEYS, OTHER, key_of, value};
use crate::engine::{Job, Severity, verify};
use crate::error::Result;
use crate::testing::Input;
use crate::types::Durability;

/// A job that finds more to do than this never ends.
const JOB_STEPS_MAX: usize = 500;

/// Damages files of a store as these bytes say; then verifies it, opens it, reads everything, scrubs and mends it,
/// writes to it, closes it and opens it again. Every answer is right, or a refusal that names a damaged file; what
/// was written then is there; and what `verify` says is what those meet who use the store.
pub fn store_damage(data: &[u8]) {
    let mut input = Input::new(data);
    let mut damaged = Damaged::of(&mut input);
    let severity = severity(&damaged);
    let Ok(db) = damaged.open() else {
        let is_said = severity.is_none_or(|severity| severity == Severity::Unopenable);
        assert!(is_said, "it doesn't open, and is said to be {severity:?}");
        return;
    };
    assert!(
        severity != Some(Severity::Unopenable),
        "it opens, and {:?} damaged are said to prevent that",
        damaged.changed()
    );
    damaged.model.reopened(db.last_index().0);
    damaged.model.identified = 0;
    let refused = damaged.read(&db, &damaged.model.now());
    if severity.is_some_and(|severity| severity <= Severity::Mendable) {
        assert!(
            refused.count == 0,
            "said to be {severity:?}, and refused: {:?}",
            refused.first
        );
    }
    if let Err(error) = go_on(&mut damaged, db, &mut input) {
        damaged.excuse(&error, "going on");
    }
}

/// How bad it is said to be; `None` if that can't be said.
fn severity(damaged: &Damaged) -> Option<Severity> {
    let before = damaged.files();
    let found = verify(damaged.options(), |_| {});
    assert!(before == damaged.files(), "a verification has written");
    match found {
        Ok(report) => {
            let is_whole = damaged.changed().is_empty();
            let is_said = report.severity == Severity::Whole && report.damage.is_empty();
            assert!(!is_whole || is_said, "nothing was done to it: {report:?}");
            Some(report.severity)
        }
        Err(error) => {
            damaged.excuse(&error, "verify");
            None
        }
    }
}

/// What a store goes through that is used.
fn go_on(damaged: &mut Damaged, db: Db, input: &mut Input<'_>) -> Result<()> {
    let what = input.u8();
    if what & 1 == 1 {
        db.scrub()?;
    }
    if what & 2 == 2 {
        all(&db, Job::Mend)?;
    }
    for number in 0..input.below(6) {
        write(damaged, &db, input, 10_000 + number)?;
    }
    if what & 4 == 4 {
        db.flush()?;
    }
    if what & 8 == 8 {
        all(&db, Job::Compact)?;
        all(&db, Job::Reclaim)?;
    }
    if what & 16 == 16 {
        all(&db, Job::Mend)?;
        db.scrub()?;
    }
    damaged.read(&db, &damaged.model.now());
    let last = db.last_index().0;
    match what & 32 {
        32 => {
            drop(db);
            damaged.disk = damaged.disk.kill();
        }
        _ => db.close()?,
    }
    let db = damaged.options().open()?;
    assert_eq!(db.last_index().0, last, "the last record, opened again");
    damaged.read(&db, &damaged.model.now());
    Ok(())
}

fn all(db: &Db, job: Job) -> Result<()> {
    for _ in 0..JOB_STEPS_MAX {
        if !db.step(job)? {
            return Ok(());
        }
    }
    panic!("{job:?} finds no end");
}

/// What is acknowledged is there at once, whatever was lost below it.
fn write(damaged: &mut Damaged, db: &Db, input: &mut Input<'_>, number: u64) -> Result<()> {
    let what = input.u8();
    let key = key_of(input.u8() % KEYS);
    let bytes = [10, 200, 3000, 20_000][usize::from(what >> 6)];
    let change = Change {
        in_other: what & 1 == 1 && damaged.model.now().other.is_some(),
        key: key.clone(),
        value: (what & 6 != 0).then(|| value(number, bytes)),
    };
    let in_other = change.in_other;
    let keyspace = db.keyspace(if in_other { OTHER } else { "default" })?;
    let changes = vec![change.clone()];
    db.write_with(sample::batch(db, &changes), Durability::Disk)?;
    damaged
        .model
        .acknowledge(Record::Batch(changes), Durability::Disk);
    let found = keyspace.get(&key)?;
    assert!(
        found.as_deref() == change.value.as_deref(),
        "{:?} damaged: what was just written to {key:?} isn't there",
        damaged.changed()
    );
    Ok(())
}

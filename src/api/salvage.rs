//! Copies what is readable of a damaged store into a new one.

use crate::api::Db;
use crate::engine::{DEFAULT_KEYSPACE, Engine, WriteBatch, is_store};
use crate::error::{Damage, Error, Result};
use crate::options::{Background, Options};
use crate::types::Durability;

/// What a salvage copied, and what it could not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvageReport {
    /// Operations copied; a key in several levels counts several times.
    pub operations: u64,
    /// Keys in the new store, over all keyspaces.
    pub keys: u64,
    /// Everything that couldn't be read. A key whose newest version lay there is missing in the new
    /// store, or has an older value.
    pub damage: Vec<Damage>,
}

/// Operations written at once.
const BATCH_OPERATIONS: usize = 1000;
/// Bytes written at once.
const BATCH_BYTES: usize = 4 << 20;

/// Copies everything readable of the damaged store `from` into a new store `to`, oldest first. Changes
/// nothing in `from`.
///
/// # Errors
/// [`Error::NotAStore`] if `to` holds a store already; [`Error::Damaged`] if not even the manifest of
/// `from` can be read; or what the disks answer.
pub fn salvage(from: Options, to: Options) -> Result<SalvageReport> {
    let refused = |path| {
        let why = "a salvage needs a new, empty folder".to_owned();
        Err(Error::NotAStore { path, why })
    };
    // Opening a store to write changes it, so this is asked before.
    if is_store(&to)? {
        return refused(to.path);
    }
    let mut from = from.read_only(true).background(Background::Manual);
    from.tolerate_damage = true;
    let (engine, found) = Engine::open(from)?;
    let keyspaces = engine.keyspaces.load_full();
    let options = keyspaces.default.options.clone();
    let target = to.clone().default_keyspace(options).open()?;
    if !target.recovery_report().created {
        return refused(to.path);
    }
    let mut report = SalvageReport {
        damage: found.damage,
        ..SalvageReport::default()
    };
    for tree in keyspaces
        .trees()
        .filter(|tree| tree.name != DEFAULT_KEYSPACE)
    {
        target.create_keyspace_with(&tree.name, tree.options.clone())?;
    }
    let mut batch = WriteBatch::new();
    let damage = engine.salvage(&mut |salvaged| {
        let keyspace = target.keyspace(salvaged.keyspace)?;
        batch.add(keyspace.id(), salvaged.key, salvaged.effect);
        report.operations += 1;
        if batch.len() >= BATCH_OPERATIONS || batch.bytes() >= BATCH_BYTES {
            target.write_unchecked(std::mem::take(&mut batch), Durability::Buffered)?;
        }
        Ok(())
    })?;
    target.write_unchecked(batch, Durability::Disk)?;
    target.sync()?;
    report.damage.extend(damage);
    report.keys = count(&target)?;
    target.close()?;
    Ok(report)
}

fn count(db: &Db) -> Result<u64> {
    let mut keys = 0;
    for name in db.keyspaces() {
        let mut all = db.keyspace(&name)?.range(..)?;
        while all.next_ref()?.is_some() {
            keys += 1;
        }
    }
    Ok(keys)
}

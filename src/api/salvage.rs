//! Copies what is readable of a damaged store into a new one.

use crate::api::Db;
use crate::engine::{DEFAULT_KEYSPACE, Lost, SalvagedKeyspace, Wreckage, WriteBatch, is_store};
use crate::error::{Damage, Error, Result};
use crate::options::{KeyspaceOptions, Options};
use crate::types::Durability;

/// What a salvage copied, and what it could not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvageReport {
    /// Operations copied; more than one for a key whose merges were not yet merged.
    pub operations: u64,
    /// Keys copied, over all keyspaces; some may have expired.
    pub keys: u64,
    /// Records of the log read.
    pub records: u64,
    /// Everything that isn't as it was written, needed or not.
    pub damage: Vec<Damage>,
    /// Everything that couldn't be read and may have been needed. A key whose newest version lay there is missing
    /// in the new store, or has an older value.
    pub lost: Vec<Lost>,
    /// Keys that weren't copied, though something of them can be read: what their merges were merged with is lost,
    /// or nobody can tell what came first.
    pub uncertain: u64,
    /// The first of them (1,000 of a keyspace), each with its keyspace.
    pub uncertain_keys: Vec<(String, Vec<u8>)>,
    /// Whether the manifest could be read.
    pub has_manifest: bool,
    /// What had to be assumed, in words; nothing if the manifest could be read.
    pub assumed: Vec<String>,
}

impl SalvageReport {
    /// Whether everything there was has been copied.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.lost.is_empty() && self.uncertain == 0 && self.has_manifest
    }
}

/// Operations written at once.
const BATCH_OPERATIONS: usize = 1000;
/// Bytes written at once.
const BATCH_BYTES: usize = 4 << 20;

/// Copies everything readable of the damaged store `from` into a new store `to`: of each key the newest version
/// that can be read. Changes nothing in `from`, takes no lock there, and runs beside a live writer.
///
/// Nothing of `from` must be whole. Where segments have lost their index, their blocks are looked for;
/// where log is lost, the records before and behind it are taken; where both copies of the manifest are, segments
/// and log are taken for what they say of themselves, with whatever can be read of it; a keyspace whose options
/// nothing tells gets those that `to` has for its default keyspace. Takes
/// memory for the log that is there, and reads a segment without an index twice.
///
/// # Errors
/// [`Error::NotAStore`] if `to` holds a store already, or `from` nothing of one; [`Error::NewerFormat`] and
/// [`Error::FeatureMissing`] if this build can't read `from`; or what the disks answer.
pub fn salvage(from: Options, to: Options) -> Result<SalvageReport> {
    let refused = |path| {
        let why = "a salvage needs a new, empty folder".to_owned();
        Err(Error::NotAStore { path, why })
    };
    // Opening a store to write changes it, so this is asked before.
    if is_store(&to)? {
        return refused(to.path);
    }
    let from = from.read_only(true);
    let wreckage = Wreckage::open(&from)?;
    let default = wreckage
        .keyspaces
        .iter()
        .find(|k| k.name == DEFAULT_KEYSPACE);
    let options = default.and_then(|keyspace| keyspace.options.clone());
    let target = match options {
        Some(options) => to.clone().default_keyspace(options).open()?,
        None => to.clone().open()?,
    };
    if !target.recovery_report().created {
        return refused(to.path);
    }
    let report = run(wreckage, Some(&target), &to.default_keyspace)?;
    target.sync()?;
    target.close()?;
    Ok(report)
}

/// What [`salvage`] would report, without copying anything.
///
/// # Errors
/// As [`salvage`], of `from`.
pub fn salvage_list(from: Options) -> Result<SalvageReport> {
    let from = from.read_only(true);
    run(Wreckage::open(&from)?, None, &from.default_keyspace)
}

fn run(
    wreckage: Wreckage,
    target: Option<&Db>,
    unknown: &KeyspaceOptions,
) -> Result<SalvageReport> {
    let mut report = SalvageReport {
        damage: wreckage.damage,
        lost: wreckage.lost,
        has_manifest: wreckage.has_manifest,
        assumed: wreckage.assumed,
        records: wreckage.records,
        ..SalvageReport::default()
    };
    for keyspace in wreckage.keyspaces {
        copy(keyspace, target, unknown, &mut report)?;
    }
    Ok(report)
}

fn copy(
    keyspace: SalvagedKeyspace,
    target: Option<&Db>,
    unknown: &KeyspaceOptions,
    report: &mut SalvageReport,
) -> Result<()> {
    let name = keyspace.name.clone();
    let copy = match target {
        Some(target) if name == DEFAULT_KEYSPACE => Some((target, target.keyspace(&name)?.id())),
        Some(target) => {
            let options = keyspace.options.clone();
            let options = options.unwrap_or_else(|| unknown.clone());
            Some((target, target.create_keyspace_with(&name, options)?.id()))
        }
        None => None,
    };
    let mut batch = WriteBatch::new();
    let walked = keyspace.walk(&mut |key, effect| {
        report.operations += 1;
        let Some((target, id)) = &copy else {
            return Ok(());
        };
        batch.add(*id, key, effect);
        if batch.len() >= BATCH_OPERATIONS || batch.bytes() >= BATCH_BYTES {
            target.write_unchecked(std::mem::take(&mut batch), Durability::Buffered)?;
        }
        Ok(())
    })?;
    if let Some((target, _)) = copy {
        target.write_unchecked(batch, Durability::Disk)?;
    }
    report.keys += walked.keys;
    report.uncertain += walked.uncertain;
    let keys = walked.uncertain_keys.into_iter();
    report
        .uncertain_keys
        .extend(keys.map(|key| (name.clone(), key)));
    for lost in walked.lost {
        let is_new = !report.damage.contains(&lost.damage);
        if is_new {
            report.damage.push(lost.damage.clone());
        }
        report.lost.push(lost);
    }
    Ok(())
}

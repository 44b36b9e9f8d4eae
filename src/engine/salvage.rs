//! What can still be read of a damaged store, be its manifest there or not.
//!
//! Every table that can be read is walked as one, by key and version: segments block by block, and the
//! log's records. So the newest readable version of a key wins, whatever table it is in and whatever was lost
//! beside it. What a merge was merged with can be lost as well; then nobody knows the value, and the key is named
//! in place of a guess.

mod chain;
mod known;
mod records;
mod tables;

use std::collections::BTreeMap;
use std::path::Path;

use crate::engine::batch::Effect;
use crate::error::{Damage, Error, Result};
use crate::options::{KeyspaceOptions, Options};
use crate::types::{Fence, Index, KeyspaceId, SegmentNumber};

use self::known::Known;
use self::tables::Remains;

/// How often a store is looked at again that a live writer changes meanwhile.
const RACES_MAX: usize = 200;

/// Something that can't be read, and what it held, as far as anything tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// Where, why, and which records of the log (if it is that).
    pub damage: Damage,
    /// The keyspace; `None`: nobody knows, or all of them.
    pub keyspace: Option<String>,
    /// No lost key is smaller; `None`: nobody knows.
    pub from: Option<Vec<u8>>,
    /// No lost key is larger; `None`: nobody knows.
    pub to: Option<Vec<u8>>,
}

/// Is told of each key what to do to it in the new store. Later effects come on top of earlier ones.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], Effect<'_>) -> Result<()>;

/// What a walk over a keyspace found.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Keys that were shown.
    pub(crate) keys: u64,
    pub(crate) lost: Vec<Lost>,
    /// Keys whose value nobody knows, though something of them can be read.
    pub(crate) uncertain: u64,
    /// The first of them.
    pub(crate) uncertain_keys: Vec<Vec<u8>>,
}

/// A keyspace of which something can be read.
pub(crate) struct SalvagedKeyspace {
    pub(crate) name: String,
    /// `None` if nothing tells them.
    pub(crate) options: Option<KeyspaceOptions>,
    remains: Remains,
}

/// A store as far as it can be read, with its files held open.
pub(crate) struct Wreckage {
    /// Whether the manifest could be read: else files were taken for what they say of themselves.
    pub(crate) has_manifest: bool,
    pub(crate) keyspaces: Vec<SalvagedKeyspace>,
    /// What isn't as it was written, lost or not.
    pub(crate) damage: Vec<Damage>,
    /// What is lost beside the blocks of segments, which their walk finds.
    pub(crate) lost: Vec<Lost>,
    /// What had to be assumed.
    pub(crate) assumed: Vec<String>,
    pub(crate) records: u64,
}

impl Wreckage {
    /// Opens what there is. Writes nothing, takes no lock; takes memory for the log.
    ///
    /// # Errors
    /// `NotAStore` if there is nothing of a store; `NewerFormat` and `FeatureMissing` if this build can't read
    /// it; `Io` if the disk won't even list the folder.
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let mut races = 0;
        loop {
            let known = Known::find(options)?;
            let position = known.position;
            let found = Self::open_once(options, known);
            // A writer at work takes files away: then it is another state that must be looked at.
            let is_steady = position.is_none() || Known::find(options)?.position == position;
            races += 1;
            if is_steady || races > RACES_MAX {
                return found;
            }
        }
    }

    fn open_once(options: &Options, known: Known) -> Result<Self> {
        let read = records::read(options, &known)?;
        let mut wreckage = Self {
            has_manifest: known.is_whole(),
            keyspaces: Vec::new(),
            damage: known.damage.clone(),
            lost: known.lost(options),
            assumed: known.assumed(),
            records: read.records,
        };
        wreckage.damage.extend(read.damage.iter().cloned());
        wreckage.assumed.extend(read.assumed.iter().cloned());
        for damage in &read.lost {
            wreckage.lost.push(Lost::anywhere(damage.clone()));
        }
        let remains = tables::open(options, &known, read, &mut wreckage.lost)?;
        let mut names: BTreeMap<String, KeyspaceId> = BTreeMap::new();
        for (id, mut remains) in remains {
            let mut name = remains.name(id);
            while names.contains_key(&name) {
                name.push('\'');
            }
            if remains.name.is_none() {
                let why = format!("the name of keyspace {id} is lost: it is called {name} here");
                wreckage.assumed.push(why);
            }
            names.insert(name.clone(), id);
            remains.name = Some(name.clone());
            let options = remains.options.clone();
            wreckage.keyspaces.push(SalvagedKeyspace {
                name,
                options,
                remains,
            });
        }
        Ok(wreckage)
    }
}

impl SalvagedKeyspace {
    /// Shows what to do for the newest of every key that can be read, by key.
    ///
    /// # Errors
    /// What `visit` answers; `FeatureMissing`.
    pub(crate) fn walk(self, visit: Visit<'_>) -> Result<Walked> {
        self.remains.walk(&self.name, visit)
    }
}

impl Lost {
    /// A place that could hold any key of any keyspace.
    pub(super) fn anywhere(damage: Damage) -> Self {
        Self {
            damage,
            keyspace: None,
            from: None,
            to: None,
        }
    }

    /// What a fence says.
    pub(super) fn of_fence(dir: &Path, fence: &Fence, keyspace: &str) -> Self {
        let path = dir.join(crate::segment::file_name(fence.segment));
        let what = format!("lost before: {}", fence.what);
        let mut damage = Damage::new(&path, fence.offset, fence.bytes, what);
        damage.indexes = Some((fence.oldest, fence.newest));
        Self {
            damage,
            keyspace: Some(keyspace.to_owned()),
            from: Some(fence.from.to_vec()),
            to: fence.to.as_ref().map(|to| to.to_vec()),
        }
    }

    /// Whether a version of this key, of a record from `first` to `last`, may be lost here.
    fn may_hold(&self, key: &[u8], first: Index, last: Index, of: (Index, Index)) -> bool {
        let above = self.from.as_deref().is_none_or(|from| from <= key);
        let below = self.to.as_deref().is_none_or(|to| key <= to);
        above && below && of.0 <= last && first <= of.1
    }
}

/// What the manifest says, for who looks and doesn't hold the store.
///
/// # Errors
/// As [`crate::manifest::Manifest::open`].
pub(super) fn manifest_state(options: &Options) -> Result<crate::manifest::ManifestState> {
    let known = Known::find(options)?;
    match known.state {
        Some(state) if known.position.is_some() => Ok(state),
        _ => Err(Error::Damaged(known.damage)),
    }
}

/// The number that a file's name says; `None` if it is no segment's.
fn segment_number(name: &str) -> Option<SegmentNumber> {
    let stem = name.strip_suffix(".segment")?;
    let number = SegmentNumber(stem.parse().ok()?);
    (crate::segment::file_name(number) == name).then_some(number)
}

/// Whether nothing more can be had from a store because of this error, in any way.
fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::NewerFormat { .. } | Error::FeatureMissing { .. }
    )
}

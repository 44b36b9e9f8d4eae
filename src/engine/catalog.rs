//! Creation and removal of keyspaces: the payload of a `Catalog` record, and the set in force.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use std::time::Duration;

use crate::codec::{Reader, put_varint};
use crate::engine::tree::Tree;
use crate::error::{Error, Result};
use crate::manifest::Change;
use crate::operator::MergeOperators;
use crate::options::KeyspaceOptions;
use crate::types::{Codec, Compression, Index, KEYSPACE_NAME_BYTES_MAX, KeyspaceId};

/// Name of the keyspace that every store has and nobody can drop.
pub const DEFAULT_KEYSPACE: &str = "default";

/// What a `Catalog` record does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CatalogOperation {
    Create {
        id: KeyspaceId,
        name: String,
        options: Vec<u8>,
    },
    Drop {
        id: KeyspaceId,
    },
}

impl CatalogOperation {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Create { id, name, options } => {
                out.push(1);
                put_varint(&mut out, u64::from(id.0));
                put_varint(&mut out, name.len() as u64);
                out.extend_from_slice(name.as_bytes());
                put_varint(&mut out, options.len() as u64);
                out.extend_from_slice(options);
            }
            Self::Drop { id } => {
                out.push(2);
                put_varint(&mut out, u64::from(id.0));
            }
        }
        out
    }

    /// `None` if the payload isn't one, though its checksum is right.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let operation = reader.u8()?;
        let id = KeyspaceId(u32::try_from(reader.varint()?).ok()?);
        let operation = match operation {
            1 => {
                let name = std::str::from_utf8(reader.prefixed()?).ok()?.to_owned();
                let options = reader.prefixed()?.to_vec();
                decode_options(&options)?;
                Self::Create { id, name, options }
            }
            2 => Self::Drop { id },
            _ => return None,
        };
        reader.is_empty().then_some(operation)
    }

    /// The keyspace that it creates, if it does.
    pub(crate) fn new_tree(&self, operators: &MergeOperators) -> Option<Tree> {
        let Self::Create { id, name, options } = self else {
            return None;
        };
        let options = decode_options(options)?;
        Some(Tree::new(*id, name.clone(), options, operators))
    }

    /// What the manifest notes of it, when record `index` did it.
    pub(crate) fn into_change(self, index: Index) -> Change {
        match self {
            Self::Create { id, name, options } => Change::KeyspaceCreated {
                id,
                name,
                index,
                options,
            },
            Self::Drop { id } => Change::KeyspaceDropped { id, index },
        }
    }
}

const TIME_TO_LIVE: u64 = 1;
const MERGE_OPERATOR: u64 = 2;
const COMPRESSION: u64 = 3;
const FILTER_BITS_PER_KEY: u64 = 4;

/// A keyspace's options as a record and the manifest have them: for each one that is set, varint tag,
/// varint length, so many bytes. What no tag says isn't so, whatever the defaults of today are.
pub(crate) fn encode_options(options: &KeyspaceOptions) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |tag: u64, bytes: &[u8]| {
        put_varint(&mut out, tag);
        put_varint(&mut out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    };
    if let Some(time_to_live) = options.time_to_live {
        put(TIME_TO_LIVE, &microseconds(time_to_live).to_le_bytes());
    }
    if let Some(name) = &options.merge_operator {
        put(MERGE_OPERATOR, name.as_bytes());
    }
    if options.compression != Compression::NONE {
        let Compression { upper, last } = options.compression;
        put(COMPRESSION, &[upper.byte(), last.byte()]);
    }
    if let Some(bits) = options.filter_bits_per_key {
        put(FILTER_BITS_PER_KEY, &bits.to_le_bytes());
    }
    out
}

/// The options that the bytes say; `None` if they say something that this version doesn't know.
pub(crate) fn decode_options(bytes: &[u8]) -> Option<KeyspaceOptions> {
    let mut options = KeyspaceOptions::default().compression(Compression::NONE);
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let (tag, value) = (reader.varint()?, reader.prefixed()?);
        match tag {
            TIME_TO_LIVE => {
                let us = u64::from_le_bytes(value.try_into().ok()?);
                options.time_to_live = Some(Duration::from_micros(us));
            }
            MERGE_OPERATOR => {
                let name = std::str::from_utf8(value).ok()?;
                options.merge_operator = Some(name.to_owned());
            }
            COMPRESSION => {
                let [upper, last] = <[u8; 2]>::try_from(value).ok()?;
                let (upper, last) = (Codec::from_byte(upper)?, Codec::from_byte(last)?);
                options.compression = Compression::new(upper, last);
            }
            FILTER_BITS_PER_KEY => {
                let bits = u32::from_le_bytes(value.try_into().ok()?);
                options.filter_bits_per_key = Some(bits.min(64));
            }
            _ => return None,
        }
    }
    Some(options)
}

/// A duration in whole microseconds; one that is too long for that never ends.
pub(crate) fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The keyspaces in force; replaced as a whole when one is created or dropped.
#[derive(Clone, Debug)]
pub(crate) struct Keyspaces {
    pub(crate) default: Arc<Tree>,
    by_id: HashMap<KeyspaceId, Arc<Tree>>,
    by_name: BTreeMap<String, KeyspaceId>,
}

impl Keyspaces {
    pub(crate) fn new(default: Arc<Tree>, others: impl IntoIterator<Item = Arc<Tree>>) -> Self {
        let mut all = Self {
            default: default.clone(),
            by_id: HashMap::new(),
            by_name: BTreeMap::new(),
        };
        all.insert(default);
        others.into_iter().for_each(|tree| all.insert(tree));
        all
    }

    pub(crate) fn insert(&mut self, tree: Arc<Tree>) {
        self.by_name.insert(tree.name.clone(), tree.id);
        self.by_id.insert(tree.id, tree);
    }

    pub(crate) fn remove(&mut self, id: KeyspaceId) -> Option<Arc<Tree>> {
        let tree = self.by_id.remove(&id)?;
        self.by_name.remove(&tree.name);
        Some(tree)
    }

    #[inline]
    pub(crate) fn get(&self, id: KeyspaceId) -> Option<&Arc<Tree>> {
        if id == KeyspaceId::DEFAULT {
            return Some(&self.default);
        }
        self.by_id.get(&id)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<Tree>> {
        self.get(*self.by_name.get(name)?)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    /// All trees, by name.
    pub(crate) fn trees(&self) -> impl Iterator<Item = &Arc<Tree>> {
        self.by_name.values().filter_map(|id| self.get(*id))
    }
}

/// The rule for names: 1 to 255 bytes of UTF-8 without control characters.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > KEYSPACE_NAME_BYTES_MAX {
        "it is over 255 bytes"
    } else if name.chars().any(char::is_control) {
        "it has a control character"
    } else {
        return Ok(());
    };
    Err(Error::KeyspaceName {
        name: name.to_owned(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_hostile_ones_are_none() {
        let options = KeyspaceOptions::default()
            .merge_operator("counter")
            .time_to_live(Duration::from_secs(7))
            .compression(Compression::new(Codec::Lz4, Codec::Zstd))
            .filter_bits_per_key(0);
        for options in [options.clone(), KeyspaceOptions::default()] {
            assert_eq!(decode_options(&encode_options(&options)).unwrap(), options);
        }
        assert_eq!(decode_options(&[]).unwrap().compression, Compression::NONE);
        assert!(decode_options(&[3, 2, 0, 9]).is_none());
        assert!(decode_options(&[200, 0]).is_none());
        let create = CatalogOperation::Create {
            id: KeyspaceId(300),
            name: "ü".into(),
            options: encode_options(&options),
        };
        for operation in [create, CatalogOperation::Drop { id: KeyspaceId(1) }] {
            let bytes = operation.encode();
            assert_eq!(CatalogOperation::decode(&bytes), Some(operation));
            for cut in 0..bytes.len() {
                assert_eq!(CatalogOperation::decode(&bytes[..cut]), None);
            }
            assert_eq!(CatalogOperation::decode(&[&bytes[..], &[0]].concat()), None);
        }
    }
}

//! The options of one keyspace.

use std::path::Path;
use std::time::Duration;

use super::range;
use crate::error::{Error, Result};
use crate::types::{Codec, Compression};

/// How a keyspace treats what is put into it. Kept in the store from the keyspace's creation on.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let db = kintsu::Db::open(folder.path())?;
/// use kintsu::{Counter, KeyspaceOptions};
/// let options = KeyspaceOptions::default().merge_operator(Counter::NAME);
/// let hits = db.create_keyspace_with("hits", options)?;
/// hits.merge("/index.html", 1_i64.to_le_bytes())?;
/// hits.merge("/index.html", 1_i64.to_le_bytes())?;
/// assert_eq!(hits.get("/index.html")?.as_deref(), Some(&2_i64.to_le_bytes()[..]));
/// # Ok::<(), kintsu::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyspaceOptions {
    /// How long a value put by `put` lives; `None`: until it is deleted.
    pub time_to_live: Option<Duration>,
    /// Name of the operator that merges use.
    pub merge_operator: Option<String>,
    /// What packs the blocks of its segments.
    pub compression: Compression,
    /// Bits of Bloom filter for each key in its segments; `None`: as many as the store's options say.
    pub filter_bits_per_key: Option<u32>,
}

impl Default for KeyspaceOptions {
    fn default() -> Self {
        Self {
            time_to_live: None,
            merge_operator: None,
            compression: Compression::all(Codec::Lz4),
            filter_bits_per_key: None,
        }
    }
}

impl KeyspaceOptions {
    /// How long values live that are put without saying so. Default: until they are deleted.
    #[must_use]
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = Some(time_to_live);
        self
    }

    /// Which operator merges use, by the name under which it is registered. Default: none, and merges
    /// are refused.
    #[must_use]
    pub fn merge_operator(mut self, name: impl Into<String>) -> Self {
        self.merge_operator = Some(name.into());
        self
    }

    /// What packs the blocks of its segments, level by level. Segments that were written before keep
    /// theirs. Default: LZ4 in all levels.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = kintsu::Db::open(folder.path())?;
    /// use kintsu::{Codec, Compression, KeyspaceOptions};
    /// let options = KeyspaceOptions::default().compression(Compression::new(Codec::None, Codec::Lz4));
    /// let notes = db.create_keyspace_with("notes", options)?;
    /// assert_eq!(notes.options().compression.last, Codec::Lz4);
    /// # Ok::<(), kintsu::Error>(())
    /// ```
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How many bits of Bloom filter each key in its segments gets; 0 = no filter. At most 64. Default: as
    /// many as [`Options::filter_bits_per_key`](crate::Options::filter_bits_per_key) says whenever a segment is written.
    #[must_use]
    pub fn filter_bits_per_key(mut self, bits: u32) -> Self {
        self.filter_bits_per_key = Some(bits);
        self
    }

    /// Checks every option against its range, and that this build can serve it; `path` is the store's.
    pub(crate) fn validate(&self, path: &Path) -> Result<()> {
        if let Some(bits) = self.filter_bits_per_key {
            range("filter_bits_per_key", u64::from(bits), 0, 64)?;
        }
        self.check_features(path)
    }

    /// Checks that this build can serve it.
    pub(crate) fn check_features(&self, path: &Path) -> Result<()> {
        match self.compression.missing_feature() {
            Some(feature) => Err(Error::FeatureMissing {
                path: path.to_owned(),
                feature,
            }),
            None => Ok(()),
        }
    }
}

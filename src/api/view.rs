//! A consistent look at the whole store while writes go on.

use std::sync::Arc;

use bytes::Bytes;

use crate::api::bounds::{KeyRange, prefix_end};
use crate::api::db::Shared;
use crate::api::{Keyspace, Range};
use crate::engine::{HeldPoint, Scan, Tree};
use crate::error::Result;
use crate::types::Index;

/// The store as it stood at one index: every write up to there, none after.
///
/// Cheap to make and to clone. While it lives, compaction keeps what it may read.
#[derive(Clone, Debug)]
pub struct ReadView {
    shared: Arc<Shared>,
    held: Arc<HeldPoint>,
}

impl ReadView {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let held = Arc::new(shared.engine.views.hold());
        Self { shared, held }
    }

    /// Index of the newest record it sees.
    #[must_use]
    pub fn index(&self) -> Index {
        self.held.point().index
    }

    /// The value of `key` in the default keyspace.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), a failed read, or [`Error::Damaged`](crate::Error::Damaged).
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        self.get_from(&self.shared.engine.keyspaces.load().default, key.as_ref())
    }

    /// The value of `key` in `keyspace`. A keyspace created after the view is empty in it.
    ///
    /// # Errors
    /// As [`ReadView::get`], and [`Error::KeyspaceNotFound`](crate::Error::KeyspaceNotFound) if it has been dropped.
    pub fn get_in(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        self.get_from(keyspace.tree()?, key.as_ref())
    }

    /// Whether `key` has a value in the default keyspace.
    ///
    /// # Errors
    /// As [`ReadView::get`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get(key).map(|found| found.is_some())
    }

    /// The values of many keys of the default keyspace, in the order of the keys.
    ///
    /// # Errors
    /// As [`ReadView::get`].
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        keys.into_iter().map(|key| self.get(key)).collect()
    }

    /// The values of many keys of `keyspace`, in the order of the keys.
    ///
    /// # Errors
    /// As [`ReadView::get_in`].
    pub fn multi_get_in<K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        let keys = keys.into_iter();
        keys.map(|key| self.get_in(keyspace, key)).collect()
    }

    /// The keys and values of a range of the default keyspace.
    ///
    /// # Errors
    /// As [`ReadView::get`].
    pub fn range(&self, range: impl KeyRange) -> Result<Range> {
        let (lower, upper) = range.into_half_open();
        self.scan(&self.shared.engine.keyspaces.load().default, lower, upper)
    }

    /// The keys and values of a range of `keyspace`.
    ///
    /// # Errors
    /// As [`ReadView::get_in`].
    pub fn range_in(&self, keyspace: &Keyspace, range: impl KeyRange) -> Result<Range> {
        let (lower, upper) = range.into_half_open();
        self.scan(keyspace.tree()?, lower, upper)
    }

    /// The keys that begin with `prefix`, and their values, in the default keyspace.
    ///
    /// # Errors
    /// As [`ReadView::get`].
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Range> {
        let prefix = prefix.as_ref();
        let tree = &self.shared.engine.keyspaces.load().default;
        self.scan(tree, prefix.to_vec(), prefix_end(prefix))
    }

    /// The keys that begin with `prefix`, and their values, in `keyspace`.
    ///
    /// # Errors
    /// As [`ReadView::get_in`].
    pub fn prefix_in(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> Result<Range> {
        let prefix = prefix.as_ref();
        self.scan(keyspace.tree()?, prefix.to_vec(), prefix_end(prefix))
    }

    pub(crate) fn get_from(&self, tree: &Arc<Tree>, key: &[u8]) -> Result<Option<Bytes>> {
        self.shared.engine.check_open()?;
        let value = tree.get(key, || self.held.point())?;
        tree.check_not_dropped()?;
        Ok(value)
    }

    pub(crate) fn scan(
        &self,
        tree: &Arc<Tree>,
        lower: Vec<u8>,
        upper: Option<Vec<u8>>,
    ) -> Result<Range> {
        self.shared.engine.check_open()?;
        let held = Some(self.held.clone());
        let scan = Scan::new(tree, || self.held.point(), held, lower, upper);
        // A drop that went on meanwhile may have taken segments out of what was just loaded.
        tree.check_not_dropped()?;
        Ok(Range::new(scan))
    }
}

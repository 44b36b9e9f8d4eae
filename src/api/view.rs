//! A consistent look at the whole store while writes go on.

use std::sync::Arc;

use bytes::Bytes;

use crate::api::bounds::{KeyRange, prefix_end};
use crate::api::db::Shared;
use crate::api::{Keyspace, Range};
use crate::engine::{HeldIndex, Scan, Tree};
use crate::error::Result;
use crate::types::{EntryKind, Index, Version};

/// The store as it stood at one index: every write up to there, none after.
///
/// Cheap to make and to clone. While it lives, compaction keeps what it may read.
#[derive(Clone, Debug)]
pub struct ReadView {
    shared: Arc<Shared>,
    held: Arc<HeldIndex>,
}

impl ReadView {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let held = Arc::new(shared.engine.views.hold());
        Self { shared, held }
    }

    /// Index of the newest record it sees.
    #[must_use]
    pub fn index(&self) -> Index {
        self.held.index()
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

    fn get_from(&self, tree: &Tree, key: &[u8]) -> Result<Option<Bytes>> {
        self.shared.engine.check_open()?;
        let found = tree.with(|state| state.get(key, Version::newest_at(self.index())))?;
        tree.check_not_dropped()?;
        Ok(found
            .filter(|found| found.kind == EntryKind::Put)
            .map(|found| found.value))
    }

    fn scan(&self, tree: &Tree, lower: Vec<u8>, upper: Option<Vec<u8>>) -> Result<Range> {
        self.shared.engine.check_open()?;
        let held = Some(self.held.clone());
        let state = tree.load();
        // A drop that went on meanwhile may have taken segments out of what was just loaded.
        tree.check_not_dropped()?;
        Ok(Range::new(Scan::new(
            state,
            self.index(),
            held,
            lower,
            upper,
        )))
    }
}

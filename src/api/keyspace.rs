//! A named part of the store with keys of its own.

use std::sync::Arc;

use bytes::Bytes;

use crate::api::bounds::KeyRange;
use crate::api::db::Shared;
use crate::api::{Range, ReadView};
use crate::engine::{Tree, WriteBatch};
use crate::error::Result;
use crate::types::{Durability, EntryKind, Version};

/// A handle to a keyspace; cheap to clone. After the keyspace is dropped every call answers
/// [`Error::KeyspaceNotFound`](crate::Error::KeyspaceNotFound).
#[derive(Clone, Debug)]
pub struct Keyspace {
    shared: Arc<Shared>,
    tree: Arc<Tree>,
}

impl Keyspace {
    pub(crate) fn new(shared: Arc<Shared>, tree: Arc<Tree>) -> Self {
        Self { shared, tree }
    }

    pub(crate) fn tree(&self) -> Result<&Arc<Tree>> {
        self.tree.check_not_dropped()?;
        Ok(&self.tree)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.tree.name
    }

    /// The newest value of `key`.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), [`Error::KeyspaceNotFound`](crate::Error::KeyspaceNotFound), a failed read, or [`Error::Damaged`](crate::Error::Damaged).
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        let engine = &self.shared.engine;
        engine.check_open()?;
        let found = self.tree()?.with(|state| {
            // The tables first, then the index: see `Views`.
            state.get(key.as_ref(), Version::newest_at(engine.views.visible()))
        })?;
        self.tree.check_not_dropped()?;
        Ok(found
            .filter(|found| found.kind == EntryKind::Put)
            .map(|found| found.value))
    }

    /// Whether `key` has a value.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get(key).map(|found| found.is_some())
    }

    /// Sets `key` to `value` with the store's durability.
    ///
    /// # Errors
    /// As [`crate::Db::write_with`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put_by_id(self.tree()?.id, key.as_ref(), value.as_ref());
        self.shared
            .write(batch, self.shared.engine.options.durability)
    }

    /// Removes `key` with the store's durability; one that isn't there is no error.
    ///
    /// # Errors
    /// As [`crate::Db::write_with`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.delete_by_id(self.tree()?.id, key.as_ref());
        self.shared
            .write(batch, self.shared.engine.options.durability)
    }

    /// Writes a batch with a durability of its own. The batch can hold operations on any keyspace.
    ///
    /// # Errors
    /// As [`crate::Db::write_with`].
    pub fn write_with(&self, batch: WriteBatch, durability: Durability) -> Result<()> {
        self.shared.write(batch, durability)
    }

    /// The keys and values of a range, as they stand now.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn range(&self, range: impl KeyRange) -> Result<Range> {
        ReadView::new(self.shared.clone()).range_in(self, range)
    }

    /// The keys that begin with `prefix`, and their values, as they stand now.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Range> {
        ReadView::new(self.shared.clone()).prefix_in(self, prefix)
    }
}

impl WriteBatch {
    /// Sets `key` to `value` in `keyspace`.
    pub fn put_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.put_by_id(keyspace.tree.id, key.as_ref(), value.as_ref());
        self
    }

    /// Removes `key` from `keyspace`.
    pub fn delete_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> &mut Self {
        self.delete_by_id(keyspace.tree.id, key.as_ref());
        self
    }
}

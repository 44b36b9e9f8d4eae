//! What can be put into a batch.

use std::time::Duration;

use crate::api::Keyspace;
use crate::api::bounds::KeyRange;
use crate::api::keyspace::put_expiring;
use crate::engine::{Effect, WriteBatch};
use crate::types::KeyspaceId;

impl WriteBatch {
    /// Sets `key` to `value` in the default keyspace.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.add(
            KeyspaceId::DEFAULT,
            key.as_ref(),
            Effect::Put(value.as_ref()),
        );
        self
    }

    /// Sets `key` to `value` in `keyspace`, until it is deleted or for as long as the keyspace's options say.
    pub fn put_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        let effect = keyspace.put_effect(value.as_ref());
        self.add(keyspace.id(), key.as_ref(), effect);
        self
    }

    /// Sets `key` to `value` in the default keyspace for a time: see [`crate::Db::put_expiring`].
    pub fn put_expiring(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        time_to_live: Duration,
    ) -> &mut Self {
        let effect = put_expiring(value.as_ref(), time_to_live);
        self.add(KeyspaceId::DEFAULT, key.as_ref(), effect);
        self
    }

    /// Sets `key` to `value` in `keyspace` for a time.
    pub fn put_expiring_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        time_to_live: Duration,
    ) -> &mut Self {
        let effect = put_expiring(value.as_ref(), time_to_live);
        self.add(keyspace.id(), key.as_ref(), effect);
        self
    }

    /// Removes `key` from the default keyspace.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.add(KeyspaceId::DEFAULT, key.as_ref(), Effect::Delete);
        self
    }

    /// Removes `key` from `keyspace`.
    pub fn delete_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> &mut Self {
        self.add(keyspace.id(), key.as_ref(), Effect::Delete);
        self
    }

    /// Removes every key in a range from the default keyspace: see [`crate::Db::delete_range`].
    pub fn delete_range(&mut self, range: impl KeyRange) -> &mut Self {
        self.delete_range_by_id(KeyspaceId::DEFAULT, range)
    }

    /// Removes every key in a range from `keyspace`.
    pub fn delete_range_in(&mut self, keyspace: &Keyspace, range: impl KeyRange) -> &mut Self {
        self.delete_range_by_id(keyspace.id(), range)
    }

    fn delete_range_by_id(&mut self, keyspace: KeyspaceId, range: impl KeyRange) -> &mut Self {
        let (from, to) = range.into_half_open();
        if to.as_ref().is_none_or(|to| from < *to) {
            self.add(keyspace, &from, Effect::DeleteTo(to.as_deref()));
        }
        self
    }

    /// Changes the value of `key` in the default keyspace by `operand`: see [`Keyspace::merge`].
    pub fn merge(&mut self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> &mut Self {
        let effect = Effect::Merge(operand.as_ref());
        self.add(KeyspaceId::DEFAULT, key.as_ref(), effect);
        self
    }

    /// Changes the value of `key` in `keyspace` by `operand`: see [`Keyspace::merge`].
    pub fn merge_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        operand: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.add(keyspace.id(), key.as_ref(), Effect::Merge(operand.as_ref()));
        self
    }
}

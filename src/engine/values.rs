//! From the entries of a key to the value that a reader gets.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::scan::Scan;
use crate::engine::tree::Tree;
use crate::engine::views::ReadPoint;
use crate::error::{Error, Result};
use crate::operator::{self, MergeOperator, MergeOperators};
use crate::types::{EXPIRY_BYTES, Entry, EntryKind};

/// How the values of one keyspace are worked out.
#[derive(Debug)]
pub(crate) struct Values {
    keyspace: String,
    /// The name of the operator, and what it stands for, if that is known.
    operator: Option<(String, Option<Arc<dyn MergeOperator>>)>,
}

impl Values {
    pub(crate) fn new(keyspace: &str, operator: Option<&str>, known: &MergeOperators) -> Self {
        Self {
            keyspace: keyspace.to_owned(),
            operator: operator.map(|name| (name.to_owned(), known.get(name).cloned())),
        }
    }

    /// What merges.
    ///
    /// # Errors
    /// `NoMergeOperator`, `UnknownMergeOperator`.
    pub(crate) fn operator(&self) -> Result<&Arc<dyn MergeOperator>> {
        let name = self.keyspace.clone();
        match &self.operator {
            Some((_, Some(operator))) => Ok(operator),
            None => Err(Error::NoMergeOperator { name }),
            Some((operator, None)) => Err(Error::UnknownMergeOperator {
                name,
                operator: operator.clone(),
            }),
        }
    }

    /// What an entry that isn't a merge says: its value, if it is one.
    #[inline]
    pub(crate) fn plain(
        &self,
        entry: &Entry<'_>,
        value: impl FnOnce() -> Bytes,
        at: ReadPoint,
    ) -> Option<Bytes> {
        match entry.kind {
            EntryKind::Put => Some(value()),
            EntryKind::Expiring if !at.is_expired(entry.kind, entry.value) => {
                Some(without_expiry(value()))
            }
            EntryKind::Expiring | EntryKind::Delete | EntryKind::Merge => None,
        }
    }

    /// What operands, oldest first, make of the value below them.
    ///
    /// # Errors
    /// `UnknownMergeOperator`, `MergeFailed`.
    pub(crate) fn merged(
        &self,
        key: &[u8],
        below: Option<Bytes>,
        operands: &[Bytes],
    ) -> Result<Bytes> {
        let operator = self.operator()?;
        let merged = operator::merge(&**operator, key, below.as_deref(), operands);
        merged.map(Bytes::from).map_err(|why| Error::MergeFailed {
            name: self.keyspace.clone(),
            key: key.to_vec(),
            why,
        })
    }
}

/// The value behind the time at which it expires.
fn without_expiry(mut value: Bytes) -> Bytes {
    value.split_off(EXPIRY_BYTES.min(value.len()))
}

impl Tree {
    /// The value of `key` for a reader at `point`, which is asked for once the tables are loaded. A point
    /// that isn't held must then be the newest: what is older may be gone.
    ///
    /// # Errors
    /// A failed read, damage, or a merge that can't be worked out.
    pub(crate) fn get(
        self: &Arc<Self>,
        key: &[u8],
        point: impl Fn() -> ReadPoint,
    ) -> Result<Option<Bytes>> {
        let found = self.with(|state| {
            let at = point();
            Ok(state.get(key, at.version())?.map(|found| (found, at)))
        })?;
        let Some((found, at)) = found else {
            return Ok(None);
        };
        match found.kind {
            EntryKind::Put => Ok(Some(found.value)),
            EntryKind::Delete => Ok(None),
            EntryKind::Expiring => {
                let expired = at.is_expired(found.kind, &found.value);
                Ok((!expired).then(|| without_expiry(found.value)))
            }
            EntryKind::Merge => self.get_merged(key, point),
        }
    }

    /// Walks the versions of one key as if it were a range.
    #[cold]
    fn get_merged(
        self: &Arc<Self>,
        key: &[u8],
        point: impl Fn() -> ReadPoint,
    ) -> Result<Option<Bytes>> {
        let mut scan = Scan::of_key(self, point, key);
        Ok(scan.next_front()?.map(|(_, value)| value))
    }
}

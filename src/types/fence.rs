//! A fence: a range of keys of which the store knows that it has lost versions, and not which.

use bytes::Bytes;

use super::{Index, KEY_BYTES_MAX, SegmentNumber};

/// Versions of the keys in `from .. to`, written by records `oldest ..= newest`, may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The first key.
    pub from: Bytes,
    /// The first key behind it; `None`: there is no end.
    pub to: Option<Bytes>,
    /// No record before this one wrote what is lost.
    pub oldest: Index,
    /// Nor did one after this one.
    pub newest: Index,
    /// The segment that had it.
    pub segment: SegmentNumber,
    /// Where in its file.
    pub offset: u64,
    /// How many bytes; 0 if unknown.
    pub bytes: u64,
    /// What was found there.
    pub what: String,
}

impl Fence {
    /// The first key behind this one. What is too long to be a key is where a range ends, and no key itself.
    #[must_use]
    pub fn behind(key: &[u8]) -> Bytes {
        match key.len() > KEY_BYTES_MAX {
            true => Bytes::copy_from_slice(key),
            false => [key, &[0]].concat().into(),
        }
    }

    /// Whether it is over before `key`.
    #[must_use]
    pub fn ends_at_or_before(&self, key: &[u8]) -> bool {
        self.to.as_deref().is_some_and(|to| to <= key)
    }

    /// Whether `key` is in it.
    #[must_use]
    pub fn covers(&self, key: &[u8]) -> bool {
        self.from.as_ref() <= key && !self.ends_at_or_before(key)
    }

    /// Whether a key in `lower .. upper` is in it.
    #[must_use]
    pub fn touches(&self, lower: &[u8], upper: Option<&[u8]>) -> bool {
        upper.is_none_or(|upper| self.from.as_ref() < upper) && !self.ends_at_or_before(lower)
    }

    /// Whether a reader at `at`, to whom the newest thing known of a key in it was written by the record `known`,
    /// can't tell if there was something newer.
    #[must_use]
    pub fn hides(&self, known: Option<Index>, at: Index) -> bool {
        self.oldest <= at && known.is_none_or(|known| known <= self.newest)
    }
}

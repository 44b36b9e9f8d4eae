//! Iteration over a range of keys.

use bytes::Bytes;

use crate::engine::Scan;
use crate::error::Result;

/// Keys and values of a range, in key order from the front and in reverse from the back, as they stood
/// when the range was made. Ends after the first error.
///
/// Holds what it may still read until it is dropped.
pub struct Range {
    scan: Scan,
}

impl std::fmt::Debug for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Range").finish_non_exhaustive()
    }
}

impl Range {
    pub(crate) fn new(scan: Scan) -> Self {
        Self { scan }
    }

    /// As `next`, lending the key instead of copying it.
    ///
    /// # Errors
    /// A failed read, or [`crate::Error::Damaged`].
    pub fn next_ref(&mut self) -> Result<Option<(&[u8], Bytes)>> {
        self.scan.next_front()
    }

    /// As `next_back`, lending the key instead of copying it.
    ///
    /// # Errors
    /// A failed read, or [`crate::Error::Damaged`].
    pub fn next_back_ref(&mut self) -> Result<Option<(&[u8], Bytes)>> {
        self.scan.next_back()
    }
}

fn owned((key, value): (&[u8], Bytes)) -> (Bytes, Bytes) {
    (Bytes::copy_from_slice(key), value)
}

impl Iterator for Range {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.scan
            .next_front()
            .map(|item| item.map(owned))
            .transpose()
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.scan
            .next_back()
            .map(|item| item.map(owned))
            .transpose()
    }
}

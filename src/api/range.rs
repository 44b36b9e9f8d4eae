//! Iteration over a range of keys.

use bytes::Bytes;

use crate::engine::Scan;
use crate::error::Result;

/// Keys and values of a range, in key order from the front and in reverse from the back, as they stood
/// when the range was made. Ends after the first error.
///
/// Until it is dropped it holds the point at which it reads, as a view does: what it may see isn't compacted
/// away. Files and memtables that were replaced meanwhile it lets go of at its next step; those that it rests
/// on are in [`Statistics::superseded_bytes`](crate::Statistics::superseded_bytes) and
/// [`superseded_memtable_bytes`](crate::Statistics::superseded_memtable_bytes).
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

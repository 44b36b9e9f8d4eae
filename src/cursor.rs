//! The one way to walk a sorted table, be it in memory or on disk.

use bytes::Bytes;

use crate::error::Result;
use crate::types::{Entry, Version};

/// A position in a table ordered by key ascending, then version newest first.
///
/// A cursor starts nowhere (`entry` is `None`) until it is placed by a seek. Stepping past either
/// end leaves it nowhere again. After an error it is nowhere and may be placed anew.
pub trait Cursor {
    /// Goes to the first entry.
    ///
    /// # Errors
    /// What the disk answers, or damage.
    fn seek_to_first(&mut self) -> Result<()>;

    /// Goes to the last entry.
    ///
    /// # Errors
    /// As [`Cursor::seek_to_first`].
    fn seek_to_last(&mut self) -> Result<()>;

    /// Goes to the first entry at or after (`key`, `version`) in table order: with
    /// [`Version::MAX`], the newest version of the first key that is not below `key`.
    ///
    /// # Errors
    /// As [`Cursor::seek_to_first`].
    fn seek(&mut self, key: &[u8], version: Version) -> Result<()>;

    /// Goes to the last entry (an oldest version) whose key is below `key`.
    ///
    /// # Errors
    /// As [`Cursor::seek_to_first`].
    fn seek_before(&mut self, key: &[u8]) -> Result<()>;

    /// Goes to the next entry; a cursor that is nowhere stays there.
    ///
    /// # Errors
    /// As [`Cursor::seek_to_first`].
    fn next(&mut self) -> Result<()>;

    /// Goes to the entry before; a cursor that is nowhere stays there.
    ///
    /// # Errors
    /// As [`Cursor::seek_to_first`].
    fn prev(&mut self) -> Result<()>;

    /// The entry at the cursor, until it moves.
    fn entry(&self) -> Option<Entry<'_>>;

    /// The value at the cursor, sharing memory where it can; empty if the cursor is nowhere.
    fn value(&self) -> Bytes;
}

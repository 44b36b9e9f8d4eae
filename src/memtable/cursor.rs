//! The table's cursor.

use bytes::Bytes;

use super::list::Walker;
use super::share;
use crate::cursor::Cursor;
use crate::error::Result;
use crate::types::{Entry, Version};

/// A cursor over a [`super::Memtable`], which it keeps alive. It never fails. Steps back cost
/// O(log n), steps forward O(1).
pub struct MemtableCursor {
    walker: Walker,
}

impl MemtableCursor {
    pub(super) fn new(walker: Walker) -> Self {
        Self { walker }
    }
}

impl Cursor for MemtableCursor {
    fn seek_to_first(&mut self) -> Result<()> {
        self.walker.first();
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.walker.last();
        Ok(())
    }

    fn seek(&mut self, key: &[u8], version: Version) -> Result<()> {
        self.walker.seek(key, version);
        Ok(())
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.walker.seek_before(key);
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.walker.next();
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.walker.prev();
        Ok(())
    }

    fn entry(&self) -> Option<Entry<'_>> {
        self.walker.entry()
    }

    fn value(&self) -> Bytes {
        share(self.walker.as_ref(), || self.walker.clone())
    }
}

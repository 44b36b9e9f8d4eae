//! What can still be read of a damaged store, oldest first.

use crate::cursor::Cursor;
use crate::engine::Engine;
use crate::error::{Damage, Result};
use crate::types::{Entry, EntryKind};

/// One thing that a salvage found: in this keyspace the key was put or deleted. Later ones replace
/// earlier ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Salvaged<'a> {
    pub(crate) keyspace: &'a str,
    pub(crate) kind: EntryKind,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl Engine {
    /// Shows the newest readable version of every key in every table, the oldest tables first, so
    /// that what is shown last of a key is the newest that can be read. Returns the damage met.
    ///
    /// # Errors
    /// What `visit` answers.
    pub(crate) fn salvage(
        &self,
        visit: &mut dyn FnMut(Salvaged<'_>) -> Result<()>,
    ) -> Result<Vec<Damage>> {
        let mut damage = Vec::new();
        for tree in self.keyspaces.load().trees() {
            let state = tree.load();
            let mut segments: Vec<_> = state.segments().map(|(_, segment)| segment).collect();
            // They come from the newest, in level 0, to the deepest and oldest.
            segments.reverse();
            for segment in segments {
                let mut newest = Newest {
                    keyspace: &tree.name,
                    last_key: None,
                    visit,
                };
                damage.extend(segment.salvage(&mut |entry| newest.show(entry))?);
            }
            let tables: Vec<_> = std::iter::once(&state.active)
                .chain(&state.frozen)
                .collect();
            for table in tables.into_iter().rev() {
                let mut newest = Newest {
                    keyspace: &tree.name,
                    last_key: None,
                    visit,
                };
                let mut cursor = table.cursor();
                cursor.seek_to_first()?;
                while let Some(entry) = cursor.entry() {
                    newest.show(entry)?;
                    cursor.next()?;
                }
            }
        }
        Ok(damage)
    }
}

/// Passes on the newest version of each key of one table.
struct Newest<'a, 'v> {
    keyspace: &'a str,
    last_key: Option<Vec<u8>>,
    visit: &'a mut (dyn FnMut(Salvaged<'_>) -> Result<()> + 'v),
}

impl Newest<'_, '_> {
    fn show(&mut self, entry: Entry<'_>) -> Result<()> {
        if self.last_key.as_deref() == Some(entry.key) {
            return Ok(());
        }
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(entry.key);
        let (kind, key, value) = (entry.kind, entry.key, entry.value);
        (self.visit)(Salvaged {
            keyspace: self.keyspace,
            kind,
            key,
            value,
        })
    }
}

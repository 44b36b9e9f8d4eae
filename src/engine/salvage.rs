//! What can still be read of a damaged store, oldest first.

use crate::cursor::Cursor;
use crate::engine::Engine;
use crate::engine::batch::{Effect, Expiry};
use crate::engine::tree::Frozen;
use crate::error::{Damage, Result};
use crate::types::{EXPIRY_BYTES, Entry, EntryKind, RangeDeletes, Version, expires_us};

/// One thing that a salvage found: in this keyspace this was done to the key. Later ones come on top of
/// earlier ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Salvaged<'a> {
    pub(crate) keyspace: &'a str,
    pub(crate) key: &'a [u8],
    pub(crate) effect: Effect<'a>,
}

impl Engine {
    /// Shows what is readable of every key in every table, the oldest tables first, so that doing all of
    /// it in this order leaves the newest that can be read. Returns the damage met.
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
                let mut table = Table::new(&tree.name, segment.range_deletes(), visit);
                table.show_ranges()?;
                damage.extend(segment.salvage(&mut |entry| table.feed(entry))?);
                table.show_key()?;
            }
            let active = Frozen::Memtable(state.active.clone());
            for frozen in state.frozen.iter().rev().chain([&active]) {
                let memtable = match frozen {
                    Frozen::Memtable(memtable) => memtable,
                    Frozen::Loaded(segments) => {
                        let none = RangeDeletes::default();
                        let mut table = Table::new(&tree.name, &none, visit);
                        for segment in segments.iter() {
                            damage.extend(segment.salvage(&mut |entry| table.feed(entry))?);
                        }
                        table.show_key()?;
                        continue;
                    }
                };
                let ranges = memtable.range_deletes().unwrap_or_default();
                let mut table = Table::new(&tree.name, &ranges, visit);
                table.show_ranges()?;
                let mut cursor = memtable.cursor();
                cursor.seek_to_first()?;
                while let Some(entry) = cursor.entry() {
                    table.feed(entry)?;
                    cursor.next()?;
                }
                table.show_key()?;
            }
        }
        Ok(damage)
    }
}

/// Passes on of one table the range deletions, and then of each key the newest version, and what is below
/// it if that is a merge.
struct Table<'a, 'v> {
    keyspace: &'a str,
    ranges: &'a RangeDeletes,
    visit: &'a mut (dyn FnMut(Salvaged<'_>) -> Result<()> + 'v),
    key: Vec<u8>,
    /// What is needed of `key`, newest first.
    versions: Vec<(EntryKind, Vec<u8>)>,
    /// Whether older versions of `key` don't matter.
    is_done: bool,
}

impl<'a, 'v> Table<'a, 'v> {
    fn new(
        keyspace: &'a str,
        ranges: &'a RangeDeletes,
        visit: &'a mut (dyn FnMut(Salvaged<'_>) -> Result<()> + 'v),
    ) -> Self {
        Self {
            keyspace,
            ranges,
            visit,
            key: Vec::new(),
            versions: Vec::new(),
            is_done: false,
        }
    }

    fn show_ranges(&mut self) -> Result<()> {
        for range in self.ranges.all() {
            self.show(&range.from, Effect::DeleteTo(range.to.as_deref()))?;
        }
        Ok(())
    }

    /// Takes the next entry in table order.
    fn feed(&mut self, entry: Entry<'_>) -> Result<()> {
        if self.key != entry.key {
            self.show_key()?;
            self.key.clear();
            self.key.extend_from_slice(entry.key);
        }
        let deleted = self.ranges.newest(entry.key, Version::MAX);
        self.is_done |= deleted.is_some_and(|deleted| deleted > entry.version);
        if !self.is_done {
            self.versions.push((entry.kind, entry.value.to_vec()));
            self.is_done = entry.kind != EntryKind::Merge;
        }
        Ok(())
    }

    /// Shows the key that was fed last, and forgets it.
    fn show_key(&mut self) -> Result<()> {
        self.is_done = false;
        let key = std::mem::take(&mut self.key);
        while let Some((kind, value)) = self.versions.pop() {
            let effect = match kind {
                EntryKind::Put => Effect::Put(&value),
                EntryKind::Delete => Effect::Delete,
                EntryKind::Merge => Effect::Merge(&value),
                EntryKind::Expiring => {
                    let expiry = Expiry::At(expires_us(&value).unwrap_or_default());
                    Effect::PutUntil(expiry, value.get(EXPIRY_BYTES..).unwrap_or_default())
                }
            };
            self.show(&key, effect)?;
        }
        self.key = key;
        Ok(())
    }

    fn show(&mut self, key: &[u8], effect: Effect<'_>) -> Result<()> {
        (self.visit)(Salvaged {
            keyspace: self.keyspace,
            key,
            effect,
        })
    }
}

//! Looks into a log file's parity, and says what the file should have where the disk has something else.
//!
//! Parity is written only after the sync that made a group's bytes durable. So a group with a table that is whole
//! was durable, all of it: what isn't there is damage, never the end of the log. A parity file that is
//! missing, or that can't be read, says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::parity::{GROUP_UNITS, GroupTable, Slots, restore};
use crate::types::{LogFileMeta, Lsn, Parity, UNIT};
use crate::vfs::{Access, File, Vfs};

use super::format::UNIT_BYTES;
use super::names;
use super::source::{Patches, Source};

/// Bytes of the log in a group.
pub(crate) const GROUP_BYTES: u64 = GROUP_UNITS * UNIT_BYTES;

/// What is known of a file's units from its parity.
#[derive(Debug)]
pub(crate) struct Healer {
    meta: LogFileMeta,
    /// `None` if there is no parity.
    parity: Option<Arc<dyn File>>,
    tables: BTreeMap<u64, Option<GroupTable>>,
    /// Groups that have been looked at.
    checked: BTreeSet<u64>,
    patches: Patches,
    /// Units that aren't as they were written, and that parity doesn't make up for.
    lost: Vec<u64>,
}

impl Healer {
    /// For a file of the log in this folder.
    pub fn new(vfs: &dyn Vfs, dir: &Path, meta: &LogFileMeta) -> Self {
        let path = names::parity_path(dir, meta.number);
        Self::with(meta, || vfs.open(&path, Access::Read).ok())
    }

    /// [`Healer::new`], of what the disk has, where there is a way to see that.
    pub fn past_cache(vfs: &dyn Vfs, dir: &Path, meta: &LogFileMeta) -> Self {
        let path = names::parity_path(dir, meta.number);
        Self::with(meta, || {
            let direct = vfs.open(&path, Access::ReadDirect);
            direct.or_else(|_| vfs.open(&path, Access::Read)).ok()
        })
    }

    fn with(meta: &LogFileMeta, open: impl FnOnce() -> Option<Arc<dyn File>>) -> Self {
        Self {
            meta: meta.clone(),
            parity: (meta.parity != Parity::Off).then(open).flatten(),
            tables: BTreeMap::new(),
            checked: BTreeSet::new(),
            patches: Patches::new(),
            lost: Vec::new(),
        }
    }

    /// The log file that it is for.
    pub fn meta(&self) -> &LogFileMeta {
        &self.meta
    }

    /// Whether there is a file of parity.
    pub fn has_parity(&self) -> bool {
        self.parity.is_some()
    }

    /// Units that the disk hasn't got as they were written, as they should be.
    pub fn patches(&self) -> &Patches {
        &self.patches
    }

    /// Offsets of those units.
    pub fn healed(&self) -> Vec<u64> {
        self.patches.keys().copied().collect()
    }

    /// Says what a unit should be that something else than parity knows.
    pub fn patch(&mut self, offset: u64, unit: Vec<u8>) {
        self.patches.insert(offset, unit);
    }

    /// Offsets of units that are lost, as far as was looked.
    pub fn lost(&self) -> &[u64] {
        &self.lost
    }

    /// Whether a group's slot is what its table says.
    pub fn is_slot_whole(&mut self, group: u64) -> bool {
        let file_id = self.meta.file_id;
        let slots = Slots::new(self.meta.parity);
        let mut slot = vec![0; slots.slot_bytes() as usize];
        let read = self.parity.as_ref().map(|parity| {
            let read = parity.read_at(&mut slot, slots.start(group));
            read.is_ok_and(|read| read == slot.len())
        });
        let table = self.table(group);
        read == Some(true) && table.is_some_and(|table| table.is_slot(file_id, &slot))
    }

    /// The groups of the file, as far as it can be filled.
    pub fn groups(&self) -> Range<u64> {
        0..self.meta.capacity.div_ceil(GROUP_BYTES)
    }

    /// A group's table, if there is one that is whole.
    pub fn table(&mut self, group: u64) -> Option<&GroupTable> {
        let (meta, parity) = (&self.meta, self.parity.as_ref()?);
        let read = || {
            let tables = Slots::new(meta.parity).tables(group).into_iter();
            tables
                .filter_map(|offset| {
                    let mut unit = vec![0; UNIT];
                    parity.read_at(&mut unit, offset).ok()?;
                    GroupTable::decode(meta.parity, meta.file_id, group, offset, &unit)
                })
                .next()
        };
        self.tables.entry(group).or_insert_with(read).as_ref()
    }

    /// Looks at the groups that this range of the file touches, each once, and puts together again what isn't as it
    /// was written. Whether that was anything.
    pub fn heal(&mut self, source: &Source, range: Range<u64>) -> bool {
        let groups = range.start / GROUP_BYTES..range.end.div_ceil(GROUP_BYTES);
        let end = groups.end.min(self.groups().end);
        let mut found = false;
        for group in groups.start..end {
            if self.checked.insert(group) {
                found |= self.heal_group(source, group);
            }
        }
        found
    }

    /// [`Healer::heal`] for all of these.
    pub fn heal_each(&mut self, source: &Source, ranges: &[Range<u64>]) -> bool {
        let mut found = false;
        for range in ranges {
            found |= self.heal(source, range.clone());
        }
        found
    }

    /// [`Healer::heal`] for all of the file.
    pub fn heal_all(&mut self, source: &Source) -> bool {
        self.heal(source, 0..self.meta.capacity)
    }

    fn heal_group(&mut self, source: &Source, group: u64) -> bool {
        let file_id = self.meta.file_id;
        let Some(table) = self.table(group).cloned() else {
            return false;
        };
        let Some(parity) = self.parity.as_ref() else {
            return false;
        };
        let source = source.strict();
        let units = read_units(&source, table.content());
        let content = |offset: u64, buffer: &mut [u8]| match units.get(&offset) {
            Some(unit) => {
                buffer.copy_from_slice(unit);
                true
            }
            None => false,
        };
        let parity =
            |offset: u64, buffer: &mut [u8]| matches!(parity.read_at(buffer, offset), Ok(UNIT));
        let Ok(healed) = restore(&content, &parity, &table, file_id) else {
            let offsets = table.content().step_by(UNIT);
            let is_good = |offset: &u64| {
                let unit = units.get(offset);
                unit.is_some_and(|unit| table.is_good(file_id, *offset, unit))
            };
            self.lost.extend(offsets.filter(|offset| !is_good(offset)));
            return false;
        };
        let start = table.content().start;
        for &offset in &healed.units {
            let at = (offset - start) as usize;
            if let Some(unit) = healed.bytes.get(at..at + UNIT) {
                self.patches.insert(offset, unit.to_vec());
            }
        }
        !healed.units.is_empty()
    }

    /// The position up to which parity proves that the file's bytes were durable, if that is after the offset `from`.
    pub fn proved(&mut self, from: u64) -> Option<Lsn> {
        let groups = from / GROUP_BYTES..self.groups().end;
        let ends = groups.filter_map(|group| self.table(group).map(GroupTable::end));
        let last = ends.max().filter(|end| *end > from)?;
        Some(Lsn(self.meta.first_lsn.0.saturating_add(last)))
    }
}

/// The units of a range that can be read; those that the file hasn't got are zeros.
pub(crate) fn read_units(source: &Source, range: Range<u64>) -> BTreeMap<u64, Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let whole = source.read(&mut bytes, range.start).is_ok();
    let mut units = BTreeMap::new();
    for (offset, unit) in range.step_by(UNIT).zip(bytes.chunks_exact(UNIT)) {
        let mut unit = unit.to_vec();
        if !whole {
            unit.fill(0);
            if source.read(&mut unit, offset).is_err() {
                continue;
            }
        }
        units.insert(offset, unit);
    }
    units
}

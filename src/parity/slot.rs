//! Parity of a file that still grows, in a file beside it: a slot for each group, written once the group is whole.
//!
//! A slot is a table, the group's units of parity, and the table once more; each of them whole units, so that no
//! bad block hits two. Where a slot lies follows from the group's number and the level. The table names
//! the file, the place and the group by its checksum's seed, so that no slot passes for another.

use std::io;
use std::ops::Range;

use reed_solomon_simd::ReedSolomonEncoder;

use super::heal::{Group, Healed, Unhealable, Units, good_unit};
use super::{GROUP_UNITS, UNIT_BYTES};
use crate::codec::{Reader, block_checksum};
use crate::types::{FileId, Parity};

const UNIT: u64 = UNIT_BYTES as u64;
const GROUP_BYTES: u64 = GROUP_UNITS * UNIT;
const MAGIC: [u8; 8] = *b"KNTSUPAR";
const FORMAT_VERSION: u32 = 1;
const CHECKSUM_BYTES: usize = 8;
/// Bytes of a table before its checksums.
const HEAD_BYTES: usize = 64;

/// Where the slots of a level lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    level: Parity,
}

impl Slots {
    /// Those of a level other than `Off`.
    #[must_use]
    pub fn new(level: Parity) -> Self {
        Self { level }
    }

    /// Bytes of a slot.
    #[must_use]
    pub fn slot_bytes(&self) -> u64 {
        (self.level.units_per_group() + 2) * UNIT
    }

    /// Where this group's slot begins.
    #[must_use]
    pub fn start(&self, group: u64) -> u64 {
        group.saturating_mul(self.slot_bytes())
    }

    /// Bytes that the parity of so much content takes.
    #[must_use]
    pub fn file_bytes(&self, content_bytes: u64) -> u64 {
        match self.level {
            Parity::Off => 0,
            _ => self.start(content_bytes.div_ceil(GROUP_BYTES)),
        }
    }

    /// Where the two copies of this group's table begin.
    #[must_use]
    pub fn tables(&self, group: u64) -> [u64; 2] {
        let start = self.start(group);
        [start, start.saturating_add(self.slot_bytes() - UNIT)]
    }

    /// Where this group's unit of parity begins.
    #[must_use]
    pub fn parity(&self, group: u64, unit: u64) -> u64 {
        self.start(group).saturating_add((unit + 1) * UNIT)
    }

    /// Units of parity that a group of so many units has: as many as it has itself, where those are few.
    fn parity_units(&self, units: u64) -> u64 {
        units.min(self.level.units_per_group())
    }
}

/// What a group's table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupTable {
    level: Parity,
    group: u64,
    units: u64,
    end: u64,
    /// Of the units of content, then of those of parity.
    checksums: Vec<u64>,
}

impl GroupTable {
    /// Reads the table of a group that stands at `offset`. `None` if it isn't as it was written.
    #[must_use]
    pub fn decode(
        level: Parity,
        file_id: FileId,
        group: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Option<Self> {
        let (stored, covered) = bytes.split_first_chunk::<CHECKSUM_BYTES>()?;
        if bytes.len() != UNIT_BYTES
            || u64::from_le_bytes(*stored) != block_checksum(file_id, offset, covered)
        {
            return None;
        }
        let mut reader = Reader::new(covered);
        let fits = reader.array() == Some(MAGIC)
            && reader.u32() == Some(FORMAT_VERSION)
            && reader.u16().map(u64::from) == Some(level.units_per_group());
        let units = u64::from(reader.u16()?);
        let stored_group = reader.u64()?;
        let end = reader.u64()?;
        let start = group.checked_mul(GROUP_BYTES)?;
        let is_sane = (1..=GROUP_UNITS).contains(&units)
            && stored_group == group
            && end > start
            && (end - start).div_ceil(UNIT) == units;
        if !fits || !is_sane {
            return None;
        }
        let count = units + Slots::new(level).parity_units(units);
        let mut reader = Reader::new(bytes.get(HEAD_BYTES..)?);
        let checksums = (0..count).map(|_| reader.u64()).collect::<Option<_>>()?;
        Some(Self {
            level,
            group,
            units,
            end,
            checksums,
        })
    }

    fn encode(&self, file_id: FileId, offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(UNIT_BYTES);
        out.extend_from_slice(&[0; CHECKSUM_BYTES]);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(self.level.units_per_group() as u16).to_le_bytes());
        out.extend_from_slice(&(self.units as u16).to_le_bytes());
        out.extend_from_slice(&self.group.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
        out.resize(HEAD_BYTES, 0);
        for checksum in &self.checksums {
            out.extend_from_slice(&checksum.to_le_bytes());
        }
        out.resize(UNIT_BYTES, 0);
        let covered = out.get(CHECKSUM_BYTES..).unwrap_or_default();
        let checksum = block_checksum(file_id, offset, covered);
        if let Some(room) = out.first_chunk_mut() {
            *room = checksum.to_le_bytes();
        }
        out
    }

    /// The content's units in this group, as offsets in its file.
    #[must_use]
    pub fn content(&self) -> Range<u64> {
        let start = self.group * GROUP_BYTES;
        start..start + self.units * UNIT
    }

    /// The offset up to which the content counted when this was written: in its last unit.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether a unit of content is as it was written.
    #[must_use]
    pub fn is_good(&self, file_id: FileId, offset: u64, unit: &[u8]) -> bool {
        let place = offset.checked_sub(self.group * GROUP_BYTES);
        let place = place.and_then(|at| usize::try_from(at / UNIT).ok());
        let stored = place.filter(|place| (*place as u64) < self.units);
        let stored = stored.and_then(|place| self.checksums.get(place));
        stored == Some(&block_checksum(file_id, offset, unit))
    }

    /// Whether the slot is what this table says, to the byte.
    #[must_use]
    pub fn is_slot(&self, file_id: FileId, slot: &[u8]) -> bool {
        let slots = Slots::new(self.level);
        let start = slots.start(self.group);
        let unit_at = |offset: u64| {
            let from = usize::try_from(offset - start).ok()?;
            slot.get(from..from + UNIT_BYTES)
        };
        let tables = slots.tables(self.group).into_iter();
        let mut tables = tables.map(|at| (at, self.encode(file_id, at)));
        let parity = self.checksums.iter().skip(self.units as usize);
        let mut parity = (0..).zip(parity);
        tables.all(|(at, table)| unit_at(at) == Some(&table))
            && parity.all(|(unit, &checksum)| {
                let at = slots.parity(self.group, unit);
                unit_at(at).is_some_and(|bytes| block_checksum(file_id, at, bytes) == checksum)
            })
    }
}

/// Makes slots, one after the other.
#[derive(Default)]
pub struct SlotCoder {
    coder: Option<ReedSolomonEncoder>,
}

impl SlotCoder {
    /// The slot of a group, from its content: whole units, at most 256, of which the last one counts up to the offset
    /// `end` in the file.
    ///
    /// # Errors
    /// None that the coder's limits allow for.
    pub fn encode(
        &mut self,
        level: Parity,
        file_id: FileId,
        group: u64,
        content: &[u8],
        end: u64,
    ) -> io::Result<Vec<u8>> {
        let slots = Slots::new(level);
        let units = (content.len() / UNIT_BYTES) as u64;
        let parity = slots.parity_units(units);
        let mut checksums = Vec::with_capacity((units + parity) as usize);
        let start = group.saturating_mul(GROUP_BYTES);
        for (unit, bytes) in content.chunks_exact(UNIT_BYTES).enumerate() {
            let offset = start.saturating_add(unit as u64 * UNIT);
            checksums.push(block_checksum(file_id, offset, bytes));
        }
        let refused = io::Error::other::<reed_solomon_simd::Error>;
        let (shards, recovery) = (units as usize, parity as usize);
        let mut coder = match self.coder.take() {
            Some(mut coder) => {
                coder.reset(shards, recovery, UNIT_BYTES).map_err(refused)?;
                coder
            }
            None => ReedSolomonEncoder::new(shards, recovery, UNIT_BYTES).map_err(refused)?,
        };
        for unit in content.chunks_exact(UNIT_BYTES) {
            coder.add_original_shard(unit).map_err(refused)?;
        }
        let slot_bytes = slots.slot_bytes() as usize;
        let mut slot = vec![0; UNIT_BYTES];
        slot.reserve_exact(slot_bytes - UNIT_BYTES);
        for (unit, shard) in (0..).zip(coder.encode().map_err(refused)?.recovery_iter()) {
            let offset = slots.parity(group, unit);
            checksums.push(block_checksum(file_id, offset, shard));
            slot.extend_from_slice(shard);
        }
        self.coder = Some(coder);
        slot.resize(slot_bytes - UNIT_BYTES, 0);
        let table = GroupTable {
            level,
            group,
            units,
            end,
            checksums,
        };
        let [first, second] = slots.tables(group);
        if let Some(room) = slot.get_mut(..UNIT_BYTES) {
            room.copy_from_slice(&table.encode(file_id, first));
        }
        slot.extend_from_slice(&table.encode(file_id, second));
        Ok(slot)
    }
}

/// Reads a group, and puts together again what of its content isn't as it was written: its bytes, and where units of it
/// were bad. Reads parity only if there are any.
///
/// # Errors
/// More is lost than parity makes up for.
pub fn restore(
    content: &dyn Units,
    parity: &dyn Units,
    table: &GroupTable,
    file_id: FileId,
) -> Result<Healed, Unhealable> {
    let units = table.units as usize;
    let range = table.content();
    let mut group = Group {
        start: range.start,
        content: Vec::with_capacity(units),
        parity: Vec::new(),
        checksums: table.checksums.get(..units).unwrap_or_default().to_vec(),
        file_id,
    };
    for (offset, &checksum) in range.step_by(UNIT_BYTES).zip(&group.checksums) {
        let unit = good_unit(content, file_id, offset, UNIT_BYTES, checksum);
        group.content.push(unit);
    }
    if group.content.iter().all(Option::is_some) {
        return group.complete();
    }
    let slots = Slots::new(table.level);
    let checksums = table.checksums.iter().skip(units);
    for (unit, &checksum) in (0..).zip(checksums) {
        let offset = slots.parity(table.group, unit);
        let unit = good_unit(parity, file_id, offset, UNIT_BYTES, checksum);
        group.parity.push(unit);
    }
    group.complete()
}

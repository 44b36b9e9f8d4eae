//! Puts lost units of a protected file together again.

use std::collections::BTreeMap;
use std::ops::Range;

use reed_solomon_simd::ReedSolomonDecoder;

use super::table::{decode_piece, piece_of};
use super::{Geometry, UNIT_BYTES};
use crate::codec::block_checksum;
use crate::types::FileId;

const UNIT: u64 = UNIT_BYTES as u64;

/// Where the bytes of a protected file come from.
pub trait Units {
    /// Fills `buffer` with what stands at `offset`; `false` if the disk can't say, or the file ends before.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> bool;
}

impl<F: Fn(u64, &mut [u8]) -> bool> Units for F {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        self(offset, buffer)
    }
}

/// Content as it was written, and what had been wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healed {
    /// The bytes that were asked for.
    pub bytes: Vec<u8>,
    /// Offsets of the units of content that were put together again, in order.
    pub units: Vec<u64>,
}

/// Why content can't be put together again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unhealable {
    /// The file has no parity, or the range isn't in its content.
    #[error("there is no parity for it")]
    Unprotected,
    /// More of a group is lost than its parity makes up for.
    #[error("{lost} units are lost of a group whose parity has {parity} good ones left")]
    TooMuch {
        /// Units of content that are lost.
        lost: u64,
        /// Good units of parity.
        parity: u64,
    },
    /// Both copies of the table are bad where it is needed.
    #[error("both copies of the checksums are damaged")]
    NoChecksums,
}

/// Reads `range` of the content, and puts together again what of it is not as it was written.
///
/// Reads the groups that the range touches, whole, and takes memory for one of them and for the range.
/// What it returns has been checked against the table, unit by unit, wherever it comes from.
///
/// # Errors
/// Nothing is returned unless all of it is right.
pub fn heal(
    units: &dyn Units,
    geometry: &Geometry,
    file_id: FileId,
    range: Range<u64>,
) -> Result<Healed, Unhealable> {
    let inside = range.start < range.end && range.end <= geometry.content_bytes();
    if geometry.groups() == 0 || !inside {
        return Err(Unhealable::Unprotected);
    }
    let first = geometry.group_of(range.start / UNIT);
    let last = geometry.group_of((range.end - 1) / UNIT);
    let mut healed = Healed::default();
    for group in first..=last {
        let content = Group::read(units, geometry, file_id, group)?.complete()?;
        let start = geometry.group(group).start * UNIT;
        let end = start + content.bytes.len() as u64;
        let wanted = range.start.max(start)..range.end.min(end);
        let wanted = (wanted.start - start) as usize..(wanted.end - start) as usize;
        let bytes = content.bytes.get(wanted).unwrap_or_default();
        healed.bytes.extend_from_slice(bytes);
        let in_range = |offset: &u64| *offset < range.end && *offset + UNIT > range.start;
        healed
            .units
            .extend(content.units.into_iter().filter(in_range));
    }
    Ok(healed)
}

/// One group as it is on the disk: which of its units are as they were written.
pub(super) struct Group {
    /// Offset of the first unit.
    pub(super) start: u64,
    pub(super) content: Vec<Unit>,
    pub(super) parity: Vec<Unit>,
    pub(super) checksums: Vec<u64>,
    pub(super) file_id: FileId,
}

/// A unit's bytes; `None` if they are lost.
pub(super) type Unit = Option<Vec<u8>>;

impl Group {
    fn read(
        units: &dyn Units,
        geometry: &Geometry,
        file_id: FileId,
        group: u64,
    ) -> Result<Self, Unhealable> {
        let mut table = Table::new(units, geometry, file_id);
        let numbers = geometry.group(group);
        let content: Result<Vec<_>, _> = numbers.clone().map(|unit| table.get(unit)).collect();
        let checksums = content?;
        let of_unit = |unit: u64| unit * UNIT;
        let end = geometry.content_bytes();
        let content = numbers.clone().zip(&checksums).map(|(unit, &checksum)| {
            let offset = of_unit(unit);
            let there = (end - offset).min(UNIT) as usize;
            good_unit(units, file_id, offset, there, checksum)
        });
        let content = content.collect();
        let mut parity = Vec::new();
        for unit in geometry.group_parity(group) {
            let offset = geometry.parity_offset(unit);
            // A unit of parity whose checksum is lost is as good as lost.
            let checksum = table.get(geometry.content_units() + unit).ok();
            let good = |checksum| good_unit(units, file_id, offset, UNIT_BYTES, checksum);
            parity.push(checksum.and_then(good));
        }
        Ok(Self {
            start: of_unit(numbers.start),
            content,
            parity,
            checksums,
            file_id,
        })
    }

    /// The whole content of the group.
    pub(super) fn complete(mut self) -> Result<Healed, Unhealable> {
        let lost: Vec<usize> = (0..self.content.len())
            .filter(|&unit| self.content.get(unit).is_some_and(Option::is_none))
            .collect();
        if !lost.is_empty() {
            self.restore(&lost)?;
        }
        let bytes: Vec<u8> = self.content.into_iter().flatten().flatten().collect();
        let offsets = lost.iter().map(|&unit| self.start + unit as u64 * UNIT);
        Ok(Healed {
            bytes,
            units: offsets.collect(),
        })
    }

    fn restore(&mut self, lost: &[usize]) -> Result<(), Unhealable> {
        let good = self.parity.iter().flatten().count();
        let too_much = Unhealable::TooMuch {
            lost: lost.len() as u64,
            parity: good as u64,
        };
        if lost.len() > good {
            return Err(too_much);
        }
        let restored = self.decode().ok_or(too_much)?;
        for &unit in lost {
            let bytes = restored.get(&unit).ok_or(too_much)?;
            let offset = self.start + unit as u64 * UNIT;
            let checksum = block_checksum(self.file_id, offset, bytes);
            // The checksums vouch for every unit that went in; should the code fail all the same, what came
            // out is not passed on.
            if self.checksums.get(unit) != Some(&checksum) {
                return Err(too_much);
            }
            if let Some(place) = self.content.get_mut(unit) {
                *place = Some(bytes.clone());
            }
        }
        Ok(())
    }

    /// The lost units, by their place in the group.
    fn decode(&self) -> Option<BTreeMap<usize, Vec<u8>>> {
        let (units, parity) = (self.content.len(), self.parity.len());
        let mut decoder = ReedSolomonDecoder::new(units, parity, UNIT_BYTES).ok()?;
        for (place, unit) in self.content.iter().enumerate() {
            if let Some(unit) = unit {
                decoder.add_original_shard(place, unit).ok()?;
            }
        }
        for (place, unit) in self.parity.iter().enumerate() {
            if let Some(unit) = unit {
                decoder.add_recovery_shard(place, unit).ok()?;
            }
        }
        let restored = decoder.decode().ok()?;
        let restored = restored.restored_original_iter();
        Some(
            restored
                .map(|(place, unit)| (place, unit.to_vec()))
                .collect(),
        )
    }
}

/// A unit of which `there` bytes are in the file, filled up with zeros, if its checksum is right.
pub(super) fn good_unit(
    units: &dyn Units,
    file_id: FileId,
    offset: u64,
    there: usize,
    checksum: u64,
) -> Option<Vec<u8>> {
    let mut unit = vec![0; UNIT_BYTES];
    if !units.read(offset, unit.get_mut(..there)?) {
        return None;
    }
    (block_checksum(file_id, offset, &unit) == checksum).then_some(unit)
}

/// The two copies of the table, read piece by piece as they are needed.
pub(super) struct Table<'a> {
    units: &'a dyn Units,
    geometry: &'a Geometry,
    file_id: FileId,
    /// The piece read last, by where it begins in a table.
    piece: Option<(u64, Option<Vec<u64>>)>,
}

impl<'a> Table<'a> {
    pub(super) fn new(units: &'a dyn Units, geometry: &'a Geometry, file_id: FileId) -> Self {
        Self {
            units,
            geometry,
            file_id,
            piece: None,
        }
    }

    /// The checksum with this number.
    pub(super) fn get(&mut self, checksum: u64) -> Result<u64, Unhealable> {
        let (range, place) = piece_of(checksum, self.geometry.checksums());
        if self
            .piece
            .as_ref()
            .is_none_or(|(start, _)| *start != range.start)
        {
            let piece = self.read(&range);
            self.piece = Some((range.start, piece));
        }
        let piece = self.piece.as_ref().and_then(|(_, piece)| piece.as_ref());
        let found = piece.and_then(|piece| piece.get(place));
        found.copied().ok_or(Unhealable::NoChecksums)
    }

    /// A piece from whichever copy has it.
    fn read(&self, range: &Range<u64>) -> Option<Vec<u64>> {
        let tables = self.geometry.tables().into_iter();
        tables.filter_map(|table| self.read_at(table, range)).next()
    }

    fn read_at(&self, table: u64, range: &Range<u64>) -> Option<Vec<u64>> {
        let offset = table.checked_add(range.start)?;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        if !self.units.read(offset, &mut bytes) {
            return None;
        }
        decode_piece(self.file_id, offset, &bytes)
    }
}

//! The parts of a trailer, and whether they are as they were written.

use std::ops::Range;

use super::heal::{Table, Units};
use super::table::{TAIL_BYTES, Tail, encode};
use super::{Geometry, UNIT_BYTES};
use crate::codec::block_checksum;
use crate::types::{FileId, Parity};

/// A part of a trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailerPart {
    /// The first copy of the table, and the zeros behind it.
    FirstTable,
    /// The parity of a group.
    Parity {
        /// Which group.
        group: u64,
    },
    /// The second copy of the table.
    SecondTable,
}

impl TrailerPart {
    /// The part in words, for messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstTable => "first table of checksums",
            Self::Parity { .. } => "parity",
            Self::SecondTable => "second table of checksums",
        }
    }
}

/// What a file's trailer must say.
pub struct Trailer {
    geometry: Geometry,
    file_id: FileId,
    level: Parity,
    /// Of every unit of content and of parity; `None` where both copies of the table are bad.
    checksums: Vec<Option<u64>>,
}

impl Trailer {
    /// Reads both copies of the table of a file.
    #[must_use]
    pub fn read(units: &dyn Units, level: Parity, content_bytes: u64, file_id: FileId) -> Self {
        let geometry = Geometry::new(level, content_bytes);
        let mut table = Table::new(units, &geometry, file_id);
        let checksums = match geometry.groups() {
            0 => 0,
            _ => geometry.checksums(),
        };
        let checksums = (0..checksums).map(|number| table.get(number).ok());
        let checksums = checksums.collect();
        Self {
            geometry,
            file_id,
            level,
            checksums,
        }
    }

    /// Its parts, and where they lie, in the order of the file.
    pub fn parts(&self) -> impl Iterator<Item = (TrailerPart, Range<u64>)> + use<> {
        let geometry = self.geometry;
        let [first, second] = geometry.tables();
        let parity = (0..geometry.groups()).map(move |group| {
            let units = geometry.group_parity(group);
            let place = geometry.parity_offset(units.start)..geometry.parity_offset(units.end);
            (TrailerPart::Parity { group }, place)
        });
        let tables = [
            (TrailerPart::FirstTable, first..geometry.parity_offset(0)),
            (TrailerPart::SecondTable, second..geometry.file_bytes()),
        ];
        let [first, second] = tables.map(|table| (geometry.groups() > 0).then_some(table));
        first.into_iter().chain(parity).chain(second)
    }

    /// Whether a part is what it must be.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check(&self, part: TrailerPart, bytes: &[u8]) -> Result<(), String> {
        let name = part.name();
        let [first, second] = self.geometry.tables();
        match part {
            TrailerPart::Parity { group } => self.check_parity(group, bytes),
            TrailerPart::FirstTable => self.check_table(first, bytes),
            TrailerPart::SecondTable => self.check_table(second, bytes),
        }
        .map_err(|what| format!("{name}: {what}"))
    }

    fn check_parity(&self, group: u64, bytes: &[u8]) -> Result<(), String> {
        for (unit, bytes) in self
            .geometry
            .group_parity(group)
            .zip(bytes.chunks(UNIT_BYTES))
        {
            let number =
                usize::try_from(self.geometry.content_units() + unit).unwrap_or(usize::MAX);
            let Some(stored) = self.checksums.get(number).copied().flatten() else {
                return Err("its checksum is damaged in both tables".into());
            };
            let offset = self.geometry.parity_offset(unit);
            if block_checksum(self.file_id, offset, bytes) != stored {
                return Err(format!("checksum mismatch in the block at {offset}"));
            }
        }
        Ok(())
    }

    /// A table is what follows from its checksums, to the byte.
    fn check_table(&self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let checksums: Option<Vec<u64>> = self.checksums.iter().copied().collect();
        let Some(checksums) = checksums else {
            return Err("it is damaged where the other copy is as well".into());
        };
        let tail = Tail {
            level: self.level,
            content_bytes: self.geometry.content_bytes(),
            file_id: self.file_id,
        };
        let mut expected = encode(self.file_id, offset, &checksums, tail);
        expected.resize(bytes.len().max(expected.len()), 0);
        let differs = expected.iter().zip(bytes).position(|(a, b)| a != b);
        match differs {
            None if expected.len() == bytes.len() => Ok(()),
            None => Err("it is cut short".into()),
            Some(at) => Err(format!("byte {at} of it is not as it was written")),
        }
    }
}

/// How a file of so many bytes lies, if it is protected and says so: at its end, or, where that is damaged, behind
/// the first table.
#[must_use]
pub fn find_tail(units: &dyn Units, file_bytes: u64) -> Option<Tail> {
    let read = |offset: u64| {
        let mut tail = [0; TAIL_BYTES];
        units.read(offset, &mut tail).then_some(tail)
    };
    let last = file_bytes.checked_sub(TAIL_BYTES as u64)?;
    if let Some(tail) = read(last).and_then(|tail| Tail::decode(&tail, last, file_bytes)) {
        return Some(tail);
    }
    [Parity::Standard, Parity::Strong]
        .into_iter()
        .find_map(|level| {
            let reached = |wanted: u64| first_content_of(level, wanted, file_bytes);
            let (from, to) = (reached(file_bytes), reached(file_bytes.saturating_add(1)));
            (from..to).find_map(|content_bytes| {
                let geometry = Geometry::new(level, content_bytes);
                let offset =
                    content_bytes.saturating_add(geometry.table_bytes() - TAIL_BYTES as u64);
                let tail = Tail::decode(&read(offset)?, offset, file_bytes)?;
                (tail.content_bytes == content_bytes).then_some(tail)
            })
        })
}

/// The least content with which a file is no shorter than `file_bytes`; no more than `at_most`.
fn first_content_of(level: Parity, file_bytes: u64, at_most: u64) -> u64 {
    let (mut low, mut high) = (0, at_most);
    while low < high {
        let middle = low.midpoint(high);
        if Geometry::new(level, middle).file_bytes() < file_bytes {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

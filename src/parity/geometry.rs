//! Where everything lies in a protected file. All of it follows from the content's length and the level.

use std::ops::Range;

use super::table::table_bytes;
use super::{GROUP_UNITS, UNIT_BYTES};
use crate::types::Parity;

const UNIT: u64 = UNIT_BYTES as u64;

/// Where content, tables and parity of one file lie. Offsets saturate, so that no length is too much for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    content_bytes: u64,
    /// Units of parity of a whole group; 0 if there is none.
    group_parity: u64,
}

impl Geometry {
    /// That of a file with so much content and this level.
    #[must_use]
    pub fn new(level: Parity, content_bytes: u64) -> Self {
        Self {
            content_bytes,
            group_parity: level.units_per_group(),
        }
    }

    /// Bytes of content.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// Units of content.
    #[must_use]
    pub fn content_units(&self) -> u64 {
        self.content_bytes.div_ceil(UNIT)
    }

    /// Groups.
    #[must_use]
    pub fn groups(&self) -> u64 {
        match self.group_parity {
            0 => 0,
            _ => self.content_units().div_ceil(GROUP_UNITS),
        }
    }

    /// The units of content in this group.
    #[must_use]
    pub fn group(&self, group: u64) -> Range<u64> {
        let start = group.saturating_mul(GROUP_UNITS);
        let end = start.saturating_add(GROUP_UNITS);
        start..end.min(self.content_units())
    }

    /// The group that this unit of content is in.
    #[must_use]
    pub fn group_of(&self, unit: u64) -> u64 {
        unit / GROUP_UNITS
    }

    /// Units of parity that a group of `units` has. The last one of several has as many as the others, or one
    /// for each of its own: what a run of bad sectors destroys doesn't shrink with it.
    #[must_use]
    pub fn parity_of(&self, units: u64) -> u64 {
        match self.content_units() <= GROUP_UNITS {
            true => (units * self.group_parity).div_ceil(GROUP_UNITS),
            false => units.min(self.group_parity),
        }
    }

    /// The units of parity of this group, counted over the whole file.
    #[must_use]
    pub fn group_parity(&self, group: u64) -> Range<u64> {
        let start = group.saturating_mul(self.group_parity);
        let units = self.group(group);
        let units = units.end.saturating_sub(units.start);
        start..start.saturating_add(self.parity_of(units))
    }

    /// Units of parity in the file.
    #[must_use]
    pub fn parity_units(&self) -> u64 {
        match self.groups() {
            0 => 0,
            groups => self.group_parity(groups - 1).end,
        }
    }

    /// Checksums in a table.
    #[must_use]
    pub fn checksums(&self) -> u64 {
        self.content_units() + self.parity_units()
    }

    /// Bytes of a table with its tail.
    #[must_use]
    pub fn table_bytes(&self) -> u64 {
        table_bytes(self.checksums())
    }

    /// Where the two copies of the table begin.
    #[must_use]
    pub fn tables(&self) -> [u64; 2] {
        let second = self.parity_offset(self.parity_units());
        [self.content_bytes, second]
    }

    /// Where this unit of parity begins.
    #[must_use]
    pub fn parity_offset(&self, unit: u64) -> u64 {
        let first = self.content_bytes.saturating_add(self.table_bytes());
        let first = first.div_ceil(UNIT).saturating_mul(UNIT);
        first.saturating_add(unit.saturating_mul(UNIT))
    }

    /// Length of the whole file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        match self.group_parity {
            0 => self.content_bytes,
            _ => self.tables()[1].saturating_add(self.table_bytes()),
        }
    }
}

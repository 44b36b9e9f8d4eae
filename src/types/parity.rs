//! How much parity files carry.

/// How many lost blocks of a file can be put together again from the rest of it, without any other copy.
///
/// Segments carry it, in their own file. What heals, exactly: `docs/format-parity.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parity {
    /// None: damage is named, and mended only where another copy has the bytes.
    Off,
    /// One block in sixteen (6.7 % more bytes): any bad block of 4 KiB, and in a file of at least a MiB any
    /// run of up to 60 KiB.
    #[default]
    Standard,
    /// One block in eight (13 % more bytes): in a file of at least a MiB any run of up to 124 KiB.
    Strong,
}

impl Parity {
    /// Units of parity for a whole group of 256 units.
    pub(crate) fn units_per_group(self) -> u64 {
        match self {
            Self::Off => 0,
            Self::Standard => 16,
            Self::Strong => 32,
        }
    }

    /// The other way round.
    pub(crate) fn from_units_per_group(units: u64) -> Option<Self> {
        [Self::Off, Self::Standard, Self::Strong]
            .into_iter()
            .find(|level| level.units_per_group() == units)
    }

    /// The byte that stands for it in a manifest.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Standard => 1,
            Self::Strong => 2,
        }
    }

    /// The other way round.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        let all = [Self::Off, Self::Standard, Self::Strong];
        all.into_iter().find(|level| level.byte() == byte)
    }

    /// The name that a report has for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Standard => "standard",
            Self::Strong => "strong",
        }
    }
}

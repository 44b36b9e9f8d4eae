//! How data blocks are compressed.

/// What packs the data blocks of a segment. Each block names its own, so segments of every kind can lie
/// side by side; a block that doesn't shrink by an eighth is stored as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// Bytes as they are.
    #[default]
    None,
    /// LZ4: the quickest; always built in.
    Lz4,
    /// Zstandard, with a dictionary for each segment where that pays: smaller, and slower to read and to
    /// write. Needs the feature `zstd`.
    Zstd,
}

impl Codec {
    /// The byte that stands for it on disk.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    /// Reads the byte that stands for a codec.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its name, as options and messages have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The feature of this crate that it needs and that this build lacks.
    #[must_use]
    pub fn missing_feature(self) -> Option<&'static str> {
        match self {
            Self::Zstd if !cfg!(feature = "zstd") => Some("zstd"),
            _ => None,
        }
    }
}

/// Which codec packs the segments of which level. Most of a large store lies in its last level, and is
/// written there once for many times in the levels above: a slower codec costs the least there and
/// gains the most.
///
/// ```
/// use kintsu::{Codec, Compression};
/// let everywhere = Compression::all(Codec::Lz4);
/// assert_eq!(everywhere.upper, everywhere.last);
/// let by_level = Compression::new(Codec::Lz4, Codec::Zstd);
/// assert_eq!(by_level.last, Codec::Zstd);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Compression {
    /// For what a flush writes, and for all levels but the last.
    pub upper: Codec,
    /// For the last level.
    pub last: Codec,
}

impl Compression {
    /// Nothing is compressed.
    pub const NONE: Self = Self::all(Codec::None);

    /// One codec for the last level, one for those above.
    #[must_use]
    pub const fn new(upper: Codec, last: Codec) -> Self {
        Self { upper, last }
    }

    /// The same codec for every level.
    #[must_use]
    pub const fn all(codec: Codec) -> Self {
        Self::new(codec, codec)
    }

    /// The feature of this crate that it needs and that this build lacks.
    #[must_use]
    pub fn missing_feature(self) -> Option<&'static str> {
        let upper = self.upper.missing_feature();
        upper.or(self.last.missing_feature())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_for_one_codec_each() {
        for byte in 0..=u8::MAX {
            if let Some(codec) = Codec::from_byte(byte) {
                assert_eq!(codec.byte(), byte);
            }
        }
        assert_eq!(Codec::from_byte(3), None);
    }
}

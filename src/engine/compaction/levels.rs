//! How large each level may be. The sizes follow the data, as in "Optimizing Space Amplification in
//! RocksDB" (Dong et al., CIDR 2017): the last level is as large as it is, and each level above may have a
//! tenth of the one below, so that what is superseded is never more than about a ninth of the whole.

use crate::engine::tree::LEVELS_MAX;

/// How many times larger each level is than the one above it.
pub(crate) const LEVEL_FACTOR: u64 = 10;

/// The levels that are in use, and what may be in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The level into which level 0 is compacted; those between are empty.
    pub(crate) base: usize,
    /// Bytes that each level may hold: 0 in those that should be empty, no limit in the last. Nothing is
    /// said of level 0.
    pub(crate) bytes_max: [u64; LEVELS_MAX],
}

impl Shape {
    /// The shape for levels of these sizes; the first one below level 0 that is in use may have up to
    /// `base_bytes`.
    pub(crate) fn of(level_bytes: &[u64; LEVELS_MAX], base_bytes: u64) -> Self {
        const LAST: usize = LEVELS_MAX - 1;
        let largest = level_bytes.iter().skip(1).copied().max().unwrap_or(0);
        let (mut base, mut base_size) = (LAST, largest);
        while base > 1 && base_size > base_bytes {
            base -= 1;
            base_size /= LEVEL_FACTOR;
        }
        let mut bytes_max = [0; LEVELS_MAX];
        // At least a tenth of what it might have: a base of a few bytes would be compacted without end.
        let mut size = base_size.max(base_bytes / LEVEL_FACTOR).max(1);
        for (level, bytes_max) in bytes_max.iter_mut().enumerate().skip(base) {
            *bytes_max = if level == LAST { u64::MAX } else { size };
            size = size.saturating_mul(LEVEL_FACTOR);
        }
        // What is above has to go down, a level at a time: never past what is newer.
        let used = level_bytes.iter().skip(1).position(|bytes| *bytes > 0);
        let base = used.map_or(base, |above| base.min(above + 1));
        Self { base, bytes_max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_store_has_one_level() {
        assert_eq!(Shape::of(&[500, 0, 0, 0, 0, 0, 0], 1000).base, 6);
        assert_eq!(Shape::of(&[500, 0, 0, 0, 0, 0, 1000], 1000).base, 6);
    }

    #[test]
    fn levels_above_the_last_have_a_tenth_each() {
        let shape = Shape::of(&[0, 0, 0, 0, 0, 500, 5_000], 1000);
        assert_eq!((shape.base, shape.bytes_max[5]), (5, 500));
        let shape = Shape::of(&[0, 0, 0, 0, 90, 500, 50_000], 1000);
        assert_eq!(shape.base, 4);
        assert_eq!(shape.bytes_max, [0, 0, 0, 0, 500, 5_000, u64::MAX]);
        let huge = Shape::of(&[0, 0, 0, 0, 0, 0, u64::MAX], 1);
        assert_eq!(huge.base, 1);
    }

    #[test]
    fn a_store_that_has_shrunk_gives_up_its_upper_levels() {
        let shape = Shape::of(&[0, 0, 0, 70, 0, 0, 900], 1000);
        assert_eq!(shape.base, 3);
        assert_eq!(shape.bytes_max, [0, 0, 0, 0, 0, 0, u64::MAX]);
    }

    #[test]
    fn a_base_is_never_tiny() {
        let shape = Shape::of(&[0, 0, 0, 0, 0, 0, 1_001], 1000);
        assert_eq!((shape.base, shape.bytes_max[5]), (5, 100));
    }
}

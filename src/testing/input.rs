//! Decisions made of the bytes that a fuzzer comes up with.

/// Reads decisions from the front of a byte slice; once it is used up, every answer is zero. So any
/// bytes are a valid run, and a shorter input is a shorter run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Whether all of it has been read: time to stop.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let (first, rest) = self.bytes.split_first().unwrap_or((&0, &[]));
        self.bytes = rest;
        *first
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from(self.u32()) | u64::from(self.u32()) << 32
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// A number below `limit`, from as few bytes as will do; 0 if `limit` is 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        let drawn = match limit {
            0..=0x100 => u64::from(self.u8()),
            0x101..=0x1_0000 => u64::from(self.u16()),
            _ => u64::from(self.u32()),
        };
        drawn.checked_rem(limit).unwrap_or(0)
    }

    /// As [`Input::below`], for places in memory.
    pub(crate) fn place(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or(0)
    }

    /// One of the items, of which there is at least one.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.place(items.len())]
    }

    /// A number of the kind that formats stumble over: small, near a power of two, near the end, or
    /// anything.
    pub(crate) fn number(&mut self) -> u64 {
        let kind = self.u8();
        match kind % 8 {
            0 => u64::from(kind / 8),
            1 | 2 => u64::from(self.u8()),
            3 => u64::from(self.u16()),
            4 => (1 << (self.u8() % 64)) + u64::from(kind / 8 % 3),
            5 => (1u64 << (self.u8() % 64)).wrapping_sub(1 + u64::from(kind / 8 % 3)),
            6 => u64::MAX - u64::from(kind / 8),
            _ => self.u64(),
        }
    }

    /// Up to so many bytes, as they stand, after a byte or two of length.
    pub(crate) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let wanted = self.place(most + 1).min(self.bytes.len());
        let (taken, rest) = self.bytes.split_at(wanted);
        self.bytes = rest;
        taken
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_decides_once_and_zeros_follow() {
        let mut input = Input::new(&[7, 1, 2, 0x34, 0x12, 3, 9, 8, 7, 6]);
        assert_eq!((input.u8(), input.flag(), input.flag()), (7, true, false));
        assert_eq!(input.u16(), 0x1234);
        assert_eq!(input.bytes(10), [9, 8, 7]);
        assert_eq!(input.pick(&[1, 2, 3, 4]), 3);
        assert!(input.is_empty());
        assert_eq!((input.u64(), input.below(5), input.below(0)), (0, 0, 0));
        assert_eq!(
            (input.number(), input.bytes(100), input.rest()),
            (0, &[][..], &[][..])
        );
    }

    #[test]
    fn limits_are_kept() {
        let bytes: Vec<u8> = (0..=255).cycle().take(4096).collect();
        let mut input = Input::new(&bytes);
        for limit in [1, 2, 255, 256, 257, 65_536, 65_537, 1 << 40] {
            for _ in 0..50 {
                assert!(input.below(limit) < limit);
            }
        }
    }
}

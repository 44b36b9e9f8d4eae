//! A small, fast generator whose whole sequence follows from its seed.

/// Pseudo-random numbers for tests (splitmix64): the same seed gives the same sequence for ever, so
/// that a failing run can be repeated. Not for secrets.
#[derive(Clone, Debug)]
pub struct SeededRng {
    state: u64,
}

impl SeededRng {
    /// A generator for this seed; every seed is as good as another.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 if `limit` is 0. As good as uniform for limits far below 2⁶⁴.
    pub fn below(&mut self, limit: u64) -> u64 {
        // The high half of a widening product; it needs no division and has no modulo bias to speak of.
        ((u128::from(self.next_u64()) * u128::from(limit)) >> 64) as u64
    }

    /// A number from `from` to `to`, both included; `from` if they are the wrong way round.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        match to.checked_sub(from) {
            Some(u64::MAX) => self.next_u64(),
            Some(span) => from + self.below(span + 1),
            None => from,
        }
    }

    /// True once in `times` on average; never if `times` is 0.
    pub fn one_in(&mut self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(bytes) {
                *to = from;
            }
        }
    }

    /// That many bytes.
    #[must_use]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.fill(&mut bytes);
        bytes
    }

    /// One of the items; `None` if there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(usize::try_from(self.below(items.len() as u64)).ok()?)
    }

    /// Puts the items into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = usize::try_from(self.below(at as u64 + 1)).unwrap_or(at);
            items.swap(at, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_reached_and_not_passed() {
        let mut rng = SeededRng::new(1);
        let below: Vec<u64> = (0..200).map(|_| rng.below(5)).collect();
        assert!((0..5).all(|wanted| below.contains(&wanted)) && below.iter().all(|got| *got < 5));
        let between: Vec<u64> = (0..200).map(|_| rng.between(7, 9)).collect();
        assert!([7, 8, 9].iter().all(|wanted| between.contains(wanted)));
        assert!(between.iter().all(|got| (7..=9).contains(got)));
        assert_eq!(
            (rng.below(0), rng.between(9, 7), rng.between(4, 4)),
            (0, 9, 4)
        );
        assert!(rng.between(0, u64::MAX) > 0);
        assert_eq!((0..1000).filter(|_| rng.one_in(0)).count(), 0);
        assert_eq!((0..1000).filter(|_| rng.one_in(1)).count(), 1000);
        assert!((150..350).contains(&(0..1000).filter(|_| rng.one_in(4)).count()));
    }

    #[test]
    fn items_are_picked_and_shuffled_without_loss() {
        let mut rng = SeededRng::new(2);
        assert_eq!(rng.pick::<u8>(&[]), None);
        let mut items: Vec<u64> = (0..50).collect();
        assert!(items.contains(rng.pick(&items).unwrap()));
        rng.shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<u64>>());
        let bytes = rng.bytes(13);
        assert_eq!(bytes.len(), 13);
        assert!(bytes[8..].iter().any(|byte| *byte != 0));
    }
}

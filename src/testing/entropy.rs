//! Randomness that can be repeated.

use parking_lot::Mutex;

use crate::environment::Entropy;
use crate::vfs::SeededRng;

/// Randomness that follows from a seed: a store driven by one thread draws the same ids and salts
/// in every run.
#[derive(Debug)]
pub struct SeededEntropy {
    rng: Mutex<SeededRng>,
}

impl SeededEntropy {
    /// Randomness for this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Mutex::new(SeededRng::new(seed)),
        }
    }
}

impl Entropy for SeededEntropy {
    fn next_u64(&self) -> u64 {
        self.rng.lock().next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides() {
        let draw = |seed| {
            let entropy = SeededEntropy::new(seed);
            [entropy.next_u64(), entropy.next_u64()]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(1)[0], draw(1)[1]);
        // The published test vector of splitmix64.
        assert_eq!(draw(1_234_567)[0], 6_457_827_717_110_365_317);
    }
}

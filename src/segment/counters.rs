//! Counts of what reads met, kept so that counting costs next to nothing.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that threads don't get in each other's way at: enough for as many threads as read at a time.
const STRIPES: usize = 16;

/// What reads of segments have met since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Blocks that the cache had.
    pub cache_hits: u64,
    /// Blocks that it didn't have.
    pub cache_misses: u64,
    /// Lookups of a key that a filter ended: the segment doesn't hold it.
    pub filter_denials: u64,
    /// Lookups that a filter let pass, of keys that weren't found in the segment.
    pub filter_false_passes: u64,
}

/// One line of a processor's cache, and its neighbour, which is fetched along with it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
    filter_denials: AtomicU64,
    filter_false_passes: AtomicU64,
}

/// The counters behind [`ReadCounts`].
#[derive(Debug, Default)]
pub struct Counters {
    stripes: [Stripe; STRIPES],
}

impl Counters {
    /// The stripe for what is looked for: any well-mixed number that says so.
    #[inline]
    fn stripe(&self, hash: u64) -> &Stripe {
        // The index is below the length, which the compiler sees.
        &self.stripes[hash as usize % STRIPES]
    }

    /// Counts a look into the cache.
    #[inline]
    pub fn cache(&self, hash: u64, hit: bool) {
        let stripe = self.stripe(hash);
        let counter = match hit {
            true => &stripe.cache_hits,
            false => &stripe.cache_misses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a lookup that a filter ended.
    #[inline]
    pub fn denial(&self, hash: u64) {
        let counter = &self.stripe(hash).filter_denials;
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a lookup that a filter let pass for nothing.
    #[inline]
    pub fn false_pass(&self, hash: u64) {
        let counter = &self.stripe(hash).filter_false_passes;
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The sums. Those of one moment only if nobody reads meanwhile.
    pub fn sums(&self) -> ReadCounts {
        let sum = |of: fn(&Stripe) -> &AtomicU64| {
            let each = self.stripes.iter().map(|s| of(s).load(Ordering::Relaxed));
            each.fold(0, u64::wrapping_add)
        };
        ReadCounts {
            cache_hits: sum(|stripe| &stripe.cache_hits),
            cache_misses: sum(|stripe| &stripe.cache_misses),
            filter_denials: sum(|stripe| &stripe.filter_denials),
            filter_false_passes: sum(|stripe| &stripe.filter_false_passes),
        }
    }
}

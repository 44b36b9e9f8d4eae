//! What pins the log: whoever still wants to read it, each with the record from which on.
//!
//! A pin holds the log from its position on only within `Options::log_retained_bytes_max`: beyond that
//! the purge goes on, and whoever comes for what is gone is told so. What recovery needs is never purged,
//! pins or not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::engine::Engine;
use crate::error::Result;
use crate::types::Index;

/// Who pins the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PinKind {
    /// A subscription of the change feed.
    Subscriber,
}

/// A registered position. Its place is shared with the handle, so that moving it on takes no lock.
#[derive(Debug)]
struct Registered {
    kind: PinKind,
    position: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct All {
    next: u64,
    pins: BTreeMap<u64, Registered>,
}

/// Every pin of a store.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    all: Mutex<All>,
}

/// Pins the log until dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Pins>,
    number: u64,
    position: Arc<AtomicU64>,
}

impl Pins {
    /// Pins the log from record `position` on. Waits for a purge that is under way.
    pub(crate) fn register(self: &Arc<Self>, kind: PinKind, position: Index) -> Pin {
        let mut all = self.all.lock();
        let number = all.next;
        all.next += 1;
        let position = Arc::new(AtomicU64::new(position.0));
        let registered = Registered {
            kind,
            position: position.clone(),
        };
        all.pins.insert(number, registered);
        Pin {
            pins: self.clone(),
            number,
            position,
        }
    }

    /// How many pins of a kind there are.
    pub(crate) fn count(&self, kind: PinKind) -> usize {
        let all = self.all.lock();
        all.pins.values().filter(|pin| pin.kind == kind).count()
    }

    /// The lowest record that is pinned, in a log that begins at `first`.
    pub(crate) fn lowest(&self, first: Index) -> Option<Index> {
        self.all.lock().lowest(first)
    }

    /// Calls `purge` with the lowest record that is pinned; nobody registers meanwhile.
    pub(crate) fn while_purging<T>(
        &self,
        first: Index,
        purge: impl FnOnce(Option<Index>) -> T,
    ) -> T {
        let all = self.all.lock();
        let lowest = all.lowest(first);
        purge(lowest)
    }
}

impl All {
    /// A pin below the log's first record holds nothing any more, until it is moved on.
    fn lowest(&self, first: Index) -> Option<Index> {
        let positions = self.pins.values();
        positions
            .map(|pin| Index(pin.position.load(Ordering::Acquire)))
            .filter(|position| *position >= first)
            .min()
    }
}

impl Pin {
    /// Lets go of what lies before record `position`.
    pub(crate) fn advance(&self, position: Index) {
        self.position.fetch_max(position.0, Ordering::AcqRel);
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins.all.lock().pins.remove(&self.number);
    }
}

impl Engine {
    /// Purges the log that nobody needs: neither recovery, of which segments hold everything through
    /// `covered`, nor, as far as the options allow, those who pin it or may come for it.
    pub(super) fn purge_log(&self, covered: Index) {
        // A purge that fails leaves log files behind, which the next one takes.
        if let Err(error) = self.try_to_purge_log(covered) {
            self.latch_if_final(&error);
        }
    }

    fn try_to_purge_log(&self, covered: Index) -> Result<u64> {
        let (options, log) = (&self.options, &self.log);
        self.pins.while_purging(log.first_index(), |lowest| {
            let needless = covered.next();
            let pinned = lowest.unwrap_or(needless);
            let wanted = pinned.min(self.not_yet_archived().unwrap_or(needless));
            let kept_anyway = log.index_within(options.log_retained_bytes_min);
            let over_limit = log.index_within(options.log_retained_bytes_max);
            let before = wanted.min(kept_anyway).max(over_limit).min(needless);
            log.purge_before(before)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_pin_that_still_holds_something_counts() {
        let pins = Arc::new(Pins::default());
        assert_eq!(pins.lowest(Index(0)), None);
        let slow = pins.register(PinKind::Subscriber, Index(5));
        let fast = pins.register(PinKind::Subscriber, Index(9));
        assert_eq!(pins.lowest(Index(1)), Some(Index(5)));
        assert_eq!(pins.lowest(Index(6)), Some(Index(9)));
        slow.advance(Index(7));
        slow.advance(Index(6));
        assert_eq!(pins.lowest(Index(6)), Some(Index(7)));
        drop(slow);
        assert_eq!(pins.lowest(Index(1)), Some(Index(9)));
        assert_eq!(pins.count(PinKind::Subscriber), 1);
        drop(fast);
        assert_eq!(pins.lowest(Index(1)), None);
    }
}

//! What parity had to put together again, for whoever writes those files anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::types::LogNumber;

/// The log files that were found damaged, and that parity makes up for.
#[derive(Default)]
pub(crate) struct Mendings {
    /// Where units begin that aren't as they were written.
    waiting: Mutex<BTreeMap<LogNumber, BTreeSet<u64>>>,
    /// What can't be written anew.
    beyond: Mutex<BTreeMap<LogNumber, BTreeSet<u64>>>,
    units: AtomicU64,
    mended: AtomicU64,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Mendings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mendings")
            .field("waiting", &*self.waiting.lock())
            .finish_non_exhaustive()
    }
}

impl Mendings {
    /// Says whom to wake when there is something to be written anew. Only the first call counts.
    pub fn wake_by(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Notes units of a file that parity put together again.
    pub fn note(&self, number: LogNumber, units: &[u64]) {
        if units.is_empty() || self.beyond.lock().contains_key(&number) {
            return;
        }
        let mut waiting = self.waiting.lock();
        let is_new = !waiting.contains_key(&number);
        let known = waiting.entry(number).or_default();
        let new = units.iter().filter(|unit| known.insert(**unit)).count();
        drop(waiting);
        self.units.fetch_add(new as u64, Ordering::Relaxed);
        if let Some(wake) = self.wake.get().filter(|_| is_new) {
            wake();
        }
    }

    /// Wakes whoever writes files anew if this one waited until it is no longer appended to.
    pub fn sealed(&self, number: LogNumber) {
        let waits = self.waiting.lock().contains_key(&number);
        if let Some(wake) = self.wake.get().filter(|_| waits) {
            wake();
        }
    }

    /// Units that were put together again, each counted once until its file is written anew.
    pub fn units(&self) -> u64 {
        self.units.load(Ordering::Relaxed)
    }

    /// Files written anew.
    pub fn mended(&self) -> u64 {
        self.mended.load(Ordering::Relaxed)
    }

    /// How many are known to be damaged.
    pub fn damaged(&self) -> usize {
        let beyond = self.beyond.lock().len();
        beyond + self.waiting.lock().len()
    }

    /// The files that wait to be written anew.
    pub fn waiting(&self) -> Vec<LogNumber> {
        self.waiting.lock().keys().copied().collect()
    }

    /// Where units of a file begin that were noted.
    pub fn noted(&self, number: LogNumber) -> Vec<u64> {
        let waiting = self.waiting.lock();
        let units = waiting.get(&number).into_iter().flatten();
        units.copied().collect()
    }

    /// Forgets a file: it has been written anew, or is gone.
    pub fn forget(&self, number: LogNumber) {
        self.beyond.lock().remove(&number);
        self.waiting.lock().remove(&number);
    }

    /// Counts a file that was written anew, and forgets it.
    pub fn mended_one(&self, number: LogNumber) {
        self.mended.fetch_add(1, Ordering::Relaxed);
        self.forget(number);
    }

    /// Leaves a file as it is for now: it can't be written anew.
    pub fn give_up(&self, number: LogNumber) {
        let units = self.waiting.lock().remove(&number);
        self.beyond
            .lock()
            .extend(units.map(|units| (number, units)));
    }

    /// Gives what was given up another chance.
    pub fn try_again(&self) {
        let beyond = std::mem::take(&mut *self.beyond.lock());
        self.waiting.lock().extend(beyond);
    }
}

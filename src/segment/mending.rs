//! What reads had to put together again, for whoever writes those files anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::types::{FileId, SegmentNumber};

/// What is known to be wrong with a segment whose content is whole all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mending {
    /// The file's id.
    pub file_id: FileId,
    /// Where units of content begin that aren't as they were written, as far as they were met. None if it is
    /// the parity that is damaged, or the file's length.
    pub units: BTreeSet<u64>,
}

/// The segments of a store that reads found damaged and could put together again.
#[derive(Default)]
pub struct Mendings {
    waiting: Mutex<BTreeMap<SegmentNumber, Mending>>,
    /// What can't be written anew: more is damaged than parity makes up for.
    beyond: Mutex<BTreeMap<SegmentNumber, Mending>>,
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

    /// Notes units of a segment that were put together again, or, with none, that something else than its
    /// content is damaged.
    pub fn note(&self, number: SegmentNumber, file_id: FileId, units: &[u64]) {
        if self.beyond.lock().contains_key(&number) {
            return;
        }
        let mut waiting = self.waiting.lock();
        let none = || Mending {
            file_id,
            units: BTreeSet::new(),
        };
        let known = waiting.contains_key(&number);
        let mending = waiting.entry(number).or_insert_with(none);
        let new = units.iter().filter(|unit| mending.units.insert(**unit));
        let new = new.count() as u64;
        drop(waiting);
        self.units.fetch_add(new, Ordering::Relaxed);
        if let Some(wake) = self.wake.get().filter(|_| !known) {
            wake();
        }
    }

    /// Units of content that were put together again, each counted once until its file is written anew.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.units.load(Ordering::Relaxed)
    }

    /// Segments written anew.
    #[must_use]
    pub fn mended(&self) -> u64 {
        self.mended.load(Ordering::Relaxed)
    }

    /// Counts a segment that was written anew.
    pub fn mended_one(&self) {
        self.mended.fetch_add(1, Ordering::Relaxed);
    }

    /// How many are known to be damaged.
    #[must_use]
    pub fn damaged(&self) -> usize {
        let beyond = self.beyond.lock().len();
        beyond + self.waiting.lock().len()
    }

    /// A segment that waits to be written anew.
    #[must_use]
    pub fn next(&self) -> Option<(SegmentNumber, Mending)> {
        let waiting = self.waiting.lock();
        let first = waiting.first_key_value();
        first.map(|(number, mending)| (*number, mending.clone()))
    }

    /// Whether a segment waits to be written anew.
    #[must_use]
    pub fn waits(&self, number: SegmentNumber) -> bool {
        self.waiting.lock().contains_key(&number)
    }

    /// Forgets a segment: it has been written anew, or is gone.
    pub fn forget(&self, number: SegmentNumber) {
        self.beyond.lock().remove(&number);
        self.waiting.lock().remove(&number);
    }

    /// Gives what was given up another chance.
    pub fn try_again(&self) {
        let beyond = std::mem::take(&mut *self.beyond.lock());
        self.waiting.lock().extend(beyond);
    }

    /// Leaves a segment as it is for now: it can't be written anew.
    pub fn give_up(&self, number: SegmentNumber) {
        let mending = self.waiting.lock().remove(&number);
        self.beyond
            .lock()
            .extend(mending.map(|mending| (number, mending)));
    }
}

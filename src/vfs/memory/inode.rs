//! One file of the simulated disk: what the page cache holds, what the disk holds, and what becomes
//! of the difference when the power fails.

use std::collections::{BTreeMap, BTreeSet};

use super::content::{Content, PAGE, Pages, SECTOR, SECTORS};
use super::{LostPages, TearUnit};
use crate::vfs::random::SeededRng;

/// A file without its names.
///
/// Invariant: where `cached` and `durable` differ, the sector is dirty, or its page was lost by a
/// failed sync.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) cached: Content,
    pub(super) durable: Content,
    /// Pages with unsynced sectors, a bit for each sector.
    dirty: BTreeMap<u64, u8>,
    /// The shortest that the file has been since the last sync, the length then included.
    shortest: u64,
    /// Pages that have room on the disk.
    allocated: Pages,
    /// The same at the last sync.
    allocated_durable: Pages,
    /// Names in the cached view of the folders.
    pub(super) links: u32,
    /// Open handles.
    pub(super) handles: u32,
    /// Pages that can't be read.
    bad: BTreeSet<u64>,
}

impl Inode {
    /// A new, empty file under one name.
    pub(super) fn named() -> Self {
        Self {
            links: 1,
            ..Self::default()
        }
    }

    /// A file whose content is on the disk.
    fn durable(content: Content, allocated: Pages) -> Self {
        Self {
            shortest: content.len(),
            cached: content.clone(),
            durable: content,
            allocated_durable: allocated.clone(),
            allocated,
            ..Self::default()
        }
    }

    /// Pages that these bytes touch can't be read any more, until they are written anew.
    pub(super) fn wear_out(&mut self, from: u64, to: u64) {
        let (from, to) = Pages::span(from, to);
        self.bad.extend(from..to);
    }

    /// Whether these bytes can be read.
    pub(super) fn is_readable(&self, from: u64, to: u64) -> bool {
        let (from, to) = Pages::span(from, to);
        self.bad.range(from..to).next().is_none()
    }

    /// Pages that it takes on the disk.
    pub(super) fn pages(&self) -> u64 {
        self.allocated.count()
    }

    /// Pages that must be found before the bytes `from .. to` have room.
    pub(super) fn pages_missing(&self, from: u64, to: u64) -> u64 {
        let (from, to) = Pages::span(from, to);
        self.allocated.missing(from, to)
    }

    /// Of a write at `from .. to`, the end of the part that fits into `room` more pages.
    pub(super) fn end_that_fits(&self, from: u64, to: u64, room: u64) -> u64 {
        let (first, last) = Pages::span(from, to);
        let fitting =
            (first..last).take_while(|page| self.allocated.missing(first, page + 1) <= room);
        let end = first + fitting.count() as u64;
        (end * PAGE as u64).clamp(from, to)
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        self.cached.write(bytes, offset);
        self.mark_dirty(offset, end);
        let (from, to) = Pages::span(offset, end);
        self.allocated.add(from, to);
        self.bad.retain(|page| !(from..to).contains(page));
    }

    /// Takes room for the first `len` bytes and makes the file at least that long.
    pub(super) fn preallocate(&mut self, len: u64) {
        let (from, to) = Pages::span(0, len);
        self.allocated.add(from, to);
        self.cached.set_len(self.cached.len().max(len));
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.cached.len() {
            let stored: Vec<u64> = self.cached.stored_from(len).collect();
            for page in stored {
                let page_start = page * PAGE as u64;
                self.mark_dirty(page_start.max(len), page_start + PAGE as u64);
            }
            self.allocated.cut(Pages::span(0, len).1);
        }
        self.cached.set_len(len);
        self.shortest = self.shortest.min(len);
    }

    fn mark_dirty(&mut self, from: u64, to: u64) {
        for sector in from / SECTOR as u64..to.div_ceil(SECTOR as u64) {
            let mask = self.dirty.entry(sector / SECTORS as u64).or_default();
            *mask |= 1 << (sector % SECTORS as u64);
        }
    }

    /// Writes the dirty sectors and the length to the disk.
    pub(super) fn sync(&mut self) {
        self.durable.set_len(self.shortest.min(self.durable.len()));
        for (page, mask) in std::mem::take(&mut self.dirty) {
            self.durable.copy_sectors(&self.cached, page, mask);
        }
        self.durable.set_len(self.cached.len());
        self.shortest = self.cached.len();
        self.allocated_durable = self.allocated.clone();
    }

    /// What a failed sync leaves: the dirty sectors count as clean and never reach the disk. The
    /// length stays unsynced.
    pub(super) fn lose(&mut self, lost: LostPages) {
        self.dirty.clear();
        if lost == LostPages::Reverted {
            self.drop_cache();
        }
    }

    /// Forgets the clean sectors, so that they are read from the disk again.
    pub(super) fn drop_cache(&mut self) {
        let mut fresh = self.durable.clone();
        fresh.set_len(self.shortest.min(fresh.len()));
        for (page, mask) in &self.dirty {
            fresh.copy_sectors(&self.cached, *page, *mask);
        }
        fresh.set_len(self.cached.len());
        self.cached = fresh;
    }

    /// Applies a change to what is cached and to what is durable.
    pub(super) fn rewrite(&mut self, change: impl Fn(&mut Content)) {
        change(&mut self.cached);
        change(&mut self.durable);
        let len = self.cached.len();
        self.shortest = self.shortest.min(len);
        self.allocated.cut(Pages::span(0, len).1);
        self.allocated_durable
            .cut(Pages::span(0, self.durable.len()).1);
        let stored: Vec<u64> = self.cached.stored_from(0).collect();
        for page in stored {
            self.allocated.add(page, page + 1);
            self.allocated_durable.add(page, page + 1);
        }
    }

    /// The file after a loss of power.
    pub(super) fn crash(&self, rng: &mut SeededRng, unit: TearUnit) -> Self {
        let mut content = self.durable.clone();
        if self.shortest < content.len() && rng.one_in(2) {
            content.set_len(self.shortest);
        }
        let len = surviving_len(content.len(), self.cached.len(), rng);
        let odds = Odds::draw(rng);
        for (page, mask) in &self.dirty {
            match unit {
                TearUnit::Page => self.tear(&mut content, *page, *mask, (0, PAGE), &odds, rng),
                TearUnit::Sector => {
                    for sector in (0..SECTORS).filter(|sector| mask & (1 << sector) != 0) {
                        let place = (sector * SECTOR, SECTOR);
                        self.tear(&mut content, *page, 1 << sector, place, &odds, rng);
                    }
                }
            }
        }
        content.set_len(len);
        let mut allocated = self.allocated_durable.clone();
        allocated.add_all(&self.allocated);
        allocated.cut(Pages::span(0, len).1);
        Self {
            bad: self.bad.clone(),
            ..Self::durable(content, allocated)
        }
    }

    /// Decides what becomes of one unit: a page, or a part of it.
    fn tear(
        &self,
        content: &mut Content,
        page: u64,
        mask: u8,
        (from, bytes): (usize, usize),
        odds: &Odds,
        rng: &mut SeededRng,
    ) {
        match odds.outcome(rng) {
            Outcome::Kept => content.copy_sectors(&self.cached, page, mask),
            Outcome::Dropped => {}
            Outcome::Garbled => {
                content.put(&rng.bytes(bytes), page * PAGE as u64 + from as u64);
            }
        }
    }
}

/// The length after a loss of power, given that on the disk and the unsynced one. Only growth is in
/// doubt here; a file system may write the length at any point of it.
fn surviving_len(durable: u64, cached: u64, rng: &mut SeededRng) -> u64 {
    if cached <= durable {
        return durable;
    }
    match rng.below(8) {
        0..3 => durable,
        3..6 => cached,
        6 => rng.between(durable, cached),
        _ => rng
            .between(durable, cached)
            .next_multiple_of(PAGE as u64)
            .min(cached),
    }
}

/// What becomes of an unsynced unit.
enum Outcome {
    Kept,
    Dropped,
    Garbled,
}

/// Weights of the outcomes. They are drawn for each file, so that "all of it" and "none of it"
/// occur beside every mixture however many units there are.
struct Odds {
    kept: u64,
    dropped: u64,
    garbled: u64,
}

impl Odds {
    fn draw(rng: &mut SeededRng) -> Self {
        let (kept, dropped, garbled) = match rng.below(8) {
            0 => (1, 0, 0),
            1 => (0, 1, 0),
            2 => (0, 0, 1),
            3 => (8, 1, 1),
            4 => (1, 8, 1),
            5 => (1, 1, 0),
            _ => (1, 1, 1),
        };
        Self {
            kept,
            dropped,
            garbled,
        }
    }

    fn outcome(&self, rng: &mut SeededRng) -> Outcome {
        let drawn = rng.below(self.kept + self.dropped + self.garbled);
        if drawn < self.kept {
            Outcome::Kept
        } else if drawn < self.kept + self.dropped {
            Outcome::Dropped
        } else {
            Outcome::Garbled
        }
    }
}

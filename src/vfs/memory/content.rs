//! The bytes of a file, stored sparsely, and the room that they take.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a page: what is stored, allocated and shared as a whole.
pub(super) const PAGE: usize = 4096;
/// Bytes of a sector: what is known to be dirty or clean.
pub(super) const SECTOR: usize = 512;
/// Sectors of a page.
pub(super) const SECTORS: usize = PAGE / SECTOR;

const ZEROS: &[u8; PAGE] = &[0; PAGE];

/// A file's bytes. Pages that were never written are zero and aren't stored; copies share pages
/// until one side writes.
///
/// Invariant: bytes of stored pages at or past `len` are zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    len: u64,
    pages: Arc<BTreeMap<u64, Arc<[u8; PAGE]>>>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads until the buffer is full or the file ends.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = left.min(buffer.len());
        let mut done = 0;
        while done < bytes {
            let (page, from) = split(offset + done as u64);
            let part = (PAGE - from).min(bytes - done);
            buffer[done..done + part].copy_from_slice(&self.page(page)[from..from + part]);
            done += part;
        }
        bytes
    }

    /// All of it.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.len).unwrap_or(usize::MAX)];
        self.read(&mut bytes, 0);
        bytes
    }

    /// Writes, lengthening if need be. `offset` plus the length must not overflow.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.len = self.len.max(offset + bytes.len() as u64);
        self.put(bytes, offset);
    }

    /// Writes without lengthening: whoever passes the end must call [`Content::set_len`] after.
    pub(super) fn put(&mut self, bytes: &[u8], offset: u64) {
        let pages = Arc::make_mut(&mut self.pages);
        let mut done = 0;
        while done < bytes.len() {
            let (page, from) = split(offset + done as u64);
            let part = (PAGE - from).min(bytes.len() - done);
            let new = &bytes[done..done + part];
            // Zeros over what is zero already need no page.
            if pages.contains_key(&page) || *new != ZEROS[..part] {
                let stored = pages.entry(page).or_insert_with(|| Arc::new(*ZEROS));
                Arc::make_mut(stored)[from..from + part].copy_from_slice(new);
            }
            done += part;
        }
    }

    /// Cuts or lengthens with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        self.len = len;
        let (page, from) = split(len);
        if self.pages.range(page..).next().is_none() {
            return;
        }
        let pages = Arc::make_mut(&mut self.pages);
        let mut cut = pages.split_off(&page);
        if let Some(mut last) = cut.remove(&page)
            && from > 0
        {
            Arc::make_mut(&mut last)[from..].fill(0);
            pages.insert(page, last);
        }
    }

    /// Numbers of the stored pages that reach past `offset`.
    pub(super) fn stored_from(&self, offset: u64) -> impl Iterator<Item = u64> {
        self.pages
            .range(offset / PAGE as u64..)
            .map(|(page, _)| *page)
    }

    /// A page's bytes.
    pub(super) fn page(&self, page: u64) -> &[u8; PAGE] {
        self.pages.get(&page).map_or(ZEROS, |stored| stored)
    }

    /// Takes over the sectors of a page that are set in `mask` from another content; the length
    /// stays.
    pub(super) fn copy_sectors(&mut self, from: &Self, page: u64, mask: u8) {
        if mask == u8::MAX {
            let pages = Arc::make_mut(&mut self.pages);
            match from.pages.get(&page) {
                Some(stored) => pages.insert(page, Arc::clone(stored)),
                None => pages.remove(&page),
            };
            return;
        }
        for sector in (0..SECTORS).filter(|sector| mask & (1 << sector) != 0) {
            let at = sector * SECTOR;
            let offset = page * PAGE as u64 + at as u64;
            self.put(&from.page(page)[at..at + SECTOR], offset);
        }
    }
}

/// Page number and place in the page.
fn split(offset: u64) -> (u64, usize) {
    (offset / PAGE as u64, (offset % PAGE as u64) as usize)
}

/// A set of page numbers as ranges: sorted, apart from each other, not empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages(Vec<(u64, u64)>);

impl Pages {
    /// The pages that hold the bytes `from .. to`.
    pub(super) fn span(from: u64, to: u64) -> (u64, u64) {
        (from / PAGE as u64, to.div_ceil(PAGE as u64))
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }

    /// How many of `from .. to` aren't there.
    pub(super) fn missing(&self, from: u64, to: u64) -> u64 {
        let held = self
            .0
            .iter()
            .map(|range| range.1.min(to).saturating_sub(range.0.max(from)));
        to.saturating_sub(from) - held.sum::<u64>()
    }

    /// Adds `from .. to`.
    pub(super) fn add(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (mut from, mut to) = (from, to);
        self.0.retain(|range| {
            let apart = range.1 < from || to < range.0;
            if !apart {
                from = from.min(range.0);
                to = to.max(range.1);
            }
            apart
        });
        let at = self.0.partition_point(|range| range.0 < from);
        self.0.insert(at, (from, to));
    }

    /// Removes everything from `from` on.
    pub(super) fn cut(&mut self, from: u64) {
        self.0.retain_mut(|range| {
            range.1 = range.1.min(from);
            range.0 < range.1
        });
    }

    /// Adds all of another set.
    pub(super) fn add_all(&mut self, other: &Self) {
        for (from, to) in &other.0 {
            self.add(*from, *to);
        }
    }
}

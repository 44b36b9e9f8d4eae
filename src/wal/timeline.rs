//! Which records of the log count, and where to begin reading for an index.
//!
//! A record whose index isn't above the last one supersedes everything from that index on. So a
//! record counts if no later one has its index or a lower one. Kept for that:
//! - **events**, positions at which something was superseded, with the index from which on. A later
//!   event with a lower index makes an earlier one needless, so indexes rise with positions, and one
//!   binary search tells whether a record counts;
//! - **points**, every so many bytes the position and index of a record that counts.
//!
//! Timelines of consecutive stretches of log can be joined, so each is made without knowing what
//! came before it.

use std::collections::VecDeque;

use crate::types::{Index, Lsn, Term};

use super::format::RecordKind;

/// How many bytes of log there are between two points, about.
const POINT_BYTES: u64 = 64 << 10;

/// What a timeline has to know of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub lsn: Lsn,
    pub kind: RecordKind,
    pub index: Index,
    pub term: Term,
    pub time_us: u64,
}

impl Mark {
    /// The index from which on the record supersedes what came before it; `None` if it has no index.
    pub fn supersedes(&self) -> Option<Index> {
        supersedes(self.kind, self.index)
    }
}

/// [`Mark::supersedes`] for the parts.
pub(crate) fn supersedes(kind: RecordKind, index: Index) -> Option<Index> {
    match kind {
        RecordKind::End => None,
        RecordKind::Truncate => Some(Index(index.0.saturating_add(1))),
        _ => Some(index),
    }
}

/// A position and an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    lsn: Lsn,
    index: Index,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline {
    points: VecDeque<Point>,
    events: VecDeque<Point>,
    /// Whether there has been any record.
    begun: bool,
    /// The log is without gaps from here on.
    first: Index,
    last: Index,
    last_term: Term,
    last_time_us: u64,
    /// What came before this stretch doesn't join it: there is a gap within.
    detached: bool,
    /// The next record doesn't join what is here.
    hole: bool,
}

impl Timeline {
    /// Whether there has been any record that counts, truncations included.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// The lowest index from which on the log has no gap; one above `last` if it holds nothing.
    pub fn first(&self) -> Index {
        self.first
    }

    /// The highest index that counts; 0 if there never was one.
    pub fn last(&self) -> Index {
        self.last
    }

    /// The term of the record at `last`.
    pub fn last_term(&self) -> Term {
        self.last_term
    }

    /// The latest time of any record.
    pub fn last_time_us(&self) -> u64 {
        self.last_time_us
    }

    /// The lowest index that this stretch supersedes in what came before it.
    pub fn floor(&self) -> Option<Index> {
        self.events.front().map(|event| event.index)
    }

    /// Adds the next record.
    pub fn record(&mut self, mark: &Mark) {
        let Some(from) = mark.supersedes() else {
            return;
        };
        if !self.begun || self.hole {
            self.detached |= self.hole;
            self.points.clear();
            self.first = from;
            self.supersede(mark.lsn, from);
        } else if from.0 > self.last.0.saturating_add(1) {
            // The tree covers the gap (see `Log::skip_to`).
            self.detached = true;
            self.points.clear();
            self.first = from;
        } else if from <= self.last {
            self.supersede(mark.lsn, from);
        }
        self.begun = true;
        self.hole = false;
        self.first = self.first.min(from);
        self.last = mark.index;
        self.last_term = mark.term;
        self.last_time_us = self.last_time_us.max(mark.time_us);
        let spaced = |point: &Point| mark.lsn.0.saturating_sub(point.lsn.0) >= POINT_BYTES;
        if mark.kind != RecordKind::Truncate && self.points.back().is_none_or(spaced) {
            let (lsn, index) = (mark.lsn, mark.index);
            self.points.push_back(Point { lsn, index });
        }
    }

    /// Notes that records are missing here: what follows doesn't join what came before.
    pub fn hole(&mut self) {
        self.hole = true;
    }

    /// Notes a record that is lost, but known to have been here: it counts, and can't be read.
    pub fn lost(&mut self, mark: &Mark) {
        self.record(mark);
        if mark.supersedes().is_some() {
            self.points.clear();
            self.first = Index(mark.index.0.saturating_add(1));
            self.detached = true;
        }
    }

    fn supersede(&mut self, lsn: Lsn, from: Index) {
        while self.points.back().is_some_and(|point| point.index >= from) {
            self.points.pop_back();
        }
        while self.events.back().is_some_and(|event| event.index >= from) {
            self.events.pop_back();
        }
        self.events.push_back(Point { lsn, index: from });
    }

    /// Adds the stretch that comes after this one.
    pub fn join(&mut self, next: Self) {
        if let Some(event) = next.events.front() {
            self.supersede(event.lsn, event.index);
            self.events.pop_back();
        }
        self.events.extend(&next.events);
        if !next.begun {
            self.hole |= next.hole;
            return;
        }
        let floor = next.floor().unwrap_or(next.first);
        let gap = self.begun && floor.0 > self.last.0.saturating_add(1);
        if !self.begun || next.detached || self.hole || gap {
            self.detached |= next.detached || self.hole || gap;
            self.points.clear();
            self.first = next.first;
        } else {
            self.first = self.first.min(floor);
        }
        self.points.extend(&next.points);
        self.begun = true;
        self.hole = next.hole;
        self.last = next.last;
        self.last_term = next.last_term;
        self.last_time_us = self.last_time_us.max(next.last_time_us);
    }

    /// Whether a record counts.
    pub fn counts(&self, lsn: Lsn, index: Index) -> bool {
        let later = self.events.partition_point(|event| event.lsn <= lsn);
        self.events
            .get(later)
            .is_none_or(|event| event.index > index)
    }

    /// The highest index before the position `end` (a file's end, say) that counts; given the last index
    /// that counted there when it was written. What was superseded only after the position `durable`
    /// still counts: a crash may bring it back.
    pub fn top_before(&self, end: Lsn, top: Index, durable: Lsn) -> Index {
        let later = self.events.partition_point(|event| event.lsn < end);
        let event = self.events.get(later).filter(|event| event.lsn < durable);
        event.map_or(top, |event| top.min(Index(event.index.0.saturating_sub(1))))
    }

    /// Where to begin reading so as to meet every record that counts from `index` on; `None` for the
    /// log's beginning.
    pub fn start_for(&self, index: Index) -> Option<Lsn> {
        let after = self.points.partition_point(|point| point.index <= index);
        Some(self.points.get(after.checked_sub(1)?)?.lsn)
    }

    /// The index of a record that counts, at a position or up to about 64 KiB before it; `None` if that isn't known.
    pub fn index_at(&self, lsn: Lsn) -> Option<Index> {
        let after = self.points.partition_point(|point| point.lsn <= lsn);
        Some(self.points.get(after.checked_sub(1)?)?.index)
    }

    /// Forgets what is before a position; the log then begins at `first`.
    pub fn forget_before(&mut self, lsn: Lsn, first: Index) {
        while self.points.front().is_some_and(|point| point.lsn < lsn) {
            self.points.pop_front();
        }
        while self.events.front().is_some_and(|event| event.lsn < lsn) {
            self.events.pop_front();
        }
        self.first = self.first.max(first);
    }

    /// The events alone, for readers.
    pub fn events(&self) -> Self {
        Self {
            events: self.events.clone(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests;

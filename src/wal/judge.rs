//! Judges one log file: scans it, holds what it finds against the identifiers, and asks the table.
//! Pure: reads, and writes nothing. Before anything is judged that isn't clean, parity is asked what should be there.

use std::ops::Range;

use crate::error::Result;
use crate::types::{LogFileMeta, Lsn};

use super::format::{RECORD_HEADER_BYTES_MAX, RecordHeader, RecordKind, UNIT_BYTES};
use super::heal::Healer;
use super::identifiers::{Identifier, IdentifierTable, Lookup};
use super::scan::{Item, Scanner};
use super::source::Source;
use super::table::{IdentifierState, RecordState, Surroundings, Verdict, verdict, verdict_of_good};
use super::timeline::{Mark, Timeline};

/// A stretch of good records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Piece {
    pub timeline: Timeline,
    pub records: u64,
    pub bytes: u64,
}

/// Records that were there and can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub from: Lsn,
    pub to: Lsn,
    pub verdict: Verdict,
    /// What it was, if a single record whose identity is known.
    pub mark: Option<Mark>,
}

/// What a file is made of, in order.
#[derive(Clone, Debug)]
pub(crate) enum Stretch {
    Kept(Piece),
    Lost(Loss),
}

/// How a file's records end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Without a word.
    Open,
    /// With an `End` record that a clean close wrote.
    Closed,
    /// With an `End` record that names the file after it.
    Continued(u64),
}

/// What is known of a file before it is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// Another file of the log with something in it comes after this one.
    pub finished: bool,
    /// Where that file says the log ends in this one.
    pub cut: Option<Lsn>,
}

impl Context {
    /// For a file that comes before `next`, which has something in it.
    pub fn before(next: &LogFileMeta) -> Self {
        Self {
            finished: true,
            cut: Some(next.previous_end_lsn).filter(|lsn| lsn.0 > 0),
        }
    }
}

/// A file, judged.
#[derive(Debug)]
pub(crate) struct Judged {
    pub stretches: Vec<Stretch>,
    /// Where the log ends in this file.
    pub end: Lsn,
    /// Bytes discarded after that.
    pub torn_bytes: u64,
    pub ending: Ending,
    /// Whether the identifiers are all there and sealed.
    pub identified: bool,
}

impl Judged {
    /// Whether there is nothing in the file.
    pub fn is_void(&self) -> bool {
        self.stretches.iter().all(|stretch| match stretch {
            Stretch::Kept(piece) => piece.records == 0,
            Stretch::Lost(_) => false,
        })
    }
}

/// What the scan couldn't keep, to be judged once the whole file has been seen.
#[derive(Debug)]
struct Suspect {
    item: Item,
    /// For a record that is whole but not the one that should be here.
    misplaced: Option<RecordHeader>,
}

/// What the scan of a file found.
#[derive(Debug, Default)]
struct Found {
    /// One more than suspects: what lies before, between and after them.
    pieces: Vec<Piece>,
    suspects: Vec<Suspect>,
    /// The highest watermark.
    watermark: Lsn,
    /// The last whole record.
    last_good: Option<Lsn>,
    end_record: Option<Ending>,
    /// After the last item.
    end: u64,
    /// After the last byte that isn't zero, as far as was looked.
    used: u64,
    all_listed: bool,
}

impl Found {
    /// Where the file isn't clean, as offsets.
    fn doubts(&self, meta: &LogFileMeta) -> Vec<Range<u64>> {
        let offset = |lsn: Lsn| lsn.0.saturating_sub(meta.first_lsn.0);
        let doubts = self.suspects.iter().map(|suspect| match &suspect.item {
            Item::Record(header) => offset(header.lsn)..offset(header.end()),
            Item::Damaged { header, after } => *after..offset(header.end()),
            Item::Gap { from, to, .. } => *from..to.saturating_add(RECORD_HEADER_BYTES_MAX as u64),
            Item::Stray { from, to } => *from..*to,
            Item::Tail { from, .. } => *from..meta.capacity,
        });
        doubts.collect()
    }
}

/// Scans and judges a file. `progress` is told the offset now and then. What `healer` puts together again counts as
/// if the disk had it.
pub(crate) fn judge(
    source: Source,
    meta: &LogFileMeta,
    table: &mut IdentifierTable,
    context: Context,
    healer: &mut Healer,
    progress: &mut dyn FnMut(u64),
) -> Result<Judged> {
    let inside = |lsn: Lsn| {
        lsn.0
            .checked_sub(meta.first_lsn.0)
            .filter(|&at| at >= UNIT_BYTES)
    };
    let limit = context.cut.or(table.sealed()).and_then(inside);
    let mut looks_again = true;
    let (found, proved) = loop {
        let healed = source.patched(healer.patches());
        let mut scanner = Scanner::new(healed, meta, limit.unwrap_or(meta.capacity));
        match look(&mut scanner, meta, table, progress) {
            Ok(found) => {
                let doubts = found.doubts(meta);
                if healer.heal_each(&source, &doubts) {
                    continue;
                }
                let first = doubts.iter().map(|range| range.start).min();
                let proved = first.and_then(|first| healer.proved(first));
                // Beside a writer at work it can be of what was written since this look went by: the next one,
                // with the same parity, sees it.
                if proved.is_none() || !std::mem::take(&mut looks_again) {
                    break (found, proved);
                }
            }
            // A sector that can't be read is one that is lost.
            Err(error) if !healer.heal_all(&source) => return Err(error),
            Err(_) => {}
        }
    };
    let finished = context.finished || table.sealed().is_some() || found.end_record.is_some();
    let bounds = Bounds {
        limit,
        finished,
        proved: proved.unwrap_or_default(),
    };
    Ok(decide(found, meta, table, bounds))
}

/// What is known of a file beside what is in it.
struct Bounds {
    /// Where the log in this file ends, if that is known.
    limit: Option<u64>,
    finished: bool,
    /// Parity proves that all before this was durable.
    proved: Lsn,
}

fn look(
    scanner: &mut Scanner,
    meta: &LogFileMeta,
    table: &mut IdentifierTable,
    progress: &mut dyn FnMut(u64),
) -> Result<Found> {
    let mut found = Found {
        all_listed: true,
        end: UNIT_BYTES,
        ..Found::default()
    };
    let mut piece = Piece::default();
    let mut told = 0;
    while let Some(item) = scanner.next()? {
        if scanner.position() - told > (4 << 20) {
            told = scanner.position();
            progress(told);
        }
        let header = match item {
            Item::Record(header) => header,
            // Padding is nobody's: a torn write may leave anything in it.
            Item::Stray { .. } => continue,
            item => {
                match &item {
                    Item::Damaged { header, .. } => found.end = header.end().0 - meta.first_lsn.0,
                    Item::Tail { used_to, .. } => found.used = *used_to,
                    _ => {}
                }
                found.pieces.push(std::mem::take(&mut piece));
                let misplaced = None;
                found.suspects.push(Suspect { item, misplaced });
                continue;
            }
        };
        found.watermark = found.watermark.max(header.watermark);
        found.last_good = Some(header.lsn);
        found.end = header.end().0 - meta.first_lsn.0;
        match verdict_of_good(identifier_state(table, &header)) {
            Verdict::Keep => {}
            Verdict::KeepAndIdentify => found.all_listed = false,
            _ => {
                found.pieces.push(std::mem::take(&mut piece));
                found.suspects.push(Suspect {
                    item: Item::Record(header),
                    misplaced: Some(header),
                });
                continue;
            }
        }
        if header.kind == RecordKind::End {
            found.end_record = Some(end_record(scanner.payload(&header)?));
        }
        piece.records += 1;
        piece.bytes += header.bytes;
        piece.timeline.record(&mark_of(&header));
    }
    found.pieces.push(piece);
    found.used = found.used.max(found.end);
    Ok(found)
}

fn identifier_state(table: &mut IdentifierTable, header: &RecordHeader) -> IdentifierState {
    match table.lookup(header.lsn) {
        Lookup::Listed(one) if one == Identifier::of(header) => IdentifierState::Agrees,
        Lookup::Listed(_) | Lookup::Unlisted => IdentifierState::Disagrees,
        Lookup::Lost => IdentifierState::Lost,
        Lookup::Beyond => IdentifierState::None,
    }
}

/// What an `End` record's payload says: nothing after a close, or the next file's number.
pub(crate) fn end_record(payload: &[u8]) -> Ending {
    let number = payload.try_into().map(u64::from_le_bytes);
    number.map_or(Ending::Closed, Ending::Continued)
}

/// The payload of an `End` record.
pub(crate) fn end_payload(next: Option<u64>) -> Vec<u8> {
    next.map_or_else(Vec::new, |number| number.to_le_bytes().to_vec())
}

pub(crate) fn mark_of(header: &RecordHeader) -> Mark {
    Mark {
        lsn: header.lsn,
        kind: header.kind,
        index: header.index,
        term: header.term,
        time_us: header.time_us,
    }
}

fn mark_of_identifier(one: &Identifier) -> Mark {
    Mark {
        lsn: one.lsn,
        kind: one.kind,
        index: one.index,
        term: one.term,
        time_us: 0,
    }
}

/// Judges one suspect after the other; the first torn one ends the log.
struct Judge<'a> {
    meta: &'a LogFileMeta,
    table: &'a mut IdentifierTable,
    bounds: Bounds,
    watermark: Lsn,
    last_good: Option<Lsn>,
    /// After the last byte that may belong to a discarded write.
    used: u64,
    losses: Vec<Loss>,
}

/// Where the log is cut, and how many bytes are discarded there.
struct Cut {
    end: Lsn,
    torn_bytes: u64,
}

fn decide(found: Found, meta: &LogFileMeta, table: &mut IdentifierTable, bounds: Bounds) -> Judged {
    let mut judge = Judge {
        meta,
        table,
        bounds,
        watermark: found.watermark,
        last_good: found.last_good,
        used: found.used,
        losses: Vec::new(),
    };
    let mut judged = Judged {
        stretches: Vec::new(),
        end: Lsn(meta.first_lsn.0 + found.end),
        torn_bytes: 0,
        ending: found.end_record.unwrap_or(Ending::Open),
        identified: false,
    };
    let mut pieces = found.pieces.into_iter();
    judged.stretches.extend(pieces.next().map(Stretch::Kept));
    let mut cut = None;
    for (suspect, piece) in found.suspects.iter().zip(pieces) {
        cut = judge.judge(suspect);
        for loss in &judge.losses {
            judged.end = judged.end.max(loss.to);
        }
        let losses = judge.losses.drain(..).map(Stretch::Lost);
        judged.stretches.extend(losses);
        if cut.is_some() {
            break;
        }
        judged.stretches.push(Stretch::Kept(piece));
    }
    if let Some(cut) = cut {
        judged.end = cut.end;
        judged.torn_bytes = cut.torn_bytes;
        judged.ending = Ending::Open;
    }
    let clean = table.bad_units().is_empty() && table.lost().is_empty();
    judged.identified = clean && found.all_listed && table.sealed() == Some(judged.end);
    judged
}

impl Judge<'_> {
    fn lsn(&self, offset: u64) -> Lsn {
        Lsn(self.meta.first_lsn.0 + offset)
    }

    fn judge(&mut self, suspect: &Suspect) -> Option<Cut> {
        if let Some(header) = suspect.misplaced {
            self.misplaced(&header);
            return None;
        }
        match suspect.item {
            Item::Record(_) | Item::Stray { .. } => None,
            Item::Damaged { header, after } => self.damaged(&header, after),
            Item::Gap { from, to, last } => {
                let listed = self.unreadable(from, to);
                if listed.is_some() && listed == last {
                    return None;
                }
                let cut = self.unlisted(from, to);
                if cut.is_none() && self.losses.is_empty() {
                    // The identifiers know of nothing here, and the next record does.
                    self.lose(self.lsn(from), self.lsn(to), Verdict::Unknown, None);
                }
                cut
            }
            Item::Tail { from, .. } => {
                let to = self.bounds.limit.unwrap_or(self.meta.capacity);
                self.unreadable(from, to);
                self.unlisted(from, to)
            }
        }
    }

    fn around(&self, from: Lsn) -> Surroundings {
        Surroundings {
            covered: self.watermark > from || self.table.end() > from || self.bounds.proved > from,
            finished: self.bounds.finished,
            followed: self.last_good.is_some_and(|lsn| lsn > from),
        }
    }

    fn lose(&mut self, from: Lsn, to: Lsn, verdict: Verdict, mark: Option<Mark>) {
        self.losses.push(Loss {
            from,
            to,
            verdict,
            mark,
        });
    }

    /// A whole record where the identifiers name another, or none.
    fn misplaced(&mut self, header: &RecordHeader) {
        let listed = match self.table.lookup(header.lsn) {
            Lookup::Listed(one) => Some(mark_of_identifier(&one)),
            _ => None,
        };
        let found = verdict_of_good(IdentifierState::Disagrees);
        self.lose(header.lsn, header.end(), found, listed);
    }

    /// A record of which the header alone is whole.
    fn damaged(&mut self, header: &RecordHeader, after: u64) -> Option<Cut> {
        let (state, mark) = match self.table.lookup(header.lsn) {
            Lookup::Listed(one) if one == Identifier::of(header) => {
                (IdentifierState::Agrees, mark_of(header))
            }
            Lookup::Listed(one) => (IdentifierState::Disagrees, mark_of_identifier(&one)),
            Lookup::Unlisted => (IdentifierState::Disagrees, mark_of(header)),
            Lookup::Lost => (IdentifierState::Lost, mark_of(header)),
            Lookup::Beyond => (IdentifierState::None, mark_of(header)),
        };
        let found = verdict(RecordState::Bad, state, self.around(header.lsn));
        if found == Verdict::Torn {
            return Some(Cut {
                end: self.lsn(after),
                torn_bytes: self.used.saturating_sub(after),
            });
        }
        self.lose(header.lsn, header.end(), found, Some(mark));
        None
    }

    /// Names what the identifiers list, or have lost, between two offsets where nothing is readable.
    /// Returns the position of the last record listed.
    fn unreadable(&mut self, from: u64, to: u64) -> Option<Lsn> {
        let (from, to) = (self.lsn(from), self.lsn(to));
        let listed = self.table.listed_within(from, to);
        for one in &listed {
            let found = verdict(
                RecordState::Bad,
                IdentifierState::Agrees,
                self.around(one.lsn),
            );
            self.lose(one.lsn, one.end(), found, Some(mark_of_identifier(one)));
        }
        let lost: Vec<(Lsn, Lsn)> = self.table.lost().to_vec();
        for (start, end) in lost {
            let (start, end) = (start.max(from), end.min(to));
            if start < end {
                let found = verdict(RecordState::Bad, IdentifierState::Lost, self.around(start));
                self.lose(start, end, found, None);
            }
        }
        self.losses.sort_by_key(|loss| loss.from);
        listed.last().map(|one| one.lsn)
    }

    /// Judges the part of an unreadable stretch that is beyond what the identifiers list.
    fn unlisted(&mut self, from: u64, to: u64) -> Option<Cut> {
        let start = self.lsn(from).max(self.table.end());
        let to = self.lsn(to);
        if start > to || (start == to && start > self.lsn(from)) {
            return None;
        }
        let found = verdict(RecordState::Bad, IdentifierState::None, self.around(start));
        if found == Verdict::Torn {
            return Some(Cut {
                end: start,
                torn_bytes: self.lsn(self.used).0.saturating_sub(start.0),
            });
        }
        self.lose(start, to, found, None);
        None
    }
}

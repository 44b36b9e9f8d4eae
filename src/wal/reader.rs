//! Reads the records that count, in order. Reports, never writes.

use std::collections::VecDeque;
use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Damage, Error, Result};
use crate::types::{Index, LogFileMeta, Lsn, StreamId, Term};
use crate::vfs::{Access, Vfs};

use super::format::{
    RECORD_HEADER_BYTES_MAX, RecordHeader, RecordKind, UNIT_BYTES, decode_header, payload_matches,
    round_up,
};
use super::heal::Healer;
use super::mending::Mendings;
use super::names;
use super::options::{DamagePolicy, LogSetup};
use super::recovery::Hole;
use super::source::Source;
use super::timeline::Timeline;

/// How much is read at first: few may want more than one record.
const CHUNK_BYTES_MIN: usize = 32 << 10;
/// How much is read at once in the end; each read takes twice as much as the one before.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A record, as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its position.
    pub lsn: Lsn,
    /// Which replicated log it belongs to.
    pub stream: StreamId,
    /// What it is.
    pub kind: RecordKind,
    /// Its place in the logical log.
    pub index: Index,
    /// The term of the leader that appended it.
    pub term: Term,
    /// When it was appended, in microseconds since 1970.
    pub time_us: u64,
    /// Whose request it was.
    pub client: u64,
    /// Which of the client's requests.
    pub sequence: u64,
    /// What was appended. Shares its memory with the chunk of log it was read in (up to 1 MiB, or the
    /// record's own size): copy it if it is to be kept for long.
    pub payload: Bytes,
}

/// A part of a file that is still to be read.
#[derive(Debug)]
struct Part {
    meta: LogFileMeta,
    path: PathBuf,
    from: Lsn,
    to: Lsn,
}

/// Which records to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// From this one on.
    pub index: Index,
    /// A position that it doesn't lie before, if one is known.
    pub at: Option<Lsn>,
    /// Also those that come later: the newest file is read to its capacity. What isn't as it should be from this
    /// position on may be about to be written, and parity isn't asked.
    pub following: Option<Lsn>,
}

/// Goes through the log as it was when [`super::Log::read_from`] was called, leaving out what was
/// superseded. Later appends, truncations and purges don't disturb it (but for a file purged
/// before the reader came to it).
pub struct LogReader {
    vfs: Arc<dyn Vfs>,
    tolerant: bool,
    index: Index,
    first: Index,
    timeline: Timeline,
    holes: Arc<[Hole]>,
    parts: VecDeque<Part>,
    file: Option<Source>,
    chunk: Bytes,
    chunk_bytes: usize,
    /// Where in its file the chunk begins.
    chunk_at: u64,
    /// The record before; unknown at the start and after a hole.
    last: Option<Option<Lsn>>,
    /// Where the record that was returned last ends.
    position: Option<Lsn>,
    healing: Healing,
}

/// What is asked of parity when something isn't as it was written.
struct Healing {
    dir: PathBuf,
    mendings: Arc<Mendings>,
    /// Of the part at hand, once it has been needed.
    healer: Option<Healer>,
    /// What was asked for last, as offsets.
    wanted: Range<u64>,
    following: Option<Lsn>,
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader")
            .field("index", &self.index)
            .field("parts", &self.parts.len())
            .finish_non_exhaustive()
    }
}

impl LogReader {
    pub(super) fn new(
        setup: &LogSetup<'_>,
        wanted: Wanted,
        timeline: &Timeline,
        files: impl Iterator<Item = (LogFileMeta, Lsn)>,
        damage: (Arc<[Hole]>, Arc<Mendings>),
    ) -> Result<Self> {
        let (holes, mendings) = damage;
        let Wanted { index, at, .. } = wanted;
        let tolerant = setup.damage == DamagePolicy::Tolerate;
        let first = timeline.first();
        if index < first && !tolerant && timeline.begun() && index.0 > 0 {
            return Err(Error::Purged {
                asked: index,
                first,
            });
        }
        let start = timeline.start_for(index).max(at);
        let mut parts = VecDeque::new();
        // Above the last record there is nothing to read, and damage below it is no matter.
        let is_above = index > timeline.last() && !tolerant && wanted.following.is_none();
        for (meta, to) in files.filter(|_| !is_above) {
            let begin = Lsn(meta.first_lsn.0 + UNIT_BYTES);
            let from = start.map_or(begin, |start| start.max(begin));
            if from < to {
                let path = names::log_path(&setup.dir, meta.number);
                parts.push_back(Part {
                    meta,
                    path,
                    from,
                    to,
                });
            }
        }
        Ok(Self {
            vfs: Arc::clone(&setup.vfs),
            tolerant,
            index,
            first,
            timeline: timeline.events(),
            holes,
            parts,
            file: None,
            chunk: Bytes::new(),
            chunk_bytes: CHUNK_BYTES_MIN,
            chunk_at: 0,
            last: None,
            position: at,
            healing: Healing {
                dir: setup.dir.clone(),
                mendings,
                healer: None,
                wanted: 0..0,
                following: wanted.following,
            },
        })
    }

    /// Where the record that was returned last ends, or where the reader before this one stood: for
    /// [`super::Log::read_durable_from`].
    #[must_use]
    pub fn position(&self) -> Option<Lsn> {
        self.position
    }

    /// The next record; `None` at the end. After an error the same place is tried again.
    ///
    /// # Errors
    /// `Damaged` if a record isn't what was written (never taken for the end); `Purged` if its file has
    /// been removed meanwhile; whatever the disk answers.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator would go on after an error"
    )]
    pub fn next(&mut self) -> Result<Option<Record>> {
        loop {
            match self.next_as_it_stands() {
                Err(Error::Damaged(_) | Error::Io { .. }) if self.heal() => {}
                other => return other,
            }
        }
    }

    /// Asks parity for what the last read wanted. Whether that made a difference.
    fn heal(&mut self) -> bool {
        let Some(part) = self.parts.front() else {
            return false;
        };
        let is_unwritten = |from| self.healing.following.is_some_and(|end| from >= end);
        if is_unwritten(part.from) {
            return false;
        }
        let Ok(source) = self.open() else {
            return false;
        };
        let known = self.healing.healer.take();
        let new = || Healer::new(&*self.vfs, &self.healing.dir, &part.meta);
        let mut healer = known.unwrap_or_else(new);
        let from = part.from.0.saturating_sub(part.meta.first_lsn.0);
        let wanted = &self.healing.wanted;
        let range = from.min(wanted.start)..wanted.end.max(round_up(from) + UNIT_BYTES);
        let found = healer.heal(&source, range);
        if found {
            let number = part.meta.number;
            self.healing.mendings.note(number, &healer.healed());
            self.file = Some(source.patched(healer.patches()));
            self.read_again();
        }
        self.healing.healer = Some(healer);
        found
    }

    fn next_as_it_stands(&mut self) -> Result<Option<Record>> {
        loop {
            let Some(part) = self.parts.front() else {
                return Ok(None);
            };
            if part.from >= part.to {
                self.next_part();
                continue;
            }
            if self.skip_hole(part.from)? {
                continue;
            }
            let Some(header) = self.find()? else {
                self.next_part();
                continue;
            };
            let record = self.read_record(&header)?;
            if let Some(part) = self.parts.front_mut() {
                part.from = header.end();
            }
            self.last = Some(Some(header.lsn));
            let counts = !header.kind.is_local()
                && header.index >= self.index
                && (self.tolerant || header.index >= self.first)
                && self.timeline.counts(header.lsn, header.index);
            if counts {
                self.position = Some(header.end());
                return Ok(Some(record));
            }
        }
    }

    /// Where it looks for the next record; `None` at the end.
    pub(super) fn front(&self) -> Option<Lsn> {
        self.parts.front().map(|part| part.from)
    }

    /// What was read ahead is to be read again: it may have been written to since.
    pub(super) fn read_again(&mut self) {
        self.chunk = Bytes::new();
        self.chunk_at = 0;
    }

    fn next_part(&mut self) {
        self.parts.pop_front();
        self.file = None;
        self.healing.healer = None;
        self.chunk = Bytes::new();
        self.last = Some(None);
    }

    /// Jumps over a place that was damaged when the log was opened, if that may be.
    fn skip_hole(&mut self, at: Lsn) -> Result<bool> {
        if self.holes.is_empty() {
            return Ok(false);
        }
        let after = self.holes.partition_point(|hole| hole.to <= at);
        let Some(hole) = self.holes.get(after).filter(|hole| hole.from <= at) else {
            return Ok(false);
        };
        if let (Some(damage), false) = (&hole.damage, self.tolerant) {
            return Err(Error::damaged(damage.clone()));
        }
        let to = hole.to;
        if let Some(part) = self.parts.front_mut() {
            part.from = to;
        }
        self.last = None;
        Ok(true)
    }

    /// [`LogReader::skip_hole`] where the reader stands, short of the part's end.
    fn skip_next_hole(&mut self) -> Result<bool> {
        match self.parts.front() {
            Some(part) if part.from < part.to => self.skip_hole(part.from),
            _ => Ok(false),
        }
    }

    /// The header of the next record of this part; `None` if there is only padding left.
    fn find(&mut self) -> Result<Option<RecordHeader>> {
        let Some(part) = self.parts.front() else {
            return Ok(None);
        };
        let (from, to) = (part.from, part.to);
        let aligned = Lsn(round_up(from.0));
        for lsn in [from, aligned] {
            if lsn >= to {
                return Ok(None);
            }
            if lsn > from && self.skip_hole(lsn)? {
                while self.skip_next_hole()? {}
                return self.find();
            }
            if let Some(header) = self.header_at(lsn)? {
                let joins = self.last.is_none_or(|last| last == header.previous);
                if joins {
                    return Ok(Some(header));
                }
            }
        }
        Err(self.damage(from, "no record begins here, and the log goes on"))
    }

    fn header_at(&mut self, lsn: Lsn) -> Result<Option<RecordHeader>> {
        let Some((salt, to)) = self.parts.front().map(|part| (part.meta.salt, part.to)) else {
            return Ok(None);
        };
        let at = self.load(lsn, RECORD_HEADER_BYTES_MAX)?;
        let bytes = self.chunk.get(at..).unwrap_or_default();
        Ok(decode_header(salt, lsn, bytes, to.0.saturating_sub(lsn.0)))
    }

    fn read_record(&mut self, header: &RecordHeader) -> Result<Record> {
        let len = usize::try_from(header.bytes).unwrap_or(usize::MAX);
        let at = self.load(header.lsn, len)?;
        let bytes = self.chunk.get(at..at + len);
        if !bytes.is_some_and(|bytes| payload_matches(header, bytes)) {
            return Err(self.damage(header.lsn, "the record's checksum is wrong"));
        }
        Ok(Record {
            lsn: header.lsn,
            stream: header.stream,
            kind: header.kind,
            index: header.index,
            term: header.term,
            time_us: header.time_us,
            client: header.client,
            sequence: header.sequence,
            payload: self.chunk.slice(at + header.payload_at..at + len),
        })
    }

    fn damage(&self, lsn: Lsn, what: &str) -> Error {
        let Some(part) = self.parts.front() else {
            return Error::Closed;
        };
        let offset = lsn.0.saturating_sub(part.meta.first_lsn.0);
        let mut damage = Damage::new(&part.path, offset, 0, what);
        damage.lsns = Some((lsn, part.to));
        Error::damaged(damage)
    }

    /// Sees to it that the chunk holds so many bytes from a position, or as many as there are. Returns
    /// where in the chunk they begin.
    fn load(&mut self, lsn: Lsn, want: usize) -> Result<usize> {
        let Some(part) = self.parts.front() else {
            return Ok(self.chunk.len());
        };
        let offset = lsn.0 - part.meta.first_lsn.0;
        let rest = usize::try_from(part.to.0.saturating_sub(lsn.0)).unwrap_or(usize::MAX);
        let want = want.min(rest);
        self.healing.wanted = offset..offset.saturating_add(want as u64);
        if let Some(at) = offset.checked_sub(self.chunk_at)
            && let Ok(at) = usize::try_from(at)
            && self.chunk.len() >= at.saturating_add(want)
        {
            return Ok(at);
        }
        if self.file.is_none() {
            self.file = Some(self.open()?);
        }
        let Some(file) = &self.file else {
            return Ok(self.chunk.len());
        };
        // The last chunk's memory again, if nobody has kept a record of it.
        let last = std::mem::take(&mut self.chunk).try_into_mut();
        let mut chunk = last.unwrap_or_default();
        chunk.resize(want.max(self.chunk_bytes.min(rest)), 0);
        // A bad sector further on keeps all of it from being read.
        self.healing.wanted = offset..offset.saturating_add(chunk.len() as u64);
        let read = file.read(&mut chunk, offset)?;
        chunk.truncate(read);
        self.chunk = chunk.freeze();
        self.chunk_at = offset;
        self.chunk_bytes = CHUNK_BYTES_MAX.min(2 * self.chunk_bytes);
        Ok(0)
    }

    fn open(&self) -> Result<Source> {
        let Some(part) = self.parts.front() else {
            return Err(Error::Closed);
        };
        let opened = self.vfs.open(&part.path, Access::Read);
        let file = opened.map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::Purged {
                asked: self.index,
                first: self.first,
            },
            _ => Error::io("open", &part.path, e),
        })?;
        Source::new(&part.path, file, self.tolerant)
    }
}

//! Shows what is on disk, whole or not: every header, record, unit of identifiers, and parity.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::parity::Slots;
use crate::types::{LogFileMeta, Lsn, UNIT};
use crate::vfs::Access;

use super::folder;
use super::format::{RecordHeader, UNIT_BYTES};
use super::heal::Healer;
use super::identifiers::{UnitState, decode_unit};
use super::names;
use super::options::LogSetup;
use super::scan::{Item, Scanner};
use super::source::Source;
use super::{Index, RecordKind, StreamId, Term};

/// One thing found in a log's folder. Offsets are in the file named last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inspected {
    /// A log file begins.
    File {
        /// The log file.
        path: PathBuf,
        /// What its header says, or its copy; `None` if neither can be read.
        meta: Option<LogFileMeta>,
        /// What is wrong with header and copy; empty if nothing is.
        faults: Vec<String>,
    },
    /// A record whose header is whole.
    Record {
        /// Where it begins.
        offset: u64,
        /// Its position.
        lsn: Lsn,
        /// Its whole length in bytes.
        bytes: u64,
        /// What it is.
        kind: RecordKind,
        /// Which replicated log it belongs to.
        stream: StreamId,
        /// Its index.
        index: Index,
        /// Its term.
        term: Term,
        /// When it was appended.
        time_us: u64,
        /// The position up to which all was known durable when it was written.
        watermark: Lsn,
        /// Bytes of payload.
        payload_bytes: u64,
        /// Whether its payload's checksum is right.
        is_good: bool,
    },
    /// Records are missing between two offsets.
    Gap {
        /// From.
        from: u64,
        /// To, exclusive.
        to: u64,
    },
    /// Padding that isn't zero.
    Stray {
        /// From.
        from: u64,
        /// To, exclusive.
        to: u64,
    },
    /// No record begins from here on.
    Tail {
        /// Where the last record ended.
        from: u64,
        /// After the last byte that isn't zero.
        used_to: u64,
    },
    /// The identifiers of the log file named last begin.
    Identifiers {
        /// Their file.
        path: PathBuf,
    },
    /// A unit of identifiers.
    IdentifierUnit {
        /// Where it begins.
        offset: u64,
        /// What it holds; `None` if it is damaged.
        unit: Option<InspectedUnit>,
    },
    /// The parity of the log file named last begins.
    Parity {
        /// Its file.
        path: PathBuf,
    },
    /// The parity of a part of the log file; parts that have none that can be read aren't shown.
    ParityGroup {
        /// Where in the parity's file it begins.
        offset: u64,
        /// The part of the log file that it covers, from.
        from: u64,
        /// To, exclusive.
        to: u64,
        /// Offsets of the blocks of that part that aren't as they were written.
        bad: Vec<u64>,
        /// Whether all of those can be put together again.
        is_healable: bool,
        /// Whether all of the parity is as it was written.
        is_whole: bool,
    },
}

/// What a unit of identifiers says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedUnit {
    /// The positions that it answers for, from.
    pub first: Lsn,
    /// The positions that it answers for, to (exclusive).
    pub end: Lsn,
    /// Whether the log in this file ends at `end`.
    pub sealed: bool,
    /// Position, index and term of each record.
    pub records: Vec<(Lsn, Index, Term)>,
}

/// Goes through a log's folder, oldest file first, and shows everything; changes nothing and judges
/// nothing. What can't be read (a bad sector) is shown as damaged.
///
/// # Errors
/// `NotAStore`, `NewerFormat`, `ForeignFile`, or whatever the disk answers outside the log's files.
pub fn inspect(setup: LogSetup<'_>, show: &mut dyn FnMut(Inspected)) -> Result<()> {
    let folder = folder::read_folder(&setup)?;
    for file in folder.files.values().filter(|file| file.is_there) {
        show(Inspected::File {
            path: file.path.clone(),
            meta: file.meta.clone(),
            faults: file.damage.iter().map(ToString::to_string).collect(),
        });
        let Some(meta) = &file.meta else {
            continue;
        };
        inspect_records(&setup, &file.path, meta, show)?;
        inspect_identifiers(&setup, meta, show)?;
        inspect_parity(&setup, &file.path, meta, show)?;
    }
    Ok(())
}

fn source(setup: &LogSetup<'_>, path: &Path) -> Result<Option<Source>> {
    match setup.vfs.open(path, Access::Read) {
        Ok(file) => Source::new(path, file, true).map(Some),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("open", path, e)),
    }
}

fn inspect_records(
    setup: &LogSetup<'_>,
    path: &Path,
    meta: &LogFileMeta,
    show: &mut dyn FnMut(Inspected),
) -> Result<()> {
    let Some(source) = source(setup, path)? else {
        return Ok(());
    };
    let mut scanner = Scanner::new(source, meta, meta.capacity);
    while let Some(item) = scanner.next()? {
        show(match item {
            Item::Record(header) => record(meta, &header, true),
            Item::Damaged { header, .. } => record(meta, &header, false),
            Item::Gap { from, to, .. } => Inspected::Gap { from, to },
            Item::Stray { from, to } => Inspected::Stray { from, to },
            Item::Tail { from, used_to } => Inspected::Tail { from, used_to },
        });
    }
    Ok(())
}

fn record(meta: &LogFileMeta, header: &RecordHeader, is_good: bool) -> Inspected {
    Inspected::Record {
        offset: header.lsn.0 - meta.first_lsn.0,
        lsn: header.lsn,
        bytes: header.bytes,
        kind: header.kind,
        stream: header.stream,
        index: header.index,
        term: header.term,
        time_us: header.time_us,
        watermark: header.watermark,
        payload_bytes: header.bytes.saturating_sub(header.payload_at as u64),
        is_good,
    }
}

fn inspect_parity(
    setup: &LogSetup<'_>,
    path: &Path,
    meta: &LogFileMeta,
    show: &mut dyn FnMut(Inspected),
) -> Result<()> {
    let mut healer = Healer::new(&*setup.vfs, &setup.dir, meta);
    let (Some(source), true) = (source(setup, path)?, healer.has_parity()) else {
        return Ok(());
    };
    let path = names::parity_path(&setup.dir, meta.number);
    show(Inspected::Parity { path });
    for group in healer.groups() {
        let Some(table) = healer.table(group).cloned() else {
            continue;
        };
        let range = table.content();
        healer.heal(&source, range.clone());
        let within = |at: &u64| range.contains(at);
        let lost: Vec<u64> = healer.lost().iter().copied().filter(within).collect();
        let healed = healer.healed().into_iter().filter(within);
        let is_healable = lost.is_empty();
        show(Inspected::ParityGroup {
            offset: Slots::new(meta.parity).start(group),
            from: range.start,
            to: table.end(),
            bad: lost.into_iter().chain(healed).collect(),
            is_healable,
            is_whole: healer.is_slot_whole(group),
        });
    }
    Ok(())
}

fn inspect_identifiers(
    setup: &LogSetup<'_>,
    meta: &LogFileMeta,
    show: &mut dyn FnMut(Inspected),
) -> Result<()> {
    let path = names::identifiers_path(&setup.dir, meta.number);
    let Some(source) = source(setup, &path)? else {
        return Ok(());
    };
    show(Inspected::Identifiers { path });
    let mut unit = vec![0; UNIT];
    let mut offset = UNIT_BYTES;
    loop {
        let read = source.read(&mut unit, offset)?;
        if read == 0 {
            return Ok(());
        }
        let found = match decode_unit(meta.file_id, offset, &unit[..read]) {
            UnitState::Empty => None,
            UnitState::Bad => Some(None),
            UnitState::Good(unit) => Some(Some(InspectedUnit {
                first: unit.first,
                end: unit.end,
                sealed: unit.sealed,
                records: unit
                    .identifiers
                    .iter()
                    .map(|one| (one.lsn, one.index, one.term))
                    .collect(),
            })),
        };
        if let Some(unit) = found {
            show(Inspected::IdentifierUnit { offset, unit });
        }
        offset += UNIT_BYTES;
    }
}

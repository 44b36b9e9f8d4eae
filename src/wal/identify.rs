//! Writes identifiers: to a file's sidecar while the file is in use, and anew for a tail that
//! recovery kept.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::types::{FileId, LogFileMeta, Lsn, StoreId};
use crate::vfs::{Access, File};

use super::folder;
use super::format::{FileHeader, HeaderKind, UNIT_BYTES};
use super::heal::Healer;
use super::identifiers::{Identifier, WRITE_UNITS_MAX, encode_units};
use super::names;
use super::options::LogSetup;
use super::protect::ParityJob;
use super::scan::{Item, Scanner};
use super::source::Source;

/// The fewest identifiers that a unit holds.
const PER_UNIT_MIN: u64 = 90;
/// How much room is taken at once when there is none left.
const RESERVE_BYTES: u64 = 64 * UNIT_BYTES;

/// A sidecar that is being written.
#[derive(Debug)]
pub(crate) struct IdentifierFile {
    path: PathBuf,
    file: Arc<dyn File>,
    file_id: FileId,
    place: Mutex<Place>,
}

#[derive(Debug)]
struct Place {
    /// Where the next unit goes.
    offset: u64,
    /// How far room has been taken.
    reserved: u64,
    /// The position up to which records have been listed.
    end: Lsn,
}

/// Identifiers on their way to one sidecar.
#[derive(Debug)]
pub(crate) struct Job {
    pub file: Arc<IdentifierFile>,
    pub identifiers: Vec<Identifier>,
    pub seal: Option<Lsn>,
    /// What is to be protected once they are written.
    pub parity: Option<ParityJob>,
}

/// How a step failed.
pub(crate) enum StepError {
    /// There was no room, and nothing was written: it can be tried again.
    Refused(Error),
    /// A write or a sync failed: nothing more may be written.
    Final(Error),
}

/// How much room a new sidecar takes from the start.
pub(crate) fn reserve_at_first(capacity: u64) -> u64 {
    (capacity / 256)
        .next_multiple_of(UNIT_BYTES)
        .max(4 * UNIT_BYTES)
}

impl IdentifierFile {
    /// A new sidecar: its header is written, and so much room is taken.
    pub fn new(path: PathBuf, file: Arc<dyn File>, meta: &LogFileMeta, reserved: u64) -> Self {
        let place = Place {
            offset: UNIT_BYTES,
            reserved,
            end: Lsn(meta.first_lsn.0 + UNIT_BYTES),
        };
        Self {
            path,
            file,
            file_id: meta.file_id,
            place: Mutex::new(place),
        }
    }

    /// Takes room for so many identifiers, written in so many steps, and for a seal.
    ///
    /// # Errors
    /// `NoSpace`, and then nothing has changed.
    pub fn reserve(&self, identifiers: u64, steps: u64) -> Result<()> {
        let units = identifiers / PER_UNIT_MIN + steps + 2;
        let mut place = self.place.lock();
        let end = place
            .offset
            .saturating_add(units.saturating_mul(UNIT_BYTES));
        self.reserve_to(&mut place, end)
    }

    fn reserve_to(&self, place: &mut Place, end: u64) -> Result<()> {
        if end > place.reserved {
            let end = end.max(place.reserved + RESERVE_BYTES);
            let taken = self.file.preallocate(end);
            taken.map_err(|e| Error::io("make room in", &self.path, e))?;
            place.reserved = end;
        }
        Ok(())
    }

    /// Gives back the room after the last identifier; there will be no more.
    ///
    /// # Errors
    /// What the disk answers; nothing is lost then.
    pub fn trim(&self) -> Result<()> {
        let place = self.place.lock();
        let cut = self.file.set_len(place.offset);
        cut.map_err(|e| Error::io("cut", &self.path, e))
    }

    fn write(&self, job: &Job) -> Result<(), StepError> {
        let mut place = self.place.lock();
        let (bytes, end) = encode_units(
            self.file_id,
            place.offset,
            place.end,
            &job.identifiers,
            job.seal,
        );
        if bytes.is_empty() {
            return Ok(());
        }
        let after = place.offset + bytes.len() as u64;
        self.reserve_to(&mut place, after)
            .map_err(StepError::Refused)?;
        let mut at = place.offset;
        for part in bytes.chunks(WRITE_UNITS_MAX * UNIT_BYTES as usize) {
            let written = self.file.write_at(part, at);
            written.map_err(|e| StepError::Final(Error::io("write", &self.path, e)))?;
            let synced = self.file.sync_data();
            synced.map_err(|e| StepError::Final(Error::io("sync", &self.path, e)))?;
            at += part.len() as u64;
        }
        place.offset = after;
        place.end = end;
        Ok(())
    }
}

impl Job {
    /// Writes and syncs the job's units.
    pub fn run(&self) -> Result<(), StepError> {
        self.file.write(self)
    }
}

/// Writes complete, sealed identifiers for a file whose log ends at `end`, in place of those it has.
/// The caller syncs the folder afterwards.
///
/// # Errors
/// What the disk answers; what was there before then still is.
pub(crate) fn identify_anew(
    setup: &LogSetup<'_>,
    store_id: StoreId,
    meta: &LogFileMeta,
    end: Lsn,
) -> Result<()> {
    let identifiers = collect(setup, meta, end)?;
    let header = FileHeader {
        store_id,
        meta: meta.clone(),
    };
    let mut bytes = header.encode(HeaderKind::Identifiers);
    let first = Lsn(meta.first_lsn.0 + UNIT_BYTES);
    let (units, _) = encode_units(meta.file_id, UNIT_BYTES, first, &identifiers, Some(end));
    bytes.extend_from_slice(&units);

    let path = names::identifiers_path(&setup.dir, meta.number);
    let temporary = names::temporary(&path);
    let opened = setup.vfs.open(&temporary, Access::CreateOrTruncate);
    let file = opened.map_err(|e| Error::io("create", &temporary, e))?;
    let written = file.write_at(&bytes, 0);
    written.map_err(|e| Error::io("write", &temporary, e))?;
    file.sync_data()
        .map_err(|e| Error::io("sync", &temporary, e))?;
    let renamed = setup.vfs.rename(&temporary, &path);
    renamed.map_err(|e| Error::io("publish", &path, e))
}

/// What each record of a file was: from itself, or from its old identifier where it is lost.
fn collect(setup: &LogSetup<'_>, meta: &LogFileMeta, end: Lsn) -> Result<Vec<Identifier>> {
    let mut table = folder::read_identifiers(setup, meta, false)?;
    let path = names::log_path(&setup.dir, meta.number);
    let opened = setup.vfs.open(&path, Access::Read);
    let file = opened.map_err(|e| Error::io("open", &path, e))?;
    let source = Source::new(&path, file, folder::is_lenient(setup))?;
    let mut healer = Healer::new(&*setup.vfs, &setup.dir, meta);
    healer.heal_all(&source);
    let source = source.patched(healer.patches());
    let mut scanner = Scanner::new(source, meta, end.0 - meta.first_lsn.0);
    let mut good = Vec::new();
    while let Some(item) = scanner.next()? {
        if let Item::Record(header) = item {
            good.push(Identifier::of(&header));
        }
    }
    let mut all = table.listed_within(meta.first_lsn, end);
    all.extend(good);
    // Stable: an old identifier stays before what was read at the same place, and wins.
    all.sort_by_key(|one| one.lsn);
    let mut last = Lsn(0);
    all.retain(|one| {
        let fits = one.lsn >= last;
        if fits {
            last = one.end();
        }
        fits
    });
    Ok(all)
}

//! Recovery: which files make the log, what of them counts, and what is damaged. Reads only.
//!
//! The newest file with anything in it is the log's head; the files before it are found by each one's
//! note of its predecessor. A file without anything in it is as if it weren't there: it was prepared
//! and not yet used, or its first write never became durable.

mod examine;
mod ledger;

use std::path::PathBuf;

use crate::error::{Damage, Error, Result};
use crate::types::{Index, LogFileMeta, LogNumber, Lsn, StoreId};

use self::examine::{Ahead, Examined, Subject, examine, was_closed};
use self::ledger::Ledger;
use super::folder::{self, Folder, FoundFile};
use super::format::UNIT_BYTES;
use super::heal::Healer;
use super::judge::{Context, Ending, Judged, Loss, Stretch, judge};
use super::names;
use super::options::{DamagePolicy, LogAccess, LogReport, LogSetup};
use super::table::Verdict;
use super::timeline::Timeline;

/// How often a reader beside a live writer looks again before it believes that something is damaged.
const LOOKS_MAX: usize = 6;

/// One file of the log.
#[derive(Clone, Debug)]
pub(crate) struct RecoveredFile {
    pub meta: LogFileMeta,
    /// Where the log ends in it.
    pub end: Lsn,
    /// The last index that counted at its end.
    pub top: Index,
    /// Whether its identifiers are complete and sealed.
    pub identified: bool,
    /// Units of it that parity put together again, as offsets.
    pub healed: Vec<u64>,
}

/// Records that can't be read, in a log that was opened nevertheless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub from: Lsn,
    pub to: Lsn,
    /// Set if a reader that comes here misses something.
    pub damage: Option<Damage>,
}

/// The log, as recovery found it.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub store_id: StoreId,
    /// Oldest first.
    pub files: Vec<RecoveredFile>,
    /// Files of ours that don't belong to the log (any more).
    pub void: Vec<PathBuf>,
    pub timeline: Timeline,
    pub holes: Vec<Hole>,
    pub next_number: LogNumber,
    pub next_lsn: Lsn,
    pub report: LogReport,
}

/// Reads and judges a folder.
///
/// # Errors
/// Damage that is needed (unless tolerated), foreign and newer files, whatever the disk answers.
pub(crate) fn recover(setup: &LogSetup<'_>) -> Result<Recovered> {
    let mut found = recover_once(setup);
    if setup.access == LogAccess::ReadOnly {
        // A live writer may have been at work between one read and the next. Damage that stays the same
        // is believed.
        for _ in 1..LOOKS_MAX {
            if !is_doubtful(&found) {
                break;
            }
            let again = recover_once(setup);
            let same = damage_of(&again) == damage_of(&found);
            found = again;
            if same {
                break;
            }
        }
    }
    let found = found?;
    if setup.damage == DamagePolicy::Refuse && !found.report.needed.is_empty() {
        return Err(Error::Damaged(found.report.needed));
    }
    Ok(found)
}

fn is_doubtful(found: &Result<Recovered>) -> bool {
    match found {
        Ok(found) => !found.report.damage.is_empty(),
        Err(Error::Damaged(_) | Error::Io { .. }) => true,
        Err(_) => false,
    }
}

/// What a look found to be damaged; `None` if it couldn't be taken.
fn damage_of(found: &Result<Recovered>) -> Option<&[Damage]> {
    match found {
        Ok(found) => Some(&found.report.damage),
        Err(Error::Damaged(damage)) => Some(damage),
        Err(_) => None,
    }
}

fn recover_once(setup: &LogSetup<'_>) -> Result<Recovered> {
    let started = setup.clock.elapsed();
    let folder = folder::read_folder(setup)?;
    let ahead = Ahead::default();
    let mut chain = Chain::new(setup, &folder, &ahead);
    std::thread::scope(|scope| {
        if setup.parallel {
            scope.spawn(|| ahead.run(setup, &folder));
        }
        let walked = chain.walk();
        ahead.stop();
        walked
    })?;
    let Chain {
        mut parts,
        void,
        damage,
        ..
    } = chain;
    parts.reverse();
    let ended_cleanly = parts.last().is_none_or(|part| part.ended_cleanly());
    let mut ledger = Ledger::new(setup, damage);
    let mut files = Vec::new();
    for part in parts {
        let (meta, judged, healed) = match part {
            Part::File {
                meta,
                judged,
                healed,
            } => (meta, judged, healed),
            Part::Missing { path, loss } => {
                ledger.lose(&path, Lsn(0), loss);
                continue;
            }
        };
        let path = names::log_path(&setup.dir, meta.number);
        ledger.report.torn_bytes += judged.torn_bytes;
        ledger.healed(&path, &healed);
        for stretch in judged.stretches {
            match stretch {
                Stretch::Kept(piece) => ledger.keep(piece),
                Stretch::Lost(loss) => ledger.lose(&path, meta.first_lsn, loss),
            }
        }
        files.push(ledger.file());
        let file = RecoveredFile {
            meta,
            end: judged.end,
            top: Index(0),
            identified: judged.identified,
            healed,
        };
        ledger.files.push(file);
    }
    debug_assert_eq!(files.len(), ledger.files.len());
    let (timeline, holes, recovered_files, mut report) = ledger.close(&files);
    report.ended_cleanly = ended_cleanly;
    report.files = recovered_files.len() as u64;
    report.elapsed = setup.clock.elapsed().saturating_sub(started);
    Ok(Recovered {
        store_id: folder.store_id,
        files: recovered_files,
        void: litter(&folder, &void, setup),
        timeline,
        holes,
        next_number: LogNumber(folder.number_max.0.saturating_add(1)),
        next_lsn: folder.lsn_end.max(Lsn(UNIT_BYTES)),
        report,
    })
}

/// Everything of ours that isn't part of the log.
fn litter(folder: &Folder, void: &[LogNumber], setup: &LogSetup<'_>) -> Vec<PathBuf> {
    let mut litter = folder.litter.clone();
    for &number in void {
        litter.extend(names::all_paths(&setup.dir, number, setup.options.parity));
    }
    litter
}

/// A file of the log, or the place where one should be.
enum Part {
    File {
        meta: LogFileMeta,
        judged: Judged,
        healed: Vec<u64>,
    },
    Missing {
        path: PathBuf,
        loss: Loss,
    },
}

impl Part {
    fn ended_cleanly(&self) -> bool {
        matches!(self, Self::File { judged, .. } if judged.ending == Ending::Closed)
    }
}

/// Follows the log from its newest file to its oldest.
struct Chain<'a> {
    setup: &'a LogSetup<'a>,
    folder: &'a Folder,
    ahead: &'a Ahead,
    /// Newest first.
    parts: Vec<Part>,
    void: Vec<LogNumber>,
    damage: Vec<Damage>,
    /// Where the log ends in the file before the one looked at last; set once a part was found.
    cut: Option<Lsn>,
    bytes_done: u64,
    bytes_all: u64,
}

impl<'a> Chain<'a> {
    fn new(setup: &'a LogSetup<'a>, folder: &'a Folder, ahead: &'a Ahead) -> Self {
        let metas = folder.files.values().filter_map(|file| file.meta.as_ref());
        Self {
            setup,
            folder,
            ahead,
            parts: Vec::new(),
            void: Vec::new(),
            damage: Vec::new(),
            cut: None,
            bytes_done: 0,
            bytes_all: metas.map(|meta| meta.capacity).sum(),
        }
    }

    fn walk(&mut self) -> Result<()> {
        let folder = self.folder;
        let mut missing: Vec<&FoundFile> = Vec::new();
        let mut wanted = None;
        for file in folder.files.values().rev() {
            if let Some(number) = wanted {
                // Not known though its successor is: purged, and a crash has brought the name back.
                let purged = self.has_registry() && !file.is_known;
                let elsewhere = file.number != number;
                // Below a file that isn't there: purged with it, unless it tells otherwise.
                if file.number > number || purged || elsewhere && self.is_void(file)? {
                    self.void.push(file.number);
                    continue;
                }
                if elsewhere {
                    self.missing(number, None);
                }
            }
            wanted = self.visit(file, &mut missing)?.or(wanted);
        }
        for file in missing {
            self.harmlessly_missing(file);
        }
        Ok(())
    }

    /// Whether someone knows which files make the log. Files that should be there are in the folder's
    /// list then, there or not.
    fn has_registry(&self) -> bool {
        self.setup.registry.is_some() || !self.setup.known.is_empty()
    }

    /// Whether there is nothing in a file.
    fn is_void(&self, file: &FoundFile) -> Result<bool> {
        let Some(meta) = &file.meta else {
            return Ok(!folder::is_used(self.setup, &file.path)?);
        };
        let mut table = folder::read_identifiers(self.setup, meta, false)?;
        let Some(source) = folder::open_log(self.setup, meta, &table, false)? else {
            return Ok(true);
        };
        let context = Context {
            finished: false,
            cut: None,
        };
        let mut healer = Healer::new(&*self.setup.vfs, &self.setup.dir, meta);
        let judged = judge(source, meta, &mut table, context, &mut healer, &mut |_| {})?;
        Ok(judged.is_void())
    }

    /// Looks at one file. Returns the number of its predecessor if it is part of the log.
    fn visit<'f>(
        &mut self,
        file: &'f FoundFile,
        missing: &mut Vec<&'f FoundFile>,
    ) -> Result<Option<LogNumber>> {
        let Some(meta) = &file.meta else {
            return self.visit_unreadable(file);
        };
        if !file.is_there {
            if self.parts.is_empty() && meta.previous_number.0 > 0 && meta.previous_end_lsn.0 == 0 {
                // Prepared ahead: whether it was ever used, the file before it tells.
                missing.push(file);
                return Ok(None);
            }
            self.missing(file.number, Some(meta));
            return Ok(Some(meta.previous_number));
        }
        let is_head = self.parts.is_empty();
        if is_head && self.was_closed_before(meta)? {
            self.void.push(file.number);
            return Ok(None);
        }
        let examined = self.examine(file, meta, is_head)?;
        let Some(examined) = examined else {
            self.missing(file.number, Some(meta));
            return Ok(Some(meta.previous_number));
        };
        self.bytes_done += meta.capacity;
        self.tell(0);
        let judged = examined.judged;
        if is_head {
            if judged.is_void() {
                self.void.push(file.number);
                return Ok(None);
            }
            self.head(&judged, missing);
        }
        // One that was closed may have given back its room, in a log without a registry.
        let used = judged.end.0.saturating_sub(meta.first_lsn.0);
        let is_trimmed = self.setup.registry.is_none()
            && judged.ending == Ending::Closed
            && examined.len >= used;
        let len = if is_trimmed {
            meta.capacity
        } else {
            examined.len
        };
        self.note_damage(file, meta, len, &examined.damaged_units);
        self.cut = Some(meta.previous_end_lsn).filter(|lsn| lsn.0 > 0);
        let previous = meta.previous_number;
        let meta = meta.clone();
        let healed = examined.healed;
        self.parts.push(Part::File {
            meta,
            judged,
            healed,
        });
        Ok(Some(previous))
    }

    /// Reads and judges a file whose turn it is; `None` if it is gone.
    fn examine(
        &self,
        file: &FoundFile,
        meta: &LogFileMeta,
        is_head: bool,
    ) -> Result<Option<Examined>> {
        let context = Context {
            finished: !is_head,
            cut: self.cut,
        };
        let ready = (!is_head).then(|| self.ahead.take(file.number, context));
        match ready.flatten() {
            Some(examined) => examined,
            None => {
                let subject = Subject {
                    meta,
                    is_head,
                    is_header_bad: file.is_header_bad,
                };
                examine(self.setup, subject, context, &mut |at| self.tell(at))
            }
        }
    }

    /// Tells how far it is, so many bytes into the file at hand.
    fn tell(&self, at: u64) {
        if let Some(progress) = self.setup.progress {
            progress(self.bytes_done + at, self.bytes_all);
        }
    }

    /// Whether the log was closed in the file before a prepared one: then that was never used, and need
    /// not be looked through.
    fn was_closed_before(&self, meta: &LogFileMeta) -> Result<bool> {
        if meta.previous_end_lsn.0 > 0 {
            return Ok(false);
        }
        let previous = self.folder.files.get(&meta.previous_number);
        let Some(meta) = previous.and_then(|file| file.meta.as_ref()) else {
            return Ok(false);
        };
        let mut table = folder::read_identifiers(self.setup, meta, true)?;
        if table.sealed().is_none() {
            return Ok(false);
        }
        let Some(source) = folder::open_log(self.setup, meta, &table, false)? else {
            return Ok(false);
        };
        was_closed(&source, meta, &mut table)
    }

    /// Once the newest file is known: was one after it in use that is gone?
    fn head(&mut self, judged: &Judged, missing: &mut Vec<&FoundFile>) {
        if let Ending::Continued(next) = judged.ending {
            let next = LogNumber(next);
            missing.retain(|file| file.number != next);
            if !self
                .folder
                .files
                .get(&next)
                .is_some_and(|file| file.is_there)
            {
                let meta = self
                    .folder
                    .files
                    .get(&next)
                    .and_then(|file| file.meta.as_ref());
                self.missing(next, meta);
            }
        }
    }

    /// A file of which neither header can be read, and which the registry doesn't know.
    fn visit_unreadable(&mut self, file: &FoundFile) -> Result<Option<LogNumber>> {
        self.damage.extend(file.damage.iter().cloned());
        let sidecar = names::identifiers_path(&self.setup.dir, file.number);
        let used =
            folder::is_used(self.setup, &file.path)? || folder::is_used(self.setup, &sidecar)?;
        if !used {
            self.void.push(file.number);
            return Ok(None);
        }
        let loss = Loss {
            from: Lsn(0),
            to: Lsn(0),
            verdict: Verdict::Unknown,
            mark: None,
        };
        let path = file.path.clone();
        self.parts.push(Part::Missing { path, loss });
        self.cut = None;
        let older = self.folder.files.range(..file.number).next_back();
        Ok(Some(older.map_or(LogNumber(0), |(&number, _)| number)))
    }

    /// Notes that a file of the log is gone.
    fn missing(&mut self, number: LogNumber, meta: Option<&LogFileMeta>) {
        let loss = Loss {
            from: meta.map_or(Lsn(0), |meta| meta.first_lsn),
            to: meta.map_or(Lsn(0), |meta| Lsn(meta.first_lsn.0 + meta.capacity)),
            verdict: Verdict::LostGroup,
            mark: None,
        };
        let path = names::log_path(&self.setup.dir, number);
        self.parts.push(Part::Missing { path, loss });
        self.cut = meta
            .map(|meta| meta.previous_end_lsn)
            .filter(|lsn| lsn.0 > 0);
    }

    fn harmlessly_missing(&mut self, file: &FoundFile) {
        self.damage.push(Damage::new(
            &file.path,
            0,
            0,
            "the file is missing; nothing had been written to it",
        ));
    }

    /// Notes what is wrong with a file of the log besides its records.
    fn note_damage(
        &mut self,
        file: &FoundFile,
        meta: &LogFileMeta,
        len: u64,
        damaged_units: &[u64],
    ) {
        self.damage.extend(file.damage.iter().cloned());
        if len < meta.capacity {
            let what = format!("the file is cut short: it had {} bytes", meta.capacity);
            let missing = meta.capacity - len;
            self.damage
                .push(Damage::new(&file.path, len, missing, what));
        }
        let path = names::identifiers_path(&self.setup.dir, file.number);
        for &offset in damaged_units {
            let what = "identifiers are damaged; the records they name are checked by themselves";
            self.damage
                .push(Damage::new(&path, offset, UNIT_BYTES, what));
        }
    }
}

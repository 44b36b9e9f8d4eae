//! Segments and log files that were found damaged, and whose parity makes up for it, are written anew.
//!
//! The copy of a segment is what was published, byte for byte, proved by the digest in the manifest; that of a log file
//! is proved by the checksums in its parity's tables. It takes the damaged file's name, whose bytes stay in `quarantine/`, where the file system can give a file a second name.

use std::path::Path;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::{Damage, Error, Result};
use crate::journal::{Means, Outcome};
use crate::parity::UNIT_BYTES;
use crate::segment::{Anew, Segment, file_name};
use crate::types::{FileId, SegmentNumber};
use crate::wal::MendedLog;

/// The folder for what was damaged, in the store's.
pub(super) const QUARANTINE: &str = "quarantine";

impl Engine {
    /// Writes one damaged segment, or log file, anew and puts it in its place. `false` if none waits for that.
    pub(crate) fn step_mend(&self) -> Result<bool> {
        let _turn = self.mend_turn.lock();
        let outcome = match self.mend_next() {
            Ok(false) => self.mend_log(),
            outcome => outcome,
        };
        if !matches!(outcome, Ok(false)) {
            *self.mend_failure.lock() = outcome.as_ref().err().cloned();
        }
        outcome
    }

    /// Writes anew every segment and log file that is known to be damaged. Returns how many were.
    pub(crate) fn mend(&self) -> Result<u64> {
        self.check_writable()?;
        self.mend_again();
        let before = self.mended_files();
        while self.step_mend()? {}
        Ok(self.mended_files() - before)
    }

    /// What couldn't be written anew gets another chance.
    pub(super) fn mend_again(&self) {
        self.cache.mendings().try_again();
        self.log.mendings().try_again();
    }

    /// Files written anew since the store was opened.
    pub(super) fn mended_files(&self) -> u64 {
        self.cache.mendings().mended() + self.log.mendings().mended()
    }

    /// Writes one damaged log file anew. `false` if none waits that can be.
    fn mend_log(&self) -> Result<bool> {
        let _call = self.calls.enter()?;
        if self.options.read_only || self.latched().is_some() {
            return Ok(false);
        }
        let go_on = || self.calls.check();
        // That the damaged one couldn't be kept changes nothing about the repair.
        let set_aside = |path: &Path| {
            self.set_aside(path, QUARANTINED_MAX);
        };
        let mended = self.log.step_mend(&go_on, &set_aside);
        let mended = mended.inspect_err(|error| {
            self.latch_if_final(error);
            if let Error::Damaged(damage) = error {
                tracing::error!(%error, "a damaged log file can't be mended whole");
                for damage in damage {
                    self.note_damage(Outcome::Lost, Means::None, damage);
                }
            }
        })?;
        let Some(MendedLog { name, units }) = mended else {
            return Ok(false);
        };
        tracing::warn!(
            name,
            units = units.len(),
            "a damaged log file was mended from its parity"
        );
        let places = units.iter().map(|offset| (*offset, UNIT_BYTES as u64));
        let repair = self.repair(Outcome::Mended, Means::Parity, &name);
        let what = "units of it weren't as they were written";
        self.note_repair(&repair.at(places).because(what));
        Ok(true)
    }

    /// Writes this segment anew, if it isn't what the manifest says. Whether it is then.
    ///
    /// # Errors
    /// What the disk answers. That too much is lost is none.
    pub(super) fn mend_now(&self, segment: &Segment) -> Result<bool> {
        let (number, file_id) = (segment.meta().number, segment.meta().file_id);
        let mendings = self.cache.mendings();
        mendings.note(number, file_id, &[]);
        while mendings.waits(number) {
            match self.step_mend() {
                Ok(true) | Err(Error::Damaged(_)) => {}
                Ok(false) => break,
                Err(error) => return Err(error),
            }
        }
        segment.is_whole(Some(&*self.options.vfs), &|| self.calls.check())
    }

    fn mend_next(&self) -> Result<bool> {
        let _call = self.calls.enter()?;
        if self.options.read_only || self.latched().is_some() {
            return Ok(false);
        }
        let mendings = self.cache.mendings();
        let Some((number, mending)) = mendings.next() else {
            return Ok(false);
        };
        let Some(segment) = self.find_segment(number, mending.file_id) else {
            mendings.forget(number);
            return Ok(true);
        };
        // A reader can be late to tell of what has been mended meanwhile.
        let go_on = || self.calls.check();
        let disk = Some(&*self.options.vfs);
        let reads_well = || match mending.units.is_empty() {
            true => Ok(true),
            false => segment.is_whole(None, &go_on),
        };
        if segment.is_whole(disk, &go_on)? && reads_well()? {
            mendings.forget(number);
            return Ok(true);
        }
        let span = tracing::info_span!("mend", segment = number.0);
        let _entered = span.enter();
        let (vfs, dir) = (&*self.options.vfs, self.options.path.as_path());
        let write = || segment.write_anew(vfs, dir, &go_on);
        // What a passing failure to read makes look beyond parity isn't.
        let written = write().or_else(|error| match error {
            Error::Damaged(_) => write(),
            error => Err(error),
        });
        let anew = match written {
            Err(error @ Error::Damaged(_)) => {
                tracing::error!(%error, "a damaged segment can't be mended whole");
                mendings.give_up(number);
                if self.fence_segment(number, mending.file_id, true)? {
                    return Ok(true);
                }
                let lost = self.repair(Outcome::Lost, Means::None, &file_name(number));
                self.note_repair(&lost.because(&error.to_string()));
                return Err(error);
            }
            anew => anew?,
        };
        let path = anew.path.clone();
        let places = anew.units.iter().map(|offset| (*offset, UNIT_BYTES as u64));
        let mended = self.repair(Outcome::Mended, Means::Parity, &file_name(number));
        let mended = mended.at(places);
        match self.put_in_place(&segment, anew) {
            Ok(true) => {
                mendings.mended_one();
                let what = match mended.places.is_empty() {
                    true => "its content was whole, and the rest of the file was not",
                    false => "units of its content weren't as they were written",
                };
                self.note_repair(&mended.because(what));
            }
            Ok(false) => drop(vfs.remove(&path)),
            Err(error) => {
                let _ = vfs.remove(&path);
                return Err(error);
            }
        }
        mendings.forget(number);
        Ok(true)
    }

    /// Writes down what became of a damaged place.
    pub(super) fn note_damage(&self, outcome: Outcome, means: Means, damage: &Damage) {
        let name = damage.path.file_name().unwrap_or_default();
        let repair = self.repair(outcome, means, &name.to_string_lossy());
        let repair = repair.at([(damage.offset, damage.bytes)].into_iter());
        self.note_repair(&repair.because(&damage.what));
    }

    /// A segment that is in use.
    fn find_segment(&self, number: SegmentNumber, file_id: FileId) -> Option<Arc<Segment>> {
        let keyspaces = self.keyspaces.load();
        keyspaces.trees().find_map(|tree| {
            let tables = tree.load();
            let found = tables.with_number(number);
            found
                .filter(|segment| segment.meta().file_id == file_id)
                .cloned()
        })
    }

    /// Gives the copy the segment's name, and goes on reading from it. `false` if nobody needs the segment any
    /// more.
    fn put_in_place(&self, segment: &Segment, anew: Anew) -> Result<bool> {
        let meta = segment.meta();
        let path = self.options.path.join(file_name(meta.number));
        // While it is held, nobody takes the segment out of the store and its name away.
        let manifest = self.manifest.lock();
        if self.find_segment(meta.number, meta.file_id).is_none() {
            return Ok(false);
        }
        self.set_aside(&path, QUARANTINED_MAX);
        let renamed = self.options.vfs.rename(&anew.path, &path);
        renamed.map_err(|error| Error::io("rename", &anew.path, error))?;
        self.sync_folder()
            .inspect_err(|error| self.latch_if_final(error))?;
        drop(manifest);
        let units = anew.units.len();
        // It stays the same segment for all who hold it: only the file under it is another.
        segment.read_from(anew);
        tracing::warn!(units, "a damaged segment was mended from its parity");
        Ok(true)
    }

    /// Keeps the damaged file under a second name, if there can be one: it is evidence, and no part of the
    /// store. Unless there are so many already.
    pub(super) fn set_aside(&self, path: &Path, copies_max: u64) -> bool {
        let folder = self.options.path.join(QUARANTINE);
        let kept = self.link_into(&folder, path, copies_max);
        if let Err(error) = &kept {
            tracing::warn!(%error, "the damaged file couldn't be kept");
        }
        kept.unwrap_or(false)
    }

    /// Takes a damaged file that no longer belongs to the store out of its folder, where it could not be given a
    /// second name.
    pub(super) fn move_aside(&self, path: &Path) {
        let folder = self.options.path.join(QUARANTINE);
        let name = path.file_name().unwrap_or_default();
        let moved = self.options.vfs.create_dir_all(&folder);
        let moved = moved.and_then(|()| self.options.vfs.rename(path, &folder.join(name)));
        if let Err(error) = moved {
            tracing::warn!(%error, "the damaged file couldn't be kept");
        }
    }

    /// As [`Self::set_aside`], for what is about to be given up: without evidence it isn't. `false` if there is no
    /// such file.
    pub(super) fn keep_as_evidence(&self, path: &Path) -> Result<bool> {
        let folder = self.options.path.join(QUARANTINE);
        let refused = |error| Error::io("keep in quarantine", path, error);
        match self.link_into(&folder, path, KEPT_MAX) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Ok(false) => Err(refused(std::io::ErrorKind::AlreadyExists.into())),
            linked => linked.map_err(refused),
        }
    }

    /// `false` if there are as many already.
    fn link_into(&self, folder: &Path, path: &Path, copies_max: u64) -> std::io::Result<bool> {
        let vfs = &*self.options.vfs;
        vfs.create_dir_all(folder)?;
        let name = path.file_name().unwrap_or_default();
        let mut is_kept = false;
        for number in 1..=copies_max {
            let mut name = name.to_owned();
            name.push(format!(".{number}"));
            match vfs.link(path, &folder.join(name)) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                linked => {
                    linked?;
                    is_kept = true;
                    break;
                }
            }
        }
        vfs.sync_dir(folder)?;
        Ok(is_kept)
    }
}

/// Copies of one damaged file that are kept where it is mended; the first ones.
const QUARANTINED_MAX: u64 = 4;
/// The same where something of it is lost.
pub(super) const KEPT_MAX: u64 = 1000;

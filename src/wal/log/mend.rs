//! Files of the log that parity makes good are written anew; and all of them are looked through for damage that
//! nobody has met.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::protect::Patience;
use super::{Log, ViewFile};
use crate::error::{Damage, Error, Result};
use crate::parity::{GroupTable, Slots};
use crate::types::{LogNumber, Parity, UNIT};
use crate::vfs::{Access, File};
use crate::wal::folder::is_lenient;
use crate::wal::format::{FileHeader, HeaderKind, UNIT_BYTES, round_up};
use crate::wal::heal::{GROUP_BYTES, Healer};
use crate::wal::identify::StepError;
use crate::wal::mending::Mendings;
use crate::wal::names;
use crate::wal::options::{LogAccess, LogSetup};
use crate::wal::protect::{ParityJob, Protector};
use crate::wal::source::Source;

/// A log file that was written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MendedLog {
    /// Its name.
    pub name: String,
    /// Offsets of the units that weren't as they were written.
    pub units: Vec<u64>,
}

/// What a look through a log file has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckedLog {
    /// Bytes read.
    pub bytes: u64,
    /// Blocks that aren't as they were written, and that parity makes up for.
    pub healed: Vec<Damage>,
    /// Blocks for which it doesn't.
    pub lost: Vec<Damage>,
    /// Parts of the parity that weren't as they were written, and are again.
    pub renewed: Vec<Damage>,
}

/// Asked before each MiB.
type GoOn<'a> = &'a dyn Fn() -> Result<()>;

impl Log {
    /// What parity had to put together again.
    pub(crate) fn mendings(&self) -> &Arc<Mendings> {
        &self.mendings
    }

    /// Writes a damaged file anew, from what is good of it and from its parity, and puts it in its place; before that,
    /// `set_aside` is told the damaged one's path. `None` if none waits that can be: the file that is appended to waits
    /// until it is full.
    ///
    /// # Errors
    /// `Damaged` if a unit can't be read that parity doesn't make up for; what `go_on` answers; `Poisoned`,
    /// `OutcomeUnknown` if the folder couldn't be synced; else what the disk answers, and nothing has changed.
    pub(crate) fn step_mend(
        &self,
        go_on: GoOn<'_>,
        set_aside: &dyn Fn(&Path),
    ) -> Result<Option<MendedLog>> {
        for number in self.mendings.waiting() {
            let Some(file) = self.old_file(number) else {
                if !self.has_file(number) {
                    self.mendings.forget(number);
                }
                continue;
            };
            self.check_latch()?;
            match self.mend_file(&file, go_on, set_aside) {
                Ok(Some(units)) => {
                    self.mendings.mended_one(number);
                    let name = names::log_path(Path::new(""), number);
                    let name = name.to_string_lossy().into_owned();
                    return Ok(Some(MendedLog { name, units }));
                }
                Ok(None) => self.mendings.forget(number),
                Err(error) => {
                    if matches!(error, Error::Damaged(_)) {
                        self.mendings.give_up(number);
                    }
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// A file of the log that is appended to no more.
    fn old_file(&self, number: LogNumber) -> Option<ViewFile> {
        let active = {
            let writer = self.writer.lock();
            writer.active.as_ref().map(|active| active.meta.number)
        };
        let view = self.view.lock();
        let mut files = view.files.iter();
        let file = files.find(|file| file.meta.number == number)?;
        (Some(number) != active).then(|| file.clone())
    }

    /// `None` if nothing is wrong with it, or it has been purged.
    fn mend_file(
        &self,
        file: &ViewFile,
        go_on: GoOn<'_>,
        set_aside: &dyn Fn(&Path),
    ) -> Result<Option<Vec<u64>>> {
        let (vfs, dir, meta) = (&*self.setup.vfs, &self.setup.dir, &file.meta);
        let path = names::log_path(dir, meta.number);
        let source = self.open_past_cache(&path)?;
        let Some(source) = source else {
            return Ok(None);
        };
        let mut healer = Healer::new(vfs, dir, meta);
        for group in healer.groups() {
            go_on()?;
            healer.heal(&source, group * GROUP_BYTES..(group + 1) * GROUP_BYTES);
        }
        self.heal_header(&source, file, &mut healer);
        if healer.patches().is_empty() {
            // Either it has been mended meanwhile, or its parity can't be read any more.
            let mut lost = healer.lost().to_vec();
            let noted = self.mendings.noted(meta.number);
            lost.extend(
                noted
                    .iter()
                    .filter(|at| healer.table(*at / GROUP_BYTES).is_none()),
            );
            let lost = lost
                .iter()
                .map(|at| Damage::new(&path, *at, UNIT_BYTES, LOST));
            let lost: Vec<Damage> = lost.collect();
            return match lost.is_empty() {
                true => Ok(None),
                false => Err(Error::Damaged(lost)),
            };
        }
        let temporary = names::temporary(&path);
        let put = self
            .copy(file, &source, &healer, go_on, &temporary)
            .and_then(|()| self.put_in_place(file, &path, &temporary, set_aside));
        if !matches!(put, Ok(true)) {
            let _ = vfs.remove(&temporary);
        }
        Ok(put?.then(|| healer.healed()))
    }

    /// A file as the disk has it, if there is a way to see that.
    fn open_past_cache(&self, path: &Path) -> Result<Option<Source>> {
        let vfs = &*self.setup.vfs;
        let file: Arc<dyn File> = match vfs.open(path, Access::ReadDirect) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(_) => {
                let file = vfs.open(path, Access::Read);
                file.map_err(|e| Error::io("open", path, e))?
            }
        };
        Ok(Some(
            Source::new(path, file, is_lenient(&self.setup))?.strict(),
        ))
    }

    /// The header needs no parity: what it says is known.
    fn heal_header(&self, source: &Source, file: &ViewFile, healer: &mut Healer) {
        let mut unit = [0; UNIT];
        let read = source.patched(healer.patches()).read(&mut unit, 0);
        if read.is_err() || FileHeader::decode(HeaderKind::Log, &unit).is_err() {
            let header = FileHeader {
                store_id: self.store_id,
                meta: file.meta.clone(),
            };
            healer.patch(0, header.encode(HeaderKind::Log));
        }
    }

    /// Copies the file, with what its parity makes good, and makes the copy durable.
    fn copy(
        &self,
        file: &ViewFile,
        source: &Source,
        healer: &Healer,
        go_on: GoOn<'_>,
        to: &Path,
    ) -> Result<()> {
        let healed = source.patched(healer.patches());
        let end = round_up(file.end.0.saturating_sub(file.meta.first_lsn.0));
        // Shorter than its content: it was cut off. Longer, and less than its capacity: its room was given back.
        let len = match source.len() < end {
            true => file.meta.capacity,
            false => source.len(),
        };
        let copy = self.setup.vfs.open(to, Access::CreateOrTruncate);
        let copy = copy.map_err(|e| Error::io("create", to, e))?;
        let mut chunk = vec![0; GROUP_BYTES as usize];
        let mut offset = 0;
        while offset < len {
            go_on()?;
            let want = (len - offset).min(GROUP_BYTES) as usize;
            let chunk = chunk.get_mut(..want).unwrap_or_default();
            match healed.read(chunk, offset) {
                Ok(read) => chunk.iter_mut().skip(read).for_each(|byte| *byte = 0),
                Err(_) => read_where_needed(&healed, chunk, offset, end)?,
            }
            if chunk.iter().any(|&byte| byte != 0) {
                let written = copy.write_at(chunk, offset);
                written.map_err(|e| Error::io("write", to, e))?;
            }
            offset += want as u64;
        }
        let lengthened = copy.set_len(len);
        lengthened.map_err(|e| Error::io("lengthen", to, e))?;
        copy.sync_data().map_err(|e| Error::io("sync", to, e))
    }

    /// `false` if the file is no longer part of the log.
    fn put_in_place(
        &self,
        file: &ViewFile,
        path: &Path,
        temporary: &Path,
        set_aside: &dyn Fn(&Path),
    ) -> Result<bool> {
        // While it is held, no file is taken out of the log and its name away.
        let _turn = self.prepare_turn.lock();
        if !self.has_file(file.meta.number) {
            return Ok(false);
        }
        set_aside(path);
        let renamed = self.setup.vfs.rename(temporary, path);
        renamed.map_err(|e| Error::io("publish", path, e))?;
        let synced = self.setup.vfs.sync_dir(&self.setup.dir);
        // Final: others may have names to be made durable there, and asking again proves nothing.
        synced.map_err(|e| self.poison(&Error::io("sync", &self.setup.dir, e)))?;
        Ok(true)
    }

    /// The files that the log has now.
    pub(crate) fn numbers(&self) -> Vec<LogNumber> {
        let view = self.view.lock();
        view.files.iter().map(|file| file.meta.number).collect()
    }

    /// Reads all of a file that parity covers, and its parity, past the page cache where there is a way. Units that
    /// aren't as they were written are noted to be mended; parity that isn't is written anew.
    ///
    /// # Errors
    /// What `go_on` answers; what the disk does, but for what it can't read; `OutcomeUnknown` if a sync failed.
    pub(crate) fn check_file(&self, number: LogNumber, go_on: GoOn<'_>) -> Result<CheckedLog> {
        let mut checked = CheckedLog::default();
        let file = {
            let view = self.view.lock();
            let mut files = view.files.iter();
            files.find(|file| file.meta.number == number).cloned()
        };
        let Some(file) = file.filter(|file| file.meta.parity != Parity::Off) else {
            return Ok(checked);
        };
        let path = names::log_path(&self.setup.dir, number);
        let Some(source) = self.open_past_cache(&path)? else {
            return Ok(checked);
        };
        let mut healer = Healer::past_cache(&*self.setup.vfs, &self.setup.dir, &file.meta);
        let mut spoiled = Vec::new();
        for group in healer.groups() {
            go_on()?;
            // Whoever writes parity is waited for, since half a slot is no damage; and need not wait for long.
            let _turn = self.parity_turn.lock();
            let Some(content) = healer.table(group).map(GroupTable::content) else {
                continue;
            };
            checked.bytes += content.end - content.start;
            healer.heal(&source, content);
            if !healer.is_slot_whole(group) {
                spoiled.push(group);
            }
        }
        let healed = healer.healed();
        self.mendings.note(number, &healed);
        let damage = |offset: &u64, what| Damage::new(&path, *offset, UNIT_BYTES, what);
        let healed = healed.iter().map(|at| damage(at, HEALED));
        checked.healed = healed.collect();
        checked.lost = healer.lost().iter().map(|at| damage(at, LOST)).collect();
        let mut protector = self.parity_turn.lock();
        checked.renewed = renew(&self.setup, &mut protector, &source, &mut healer, spoiled)
            .map_err(|error| match error {
                StepError::Refused(error) => error,
                StepError::Final(error) => self.poison(&error),
            })?;
        drop(protector);
        if self.old_file(number).is_some() {
            // A slot of which neither table is left is written anew, like one that never was.
            let (meta, end) = (file.meta, file.end);
            self.protect_later(Some(ParityJob::Old { meta, end }));
            self.protect(Patience::Patient)?;
        }
        Ok(checked)
    }
}

const HEALED: &str = "a block is not as it was written; parity makes up for it";
const LOST: &str = "a block is not as it was written, beyond what parity makes up for";

/// Reads unit by unit; one that can't be read and that nothing needs, behind the log's end, is left zero.
fn read_where_needed(source: &Source, chunk: &mut [u8], offset: u64, end: u64) -> Result<()> {
    for (unit, at) in chunk.chunks_mut(UNIT).zip((offset..).step_by(UNIT)) {
        match source.read(unit, at) {
            Ok(read) => unit.iter_mut().skip(read).for_each(|byte| *byte = 0),
            Err(_) if at >= end => unit.fill(0),
            // The next attempt would meet it as well.
            Err(Error::Io { path, .. }) => {
                let damage = Damage::new(&path, at, UNIT_BYTES, LOST);
                return Err(Error::damaged(damage));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes slots anew that aren't as they were written, where the groups are whole, or parity has made them so: the
/// same bytes in the same place.
fn renew(
    setup: &LogSetup<'_>,
    protector: &mut Protector,
    source: &Source,
    healer: &mut Healer,
    groups: Vec<u64>,
) -> std::result::Result<Vec<Damage>, StepError> {
    let mut renewed = Vec::new();
    if groups.is_empty() || setup.access == LogAccess::ReadOnly {
        return Ok(renewed);
    }
    let meta = healer.meta().clone();
    let path = names::parity_path(&setup.dir, meta.number);
    let file = setup.vfs.open(&path, Access::Write);
    let file = file.map_err(|e| StepError::Refused(Error::io("open", &path, e)))?;
    let content = source.patched(healer.patches());
    let slots = Slots::new(meta.parity);
    for group in groups {
        let Some(table) = healer.table(group).cloned() else {
            continue;
        };
        if healer.lost().iter().any(|at| table.content().contains(at)) {
            continue;
        }
        let read = |buffer: &mut [u8], at| content.read(buffer, at);
        let slot = protector.slot(&meta, group, table.end(), read);
        let slot = slot.map_err(StepError::Refused)?;
        let written = file.write_at(&slot, slots.start(group));
        written.map_err(|e| StepError::Final(Error::io("write", &path, e)))?;
        let what = "parity is not as it was written";
        let damage = Damage::new(&path, slots.start(group), slots.slot_bytes(), what);
        renewed.push(damage);
    }
    let synced = file.sync_data();
    synced.map_err(|e| StepError::Final(Error::io("sync", &path, e)))?;
    Ok(renewed)
}

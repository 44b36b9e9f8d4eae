//! Segments that reads found damaged, and whose parity makes up for it, are written anew.
//!
//! The copy is what was published, byte for byte, proved by the digest in the manifest. It takes the damaged
//! file's name, whose bytes stay in `quarantine/`, where the file system can give a file a second name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::tree::Tree;
use crate::error::{Error, Result};
use crate::segment::{Anew, Segment, file_name};
use crate::types::{FileId, SegmentNumber};

/// The folder for what was damaged, in the store's.
pub(super) const QUARANTINE: &str = "quarantine";

impl Engine {
    /// Writes one damaged segment anew and puts it in its place. `false` if none waits for that.
    pub(crate) fn step_mend(&self) -> Result<bool> {
        let _turn = self.mend_turn.lock();
        let outcome = self.mend_next();
        *self.mend_failure.lock() = outcome.as_ref().err().cloned();
        outcome
    }

    /// Writes anew every segment that is known to be damaged. Returns how many were.
    pub(crate) fn mend(&self) -> Result<u64> {
        self.check_writable()?;
        let before = self.cache.mendings().mended();
        while self.step_mend()? {}
        Ok(self.cache.mendings().mended() - before)
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
        let Some((tree, segment)) = self.find_segment(number, mending.file_id) else {
            mendings.forget(number);
            return Ok(true);
        };
        let span = tracing::info_span!("mend", segment = number.0);
        let _entered = span.enter();
        let (vfs, dir) = (&*self.options.vfs, self.options.path.as_path());
        let anew = match segment.write_anew(vfs, dir, &|| self.calls.check()) {
            Err(Error::Damaged(damage)) => {
                tracing::error!(?damage, "a damaged segment can't be mended whole");
                mendings.give_up(number);
                return Ok(true);
            }
            anew => anew?,
        };
        match self.put_in_place(&tree, &segment, &anew) {
            Ok(true) => mendings.mended_one(),
            Ok(false) => drop(vfs.remove(&anew.path)),
            Err(error) => {
                let _ = vfs.remove(&anew.path);
                return Err(error);
            }
        }
        mendings.forget(number);
        Ok(true)
    }

    /// A segment that is in use, and its keyspace.
    fn find_segment(
        &self,
        number: SegmentNumber,
        file_id: FileId,
    ) -> Option<(Arc<Tree>, Arc<Segment>)> {
        let keyspaces = self.keyspaces.load();
        keyspaces.trees().find_map(|tree| {
            let tables = tree.load();
            let loaded = tables.loaded().flat_map(|all| all.iter());
            let placed = tables.segments().map(|(_, segment)| segment);
            let mut all = placed.chain(loaded);
            let found = all.find(|segment| {
                segment.meta().number == number && segment.meta().file_id == file_id
            });
            found.map(|segment| (tree.clone(), segment.clone()))
        })
    }

    /// Gives the copy the segment's name, and goes on reading from it. `false` if nobody needs the segment any
    /// more.
    fn put_in_place(&self, tree: &Arc<Tree>, segment: &Segment, anew: &Anew) -> Result<bool> {
        let meta = segment.meta();
        let path = self.options.path.join(file_name(meta.number));
        // While it is held, nobody takes the segment out of the store and its name away.
        let manifest = self.manifest.lock();
        let Some((_, current)) = self.find_segment(meta.number, meta.file_id) else {
            return Ok(false);
        };
        self.set_aside(&path)?;
        let renamed = self.options.vfs.rename(&anew.path, &path);
        renamed.map_err(|error| Error::io("rename", &anew.path, error))?;
        self.sync_folder()
            .inspect_err(|error| self.latch_if_final(error))?;
        let opened = self.open_segment(meta)?;
        let opened = Arc::new(opened.loaded_at(current.meta().loaded_at));
        tree.change(|tables| tables.replace_segment(&opened));
        current.mark_replaced();
        drop(manifest);
        tracing::warn!(
            units = anew.units.len(),
            "a damaged segment was mended from its parity"
        );
        Ok(true)
    }

    /// Keeps the damaged file under a second name, if there can be one.
    fn set_aside(&self, path: &Path) -> Result<()> {
        let vfs = &*self.options.vfs;
        let folder = self.options.path.join(QUARANTINE);
        let made = vfs.create_dir_all(&folder);
        made.map_err(|error| Error::io("create the folder", &folder, error))?;
        let name = path.file_name().unwrap_or_default();
        let free = |number: u64| -> PathBuf {
            let mut name = name.to_owned();
            name.push(format!(".{number}"));
            folder.join(name)
        };
        for number in 1..=QUARANTINED_MAX {
            match vfs.link(path, &free(number)) {
                Ok(()) => break,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    // It is evidence, and no part of the store.
                    tracing::warn!(%error, "the damaged file couldn't be kept");
                    return Ok(());
                }
            }
        }
        let synced = vfs.sync_dir(&folder);
        synced.map_err(|error| Error::io("sync the folder", &folder, error))
    }
}

/// Copies of one damaged file that are kept; the first ones.
const QUARANTINED_MAX: u64 = 4;

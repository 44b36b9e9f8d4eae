//! The manifest: which keyspaces, segments and log files make the store.
//!
//! Two full copies, `manifest-{generation:08}.a` and `.b`, of a log of edits whose first entry is the
//! whole state. Bytes: `docs/format-manifest.md`. What keeps it safe:
//! - an edit is written and synced to A, then to B, and only then acknowledged;
//! - files have their full length and space from the start, so an edit needs no room on the disk;
//! - opening writes nothing, and nothing is ever appended to files that an earlier process wrote: the
//!   first edit after an open begins a new generation, and so does one that finds no room;
//! - a generation is published (both files synced, renamed, the folder synced) before the one before
//!   it goes, so the newest that can be seen is the current one, and there is no falling back;
//! - after a failed write or sync of a published file, or a failed sync or rename of one about to be
//!   published, nothing is written any more ([`Manifest::poisoned`]).
//!
//! How two copies are made one is a table: `table`.

mod encoding;
mod format;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod inspect;
mod merge;
mod reading;
mod remains;
mod scan;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod writing;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use encoding::{put_segment, read_segment};
pub use format::Side;
pub use inspect::{Inspected, Part, inspect, verify};
pub use remains::remains;
pub use state::{Change, KeyspaceState, ManifestState};

use crate::environment::Entropy;
use crate::error::{Damage, Error, Result};
use crate::types::FileId;
use crate::vfs::Vfs;
use reading::{Listing, list_store, load};
use writing::{Active, Failure, NewGeneration, remove_older};

/// What a manifest is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestAccess {
    /// To be the one writer; the caller holds the store's lock.
    ReadWrite,
    /// To look, perhaps beside a live writer. Nothing is written or synced.
    ReadOnly,
}

/// Where a manifest is and what it needs.
#[derive(Clone, Debug)]
pub struct ManifestSetup {
    /// The store's folder; it exists.
    pub dir: PathBuf,
    /// The disk.
    pub vfs: Arc<dyn Vfs>,
    /// Where file ids come from.
    pub entropy: Arc<dyn Entropy>,
    /// What it is opened for.
    pub access: ManifestAccess,
}

/// What an open found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestReport {
    /// Bytes of an edit that was never acknowledged, cut short by a crash, and left out.
    pub torn_bytes: u64,
    /// What is damaged in one copy and intact in the other. The state is whole; the damage goes with
    /// the first edit, which begins a new generation.
    pub damage: Vec<Damage>,
}

/// The manifest of a store.
#[derive(Debug)]
pub struct Manifest {
    setup: ManifestSetup,
    state: ManifestState,
    generation: u64,
    sequence: u64,
    /// The generation's files, once this process has begun one.
    active: Option<Active>,
    poisoned: Option<Arc<str>>,
}

impl Manifest {
    /// Makes the manifest of a new store; both copies are durable on return. What an earlier attempt
    /// left unpublished is overwritten.
    ///
    /// # Errors
    /// `ManifestEdit` if there is a manifest already or the state makes no sense; `Damaged` if there
    /// are other files of a store, whose manifest must have been lost; `ReadOnly`; `NoSpace` and other
    /// answers of the disk, after which the call can be made again; `OutcomeUnknown` if a sync or
    /// rename failed.
    pub fn create(setup: ManifestSetup, state: ManifestState) -> Result<Self> {
        if setup.access == ManifestAccess::ReadOnly {
            return Err(Error::ReadOnly);
        }
        let listing = list_store(&*setup.vfs, &setup.dir)?;
        if !listing.generations.is_empty() {
            let why = format!("{} has a manifest already", setup.dir.display());
            return Err(Error::ManifestEdit { why });
        }
        if listing.of_a_store.is_some() {
            return Err(listing.missing(&setup.dir));
        }
        state.check().map_err(|why| Error::ManifestEdit { why })?;
        let mut manifest = Self {
            setup,
            state,
            generation: 0,
            sequence: 0,
            active: None,
            poisoned: None,
        };
        manifest.begin_generation(manifest.state.clone(), 1)?;
        Ok(manifest)
    }

    /// Reads the manifest. Writes nothing, and so needs no room on the disk and can be done again
    /// with the same result. For writing, the files and the folder are synced first and then read past
    /// the page cache, where the disk has a way to do that.
    ///
    /// Until the first edit has been applied ([`Manifest::has_begun_generation`]), the files of the
    /// store must be left alone even if the state doesn't name them: the names of the manifest's own
    /// files can be in the cache alone if a sync of the folder failed before, and a copy that the disk
    /// couldn't read this time may be readable next time. Then the next open can see the edit before.
    ///
    /// # Errors
    /// `NotAStore`, `NewerFormat`, what the disk answers, and `Damaged` if what can't be read in one
    /// copy can't be read in the other either, if the newest generation begins with no intact state
    /// (an older one is never taken instead), or if the manifest is gone and other files are there.
    pub fn open(setup: ManifestSetup) -> Result<(Self, ManifestReport)> {
        let (generation, merged) = load(&*setup.vfs, &setup.dir, setup.access)?;
        let merged = merged?;
        let manifest = Self {
            setup,
            state: merged.state,
            generation,
            sequence: merged.sequence,
            active: None,
            poisoned: None,
        };
        let report = ManifestReport {
            torn_bytes: merged.torn_bytes,
            damage: merged.damage,
        };
        Ok((manifest, report))
    }

    /// Whether a manifest has been published in this folder, damaged or not.
    ///
    /// # Errors
    /// What the disk answers; a folder that doesn't exist has no manifest.
    pub fn is_present(vfs: &dyn Vfs, dir: &Path) -> Result<bool> {
        match Listing::read(vfs, dir) {
            Ok(listing) => Ok(!listing.generations.is_empty()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("list", dir, error)),
        }
    }

    /// What the manifest says now.
    #[must_use]
    pub fn state(&self) -> &ManifestState {
        &self.state
    }

    /// The generation, and the number of the last edit; both only grow.
    #[must_use]
    pub fn position(&self) -> (u64, u64) {
        (self.generation, self.sequence)
    }

    /// Whether this process has begun a generation, so that what [`Manifest::state`] doesn't name is
    /// named by nothing that a later open can find.
    #[must_use]
    pub fn has_begun_generation(&self) -> bool {
        self.active.is_some()
    }

    /// Does a list of changes in one step: after `Ok` all of them are durable in both copies; after an
    /// error the state here is what it was. Takes time in proportion to the state, and two or five
    /// syncs. No changes is no edit.
    ///
    /// # Errors
    /// `ManifestEdit` if the changes make no sense for this state; `ReadOnly`; `NoSpace` (or another
    /// answer of the disk) if a new generation couldn't be written, in which case nothing has been
    /// done and the call can be made again; `OutcomeUnknown` if a write, sync or rename failed after
    /// which the edit may or may not be there at the next open; `Poisoned` ever after.
    pub fn apply(&mut self, changes: &[Change]) -> Result<()> {
        if self.setup.access == ManifestAccess::ReadOnly {
            return Err(Error::ReadOnly);
        }
        if let Some(cause) = &self.poisoned {
            let cause = cause.clone();
            return Err(Error::Poisoned { cause });
        }
        if changes.is_empty() {
            return Ok(());
        }
        let refuse = |why| Error::ManifestEdit { why };
        let state = self.state.with(changes).map_err(refuse)?;
        let sequence = self.sequence.checked_add(1);
        let sequence = sequence.ok_or_else(|| refuse("edit numbers are used up".into()))?;
        if let Some(active) = &mut self.active {
            let appended = active.append(sequence, changes);
            if appended.map_err(|failure| self.latch(failure))? {
                (self.state, self.sequence) = (state, sequence);
                return Ok(());
            }
        }
        self.begin_generation(state, sequence)
    }

    /// What of its files isn't as this process has written or read them. The files are read as anybody reads them,
    /// which may be from memory.
    ///
    /// # Errors
    /// `NotAStore` if there are none, or another store's; `NewerFormat`; what the disk answers.
    pub fn check(&self) -> Result<Vec<Damage>> {
        let (vfs, dir) = (&*self.setup.vfs, &self.setup.dir);
        let loaded = load(vfs, dir, ManifestAccess::ReadOnly);
        let loaded = loaded.and_then(|(generation, merged)| Ok((generation, merged?)));
        let (generation, merged) = match loaded {
            Err(Error::Damaged(damage)) => return Ok(damage),
            loaded => loaded?,
        };
        if merged.state.store_id != self.state.store_id {
            let (path, why) = (dir.clone(), "it is another store's".to_owned());
            return Err(Error::NotAStore { path, why });
        }
        let mut damage = merged.damage;
        let is_current = (generation, merged.sequence) == self.position();
        let agrees = self.active.as_ref().is_none_or(Active::agrees);
        if damage.is_empty() && !(is_current && merged.torn_bytes == 0 && agrees) {
            let what = "an edit that was made is missing in a copy";
            damage.push(Damage::new(&dir.join("manifest"), 0, 0, what));
        }
        Ok(damage)
    }

    /// Publishes what it says anew, in both copies, without a change.
    ///
    /// # Errors
    /// As [`Manifest::apply`].
    pub fn renew(&mut self) -> Result<()> {
        if self.setup.access == ManifestAccess::ReadOnly {
            return Err(Error::ReadOnly);
        }
        if let Some(cause) = &self.poisoned {
            let cause = cause.clone();
            return Err(Error::Poisoned { cause });
        }
        let sequence = self.sequence.checked_add(1);
        let sequence = sequence.ok_or_else(|| Error::ManifestEdit {
            why: "edit numbers are used up".into(),
        })?;
        self.begin_generation(self.state.clone(), sequence)
    }

    /// The failure after which nothing is written any more.
    #[cfg(test)]
    #[must_use]
    pub fn poisoned(&self) -> Option<Arc<str>> {
        self.poisoned.clone()
    }

    /// Publishes a generation that begins with this state.
    fn begin_generation(&mut self, state: ManifestState, sequence: u64) -> Result<()> {
        let generation = self.generation.checked_add(1);
        let generation = generation.ok_or_else(|| Error::ManifestEdit {
            why: "generation numbers are used up".into(),
        })?;
        let active = NewGeneration {
            vfs: &*self.setup.vfs,
            dir: &self.setup.dir,
            generation,
            file_id: FileId(self.setup.entropy.next_u128()),
            state: &state,
            sequence,
        }
        .publish()
        .map_err(|failure| self.latch(failure))?;
        self.active = Some(active);
        self.state = state;
        (self.generation, self.sequence) = (generation, sequence);
        remove_older(&*self.setup.vfs, &self.setup.dir, generation);
        Ok(())
    }

    fn latch(&mut self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(error) => error,
            Failure::Unknown(cause) => {
                let cause: Arc<str> = cause.into();
                self.poisoned = Some(cause.clone());
                Error::OutcomeUnknown { cause }
            }
        }
    }
}

//! The store goes down, one way or another, and comes up again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::Run;
use crate::api::Db;
use crate::api::fuzz::{FOLDER, check};
use crate::error::Error;
use crate::testing::{Input, TearUnit, edit_file};
use crate::types::Durability;

impl Run {
    pub(super) fn forget_handles(&mut self) {
        self.views.clear();
        self.pending.clear();
        self.db = None;
    }

    /// What a store can't lose by going down with its process.
    pub(super) fn floor(&self) -> u64 {
        match self.faults.faults_hit() {
            0 => self.model.process(),
            // A failed sync can take with it what the system had.
            _ => self.model.disk,
        }
    }

    /// Closes the store, drops it, kills its process, or cuts the power; leaves what to open next.
    pub(super) fn go_down(&mut self, input: &mut Input<'_>) {
        self.settle();
        let how = input.u8() % 8;
        if how < 2 {
            self.views.clear();
            self.pending.clear();
            let closed = self.db.take().map_or(Ok(()), Db::close);
            match closed {
                Ok(()) => {
                    self.model.promise(Durability::Disk);
                    self.model.identified = self.model.last();
                }
                Err(error) => self.excuse(&error),
            }
        }
        if how == 2 {
            self.forget_handles();
        }
        if self.faults.crashed() || how > 4 {
            return self.pull_the_plug(input);
        }
        let floor = self.floor();
        self.haunted |= self.faults.faults_hit() > 0;
        self.memory = self.memory.kill();
        self.forget_handles();
        self.model.disk = floor;
    }

    pub(super) fn pull_the_plug(&mut self, input: &mut Input<'_>) {
        let unit = input.pick(&[TearUnit::Sector, TearUnit::Page]);
        self.haunted = false;
        let disk = self.memory.crash(u64::from(input.u16()), unit);
        self.settle();
        self.forget_handles();
        self.memory = disk;
    }

    pub(super) fn lose_power(&mut self, input: &mut Input<'_>) {
        self.pull_the_plug(input);
        self.open_after(input);
    }

    /// Opens the store after it went down; now and then, what a damaged copy of it makes of that comes
    /// first.
    pub(super) fn open_after(&mut self, input: &mut Input<'_>) {
        let floor = self.model.disk;
        if input.u8() % 4 == 1 {
            self.damage(input, floor);
        }
        self.open(floor);
    }

    /// Opens a copy of the store with damaged files: right, or refused.
    pub(super) fn damage(&self, input: &mut Input<'_>, floor: u64) {
        let disk = self.memory.fork();
        let mut names = disk.file_names(FOLDER);
        names.retain(|name| name != "LOCK");
        let mut changed = BTreeSet::new();
        for _ in 0..1 + input.below(4) {
            let name = &names[input.place(names.len())];
            let path = Path::new(FOLDER).join(name);
            if edit_file(input, &disk, &path) {
                changed.insert(name.clone());
            }
        }
        let db = match self.machine.options().vfs(Arc::new(disk.clone())).open() {
            Ok(db) => db,
            Err(Error::Damaged(damage)) if !changed.is_empty() => {
                assert!(!damage.is_empty());
                return;
            }
            Err(error) => panic!("{changed:?} damaged: {error}"),
        };
        let last = db.last_index().0;
        let most = self.model.at_most();
        assert!(last <= most.last(), "record {last} was never written");
        let found = match changed.len() {
            0 | 1 => {
                // The window is documented: rot within the identifiers' delay passes for a torn tail.
                let floor = if changed.is_empty() {
                    floor
                } else {
                    floor.min(most.identified)
                };
                assert!(
                    floor <= last,
                    "{changed:?} damaged: {last} is left of {floor}"
                );
                check::whole(&db, &most.at(last))
            }
            _ => check::nothing_invented(&db, &most),
        };
        if let Err(error) = found {
            let named = matches!(error, Error::Damaged(_)) && !changed.is_empty();
            assert!(named, "{changed:?} damaged: {error}");
        }
    }
}

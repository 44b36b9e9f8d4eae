//! What the manifest says of a store that is to be salvaged; or what is left of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::salvage::{Lost, is_final, segment_number};
use crate::error::{Damage, Error, Result};
use crate::manifest::{self, Manifest, ManifestAccess, ManifestSetup, ManifestState};
use crate::options::Options;
use crate::types::{LogFileMeta, SegmentNumber, StoreId};

/// What is known before any other file is looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The manifest's state; if it can't be read as a whole, the best that is left of it, if anything is.
    pub(super) state: Option<ManifestState>,
    /// Where the manifest stands; `None` if it can't be read.
    pub(super) position: Option<(u64, u64)>,
    /// Segments that are known to be no longer of the store.
    pub(super) removed: BTreeSet<SegmentNumber>,
    pub(super) store_id: StoreId,
    /// Names of the folder's files.
    pub(super) names: BTreeSet<String>,
    pub(super) damage: Vec<Damage>,
}

impl Known {
    pub(super) fn find(options: &Options) -> Result<Self> {
        let (vfs, dir) = (options.vfs.as_ref(), options.path.as_path());
        let not_a_store = |why: &str| Error::NotAStore {
            path: dir.to_owned(),
            why: why.to_owned(),
        };
        let entries = vfs.list(dir).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => not_a_store("there is no such folder"),
            std::io::ErrorKind::NotADirectory => not_a_store("it is not a folder"),
            _ => Error::io("list the folder", dir, error),
        })?;
        let names = entries.into_iter().filter(|entry| !entry.is_dir);
        let mut known = Self {
            names: names.map(|entry| entry.name).collect(),
            ..Self::default()
        };
        let setup = ManifestSetup {
            dir: dir.to_owned(),
            vfs: options.vfs.clone(),
            entropy: options.entropy.clone(),
            access: ManifestAccess::ReadOnly,
        };
        match Manifest::open(setup) {
            Ok((manifest, report)) => {
                let state = manifest.state().clone();
                known.store_id = state.store_id;
                known.state = Some(state);
                known.position = Some(manifest.position());
                known.damage = report.damage;
                return Ok(known);
            }
            Err(error @ Error::NotAStore { .. }) => return Err(error),
            Err(error) if is_final(&error) => return Err(error),
            Err(Error::Damaged(damage)) => known.damage = damage,
            Err(error) => {
                let damage = Damage::new(&dir.join("manifest"), 0, 0, error.to_string());
                known.damage.push(damage);
            }
        }
        if let Ok(remains) = manifest::remains(vfs, dir) {
            known.store_id = remains.store_id.unwrap_or_default();
            known.state = remains.state;
            known.removed = remains.removed;
        }
        Ok(known)
    }

    /// Whether the manifest could be read.
    pub(super) fn is_whole(&self) -> bool {
        self.position.is_some()
    }

    /// The segments in the folder.
    pub(super) fn segments(&self) -> impl Iterator<Item = SegmentNumber> {
        self.names.iter().filter_map(|name| segment_number(name))
    }

    /// What the log's room is to know of its files: all of it or nothing, since files that it isn't told of
    /// count as purged.
    pub(super) fn log_files(&self) -> Vec<LogFileMeta> {
        let files = self.state.iter().flat_map(|state| state.log_files.values());
        let known: BTreeMap<String, &LogFileMeta> = files
            .map(|meta| (format!("{:08}.log", meta.number.0), meta))
            .collect();
        let mut there = self.names.iter().filter(|name| name.ends_with(".log"));
        if !self.is_whole() && !there.all(|name| known.contains_key(name)) {
            return Vec::new();
        }
        let is_there = |name: &String| self.is_whole() || self.names.contains(name);
        let known = known.into_iter().filter(|(name, _)| is_there(name));
        known.map(|(_, meta)| meta.clone()).collect()
    }

    /// What the manifest itself has lost.
    pub(super) fn lost(&self, options: &Options) -> Vec<Lost> {
        if self.is_whole() {
            return Vec::new();
        }
        let unknown = || {
            let path = options.path.join("manifest");
            vec![Damage::new(&path, 0, 0, "it can't be read")]
        };
        let damage = match self.damage.is_empty() {
            true => unknown(),
            false => self.damage.clone(),
        };
        damage.into_iter().map(Lost::anywhere).collect()
    }

    /// What must be assumed without a manifest.
    pub(super) fn assumed(&self) -> Vec<String> {
        if self.is_whole() {
            return Vec::new();
        }
        let what = match &self.state {
            Some(_) => {
                "the manifest can be read in part only: names and options are from that part"
            }
            None => "no part of the manifest can be read",
        };
        vec![
            what.to_owned(),
            "every segment in the folder was taken to be part of the store: a key that was deleted may be back, \
             and whether a segment is missing can't be told"
                .to_owned(),
        ]
    }
}

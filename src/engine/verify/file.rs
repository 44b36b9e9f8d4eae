//! One file, checked as far as it can be by itself, and by the manifest that lies beside it.

use std::path::Path;
use std::sync::Arc;

use crate::engine::verify::map::{BlockState, FileMap};
use crate::engine::verify::{Severity, state_of};
use crate::error::{Damage, Error, Result};
use crate::journal::{JOURNAL_FILE, JOURNAL_OLD_FILE};
use crate::manifest::{self, Manifest, ManifestAccess, ManifestSetup, ManifestState, Part};
use crate::options::Options;
use crate::segment::{self, BlockCache, ReadPolicy, Segment, Wreck};
use crate::types::{SegmentMeta, SegmentNumber, StoreId};
use crate::wal::{self, DamagePolicy, LogAccess, LogSetup};

/// What a look at one file found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileReport {
    /// How bad it is: never more than `Damaged`.
    pub severity: Severity,
    /// Everything that isn't as it was written.
    pub damage: Vec<Damage>,
    /// Of the damage, what the file itself doesn't make up for.
    pub lost: Vec<Damage>,
    /// What can't be told by this file alone.
    pub unchecked: Vec<String>,
    /// What in it isn't whole.
    pub map: FileMap,
}

/// Reads and checks one file of a store: a segment, a file of the log or its identifiers, a copy of the manifest,
/// of the lineage or of term and vote, or the journal of repairs. If the store's manifest lies beside it and can be read, a segment is also
/// held against what that says. `options` say how the disk is reached; their path doesn't matter.
///
/// Without its store some things can't be told; the report says which. Of a log file the end may be torn by a
/// crash, which is no damage: what stands behind the last whole record is not judged.
///
/// # Errors
/// [`Error::NotAStore`] if it isn't a file of Kintsu's by its name; [`Error::NewerFormat`],
/// [`Error::FeatureMissing`], or what the disk answers.
pub fn verify_file(options: &Options, path: &Path) -> Result<FileReport> {
    let mut look = Look {
        options,
        path,
        dir: path.parent().unwrap_or(Path::new("")),
        report: FileReport {
            map: FileMap::of(options.vfs.as_ref(), path)?,
            ..FileReport::default()
        },
    };
    if look.report.map.is_missing {
        let why = "there is no such file".to_owned();
        let path = path.to_owned();
        return Err(Error::NotAStore { path, why });
    }
    let name = look.report.map.name.clone();
    match name.rsplit_once('.') {
        Some((stem, "segment")) if stem.parse::<u64>().is_ok() => {
            look.segment(SegmentNumber(stem.parse().unwrap_or_default()))?;
        }
        Some((stem, "log" | "ids" | "parity")) if stem.parse::<u64>().is_ok() => look.log()?,
        Some((stem, "a" | "b")) if stem.starts_with("manifest-") => look.manifest()?,
        Some(("vote", "a" | "b")) => look.note(wal::check_vote(options.vfs.as_ref(), path)?, false),
        _ if name == crate::snapshot::LINEAGE_FILE
            || name == crate::snapshot::LINEAGE_COPY_FILE =>
        {
            let damage = crate::snapshot::check_lineage_file(options.vfs.as_ref(), path)?;
            look.note(damage, false);
        }
        _ if name == JOURNAL_FILE || name == JOURNAL_OLD_FILE => look.journal()?,
        _ => {
            let why = "no file of Kintsu's has such a name".to_owned();
            let path = path.to_owned();
            return Err(Error::NotAStore { path, why });
        }
    }
    look.report.map.settle();
    Ok(look.report)
}

struct Look<'a> {
    options: &'a Options,
    path: &'a Path,
    dir: &'a Path,
    report: FileReport,
}

impl Look<'_> {
    fn note(&mut self, damage: Option<Damage>, can_be_mended: bool) {
        let Some(damage) = damage else {
            return;
        };
        self.report.map.add_damage(&damage, state_of(can_be_mended));
        self.count(damage, can_be_mended);
    }

    fn count(&mut self, damage: Damage, can_be_mended: bool) {
        let severity = match can_be_mended {
            true => Severity::Mendable,
            false => Severity::Damaged,
        };
        self.report.severity = self.report.severity.max(severity);
        if !can_be_mended {
            self.report.lost.push(damage.clone());
        }
        self.report.damage.push(damage);
    }

    /// What the manifest beside it says, if there is one that can be read.
    fn state(&self) -> Option<ManifestState> {
        let setup = ManifestSetup {
            dir: self.dir.to_owned(),
            vfs: self.options.vfs.clone(),
            entropy: self.options.entropy.clone(),
            access: ManifestAccess::ReadOnly,
        };
        let (manifest, _) = Manifest::open(setup).ok()?;
        Some(manifest.state().clone())
    }

    fn segment(&mut self, number: SegmentNumber) -> Result<()> {
        // (A place in the map has no more to say than the damage has.)
        self.report.map.places.clear();
        let state = self.state();
        let keyspaces = state.iter().flat_map(|state| state.keyspaces.values());
        let mut named = keyspaces.filter_map(|k| k.segments.get(&number));
        let meta = named.next().map(|(_, meta)| meta.clone());
        let store_id = state
            .as_ref()
            .map(|state| state.store_id)
            .unwrap_or_default();
        let damage = match &meta {
            Some(meta) => self.opened(store_id, meta)?,
            None => None,
        };
        if let Some(damage) = damage {
            for (damage, state, places) in damage {
                for (offset, bytes) in places {
                    self.report.map.add(offset, bytes, state, &damage.what);
                }
                self.count(damage, state == BlockState::Mendable);
            }
            return Ok(());
        }
        if meta.is_none() {
            let what = "the digest of the whole file, and whether it is part of the store: only the manifest knows";
            self.report.unchecked.push(what.to_owned());
        }
        self.parts(number, meta.as_ref())
    }

    /// Checked as the manifest has it; `None` if it can't be opened so.
    #[allow(clippy::type_complexity, reason = "it is taken apart at once")]
    fn opened(
        &self,
        store_id: StoreId,
        meta: &SegmentMeta,
    ) -> Result<Option<Vec<(Damage, BlockState, Vec<(u64, u64)>)>>> {
        let vfs = self.options.vfs.clone();
        let policy = ReadPolicy {
            pins: true,
            maps: false,
        };
        let cache = Arc::new(BlockCache::with_policy(0, policy));
        let segment = match Segment::open(vfs, self.dir, store_id, meta, cache) {
            Err(Error::Damaged(_)) => return Ok(None),
            segment => segment?,
        };
        let damage = segment.verify(&mut |_| {})?;
        let judged = segment.judge(&damage).into_iter();
        let state = damage.into_iter().zip(judged);
        let state = state.map(|(damage, one)| (damage, state_of(one.can_be_mended), one.places));
        Ok(Some(state.collect()))
    }

    /// Each part of it by its own checksum.
    fn parts(&mut self, number: SegmentNumber, meta: Option<&SegmentMeta>) -> Result<()> {
        let vfs = self.options.vfs.as_ref();
        let mut damage = Vec::new();
        segment::inspect(vfs, self.path, &mut |part| {
            if let Err(what) = part.verdict {
                damage.push(Damage::new(self.path, part.offset, part.bytes, what));
            }
        })?;
        let mut wreck = Wreck::open(vfs, self.path, number, meta)?;
        loop {
            wreck.next()?;
            if wreck.entry().is_none() {
                break;
            }
        }
        for part in wreck.lost() {
            let is_known = |one: &Damage| one.offset == part.damage.offset;
            if !damage.iter().any(is_known) {
                damage.push(part.damage.clone());
            }
        }
        if damage.is_empty() && wreck.identity().is_some_and(|one| one.number != number) {
            let what = "it is another segment, under this one's name";
            damage.push(Damage::new(self.path, 0, self.report.map.bytes, what));
        }
        for (damage, judged) in damage.iter().zip(wreck.judge(&damage)) {
            let state = state_of(judged.can_be_mended);
            for (offset, bytes) in judged.places {
                self.report.map.add(offset, bytes, state, &damage.what);
            }
            self.count(damage.clone(), judged.can_be_mended);
        }
        Ok(())
    }

    fn log(&mut self) -> Result<()> {
        let state = self.state();
        let setup = LogSetup {
            vfs: self.options.vfs.clone(),
            access: LogAccess::ReadOnly,
            damage: DamagePolicy::Tolerate,
            store_id: state
                .as_ref()
                .map(|state| state.store_id)
                .unwrap_or_default(),
            ..LogSetup::new(self.dir)
        };
        let mut found = Vec::new();
        let (path, mut is_here) = (self.path, false);
        let mut lose = |offset: u64, bytes: u64, what: &str| {
            found.push(Damage::new(path, offset, bytes, what));
        };
        wal::inspect(setup, &mut |inspected| match inspected {
            wal::Inspected::File {
                path: of, faults, ..
            } => {
                is_here = of == path;
                if is_here && !faults.is_empty() {
                    lose(0, 4096, &faults.join("; "));
                }
            }
            wal::Inspected::Identifiers { path: of } | wal::Inspected::Parity { path: of } => {
                is_here = of == path;
            }
            _ if !is_here => {}
            wal::Inspected::Record {
                offset,
                bytes,
                index,
                is_good: false,
                ..
            } => {
                lose(
                    offset,
                    bytes,
                    &format!("record {index} isn't as it was written"),
                );
            }
            wal::Inspected::Gap { from, to } => lose(from, to - from, "records are missing here"),
            wal::Inspected::IdentifierUnit { offset, unit: None } => {
                lose(offset, 4096, "identifiers are damaged");
            }
            wal::Inspected::ParityGroup {
                offset,
                is_whole: false,
                ..
            } => lose(offset, 0, "parity of a part of the log is damaged"),
            _ => {}
        })?;
        let is_log = path.extension().is_some_and(|of| of == "log");
        for damage in found {
            // Of the header there is a copy in the other file, and identifiers are only told again.
            let has_copy = !is_log || damage.offset == 0;
            self.note(Some(damage), has_copy);
        }
        let what = match is_log {
            true => {
                "whether what follows the last whole record is torn or lost, and what segments have of it"
            }
            false => "whether the records it is of are there",
        };
        self.report.unchecked.push(what.to_owned());
        Ok(())
    }

    fn manifest(&mut self) -> Result<()> {
        let has_copy = self.state().is_some();
        let mut found = Vec::new();
        manifest::inspect(self.options.vfs.as_ref(), self.dir, &mut |inspected| {
            if let (true, Part::Bad { what }) = (inspected.path == self.path, &inspected.part) {
                let (offset, bytes) = (inspected.offset, inspected.bytes);
                found.push(Damage::new(self.path, offset, bytes, what));
            }
        })?;
        for damage in found {
            self.note(Some(damage), has_copy);
        }
        let what = "whether a damaged last edit was torn by a crash: the other copy tells";
        self.report.unchecked.push(what.to_owned());
        Ok(())
    }

    fn journal(&mut self) -> Result<()> {
        let found = crate::journal::read(self.options.vfs.as_ref(), self.dir)?;
        if found.unreadable_lines > 0 {
            let what = format!(
                "{} lines of the journal aren't as they were written",
                found.unreadable_lines
            );
            let damage = Damage::new(self.path, 0, self.report.map.bytes, what);
            self.note(Some(damage), false);
        }
        Ok(())
    }
}

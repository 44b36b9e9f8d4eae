//! The versions of one key, from whichever table, and what is to be done for the newest of them.

use std::collections::BTreeSet;

use crate::engine::batch::{Effect, Expiry};
use crate::engine::salvage::{Lost, Visit, Walked};
use crate::error::Result;
use crate::types::{EXPIRY_BYTES, Entry, EntryKind, Index, SegmentNumber, Version, expires_us};

/// Where a version was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    Segment(SegmentNumber),
    /// A record that no segment holds.
    Log,
    /// A record that segments hold, or held: used only for what is newer than all that they still have.
    Spare,
}

/// What is needed of one key, newest first.
pub(super) struct Chain {
    has_manifest: bool,
    unbroken_from: Index,
    key: Option<Vec<u8>>,
    versions: Vec<(Version, EntryKind, Vec<u8>, Origin)>,
    /// The version below which nothing matters; set once it is reached.
    base: Option<Version>,
    origins: BTreeSet<Origin>,
    /// Two tables say different things of one version.
    contradicts: bool,
    outcome: Outcome,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Outcome {
    #[default]
    Nothing,
    Shown,
    Uncertain(Vec<u8>),
}

impl Chain {
    pub(super) fn new(has_manifest: bool, unbroken_from: Index) -> Self {
        Self {
            has_manifest,
            unbroken_from,
            key: None,
            versions: Vec::new(),
            base: None,
            origins: BTreeSet::new(),
            contradicts: false,
            outcome: Outcome::Nothing,
        }
    }

    /// The key that is gathered now.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// Takes the next version of the key, from the newest to the oldest. `deleted` is the newest range deletion
    /// over it.
    pub(super) fn feed(&mut self, entry: Entry<'_>, deleted: Option<Version>, origin: Origin) {
        if self.key.is_none() {
            self.key = Some(entry.key.to_vec());
        }
        let has_segment = self.origins.iter().any(|o| matches!(o, Origin::Segment(_)));
        if origin == Origin::Spare && has_segment {
            return;
        }
        self.origins.insert(origin);
        if let Some(deleted) = deleted.filter(|deleted| *deleted > entry.version) {
            self.base.get_or_insert(deleted);
        }
        if let Some((version, kind, value, _)) = self.versions.last_mut()
            && *version == entry.version
        {
            // A compaction's answer beside what it was made from.
            if *kind == EntryKind::Merge && entry.kind == EntryKind::Merge {
                self.contradicts |= *value != entry.value;
            } else if *kind == EntryKind::Merge && self.base.is_none() {
                (*kind, *value) = (entry.kind, entry.value.to_vec());
                self.base = Some(entry.version);
            }
            return;
        }
        if self.base.is_some() {
            return;
        }
        let version = (entry.version, entry.kind, entry.value.to_vec(), origin);
        self.versions.push(version);
        if entry.kind != EntryKind::Merge {
            self.base = Some(entry.version);
        }
    }

    /// Shows what to do for the key that was fed, and forgets it. `lost` is what may have held more of it, and the
    /// records whose versions that had.
    pub(super) fn end(
        &mut self,
        stray_loads: &BTreeSet<SegmentNumber>,
        lost: impl Iterator<Item = (Lost, (Index, Index))>,
        visit: Visit<'_>,
    ) -> Result<()> {
        self.outcome = Outcome::Nothing;
        let Some(key) = self.key.take() else {
            return Ok(());
        };
        let is_known = self.is_certain(stray_loads) && self.has_all(&key, lost);
        let mut versions = std::mem::take(&mut self.versions);
        self.origins.clear();
        self.base = None;
        self.contradicts = false;
        if versions
            .iter()
            .all(|(_, kind, ..)| *kind == EntryKind::Delete)
        {
            return Ok(());
        }
        if !is_known {
            self.outcome = Outcome::Uncertain(key);
            return Ok(());
        }
        self.outcome = Outcome::Shown;
        while let Some((_, kind, value, _)) = versions.pop() {
            let effect = match kind {
                EntryKind::Put => Effect::Put(&value),
                EntryKind::Delete => continue,
                EntryKind::Merge => Effect::Merge(&value),
                EntryKind::Expiring => {
                    let expiry = Expiry::At(expires_us(&value).unwrap_or_default());
                    Effect::PutUntil(expiry, value.get(EXPIRY_BYTES..).unwrap_or_default())
                }
            };
            visit(&key, effect)?;
        }
        Ok(())
    }

    /// Adds what became of the key that ended last.
    pub(super) fn count(&mut self, walked: &mut Walked, names_max: usize) {
        match std::mem::take(&mut self.outcome) {
            Outcome::Nothing => {}
            Outcome::Shown => walked.keys += 1,
            Outcome::Uncertain(key) => {
                walked.uncertain += 1;
                if walked.uncertain_keys.len() < names_max {
                    walked.uncertain_keys.push(key);
                }
            }
        }
    }

    /// Whether the tables agree on what there is, and in which order.
    fn is_certain(&self, stray_loads: &BTreeSet<SegmentNumber>) -> bool {
        if self.has_manifest {
            return true;
        }
        let later_than = |load: &SegmentNumber| {
            let mut segments = self.origins.iter();
            segments.any(|origin| matches!(origin, Origin::Segment(number) if number > load))
        };
        let is_here = |load: &&SegmentNumber| self.origins.contains(&Origin::Segment(**load));
        if self.contradicts || stray_loads.iter().filter(is_here).any(later_than) {
            return false;
        }
        let (Some((_, EntryKind::Merge, ..)), Some((_, last, ..))) =
            (self.versions.first(), self.versions.last())
        else {
            return true;
        };
        // A segment that has two versions of a key has all between. Another one may be missing with a version
        // between theirs, or be what a compaction has made of the other.
        let of_segment = |origin: &Origin| matches!(origin, Origin::Segment(_));
        let of_segments = self
            .versions
            .iter()
            .filter(|(.., origin)| of_segment(origin));
        let segments: BTreeSet<_> = of_segments.clone().map(|(.., origin)| *origin).collect();
        let newest = of_segments.map(|(version, ..)| version.index).max();
        let has_log = self.versions.iter().any(|(.., origin)| !of_segment(origin));
        let has_base = *last != EntryKind::Merge;
        match newest {
            None => {
                let base = self.base.unwrap_or_default().index;
                self.unbroken_from <= base.max(Index(1))
            }
            Some(newest) => {
                has_base && segments.len() == 1 && (!has_log || self.unbroken_from <= newest.next())
            }
        }
    }

    /// Whether none of what its merges were merged with can be lost.
    fn has_all(&self, key: &[u8], mut lost: impl Iterator<Item = (Lost, (Index, Index))>) -> bool {
        let newest_merge = self
            .versions
            .first()
            .filter(|(_, kind, ..)| *kind == EntryKind::Merge);
        let Some((newest, ..)) = newest_merge else {
            return true;
        };
        let base = self.base.unwrap_or_default();
        let in_log = |(.., origin): &(Version, EntryKind, Vec<u8>, Origin)| {
            !matches!(origin, Origin::Segment(_))
        };
        if base > Version::default()
            && base.index >= self.unbroken_from
            && self.versions.iter().all(in_log)
        {
            return true;
        }
        !lost.any(|(lost, of)| lost.may_hold(key, base.index, newest.index, of))
    }
}

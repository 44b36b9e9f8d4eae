//! What the manifest says, and the changes that an edit makes to it. No disk in here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::types::{
    BOUND_BYTES_MAX, Fence, Index, KEYSPACE_NAME_BYTES_MAX, KeyspaceId, LogFileMeta, LogNumber,
    Mode, SegmentMeta, SegmentNumber, StoreId, Term,
};

/// Everything that the manifest says of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestState {
    /// Random identity of the store.
    pub store_id: StoreId,
    /// Whether it stands alone or belongs to a cluster.
    pub mode: Mode,
    /// Identity of the cluster; 0 in a standalone store.
    pub cluster_id: u128,
    /// Identity of this member in it; 0 in a standalone store.
    pub member_id: u64,
    /// When the store was created, in microseconds since 1970.
    pub created_us: u64,
    /// No published segment ever had this number or a higher one.
    pub next_segment: SegmentNumber,
    /// No keyspace ever had this id or a higher one.
    pub next_keyspace: KeyspaceId,
    /// The time of the last log record that all segments cover, in microseconds since 1970.
    pub covered_time_us: u64,
    /// The last log record about keyspaces that is reflected here.
    pub catalog_index: Index,
    /// What the store had done at the last flush or compaction, opaque here; nothing depends on it.
    pub activity: Vec<u8>,
    /// What the last records that all segments cover mean to transactions, in pieces that follow each other; opaque
    /// here.
    pub conflict_window: Vec<Arc<[u8]>>,
    /// The keyspaces that exist.
    pub keyspaces: BTreeMap<KeyspaceId, KeyspaceState>,
    /// The log files that exist.
    pub log_files: BTreeMap<LogNumber, LogFileMeta>,
}

/// What the manifest says of one keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceState {
    /// Its name; no two keyspaces have the same.
    pub name: String,
    /// The log record that created it.
    pub created: Index,
    /// The segments hold everything up to this log record. A new keyspace starts at `created`:
    /// nothing can have been written to it before.
    pub covered: Index,
    /// The term of that log record; 0 until the first flush, and in a standalone store.
    pub covered_term: Term,
    /// The keyspace's options, opaque here.
    pub options: Vec<u8>,
    /// Its segments, each with its level.
    pub segments: BTreeMap<SegmentNumber, (u8, SegmentMeta)>,
    /// Where versions are lost, by first keys and, of one key, in the order in which they came.
    pub fences: Vec<Fence>,
}

/// One change; an edit is a list of them, done in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A keyspace comes into being.
    KeyspaceCreated {
        /// Its id, never used before.
        id: KeyspaceId,
        /// Its name.
        name: String,
        /// The log record that created it.
        index: Index,
        /// Its options, opaque here.
        options: Vec<u8>,
    },
    /// A keyspace goes, and its segments with it.
    KeyspaceDropped {
        /// Its id.
        id: KeyspaceId,
        /// The log record that dropped it.
        index: Index,
    },
    /// A flush, a compaction, or a mere step forward of what is covered.
    SegmentsReplaced {
        /// Whose segments.
        keyspace: KeyspaceId,
        /// The segments that go; one that merely moves is in `added` as well.
        removed: Vec<SegmentNumber>,
        /// The segments that come, each with its level.
        added: Vec<(u8, SegmentMeta)>,
        /// What the segments now cover, if that changes; it never goes back.
        covered: Option<(Index, Term)>,
    },
    /// What is lost of a keyspace is this now.
    Fenced {
        /// Which keyspace.
        keyspace: KeyspaceId,
        /// All of its fences.
        fences: Vec<Fence>,
    },
    /// A log file has been prepared, above all that exist.
    LogFilePrepared(LogFileMeta),
    /// Log files go.
    LogFilesRemoved(Vec<LogNumber>),
    /// Segment numbers below this one are taken.
    NextSegment(SegmentNumber),
    /// The last log record that all segments cover has this time; it never goes back.
    CoveredTime(u64),
    /// What the store has done so far, opaque here.
    Activity(Vec<u8>),
    /// The conflict window moves on.
    ConflictWindow {
        /// Pieces that go, the oldest first.
        dropped: u64,
        /// The piece that comes.
        added: Arc<[u8]>,
    },
}

/// Why a change or a state is refused.
pub(super) type Why = String;

impl ManifestState {
    /// Its bytes, as they stand in a manifest.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        super::encoding::put_state(&mut out, self);
        out
    }

    /// The state that `bytes` are, if they are exactly one and it makes sense.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        super::encoding::decode_state(bytes)
    }

    /// This state with all of `changes` done, in their order; or why that makes no sense.
    /// Takes time and memory in proportion to the whole state.
    pub(super) fn with(&self, changes: &[Change]) -> Result<Self, Why> {
        let mut next = self.clone();
        for change in changes {
            next.change(change)?;
        }
        Ok(next)
    }

    /// Does one change. After a refusal the state is to be thrown away.
    pub(super) fn change(&mut self, change: &Change) -> Result<(), Why> {
        match change {
            Change::KeyspaceCreated {
                id,
                name,
                index,
                options,
            } => self.create_keyspace(*id, name, *index, options),
            Change::KeyspaceDropped { id, index } => {
                self.advance_catalog(*index)?;
                match self.keyspaces.remove(id) {
                    Some(_) => Ok(()),
                    None => Err(format!("keyspace {id} can't be dropped: it doesn't exist")),
                }
            }
            Change::SegmentsReplaced {
                keyspace,
                removed,
                added,
                covered,
            } => self.replace_segments(*keyspace, removed, added, *covered),
            Change::Fenced { keyspace, fences } => self.fence(*keyspace, fences),
            Change::LogFilePrepared(meta) => self.add_log_file(meta),
            Change::LogFilesRemoved(numbers) => self.remove_log_files(numbers),
            Change::NextSegment(next) => {
                if *next < self.next_segment {
                    return Err(format!(
                        "the next segment can't go back from {} to {next}",
                        self.next_segment
                    ));
                }
                self.next_segment = *next;
                Ok(())
            }
            Change::CoveredTime(time_us) => {
                if *time_us < self.covered_time_us {
                    return Err(format!(
                        "the covered time can't go back from {} to {time_us}",
                        self.covered_time_us
                    ));
                }
                self.covered_time_us = *time_us;
                Ok(())
            }
            Change::Activity(activity) => {
                self.activity.clone_from(activity);
                Ok(())
            }
            Change::ConflictWindow { dropped, added } => {
                let there = self.conflict_window.len();
                let dropped = usize::try_from(*dropped).ok().filter(|d| *d <= there);
                let dropped = dropped.ok_or("the conflict window hasn't got so many pieces")?;
                self.conflict_window.drain(..dropped);
                self.conflict_window.push(added.clone());
                Ok(())
            }
        }
    }

    fn create_keyspace(
        &mut self,
        id: KeyspaceId,
        name: &str,
        index: Index,
        options: &[u8],
    ) -> Result<(), Why> {
        self.advance_catalog(index)?;
        if id < self.next_keyspace {
            return Err(format!("keyspace id {id} is or was in use"));
        }
        let next = id.0.checked_add(1).ok_or("keyspace ids are used up")?;
        check_name(name)?;
        if self.keyspaces.values().any(|other| other.name == name) {
            return Err(format!("a keyspace {name:?} exists already"));
        }
        self.next_keyspace = KeyspaceId(next);
        let keyspace = KeyspaceState {
            name: name.to_owned(),
            created: index,
            covered: index,
            covered_term: Term(0),
            options: options.to_vec(),
            segments: BTreeMap::new(),
            fences: Vec::new(),
        };
        self.keyspaces.insert(id, keyspace);
        Ok(())
    }

    fn advance_catalog(&mut self, index: Index) -> Result<(), Why> {
        if index < self.catalog_index {
            return Err(format!(
                "the catalog is at record {}, and can't go back to {index}",
                self.catalog_index
            ));
        }
        self.catalog_index = index;
        Ok(())
    }

    fn replace_segments(
        &mut self,
        id: KeyspaceId,
        removed: &[SegmentNumber],
        added: &[(u8, SegmentMeta)],
        covered: Option<(Index, Term)>,
    ) -> Result<(), Why> {
        let keyspace = self
            .keyspaces
            .get_mut(&id)
            .ok_or_else(|| format!("there is no keyspace {id}"))?;
        for number in removed {
            if keyspace.segments.remove(number).is_none() {
                return Err(format!("keyspace {id} has no segment {number} to remove"));
            }
        }
        if let Some((index, term)) = covered {
            if index < keyspace.covered || term < keyspace.covered_term {
                return Err(format!(
                    "keyspace {id} is covered up to record {} of term {}, and can't go back to {index} of {term}",
                    keyspace.covered, keyspace.covered_term
                ));
            }
            (keyspace.covered, keyspace.covered_term) = (index, term);
        }
        for (level, meta) in added {
            self.add_segment(id, *level, meta)?;
        }
        Ok(())
    }

    fn add_segment(&mut self, id: KeyspaceId, level: u8, meta: &SegmentMeta) -> Result<(), Why> {
        check_segment(meta)?;
        let number = meta.number;
        let taken = |keyspace: &KeyspaceState| keyspace.segments.contains_key(&number);
        // None was ever as high as the next one.
        if number < self.next_segment && self.keyspaces.values().any(taken) {
            return Err(format!("segment {number} exists already"));
        }
        let next = number
            .0
            .checked_add(1)
            .ok_or("segment numbers are used up")?;
        self.next_segment = self.next_segment.max(SegmentNumber(next));
        if let Some(keyspace) = self.keyspaces.get_mut(&id) {
            keyspace.segments.insert(number, (level, meta.clone()));
        }
        Ok(())
    }

    fn add_log_file(&mut self, meta: &LogFileMeta) -> Result<(), Why> {
        let number = meta.number;
        let last = self.log_files.last_key_value().map(|(_, last)| last);
        check_log_file(meta, last)?;
        self.log_files.insert(number, meta.clone());
        Ok(())
    }

    fn remove_log_files(&mut self, numbers: &[LogNumber]) -> Result<(), Why> {
        for number in numbers {
            if self.log_files.remove(number).is_none() {
                return Err(format!(
                    "log file {number} can't be removed: it doesn't exist"
                ));
            }
        }
        Ok(())
    }

    fn fence(&mut self, id: KeyspaceId, fences: &[Fence]) -> Result<(), Why> {
        check_fences(fences)?;
        let keyspace = self.keyspaces.get_mut(&id);
        let keyspace = keyspace.ok_or_else(|| format!("there is no keyspace {id}"))?;
        keyspace.fences = fences.to_vec();
        Ok(())
    }

    /// Whether the state as a whole makes sense; [`Self::change`] keeps it so.
    pub(super) fn check(&self) -> Result<(), Why> {
        let mut names = BTreeSet::new();
        let mut numbers = BTreeSet::new();
        for (id, keyspace) in &self.keyspaces {
            if *id >= self.next_keyspace {
                return Err(format!("keyspace {id} is not below {}", self.next_keyspace));
            }
            check_name(&keyspace.name)?;
            if !names.insert(&keyspace.name) {
                return Err(format!("two keyspaces are called {:?}", keyspace.name));
            }
            check_fences(&keyspace.fences)?;
            for (number, (_, meta)) in &keyspace.segments {
                check_segment(meta)?;
                if *number != meta.number {
                    return Err(format!("segment {} is listed as {number}", meta.number));
                }
                if *number >= self.next_segment {
                    return Err(format!(
                        "segment {number} is not below {}",
                        self.next_segment
                    ));
                }
                if !numbers.insert(*number) {
                    return Err(format!("segment {number} is in two keyspaces"));
                }
            }
        }
        let mut last = None;
        for (number, meta) in &self.log_files {
            if *number != meta.number {
                return Err(format!("log file {} is listed as {number}", meta.number));
            }
            check_log_file(meta, last)?;
            last = Some(meta);
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), Why> {
    if name.len() > KEYSPACE_NAME_BYTES_MAX {
        return Err(format!(
            "a keyspace name of {} bytes is over the limit of {KEYSPACE_NAME_BYTES_MAX}",
            name.len()
        ));
    }
    Ok(())
}

fn check_segment(meta: &SegmentMeta) -> Result<(), Why> {
    let number = meta.number;
    if meta.smallest_key.len().max(meta.largest_key.len()) > BOUND_BYTES_MAX {
        return Err(format!("segment {number} has a key over the limit"));
    }
    if meta.smallest_key > meta.largest_key || meta.smallest_index > meta.largest_index {
        return Err(format!("segment {number} ends before it begins"));
    }
    if meta.deletes > meta.entries {
        return Err(format!("segment {number} has more deletions than entries"));
    }
    Ok(())
}

fn check_fences(fences: &[Fence]) -> Result<(), Why> {
    if !fences.is_sorted_by(|one, next| one.from <= next.from) {
        return Err("fences that aren't in order".to_owned());
    }
    for fence in fences {
        let longest = fence
            .from
            .len()
            .max(fence.to.as_ref().map_or(0, |to| to.len()));
        let is_empty = fence.ends_at_or_before(&fence.from) || fence.oldest > fence.newest;
        if longest > BOUND_BYTES_MAX || is_empty {
            let segment = fence.segment;
            return Err(format!(
                "a fence around nothing, or with a key over the limit, for segment {segment}"
            ));
        }
    }
    Ok(())
}

/// `last` is the log file with the next lower number, if there is one.
fn check_log_file(meta: &LogFileMeta, last: Option<&LogFileMeta>) -> Result<(), Why> {
    let number = meta.number;
    if meta.first_lsn.0.checked_add(meta.capacity).is_none() {
        return Err(format!("log file {number} ends beyond the last position"));
    }
    if meta.previous_number >= number {
        return Err(format!(
            "log file {number} can't follow {}",
            meta.previous_number
        ));
    }
    let Some(last) = last else {
        return Ok(());
    };
    if number <= last.number {
        return Err(format!(
            "log file {number} is not above {}, the newest",
            last.number
        ));
    }
    let end = last.first_lsn.0.saturating_add(last.capacity);
    if meta.first_lsn.0 < end {
        return Err(format!(
            "log file {number} begins at position {}, inside file {}, which ends at {end}",
            meta.first_lsn, last.number
        ));
    }
    Ok(())
}

//! One keyspace's tree: the tables it is made of, newest first, swapped as a whole so that readers
//! never lock.
//!
//! Invariant: for each key, every version in an upper table is newer than all in the tables below it
//! (active, frozen newest first, level 0 newest first, level 1, …), range deletions that cover the key
//! included. So the first table that has a version the reader may see has the newest one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::engine::fences::{Broken, Fences};
use crate::engine::values::Values;
use crate::error::{Error, Result};
use crate::memtable::Memtable;
use crate::operator::MergeOperators;
use crate::options::KeyspaceOptions;
use crate::segment::Segment;
use crate::types::{Found, Index, KeyspaceId, SegmentNumber, Version};

/// Levels below level 0 at most; the last takes whatever comes.
pub(crate) const LEVELS_MAX: usize = 7;

/// A keyspace.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) id: KeyspaceId,
    pub(crate) name: String,
    pub(crate) options: KeyspaceOptions,
    pub(crate) values: Arc<Values>,
    state: ArcSwap<TreeState>,
    /// How often the tables were replaced.
    changes: AtomicU64,
    /// Held from the load to the store of a change: a freeze and a publication can meet here.
    changing: Mutex<()>,
    dropped: AtomicBool,
}

/// A table that takes no more writes and isn't in the manifest yet.
#[derive(Clone, Debug)]
pub(crate) enum Frozen {
    Memtable(Arc<Memtable>),
    /// What one record loaded: sorted and disjoint segments.
    Loaded(Arc<Vec<Arc<Segment>>>),
}

impl Frozen {
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Memtable(one), Self::Memtable(other)) => Arc::ptr_eq(one, other),
            (Self::Loaded(one), Self::Loaded(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// The tables of a tree at one moment.
#[derive(Clone, Debug)]
pub(crate) struct TreeState {
    pub(crate) active: Arc<Memtable>,
    /// Newest first.
    pub(crate) frozen: Vec<Frozen>,
    /// `levels[0]` newest first, its segments may overlap; the others sorted by key and disjoint.
    pub(crate) levels: Vec<Vec<Arc<Segment>>>,
    /// What of it is lost.
    pub(crate) fences: Fences,
    /// Segments that couldn't be opened; `fences` has theirs.
    pub(crate) broken: Vec<Arc<Broken>>,
}

impl Tree {
    pub(crate) fn new(
        id: KeyspaceId,
        name: String,
        options: KeyspaceOptions,
        operators: &MergeOperators,
    ) -> Self {
        let operator = options.merge_operator.as_deref();
        let values = Arc::new(Values::new(&name, operator, operators));
        let state = TreeState {
            active: Arc::new(Memtable::new()),
            frozen: Vec::new(),
            levels: vec![Vec::new(); LEVELS_MAX],
            fences: Fences::default(),
            broken: Vec::new(),
        };
        let state = ArcSwap::from_pointee(state);
        let (changing, dropped) = (Mutex::new(()), AtomicBool::new(false));
        Self {
            id,
            name,
            options,
            values,
            state,
            changes: AtomicU64::new(0),
            changing,
            dropped,
        }
    }

    /// How often the tables were replaced: as long as it stays the same, so do they.
    #[inline]
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The tables now.
    pub(crate) fn load(&self) -> Arc<TreeState> {
        self.state.load_full()
    }

    /// Calls `read` with the tables now, cheaper than [`Tree::load`].
    #[inline]
    pub(crate) fn with<R>(&self, read: impl FnOnce(&TreeState) -> R) -> R {
        read(&self.state.load())
    }

    /// Replaces the tables.
    pub(crate) fn change(&self, change: impl FnOnce(&mut TreeState)) {
        let _changing = self.changing.lock();
        let mut state = TreeState::clone(&self.state.load());
        change(&mut state);
        self.state.store(Arc::new(state));
        self.changes.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn mark_dropped(&self) {
        self.dropped.store(true, Ordering::Release);
    }

    /// To be asked after the tables were loaded as well: those of a dropped tree are taken away.
    ///
    /// # Errors
    /// `KeyspaceNotFound` if it has been dropped.
    pub(crate) fn check_not_dropped(&self) -> Result<()> {
        if !self.is_dropped() {
            return Ok(());
        }
        let name = self.name.clone();
        Err(Error::KeyspaceNotFound { name })
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }
}

impl TreeState {
    /// The newest version of `key` that a reader at `at` may see; `None` also if a range deletion is newer.
    ///
    /// # Errors
    /// What the disk answers, or damage: also if something newer may be lost.
    pub(crate) fn get(&self, key: &[u8], at: Version) -> Result<Option<Found>> {
        let (found, deleted) = self.newest(key, at)?;
        if !self.fences.is_empty() {
            let known = found.as_ref().map(|found| found.version).max(deleted);
            self.fences.check(key, known, at)?;
        }
        Ok(found.filter(|found| deleted.is_none_or(|deleted| deleted < found.version)))
    }

    /// What the first table that knows of `key` has: its newest version, and the newest deletion of a range with
    /// it.
    fn newest(&self, key: &[u8], at: Version) -> Result<(Option<Found>, Option<Version>)> {
        let (found, deleted) = (self.active.find(key, at), self.active.deleted(key, at));
        if found.is_some() || deleted.is_some() {
            return Ok((found, deleted));
        }
        for frozen in &self.frozen {
            let (found, deleted) = match frozen {
                Frozen::Memtable(table) => (table.find(key, at), table.deleted(key, at)),
                Frozen::Loaded(segments) => match around(segments, key).next() {
                    Some(segment) => (segment.get(key, at)?, None),
                    None => (None, None),
                },
            };
            if found.is_some() || deleted.is_some() {
                return Ok((found, deleted));
            }
        }
        let Some((level0, levels)) = self.levels.split_first() else {
            return Ok((None, None));
        };
        let level0 = level0.iter().filter(|segment| segment.meta().spans(key));
        let deeper = levels.iter().flat_map(|level| around(level, key));
        for segment in level0.chain(deeper) {
            let (found, deleted) = (
                segment.get(key, at)?,
                segment.range_deletes().newest(key, at),
            );
            if found.is_some() || deleted.is_some() {
                return Ok((found, deleted));
            }
        }
        Ok((None, None))
    }

    /// The memtables, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        let frozen = self.frozen.iter().filter_map(|frozen| match frozen {
            Frozen::Memtable(table) => Some(table),
            Frozen::Loaded(_) => None,
        });
        std::iter::once(&self.active).chain(frozen)
    }

    /// What was loaded and isn't in a level yet, newest first.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = &Arc<Vec<Arc<Segment>>>> {
        self.frozen.iter().filter_map(|frozen| match frozen {
            Frozen::Memtable(_) => None,
            Frozen::Loaded(segments) => Some(segments),
        })
    }

    /// How many tables of level 0 a read may have to look at: what was loaded at once counts as one.
    pub(crate) fn level0_runs(&self) -> usize {
        let level0 = self.levels.first().map_or(&[][..], Vec::as_slice);
        let mut last = Index(0);
        let run = |segment: &&Arc<Segment>| {
            let loaded_at = segment.meta().loaded_at;
            let is_same = loaded_at > Index(0) && loaded_at == last;
            last = loaded_at;
            !is_same
        };
        level0.iter().filter(run).count()
    }

    /// All segments with their levels.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (usize, &Arc<Segment>)> {
        self.levels
            .iter()
            .enumerate()
            .flat_map(|(level, all)| all.iter().map(move |s| (level, s)))
    }

    /// The segment with this number, in a level or loaded and not in one yet.
    pub(crate) fn with_number(&self, number: SegmentNumber) -> Option<&Arc<Segment>> {
        let loaded = self.loaded().flat_map(|all| all.iter());
        let mut all = self.segments().map(|(_, segment)| segment).chain(loaded);
        all.find(|segment| segment.meta().number == number)
    }

    /// Puts a segment into its level, in the level's order.
    pub(crate) fn add_segment(&mut self, level: usize, segment: Arc<Segment>) {
        let Some(all) = self.levels.get_mut(level) else {
            return;
        };
        let place = if level == 0 {
            let newest = (segment.meta().largest_index, segment.meta().number);
            all.partition_point(|s| (s.meta().largest_index, s.meta().number) > newest)
        } else {
            all.partition_point(|s| s.meta().smallest_key < segment.meta().smallest_key)
        };
        all.insert(place, segment);
    }

    /// Takes segments out of their levels and returns them.
    pub(crate) fn remove_segments(&mut self, numbers: &[SegmentNumber]) -> Vec<Arc<Segment>> {
        let mut removed = Vec::new();
        for level in &mut self.levels {
            removed.extend(level.extract_if(.., |s| numbers.contains(&s.meta().number)));
        }
        removed
    }

    /// Bytes of segments in a level.
    pub(crate) fn level_bytes(&self, level: usize) -> u64 {
        self.levels
            .get(level)
            .map_or(0, |all| all.iter().map(|s| s.meta().bytes).sum())
    }
}

/// The segments of a level below level 0 that may say something of `key`: one, or two if the first ends
/// with a range deletion up to it.
fn around<'a>(level: &'a [Arc<Segment>], key: &[u8]) -> impl Iterator<Item = &'a Arc<Segment>> {
    let place = level.partition_point(|s| s.meta().is_before(key));
    let from = level.get(place..).unwrap_or_default();
    let count = from.iter().take_while(|s| s.meta().spans(key)).count();
    from.iter().take(count)
}

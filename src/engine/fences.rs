//! What a keyspace has lost, and how readers are kept from being told something older instead.
//!
//! A fence says: of the keys from here to there, what these records wrote may be lost. Who finds something newer
//! for a key may be told; everybody else who reads there is refused. What is older, in deeper levels, stays where
//! it is for those who read at a moment before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::hiding::Hiding;
use crate::error::{Damage, Error, Result};
use crate::segment::file_name;
use crate::types::{Entry, EntryKind, Fence, Index, RangeDeletes, SegmentMeta, Version};

/// The fences of a keyspace. A clone shares their memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fences(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// By their first keys.
    all: Vec<Fence>,
    /// Where those up to this one end together: none of them has a key from there on.
    reach: Vec<Option<Bytes>>,
}

/// A segment that the manifest names and that can't be opened: all of it is fenced until it is taken out.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) level: u8,
    pub(crate) meta: SegmentMeta,
    pub(crate) fence: Fence,
}

/// A range of keys of which something is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostRange {
    /// The keyspace.
    pub keyspace: String,
    /// The first key.
    pub from: Bytes,
    /// The first key behind it; `None`: there is no end.
    pub to: Option<Bytes>,
    /// Where it was, which records wrote it (`indexes`), and what was found there.
    pub damage: Damage,
}

/// The keys of a range, from the first that is fenced to behind the last one.
#[derive(Debug)]
pub(crate) struct Fenced {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Option<Vec<u8>>,
    /// What a walk from the front meets, and one from the back.
    pub(crate) first: Error,
    pub(crate) last: Error,
}

impl Fenced {
    /// Whether a walk from the front that is at `entry`, or at its end, can't go on. If it is one key that is asked
    /// for, whatever is newer than the record `floor` is told.
    pub(crate) fn is_met_by(&self, entry: Option<&Entry<'_>>, floor: Option<Index>) -> bool {
        match floor {
            None => entry.is_none_or(|entry| entry.key >= self.from.as_slice()),
            // What ends a chain of merges, and how new it is, is seen later.
            Some(floor) => entry
                .is_none_or(|entry| entry.kind != EntryKind::Merge && entry.version.index <= floor),
        }
    }
}

impl Fences {
    pub(crate) fn new(dir: &Path, mut all: Vec<Fence>) -> Self {
        if all.is_empty() {
            return Self::default();
        }
        all.sort_by(|one, next| one.from.cmp(&next.from));
        let mut reach = Vec::with_capacity(all.len());
        let mut so_far = Some(Bytes::new());
        for fence in &all {
            so_far = match (so_far, &fence.to) {
                (Some(so_far), Some(to)) => Some(so_far.max(to.clone())),
                _ => None,
            };
            reach.push(so_far.clone());
        }
        let dir = dir.to_owned();
        Self(Some(Arc::new(Inner { dir, all, reach })))
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// By their first keys.
    pub(crate) fn all(&self) -> &[Fence] {
        self.0.as_ref().map_or(&[], |inner| &inner.all)
    }

    /// Those with `key` in them. O(log n), and as many as begin before it and reach beyond.
    pub(crate) fn over<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Fence> {
        let (all, reach) = match &self.0 {
            Some(inner) => (&inner.all[..], &inner.reach[..]),
            None => (&[][..], &[][..]),
        };
        let end = all.partition_point(|fence| fence.from.as_ref() <= key);
        let reaches = move |at: &usize| {
            let reach = reach.get(*at).and_then(Option::as_deref);
            reach.is_none_or(|reach| reach > key)
        };
        let places = (0..end).rev().take_while(reaches);
        let fences = places.filter_map(|at| all.get(at));
        fences.filter(move |fence| fence.covers(key))
    }

    /// Those with a key in `lower .. upper` in them. O(n).
    pub(crate) fn within<'a>(
        &'a self,
        lower: &'a [u8],
        upper: Option<&'a [u8]>,
    ) -> impl Iterator<Item = &'a Fence> {
        let all = self.all().iter();
        all.filter(move |fence| fence.touches(lower, upper))
    }

    /// Lets those pass to whom the newest thing known of `key` is the newest there ever was.
    ///
    /// # Errors
    /// `Damaged`, with what was lost.
    pub(crate) fn check(&self, key: &[u8], known: Option<Version>, at: Version) -> Result<()> {
        let known = known.map(|version| version.index);
        let hiding = self.over(key).find(|fence| fence.hides(known, at.index));
        hiding.map_or(Ok(()), |fence| Err(self.refusal(fence)))
    }

    /// What of `lower .. upper` a reader at `at` must not walk over, if anything.
    pub(crate) fn in_the_way(
        &self,
        lower: &[u8],
        upper: Option<&[u8]>,
        at: Version,
        hiding: &mut Hiding,
    ) -> Option<Fenced> {
        let mut found: Option<Fenced> = None;
        let seen = self.within(lower, upper).filter(|f| f.oldest <= at.index);
        for fence in seen {
            let Some((from, to)) = open_part(fence, lower, upper, hiding) else {
                continue;
            };
            let refusal = || self.refusal(fence);
            let found = found.get_or_insert_with(|| Fenced {
                from: from.clone(),
                to: Some(Vec::new()),
                first: refusal(),
                last: refusal(),
            });
            if from < found.from {
                (found.from, found.first) = (from, refusal());
            }
            let is_further = match (&to, &found.to) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(to), Some(before)) => to > before,
            };
            if is_further {
                (found.to, found.last) = (to, refusal());
            }
        }
        found
    }

    /// Those that are left if all readers read at `lowest` or later, to whom `ranges` are gone: what was lost of
    /// a range that is deleted since matters to nobody. `None` if that is all of them.
    pub(crate) fn outliving(&self, ranges: &RangeDeletes, lowest: Index) -> Option<Vec<Fence>> {
        let is_over = |fence: &Fence| is_deleted(fence, ranges, Version::newest_at(lowest));
        let all = self.all();
        if ranges.is_empty() || !all.iter().any(is_over) {
            return None;
        }
        let left = all.iter().filter(|fence| !is_over(fence));
        Some(left.cloned().collect())
    }

    pub(crate) fn refusal(&self, fence: &Fence) -> Error {
        Error::damaged(self.damage(fence))
    }

    /// What was lost, in words.
    pub(crate) fn damage(&self, fence: &Fence) -> Damage {
        let dir = self.0.as_ref().map(|inner| inner.dir.as_path());
        let path = dir.unwrap_or(Path::new("")).join(file_name(fence.segment));
        let what = format!(
            "what these records wrote to the keys from {} to {} may be lost; {}",
            text(&fence.from),
            fence
                .to
                .as_ref()
                .map_or("the last".to_owned(), |to| text(to)),
            fence.what
        );
        let mut damage = Damage::new(&path, fence.offset, fence.bytes, what);
        damage.indexes = Some((fence.oldest, fence.newest));
        damage
    }
}

/// A key for people: no longer than a line.
fn text(key: &[u8]) -> String {
    const BYTES_MAX: usize = 40;
    let shown = key.get(..BYTES_MAX).unwrap_or(key).escape_ascii();
    let more = if key.len() > BYTES_MAX { "…" } else { "" };
    format!("\"{shown}{more}\"")
}

/// Whether a newer range deletion that a reader at `at` sees is over all of a fence.
fn is_deleted(fence: &Fence, ranges: &RangeDeletes, at: Version) -> bool {
    let mut key = fence.from.to_vec();
    loop {
        let stretch = ranges.stretch(&key, at);
        if stretch
            .newest
            .is_none_or(|newest| newest.index <= fence.newest)
        {
            return false;
        }
        match stretch.to {
            Some(to) if !fence.ends_at_or_before(to) => key = to.to_vec(),
            _ => return true,
        }
    }
}

/// Of a fence and of `lower .. upper`, the keys from the first to behind the last that no newer range deletion
/// hides.
fn open_part(
    fence: &Fence,
    lower: &[u8],
    upper: Option<&[u8]>,
    hiding: &mut Hiding,
) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let mut key = lower.max(fence.from.as_ref()).to_vec();
    let end = match (upper, fence.to.as_deref()) {
        (Some(upper), Some(to)) => Some(upper.min(to)),
        (upper, to) => upper.or(to),
    };
    let mut open: Option<(Vec<u8>, Option<Vec<u8>>)> = None;
    loop {
        let (newest, to) = hiding.stretch(&key);
        let to = to.filter(|to| end.is_none_or(|end| to.as_slice() < end));
        if newest.is_none_or(|newest| newest.index <= fence.newest) {
            let behind = to.clone().or_else(|| end.map(<[u8]>::to_vec));
            let from = open.map_or(key, |(from, _)| from);
            open = Some((from, behind));
        }
        match to {
            Some(to) => key = to,
            None => return open,
        }
    }
}

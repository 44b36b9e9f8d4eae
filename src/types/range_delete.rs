//! Range deletions: every key from one to another is gone.

use bytes::Bytes;

use super::Version;

/// One deletion of every key in `from .. to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeDelete {
    /// The first key that is gone.
    pub from: Bytes,
    /// The first key that isn't any more; `None`: all from `from` on are gone.
    pub to: Option<Bytes>,
    /// Which write this is.
    pub version: Version,
}

impl RangeDelete {
    /// Whether it is over before `key`.
    fn ends_at_or_before(&self, key: &[u8]) -> bool {
        self.to.as_deref().is_some_and(|to| to <= key)
    }

    /// Whether there is no key in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends_at_or_before(&self.from)
    }

    /// Whether `key` is in it.
    #[must_use]
    pub fn covers(&self, key: &[u8]) -> bool {
        self.from.as_ref() <= key && !self.ends_at_or_before(key)
    }
}

/// A stretch of keys with every deletion of all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Its first key.
    pub from: Bytes,
    /// The first key behind it; `None` if there is no end.
    pub to: Option<Bytes>,
    /// The deletions, newest first; one at least.
    pub versions: Vec<Version>,
}

impl Fragment {
    /// The newest deletion that a reader at `at` may see.
    #[must_use]
    pub fn newest(&self, at: Version) -> Option<Version> {
        let first = self.versions.partition_point(|version| *version > at);
        self.versions.get(first).copied()
    }
}

/// Range deletions cut where one begins or ends, so that they lie side by side: sorted by key, none
/// empty, none overlapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeDeletes {
    fragments: Vec<Fragment>,
}

impl RangeDeletes {
    /// Cuts and sorts `all`; empty ones are left out, and of equal ones one is kept.
    ///
    /// O(n log n), and O(n²) where all lie on top of one another.
    #[must_use]
    pub fn new(all: impl IntoIterator<Item = RangeDelete>) -> Self {
        let mut all: Vec<RangeDelete> = all.into_iter().filter(|one| !one.is_empty()).collect();
        all.sort_by(|a, b| a.from.cmp(&b.from));
        let mut places: Vec<Bytes> = all.iter().map(|one| one.from.clone()).collect();
        places.extend(all.iter().filter_map(|one| one.to.clone()));
        places.sort_unstable();
        places.dedup();
        let mut fragments: Vec<Fragment> = Vec::new();
        let mut coming = all.into_iter().peekable();
        let mut open: Vec<RangeDelete> = Vec::new();
        let mut places = places.into_iter().peekable();
        while let Some(from) = places.next() {
            while let Some(next) = coming.next_if(|next| next.from <= from) {
                open.push(next);
            }
            open.retain(|one| !one.ends_at_or_before(&from));
            if open.is_empty() {
                continue;
            }
            let mut versions: Vec<Version> = open.iter().map(|one| one.version).collect();
            versions.sort_unstable_by(|a, b| b.cmp(a));
            versions.dedup();
            push(&mut fragments, from, places.peek().cloned(), versions);
        }
        Self { fragments }
    }

    /// Takes fragments that are in order and don't overlap; those without a version are left out.
    #[must_use]
    pub fn of_fragments(all: impl IntoIterator<Item = Fragment>) -> Self {
        let mut fragments = Vec::new();
        for fragment in all.into_iter().filter(|f| !f.versions.is_empty()) {
            push(
                &mut fragments,
                fragment.from,
                fragment.to,
                fragment.versions,
            );
        }
        Self { fragments }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// The fragments, in the order of their keys.
    #[must_use]
    pub fn fragments(&self) -> &[Fragment] {
        &self.fragments
    }

    /// The fragment that `key` is in. O(log n).
    #[must_use]
    pub fn at(&self, key: &[u8]) -> Option<&Fragment> {
        let after = self.fragments.partition_point(|f| f.from.as_ref() <= key);
        let fragment = self.fragments.get(after.checked_sub(1)?)?;
        let over = fragment.to.as_deref().is_some_and(|to| to <= key);
        (!over).then_some(fragment)
    }

    /// The newest deletion of `key` that a reader at `at` may see. O(log n).
    #[must_use]
    pub fn newest(&self, key: &[u8], at: Version) -> Option<Version> {
        self.at(key)?.newest(at)
    }

    /// Every deletion, cut to the keys from `lower` on and below `upper`, where they are given.
    pub fn within<'a>(
        &'a self,
        lower: Option<&'a Bytes>,
        upper: Option<&'a Bytes>,
    ) -> impl Iterator<Item = RangeDelete> + 'a {
        let behind = move |f: &&Fragment| match (&f.to, lower) {
            (Some(to), Some(lower)) => to > lower,
            _ => true,
        };
        let before = move |f: &&Fragment| upper.is_none_or(|upper| f.from < *upper);
        let inside = self.fragments.iter().filter(behind).take_while(before);
        inside.flat_map(move |fragment| {
            let from = lower.map_or(&fragment.from, |lower| lower.max(&fragment.from));
            let to = match (&fragment.to, upper) {
                (Some(to), Some(upper)) => Some(to.min(upper)),
                (to, upper) => to.as_ref().or(upper),
            };
            fragment.versions.iter().map(move |version| RangeDelete {
                from: from.clone(),
                to: to.cloned(),
                version: *version,
            })
        })
    }
}

/// Adds a fragment, or makes the last one longer where nothing else tells the two apart.
fn push(fragments: &mut Vec<Fragment>, from: Bytes, to: Option<Bytes>, versions: Vec<Version>) {
    if let Some(last) = fragments.last_mut()
        && last.to.as_ref() == Some(&from)
        && last.versions == versions
    {
        last.to = to;
        return;
    }
    fragments.push(Fragment { from, to, versions });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Index;

    fn version(index: u64) -> Version {
        Version::newest_at(Index(index))
    }

    fn delete(from: &'static str, to: Option<&'static str>, index: u64) -> RangeDelete {
        RangeDelete {
            from: from.into(),
            to: to.map(Into::into),
            version: version(index),
        }
    }

    /// Every small set of deletions against the plain answer: the newest that covers the key.
    #[test]
    fn answers_what_the_deletions_one_by_one_say() {
        const KEYS: [&str; 6] = ["", "b", "c", "d", "e", "zz"];
        let mut state = 7_u64;
        let mut next = move |n: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % n
        };
        for round in 0..3_000 {
            let all: Vec<RangeDelete> = (0..next(6))
                .map(|_| {
                    let to = KEYS.get(next(KEYS.len() + 1)).copied();
                    delete(KEYS[next(KEYS.len())], to, next(5) as u64 + 1)
                })
                .collect();
            let cut = RangeDeletes::new(all.clone());
            for pair in cut.fragments().windows(2) {
                assert!(pair[0].to.as_ref().is_some_and(|to| *to <= pair[1].from));
            }
            let (lower, upper) = (Bytes::from(KEYS[next(6)]), Bytes::from(KEYS[next(6)]));
            let part = RangeDeletes::new(cut.within(Some(&lower), Some(&upper)));
            for key in ["", "a", "b", "bb", "c", "cc", "d", "e", "f", "zz", "zzz"] {
                for at in 0..7 {
                    let covering = all.iter().filter(|one| one.covers(key.as_bytes()));
                    let seen = covering
                        .map(|one| one.version)
                        .filter(|v| *v <= version(at));
                    let wanted = seen.max();
                    let found = cut.newest(key.as_bytes(), version(at));
                    assert_eq!(found, wanted, "round {round}, {key} at {at}: {all:?}");
                    let inside =
                        lower.as_ref() <= key.as_bytes() && key.as_bytes() < upper.as_ref();
                    let found = part.newest(key.as_bytes(), version(at));
                    assert_eq!(
                        found,
                        wanted.filter(|_| inside),
                        "{key} of {lower:?} to {upper:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn neighbours_that_say_the_same_are_one() {
        let cut = RangeDeletes::new([delete("a", Some("c"), 1), delete("c", None, 1)]);
        assert_eq!(cut.fragments().len(), 1);
        assert!(
            RangeDeletes::new([delete("c", Some("c"), 1), delete("c", Some("a"), 1)]).is_empty()
        );
    }
}

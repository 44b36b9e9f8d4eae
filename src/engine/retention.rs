//! Which versions of a key a flush or compaction must keep.

use crate::types::{Entry, EntryKind, Index};

/// Decides entry by entry, fed in table order (keys ascending, versions newest first).
///
/// An entry is needed if it is newer than every boundary, or the newest at some boundary: some
/// boundary lies at or above it and below the next newer entry of its key.
#[derive(Debug)]
pub(crate) struct Retention {
    /// Ascending; the last is the visible index when the job began.
    boundaries: Vec<Index>,
    /// Nothing older than this job's inputs lies below them, so a deletion that all can see has done
    /// its work.
    bottom: bool,
    key: Vec<u8>,
    /// Index of the entry of `key` seen last; `None` before the first key.
    newer: Option<Index>,
    started: bool,
}

impl Retention {
    pub(crate) fn new(boundaries: Vec<Index>, bottom: bool) -> Self {
        Self {
            boundaries,
            bottom,
            key: Vec::new(),
            newer: None,
            started: false,
        }
    }

    /// Whether `entry` must be kept.
    pub(crate) fn keeps(&mut self, entry: &Entry<'_>) -> bool {
        if !self.started || self.key != entry.key {
            self.started = true;
            self.key.clear();
            self.key.extend_from_slice(entry.key);
            self.newer = None;
        }
        let index = entry.version.index;
        let newer = self.newer.replace(index);
        let needed = match self
            .boundaries
            .get(self.boundaries.partition_point(|b| *b < index))
        {
            None => newer.is_none_or(|newer| newer != index),
            Some(boundary) => newer.is_none_or(|newer| *boundary < newer),
        };
        let seen_by_all = self
            .boundaries
            .first()
            .is_some_and(|lowest| index <= *lowest);
        needed && !(self.bottom && entry.kind == EntryKind::Delete && seen_by_all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Version;

    fn kept(boundaries: &[u64], bottom: bool, versions: &[(u64, EntryKind)]) -> Vec<u64> {
        let boundaries = boundaries.iter().map(|b| Index(*b)).collect();
        let mut retention = Retention::new(boundaries, bottom);
        let mut kept = Vec::new();
        for (index, kind) in versions {
            let version = Version {
                index: Index(*index),
                position: 0,
            };
            if retention.keeps(&Entry {
                key: b"k",
                version,
                kind: *kind,
                value: b"",
            }) {
                kept.push(*index);
            }
        }
        kept
    }

    #[test]
    fn keeps_exactly_what_each_boundary_shows() {
        use EntryKind::{Delete, Put};
        let versions = [(9, Put), (7, Put), (5, Delete), (3, Put), (1, Put)];
        assert_eq!(kept(&[9], false, &versions), [9]);
        assert_eq!(kept(&[8], false, &versions), [9, 7]);
        assert_eq!(kept(&[4, 9], false, &versions), [9, 3]);
        assert_eq!(kept(&[6, 9], false, &versions), [9, 5]);
        assert_eq!(kept(&[6, 9], true, &versions), [9]);
        assert_eq!(kept(&[2, 6, 9], true, &versions), [9, 5, 1]);
        assert_eq!(kept(&[0], false, &versions), [9, 7, 5, 3, 1]);
        assert_eq!(kept(&[0], true, &[(9, Delete)]), [9]);
    }

    #[test]
    fn of_one_record_only_the_last_operation_on_a_key_counts() {
        use EntryKind::Put;
        assert_eq!(kept(&[9], false, &[(9, Put), (9, Put), (8, Put)]), [9]);
        assert_eq!(kept(&[3], false, &[(9, Put), (9, Put), (3, Put)]), [9, 3]);
    }
}

//! Whether what a transaction read has been written since.
//!
//! The answer is a function of the log alone, never of versions that a compaction may have dropped: what
//! counts are the last records, and to have begun before them is always a conflict. So every replica that
//! applies the same log comes to the same answer.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::engine::batch::{Effect, Operations};
use crate::engine::queue::Request;
use crate::error::{Error, Result};
use crate::types::{Index, KeyspaceId};
use crate::wal::RecordKind;

/// Records that are remembered at most.
const RECORDS_MAX: usize = 4096;
/// Bytes of payload that are remembered at most.
const BYTES_MAX: usize = 4 << 20;

/// A range of keys that was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReadRange {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) lower: Vec<u8>,
    /// The first key behind it; `None`: no end.
    pub(crate) upper: Option<Vec<u8>>,
}

impl ReadRange {
    /// Whether it lies before `key` as a whole.
    fn is_before(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        let ends = self.upper.as_deref().is_some_and(|upper| upper <= key);
        self.keyspace < keyspace || self.keyspace == keyspace && ends
    }
}

/// What a transaction has read, and as of which record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    pub(crate) at: Index,
    pub(crate) keys: HashSet<(KeyspaceId, Vec<u8>)>,
    pub(crate) ranges: Vec<ReadRange>,
}

impl Reads {
    /// All of it in order, for the check. Done by the transaction's own thread.
    pub(crate) fn finish(self) -> ReadSet {
        let single = |(keyspace, lower): (KeyspaceId, Vec<u8>)| {
            let upper = Some([&lower[..], &[0]].concat());
            ReadRange {
                keyspace,
                lower,
                upper,
            }
        };
        let mut ranges = self.ranges;
        ranges.retain(|range| {
            range
                .upper
                .as_ref()
                .is_none_or(|upper| range.lower < *upper)
        });
        ranges.extend(self.keys.into_iter().map(single));
        ranges.sort_unstable();
        ranges.dedup_by(|next, range| {
            let apart = range.is_before(next.keyspace, &next.lower);
            // No upper end lies above all that are.
            if !apart && range.upper.is_some() && (next.upper.is_none() || next.upper > range.upper)
            {
                range.upper = next.upper.take();
            }
            !apart
        });
        ReadSet {
            at: self.at,
            ranges,
        }
    }
}

/// What a transaction has read, in order and without overlaps.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadSet {
    at: Index,
    ranges: Vec<ReadRange>,
}

impl ReadSet {
    /// Whether a record changes anything that was read.
    fn is_changed_by(&self, record: &Request) -> bool {
        if record.kind != RecordKind::Batch {
            return true;
        }
        Operations::new(&record.payload).any(|operation| {
            let Ok(operation) = operation else {
                return true;
            };
            let (keyspace, key) = (operation.keyspace, operation.key);
            // The first one that doesn't end before it.
            let place = self
                .ranges
                .partition_point(|range| range.is_before(keyspace, key));
            let range = self.ranges.get(place);
            range.is_some_and(|range| {
                let begins = match operation.effect {
                    Effect::DeleteTo(to) => to.is_none_or(|to| range.lower.as_slice() < to),
                    _ => range.lower.as_slice() <= key,
                };
                range.keyspace == keyspace && begins
            })
        })
    }
}

/// The last records, oldest first.
#[derive(Debug, Default)]
pub(crate) struct ConflictWindow {
    records: VecDeque<(Index, Arc<Request>)>,
    bytes: usize,
    /// Nothing is known of this record and those before it.
    floor: Index,
}

impl ConflictWindow {
    /// Remembers the newest record, forgetting old ones beyond the limits.
    pub(crate) fn push(&mut self, index: Index, record: Arc<Request>) {
        self.bytes += record.payload.len();
        self.records.push_back((index, record));
        while self.records.len() > RECORDS_MAX || self.bytes > BYTES_MAX {
            let Some((index, record)) = self.records.pop_front() else {
                return;
            };
            self.bytes -= record.payload.len();
            self.floor = index;
        }
    }

    /// Forgets everything: nobody is there to ask about records up to this one.
    pub(crate) fn forget(&mut self, up_to: Index) {
        self.records.clear();
        self.bytes = 0;
        self.floor = up_to;
    }

    /// Forgets records after this one: they never were.
    pub(crate) fn truncate_after(&mut self, last: Index) {
        while let Some((index, record)) = self.records.pop_back_if(|(index, _)| *index > last) {
            debug_assert!(index > last);
            self.bytes -= record.payload.len();
        }
        // Those may have pushed out others, but nobody can have begun after records that never were.
        self.floor = self.floor.min(last);
    }

    /// Whether what was read still is so. Takes time in proportion to the operations since, times the logarithm
    /// of what was read.
    ///
    /// # Errors
    /// `Conflict`.
    pub(crate) fn check(&self, reads: &ReadSet) -> Result<()> {
        if reads.ranges.is_empty() {
            return Ok(());
        }
        if reads.at < self.floor {
            let why = "the transaction began too long ago";
            return Err(Error::Conflict { why });
        }
        let first = self
            .records
            .partition_point(|(index, _)| *index <= reads.at);
        let mut since = self.records.range(first..);
        if since.any(|(_, record)| reads.is_changed_by(record)) {
            let why = "what the transaction read has been written since";
            return Err(Error::Conflict { why });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::batch::WriteBatch;
    use crate::types::Durability;

    const OTHER: KeyspaceId = KeyspaceId(7);

    fn record(effects: &[(KeyspaceId, &str, Effect<'_>)]) -> Arc<Request> {
        let mut batch = WriteBatch::new();
        for (keyspace, key, effect) in effects {
            batch.add(*keyspace, key.as_bytes(), *effect);
        }
        Request::of_batch(batch, Durability::Disk).unwrap()
    }

    fn reads(at: u64, keys: &[&str], ranges: &[(&str, Option<&str>)]) -> ReadSet {
        let keys = keys.iter().map(|key| (OTHER, key.as_bytes().to_vec()));
        let ranges = ranges.iter().map(|(lower, upper)| ReadRange {
            keyspace: OTHER,
            lower: lower.as_bytes().to_vec(),
            upper: upper.map(|upper| upper.as_bytes().to_vec()),
        });
        Reads {
            at: Index(at),
            keys: keys.collect(),
            ranges: ranges.collect(),
        }
        .finish()
    }

    fn conflicts(effect: (KeyspaceId, &str, Effect<'_>), reads: &ReadSet) -> bool {
        let mut window = ConflictWindow::default();
        window.push(Index(5), record(&[effect]));
        window.check(reads).is_err()
    }

    #[test]
    fn only_what_was_read_and_written_since_conflicts() {
        let put = |key| (OTHER, key, Effect::Put(b"v"));
        assert!(conflicts(put("b"), &reads(4, &["a", "b"], &[])));
        assert!(!conflicts(put("c"), &reads(4, &["a", "b"], &[])));
        assert!(!conflicts(put("b"), &reads(5, &["b"], &[])));
        let elsewhere = (KeyspaceId::DEFAULT, "b", Effect::Delete);
        assert!(!conflicts(elsewhere, &reads(4, &["b"], &[("a", None)])));
        for (key, hit) in [("a", true), ("bz", true), ("c", false), ("", false)] {
            assert_eq!(
                conflicts(put(key), &reads(4, &[], &[("a", Some("c"))])),
                hit
            );
        }
        assert!(conflicts(put("zzz"), &reads(4, &[], &[("a", None)])));
    }

    #[test]
    fn range_deletions_conflict_with_keys_and_ranges_in_them() {
        let delete =
            |from, to: Option<&'static str>| (OTHER, from, Effect::DeleteTo(to.map(str::as_bytes)));
        assert!(conflicts(delete("a", Some("c")), &reads(4, &["b"], &[])));
        assert!(!conflicts(delete("a", Some("b")), &reads(4, &["b"], &[])));
        assert!(conflicts(delete("a", None), &reads(4, &["b"], &[])));
        assert!(conflicts(
            delete("b", Some("c")),
            &reads(4, &[], &[("a", Some("bb"))])
        ));
        assert!(!conflicts(
            delete("c", None),
            &reads(4, &[], &[("a", Some("c"))])
        ));
        assert!(!conflicts(
            delete("a", Some("b")),
            &reads(4, &[], &[("b", None)])
        ));
    }

    #[test]
    fn what_is_no_longer_known_is_a_conflict() {
        let mut window = ConflictWindow::default();
        for index in 1..=RECORDS_MAX as u64 + 2 {
            window.push(Index(index), record(&[(OTHER, "x", Effect::Delete)]));
        }
        assert!(window.check(&reads(1, &["b"], &[])).is_err());
        assert!(window.check(&reads(2, &["b"], &[])).is_ok());
        assert!(
            window.check(&reads(1, &[], &[])).is_ok(),
            "nothing was read"
        );
        window.forget(Index(9_000));
        assert!(window.check(&reads(8_999, &["b"], &[])).is_err());
        assert!(window.check(&reads(9_000, &["b"], &[])).is_ok());
        let large = vec![0; BYTES_MAX + 1];
        window.push(Index(9_001), record(&[(OTHER, "x", Effect::Put(&large))]));
        assert!(window.check(&reads(9_000, &["b"], &[])).is_err());
        assert!(window.check(&reads(9_001, &["b"], &[])).is_ok());
    }

    #[test]
    fn records_that_never_were_are_no_conflict() {
        let mut window = ConflictWindow::default();
        window.push(Index(1), record(&[(OTHER, "a", Effect::Delete)]));
        window.push(Index(2), record(&[(OTHER, "b", Effect::Delete)]));
        window.truncate_after(Index(1));
        assert!(window.check(&reads(0, &["b"], &[])).is_ok());
        assert!(window.check(&reads(0, &["a"], &[])).is_err());
    }

    /// A large write pushed all others out, and was refused. The floor stayed at its index, which no
    /// transaction can reach as long as every one of them meets a conflict.
    #[test]
    fn a_refused_write_leaves_a_window_in_which_transactions_can_succeed() {
        let mut window = ConflictWindow::default();
        window.push(Index(1), record(&[(OTHER, "a", Effect::Delete)]));
        let large = vec![0; BYTES_MAX + 1];
        window.push(Index(2), record(&[(OTHER, "b", Effect::Put(&large))]));
        window.truncate_after(Index(1));
        assert!(window.check(&reads(0, &["c"], &[])).is_err(), "forgotten");
        assert!(window.check(&reads(1, &["a", "b"], &[])).is_ok());
    }

    #[test]
    fn what_was_read_is_put_in_order_and_into_one() {
        let range = |lower: &str, upper: Option<&str>| (lower.to_owned(), upper.map(str::to_owned));
        let of = |set: ReadSet| -> Vec<_> {
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            let ranges = set.ranges.into_iter();
            ranges.map(|r| (text(r.lower), r.upper.map(text))).collect()
        };
        let empty = ("m", Some("b"));
        let all = [("d", Some("f")), ("a", Some("c")), empty, ("b", Some("bb"))];
        assert_eq!(
            of(reads(1, &["e", "c", "b", "x"], &all)),
            [
                range("a", Some("c")),
                range("c", Some("c\0")),
                range("d", Some("f")),
                range("x", Some("x\0"))
            ]
        );
        let endless = [("d", Some("f")), ("b", None), ("a", Some("bb"))];
        assert_eq!(of(reads(1, &["z"], &endless)), [range("a", None)]);
        assert_eq!(of(reads(1, &[], &[])), []);
    }

    #[test]
    fn a_change_of_the_catalog_conflicts_with_every_read() {
        let drop = crate::engine::CatalogOperation::Drop { id: OTHER };
        let mut window = ConflictWindow::default();
        window.push(Index(1), Request::of_catalog(&drop));
        assert!(window.check(&reads(0, &["b"], &[])).is_err());
        assert!(window.check(&reads(0, &[], &[])).is_ok());
    }
}

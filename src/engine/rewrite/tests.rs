use super::*;
use crate::operator::Append;

use EntryKind::{Delete, Expiring, Merge, Put};

fn version(index: u64) -> Version {
    Version {
        index: Index(index),
        position: 0,
    }
}

fn boundaries(indexes: &[u64], time_us: u64) -> Boundaries {
    Boundaries {
        indexes: indexes.iter().map(|index| Index(*index)).collect(),
        time_us,
    }
}

fn ranges(indexes: &[u64]) -> Arc<RangeDeletes> {
    Arc::new(RangeDeletes::new(indexes.iter().map(|index| RangeDelete {
        from: Bytes::from("a"),
        to: None,
        version: version(*index),
    })))
}

/// What is written of versions of one key, each with a value that names its index.
fn rewritten(
    rewrite: &mut Rewrite,
    versions: &[(u64, EntryKind)],
) -> Vec<(u64, EntryKind, String)> {
    let mut written = Vec::new();
    let mut write = |entry: Entry<'_>| {
        let value = entry
            .value
            .get(if entry.kind == Expiring { 8 } else { 0 }..);
        let value = String::from_utf8(value.unwrap().to_vec()).unwrap();
        written.push((entry.version.index.0, entry.kind, value));
        Ok(())
    };
    for (index, kind) in versions {
        let mut value = match kind {
            Delete => String::new(),
            _ => index.to_string(),
        }
        .into_bytes();
        if *kind == Expiring {
            value.splice(..0, (index * 100).to_le_bytes());
        }
        let entry = Entry {
            key: b"k",
            version: version(*index),
            kind: *kind,
            value: &value,
        };
        rewrite.feed(&entry, &mut write).unwrap();
    }
    rewrite.finish(&mut write).unwrap();
    written
}

fn kept(indexes: &[u64], bottom: bool, versions: &[(u64, EntryKind)]) -> Vec<u64> {
    let mut rewrite = Rewrite::new(boundaries(indexes, 0), bottom, Arc::default(), None);
    let written = rewritten(&mut rewrite, versions);
    written.into_iter().map(|(index, ..)| index).collect()
}

#[test]
fn keeps_exactly_what_each_boundary_shows() {
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
    assert_eq!(kept(&[9], false, &[(9, Put), (9, Put), (8, Put)]), [9]);
    assert_eq!(kept(&[3], false, &[(9, Put), (9, Put), (3, Put)]), [9, 3]);
}

#[test]
fn a_range_deletion_hides_what_is_older_in_its_stripe() {
    let versions = [(9, Put), (7, Put), (3, Put), (1, Put)];
    let with = |indexes: &[u64], bottom, deletes: &[u64]| {
        let mut rewrite = Rewrite::new(boundaries(indexes, 0), bottom, ranges(deletes), None);
        let written = rewritten(&mut rewrite, &versions);
        let kept: Vec<u64> = written.into_iter().map(|(index, ..)| index).collect();
        let deletes = rewrite.range_deletes(None, None);
        let deletes: Vec<u64> = deletes.iter().map(|d| d.version.index.0).collect();
        (kept, deletes)
    };
    assert_eq!(with(&[10], false, &[8]), (vec![9], vec![8]));
    assert_eq!(with(&[10], false, &[10]), (vec![], vec![10]));
    assert_eq!(with(&[10], true, &[10]), (vec![], vec![]));
    assert_eq!(with(&[7, 10], false, &[10, 8]), (vec![7], vec![10]));
    assert_eq!(
        with(&[3, 7, 10], true, &[8, 5, 2]),
        (vec![9, 7, 3], vec![8, 5])
    );
    assert_eq!(with(&[0], false, &[8]), (vec![9, 7, 3, 1], vec![8]));
}

#[test]
fn merges_are_worked_out_where_what_is_below_is_known() {
    let with = |indexes: &[u64], bottom, versions: &[(u64, EntryKind)]| {
        let operator: Option<Arc<dyn MergeOperator>> = Some(Arc::new(Append));
        let none = Arc::default();
        let mut rewrite = Rewrite::new(boundaries(indexes, 250), bottom, none, operator);
        rewritten(&mut rewrite, versions)
    };
    let value = |index, kind, value: &str| (index, kind, value.to_owned());
    let chain = [(9, Merge), (7, Merge), (5, Put), (3, Put)];
    assert_eq!(with(&[9], false, &chain), [value(9, Put, "579")]);
    let both = [value(9, Merge, "79"), value(5, Put, "5")];
    assert_eq!(with(&[6, 9], false, &chain), both);
    let open = [(9, Merge), (7, Merge)];
    assert_eq!(with(&[9], false, &open), [value(9, Merge, "79")]);
    assert_eq!(with(&[9], true, &open), [value(9, Put, "79")]);
    let deleted = [(9, Merge), (7, Delete), (5, Put)];
    assert_eq!(with(&[9], false, &deleted), [value(9, Put, "9")]);
    // Each of these is its own stripe: somebody may begin to read between them.
    assert_eq!(with(&[0], false, &open).len(), 2);
    // What expires later can't be part of a value that doesn't; what has expired is nothing.
    let alive = [(9, Merge), (3, Expiring)];
    assert_eq!(with(&[9], true, &alive).len(), 2);
    let expired = [(9, Merge), (2, Expiring)];
    assert_eq!(with(&[9], false, &expired), [value(9, Put, "9")]);
}

#[test]
fn merges_above_a_range_deletion_begin_anew() {
    let operator: Option<Arc<dyn MergeOperator>> = Some(Arc::new(Append));
    let mut rewrite = Rewrite::new(boundaries(&[9], 0), false, ranges(&[6]), operator);
    let versions = [(9, Merge), (7, Merge), (5, Put)];
    let written = rewritten(&mut rewrite, &versions);
    assert_eq!(written, [(9, Put, "79".to_owned())]);
}

#[test]
fn what_has_expired_for_all_is_a_deletion() {
    let with = |bottom| {
        let none = Arc::default();
        let mut rewrite = Rewrite::new(boundaries(&[9], 500), bottom, none, None);
        rewritten(&mut rewrite, &[(5, Expiring), (3, Put)])
    };
    assert_eq!(with(false), [(5, Delete, String::new())]);
    assert_eq!(with(true), []);
    assert_eq!(kept(&[9], true, &[(5, Expiring)]), [5]);
}

#[test]
fn what_an_operator_refuses_is_kept_as_it_is() {
    let operator: Option<Arc<dyn MergeOperator>> = Some(Arc::new(crate::operator::Counter));
    let none = Arc::default();
    let mut rewrite = Rewrite::new(boundaries(&[9], 0), true, none, operator);
    let written = rewritten(&mut rewrite, &[(9, Merge), (7, Merge), (5, Put)]);
    let kinds: Vec<_> = written
        .iter()
        .map(|(index, kind, _)| (*index, *kind))
        .collect();
    assert_eq!(kinds, [(9, Merge), (7, Merge), (5, Put)]);
}

/// A fold longer than a value can be was refused by the segment, and so was every flush from then on.
#[test]
fn what_would_be_too_long_stays_in_parts() {
    let with = |bytes_max, versions: &[(u64, EntryKind)]| {
        let operator: Option<Arc<dyn MergeOperator>> = Some(Arc::new(Append));
        let mut rewrite = Rewrite::new(boundaries(&[9], 0), false, Arc::default(), operator);
        rewrite.value_bytes_max = bytes_max;
        let written = rewritten(&mut rewrite, versions);
        let parts = written
            .into_iter()
            .map(|(_, kind, value)| format!("{kind:?} {value}"));
        parts.collect::<Vec<_>>()
    };
    let chain = [(9, Merge), (7, Merge), (5, Merge), (3, Put), (1, Put)];
    assert_eq!(with(4, &chain), ["Put 3579"]);
    assert_eq!(with(3, &chain), ["Merge 9", "Merge 7", "Merge 5", "Put 3"]);
    assert_eq!(with(2, &chain), ["Merge 79", "Put 35"]);
    assert_eq!(with(2, &chain[..3]), ["Merge 79", "Merge 5"]);
    assert_eq!(with(1, &chain[..3]), ["Merge 9", "Merge 7", "Merge 5"]);
}

use std::sync::Arc;

use super::*;
use crate::engine::batch::WriteBatch;
use crate::types::Durability;

mod carried;

const LIMIT: usize = 1 << 20;
const OTHER: KeyspaceId = KeyspaceId(7);

fn record(effects: &[(KeyspaceId, &str, Effect<'_>)]) -> Arc<Request> {
    let mut batch = WriteBatch::new();
    for (keyspace, key, effect) in effects {
        batch.add(*keyspace, key.as_bytes(), *effect);
    }
    Request::of_batch(batch, Durability::Disk).unwrap()
}

fn push(window: &mut ConflictWindow, index: u64, record: &Request) {
    window.push(Index(index), record.kind, &record.payload);
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
    let mut window = ConflictWindow::new(LIMIT, Index(4));
    let record = record(&[effect]);
    push(&mut window, 5, &record);
    let (in_window, in_group) = (window.check(reads, &[]).is_err(), reads.at < Index(5));
    let in_group = in_group && reads.check_against(&record).is_err();
    assert_eq!(in_window, in_group);
    window.check(reads, &[]).is_err()
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
    let delete = record(&[(OTHER, "x", Effect::Delete)]);
    let limit = 10 * (64 + delete.payload.len());
    let mut window = ConflictWindow::new(limit, Index(0));
    for index in 1..=12 {
        push(&mut window, index, &delete);
    }
    assert!(window.check(&reads(1, &["b"], &[]), &[]).is_err());
    assert!(window.check(&reads(2, &["b"], &[]), &[]).is_ok());
    assert!(
        window.check(&reads(1, &[], &[]), &[]).is_ok(),
        "nothing was read"
    );
    window.forget(Index(9_000));
    assert!(window.check(&reads(8_999, &["b"], &[]), &[]).is_err());
    assert!(window.check(&reads(9_000, &["b"], &[]), &[]).is_ok());
    let large = record(&[(OTHER, "x", Effect::Put(&vec![0; limit]))]);
    push(&mut window, 9_001, &large);
    assert!(window.check(&reads(9_000, &["b"], &[]), &[]).is_err());
    assert!(window.check(&reads(9_001, &["b"], &[]), &[]).is_ok());
    push(&mut window, 9_002, &delete);
    assert!(window.check(&reads(9_001, &["x"], &[]), &[]).is_err());
    assert!(window.check(&reads(9_002, &["x"], &[]), &[]).is_ok());
}

#[test]
fn what_comes_after_a_gap_knows_nothing_of_what_was_before() {
    let mut window = ConflictWindow::new(LIMIT, Index(4));
    let delete = record(&[(OTHER, "a", Effect::Delete)]);
    push(&mut window, 5, &delete);
    push(&mut window, 9, &delete);
    assert_eq!((window.floor(), window.last()), (Index(8), Index(9)));
    assert!(window.check(&reads(7, &["b"], &[]), &[]).is_err());
    assert!(window.check(&reads(8, &["b"], &[]), &[]).is_ok());
    assert!(window.check(&reads(8, &["a"], &[]), &[]).is_err());
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
    let mut window = ConflictWindow::new(LIMIT, Index(0));
    push(&mut window, 1, &Request::of_catalog(&drop));
    assert!(window.check(&reads(0, &["b"], &[]), &[]).is_err());
    assert!(window.check(&reads(0, &[], &[]), &[]).is_ok());
}

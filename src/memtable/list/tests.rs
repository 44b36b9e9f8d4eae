//! That the index does its part: searches end up few steps before their target, whatever the keys
//! look like and in whatever order they came.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::types::{EntryKind, Index};

/// Entries of a table.
const ENTRIES: u64 = if cfg!(miri) { 80 } else { 6_000 };

fn table_of(entries: &[(Vec<u8>, u64)]) -> Memtable {
    let table = Memtable::new();
    for (key, index) in entries {
        table.insert(Entry {
            key,
            version: version(*index),
            kind: EntryKind::Put,
            value: b"",
        });
    }
    table
}

fn version(index: u64) -> Version {
    Version::newest_at(Index(index))
}

/// Steps from where the index leads to where the target belongs.
fn steps(table: &Memtable, target: &[u8]) -> usize {
    let Some(Led::Near(near)) = table.descend(target, false, |_| ()) else {
        panic!("no index");
    };
    let mut place = near.place;
    let end = table.search_before(target);
    let mut steps = 0;
    while place.position != end {
        let link = Link(place.link.load(Memory::Acquire));
        place = table.place(link.position(), 0);
        steps += 1;
    }
    steps
}

fn scatter(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
}

/// Keys and versions of many kinds, each in the order of its name.
fn tables() -> Vec<(&'static str, Vec<(Vec<u8>, u64)>)> {
    let numbers = || 0..ENTRIES;
    let decimal = |n: u64| format!("user/000000000{n:08}").into_bytes();
    let rising = |n: u64| (decimal(n), 1);
    let shuffled = |n: u64| (decimal(n * 7919 % ENTRIES), 1);
    let mut few_then_hot = vec![(b"a".to_vec(), 1)];
    few_then_hot.extend(numbers().map(|n| (b"b".to_vec(), n)));
    few_then_hot.push((b"c".to_vec(), 1));
    let mut hot_shuffled = vec![(b"a".to_vec(), 1), (b"c".to_vec(), 1)];
    hot_shuffled.extend(numbers().map(|n| (b"b".to_vec(), n * 7919 % ENTRIES)));
    let long = |n: u64| ([&[9; 2000][..], &n.to_be_bytes()].concat(), 1);
    let mut far_apart = vec![(b"\0".to_vec(), 1), (vec![0xff; 30], 1)];
    far_apart.extend(numbers().map(shuffled));
    vec![
        ("rising", numbers().map(rising).collect()),
        ("falling", numbers().rev().map(rising).collect()),
        ("shuffled", numbers().map(shuffled).collect()),
        (
            "random",
            numbers()
                .map(|n| (scatter(n).to_be_bytes().to_vec(), 1))
                .collect(),
        ),
        ("far apart", far_apart),
        (
            "zeros",
            numbers().map(|n| (vec![0; n as usize % 1500], n)).collect(),
        ),
        ("few, then one key's versions", few_then_hot),
        ("one key's versions, shuffled", hot_shuffled),
        (
            "two streams",
            numbers()
                .map(|n| (decimal(n / 2 + n % 2 * 50_000), 1))
                .collect(),
        ),
        (
            "long prefix",
            numbers().take(1000).map(|n| long(scatter(n))).collect(),
        ),
    ]
}

#[test]
fn searches_start_close_to_their_target() {
    for (name, entries) in tables() {
        let table = table_of(&entries);
        let mut worst = 0;
        for (key, _) in &entries {
            for target in [
                &key[..],
                &[key, &[0][..]].concat(),
                &[key, &[0xff; 9][..]].concat(),
            ] {
                worst = worst.max(steps(&table, target));
            }
        }
        for key in [
            &b""[..],
            b"a",
            b"b\0",
            b"bb",
            b"user",
            b"userr",
            b"z",
            &[0xff; 40],
        ] {
            worst = worst.max(steps(&table, key));
        }
        assert_eq!(worst, 0, "{name}: steps");
    }
}

#[test]
fn an_index_that_threads_built_lacks_little() {
    let table = Memtable::new();
    let key = |n: u64| scatter(n).to_be_bytes();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let table = &table;
            scope.spawn(move || {
                for n in (thread..ENTRIES).step_by(4) {
                    table.insert(Entry {
                        key: &key(n),
                        version: version(n),
                        kind: EntryKind::Put,
                        value: b"",
                    });
                }
            });
        }
    });
    let steps = (0..ENTRIES).map(|n| steps(&table, &key(n))).sum::<usize>();
    assert!(steps < ENTRIES as usize, "{steps} steps to {ENTRIES} keys");
}

#[test]
fn nodes_are_well_filled() {
    for (name, entries) in tables() {
        let table = table_of(&entries);
        let keys = entries
            .iter()
            .map(|(key, _)| key)
            .collect::<BTreeSet<_>>()
            .len();
        let bytes = table.index.bytes() as f64 / keys as f64;
        // Half full is 18 bytes an entry, and some for the levels above.
        let bytes_max = if name == "rising" { 11.0 } else { 22.0 };
        assert!(bytes <= bytes_max || keys < 70, "{name}: {bytes} bytes");
    }
}

#[test]
fn old_versions_are_a_few_jumps_away() {
    let rising: Vec<_> = (0..ENTRIES).map(|n| (b"key".to_vec(), n)).collect();
    let table = table_of(&rising);
    let newest_first = rising.iter().rev().map(|(key, index)| Entry {
        key,
        version: version(*index),
        kind: EntryKind::Put,
        value: b"",
    });
    let sorted = Arc::new(Memtable::new());
    let mut bulk = Bulk::new(Arc::clone(&sorted));
    newest_first.for_each(|entry| bulk.push(entry));
    bulk.link(None, false);
    for table in [Arc::new(table), sorted] {
        let (position, _) = table.search(b"key");
        for index in 0..ENTRIES {
            let mut at = table.key(position).newest().load(Memory::Acquire);
            let mut steps = 0;
            while let Some(here) = table.version(at)
                && here.record.version() > version(index)
            {
                let jump = here.jump(&table.nodes);
                let is_before = jump.record.version() < version(index) || jump.position == at;
                at = match is_before {
                    true => here.record.older.load(Memory::Acquire),
                    false => jump.position,
                };
                steps += 1;
            }
            assert_eq!(table.version(at).unwrap().record.version(), version(index));
            assert!(steps <= 3 * ENTRIES.ilog2(), "{steps} steps to {index}");
        }
    }
}

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::cursor::Cursor;
use crate::types::{EntryKind, Index, KEY_BYTES_MAX};

fn version(index: u64, position: u32) -> Version {
    let index = Index(index);
    Version { index, position }
}

fn put<'a>(key: &'a [u8], version: Version, value: &'a [u8]) -> Entry<'a> {
    let kind = EntryKind::Put;
    Entry {
        key,
        version,
        kind,
        value,
    }
}

/// What the table has to be like.
type Model = BTreeMap<(Vec<u8>, Reverse<Version>), (EntryKind, Vec<u8>)>;
type Row<'a> = (&'a (Vec<u8>, Reverse<Version>), &'a (EntryKind, Vec<u8>));

fn row<'a>((key, what): Row<'a>) -> Entry<'a> {
    Entry {
        key: &key.0,
        version: key.1.0,
        kind: what.0,
        value: &what.1,
    }
}

/// Entries of few keys and few versions, so that versions pile up and duplicates happen.
fn entry() -> impl Strategy<Value = (Vec<u8>, Version, EntryKind, Vec<u8>)> {
    let kind = prop_oneof![3 => Just(EntryKind::Put), 1 => Just(EntryKind::Delete)];
    let value_bytes = prop_oneof![20 => 0usize..40, 1 => 4000usize..5000];
    (key(), some_version(), kind, value_bytes, any::<u8>()).prop_map(
        |(key, version, kind, bytes, fill)| {
            let value = match kind {
                EntryKind::Put => vec![fill; bytes],
                _ => Vec::new(),
            };
            (key, version, kind, value)
        },
    )
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()];
    let prefix = prop_oneof![
        Just(Vec::new()),
        Just(b"common/".to_vec()),
        Just(vec![0xff; 4]),
        Just(vec![5; 1022])
    ];
    (prefix, proptest::collection::vec(byte, 0..4))
        .prop_map(|(prefix, tail)| [prefix, tail].concat())
}

fn some_version() -> impl Strategy<Value = Version> {
    prop_oneof![
        8 => (0u64..6, 0u32..3).prop_map(|(index, position)| version(index, position)),
        1 => Just(Version::MAX),
    ]
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 4 } else { cases },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Entries in a proptest case.
const ENTRIES_MAX: usize = if cfg!(miri) { 30 } else { 300 };

fn collect_forward(table: &Arc<Memtable>, check: impl Fn(Entry<'_>)) -> usize {
    let mut cursor = table.cursor();
    cursor.seek_to_first().unwrap();
    let mut count = 0;
    while let Some(entry) = cursor.entry() {
        check(entry);
        count += 1;
        cursor.next().unwrap();
    }
    count
}

fn assert_same(table: &Arc<Memtable>, model: &Model) {
    assert_eq!(table.entries(), model.len());
    assert_eq!(table.is_empty(), model.is_empty());
    let mut cursor = table.cursor();
    assert_eq!(cursor.entry(), None);
    assert!(cursor.value().is_empty());
    cursor.seek_to_first().unwrap();
    for expected in model.iter().map(row) {
        assert_eq!(cursor.entry(), Some(expected));
        assert_eq!(cursor.value(), expected.value);
        cursor.next().unwrap();
    }
    assert_eq!(cursor.entry(), None);
    cursor.next().unwrap();
    assert_eq!(cursor.entry(), None);
    cursor.seek_to_last().unwrap();
    for expected in model.iter().rev().map(row) {
        assert_eq!(cursor.entry(), Some(expected));
        cursor.prev().unwrap();
    }
    assert_eq!(cursor.entry(), None);
    cursor.prev().unwrap();
    assert_eq!(cursor.entry(), None);
}

fn assert_same_at(table: &Arc<Memtable>, model: &Model, key: &[u8], at: Version) {
    let from = (key.to_vec(), Reverse(at));
    let at_or_after = model.range(from.clone()..).next().map(row);
    let got = at_or_after.filter(|entry| entry.key == key);
    assert_eq!(table.get(key, at), got);
    let found = table.find(key, at);
    assert_eq!(
        found
            .as_ref()
            .map(|found| (found.version, found.kind, &found.value[..])),
        got.map(|entry| (entry.version, entry.kind, entry.value))
    );

    let mut cursor = table.cursor();
    cursor.seek(key, at).unwrap();
    assert_eq!(cursor.entry(), at_or_after);
    cursor.prev().unwrap();
    let before = match at_or_after {
        Some(_) => model.range(..from).next_back().map(row),
        None => None,
    };
    assert_eq!(cursor.entry(), before);
    cursor.seek_before(key).unwrap();
    let newest = (key.to_vec(), Reverse(Version::MAX));
    let below = model.range((Bound::Unbounded, Bound::Excluded(newest)));
    assert_eq!(cursor.entry(), below.map(row).next_back());
}

/// Puts all in by one bulk.
fn insert_all<'a>(table: &Arc<Memtable>, entries: impl IntoIterator<Item = Entry<'a>>) {
    let mut bulk = Bulk::new(Arc::clone(table));
    entries.into_iter().for_each(|entry| bulk.push(entry));
    bulk.link(None, false);
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn does_as_the_model_does(
        entries in proptest::collection::vec(entry(), 0..ENTRIES_MAX),
        // How many of them go in one by one, and how many in sorted runs.
        runs in proptest::collection::vec((any::<bool>(), 1usize..40), 1..10),
        probes in proptest::collection::vec((key(), some_version()), 0..20),
    ) {
        let table = Arc::new(Memtable::new());
        let mut model = Model::new();
        let mut rest = &entries[..];
        for &(is_sorted, count) in runs.iter().cycle() {
            let (run, after) = rest.split_at(count.min(rest.len()));
            rest = after;
            let mut run: Vec<_> = run
                .iter()
                .map(|(key, version, kind, value)| Entry { key, version: *version, kind: *kind, value })
                .collect();
            for entry in &run {
                let what = (entry.kind, entry.value.to_vec());
                let key = (entry.key.to_vec(), Reverse(entry.version));
                // Within a sorted run equal ones must keep their order: the sort is stable.
                model.entry(key).or_insert(what);
            }
            if is_sorted {
                run.sort_by(|a, b| a.order(b));
                insert_all(&table, run);
            } else if count % 2 == 0 {
                // By two, each of which has every other one, or a half; and no two are equal.
                let mut seen = std::collections::BTreeSet::new();
                run.retain(|entry| seen.insert((entry.key, entry.version)));
                let (mut one, mut other) = (Bulk::new(table.clone()), Bulk::new(table.clone()));
                for (n, entry) in run.iter().enumerate() {
                    let is_first = if count % 4 == 0 { n % 2 == 0 } else { n < run.len() / 2 };
                    if is_first { one.push(*entry) } else { other.push(*entry) }
                }
                one.link(Some(other), true);
            } else if count % 3 == 0 {
                insert_all(&table, run);
            } else {
                run.into_iter().for_each(|entry| table.insert(entry));
            }
            if rest.is_empty() {
                break;
            }
        }
        assert_same(&table, &model);
        for (key, Reverse(version)) in model.keys() {
            assert_same_at(&table, &model, key, *version);
        }
        for (key, at) in &probes {
            assert_same_at(&table, &model, key, *at);
        }
    }
}

#[test]
fn an_empty_table_has_nothing() {
    let table = Arc::new(Memtable::new());
    assert_eq!(table.bytes(), 0);
    insert_all(&table, []);
    assert_same(&table, &Model::new());
    assert_same_at(&table, &Model::new(), b"", Version::MAX);
    assert_same_at(&table, &Model::new(), b"\xff\xff\xff\xff\xff", Version::MAX);
}

#[test]
fn the_first_of_two_equal_ones_stays() {
    let table = Arc::new(Memtable::new());
    table.insert(put(b"k", version(1, 0), b"first"));
    table.insert(put(b"k", version(1, 0), b"second"));
    let again = [
        put(b"k", version(1, 0), b"third"),
        put(b"k", version(1, 0), b"fourth"),
    ];
    insert_all(&table, again);
    assert_eq!(table.entries(), 1);
    assert_eq!(table.get(b"k", Version::MAX).unwrap().value, b"first");
}

#[test]
fn keys_and_values_of_every_size_come_back() {
    let table = Arc::new(Memtable::new());
    let value_bytes: &[usize] = if cfg!(miri) {
        &[0, 1, 4094, 4096, 70_000]
    } else {
        &[0, 1, 100, 4094, 4095, 4096, 4097, 65_536, 1 << 20, 5 << 20]
    };
    let keys = [0, 1, 7, 8, 9, 1023, 1024, 1025, 4095, 4097, KEY_BYTES_MAX];
    let keys = &keys[..if cfg!(miri) { 5 } else { keys.len() }];
    let mut model = Model::new();
    for &key_bytes in keys {
        for (index, &value_bytes) in value_bytes.iter().enumerate() {
            let key = vec![0xab; key_bytes];
            let version = version(index as u64, 0);
            let value = vec![index as u8 + 1; value_bytes];
            table.insert(put(&key, version, &value));
            model.insert((key, Reverse(version)), (EntryKind::Put, value));
        }
    }
    assert_same(&table, &model);
    // Each key is kept once, and each value.
    let payload = keys.iter().sum::<usize>() + keys.len() * value_bytes.iter().sum::<usize>();
    assert!(table.bytes() >= payload);
    assert!(table.bytes() < payload + model.len() * 256);
}

#[test]
fn long_values_outlive_the_table_without_a_copy() {
    let table = Arc::new(Memtable::new());
    let long = vec![7; 5000];
    table.insert(put(b"a", version(1, 0), &long[..4000]));
    table.insert(put(b"b", version(1, 0), &long));
    let mut cursor = table.cursor();
    cursor.seek(b"b", Version::MAX).unwrap();
    let [by_cursor, by_find] = [
        cursor.value(),
        table.find(b"b", Version::MAX).unwrap().value,
    ];
    let at = cursor.entry().unwrap().value.as_ptr();
    assert_eq!([by_cursor.as_ptr(), by_find.as_ptr()], [at, at]);
    let short: Bytes = table.find(b"a", Version::MAX).unwrap().value;
    drop((cursor, table));
    assert_eq!([&by_cursor[..], &by_find[..]], [&long, &long]);
    assert_eq!(short, long[..4000]);
}

#[test]
fn many_versions_of_one_key() {
    let versions = if cfg!(miri) { 60 } else { 20_000 };
    let table = Arc::new(Memtable::new());
    for n in 0..versions {
        // An order that is neither rising nor falling.
        let index = n * 7919 % versions + 1;
        table.insert(put(b"key", version(index, 0), &index.to_le_bytes()));
        table.insert(put(b"kez", version(index, 0), b""));
    }
    for at in 0..=versions {
        let got = table.get(b"key", Version::newest_at(Index(at)));
        assert_eq!(
            got.map(|entry| entry.version.index.0),
            (at > 0).then_some(at)
        );
        assert_eq!(
            got.map(|entry| entry.value.to_vec()),
            (at > 0).then(|| at.to_le_bytes().to_vec())
        );
    }
    assert_eq!(table.get(b"kex", Version::MAX), None);
}

const WRITERS: u64 = 4;

/// Writers that insert entries of their own side by side, and what they have inserted.
struct Race {
    table: Arc<Memtable>,
    written: [AtomicU64; WRITERS as usize],
    each: u64,
}

impl Race {
    /// Writers 0 and 1 scatter, 2 ascends beyond all others, 3 goes in sorted runs.
    fn key(writer: u64, n: u64) -> Vec<u8> {
        match writer {
            2 => format!("z{n:08}").into_bytes(),
            3 => format!("common-prefix-{n:08}").into_bytes(),
            _ => {
                let scattered = (n * WRITERS + writer).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                scattered.to_be_bytes().to_vec()
            }
        }
    }

    fn write(&self, writer: u64) {
        let step = if writer == 3 { 16 } else { 1 };
        for first in (0..self.each).step_by(step) {
            let end = self.each.min(first + step as u64);
            let keys: Vec<_> = (first..end).map(|n| (n, Self::key(writer, n))).collect();
            let entries = keys
                .iter()
                .map(|(n, key)| put(key, version(n + 1, writer as u32), key));
            if writer == 3 {
                insert_all(&self.table, entries);
            } else {
                entries.for_each(|entry| self.table.insert(entry));
            }
            // What others insert as well, key and version: every writer comes by here.
            let shared = [&b"shared-"[..], &(first / 5).to_be_bytes()].concat();
            self.table
                .insert(put(&shared, version(first % 5, 9), &shared));
            self.written[writer as usize].store(end, Ordering::Release);
        }
    }

    /// Reads until all is written.
    fn read(&self, reader: u64) {
        let written = |writer: u64| self.written[writer as usize].load(Ordering::Acquire);
        let mut turn = reader;
        while (0..WRITERS).any(|writer| written(writer) < self.each) {
            turn += 1;
            let writer = turn % WRITERS;
            if let Some(n) = written(writer).checked_sub(1 + turn % 7) {
                let key = Self::key(writer, n);
                let entry = self.table.get(&key, Version::MAX).expect("was inserted");
                assert_eq!(entry.version, version(n + 1, writer as u32));
            }
            if turn.is_multiple_of(self.each / 4) {
                self.check_all();
            }
            thread::yield_now();
        }
    }

    /// Checks that all is there, in order; returns how many entries each writer has, and how many are
    /// shared.
    fn check_all(&self) -> [u64; 10] {
        let floor = self.written.each_ref().map(|n| n.load(Ordering::Acquire));
        let mut seen = [0; 10];
        let mut last: Option<(Vec<u8>, Version)> = None;
        let mut cursor = self.table.cursor();
        cursor.seek_to_first().unwrap();
        while let Some(entry) = cursor.entry() {
            assert_eq!(entry.key, entry.value);
            seen[entry.version.position as usize] += 1;
            if let Some((key, version)) = last.replace((entry.key.to_vec(), entry.version)) {
                let order = crate::types::order(&key, version, entry.key, entry.version);
                assert_eq!(order, std::cmp::Ordering::Less);
            }
            cursor.next().unwrap();
        }
        for (seen, floor) in seen.iter().zip(floor) {
            assert!(*seen >= floor, "{seen} of {floor}");
        }
        seen
    }
}

#[test]
fn concurrent_inserts_are_seen_in_order_and_stay() {
    let each = if cfg!(miri) { 40 } else { 10_000 };
    let race = Race {
        table: Arc::new(Memtable::new()),
        written: Default::default(),
        each,
    };
    thread::scope(|scope| {
        let race = &race;
        for writer in 0..WRITERS {
            scope.spawn(move || race.write(writer));
        }
        for reader in 0..2 {
            scope.spawn(move || race.read(reader));
        }
    });
    let seen = race.check_all();
    assert_eq!(seen[..WRITERS as usize], [each; WRITERS as usize]);
    assert_eq!(seen[9], each);
    assert_eq!(race.table.entries() as u64, (WRITERS + 1) * each);
}

#[test]
fn concurrent_versions_of_few_keys_are_all_there() {
    let each: u64 = if cfg!(miri) { 30 } else { 4_000 };
    let keys = [&b""[..], b"a", b"a\0"];
    let table = Arc::new(Memtable::new());
    thread::scope(|scope| {
        for writer in 0..4u32 {
            let table = &table;
            scope.spawn(move || {
                for n in 0..each {
                    let key = keys[n as usize % 3];
                    table.insert(put(key, version(n, writer), &n.to_be_bytes()));
                    // What this thread has inserted is there at once, and nothing older in its stead.
                    let got = table.get(key, version(n, writer)).unwrap();
                    assert_eq!(got.version, version(n, writer));
                }
            });
        }
    });
    let mut model = Model::new();
    for n in 0..each {
        for writer in 0..4 {
            let key = (keys[n as usize % 3].to_vec(), Reverse(version(n, writer)));
            model.insert(key, (EntryKind::Put, n.to_be_bytes().to_vec()));
        }
    }
    assert_same(&table, &model);
}

#[test]
fn threads_that_insert_the_same_entries_insert_each_once() {
    let keys: u64 = if cfg!(miri) { 30 } else { 5_000 };
    let table = Arc::new(Memtable::new());
    thread::scope(|scope| {
        for writer in 0..4u8 {
            let table = &table;
            scope.spawn(move || {
                for n in 0..keys {
                    table.insert(put(&n.to_be_bytes(), version(1, 0), &[writer]));
                }
            });
        }
    });
    assert_eq!(table.entries() as u64, keys);
    assert_eq!(collect_forward(&table, |_| ()) as u64, keys);
}

//! Replay of a log long enough to be shared by two threads: keyspaces come and go in it, keys are
//! overwritten and deleted, and part of it is in segments already.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kintsu::testing::SeededRng;
use kintsu::{Background, Db, Durability, Error, Options, WriteBatch};

type Model = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

fn options(path: &Path, background: Background) -> Options {
    Options::new(path)
        .durability(Durability::Process)
        .background(background)
        .write_buffer_bytes(256 << 20)
        .log_bytes_before_flush(256 << 20)
        .log_file_bytes(1 << 20)
}

/// Writes some 20 MB, and returns what the store holds then. By hand: threads would flush for each keyspace that
/// is dropped.
fn fill(db: &Db, seed: u64) -> Model {
    let mut rng = SeededRng::new(seed);
    let mut model = Model::from([("default".to_owned(), BTreeMap::new())]);
    for step in 0..40_000_u32 {
        let names: Vec<String> = model.keys().cloned().collect();
        match rng.below(1000) {
            0 if model.len() < 5 => {
                let name = format!("space-{}", rng.below(4));
                if db.keyspace_or_create(&name).is_ok() {
                    model.entry(name).or_default();
                }
            }
            1 if model.len() > 1 && rng.below(2) == 0 => {
                let name = rng.pick(&names).unwrap();
                if name != "default" {
                    db.drop_keyspace(name).unwrap();
                    model.remove(name);
                }
            }
            2 if step < 10_000 && rng.below(10) == 0 => db.flush().unwrap(),
            _ => {
                let mut batch = WriteBatch::new();
                for _ in 0..rng.between(1, 4) {
                    let name = rng.pick(&names).unwrap();
                    let keyspace = db.keyspace(name).unwrap();
                    let key = format!("key/{:06}", rng.below(9_000)).into_bytes();
                    let kept = model.get_mut(name).unwrap();
                    if rng.below(8) == 0 {
                        batch.delete_in(&keyspace, &key);
                        kept.remove(&key);
                    } else {
                        let length = rng.between(0, 400) as usize;
                        let value = rng.bytes(length);
                        batch.put_in(&keyspace, &key, &value);
                        kept.insert(key, value);
                    }
                }
                db.write(batch).unwrap();
            }
        }
    }
    model
}

fn check(db: &Db, model: &Model) {
    assert_eq!(db.keyspaces(), model.keys().cloned().collect::<Vec<_>>());
    for (name, kept) in model {
        let found = db.keyspace(name).unwrap().range(..).unwrap();
        let found: Vec<_> = found.map(|entry| entry.unwrap()).collect();
        assert_eq!(found.len(), kept.len(), "{name}");
        for ((key, value), entry) in kept.iter().zip(&found) {
            assert_eq!(
                (&entry.0[..], &entry.1[..]),
                (&key[..], &value[..]),
                "{name}"
            );
        }
    }
}

/// A copy of a store that was dropped, not closed: all is in the log still.
fn leave_behind(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_long_log_is_replayed_alike_by_one_thread_and_by_two() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..3 {
        let store = folder.path().join(format!("store-{seed}"));
        let db = options(&store, Background::Manual).open().unwrap();
        let model = fill(&db, seed);
        check(&db, &model);
        drop(db);
        let mut reports = Vec::new();
        for (name, background) in [("one", Background::Manual), ("two", Background::Threads)] {
            let left = folder.path().join(format!("{name}-{seed}"));
            leave_behind(&store, &left);
            let again = options(&left, background).open().unwrap();
            check(&again, &model);
            let report = again.recovery_report().clone();
            assert!(report.log_bytes_read > 8 << 20, "{report:?}");
            assert!(report.records_replayed > 20_000, "{report:?}");
            reports.push((
                report.records_replayed,
                report.log_bytes_read,
                report.torn_bytes,
            ));
            // And once more after writing to it.
            again.put("after", "all").unwrap();
            drop(again);
            let again = options(&left, background).open().unwrap();
            assert_eq!(again.get("after").unwrap().as_deref(), Some(&b"all"[..]));
        }
        assert_eq!(reports[0], reports[1]);
    }
}

#[test]
fn a_damaged_record_of_a_long_log_is_named_alike_by_one_thread_and_by_two() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let db = options(&store, Background::Manual).open().unwrap();
    let model = fill(&db, 7);
    db.sync().unwrap();
    drop(db);
    let logs = fs::read_dir(&store)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = logs
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    logs.sort();
    // The newest may be prepared and not yet used.
    for log in &logs[..logs.len() - 2] {
        let mut told = Vec::new();
        for (name, background) in [("one", Background::Manual), ("two", Background::Threads)] {
            let left = folder.path().join(name);
            let _ = fs::remove_dir_all(&left);
            leave_behind(&store, &left);
            let path = left.join(log.file_name().unwrap());
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&path, bytes).unwrap();
            told.push(match options(&left, background).open() {
                Ok(again) => {
                    // What the segments cover may be damaged without harm.
                    check(&again, &model);
                    vec![format!("{}", again.recovery_report().damage.len())]
                }
                Err(Error::Damaged(all)) => all
                    .iter()
                    .map(|one| format!("{:?} {:?} {:?}", one.offset, one.lsns, one.indexes))
                    .collect(),
                Err(other) => panic!("{other:?}"),
            });
        }
        assert_eq!(told[0], told[1], "{}", log.display());
        assert!(!told[0].is_empty());
    }
}

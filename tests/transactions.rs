//! Transactions among threads: what each of them could only do alone, they do together.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kintsu::{Append, Counter, Db, Durability, Error, KeyspaceOptions, Options, Result};
use tempfile::TempDir;

const ACCOUNTS: u64 = 8;
const START: u64 = 100;

fn store() -> (TempDir, Db) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(folder.path()).durability(Durability::Process);
    let db = options.open().unwrap();
    (folder, db)
}

fn account(number: u64) -> String {
    format!("account/{:02}", number % ACCOUNTS)
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// Moves some money, if there is any.
fn transfer(db: &Db, from: &str, to: &str, amount: u64) -> Result<bool> {
    db.transact(|transaction| {
        let has = number(&transaction.get(from)?.unwrap());
        if has < amount || from == to {
            return Ok(false);
        }
        let other = number(&transaction.get(to)?.unwrap());
        transaction.put(from, (has - amount).to_le_bytes());
        transaction.put(to, (other + amount).to_le_bytes());
        Ok(true)
    })
}

#[test]
fn money_is_neither_made_nor_lost() {
    let (_folder, db) = store();
    for at in 0..ACCOUNTS {
        db.put(account(at), START.to_le_bytes()).unwrap();
    }
    let (done, moved) = (AtomicBool::new(false), AtomicU64::new(0));
    let sum = |db: &Db| -> u64 {
        let all = db.view().prefix("account/").unwrap();
        all.map(|pair| number(&pair.unwrap().1)).sum()
    };
    thread::scope(|scope| {
        let (db, done, moved) = (&db, &done, &moved);
        let writers: Vec<_> = (0..4_u64)
            .map(|writer| {
                scope.spawn(move || {
                    for turn in 0..150_u64 {
                        let (from, to) =
                            (account(turn * 7 + writer), account(turn * 3 + writer + 1));
                        let done = transfer(db, &from, &to, turn % 23).unwrap();
                        moved.fetch_add(u64::from(done), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                assert_eq!(sum(db), ACCOUNTS * START);
            }
        });
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Release);
    });
    assert_eq!(sum(&db), ACCOUNTS * START);
    assert!(moved.into_inner() > 100);
}

#[test]
fn numbers_taken_from_a_range_are_taken_once() {
    let (_folder, db) = store();
    thread::scope(|scope| {
        for writer in 0..4 {
            let db = &db;
            scope.spawn(move || {
                for _ in 0..50 {
                    let taken = db.transact(|transaction| {
                        let last = transaction.prefix("order/")?.next_back().transpose()?;
                        let next = last.map_or(0, |(_, value)| number(&value[..8]) + 1);
                        let value = [&next.to_le_bytes()[..], &[writer]].concat();
                        transaction.put(format!("order/{next:06}"), value);
                        Ok(())
                    });
                    taken.unwrap();
                }
            });
        }
    });
    let orders: Vec<_> = db
        .prefix("order/")
        .unwrap()
        .map(|pair| pair.unwrap())
        .collect();
    assert_eq!(orders.len(), 200);
    for (at, (_, value)) in orders.iter().enumerate() {
        assert_eq!(number(&value[..8]), at as u64);
    }
    for writer in 0..4 {
        let own = orders.iter().filter(|(_, value)| value[8] == writer);
        assert_eq!(own.count(), 50);
    }
}

/// Each reads what the other writes: one of the two must begin anew.
#[test]
fn two_that_read_what_the_other_writes_do_not_both_succeed() {
    let (_folder, db) = store();
    db.put("a", "1").unwrap();
    db.put("b", "1").unwrap();
    let mut one = db.transaction().unwrap();
    let mut other = db.transaction().unwrap();
    assert!(one.get("a").unwrap().is_some());
    assert!(other.get("b").unwrap().is_some());
    one.delete("b");
    other.delete("a");
    one.commit().unwrap();
    assert!(matches!(other.commit(), Err(Error::Conflict { .. })));
    assert!(db.contains("a").unwrap());
}

#[test]
fn a_key_that_was_not_there_was_read_all_the_same() {
    let (_folder, db) = store();
    let mut transaction = db.transaction().unwrap();
    assert_eq!(transaction.get("new").unwrap(), None);
    transaction.put("other", "1");
    db.put("new", "2").unwrap();
    assert!(matches!(transaction.commit(), Err(Error::Conflict { .. })));
    // Only the part of a range that was walked over counts.
    db.put("k1", "").unwrap();
    db.put("k5", "").unwrap();
    let mut transaction = db.transaction().unwrap();
    assert!(transaction.range("k".."l").unwrap().next().is_some());
    transaction.put("other", "1");
    db.put("k3", "").unwrap();
    transaction.commit().unwrap();
    let mut transaction = db.transaction().unwrap();
    assert!(transaction.range("k".."l").unwrap().next_back().is_some());
    transaction.put("other", "1");
    db.put("k9", "").unwrap();
    assert!(matches!(transaction.commit(), Err(Error::Conflict { .. })));
}

#[test]
fn blind_writes_and_merges_never_conflict() {
    let (_folder, db) = store();
    let options = KeyspaceOptions::default().merge_operator(Counter::NAME);
    let hits = db.create_keyspace_with("hits", options).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let mut transaction = db.transaction().unwrap();
                    transaction.merge_in(&hits, "page", 1_i64.to_le_bytes());
                    transaction.put("last", "someone");
                    transaction.commit().unwrap();
                }
            });
        }
    });
    assert_eq!(
        hits.get("page").unwrap().as_deref(),
        Some(&400_i64.to_le_bytes()[..])
    );
}

#[test]
fn swaps_make_a_lock() {
    let (_folder, db) = store();
    let inside = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..4_u8 {
            let (db, inside) = (&db, &inside);
            scope.spawn(move || {
                for _ in 0..25 {
                    while db
                        .compare_and_swap("lock", None::<&[u8]>, Some([thread]))
                        .unwrap()
                        .is_err()
                    {
                        thread::yield_now();
                    }
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    let freed = db.compare_and_swap("lock", Some([thread]), None::<&[u8]>);
                    assert_eq!(freed.unwrap(), Ok(()));
                }
            });
        }
    });
}

#[test]
fn a_transaction_that_outlives_the_store_errs() {
    let (_folder, db) = store();
    let mut writes = db.transaction().unwrap();
    writes.put("a", "1");
    let mut reads = db.transaction().unwrap();
    db.close().unwrap();
    assert!(matches!(reads.get("a"), Err(Error::Closed)));
    assert!(matches!(reads.range(..), Err(Error::Closed)));
    assert!(matches!(reads.commit(), Err(Error::Closed)));
    assert!(matches!(writes.commit(), Err(Error::Closed)));
}

#[test]
fn what_cannot_be_written_is_said_at_the_commit() {
    let (_folder, db) = store();
    let mut transaction = db.transaction().unwrap();
    transaction.put(vec![0; kintsu::KEY_BYTES_MAX + 1], "");
    assert!(matches!(
        transaction.commit(),
        Err(Error::KeyTooLong { .. })
    ));
    let mut transaction = db.transaction().unwrap();
    transaction.merge("a", "b");
    assert!(matches!(
        transaction.get("a"),
        Err(Error::NoMergeOperator { .. })
    ));
    assert!(matches!(
        transaction.commit(),
        Err(Error::NoMergeOperator { .. })
    ));
    let gone = db.create_keyspace("gone").unwrap();
    let mut transaction = db.transaction().unwrap();
    transaction.put_in(&gone, "a", "b");
    db.drop_keyspace("gone").unwrap();
    assert!(matches!(
        transaction.commit(),
        Err(Error::KeyspaceNotFound { .. })
    ));
}

#[test]
fn a_transaction_sees_its_own_writes() {
    let folder = tempfile::tempdir().unwrap();
    let appends = KeyspaceOptions::default().merge_operator(Append::NAME);
    let db = Options::new(folder.path())
        .default_keyspace(appends)
        .open()
        .unwrap();
    for key in ["a", "b", "c", "d"] {
        db.put(key, key).unwrap();
    }
    let mut transaction = db.transaction().unwrap();
    transaction
        .merge("a", "+")
        .delete("b")
        .delete_range("c".."d")
        .put("e", "new");
    let all = |transaction: &mut kintsu::Transaction| -> Vec<String> {
        let pairs = transaction.range(..).unwrap().map(|pair| pair.unwrap());
        let text = |(key, value): (kintsu::Bytes, kintsu::Bytes)| {
            format!("{}={}", key.escape_ascii(), value.escape_ascii())
        };
        pairs.map(text).collect()
    };
    assert_eq!(all(&mut transaction), ["a=a+", "d=d", "e=new"]);
    let savepoint = transaction.savepoint();
    transaction
        .put("c", "back")
        .merge("c", "!")
        .delete_range(.."b");
    assert_eq!(all(&mut transaction), ["c=back!", "d=d", "e=new"]);
    assert!(transaction.roll_back_to(&savepoint));
    assert_eq!(all(&mut transaction), ["a=a+", "d=d", "e=new"]);
    transaction.commit().unwrap();
    let stored: Vec<_> = db.range(..).unwrap().map(|pair| pair.unwrap().0).collect();
    assert_eq!(stored, ["a", "d", "e"]);
    assert_eq!(db.get("a").unwrap().as_deref(), Some(&b"a+"[..]));
}

#[test]
fn a_swapped_value_lives_as_long_as_a_put_one() {
    let clock = std::sync::Arc::new(kintsu::testing::ManualClock::new());
    let db = Options::new("store")
        .vfs(std::sync::Arc::new(kintsu::testing::MemoryVfs::new()))
        .background(kintsu::Background::Manual)
        .clock(clock.clone())
        .open()
        .unwrap();
    let options = KeyspaceOptions::default().time_to_live(Duration::from_secs(10));
    let sessions = db.create_keyspace_with("sessions", options).unwrap();
    let swapped = sessions.compare_and_swap("key", None::<&str>, Some("value"));
    assert_eq!(swapped.unwrap(), Ok(()));
    assert!(sessions.get("key").unwrap().is_some());
    clock.advance(Duration::from_secs(11));
    db.put("time", "goes by records").unwrap();
    assert_eq!(sessions.get("key").unwrap(), None);
}

/// A read that fails is a read: whoever acts on the failure must not write over its repair.
#[test]
fn what_could_not_be_read_was_read() {
    let (_folder, db) = store();
    let options = KeyspaceOptions::default().merge_operator(Counter::NAME);
    let counters = db.create_keyspace_with("counters", options).unwrap();
    let break_it = || {
        counters.put("key", "three").unwrap();
        counters.merge("key", 1_i64.to_le_bytes()).unwrap();
    };
    for by_range in [false, true] {
        break_it();
        let mut transaction = db.transaction().unwrap();
        let failed = match by_range {
            false => transaction.get_in(&counters, "key").map(drop),
            true => {
                let mut range = transaction.range_in(&counters, "a"..).unwrap();
                range.next().unwrap().map(drop)
            }
        };
        assert!(
            matches!(failed, Err(Error::MergeFailed { .. })),
            "{failed:?}"
        );
        counters.put("key", 7_i64.to_le_bytes()).unwrap();
        transaction.put_in(&counters, "key", 0_i64.to_le_bytes());
        let conflict = transaction.commit();
        assert!(
            matches!(conflict, Err(Error::Conflict { .. })),
            "{conflict:?}"
        );
        assert_eq!(
            counters.get("key").unwrap().unwrap()[..],
            7_i64.to_le_bytes()
        );
    }
}

#[test]
fn an_iterator_that_is_forgotten_has_read_its_range() {
    let (_folder, db) = store();
    db.put("b", "1").unwrap();
    let mut transaction = db.transaction().unwrap();
    let mut range = transaction.range("a".."c").unwrap();
    assert!(range.next().is_some());
    std::mem::forget(range);
    db.put("b", "2").unwrap();
    transaction.put("seen", "1");
    let conflict = transaction.commit();
    assert!(
        matches!(conflict, Err(Error::Conflict { .. })),
        "{conflict:?}"
    );
}

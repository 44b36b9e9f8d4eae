//! The store's plain use, on the real disk.

#![allow(clippy::unwrap_used, reason = "a test")]

use kintsu::{Db, Durability, Options, WriteBatch};

#[test]
fn what_was_put_is_there_after_a_reopen_closed_or_dropped() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0_u32..6 {
        let db = Db::open(folder.path().join("store")).unwrap();
        for earlier in 0..round {
            for n in 0..100_u32 {
                let found = db.get(format!("{earlier}/{n}")).unwrap();
                assert_eq!(
                    found.as_deref(),
                    Some(&n.to_be_bytes()[..]),
                    "{earlier}/{n}"
                );
            }
        }
        for n in 0..100_u32 {
            db.put(format!("{round}/{n}"), n.to_be_bytes()).unwrap();
        }
        assert_eq!(db.range(..).unwrap().count() as u32, (round + 1) * 100);
        assert_eq!(
            db.range(..).unwrap().rev().count() as u32,
            (round + 1) * 100
        );
        if round % 2 == 0 {
            db.close().unwrap();
        }
    }
}

#[test]
fn flush_and_compaction_keep_everything() {
    let folder = tempfile::tempdir().unwrap();
    let options = || {
        Options::new(folder.path().join("store"))
            .durability(Durability::Buffered)
            .write_buffer_bytes(1 << 20)
            .segment_bytes(1 << 20)
            .level_base_bytes(4 << 20)
    };
    let keys = 200_000_u64;
    let key = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    let db = options().open().unwrap();
    for first in (0..keys).step_by(100) {
        let mut batch = WriteBatch::new();
        for n in first..first + 100 {
            batch.put(key(n), [n as u8; 50]);
            if n % 3 == 0 {
                batch.delete(key(n / 2));
            }
        }
        db.write(batch).unwrap();
    }
    let deleted = |n: u64| (n * 2..n * 2 + 2).any(|m| m.is_multiple_of(3) && m < keys && m >= n);
    let check = |db: &Db| {
        let mut there = 0;
        for n in 0..keys {
            let found = db.get(key(n)).unwrap();
            assert_eq!(found.is_none(), deleted(n), "{n}");
            there += u64::from(found.is_some());
        }
        assert_eq!(db.range(..).unwrap().count() as u64, there);
        assert_eq!(db.range(..).unwrap().rev().count() as u64, there);
    };
    check(&db);
    println!("{:#?}", db.statistics());
    db.close().unwrap();
    let db = options().open().unwrap();
    assert_eq!(db.recovery_report().records_replayed, 0);
    check(&db);
}

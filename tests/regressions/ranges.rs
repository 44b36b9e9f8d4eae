//! Merges that become too long, and range deletions that lie on one another.

use std::time::Duration;

use bytes::Bytes;
use kintsu::{Durability, KeyspaceOptions, MergeOperator, Options, VALUE_BYTES_MAX};

/// Whatever is merged becomes longer than a value can be.
struct TooLong;

impl MergeOperator for TooLong {
    fn merge(&self, _: &[u8], _: Option<&[u8]>, _: &[Bytes]) -> Result<Vec<u8>, String> {
        Ok(vec![0; VALUE_BYTES_MAX + 1])
    }

    fn combine(&self, _: &[u8], _: &[Bytes]) -> Option<Vec<u8>> {
        Some(vec![0; VALUE_BYTES_MAX + 1])
    }
}

/// A fold longer than a value can be was refused by every flush, for ever, and so was the close.
#[test]
fn a_fold_that_is_too_long_stays_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        Options::new(folder.path())
            .merge_operator("long", TooLong)
            .default_keyspace(KeyspaceOptions::default().merge_operator("long"))
            .open()
            .unwrap()
    };
    let db = open();
    db.put("key", "value").unwrap();
    db.flush().unwrap();
    for _ in 0..2 {
        db.merge("key", "operand").unwrap();
        db.merge("key", "operand").unwrap();
        db.flush().unwrap();
        db.compact_range(..).unwrap();
    }
    let read = db.get("key").unwrap().unwrap();
    assert_eq!(read.len(), VALUE_BYTES_MAX + 1);
    let mut transaction = db.transaction().unwrap();
    assert!(transaction.get("key").unwrap().is_some());
    transaction.put("other", "value");
    transaction.commit().unwrap();
    let swapped = db.compare_and_swap("key", Some(&read), Some(&read));
    assert!(swapped.is_err(), "such a value can't be put");
    let swapped = db.compare_and_swap("key", Some(&read), Some("short"));
    assert!(swapped.unwrap().is_ok());
    db.merge("key", "operand").unwrap();
    db.merge("key", "operand").unwrap();
    db.close().unwrap();
    let db = open();
    assert_eq!(db.get("key").unwrap().unwrap().len(), VALUE_BYTES_MAX + 1);
    assert_eq!(db.range(..).unwrap().count(), 2);
    db.close().unwrap();
}

/// Range deletions in range deletions took n² of memory of which nothing was counted, so that no flush
/// made an end of it.
#[test]
fn range_deletions_count_towards_the_write_buffer() {
    let folder = tempfile::tempdir().unwrap();
    let db = Options::new(folder.path())
        .durability(Durability::Buffered)
        .write_buffer_bytes(512 << 10)
        .open()
        .unwrap();
    for n in 0..1_000_u32 {
        let (from, to) = (format!("{n:08}"), format!("{:08}", 10_000 - n));
        db.put(&from, "value").unwrap();
        db.delete_range(from.as_str()..to.as_str()).unwrap();
        if n % 100 == 0 {
            assert_eq!(db.get(&from).unwrap(), None);
            db.put(&to, "value").unwrap();
            assert_eq!(db.range(from..).unwrap().count() as u32, 1 + n / 100);
        }
    }
    for _ in 0..500 {
        let keyspace = &db.statistics().keyspaces[0];
        if keyspace.level_segments.iter().sum::<usize>() > 0 {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    panic!("{:?}", db.statistics());
}

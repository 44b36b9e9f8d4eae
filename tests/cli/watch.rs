//! `watch`: the change feed, beside a writer and after it.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use kintsu::{Counter, Db, KeyspaceOptions, Options, WriteBatch};
use serde_json::{Value, json};

use crate::support::{Room, kintsu};

/// The lines without their second field, the time.
fn timeless(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let mut fields: Vec<&str> = line.split('\t').collect();
        let time = fields.remove(1);
        assert!(time.len() == 27 && time.ends_with('Z'), "{line}");
        fields.join(" ")
    };
    text.lines().map(line).collect()
}

#[test]
fn every_change_is_a_line() {
    let room = Room::new();
    let db = Db::open(room.store()).unwrap();
    db.put("a\t", "1").unwrap();
    let options = KeyspaceOptions::default().merge_operator(Counter::NAME);
    let hits = db.create_keyspace_with("hits", options).unwrap();
    let mut batch = WriteBatch::new();
    batch.merge_in(&hits, "b", 7_i64.to_le_bytes());
    batch.put_expiring("c", "3", Duration::from_secs(1));
    batch.delete_range("d".."f");
    batch.delete_range("x"..);
    batch.delete_in(&hits, "");
    db.write(batch).unwrap();
    // Beside the writer, who has it open.
    let watched = room.run::<&str>("watch", &[]).fine();
    let lines = timeless(watched.text());
    let (expiring, others): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line.contains("expiring"));
    let expected = [
        "1 put default a\\t 1",
        "2 create_keyspace hits",
        "3 merge hits b \\x07\\x00\\x00\\x00\\x00\\x00\\x00\\x00",
        "3 delete_range default d f",
        "3 delete_range default x",
        "3 delete hits ",
    ];
    assert_eq!(others, expected.iter().collect::<Vec<_>>());
    assert!(expiring[0].starts_with("3 put_expiring default c 3 2"));
    db.drop_keyspace("hits").unwrap();
    let last = room.run("watch", &["--from=4"]).fine();
    assert_eq!(timeless(last.text()), ["4 drop_keyspace hits"]);
    let some = room
        .run("watch", &["--keyspace=hits", "--limit=2", "--from=2"])
        .fine();
    assert_eq!(timeless(some.text()).len(), 3);
    let ended = room
        .run("watch", &["--json", "--from=3", "--keyspace=hits"])
        .fine();
    let value: Value = serde_json::from_str(ended.text().lines().next().unwrap()).unwrap();
    let operand = "\u{7}\0\0\0\0\0\0\0";
    assert_eq!(value["index"], 3);
    assert!(value["time_us"].as_u64() > Some(1_600_000_000_000_000));
    assert_eq!(
        value["changes"],
        json!([
            { "operation": "merge", "keyspace": "hits", "keyspace_id": 1, "key": "b", "operand": operand },
            { "operation": "delete", "keyspace": "hits", "keyspace_id": 1, "key": "" },
        ])
    );
    room.run("watch", &["--from=6"])
        .expect(4)
        .says(&["record 6 is asked for", "4 is the last"]);
}

#[test]
fn a_purged_record_is_a_clear_error() {
    let room = Room::new();
    let options = Options::new(room.store()).log_file_bytes(64 << 10);
    let db = options.open().unwrap();
    for _ in 0..4 {
        db.put("key", vec![7; 40_000]).unwrap();
        db.flush().unwrap();
    }
    let first = db.statistics().log_first_index;
    assert!(first.0 > 1);
    let begins = format!("begins at record {first}");
    room.run("watch", &["--from=1"])
        .expect(4)
        .says(&[&begins, "1 has been purged"]);
    let ended = room.run("watch", &["--from=1", "--json"]).expect(4);
    let error: Value = serde_json::from_str(&ended.err).unwrap();
    assert_eq!(error["error"]["kind"], "purged");
    let oldest = room.run::<&str>("watch", &[]).fine();
    assert_eq!(oldest.text().lines().count() as u64, 5 - first.0);
    let nothing = Room::new();
    nothing.run::<&str>("watch", &[]).expect(4);
}

#[test]
fn a_watcher_follows_writers_that_come_and_go() {
    let room = Room::new();
    room.run("put", &["key 0", "value"]).fine();
    let mut child = kintsu()
        .arg("watch")
        .arg(room.store())
        .args(["--follow", "--from=1", "--limit=21"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    for n in 1..6 {
        room.run("put", &[format!("key {n}"), "value".into()])
            .fine();
        let line = lines.next().unwrap().unwrap();
        assert!(line.ends_with(&format!("key {n}\tvalue")), "{line}");
    }
    let options = Options::new(room.store()).log_file_bytes(64 << 10);
    let db = options.open().unwrap();
    for n in 6..21 {
        // Each file has room for one.
        db.put(format!("key {n}"), vec![b'x'; 40_000]).unwrap();
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains(&format!("key {n}\txxx")), "{n}");
    }
    assert!(lines.next().is_none());
    assert!(child.wait().unwrap().success());
}

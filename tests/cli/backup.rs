//! `snapshot`, `backup` and `restore`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Ended, Room, kintsu};

const NONE: [&str; 0] = [];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn one(ended: &Ended) -> Value {
    serde_json::from_str(ended.text().trim()).unwrap()
}

#[test]
fn a_snapshot_is_a_store_of_its_own() {
    let room = Room::new();
    room.put(&[("a", "1"), ("b", "2")]);
    let copy = room.path("copy");
    let told = one(&room.run("snapshot", &[text(&copy), "--json"]).fine());
    assert_eq!(told["bytes_copied"], 0);
    assert!(told["bytes_linked"].as_u64().unwrap() > 0);
    room.run("put", &["a", "new"]).fine();
    assert_eq!(room.scan(&copy), "a\t1\nb\t2\n");
    room.run_on(&copy, "put", &["c", "3"]).fine();
    room.run_on(&copy, "verify", &NONE).fine();
    assert_eq!(room.scan(&room.store()), "a\tnew\nb\t2\n");
    room.run("snapshot", &[text(&copy)])
        .expect(4)
        .says(&["isn't empty"]);
    assert!(!room.path("copy.tmp").exists());
}

#[test]
fn backups_are_made_listed_verified_pruned_and_restored() {
    let room = Room::new();
    let repository = room.path("backups");
    let repository = text(&repository);
    let backup = |more: &[&str]| room.run("backup", &[&[repository], more].concat());
    room.put(&[("a", "1"), ("b", "2")]);
    let first = one(&backup(&["--json"]).fine());
    assert_eq!(first["segments_copied"], 1);
    room.run("put", &["c", "3"]).fine();
    let second = backup(&[]).fine();
    assert!(second.text().starts_with("backup 2 holds"), "{second:?}");
    let listed = one(&backup(&["--list", "--json"]).fine());
    assert_eq!(listed["backups"].as_array().unwrap().len(), 2);
    assert!(backup(&["--list"]).fine().text().contains("record"));
    let verified = one(&backup(&["--verify", "--json"]).fine());
    assert_eq!(verified["healthy"], true);
    assert_eq!(verified["equals_store"], true);
    assert_eq!(verified["keys"], 3);
    room.run("put", &["c", "later"]).fine();
    let verified = one(&backup(&["--verify", "--json"]).fine());
    assert_eq!(verified["equals_store"], Value::Null);

    let store = room.path("restored");
    let restore = |more: &[&str]| {
        let arguments = [&["restore", repository, text(&store)], more].concat();
        let output = kintsu().args(arguments).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let index = first["index"].to_string();
    let (code, told) = restore(&["--index", &index, "--json"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(room.scan(&store), "a\t1\nb\t2\n");
    let (code, _) = restore(&[]);
    assert_eq!(code, Some(4), "not where something is");
    fs::remove_dir_all(&store).unwrap();
    let (code, told) = restore(&["--time", "2100-01-01T00:00:00+02:00"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(room.scan(&store), "a\t1\nb\t2\nc\t3\n");
    fs::remove_dir_all(&store).unwrap();
    let (code, told) = restore(&["--index", "1000"]);
    assert_eq!(code, Some(4), "{told}");
    assert!(told.contains("not reached"));
    let (code, _) = restore(&["--time", "yesterday"]);
    assert_eq!(code, Some(2));

    assert!(backup(&["--prune=1"]).fine().text().contains("1 backup"));
    backup(&["--prune=0"]).expect(2);
    let listed = one(&backup(&["--list", "--json"]).fine());
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1);
    let entries = fs::read_dir(room.path("")).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !names
            .iter()
            .any(|name| text(name.as_ref()).contains("-verify-"))
    );
}

#[test]
fn the_archive_reaches_every_record() {
    let room = Room::new();
    let repository = room.path("backups");
    let repository = text(&repository);
    room.put(&[("a", "1")]);
    let told = one(&room
        .run("backup", &[repository, "--archive", "--json"])
        .fine());
    let base = told["index"].as_u64().unwrap();
    for value in ["2", "3", "4"] {
        // Few records stay in the log, so each command's writer leaves them to the next one's archive.
        room.run("put", &["a", value]).fine();
        room.run("backup", &[repository, "--archive"]).fine();
    }
    for (at, value) in ["1", "2", "3", "4"].iter().enumerate() {
        let store = room.path(&format!("restored {at}"));
        let index = (base + at as u64).to_string();
        let output = kintsu()
            .args(["restore", repository, text(&store), "--index", &index])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(room.scan(&store), format!("a\t{value}\n"));
    }
}

#[test]
fn damage_in_a_repository_is_named_and_passed_over() {
    let room = Room::new();
    let repository = room.path("backups");
    room.put(&[("a", "1")]);
    room.run("backup", &[text(&repository)]).fine();
    let before: Vec<_> = fs::read_dir(repository.join("segments")).unwrap().collect();
    assert_eq!(before.len(), 1);
    let old = before[0].as_ref().unwrap().path();
    room.run("put", &["b", "2"]).fine();
    room.run("backup", &[text(&repository)]).fine();
    let mut entries = fs::read_dir(repository.join("segments")).unwrap();
    let new = entries.find_map(|entry| {
        let path = entry.unwrap().path();
        (path != old).then_some(path)
    });
    let new = new.unwrap();
    let mut bytes = fs::read(&new).unwrap();
    bytes[100] ^= 1;
    fs::write(&new, bytes).unwrap();
    let name = new.file_name().unwrap().to_str().unwrap();

    let verified = room
        .run("backup", &[text(&repository), "--verify"])
        .expect(3);
    assert!(verified.text().contains(name), "{verified:?}");
    let store = room.path("restored");
    let output = kintsu()
        .args(["restore", text(&repository), text(&store)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains(name));
    assert_eq!(room.scan(&store), "a\t1\n");
}

#[test]
fn a_store_that_is_written_to_is_left_to_its_writer() {
    let room = Room::new();
    room.put(&[("a", "1")]);
    let db = kintsu::Db::open(room.store()).unwrap();
    let to = room.path("to");
    for command in ["snapshot", "backup"] {
        room.run(command, &[text(&to)])
            .expect(4)
            .says(&["open for writing elsewhere"]);
        assert!(!to.exists());
    }
    db.close().unwrap();
}

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

fn run<A: AsRef<std::ffi::OsStr>>(arguments: &[A]) -> std::process::Output {
    kintsu().args(arguments).output().unwrap()
}

/// Every file in a folder, with its bytes.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = entries.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

#[test]
fn odd_targets_are_served_or_refused_before_anything_is_done() {
    let room = Room::new();
    room.put(&[("a", "1")]);
    let repository = room.path("backups");
    let slash = format!("{}/", text(&repository));
    room.run("backup", &[&slash]).fine();
    let verified = one(&room.run("backup", &[&slash, "--verify", "--json"]).fine());
    assert_eq!(verified["healthy"], true);
    let target = room.path("restored");
    let ended = run(&["restore", &slash, &format!("{}/", text(&target))]);
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(room.scan(&target), "a\t1\n");

    fs::create_dir(room.path("empty")).unwrap();
    std::os::unix::fs::symlink(room.path("empty"), room.path("link")).unwrap();
    let link = room.path("link");
    let ended = run(&["restore", &slash, text(&link)]);
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("symbolic link"), "{said}");
    let mut here = kintsu();
    here.current_dir(room.path("empty"));
    let ended = here.args(["restore", &slash, "."]).output().unwrap();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let mut here = kintsu();
    here.current_dir(&repository)
        .args(["backup", text(&room.store()), ".", "--verify"]);
    assert!(here.output().unwrap().status.success());
    let names: Vec<_> = fs::read_dir(room.path("")).unwrap().collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert_eq!(fs::read_dir(&repository).unwrap().count(), 5);
}

#[test]
fn what_is_named_like_a_staging_folder_is_kept() {
    let room = Room::new();
    room.put(&[("a", "1")]);
    let repository = room.path("backups");
    room.run("backup", &[text(&repository)]).fine();
    fs::rename(room.store(), room.path("store.tmp")).unwrap();
    let before = files(&room.path("store.tmp"));
    let ended = run(&["restore", text(&repository), text(&room.store())]);
    assert_eq!(ended.status.code(), Some(4), "{ended:?}");
    assert!(files(&room.path("store.tmp")) == before);
    let store = room.store();
    room.run_on(&room.path("store.tmp"), "snapshot", &[text(&store)])
        .expect(4);
    assert_eq!(room.scan(&room.path("store.tmp")), "a\t1\n");
}

#[test]
fn an_era_is_chosen() {
    let room = Room::new();
    room.put(&[("a", "1")]);
    let repository = room.path("backups");
    let repository = text(&repository);
    room.run("backup", &[repository]).fine();
    let test = room.path("test");
    assert!(run(&["restore", repository, text(&test)]).status.success());
    room.run_on(&test, "put", &["a", "of the test"]).fine();
    room.run_on(&test, "backup", &[repository]).fine();
    let listed = one(&room.run("backup", &[repository, "--list", "--json"]).fine());
    let eras = listed["eras"].as_array().unwrap();
    assert_eq!(eras.len(), 2);
    assert_eq!(listed["backups"][0]["era"], eras[0]["era"]);
    let era = eras[0]["era"].as_str().unwrap();
    let plain = room.run("backup", &[repository, "--list"]).fine();
    assert!(plain.text().contains(&era[..8]), "{plain:?}");
    let back = room.path("back");
    let ended = run(&[
        "restore",
        repository,
        text(&back),
        "--era",
        &era[..8],
        "--json",
    ]);
    let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(told["era"], era);
    assert_eq!(room.scan(&back), "a\t1\n");
    let ended = run(&["restore", repository, text(&room.path("no")), "--era", "x"]);
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
}

#[test]
fn damage_in_a_repository_advises_what_can_be_done_there() {
    let room = Room::new();
    room.put(&[("a", "1")]);
    let repository = room.path("backups");
    room.run("backup", &[text(&repository)]).fine();
    fs::write(repository.join("repository"), b"something else").unwrap();
    let ended = run(&["restore", text(&repository), text(&room.path("new"))]);
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    let said = String::from_utf8(ended.stderr).unwrap();
    let advice = format!("kintsu backup STORE {} --verify", text(&repository));
    assert!(said.contains(&advice), "{said}");
}

#[test]
fn a_store_in_the_way_of_a_bench_or_a_salvage_is_not_opened() {
    let room = Room::new();
    room.put(&[("a", "1")]);
    let before = files(&room.store());
    room.run("bench", &["--keys", "10"]).expect(2);
    let store = room.store();
    room.run("salvage", &[text(&store)]).expect(4);
    assert!(files(&room.store()) == before, "it was changed");
    let told = room.run(
        "bench",
        &[
            "--existing",
            "--keys",
            "100",
            "--json",
            "--workloads",
            "fill-seq,read-missing",
        ],
    );
    assert!(told.fine().text().contains("\"missing\":100"));
}

/// A merge operator that only this program has.
struct Own;

impl kintsu::MergeOperator for Own {
    fn merge(
        &self,
        _: &[u8],
        _: Option<&[u8]>,
        operands: &[kintsu::Bytes],
    ) -> Result<Vec<u8>, String> {
        Ok(vec![operands.len() as u8])
    }
}

#[test]
fn a_merge_operator_of_the_programs_own_is_said_to_be_in_the_way() {
    let room = Room::new();
    let options = kintsu::Options::new(room.store()).merge_operator("own", Own);
    let db = options.open().unwrap();
    let sums = kintsu::KeyspaceOptions::default().merge_operator("own");
    let sums = db.create_keyspace_with("sums", sums).unwrap();
    sums.merge("key", "operand").unwrap();
    db.put("a", "1").unwrap();
    db.close().unwrap();
    let repository = room.path("backups");
    room.run("backup", &[text(&repository)]).fine();
    let verified = room.run("backup", &[text(&repository), "--verify", "--json"]);
    let verified = verified.expect(0).says(&["sums", "own"]);
    let told = one(&verified);
    assert_eq!((&told["healthy"], &told["keys"]), (&true.into(), &1.into()));
    assert_eq!(told["equals_store"], Value::Null);
}

//! Damaged stores: named, with exit code 3, and never served as if they were whole.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::Room;

const NONE: [&str; 0] = [];

/// A file of the store with this extension that holds `needle`, and where.
fn find(store: &Path, extension: &str, needle: &[u8]) -> (PathBuf, usize) {
    for entry in fs::read_dir(store).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|found| found == extension) {
            let content = fs::read(&path).unwrap();
            let found = content
                .windows(needle.len())
                .position(|window| window == needle);
            if let Some(at) = found {
                return (path, at);
            }
        }
    }
    panic!("no {extension} file holds the needle");
}

/// Text that no codec makes shorter, so that it stands in the file as it is.
fn noise(bytes: usize) -> String {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'0' + (state >> 27) as u8)
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn flip(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 1;
    fs::write(path, content).unwrap();
}

fn file_name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Every file of a folder, to show that nothing was changed.
fn image(store: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(store)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_damaged_segment_is_named_and_the_rest_is_served() {
    let room = Room::new();
    let value = noise(10_000);
    room.put(&[
        ("a", "one"),
        ("b", &format!("needle{value}")),
        ("c", "three"),
    ]);
    room.run("verify", &NONE).fine();
    let (path, at) = find(&room.store(), "segment", b"needle");
    flip(&path, at + 3000);
    let before = image(&room.store());
    // One bad block: it is put together from parity, and still reported.
    let got = room.run("get", &["b"]).fine();
    assert_eq!(got.out, format!("needle{value}").as_bytes());
    room.run("scan", &NONE).fine();
    let found = room.run("verify", &NONE).expect(5);
    assert!(found.text().contains(file_name(&path)), "{found:?}");
    assert_eq!(image(&room.store()), before, "a look changed something");

    // Two of so few are more than it makes up for.
    flip(&path, at + 7100);
    let before = image(&room.store());
    let got = room
        .run("get", &["b"])
        .expect(3)
        .says(&["error: damaged", file_name(&path)]);
    assert!(got.out.is_empty());
    room.run("scan", &NONE).expect(3).says(&[file_name(&path)]);
    let found = room.run("verify", &NONE).expect(3);
    assert!(found.text().contains(file_name(&path)), "{found:?}");
    let found = room.run("verify", &["--json"]).expect(3);
    let report: serde_json::Value = serde_json::from_slice(&found.out).unwrap();
    let place = &report["damage"][0];
    assert!(place["file"].as_str().unwrap().ends_with(file_name(&path)));
    let from = place["offset"].as_u64().unwrap();
    let to = from + place["bytes"].as_u64().unwrap();
    assert!((from..to).contains(&(at as u64 + 3000)), "{place} for {at}");
    let parts = room.run("segments", &NONE).expect(3);
    assert!(parts.text().contains("BAD"), "{parts:?}");
    let only_bad = room.run("segments", &["--bad"]).expect(3);
    assert_eq!(only_bad.text().matches("good").count(), 0, "{only_bad:?}");
    assert_eq!(image(&room.store()), before, "a look changed something");

    let new = room.path("new");
    let salvaged = room.run("salvage", &[new.to_str().unwrap()]).expect(3);
    assert!(salvaged.text().contains(file_name(&path)), "{salvaged:?}");
    room.run_on(&new, "verify", &NONE).fine();
    room.run("salvage", &[new.to_str().unwrap()]).expect(4);
    assert_eq!(image(&room.store()), before, "a salvage changed something");
}

#[test]
fn a_scrub_mends_and_the_journal_tells_of_it() {
    let room = Room::new();
    room.put(&[("a", &format!("needle{}", noise(20_000)))]);
    let scrubbed = room.run("scrub", &NONE).fine();
    assert!(scrubbed.text().contains("no damage"), "{scrubbed:?}");
    let told = room.run("repairs", &NONE).fine();
    assert!(told.text().contains("no damage was ever"), "{told:?}");
    let (path, at) = find(&room.store(), "segment", b"needle");
    let whole = fs::read(&path).unwrap();
    flip(&path, at + 3000);
    let mended = room.run("scrub", &["--json"]).fine();
    let report: serde_json::Value = serde_json::from_slice(&mended.out).unwrap();
    assert_eq!(
        (&report["healthy"], &report["mended"]),
        (&true.into(), &1.into())
    );
    assert!(fs::read(&path).unwrap() == whole);
    let told = room.run("repairs", &NONE).fine();
    assert!(told.text().contains("mended"), "{told:?}");
    assert!(told.text().contains(file_name(&path)), "{told:?}");

    flip(&path, at + 3000);
    flip(&path, at + 7100);
    flip(&path, at + 11_200);
    room.run("scrub", &NONE).expect(3);
    let told = room.run("repairs", &["--json"]).fine();
    let told: serde_json::Value = serde_json::from_slice(&told.out).unwrap();
    let repairs = told["repairs"].as_array().unwrap();
    let outcomes: Vec<_> = repairs.iter().map(|r| r["outcome"].as_str()).collect();
    assert_eq!(outcomes, [Some("mended"), Some("lost")]);
    assert_eq!(told["unreadable_lines"], 0);
}

#[test]
fn a_damaged_log_is_named_and_not_taken_for_its_end() {
    let room = Room::new();
    // A writer that is killed leaves its records in the log.
    crate::processes::write_and_kill(&room.store(), 200);
    let (path, at) = find(&room.store(), "log", b"written/0001/0000/000000000004");
    let offset = at + 40;
    flip(&path, offset);
    let before = image(&room.store());
    let words = ["damaged", file_name(&path), "log positions", "salvage"];
    for command in ["scan", "count", "stat"] {
        room.run(command, &NONE).expect(3).says(&words);
    }
    room.run("put", &["k", "v"]).expect(3).says(&words);
    room.run("delete", &["k"]).expect(3).says(&words);
    let found = room.run("verify", &NONE).expect(6);
    assert!(found.text().contains(file_name(&path)), "{found:?}");
    let listed = room.run("log", &["--bad"]).expect(3);
    assert_eq!(listed.text().matches("BAD").count(), 1, "{listed:?}");
    room.run("manifest", &NONE).fine();
    assert_eq!(image(&room.store()), before, "a look changed something");

    let new = room.path("new");
    room.run("salvage", &[new.to_str().unwrap()]).expect(3);
    let keys = room
        .run_on(&new, "scan", &["--keys", "--prefix=written/0001/0000/"])
        .fine();
    for number in [3, 4, 5] {
        let kept = keys
            .text()
            .contains(&format!("written/0001/0000/{number:012}\n"));
        assert_eq!(kept, number != 4, "{number}");
    }
}

#[test]
fn dumps_work_where_the_store_can_not_be_opened() {
    let room = Room::new();
    room.put(&[("a", "1")]);
    for copy in ["a", "b"] {
        let name = fs::read_dir(room.store())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut manifests = name.filter(|path| path.extension().is_some_and(|found| found == copy));
        let path = manifests.next().unwrap();
        flip(&path, 4100);
    }
    room.run("get", &["a"]).expect(3).says(&["manifest-"]);
    let manifest = room.run("manifest", &NONE);
    assert!(manifest.text().contains("BAD"), "{manifest:?}");
    let found = room.run("verify", &["--json"]).expect(6);
    let report: serde_json::Value = serde_json::from_slice(&found.out).unwrap();
    assert_eq!(report["severity"], "unopenable");
    // What names files, options and keyspaces is lost, and the key is found all the same.
    let listed = room.run("salvage", &["--list-only"]).expect(3);
    assert!(listed.text().contains("1 key can be copied"), "{listed:?}");
    let new = room.path("new");
    room.run("salvage", &[new.to_str().unwrap()]).expect(3);
    assert_eq!(room.scan(&new), "a\t1\n");
    assert!(room.run("log", &NONE).fine().text().contains("header good"));
    assert!(room.run("segments", &NONE).fine().text().contains("footer"));
}

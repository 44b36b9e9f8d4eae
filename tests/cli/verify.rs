//! `verify` of a store, of single files, of a repository; and the page that it writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Ended, Room};

const NONE: [&str; 0] = [];

fn names(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.to_str().unwrap().ends_with(end));
    found.sort();
    found
}

fn overwrite(path: &Path, offset: usize, bytes: usize) {
    let mut content = fs::read(path).unwrap();
    for byte in &mut content[offset..offset + bytes] {
        *byte ^= 0x5a;
    }
    fs::write(path, content).unwrap();
}

fn json(ended: &Ended) -> serde_json::Value {
    serde_json::from_slice(&ended.out).unwrap()
}

/// A store with several segments, whose bytes no codec makes fewer.
fn filled(room: &Room) {
    let mut state = 7_u64;
    for round in 0..3 {
        let mut lines = String::new();
        for number in 0..300 {
            let mut value = String::new();
            while value.len() < 1_500 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                value.push_str(&format!("{:016x}", state));
            }
            lines.push_str(&format!("{round}-{number:04}\t{value}\n"));
        }
        room.feed(&room.store(), "load", &["-"], lines.as_bytes())
            .fine();
    }
    assert!(names(&room.store(), ".segment").len() >= 3);
}

#[test]
fn severity_is_the_exit_code() {
    let room = Room::new();
    filled(&room);
    let whole = json(&room.run("verify", &["--json"]).fine());
    assert_eq!(
        (&whole["severity"], &whole["healthy"]),
        (&"whole".into(), &true.into())
    );
    let segments = names(&room.store(), ".segment");
    overwrite(&segments[0], 9_000, 10);
    let found = json(&room.run("verify", &["--json"]).expect(5));
    assert_eq!(found["severity"], "mendable");
    assert_eq!(found["damage"][0]["can_be_mended"], true);
    // One copy of the manifest costs nothing either.
    let manifest = names(&room.store(), ".b");
    let whole_copy = fs::read(&manifest[0]).unwrap();
    overwrite(&manifest[0], 4_096, 100);
    assert_eq!(
        json(&room.run("verify", &["--json"]).expect(5))["severity"],
        "mendable"
    );
    // More in a row than parity makes up for.
    overwrite(&segments[1], 20_000, 130_000);
    let found = json(&room.run("verify", &["--json"]).expect(3));
    assert_eq!(found["severity"], "damaged");
    assert!(
        found["damage"]
            .as_array()
            .unwrap()
            .iter()
            .any(|d| d["can_be_mended"] == false)
    );
    let copy = names(&room.store(), ".a");
    overwrite(&copy[0], 4_096, 100);
    assert_eq!(
        json(&room.run("verify", &["--json"]).expect(6))["severity"],
        "unopenable"
    );
    fs::write(&manifest[0], whole_copy).unwrap();
    fs::remove_file(&segments[2]).unwrap();
    let found = room.run("verify", &["--json"]);
    assert!([3, 6].contains(&found.code), "{found:?}");
    let missing = found.text().contains("the file is missing");
    assert!(missing, "{found:?}");
}

#[test]
fn what_the_manifest_does_not_name_is_told() {
    let room = Room::new();
    filled(&room);
    let segments = names(&room.store(), ".segment");
    fs::copy(&segments[0], room.store().join("00009999.segment")).unwrap();
    fs::write(room.store().join("00000077.segment.tmp"), "half").unwrap();
    fs::write(room.store().join("holiday.jpg"), "not ours").unwrap();
    let found = json(&room.run("verify", &["--json"]).fine());
    let left = found["leftover_files"].to_string();
    assert!(
        left.contains("00009999.segment") && left.contains("77.segment.tmp"),
        "{found}"
    );
    assert_eq!(found["foreign_files"][0], "holiday.jpg");
}

#[test]
fn one_file_is_checked_by_itself() {
    let room = Room::new();
    filled(&room);
    let verify = |path: &Path| room.run_on(path, "verify", &["--json"]);
    for path in names(&room.store(), "") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let ours = [".segment", ".log", ".ids", ".a", ".b", "lineage"];
        if ours.iter().any(|end| name.ends_with(end)) {
            assert_eq!(json(&verify(&path).fine())["severity"], "whole", "{name}");
        }
    }
    let segment = &names(&room.store(), ".segment")[0];
    let alone = room.path("00000042.segment");
    fs::copy(segment, &alone).unwrap();
    // Its number is another one.
    verify(&alone).expect(3);
    let alone = room.path(segment.file_name().unwrap().to_str().unwrap());
    fs::copy(segment, &alone).unwrap();
    let told = json(&verify(&alone).fine());
    assert!(
        told["not_checked"][0].as_str().unwrap().contains("digest"),
        "{told}"
    );
    overwrite(&alone, 9_000, 10);
    assert_eq!(json(&verify(&alone).expect(5))["severity"], "mendable");
    overwrite(&alone, 20_000, 130_000);
    assert_eq!(json(&verify(&alone).expect(3))["severity"], "damaged");
    let manifest = &names(&room.store(), ".a")[0];
    overwrite(manifest, 4_096, 100);
    verify(manifest).expect(5);
    let log = names(&room.store(), ".log").pop().unwrap();
    overwrite(&log, 10, 10);
    verify(&log).expect(5);
    fs::write(room.path("a.txt"), "").unwrap();
    verify(&room.path("a.txt")).expect(4);
}

/// A store with all there is to see.
fn shown(room: &Room) -> String {
    filled(room);
    let segments = names(&room.store(), ".segment");
    for offset in [9_000, 60_000, 61_000, 200_000, 300_000] {
        overwrite(&segments[0], offset, 10);
    }
    overwrite(&segments[1], 130_000, 130_000);
    overwrite(&names(&room.store(), ".b")[0], 4_096, 100);
    fs::write(room.store().join("<script>alert(1)"), "not ours").unwrap();
    let page = room.path("verify.html");
    let ended = room.run("verify", &["--html", page.to_str().unwrap()]);
    assert!([3, 6].contains(&ended.code), "{ended:?}");
    fs::read_to_string(page).unwrap()
}

#[test]
fn the_page_needs_nothing_else_and_shows_each_file() {
    let room = Room::new();
    let page = shown(&room);
    for needed in [
        "<!doctype html>",
        "lang=\"en\"",
        "prefers-color-scheme: dark",
        "name=\"viewport\"",
        "id=\"place-0\"",
        "href=\"#place-0\"",
        "class=\"damaged\"",
        "class=\"mendable\"",
        "class=\"unused\"",
        "&lt;script&gt;",
    ] {
        assert!(page.contains(needed), "no {needed} in {page}");
    }
    let foreign = [
        "<script",
        "http",
        "src=",
        "<link",
        "@import",
        "<img",
        "<canvas",
        "javascript:",
    ];
    for foreign in foreign {
        assert!(!page.contains(foreign), "{foreign} in the page");
    }
    for path in names(&room.store(), ".segment") {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(page.contains(&format!("<h3>{name}</h3>")), "{name}");
    }
    // Each tag that is opened is closed, and each link leads somewhere.
    for tag in [
        "a", "g", "svg", "article", "section", "table", "tr", "td", "ul", "li", "dl",
    ] {
        let opened = page.matches(&format!("<{tag}>")).count();
        let opened = opened + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    for link in page.split("href=\"#").skip(1) {
        let target = link.split('"').next().unwrap();
        assert!(page.contains(&format!("id=\"{target}\"")), "{target}");
    }
    assert!(page.len() < 300_000, "{} bytes", page.len());
}

/// The first browser there is.
fn browser() -> Option<&'static str> {
    let is_there = |name: &&str| {
        let mut command = Command::new(name);
        let quiet = command
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(is_there)
}

#[test]
fn a_browser_shows_the_page() {
    let Some(browser) = browser() else {
        println!("skipped: there is no chromium here");
        return;
    };
    let room = Room::new();
    shown(&room);
    let page = format!("file://{}", room.path("verify.html").display());
    let profile = format!("--user-data-dir={}", room.path("profile").display());
    let arguments = ["--headless", "--no-sandbox", "--disable-gpu", &profile];
    let loaded = Command::new(browser)
        .args(arguments)
        .args(["--dump-dom", &page])
        .output();
    let loaded = String::from_utf8(loaded.unwrap().stdout).unwrap();
    for class in ["whole", "mendable", "damaged", "unused"] {
        assert!(
            loaded.contains(&format!("path class=\"{class}\"")),
            "{class}: {loaded}"
        );
    }
    let picture = room.path("page.png");
    let shot = format!("--screenshot={}", picture.display());
    let mut command = Command::new(browser);
    let command = command
        .args(arguments)
        .args([&shot, "--window-size=1000,1400", &page]);
    assert!(command.output().unwrap().status.success());
    assert!(fs::read(picture).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn a_repository_is_checked_as_one() {
    let room = Room::new();
    room.put(&[("a", "1")]);
    let repository = room.path("repository");
    room.run("backup", &[repository.to_str().unwrap()]).fine();
    let found = json(&room.run_on(&repository, "verify", &["--json"]).fine());
    assert_eq!(
        (&found["backups"], &found["severity"]),
        (&1.into(), &"whole".into())
    );
    let segment = fs::read_dir(repository.join("segments"))
        .unwrap()
        .next()
        .unwrap();
    overwrite(&segment.unwrap().path(), 70, 5);
    room.run_on(&repository, "verify", &NONE).expect(3);
    let copy = room.path("copy");
    room.run("snapshot", &[copy.to_str().unwrap()]).fine();
    room.run_on(&copy, "verify", &NONE).fine();
}

//! `torture`: short campaigns, what they refuse to touch, and that they can find something.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Ended, Room, kintsu};

fn report(ended: &Ended) -> Value {
    serde_json::from_slice(&ended.out).unwrap()
}

/// A campaign of one round of each kind asked for.
fn short(room: &Room, more: &[&str]) -> Ended {
    let arguments = [&["--time=0s", "--seed=7", "--json"], more].concat();
    room.run_on(&room.path("torture"), "torture", &arguments)
}

#[test]
fn a_short_campaign_has_every_kind_and_finds_nothing() {
    let room = Room::new();
    let file = room.path("report.md");
    let ended = short(&room, &["--report", file.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}\n{ended:?}", ended.text());
    let told = report(&ended);
    assert_eq!(told["held"], true);
    assert_eq!(told["seed"], 7);
    for broken in ["lost", "wrong", "unexpected"] {
        assert_eq!(told["total"][broken], 0, "{told}");
    }
    let skipped = told["skipped"].to_string();
    let done = |kind: &str, count: &str| told["kinds"][kind][count].as_u64().unwrap();
    assert!(done("kill", "kills") >= 2);
    assert!(done("power", "power_losses") >= 2);
    assert!(done("damage", "damaged_places") >= 4);
    assert!(done("full", "disks_full") == 1 || skipped.contains("skipped: full"));
    assert!(done("sync", "failed_calls") >= 1);
    for kind in ["kill", "power", "damage", "sync"] {
        assert!(done(kind, "acknowledged") > 0, "{kind}: {told}");
        assert!(done(kind, "checks") > 0, "{kind}: {told}");
    }
    let markdown = fs::read_to_string(file).unwrap();
    assert!(markdown.contains("| lost without notice "), "{markdown}");
    assert!(markdown.contains("Every promise was kept."), "{markdown}");
    assert!(!room.path("torture").exists());
}

#[test]
fn only_what_is_asked_for_is_done_and_a_round_can_be_played_alone() {
    let room = Room::new();
    let ended = short(&room, &["--only=kill", "--round=5"]).expect(0);
    let told = report(&ended);
    assert_eq!(told["total"]["rounds"], 1);
    let kinds = told["kinds"].as_object().unwrap();
    assert_eq!(kinds.keys().collect::<Vec<_>>(), ["kill"]);
}

#[test]
fn a_folder_of_someone_else_is_refused_untouched() {
    let room = Room::new();
    let folder = room.path("torture");
    fs::create_dir(&folder).unwrap();
    for name in ["precious", "round-000001-kill"] {
        let file = folder.join(name);
        fs::write(&file, "bytes").unwrap();
        short(&room, &[]).expect(2).says(&["isn't empty"]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "bytes");
        let names: Vec<PathBuf> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(names, std::slice::from_ref(&file));
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn what_is_broken_is_found_and_kept_and_the_next_campaign_clears_it() {
    let room = Room::new();
    fs::create_dir(room.path("torture")).unwrap();
    for kind in ["kill", "power", "damage", "sync"] {
        let ended = short(&room, &["--claim-unwritten", "--only", kind]).expect(7);
        let told = report(&ended);
        assert_eq!(told["held"], false);
        assert_eq!(told["total"]["lost"], 1, "{told}");
        let finding = &told["findings"][0];
        assert_eq!(finding["kind"], kind);
        let kept = PathBuf::from(finding["kept"].as_str().unwrap());
        assert!(kept.is_dir(), "{told}");
        let repeat = format!("--seed 7 --only {kind} --round 0");
        assert!(
            finding["repeat"].as_str().unwrap().ends_with(&repeat),
            "{told}"
        );
    }
    short(&room, &["--only=kill"]).expect(0);
    assert_eq!(fs::read_dir(room.path("torture")).unwrap().count(), 0);
}

#[test]
fn what_a_machine_cannot_do_is_said_and_not_tried_again() {
    let room = Room::new();
    // Nothing is found by its name there: neither strace nor unshare.
    let output = kintsu()
        .env("PATH", room.path("no such folder"))
        .arg("torture")
        .arg(room.path("torture"))
        .args(["--time=60s", "--only=full", "--json"])
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!(told["total"]["rounds"], 0);
    let skipped = told["skipped"][0].as_str().unwrap();
    assert!(skipped.contains("skipped: full"), "{skipped}");
    assert!(skipped.contains("because"), "{skipped}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("skipped: full"));
}

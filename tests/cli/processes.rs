//! Several processes, killed ones, and pipes that close.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;

use crate::support::{Room, kintsu};

const NONE: [&str; 0] = [];

/// Starts the demo's writer on a store.
fn writer(store: &Path) -> Child {
    kintsu()
        .args([
            "demo-writer",
            "--round=1",
            "--threads=4",
            "--write-buffer-bytes=1073741824",
            "--",
        ])
        .arg(store)
        .spawn()
        .unwrap()
}

/// Has a writer make so many acknowledged records in a new store, and kills it.
pub fn write_and_kill(store: &Path, acknowledged: usize) {
    let room = Room::new();
    room.run_on(store, "put", &["first", "record"]).fine();
    let mut child = writer(store);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(
        lines.take(acknowledged).filter(|line| line.is_ok()).count(),
        acknowledged
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let room = Room::new();
    room.put(&[("a", "1")]);
    let mut child = writer(&room.store());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    // The rest of the pipe is read away, or the writer would come to a stop.
    let reader = thread::spawn(move || lines.count());
    room.run("put", &["k", "v"])
        .expect(4)
        .says(&["open for writing elsewhere"]);
    room.run("delete", &["a"]).expect(4);
    room.feed(&room.store(), "load", &["-"], b"k\tv\n")
        .expect(4);
    for _ in 0..5 {
        assert_eq!(room.run("get", &["a"]).fine().text(), "1");
        let verified = room.run("verify", &NONE).fine();
        assert!(verified.text().contains("no damage"), "{verified:?}");
        room.run("scan", &["--prefix=written/"]).fine();
        room.run("stat", &NONE).fine();
        for dump in ["log", "segments", "manifest"] {
            room.run(dump, &NONE).fine();
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(reader.join().unwrap() > 0);
    room.run("put", &["k", "v"]).fine();
    room.run("verify", &NONE).fine();
}

#[test]
fn a_load_killed_by_sigkill_keeps_what_it_reported() {
    for format in ["tsv", "jsonl"] {
        let room = Room::new();
        let value = "x".repeat(500);
        let mut command = kintsu();
        command
            .arg("load")
            .arg(room.store())
            .args(["-", "--sync-bytes=100000"]);
        command
            .arg(format!("--format={format}"))
            .stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let line = |number: u64| match format {
            "tsv" => format!("{number:010}\t{number}{value}\n"),
            _ => format!("{{\"key\":\"{number:010}\",\"value\":\"{number}{value}\"}}\n"),
        };
        let reported = thread::scope(|scope| {
            let line = &line;
            scope.spawn(move || (0..).try_for_each(|n| input.write_all(line(n).as_bytes())));
            let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
            let last = told.nth(7).unwrap().unwrap();
            child.kill().unwrap();
            // What was said before the kill counts, even if it is read after it.
            told.map_while(Result::ok).last().unwrap_or(last)
        });
        child.wait().unwrap();
        let words = reported.strip_prefix("loaded ").unwrap();
        let reported: u64 = words
            .split(' ')
            .next()
            .unwrap()
            .replace(',', "")
            .parse()
            .unwrap();
        assert!(reported > 1000, "{words}");
        let scanned = room.scan(&room.store());
        let kept = scanned.lines().count() as u64;
        assert!(kept >= reported, "{kept} of {reported} reported");
        for (number, found) in (0..).zip(scanned.lines()) {
            assert_eq!(found, format!("{number:010}\t{number}{value}"));
        }
        room.run("verify", &NONE).fine();
    }
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let room = Room::new();
    let lines: String = (0..50_000).map(|n| format!("{n:08}\t{n:0100}\n")).collect();
    room.feed(&room.store(), "load", &["-"], lines.as_bytes())
        .fine();
    let commands: [&[&str]; 5] = [
        &["scan"],
        &["scan", "--json"],
        &["scan", "--raw"],
        &["export", "-"],
        &["segments"],
    ];
    for arguments in commands {
        let mut command = kintsu();
        command
            .arg(arguments[0])
            .arg(room.store())
            .args(&arguments[1..]);
        let mut child = command.spawn().unwrap();
        let mut first = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let mut told = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut told)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}");
        assert_eq!(told, "", "{arguments:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_can_not_be_written_is_an_error() {
    let room = Room::new();
    room.put(&[("a", "1")]);
    for arguments in [
        &["get", "a"][..],
        &["scan"],
        &["count"],
        &["verify"],
        &["log"],
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = kintsu();
        command
            .arg(arguments[0])
            .arg(room.store())
            .args(&arguments[1..])
            .stdout(full);
        let ended = command.output().unwrap();
        assert_eq!(ended.status.code(), Some(4), "{arguments:?}");
        assert!(
            ended
                .stderr
                .starts_with(b"error: could not write standard output")
        );
    }
}

#[test]
fn the_demo_survives_its_sigkills() {
    let room = Room::new();
    let input = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let kept = room.path("kept");
    let demo = |more: &[&str]| {
        let mut command = kintsu();
        command.args(["demo", "--seconds=0.6", "--kills=2", "--megabytes=2"]);
        command
            .arg(format!("--input={input}"))
            .args(more)
            .output()
            .unwrap()
    };
    let told = demo(&["--keep", kept.to_str().unwrap()]);
    let text = String::from_utf8(told.stdout).unwrap();
    assert_eq!(told.status.code(), Some(0), "{text}");
    assert!(
        text.contains("every one found") && !text.contains('✗'),
        "{text}"
    );
    assert!(
        !text.contains('\u{1b}'),
        "colour where nobody looks: {text}"
    );
    room.run_on(&kept.join("store"), "verify", &NONE).fine();
    // It has parity if the file had come far enough.
    let code = match text.contains("puts it together again") {
        true => 0,
        false => 3,
    };
    room.run_on(&kept.join("copy-with-damaged-log"), "count", &NONE)
        .expect(code);

    let told = demo(&["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(report["held"], true, "{report}");
    assert_eq!(report["kills"].as_array().unwrap().len(), 2);
}

//! Single records, ranges, TSV and JSON lines.

use std::fs;

use crate::support::{Room, kintsu};

const NONE: [&str; 0] = [];

#[test]
fn a_key_is_put_got_and_deleted() {
    let room = Room::new();
    let quiet = room.run("put", &["key", "value"]).fine();
    assert_eq!((quiet.text(), quiet.err.as_str()), ("", ""));
    assert_eq!(room.run("get", &["key"]).fine().text(), "value");
    room.run("get", &["no\tkey"])
        .expect(1)
        .says(&["error: no key no\\tkey\n"]);
    assert_eq!(room.run("count", &NONE).fine().text(), "1\n");
    room.run("put", &["key", "newer"]).fine();
    assert_eq!(room.run("get", &["key"]).fine().text(), "newer");
    room.run("delete", &["key"]).fine();
    room.run("delete", &["key"]).expect(1).says(&["no key key"]);
    room.run("get", &["key"]).expect(1);
    assert_eq!(room.run("count", &NONE).fine().text(), "0\n");
}

#[test]
fn keys_and_values_may_be_any_bytes() {
    let room = Room::new();
    let all: Vec<u8> = (0..=255).collect();
    let escaped: String = all.iter().map(|byte| format!("\\x{byte:02X}")).collect();
    room.run("put", &["--escaped", &escaped, &escaped]).fine();
    assert_eq!(room.run("get", &["-e", &escaped]).fine().out, all);
    let raw = room.run("scan", &["--raw"]).fine().out;
    assert_eq!(raw, [&all[..], b"\t", &all, b"\n"].concat());

    // The same from a file, from standard input, and as the bytes of the argument itself.
    fs::write(room.path("value"), &all).unwrap();
    let file = room.path("value");
    room.run("put", &["from file", "--file", file.to_str().unwrap()])
        .fine();
    assert_eq!(room.run("get", &["from file"]).fine().out, all);
    room.feed(&room.store(), "put", &["from pipe", "--file=-"], &all)
        .fine();
    assert_eq!(room.run("get", &["from pipe"]).fine().out, all);
    use std::os::unix::ffi::OsStrExt;
    let argument = std::ffi::OsStr::from_bytes(b"\xff\xfe\\x41");
    room.run("put", &[argument, argument]).fine();
    assert_eq!(room.run("get", &[argument]).fine().out, argument.as_bytes());

    room.run("put", &["", "an empty key"]).fine();
    assert_eq!(room.run("get", &[""]).fine().text(), "an empty key");
    room.run("put", &["--", "-dash", "-x"]).fine();
    assert_eq!(room.run("get", &["--", "-dash"]).fine().text(), "-x");
    room.run("put", &["-5", "-6"]).fine();
    assert_eq!(room.run("get", &["-5"]).fine().text(), "-6");
}

/// A store with keys and values of every byte, and a few awkward ones.
fn awkward(room: &Room) {
    let mut lines = String::new();
    for byte in 0..=255u8 {
        lines.push_str(&format!(
            "\\x{byte:02x}\t\\x{byte:02x}\\x{:02x}\n",
            255 - byte
        ));
        lines.push_str(&format!("k\\x{byte:02x}k\tGrüße 🏺 \\x{byte:02x}\n"));
    }
    lines.push_str("\tempty key\nempty value\t\n\\\\\\t\t\\r\\n\n");
    room.feed(
        &room.store(),
        "load",
        &["-", "--format=tsv"],
        lines.as_bytes(),
    )
    .fine();
    assert_eq!(room.run("count", &NONE).fine().text(), "515\n");
}

#[test]
fn scan_and_export_load_back_identical() {
    let room = Room::new();
    awkward(&room);
    let scanned = room.scan(&room.store());
    assert_eq!(scanned.lines().count(), 515);
    let through = |name: &str, arguments: &[&str], content: &[u8]| {
        let store = room.path(name);
        room.feed(&store, "load", arguments, content).fine();
        assert_eq!(room.scan(&store), scanned, "{name}");
    };
    through("from scan", &["-"], scanned.as_bytes());
    let jsonl = room.run("scan", &["--json"]).fine().out;
    through("from json", &["-", "--format=jsonl"], &jsonl);
    for name in ["a.tsv", "a.jsonl", "a"] {
        let file = room.path(name);
        let file = file.to_str().unwrap();
        room.run("export", &[file]).fine();
        let store = room.path(&format!("from {name}"));
        room.run_on(&store, "load", &[file]).fine();
        assert_eq!(room.scan(&store), scanned, "{name}");
    }
    assert_eq!(fs::read(room.path("a.tsv")).unwrap(), scanned.as_bytes());
    assert_eq!(fs::read(room.path("a.jsonl")).unwrap(), jsonl);
    assert_eq!(room.run("export", &["-"]).fine().text(), scanned);
    assert_eq!(room.run("export", &["-", "--json"]).fine().out, jsonl);
    let windows = scanned.replace('\n', "\r\n");
    through("with carriage returns", &["-"], windows.as_bytes());
}

#[test]
fn a_value_larger_than_a_log_file_passes_and_small_puts_stay_small() {
    let room = Room::new();
    let value = vec![b'v'; 20 << 20];
    room.feed(&room.store(), "put", &["large", "--file=-"], &value)
        .fine();
    assert!(room.run("get", &["large"]).fine().out == value);
    room.run("verify", &NONE).fine();
    let small = room.path("small");
    room.run_on(&small, "put", &["k", "v"]).fine();
    room.run_on(&small, "put", &["l", "w"]).fine();
    let files = fs::read_dir(&small).unwrap();
    let bytes: u64 = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes < 8 << 20, "{bytes} bytes for two small records");
}

#[test]
fn an_exported_file_is_replaced_only_if_asked_for() {
    let room = Room::new();
    room.put(&[("a", "1")]);
    let file = room.path("out.tsv");
    let out = file.to_str().unwrap();
    fs::write(&file, "mine").unwrap();
    room.run("export", &[out]).expect(2).says(&["--overwrite"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    room.run("export", &[out, "--overwrite"]).fine();
    assert_eq!(fs::read_to_string(&file).unwrap(), "a\t1\n");
    let missing = room.path("no/such/folder.tsv");
    room.run("export", &[missing.to_str().unwrap()]).expect(4);
    let folder = room.path("");
    room.run("export", &[folder.to_str().unwrap()])
        .expect(2)
        .says(&["--files"]);
}

#[test]
fn scans_are_cut_where_asked() {
    let room = Room::new();
    room.put(&[
        ("a", "1"),
        ("b", "2"),
        ("b/x", "3"),
        ("b/y", "4"),
        ("c", "5"),
        ("d", "6"),
    ]);
    let keys = |arguments: &[&str]| {
        let arguments = [&["--keys"], arguments].concat();
        room.run("scan", &arguments)
            .fine()
            .text()
            .replace('\n', " ")
    };
    assert_eq!(keys(&[]), "a b b/x b/y c d ");
    assert_eq!(keys(&["--reverse"]), "d c b/y b/x b a ");
    assert_eq!(keys(&["--from=b", "--to=c"]), "b b/x b/y ");
    assert_eq!(keys(&["--prefix=b/"]), "b/x b/y ");
    assert_eq!(keys(&["--prefix=b", "--from=b/", "--to=b/y"]), "b/x ");
    assert_eq!(keys(&["--limit=2"]), "a b ");
    assert_eq!(keys(&["--reverse", "--limit=2", "--to=d"]), "c b/y ");
    assert_eq!(keys(&["--limit=0"]), "");
    assert_eq!(keys(&["--from=c", "--to=b"]), "");
    assert_eq!(keys(&["-e", "--from=b\\x2f"]), "b/x b/y c d ");
    assert_eq!(room.run("count", &["--prefix=b"]).fine().text(), "3\n");
    assert_eq!(
        room.run("export", &["-", "--from=d"]).fine().text(),
        "d\t6\n"
    );
}

#[test]
fn malformed_lines_are_named_and_what_came_before_is_kept() {
    let tsv = |bad: &str| format!("a\t1\nb\t2\n{bad}\nc\t3\n");
    let json = |bad: &str| {
        format!("{{\"key\":\"a\",\"value\":\"1\"}}\n\n{bad}\n{{\"key\":\"c\",\"value\":\"3\"}}\n")
    };
    let long = format!("{}\tv", "k".repeat(65_537));
    let cases = [
        ("tsv", tsv("no tab here"), "no tab"),
        ("tsv", tsv("two\ttabs\there"), "more than one tab"),
        ("tsv", tsv("bad\\q\tescape"), "\\q is no escape"),
        ("tsv", tsv(&long), "65537 bytes"),
        ("jsonl", json("{\"key\":\"b\""), "not JSON"),
        ("jsonl", json("{\"key\":\"b\",\"value\":2}"), "\"value\""),
        ("jsonl", json("{\"key\":\"b\"}"), "no \"value\""),
        (
            "jsonl",
            json("{\"key\":{\"base64\":\"?\"},\"value\":\"\"}"),
            "no base64",
        ),
    ];
    for (format, input, what) in cases {
        let room = Room::new();
        let format = format!("--format={format}");
        let ended = room.feed(&room.store(), "load", &["-", &format], input.as_bytes());
        let ended =
            ended
                .expect(4)
                .says(&["error: -, line 3: ", what, "loaded and on disk before that"]);
        let kept: u64 = room
            .run("count", &NONE)
            .fine()
            .text()
            .trim()
            .parse()
            .unwrap();
        assert!(
            ended
                .err
                .contains(&format!("on disk before that: {kept} record")),
            "{kept} {ended:?}"
        );
        assert_eq!(room.run("get", &["a"]).fine().text(), "1");
        room.run("get", &["c"]).expect(1);
    }
}

#[test]
fn keyspaces_are_apart() {
    let room = Room::new();
    room.run("put", &["k", "in default"]).fine();
    room.run("put", &["k", "in other", "--keyspace=other"])
        .fine();
    assert_eq!(room.run("get", &["k"]).fine().text(), "in default");
    assert_eq!(
        room.run("get", &["k", "--keyspace=other"]).fine().text(),
        "in other"
    );
    assert_eq!(
        room.run("keyspaces", &NONE).fine().text(),
        "default\nother\n"
    );
    room.run("keyspaces", &["create", "third"]).fine();
    room.run("keyspaces", &["create", "third"])
        .expect(4)
        .says(&["exists"]);
    assert_eq!(
        room.run("count", &["--keyspace=third"]).fine().text(),
        "0\n"
    );
    room.run("keyspaces", &["drop", "other"]).fine();
    room.run("get", &["k", "--keyspace=other"])
        .expect(4)
        .says(&["no keyspace \"other\""]);
    room.run("keyspaces", &["drop", "default"]).expect(2);
    room.run("keyspaces", &["create", ""]).expect(2);
    room.run("put", &["k", "v", "--keyspace=no", "--no-create"])
        .expect(4);
    assert_eq!(
        room.run("keyspaces", &NONE).fine().text(),
        "default\nthird\n"
    );
    assert_eq!(room.run("get", &["k"]).fine().text(), "in default");
}

#[test]
fn only_put_and_load_create_a_store() {
    let room = Room::new();
    let out = room.path("out");
    let out = out.to_str().unwrap();
    let commands: [(&str, &[&str]); 16] = [
        ("get", &["k"]),
        ("delete", &["k"]),
        ("scan", &[]),
        ("count", &[]),
        ("stat", &[]),
        ("verify", &[]),
        ("scrub", &[]),
        ("repairs", &[]),
        ("export", &["-"]),
        ("export", &["--files", out]),
        ("log", &[]),
        ("segments", &[]),
        ("manifest", &[]),
        ("keyspaces", &[]),
        ("keyspaces", &["create", "x"]),
        ("salvage", &[out]),
    ];
    let put: (&str, &[&str]) = ("put", &["k", "v", "--no-create"]);
    let load: (&str, &[&str]) = ("load", &["-", "--no-create"]);
    for (command, arguments) in commands.into_iter().chain([put, load]) {
        room.run(command, arguments)
            .expect(4)
            .says(&["error: ", "store"]);
        assert!(!room.store().exists(), "{command}");
        assert!(!room.path("out").exists(), "{command}");
    }
    room.run("put", &["k", "v"]).fine();
    room.feed(&room.path("loaded"), "load", &["-"], b"").fine();
    assert_eq!(
        room.run_on(&room.path("loaded"), "count", &NONE)
            .fine()
            .text(),
        "0\n"
    );
}

#[test]
fn a_folder_of_something_else_is_no_store() {
    let room = Room::new();
    fs::create_dir(room.store()).unwrap();
    fs::write(room.store().join("letter.txt"), "Dear").unwrap();
    for (command, arguments) in [("put", &["k", "v"][..]), ("get", &["k"]), ("verify", &[])] {
        room.run(command, arguments)
            .expect(4)
            .says(&["not a Kintsu store", "letter.txt"]);
    }
    assert_eq!(fs::read_dir(room.store()).unwrap().count(), 1);
    fs::write(room.path("file"), "x").unwrap();
    room.run_on(&room.path("file"), "put", &["k", "v"])
        .expect(4)
        .says(&["not a folder"]);
}

#[test]
fn usage_errors_are_told_apart() {
    let room = Room::new();
    room.put(&[("a", "1")]);
    let long = "k".repeat(65_537);
    let cases: [(&str, &[&str]); 9] = [
        ("put", &["key without value"]),
        ("put", &["k", "v", "--file=x"]),
        ("put", &["-e", "\\q", "v"]),
        ("put", &[&long, "v"]),
        ("get", &[]),
        ("scan", &["--limit=many"]),
        ("load", &[]),
        ("load", &["x.tsv", "--files=x"]),
        ("no-such-command", &[]),
    ];
    for (command, arguments) in cases {
        room.run(command, arguments).expect(2).says(&["error: "]);
    }
    let help = kintsu().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for code in [
        "0  fine",
        "1  not found",
        "2  usage",
        "3  damage",
        "4  any other error",
    ] {
        assert!(help.contains(code), "{code}");
    }
    let version = kintsu().arg("--version").output().unwrap();
    assert_eq!(version.status.code(), Some(0));
    assert!(
        version
            .stdout
            .ends_with(concat!(env!("CARGO_PKG_VERSION"), "\n").as_bytes())
    );
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = kintsu().args(["completions", shell]).output().unwrap();
        assert!(script.stdout.len() > 1000, "{shell}");
    }
}

//! `--json`: every command's output and errors are JSON, a value a line.

use serde_json::Value;

use crate::support::{Ended, Room, kintsu};

fn values(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn one(ended: &Ended) -> Value {
    let mut values = values(ended.text());
    assert_eq!(values.len(), 1, "{ended:?}");
    values.remove(0)
}

#[test]
fn every_command_speaks_json() {
    let room = Room::new();
    let run = |command: &str, arguments: &[&str]| {
        let ended = room.run(command, &[&["--json"], arguments].concat()).fine();
        assert!(values(&ended.err).is_empty(), "{ended:?}");
        ended
    };
    let put = one(&run("put", &["-e", "\\xff", "value"]));
    assert_eq!(put["key"]["base64"], "/w==");
    assert_eq!(put["value_bytes"], 5);
    let watched = one(&run("watch", &[]));
    assert_eq!(watched["index"], 1);
    assert_eq!(watched["changes"][0]["operation"], "put");
    assert_eq!(watched["changes"][0]["key"]["base64"], "/w==");
    assert_eq!(one(&run("get", &["-e", "\\xff"]))["value"], "value");
    run("put", &["k", "v"]);
    assert_eq!(one(&run("count", &[]))["count"], 2);
    assert_eq!(one(&run("scan", &["--limit=1"]))["key"], "k");
    assert_eq!(one(&run("delete", &["k"]))["deleted"], true);
    assert_eq!(one(&run("keyspaces", &[]))["keyspaces"][0], "default");
    assert_eq!(
        one(&run("keyspaces", &["create", "other"]))["created"],
        "other"
    );
    assert_eq!(
        one(&run("keyspaces", &["drop", "other"]))["dropped"],
        "other"
    );
    let stat = one(&run("stat", &[]));
    assert_eq!(stat["recovery"]["closed_cleanly"], true);
    assert_eq!(stat["keyspaces"][0]["name"], "default");
    assert_eq!(stat["health"]["state"], "well");
    assert_eq!(stat["health"]["disk"]["errors"], 0);
    let before = &stat["activity_before"];
    assert!(before["records"].as_u64() > Some(0), "{before}");
    assert!(before["syncs"]["count"].as_u64() > Some(0), "{before}");
    assert!(
        before["write_amplification"].as_f64() > Some(1.0),
        "{before}"
    );
    let verified = one(&run("verify", &[]));
    assert_eq!(verified["healthy"], true);
    assert_eq!(verified["damage"].as_array().map(Vec::len), Some(0));
    for dump in ["log", "segments", "manifest"] {
        assert!(values(run(dump, &[]).text()).len() > 2, "{dump}");
    }
    let file = room.path("out.tsv");
    let exported = one(&run("export", &[file.to_str().unwrap()]));
    assert_eq!(exported["records"], 1);
    assert_eq!(one(&run("load", &[file.to_str().unwrap()]))["records"], 1);
    let folder = room.path("files");
    let folder = folder.to_str().unwrap();
    assert_eq!(one(&run("export", &["--files", folder]))["files"], 1);
    assert_eq!(one(&run("load", &["--files", folder]))["records"], 1);
    let salvaged = room.path("salvaged");
    assert_eq!(
        one(&run("salvage", &[salvaged.to_str().unwrap()]))["keys"],
        1
    );
}

#[test]
fn errors_are_json_too() {
    let room = Room::new();
    room.put(&[("a", "1")]);
    let fails = |command: &str, arguments: &[&str], code: i32| {
        let ended = room
            .run(command, &[&["--json"], arguments].concat())
            .expect(code);
        assert_eq!(ended.text(), "");
        let told = values(&ended.err);
        let error = told.last().unwrap().clone();
        assert_eq!(error["exit_code"], code);
        (error["error"]["kind"].as_str().unwrap().to_owned(), error)
    };
    assert_eq!(fails("get", &["no"], 1).0, "not_found");
    assert_eq!(fails("get", &[], 2).0, "usage");
    assert_eq!(
        fails("get", &["k", "--keyspace=no"], 4).0,
        "keyspace_not_found"
    );
    assert_eq!(fails("put", &["-e", "\\q", "v"], 2).0, "usage");
    assert_eq!(fails("load", &["no such file"], 4).0, "file");
    let bad = room.path("bad.tsv");
    std::fs::write(&bad, "x\ty\nbad\n").unwrap();
    let (kind, error) = fails("load", &[bad.to_str().unwrap()], 4);
    assert_eq!(kind, "input");
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .contains("line 2")
    );
    let missing = room.path("missing");
    let ended = room.run_on(&missing, "get", &["k", "--json"]).expect(4);
    let error = values(&ended.err).remove(0);
    assert_eq!(error["error"]["kind"], "not_a_store");
    assert_eq!(error["error"]["reaction"], "refuse");
    // What looks like the option may be a key.
    let ended = room.run("get", &["--", "--json"]).expect(1);
    assert_eq!(ended.err, "error: no key --json\n");
    let unknown = kintsu()
        .args(["--json", "no-such-command"])
        .output()
        .unwrap();
    assert_eq!(
        values(str::from_utf8(&unknown.stderr).unwrap())[0]["exit_code"],
        2
    );
}

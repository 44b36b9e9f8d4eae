//! Folders of files, in and out.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::Room;

const NONE: [&str; 0] = [];

/// Every file under a folder with its content, sorted.
fn contents(root: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap();
                found.push((
                    name.as_os_str().as_bytes().to_vec(),
                    fs::read(&path).unwrap(),
                ));
            }
        }
    }
    found.sort();
    found
}

fn arguments<'a>(folder: &'a Path, more: &'a [&'a str]) -> Vec<&'a OsStr> {
    let mut all = vec![OsStr::new("--files"), folder.as_os_str()];
    all.extend(more.iter().map(OsStr::new));
    all
}

/// A folder with some of everything.
fn sample(folder: &Path) {
    fs::create_dir_all(folder.join("a/deep/er")).unwrap();
    fs::create_dir_all(folder.join("empty")).unwrap();
    fs::write(
        folder.join("a/deep/er/bytes"),
        (0..=255).collect::<Vec<u8>>(),
    )
    .unwrap();
    fs::write(folder.join("a/deep.txt"), "next to a folder of that name").unwrap();
    fs::write(folder.join("nothing"), "").unwrap();
    fs::write(folder.join("Grüße 🏺\n"), "odd name").unwrap();
    fs::write(folder.join(OsStr::from_bytes(b"not \xff UTF-8")), "x").unwrap();
    fs::write(folder.join("large"), vec![7; 5 << 20]).unwrap();
}

#[test]
fn a_folder_comes_back_identical() {
    let room = Room::new();
    let (from, to) = (room.path("from"), room.path("to"));
    sample(&from);
    let loaded = room.run("load", &arguments(&from, &[])).fine();
    assert!(loaded.text().contains("loaded 6 records"), "{loaded:?}");
    assert_eq!(
        room.run("get", &["a/deep.txt"]).fine().text(),
        "next to a folder of that name"
    );
    room.run("export", &arguments(&to, &[])).fine();
    assert_eq!(contents(&to), contents(&from));

    // Again into the same folder only if asked for.
    room.run("export", &arguments(&to, &[]))
        .expect(2)
        .says(&["--overwrite"]);
    room.run("put", &["nothing", "something"]).fine();
    room.run("export", &arguments(&to, &["--overwrite"])).fine();
    assert_eq!(fs::read_to_string(to.join("nothing")).unwrap(), "something");
    fs::write(from.join("nothing"), "something").unwrap();
    assert_eq!(contents(&to), contents(&from));
}

#[test]
fn only_regular_files_are_loaded() {
    let room = Room::new();
    let from = room.path("from");
    fs::create_dir_all(from.join("folder")).unwrap();
    fs::write(from.join("file"), "1").unwrap();
    symlink("file", from.join("link")).unwrap();
    symlink("/", from.join("folder/link to a folder")).unwrap();
    let loaded = room.run("load", &arguments(&from, &[])).fine();
    assert!(loaded.text().contains("skipped 2 "), "{loaded:?}");
    assert_eq!(room.scan(&room.store()), "file\t1\n");
    room.run("load", &arguments(&room.path("missing"), &[]))
        .expect(4)
        .says(&["missing"]);
}

#[test]
fn a_store_is_not_loaded_into_itself() {
    let room = Room::new();
    fs::write(room.path("beside"), "1").unwrap();
    room.run("put", &["k", "v"]).fine();
    room.run("load", &arguments(&room.path(""), &[]))
        .fine()
        .says(&["the store itself"]);
    assert_eq!(room.scan(&room.store()), "beside\t1\nk\tv\n");
}

#[test]
fn too_large_a_file_is_named_before_anything_is_done() {
    let room = Room::new();
    let from = room.path("from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("small"), "1").unwrap();
    let large = File::create(from.join("zoo.img")).unwrap();
    large.set_len((256 << 20) + 1).unwrap();
    room.run("load", &arguments(&from, &[]))
        .expect(4)
        .says(&["zoo.img", "268435457"]);
    assert!(!room.store().exists());
}

#[test]
fn no_key_leads_out_of_the_folder() {
    let room = Room::new();
    let to = room.path("inner/to");
    room.put(&[
        ("", "empty"),
        ("../outside", "x"),
        ("/absolute", "x"),
        ("a", "a file"),
        ("a/b", "under a file"),
        ("dots/../../outside", "x"),
        ("fine/file", "fine"),
        ("folder/", "x"),
        ("zero\\x00", "x"),
    ]);
    let refused = room.run("export", &arguments(&to, &["--unsafe-keys=refuse"]));
    refused
        .expect(4)
        .says(&["error: key ", "can't be a file's path"]);
    assert!(!to.exists());

    let told = room.run("export", &arguments(&to, &[])).expect(4);
    let names = [
        "key ../outside",
        "key /absolute",
        "key a/b",
        "key dots/..",
        "key folder/",
        "key zero\\x00",
    ];
    let told = told.says(&names);
    assert_eq!(told.err.matches("was left out").count(), 7, "{told:?}");
    let expected = [("a", "a file"), ("fine/file", "fine")];
    let expected = expected.map(|(key, value)| (key.into(), value.into()));
    assert_eq!(contents(&to), expected);
    assert_eq!(
        contents(&room.path("inner")).len(),
        2,
        "something lies outside"
    );
    assert!(!room.path("outside").exists());
}

#[test]
fn links_in_the_folder_are_not_followed() {
    let room = Room::new();
    let (to, outside) = (room.path("to"), room.path("outside"));
    fs::create_dir_all(&to).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("target"), "mine").unwrap();
    symlink(&outside, to.join("away")).unwrap();
    symlink(outside.join("target"), to.join("file")).unwrap();
    room.put(&[("away/new", "x"), ("file", "theirs")]);
    room.run("export", &arguments(&to, &["--overwrite"]))
        .expect(4)
        .says(&["away/new", "link"]);
    assert_eq!(contents(&outside), [(b"target".to_vec(), b"mine".to_vec())]);
    assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "theirs");
    assert!(!to.join("file").is_symlink());
    assert_eq!(room.run("count", &NONE).fine().text(), "2\n");
}

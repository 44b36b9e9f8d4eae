//! The project's rules that a machine can hold: who imports whom, which words stand where, how long a
//! file may be. What a check finds says what to do about it.

#![allow(clippy::unwrap_used, reason = "a test, its helpers included")]

#[path = "tidy/lengths.rs"]
mod lengths;
#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use std::fs;
use std::path::Path;

use source::Source;

/// Who may import whom, as in `docs/architecture.md`; `the_tables_agree` compares the two.
const ROOMS: &[rooms::Row] = &[
    ("types", &[]),
    ("error", &["types"]),
    ("cursor", &["types", "error"]),
    ("environment", &["types", "error"]),
    ("operator", &["types", "error"]),
    (
        "options",
        &["types", "error", "environment", "operator", "vfs"],
    ),
    ("codec", &["types", "error"]),
    ("parity", &["codec", "types"]),
    ("vfs", &["types", "error"]),
    ("watch", &["vfs", "environment", "types", "error"]),
    ("journal", &["codec", "vfs", "types", "error"]),
    ("memtable", &["cursor", "types", "error"]),
    (
        "wal",
        &["codec", "parity", "vfs", "environment", "types", "error"],
    ),
    (
        "segment",
        &[
            "codec",
            "parity",
            "vfs",
            "environment",
            "cursor",
            "types",
            "error",
        ],
    ),
    (
        "manifest",
        &["codec", "vfs", "environment", "types", "error"],
    ),
    (
        "snapshot",
        &["codec", "vfs", "environment", "types", "error"],
    ),
    (
        "engine",
        &[
            "types",
            "error",
            "cursor",
            "environment",
            "operator",
            "options",
            "codec",
            "parity",
            "vfs",
            "memtable",
            "wal",
            "segment",
            "manifest",
            "snapshot",
            "journal",
            "watch",
        ],
    ),
    ("api", &["engine", "options", "types", "error"]),
    ("testing", &["vfs", "environment", "types", "error"]),
];

/// Files above the soft limit, each with its lines (tests not counted). A figure may only shrink.
const FILES_ABOVE_SOFT: &[(&str, usize)] = &[];

/// Functions above the limit (`path::name`), each with its lines. A figure may only shrink.
const FUNCTIONS_ABOVE_MAX: &[(&str, usize)] = &[];

/// What is read, from the project's folder. A package as published lacks some of it.
const FOLDERS: [&str; 8] = [
    ".cargo", ".ci", ".config", "benches", "docs", "fuzz", "src", "tests",
];

/// Every file of the project as (path with `/`, text), sorted; what isn't UTF-8 is left out.
fn project_files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap_or_default();
        if FOLDERS.contains(&name) || path.is_file() && name != ".git" {
            collect(root, &path, &mut files);
        }
    }
    files.sort();
    files
}

fn collect(root: &Path, path: &Path, files: &mut Vec<(String, String)>) {
    if path.is_dir() {
        let name = path.file_name().unwrap().to_str().unwrap_or_default();
        if !["target", "corpus", "artifacts"].contains(&name) {
            for entry in fs::read_dir(path).unwrap() {
                collect(root, &entry.unwrap().path(), files);
            }
        }
    } else if let Ok(text) = fs::read_to_string(path) {
        let path = path.strip_prefix(root).unwrap();
        files.push((path.to_str().unwrap().replace('\\', "/"), text));
    }
}

/// The Rust files under any of the `folders`.
fn rust_files(folders: &[&str]) -> Vec<Source> {
    let sources: Vec<Source> = project_files()
        .iter()
        .filter(|(path, _)| path.ends_with(".rs"))
        .filter(|(path, _)| folders.iter().any(|folder| path.starts_with(folder)))
        .map(|(path, text)| Source::parse(path, text).unwrap())
        .collect();
    assert!(!sources.is_empty(), "no sources under {folders:?}");
    sources
}

fn all_rust_files() -> Vec<Source> {
    rust_files(&["src/", "tests/", "benches/", "fuzz/"])
}

#[track_caller]
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "\n\n{}\n\n", findings.join("\n"));
}

/// Runs a check on each source.
#[track_caller]
fn check_each(sources: &[Source], check: fn(&Source) -> Vec<String>) {
    assert_none(&sources.iter().flat_map(check).collect::<Vec<_>>());
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let mut sources = rust_files(&["src/"]);
    sources.retain(|source| !source.path.starts_with("src/bin/"));
    // Fuzz entry points are test code in a room, behind the feature `testing`.
    sources.retain(|source| !source.path.contains("/fuzz"));
    assert_none(&rooms::check(&sources, ROOMS));
}

#[test]
fn the_tables_agree() {
    let files = project_files();
    let document = files
        .iter()
        .find(|(path, _)| path == "docs/architecture.md");
    let (_, markdown) = document.unwrap();
    assert_none(&rooms::compare(
        ROOMS,
        &rooms::read_table(markdown).unwrap(),
    ));
}

#[test]
fn only_vfs_names_the_disk() {
    check_each(&rust_files(&["src/"]), words::disk);
}

#[test]
fn only_environment_asks_a_clock() {
    check_each(&rust_files(&["src/"]), words::clocks);
}

#[test]
fn unsafe_code_has_one_home() {
    assert_none(&words::unsafe_code(&rust_files(&["src/"])));
}

#[test]
fn the_library_prints_nothing() {
    check_each(&rust_files(&["src/"]), words::printing);
}

#[test]
fn nothing_sleeps_and_hopes() {
    check_each(&all_rust_files(), words::sleeping);
}

#[test]
fn nothing_temporary_is_left() {
    check_each(&all_rust_files(), words::leftovers);
    let files = project_files();
    let findings = files
        .iter()
        .flat_map(|(path, text)| words::markers(path, text));
    assert_none(&findings.collect::<Vec<_>>());
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let files = project_files();
    let findings = files
        .iter()
        .flat_map(|(path, text)| words::machine_paths(path, text));
    assert_none(&findings.collect::<Vec<_>>());
}

#[test]
fn every_file_says_what_it_is_for() {
    check_each(&rust_files(&["src/"]), words::module_doc);
}

#[test]
fn files_are_short() {
    assert_none(&lengths::check_files(
        &rust_files(&["src/"]),
        FILES_ABOVE_SOFT,
    ));
}

#[test]
fn functions_are_short() {
    assert_none(&lengths::check_functions(
        &all_rust_files(),
        FUNCTIONS_ABOVE_MAX,
    ));
}

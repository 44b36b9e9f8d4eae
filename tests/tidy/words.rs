//! Words that may stand in few places, or in none.

use super::source::{Named, Source};

fn starts_with(name: &Named, path: &[&str]) -> bool {
    name.segments.len() >= path.len() && name.segments.iter().zip(path).all(|(a, b)| a == b)
}

fn holds(name: &Named, path: &[&str]) -> bool {
    name.segments
        .windows(path.len())
        .any(|window| window == path)
}

fn is_macro(name: &Named, macros: &[&str]) -> bool {
    let last = name.segments.last();
    name.is_macro && last.is_some_and(|last| macros.contains(&last.as_str()))
}

fn is_binary(source: &Source) -> bool {
    source.path.starts_with("src/bin/")
}

fn find(source: &Source, why: &str, is_bad: impl Fn(&Named) -> bool) -> Vec<String> {
    let names = source.names();
    let bad = names.iter().filter(|name| is_bad(name));
    bad.map(|name| {
        format!(
            "{}:{}: `{}`: {why}",
            source.path,
            name.line,
            name.segments.join("::")
        )
    })
    .collect()
}

/// The disk is named by the room `vfs` alone; the command line reads its users' own files itself.
pub fn disk(source: &Source) -> Vec<String> {
    if source.path.starts_with("src/vfs/") || is_binary(source) {
        return Vec::new();
    }
    find(
        source,
        "only src/vfs names the disk; go through the Vfs seam",
        |name| {
            // Those are about memory (the memtable asks for huge pages), the clock, and a thread's priority.
            let others = ["mm", "time", "process"];
            let about_others = others.map(|part| starts_with(name, &["rustix", part]));
            let is_the_disk = starts_with(name, &["rustix"]) && about_others == [false; 3];
            starts_with(name, &["std", "fs"]) || is_the_disk
        },
    )
}

/// Clocks are named by `environment` alone.
pub fn clocks(source: &Source) -> Vec<String> {
    if source.path == "src/environment.rs" {
        return Vec::new();
    }
    find(
        source,
        "only src/environment.rs asks a clock; go through the Clock seam",
        |name| holds(name, &["SystemTime"]) || holds(name, &["Instant", "now"]),
    )
}

const UNSAFE_WALL: &str = "#![deny(unsafe_code)]\n";

/// The other home of `unsafe`: reading a mapped file. The front of its room lifts the ban for it.
const UNSAFE_MAPPING: [&str; 2] = ["src/vfs/mapped.rs", "src/vfs/mod.rs"];

/// `unsafe` lives in one module of the room `memtable`, and in the one that reads mapped files; only their
/// rooms may lift the crate's ban on it.
pub fn unsafe_code(sources: &[Source]) -> Vec<String> {
    let why = "`unsafe` belongs into one module of src/memtable, and into src/vfs/mapped.rs";
    let mut findings = Vec::new();
    let mut homes = Vec::new();
    for source in sources {
        let found = find(source, why, |name| holds(name, &["unsafe"]));
        let lint = find(source, why, |name| holds(name, &["unsafe_code"]));
        let [mapping, front] = UNSAFE_MAPPING;
        if source.path == mapping {
            continue;
        }
        if source.path == front {
            findings.extend(found.into_iter().chain(lint.into_iter().skip(1)));
            continue;
        }
        match source.path.strip_prefix("src/memtable/") {
            // The front of the room says which of its modules it is, and holds none itself.
            Some("mod.rs") => findings.extend(found),
            Some(path) if !found.is_empty() => {
                let module = path.split('/').next().unwrap_or(path);
                homes.push(module.trim_end_matches(".rs").to_owned());
            }
            Some(_) => {}
            // The wall itself.
            None if source.path == "src/lib.rs" && source.text.contains(UNSAFE_WALL) => {
                findings.extend(found.into_iter().chain(lint.into_iter().skip(1)));
            }
            None => findings.extend(found.into_iter().chain(lint)),
        }
    }
    homes.sort();
    homes.dedup();
    if homes.len() > 1 {
        let homes = homes.join(", ");
        findings.push(format!("{why}, and it is in {homes}"));
    }
    findings
}

/// The library prints nothing; its tests may.
pub fn printing(source: &Source) -> Vec<String> {
    if is_binary(source) {
        return Vec::new();
    }
    let why = "the library prints nothing; return it, or put it in a report";
    find(source, why, |name| {
        is_macro(name, &["print", "println", "eprint", "eprintln"])
            && !source.is_test_line(name.line)
    })
}

/// Nothing sleeps and hopes, tests and benches included.
pub fn sleeping(source: &Source) -> Vec<String> {
    find(
        source,
        "wait for a condition with a time-out instead",
        |name| holds(name, &["thread", "sleep"]) || name.segments == ["sleep"],
    )
}

/// Nothing that was meant to be temporary stays.
pub fn leftovers(source: &Source) -> Vec<String> {
    find(source, "finish it or take it out", |name| {
        is_macro(name, &["dbg", "todo", "unimplemented"])
    })
}

/// Each file says what it is for; the name of `tests.rs` says it already.
pub fn module_doc(source: &Source) -> Vec<String> {
    if source.has_module_doc() || source.is_tests() {
        return Vec::new();
    }
    vec![format!(
        "{}: begin it with `//!` and what it is for",
        source.path
    )]
}

const MARKERS: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Notes to oneself, in any kind of file.
pub fn markers(path: &str, text: &str) -> Vec<String> {
    find_in_lines(
        path,
        text,
        "finish it, or write it where others look",
        |line| {
            line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .find(|word| MARKERS.contains(word))
                .map(Into::into)
        },
    )
}

const MACHINE_FOLDERS: [&str; 6] = [
    "/home/",
    "/root/",
    "/work/",
    "/Users/",
    "/workspace/",
    ":\\Users\\",
];

/// Paths that exist on one machine only, in any kind of file.
pub fn machine_paths(path: &str, text: &str) -> Vec<String> {
    find_in_lines(
        path,
        text,
        "a path of one machine; write it relative to the project",
        |line| {
            MACHINE_FOLDERS.iter().find_map(|folder| {
                line.match_indices(folder).find_map(|(at, _)| {
                    let is_inside =
                        |letter: char| letter.is_alphanumeric() || "/._-".contains(letter);
                    let before = line[..at].chars().next_back();
                    let after: String = line[at + folder.len()..]
                        .chars()
                        .take_while(|letter| is_inside(*letter))
                        .collect();
                    let is_whole = folder.starts_with(':') || !before.is_some_and(is_inside);
                    (is_whole && !after.is_empty()).then(|| format!("{folder}{after}"))
                })
            })
        },
    )
}

fn find_in_lines(
    path: &str,
    text: &str,
    why: &str,
    bad: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(at, line)| Some(format!("{path}:{}: `{}`: {why}", at + 1, bad(line)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::parse(path, text).unwrap()
    }

    /// Each bad text gives one finding under `path`, and none under `allowed`.
    fn holds_in(check: fn(&Source) -> Vec<String>, bad: &[&str], path: &str, allowed: &[&str]) {
        for text in bad {
            assert_eq!(check(&source(path, text)).len(), 1, "{text}");
            for allowed in allowed {
                assert_eq!(check(&source(allowed, text)), [""; 0], "{text}");
            }
        }
    }

    #[test]
    fn the_disk_is_named_in_its_room_alone() {
        let bad = [
            "use std::fs;",
            "use std::fs::File;",
            "use std::{fs, io};",
            "use std::{io, fs::{File}};",
            "fn a() { b!(std::fs::read(c)); }",
            "use rustix::fs::fsync;",
        ];
        holds_in(
            disk,
            &bad,
            "src/wal/mod.rs",
            &["src/vfs/disk.rs", "src/bin/kintsu/load.rs"],
        );
        assert_eq!(
            disk(&source("src/wal/mod.rs", "use std::io; // std::fs\n")),
            [""; 0]
        );
    }

    #[test]
    fn clocks_are_asked_in_one_file_alone() {
        let bad = [
            "use std::time::SystemTime;",
            "fn a() { Instant::now(); }",
            "fn a() { std::time::Instant::now(); }",
        ];
        holds_in(clocks, &bad, "src/wal/mod.rs", &["src/environment.rs"]);
        assert_eq!(
            clocks(&source(
                "src/wal/mod.rs",
                "use std::time::{Duration, Instant};"
            )),
            [""; 0]
        );
    }

    #[test]
    fn unsafe_code_has_one_home() {
        let bad = "fn a() { unsafe { b() } }";
        let home = || source("src/memtable/list/node.rs", bad);
        let beside = || source("src/memtable/list/mod.rs", bad);
        let wall = || source("src/lib.rs", UNSAFE_WALL);
        let front = || source("src/memtable/mod.rs", "#[allow(x, unsafe_code)] mod list;");
        assert_eq!(unsafe_code(&[home(), beside(), wall(), front()]), [""; 0]);
        assert_eq!(
            unsafe_code(&[home(), source("src/memtable/arena.rs", bad)]).len(),
            1
        );
        for (path, bad) in [
            ("src/wal/mod.rs", bad),
            ("src/memtable/mod.rs", bad),
            ("src/lib.rs", "#![allow(unsafe_code)]\n"),
            (
                "src/lib.rs",
                "#![deny(unsafe_code)]\n#[allow(unsafe_code)] mod vfs;",
            ),
            (
                "src/vfs/mod.rs",
                "#[allow(unsafe_code)] mod mapped;\n#[allow(unsafe_code)] mod a;",
            ),
            ("src/wal/mod.rs", "#[allow(unsafe_code)] mod a;"),
            ("src/vfs/mod.rs", "#[unsafe(no_mangle)] fn a() {}"),
        ] {
            assert_eq!(unsafe_code(&[source(path, bad)]).len(), 1, "{path}: {bad}");
        }
    }

    #[test]
    fn the_library_prints_nothing() {
        let bad = [
            "fn a() { println!(\"b\"); }",
            "fn a() { std::eprintln!(); }",
            "fn a() { c!(print!(\"\")); }",
        ];
        holds_in(
            printing,
            &bad,
            "src/wal/mod.rs",
            &["src/bin/kintsu/main.rs"],
        );
        assert_eq!(
            printing(&source("src/wal/mod.rs", "// println!()\nfn print() {}")),
            [""; 0]
        );
    }

    #[test]
    fn the_library_s_tests_may_print() {
        let text = "#[cfg(test)]\nmod tests { fn a() { println!() } }";
        assert_eq!(printing(&source("src/wal/mod.rs", text)), [""; 0]);
        let text = format!("{text}\nfn b() {{ println!() }}");
        assert_eq!(printing(&source("src/wal/mod.rs", &text)).len(), 1);
    }

    #[test]
    fn nothing_sleeps() {
        let bad = [
            "use std::thread::sleep;",
            "fn a() { thread::sleep(b); }",
            "fn a() { sleep(b); }",
        ];
        holds_in(sleeping, &bad, "tests/crash.rs", &[]);
    }

    #[test]
    fn leftovers_are_found() {
        let bad = [
            "fn a() { dbg!(b); }",
            "fn a() { todo!() }",
            "fn a() { unimplemented!(\"b\") }",
        ];
        holds_in(leftovers, &bad, "benches/read_path.rs", &[]);
    }

    #[test]
    fn every_file_says_what_it_is_for() {
        holds_in(
            module_doc,
            &["fn a() {}"],
            "src/wal/mod.rs",
            &["src/wal/tests.rs"],
        );
        assert_eq!(
            module_doc(&source("src/wal/mod.rs", "//! The log.")),
            [""; 0]
        );
    }

    #[test]
    fn markers_are_found_as_words() {
        for marker in MARKERS {
            let text = format!("a\n// {marker}: b\n");
            assert_eq!(markers("docs/a.md", &text).len(), 1);
            assert!(markers("docs/a.md", &text)[0].starts_with("docs/a.md:2: "));
            assert_eq!(
                markers("docs/a.md", &format!("A{marker} {marker}_B")),
                [""; 0]
            );
        }
    }

    #[test]
    fn machine_paths_are_found() {
        for folder in MACHINE_FOLDERS {
            let text = format!("see {folder}someone/x for it");
            assert_eq!(machine_paths("README.md", &text).len(), 1, "{text}");
            assert_eq!(machine_paths("README.md", &format!("`{folder}`")), [""; 0]);
        }
        assert_eq!(
            machine_paths("README.md", "at target/work/a and b.c/home/d"),
            [""; 0]
        );
    }
}

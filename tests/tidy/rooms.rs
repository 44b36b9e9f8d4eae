//! Who imports whom: the table of `docs/architecture.md`, and what the sources really name.

use super::source::{Named, Source};

/// A room and the rooms that it may import.
pub type Row<'a> = (&'a str, &'a [&'a str]);

/// Every import that the table doesn't allow.
pub fn check(sources: &[Source], table: &[Row]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        let modules = module_path(&source.path);
        let Some(room) = modules.first() else {
            // src/lib.rs stands above the rooms.
            continue;
        };
        let Some((_, allowed)) = table.iter().find(|(name, _)| name == room) else {
            findings.push(format!(
                "{}: no room `{room}` in the table of docs/architecture.md; add it there and to ROOMS",
                source.path
            ));
            continue;
        };
        for name in source.names() {
            if let Some(entered) = room_entered(&modules, &name)
                && entered != *room
                && !allowed.contains(&entered.as_str())
                && !(entered == "testing" && may_test(source, &modules, name.line))
            {
                let path = name.segments.join("::");
                findings.push(format!(
                    "{}:{}: room `{room}` may not import `{entered}` (`{path}`); see the table in \
                     docs/architecture.md",
                    source.path, name.line
                ));
            }
        }
    }
    findings
}

/// Tests use the room `testing`; so do the fuzz targets' entry points, which come with its feature.
fn may_test(source: &Source, modules: &[String], line: usize) -> bool {
    source.is_test_line(line) || modules.get(1).is_some_and(|module| module == "fuzz")
}

/// `src/wal/format.rs` is `["wal", "format"]`; `src/lib.rs` is empty.
fn module_path(path: &str) -> Vec<String> {
    let path = path.strip_prefix("src/").unwrap_or(path);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    let parts = path.split('/').filter(|part| *part != "lib");
    parts.map(Into::into).collect()
}

/// The room that a path leads into, if it is written from the crate's root or climbs there.
fn room_entered(file_modules: &[String], name: &Named) -> Option<String> {
    let first = name.segments.first()?;
    let mut base: Vec<&String> = file_modules.iter().chain(&name.modules).collect();
    let climbs = name
        .segments
        .iter()
        .take_while(|segment| *segment == "super" || *segment == "self")
        .count();
    let rest = match first.as_str() {
        "crate" => {
            base.clear();
            &name.segments[1..]
        }
        // The library under its own name, as its tests in other packages see it.
        "kintsu" if name.segments.len() > 1 => {
            base.clear();
            &name.segments[1..]
        }
        _ if climbs > 0 => {
            let supers = name.segments[..climbs]
                .iter()
                .filter(|word| *word == "super");
            base.truncate(base.len().saturating_sub(supers.count()));
            &name.segments[climbs..]
        }
        _ => return None,
    };
    base.first().copied().or(rest.first()).cloned()
}

/// Reads the table out of `docs/architecture.md`: rooms in order, each with what it may import.
pub fn read_table(markdown: &str) -> Result<Vec<(String, Vec<String>)>, String> {
    let mut table: Vec<(String, Vec<String>)> = Vec::new();
    let rows = markdown
        .lines()
        .skip_while(|line| !line.starts_with("| room "))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [room, _, rights] = cells[..] else {
            return Err(format!("not three cells: {row}"));
        };
        let above = || table.iter().map(|(room, _)| room.clone()).collect();
        let rights = match rights {
            "std" => Vec::new(),
            "all above" => above(),
            // Another crate, which sees no room from inside.
            "the public API" => continue,
            list => list
                .split(", ")
                .map(|word| word.trim_matches('`').into())
                .collect(),
        };
        table.push((room.trim_matches('`').into(), rights));
    }
    if table.is_empty() {
        return Err("no table of rooms: a line that starts with `| room ` is looked for".into());
    }
    Ok(table)
}

/// Where the table in the test and the one in the document differ.
pub fn compare(table: &[Row], documented: &[(String, Vec<String>)]) -> Vec<String> {
    let sorted = |rights: Vec<&str>| {
        let mut rights = rights;
        rights.sort_unstable();
        rights.join(", ")
    };
    let here: Vec<String> = table
        .iter()
        .map(|(room, rights)| format!("{room}: {}", sorted(rights.to_vec())))
        .collect();
    let there: Vec<String> = documented
        .iter()
        .map(|(room, rights)| {
            format!(
                "{room}: {}",
                sorted(rights.iter().map(String::as_str).collect())
            )
        })
        .collect();
    let missing = |from: &[String], of: &[String], place: &str| -> Vec<String> {
        let lines = from.iter().filter(|line| !of.contains(line));
        lines
            .map(|line| format!("only in {place}: {line}"))
            .collect()
    };
    let mut findings = missing(&here, &there, "ROOMS of tests/tidy.rs");
    findings.extend(missing(&there, &here, "docs/architecture.md"));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Row] = &[
        ("types", &[]),
        ("vfs", &["types"]),
        ("wal", &["types", "vfs"]),
        ("segment", &["types"]),
    ];

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&[Source::parse(path, text).unwrap()], TABLE)
    }

    #[test]
    fn allowed_imports_pass() {
        let text = "use crate::types::Lsn; use crate::{vfs, wal::Reader}; use super::format; \
                    use std::io; use self::x; fn a() { super::super::vfs::b() }";
        assert_eq!(findings("src/wal/reader.rs", text), [""; 0]);
        assert_eq!(
            findings("src/lib.rs", "mod wal; pub use wal::Log;"),
            [""; 0]
        );
    }

    #[test]
    fn sideways_and_upward_imports_are_named_however_they_are_written() {
        for (path, text) in [
            ("src/wal/reader.rs", "use crate::segment::Block;"),
            ("src/wal/reader.rs", "use crate::{types::Lsn, segment};"),
            ("src/wal/mod.rs", "fn a() { assert!(crate::segment::b()); }"),
            ("src/wal/mod.rs", "use super::segment;"),
            ("src/wal/reader.rs", "use super::super::segment::Block;"),
            (
                "src/wal/reader.rs",
                "mod a { fn b() { super::super::super::segment::c() } }",
            ),
            ("src/wal/mod.rs", "use kintsu::segment::Block;"),
            ("src/wal/tests.rs", "use crate::segment::Block;"),
            ("src/types.rs", "use crate::vfs::File;"),
            ("src/vfs/mod.rs", "use crate::*;"),
            ("src/vfs/mod.rs", "use crate::Lsn;"),
        ] {
            let findings = findings(path, text);
            assert_eq!(findings.len(), 1, "{path}: {text}: {findings:?}");
            assert!(
                findings[0].starts_with(&format!("{path}:1: room")),
                "{findings:?}"
            );
        }
    }

    #[test]
    fn the_testing_room_is_open_to_tests_alone() {
        let text = "#[cfg(test)]\nmod tests {\nuse crate::testing::Seed;\n}\n";
        assert_eq!(findings("src/wal/mod.rs", text), [""; 0]);
        assert_eq!(
            findings("src/wal/tests.rs", "use crate::testing::Seed;"),
            [""; 0]
        );
        for path in ["src/wal/fuzz.rs", "src/wal/fuzz/forged.rs"] {
            assert_eq!(findings(path, "use crate::testing::Seed;"), [""; 0]);
            assert_eq!(findings(path, "use crate::engine::Tree;").len(), 1);
        }
        for path in ["src/wal/mod.rs", "src/wal/format/fuzz.rs"] {
            assert_eq!(findings(path, "use crate::testing::Seed;").len(), 1);
        }
    }

    #[test]
    fn a_room_without_a_row_is_named() {
        assert_eq!(findings("src/cellar/mod.rs", "").len(), 1);
    }

    #[test]
    fn tables_are_read_and_compared() {
        let markdown = "text\n\n| room | what | may import |\n|---|---|---|\n| `types` | a | std |\n\
                        | `vfs` | b | types |\n| `wal` | c | vfs, types |\n| `segment` | d | all above |\n\
                        | `bin/kintsu` | e | the public API |\n\n| `other` | f | std |\n";
        let documented = read_table(markdown).unwrap();
        assert_eq!(documented.len(), 4);
        assert_eq!(documented[3].1, ["types", "vfs", "wal"]);
        let findings = compare(TABLE, &documented);
        assert_eq!(
            findings,
            [
                "only in ROOMS of tests/tidy.rs: segment: types",
                "only in docs/architecture.md: segment: types, vfs, wal"
            ]
        );
        assert_eq!(compare(&TABLE[..3], &documented[..3]), [""; 0]);
        assert_eq!(compare(&TABLE[..2], &documented[..3]).len(), 1);
        assert!(read_table("no table").is_err());
        assert!(read_table("| room | a | b |\n|---|---|---|\n| `types` | std |\n").is_err());
    }
}

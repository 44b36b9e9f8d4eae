//! Kinds of files, their regions, and where a refusal is allowed: the one place to be tightened when more
//! of it can be repaired.

use super::sample::{File, end_of_content};

/// What the campaign asks of a store that met damage in one place of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// All must be right: there is redundancy, or nobody needs it.
    Right,
    /// It may be refused, by name.
    MayRefuse,
}

use Asked::{MayRefuse, Right};

/// Kind of file, region, what is asked when a block of 4 KiB at most is bad.
const RULES: &[(&str, &str, Asked)] = &[
    ("segment", "content", Right),
    ("segment", "parity", Right),
    ("manifest", "header", Right),
    ("manifest", "state and edits", Right),
    ("manifest", "room", Right),
    ("lineage", "all of it", Right),
    ("identifiers", "header", Right),
    ("identifiers", "units", Right),
    ("identifiers", "room", Right),
    ("journal", "all of it", Right),
    ("scrub progress", "all of it", Right),
    ("log parity", "all of it", Right),
    ("sealed log", "header", Right),
    ("sealed log", "records", Right),
    ("sealed log", "room", Right),
    ("active log", "header", Right),
    // Its last part, less than a MiB, has no parity before it is sealed.
    ("active log", "records", MayRefuse),
    ("active log", "room", MayRefuse),
];

/// A kind of file, by its name in a folder of these.
pub fn kind(path: &str, folder: &[File]) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some((stem, _)) if stem.starts_with("manifest") => "manifest",
        Some((_, "segment")) => "segment",
        Some((_, "ids")) => "identifiers",
        Some((_, "parity")) => "log parity",
        Some((_, "log")) if is_active(path, folder) => "active log",
        Some((_, "log")) => "sealed log",
        Some(("kintsu", "scrub")) => "scrub progress",
        Some(("kintsu" | "kintsu.repairs", _)) => "journal",
        _ if name.starts_with("lineage") => "lineage",
        _ => panic!("a kind of file that the campaign doesn't know: {path}"),
    }
}

/// Whether it is the last file of log in which anything stands but a header.
fn is_active(path: &str, folder: &[File]) -> bool {
    let used = folder
        .iter()
        .filter(|(path, bytes)| path.ends_with(".log") && end_of_content(bytes) > 4096);
    used.map(|(path, _)| path.as_str()).max() == Some(path)
}

/// The part of a file that an offset lies in.
pub fn region(kind: &str, bytes: &[u8], offset: usize) -> &'static str {
    let in_use = offset < end_of_content(bytes).next_multiple_of(4096);
    match kind {
        "segment" if offset < content_bytes(bytes) => "content",
        "segment" => "parity",
        "lineage" | "journal" | "scrub progress" | "log parity" => "all of it",
        _ if offset < 4096 => "header",
        _ if !in_use => "room",
        "manifest" => "state and edits",
        "identifiers" => "units",
        _ => "records",
    }
}

/// The bytes before a segment's parity, as its tail has them.
fn content_bytes(bytes: &[u8]) -> usize {
    let tail = bytes.len() - 64;
    assert_eq!(&bytes[tail..tail + 8], b"KINTPARI");
    let content = bytes[tail + 16..tail + 24].try_into().unwrap();
    u64::from_le_bytes(content) as usize
}

/// Whether damage of at most a block may be refused there.
pub fn may_refuse(kind: &str, region: &str) -> bool {
    let found = RULES.iter().find(|rule| (rule.0, rule.1) == (kind, region));
    let (_, _, asked) = found.unwrap_or_else(|| panic!("no rule for {kind}, {region}"));
    *asked == MayRefuse
}

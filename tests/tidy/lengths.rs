//! Ratchets: how long a file and a function may be.

use super::source::Source;

/// A file above this is to be split, unless the ratchet lists it.
pub const FILE_LINES_SOFT: usize = 500;
/// No file may be above this.
pub const FILE_LINES_HARD: usize = 1_000;
/// No function may be above this, from `fn` to its closing brace, unless the ratchet lists it.
pub const FUNCTION_LINES_MAX: usize = 70;

/// Lines of a file without its tests.
fn production_lines(source: &Source) -> usize {
    if source.is_tests() {
        return 0;
    }
    let test_lines = source.test_lines().into_iter().map(Iterator::count);
    source.text.lines().count() - test_lines.sum::<usize>()
}

/// Files that are too long and not in the `ratchet`, or not as the ratchet says.
pub fn check_files(sources: &[Source], ratchet: &[(&str, usize)]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut long = Vec::new();
    for source in sources {
        let lines = production_lines(source);
        if lines > FILE_LINES_HARD {
            findings.push(format!(
                "{} has {lines} lines without tests, and {FILE_LINES_HARD} is the most: split it",
                source.path
            ));
        } else if lines > FILE_LINES_SOFT {
            long.push((source.path.clone(), lines));
        }
    }
    let limit = format!("{FILE_LINES_SOFT} lines without tests");
    findings.extend(compare(&long, ratchet, "FILES_ABOVE_SOFT", &limit));
    findings
}

/// Functions that are too long and not in the `ratchet` (as `path::name`), or not as it says.
pub fn check_functions(sources: &[Source], ratchet: &[(&str, usize)]) -> Vec<String> {
    let mut long = Vec::new();
    for source in sources {
        for function in source.functions() {
            if function.lines > FUNCTION_LINES_MAX {
                let path = &source.path;
                long.push((format!("{path}::{}", function.name), function.lines));
            }
        }
    }
    let limit = format!("{FUNCTION_LINES_MAX} lines");
    compare(&long, ratchet, "FUNCTIONS_ABOVE_MAX", &limit)
}

fn compare(
    long: &[(String, usize)],
    ratchet: &[(&str, usize)],
    list: &str,
    limit: &str,
) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, lines) in long {
        match ratchet.iter().find(|(listed, _)| listed == name) {
            None => findings.push(format!(
                "{name} has {lines} lines; the limit is {limit}: split it (or, if that would make it \
                 worse, add (\"{name}\", {lines}) to {list} in tests/tidy.rs and say why)"
            )),
            Some((_, listed)) if lines > listed => findings.push(format!(
                "{name} has grown from {listed} to {lines} lines; the limit is {limit}, and what is in \
                 {list} of tests/tidy.rs may only shrink: take out as much as you put in"
            )),
            Some((_, listed)) if lines < listed => findings.push(format!(
                "{name} has shrunk from {listed} to {lines} lines, well done: write {lines} into {list} \
                 of tests/tidy.rs"
            )),
            Some(_) => {}
        }
    }
    for (listed, _) in ratchet {
        if !long.iter().any(|(name, _)| name == listed) {
            findings.push(format!(
                "{listed} is gone or within {limit}: remove it from {list} in tests/tidy.rs"
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, lines: usize, test_lines: usize) -> Source {
        let mut text = "const A: u8 = 0;\n".repeat(lines);
        if test_lines > 0 {
            let body = "const B: u8 = 0;\n".repeat(test_lines - 3);
            text += &format!("#[cfg(test)]\nmod tests {{\n{body}}}\n");
        }
        Source::parse(path, &text).unwrap()
    }

    fn function(lines: usize) -> Source {
        let text = format!(
            "impl A {{\nfn b() {{\n{}}}\n}}\n",
            "c();\n".repeat(lines - 2)
        );
        Source::parse("src/a.rs", &text).unwrap()
    }

    #[test]
    fn tests_do_not_count() {
        assert_eq!(production_lines(&file("src/a.rs", 500, 300)), 500);
        assert_eq!(production_lines(&file("src/wal/tests.rs", 2_000, 0)), 0);
        assert_eq!(check_files(&[file("src/a.rs", 500, 900)], &[]), [""; 0]);
    }

    #[test]
    fn a_long_file_must_be_listed_and_may_only_shrink() {
        let sources = [file("src/a.rs", 501, 0)];
        assert_eq!(check_files(&sources, &[("src/a.rs", 501)]), [""; 0]);
        for (ratchet, word) in [
            (&[][..], "split it"),
            (&[("src/a.rs", 500)][..], "grown"),
            (&[("src/a.rs", 502)][..], "shrunk"),
            (&[("src/a.rs", 501), ("src/b.rs", 600)][..], "gone"),
        ] {
            let findings = check_files(&sources, ratchet);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert!(findings[0].contains(word), "{findings:?}");
        }
    }

    #[test]
    fn no_list_helps_above_the_hard_limit() {
        let sources = [file("src/a.rs", 1_001, 0)];
        let findings = check_files(&sources, &[("src/a.rs", 1_001)]);
        assert!(findings[0].contains("the most"), "{findings:?}");
    }

    #[test]
    fn functions_are_held_to_their_limit() {
        assert_eq!(check_functions(&[function(70)], &[]), [""; 0]);
        assert_eq!(check_functions(&[function(71)], &[]).len(), 1);
        assert_eq!(
            check_functions(&[function(71)], &[("src/a.rs::b", 71)]),
            [""; 0]
        );
        assert_eq!(
            check_functions(&[function(72)], &[("src/a.rs::b", 71)]).len(),
            1
        );
        assert_eq!(
            check_functions(&[function(70)], &[("src/a.rs::b", 71)]).len(),
            1
        );
    }
}

//! Reads Rust sources as tokens, so that no string, comment or macro misleads a check.

use std::ops::RangeInclusive;
use std::str::FromStr;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// One Rust file.
pub struct Source {
    /// Its path from the project's folder, with `/`.
    pub path: String,
    pub text: String,
    tokens: Vec<TokenTree>,
}

/// A path such as `crate::wal::Reader`, as it stands in the code; groups of `use` are taken apart.
pub struct Named {
    pub segments: Vec<String>,
    pub line: usize,
    /// The `mod name { … }` blocks around it, outermost first.
    pub modules: Vec<String>,
    /// Whether it is called as a macro: `name!(…)`.
    pub is_macro: bool,
}

/// A function with a body.
pub struct Function {
    pub name: String,
    pub line: usize,
    /// From the line of `fn` to that of the closing brace, both included.
    pub lines: usize,
}

impl Source {
    pub fn parse(path: &str, text: &str) -> Result<Self, String> {
        let tokens = TokenStream::from_str(text)
            .map_err(|error| format!("{path}: not Rust: {error}"))?
            .into_iter()
            .collect();
        Ok(Self {
            path: path.into(),
            text: text.into(),
            tokens,
        })
    }

    /// Whether the whole file is tests.
    pub fn is_tests(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.split('/').any(|part| part == "tests")
    }

    pub fn has_module_doc(&self) -> bool {
        let mut at = 0;
        while let Some(attribute) = inner_attribute(&self.tokens[at..]) {
            if attribute.to_string().starts_with("doc ") {
                return true;
            }
            at += 3;
        }
        false
    }

    /// Lines that only tests are built from: items under `#[cfg(test)]`.
    pub fn test_lines(&self) -> Vec<RangeInclusive<usize>> {
        let mut found = Vec::new();
        find_test_items(&self.tokens, &mut found);
        found
    }

    pub fn is_test_line(&self, line: usize) -> bool {
        self.is_tests() || self.test_lines().iter().any(|lines| lines.contains(&line))
    }

    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        find_functions(&self.tokens, &mut found);
        found
    }

    /// Every path in the code, macros' arguments included; a lone word is a path of one segment.
    pub fn names(&self) -> Vec<Named> {
        let mut finder = NameFinder {
            modules: Vec::new(),
            found: Vec::new(),
        };
        finder.walk(&self.tokens);
        finder.found
    }
}

fn trees(group: &proc_macro2::Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

fn ident(tree: Option<&TokenTree>) -> Option<String> {
    match tree {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

fn is_punct(tree: Option<&TokenTree>, wanted: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn group(tree: Option<&TokenTree>, delimiter: Delimiter) -> Option<&proc_macro2::Group> {
    match tree {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group),
        _ => None,
    }
}

fn is_path_separator(trees: &[TokenTree]) -> bool {
    matches!(trees.first(), Some(TokenTree::Punct(punct))
        if punct.as_char() == ':' && punct.spacing() == Spacing::Joint)
        && is_punct(trees.get(1), ':')
}

/// What stands in `#![…]`, if that comes next.
fn inner_attribute(trees: &[TokenTree]) -> Option<TokenStream> {
    if is_punct(trees.first(), '#') && is_punct(trees.get(1), '!') {
        group(trees.get(2), Delimiter::Bracket).map(proc_macro2::Group::stream)
    } else {
        None
    }
}

/// What stands in `#[…]`, if that comes next.
fn outer_attribute(trees: &[TokenTree]) -> Option<TokenStream> {
    if is_punct(trees.first(), '#') {
        group(trees.get(1), Delimiter::Bracket).map(proc_macro2::Group::stream)
    } else {
        None
    }
}

/// How many tokens the item at the front takes: up to its braces or semicolon.
fn item_tokens(trees: &[TokenTree]) -> usize {
    let mut at = 0;
    while outer_attribute(&trees[at..]).is_some() {
        at += 2;
    }
    // A `use` or a constant ends at its semicolon, whatever braces come before.
    let until_semicolon = trees[at..]
        .iter()
        .take_while(|tree| matches!(tree, TokenTree::Ident(_) | TokenTree::Group(_)))
        .any(|tree| {
            matches!(
                ident(Some(tree)).as_deref(),
                Some("use" | "static" | "const")
            )
        })
        && !trees[at..]
            .iter()
            .take(4)
            .any(|tree| ident(Some(tree)).as_deref() == Some("fn"));
    for (offset, tree) in trees[at..].iter().enumerate() {
        let is_end = is_punct(Some(tree), ';')
            || (!until_semicolon && group(Some(tree), Delimiter::Brace).is_some());
        if is_end {
            return at + offset + 1;
        }
    }
    trees.len()
}

fn find_test_items(trees_here: &[TokenTree], found: &mut Vec<RangeInclusive<usize>>) {
    let mut at = 0;
    while at < trees_here.len() {
        let rest = &trees_here[at..];
        let is_test = outer_attribute(rest).is_some_and(|attribute| {
            let words: String = attribute.to_string().split_whitespace().collect();
            words == "cfg(test)"
        });
        if is_test {
            let count = item_tokens(rest);
            let first = rest[0].span().start().line;
            found.push(first..=rest[count - 1].span().end().line);
            at += count;
            continue;
        }
        if let TokenTree::Group(group) = &trees_here[at] {
            find_test_items(&trees(group), found);
        }
        at += 1;
    }
}

fn find_functions(trees_here: &[TokenTree], found: &mut Vec<Function>) {
    for (at, tree) in trees_here.iter().enumerate() {
        if let TokenTree::Group(group) = tree {
            find_functions(&trees(group), found);
        }
        let (Some("fn"), Some(name)) =
            (ident(Some(tree)).as_deref(), ident(trees_here.get(at + 1)))
        else {
            continue;
        };
        let body = trees_here[at..].iter().find(|tree| {
            is_punct(Some(tree), ';') || group(Some(tree), Delimiter::Brace).is_some()
        });
        if let Some(body @ TokenTree::Group(_)) = body {
            let line = tree.span().start().line;
            let lines = body.span().end().line + 1 - line;
            found.push(Function { name, line, lines });
        }
    }
}

struct NameFinder {
    modules: Vec<String>,
    found: Vec<Named>,
}

impl NameFinder {
    fn walk(&mut self, trees_here: &[TokenTree]) {
        let mut at = 0;
        while at < trees_here.len() {
            let rest = &trees_here[at..];
            match &rest[0] {
                TokenTree::Group(group) => {
                    self.walk(&trees(group));
                    at += 1;
                }
                TokenTree::Ident(word) if word == "mod" => {
                    at += match (ident(rest.get(1)), group(rest.get(2), Delimiter::Brace)) {
                        (Some(name), Some(block)) => {
                            self.modules.push(name);
                            self.walk(&trees(block));
                            self.modules.pop();
                            3
                        }
                        _ => 1,
                    };
                }
                TokenTree::Ident(_) => at += self.path(rest, &[]),
                _ => at += 1,
            }
        }
    }

    /// Takes the path at the front; returns how many tokens it is long.
    fn path(&mut self, trees_here: &[TokenTree], prefix: &[String]) -> usize {
        let line = trees_here[0].span().start().line;
        let mut segments = prefix.to_vec();
        segments.extend(ident(trees_here.first()));
        let mut at = 1;
        while is_path_separator(&trees_here[at..]) {
            let next = trees_here.get(at + 2);
            if let Some(segment) = ident(next) {
                segments.push(segment);
            } else if is_punct(next, '*') {
                segments.push("*".into());
            } else if let Some(parts) = group(next, Delimiter::Brace) {
                self.use_group(&trees(parts), &segments);
                return at + 3;
            } else {
                break;
            }
            at += 3;
        }
        let is_macro = is_punct(trees_here.get(at), '!')
            && matches!(trees_here.get(at + 1), Some(TokenTree::Group(_)));
        self.found.push(Named {
            segments,
            line,
            modules: self.modules.clone(),
            is_macro,
        });
        at
    }

    fn use_group(&mut self, parts: &[TokenTree], prefix: &[String]) {
        for part in parts.split(|tree| is_punct(Some(tree), ',')) {
            match part.first() {
                Some(TokenTree::Ident(_)) => {
                    self.path(part, prefix);
                }
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                    let mut segments = prefix.to_vec();
                    segments.push("*".into());
                    self.found.push(Named {
                        segments,
                        line: star.span().start().line,
                        modules: self.modules.clone(),
                        is_macro: false,
                    });
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::parse("src/wal/mod.rs", text).unwrap()
    }

    fn named(text: &str) -> Vec<String> {
        source(text)
            .names()
            .iter()
            .map(|name| name.segments.join("::"))
            .filter(|name| name.contains("::"))
            .collect()
    }

    #[test]
    fn paths_are_found_in_groups_macros_and_attributes_but_not_in_words() {
        let text = r##"
            // crate::comment::x
            /* crate::comment::y */
            use crate::{a, b::{self, C as D}, e::*};
            #[derive(crate::f::G)]
            fn h() {
                let _ = "crate::text::z"; let _ = r#"crate::raw::z"#; let _ = '"';
                assert!(crate::i::j(::std::fs::read) == x::<crate::k::L>());
            }
        "##;
        let found = named(text);
        let expected = [
            "crate::a",
            "crate::b::self",
            "crate::b::C",
            "crate::e::*",
            "crate::f::G",
            "crate::i::j",
            "std::fs::read",
            "crate::k::L",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn inline_modules_and_macro_calls_are_known() {
        let names = source("mod a { mod b { fn c() { super::super::d!(); } } }").names();
        let name = names.iter().find(|name| name.is_macro).unwrap();
        assert_eq!(name.segments, ["super", "super", "d"]);
        assert_eq!(name.modules, ["a", "b"]);
        assert!(
            source("if a != (b) {}")
                .names()
                .iter()
                .all(|name| !name.is_macro)
        );
    }

    #[test]
    fn test_items_are_found_whatever_they_are() {
        let text = "fn a() {}\n#[cfg(test)]\nuse b::{\nc};\nfn d() {}\n#[cfg(test)]\n#[allow(x)]\n\
                    mod tests {\n}\nmod e {\n#[cfg(test)]\nconst F: G = G {\n}\n;\n}\n\
                    #[cfg(test)]\nconst fn h() {\n}\n#[cfg(any(test, x))]\nmod i {}\n";
        assert_eq!(source(text).test_lines(), [2..=4, 6..=9, 11..=14, 16..=18]);
        assert!(source(text).is_test_line(12) && !source(text).is_test_line(15));
    }

    #[test]
    fn functions_are_measured_also_inside_macros() {
        let text = "trait A {\nfn b();\nfn c(\n) {\n\"}\";\n}\n}\nproptest! {\nfn d() {\n// }\n}\n}\n\
                    type E = fn(u8) -> u8;";
        let found: Vec<_> = source(text)
            .functions()
            .into_iter()
            .map(|function| (function.name, function.line, function.lines))
            .collect();
        assert_eq!(found, [("c".into(), 3, 4), ("d".into(), 9, 3)]);
    }

    #[test]
    fn module_docs_are_told_from_other_docs() {
        assert!(source("//! Doc.\nfn a() {}").has_module_doc());
        assert!(source("#![cfg(test)]\n//! Doc.\n").has_module_doc());
        assert!(!source("/// Of a.\nfn a() {}").has_module_doc());
        assert!(!source("// Not a doc.\n").has_module_doc());
        assert!(!source("").has_module_doc());
    }

    #[test]
    fn what_is_not_rust_is_an_error() {
        assert!(Source::parse("src/a.rs", "fn a() {").is_err());
    }
}

//! The page that `kintsu verify --html` writes: a map of every file's blocks, with nothing to load from elsewhere.

mod cells;

use std::fmt::Write;

use kintsu::{BlockState, Damage, FileMap, Severity};

use self::cells::{Cells, Run, State};
use crate::text;

const STYLE: &str = include_str!("html/style.css");
const PATTERNS: &str = include_str!("html/patterns.svg");

/// Cells in a row of a map.
const COLUMNS: usize = 64;
/// Side of a cell, in the map's own units.
const SIDE: usize = 12;
/// Whole files that get a map of their own; further ones are only named.
const WHOLE_MAPS_MAX: usize = 200;
/// Damaged files that get a map; of further ones the list of places tells.
const DAMAGED_MAPS_MAX: usize = 500;
/// Names of whole files that are listed.
const NAMES_MAX: usize = 5_000;
/// Places that are listed.
const PLACES_MAX: usize = 2_000;

/// What the page shows.
pub struct Page<'a> {
    /// Of what.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// Each file.
    pub files: &'a [FileMap],
    /// Each damaged place.
    pub damage: &'a [Damage],
    /// Files that nothing names.
    pub leftover_files: &'a [String],
    /// Files of somebody else.
    pub foreign_files: &'a [String],
    /// Bytes read.
    pub bytes: u64,
}

/// A place in the list below the maps.
struct Listed {
    file: String,
    offset: u64,
    bytes: u64,
    state: State,
    what: String,
}

impl Page<'_> {
    /// The page, whole.
    pub fn write(&self) -> String {
        let mut out = String::new();
        let title = escaped(&self.title);
        let listed = self.listed();
        let _ = write!(
            out,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{PATTERNS}\n\
             <main>\n<header>\n<p class=\"of\">Kintsu verify</p>\n<h1>{title}</h1>\n",
            verdict(self.severity)
        );
        let _ = write!(
            out,
            "<p class=\"verdict {}\">{}</p>\n</header>\n",
            class(self.severity),
            explained(self.severity)
        );
        self.summary(&mut out, &listed);
        legend(&mut out);
        self.maps(&mut out, &listed);
        places(&mut out, &listed);
        names(
            &mut out,
            "Left over",
            "A name of Kintsu's, and nothing names it.",
            self.leftover_files,
        );
        names(
            &mut out,
            "Foreign",
            "No file of Kintsu's; left alone.",
            self.foreign_files,
        );
        out.push_str("</main>\n</body>\n</html>\n");
        out
    }

    /// Every place that isn't whole, in the order of the page.
    fn listed(&self) -> Vec<Listed> {
        let of_file = |file: &FileMap| {
            let name = file.name.clone();
            let places = file.places.iter().filter_map(move |place| {
                let state = match place.state {
                    BlockState::Unused => return None,
                    BlockState::Mendable => State::Mendable,
                    BlockState::Damaged => State::Damaged,
                };
                Some(Listed {
                    file: name.clone(),
                    offset: place.offset,
                    bytes: place.bytes,
                    state,
                    what: place.what.clone(),
                })
            });
            places.collect::<Vec<_>>()
        };
        let mut listed: Vec<_> = self.files.iter().flat_map(of_file).collect();
        // Damage of what is no file of the store any more.
        for damage in self.damage {
            let name = damage
                .path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            if !self.files.iter().any(|file| file.name == name) {
                listed.push(Listed {
                    file: name.into_owned(),
                    offset: damage.offset,
                    bytes: damage.bytes,
                    state: State::Damaged,
                    what: damage.what.clone(),
                });
            }
        }
        listed
    }

    fn summary(&self, out: &mut String, listed: &[Listed]) {
        let count = |state| listed.iter().filter(|place| place.state == state).count() as u64;
        let figures = [
            ("files", text::count(self.files.len() as u64)),
            ("read", text::bytes(self.bytes)),
            ("healed places", text::count(count(State::Mendable))),
            ("lost places", text::count(count(State::Damaged))),
        ];
        out.push_str("<dl class=\"figures\">\n");
        for (name, figure) in figures {
            let _ = writeln!(out, "<div><dt>{name}</dt><dd>{figure}</dd></div>");
        }
        out.push_str("</dl>\n");
    }

    fn maps(&self, out: &mut String, listed: &[Listed]) {
        out.push_str("<section aria-labelledby=\"maps\">\n<h2 id=\"maps\">Files</h2>\n");
        let is_bad = |file: &&FileMap| {
            file.is_missing
                || file
                    .places
                    .iter()
                    .any(|place| place.state != BlockState::Unused)
        };
        let mut first = 0;
        let (mut bad_maps, mut whole_maps) = (0, 0);
        let mut unmapped = Vec::new();
        for file in self.files {
            let is_bad = is_bad(&file);
            let (maps, most) = match is_bad {
                true => (&mut bad_maps, DAMAGED_MAPS_MAX),
                false => (&mut whole_maps, WHOLE_MAPS_MAX),
            };
            let places = file.places.iter();
            let places = places
                .filter(|place| place.state != BlockState::Unused)
                .count();
            if *maps < most {
                *maps += 1;
                map(out, file, first, listed);
            } else {
                unmapped.push(file.name.clone());
            }
            first += places;
        }
        if !unmapped.is_empty() {
            let _ = write!(
                out,
                "<details><summary>{} without a map here</summary>\n<ul class=\"names\">\n",
                text::plural(unmapped.len() as u64, "file")
            );
            for name in unmapped.iter().take(NAMES_MAX) {
                let _ = writeln!(out, "<li>{}</li>", escaped(name));
            }
            more(out, "li", unmapped.len(), NAMES_MAX);
            out.push_str("</ul>\n</details>\n");
        }
        out.push_str("</section>\n");
    }
}

/// The map of one file, whose places are listed from `first` on.
fn map(out: &mut String, file: &FileMap, first: usize, listed: &[Listed]) {
    let name = escaped(&file.name);
    let cells = Cells::of(file);
    let _ = write!(
        out,
        "<article class=\"file\">\n<h3>{name}</h3>\n<p class=\"size\">{}{}</p>\n",
        match file.is_missing {
            true => "missing".to_owned(),
            false => text::bytes(file.bytes),
        },
        match cells.unit_bytes {
            4096 => String::new(),
            bytes => format!(
                ", {} KiB a square; one bad block colours its square",
                bytes >> 10
            ),
        }
    );
    let rows = cells.states.len().div_ceil(COLUMNS).max(1);
    let columns = cells.states.len().clamp(1, COLUMNS);
    let (width, height) = (columns * SIDE, rows * SIDE);
    let _ = writeln!(
        out,
        "<svg role=\"group\" aria-label=\"{name}: {}\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">",
        cells.in_words()
    );
    for run in cells.runs() {
        draw(out, file, &cells, &run, first, listed.len());
    }
    out.push_str("</svg>\n</article>\n");
}

fn draw(out: &mut String, file: &FileMap, cells: &Cells, run: &Run, first: usize, listed: usize) {
    let from = run.from as u64 * cells.unit_bytes;
    let to = (run.to as u64 * cells.unit_bytes).min(file.bytes);
    let mut title = format!(
        "{}: {} at bytes {from} to {to}",
        file.name,
        run.state.word()
    );
    let place = cells::place_in(file, from, to, run.state);
    if let Some((number, place)) = place {
        if !place.what.is_empty() {
            let _ = write!(title, ": {}", place.what);
        }
        let target = first + number;
        if target < PLACES_MAX.min(listed) && run.state.is_bad() {
            let _ = write!(
                out,
                "<a href=\"#place-{target}\" aria-label=\"{}\">",
                escaped(&title)
            );
        }
    }
    let is_link = place.is_some_and(|(number, _)| first + number < PLACES_MAX.min(listed));
    let is_link = is_link && run.state.is_bad();
    let tag = if is_link { "" } else { "<g>" };
    let _ = write!(out, "{tag}<title>{}</title>", escaped(&title));
    let _ = write!(out, "<path class=\"{}\" d=\"", run.state.class());
    for row in run.from / COLUMNS..=(run.to - 1) / COLUMNS {
        let start = run.from.max(row * COLUMNS) - row * COLUMNS;
        let end = run.to.min((row + 1) * COLUMNS) - row * COLUMNS;
        let is_full = start == 0 && end == COLUMNS;
        let full_to = run.to / COLUMNS;
        if is_full && row > run.from.div_ceil(COLUMNS) {
            continue;
        }
        // Whole rows are one rectangle.
        let rows = if is_full { full_to - row } else { 1 };
        let _ = write!(
            out,
            "M{} {}h{}v{}h-{}z",
            start * SIDE,
            row * SIDE,
            (end - start) * SIDE,
            rows * SIDE,
            (end - start) * SIDE
        );
    }
    out.push_str("\"/>");
    out.push_str(if is_link { "</a>\n" } else { "</g>\n" });
}

fn legend(out: &mut String) {
    out.push_str("<section aria-labelledby=\"legend\">\n<h2 id=\"legend\">Legend</h2>\n<ul class=\"legend\">\n");
    for (state, words) in [
        (State::Whole, "as it was written"),
        (
            State::Mendable,
            "gold seam: damaged, and put together again from parity or the other copy; nothing is lost",
        ),
        (
            State::Damaged,
            "crossed out: damaged beyond repair, or missing",
        ),
        (State::Unused, "outline: room for what is to come"),
    ] {
        let _ = writeln!(
            out,
            "<li><svg width=\"{SIDE}\" height=\"{SIDE}\" viewBox=\"0 0 {SIDE} {SIDE}\" aria-hidden=\"true\">\
             <path class=\"{}\" d=\"M0 0h{SIDE}v{SIDE}h-{SIDE}z\"/></svg> <b>{}</b> {words}</li>",
            state.class(),
            state.word()
        );
    }
    out.push_str("</ul>\n<p class=\"hint\">A square is a block of 4 KiB, unless its file says otherwise. Point at \
                  one, or go from one damaged place to the next with the Tab key, to see what it is; Enter goes to \
                  it in the list.</p>\n</section>\n");
}

fn places(out: &mut String, listed: &[Listed]) {
    if listed.is_empty() {
        return;
    }
    out.push_str(
        "<section aria-labelledby=\"places\">\n<h2 id=\"places\">Damaged places</h2>\n<div class=\"wide\">\n<table>\n\
         <thead><tr><th scope=\"col\">state</th><th scope=\"col\">file</th><th scope=\"col\" class=\"number\">offset</th>\
         <th scope=\"col\" class=\"number\">bytes</th><th scope=\"col\">what</th></tr></thead>\n<tbody>\n",
    );
    for (number, place) in listed.iter().enumerate().take(PLACES_MAX) {
        let _ = writeln!(
            out,
            "<tr id=\"place-{number}\"><td class=\"state\"><span class=\"mark {}\">{}</span></td><td>{}</td>\
             <td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}</td></tr>",
            place.state.class(),
            place.state.word(),
            escaped(&place.file),
            text::count(place.offset),
            text::count(place.bytes),
            escaped(&place.what)
        );
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    more(out, "p", listed.len(), PLACES_MAX);
    out.push_str("</section>\n");
}

fn names(out: &mut String, title: &str, what: &str, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<section>\n<h2>{title}</h2>\n<p>{what}</p>\n<ul class=\"names\">\n"
    );
    for name in names.iter().take(NAMES_MAX) {
        let _ = writeln!(out, "<li>{}</li>", escaped(name));
    }
    more(out, "li", names.len(), NAMES_MAX);
    out.push_str("</ul>\n</section>\n");
}

fn more(out: &mut String, tag: &str, there: usize, shown: usize) {
    if let Some(rest @ 1..) = there.checked_sub(shown) {
        let _ = writeln!(out, "<{tag}>and {} more</{tag}>", text::count(rest as u64));
    }
}

fn verdict(severity: Severity) -> &'static str {
    match severity {
        Severity::Whole => "whole",
        Severity::Mendable => "healed",
        Severity::Damaged => "damaged",
        Severity::Unopenable => "can't be opened",
    }
}

fn class(severity: Severity) -> &'static str {
    match severity {
        Severity::Whole => "whole",
        Severity::Mendable => "mendable",
        Severity::Damaged | Severity::Unopenable => "damaged",
    }
}

fn explained(severity: Severity) -> &'static str {
    match severity {
        Severity::Whole => "Whole: everything is as it was written.",
        Severity::Mendable => {
            "Healed: something isn't as it was written, and all of it can be put together again. Nothing is lost."
        }
        Severity::Damaged => {
            "Damaged: something is lost. What needs it is refused; all else is served."
        }
        Severity::Unopenable => "Damaged: something is lost, and the store can't be opened.",
    }
}

/// Text as a page may hold it: a file's name can be anything.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Also those that change the direction of text.
            c if c.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c) =>
            {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

//! A line of the journal.
//!
//! Time (microseconds since 1970), outcome, means, file, places (`offset+bytes`, with commas between them; `-`:
//! none), what it was, and ` #` with XXH3-64 of all before it in 16 hexadecimal
//! digits. What it was is text without line ends, the other fields are words, and one blank lies between two.

use std::fmt;

use crate::codec::payload_hash;

/// How many places a line names.
const PLACES_MAX: usize = 64;
/// How much it says of what it was, in bytes.
const WHAT_BYTES_MAX: usize = 1024;

/// What became of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is as it was written again.
    Mended,
    /// Nothing has what was lost; what isn't lost is served.
    Lost,
}

/// Where the right bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Means {
    /// The file's own parity.
    Parity,
    /// Another copy of the same file.
    Copy,
    /// Memory, which had it still.
    Memory,
    /// From nowhere.
    None,
}

/// A line of the journal: damage, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// When, in microseconds since 1970.
    pub time_us: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// How.
    pub means: Means,
    /// The file, in the store's folder.
    pub file: String,
    /// The damaged places, as offset and length in bytes; none if they aren't known. The first 64 of them.
    pub places: Vec<(u64, u64)>,
    /// What it was.
    pub what: String,
}

impl Outcome {
    const ALL: [(Self, &'static str); 2] = [(Self::Mended, "mended"), (Self::Lost, "lost")];
}

impl Means {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Parity, "parity"),
        (Self::Copy, "copy"),
        (Self::Memory, "memory"),
        (Self::None, "none"),
    ];
}

fn word<T: PartialEq>(all: &[(T, &'static str)], value: &T) -> &'static str {
    let found = all.iter().find(|(other, _)| other == value);
    found.map_or("", |(_, word)| word)
}

fn named<T: Copy>(all: &[(T, &'static str)], word: &str) -> Option<T> {
    let found = all.iter().find(|(_, other)| *other == word);
    found.map(|(value, _)| *value)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&Self::ALL, self))
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&Self::ALL, self))
    }
}

impl Repair {
    /// A line to be written.
    pub(crate) fn new(time_us: u64, outcome: Outcome, means: Means, file: &str) -> Self {
        Self {
            time_us,
            outcome,
            means,
            file: file.to_owned(),
            places: Vec::new(),
            what: String::new(),
        }
    }

    /// With the places that were damaged, as far as a line names them.
    pub(crate) fn at(mut self, places: impl Iterator<Item = (u64, u64)>) -> Self {
        self.places = places.take(PLACES_MAX).collect();
        self
    }

    /// With what it was.
    pub(crate) fn because(mut self, what: &str) -> Self {
        let line = what.chars().map(|c| if c.is_control() { ' ' } else { c });
        self.what = line.collect();
        let end = (0..=WHAT_BYTES_MAX.min(self.what.len())).rev();
        let end = end.into_iter().find(|end| self.what.is_char_boundary(*end));
        self.what.truncate(end.unwrap_or(0));
        self
    }

    /// The line, with its end.
    pub(super) fn encode(&self) -> String {
        let places: Vec<String> = self
            .places
            .iter()
            .map(|(offset, bytes)| format!("{offset}+{bytes}"))
            .collect();
        let places = match places.is_empty() {
            true => "-".to_owned(),
            false => places.join(","),
        };
        let line = format!(
            "{} {} {} {} {places} {}",
            self.time_us, self.outcome, self.means, self.file, self.what
        );
        let sum = payload_hash(line.as_bytes());
        format!("{line} #{sum:016x}\n")
    }

    /// What a line says, without its end, if it is as it was written.
    pub(super) fn decode(line: &str) -> Option<Self> {
        let (line, sum) = line.rsplit_once(" #")?;
        if sum != format!("{:016x}", payload_hash(line.as_bytes())) {
            return None;
        }
        let mut words = line.splitn(6, ' ');
        let mut word = || words.next();
        let time_us = word()?.parse().ok()?;
        let outcome = named(&Outcome::ALL, word()?)?;
        let means = named(&Means::ALL, word()?)?;
        let file = word()?.to_owned();
        let places = match word()? {
            "-" => Vec::new(),
            places => {
                let place = |place: &str| {
                    let (offset, bytes) = place.split_once('+')?;
                    Some((offset.parse().ok()?, bytes.parse().ok()?))
                };
                places.split(',').map(place).collect::<Option<Vec<_>>>()?
            }
        };
        let what = word()?.to_owned();
        Some(Self {
            time_us,
            outcome,
            means,
            file,
            places,
            what,
        })
    }
}

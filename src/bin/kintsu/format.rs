//! The two text formats of `load` and `export`: one record a line, read back exactly as written.
//!
//! - TSV: key, tab, value, both with the escapes of [`crate::escape`].
//! - JSON lines: `{"key": K, "value": V}`, where each is a string, or `{"base64": "…"}` for bytes that
//!   aren't UTF-8.

use std::io::{self, BufRead, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use kintsu::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use serde_json::{Value, json};

use crate::escape;

/// Longest line that is read: a key and a value of the greatest length, every byte escaped in the
/// longest form (`\u00HH` in JSON), and some room for what stands around them.
const LINE_BYTES_MAX: u64 = 6 * (KEY_BYTES_MAX as u64 + VALUE_BYTES_MAX as u64) + 4096;

/// How records are written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// KEY, tab, VALUE a line, with escapes
    Tsv,
    /// {"key": …, "value": …} a line; {"base64": …} for bytes that aren't UTF-8
    Jsonl,
}

/// A key and its value.
pub type Record = (Vec<u8>, Vec<u8>);

impl Format {
    /// The format that a file's name stands for: `.jsonl`, `.ndjson` and `.json` are JSON lines,
    /// everything else is TSV.
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl" | "ndjson" | "json") => Self::Jsonl,
            _ => Self::Tsv,
        }
    }

    /// Appends a record to `line`, line feed included.
    pub fn write(self, key: &[u8], value: &[u8], line: &mut String) {
        match self {
            Self::Tsv => {
                escape::escape_into(key, line);
                line.push('\t');
                escape::escape_into(value, line);
            }
            Self::Jsonl => {
                let record = json!({ "key": to_json(key), "value": to_json(value) });
                line.push_str(&record.to_string());
            }
        }
        line.push('\n');
    }

    /// The record in a line; `None` if the line stands for none (a blank line between JSON lines).
    ///
    /// # Errors
    /// What is wrong with the line, in words.
    pub fn read(self, line: &[u8]) -> Result<Option<Record>, String> {
        let record = match self {
            Self::Tsv => Some(read_tsv(line)?),
            Self::Jsonl if line.trim_ascii().is_empty() => None,
            Self::Jsonl => Some(read_json(line)?),
        };
        if let Some((key, value)) = &record {
            check(key, value)?;
        }
        Ok(record)
    }
}

/// Checks a record's lengths.
///
/// # Errors
/// What is too long, in words.
pub fn check(key: &[u8], value: &[u8]) -> Result<(), String> {
    if key.len() > KEY_BYTES_MAX {
        return Err(format!(
            "the key has {} bytes; the limit is {KEY_BYTES_MAX}",
            key.len()
        ));
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!(
            "the value has {} bytes; the limit is {VALUE_BYTES_MAX}",
            value.len()
        ));
    }
    Ok(())
}

fn read_tsv(line: &[u8]) -> Result<Record, String> {
    let mut fields = line.split(|byte| *byte == b'\t');
    match (fields.next(), fields.next(), fields.next()) {
        (Some(key), Some(value), None) => Ok((escape::unescape(key)?, escape::unescape(value)?)),
        (_, None, _) => Err("no tab between key and value".into()),
        _ => Err("more than one tab; a tab within a key or value is written \\t".into()),
    }
}

fn read_json(line: &[u8]) -> Result<Record, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| {
        // The parser counts lines within what it was given, which is one line.
        format!(
            "not JSON: {}",
            error.to_string().replace(" at line 1 column", " at column")
        )
    })?;
    let Value::Object(mut fields) = value else {
        return Err("not a JSON object".into());
    };
    let mut field = |name: &str| match fields.remove(name) {
        Some(value) => from_json(name, value),
        None => Err(format!("no \"{name}\"")),
    };
    let record = (field("key")?, field("value")?);
    match fields.keys().next() {
        Some(name) => Err(format!(
            "unknown field \"{}\"",
            escape::escape(name.as_bytes())
        )),
        None => Ok(record),
    }
}

/// Bytes as JSON: a string if they are UTF-8, else an object with their base64.
pub fn to_json(bytes: &[u8]) -> Value {
    match str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

fn from_json(name: &str, value: Value) -> Result<Vec<u8>, String> {
    let mut object = match value {
        Value::String(text) => return Ok(text.into_bytes()),
        Value::Object(object) => object,
        _ => {
            return Err(format!(
                "\"{name}\" is neither a string nor {{\"base64\": …}}"
            ));
        }
    };
    match (object.remove("base64"), object.is_empty()) {
        (Some(Value::String(text)), true) => STANDARD
            .decode(text)
            .map_err(|error| format!("\"{name}\" is no base64: {error}")),
        _ => Err(format!(
            "\"{name}\" is neither a string nor {{\"base64\": …}}"
        )),
    }
}

/// The lines of an input, numbered from 1.
pub struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    /// The number of the line read last.
    pub number: u64,
    /// Bytes read so far.
    pub bytes: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `reader`.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            line: Vec::new(),
            number: 0,
            bytes: 0,
        }
    }

    /// The next line without its end (a line feed, or a carriage return and a line feed).
    pub fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let mut limited = (&mut self.reader).take(LINE_BYTES_MAX);
        let bytes = limited.read_until(b'\n', &mut self.line)?;
        if bytes == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.bytes += bytes as u64;
        let line = match self.line.strip_suffix(b"\n") {
            Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
            None if bytes as u64 == LINE_BYTES_MAX => {
                let what = format!("a line of more than {LINE_BYTES_MAX} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            None => &self.line,
        };
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Format; 2] = [Format::Tsv, Format::Jsonl];

    #[test]
    fn any_bytes_come_back_from_either_format() {
        let all: Vec<u8> = (0..=255).collect();
        let samples: [&[u8]; 7] = [
            b"",
            b"plain",
            "Grüße 🏺".as_bytes(),
            b"\t\n\r\\\"",
            b"\xff",
            b"ends\r",
            &all,
        ];
        for format in BOTH {
            for key in samples {
                for value in samples {
                    let mut line = String::new();
                    format.write(key, value, &mut line);
                    let mut lines = Lines::new(line.as_bytes());
                    let read = format
                        .read(lines.next().unwrap().unwrap())
                        .unwrap()
                        .unwrap();
                    assert_eq!(read, (key.to_vec(), value.to_vec()), "{line}");
                    assert_eq!(lines.next().unwrap(), None);
                }
            }
        }
    }

    #[test]
    fn malformed_lines_are_named_and_never_guessed_at() {
        let tsv: [&[u8]; 5] = [b"", b"no tab", b"a\tb\tc", b"a\\\tb", b"a\t\\x0"];
        for line in tsv {
            assert!(Format::Tsv.read(line).is_err(), "{line:?}");
        }
        let jsonl = [
            "{",
            "[]",
            "1",
            "null",
            r#"{"key":"a"}"#,
            r#"{"value":"a"}"#,
            r#"{"key":1,"value":"a"}"#,
            r#"{"key":{"base64":"!"},"value":"a"}"#,
            r#"{"key":{"base64":"YQ==","x":1},"value":"a"}"#,
            r#"{"key":"a","value":"b","more":1}"#,
            r#"{"key":"a","value":"b"} x"#,
        ];
        for line in jsonl {
            assert!(Format::Jsonl.read(line.as_bytes()).is_err(), "{line}");
        }
        assert_eq!(Format::Jsonl.read(b"  \t"), Ok(None));
    }

    #[test]
    fn lengths_are_checked() {
        let mut line = vec![b'k'; KEY_BYTES_MAX];
        line.extend(b"\tv");
        assert!(Format::Tsv.read(&line).is_ok());
        line.insert(0, b'k');
        assert!(Format::Tsv.read(&line).unwrap_err().contains("65537"));
    }

    #[test]
    fn lines_are_counted_and_may_lack_their_end() {
        let mut lines = Lines::new(&b"a\tb\r\nc\td"[..]);
        assert_eq!(lines.next().unwrap(), Some(&b"a\tb"[..]));
        assert_eq!(lines.next().unwrap(), Some(&b"c\td"[..]));
        assert_eq!((lines.number, lines.bytes), (2, 8));
        assert_eq!(lines.next().unwrap(), None);
    }

    #[test]
    fn names_stand_for_formats() {
        assert_eq!(Format::of(Path::new("a.jsonl")), Format::Jsonl);
        assert_eq!(Format::of(Path::new("a.tsv")), Format::Tsv);
        assert_eq!(Format::of(Path::new("-")), Format::Tsv);
    }
}

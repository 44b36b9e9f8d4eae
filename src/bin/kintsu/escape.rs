//! The escapes of `scan`, of TSV files and of `--escaped` arguments.
//!
//! `\t`, `\n`, `\r` and `\\` stand for tab, line feed, carriage return and backslash, `\xHH` for the
//! byte with that hexadecimal number. Everything else stands for itself. Written out, a byte is
//! escaped if it isn't part of printable UTF-8; read back, any byte may be written either way.

/// Whether a terminal shows the character as itself: no control character, and none that breaks a
/// line or turns the direction of the text around.
fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Appends the escaped form of `bytes` to `out`. It holds no tab and no line feed.
pub fn escape_into(bytes: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\t' => out.push_str("\\t"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\\' => out.push_str("\\\\"),
                _ if is_printable(character) => out.push(character),
                _ => push_hex(character.encode_utf8(&mut [0; 4]).as_bytes(), out),
            }
        }
        push_hex(chunk.invalid(), out);
    }
}

fn push_hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        out.push_str("\\x");
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
}

/// The escaped form of `bytes`.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    escape_into(bytes, &mut out);
    out
}

/// The bytes that `text` stands for.
///
/// # Errors
/// A backslash that doesn't begin an escape, in words.
pub fn unescape(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let (plain, escaped) = rest.split_at(at);
        bytes.extend_from_slice(plain);
        let (byte, used) = one(escaped)?;
        bytes.push(byte);
        rest = escaped.get(used..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest);
    Ok(bytes)
}

/// The byte that the escape at the beginning of `text` stands for, and the escape's length.
fn one(text: &[u8]) -> Result<(u8, usize), String> {
    match text {
        [_, b't', ..] => Ok((b'\t', 2)),
        [_, b'n', ..] => Ok((b'\n', 2)),
        [_, b'r', ..] => Ok((b'\r', 2)),
        [_, b'\\', ..] => Ok((b'\\', 2)),
        [_, b'x', high, low, ..] => match (digit(*high), digit(*low)) {
            (Some(high), Some(low)) => Ok((high << 4 | low, 4)),
            _ => Err(bad(&text[..4])),
        },
        _ => Err(bad(text.get(..2).unwrap_or(text))),
    }
}

fn digit(character: u8) -> Option<u8> {
    char::from(character)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

fn bad(found: &[u8]) -> String {
    format!(
        "{} is no escape; known are \\t \\n \\r \\\\ and \\xHH",
        String::from_utf8_lossy(found)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back_and_nothing_breaks_the_line() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let bytes = [first, second, b'x', first];
                let escaped = escape(&bytes);
                assert!(!escaped.contains(char::is_control), "{escaped:?}");
                assert_eq!(unescape(escaped.as_bytes()), Ok(bytes.to_vec()));
            }
        }
    }

    #[test]
    fn printable_text_stands_for_itself() {
        assert_eq!(escape("Grüße, 世界 🏺".as_bytes()), "Grüße, 世界 🏺");
        assert_eq!(
            escape(b"a\tb\nc\rd\\e\0\xff"),
            "a\\tb\\nc\\rd\\\\e\\x00\\xff"
        );
        assert_eq!(
            escape("\u{85}\u{202e}".as_bytes()),
            "\\xc2\\x85\\xe2\\x80\\xae"
        );
    }

    #[test]
    fn what_is_no_escape_is_refused() {
        for text in ["\\", "a\\", "\\q", "\\x", "\\x1", "\\xg0", "\\x0g", "\\X00"] {
            assert!(unescape(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(unescape(b"\\x4A\\x4a"), Ok(b"JJ".to_vec()));
        assert_eq!(unescape(b"\xff\x00"), Ok(b"\xff\x00".to_vec()));
    }
}

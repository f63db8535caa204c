//! The one text form of kernel bytes: lossless, one line, valid UTF-8. Not a YAML or JSON quoting, which come on
//! top. May call: nothing but the standard library.
//!
//! Printable UTF-8 stays as it is. A backslash, a control character, a character that reorders or hides text, and
//! every byte that is not UTF-8 become `\xNN`, one escape per byte. The mapping is injective: two different byte
//! strings never share a text.

use std::fmt::Write as _;

use thiserror::Error;

/// A text that [`escape`] could not have made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected \\xNN with two hexadecimal digits at byte {offset}, found {found:?}")]
pub struct UnescapeError {
    /// Byte offset of the backslash.
    pub offset: usize,
    /// What stands there instead, at most four characters.
    pub found: String,
}

/// Turns kernel bytes into text that is always one line of valid UTF-8.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    escape_onto(&mut text, bytes);
    text
}

/// As [`escape`], at the end of a text.
pub fn escape_onto(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        // Nearly all there is.
        let is_ascii = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'\\';
        let plain = rest.bytes().position(|byte| !is_ascii(&byte)).unwrap_or(rest.len());
        text.push_str(&rest[..plain]);
        rest = &rest[plain..];
        for character in rest.chars() {
            if is_plain(character) {
                text.push(character);
            } else {
                let mut buffer = [0; 4];
                push_escaped(text, character.encode_utf8(&mut buffer).as_bytes());
            }
        }
        push_escaped(text, chunk.invalid());
    }
}

/// Turns the text back into the bytes that [`escape`] was given.
///
/// # Errors
/// When a backslash does not begin `\xNN`.
pub fn unescape(text: &str) -> Result<Vec<u8>, UnescapeError> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        let Some(byte) = escaped_byte(&bytes[at..]) else {
            return Err(UnescapeError { offset: at, found: text[at..].chars().take(4).collect() });
        };
        out.push(byte);
        at += ESCAPE_LEN;
    }
    Ok(out)
}

/// The length in bytes of one `\xNN`.
pub(crate) const ESCAPE_LEN: usize = 4;

/// The byte that the escape at the start of `bytes` stands for, if one stands there.
fn escaped_byte(bytes: &[u8]) -> Option<u8> {
    let escape = bytes.get(..ESCAPE_LEN)?;
    if escape[1] != b'x' {
        return None;
    }
    let high = char::from(escape[2]).to_digit(16)?;
    let low = char::from(escape[3]).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// The length in bytes of the unit that starts `text`: one escape or one character. Zero only for an empty text.
pub(crate) fn unit_len(text: &str) -> usize {
    if text.starts_with('\\') {
        return ESCAPE_LEN.min(text.len());
    }
    text.chars().next().map_or(0, char::len_utf8)
}

/// Whether a character stands for itself.
fn is_plain(character: char) -> bool {
    !(character == '\\' || character.is_control() || hides_text(character))
}

/// Characters that break a line, reorder what stands around them, or are no characters at all: a path made of them
/// would look like another one in a review.
fn hides_text(character: char) -> bool {
    matches!(character,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        || (u32::from(character) & 0xfffe) == 0xfffe
}

fn push_escaped(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("writing to a string cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::{escape, unescape};

    fn check(bytes: &[u8], text: &str) {
        assert_eq!(escape(bytes), text);
        assert_eq!(unescape(text).unwrap(), bytes);
    }

    #[test]
    fn printable_text_stays_and_the_rest_is_escaped_per_byte() {
        check(b"/usr/bin/ls", "/usr/bin/ls");
        check("/tmp/é ü".as_bytes(), "/tmp/é ü");
        check(b"a\nb\t\x7f", "a\\x0ab\\x09\\x7f");
        check(b"back\\slash", "back\\x5cslash");
        check(b"\\x0a", "\\x5cx0a");
        check(b"\xff\xc3", "\\xff\\xc3");
        check("a\u{202e}b".as_bytes(), "a\\xe2\\x80\\xaeb");
        check("\u{fffe}".as_bytes(), "\\xef\\xbf\\xbe");
        check(b"", "");
    }

    #[test]
    fn a_text_that_escape_cannot_make_is_refused_with_its_place() {
        for (text, offset) in [("\\", 0), ("ab\\n", 2), ("\\x", 0), ("\\x1", 0), ("\\xg0", 0), ("\\X00", 0)] {
            assert_eq!(unescape(text).unwrap_err().offset, offset, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn escape_is_lossless_and_one_line(bytes: Vec<u8>) {
            let text = escape(&bytes);
            proptest::prop_assert!(!text.chars().any(char::is_control));
            proptest::prop_assert_eq!(unescape(&text).unwrap(), bytes);
        }
    }
}

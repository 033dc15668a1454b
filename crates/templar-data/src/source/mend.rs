//! JSON as Python writes it, made JSON as everybody reads it.
//!
//! Python's `json.dumps` writes `NaN` and `Infinity` for numbers that JSON does not have, and half of a character (a
//! lone surrogate) as an escape that stands for nothing. pyarrow, pandas and datasets read both. So a line that does
//! not parse is mended and parsed once more: the numbers become `null`, and each half becomes U+FFFD.

/// The replacement character, as an escape of six bytes and as UTF-8.
const ESCAPE: &[u8] = b"\\ufffd";
const UTF8: &[u8] = "\u{fffd}".as_bytes();

/// The words that become `null`.
const WORDS: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];

/// A mended line.
pub(super) struct Mended {
    pub(super) json: Vec<u8>,
    /// Whether half characters were replaced.
    pub(super) halves: bool,
}

/// Mends a line; none where there is nothing to mend.
pub(super) fn mend(line: &[u8]) -> Option<Mended> {
    let mut json = Vec::with_capacity(line.len());
    let (mut halves, mut words, mut in_string) = (false, false, false);
    let mut rest = line;
    while let Some(&byte) = rest.first() {
        if !in_string {
            if let Some(word) = WORDS.iter().find(|word| rest.starts_with(word)) {
                json.extend_from_slice(b"null");
                rest = &rest[word.len()..];
                words = true;
                continue;
            }
            in_string = byte == b'"';
            json.push(byte);
            rest = &rest[1..];
            continue;
        }
        // Inside a string: an escape, half a character in bytes, or a plain byte.
        let (written, length) = match rest {
            [b'\\', b'u', ..] => match (escaped(rest), escaped(rest.get(6..).unwrap_or_default())) {
                (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (&rest[..12], 12),
                (Some(0xd800..=0xdfff), _) => (ESCAPE, 6),
                _ => (&rest[..2], 2),
            },
            [b'\\', _, ..] => (&rest[..2], 2),
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => (UTF8, 3),
            _ => {
                in_string = byte != b'"';
                (&rest[..1], 1)
            }
        };
        halves |= written == ESCAPE && &rest[..length] != ESCAPE || written == UTF8 && &rest[..length] != UTF8;
        json.extend_from_slice(written);
        rest = &rest[length..];
    }
    (halves || words).then_some(Mended { json, halves })
}

/// The code of an escape, such as `\u00e9`, at the beginning of `rest`.
fn escaped(rest: &[u8]) -> Option<u32> {
    let digits = rest.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |code, &digit| Some(code * 16 + char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(line: &[u8]) -> Option<(String, bool)> {
        mend(line).map(|mended| (String::from_utf8(mended.json).unwrap(), mended.halves))
    }

    #[test]
    fn numbers_that_json_lacks_become_null_outside_of_strings() {
        let found = mended(br#"{"NaN":[NaN,-Infinity,Infinity,1],"b":"NaN \" Infinity"}"#);
        assert_eq!(found, Some((r#"{"NaN":[null,null,null,1],"b":"NaN \" Infinity"}"#.to_owned(), false)));
        assert_eq!(mended(br#"{"a":"NaN"}"#), None);
    }

    #[test]
    fn half_characters_are_replaced_and_whole_ones_stay() {
        let found = mended(br#"["\ud83d\ude00","\ud83d","\ude00x","\ud83d\u0041","\\ud83d","\ud83d\n"]"#).unwrap();
        let expected = r#"["\ud83d\ude00","\ufffd","\ufffdx","\ufffd\u0041","\\ud83d","\ufffd\n"]"#;
        assert_eq!(found, (expected.to_owned(), true));
        assert_eq!(mended(b"\"a\xed\xa0\xbdb\"").unwrap(), ("\"a\u{fffd}b\"".to_owned(), true));
        // Whole characters, and a true replacement character, are nothing to mend.
        assert_eq!(mended("[\"\\ud83d\\ude00\",\"\\ufffd\",\"\u{fffd}\",\"\u{d7ff}\"]".as_bytes()), None);
    }

    #[test]
    fn any_bytes_are_read_to_their_end() {
        for line in [&b"\"\\"[..], b"\"\\u", b"\"\\ud83d", b"\"\\ud83d\\u12", b"\"\xed", b"\"\xed\xa0", b"N", b"-"] {
            let _ = mend(line);
        }
    }
}

//! What a person types for an object: a hash, a prefix of one, `@` or `wN`.
//!
//! Any unique prefix of four or more digits names an object; one that fits several is an error that lists them, one that
//! fits none is not found.

use std::collections::BTreeSet;
use std::str::FromStr;

use templar_manifest::{Hash, WindowIndex};

use crate::error::{Code, CommandError};

/// Digits that a prefix has at least.
const MIN_DIGITS: usize = 4;

/// As many candidates as an ambiguous prefix lists.
const MAX_LISTED: usize = 8;

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    /// All 64 digits.
    Whole(Hash),
    /// The first digits, lowercase.
    Prefix(String),
    /// `@`: the current checkpoint.
    Current,
    /// `wN`: window N.
    Window(WindowIndex),
}

/// A text is none of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotAReference(String);

impl std::error::Error for NotAReference {}

impl std::fmt::Display for NotAReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} is neither a hash, nor {MIN_DIGITS} or more digits of one, nor @, nor a window such as w0",
            self.0
        )
    }
}

impl FromStr for Reference {
    type Err = NotAReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotAReference(text.to_owned());
        if text == "@" {
            return Ok(Self::Current);
        }
        if let Some(number) = text.strip_prefix('w') {
            return window(number).map(Self::Window).ok_or_else(wrong);
        }
        if let Ok(hash) = text.parse() {
            return Ok(Self::Whole(hash));
        }
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits && (MIN_DIGITS..64).contains(&text.len()) {
            return Ok(Self::Prefix(text.to_ascii_lowercase()));
        }
        Err(wrong())
    }
}

fn window(number: &str) -> Option<WindowIndex> {
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| number.parse().ok().map(WindowIndex)).flatten()
}

/// A window on the command line: `3` or `w3`.
pub(crate) fn parse_window(text: &str) -> Result<WindowIndex, String> {
    window(text.strip_prefix('w').unwrap_or(text)).ok_or_else(|| format!("{text:?} is not a window: expected 3 or w3"))
}

/// The one of `known` that begins with `prefix`.
pub(crate) fn resolve(prefix: &str, known: &BTreeSet<Hash>) -> Result<Hash, CommandError> {
    let mut found = known.iter().filter(|hash| hash.to_string().starts_with(prefix));
    let Some(first) = found.next() else {
        return Err(CommandError::says(
            Code::NotFound,
            format_args!("nothing here has a hash that begins with {prefix}"),
        ));
    };
    let others: Vec<&Hash> = found.collect();
    if others.is_empty() {
        return Ok(*first);
    }
    let mut listed: Vec<String> = std::iter::once(first).chain(others).map(ToString::to_string).collect();
    let more = listed.len().saturating_sub(MAX_LISTED);
    listed.truncate(MAX_LISTED);
    let dots = if more > 0 { format!("\nand {more} more") } else { String::new() };
    let text = format!("{prefix} is ambiguous; these begin with it:\n{}{dots}", listed.join("\n"));
    Err(CommandError::says(Code::Usage, text).hint("give more digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_apart() {
        let parse = |text: &str| text.parse::<Reference>();
        let hash = Hash::of(b"x");
        assert_eq!(parse(&hash.to_string()), Ok(Reference::Whole(hash)));
        assert_eq!(parse("ABCD"), Ok(Reference::Prefix("abcd".to_owned())));
        assert_eq!(parse("@"), Ok(Reference::Current));
        assert_eq!(parse("w12"), Ok(Reference::Window(WindowIndex(12))));
        for wrong in ["", "abc", "w", "w1x", "w+1", "wx", "xyzw", "@1", &"a".repeat(65)] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_window("w3"), Ok(WindowIndex(3)));
        assert_eq!(parse_window("3"), Ok(WindowIndex(3)));
        assert!(parse_window("w-3").is_err() && parse_window("ww3").is_err());
        assert!(parse_window("99999999999999999999").is_err());
    }

    #[test]
    fn prefixes_find_one_many_or_none() {
        let hash = |byte: u8, last: u8| {
            let mut bytes = [byte; 32];
            bytes[31] = last;
            Hash::from_bytes(bytes)
        };
        let known = BTreeSet::from([hash(0xaa, 1), hash(0xaa, 2), hash(0xbb, 1)]);
        assert_eq!(resolve("bbbb", &known).unwrap(), hash(0xbb, 1));
        assert_eq!(resolve(&hash(0xaa, 2).to_string(), &known).unwrap(), hash(0xaa, 2));
        assert_eq!(resolve("cccc", &known).unwrap_err().code(), Code::NotFound);
        let ambiguous = resolve("aaaa", &known).unwrap_err();
        assert_eq!(ambiguous.code(), Code::Usage);
        assert!(ambiguous.lines()[0].contains(&hash(0xaa, 1).to_string()));
        let many = (0..20).map(|last| hash(0xcc, last)).collect();
        assert!(resolve("cccc", &many).unwrap_err().lines()[0].ends_with("and 12 more"));
    }
}

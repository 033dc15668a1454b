//! The ways in which a person names an object: a hash, a prefix of one, `@` or `wN`.
//!
//! Any unique prefix of four or more hexadecimal digits names an object. A prefix that fits several objects is
//! an error that lists them; a prefix that fits none is not found.

use std::collections::BTreeSet;
use std::str::FromStr;

use templar_manifest::{Hash, WindowIndex};

/// The shortest prefix of a hash that is accepted, in digits.
pub const MIN_PREFIX_DIGITS: usize = 4;

/// The number of candidates that the error about an ambiguous prefix lists.
const MAX_LISTED: usize = 8;

/// A name of an object, as a person types it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A whole hash, 64 hexadecimal digits.
    Whole(Hash),
    /// The first digits of a hash, in lowercase.
    Prefix(String),
    /// `@`: the current checkpoint.
    Current,
    /// `wN`: the window with number N.
    Window(WindowIndex),
}

/// A text that names no object in any of the four ways.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a hash, nor {MIN_PREFIX_DIGITS} or more digits of one, nor @, nor a window such as w0")]
pub struct NotAReference(String);

/// The reason why a name does not stand for one thing in this home.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is no reference.
    #[error(transparent)]
    NotAReference(#[from] NotAReference),
    /// No known hash begins with the prefix.
    #[error("no object here has a hash that begins with {0}")]
    UnknownPrefix(String),
    /// Several known hashes begin with the prefix.
    #[error("{prefix} is ambiguous; these begin with it:\n{}", listed(candidates))]
    AmbiguousPrefix {
        /// The prefix that was typed.
        prefix: String,
        /// Every known hash that begins with it.
        candidates: Vec<Hash>,
    },
    /// The home has no run of this hash, prefix or name.
    #[error("this home has no run {0:?}")]
    UnknownRun(String),
    /// Several runs of the home have this name.
    #[error("{} runs here are called {name:?}:\n{}", candidates.len(), listed(candidates))]
    AmbiguousRun {
        /// The name that was typed.
        name: String,
        /// The runs that have it.
        candidates: Vec<Hash>,
    },
    /// The home has no dataset of this hash, prefix or name.
    #[error("this home has no dataset {0:?}")]
    UnknownDataset(String),
    /// Several datasets of the home have this name.
    #[error("{} datasets here are called {name:?}:\n{}", candidates.len(), listed(candidates))]
    AmbiguousDataset {
        /// The name that was typed.
        name: String,
        /// The datasets that have it.
        candidates: Vec<Hash>,
    },
    /// The text names no window and no record.
    #[error("{0:?} names no window")]
    NoWindow(String),
    /// `@` or `wN` was typed in a home without a run.
    #[error("{0} needs a run, and this home has none")]
    NeedsRun(String),
    /// The window is not closed yet.
    #[error("window {window} is not closed: {}", open_state(*open, *is_over))]
    NotClosed {
        /// The window that was asked for.
        window: WindowIndex,
        /// The open window, or the number of windows of a run that is over.
        open: WindowIndex,
        /// Whether the run has ended.
        is_over: bool,
    },
}

fn listed(candidates: &[Hash]) -> String {
    let shown: Vec<String> = candidates.iter().take(MAX_LISTED).map(ToString::to_string).collect();
    let more = candidates.len().saturating_sub(MAX_LISTED);
    let rest = if more > 0 { format!("\nand {more} more") } else { String::new() };
    format!("{}{rest}", shown.join("\n"))
}

fn open_state(open: WindowIndex, is_over: bool) -> String {
    if is_over { format!("the run ended before window {open}") } else { format!("window {open} is open") }
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
        if digits && (MIN_PREFIX_DIGITS..64).contains(&text.len()) {
            return Ok(Self::Prefix(text.to_ascii_lowercase()));
        }
        Err(wrong())
    }
}

fn window(number: &str) -> Option<WindowIndex> {
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| number.parse().ok().map(WindowIndex)).flatten()
}

/// Reads the number of a window, with or without the letter: `3` or `w3`.
///
/// # Errors
/// A sentence for the user, when the text is no window.
pub fn parse_window(text: &str) -> Result<WindowIndex, String> {
    window(text.strip_prefix('w').unwrap_or(text)).ok_or_else(|| format!("{text:?} is not a window: expected 3 or w3"))
}

/// Finds the one hash of `known` that begins with `prefix`.
///
/// # Errors
/// No hash, or more than one, begins with it.
pub fn resolve(prefix: &str, known: &BTreeSet<Hash>) -> Result<Hash, NameError> {
    let candidates: Vec<Hash> = known.iter().filter(|hash| hash.to_string().starts_with(prefix)).copied().collect();
    match candidates[..] {
        [] => Err(NameError::UnknownPrefix(prefix.to_owned())),
        [only] => Ok(only),
        _ => Err(NameError::AmbiguousPrefix { prefix: prefix.to_owned(), candidates }),
    }
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
        assert_eq!(resolve("bbbb", &known), Ok(hash(0xbb, 1)));
        assert_eq!(resolve(&hash(0xaa, 2).to_string(), &known), Ok(hash(0xaa, 2)));
        assert_eq!(resolve("cccc", &known), Err(NameError::UnknownPrefix("cccc".to_owned())));
        let ambiguous = resolve("aaaa", &known).unwrap_err();
        assert!(matches!(ambiguous, NameError::AmbiguousPrefix { .. }));
        assert!(ambiguous.to_string().contains(&hash(0xaa, 1).to_string()));
        let many = (0..20).map(|last| hash(0xcc, last)).collect();
        assert!(resolve("cccc", &many).unwrap_err().to_string().ends_with("and 12 more"));
    }
}

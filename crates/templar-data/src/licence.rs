//! The licence of a text: an SPDX expression that is checked before it goes into a manifest.
//!
//! A manifest is signed and read by programs, so its licence is one that a program understands. Identifiers are told
//! without regard to upper and lower case, as the SPDX specification asks, and are written as the list writes them. A
//! licence that has no identifier is written `LicenseRef-` and a name of one's own.

use spdx::error::Reason;
use spdx::flags::IS_DEPRECATED;
use spdx::identifiers::{EXCEPTIONS, LICENSES};
use spdx::{Expression, ParseError, ParseMode};

/// A licence is no SPDX expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the licence {text:?} is no SPDX expression: {reason}")]
pub struct LicenceError {
    /// The licence as it was given.
    pub text: String,
    /// The fault of the licence.
    pub reason: String,
    /// Identifiers that may be meant.
    pub meant: Vec<&'static str>,
}

/// Identifiers are compared so, and the rest of the list is left alone. An identifier of the list may be outdated, such
/// as `GPL-2.0`: its meaning is no less clear.
const MODE: ParseMode = ParseMode {
    allow_slash_as_or_operator: false,
    allow_imprecise_license_names: false,
    allow_postfix_plus_on_gpl: true,
    allow_deprecated: true,
    allow_unknown: false,
};

/// Checks a licence, and gives it with its identifiers as the list of SPDX writes them.
///
/// # Errors
/// The text is empty, or no SPDX expression, or says that nothing is known of the licence.
///
/// ```
/// use templar_data::checked_licence;
///
/// assert_eq!(checked_licence("mit OR apache-2.0").unwrap(), "MIT OR Apache-2.0");
/// assert_eq!(checked_licence("LicenseRef-house-rules").unwrap(), "LicenseRef-house-rules");
/// assert!(checked_licence("other").is_err());
/// ```
pub fn checked_licence(text: &str) -> Result<String, LicenceError> {
    let refused = |reason: String| LicenceError { text: text.to_owned(), reason, meant: meant(text) };
    if text.trim().is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    let licence = with_listed_spelling(text.trim());
    let expression = Expression::parse_mode(&licence, MODE).map_err(|error| refused(in_words(&error)))?;
    // The parser takes a reference without a name.
    if licence.split(|c: char| !is_word(c)).any(|word| word.ends_with("Ref-")) {
        return Err(refused("a name is missing after LicenseRef-".to_owned()));
    }
    if expression.requirements().any(|term| term.req.license.id().is_some_and(|id| id.name == NO_ASSERTION)) {
        return Err(refused(format!("{NO_ASSERTION} says that nothing is known of the licence")));
    }
    Ok(licence)
}

/// The fault of an expression. Its words are told by the text itself, since the parser's error has their place in it.
fn in_words(error: &ParseError) -> String {
    let word = error.original.get(error.span.clone()).unwrap_or_default().trim();
    let at = if word.is_empty() { "at its end".to_owned() } else { format!("at {word:?}") };
    match error.reason {
        Reason::UnknownLicense | Reason::UnknownException | Reason::UnknownTerm => {
            format!("{word:?} is no identifier of the list of SPDX")
        }
        Reason::Empty => "it is empty".to_owned(),
        Reason::InvalidCharacters => format!("{word:?} has letters that no expression has"),
        Reason::UnclosedParens => "a bracket is not closed".to_owned(),
        Reason::UnopenedParens => "a bracket is closed that was not opened".to_owned(),
        Reason::Unexpected(_) => format!("something else must stand {at}: identifiers are joined by AND, OR and WITH"),
        Reason::SeparatedPlus => "a blank stands before the +".to_owned(),
        Reason::GnuNoPlus | Reason::GnuPlusWithSuffix => {
            format!("{word:?} is written with -or-later instead of a +")
        }
        Reason::DeprecatedLicenseId => format!("{word:?} is outdated"),
    }
}

/// An identifier in the list that names no licence.
const NO_ASSERTION: &str = "NOASSERTION";

/// Whether a character is one of an identifier's.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.')
}

/// The expression with each word written as in the list, and the operators in upper case.
fn with_listed_spelling(text: &str) -> String {
    let mut spelled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (word, after) = rest.split_at(length);
        spelled.push_str(listed(word).unwrap_or(word));
        rest = after;
    }
    spelled
}

fn listed(word: &str) -> Option<&'static str> {
    let names = ["AND", "OR", "WITH"].into_iter();
    let mut names =
        names.chain(LICENSES.iter().map(|licence| licence.name)).chain(EXCEPTIONS.iter().map(|one| one.name));
    names.find(|name| name.eq_ignore_ascii_case(word))
}

/// Identifiers that begin as the text does, such as `ODC-By-1.0` for `odc-by`; the newest few, for several versions.
fn meant(text: &str) -> Vec<&'static str> {
    const SHOWN: usize = 3;
    let text = text.trim();
    if let Some((id, _)) = spdx::imprecise_license_id(text).filter(|(_, length)| *length == text.len()) {
        return vec![id.name];
    }
    let begins = |name: &str| {
        name.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text))
            && name[text.len()..].starts_with('-')
    };
    let listed = LICENSES.iter().filter(|licence| licence.flags & IS_DEPRECATED == 0);
    let mut names: Vec<_> = listed.map(|licence| licence.name).filter(|name| begins(name)).collect();
    // Without the ports to single countries, such as CC-BY-3.0-DE, where there is a plain one.
    let shortest = names.iter().map(|name| name.matches('-').count()).min();
    names.retain(|name| Some(name.matches('-').count()) == shortest);
    names.split_off(names.len().saturating_sub(SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_spelled_as_in_the_list() {
        let expected = [
            ("CC0-1.0", "CC0-1.0"),
            ("apache-2.0", "Apache-2.0"),
            ("mit or (bsd-3-clause and ODC-BY-1.0)", "MIT OR (BSD-3-Clause AND ODC-By-1.0)"),
            ("GPL-2.0-or-later WITH classpath-exception-2.0", "GPL-2.0-or-later WITH Classpath-exception-2.0"),
            ("GPL-2.0", "GPL-2.0"),
            (" CC-BY-4.0 ", "CC-BY-4.0"),
            ("LicenseRef-my.terms", "LicenseRef-my.terms"),
            ("CC-BY-SA-3.0 AND LicenseRef-x", "CC-BY-SA-3.0 AND LicenseRef-x"),
        ];
        for (given, licence) in expected {
            assert_eq!(checked_licence(given).as_deref(), Ok(licence), "{given}");
        }
    }

    #[test]
    fn what_is_no_licence_is_refused() {
        let refused = [
            "",
            " ",
            "MIT OR",
            "OR MIT",
            "other",
            "unknown",
            "not a licence at all",
            "(MIT",
            "MIT Apache-2.0",
            "MIT/X11",
            "none",
            "NOASSERTION",
            "MIT OR NOASSERTION",
            "LicenseRef-",
            "LicenseRef-my terms",
            "GPL-2.0 WITH MIT",
            "ü",
            "MIT,Apache-2.0",
            "public domain",
            "-",
            "\u{0}",
        ];
        for given in refused {
            let error = checked_licence(given).unwrap_err();
            assert!(error.to_string().contains("is no SPDX expression: "), "{error}");
        }
        let why = |given| checked_licence(given).unwrap_err().reason;
        assert_eq!(why("MIT OR"), "something else must stand at its end: identifiers are joined by AND, OR and WITH");
        assert_eq!(why("other"), "\"other\" is no identifier of the list of SPDX");
        assert_eq!(why("MIT OR nonsense"), "\"nonsense\" is no identifier of the list of SPDX");
        assert_eq!(why("(MIT"), "a bracket is not closed");
    }

    #[test]
    fn near_misses_are_named() {
        let meant = |given| checked_licence(given).unwrap_err().meant;
        assert_eq!(meant("odc-by"), ["ODC-By-1.0"]);
        assert_eq!(meant("apache2"), ["Apache-2.0"]);
        assert!(meant("cc-by").contains(&"CC-BY-4.0"), "{:?}", meant("cc-by"));
        assert_eq!(meant("other"), [""; 0]);
        assert_eq!(meant(""), [""; 0]);
    }
}

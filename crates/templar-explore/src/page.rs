//! What every page is made with: the desk that it is written at, the form that it takes, and the reasons why there is
//! none.

use maud::{Markup, html};
use serde::Serialize;
use serde_json::{Value, json};
use templar_manifest::Hash;
use templar_query::{QueryError, error_line};

use crate::audit::AuditDesk;
use crate::place::Form;
use crate::source::Source;

/// What a page can be made of.
pub(crate) struct Desk<'a> {
    pub(crate) source: &'a Source,
    pub(crate) audit: &'a AuditDesk,
    /// The token of a form that changes something; `None` where nobody may change anything.
    pub(crate) token: Option<&'a str>,
    pub(crate) form: Form,
}

/// A page that was found, in one form.
pub(crate) struct Found {
    pub(crate) title: String,
    pub(crate) body: Body,
}

/// The main part of a page, or the same as JSON.
pub(crate) enum Body {
    Html(Markup),
    Json(String),
}

impl Found {
    /// A page in the form that was asked for. Only that form is made.
    pub(crate) fn page<T: Serialize>(
        form: Form,
        title: impl Into<String>,
        value: &T,
        html: impl FnOnce(&T) -> Markup,
    ) -> Self {
        let body = match form {
            Form::Html => Body::Html(html(value)),
            // Values of this crate have names as keys and finite numbers, which JSON always has a form for.
            Form::Json => Body::Json(serde_json::to_string(value).unwrap_or_default()),
        };
        Self { title: title.into(), body }
    }
}

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The page has another address.
    Elsewhere(String),
    /// There is no such thing here.
    NotFound {
        /// A few words.
        title: String,
        /// A sentence that says why.
        why: String,
        /// What was probably meant: words and a path for each.
        instead: Vec<(String, String)>,
    },
    /// The home cannot be read.
    Failed(String),
}

impl Missing {
    /// There is no such thing, and nothing else was meant.
    pub(crate) fn page(title: impl Into<String>, why: impl Into<String>) -> Self {
        Self::NotFound { title: title.into(), why: why.into(), instead: Vec::new() }
    }

    /// The status of HTTP.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Elsewhere(_) => 303,
            Self::NotFound { .. } => 404,
            Self::Failed(_) => 503,
        }
    }

    /// The title and the main part of the page that says so.
    pub(crate) fn html(&self) -> (String, Markup) {
        let (title, why, instead) = self.parts();
        let main = html! {
            h1 { (title) }
            p.lead { (why) }
            @if !instead.is_empty() {
                ul { @for (words, path) in instead { li { a href=(path) { (words) } } } }
            }
            p { a href="/run" { "Back to the run" } }
        };
        (title.to_owned(), main)
    }

    /// The same as JSON.
    pub(crate) fn json(&self) -> Value {
        let (title, why, instead) = self.parts();
        let instead: Vec<&str> = instead.iter().map(|(_, path)| path.as_str()).collect();
        json!({"error": title, "why": why, "instead": instead})
    }

    fn parts(&self) -> (&str, &str, &[(String, String)]) {
        match self {
            Self::Elsewhere(path) => ("This page is elsewhere", path, &[]),
            Self::NotFound { title, why, instead } => (title, why, instead),
            Self::Failed(why) => ("The home cannot be read now", why, &[]),
        }
    }
}

impl From<QueryError> for Missing {
    fn from(error: QueryError) -> Self {
        Self::Failed(error_line(&error))
    }
}

impl From<Box<QueryError>> for Missing {
    fn from(error: Box<QueryError>) -> Self {
        Self::from(*error)
    }
}

/// The one hash among `known` that a text names: all of its digits, or four or more of the first. `None` if it names
/// none of them.
///
/// # Errors
/// Several begin with it; the candidates are what was meant instead, at `path`.
pub(crate) fn one_of(
    known: impl Iterator<Item = Hash>,
    text: &str,
    path: impl Fn(&Hash) -> String,
) -> Result<Option<Hash>, Missing> {
    const LEAST_DIGITS: usize = 4;
    const MOST_LISTED: usize = 20;
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if !is_digits || !(LEAST_DIGITS..=64).contains(&text.len()) {
        return Ok(None);
    }
    let mut found: Vec<Hash> = known.filter(|hash| hash.to_string().starts_with(text)).take(MOST_LISTED).collect();
    found.sort();
    found.dedup();
    match found[..] {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        _ => Err(Missing::NotFound {
            title: format!("Several ids begin with {text}"),
            why: "Give more digits, or take one of these.".to_owned(),
            instead: found.iter().map(|hash| (hash.to_string(), path(hash))).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_by_their_first_digits() {
        let hash = |first: u8, last: u8| {
            let mut bytes = [first; 32];
            bytes[31] = last;
            Hash::from_bytes(bytes)
        };
        let known = [hash(0xaa, 1), hash(0xaa, 2), hash(0xbb, 1)];
        let find = |text: &str| one_of(known.into_iter(), text, |hash| format!("/object/{hash}"));
        assert_eq!(find("bbbb"), Ok(Some(hash(0xbb, 1))));
        assert_eq!(find(&hash(0xaa, 2).to_string()), Ok(Some(hash(0xaa, 2))));
        for none in ["bbb", "cccc", "", "BBBB", "zzzz", &"a".repeat(65), "../."] {
            assert_eq!(find(none), Ok(None), "{none}");
        }
        let Err(several) = find("aaaa") else { panic!("two begin with it") };
        assert_eq!((several.status(), several.parts().2.len()), (404, 2));
    }
}

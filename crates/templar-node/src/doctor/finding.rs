//! The finding of a check, and the words for it.

use std::path::Path;

use serde::Serialize;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is as it should be.
    Ok,
    /// It works, but perhaps not for long or not for everybody. Or it could not be checked.
    Warn,
    /// It does not work at all.
    Fail,
}

/// The finding of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoctorFinding {
    /// `home`, `settings`, `key`, `run`, `store`, `disk`, `device`, `interfaces`, `port`, `relay`, `peer` or `clock`.
    pub check: &'static str,
    /// The result of the check.
    pub level: Level,
    /// The finding, as a sentence for people.
    pub text: String,
    /// A way to repair it, if there is one.
    pub hint: Option<String>,
}

impl DoctorFinding {
    pub(super) fn new(check: &'static str, level: Level, text: impl Into<String>) -> Self {
        Self { check, level, text: text.into(), hint: None }
    }

    pub(super) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, text)
    }

    pub(super) fn warn(check: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..Self::new(check, Level::Warn, text) }
    }

    pub(super) fn fail(check: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..Self::new(check, Level::Fail, text) }
    }
}

/// An error with its causes, in one line.
pub(super) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        next = cause.source();
    }
    text
}

/// A number of bytes, for people.
pub(super) fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// A path as text, for people.
pub(super) fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

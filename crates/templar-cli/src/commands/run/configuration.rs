//! The configuration of a run, for people.

use templar_manifest::Genesis;
use templar_query::manifest_view;

/// The configuration of a run as sorted lines `key = value`.
pub(super) fn lines(genesis: &Genesis) -> String {
    manifest_view::lines(&serde_json::to_value(genesis).unwrap_or_default())
        .iter()
        .map(|line| format!("{line}\n"))
        .collect()
}

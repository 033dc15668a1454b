//! The lines of an error and of its causes, without the words of the libraries that read JSON.

use templar_data::words;

/// The error, and each of its causes that it does not quote.
pub(super) fn lines(error: &anyhow::Error) -> Vec<String> {
    let mut lines = Vec::new();
    let mut last = String::new();
    for error in error.chain() {
        let said = error.to_string();
        // Some errors quote their cause. Such a cause is not printed again.
        if lines.is_empty() || !last.contains(&said) {
            lines.push(error.downcast_ref().map_or_else(|| said.clone(), words::json));
            last = said;
        }
    }
    lines
}

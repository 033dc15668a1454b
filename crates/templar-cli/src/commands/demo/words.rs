//! Words that the story and its end share: the names of the nodes, and the reason of a rejection.

use std::collections::BTreeMap;

use templar_manifest::PublicKey;

/// The names of the demo's nodes, by their key.
pub(super) type Names = BTreeMap<PublicKey, String>;

/// The name of a node, or the first digits of a key that has none.
pub(super) fn name_of(names: &Names, key: &PublicKey) -> String {
    names.get(key).cloned().unwrap_or_else(|| key.short())
}

/// The reason of a rejection for a newcomer. Where the replay differs, it names the step and the tensor.
pub(super) fn refusal(reason: &str) -> String {
    match reason.strip_prefix("replay differs from ") {
        Some(place) => format!("recomputing its training gives different weights from {place}"),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_names_the_place() {
        let reason = "replay differs from step 1, first in model.embed_tokens.weight";
        let said = "recomputing its training gives different weights from step 1, first in model.embed_tokens.weight";
        assert_eq!(refusal(reason), said);
        assert_eq!(refusal("withheld"), "withheld");
    }
}

//! Softmax cross-entropy with its gradient.

/// Checks shapes and targets; returns the vocabulary's size.
pub(crate) fn check(logits: usize, targets: &[u32], losses: usize) -> usize {
    assert_eq!(targets.len(), losses, "cross-entropy: one loss a target");
    let vocab = logits.checked_div(targets.len()).unwrap_or(0);
    assert_eq!(vocab * targets.len(), logits, "cross-entropy: {logits} logits for {} targets", targets.len());
    if let Some(target) = targets.iter().find(|t| **t as usize >= vocab) {
        panic!("cross-entropy: target {target} outside a vocabulary of {vocab}");
    }
    vocab
}

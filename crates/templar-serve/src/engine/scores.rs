//! Probabilities of tokens, as natural logarithms.
//!
//! All of a row come from one sum and one subtraction each, in the arithmetic of the loss in training: the score of a
//! token is minus its cross-entropy, to the bit. So the likeliest token's score equals its own in the list of
//! alternatives, which clients compare.

use templar_numerics::Kernels;

/// The probability of a token, and of those that were likelier.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Score {
    pub(crate) token: u32,
    /// In nats.
    pub(crate) logprob: f32,
    /// The likeliest tokens, as many as were asked for, the likeliest first. Of equally likely ones the lower id comes
    /// first.
    pub(crate) top: Vec<(u32, f32)>,
}

/// The score of `token` by the logits of its place, `[vocab]`, with `top` alternatives.
pub(crate) fn score(logits: &[f32], token: u32, top: usize) -> Score {
    let mut order: Vec<u32> = Vec::with_capacity(top + 1);
    // Insertion into a short list: `top` is at most some tens.
    for id in 0..logits.len() as u32 {
        let likelier = |other: &u32| logits[*other as usize] >= logits[id as usize];
        let place = order.iter().take_while(|other| likelier(other)).count();
        if place < top.max(1) {
            order.insert(place, id);
            order.truncate(top.max(1));
        }
    }
    let Some(&best) = order.first() else { return Score { token, logprob: f32::NAN, top: Vec::new() } };
    let highest = logits[best as usize];
    let mut loss = [0.0];
    Kernels::best().cross_entropy_loss(logits, &[best], &mut loss);
    // The loss of the likeliest token is the logarithm of the sum alone, since its own logit less the highest is 0.
    let logprob = |id: u32| -(loss[0] - (logits[id as usize] - highest));
    order.truncate(top);
    Score { token, logprob: logprob(token), top: order.into_iter().map(|id| (id, logprob(id))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_the_losses_of_training() {
        let logits: Vec<f32> = (0..97).map(|i| ((i * 31 % 53) as f32).mul_add(0.17, -3.0)).collect();
        for token in 0..97 {
            let found = score(&logits, token, 5);
            let mut loss = [0.0];
            Kernels::best().cross_entropy_loss(&logits, &[token], &mut loss);
            assert_eq!(found.logprob.to_bits(), (-loss[0]).to_bits());
            assert_eq!(found.top.len(), 5);
            assert!(found.top.is_sorted_by(|a, b| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0)), "{:?}", found.top);
            let own = found.top.iter().find(|(id, _)| *id == token);
            assert!(own.is_none_or(|(_, logprob)| logprob.to_bits() == found.logprob.to_bits()));
        }
        let likeliest = (0..97).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap() as u32;
        assert_eq!(score(&logits, likeliest, 1).top, [(likeliest, score(&logits, likeliest, 0).logprob)]);
    }
}

//! The order in which requests go through the model.
//!
//! A request whose given tokens are the beginning of another's needs no pass of its own: the model does not see what
//! follows, so the other's pass answers it. The four letters of a question of MMLU are one pass. What is left goes from
//! long to short, in batches of neighbours that are filled up to the same length. No sum depends on any of this.

use templar_manifest::Hash;
use templar_model::Asked;

use crate::request::Request;

/// Tokens of a batch, unless one sequence has more.
const BATCH_TOKENS: usize = 2048;

/// The token that fills a short sequence up. Nothing that is scored sees it.
const FILLING: u32 = 0;

/// Sequences that go through the model together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    /// `[sequences, length]`.
    pub(crate) tokens: Vec<u32>,
    /// Tokens of each sequence.
    pub(crate) length: usize,
    /// The tokens to score: those of the first of [`requests`](Self::requests), then those of the next.
    pub(crate) asked: Vec<Asked>,
    /// The number of each request, and how many tokens of it are scored.
    pub(crate) requests: Vec<(usize, usize)>,
}

/// A sequence and the requests that it answers.
struct Sequence<'a> {
    given: &'a [u32],
    requests: Vec<usize>,
}

/// The batches that answer all requests.
pub(crate) fn batches(requests: &[Request]) -> Vec<Batch> {
    let mut sequences = sequences(requests);
    // A stable order: sequences of one length stay in the order of their tokens.
    sequences.sort_by_key(|sequence| std::cmp::Reverse(sequence.given.len()));
    let mut batches = Vec::new();
    let mut rest = &sequences[..];
    while let Some(first) = rest.first() {
        let length = first.given.len();
        let count = (BATCH_TOKENS / length).clamp(1, rest.len());
        let (batch, others) = rest.split_at(count);
        batches.push(batch_of(requests, batch, length));
        rest = others;
    }
    batches
}

fn sequences(requests: &[Request]) -> Vec<Sequence<'_>> {
    let given = |place: usize| {
        let tokens = &requests[place].tokens;
        &tokens[..tokens.len() - 1]
    };
    let mut order: Vec<usize> = (0..requests.len()).collect();
    // Downwards, so that a text comes right before its beginnings.
    order.sort_by(|&one, &other| given(other).cmp(given(one)).then(one.cmp(&other)));
    let mut sequences: Vec<Sequence<'_>> = Vec::new();
    for place in order {
        match sequences.last_mut() {
            Some(longer) if longer.given.starts_with(given(place)) => longer.requests.push(place),
            _ => sequences.push(Sequence { given: given(place), requests: vec![place] }),
        }
    }
    sequences
}

fn batch_of(requests: &[Request], sequences: &[Sequence<'_>], length: usize) -> Batch {
    let (mut tokens, mut asked, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    for (number, sequence) in sequences.iter().enumerate() {
        tokens.extend_from_slice(sequence.given);
        tokens.resize((number + 1) * length, FILLING);
        for &place in &sequence.requests {
            let Request { tokens, scored } = &requests[place];
            let start = tokens.len() - scored;
            // A token is predicted at the place before it.
            asked.extend(
                (start..tokens.len()).map(|at| Asked { row: (number * length + at - 1) as u32, token: tokens[at] }),
            );
            answered.push((place, *scored));
        }
    }
    Batch { tokens, length, asked, requests: answered }
}

/// The hash of a list of requests: which tokens are scored after which.
pub(crate) fn hash_of(requests: &[Request]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for Request { tokens, scored } in requests {
        for number in [tokens.len() as u64, *scored as u64] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>());
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(tokens: &[u32], scored: usize) -> Request {
        Request { tokens: tokens.to_vec(), scored }
    }

    #[test]
    fn beginnings_share_a_pass() {
        // Four answers of one token after one context, one of them twice as long, and a stranger.
        let requests = [
            request(&[1, 2, 3], 1),
            request(&[1, 2, 4], 1),
            request(&[1, 2, 3, 9], 2),
            request(&[5, 6], 1),
            request(&[1, 2, 7, 7], 2),
        ];
        let batches = batches(&requests);
        assert_eq!(batches.len(), 1);
        let Batch { tokens, length, asked, requests } = &batches[0];
        assert_eq!((&tokens[..], *length), (&[1, 2, 7, 1, 2, 3, 5, 0, 0][..], 3));
        assert_eq!(requests, &[(4, 2), (2, 2), (0, 1), (1, 1), (3, 1)]);
        let expected = [(1, 7), (2, 7), (4, 3), (5, 9), (4, 3), (4, 4), (6, 6)];
        assert_eq!(asked, &expected.map(|(row, token)| Asked { row, token }));
    }

    #[test]
    fn long_sequences_come_first_and_alone() {
        let requests: Vec<Request> = (1..=60).map(|length| request(&vec![length; length as usize * 50], 1)).collect();
        let batches = batches(&requests);
        assert!(batches.windows(2).all(|pair| pair[0].length >= pair[1].length));
        assert!(batches.iter().all(|batch| batch.tokens.len() <= BATCH_TOKENS || batch.tokens.len() == batch.length));
        assert_eq!(batches.iter().map(|batch| batch.requests.len()).sum::<usize>(), 60);
    }
}

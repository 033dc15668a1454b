//! The order in which requests go through the model.
//!
//! A request whose given tokens are the beginning of another's needs no pass of its own: the model does not see what
//! follows, so the other's pass answers it. The four letters of a question of MMLU are one pass. Sequences that begin
//! alike, such as questions behind the same examples, form a group whose beginning is computed once. Sequences go from
//! long to short, in batches that are filled up to the same length. No sum depends on any of this.

use templar_manifest::Hash;
use templar_model::Asked;

use crate::request::Request;

/// Tokens of a batch that go through the layers, unless one sequence has more.
const BATCH_TOKENS: usize = 2048;

/// Tokens of whole texts in a batch, which attention sees.
const WHOLE_TOKENS: usize = 16_384;

/// The shortest beginning that is worth a pass of its own, in tokens.
const SHORTEST_BEGINNING: usize = 16;

/// The token that fills a short sequence up. Nothing that is scored sees it.
const FILLING: u32 = 0;

/// Sequences that go through the model together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The tokens with which every sequence begins; there may be none.
    pub(crate) beginning: Vec<u32>,
    /// The tokens after them, `[sequences, length]`.
    pub(crate) tokens: Vec<u32>,
    /// Tokens of each sequence after the beginning.
    pub(crate) length: usize,
    /// The tokens to score: those of the first of [`requests`](Self::requests), then those of the next. Places are
    /// counted over [`tokens`](Self::tokens).
    pub(crate) asked: Vec<Asked>,
    /// The number of each request, and how many tokens of it are scored.
    pub(crate) requests: Vec<(usize, usize)>,
}

impl Batch {
    /// The tokens of one whole sequence, without what fills it up behind `last`, a place after the beginning.
    pub(crate) fn whole(&self, sequence: usize, last: usize) -> Vec<u32> {
        let start = sequence * self.length;
        [&self.beginning[..], &self.tokens[start..=start + last]].concat()
    }
}

/// A sequence and the requests that it answers.
struct Sequence<'a> {
    given: &'a [u32],
    requests: Vec<usize>,
    /// The first place whose next token is scored. A beginning must end before it.
    first_row: usize,
}

/// Sequences that begin alike.
struct Group<'a> {
    beginning: usize,
    sequences: Vec<Sequence<'a>>,
}

/// The batches that answer all requests.
pub(crate) fn batches(requests: &[Request]) -> Vec<Batch> {
    let mut alone = Vec::new();
    let mut batches = Vec::new();
    for mut group in groups(sequences(requests)) {
        if group.sequences.len() == 1 || group.beginning < SHORTEST_BEGINNING {
            alone.append(&mut group.sequences);
        } else {
            divide(requests, group, &mut batches);
        }
    }
    divide(requests, Group { beginning: 0, sequences: alone }, &mut batches);
    batches
}

fn sequences(requests: &[Request]) -> Vec<Sequence<'_>> {
    let given = |place: usize| {
        let tokens = &requests[place].tokens;
        &tokens[..tokens.len() - 1]
    };
    let first_row = |place: usize| requests[place].tokens.len() - requests[place].scored - 1;
    let mut order: Vec<usize> = (0..requests.len()).collect();
    // Downwards, so that a text comes right before its beginnings.
    order.sort_by(|&one, &other| given(other).cmp(given(one)).then(one.cmp(&other)));
    let mut sequences: Vec<Sequence<'_>> = Vec::new();
    for place in order {
        match sequences.last_mut() {
            Some(longer) if longer.given.starts_with(given(place)) => {
                longer.requests.push(place);
                longer.first_row = longer.first_row.min(first_row(place));
            }
            _ => sequences.push(Sequence { given: given(place), requests: vec![place], first_row: first_row(place) }),
        }
    }
    sequences
}

/// Divides ordered sequences into neighbours that share so much that computing it once pays.
fn groups(sequences: Vec<Sequence<'_>>) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for sequence in sequences {
        if let Some(group) = groups.last_mut() {
            let last = group.sequences[group.sequences.len() - 1].given;
            let alike = last.iter().zip(sequence.given).take_while(|(one, other)| one == other).count();
            let shared = group.beginning.min(alike).min(sequence.first_row);
            // Without this sequence the group may share more; with it, its beginning is computed once less.
            let longer = (group.beginning - shared) * (group.sequences.len() - 1);
            if longer < shared {
                group.beginning = shared;
                group.sequences.push(sequence);
                continue;
            }
        }
        groups.push(Group { beginning: sequence.first_row.min(sequence.given.len()), sequences: vec![sequence] });
    }
    groups
}

/// Divides the sequences of a group into batches, long ones first.
fn divide(requests: &[Request], group: Group<'_>, batches: &mut Vec<Batch>) {
    let Group { beginning, mut sequences } = group;
    // A stable order: sequences of one length stay in the order of their tokens.
    sequences.sort_by_key(|sequence| std::cmp::Reverse(sequence.given.len()));
    let mut rest = &sequences[..];
    while let Some(first) = rest.first() {
        let length = first.given.len() - beginning;
        let most = (BATCH_TOKENS / length).min(WHOLE_TOKENS / first.given.len());
        let (batch, others) = rest.split_at(most.clamp(1, rest.len()));
        batches.push(batch_of(requests, batch, beginning, length));
        rest = others;
    }
}

fn batch_of(requests: &[Request], sequences: &[Sequence<'_>], beginning: usize, length: usize) -> Batch {
    let (mut tokens, mut asked, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    for (number, sequence) in sequences.iter().enumerate() {
        tokens.extend_from_slice(&sequence.given[beginning..]);
        tokens.resize((number + 1) * length, FILLING);
        for &place in &sequence.requests {
            let Request { tokens, scored } = &requests[place];
            // A token is predicted at the place before it.
            let row = |at: usize| (number * length + at - 1 - beginning) as u32;
            asked.extend((tokens.len() - scored..tokens.len()).map(|at| Asked { row: row(at), token: tokens[at] }));
            answered.push((place, *scored));
        }
    }
    let beginning = sequences.first().map_or(&[][..], |first| &first.given[..beginning]).to_vec();
    Batch { beginning, tokens, length, asked, requests: answered }
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
        let Batch { beginning, tokens, length, asked, requests } = &batches[0];
        assert!(beginning.is_empty(), "too short a one");
        assert_eq!((&tokens[..], *length), (&[1, 2, 7, 1, 2, 3, 5, 0, 0][..], 3));
        assert_eq!(requests, &[(4, 2), (2, 2), (0, 1), (1, 1), (3, 1)]);
        let expected = [(1, 7), (2, 7), (4, 3), (5, 9), (4, 3), (4, 4), (6, 6)];
        assert_eq!(asked, &expected.map(|(row, token)| Asked { row, token }));
    }

    #[test]
    fn questions_behind_the_same_examples_share_them() {
        // Three questions behind one text of 40 tokens, three behind another, and a stranger.
        let text = |salt: u32| (0..40).map(move |at| at * salt + 1);
        let question = |salt: u32, own: &[u32]| request(&text(salt).chain(own.iter().copied()).collect::<Vec<_>>(), 1);
        let requests = [
            question(3, &[7, 8, 9]),
            question(5, &[7, 8]),
            question(3, &[6, 8, 9, 10]),
            question(5, &[6, 5, 4]),
            request(&[900; 30], 1),
            question(3, &[7, 2]),
        ];
        let batches = batches(&requests);
        assert_eq!(batches.len(), 3);
        let found: Vec<(Vec<u32>, usize, usize)> =
            batches.iter().map(|batch| (batch.beginning.clone(), batch.length, batch.requests.len())).collect();
        let third = text(3).collect::<Vec<_>>();
        let fifth = text(5).collect::<Vec<_>>();
        assert_eq!(found, [(fifth, 2, 2), (third, 3, 3), (Vec::new(), 29, 1)]);
        let Batch { tokens, asked, requests, .. } = &batches[1];
        // The last question begins as the first one does, and needs no sequence of its own.
        assert_eq!(tokens, &[6, 8, 9, 7, 8, 0]);
        assert_eq!(requests, &[(2, 1), (0, 1), (5, 1)]);
        assert_eq!(asked, &[(2, 10), (4, 9), (3, 2)].map(|(row, token)| Asked { row, token }));
        assert_eq!(batches[1].whole(1, 1), [text(3).collect::<Vec<_>>(), vec![7, 8]].concat());
    }

    #[test]
    fn long_sequences_come_first_and_alone() {
        let requests: Vec<Request> = (1..=60)
            .map(|length| request(&(0..length * 50).map(|at| at * 61 + length).collect::<Vec<_>>(), 1))
            .collect();
        let batches = batches(&requests);
        assert!(batches.windows(2).all(|pair| pair[0].length >= pair[1].length));
        assert!(batches.iter().all(|batch| batch.tokens.len() <= BATCH_TOKENS || batch.tokens.len() == batch.length));
        assert_eq!(batches.iter().map(|batch| batch.requests.len()).sum::<usize>(), 60);
    }
}

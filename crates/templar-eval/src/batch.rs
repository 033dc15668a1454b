//! The order in which requests go through the model.
//!
//! A request whose given tokens are the beginning of another's needs no pass of its own: the model does not see what
//! follows, so the other's pass answers it. The four letters of a question of MMLU are one pass. Sequences that begin
//! alike, such as questions behind the same examples, form a group whose beginning is computed once. A batch holds
//! several groups, or a part of one that is large. No sum depends on any of this.

use templar_manifest::Hash;

use crate::request::Request;

/// Tokens of a batch that go through the layers together, unless one sequence has more: those of its beginnings, and
/// then those after them.
const BATCH_TOKENS: usize = 2048;

/// The shortest beginning that is worth a pass of its own, in tokens.
const SHORTEST_BEGINNING: usize = 16;

/// Texts that go through the model together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Batch {
    pub(crate) groups: Vec<Group>,
    /// The tokens to score: those of the first of [`requests`](Self::requests), then those of the next.
    pub(crate) places: Vec<Place>,
    /// The number of each request, and how many tokens of it are scored.
    pub(crate) requests: Vec<(usize, usize)>,
    /// Tokens that the batch computes: without the beginning of its first group, where the batch before it ended with
    /// that.
    pub(crate) tokens: usize,
}

/// Texts with the same beginning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Group {
    /// The tokens with which every text begins; there may be none.
    pub(crate) beginning: Vec<u32>,
    pub(crate) ends: Vec<End>,
}

/// What a text has after the beginning of its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// One token or more.
    pub(crate) tokens: Vec<u32>,
    /// The first of them after which a token is scored.
    pub(crate) first: usize,
}

/// A token to score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The text, counted over all groups of the batch.
    pub(crate) text: usize,
    /// The place in its [`End`] before the token.
    pub(crate) at: usize,
    pub(crate) token: u32,
}

impl Batch {
    /// All texts in their order, each by its beginning and its end.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&[u32], &End)> {
        self.groups.iter().flat_map(|group| group.ends.iter().map(|end| (&group.beginning[..], end)))
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
struct Alike<'a> {
    /// Tokens of their beginning; of a sequence that is alone it says nothing.
    beginning: usize,
    sequences: Vec<Sequence<'a>>,
}

/// The batches that answer all requests.
pub(crate) fn batches(requests: &[Request]) -> Vec<Batch> {
    let (mut alone, mut all) = (Vec::new(), Vec::new());
    for mut alike in groups(sequences(requests)) {
        if alike.sequences.len() == 1 {
            alone.append(&mut alike.sequences);
        } else {
            all.push(alike);
        }
    }
    all.push(Alike { beginning: 0, sequences: alone });
    let mut filling = Filling::default();
    for mut alike in all {
        // A stable order: sequences of one length stay in the order of their tokens.
        alike.sequences.sort_by_key(|sequence| std::cmp::Reverse(sequence.given.len()));
        for (number, sequence) in alike.sequences.iter().enumerate() {
            filling.add(requests, alike.beginning, sequence, number == 0);
        }
    }
    filling.finish()
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

/// Divides ordered sequences into groups of neighbours whose beginnings are computed once, so that many tokens are
/// spared.
///
/// Neighbours come together from those that share most down to those that share least, where one group of them spares
/// more than the groups that they are in already. So a few words before the questions of all subjects do not
/// take the place of the examples of each.
fn groups(sequences: Vec<Sequence<'_>>) -> Vec<Alike<'_>> {
    let shared = |pair: &[Sequence<'_>]| {
        let alike = pair[0].given.iter().zip(pair[1].given).take_while(|(one, other)| one == other).count();
        alike.min(pair[0].first_row).min(pair[1].first_row)
    };
    let links: Vec<usize> = sequences.windows(2).map(shared).collect();
    let mut order: Vec<usize> = (0..links.len()).filter(|&link| links[link] >= SHORTEST_BEGINNING).collect();
    order.sort_by_key(|&link| std::cmp::Reverse(links[link]));
    // Neighbours that have met: the last of them by the first, the first by the last, and what their groups spare.
    let mut last: Vec<usize> = (0..sequences.len()).collect();
    let (mut first, mut spared) = (last.clone(), vec![0; sequences.len()]);
    let mut is_joined = vec![false; links.len()];
    for link in order {
        let (from, to) = (first[link], last[link + 1]);
        let (together, apart) = (links[link] * (to - from), spared[from] + spared[link + 1]);
        if together > apart {
            is_joined[from..to].fill(true);
        }
        spared[from] = together.max(apart);
        (last[from], first[to]) = (to, from);
    }
    let mut groups: Vec<Alike<'_>> = Vec::new();
    for (number, sequence) in sequences.into_iter().enumerate() {
        match groups.last_mut() {
            Some(group) if is_joined[number - 1] => {
                group.beginning = group.beginning.min(links[number - 1]);
                group.sequences.push(sequence);
            }
            _ => groups.push(Alike { beginning: usize::MAX, sequences: vec![sequence] }),
        }
    }
    groups
}

/// The batches so far, of which the last one is being filled.
#[derive(Default)]
struct Filling {
    full: Vec<Batch>,
    batch: Batch,
    /// Tokens of the batch's beginnings, and those after them.
    tokens: (usize, usize),
    texts: usize,
}

impl Filling {
    /// Adds a sequence, which begins a group or goes on with it.
    fn add(&mut self, requests: &[Request], beginning: usize, sequence: &Sequence<'_>, begins: bool) {
        let (before, own) = sequence.given.split_at(beginning);
        let new = if begins { beginning } else { 0 };
        if self.texts > 0 && (self.tokens.0 + new > BATCH_TOKENS || self.tokens.1 + own.len() > BATCH_TOKENS) {
            self.close();
        }
        if begins || self.texts == 0 {
            self.batch.groups.push(Group { beginning: before.to_vec(), ends: Vec::new() });
        }
        if let Some(group) = self.batch.groups.last_mut() {
            group.ends.push(End { tokens: own.to_vec(), first: sequence.first_row - beginning });
        }
        for &number in &sequence.requests {
            let Request { tokens, scored } = &requests[number];
            // A token is predicted at the place before it.
            let place = |at: usize| Place { text: self.texts, at: at - 1 - beginning, token: tokens[at] };
            self.batch.places.extend((tokens.len() - scored..tokens.len()).map(place));
            self.batch.requests.push((number, *scored));
        }
        self.batch.tokens += new + own.len();
        self.tokens = (self.tokens.0 + new, self.tokens.1 + own.len());
        self.texts += 1;
    }

    fn close(&mut self) {
        self.full.push(std::mem::take(&mut self.batch));
        (self.tokens, self.texts) = ((0, 0), 0);
    }

    fn finish(mut self) -> Vec<Batch> {
        if self.texts > 0 {
            self.close();
        }
        self.full
    }
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

    fn place((text, at, token): (usize, usize, u32)) -> Place {
        Place { text, at, token }
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
        let Batch { groups, places, requests, tokens } = &batches[0];
        let end = |tokens: &[u32], first| End { tokens: tokens.to_vec(), first };
        let ends = vec![end(&[1, 2, 7], 1), end(&[1, 2, 3], 1), end(&[5], 0)];
        assert_eq!(groups, &[Group { beginning: Vec::new(), ends }], "too short a beginning");
        assert_eq!(requests, &[(4, 2), (2, 2), (0, 1), (1, 1), (3, 1)]);
        let expected = [(0, 1, 7), (0, 2, 7), (1, 1, 3), (1, 2, 9), (1, 1, 3), (1, 1, 4), (2, 0, 6)];
        assert_eq!((places, *tokens), (&expected.map(place).to_vec(), 7));
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
        assert_eq!(batches.len(), 1);
        let Batch { groups, places, requests, tokens } = &batches[0];
        let found: Vec<(Vec<u32>, usize)> =
            groups.iter().map(|group| (group.beginning.clone(), group.ends.len())).collect();
        let (third, fifth) = (text(3).collect::<Vec<_>>(), text(5).collect::<Vec<_>>());
        assert_eq!(found, [(fifth, 2), (third, 2), (Vec::new(), 1)]);
        assert_eq!(*tokens, 40 + 3 + 40 + 5 + 29);
        // The last question begins as the first one does, and needs no sequence of its own.
        let ends: Vec<(&[u32], usize)> = groups[1].ends.iter().map(|end| (&end.tokens[..], end.first)).collect();
        assert_eq!(ends, [(&[6, 8, 9][..], 2), (&[7, 8][..], 0)]);
        assert_eq!(requests, &[(3, 1), (1, 1), (2, 1), (0, 1), (5, 1), (4, 1)]);
        let expected = [(0, 1, 4), (1, 0, 8), (2, 2, 10), (3, 1, 9), (3, 0, 2), (4, 28, 900)];
        assert_eq!(places, &expected.map(place));
    }

    /// Every prompt of MMLU begins with the same words. A subject of one question among others of several must not make
    /// these words the beginning of all.
    #[test]
    fn a_few_words_that_all_share_do_not_take_the_place_of_examples() {
        let prompt = |subject: u32, question: u32| {
            let tokens = [&[7; 20][..], &[100 + subject; 300], &[1000 + question; 30], &[1]].concat();
            request(&tokens, 1)
        };
        let requests: Vec<Request> =
            (0..12).flat_map(|subject| (0..1 + subject % 4).map(move |question| prompt(subject, question))).collect();
        let batches = batches(&requests);
        let mut sizes: Vec<(usize, usize)> = batches
            .iter()
            .flat_map(|batch| &batch.groups)
            .map(|group| (group.beginning.len(), group.ends.len()))
            .collect();
        sizes.sort_unstable();
        // Those of one question are neighbours of none: each is alone.
        let expected =
            [(0, 3), (320, 2), (320, 2), (320, 2), (320, 3), (320, 3), (320, 3), (320, 4), (320, 4), (320, 4)];
        assert_eq!(sizes, expected);
        // Without longer beginnings the words are worth it.
        let requests: Vec<Request> = (0..5).map(|subject| prompt(subject, 0)).collect();
        let batch = &super::batches(&requests)[0];
        assert_eq!((batch.groups[0].beginning.len(), batch.groups[0].ends.len(), batch.tokens), (20, 5, 20 + 5 * 330));
    }

    #[test]
    fn a_large_group_goes_on_in_further_batches() {
        let requests: Vec<Request> =
            (0..90).map(|number| request(&[&[5; 300][..], &[number; 50], &[1]].concat(), 1)).collect();
        let batches = batches(&requests);
        let tokens: Vec<usize> = batches.iter().map(|batch| batch.tokens).collect();
        assert_eq!(tokens, [300 + 40 * 50, 40 * 50, 10 * 50]);
        assert!(batches.iter().all(|batch| batch.groups.len() == 1 && batch.groups[0].beginning == [5; 300]));
        assert_eq!(batches[2].places[9], Place { text: 9, at: 49, token: 1 });
    }

    #[test]
    fn long_sequences_come_first_and_alone() {
        let requests: Vec<Request> = (1..=60)
            .map(|length| request(&(0..length * 50).map(|at| at * 61 + length).collect::<Vec<_>>(), 1))
            .collect();
        let batches = batches(&requests);
        assert!(batches.iter().all(|batch| batch.tokens <= BATCH_TOKENS || batch.requests.len() == 1));
        let order: Vec<usize> = batches.iter().flat_map(|batch| &batch.requests).map(|(number, _)| *number).collect();
        assert_eq!(order, (0..60).rev().collect::<Vec<_>>());
    }
}

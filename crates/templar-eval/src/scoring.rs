//! Scores requests batch by batch, so that the work can be shown, saved and resumed.

use templar_manifest::Hash;

use crate::batch::{Batch, batches, hash_of};
use crate::request::Request;
use crate::scorer::{ScoreError, Scorer};

/// How a saved state begins.
const MAGIC: &[u8; 16] = b"templar eval 02\n";
/// Bytes of a score in a saved state: the sum, and whether it is greedy.
const SCORE_BYTES: usize = 9;
const HASH_BYTES: usize = 32;

/// The score of one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The logarithm of the probability of all scored tokens, in nats: minus the losses, which are f32, added in f64 in
    /// token order from +0.
    pub log_likelihood: f64,
    /// Whether each scored token is the likeliest one.
    pub is_greedy: bool,
}

/// The work of scoring a list of requests.
#[derive(Debug)]
pub struct Scoring {
    /// The hash of the model and the requests: a state of other work is not resumed.
    id: Hash,
    batches: Vec<Batch>,
    done: usize,
    scores: Vec<Option<Score>>,
}

impl Scoring {
    /// The work of scoring `requests` with the model whose root is `model`.
    pub fn new(model: Hash, requests: &[Request]) -> Self {
        let id = Hash::of(&[&model.as_bytes()[..], hash_of(requests).as_bytes()].concat());
        Self { id, batches: batches(requests), done: 0, scores: vec![None; requests.len()] }
    }

    /// The hash of the model and the requests.
    pub fn id(&self) -> Hash {
        self.id
    }

    /// Tokens that go through the model in all, and that went through it so far.
    pub fn progress(&self) -> (u64, u64) {
        let tokens = |batches: &[Batch]| batches.iter().map(|batch| batch.tokens as u64).sum();
        (tokens(&self.batches), tokens(&self.batches[..self.done]))
    }

    /// Whether everything is scored.
    pub fn is_done(&self) -> bool {
        self.done == self.batches.len()
    }

    /// Scores the next batch.
    ///
    /// # Errors
    /// [`ScoreError`]
    pub fn step(&mut self, scorer: &mut Scorer) -> Result<(), ScoreError> {
        let Some(batch) = self.batches.get(self.done) else { return Ok(()) };
        let likelihoods = scorer.likelihoods(batch)?;
        let mut rest = &likelihoods[..];
        for &(request, scored) in &batch.requests {
            let (these, others) = rest.split_at(scored);
            rest = others;
            let loss = these.iter().fold(0.0, |sum, likelihood| sum + f64::from(likelihood.nats));
            let is_greedy = these.iter().all(|likelihood| likelihood.is_greedy);
            self.scores[request] = Some(Score { log_likelihood: -loss, is_greedy });
        }
        self.done += 1;
        Ok(())
    }

    /// The scores of all requests, in their order; none before everything is done.
    pub fn scores(&self) -> Option<Vec<Score>> {
        self.scores.iter().copied().collect()
    }

    /// What was done so far, as bytes for a file.
    pub fn save(&self) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], self.id.as_bytes(), &(self.done as u64).to_le_bytes()].concat();
        for score in self.saved_places().filter_map(|request| self.scores[request]) {
            bytes.extend(score.log_likelihood.to_le_bytes());
            bytes.push(score.is_greedy.into());
        }
        let hash = Hash::of(&bytes);
        bytes.extend(hash.as_bytes());
        bytes
    }

    /// Goes on from saved bytes. False, and nothing is changed, where they are of other work or damaged.
    pub fn resume(&mut self, saved: &[u8]) -> bool {
        let Some((bytes, hash)) = saved.split_last_chunk::<HASH_BYTES>() else { return false };
        let header = [&MAGIC[..], self.id.as_bytes()].concat();
        let Some((done, scores)) = bytes.strip_prefix(&header[..]).and_then(<[u8]>::split_first_chunk) else {
            return false;
        };
        let done = u64::from_le_bytes(*done);
        if Hash::of(bytes).as_bytes() != hash || done > self.batches.len() as u64 {
            return false;
        }
        let before = std::mem::replace(&mut self.done, done as usize);
        let places: Vec<usize> = self.saved_places().collect();
        if scores.len() != places.len() * SCORE_BYTES {
            self.done = before;
            return false;
        }
        for (place, score) in places.into_iter().zip(scores.chunks_exact(SCORE_BYTES)) {
            let sum = score.first_chunk().map_or(0.0, |sum| f64::from_le_bytes(*sum));
            self.scores[place] = Some(Score { log_likelihood: sum, is_greedy: score[SCORE_BYTES - 1] == 1 });
        }
        true
    }

    /// The requests of the batches that are done, in the order of the batches.
    fn saved_places(&self) -> impl Iterator<Item = usize> {
        self.batches[..self.done].iter().flat_map(|batch| batch.requests.iter().map(|(request, _)| *request))
    }
}

/// The hash of scores: each sum as the bits of its f64, little-endian, and a byte that says whether it is greedy.
pub(crate) fn hash_of_scores(scores: &[Score]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for Score { log_likelihood, is_greedy } in scores {
        hasher.update(&log_likelihood.to_le_bytes());
        hasher.update(&[u8::from(*is_greedy)]);
    }
    hasher.finalize().into()
}

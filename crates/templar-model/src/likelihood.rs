//! How likely tokens are at places of given sequences: what an evaluation asks of a model.
//!
//! Only the rows that somebody asks about go through the output head. A place does not see the tokens after it, so a
//! sequence may be filled up at its end to the length of its neighbours, and may be asked about each of its beginnings.
//! No bit of an answer depends on any of this.

use templar_device::Buffer;
use templar_numerics::Kernels;

use crate::activations::{BatchShape, Keep};
use crate::model::{Model, StepError};

/// Logits held at a time: 16 MiB of them, but at least [`MIN_ROWS`] rows.
const LOGITS: usize = 1 << 22;
/// Fewest rows in a piece.
const MIN_ROWS: usize = 16;

/// A token whose likelihood is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The place before it: of [`Model::likelihoods`] counted over all sequences, `sequence · length + position`; of a
    /// decoder a row of its hidden states.
    pub row: u32,
    /// The token.
    pub token: u32,
}

/// How likely a token is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// The negative logarithm of its probability, in nats: `ln Σ exp(x − max) − (x_token − max)` over the logits x of
    /// its row, with the exponential, the logarithm and the order of the sum of `templar-numerics`.
    pub nats: f32,
    /// Whether no token is likelier. Of several with the same logit, the first counts.
    pub is_greedy: bool,
}

impl Likelihood {
    /// The likelihood of a token in a row of logits.
    ///
    /// # Panics
    /// The token is outside of the row.
    pub fn of(logits: &[f32], token: u32) -> Self {
        let mut nats = [0.0];
        Kernels::best().cross_entropy_loss(logits, &[token], &mut nats);
        let mut best = 0;
        for (place, logit) in logits.iter().enumerate() {
            if *logit > logits[best] {
                best = place;
            }
        }
        Self { nats: nats[0], is_greedy: best == token as usize }
    }
}

/// The likelihoods of the tokens that are asked about, in their order, from the logits of rows: `[rows, vocab]` for the
/// numbers of some rows. Each row that is asked about is computed once.
pub(crate) fn by_rows<E>(
    asked: &[Asked],
    vocab: usize,
    mut logits: impl FnMut(&[u32]) -> Result<Vec<f32>, E>,
) -> Result<Vec<Likelihood>, E> {
    let mut rows: Vec<u32> = asked.iter().map(|asked| asked.row).collect();
    rows.sort_unstable();
    rows.dedup();
    // The places in `asked`, by row, so that each row of logits is looked at once.
    let mut order: Vec<usize> = (0..asked.len()).collect();
    order.sort_by_key(|&place| asked[place].row);
    let mut order = order.into_iter().peekable();
    let mut found = vec![Likelihood { nats: 0.0, is_greedy: false }; asked.len()];
    for piece in rows.chunks((LOGITS / vocab).max(MIN_ROWS)) {
        for (row, logits) in piece.iter().zip(logits(piece)?.chunks_exact(vocab)) {
            while let Some(place) = order.next_if(|&place| asked[place].row == *row) {
                found[place] = Likelihood::of(logits, asked[place].token);
            }
        }
    }
    Ok(found)
}

impl Model {
    /// The likelihoods of the tokens that are `asked` about, in their order. `tokens` is `[sequences, length]`, of any
    /// length up to `sequence_length`.
    ///
    /// # Errors
    /// Lengths or ids that do not fit, before any work; logits that are not finite; a device that fails.
    ///
    /// # Panics
    /// A row is none of the sequences'.
    pub fn likelihoods(
        &mut self,
        params: &Buffer,
        (tokens, length): (&[u32], usize),
        asked: &[Asked],
    ) -> Result<Vec<Likelihood>, StepError> {
        let shape = self.check_likelihoods(params, tokens, length, asked)?;
        self.run(params, tokens, shape, Keep::Nothing)?;
        let found = by_rows(asked, self.spec().vocab_size as usize, |rows| self.logits_of_rows(params, rows))?;
        match found.iter().zip(asked).find(|(likelihood, _)| !likelihood.nats.is_finite()) {
            Some((_, Asked { row, .. })) => {
                let (sequence, position) = (*row as usize / length, *row as usize % length);
                Err(StepError::NonFiniteLoss { sequence, position })
            }
            None => Ok(found),
        }
    }

    fn check_likelihoods(
        &self,
        params: &Buffer,
        tokens: &[u32],
        length: usize,
        asked: &[Asked],
    ) -> Result<BatchShape, StepError> {
        self.check_length("the parameter vector", params.len())?;
        let positions = self.spec().sequence_length as usize;
        if length == 0 || length > positions {
            return Err(StepError::Sequence { found: length, positions });
        }
        if tokens.is_empty() || !tokens.len().is_multiple_of(length) {
            return Err(StepError::Batch { found: tokens.len(), width: length });
        }
        self.check_tokens(tokens)?;
        let targets: Vec<u32> = asked.iter().map(|asked| asked.token).collect();
        self.check_tokens(&targets)?;
        assert!(asked.iter().all(|asked| (asked.row as usize) < tokens.len()), "a row of none of the sequences");
        let shape = BatchShape { sequences: tokens.len() / length, length };
        self.check_shape(shape)?;
        Ok(shape)
    }
}

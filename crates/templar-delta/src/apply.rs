//! The outer step: the deltas of a window, in the order of its record, become one step of the parameters.
//!
//! Per tensor: each contributor is clipped to the lower median of the contributors' norms, the clipped values of a
//! coordinate are added in the order given, divided by the rule's count, and θ ← θ − lr·g (SGD without momentum). All in
//! `f64`, each parameter rounded once to `f32`; a coordinate that nobody sent keeps its bits. Tensors are shared out to
//! threads, and each is walked block by block, so that what is held beside bytes and parameters is one block for each
//! thread.

use rayon::prelude::*;
use templar_manifest::{AggregationRule, TensorSpec};

use crate::aggregate::{Aggregate, Tensor};
use crate::body::Blocks;
use crate::decode::Delta;
use crate::layout::{Layout, ShapeError};

/// Deltas cannot be applied.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// The tensors cannot be laid out.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The parameters are not as many as the tensors'.
    #[error("{found} parameters, the tensors have {expected}")]
    Length {
        /// How many parameters were given.
        found: usize,
        /// How many the tensors have.
        expected: usize,
    },
    /// A delta was decoded for other tensors or settings, or made for another run or window.
    #[error("delta {position} was made for other tensors or settings, or another window")]
    OtherDelta {
        /// Its place in the order given.
        position: usize,
    },
    /// More deltas than an aggregate can hold.
    #[error("{0} deltas, more than can be aggregated")]
    TooMany(usize),
    /// The learning rate is not finite.
    #[error("learning rate {0} is not finite")]
    LearningRate(f32),
    /// A parameter would not be finite. The parameters are partly stepped then and must be discarded.
    #[error("tensor {tensor}: parameter {index} would not be finite")]
    NonFinite {
        /// The tensor's name.
        tensor: String,
        /// The position in the tensor.
        index: usize,
    },
}

/// What an outer step did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApplyReport {
    /// For each tensor, in order; empty when there were no deltas.
    pub tensors: Vec<TensorReport>,
}

/// What an outer step did to one tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorReport {
    /// The lower median of the contributors' norms, to which they were clipped.
    pub median_norm: f64,
    /// How many contributors were above it.
    pub clipped: usize,
    /// How many parameters somebody sent.
    pub touched: u64,
}

impl ApplyReport {
    /// How many parameters somebody sent.
    pub fn touched(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.touched).sum()
    }
}

/// Applies one delta alone, unclipped, with a step of its own: θ ← θ − `step`·delta. A validator scores a delta with it.
///
/// # Errors
/// As [`Aggregate::new`] and [`Aggregate::step`].
pub fn apply_trial(specs: &[TensorSpec], delta: &Delta, step: f32, params: &mut [f32]) -> Result<(), ApplyError> {
    let header = delta.header();
    let aggregate = Aggregate::new(specs, delta.settings(), header.run, header.window, &[delta])?;
    // The median of one norm is that norm, and the mean of one value that value.
    aggregate.step(AggregationRule::MeanOfAll, step, params).map(|_| ())
}

impl Aggregate {
    /// The outer step of the window: θ ← θ − `outer_lr`·g over the flat parameters. Without contributors nothing changes.
    ///
    /// # Errors
    /// When the length or the learning rate does not fit (nothing was changed), or a parameter would not be finite: the
    /// first such tensor is named.
    pub fn step(&self, rule: AggregationRule, outer_lr: f32, params: &mut [f32]) -> Result<ApplyReport, ApplyError> {
        if !outer_lr.is_finite() {
            return Err(ApplyError::LearningRate(outer_lr));
        }
        let expected = self.tensors().iter().map(|tensor| tensor.layout.elements()).sum();
        if params.len() != expected {
            return Err(ApplyError::Length { found: params.len(), expected });
        }
        if self.contributors() == 0 {
            return Ok(ApplyReport::default());
        }
        let mut work = Vec::with_capacity(self.tensors().len());
        let mut rest = params;
        for tensor in self.tensors() {
            let (params, more) = rest.split_at_mut(tensor.layout.elements());
            rest = more;
            work.push((tensor, params));
        }
        let reports: Vec<Result<TensorReport, ApplyError>> = work
            .into_par_iter()
            .with_max_len(1)
            .map(|(tensor, params)| {
                step_tensor(tensor, self.bytes(), rule, outer_lr, params)
                    .map_err(|index| ApplyError::NonFinite { tensor: tensor.name.clone(), index })
            })
            .collect();
        Ok(ApplyReport { tensors: reports.into_iter().collect::<Result<_, _>>()? })
    }
}

/// The element in the middle, the lower of two.
fn lower_median(norms: &[f64]) -> f64 {
    let mut sorted = norms.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

/// One contributor's tensor as it is walked.
struct Contributor<'a> {
    blocks: Blocks<'a>,
    /// By what its values are multiplied.
    factor: f64,
}

/// Steps one tensor; the error is an index whose parameter would not be finite, the first in wire order.
fn step_tensor(
    tensor: &Tensor,
    bytes: &[u8],
    rule: AggregationRule,
    lr: f32,
    params: &mut [f32],
) -> Result<TensorReport, usize> {
    let layout = &tensor.layout;
    let norms: Vec<f64> = tensor.parts.iter().map(|part| part.norm).collect();
    let median = lower_median(&norms);
    let mut contributors: Vec<Contributor<'_>> = tensor
        .parts
        .iter()
        .map(|part| Contributor {
            blocks: part.blocks(bytes),
            factor: if part.norm > median { median / part.norm } else { 1.0 },
        })
        .collect();

    let mut block = Block::new(layout);
    let mut touched = 0;
    let together = (TOUCHED_TOGETHER / layout.block_len()).max(1);
    for (band, params) in params.chunks_exact_mut(layout.band_len()).enumerate() {
        for across in 0..layout.blocks_across() {
            let start = layout.block_start(across);
            if across % together == 0 {
                touch(layout, together, &params[start..]);
            }
            block.gather(&mut contributors);
            touched += block
                .step(layout, norms.len(), rule, lr, &mut params[start..])
                .map_err(|at| band * layout.band_len() + start + at)?;
        }
    }
    Ok(TensorReport { median_norm: median, clipped: norms.iter().filter(|&&norm| norm > median).count(), touched })
}

/// Parameters that are brought into the cache together: few enough to stay there until they are stepped.
const TOUCHED_TOGETHER: usize = 1 << 16;

/// Reads one number of each cache line of the next blocks of a row of blocks, which begin `params`. The rows of a block lie
/// far apart, so that each line would be waited for when it is stepped; along the rows memory is as fast as it can be.
fn touch(layout: &Layout, blocks: usize, params: &[f32]) {
    const LINE: usize = 16;
    let rows = params.chunks(layout.columns()).take(layout.block_len() / layout.width());
    let lines = rows.flat_map(|row| row.iter().take(blocks * layout.width()).step_by(LINE));
    std::hint::black_box(lines.fold(0, |sum, value| sum ^ value.to_bits()));
}

/// The sums of one block, used again for the next: everything is zero between blocks.
struct Block {
    sums: Vec<f64>,
    senders: Vec<u32>,
    /// A bit for each element that somebody sent.
    sent: Vec<u64>,
}

impl Block {
    fn new(layout: &Layout) -> Self {
        let len = layout.block_len();
        Self { sums: vec![0.0; len], senders: vec![0; len], sent: vec![0; len.div_ceil(64)] }
    }

    /// Adds what every contributor sent of its next block, in order.
    fn gather(&mut self, contributors: &mut [Contributor<'_>]) {
        for contributor in contributors {
            let values = contributor.blocks.levels().map(|level| contributor.factor * f64::from(level));
            let add = |offset: u32, code: u8| {
                let offset = offset as usize;
                self.sums[offset] += values[usize::from(code)];
                self.senders[offset] += 1;
                self.sent[offset / 64] |= 1 << (offset % 64);
            };
            contributor.blocks.next(add).expect("these bytes were checked");
        }
    }

    /// Steps what was sent, and clears it; `params` begins with the block's first element. Tells how many were sent.
    fn step(
        &mut self,
        layout: &Layout,
        contributors: usize,
        rule: AggregationRule,
        lr: f32,
        params: &mut [f32],
    ) -> Result<u64, usize> {
        let (all, lr) = (contributors as f64, f64::from(lr));
        let mut touched = 0;
        let mut bad = None;
        // Offsets ascend, so the row of each is found by going on from the row before.
        let (mut row, mut row_end) = (0, layout.width());
        for (word, sent) in self.sent.iter_mut().enumerate() {
            let mut rest = std::mem::take(sent);
            touched += u64::from(rest.count_ones());
            while rest != 0 {
                let offset = 64 * word + rest.trailing_zeros() as usize;
                rest &= rest - 1;
                while offset >= row_end {
                    (row, row_end) = (row + layout.columns(), row_end + layout.width());
                }
                let at = row + offset + layout.width() - row_end;
                let sum = std::mem::take(&mut self.sums[offset]);
                let senders = std::mem::take(&mut self.senders[offset]);
                let count = match rule {
                    AggregationRule::MeanOfAll => all,
                    AggregationRule::MeanOfSenders => f64::from(senders),
                };
                let stepped = (f64::from(params[at]) - lr * (sum / count)) as f32;
                if !stepped.is_finite() && bad.is_none() {
                    bad = Some(at);
                }
                params[at] = stepped;
            }
        }
        bad.map_or(Ok(touched), Err)
    }
}

//! The outer step: the deltas of a window, in the order of its record, become one step of the parameters.
//!
//! For each tensor, every contributor is clipped to the lower median of the contributors' norms. The clipped
//! values of a coordinate are added in the order given and divided by the count that the rule names, which
//! gives g. Then θ ← θ − lr·g (SGD without momentum). All of it is computed in `f64`, and each parameter is
//! rounded once to `f32`. A coordinate that nobody sent keeps its bits.
//!
//! Threads share the tensors, and each tensor is read block by block. So memory holds, beside the bytes and the
//! parameters, one block for each thread.

use rayon::prelude::*;
use templar_manifest::{AggregationRule, TensorSpec};

use crate::OuterStepError;
use crate::aggregate::{Aggregate, Tensor};
use crate::body::Blocks;
use crate::decode::Delta;
use crate::layout::BlockLayout;

/// A report of an outer step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApplyReport {
    /// A report of each tensor, in order. It is empty when there were no deltas.
    pub tensors: Vec<TensorReport>,
}

/// A report of an outer step of one tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorReport {
    /// The lower median of the contributors' norms, to which they were clipped.
    pub median_norm: f64,
    /// The number of contributors above the median.
    pub clipped: usize,
    /// The number of parameters for which at least one contributor sent a value.
    pub touched: u64,
}

impl ApplyReport {
    /// The number of parameters of all tensors for which at least one contributor sent a value.
    pub fn touched(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.touched).sum()
    }
}

/// Applies one delta alone, unclipped, with a step of its own: θ ← θ − `step`·delta. A validator measures a
/// delta with it.
///
/// # Errors
/// The errors of [`Aggregate::new`] and [`Aggregate::step`].
pub fn apply_trial(specs: &[TensorSpec], delta: &Delta, step: f32, params: &mut [f32]) -> Result<(), OuterStepError> {
    let header = delta.header();
    let aggregate = Aggregate::new(specs, delta.settings(), header.run, header.window, &[delta])?;
    // The median of one norm is that norm, and the mean of one value that value.
    aggregate.step(AggregationRule::MeanOfAll, step, params).map(|_| ())
}

impl Aggregate {
    /// Takes the outer step of the window: θ ← θ − `outer_lr`·g over the flat parameters. Without contributors nothing
    /// changes.
    ///
    /// # Errors
    /// [`OuterStepError`] when the length or the learning rate does not fit, in which case nothing was changed.
    /// Also when a parameter would not be finite: the first such tensor is named, and the parameters must be
    /// discarded.
    pub fn step(
        &self,
        rule: AggregationRule,
        outer_lr: f32,
        params: &mut [f32],
    ) -> Result<ApplyReport, OuterStepError> {
        if !outer_lr.is_finite() {
            return Err(OuterStepError::LearningRate(outer_lr));
        }
        let expected = self.tensors().iter().map(|tensor| tensor.layout.elements()).sum();
        if params.len() != expected {
            return Err(OuterStepError::Length { found: params.len(), expected });
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
        let reports: Vec<Result<TensorReport, OuterStepError>> = work
            .into_par_iter()
            .with_max_len(1)
            .map(|(tensor, params)| {
                step_tensor(tensor, self.bytes(), rule, outer_lr, params)
                    .map_err(|index| OuterStepError::NonFinite { tensor: tensor.name.clone(), index })
            })
            .collect();
        Ok(ApplyReport { tensors: reports.into_iter().collect::<Result<_, _>>()? })
    }
}

/// The element in the middle, or the lower one of the two in the middle.
fn lower_median(norms: &[f64]) -> f64 {
    let mut sorted = norms.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

/// The tensor of one contributor, while its blocks are read one by one.
struct Contributor<'a> {
    blocks: Blocks<'a>,
    /// The factor that clips its values, at most 1.
    factor: f64,
}

/// Steps one tensor. The error is the index of the first parameter, in wire order, that would not be finite.
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

    let step = Step { rule, contributors: norms.len() as f64, lr: f64::from(lr) };
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
            touched +=
                block.step(layout, &step, &mut params[start..]).map_err(|at| band * layout.band_len() + start + at)?;
        }
    }
    Ok(TensorReport { median_norm: median, clipped: norms.iter().filter(|&&norm| norm > median).count(), touched })
}

/// The number of parameters that are brought into the cache together. They are few enough to stay there until
/// their step.
const TOUCHED_TOGETHER: usize = 1 << 16;

/// Reads one number of each cache line of the next blocks of a row of blocks; `params` begins with these
/// blocks. It brings them into the cache. The rows of a block lie far apart, so the step would wait for each
/// line. Reading along the rows is as fast as the memory allows.
fn touch(layout: &BlockLayout, blocks: usize, params: &[f32]) {
    const LINE: usize = 16;
    let rows = params.chunks(layout.columns()).take(layout.block_len() / layout.width());
    let lines = rows.flat_map(|row| row.iter().take(blocks * layout.width()).step_by(LINE));
    std::hint::black_box(lines.fold(0, |sum, value| sum ^ value.to_bits()));
}

/// The numbers that decide a step together with the sums.
struct Step {
    rule: AggregationRule,
    /// The number of contributors of the window.
    contributors: f64,
    /// The outer learning rate.
    lr: f64,
}

/// The sums of one block. The next block uses the same memory, and all of it is zero between two blocks.
struct Block {
    sums: Vec<f64>,
    senders: Vec<u32>,
    /// One bit for each element, set where at least one contributor sent a value.
    sent: Vec<u64>,
}

impl Block {
    fn new(layout: &BlockLayout) -> Self {
        let len = layout.block_len();
        Self { sums: vec![0.0; len], senders: vec![0; len], sent: vec![0; len.div_ceil(64)] }
    }

    /// Adds the values of every contributor for the next block, in order.
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

    /// Steps the elements that somebody sent, and clears the sums. `params` begins with the block's first
    /// element. Gives how many elements were sent; the error is the place of the first parameter that would not
    /// be finite.
    fn step(&mut self, layout: &BlockLayout, step: &Step, params: &mut [f32]) -> Result<u64, usize> {
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
                let count = match step.rule {
                    AggregationRule::MeanOfAll => step.contributors,
                    AggregationRule::MeanOfSenders => f64::from(senders),
                };
                let stepped = (f64::from(params[at]) - step.lr * (sum / count)) as f32;
                if !stepped.is_finite() && bad.is_none() {
                    bad = Some(at);
                }
                params[at] = stepped;
            }
        }
        bad.map_or(Ok(touched), Err)
    }
}

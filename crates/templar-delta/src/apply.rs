//! The outer step: the deltas of a window, in the order of its record, become one step of the parameters.
//!
//! Per tensor: each contributor is clipped to the lower median of the contributors' norms, the clipped values of a
//! coordinate are added in the order given, divided by the rule's count, and θ ← θ − lr·g (SGD without momentum). All in
//! `f64`, each parameter rounded once to `f32`; a coordinate that nobody sent keeps its bits. One tensor of each delta is
//! decoded at a time.

use rayon::prelude::*;
use templar_manifest::TensorSpec;

use crate::decode::{Delta, SparseTensor};
use crate::layout::{Layout, ShapeError};
use crate::quantise::LEVELS;
use crate::settings::Rule;

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
    /// A delta was decoded for other tensors or settings.
    #[error("delta {position} was decoded for other tensors or settings")]
    OtherModel {
        /// Its place in the order given.
        position: usize,
    },
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

/// Applies one window's deltas, in the order of its record, to the flat parameters: θ ← θ − `outer_lr`·g.
///
/// With no deltas nothing changes.
///
/// # Errors
/// When shapes, lengths or the learning rate do not fit (nothing was changed), or a parameter would not be finite.
pub fn apply(
    specs: &[TensorSpec],
    deltas: &[&Delta],
    rule: Rule,
    outer_lr: f32,
    params: &mut [f32],
) -> Result<ApplyReport, ApplyError> {
    if !outer_lr.is_finite() {
        return Err(ApplyError::LearningRate(outer_lr));
    }
    let total = specs.iter().try_fold(0usize, |sum, spec| sum.checked_add(spec.checked_elements()?));
    let total = total.ok_or(ShapeError::Model)?;
    if params.len() != total {
        return Err(ApplyError::Length { found: params.len(), expected: total });
    }
    let Some(first) = deltas.first() else {
        return Ok(ApplyReport::default());
    };
    let (layouts, _) = Layout::all(specs, first.settings())?;
    for (position, delta) in deltas.iter().enumerate() {
        let fits = delta.tensor_count() == specs.len()
            && layouts.iter().enumerate().all(|(index, layout)| delta.layout(index) == layout);
        if !fits {
            return Err(ApplyError::OtherModel { position });
        }
    }

    let mut report = ApplyReport::default();
    let mut rest = params;
    for (index, (spec, layout)) in specs.iter().zip(&layouts).enumerate() {
        let (params, more) = rest.split_at_mut(layout.elements());
        rest = more;
        let tensor = step_tensor(layout, deltas, index, rule, outer_lr, params)
            .map_err(|index| ApplyError::NonFinite { tensor: spec.name.clone(), index })?;
        report.tensors.push(tensor);
    }
    Ok(report)
}

/// Applies one delta alone, unclipped, with a step of its own: θ ← θ − `step`·delta. A validator scores a delta with it.
///
/// # Errors
/// As [`apply`].
pub fn apply_trial(specs: &[TensorSpec], delta: &Delta, step: f32, params: &mut [f32]) -> Result<(), ApplyError> {
    // The median of one norm is that norm, and the mean of one value that value.
    apply(specs, &[delta], Rule::MeanOfAll, step, params).map(|_| ())
}

/// The element in the middle, the lower of two.
fn lower_median(norms: &[f64]) -> f64 {
    let mut sorted = norms.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

/// One contributor's tensor with its levels already clipped.
struct Clipped {
    tensor: SparseTensor,
    levels: [f64; LEVELS],
}

/// Sums of one block, reused: `sums[o]` and `senders[o]` are zero between blocks.
struct Scratch {
    sums: Vec<f64>,
    senders: Vec<u32>,
}

/// Steps one tensor; the error is an index whose parameter would not be finite, the first in wire order.
fn step_tensor(
    layout: &Layout,
    deltas: &[&Delta],
    index: usize,
    rule: Rule,
    lr: f32,
    params: &mut [f32],
) -> Result<TensorReport, usize> {
    let norms: Vec<f64> = deltas.iter().map(|delta| delta.norm(index)).collect();
    let median = lower_median(&norms);
    let clipped: Vec<Clipped> = deltas
        .par_iter()
        .zip(&norms)
        .map(|(delta, &norm)| {
            let tensor = delta.tensor(index);
            let factor = if norm > median { median / norm } else { 1.0 };
            let levels = tensor.levels.map(|level| factor * f64::from(level));
            Clipped { tensor, levels }
        })
        .collect();

    let bands: Vec<Result<u64, usize>> = params
        .par_chunks_mut(layout.band_len())
        .enumerate()
        .with_min_len(layout.bands_per_task())
        .map_init(
            || Scratch { sums: vec![0.0; layout.block_len()], senders: vec![0; layout.block_len()] },
            |scratch, (band, params)| {
                let mut touched = 0;
                for across in 0..layout.blocks_across() {
                    let block = band * layout.blocks_across() + across;
                    let start = layout.block_start(across);
                    touched += step_block(layout, &clipped, block, rule, lr, scratch, &mut params[start..])
                        .map_err(|at| band * layout.band_len() + start + at)?;
                }
                Ok(touched)
            },
        )
        .collect();
    let mut touched = 0;
    for band in bands {
        touched += band?;
    }
    Ok(TensorReport { median_norm: median, clipped: norms.iter().filter(|&&norm| norm > median).count(), touched })
}

/// Steps one block; `params` begins with its first element.
fn step_block(
    layout: &Layout,
    contributors: &[Clipped],
    block: usize,
    rule: Rule,
    lr: f32,
    scratch: &mut Scratch,
    params: &mut [f32],
) -> Result<u64, usize> {
    let places = block * layout.kept_per_block()..(block + 1) * layout.kept_per_block();
    for contributor in contributors {
        let tensor = &contributor.tensor;
        for (&offset, &code) in tensor.offsets[places.clone()].iter().zip(&tensor.codes[places.clone()]) {
            scratch.sums[offset as usize] += contributor.levels[code as usize];
            scratch.senders[offset as usize] += 1;
        }
    }
    let mut touched = 0;
    let mut bad = None;
    for contributor in contributors {
        for &offset in &contributor.tensor.offsets[places.clone()] {
            let offset = offset as usize;
            let senders = std::mem::take(&mut scratch.senders[offset]);
            if senders == 0 {
                continue; // an earlier contributor's visit has stepped it
            }
            let sum = std::mem::take(&mut scratch.sums[offset]);
            let count = match rule {
                Rule::MeanOfAll => contributors.len() as f64,
                Rule::MeanOfSenders => f64::from(senders),
            };
            let at = layout.within_block(offset);
            let stepped = (f64::from(params[at]) - f64::from(lr) * (sum / count)) as f32;
            if !stepped.is_finite() {
                bad = Some(bad.map_or(at, |first: usize| first.min(at)));
            }
            params[at] = stepped;
            touched += 1;
        }
    }
    bad.map_or(Ok(touched), Err)
}

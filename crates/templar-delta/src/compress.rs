//! Compresses a pseudo-gradient into the bytes that a miner sends: error feedback, top-k, quantiser, codec.
//!
//! First e ← βe + Δ. Then the largest values of every block of e are quantised and sent. Then the values that
//! the receivers will decode are subtracted from e (SparseLoCo, arXiv 2508.15706).
//!
//! Threads share the tensors and the rows of blocks. Each result depends only on its own inputs and has its own
//! place, so the bytes are the same for any number of threads.

use rayon::prelude::*;
use templar_manifest::TensorSpec;

use crate::body::encode;
use crate::layout::{BlockLayout, ShapeError};
use crate::quantise::{Quantised, quantise};
use crate::scale::MAX_MAGNITUDE;
use crate::settings::{DeltaSettings, PPM};
use crate::wire::{self, DeltaHeader};

/// A pseudo-gradient cannot be compressed. The error feedback is unchanged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CompressError {
    /// The tensors cannot be laid out.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The pseudo-gradient or the error feedback has another length than the tensors together.
    #[error("the {what} has {found} values, the tensors have {expected}")]
    Length {
        /// The vector at fault: "pseudo-gradient" or "error feedback".
        what: &'static str,
        /// The number of its values.
        found: usize,
        /// The number of parameters of the model.
        expected: usize,
    },
    /// βe + Δ is not finite or too large to be sent.
    #[error("tensor {tensor}: value {index} is {value}, not a number of magnitude at most 2^100")]
    Value {
        /// The name of the tensor.
        tensor: String,
        /// The position in the flat tensor.
        index: usize,
        /// The value of βe + Δ there.
        value: f32,
    },
}

/// βe + Δ in `f64`, rounded once to `f32`. β is the decay in parts per million, divided by 10^6.
fn decayed(decay: f64, error: f32, delta: f32) -> f32 {
    (decay * f64::from(error) + f64::from(delta)) as f32
}

/// Compresses the pseudo-gradient Δ = θ_start − θ_end into the bytes of a delta, and updates the error feedback:
/// e ← βe + Δ − decoded. Both vectors are flat, in the order of `specs`, and have the same length.
///
/// # Errors
/// [`CompressError`] when shapes or lengths do not fit, or when βe + Δ is not finite or exceeds
/// [`MAX_MAGNITUDE`] somewhere. The first such value is named. The error feedback is unchanged after an error.
pub fn compress(
    specs: &[TensorSpec],
    settings: &DeltaSettings,
    header: &DeltaHeader,
    pseudo_gradient: &[f32],
    error: &mut [f32],
) -> Result<Vec<u8>, CompressError> {
    let (layouts, total) = BlockLayout::all(specs, settings)?;
    for (what, found) in [("pseudo-gradient", pseudo_gradient.len()), ("error feedback", error.len())] {
        if found != total {
            return Err(CompressError::Length { what, found, expected: total });
        }
    }
    let decay = f64::from(settings.error_decay_ppm()) / f64::from(PPM);

    let mut tensors = Vec::with_capacity(specs.len());
    let (mut deltas, mut errors) = (pseudo_gradient, error);
    for (spec, layout) in specs.iter().zip(&layouts) {
        let (delta, more_deltas) = deltas.split_at(layout.elements());
        let (error, more_errors) = errors.split_at_mut(layout.elements());
        check(&spec.name, decay, delta, error)?;
        tensors.push((layout, delta, error));
        (deltas, errors) = (more_deltas, more_errors);
    }
    let bodies: Vec<Vec<u8>> = tensors
        .into_par_iter()
        .map(|(layout, delta, error)| {
            let (offsets, values) = select(layout, decay, delta, error);
            let quantised =
                quantise(settings.quantiser(), &values, layout.kept_per_block() * layout.blocks_per_scale());
            subtract(layout, error, &offsets, &quantised);
            encode(layout, &offsets, &quantised)
        })
        .collect();
    Ok(wire::write(settings, header, &bodies))
}

/// Checks that every value of βe + Δ can be sent, before anything is changed.
fn check(tensor: &str, decay: f64, delta: &[f32], error: &[f32]) -> Result<(), CompressError> {
    let usable = |value: f32| value.abs() <= MAX_MAGNITUDE; // false for NaN
    let bad = delta
        .par_iter()
        .zip(error)
        .with_min_len(16_384)
        .position_first(|(&delta, &error)| !usable(decayed(decay, error, delta)));
    match bad {
        None => Ok(()),
        Some(index) => Err(CompressError::Value {
            tensor: tensor.to_owned(),
            index,
            value: decayed(decay, error[index], delta[index]),
        }),
    }
}

/// Sets e ← βe + Δ. Returns the positions and the values of the largest elements of every block, in wire order.
/// A position is counted from the start of its block.
fn select(layout: &BlockLayout, decay: f64, delta: &[f32], error: &mut [f32]) -> (Vec<u32>, Vec<f32>) {
    let mut offsets = vec![0u32; layout.kept()];
    let mut values = vec![0f32; layout.kept()];
    let kept = layout.kept_per_block();
    error
        .par_chunks_mut(layout.band_len())
        .zip(delta.par_chunks(layout.band_len()))
        .zip(offsets.par_chunks_mut(layout.band_kept()))
        .zip(values.par_chunks_mut(layout.band_kept()))
        .with_min_len(layout.bands_per_task())
        .for_each_init(
            || (Vec::new(), Vec::new()),
            |(block, magnitudes), (((error, delta), offsets), values)| {
                for (error, &delta) in error.iter_mut().zip(delta) {
                    *error = decayed(decay, *error, delta);
                }
                let places = offsets.chunks_exact_mut(kept).zip(values.chunks_exact_mut(kept));
                for (across, (offsets, values)) in places.enumerate() {
                    layout.gather(error, layout.block_start(across), block);
                    top_k(block, magnitudes, offsets);
                    for (value, &offset) in values.iter_mut().zip(&*offsets) {
                        *value = block[offset as usize];
                    }
                }
            },
        );
    (offsets, values)
}

/// Fills `offsets` with the positions of the largest magnitudes of `block`, in ascending order. Of equal
/// magnitudes it takes the first ones.
///
/// The magnitudes of finite floats have the same order as their bits, so it compares integers.
fn top_k(block: &[f32], magnitudes: &mut Vec<u32>, offsets: &mut [u32]) {
    let kept = offsets.len();
    let bits = |value: f32| value.abs().to_bits();
    magnitudes.clear();
    magnitudes.extend(block.iter().map(|&value| bits(value)));
    let (_, &mut threshold, _) = magnitudes.select_nth_unstable_by(kept - 1, |a, b| b.cmp(a));
    let above = magnitudes[..kept].iter().filter(|&&magnitude| magnitude > threshold).count();
    let mut equals = kept - above;
    let mut places = offsets.iter_mut();
    for (offset, &value) in (0u32..).zip(block) {
        let magnitude = bits(value);
        let take = magnitude > threshold || (magnitude == threshold && equals > 0);
        if take {
            equals -= usize::from(magnitude == threshold);
            match places.next() {
                Some(place) => *place = offset,
                None => return,
            }
        }
    }
}

/// Sets e ← e − decoded at the positions that are sent.
fn subtract(layout: &BlockLayout, error: &mut [f32], offsets: &[u32], quantised: &Quantised) {
    let kept = layout.kept_per_block();
    error
        .par_chunks_mut(layout.band_len())
        .zip(offsets.par_chunks(layout.band_kept()))
        .zip(quantised.codes.par_chunks(layout.band_kept()))
        .enumerate()
        .with_min_len(layout.bands_per_task())
        .for_each(|(band, ((error, offsets), codes))| {
            for (across, (offsets, codes)) in offsets.chunks_exact(kept).zip(codes.chunks_exact(kept)).enumerate() {
                let start = layout.block_start(across);
                let levels =
                    quantised.levels.of_scale((band * layout.blocks_across() + across) / layout.blocks_per_scale());
                for (&offset, &code) in offsets.iter().zip(codes) {
                    error[start + layout.within_block(offset as usize)] -= levels[code as usize];
                }
            }
        });
}

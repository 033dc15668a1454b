//! From a pseudo-gradient to the bytes that a miner sends: error feedback, top-k, quantiser, codec.
//!
//! e ← βe + Δ; the largest values of every block of e are quantised and sent; e ← e − what the receivers will decode
//! (SparseLoCo, arXiv 2508.15706). Tensors and rows of blocks are shared out to threads; each result depends on its own
//! inputs alone and is put in its place, so the bytes are the same for any number of threads.

use rayon::prelude::*;
use templar_manifest::TensorSpec;

use crate::body::{encode, max_body_bytes};
use crate::layout::{Layout, ShapeError};
use crate::quantise::{Quantised, quantise};
use crate::settings::{PPM, Settings};
use crate::wire::{self, Header, MAX_HEADER_BYTES};

/// The largest magnitude of e and of what a delta decodes to, 2^100. Sums and differences of such numbers are finite.
pub const MAX_MAGNITUDE: f32 = f32::from_bits((127 + 100) << 23);

/// A pseudo-gradient cannot be compressed. The error feedback is as it was.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CompressError {
    /// The tensors cannot be laid out.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The pseudo-gradient or the error feedback is not as long as the tensors together.
    #[error("the {what} has {found} values, the tensors have {expected}")]
    Length {
        /// Which of the two.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The parameters of the model.
        expected: usize,
    },
    /// βe + Δ is not finite or too large to be sent.
    #[error("tensor {tensor}: value {index} is {value}, not a number of magnitude at most 2^100")]
    Value {
        /// The tensor's name.
        tensor: String,
        /// The position in the tensor.
        index: usize,
        /// The value of βe + Δ there.
        value: f32,
    },
}

/// βe + Δ in `f64`, rounded once to `f32`; β is the decay in parts per million over 10^6.
fn decayed(decay: f64, error: f32, delta: f32) -> f32 {
    (decay * f64::from(error) + f64::from(delta)) as f32
}

/// Compresses the pseudo-gradient Δ = θ_start − θ_end (flat, in the order of `specs`) into the bytes of a delta, and
/// updates the error feedback (same length): e ← βe + Δ − decoded.
///
/// # Errors
/// When shapes and lengths do not fit, or βe + Δ is not finite or exceeds [`MAX_MAGNITUDE`] somewhere; the first such
/// value is named, and the error feedback is unchanged.
pub fn compress(
    specs: &[TensorSpec],
    settings: &Settings,
    header: &Header,
    pseudo_gradient: &[f32],
    error: &mut [f32],
) -> Result<Vec<u8>, CompressError> {
    let (layouts, total) = Layout::all(specs, settings)?;
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

/// Looks for a value that cannot be sent, before anything is changed.
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

/// e ← βe + Δ, then the positions in their blocks and the values of the largest of every block, in wire order.
fn select(layout: &Layout, decay: f64, delta: &[f32], error: &mut [f32]) -> (Vec<u32>, Vec<f32>) {
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

/// Fills `offsets` with the positions of the largest magnitudes of `block`, ascending; of equals, the first ones.
///
/// Magnitudes of finite floats order as their bits do, so this is integer comparison.
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

/// e ← e − decoded, at the positions that are sent.
fn subtract(layout: &Layout, error: &mut [f32], offsets: &[u32], quantised: &Quantised) {
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

/// No valid delta of these tensors is longer: the bound for fetching one.
///
/// # Errors
/// When the tensors cannot be laid out.
pub fn max_bytes(specs: &[TensorSpec], settings: &Settings) -> Result<u64, ShapeError> {
    let (layouts, _) = Layout::all(specs, settings)?;
    // A length takes at most six bytes: a tensor has less than 2^32 elements, and 2^42 bits are more than it can need.
    let fixed = (MAX_HEADER_BYTES + 6 * layouts.len()) as u64;
    let bodies = layouts.iter().map(|layout| max_body_bytes(layout, settings.quantiser()));
    Ok(bodies.fold(fixed, u64::saturating_add))
}

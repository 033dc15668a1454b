//! One tensor of a delta as bytes: a front with the parameters of the codes, the positions, the scales of
//! blocks, the codes.
//!
//! A body can be read without the other bodies, and it has one spelling: [`Blocks`] visits every value once and
//! refuses any other spelling on the way. The crate's documentation specifies the bytes.

mod blocks;
mod fault;
mod front;

use templar_manifest::Quantiser;

use crate::fields::put_number;
use crate::golomb;
use crate::layout::BlockLayout;
use crate::quantise::{LEVELS, Levels, Quantised};
use crate::rans;
use crate::scale::MAX_SCALE;

pub(crate) use blocks::Blocks;
#[cfg(test)]
pub(crate) use blocks::levels;
pub use fault::TensorFault;
pub(crate) use front::TensorBody;

/// For each position, the number of elements left out before it, counted from the position before or from the
/// start of the block.
fn gaps(layout: &BlockLayout, offsets: &[u32]) -> Vec<u32> {
    let kept = layout.kept_per_block();
    let mut gaps = vec![0; offsets.len()];
    for (gaps, offsets) in gaps.chunks_exact_mut(kept).zip(offsets.chunks_exact(kept)) {
        gaps[0] = offsets[0];
        for (gap, pair) in gaps[1..].iter_mut().zip(offsets.windows(2)) {
            // Positions ascend.
            *gap = pair[1].wrapping_sub(pair[0]).wrapping_sub(1);
        }
    }
    gaps
}

/// The steps from each scale to the next, in zigzag order: 0, −1, 1, −2, … become 0, 1, 2, 3, …
fn steps(scales: &[u16]) -> Vec<u32> {
    let step = |pair: &[u16]| {
        let step = i32::from(pair[1]) - i32::from(pair[0]);
        (step << 1 ^ step >> 31) as u32
    };
    scales.windows(2).map(step).collect()
}

/// Encodes one tensor: its positions in their blocks, its codes and its levels.
pub(crate) fn encode(layout: &BlockLayout, offsets: &[u32], quantised: &Quantised) -> Vec<u8> {
    let (m, indices) = golomb::encode(&if layout.is_whole() { Vec::new() } else { gaps(layout, offsets) });
    let mut body = Vec::with_capacity(indices.len() + quantised.codes.len() / 4 + 64);
    put_number(&mut body, m.into());
    put_number(&mut body, indices.len() as u64);

    let signs = matches!(quantised.levels, Levels::Signs(_));
    let mut frequencies = [0; LEVELS];
    if !signs {
        frequencies = rans::frequencies(rans::counts(&quantised.codes));
        put_frequencies(&mut body, frequencies);
    }
    let mut scale_bytes = Vec::new();
    match &quantised.levels {
        Levels::Table(levels) => {
            for (level, _) in levels.iter().zip(frequencies).filter(|&(_, frequency)| frequency > 0) {
                body.extend_from_slice(&level.to_le_bytes());
            }
        }
        Levels::Signs(scales) => scale_bytes = put_scales(&mut body, scales),
        Levels::Ratios([small, large], scales) => {
            body.extend_from_slice(&small.to_le_bytes());
            body.extend_from_slice(&large.to_le_bytes());
            scale_bytes = put_scales(&mut body, scales);
        }
    }
    body.extend_from_slice(&indices);
    body.extend_from_slice(&scale_bytes);
    if signs {
        body.extend(quantised.codes.chunks(8).map(|codes| codes.iter().rev().fold(0, |byte, code| byte << 1 | code)));
    } else {
        body.extend_from_slice(&rans::encode(&quantised.codes, frequencies));
    }
    body
}

/// Appends the set of codes that occur, and the frequency of each of them but the last.
fn put_frequencies(body: &mut Vec<u8>, frequencies: [u16; LEVELS]) {
    let used = (0..LEVELS).filter(|&code| frequencies[code] > 0);
    body.push(used.clone().fold(0, |set, code| set | 1 << code));
    let last = used.clone().next_back();
    for code in used.filter(|&code| Some(code) != last) {
        body.extend_from_slice(&frequencies[code].to_le_bytes());
    }
}

/// Appends the first scale, and the Golomb parameter and the length of the steps to the others. Returns the
/// bytes of these steps.
fn put_scales(body: &mut Vec<u8>, scales: &[u16]) -> Vec<u8> {
    let (m, bytes) = golomb::encode(&steps(scales));
    put_number(body, scales[0].into());
    put_number(body, m.into());
    put_number(body, bytes.len() as u64);
    bytes
}

/// The most bytes that a body of this tensor can have.
pub(crate) fn max_body_bytes(layout: &BlockLayout, quantiser: Quantiser) -> u64 {
    // At most: two numbers of five bytes, seven bytes of frequencies, and four levels or two ratios and three numbers.
    const FRONT: u64 = 40;
    let kept = layout.kept() as u64;
    let left_out = layout.elements() as u64 - kept;
    let index_bits = if layout.is_whole() { 0 } else { golomb::max_bits(kept, left_out) };
    let steps = layout.scales() as u64 - 1;
    let scale_bits = golomb::max_bits(steps, steps * 2 * u64::from(MAX_SCALE));
    let (scale_bits, code_bytes) = match quantiser {
        Quantiser::Templar4 => (0, rans::max_bytes(kept)),
        Quantiser::BlockSign => (scale_bits, kept.div_ceil(8)),
        Quantiser::BlockLevels => (scale_bits, rans::max_bytes(kept)),
    };
    FRONT + index_bits.div_ceil(8) + scale_bits.div_ceil(8) + code_bytes
}

//! The first parameters: drawn by us from the run's seed, so that every machine starts from the same bits.
//!
//! Per tensor, BLAKE3 keyed with the seed over `"templar init/1\0" ‖ name` is extended to 16 bytes per pair of
//! elements. Each pair is a Box–Muller draw in f64 from the two little-endian words `a` and `b`: with
//! `r = √(−2 ln(((a ≫ 11) + 1)·2⁻⁵³))` and `φ = 2π·((b ≫ 11)·2⁻⁵³)` the elements are `r cos φ` and `r sin φ`, times
//! the deviation, rounded once to f32. Transcendentals are the pure-Rust `libm` crate's. Norm weights are 1.
//! The deviation is 0.02, and `0.02/√(2·layers)` for the projections that write into the residual stream
//! (GPT-2's rule).

use std::f64::consts::PI;

use rayon::prelude::*;

use crate::layout::Layout;

/// Elements that one task draws: even, so that no pair is cut.
const PIECE: usize = 1 << 14;
/// Standard deviation of a weight.
const DEVIATION: f64 = 0.02;
/// The context that precedes a tensor's name.
const CONTEXT: &[u8] = b"templar init/1\0";

/// The whole parameter vector.
pub(crate) fn draw(layout: &Layout, seed: &[u8; 32]) -> Vec<f32> {
    let mut params = vec![1.0f32; layout.parameters];
    let residual = DEVIATION / (2.0 * layout.layers.len() as f64).sqrt();
    for (tensor, range) in layout.tensors.iter().zip(&layout.ranges) {
        if tensor.shape.len() == 1 {
            continue;
        }
        let writes_residual = tensor.name.ends_with("o_proj.weight") || tensor.name.ends_with("down_proj.weight");
        let deviation = if writes_residual { residual } else { DEVIATION };
        let mut hasher = blake3::Hasher::new_keyed(seed);
        hasher.update(CONTEXT);
        hasher.update(tensor.name.as_bytes());
        params[range.clone()].par_chunks_mut(PIECE).enumerate().for_each(|(piece, elements)| {
            let mut stream = hasher.finalize_xof();
            stream.set_position((piece * PIECE * 8) as u64);
            for pair in elements.chunks_mut(2) {
                let normal = normal_pair(&mut stream);
                for (element, normal) in pair.iter_mut().zip(normal) {
                    *element = (normal * deviation) as f32;
                }
            }
        });
    }
    params
}

/// Two independent standard normals (Box and Muller, 1958).
fn normal_pair(stream: &mut blake3::OutputReader) -> [f64; 2] {
    const STEP: f64 = 1.0 / (1u64 << 53) as f64;
    let (mut first, mut second) = ([0u8; 8], [0u8; 8]);
    stream.fill(&mut first);
    stream.fill(&mut second);
    let above_zero = ((u64::from_le_bytes(first) >> 11) + 1) as f64 * STEP;
    let turn = (u64::from_le_bytes(second) >> 11) as f64 * STEP;
    let radius = (-2.0 * libm::log(above_zero)).sqrt();
    let (sin, cos) = libm::sincos(2.0 * PI * turn);
    [radius * cos, radius * sin]
}

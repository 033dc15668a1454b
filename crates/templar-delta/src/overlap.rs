//! How alike the positions are that miners chose: a copied delta shares nearly all of them, honest ones far fewer.
//!
//! The measure is |A ∩ B| over the number sent, over all tensors that send a selection; a tensor that is sent whole says
//! nothing and is left out. Blocks of a tensor keep equally many, so this is the mean over blocks of |A ∩ B|/k, weighted
//! by size.

use crate::decode::{Delta, SparseTensor};
use crate::settings::PPM;

/// The overlap of every pair, in parts per million rounded down: `result[i][j]` is that of `deltas[i]` and `deltas[j]`.
/// Each delta is decoded once, one tensor at a time. All must be deltas of one model and run; of tensors that others
/// lack or lay out differently nothing is counted. Where no tensor sends a selection it is 0.
pub fn overlaps_ppm(deltas: &[&Delta]) -> Vec<Vec<u32>> {
    let count = deltas.len();
    let mut shared = vec![vec![(0u64, 0u64); count]; count];
    let tensors = deltas.iter().map(|delta| delta.tensor_count()).max().unwrap_or(0);
    for index in 0..tensors {
        let decoded: Vec<Option<SparseTensor>> = deltas
            .iter()
            .map(|delta| {
                let selects = index < delta.tensor_count() && !delta.layout(index).is_whole();
                selects.then(|| delta.tensor(index))
            })
            .collect();
        for (i, a) in decoded.iter().enumerate() {
            for (j, b) in decoded.iter().enumerate() {
                if let (Some(a), Some(b)) = (a, b)
                    && a.layout == b.layout
                {
                    shared[i][j].0 += common(a, b);
                    shared[i][j].1 += a.len() as u64;
                }
            }
        }
    }
    let ppm = |(common, all): (u64, u64)| {
        // Below 2^84, and the quotient is at most a million.
        (u128::from(common) * u128::from(PPM)).checked_div(u128::from(all)).unwrap_or(0) as u32
    };
    shared.into_iter().map(|row| row.into_iter().map(ppm).collect()).collect()
}

/// The overlap of two deltas in parts per million: see [`overlaps_ppm`].
pub fn overlap_ppm(a: &Delta, b: &Delta) -> u32 {
    overlaps_ppm(&[a, b])[0][1]
}

/// How many positions two tensors of one layout share.
fn common(a: &SparseTensor, b: &SparseTensor) -> u64 {
    let kept = a.layout.kept_per_block();
    a.offsets.chunks_exact(kept).zip(b.offsets.chunks_exact(kept)).map(|(a, b)| common_in_block(a, b)).sum()
}

/// How many numbers two ascending lists share.
fn common_in_block(a: &[u32], b: &[u32]) -> u64 {
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        common += u64::from(a[i] == b[j]);
        (i, j) = (i + usize::from(a[i] <= b[j]), j + usize::from(b[j] <= a[i]));
    }
    common
}

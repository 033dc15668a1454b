//! The overlap of two deltas: the share of positions that both of them send. A copied delta shares nearly all
//! positions with its original, and honest deltas share far fewer.
//!
//! The overlap of A and B is |A ∩ B| divided by the number of positions sent, over all tensors. A tensor of
//! which every element is sent is left out, because all miners send the same positions of it. All blocks of a
//! tensor send equally many values, so the overlap is the mean of |A ∩ B| ÷ k over the blocks, weighted by k.

use crate::decode::{Delta, SparseTensor};
use crate::settings::PPM;

/// The overlap of every pair, in parts per million rounded down: `result[i][j]` is that of `deltas[i]` and `deltas[j]`.
///
/// Each delta is decoded once, one tensor at a time. The deltas must be of one model and run. A tensor that the
/// other delta lacks or lays out differently is not counted. The overlap is 0 where no tensor counts.
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

/// The overlap of two deltas in parts per million, as in [`overlaps_ppm`].
pub fn overlap_ppm(a: &Delta, b: &Delta) -> u32 {
    overlaps_ppm(&[a, b])[0][1]
}

/// The number of positions that two tensors of one layout share.
fn common(a: &SparseTensor, b: &SparseTensor) -> u64 {
    let kept = a.layout.kept_per_block();
    a.offsets.chunks_exact(kept).zip(b.offsets.chunks_exact(kept)).map(|(a, b)| common_in_block(a, b)).sum()
}

/// The number of elements that two ascending lists share.
fn common_in_block(a: &[u32], b: &[u32]) -> u64 {
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        common += u64::from(a[i] == b[j]);
        (i, j) = (i + usize::from(a[i] <= b[j]), j + usize::from(b[j] <= a[i]));
    }
    common
}

//! Panels of bytes: four k of one limb in a dword, for units that multiply 8-bit integers and add four neighbours.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes. So the right side's limbs are 128 too large, and each left row comes
//! with a correction that a tile takes off its sums.

use super::{Panel, Side, Source};
use crate::i8x2::scale::{BLOCK, integer, scales};

/// k that share a dword of bytes.
const GROUP: usize = 4;

/// Groups of a whole block.
pub(in crate::i8x2) const GROUPS: usize = BLOCK / GROUP;

/// The right side's bytes are unsigned, 128 more than the limb.
const UNSIGNED: i32 = i32::from_le_bytes([128; GROUP]);

/// What `Σ (b + 128)·a` has too much in T, where `hi` and `lo` are the sums of a row's limbs.
#[inline(always)]
fn correction(hi: i32, lo: i32) -> i32 {
    // 256·Σ hi·(hi + 128), then Σ hi·(lo + 128) + lo·(hi + 128).
    128i32.wrapping_mul(hi.wrapping_mul(257).wrapping_add(lo))
}

/// Packs bytes, group by group: the high limbs of all rows, then the low limbs. A left row that lies along k has its
/// groups of high limbs and then those of low limbs, 2 [`GROUPS`] dwords in all.
#[inline(always)]
pub(in crate::i8x2) fn bytes<const W: usize>(side: Side, source: &Source, to: Panel<W>) {
    let flip = if side == Side::Right { UNSIGNED } else { 0 };
    if !source.along {
        return bytes_across(side, flip, source, to);
    }
    to.scales.fill(0.0);
    for i in 0..source.wide.len() {
        let row = source.row(i);
        let (inverse, scale) = scales(source.exponent(row));
        to.scales[i] = scale;
        let (mut hi, mut lo) = ([0u8; BLOCK], [0u8; BLOCK]);
        let mut sums = (0i32, 0i32);
        for ((hi, lo), x) in hi.iter_mut().zip(&mut lo).zip(row) {
            let q = integer(*x, inverse);
            let high = q.wrapping_add(128) >> 8;
            (*hi, *lo) = (high as u8, q as u8);
            sums = (sums.0.wrapping_add(high), sums.1.wrapping_add(i32::from(q as i8)));
        }
        let groups = hi.as_chunks::<GROUP>().0.iter().zip(lo.as_chunks::<GROUP>().0);
        let groups = groups.map(|(hi, lo)| [hi, lo].map(|limb| i32::from_le_bytes(*limb) ^ flip));
        match side {
            Side::Left => {
                to.corrections[i] = correction(sums.0, sums.1);
                let (high, low) = to.dwords[2 * GROUPS * i..][..2 * GROUPS].split_at_mut(GROUPS);
                for ([hi, lo], (high, low)) in groups.zip(high.iter_mut().zip(low)) {
                    (*high, *low) = (hi, lo);
                }
            }
            Side::Right => {
                for ([hi, lo], out) in groups.zip(to.dwords.chunks_exact_mut(2 * W)) {
                    (out[i], out[W + i]) = (hi, lo);
                }
            }
        }
    }
}

#[inline(always)]
fn bytes_across<const W: usize>(side: Side, flip: i32, source: &Source, to: Panel<W>) {
    let inverses = source.scales_across(to.scales);
    let (mut high_sums, mut low_sums) = ([0i32; W], [0i32; W]);
    let starts = source.k.clone().step_by(GROUP);
    for (start, out) in starts.zip(to.dwords.chunks_exact_mut(2 * W)) {
        let (high, low) = out.split_at_mut(W);
        let (mut his, mut los) = ([flip; W], [flip; W]);
        for (place, k) in (start..source.k.end.min(start + GROUP)).enumerate() {
            let row = source.across::<W>(k);
            for i in 0..W {
                let q = integer(row[i], inverses[i]);
                let hi = q.wrapping_add(128) >> 8;
                his[i] ^= (hi & 0xff) << (8 * place);
                los[i] ^= (q & 0xff) << (8 * place);
                high_sums[i] = high_sums[i].wrapping_add(hi);
                low_sums[i] = low_sums[i].wrapping_add(q.wrapping_sub(hi << 8));
            }
        }
        high.copy_from_slice(&his);
        low.copy_from_slice(&los);
    }
    if side == Side::Left {
        for i in 0..W {
            to.corrections[i] = correction(high_sums[i], low_sums[i]);
        }
    }
}

//! The units of x86-64. One instruction each does the multiplications; the rest is plain Rust under its features.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi32, _mm_loadu_si128, _mm_madd_epi16, _mm_set1_epi32, _mm_setzero_si128,
    _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi32, _mm256_setzero_si256,
    _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
};

use super::{Avx2, Multiplier, Operands, Sse2, Vnni, add_terms};
use crate::gemm::Tile;
use crate::i8x2::pack::{self, GROUPS, Panel, Side, Source};
use crate::i8x2::scale::BLOCK;

/// A unit that multiplies words: `madd` multiplies 16-bit integers and adds neighbours, so it gives one k's part of T.
macro_rules! word_unit {
    (
        $unit:ident, $features:literal, $rows:literal x $vectors:literal of $lanes:literal: $vector:ty,
        $zero:ident, $load:ident, $broadcast:ident, $madd:ident, $add:ident
    ) => {
        impl $unit {
            #[target_feature(enable = $features)]
            fn pack<const W: usize>(side: Side, source: &Source, to: Panel<W>) {
                pack::words(side, source, to);
            }

            /// The sums over the block. `ROW` and `STEP` are the dwords from a row, and from a k, to the next.
            #[target_feature(enable = $features)]
            fn sums<const ROW: usize, const STEP: usize>(
                length: usize,
                left: &[i32],
                right: &[i32],
            ) -> [[$vector; $vectors]; $rows] {
                const WIDTH: usize = $vectors * $lanes;
                let last = length.saturating_sub(1);
                assert!(left.len() > ($rows - 1) * ROW + last * STEP && right.len() >= length * WIDTH, "whole panels");
                let (left, right) = (left.as_ptr(), right.as_ptr());
                let mut sums = [[$zero(); $vectors]; $rows];
                for k in 0..length {
                    let mut columns = [$zero(); $vectors];
                    for (v, column) in columns.iter_mut().enumerate() {
                        // SAFETY: k < length, and the panels are that long: asserted above.
                        *column = unsafe { $load(right.add(k * WIDTH + v * $lanes).cast()) };
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: as above, and i < rows.
                        let row = $broadcast(unsafe { *left.add(i * ROW + k * STEP) });
                        for (sum, column) in sums.iter_mut().zip(columns) {
                            *sum = $add(*sum, $madd(row, column));
                        }
                    }
                }
                sums
            }

            #[target_feature(enable = $features)]
            fn tile(operands: &Operands<$rows, { $vectors * $lanes }>, tile: &mut Tile<$rows, { $vectors * $lanes }>) {
                let Operands { length, along, left, right, .. } = *operands;
                let sums = match along {
                    true => Self::sums::<BLOCK, 1>(length, left, right),
                    false => Self::sums::<1, $rows>(length, left, right),
                };
                // SAFETY: vectors are integers of 32 bits, and any bits are such integers.
                let sums: [[i32; $vectors * $lanes]; $rows] = unsafe { std::mem::transmute(sums) };
                add_terms(&sums, operands, tile);
            }
        }

        impl Multiplier<$rows, { $vectors * $lanes }> for $unit {
            const DWORDS: usize = BLOCK;

            unsafe fn pack_left(source: &Source, to: Panel<$rows>) {
                // SAFETY: the caller says that this machine has the unit.
                unsafe { Self::pack(Side::Left, source, to) };
            }

            unsafe fn pack_right(source: &Source, to: Panel<{ $vectors * $lanes }>) {
                // SAFETY: as above.
                unsafe { Self::pack(Side::Right, source, to) };
            }

            unsafe fn multiply(
                operands: &Operands<$rows, { $vectors * $lanes }>,
                tile: &mut Tile<$rows, { $vectors * $lanes }>,
            ) {
                // SAFETY: as above.
                unsafe { Self::tile(operands, tile) };
            }
        }
    };
}

word_unit! {
    Sse2, "sse2", 4 x 2 of 4: __m128i,
    _mm_setzero_si128, _mm_loadu_si128, _mm_set1_epi32, _mm_madd_epi16, _mm_add_epi32
}

word_unit! {
    Avx2, "avx2", 6 x 2 of 8: __m256i,
    _mm256_setzero_si256, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_madd_epi16, _mm256_add_epi32
}

/// Rows, vectors and columns of a tile of [`Vnni`]: 24 accumulators, four vectors of B and two of A in 32 registers.
const ROWS: usize = 6;
const VECTORS: usize = 2;
const COLUMNS: usize = 16 * VECTORS;

impl Vnni {
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn pack<const W: usize>(side: Side, source: &Source, to: Panel<W>) {
        pack::bytes(side, source, to);
    }

    /// The sums over the block. `ROW`, `STEP` and `LIMB` are the dwords from a row, from a group of four k, and from
    /// the high limbs to the low ones.
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn sums<const ROW: usize, const STEP: usize, const LIMB: usize>(
        operands: &Operands<ROWS, COLUMNS>,
    ) -> [[i32; COLUMNS]; ROWS] {
        let Operands { length, left, corrections, right, .. } = *operands;
        let groups = length.div_ceil(4);
        let last = (ROWS - 1) * ROW + groups.saturating_sub(1) * STEP + LIMB;
        assert!(left.len() > last && right.len() >= groups * 2 * COLUMNS, "whole panels");
        let (left, right) = (left.as_ptr(), right.as_ptr());
        let mut high = [[_mm512_setzero_si512(); VECTORS]; ROWS];
        // `dpbusd` multiplies unsigned by signed bytes. The right limbs are 128 too large, which is taken off here.
        let mut cross = [[_mm512_setzero_si512(); VECTORS]; ROWS];
        for (cross, correction) in cross.iter_mut().zip(corrections) {
            *cross = [_mm512_set1_epi32(correction.wrapping_neg()); VECTORS];
        }
        for group in 0..groups {
            let mut columns = [[_mm512_setzero_si512(); 2]; VECTORS];
            for (v, [column_high, column_low]) in columns.iter_mut().enumerate() {
                // SAFETY: group < groups, and the panel is that long: asserted above.
                let column = unsafe { right.add(2 * group * COLUMNS + 16 * v) };
                // SAFETY: as above.
                *column_high = unsafe { _mm512_loadu_si512(column.cast()) };
                // SAFETY: as above.
                *column_low = unsafe { _mm512_loadu_si512(column.add(COLUMNS).cast()) };
            }
            for i in 0..ROWS {
                // SAFETY: as above, and i < ROWS.
                let row = unsafe { left.add(i * ROW + group * STEP) };
                // SAFETY: as above.
                let (row_high, row_low) = unsafe { (_mm512_set1_epi32(*row), _mm512_set1_epi32(*row.add(LIMB))) };
                for (v, [column_high, column_low]) in columns.into_iter().enumerate() {
                    high[i][v] = _mm512_dpbusd_epi32(high[i][v], column_high, row_high);
                    cross[i][v] = _mm512_dpbusd_epi32(cross[i][v], column_low, row_high);
                    cross[i][v] = _mm512_dpbusd_epi32(cross[i][v], column_high, row_low);
                }
            }
        }
        // SAFETY: vectors are integers of 32 bits, and any bits are such integers.
        let high: [[i32; COLUMNS]; ROWS] = unsafe { std::mem::transmute(high) };
        // SAFETY: as above.
        let mut sums: [[i32; COLUMNS]; ROWS] = unsafe { std::mem::transmute(cross) };
        for (sums, high) in sums.iter_mut().zip(&high) {
            for (sum, high) in sums.iter_mut().zip(high) {
                *sum = sum.wrapping_add(high << 8);
            }
        }
        sums
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn tile(operands: &Operands<ROWS, COLUMNS>, tile: &mut Tile<ROWS, COLUMNS>) {
        let sums = match operands.along {
            true => Self::sums::<{ 2 * GROUPS }, 1, GROUPS>(operands),
            false => Self::sums::<1, { 2 * ROWS }, ROWS>(operands),
        };
        add_terms(&sums, operands, tile);
    }
}

impl Multiplier<ROWS, COLUMNS> for Vnni {
    const DWORDS: usize = 2 * GROUPS;

    unsafe fn pack_left(source: &Source, to: Panel<ROWS>) {
        // SAFETY: the caller says that this machine has the unit.
        unsafe { Self::pack(Side::Left, source, to) };
    }

    unsafe fn pack_right(source: &Source, to: Panel<COLUMNS>) {
        // SAFETY: as above.
        unsafe { Self::pack(Side::Right, source, to) };
    }

    unsafe fn multiply(operands: &Operands<ROWS, COLUMNS>, tile: &mut Tile<ROWS, COLUMNS>) {
        // SAFETY: as above.
        unsafe { Self::tile(operands, tile) };
    }
}

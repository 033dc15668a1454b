//! Sums over a row, with 32 lanes and a fixed binary tree. The width of the machine's vectors does not matter.
//!
//! Element i is added to lane i mod 32, in order; lanes start at +0. Then lane i takes lane i+16, i+8, i+4, i+2, i+1.
//! 32 lanes are two AVX-512 registers, four of AVX2, eight of NEON, or one warp.
//!
//! The squared norm of a tensor is the exception: it sums blocks of a fixed length so, which threads share, and
//! then the blocks in order.

use rayon::prelude::*;

use crate::isa::Isa;
use crate::kernel::{PARALLEL_COPY, kernel};

/// How many lanes a sum has.
pub(crate) const LANES: usize = 32;

/// Elements of a block whose squares are summed by themselves in a squared norm. Part of the arithmetic.
///
/// A lane of a full block adds 512 squares. That is short enough for a GPU to sum a tensor of a million elements
/// on 64 of its units at once, and a tensor of a billion has few enough blocks to add them one after another.
pub const NORM_BLOCK: usize = 1 << 14;

/// The sum of squares in `f64`: block by block, then the blocks in order.
pub(crate) fn squared_norm_with(isa: Isa, x: &[f32]) -> f64 {
    if x.len() < PARALLEL_COPY || rayon::current_num_threads() == 1 {
        return x.chunks(NORM_BLOCK).fold(0.0, |sum, block| sum + squared_norm_block(isa, block));
    }
    let blocks: Vec<f64> = x.par_chunks(NORM_BLOCK).map(|block| squared_norm_block(isa, block)).collect();
    blocks.into_iter().fold(0.0, |sum, block| sum + block)
}

kernel! {
    fn sum_row(x: &[f32]) -> f32 {
        lanes(x, |v| v)
    }
}

kernel! {
    fn dot_row(a: &[f32], b: &[f32]) -> f32 {
        lanes2(a, b, |x, y| x * y)
    }
}

kernel! {
    fn squared_norm_block(x: &[f32]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let (chunks, rest) = x.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, v) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(*v) * f64::from(*v);
            }
        }
        for (lane, v) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(*v) * f64::from(*v);
        }
        tree(lanes, |a, b| a + b)
    }
}

/// The sum over a row of `f(x)`.
#[inline(always)]
pub(crate) fn lanes(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += f(*v);
        }
    }
    for (lane, v) in lanes.iter_mut().zip(rest) {
        *lane += f(*v);
    }
    tree(lanes, |a, b| a + b)
}

/// The sum over two rows of `f(x, y)`; stops at the shorter one.
#[inline(always)]
pub(crate) fn lanes2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for i in 0..LANES {
            lanes[i] += f(x[i], y[i]);
        }
    }
    for ((lane, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane += f(*x, *y);
    }
    tree(lanes, |a, b| a + b)
}

/// The largest element, or minus infinity. NaN is passed over (it comes back through what is computed from the
/// element); which zero is found of +0 and -0 is never visible in what this crate computes from it.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *v);
        }
    }
    for (lane, v) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, *v);
    }
    tree(lanes, larger)
}

#[inline(always)]
pub(crate) fn tree<T: Copy>(mut lanes: [T; LANES], join: impl Fn(T, T) -> T) -> T {
    for half in [16, 8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
    }
    lanes[0]
}

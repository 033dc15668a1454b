//! Sums over a row, with 32 lanes and a fixed binary tree. The width of the machine's vectors does not matter.
//!
//! Element i is added to lane i mod 32, in order; lanes start at +0. Then lane i takes lane i+16, i+8, i+4, i+2, i+1.
//! 32 lanes are two AVX-512 registers, four of AVX2, eight of NEON, or one warp.

use crate::kernel::kernel;

/// How many lanes a sum has.
pub(crate) const LANES: usize = 32;

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
    fn squared_norm_row(x: &[f32]) -> f64 {
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

//! A fused multiply-add that needs no hardware for it: the exact product in `f64`, a sum rounded to odd, one rounding
//! to `f32`.
//!
//! Invariant: equal to the IEEE 754 fused multiply-add for every input that is not NaN, and NaN exactly where that is.
//! Branch-free, so that compilers turn a loop over it into vector code.

/// `a·b + c` with one rounding, to nearest, ties to even.
///
/// The product of two `f32` is exact in `f64` (48 bits). Rounding the sum *to odd* at 53 bits keeps what the second
/// rounding, to at most 24 bits, needs to know (Boldo and Melquiond 2008: two more bits suffice).
#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    let (p, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let s = p + c;
    // Knuth's two-sum: s + error = p + c exactly. NaN where s is infinite or NaN, and both comparisons are false.
    let virtual_c = s - p;
    let error = (p - (s - virtual_c)) + (c - virtual_c);
    let bits = s.to_bits();
    let even = !bits & 1;
    // Away from zero where the error has the sign of s, else towards it: the neighbour on the error's side is odd.
    let grows = u64::from((error > 0.0) & (s > 0.0)) | u64::from((error < 0.0) & (s < 0.0));
    let shrinks = u64::from((error > 0.0) & (s < 0.0)) | u64::from((error < 0.0) & (s > 0.0));
    let odd = bits.wrapping_add(grows & even).wrapping_sub(shrinks & even);
    f64::from_bits(odd) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::equality::Numbers;

    fn same(a: f32, b: f32, c: f32) {
        let (ours, theirs) = (fma(a, b, c), a.mul_add(b, c));
        assert!(
            ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()),
            "fma({a:e}, {b:e}, {c:e}) is {theirs:e}, not {ours:e}"
        );
    }

    #[test]
    fn equals_the_platforms_fma_on_every_pair_of_edge_cases() {
        let mut edges = vec![0.0, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NAN, 1.0, 1.0 + f32::EPSILON];
        edges.extend([1, 2, 3, 0x7f_fffe, 0x7f_ffff, 0x80_0001].map(f32::from_bits));
        edges.extend([0.5, 1.0 - f32::EPSILON / 2.0, 4097.0, 16_777_215.0, f32::EPSILON / 2.0, 1.5e-39, 3.0e38]);
        edges.extend(edges.clone().iter().map(|v| -v));
        for &a in &edges {
            for &b in &edges {
                for &c in &edges {
                    same(a, b, c);
                }
            }
        }
    }

    #[test]
    fn equals_the_platforms_fma_on_random_bits() {
        let mut numbers = Numbers(1);
        for _ in 0..1_000_000 {
            let (x, y) = (numbers.bits(), numbers.bits());
            let (a, b, c) = (f32::from_bits(x as u32), f32::from_bits((x >> 32) as u32), f32::from_bits(y as u32));
            same(a, b, c);
            // Near cancellation, near ties and in the subnormal range, where random exponents seldom go.
            same(a, b, -(a * b));
            let close = f32::from_bits((a * b).to_bits() ^ (y as u32 & 0x8000_0007) ^ ((y as u32 & 0x18) << 20));
            same(a, b, close);
            let short = |v: f32| f32::from_bits(v.to_bits() & 0xffff_f000);
            same(short(a), short(b), c);
            let unit = |bits: u32| f32::from_bits((bits & 0x807f_ffff) | 0x3f80_0000);
            let tiny = f32::from_bits(y as u32 & 0x80ff_ffff);
            same(unit(x as u32) * 1.0e-19, unit((x >> 32) as u32) * 1.0e-19, tiny);
            same(unit(x as u32), unit((x >> 32) as u32), unit(y as u32) * f32::EPSILON);
        }
    }
}

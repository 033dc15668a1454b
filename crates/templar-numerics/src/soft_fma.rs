//! A fused multiply-add that needs no hardware for it: the exact product in `f64`, a sum rounded to odd, one rounding
//! to `f32`; and a row of them that takes a shorter way wherever that cannot be seen.
//!
//! Invariant: equal to the IEEE 754 fused multiply-add for every input that is not NaN, and NaN exactly where that is.

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

/// `c[j] = fma(a, b[j], c[j])` for a row of chains, b given as the `f64` of its numbers.
///
/// The short way rounds twice: `s` is the exact sum at 53 bits, `r` is `s` at 24. That is one rounding of the exact sum
/// unless one of two things holds, and then the whole row is done again with [`fma`]:
///
/// - `s` lies midway between two neighbouring `f32`. Every such midpoint is an `f64`, and rounding is monotone, so an
///   exact sum on one side of a midpoint gives an `s` on the same side or on the midpoint itself, never beyond. If s is
///   on none, it rounds to where the exact sum does. Where `f32` has its 24 bits, a midpoint is a number whose last 29
///   bits of 53 are 1 and 28 zeros. The one above the largest `f32`, from which on a sum becomes infinite, is of that
///   form too.
/// - `r` is subnormal or the smallest normal number: midpoints look otherwise there.
///
/// `r = 0` needs no care, because s is exact then. If c is 0, s is the product. Else `|c| ≥ 2^-149` and
/// `|s| ≤ 2^-150`, so `|a·b| > 2^-151`; with its 48 bits it is a multiple of 2^-198, as c is, and so small a sum of
/// two such has 49 bits.
#[inline(always)]
pub(crate) fn fma_row<const NR: usize>(a: f32, b: &[f64; NR], c: &mut [f32; NR]) {
    let mut row = [0.0f32; NR];
    // The two tests are spelled so that compilers make vector code of them. The highest bit of `midway` is set where
    // the last 29 bits of some s were those of a midpoint.
    let (mut midway, mut tiny) = (0u64, false);
    for j in 0..NR {
        let s = f64::from(a) * b[j] + f64::from(c[j]);
        row[j] = s as f32;
        midway |= ((s.to_bits() & 0x1fff_ffff) ^ 0x1000_0000).wrapping_sub(1);
        let magnitude = (row[j].to_bits() & 0x7fff_ffff) as i32;
        tiny |= (magnitude > 0) & (magnitude <= 0x0080_0000);
    }
    *c = if (midway >> 63 != 0) | tiny { exact_row(a, b, c) } else { row };
}

/// Out of line, or the compiler computes it always and chooses afterwards.
#[cold]
#[inline(never)]
fn exact_row<const NR: usize>(a: f32, b: &[f64; NR], c: &[f32; NR]) -> [f32; NR] {
    std::array::from_fn(|j| fma(a, b[j] as f32, c[j]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::Generator;

    fn same(a: f32, b: f32, c: f32) {
        let (ours, theirs) = (fma(a, b, c), a.mul_add(b, c));
        assert!(
            ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()),
            "fma({a:e}, {b:e}, {c:e}) is {theirs:e}, not {ours:e}"
        );
    }

    fn edges() -> Vec<f32> {
        let mut edges = vec![0.0, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NAN, 1.0, 1.0 + f32::EPSILON];
        edges.extend([1, 2, 3, 0x7f_fffe, 0x7f_ffff, 0x80_0001].map(f32::from_bits));
        edges.extend([0.5, 1.0 - f32::EPSILON / 2.0, 4097.0, 16_777_215.0, f32::EPSILON / 2.0, 1.5e-39, 3.0e38]);
        edges.extend(edges.clone().iter().map(|v| -v));
        edges
    }

    #[test]
    fn equals_the_platforms_fma_on_every_pair_of_edge_cases() {
        let edges = edges();
        for &a in &edges {
            for &b in &edges {
                for &c in &edges {
                    same(a, b, c);
                }
            }
        }
    }

    /// A row of each length that a tile may have, every element its own case.
    fn same_row(a: f32, b: [f32; 8], c: [f32; 8]) {
        let mut row = c;
        fma_row(a, &b.map(f64::from), &mut row);
        for j in 0..8 {
            let exact = fma(a, b[j], c[j]);
            let equal = row[j].to_bits() == exact.to_bits() || (row[j].is_nan() && exact.is_nan());
            assert!(equal, "fma({a:e}, {:e}, {:e}) is {exact:e}, in a row {:e}", b[j], c[j], row[j]);
            let mut alone = [c[j]];
            fma_row(a, &[f64::from(b[j])], &mut alone);
            assert!(alone[0].to_bits() == exact.to_bits() || (alone[0].is_nan() && exact.is_nan()), "alone");
        }
    }

    #[test]
    fn a_row_equals_single_ones_on_every_pair_of_edge_cases() {
        let edges = edges();
        for &a in &edges {
            for &b in &edges {
                for c in edges.chunks(8) {
                    same_row(a, [b; 8], std::array::from_fn(|j| c[j % c.len()]));
                }
            }
        }
    }

    /// Sums on a midpoint of two `f32` in `f64`, and a little beside it by less than `f64` can show: the cases in which
    /// rounding twice differs from rounding once.
    #[test]
    fn a_row_equals_single_ones_on_midpoints_and_beside_them() {
        let mut numbers = Generator::new(3);
        let mut differ = 0;
        for _ in 0..200_000 {
            let (x, y) = (numbers.bits(), numbers.bits());
            // c has an odd or even last bit and some exponent, the subnormal and the largest ones too.
            let exponent = match y % 4 {
                0 => (y >> 8) as u32 % 30,
                1 => 225 + (y >> 8) as u32 % 30,
                _ => 1 + (y >> 8) as u32 % 254,
            };
            let c = f32::from_bits((x as u32 & 0x807f_ffff) | (exponent << 23));
            // Half of c's last place, as a product of two f32 with 24 bits each, moved by a few of its last places.
            let half = libm::ldexp(1.0, (exponent.max(1) as i32) - 151);
            let split = f32::from_bits(0x3f80_0000 | ((x >> 32) as u32 & 0x7f_ffff));
            let b = (half / f64::from(split)) as f32;
            let nudge = |b: f32, by: u32| f32::from_bits(b.to_bits().wrapping_add(by));
            let sign = if y & 16 == 0 { 1.0 } else { -1.0 };
            let power = libm::ldexp(1.0, -((y >> 40) as i32 % 60)) as f32;
            for a in [split * sign, sign, power * sign] {
                let b = if a == split * sign { b } else { (half / f64::from(a.abs())) as f32 };
                let c = [c, c, c, -c, nudge(c, 1), nudge(c, 0), nudge(c, u32::MAX), c];
                let c = c.map(|c| if c.is_finite() { c } else { f32::MAX });
                let b = [0, 1, 2, 0, 0, u32::MAX, 1, u32::MAX - 1].map(|by| nudge(b, by));
                same_row(a, b, c);
                for j in 0..8 {
                    let twice = (f64::from(a) * f64::from(b[j]) + f64::from(c[j])) as f32;
                    differ += u32::from(twice.to_bits() != fma(a, b[j], c[j]).to_bits());
                }
            }
        }
        assert!(differ > 1000, "only {differ} cases tell one rounding from two");
    }

    #[test]
    fn equals_the_platforms_fma_on_random_bits() {
        let mut numbers = Generator::new(1);
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
            let (long, short) = (unit(x as u32) * 1.0e-19, unit((x >> 32) as u32) * 1.0e-19);
            same_row(
                long,
                [b, short, short, short, -short, b, a, 0.0],
                [c, tiny, -tiny, 0.0, -0.0, -(long * b), close, tiny],
            );
        }
    }
}

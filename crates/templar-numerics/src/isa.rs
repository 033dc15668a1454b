//! Which instruction set computes, and whether the machine's arithmetic is fit to be used at all.
//!
//! The choice changes speed and never a bit. A [`Kernels`](crate::Kernels) holds one choice, so one process can hold
//! several and compare them.

use std::fmt;
use std::hint::black_box;
use std::str::FromStr;

/// An instruction set that the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// No fused multiply-add in hardware: each one is computed exactly in `f64` integer and float operations.
    Soft,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512F (and AVX2 and FMA).
    Avx512,
    /// aarch64, where NEON and its fused multiply-add are part of the baseline.
    Neon,
}

/// The instruction set asked for is not one that this machine offers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this machine has no {0} arithmetic")]
pub struct UnsupportedIsa(pub Isa);

/// A name that is no instruction set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown instruction set {0:?}: expected soft, avx2, avx512 or neon")]
pub struct UnknownIsa(pub String);

/// The floating-point unit rounds, flushes or reads subnormal numbers in a way that `f32/1` forbids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the floating-point unit flushes subnormal numbers to zero or does not round to nearest")]
pub struct FlushesSubnormals;

impl Isa {
    /// Every instruction set there is, slowest first.
    pub const ALL: [Isa; 4] = [Isa::Soft, Isa::Avx2, Isa::Avx512, Isa::Neon];

    /// The fastest instruction set of this machine.
    pub fn best() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Soft)
    }

    /// All instruction sets that this machine offers, slowest first; [`Isa::Soft`] is always one.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// Whether this machine can run `isa`.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Soft => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Isa::Avx2.is_available() && is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => true,
            _ => false,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Soft => "soft",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        })
    }
}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Isa, UnknownIsa> {
        Isa::ALL.into_iter().find(|isa| isa.to_string() == name).ok_or_else(|| UnknownIsa(name.to_owned()))
    }
}

/// Checks, by computing, that the calling thread keeps subnormal numbers as operands and as results and rounds to
/// nearest, ties to even, in `f32` and `f64`. Call it at the start of anything whose result is hashed.
///
/// # Errors
/// [`FlushesSubnormals`] if a library has put the floating-point unit of this thread into another mode.
pub fn check_environment() -> Result<(), FlushesSubnormals> {
    let subnormal = black_box(f32::from_bits(3));
    let smallest_normal = black_box(f32::MIN_POSITIVE);
    let operand = subnormal * black_box(16_777_216.0) == 3.0 * f32::MIN_POSITIVE * 2.0;
    let result = (smallest_normal * black_box(0.5)).to_bits() == 1 << 22;
    let subnormal64 = black_box(f64::from_bits(3));
    let double = subnormal64 + subnormal64 == f64::from_bits(6)
        && (black_box(f64::MIN_POSITIVE) * black_box(0.5)).to_bits() == 1 << 51;
    // 1 + 2^-24 is a tie that goes down to even, 1 + 3·2^-24 one that goes up; the negatives catch directed modes.
    let half_ulp = black_box(f32::EPSILON * 0.5);
    let one = black_box(1.0f32);
    let up = one + 3.0 * half_ulp == 1.0 + 2.0 * f32::EPSILON;
    let rounding = one + half_ulp == 1.0 && up && -one - half_ulp == -1.0;
    if operand && result && double && rounding { Ok(()) } else { Err(FlushesSubnormals) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_ones_are_named() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        assert_eq!(
            "sse9".parse::<Isa>().unwrap_err().to_string(),
            "unknown instruction set \"sse9\": expected soft, avx2, avx512 or neon"
        );
    }

    #[test]
    fn soft_is_everywhere_and_the_best_is_available() {
        assert_eq!(Isa::available()[0], Isa::Soft);
        assert_eq!(Isa::available().last(), Some(&Isa::best()));
    }

    #[test]
    fn this_machine_is_fit() {
        assert_eq!(check_environment(), Ok(()));
    }
}

//! The frozen vectors of `tests/vectors/i8x2.txt`: the twin gives them, and a Python program that shares no line with
//! it does too. Each term of the specification is then spoiled on purpose, and no spoiled form gives them.

use std::process::Command;

use super::scale::{BLOCK, Exponents, NEGLIGIBLE, OUT_OF_RANGE};
use super::twin::{self, Block};
use crate::vectors::Generator;

/// One line's case: a product's element (one row, one column, one beginning) or a row of a sum over tokens.
struct Vector {
    name: &'static str,
    tokens: bool,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    /// The bits of the results; `None` for NaN.
    out: Vec<Option<u32>>,
}

/// `HEX`, `HEX*count`, or `random:seed:low:high:count` for numbers with exponents from low to high.
fn numbers(text: &str) -> Vec<f32> {
    let mut found = Vec::new();
    for part in text.split_whitespace() {
        if let Some(fields) = part.strip_prefix("random:") {
            let fields: Vec<u64> = fields.split(':').map(|field| field.parse().unwrap()).collect();
            let [seed, low, high, count] = fields[..] else { panic!("four fields in {part}") };
            let mut generator = Generator::new(seed);
            found.extend((0..count).map(|_| {
                let z = generator.bits();
                let exponent = low + (z >> 32 & 0xffff) % (high - low + 1);
                f32::from_bits(((z >> 63 << 31) | exponent << 23 | z & 0x7f_ffff) as u32)
            }));
        } else {
            let (bits, count) = part.split_once('*').unwrap_or((part, "1"));
            let x = f32::from_bits(u32::from_str_radix(bits, 16).unwrap());
            found.extend(vec![x; count.parse().unwrap()]);
        }
    }
    found
}

fn vectors() -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    for line in include_str!("../../../../tests/vectors/i8x2.txt").lines() {
        let (field, rest) = line.split_once(' ').unwrap_or((line, ""));
        let last = vectors.last_mut();
        match (field, last) {
            ("product" | "tokens", _) => {
                let [a, b, c] = [const { Vec::new() }; 3];
                vectors.push(Vector { name: rest, tokens: field == "tokens", a, b, c, out: Vec::new() });
            }
            ("a", Some(vector)) => vector.a = numbers(rest),
            ("b", Some(vector)) => vector.b = numbers(rest),
            ("c", Some(vector)) => vector.c = numbers(rest),
            ("out", Some(vector)) => {
                vector.out = rest.split(' ').map(|bits| u32::from_str_radix(bits, 16).ok()).collect();
            }
            _ => assert!(line.is_empty() || line.starts_with('#'), "{line}"),
        }
    }
    assert!(vectors.len() > 200, "{} vectors", vectors.len());
    vectors
}

/// The bits of results as a vector gives them.
fn bits(results: &[f32]) -> Vec<Option<u32>> {
    results.iter().map(|x| (!x.is_nan()).then_some(x.to_bits())).collect()
}

#[test]
fn the_twin_has_the_frozen_bits() {
    for vector in vectors() {
        let mut c = vector.c.clone();
        if vector.tokens {
            twin::sum_over_tokens(&vector.a, &vector.b, &mut c);
        } else {
            c[0] = Spec::default().product(&vector.a, &vector.b, c[0]);
        }
        assert_eq!(bits(&c), vector.out, "{}", vector.name);
    }
}

/// Kernels see the vectors as products of one row and one column, on every unit.
#[test]
fn every_unit_has_the_frozen_bits() {
    for unit in super::Unit::available() {
        for vector in vectors() {
            let (isa, mut c) = (crate::Isa::Soft, vector.c.clone());
            let (width, k) = (c.len(), vector.a.len());
            let row = crate::Mat::new(&vector.a, 1, k);
            let b = crate::Mat::new(&vector.b, k, width);
            let out = crate::MatMut::new(&mut c, 1, width);
            if vector.tokens {
                let buffers = &mut super::TokenBuffers::default();
                super::over_tokens((isa, unit), (row, crate::Op::N), b, out, true, buffers);
            } else {
                let b = (b, crate::Op::N, Exponents::OfBlocks);
                super::multiply(unit, 1, (row, crate::Op::N), b, out, true);
            }
            assert_eq!(bits(&c), vector.out, "{} on {unit}", vector.name);
        }
    }
}

#[test]
fn python_has_the_frozen_bits() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/i8x2.py");
    match Command::new("python3").arg(program).output() {
        Ok(run) => {
            let (out, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
            assert!(run.status.success(), "{out}{errors}");
            assert_eq!(out.trim(), format!("{} vectors agree", vectors().len()));
        }
        Err(error) => println!("skipped: no python3 to run {program} ({error})"),
    }
}

/// An element of a product with every constant and every term of the specification as a value, so that each can be
/// spoiled. What is not spoiled is the twin's.
#[derive(Clone, Copy)]
struct Spec {
    block: usize,
    /// Added to the largest bits.
    raise: u32,
    negligible: u32,
    out_of_range: u32,
    /// Weights of hi·hi, hi·lo, lo·hi and lo·lo in T, in parts of 256.
    weights: [i64; 4],
    /// What is added before a limb is cut off.
    half: i32,
    round: fn(f64) -> f64,
    sum: fn(i64) -> f32,
    /// C, f32(T) and the two scales.
    add: fn(f32, f32, f32, f32) -> f32,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            block: BLOCK,
            raise: 0x1_0100,
            negligible: NEGLIGIBLE,
            out_of_range: OUT_OF_RANGE,
            weights: [256 * 256, 256, 256, 0],
            half: 128,
            round: f64::round_ties_even,
            sum: |t| t as f32,
            add: |c, t, a, b| c + t * (a * b),
        }
    }
}

impl Spec {
    fn quantise(&self, x: &[f32]) -> Block {
        let largest = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
        let e = (largest + self.raise) >> 23;
        if !(self.negligible..self.out_of_range).contains(&e) {
            return Block { integers: vec![0; x.len()], scale: if e < self.negligible { 0.0 } else { f32::NAN } };
        }
        // 2^(E-127) is the number whose exponent bits are E.
        let unit = f64::from(f32::from_bits(e << 23));
        let power = 16384.0 / unit;
        let integers = x.iter().map(|x| (self.round)(f64::from(*x) * power) as i32).collect();
        Block { integers, scale: (unit / 1024.0) as f32 }
    }

    fn product(&self, a: &[f32], b: &[f32], mut c: f32) -> f32 {
        for (a, b) in a.chunks(self.block).zip(b.chunks(self.block)) {
            let (a, b) = (self.quantise(a), self.quantise(b));
            let limbs = |q: i32| {
                let hi = (q + self.half) >> 8;
                (i64::from(hi), i64::from(q - 256 * hi))
            };
            let term = |(a, b): (&i32, &i32)| {
                let ((a_hi, a_lo), (b_hi, b_lo)) = (limbs(*a), limbs(*b));
                let parts = [a_hi * b_hi, a_hi * b_lo, a_lo * b_hi, a_lo * b_lo];
                parts.iter().zip(self.weights).map(|(part, weight)| part * weight).sum::<i64>()
            };
            let t = a.integers.iter().zip(&b.integers).map(term).sum::<i64>();
            c = (self.add)(c, (self.sum)(t.div_euclid(256)), a.scale, b.scale);
        }
        c
    }
}

/// One spoiled form of the specification.
fn spoil(change: impl FnOnce(&mut Spec)) -> Spec {
    let mut spec = Spec::default();
    change(&mut spec);
    spec
}

/// A kernel that forgets, doubles or turns one thing gives other bits on at least one vector.
#[test]
fn every_spoiled_term_is_found_by_the_vectors() {
    let spoiled = [
        ("no hi·hi", spoil(|spec| spec.weights[0] = 0)),
        ("no hi·lo", spoil(|spec| spec.weights[1] = 0)),
        ("no lo·hi", spoil(|spec| spec.weights[2] = 0)),
        ("lo·lo too", spoil(|spec| spec.weights[3] = 1)),
        ("half of hi·hi", spoil(|spec| spec.weights[0] /= 2)),
        ("hi·lo with the other sign", spoil(|spec| spec.weights[1] = -256)),
        ("blocks of 127", spoil(|spec| spec.block = 127)),
        ("blocks of 129", spoil(|spec| spec.block = 129)),
        ("blocks of 256", spoil(|spec| spec.block = 256)),
        ("no raised exponent", spoil(|spec| spec.raise = 0)),
        ("exponent raised one step early", spoil(|spec| spec.raise += 1)),
        ("exponent raised one step late", spoil(|spec| spec.raise -= 1)),
        ("a window that begins below", spoil(|spec| spec.negligible -= 1)),
        ("a window that begins above", spoil(|spec| spec.negligible += 1)),
        ("a window that ends below", spoil(|spec| spec.out_of_range -= 1)),
        ("a window that ends above", spoil(|spec| spec.out_of_range += 1)),
        ("limbs cut without rounding", spoil(|spec| spec.half = 0)),
        ("limbs rounded one off", spoil(|spec| spec.half = 127)),
        ("q cut off", spoil(|spec| spec.round = f64::trunc)),
        ("q rounded down", spoil(|spec| spec.round = f64::floor)),
        ("ties of q away from zero", spoil(|spec| spec.round = f64::round)),
        ("T cut to 24 bits", spoil(|spec| spec.sum = |t| truncated(t))),
        ("ties of T away from zero", spoil(|spec| spec.sum = |t| ties_away(t))),
        ("no scale of A", spoil(|spec| spec.add = |c, t, _, b| c + t * b)),
        ("no scale of B", spoil(|spec| spec.add = |c, t, a, _| c + t * a)),
        ("no old C", spoil(|spec| spec.add = |_, t, a, b| t * (a * b))),
        ("a term subtracted", spoil(|spec| spec.add = |c, t, a, b| c - t * (a * b))),
        ("subnormal results flushed", spoil(|spec| spec.add = |c, t, a, b| flushed(c + t * (a * b)))),
        ("subnormal C flushed", spoil(|spec| spec.add = |c, t, a, b| flushed(c) + t * (a * b))),
    ];
    // This form changes no bit, and shows that the comparison is not one that always fails.
    let harmless = spoil(|spec| spec.add = |c, t, a, b| (t * a).mul_add(b, c));
    let vectors = vectors();
    let differs = |spec: &Spec| {
        let products = vectors.iter().filter(|vector| !vector.tokens);
        products.filter(|vector| bits(&[spec.product(&vector.a, &vector.b, vector.c[0])]) != vector.out).count()
    };
    assert_eq!(differs(&harmless), 0, "fusing cannot be seen");
    for (name, spec) in spoiled {
        assert!(differs(&spec) > 0, "{name}: no vector finds it");
    }
}

/// An integer cut to the 24 bits of a significand.
fn truncated(t: i64) -> f32 {
    let dropped = 64 - t.unsigned_abs().leading_zeros().min(40) as i64 - 24;
    (t.signum() * (t.abs() >> dropped << dropped)) as f32
}

/// An integer rounded to the 24 bits of a significand, ties away from zero.
fn ties_away(t: i64) -> f32 {
    let dropped = 64 - t.unsigned_abs().leading_zeros().min(40) as i64 - 24;
    let half = if dropped > 0 { 1 << (dropped - 1) } else { 0 };
    (t.signum() * ((t.abs() + half) >> dropped << dropped)) as f32
}

fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0 } else { x }
}

/// Were the window one exponent wider, a term could be infinite unless it is fused with a C of the opposite sign.
#[test]
fn a_wider_window_would_make_fusing_visible() {
    let separate = spoil(|spec| spec.out_of_range += 1);
    let fused = Spec { add: |c, t, a, b| (t * a).mul_add(b, c), ..separate };
    let (x, c) = ([f32::from_bits((188 << 23) - 0x1_0101); 65], f32::MIN);
    let (separate, fused) = (separate.product(&x, &x, c), fused.product(&x, &x, c));
    assert!(separate.is_infinite() && fused.is_finite(), "{separate:e} and {fused:e}");
}

/// Blocks of the largest integers of every sign pattern reach the stated bounds and do not pass them.
#[test]
fn the_largest_sums_stay_within_their_widths() {
    let largest = [32_639, -32_639, 127 * 256 - 128, -(127 * 256 - 128)];
    let mut reached = (0, 0, 0);
    for a in largest {
        for b in largest {
            let ((a_hi, a_lo), (b_hi, b_lo)) = (twin::limbs(a), twin::limbs(b));
            let sums = (128 * a_hi * b_hi, 128 * (a_hi * b_lo + a_lo * b_hi), twin::sum(&[a; BLOCK], &[b; BLOCK]));
            reached = (reached.0.max(sums.0.abs()), reached.1.max(sums.1.abs()), reached.2.max(sums.2.abs()));
        }
    }
    assert_eq!(reached, (128 * 127 * 127, 128 * 2 * 127 * 128, 256 * 128 * 127 * 127 + 128 * 2 * 127 * 127));
    assert!(reached.0 < 1 << 21 && reached.1 < 1 << 22 && reached.2 < 1 << 29);
}

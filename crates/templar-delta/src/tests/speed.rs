//! What the codec does in a second on one core: a table for `BENCH.md`.

#![allow(clippy::disallowed_methods, reason = "a measurement is about time")]

use std::hint::black_box;
use std::time::Instant;

use super::*;
use crate::body::encode;
use crate::decode::Part;
use crate::layout::Layout;
use crate::{decode, random_delta, wire};

/// Seconds of the fastest of twenty calls.
fn fastest<T>(mut call: impl FnMut() -> T) -> f64 {
    let seconds = |_| {
        let start = Instant::now();
        black_box(call());
        start.elapsed().as_secs_f64()
    };
    (0..20).map(seconds).fold(f64::INFINITY, f64::min)
}

/// From positions and codes to bytes, and from bytes to checked values, of a tensor of 4096 × 2048 whose values are noise.
#[test]
#[ignore = "a measurement: cargo test --release -p templar-delta --lib -- --ignored --nocapture codec_table"]
fn codec_table() {
    let specs = specs(&[&[4096, 2048]]);
    println!("| k | quantiser | bits a value | encode, million values/s | decode, million values/s |");
    println!("|---|---|---|---|---|");
    for top_k in [32, 64, 128] {
        for quantiser in Quantiser::ALL {
            let settings = settings(64, top_k, quantiser, 0);
            let layout = Layout::new(&specs[0], &settings).unwrap();
            let bytes = random_delta(&specs, &settings, &header(), &[1; 32], 1.0).unwrap();
            let body = wire::parse(&bytes).unwrap().bodies[0].clone();
            let (offsets, quantised) = decode(&bytes, &specs, &settings, &header()).unwrap().encoded(0);
            let encoding = fastest(|| encode(&layout, &offsets, &quantised));
            let decoding = fastest(|| Part::check(layout, quantiser, &bytes, body.clone()).unwrap().norm);
            let rate = |seconds: f64| offsets.len() as f64 / seconds / 1e6;
            let bits = body.len() as f64 * 8.0 / offsets.len() as f64;
            println!("| {top_k} | {quantiser} | {bits:.3} | {:.0} | {:.0} |", rate(encoding), rate(decoding));
        }
    }
}

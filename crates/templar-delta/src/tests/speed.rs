//! What the codec does in a second on one core: a table for `BENCH.md`.

#![allow(clippy::disallowed_methods, reason = "a measurement is about time")]

use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

use super::noise::random_delta;
use super::*;
use crate::body::encode;
use crate::decode::CheckedTensor;
use crate::layout::BlockLayout;
use crate::quantise::Quantised;
use crate::{decode, wire};

/// So often is every row of the table measured, in turns: the fastest counts.
const ROUNDS: usize = 30;

/// One row of the table: a tensor in both forms, and the fastest so far.
struct Row {
    settings: DeltaSettings,
    layout: BlockLayout,
    offsets: Vec<u32>,
    quantised: Quantised,
    bytes: Vec<u8>,
    body: Range<usize>,
    encoding: f64,
    decoding: f64,
}

fn seconds<T>(call: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    black_box(call());
    start.elapsed().as_secs_f64()
}

impl Row {
    fn new(specs: &[TensorSpec], top_k: u32, quantiser: Quantiser) -> Self {
        let settings = settings(64, top_k, quantiser, 0);
        let bytes = random_delta(specs, &settings, &header(), &[1; 32], 1.0).unwrap();
        let (offsets, quantised) = decode(&bytes, specs, &settings, &header()).unwrap().encoded(0);
        let (layout, body) =
            (BlockLayout::new(&specs[0], &settings).unwrap(), wire::parse(&bytes).unwrap().bodies[0].clone());
        let (encoding, decoding) = (f64::INFINITY, f64::INFINITY);
        Self { settings, layout, offsets, quantised, bytes, body, encoding, decoding }
    }

    fn measure(&mut self) {
        let encoding = seconds(|| encode(&self.layout, &self.offsets, &self.quantised));
        let quantiser = self.settings.quantiser();
        let decoding =
            seconds(|| CheckedTensor::check(self.layout, quantiser, &self.bytes, self.body.clone()).unwrap().norm);
        (self.encoding, self.decoding) = (self.encoding.min(encoding), self.decoding.min(decoding));
    }

    fn print(&self) {
        let values = self.offsets.len() as f64;
        println!(
            "| {} | {} | {:.3} | {:.0} | {:.0} |",
            self.settings.top_k(),
            self.settings.quantiser(),
            self.body.len() as f64 * 8.0 / values,
            values / self.encoding / 1e6,
            values / self.decoding / 1e6,
        );
    }
}

/// From positions and codes to bytes, and from bytes to checked values, of a tensor of 4096 × 2048 whose values
/// are noise.
#[test]
#[ignore = "a measurement: cargo test --release -p templar-delta --lib -- --ignored --nocapture codec_table"]
fn codec_table() {
    let specs = specs(&[&[4096, 2048]]);
    let choices = [32, 64, 128].into_iter().flat_map(|top_k| Quantiser::ALL.map(|quantiser| (top_k, quantiser)));
    let mut rows: Vec<Row> = choices.map(|(top_k, quantiser)| Row::new(&specs, top_k, quantiser)).collect();
    for _ in 0..ROUNDS {
        rows.iter_mut().for_each(Row::measure);
    }
    println!("| k | quantiser | bits a value | encode, million values/s | decode, million values/s |");
    println!("|---|---|---|---|---|");
    rows.iter().for_each(Row::print);
}

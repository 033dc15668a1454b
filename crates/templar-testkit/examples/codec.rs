//! Bits per parameter and seconds of the codec on one matrix of noise: `cargo run --release -p templar-testkit
//! --example codec -- [ROWS COLUMNS]`. Set RAYON_NUM_THREADS to choose the threads.

#![allow(clippy::disallowed_methods)] // a measurement is about time

use std::time::Instant;

use templar_delta::{Aggregate, AggregationRule, DeltaHeader, DeltaSettings, Quantiser, compress, decode, inspect};
use templar_manifest::{Hash, TensorSpec};
use templar_testkit::noise::random_delta;

/// Seconds of the fastest of three calls, and its result.
fn fastest<T>(mut call: impl FnMut() -> T) -> (f64, T) {
    let mut best: Option<(f64, T)> = None;
    for _ in 0..3 {
        let start = Instant::now();
        let result = call();
        let seconds = start.elapsed().as_secs_f64();
        if best.as_ref().is_none_or(|(least, _)| seconds < *least) {
            best = Some((seconds, result));
        }
    }
    best.expect("called three times")
}

fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let (rows, columns) = if let [rows, columns] = sizes[..] { (rows, columns) } else { (4096, 2048) };
    let specs = [TensorSpec::new("matrix", [rows, columns])];
    let parameters = specs[0].elements();
    let header = DeltaHeader { run: Hash::of(b"run"), window: 0, miner: [0; 32] };
    println!("{rows} x {columns}, {} threads", rayon::current_num_threads());
    println!("k    quantiser    bit/param  index bit/value  compress Mparam/s  decode Mvalue/s  apply 4 Mparam/s");
    for top_k in [32, 64, 128] {
        for quantiser in Quantiser::ALL {
            let settings = DeltaSettings::new(64, top_k, quantiser, 950_000).expect("valid settings");
            let gradient: Vec<f32> = noise(parameters);
            let mut error = vec![0.0; parameters];
            let (compressing, bytes) =
                fastest(|| compress(&specs, &settings, &header, &gradient, &mut error).expect("finite values"));
            let (decoding, delta) = fastest(|| decode(&bytes, &specs, &settings, &header).expect("a valid delta"));
            let (_, parts) = inspect(&bytes).expect("a valid delta");
            let kept = delta.kept() as f64;
            let others: Vec<_> = (1..4u8)
                .map(|seed| {
                    let bytes = random_delta(&specs, &settings, &header, &[seed; 32], 1.0).expect("a valid scale");
                    decode(&bytes, &specs, &settings, &header).expect("a valid delta")
                })
                .collect();
            let deltas: Vec<_> = std::iter::once(&delta).chain(&others).collect();
            let mut params = vec![0.0; parameters];
            let (applying, _) = fastest(|| {
                let aggregate =
                    Aggregate::new(&specs, &settings, header.run, 0, &deltas).expect("deltas of one window");
                aggregate.step(AggregationRule::MeanOfAll, 1.0, &mut params).expect("finite values")
            });
            println!(
                "{top_k:<4} {quantiser:<12} {:9.5} {:16.3} {:18.1} {:16.1} {:17.1}",
                bytes.len() as f64 * 8.0 / parameters as f64,
                parts.sum().index_bytes as f64 * 8.0 / kept,
                parameters as f64 / compressing / 1e6,
                kept / decoding / 1e6,
                parameters as f64 / applying / 1e6,
            );
        }
    }
}

/// Heavy-tailed values: cubes of uniform ones.
fn noise(count: usize) -> Vec<f32> {
    let mut stream = blake3::Hasher::new().update(b"codec example").finalize_xof();
    let mut bytes = vec![0u8; count * 4];
    stream.fill(&mut bytes);
    let uniform = |word: [u8; 4]| (u32::from_le_bytes(word) >> 8) as f32 / 8_388_608.0 - 1.0;
    bytes.chunks_exact(4).map(|word| uniform([word[0], word[1], word[2], word[3]])).map(|u| u * u * u).collect()
}

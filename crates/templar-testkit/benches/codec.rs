//! Speed of the codec on one matrix of 4096 x 2048 heavy-tailed values: compressing, decoding, and applying
//! four deltas.
//!
//! `cargo bench -p templar -p templar-testkit --bench codec`. An item is a parameter when deltas are compressed
//! or applied, and a transmitted value when they are decoded. Set RAYON_NUM_THREADS to choose the threads. The
//! sizes of deltas are printed by the example `aggregate`.

use std::fmt;
use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::ItemsCount;
use templar_delta::{Aggregate, AggregationRule, Delta, DeltaHeader, DeltaSettings, Quantiser, compress, decode};
use templar_manifest::{Hash, TensorSpec};
use templar_testkit::noise::random_delta;

fn main() {
    divan::main();
}

/// The one tensor of the model.
static SPECS: LazyLock<[TensorSpec; 1]> = LazyLock::new(|| [TensorSpec::new("matrix", [4096, 2048])]);

/// The values that are compressed: cubes of uniform ones, which are heavy-tailed.
static GRADIENT: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let mut bytes = vec![0u8; SPECS[0].elements() * 4];
    blake3::Hasher::new().update(b"codec example").finalize_xof().fill(&mut bytes);
    let uniform = |word: [u8; 4]| (u32::from_le_bytes(word) >> 8) as f32 / 8_388_608.0 - 1.0;
    bytes.chunks_exact(4).map(|word| uniform([word[0], word[1], word[2], word[3]])).map(|u| u * u * u).collect()
});

#[derive(Clone, Copy)]
struct Case {
    top_k: u32,
    quantiser: Quantiser,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of 4096, {}", self.top_k, self.quantiser)
    }
}

impl Case {
    fn settings(self) -> DeltaSettings {
        DeltaSettings::new(64, self.top_k, self.quantiser, 950_000).expect("valid settings")
    }

    fn compressed(self, error: &mut [f32]) -> Vec<u8> {
        compress(&*SPECS, &self.settings(), &header(), &GRADIENT, error).expect("finite values")
    }

    fn delta(self, bytes: &[u8]) -> Delta {
        decode(bytes, &*SPECS, &self.settings(), &header()).expect("a valid delta")
    }
}

fn cases() -> impl Iterator<Item = Case> {
    [32, 64, 128].into_iter().flat_map(|top_k| Quantiser::ALL.map(|quantiser| Case { top_k, quantiser }))
}

fn header() -> DeltaHeader {
    DeltaHeader { run: Hash::of(b"run"), window: 0, miner: [0; 32] }
}

#[divan::bench(args = cases(), sample_count = 3, sample_size = 1)]
fn compressing(bencher: Bencher<'_, '_>, case: &Case) {
    let mut error = vec![0.0; GRADIENT.len()];
    bencher.counter(ItemsCount::new(GRADIENT.len())).bench_local(|| case.compressed(&mut error));
}

#[divan::bench(args = cases(), sample_count = 3, sample_size = 1)]
fn decoding(bencher: Bencher<'_, '_>, case: &Case) {
    let bytes = case.compressed(&mut vec![0.0; GRADIENT.len()]);
    let kept = case.delta(&bytes).kept();
    bencher.counter(ItemsCount::new(kept)).bench_local(|| case.delta(&bytes));
}

#[divan::bench(args = cases(), sample_count = 3, sample_size = 1)]
fn applying_four(bencher: Bencher<'_, '_>, case: &Case) {
    let settings = case.settings();
    let first = case.compressed(&mut vec![0.0; GRADIENT.len()]);
    let others =
        (1..4u8).map(|seed| random_delta(&*SPECS, &settings, &header(), &[seed; 32], 1.0).expect("a valid scale"));
    let deltas: Vec<Delta> = std::iter::once(first).chain(others).map(|bytes| case.delta(&bytes)).collect();
    let deltas: Vec<&Delta> = deltas.iter().collect();
    let mut params = vec![0.0; GRADIENT.len()];
    bencher.counter(ItemsCount::new(GRADIENT.len())).bench_local(|| {
        let aggregate = Aggregate::new(&*SPECS, &settings, header().run, 0, &deltas).expect("deltas of one window");
        aggregate.step(AggregationRule::MeanOfAll, 1.0, &mut params).expect("finite values")
    });
}

//! Tests that need more than one file of the crate: the oracle, properties, hostile bytes, the outer step by hand.

mod aggregate;
mod hostile;
mod noise;
mod oracle;
mod outer;
mod properties;
mod speed;

use templar_manifest::{Hash, TensorSpec};

use crate::{Aggregate, AggregationRule, ApplyReport, Delta, DeltaHeader, DeltaSettings, OuterStepError, Quantiser};

fn header() -> DeltaHeader {
    DeltaHeader { run: Hash::of(b"a run"), window: 7, miner: [3; 32] }
}

fn settings(block_side: u32, top_k: u32, quantiser: Quantiser, error_decay_ppm: u32) -> DeltaSettings {
    DeltaSettings::new(block_side, top_k, quantiser, error_decay_ppm).unwrap()
}

fn specs(shapes: &[&[u64]]) -> Vec<TensorSpec> {
    shapes.iter().enumerate().map(|(index, shape)| TensorSpec::new(format!("tensor{index}"), *shape)).collect()
}

/// The outer step of these deltas, which have the settings of the first.
fn apply(
    specs: &[TensorSpec],
    deltas: &[&Delta],
    rule: AggregationRule,
    lr: f32,
    params: &mut [f32],
) -> Result<ApplyReport, OuterStepError> {
    let settings = deltas.first().map_or(settings(4, 8, Quantiser::BlockSign, 0), |delta| *delta.settings());
    Aggregate::new(specs, &settings, header().run, header().window, deltas)?.step(rule, lr, params)
}

/// Values in [−1, 1) with 24 bits, and a heavy tail so that bins differ; the same everywhere.
fn values(seed: &str, count: usize) -> Vec<f32> {
    let mut stream = blake3::Hasher::new().update(seed.as_bytes()).finalize_xof();
    let mut word = [0u8; 4];
    (0..count)
        .map(|_| {
            stream.fill(&mut word);
            let uniform = (u32::from_le_bytes(word) >> 8) as f32 / 8_388_608.0 - 1.0;
            uniform * uniform * uniform
        })
        .collect()
}

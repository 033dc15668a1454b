//! Time, memory and bytes of aggregating the deltas of R miners and applying them: prints the tables of `BENCH.md`.
//!
//! `cargo run --release -p templar-testkit --example aggregate -- [LAYERS]`, RAYON_NUM_THREADS chooses the
//! threads. The model has LAYERS layers of a width of 1,024; the deltas are noise, so their positions are
//! uniform and overlap by chance only.

#![allow(clippy::disallowed_methods)] // a measurement is about time

use std::time::Instant;

use rayon::prelude::*;
use templar_delta::{
    Aggregate, AggregateHeader, AggregationRule, Delta, DeltaHeader, DeltaSettings, Quantiser, decode,
};
use templar_manifest::{Hash, TensorSpec};
use templar_testkit::noise::random_delta;

const RUNS: usize = 5;

/// Seconds of the fastest of some calls, and its result.
fn fastest<T>(mut call: impl FnMut() -> T) -> (f64, T) {
    let mut best: Option<(f64, T)> = None;
    for _ in 0..RUNS {
        let start = Instant::now();
        let result = call();
        let seconds = start.elapsed().as_secs_f64();
        if best.as_ref().is_none_or(|(least, _)| seconds < *least) {
            best = Some((seconds, result));
        }
    }
    best.expect("called more than once")
}

/// A Llama of so many layers.
fn model(layers: usize) -> Vec<TensorSpec> {
    let (hidden, kv, ffn) = (1024, 256, 2816);
    let mut specs = vec![TensorSpec::new("model.embed_tokens.weight", [8192, hidden])];
    for layer in 0..layers {
        let mut add = |name: &str, shape: &[u64]| {
            specs.push(TensorSpec::new(format!("model.layers.{layer}.{name}.weight"), shape));
        };
        add("self_attn.q_proj", &[hidden, hidden]);
        add("self_attn.k_proj", &[kv, hidden]);
        add("self_attn.v_proj", &[kv, hidden]);
        add("self_attn.o_proj", &[hidden, hidden]);
        add("mlp.gate_proj", &[ffn, hidden]);
        add("mlp.up_proj", &[ffn, hidden]);
        add("mlp.down_proj", &[hidden, ffn]);
        add("input_layernorm", &[hidden]);
        add("post_attention_layernorm", &[hidden]);
    }
    specs.push(TensorSpec::new("model.norm.weight", [hidden]));
    specs
}

/// A line of `/proc/self/status` in bytes, where there is one.
fn status(line: &str) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = text.lines().find_map(|found| found.strip_prefix(line))?.trim().strip_suffix("kB")?.trim();
    Some(kilobytes.parse::<f64>().ok()? * 1024.0)
}

/// By how many bytes the process grew at most while it did this.
fn growth<T>(call: impl FnOnce() -> T) -> (Option<f64>, T) {
    // Makes the peak begin anew.
    let begun = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = status("VmRSS:");
    let result = call();
    let grown = status("VmHWM:").zip(before).map(|(peak, before)| peak - before);
    (grown.filter(|_| begun), result)
}

/// Bits of an ideal code for `count` things of which each kind occurs as often as `kinds` says.
fn entropy(count: f64, kinds: impl Iterator<Item = f64>) -> f64 {
    kinds.filter(|&kind| kind > 0.0).map(|kind| kind * (count / kind).log2()).sum()
}

/// The kinds of equal numbers, and how many of each.
fn kinds(mut found: Vec<u64>) -> Vec<f64> {
    found.sort_unstable();
    found.chunk_by(|a, b| a == b).map(|same| same.len() as f64).collect()
}

/// Bits of the deltas' own positions and values, tensor by tensor, in ideal codes that know how many of each
/// kind there are.
fn ideal(specs: &[TensorSpec], deltas: &[Delta]) -> f64 {
    let bits = |(index, spec): (usize, &TensorSpec)| {
        let one = |delta: &Delta| {
            let found: Vec<u64> = delta.tensor(index).entries().map(|(_, value)| value.to_bits().into()).collect();
            let (kept, len) = (found.len() as f64, spec.elements() as f64);
            entropy(len, [kept, len - kept].into_iter()) + entropy(kept, kinds(found).into_iter())
        };
        deltas.iter().map(one).sum::<f64>()
    };
    specs.par_iter().enumerate().map(bits).collect::<Vec<f64>>().iter().sum()
}

/// Bits of the alternative: for each tensor the positions that somebody sent, a dictionary of the distinct sums
/// in f64, and an index into it for each position, all but the dictionary in ideal codes; the sums written out
/// where that is shorter.
fn positions_and_sums(specs: &[TensorSpec], deltas: &[Delta]) -> f64 {
    let bits = |(index, spec): (usize, &TensorSpec)| {
        let len = spec.elements();
        let mut norms: Vec<f64> = deltas.iter().map(|delta| delta.norm(index)).collect();
        norms.sort_by(f64::total_cmp);
        let median = norms[(norms.len() - 1) / 2];
        let (mut sums, mut sent) = (vec![0f64; len], vec![false; len]);
        for delta in deltas {
            let factor = if delta.norm(index) > median { median / delta.norm(index) } else { 1.0 };
            for (at, value) in delta.tensor(index).entries() {
                sums[at as usize] += factor * f64::from(value);
                sent[at as usize] = true;
            }
        }
        let found: Vec<u64> = sums.iter().zip(&sent).filter(|(_, sent)| **sent).map(|(sum, _)| sum.to_bits()).collect();
        let (union, len) = (found.len() as f64, len as f64);
        let kinds = kinds(found);
        let dictionary = 64.0 * kinds.len() as f64 + entropy(union, kinds.iter().copied());
        entropy(len, [union, len - union].into_iter()) + dictionary.min(64.0 * union)
    };
    specs.par_iter().enumerate().map(bits).collect::<Vec<f64>>().iter().sum()
}

fn main() {
    let layers = std::env::args().nth(1).map_or(4, |text| text.parse().expect("a number of layers"));
    let specs = model(layers);
    let parameters: usize = specs.iter().map(TensorSpec::elements).sum();
    let each = |seconds: f64| seconds * 1e9 / parameters as f64;
    let run = Hash::of(b"run");
    let settings = DeltaSettings::new(64, 64, Quantiser::Templar4, 0).expect("valid settings");
    let header = |miner: u8| DeltaHeader { run, window: 0, miner: [miner; 32] };
    let encoded: Vec<Vec<u8>> = (0..20u8)
        .map(|miner| {
            let scale = 1e-3 + 1e-4 * f32::from(miner % 7);
            random_delta(&specs, &settings, &header(miner), &[miner; 32], scale).expect("a valid scale")
        })
        .collect();
    let mut params = vec![0.5f32; parameters];

    // The bound: every parameter is read and written once, in place.
    let (bound, ()) = fastest(|| {
        params.par_chunks_mut(1 << 16).for_each(|chunk| chunk.iter_mut().for_each(|value| *value += 1e-9));
    });
    println!(
        "{parameters} parameters, {} threads, k = 64 of 4096, {}. Reading and writing every parameter once: {:.2} ns each, {:.1} GB/s.\n",
        rayon::current_num_threads(),
        settings.quantiser(),
        each(bound),
        8.0 * parameters as f64 / bound / 1e9,
    );
    println!(
        "| R | decode R deltas, ns/param | merge | step | all | times the bound | a value decoded, ns | decode the aggregate, ns/param | held besides parameters, B/param | a step's own memory, B/param |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut sizes = Vec::new();
    for count in [4usize, 8, 20] {
        let (decoding, deltas) = fastest(|| {
            let decoded = encoded[..count].iter().enumerate();
            let decoded = decoded.map(|(miner, bytes)| decode(bytes, &specs, &settings, &header(miner as u8)));
            decoded.collect::<Result<Vec<Delta>, _>>().expect("valid deltas")
        });
        let all: Vec<&Delta> = deltas.iter().collect();
        let (merging, aggregate) =
            fastest(|| Aggregate::new(&specs, &settings, run, 0, &all).expect("deltas of one window"));
        let mut step = || aggregate.step(AggregationRule::MeanOfAll, 0.7, &mut params).expect("finite values");
        let (stepping, _) = fastest(&mut step);
        let (grown, _) = growth(&mut step);
        let expected = AggregateHeader { run, window: 0, contributors: count };
        let (checking, _) = fastest(|| {
            Aggregate::decode(aggregate.bytes().to_vec(), &specs, &settings, &expected).expect("a valid aggregate")
        });
        let whole = decoding + merging + stepping;
        let bytes: usize = encoded[..count].iter().map(Vec::len).sum();
        println!(
            "| {count} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} | {:.2} | {:.3} | {} |",
            each(decoding),
            each(merging),
            each(stepping),
            each(whole),
            whole / bound,
            decoding * 1e9 / deltas.iter().map(|delta| delta.kept() as f64).sum::<f64>(),
            each(checking),
            (bytes + aggregate.bytes().len()) as f64 / parameters as f64,
            grown.map_or("unknown".to_owned(), |grown| format!("{:.3}", grown / parameters as f64)),
        );
        let bits = |bytes: usize| 8.0 * bytes as f64 / parameters as f64;
        let written_out = positions_and_sums(&specs, &deltas) / parameters as f64;
        let ideal = ideal(&specs, &deltas) / parameters as f64;
        sizes.push((count, bits(bytes), bits(aggregate.bytes().len()), ideal, written_out));
    }
    println!(
        "\n| R | R deltas, bit/param | aggregate | R deltas in ideal codes | positions and distinct sums in ideal codes |"
    );
    println!("|---|---|---|---|---|");
    for (count, deltas, aggregate, ideal, written_out) in sizes {
        println!("| {count} | {deltas:.4} | {aggregate:.4} | {ideal:.4} | {written_out:.4} |");
    }
}

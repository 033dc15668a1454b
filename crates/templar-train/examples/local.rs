//! SparseLoCo in one process, without a network: how the loss falls for a choice of settings.
//!
//! `cargo run --release -p templar-train --example local -- size=micro miners=3 windows=5 steps=30 batch=5 k=64`
#![allow(clippy::disallowed_methods, reason = "prints how long it took")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use templar_data::{PageReader, Split, bundled};
use templar_manifest::trace::Leaf;
use templar_manifest::*;
use templar_model::sizes;
use templar_store::MemoryBlobs;
use templar_train::{MinerState, Recipe, Task, Watch, WindowRun, evaluate, outer_step, run_window};

struct Quiet;

impl Watch for Quiet {
    fn leaf(&mut self, _: &WindowRun<'_>, _: u32, _: &Leaf) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: BTreeMap<String, String> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect();
    let text = |key: &str, default: &str| args.get(key).cloned().unwrap_or_else(|| default.to_owned());
    let number = |key: &str, default: u64| args.get(key).map_or(Ok(default), |value| value.parse::<u64>());

    let mut blobs = MemoryBlobs::new();
    let dataset = bundled::import_shakespeare(&mut blobs)?;
    let mut model = sizes::preset(&text("size", "micro"), dataset.vocab_size).ok_or("no such size")?;
    model.sequence_length = number("length", u64::from(model.sequence_length))? as u32;
    let (miners, windows) = (number("miners", 3)?, number("windows", 5)?);
    let (steps, batch) = (number("steps", 30)?, number("batch", 5)?);
    let peak = number("lr", 3_000_000)?;
    let warm_up = number("warmup", 20)?;
    let genesis = Genesis {
        name: "local".to_owned(),
        arithmetic: "f32/1".to_owned(),
        model,
        model_seed: Hash::of(text("seed", "seed").as_bytes()),
        tokenizer: dataset.tokenizer,
        dataset: DatasetId::default(),
        inner: InnerSpec {
            steps: steps as u32,
            batch_sequences: batch as u32,
            micro_batch_sequences: number("micro", batch)? as u32,
            beta1_ppm: 900_000,
            beta2_ppm: 950_000,
            eps_bits: 1e-8f32.to_bits(),
            weight_decay_ppm: number("decay", 100_000)? as u32,
            clip_norm_ppm: 1_000_000,
            schedule: vec![
                Segment { steps: warm_up, from_nanos: peak / warm_up, to_nanos: peak, shape: SegmentShape::Linear },
                Segment { steps: 10_000, from_nanos: peak, to_nanos: peak / 10, shape: SegmentShape::Cosine },
            ],
        },
        compression: CompressionSpec {
            block_side: 64,
            top_k: number("k", 64)? as u32,
            quantiser: text("quantiser", "templar4"),
            error_decay_ppm: number("beta", 950_000)? as u32,
        },
        outer: OuterSpec {
            rule: text("rule", "mean-of-senders"),
            schedule: vec![OuterSegment { from_window: 0, learning_rate_ppm: number("outer", 1_000_000)? as u32 }],
            max_contributions: 20,
        },
        gauntlet: GauntletSpec {
            assigned_pages: 2,
            unassigned_pages: 2,
            trial_step_ppm: 200_000,
            rating_decay_ppm: 250_000,
            held_out_pages: 8,
        },
        replay: ReplaySpec { before_close: true, fraction_ppm: 1_000_000 },
        deadlines: Deadlines { commit_ms: 1, reveal_ms: 1, judge_ms: 1 },
        emission: EmissionSpec {
            per_window_micros: 0,
            miners_ppm: 0,
            validators_ppm: 0,
            treasury_ppm: 0,
            vesting_windows: 1,
        },
        validators: Vec::new(),
        registration: Registration::Listed(Vec::new()),
        state_retention_windows: 8,
        windows: 0,
    };
    let recipe = Recipe::new(RunId::default(), genesis)?;
    let length = recipe.genesis.model.sequence_length;
    let training = PageReader::new(&blobs, &dataset, Split::Training, length)?;
    let validation = PageReader::new(&blobs, &dataset, Split::Validation, length)?;
    let held_out: Vec<_> = (0..number("heldout", 32)?.min(validation.page_count()))
        .map(|page| validation.read(page))
        .collect::<Result<_, _>>()?;
    let mut parameters = recipe.initial_parameters();
    let mut states: Vec<_> = (0..miners).map(|_| MinerState::zero(parameters.len())).collect();
    println!(
        "{} parameters, {} pages, ln V = {:.3}",
        parameters.len(),
        training.page_count(),
        libm::log(f64::from(dataset.vocab_size))
    );
    let loss = |parameters: &[f32]| evaluate(&mut recipe.model(), parameters, &held_out);
    println!("held-out {:.4}", loss(&parameters)? as f64 / 1e9);
    for window in 0..windows {
        let started = Instant::now();
        let mut deltas = Vec::new();
        let mut bytes = 0;
        for (index, state) in states.iter_mut().enumerate() {
            let miner = PublicKey::from_bytes([index as u8; 32]);
            // A stride that is coprime to the number of pages stands in for the assignment.
            let first = (window * miners + index as u64) * steps * batch;
            let pages = (first..first + steps * batch).map(|page| page * 1_009 % training.page_count()).collect();
            let task = Task { window: WindowIndex(window), miner, pages, steps: steps as u32 };
            let run = WindowRun::new(&recipe, &task, parameters.clone(), state.clone())?;
            let result = run_window(run, &|page| training.read(page), &mut Quiet)?.ok_or("stopped")?;
            let contribution = result.contribution(&recipe, None, MinerState::zero_id(recipe.run, &recipe.tensors));
            deltas.push(recipe.decode_delta(&contribution, &result.delta)?);
            bytes = result.delta.len();
            *state = result.state;
        }
        let trained = started.elapsed().as_secs_f64();
        outer_step(&recipe, WindowIndex(window), &deltas, &mut parameters)?;
        let tokens = miners * steps * recipe.step_tokens();
        println!(
            "window {window} | held-out {:.4} | {bytes} bytes a delta, {:.0}x | {:.1}k tok/s | {trained:.2} s",
            loss(&parameters)? as f64 / 1e9,
            parameters.len() as f64 * 4.0 / bytes as f64,
            tokens as f64 / trained / 1e3,
        );
    }
    Ok(())
}

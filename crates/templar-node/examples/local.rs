//! SparseLoCo in one process, without a network. It shows how the held-out loss falls for a choice of settings.
//!
//! `cargo run --release -p templar-node --example local -- --size micro --miners 3 --windows 5 compression.top_k=128`
//!
//! Pages are dealt by a stride instead of by the protocol, and all miners are honest. Arguments that are no
//! options are settings of the genesis.
#![allow(clippy::disallowed_methods, reason = "prints how long it took")]

use std::time::Instant;

use templar_audit::{AuditInputs, held_out_loss};
use templar_blob::MemoryBlobs;
use templar_data::bundled;
use templar_home::configure::{Origin, RunPlan, configure};
use templar_manifest::{DatasetId, Hash, PublicKey, RunId, ValidatorSpec, WindowIndex, page_count};
use templar_train::{MinerState, Recipe, WindowRun, WindowTask, nats, outer_step, run_window};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut size, mut miners, mut windows, mut settings) = ("micro".to_owned(), 3u8, 5u64, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--size" => size = value()?,
            "--miners" => miners = value()?.parse()?,
            "--windows" => windows = value()?.parse()?,
            _ => settings.push(arg),
        }
    }
    let mut blobs = MemoryBlobs::new();
    let dataset = bundled::import_shakespeare(&mut blobs)?;
    let keys: Vec<PublicKey> = (0..miners).map(|index| PublicKey::from_bytes([index; 32])).collect();
    let plan = RunPlan {
        name: "local".to_owned(),
        dataset_id: DatasetId::default(),
        dataset: &dataset,
        validators: vec![ValidatorSpec {
            key: PublicKey::from_bytes([0; 32]),
            stake: 1,
            chain_anchor: Hash::default(),
        }],
        miners: keys.clone(),
        origin: Origin::Drawn { size, seed: Hash::of(b"local") },
    };
    let recipe = Recipe::new(RunId::default(), configure(&plan, &settings)?)?;
    let steps = recipe.genesis.inner.steps;
    let inputs = AuditInputs::new(&recipe, &dataset, &blobs)?;
    let loss = |window, parameters: &[f32]| held_out_loss(&inputs, window, parameters).map(nats);

    let mut parameters = recipe.initial_parameters(&blobs)?;
    let mut states = vec![MinerState::zero(parameters.len()); keys.len()];
    println!("{} parameters, held-out {:.4}", parameters.len(), loss(WindowIndex(0), &parameters)?);
    for window in (0..windows).map(WindowIndex) {
        let started = Instant::now();
        let mut deltas = Vec::new();
        let mut bytes = 0;
        for (index, (miner, state)) in keys.iter().zip(&mut states).enumerate() {
            let slot = recipe.genesis.pages_per_slot(window.0);
            let count = page_count(dataset.training_tokens(), recipe.genesis.context_at(window.0).sequence_length);
            let first = (window.0 * keys.len() as u64 + index as u64) * slot;
            let pages = (first..first + slot).map(|page| page * 1_009 % count).collect();
            let task = WindowTask { window, miner: *miner, pages, steps };
            let run = WindowRun::new(&recipe, &task, parameters.clone(), state.clone())?;
            let result = run_window(run, &|page| inputs.page(window, page), &mut ())?.ok_or("stopped")?;
            let contribution = result.contribution(&recipe, None, MinerState::zero_id(recipe.run, &recipe.tensors));
            deltas.push(recipe.decode_delta(&contribution, &result.delta)?);
            bytes = result.delta.len();
            *state = result.state;
        }
        let seconds = started.elapsed().as_secs_f64();
        let aggregate = outer_step(&recipe, window, &deltas, &mut parameters)?.into_bytes().len();
        let tokens = keys.len() as u64 * u64::from(steps) * recipe.step_tokens(window);
        println!(
            "window {window} | held-out {:.4} | {bytes} bytes a delta, {:.0}x | {aggregate} bytes merged | {:.1}k tok/s | {seconds:.2} s",
            loss(window, &parameters)?,
            parameters.len() as f64 * 4.0 / bytes as f64,
            tokens as f64 / seconds / 1e3,
        );
    }
    Ok(())
}

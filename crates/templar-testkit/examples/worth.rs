//! How much a miner's delta gains, by the steps behind it and by the pages it is tried on: the evidence for the constants
//! of pay by measured steps. It prints two tables.
//!
//! `cargo run --release -p templar -p templar-testkit --example worth -- [SIZE] [WINDOWS] [MINERS] [STEPS]`
//!
//! A run of the bundled text is trained for so many windows by so many honest miners. In each window, each miner's
//! delta is made of an eighth, a quarter, a half and all of the steps, from the same checkpoint and pages. Each is tried as
//! validators try it, on up to 64 pages that nobody trains on.
//!
//! - *Exponent*: the slope of ln gain against ln steps, from the mean gains. At 1 each step gains as much as the one
//!   before. Below 1 the first steps of a window gain most, so that splitting a worker would pay without a bound.
//! - *Noise*: the standard deviation of a miner's gain divided by the median of the window, for equal miners that take
//!   all steps, by the number of pages.
//! - *Windows*: how many windows it takes until the mean ratio of a miner that gains 5 % more is above that of an equal
//!   one with probability 0.95, and is 1.05 on average: (1.645 · √2 · noise ÷ 0.05)², rounded up.

#![allow(clippy::disallowed_methods, reason = "figures that are printed, and no part of a run")]

use std::ops::Range;

use templar_audit::AuditInputs;
use templar_blob::MemoryBlobs;
use templar_data::bundled;
use templar_home::configure::{Origin, RunPlan, configure};
use templar_manifest::{Dataset, Hash, PublicKey, RunId, ValidatorSpec, WindowIndex, page_count, payload};
use templar_train::{MinerState, Recipe, WindowRun, WindowTask, evaluate, outer_step, run_window, trial};

type Failure = Box<dyn std::error::Error>;

/// Pages on which a delta is tried at most; fewer are the first of them.
const PAGES: [usize; 5] = [2, 4, 8, 16, 64];
/// The parts of a window's steps.
const PARTS: [u32; 4] = [8, 4, 2, 1];

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u32| arguments.get(index).map_or(Ok(default), |text| text.parse());
    let size = arguments.first().map_or("micro", String::as_str);
    let (windows, miners, steps) = (number(1, 6)?, number(2, 6)?, number(3, 32)?);
    let mut blobs = MemoryBlobs::new();
    let dataset = bundled::import_shakespeare(&mut blobs)?;
    let recipe = recipe(size, steps, miners, &dataset)?;
    let found = Experiment { recipe: &recipe, dataset: &dataset, blobs: &blobs, windows, miners, steps }.run()?;
    println!("| size | H | miners | windows | loss | exponent | eighth of the steps | quarter | half |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let part = |part: usize| found.mean(part) / found.mean(PARTS.len() - 1) * f64::from(PARTS[part]);
    println!(
        "| `{size}` | {steps} | {miners} | {windows} | {:.2} to {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
        found.losses.start,
        found.losses.end,
        found.exponent(),
        part(0),
        part(1),
        part(2),
    );
    println!("\n| size | pages | noise of a window | windows until 5 % show |\n|---|---|---|---|");
    for (index, pages) in PAGES.iter().enumerate() {
        let noise = found.noise(index);
        println!("| `{size}` | {pages} | {:.1} % | {} |", noise * 100.0, windows_until(noise));
    }
    Ok(())
}

/// The windows after which a miner that is 5 % better stands above an equal one with probability 0.95.
fn windows_until(noise: f64) -> u64 {
    (1.645 * 2f64.sqrt() * noise / 0.05).powi(2).ceil() as u64
}

/// The customary rules of a run of this size, with so many steps.
fn recipe(size: &str, steps: u32, miners: u32, dataset: &Dataset) -> Result<Recipe, Failure> {
    let key = |number: u32| PublicKey::from_bytes(*Hash::of(&number.to_le_bytes()).as_bytes());
    let validator = ValidatorSpec { key: key(u32::MAX), stake: 1, chain_anchor: Hash::default() };
    let plan = RunPlan {
        name: "worth".to_owned(),
        dataset_id: payload::id_of(dataset).into(),
        dataset,
        validators: vec![validator],
        miners: (0..miners).map(key).collect(),
        origin: Origin::Drawn { size: size.to_owned(), seed: Hash::of(b"worth") },
    };
    let genesis = configure(&plan, &[format!("inner.steps={steps}")])?;
    Ok(Recipe::new(RunId::new(payload::id_of(&genesis)), genesis)?)
}

struct Experiment<'a> {
    recipe: &'a Recipe,
    dataset: &'a Dataset,
    blobs: &'a MemoryBlobs,
    windows: u32,
    miners: u32,
    steps: u32,
}

/// What was measured, in nats.
struct Found {
    /// The held-out loss before the first window and after the last.
    losses: Range<f64>,
    /// The gains on all pages, for each part of the steps.
    gains: [Vec<f64>; 4],
    /// The gains of all steps divided by the median of the window, for each number of pages.
    ratios: [Vec<f64>; 5],
}

impl Found {
    fn mean(&self, part: usize) -> f64 {
        self.gains[part].iter().sum::<f64>() / self.gains[part].len() as f64
    }

    /// The slope of a line through (ln steps, ln gain).
    fn exponent(&self) -> f64 {
        let points: Vec<(f64, f64)> =
            (0..PARTS.len()).map(|part| (-f64::from(PARTS[part]).ln(), self.mean(part).ln())).collect();
        let count = points.len() as f64;
        let (x, y) = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / count, sum.1 + point.1 / count));
        let rise: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
        rise / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
    }

    fn noise(&self, pages: usize) -> f64 {
        let ratios = &self.ratios[pages];
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        (ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum::<f64>() / (ratios.len() - 1) as f64).sqrt()
    }
}

impl Experiment<'_> {
    fn run(&self) -> Result<Found, Failure> {
        let recipe = self.recipe;
        let inputs = AuditInputs::new(recipe, self.dataset, self.blobs)?;
        let mut parameters = recipe.initial_parameters(self.blobs)?;
        let mut states: Vec<MinerState> =
            (0..self.miners).map(|_| MinerState::zero(recipe.parameter_count())).collect();
        let held_out = |parameters: &[f32]| -> Result<f64, Failure> {
            let pages = inputs.held_out_pages(WindowIndex(0))?;
            self.loss(WindowIndex(0), parameters, &pages)
        };
        let mut found = Found { losses: 0.0..0.0, gains: Default::default(), ratios: Default::default() };
        found.losses.start = held_out(&parameters)?;
        for window in (0..u64::from(self.windows)).map(WindowIndex) {
            let batch = u64::from(recipe.genesis.context_at(window.0).batch_sequences);
            let slot = u64::from(self.steps) * batch;
            let all = page_count(self.dataset.training_tokens(), recipe.genesis.model.sequence_length);
            // The last pages are nobody's, so deltas are tried on them.
            let tried_on: Vec<u64> = (all - PAGES[4] as u64..all).collect();
            let tried_on = inputs.pages(window, &tried_on)?;
            let before: Vec<f64> = self.page_losses(window, &parameters, &tried_on)?;
            let (mut deltas, mut gains) = (Vec::new(), Vec::new());
            for miner in 0..self.miners {
                let first = (window.0 * u64::from(self.miners) + u64::from(miner)) * slot;
                let pages: Vec<u64> = (first..first + slot).map(|page| page % (all - PAGES[4] as u64)).collect();
                for (part, fraction) in PARTS.iter().enumerate() {
                    let key = self.recipe.genesis.miners()[miner as usize];
                    let task =
                        WindowTask { window, miner: key, pages: pages.clone(), steps: (self.steps / fraction).max(1) };
                    let run = WindowRun::new(recipe, &task, &parameters[..], states[miner as usize].clone())?;
                    let result = run_window(run, &|page| inputs.page(window, page), &mut ())?.ok_or("stopped")?;
                    let contribution =
                        result.contribution(recipe, None, MinerState::zero_id(recipe.run, &recipe.tensors));
                    let delta = recipe.decode_delta(&contribution, &result.delta)?;
                    let after = trial(recipe, window.0, &delta, &parameters)?;
                    let after = self.page_losses(window, &after, &tried_on)?;
                    let gained: Vec<f64> = before.iter().zip(&after).map(|(before, after)| before - after).collect();
                    found.gains[part].push(gained.iter().sum::<f64>() / gained.len() as f64);
                    if *fraction == 1 {
                        gains.push(gained);
                        deltas.push(delta);
                        states[miner as usize] = result.state;
                    }
                }
            }
            for (index, pages) in PAGES.into_iter().enumerate() {
                let of = |gained: &Vec<f64>| gained[..pages].iter().sum::<f64>() / pages as f64;
                let gains: Vec<f64> = gains.iter().map(of).collect();
                let mut sorted = gains.clone();
                sorted.sort_by(f64::total_cmp);
                let median = sorted[(sorted.len() - 1) / 2];
                found.ratios[index].extend(gains.iter().filter(|_| median > 0.0).map(|gain| gain / median));
            }
            outer_step(recipe, window, &deltas, &mut parameters)?;
            eprintln!("window {window}: held-out {:.3}", held_out(&parameters)?);
        }
        found.losses.end = held_out(&parameters)?;
        Ok(found)
    }

    /// The mean loss of pages, in nats.
    fn loss(&self, window: WindowIndex, parameters: &[f32], pages: &[Vec<u32>]) -> Result<f64, Failure> {
        let mut model = self.recipe.model(window);
        let parameters = self.recipe.device.upload(parameters.into())?;
        Ok(evaluate(&mut model, &parameters, pages)? as f64 / 1e9)
    }

    /// The loss of each page, in nats.
    fn page_losses(&self, window: WindowIndex, parameters: &[f32], pages: &[Vec<u32>]) -> Result<Vec<f64>, Failure> {
        let mut model = self.recipe.model(window);
        let parameters = self.recipe.device.upload(parameters.into())?;
        let one = |page: &Vec<u32>| Ok(evaluate(&mut model, &parameters, std::slice::from_ref(page))? as f64 / 1e9);
        pages.iter().map(one).collect()
    }
}

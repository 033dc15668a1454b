//! Measures how many bits a sent parameter costs in deltas of real training, next to other formats. It prints
//! the first table of `BENCH.md` in templar-delta.
//!
//! `cargo run --release -p templar-node --example deltas -- [WINDOWS]` trains the micro model on the bundled
//! text with two miners, and samples the values that a miner had to send in early and late windows: error
//! feedback plus pseudo-gradient. Each choice of k and quantiser then compresses the same values.

use templar_blob::MemoryBlobs;
use templar_data::{PageReader, Split, bundled};
use templar_delta::{DeltaHeader, DeltaSettings, Quantiser, compress, decode, inspect};
use templar_home::configure::{Origin, RunPlan, configure};
use templar_manifest::{DatasetId, Hash, PublicKey, RunId, TensorSpec, ValidatorSpec, WindowIndex};
use templar_train::{MinerState, Recipe, WindowRun, WindowTask, outer_step, run_window};

type Failure = Box<dyn std::error::Error>;

const MINERS: u8 = 2;
const SIDE: usize = 64;

/// The values that a miner had to send in a window, βe + Δ, flat in the model's order.
struct Sample {
    late: bool,
    target: Vec<f32>,
}

fn main() -> Result<(), Failure> {
    let windows = std::env::args().nth(1).map_or(Ok(40), |text| text.parse::<u64>())?;
    let (recipe, samples) = train(windows)?;
    let parameters = recipe.parameter_count();
    println!("{parameters} parameters, {windows} windows of {} steps", recipe.genesis.inner.steps);
    for late in [false, true] {
        println!("\n{} windows\n", if late { "Late" } else { "Early" });
        println!("| k | what is sent | bit/parameter | against fp32 | bf16 | position bits | code bits | error |");
        println!("|---|---|---|---|---|---|---|---|");
        for top_k in [32, 64, 128] {
            let samples: Vec<&Sample> = samples.iter().filter(|sample| sample.late == late).collect();
            baselines(&recipe, top_k, &samples)?;
            for quantiser in Quantiser::ALL {
                ours(&recipe, top_k, quantiser, &samples)?;
            }
        }
    }
    Ok(())
}

/// Trains, and samples windows 1 and 3 and the last two.
fn train(windows: u64) -> Result<(Recipe, Vec<Sample>), Failure> {
    let mut blobs = MemoryBlobs::new();
    let dataset = bundled::import_shakespeare(&mut blobs)?;
    let keys: Vec<PublicKey> = (0..MINERS).map(|index| PublicKey::from_bytes([index; 32])).collect();
    let plan = RunPlan {
        name: "deltas".to_owned(),
        dataset_id: DatasetId::default(),
        dataset: &dataset,
        validators: vec![ValidatorSpec {
            key: PublicKey::from_bytes([0; 32]),
            stake: 1,
            chain_anchor: Hash::default(),
        }],
        miners: keys.clone(),
        origin: Origin::Drawn { size: "micro".to_owned(), seed: Hash::of(b"deltas") },
    };
    let recipe = Recipe::new(RunId::default(), configure(&plan, &[])?)?;
    let training = PageReader::new(&blobs, &dataset, Split::Training, recipe.genesis.context_at(0).sequence_length)?;
    let mut parameters = recipe.initial_parameters(&blobs)?;
    let mut states = vec![MinerState::zero(parameters.len()); keys.len()];
    let mut samples = Vec::new();
    for window in 0..windows {
        let mut deltas = Vec::new();
        for (index, (miner, state)) in keys.iter().zip(&mut states).enumerate() {
            let slot = recipe.genesis.pages_per_slot(window);
            let first = (window * keys.len() as u64 + index as u64) * slot;
            let pages = (first..first + slot).map(|page| page * 1_009 % training.page_count()).collect();
            let task =
                WindowTask { window: WindowIndex(window), miner: *miner, pages, steps: recipe.genesis.inner.steps };
            let run = WindowRun::new(&recipe, &task, parameters.clone(), state.clone())?;
            let result = run_window(run, &|page| training.read(page), &mut ())?.ok_or("stopped")?;
            let contribution = result.contribution(&recipe, None, MinerState::zero_id(recipe.run, &recipe.tensors));
            let delta = recipe.decode_delta(&contribution, &result.delta)?;
            let late = window + 2 >= windows;
            if late || window == 1 || window == 3 {
                // The new error plus the sent values are the values that there were.
                let mut target = result.state.error.clone();
                let mut start = 0;
                for (tensor, spec) in recipe.tensors.iter().enumerate() {
                    for (at, value) in delta.tensor(tensor).entries() {
                        target[start + at as usize] += value;
                    }
                    start += spec.elements();
                }
                samples.push(Sample { late, target });
            }
            deltas.push(delta);
            *state = result.state;
        }
        outer_step(&recipe, WindowIndex(window), &deltas, &mut parameters)?;
    }
    Ok((recipe, samples))
}

/// A row of the table; the columns behind the ratios are text.
fn row(top_k: u32, name: &str, bits_a_parameter: f64, rest: &str) {
    let (fp32, bf16) = (32.0 / bits_a_parameter, 16.0 / bits_a_parameter);
    println!("| {top_k} | {name} | {bits_a_parameter:.4} | {fp32:.1} | {bf16:.1} | {rest} |");
}

fn ours(recipe: &Recipe, top_k: u32, quantiser: Quantiser, samples: &[&Sample]) -> Result<(), Failure> {
    let settings = DeltaSettings::new(SIDE as u32, top_k, quantiser, 0)?;
    let header = DeltaHeader { run: Hash::default(), window: 1_000, miner: [1; 32] };
    let (mut bytes, mut kept, mut positions, mut codes) = (0, 0, 0, 0);
    let (mut error, mut all) = (0f64, 0f64);
    for sample in samples {
        let mut left = vec![0.0; sample.target.len()];
        let delta = compress(&recipe.tensors, &settings, &header, &sample.target, &mut left)?;
        let sum = inspect(&delta)?.1.sum();
        bytes += delta.len();
        positions += sum.index_bytes;
        codes += sum.code_bytes + sum.scale_bytes;
        let delta = decode(&delta, &recipe.tensors, &settings, &header)?;
        kept += delta.kept();
        let mut start = 0;
        for (tensor, spec) in recipe.tensors.iter().enumerate() {
            for (at, _) in delta.tensor(tensor).entries() {
                let at = start + at as usize;
                error += f64::from(left[at]) * f64::from(left[at]);
                all += f64::from(sample.target[at]) * f64::from(sample.target[at]);
            }
            start += spec.elements();
        }
    }
    let each = |bytes: u64| bytes as f64 * 8.0 / kept as f64;
    let parameters = (recipe.parameter_count() * samples.len()) as f64;
    let rest = format!("{:.3} | {:.3} | {:.4}", each(positions), each(codes), error / all);
    row(top_k, &format!("**{quantiser}**"), bytes as f64 * 8.0 / parameters, &rest);
    Ok(())
}

fn baselines(recipe: &Recipe, top_k: u32, samples: &[&Sample]) -> Result<(), Failure> {
    let parameters = (recipe.parameter_count() * samples.len()) as f64;
    let (mut shipped, mut squeezed, mut kept, mut bound) = (0, 0, 0u64, 0f64);
    for sample in samples {
        let (bytes, count, bits) = as_shipped(&recipe.tensors, top_k, &sample.target)?;
        shipped += bytes.len();
        squeezed += zstd::bulk::compress(&bytes, 19)?.len();
        kept += count;
        bound += bits;
    }
    let bits = |bytes: usize| bytes as f64 * 8.0 / parameters;
    row(top_k, "Templar as shipped: 12-bit positions, a byte for a code", bits(shipped), "12 | 8 |");
    row(top_k, "the same with zstd -19", bits(squeezed), "| |");
    row(top_k, "its paper: 12 + 2 bits, nothing else", kept as f64 * 14.0 / parameters, "12 | 2 |");
    let positions = bound / kept as f64;
    let all = (bound + 2.0 * kept as f64) / parameters;
    row(top_k, "bound of a uniform set, 2-bit codes, nothing else", all, &format!("{positions:.3} | 2 |"));
    Ok(())
}

/// The largest divisor that is at most [`SIDE`].
fn side(n: usize) -> usize {
    (1..=SIDE).rev().find(|side| n.is_multiple_of(*side)).expect("1 divides")
}

/// The bytes that Templar's code would put into its dictionary, without its container: for each tensor the
/// positions in 12 bits (two in three bytes), a byte for each code, and shift, scale and four levels as floats.
/// Also gives the number of sent values, and the bits of a uniform code for the positions. Positions ascend
/// here, which suits zstd better than their order in Templar.
fn as_shipped(tensors: &[TensorSpec], top_k: u32, target: &[f32]) -> Result<(Vec<u8>, u64, f64), Failure> {
    let settings = DeltaSettings::new(SIDE as u32, top_k, Quantiser::Templar4, 0)?;
    let header = DeltaHeader { run: Hash::default(), window: 0, miner: [0; 32] };
    let delta = compress(tensors, &settings, &header, target, &mut vec![0.0; target.len()])?;
    let delta = decode(&delta, tensors, &settings, &header)?;
    let (mut bytes, mut bound) = (Vec::new(), 0f64);
    for (index, spec) in tensors.iter().enumerate() {
        let sparse = delta.tensor(index);
        let columns = *spec.shape.last().expect("a dimension") as usize;
        let (height, width) = match spec.shape[..] {
            [rows, _] => (side(rows as usize), side(columns)),
            _ => (1, side(columns)),
        };
        let mut levels: Vec<f32> = Vec::new();
        let (mut positions, mut codes) = (Vec::new(), Vec::new());
        for (at, value) in sparse.entries() {
            let (y, x) = (at as usize / columns, at as usize % columns);
            positions.push((y % height * width + x % width) as u16);
            let code = levels.iter().position(|&level| level == value).unwrap_or_else(|| {
                levels.push(value);
                levels.len() - 1
            });
            codes.push(code as u8);
        }
        let blocks = spec.elements() / (height * width);
        let kept = sparse.len() / blocks;
        bound +=
            blocks as f64 * (0..kept).map(|i| ((height * width - i) as f64 / (kept - i) as f64).log2()).sum::<f64>();
        for pair in positions.chunks(2) {
            let second = pair.get(1).copied().unwrap_or(0);
            bytes.extend_from_slice(&[pair[0] as u8, (pair[0] >> 8) as u8 | (second << 4) as u8, (second >> 4) as u8]);
        }
        bytes.extend_from_slice(&codes);
        levels.resize(6, 0.0);
        bytes.extend(levels.iter().flat_map(|level| level.to_le_bytes()));
    }
    Ok((bytes, delta.kept(), bound))
}

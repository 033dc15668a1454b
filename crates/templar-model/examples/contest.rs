//! The contestants of `tests/compare/step.py`: a training step and an evaluation, by this crate and by candle's
//! autograd.
//!
//! `contest prepare DIR NAME` writes a model's first parameters and its tokens. `contest templar DIR`,
//! `recompute DIR` and `candle DIR` say `ready`, load on a first line, say `loaded`, and then take one step for
//! each line (`train` or `eval`), answering with its mean loss and its seconds. Threads follow
//! `RAYON_NUM_THREADS`.

#[path = "../tests/reference.rs"]
mod reference;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use std::{env, fs, io};

use candle_core::{Device, Tensor};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use reference::Reference;
use templar_device::{Buffer, Cpu};
use templar_manifest::ModelSpec;
use templar_model::{AdamWSettings, Model, Moments, OptimizerStep, sizes, step};

const LEARNING_RATE: f32 = 1e-3;
/// Micro-batches that are shown in turn.
const BATCHES: usize = 8;
const STEP_TOKENS: u32 = 2048;

/// `medium` of the table with a vocabulary of 4,096 has 12.6M parameters; the other about 100M.
fn spec(name: &str) -> ModelSpec {
    match name {
        "100M" => ModelSpec {
            hidden_size: 768,
            layers: 12,
            heads: 12,
            kv_heads: 4,
            ffn_size: 2048,
            sequence_length: 1024,
            ..sizes::preset("medium", 16_384).expect("a size of the table")
        },
        name => sizes::preset(name, 4096).expect("a size of the table"),
    }
}

/// Tokens with something to learn: small ids are frequent, and a token often follows from the one before it.
fn tokens(spec: &ModelSpec) -> Vec<u32> {
    let mut state = 1u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u32
    };
    let mut last = 0u32;
    let count = BATCHES * (STEP_TOKENS / spec.sequence_length * (spec.sequence_length + 1)) as usize;
    let mut next = || {
        let (follows, first, second) = (draw() % 4 != 0, draw() % spec.vocab_size, draw() % spec.vocab_size);
        last = if follows { (last * 31 + 7) % spec.vocab_size } else { first.min(second) };
        last
    };
    (0..count).map(|_| next()).collect()
}

fn prepare(dir: &Path, name: &str) -> io::Result<()> {
    let spec = spec(name);
    let model = Model::new(&spec, Arc::new(Cpu::default())).expect("a sound specification");
    let params = model.init(&[1; 32]);
    fs::write(dir.join("parameters.bin"), params.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?;
    fs::write(dir.join("tokens.bin"), tokens(&spec).iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?;
    fs::write(dir.join("name"), name)?;
    fs::write(dir.join("step_tokens"), STEP_TOKENS.to_string())?;
    let tensors: Vec<_> = model.tensors().iter().map(|tensor| (&tensor.name, &tensor.shape)).collect();
    let shape = serde_json::json!({
        "hidden_size": spec.hidden_size, "layers": spec.layers, "heads": spec.heads, "kv_heads": spec.kv_heads,
        "rope_theta": spec.rope_theta, "norm_eps": f32::from_bits(spec.norm_eps_bits), "tensors": tensors,
        "sequence_length": spec.sequence_length, "sequences": STEP_TOKENS / spec.sequence_length,
        "learning_rate": LEARNING_RATE,
    });
    fs::write(dir.join("shape.json"), shape.to_string())?;
    println!("{name}: {} parameters, {STEP_TOKENS} tokens a step", params.len());
    Ok(())
}

/// A model that trains and evaluates.
trait Contestant {
    /// Trains on one micro-batch and gives its mean loss.
    fn train(&mut self, batch: &[u32]) -> f64;
    /// The mean loss alone.
    fn evaluate(&mut self, batch: &[u32]) -> f64;
}

struct Ours {
    model: Model,
    params: Buffer,
    grad: Buffer,
    moments: Moments,
    steps: u64,
}

impl Ours {
    fn new(mut model: Model, params: Vec<f32>, recompute: bool) -> Self {
        model.recompute(recompute);
        let device = Arc::clone(model.device());
        let moments = Moments::zero(&*device, params.len()).expect("memory for the moments");
        let grad = device.zeros(params.len() as u64).expect("memory for the gradient");
        Self {
            params: device.upload(params.into()).expect("memory for the parameters"),
            grad,
            moments,
            model,
            steps: 0,
        }
    }
}

impl Contestant for Ours {
    fn train(&mut self, batch: &[u32]) -> f64 {
        let Self { model, params, grad, moments, steps } = self;
        *steps += 1;
        let loss = model.forward_backward(params, batch, 1.0 / STEP_TOKENS as f32, grad).unwrap();
        let settings = AdamWSettings::reference();
        let at = OptimizerStep { settings: &settings, learning_rate: LEARNING_RATE, number: *steps };
        step(model, at, params, grad, moments).unwrap();
        loss / f64::from(STEP_TOKENS)
    }

    fn evaluate(&mut self, batch: &[u32]) -> f64 {
        self.model.loss(&self.params, batch).unwrap() / f64::from(STEP_TOKENS)
    }
}

struct Candle {
    model: Reference,
    /// For matrices, which decay, and for norms, which do not.
    optimizers: [AdamW; 2],
    sequences: usize,
}

impl Candle {
    fn new(model: &Model, params: &[f32]) -> candle_core::Result<Self> {
        let spec = model.spec();
        let width = spec.hidden_size / spec.heads;
        let frequency = |i: u32| libm::pow(f64::from(spec.rope_theta), -2.0 * f64::from(i) / f64::from(width));
        let frequencies: Vec<f64> = (0..width / 2).map(frequency).collect();
        let reference = Reference::new(model, params, &frequencies)?;
        let optimizer = |dimensions: usize, weight_decay: f64| {
            let vars = reference.vars.iter().filter(|var| var.dims().len() == dimensions).cloned().collect();
            let params = ParamsAdamW { lr: LEARNING_RATE.into(), beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay };
            AdamW::new(vars, params)
        };
        let optimizers = [optimizer(2, 0.1)?, optimizer(1, 0.0)?];
        Ok(Self { optimizers, sequences: (STEP_TOKENS / spec.sequence_length) as usize, model: reference })
    }

    fn loss(&self, batch: &[u32]) -> candle_core::Result<Tensor> {
        self.model.loss(&Tensor::from_slice(batch, (self.sequences, batch.len() / self.sequences), &Device::Cpu)?)
    }

    fn step(&mut self, batch: &[u32]) -> candle_core::Result<f64> {
        let loss = self.loss(batch)?;
        let mut gradients = loss.backward()?;
        let mut squares = 0.0;
        for var in &self.model.vars {
            let gradient = gradients.get(var).expect("every variable has a gradient");
            squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        if squares > 1.0 {
            for var in &self.model.vars {
                let clipped = (gradients.get(var).expect("every variable has a gradient") / squares.sqrt())?;
                gradients.insert(var, clipped);
            }
        }
        self.optimizers.iter_mut().try_for_each(|optimizer| optimizer.step(&gradients))?;
        loss.to_scalar::<f32>().map(f64::from)
    }
}

impl Contestant for Candle {
    fn train(&mut self, batch: &[u32]) -> f64 {
        self.step(batch).unwrap()
    }

    fn evaluate(&mut self, batch: &[u32]) -> f64 {
        f64::from(self.loss(batch).unwrap().to_scalar::<f32>().unwrap())
    }
}

fn numbers<T>(path: PathBuf, from: impl Fn([u8; 4]) -> T) -> io::Result<Vec<T>> {
    let bytes = fs::read(path)?;
    Ok(bytes.chunks_exact(4).map(|x| from([x[0], x[1], x[2], x[3]])).collect())
}

#[expect(clippy::disallowed_methods, reason = "a measurement of time")]
fn contend(name: &str, dir: &Path) -> io::Result<()> {
    let mut lines = io::stdin().lock().lines();
    let say = |line: String| writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush());
    say("ready".into())?;
    lines.next();
    let spec = spec(&fs::read_to_string(dir.join("name"))?);
    let model = Model::new(&spec, Arc::new(Cpu::default())).expect("a sound specification");
    let params = numbers(dir.join("parameters.bin"), f32::from_le_bytes)?;
    let tokens = numbers(dir.join("tokens.bin"), u32::from_le_bytes)?;
    let mut contestant: Box<dyn Contestant> = match name {
        "candle" => {
            let candle = Candle::new(&model, &params).expect("candle has a CPU");
            drop((model, params));
            Box::new(candle)
        }
        name => Box::new(Ours::new(model, params, name == "recompute")),
    };
    say("loaded".into())?;
    let mut batches = tokens.chunks_exact(tokens.len() / BATCHES).cycle().peekable();
    for line in lines {
        let batch = *batches.peek().expect("there are tokens");
        let start = Instant::now();
        let loss = match line?.as_str() {
            "train" => {
                batches.next();
                contestant.train(batch)
            }
            _ => contestant.evaluate(batch),
        };
        say(format!("{loss:.6} {:.6}", start.elapsed().as_secs_f64()))?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["prepare", dir, name] => prepare(Path::new(dir), name),
        [name @ ("templar" | "recompute" | "candle"), dir] => contend(name, Path::new(dir)),
        _ => Err(io::Error::other("contest prepare DIR NAME | contest templar|recompute|candle DIR")),
    }
}

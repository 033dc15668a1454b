//! Measures a device: one shape of product, and whole training steps.

use std::sync::Arc;
use std::time::Instant;

use templar_device::{Buffer, Device, DeviceError, Matrix, MatrixMut};
use templar_manifest::ModelSpec;
use templar_model::{AdamWSettings, Model, Moments, OptimizerStep, StepError, step};

/// Rows, columns and depth of the product that is timed.
const PRODUCT: [u64; 3] = [1024, 1024, 1024];
/// How often the product is timed.
const PRODUCTS: u32 = 5;

/// The training that is timed.
pub(super) struct Work {
    pub(super) spec: ModelSpec,
    /// Sequences of a step.
    pub(super) sequences: u32,
    pub(super) steps: u32,
}

/// The speed of a device.
pub(super) struct Speed {
    /// Floating-point operations in a second, in products.
    pub(super) flops: f64,
    /// Tokens that training steps predict in a second.
    pub(super) tokens_per_second: f64,
    /// The time of the leaf's hashes, as a part of the step with them.
    pub(super) hash_share: f64,
    /// The processor's time of the thread that calls the device, as a part of the step; `None` where the device is the
    /// processor itself, or the system does not say.
    pub(super) host_share: Option<f64>,
}

/// The seconds that `work` takes.
#[expect(clippy::disallowed_methods, reason = "a time that a person reads; decides nothing")]
fn seconds<E>(work: impl FnOnce() -> Result<(), E>) -> Result<f64, E> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// The processor's seconds of this thread so far, where Linux says them.
fn thread_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(|nanos: f64| nanos / 1e9)
}

/// Waits until the device has done what was asked for.
fn wait(device: &dyn Device, buffer: &Buffer) -> Result<(), DeviceError> {
    device.read(buffer.view(0..1), &mut [0.0])
}

pub(super) fn measure(device: &Arc<dyn Device>, work: &Work) -> Result<Speed, StepError> {
    let flops = products(&**device)?;
    let (mut training, mut best) = (Training::new(device, work)?, f64::MAX);
    let (mut hash, mut host) = (0.0, None);
    for number in 1..=u64::from(work.steps) {
        let before = thread_seconds();
        let stepped = seconds(|| training.step(number))?;
        let used = before.and_then(|before| Some(thread_seconds()? - before));
        let hashed = seconds(|| training.hash())?;
        if stepped + hashed < best {
            best = stepped + hashed;
            hash = hashed / best;
            host = used.filter(|_| device.is_rechecked()).map(|used| used / stepped);
        }
    }
    let tokens = f64::from(work.sequences) * f64::from(work.spec.sequence_length);
    Ok(Speed { flops, tokens_per_second: tokens / best, hash_share: hash, host_share: host })
}

/// Floating-point operations in a second.
fn products(device: &dyn Device) -> Result<f64, DeviceError> {
    let [m, n, k] = PRODUCT;
    let ones = |len: u64| device.upload(vec![1.0; len as usize].into());
    let (a, b, mut c) = (ones(m * k)?, ones(k * n)?, device.zeros(m * n)?);
    let mut best = f64::MAX;
    for _ in 0..PRODUCTS {
        let once = seconds(|| {
            device.gemm(Matrix::new(a.all(), m), Matrix::new(b.all(), k), MatrixMut::new(c.all_mut(), m), false);
            wait(device, &c)
        })?;
        best = best.min(once);
    }
    Ok((2 * m * n * k) as f64 / best)
}

/// A model in training on tokens that mean nothing.
struct Training {
    device: Arc<dyn Device>,
    model: Model,
    tokens: Vec<u32>,
    scale: f32,
    parameters: Buffer,
    gradient: Buffer,
    moments: Moments,
}

impl Training {
    fn new(device: &Arc<dyn Device>, work: &Work) -> Result<Self, StepError> {
        let model = Model::new(&work.spec, Arc::clone(device)).expect("a size of the table");
        let parameters = device.upload(model.init(&[1; 32]).into())?;
        let (gradient, moments) = (device.zeros(parameters.len())?, Moments::zero(&**device, model.parameter_count())?);
        let count = work.sequences * (work.spec.sequence_length + 1);
        let tokens = (0..count).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) % work.spec.vocab_size).collect();
        let scale = 1.0 / (work.sequences * work.spec.sequence_length) as f32;
        Ok(Self { device: Arc::clone(device), model, tokens, scale, parameters, gradient, moments })
    }

    fn step(&mut self, number: u64) -> Result<(), StepError> {
        let Self { device, model, tokens, scale, parameters, gradient, moments } = self;
        model.forward_backward(parameters, tokens, *scale, gradient)?;
        let at = OptimizerStep { settings: &AdamWSettings::reference(), learning_rate: 1e-3, number };
        step(model, at, parameters, gradient, moments)?;
        Ok(wait(&**device, parameters)?)
    }

    /// The hashes of a leaf.
    fn hash(&self) -> Result<(), StepError> {
        let vectors = [&self.parameters, &self.moments.first, &self.moments.second];
        self.device.hash(&vectors, self.model.places(), None)?;
        Ok(())
    }
}

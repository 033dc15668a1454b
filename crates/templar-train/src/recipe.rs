//! The training rules of a genesis, checked once and turned into the types that compute.

use std::sync::Arc;

use templar_blob::BlobSource;
use templar_delta::{AggregationRule, DeltaSettings, DeltaSettingsError};
use templar_device::{Cpu, Device, for_arithmetic, helpers_for_arithmetic};
use templar_manifest::{Arithmetic, Genesis, Hash, Initial, RunId, TensorBlob, TensorSpec, WindowIndex};
use templar_model::{AdamWSettings, ConfigError, Model};

use crate::recheck_rate::one_in;
use crate::tensors::{LoadError, read_listed};

/// Why a genesis cannot be trained by this program.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The device computes another arithmetic than genesis names.
    #[error("genesis names the arithmetic {expected}, device {device} computes {found}")]
    Arithmetic {
        /// The name of the device.
        device: String,
        /// The arithmetic of the genesis.
        expected: Arithmetic,
        /// The arithmetic of the device.
        found: Arithmetic,
    },
    /// The model's sizes do not fit together.
    #[error("genesis describes a model that cannot be built")]
    Model(#[from] ConfigError),
    /// The compressor's settings are out of range.
    #[error("genesis describes a compression that cannot be done")]
    Compression(#[from] DeltaSettingsError),
    /// Genesis names another number of blobs to start from than the model has tensors.
    #[error("genesis starts from {found} tensors, the model has {expected}")]
    Initial {
        /// Tensors of the model.
        expected: usize,
        /// Blobs that genesis names.
        found: usize,
    },
}

/// Everything of genesis that training and replay depend on.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The id of the run.
    pub run: RunId,
    /// The genesis of the run.
    pub genesis: Genesis,
    /// The tensors of the model, in the order of the flat parameter vector.
    pub tensors: Vec<TensorSpec>,
    /// The constants of the inner optimiser.
    pub adamw: AdamWSettings,
    /// The settings of the compressor.
    pub compression: DeltaSettings,
    /// How deltas are combined.
    pub rule: AggregationRule,
    /// The device that computes; results do not depend on which one it is.
    pub device: Arc<dyn Device>,
    /// Further devices, which take micro-batches of an inner step. Results do not depend on them either.
    pub helpers: Vec<Arc<dyn Device>>,
    /// One inner step of so many is computed again on the CPU if a device is rechecked; 0 says that none is.
    pub recheck_one_in: u32,
}

impl Recipe {
    /// Checks and collects what `genesis` says, for a device of this machine that computes its arithmetic.
    ///
    /// # Errors
    /// A genesis that this program cannot train; the error names the part.
    pub fn new(run: RunId, genesis: Genesis) -> Result<Self, RecipeError> {
        let helpers = helpers_for_arithmetic(genesis.arithmetic);
        Ok(Self { helpers, ..Self::on(for_arithmetic(genesis.arithmetic), run, genesis)? })
    }

    /// [`Recipe::new`] for a given device.
    ///
    /// # Errors
    /// A device that computes another arithmetic than genesis names; else as [`Recipe::new`].
    pub fn on(device: Arc<dyn Device>, run: RunId, genesis: Genesis) -> Result<Self, RecipeError> {
        let (expected, found) = (genesis.arithmetic, device.arithmetic());
        if found != expected {
            return Err(RecipeError::Arithmetic { device: device.name(), expected, found });
        }
        let tensors = templar_model::tensors(&genesis.model)?;
        for context in &genesis.context {
            // The same tensors, and a context that may be refused by itself.
            templar_model::tensors(&genesis.model_at(context.from_window))?;
        }
        if let Initial::Tensors(blobs) = &genesis.initial
            && blobs.len() != tensors.len()
        {
            return Err(RecipeError::Initial { expected: tensors.len(), found: blobs.len() });
        }
        let inner = &genesis.inner;
        let adamw = AdamWSettings {
            beta1_ppm: inner.beta1_ppm,
            beta2_ppm: inner.beta2_ppm,
            eps_bits: inner.eps_bits,
            weight_decay_ppm: inner.weight_decay_ppm,
            clip_norm_ppm: inner.clip_norm_ppm,
        };
        let spec = &genesis.compression;
        let compression = DeltaSettings::new(spec.block_side, spec.top_k, spec.quantiser, spec.error_decay_ppm)?;
        let rule = genesis.outer.rule;
        Ok(Self {
            run,
            tensors,
            adamw,
            compression,
            rule,
            device,
            helpers: Vec::new(),
            recheck_one_in: one_in(),
            genesis,
        })
    }

    /// The same recipe, computed by the CPU alone.
    #[must_use]
    pub fn on_cpu(&self) -> Self {
        let device = Arc::new(Cpu::default().computing(self.genesis.arithmetic));
        Self { device, helpers: Vec::new(), ..self.clone() }
    }

    /// All devices that compute.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &Arc<dyn Device>> {
        std::iter::once(&self.device).chain(&self.helpers)
    }

    /// Whether samples of the work are computed again on the CPU.
    pub(crate) fn is_rechecked(&self) -> bool {
        self.devices().any(|device| device.is_rechecked())
    }

    /// The model as a window computes it, with its own activation buffers.
    ///
    /// # Panics
    /// Never: [`Recipe::new`] laid one out from the same specification, which is all that can fail.
    pub fn model(&self, window: WindowIndex) -> Model {
        self.model_on(&self.device, window)
    }

    /// The model on each of the helpers.
    pub(crate) fn helper_models(&self, window: WindowIndex) -> Vec<Model> {
        self.helpers.iter().map(|helper| self.model_on(helper, window)).collect()
    }

    fn model_on(&self, device: &Arc<dyn Device>, window: WindowIndex) -> Model {
        Model::new(&self.genesis.model_at(window.0), Arc::clone(device))
            .expect("the specification was checked when the recipe was made")
    }

    /// Elements of the flat parameter vector.
    pub fn parameter_count(&self) -> usize {
        self.tensors.iter().map(TensorSpec::elements).sum()
    }

    /// Tokens that one inner step of a window predicts.
    pub fn step_tokens(&self, window: WindowIndex) -> u64 {
        let context = self.genesis.context_at(window.0);
        u64::from(context.batch_sequences) * u64::from(context.sequence_length)
    }

    /// The outer learning rate of a window.
    pub fn outer_learning_rate(&self, window: u64) -> f32 {
        (f64::from(self.genesis.outer_learning_rate_ppm(window)) / 1e6) as f32
    }

    /// The first checkpoint's parameters: drawn from genesis' seed, or those of the blobs it names, out of `blobs`.
    ///
    /// # Errors
    /// A blob that is missing, or of another length than its tensor.
    pub fn initial_parameters(&self, blobs: &dyn BlobSource) -> Result<Vec<f32>, LoadError> {
        match &self.genesis.initial {
            Initial::Seed(seed) => Ok(self.model(WindowIndex(0)).init(seed.as_bytes())),
            Initial::Tensors(named) => {
                let listed = self.tensors.iter().zip(named);
                let listed: Vec<TensorBlob> =
                    listed.map(|(spec, &blob)| TensorBlob { spec: spec.clone(), blob }).collect();
                read_listed(&self.tensors, &listed, blobs)
            }
        }
    }

    /// The blobs that genesis names to start from, with their lengths; none where a seed says it all.
    pub fn initial_blobs(&self) -> Vec<(Hash, u64)> {
        match &self.genesis.initial {
            Initial::Seed(_) => Vec::new(),
            Initial::Tensors(named) => {
                let named = named.iter().zip(&self.tensors);
                named.map(|(blob, spec)| (blob.hash(), spec.elements() as u64 * 4)).collect()
            }
        }
    }
}

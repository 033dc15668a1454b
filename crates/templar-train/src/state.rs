//! The state that a miner carries from window to window: AdamW's moments and the error feedback.

use templar_blob::BlobSource;
use templar_manifest::{BlobId, RunId, State, StateId, TensorBlob, TensorSpec, payload};

use crate::tensors::{self, LoadError};

/// A miner's private state, four numbers for each parameter less the parameter itself.
#[derive(Debug, Clone, PartialEq)]
pub struct MinerState {
    /// AdamW steps behind the moments.
    pub optimizer_steps: u64,
    /// First moments, a flat vector.
    pub first: Vec<f32>,
    /// Second moments, a flat vector.
    pub second: Vec<f32>,
    /// Error feedback of the compressor, a flat vector.
    pub error: Vec<f32>,
}

impl MinerState {
    /// The state of a miner that joins.
    pub fn zero(parameters: usize) -> Self {
        Self {
            optimizer_steps: 0,
            first: vec![0.0; parameters],
            second: vec![0.0; parameters],
            error: vec![0.0; parameters],
        }
    }

    /// The manifest of this state, giving each tensor's bytes to `put`.
    pub fn write<E>(
        &self,
        run: RunId,
        specs: &[TensorSpec],
        mut put: impl FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<State, E> {
        let mut listed = Vec::with_capacity(specs.len());
        for (spec, range) in specs.iter().zip(tensors::ranges(specs)) {
            let parts = [&self.first[range.clone()], &self.second[range.clone()], &self.error[range]];
            let bytes = tensors::to_bytes(&parts);
            listed.push(TensorBlob { spec: spec.clone(), blob: BlobId::of(&bytes) });
            put(bytes)?;
        }
        Ok(State { run, optimizer_steps: self.optimizer_steps, tensors: listed })
    }

    /// Loads the state that `manifest` lists.
    pub fn read(specs: &[TensorSpec], manifest: &State, source: &dyn BlobSource) -> Result<Self, LoadError> {
        let vector = || Vec::with_capacity(specs.iter().map(TensorSpec::elements).sum());
        let mut state =
            Self { optimizer_steps: manifest.optimizer_steps, first: vector(), second: vector(), error: vector() };
        tensors::read_tensors(specs, &manifest.tensors, 3, source, |_, bytes| {
            let third = bytes.len() / 3;
            tensors::extend_from_bytes(&mut state.first, &bytes[..third]);
            tensors::extend_from_bytes(&mut state.second, &bytes[third..2 * third]);
            tensors::extend_from_bytes(&mut state.error, &bytes[2 * third..]);
        })?;
        Ok(state)
    }

    /// The id of the state that every miner of a run joins with.
    pub fn zero_id(run: RunId, specs: &[TensorSpec]) -> StateId {
        let zeros = vec![0.0; specs.iter().map(TensorSpec::elements).max().unwrap_or(0)];
        let blob = |spec: &TensorSpec| tensors::hash_of(&[&zeros[..spec.elements()]; 3]).into();
        let listed = specs.iter().map(|spec| TensorBlob { spec: spec.clone(), blob: blob(spec) }).collect();
        payload::id_of(&State { run, optimizer_steps: 0, tensors: listed }).into()
    }
}

//! The model between two windows, and a miner's state between two windows: lists of tensors, one blob each.

use serde::{Deserialize, Serialize};

use super::rules::{MAX_ENTRIES, ascii};
use crate::id::{BlobId, RunId, WindowIndex};
use crate::payload::{Kind, Payload};
use crate::tensor::TensorSpec;

/// An upper bound of the inner steps of any run. It leaves room, because a replay adds to the number in a state.
const MAX_OPTIMIZER_STEPS: u64 = 1 << 48;

/// A tensor and the blob that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorBlob {
    /// The name and shape of the tensor.
    pub spec: TensorSpec,
    /// The blob. In a checkpoint it holds the elements as little-endian f32. In a state it holds three such
    /// lists, one after the other: first moments, second moments, error feedback.
    pub blob: BlobId,
}

/// The model before window `window`. Everybody derives it from the record, so nobody signs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The run that this belongs to.
    pub run: RunId,
    /// The window that starts from this model.
    pub window: WindowIndex,
    /// The tensors in the model's order.
    pub tensors: Vec<TensorBlob>,
}

/// The state that a miner carries from one window to the next besides the checkpoint: optimiser moments and
/// error feedback. It follows from the miner's recorded contributions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The run that this belongs to.
    pub run: RunId,
    /// The number of AdamW steps that the moments have seen; 0 when they are zero.
    pub optimizer_steps: u64,
    /// The tensors in the model's order.
    pub tensors: Vec<TensorBlob>,
}

fn check_tensors(tensors: &[TensorBlob]) -> Result<(), String> {
    if tensors.is_empty() || tensors.len() > MAX_ENTRIES {
        return Err(format!("tensors has {} entries", tensors.len()));
    }
    for tensor in tensors {
        ascii("tensors.spec.name", &tensor.spec.name, 256)?;
        let spec = &tensor.spec;
        if spec.shape.is_empty() || spec.shape.len() > 2 || spec.shape.contains(&0) {
            return Err(format!("tensor {} has the shape {:?}", spec.name, spec.shape));
        }
        if spec.checked_elements().and_then(|elements| elements.checked_mul(12)).is_none() {
            return Err(format!("tensor {} does not fit in memory", spec.name));
        }
    }
    Ok(())
}

impl Payload for Checkpoint {
    const KIND: Kind = Kind::Checkpoint;

    fn run(&self) -> Option<RunId> {
        Some(self.run)
    }

    fn check(&self) -> Result<(), String> {
        check_tensors(&self.tensors)
    }
}

impl Payload for State {
    const KIND: Kind = Kind::State;

    fn run(&self) -> Option<RunId> {
        Some(self.run)
    }

    fn check(&self) -> Result<(), String> {
        if self.optimizer_steps > MAX_OPTIMIZER_STEPS {
            return Err(format!("optimizer_steps is above {MAX_OPTIMIZER_STEPS}"));
        }
        check_tensors(&self.tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{PayloadError, decode, encode};

    /// A replay adds the steps of a window to those that a state says, and nobody's arithmetic may overflow there.
    #[test]
    fn a_state_of_more_steps_than_a_run_can_have_does_not_decode() {
        let tensor = TensorBlob { spec: TensorSpec { name: "w".to_owned(), shape: vec![1] }, blob: BlobId::default() };
        let state = |optimizer_steps| State { run: RunId::default(), optimizer_steps, tensors: vec![tensor.clone()] };
        let most = 1 << 48;
        for steps in [0, 1, most] {
            assert_eq!(decode(&encode(&state(steps))), Ok(state(steps)));
        }
        for steps in [most + 1, u64::MAX] {
            let rule = "optimizer_steps is above 281474976710656".to_owned();
            assert_eq!(decode::<State>(&encode(&state(steps))), Err(PayloadError::Rule { kind: Kind::State, rule }));
        }
    }
}

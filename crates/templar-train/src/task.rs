//! The task of a window, and why it cannot be done.

use templar_data::PageError;
use templar_delta::CompressError;
use templar_device::DeviceError;
use templar_manifest::{PublicKey, WindowIndex};
use templar_model::StepError;

use crate::fit::TooLarge;

/// The training that a miner is to do in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowTask {
    /// The window to train in.
    pub window: WindowIndex,
    /// The key of the miner.
    pub miner: PublicKey,
    /// The pages of its slot, in the order of training; at least those of `steps` inner steps.
    pub pages: Vec<u64>,
    /// Inner steps to take, 1 to H.
    pub steps: u32,
}

/// Why a window cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The task has too few pages or steps, or parameters or state of another size.
    #[error("the task does not fit the run: {0}")]
    Task(String),
    /// A page cannot be read.
    #[error("a page of inner step {step} cannot be read")]
    Page {
        /// The inner step, from 1.
        step: u32,
        /// The error of the dataset.
        #[source]
        source: PageError,
    },
    /// A step gave a number that is not finite, or met a token outside the vocabulary.
    #[error("inner step {step} is invalid")]
    Step {
        /// The inner step, from 1.
        step: u32,
        /// The model's error.
        #[source]
        source: StepError,
    },
    /// The pseudo-gradient cannot be compressed.
    #[error("the pseudo-gradient cannot be compressed")]
    Compress(#[from] CompressError),
    /// The window does not fit into the memory of a device. No work was done.
    #[error("device {device} is too small: {reason}")]
    TooLarge {
        /// The name of the device.
        device: String,
        /// The memory that the window takes, and the window that would fit.
        reason: TooLarge,
    },
    /// The device fails, or has no memory for the window.
    #[error("the window cannot be computed")]
    Device(#[from] DeviceError),
}

impl TrainError {
    /// Whether a device is the reason, so that another device may do the same work.
    pub fn is_of_device(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Device(_) | Self::Step { source: StepError::Device(_), .. })
    }
}

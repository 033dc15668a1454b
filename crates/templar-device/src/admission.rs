//! The way to open a device: the options, the proof that was given, and the reasons for a refusal.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::DeviceCache;
use crate::choice::DeviceChoice;
use crate::device::{Device, DeviceError};
use crate::report::{ArithmeticPath, DeviceReport, Unusable};
use crate::self_test::SelfTestError;

/// How a device is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Where compiled programs and passed proofs are kept. Without a cache everything is done anew.
    pub cache: Option<Arc<dyn DeviceCache>>,
    /// How long compiling and testing may take. A compiler that does not come back is left behind in its thread.
    pub time_limit: Duration,
    /// Whether a proof in the cache is not trusted: the device is tested again.
    pub test_again: bool,
}

impl Default for OpenOptions {
    /// No cache, and ten minutes: pocl takes some of them on a busy machine.
    fn default() -> Self {
        Self { cache: None, time_limit: Duration::from_secs(600), test_again: false }
    }
}

/// Why a device cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no OpenCL on this machine, or none that works.
    #[error("this machine has no OpenCL: {0}")]
    NoOpenCl(String),
    /// The program was built without the code for such devices.
    #[error("{0} is not in this program: it was built without the feature {1:?}")]
    NotBuilt(DeviceChoice, &'static str),
    /// There are fewer devices.
    #[error("there is no device {choice}: this machine has {found} of its kind")]
    NotFound {
        /// The device that was asked for.
        choice: DeviceChoice,
        /// The number of devices that there are.
        found: usize,
    },
    /// The device cannot run the kernels.
    #[error("{device} cannot be used: {reason}")]
    Unusable {
        /// The title of the device.
        device: String,
        /// The properties that it lacks.
        reason: Unusable,
    },
    /// The driver does not compile the kernels.
    #[error("{device} does not compile the kernels: {log}")]
    Compile {
        /// The title of the device.
        device: String,
        /// The message of the compiler.
        log: String,
    },
    /// Compiling or testing took longer than allowed.
    #[error("{device} did not compile and test the kernels within {seconds} seconds")]
    TimeLimit {
        /// The title of the device.
        device: String,
        /// The limit.
        seconds: u64,
    },
    /// The device computes something else than the specification.
    #[error("{device} is refused")]
    Refused {
        /// The title of the device.
        device: String,
        /// The first difference, of the last arithmetic that was tried.
        #[source]
        difference: SelfTestError,
    },
    /// The device failed while it was opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A device that was proven, and how.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The device.
    pub device: Arc<dyn Device>,
    /// Its report about itself.
    pub report: DeviceReport,
    /// The arithmetic that passed.
    pub path: ArithmeticPath,
    /// The first difference of each arithmetic that was tried before and did not pass.
    pub refused: Vec<(ArithmeticPath, String)>,
    /// Whether the proof is from an earlier process, with the same driver and the same kernels.
    pub is_proof_cached: bool,
}

//! The services of a driver of GPUs for a device: memory, transfers, programs and launches.
//!
//! Memory consists of 32-bit words. All calls of a driver take effect in their order.

use std::fmt;

use crate::device::DeviceMemory;

/// Why a driver cannot do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DriverError {
    /// There is no room in the device's memory.
    #[error("no memory for {words} words")]
    OutOfMemory {
        /// The number of words that were asked for; 0 where it is not known.
        words: u64,
    },
    /// The device is gone: it was reset, unplugged, or does not answer any more.
    #[error("the device is gone: {0}")]
    Lost(String),
    /// Anything else, in the driver's own words.
    #[error("{0}")]
    Other(String),
}

/// An argument of a kernel.
#[derive(Debug)]
pub(crate) enum Arg<'a, M> {
    /// Memory; what the kernel reads or writes of it follows from its other arguments.
    Memory(&'a M),
    U32(u32),
    U64(u64),
    F32(f32),
}

/// How many threads a launch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Groups in three directions.
    pub(crate) groups: [u64; 3],
    /// Threads of a group in two directions.
    pub(crate) group: [u32; 2],
}

/// A driver, with one device of it.
pub(crate) trait Driver: fmt::Debug + Send + Sync + 'static {
    /// Memory of the device. It is given back when it is dropped, after everything that uses it.
    type Memory: Send + Sync + 'static;

    /// A name to show people.
    fn name(&self) -> String;

    /// The memory of the device.
    fn memory(&self) -> DeviceMemory;

    /// Reserves memory. Its contents are unspecified.
    fn allocate(&self, words: u64) -> Result<Self::Memory, DriverError>;

    /// Copies words into memory from word `at` on. The words may be changed when this returns.
    fn write(&self, memory: &Self::Memory, at: u64, words: &[u32]) -> Result<(), DriverError>;

    /// Copies words from memory, after everything that was asked for before.
    fn read(&self, memory: &Self::Memory, at: u64, words: &mut [u32]) -> Result<(), DriverError>;

    /// Runs a kernel of [`SOURCES`](super::kernels::SOURCES).
    fn launch(&self, kernel: &'static str, grid: Grid, args: &[Arg<'_, Self::Memory>]) -> Result<(), DriverError>;
}

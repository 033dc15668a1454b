//! The seam between the model and the hardware that computes it.
//!
//! A [`Device`] owns [`Buffer`]s and runs the operations of the specification on them, with the specification's bits.
//! Everything above (model, training, replay) is written once, over `&dyn Device`, and cannot tell devices apart.
//! [`Cpu`] is the device that every machine has.
//!
//! ```
//! use templar_device::{Cpu, Device, Matrix, MatrixMut};
//!
//! let device = Cpu::best();
//! let a = device.upload(vec![1.0, 2.0, 3.0].into())?; // [1, 3]
//! let b = device.upload(vec![4.0, 5.0, 6.0, 7.0, 8.0, 9.0].into())?; // [2, 3]
//! let mut c = device.zeros(2)?; // [1, 2]
//! let b_transposed = Matrix::new(b.all(), 2).transposed();
//! device.gemm(Matrix::new(a.all(), 1), b_transposed, MatrixMut::new(c.all_mut(), 1), false);
//! assert_eq!(device.download(c)?, [32.0, 50.0]);
//! # Ok::<(), templar_device::DeviceError>(())
//! ```
//!
//! # GPUs
//!
//! With the feature `opencl` there are GPUs of every vendor, by kernels that are part of this crate (`kernels/`).
//! [`open`] gives a device by its name after it has passed [`prove`], and [`set_default_device`] makes it the one
//! that [`for_arithmetic`] gives. Nothing above this crate changes with the device, and no result does.
//!
//! # Another device
//!
//! Implement [`Device`], and compare it with the slow twin of `templar-numerics` by [`prove`]. Devices whose
//! buffers are plain memory share the functions of [`host`]. A driver for GPUs whose kernels are C implements the
//! trait `Driver` in `gpu/driver.rs` and gets all operations.
//!
//! # Another arithmetic
//!
//! There are two, `f32/1` and `i8x2/1`; they differ in matrix products and attention. A device computes one at a time
//! ([`Device::arithmetic`]) and may have others ([`Device::with_arithmetic`]): the [`Cpu`] has both, GPUs have `f32/1`.
//! A run names its arithmetic in its genesis, and [`for_arithmetic`] gives the device for it. To add another, name it
//! in `templar-manifest`; the compiler shows where it is missing.

mod admission;
mod buffer;
mod cache;
mod choice;
mod cpu;
mod device;
mod dry;
#[cfg(feature = "opencl")]
mod gpu;
pub mod host;
mod open;
#[cfg(feature = "opencl")]
mod opencl;
mod report;
mod self_test;

pub use admission::{Admitted, OpenError, OpenOptions};
pub use buffer::{Buffer, Element, View, ViewMut};
pub use cache::DeviceCache;
pub use choice::{DeviceChoice, DeviceChoices, UnknownDevice};
pub use cpu::Cpu;
pub use device::{
    AdamWUpdate, AttentionGradient, Device, DeviceError, DeviceMemory, GateInputs, Matrix, MatrixMut, NormGradient,
    NormInputs, RotaryBuffers,
};
pub use dry::{DryDevice, MemoryUse};
pub use open::{
    Chosen, admit, built_with, for_arithmetic, helpers_for_arithmetic, list, open, open_all, set_default_device,
    set_helpers,
};
pub use report::{ArithmeticPath, DeviceKind, DeviceReport, FloatReport, Unusable};
pub use self_test::{SelfTestError, prove, self_test};
pub use templar_manifest::Arithmetic;
pub use templar_numerics::i8x2::{Unit, UnsupportedUnit};
pub use templar_numerics::{AdamW, AttentionShape, HeadLayout, Isa, RotaryScaling, RotaryTables, UnsupportedIsa};

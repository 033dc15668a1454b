//! The seam between the model and the hardware that computes it.
//!
//! A [`Device`] owns [`Buffer`]s and runs the operations of the specification on them, with the specification's bits.
//! Everything above (model, training, replay) is written once, over `&dyn Device`, and cannot tell devices apart.
//! [`Cpu`] is the device that every machine has.
//!
//! To add a device, implement [`Device`] and let [`self_test`] compare it with the slow twin of `templar-numerics`.
//! To add an arithmetic, name it in `templar-manifest` and choose its device in [`for_arithmetic`].

mod arithmetic;
mod buffer;
mod cpu;
mod device;
pub mod host;
mod self_test;

pub use arithmetic::for_arithmetic;
pub use buffer::{Buffer, Element, View, ViewMut};
pub use cpu::Cpu;
pub use device::{
    AdamWUpdate, AttentionGradient, Device, DeviceError, GateInputs, Matrix, MatrixMut, NormInputs, RotaryBuffers,
};
pub use self_test::{SelfTestError, self_test};
pub use templar_manifest::Arithmetic;
pub use templar_numerics::{AdamW, AttentionShape, HeadLayout, Isa, RotaryScaling, RotaryTables, UnsupportedIsa};

//! The arithmetic `f32/1`, defined to the bit.
#![allow(unsafe_code)]

mod adamw;
mod cross_entropy;
mod elementary;
mod elementwise;
#[cfg(test)]
mod equality;
mod gemm;
mod isa;
mod kernel;
mod matrix;
mod norm;
mod reduce;
mod rotary;
mod soft_fma;
mod softmax;
mod swiglu;
pub mod twin;

pub use adamw::{AdamW, adamw};
pub use cross_entropy::{cross_entropy, cross_entropy_loss};
pub use elementary::{exp, ln, sigmoid};
pub use elementwise::{add_in_place, exp_in_place, first_non_finite, scale_in_place};
pub use gemm::{gemm, gemm_serial};
pub use isa::{FlushesSubnormals, Isa, UnknownIsa, UnsupportedIsa, check_environment};
pub use matrix::{Mat, MatMut, Op};
pub use norm::{rms_norm, rms_norm_backward};
pub use reduce::{dot, squared_norm_f64, sum};
pub use rotary::{RotaryTables, rotary, rotary_backward};
pub use softmax::{softmax, softmax_backward};
pub use swiglu::{swiglu, swiglu_backward};

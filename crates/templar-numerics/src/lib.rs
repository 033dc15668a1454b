//! The arithmetic `f32/1`, defined to the bit.
#![allow(unsafe_code)]

mod adamw;
mod cross_entropy;
mod isa;
mod matrix;
mod norm;
mod rotary;
mod soft_fma;
pub mod twin;

pub use adamw::AdamW;
pub use isa::{FlushesSubnormals, Isa, UnknownIsa, UnsupportedIsa, check_environment};
pub use matrix::{Mat, MatMut, Op};
pub use rotary::RotaryTables;
pub use twin::gemm as gemm_serial;
pub use twin::{
    adamw, add_in_place, cross_entropy, cross_entropy_loss, dot, exp, exp_in_place, first_non_finite, gemm, ln,
    rms_norm, rms_norm_backward, rotary, rotary_backward, scale_in_place, sigmoid, softmax, softmax_backward,
    squared_norm_f64, sum, swiglu, swiglu_backward,
};

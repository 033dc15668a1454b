//! Being built.
pub mod id;
pub mod tensor;
pub use id::*;
pub use tensor::TensorSpec;

//! Being built.
pub mod id;
pub mod model;
pub mod tensor;
pub use id::*;
pub use model::ModelSpec;
pub use tensor::TensorSpec;

//! The reasons for which a folder is refused, or not written.

use std::io;
use std::path::PathBuf;

use super::WEIGHTS;
use crate::layout::ConfigError;

/// Why a folder is refused.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file that was read.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// A file or its header is longer than any that is sound.
    #[error("{what} has {found} bytes, more than {limit}")]
    TooLarge {
        /// The part that is too long.
        what: &'static str,
        /// The length of that part, in bytes.
        found: u64,
        /// The longest that is taken, in bytes.
        limit: u64,
    },
    /// The config or the index is not JSON, or a size in it is missing or not a number that fits.
    #[error("{} does not parse", path.display())]
    Parse {
        /// The file that was read.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// The config asks for something that this model does not compute.
    #[error("{what} is not supported: {found}")]
    Unsupported {
        /// The key of the config.
        what: &'static str,
        /// The value of that key.
        found: String,
    },
    /// Two keys state the rotary embedding and do not say the same, so readers disagree on what the file means.
    #[error("the rotary embedding is ambiguous: {said}")]
    AmbiguousRope {
        /// The values of the keys.
        said: String,
    },
    /// The rotary frequencies are changed in a way that this model does not compute.
    #[error("rotary scaling of the kind {kind:?} is not supported: `linear` and `llama3` are")]
    RopeKind {
        /// The kind in the config.
        kind: String,
    },
    /// The architecture is not the one that is trained, but candle can generate with it.
    #[error("a model of the kind {architecture} can generate, but not be trained here: {reason}")]
    GenerateOnly {
        /// The name of the architecture.
        architecture: &'static str,
        /// The difference to the architecture that is trained.
        reason: String,
    },
    /// A file is a pointer of Git LFS, which stands where the file itself was not downloaded.
    #[error("{} is a Git LFS pointer, not the file itself", path.display())]
    LfsPointer {
        /// The file that was read.
        path: PathBuf,
    },
    /// The folder has its weights in another format.
    #[error("the weights are in {}, which is not read: {WEIGHTS} is", path.display())]
    OtherFormat {
        /// The file with the weights.
        path: PathBuf,
    },
    /// The config says that the head is the embedding, and the weights have another head.
    #[error(
        "tie_word_embeddings is true, but lm_head.weight differs from model.embed_tokens.weight at element {index}"
    )]
    TiedHeadDiffers {
        /// The first element that differs.
        index: usize,
    },
    /// The sizes are refused.
    #[error("the sizes in config.json are refused")]
    Config(#[from] ConfigError),
    /// The index names a file that does not lie in the folder.
    #[error("the index of the weights names {name:?}, which is no plain file name")]
    FileName {
        /// The file name in the index.
        name: String,
    },
    /// The header of a weights file is malformed.
    #[error("the header of {} is malformed: {reason}", path.display())]
    Header {
        /// The file that was read.
        path: PathBuf,
        /// The rule that the header breaks.
        reason: String,
    },
    /// A tensor of the model is not in its file.
    #[error("tensor {name} is missing")]
    Missing {
        /// The name of the tensor.
        name: String,
    },
    /// A file has a tensor that the model has not, or that the index puts elsewhere.
    #[error("tensor {name} is not one of the model's")]
    Extra {
        /// The name of the tensor.
        name: String,
    },
    /// A tensor's elements are neither f32 nor of a kind whose every value is an f32.
    #[error("tensor {name} is {found}, where F32, BF16 and F16 are taken")]
    Dtype {
        /// The name of the tensor.
        name: String,
        /// The dtype in the file.
        found: String,
    },
    /// A tensor has another shape.
    #[error("tensor {name} has shape {found:?}, the model {expected:?}")]
    Shape {
        /// The name of the tensor.
        name: String,
        /// The shape in the model.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A weights file is shorter or longer than its header says.
    #[error("{} has {found} bytes, its header says {expected}", path.display())]
    Truncated {
        /// The file that was read.
        path: PathBuf,
        /// Bytes that the header implies.
        expected: u64,
        /// Bytes that the file has.
        found: u64,
    },
    /// A weight is NaN or infinite.
    #[error("tensor {name} is not finite at element {index}")]
    NonFinite {
        /// The name of the tensor.
        name: String,
        /// The first such element.
        index: usize,
    },
}

/// Why a folder could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The model's specification is refused.
    #[error("the model's specification is refused")]
    Config(#[from] ConfigError),
    /// A token around a text has no row in the embedding.
    #[error("token {token} is outside the model's vocabulary of {vocab_size}")]
    Token {
        /// The token.
        token: u32,
        /// Rows of the embedding.
        vocab_size: u32,
    },
    /// The parameter vector is not the model's.
    #[error("{found} parameters, the model has {expected}")]
    Length {
        /// Parameters of the model.
        expected: usize,
        /// Parameters that were passed.
        found: usize,
    },
    /// The folder already holds one of the files.
    #[error("{} is already there", path.display())]
    Exists {
        /// The file or folder that exists.
        path: PathBuf,
    },
    /// A weight is too large for the type that is written.
    #[error("tensor {tensor} has a weight that bf16 cannot hold")]
    TooLarge {
        /// The name of the tensor.
        tensor: String,
    },
    /// The header cannot be made.
    #[error("the header of the weights cannot be made: {reason}")]
    Header {
        /// The library's message.
        reason: String,
    },
    /// The file system fails.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

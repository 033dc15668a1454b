//! Why a patch is not written or applied.

use std::io;
use std::path::{Path, PathBuf};

use templar_manifest::CheckpointId;

/// A patch cannot be written, or cannot be applied. Then the folder is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The file of a new patch is there already.
    #[error("{path} is already there", path = path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("{path} cannot be read or written", path = path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The two checkpoints have other tensors.
    #[error("the two checkpoints are of other models")]
    OtherModel,
    /// A weight that bf16 cannot hold.
    #[error("a weight of {tensor} is too large for bf16")]
    TooLarge {
        /// The tensor.
        tensor: String,
    },
    /// The file is no patch.
    #[error("{path} is no patch: {what}", path = path.display())]
    NoPatch {
        /// The path.
        path: PathBuf,
        /// The reason.
        what: String,
    },
    /// The file is a patch whose bytes are not those that were written: it is cut off or damaged.
    #[error("the patch {path} is damaged: {what}", path = path.display())]
    Damaged {
        /// The path.
        path: PathBuf,
        /// The first thing that is wrong.
        what: String,
    },
    /// The folder does not hold the weights of a model as the patch describes it.
    #[error("{path} does not fit the patch: {what}", path = path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// The first thing that is wrong.
        what: String,
    },
    /// No tensor that the patch changes is in the folder as it was before.
    #[error("the folder is another model than checkpoint {from}, which the patch changes")]
    OtherBase {
        /// The checkpoint that the patch begins with.
        from: CheckpointId,
    },
    /// Some tensors are those of the checkpoint that the patch begins with, and this one is not.
    #[error("{tensor} of the folder is damaged: it is not that of checkpoint {from}, and others are")]
    DamagedBase {
        /// The first tensor that differs.
        tensor: String,
        /// The checkpoint that the patch begins with.
        from: CheckpointId,
    },
}

impl PatchError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

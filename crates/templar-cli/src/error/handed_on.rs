//! The exit codes and hints of a model that is handed on: GGUF files, and folders that are compared with a run.

use templar_export::gguf::GgufError;
use templar_query::folder_check::FolderCheckError;

use super::meaning::{Code, hint, io, plain};
use super::models::hugging_face;
use super::{CommandError, query};

impl From<FolderCheckError> for CommandError {
    fn from(error: FolderCheckError) -> Self {
        let (code, hint) = match &error {
            FolderCheckError::Folder(error) => hugging_face(error),
            FolderCheckError::Tokenizer(source) => io(source),
            FolderCheckError::Query(error) => query(error),
            FolderCheckError::Checkpoint { .. } => {
                hint(Code::Partial, "--checkpoint names another checkpoint; `templar fetch` brings this one")
            }
        };
        Self { code, error: error.into(), hint }
    }
}

impl From<GgufError> for CommandError {
    fn from(error: GgufError) -> Self {
        let (code, hint) = match &error {
            GgufError::Exists { .. } => hint(Code::Failed, "nothing was overwritten; choose another file"),
            GgufError::Io { source, .. } => (Code::Failed, io(source).1),
            GgufError::TooLarge { .. } => hint(Code::Failed, "--dtype f32 holds every weight"),
            GgufError::Tokenizer { .. } => hint(Code::Failed, "--hf writes a folder with the tokenizer as it is"),
            GgufError::Config(_) | GgufError::Length { .. } | GgufError::Rows { .. } => plain(Code::Failed),
        };
        Self { code, error: error.into(), hint }
    }
}

//! The exit codes and hints of what is handed on: GGUF files, patches, tables, tokens, kept evaluations, and folders
//! that are compared with a run.

use templar_export::gguf::GgufError;
use templar_export::new_folder::NewFolderError;
use templar_export::patch::PatchError;
use templar_export::tables::TablesError;
use templar_export::tokens::TokensError;
use templar_home::evaluations::KeptError;
use templar_query::folder_check::FolderCheckError;
use templar_query::tables::RunTablesError;

use super::meaning::{Code, Meaning, hint, io, kept_document, plain};
use super::models::hugging_face;
use super::{CommandError, home, page, query, read};

fn kept(error: &KeptError) -> Meaning {
    match error {
        KeptError::Home(error) => home(error),
        KeptError::Document { .. } | KeptError::Witnesses { .. } => kept_document(),
    }
}

fn tables(error: &TablesError) -> Meaning {
    match error {
        TablesError::Folder(NewFolderError::Exists { .. }) => {
            hint(Code::Failed, "nothing was overwritten; choose another folder")
        }
        error => error.system().map_or(plain(Code::Failed), |source| (Code::Failed, io(source).1)),
    }
}

impl From<KeptError> for CommandError {
    fn from(error: KeptError) -> Self {
        let (code, hint) = kept(&error);
        Self { code, error: error.into(), hint }
    }
}

impl From<PatchError> for CommandError {
    fn from(error: PatchError) -> Self {
        let (code, hint) = match &error {
            PatchError::Exists { .. } => hint(Code::Failed, "nothing was overwritten; choose another file"),
            PatchError::Io { source, .. } => io(source),
            PatchError::TooLarge { .. } => hint(Code::Failed, "--dtype f32 holds every weight"),
            PatchError::OtherModel => plain(Code::Failed),
            PatchError::NoPatch { .. } => {
                hint(Code::Failed, "`templar export @ --patch FROM --out FILE` writes a patch")
            }
            PatchError::Damaged { .. } => hint(Code::Verification, "get the patch again; the folder is as it was"),
            PatchError::Folder { .. } => {
                hint(Code::Failed, "a patch is for folders that `templar export --hf` wrote, with the same --dtype")
            }
            PatchError::OtherBase { .. } => hint(
                Code::Verification,
                "`templar verify FOLDER` says which checkpoint the folder is; the folder is as it was",
            ),
            PatchError::DamagedBase { .. } => {
                hint(Code::Verification, "export or fetch the whole folder again; the folder is as it was")
            }
        };
        Self { code, error: error.into(), hint }
    }
}

impl From<TokensError> for CommandError {
    fn from(error: TokensError) -> Self {
        let (code, hint) = match &error {
            TokensError::Shard(error) => page(error),
            TokensError::Tokenizer(error) => read(error),
            TokensError::Folder(error) => tables(error),
        };
        Self { code, error: error.into(), hint }
    }
}

impl From<RunTablesError> for CommandError {
    fn from(error: RunTablesError) -> Self {
        let (code, hint) = match &error {
            RunTablesError::Query(error) => query(error),
            RunTablesError::Tables(error) => tables(error),
        };
        Self { code, error: error.into(), hint }
    }
}

impl From<FolderCheckError> for CommandError {
    fn from(error: FolderCheckError) -> Self {
        let (code, hint) = match &error {
            FolderCheckError::Folder(error) => hugging_face(error),
            FolderCheckError::List(source) | FolderCheckError::Tokenizer(source) => io(source),
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

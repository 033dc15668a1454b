//! The exit codes and hints of everything about tokenizers, Hugging Face folders and generated text.

use std::io::ErrorKind;
use std::path::Path;

use templar_data::{ChatTemplateError, TokenizerError};
use templar_eval::ContinueError;
use templar_home::folder::FolderError;
use templar_model::generate::GenerateError;
use templar_model::hf::{self, ExportError, OpenFolderError};

use super::meaning::{Code, Meaning, hint, io, plain};

const LFS: &str = "run `git lfs pull` in the repository that the file comes from";

const CONVERT: &str = "convert it with transformers: \
    python -c 'from transformers import AutoModelForCausalLM as M; M.from_pretrained(\"DIR\").save_pretrained(\"NEW\")'";

const MERGE: &str = "an adapter is no model alone; merge it into its model with peft: \
    python -c 'from peft import AutoPeftModelForCausalLM as M; \
    M.from_pretrained(\"DIR\").merge_and_unload().save_pretrained(\"NEW\")'";

const TOKENIZER: &str = "expected a tokenizer.json of Hugging Face; transformers makes one of other kinds of files: \
    python -c 'from transformers import AutoTokenizer as T; T.from_pretrained(\"DIR\").save_pretrained(\"NEW\")'";

const FOLDER: &str = "expected a folder with config.json, model.safetensors and tokenizer.json; \
    `hf download NAME --local-dir DIR` fetches a model of the Hugging Face hub";

pub(super) fn tokenizer(error: &TokenizerError) -> Meaning {
    match error {
        TokenizerError::NoEndToken { .. } => {
            hint(Code::Failed, "name the token that ends a document with --end-token NAME")
        }
        TokenizerError::UnknownToken { .. } => {
            hint(Code::Failed, "name one of the tokenizer's tokens, exactly as it is spelled")
        }
        TokenizerError::StartIsEnd { .. } => hint(Code::Usage, "leave --start-token out"),
        TokenizerError::LfsPointer => hint(Code::Failed, LFS),
        TokenizerError::Parse(_) => hint(Code::Failed, TOKENIZER),
        _ => plain(Code::Failed),
    }
}

pub(super) fn chat_template(error: &ChatTemplateError) -> Meaning {
    match error {
        ChatTemplateError::Io { source, .. } => io(source),
        ChatTemplateError::Malformed { .. } => {
            hint(Code::Failed, "repair the file, or import with a tokenizer.json that lies alone in its folder")
        }
        ChatTemplateError::Render(_) => hint(
            Code::Failed,
            "--chat-template none joins conversations in the plain form, and --chat-template FILE by another template",
        ),
    }
}

pub(super) fn folder(error: &FolderError) -> Meaning {
    match error {
        FolderError::Tokenizer { source, .. } => folder_io(source),
        FolderError::OtherTokenizer { .. } => {
            hint(Code::Failed, "import the text again with --tokenizer DIR/tokenizer.json, and train on that dataset")
        }
        FolderError::LfsPointer(_) => hint(Code::Failed, LFS),
        FolderError::Model(error) => hugging_face(error),
        FolderError::Layout(_) | FolderError::TokenizerTooLong(_) => plain(Code::Failed),
    }
}

pub(super) fn hugging_face(error: &hf::ImportError) -> Meaning {
    use hf::ImportError as Error;
    match error {
        Error::Io { source, .. } => folder_io(source),
        Error::LfsPointer { .. } => hint(Code::Failed, LFS),
        Error::OtherFormat { path } => hint(Code::Failed, convert(path)),
        Error::Unsupported { what: "quantization_config", .. } => {
            hint(Code::Failed, "take the model in its full precision, which most publishers give as well")
        }
        Error::Unsupported { .. } | Error::RopeKind { .. } => hint(
            Code::Failed,
            "models of the architecture of Llama are trained here; Mistral, Qwen2 and Qwen3 can generate",
        ),
        Error::Header { .. } | Error::FileName { .. } | Error::TooLarge { .. } => hint(
            Code::Failed,
            "get the file again; where it was downloaded, compare its length with that of the source",
        ),
        Error::AmbiguousRope { .. } => {
            hint(Code::Failed, "leave one of the keys in config.json, the one that is meant")
        }
        Error::GenerateOnly { .. } => hint(Code::Failed, "`templar generate --from DIR` continues a text with it"),
        Error::Parse { .. } | Error::Truncated { .. } => hint(
            Code::Failed,
            "get the file again from where the model comes from; transformers writes such files whole",
        ),
        Error::Missing { .. } | Error::Extra { .. } | Error::Shape { .. } => hint(
            Code::Failed,
            "config.json and the weights are of different models, or a file of the weights is missing: get the folder again",
        ),
        Error::Dtype { .. } => hint(Code::Failed, CONVERT),
        Error::TiedHeadDiffers { .. } => {
            hint(Code::Failed, "set tie_word_embeddings to false in config.json, if the head is meant to differ")
        }
        _ => plain(Code::Failed),
    }
}

/// The way to weights that are read, from those in the file at `path`.
fn convert(path: &Path) -> &'static str {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("adapter_") {
        MERGE
    } else if name.ends_with(".gguf") {
        "take the model in the form of transformers, from which the GGUF file was made"
    } else {
        CONVERT
    }
}

/// The meaning of a file of a Hugging Face folder that cannot be read. A name on the hub is often taken for a folder.
fn folder_io(error: &std::io::Error) -> Meaning {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => hint(Code::NotFound, FOLDER),
        _ => io(error),
    }
}

pub(super) fn open(error: &OpenFolderError) -> Meaning {
    match error {
        OpenFolderError::Folder(error) => hugging_face(error),
        OpenFolderError::Model(error) => generate(error),
    }
}

pub(super) fn continued(error: &ContinueError) -> Meaning {
    match error {
        ContinueError::Tokenizer(error) => tokenizer(error),
        ContinueError::Generate(error) => generate(error),
    }
}

pub(super) fn generate(error: &GenerateError) -> Meaning {
    match error {
        GenerateError::EmptyPrompt | GenerateError::Temperature | GenerateError::TopP => plain(Code::Usage),
        GenerateError::PromptTooLong { .. } => hint(Code::Usage, "give the end of the text only"),
        GenerateError::Candle(_) => {
            hint(Code::Failed, "config.json may describe another model than the weights: get the folder again")
        }
        _ => plain(Code::Failed),
    }
}

pub(super) fn export(error: &ExportError) -> Meaning {
    match error {
        ExportError::Exists { .. } => hint(Code::Failed, "nothing was overwritten; choose another directory"),
        ExportError::Io { source, .. }
            if matches!(source.kind(), ErrorKind::AlreadyExists | ErrorKind::NotADirectory) =>
        {
            hint(Code::Failed, "a model is a folder of files; name a new directory")
        }
        ExportError::Io { source, .. } => (Code::Failed, io(source).1),
        ExportError::TooLarge { .. } => hint(Code::Failed, "--dtype f32 holds every weight"),
        _ => plain(Code::Failed),
    }
}

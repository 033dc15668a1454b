//! The exit codes and hints of errors of an evaluation.

use templar_eval::{EncodeError, EvaluationError, ExamplesError, FilesError, QuestionError, ScoreError};

use templar_model::ConfigError;

use super::CommandError;
use super::dataset::import;
use super::meaning::{Code, Meaning, hint, io, plain};
use super::models::{generate, tokenizer};

meanings! {
    ConfigError => config;
    EncodeError => encode;
    EvaluationError => evaluation;
    FilesError => files;
    QuestionError => question;
    ScoreError => score;
}

fn config(_: &ConfigError) -> Meaning {
    plain(Code::Failed)
}

fn files(error: &FilesError) -> Meaning {
    match error {
        FilesError::Import(error) => (import(error).0, None),
        FilesError::Row { .. } => hint(
            Code::Failed,
            "--file names a file of the benchmark as it is published; crates/templar-eval/TASKS.md lists the fields of each",
        ),
        FilesError::Empty { .. } | FilesError::NotUtf8 { .. } => plain(Code::Failed),
        FilesError::TooLong { .. } => hint(Code::Failed, "measure a part of it"),
        FilesError::Io { source, .. } => io(source),
    }
}

fn question(error: &QuestionError) -> Meaning {
    match error {
        QuestionError::Examples(ExamplesError::TooFew { .. }) => {
            hint(Code::Failed, "name a larger file with --fewshot-from, or show fewer examples with --fewshot")
        }
        QuestionError::Encode { source, .. } => encode(source),
    }
}

fn encode(error: &EncodeError) -> Meaning {
    match error {
        EncodeError::Tokenizer(error) => tokenizer(error),
        EncodeError::NoToken(_) | EncodeError::TooLong { .. } => plain(Code::Failed),
    }
}

fn score(error: &ScoreError) -> Meaning {
    match error {
        ScoreError::Generate(error) => generate(error),
        ScoreError::Device(_) => hint(Code::Failed, "`--device cpu` computes the same results"),
        ScoreError::Config(_) | ScoreError::Step(_) | ScoreError::NotFinite => plain(Code::Failed),
    }
}

fn evaluation(error: &EvaluationError) -> Meaning {
    match error {
        EvaluationError::Signature(_) => plain(Code::Verification),
        _ => hint(Code::Verification, "`templar eval --out DIR` writes results; get the file again"),
    }
}

//! A result on disk: the document, its signatures, and where its inputs lay.
//!
//! `evaluation-HASH.cbor` is the document and hashes to its name. `evaluation-HASH.witness.json` lists its signatures,
//! as the examples in `manifests/` have theirs. `evaluation-HASH.inputs.json` is for this machine alone: the paths of
//! the model and the files.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use templar_eval::{Evaluation, Witness};
use templar_home::files::{Privacy, write_whole};
use templar_manifest::MAX_PAYLOAD_BYTES;

use crate::error::{Code, CommandError};

/// The paths of what was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inputs {
    /// The folder or the name of the model.
    pub(crate) model: String,
    /// The questions, or the text.
    pub(crate) files: Vec<PathBuf>,
    /// The examples.
    pub(crate) example_files: Vec<PathBuf>,
}

/// The files of one result.
pub(crate) struct ResultFiles {
    document: PathBuf,
}

impl ResultFiles {
    /// Those of a result in a folder.
    pub(crate) fn in_folder(folder: &Path, evaluation: &Evaluation) -> Self {
        Self { document: folder.join(format!("evaluation-{}.cbor", evaluation.id())) }
    }

    /// Those beside a document.
    pub(crate) fn of_document(document: &Path) -> Self {
        Self { document: document.to_owned() }
    }

    /// The path of the document.
    pub(crate) fn document(&self) -> &Path {
        &self.document
    }

    fn witnesses(&self) -> PathBuf {
        self.document.with_extension("witness.json")
    }

    fn inputs(&self) -> PathBuf {
        self.document.with_extension("inputs.json")
    }

    /// Writes everything. A signature is added to those that are there.
    pub(crate) fn write(
        &self,
        evaluation: &Evaluation,
        witness: Option<Witness>,
        inputs: &Inputs,
    ) -> Result<(), CommandError> {
        if let Some(witness) = witness {
            let mut witnesses = self.read_witnesses()?;
            witnesses.retain(|other| other.signer != witness.signer);
            witnesses.push(witness);
            write_whole(&self.witnesses(), &json(&witnesses), Privacy::Everybody)?;
        }
        write_whole(&self.inputs(), &json(&inputs.absolute()), Privacy::Everybody)?;
        Ok(write_whole(&self.document, &evaluation.encode(), Privacy::Everybody)?)
    }

    /// The document.
    pub(crate) fn read(&self) -> Result<Evaluation, CommandError> {
        Ok(Evaluation::decode(&bounded(&self.document)?)?)
    }

    /// The signatures beside it; none where there is no such file.
    pub(crate) fn read_witnesses(&self) -> Result<Vec<Witness>, CommandError> {
        let path = self.witnesses();
        if path.exists() { parsed(&path) } else { Ok(Vec::new()) }
    }

    /// Where the inputs lay; none where the document came without that file.
    pub(crate) fn read_inputs(&self) -> Result<Option<Inputs>, CommandError> {
        let path = self.inputs();
        if path.exists() { parsed(&path).map(Some) } else { Ok(None) }
    }
}

impl Inputs {
    /// The same with absolute paths. The name of a checkpoint stays.
    fn absolute(&self) -> Self {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let model = Path::new(&self.model);
        Self {
            model: if model.is_dir() {
                absolute(&model.to_owned()).to_string_lossy().into_owned()
            } else {
                self.model.clone()
            },
            files: self.files.iter().map(absolute).collect(),
            example_files: self.example_files.iter().map(absolute).collect(),
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("encoding into memory cannot fail")
}

fn parsed<T: DeserializeOwned>(path: &Path) -> Result<T, CommandError> {
    serde_json::from_slice(&bounded(path)?)
        .map_err(|error| CommandError::says(Code::Failed, format_args!("{} is damaged: {error}", path.display())))
}

/// The bytes of a file that is no longer than a manifest may be.
fn bounded(path: &Path) -> Result<Vec<u8>, CommandError> {
    let said = |error: std::io::Error| {
        let meaning = CommandError::from(error);
        let text = format!("{} cannot be read: {}", path.display(), meaning.lines().join(": "));
        CommandError::says(meaning.code(), text)
    };
    let bytes = std::fs::metadata(path).map_err(said)?.len();
    if bytes > MAX_PAYLOAD_BYTES as u64 {
        return Err(CommandError::says(Code::Failed, format_args!("{} has {bytes} bytes", path.display())));
    }
    std::fs::read(path).map_err(said)
}

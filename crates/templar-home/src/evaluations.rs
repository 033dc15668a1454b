//! The evaluations of a run's checkpoints that a home keeps: documents with their signatures.
//!
//! They lie in `runs/<run>/evaluations/`, as `templar eval --out` writes them: `evaluation-HASH.cbor` hashes to its
//! name, and `evaluation-HASH.witness.json` lists who vouches for it. An evaluation is the statement of whoever signs it. No
//! record carries one, and no rule depends on one, so losing them loses nothing of the run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use templar_eval::{Evaluation, EvaluationError, Witness};
use templar_manifest::{MAX_PAYLOAD_BYTES, RunId};

use crate::error::HomeError;
use crate::files::{Privacy, at, sync_dir, write_whole};
use crate::home::Home;

/// The most signatures that are read beside one document.
const MAX_WITNESSES: usize = 1024;

/// A kept evaluation cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A document is damaged.
    #[error("{path} is damaged", path = path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: EvaluationError,
    },
    /// The signatures beside a document are damaged.
    #[error("{path} is damaged: {what}", path = path.display())]
    Witnesses {
        /// The file.
        path: PathBuf,
        /// The reason.
        what: String,
    },
}

/// A document and the signatures under it, all of which verify.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptEvaluation {
    /// The document.
    pub evaluation: Evaluation,
    /// The signatures, sorted by signer.
    pub witnesses: Vec<Witness>,
}

/// The evaluations of one run in a home.
#[derive(Debug, Clone)]
pub struct KeptEvaluations {
    dir: PathBuf,
}

impl KeptEvaluations {
    /// Those of a run.
    pub fn of(home: &Home, run: RunId) -> Self {
        Self { dir: home.run_dir(&run).join("evaluations") }
    }

    /// All of them, sorted by the id of their documents. None where the home has no folder of them.
    ///
    /// # Errors
    /// A file cannot be read, does not decode, or has a signature that does not verify.
    pub fn read(&self) -> Result<Vec<KeptEvaluation>, KeptError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(&self.dir)(error).into()),
        };
        let mut kept = Vec::new();
        for entry in entries {
            let path = entry.map_err(at(&self.dir))?.path();
            if path.extension().is_some_and(|ending| ending == "cbor") {
                kept.push(read(&path)?);
            }
        }
        kept.sort_by_key(|kept| kept.evaluation.id());
        Ok(kept)
    }

    /// Keeps a document, with a signature beside those that it has. The same document again adds the signature only.
    ///
    /// # Errors
    /// What is there is damaged, or the home cannot be written.
    pub fn keep(&self, evaluation: &Evaluation, witness: Witness) -> Result<(), KeptError> {
        fs::create_dir_all(&self.dir).map_err(at(&self.dir))?;
        let path = self.dir.join(format!("evaluation-{}.cbor", evaluation.id()));
        let mut witnesses = if path.exists() { read(&path)?.witnesses } else { Vec::new() };
        witnesses.retain(|other| other.signer != witness.signer);
        witnesses.push(witness);
        witnesses.sort_by_key(|witness| witness.signer);
        let list = serde_json::to_vec_pretty(&witnesses).expect("encoding into memory cannot fail");
        write_whole(&path.with_extension("witness.json"), &list, Privacy::Everybody)?;
        write_whole(&path, &evaluation.encode(), Privacy::Everybody)?;
        Ok(sync_dir(&self.dir)?)
    }
}

fn read(path: &Path) -> Result<KeptEvaluation, KeptError> {
    let damaged = |source| KeptError::Document { path: path.to_owned(), source };
    let evaluation = Evaluation::decode(&bounded(path)?).map_err(damaged)?;
    let beside = path.with_extension("witness.json");
    let mut witnesses = Vec::new();
    if beside.exists() {
        let wrong = |what: String| KeptError::Witnesses { path: beside.clone(), what };
        witnesses =
            serde_json::from_slice::<Vec<Witness>>(&bounded(&beside)?).map_err(|error| wrong(error.to_string()))?;
        if witnesses.len() > MAX_WITNESSES {
            return Err(wrong(format!("{} signatures", witnesses.len())));
        }
        for witness in &witnesses {
            evaluation.verify(witness).map_err(|error| wrong(error.to_string()))?;
        }
        witnesses.sort_by_key(|witness| witness.signer);
    }
    Ok(KeptEvaluation { evaluation, witnesses })
}

/// The bytes of a file that is no longer than a manifest may be.
fn bounded(path: &Path) -> Result<Vec<u8>, HomeError> {
    let bytes = fs::metadata(path).map_err(at(path))?.len();
    if bytes > MAX_PAYLOAD_BYTES as u64 {
        return Err(at(path)(io::Error::other(format!("{bytes} bytes are too many"))));
    }
    fs::read(path).map_err(at(path))
}

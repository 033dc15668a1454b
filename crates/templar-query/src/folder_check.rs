//! Whether a Hugging Face folder is a checkpoint of a run.
//!
//! The id of a checkpoint is a hash over the run, the window and the hash of every tensor. So the weights of a folder
//! give the id that they would have after each window, and the run's records say which ids there are. No checkpoint
//! needs to be kept for this. Weights that were rounded have no id; they are compared with the rounded tensors of a
//! checkpoint that is here.

use std::path::Path;

use serde::Serialize;
use templar_audit::{AuditInputs, InputError};
use templar_data::{MAX_TOKENIZER_BYTES, is_same_tokenizer};
use templar_home::access::Access;
use templar_home::context::{RunContext, read_manifest};
use templar_home::files::read_small;
use templar_manifest::{Checkpoint, CheckpointId, Hash, ModelSpec, RunId, WindowIndex, payload};
use templar_model::hf;
use templar_train::tensors;

use crate::error::QueryError;

/// The answer about a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FolderCheck {
    /// The run with whose records it was compared.
    pub run: RunId,
    /// The checkpoint that the weights are.
    pub checkpoint: Option<CheckpointId>,
    /// The window that this checkpoint starts.
    pub window: Option<WindowIndex>,
    /// Whether the weights are those of the checkpoint after rounding to bf16, and not to the bit.
    pub is_rounded: bool,
    /// The differences, one sentence each. None where the folder is the checkpoint.
    pub differences: Vec<String>,
    /// The names in the folder that nothing was compared with, ascending: the card, settings, and what others laid there.
    pub not_compared: Vec<String>,
}

impl From<QueryError> for FolderCheckError {
    fn from(error: QueryError) -> Self {
        Self::Query(Box::new(error))
    }
}

/// A folder cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum FolderCheckError {
    /// The folder cannot be read.
    #[error(transparent)]
    Folder(#[from] hf::ImportError),
    /// The names in the folder cannot be listed.
    #[error("the folder cannot be listed")]
    List(#[source] std::io::Error),
    /// The tokenizer of the folder cannot be read.
    #[error("the tokenizer of the folder cannot be read")]
    Tokenizer(#[source] std::io::Error),
    /// The run cannot be read.
    #[error(transparent)]
    Query(Box<QueryError>),
    /// The checkpoint that rounded weights are compared with is not here.
    #[error("the checkpoint {checkpoint} is not here, and the weights of the folder may be its own, rounded")]
    Checkpoint {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The reason.
        #[source]
        source: InputError,
    },
}

fn query(error: impl Into<QueryError>) -> FolderCheckError {
    FolderCheckError::Query(Box::new(error.into()))
}

impl FolderCheck {
    /// Whether the folder is a checkpoint of the run.
    pub fn is_match(&self) -> bool {
        self.differences.is_empty()
    }

    /// Compares a folder with all checkpoints of a run. Rounded weights are compared with `rounded` alone, or with the
    /// current checkpoint.
    ///
    /// # Errors
    /// See [`FolderCheckError`]. A difference is no error.
    pub fn run(
        access: &Access,
        context: &RunContext,
        dir: &Path,
        rounded: Option<CheckpointId>,
    ) -> Result<Self, FolderCheckError> {
        let (spec, parameters) = hf::import(dir)?;
        let node = access.fold(context).map_err(query)?;
        let mut check = Self {
            run: context.run,
            checkpoint: None,
            window: None,
            is_rounded: false,
            differences: Vec::new(),
            not_compared: not_compared(dir).map_err(FolderCheckError::List)?,
        };
        let specs = &context.recipe.tensors;
        if templar_model::tensors(&spec).ok().as_ref() != Some(specs) {
            check.differences.push("config.json describes another model than the run trains".to_owned());
            return Ok(check);
        }
        let closed = node.closed().iter().map(|closed| closed.window.header.checkpoint);
        let known: Vec<CheckpointId> = [context.first_checkpoint()].into_iter().chain(closed).collect();
        let mut own = tensors::checkpoint_of(context.run, WindowIndex(0), specs, &parameters);
        let found = (0..).zip(&known).find(|(window, id)| {
            own.window = WindowIndex(*window);
            payload::id_of(&own) == id.hash()
        });
        match found {
            Some((window, id)) => (check.window, check.checkpoint) = (Some(WindowIndex(window)), Some(*id)),
            None if parameters.iter().all(|value| value.to_bits() & 0xffff == 0) => {
                check.rounded(access, context, &parameters, rounded.unwrap_or(node.state().checkpoint()))?;
            }
            None => {
                check.differences.push(format!("the weights are none of the {} checkpoints of the run", known.len()))
            }
        }
        check.rest(access, context, dir, &spec)?;
        Ok(check)
    }

    /// Compares weights that fit in 16 bits with those of a checkpoint.
    fn rounded(
        &mut self,
        access: &Access,
        context: &RunContext,
        parameters: &[f32],
        id: CheckpointId,
    ) -> Result<(), FolderCheckError> {
        let read = |source| FolderCheckError::Checkpoint { checkpoint: id, source };
        let inputs = AuditInputs::new(&context.recipe, &context.dataset, access.blobs()).map_err(read)?;
        let whole = inputs.parameters(&id).map_err(read)?;
        let manifest: Checkpoint = read_manifest(access.blobs(), &id.hash()).map_err(query)?;
        if whole.iter().zip(parameters).all(|(whole, own)| hf::to_bf16(*whole).to_bits() == own.to_bits()) {
            (self.checkpoint, self.window, self.is_rounded) = (Some(id), Some(manifest.window), true);
        } else {
            let text = format!("the weights are none of the run's checkpoints, and not checkpoint {id} in bf16");
            self.differences.push(text);
        }
        Ok(())
    }

    /// Compares the config and the tokenizer.
    fn rest(
        &mut self,
        access: &Access,
        context: &RunContext,
        dir: &Path,
        spec: &ModelSpec,
    ) -> Result<(), FolderCheckError> {
        let window = self.window.unwrap_or(WindowIndex(0));
        let own = context.genesis.model_before(window.0);
        // A folder states the whole context and nothing of the sequences of training.
        let whole =
            |spec: &ModelSpec| ModelSpec { sequence_length: spec.positions(), position_limit: None, ..spec.clone() };
        self.differences.extend(differing_fields(&whole(spec), &whole(&own)));
        let (ends, _) = hf::ends_and_start(dir)?;
        if !ends.contains(&context.dataset.end_token) {
            self.differences.push(format!("the folder's texts do not end with token {}", context.dataset.end_token));
        }
        self.differences.extend(own_code(dir));
        let json = std::fs::read(dir.join("tokenizer.json")).map_err(FolderCheckError::Tokenizer)?;
        let id: Hash = context.dataset.tokenizer.hash();
        if Hash::of(&json) != id {
            let known = access.blobs().read(&id, MAX_TOKENIZER_BYTES as u64);
            if !known.is_ok_and(|known| is_same_tokenizer(&known, &json)) {
                self.differences.push("tokenizer.json gives other tokens than the run's tokenizer".to_owned());
            }
        }
        Ok(())
    }
}

/// A sentence for each file that has the `transformers` library compute with a program of the folder's own. Whatever the
/// weights are, such a folder answers as that program likes.
fn own_code(dir: &Path) -> Vec<String> {
    let says_so = |name: &&str| {
        let text = read_small(&dir.join(name)).ok()?;
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).ok()?;
        fields.get("auto_map").filter(|map| !map.is_null()).map(drop)
    };
    let named = ["config.json", "tokenizer_config.json"].into_iter().filter(|name| says_so(name).is_some());
    named.map(|name| format!("{name}: auto_map names a program of the folder's own, which no run has")).collect()
}

/// A sentence for each field in which the model of a folder is not that of the run, named as in a manifest.
fn differing_fields(found: &ModelSpec, own: &ModelSpec) -> Vec<String> {
    let fields = |spec: &ModelSpec| match serde_json::to_value(spec) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (found, own) = (fields(found), fields(own));
    let none = serde_json::Value::Null;
    let differing = own.keys().filter(|name| found.get(*name) != own.get(*name));
    let sentence = |name: &String| {
        let (found, own) = (found.get(name).unwrap_or(&none), own.get(name).unwrap_or(&none));
        format!("config.json: {name} is {found}, and {own} in the run")
    };
    differing.map(sentence).collect()
}

/// The names in a folder of everything that is neither weights, nor config, nor tokenizer.
fn not_compared(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_compared = ["config.json", "tokenizer.json", "model.safetensors.index.json"].contains(&name.as_str())
            || name.ends_with(".safetensors");
        if !is_compared {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_in_the_folder_is_a_difference() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("config.json", r#"{"model_type": "llama", "auto_map": null}"#);
        assert_eq!(own_code(dir.path()), Vec::<String>::new());
        write("config.json", r#"{"auto_map": {"AutoModelForCausalLM": "modeling_own.OwnModel"}}"#);
        write("tokenizer_config.json", r#"{"auto_map": {"AutoTokenizer": ["own.OwnTokenizer", null]}}"#);
        let said = own_code(dir.path());
        assert!(said.len() == 2 && said[0].starts_with("config.json: auto_map"), "{said:?}");
    }

    #[test]
    fn models_differ_in_named_fields() {
        let own = templar_model::sizes::preset("tiny", 2_048).unwrap();
        assert_eq!(differing_fields(&own, &own), Vec::<String>::new());
        let found = ModelSpec { layers: own.layers + 1, ..own.clone() };
        let sentence = format!("config.json: layers is {}, and {} in the run", found.layers, own.layers);
        assert_eq!(differing_fields(&found, &own), [sentence]);
    }
}

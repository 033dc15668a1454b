//! The model that is measured, and how its texts begin.

use std::path::Path;
use std::sync::Arc;

use templar_data::{Tokenizer, TokenizerError};
use templar_device::{Arithmetic, for_arithmetic};
use templar_eval::{Encoder, Scorer, model_root};
use templar_manifest::{CheckpointId, Hash, ModelSpec, RunId};
use templar_model::hf::{self, ImportError, OpenFolderError};

use crate::commands::generate::load;
use crate::error::CommandError;
use crate::invocation::Invocation;
use crate::tokenizer_file;

/// A model with its tokenizer.
pub(crate) struct Measurable {
    pub(crate) scorer: Scorer,
    /// The root hash, where the arithmetic is exact.
    pub(crate) root: Option<Hash>,
    /// The run, where the model is a checkpoint of one.
    pub(crate) run: Option<RunId>,
    /// The checkpoint, where the model is one of a run.
    pub(crate) checkpoint: Option<CheckpointId>,
    pub(crate) tokenizer: Tokenizer,
    /// The tokens that stand before every text.
    before: Vec<u32>,
    /// The token that a text follows where nothing is before it.
    alone: u32,
}

impl Measurable {
    /// The model of a folder, or the checkpoint of the home that has this name.
    pub(crate) fn open(invocation: &Invocation, named: &str) -> Result<Self, CommandError> {
        if is_folder(named) { Self::of_folder(Path::new(named)) } else { Self::of_checkpoint(invocation, named) }
    }

    fn of_checkpoint(invocation: &Invocation, named: &str) -> Result<Self, CommandError> {
        let loaded = load(&invocation.read()?, named)?;
        // As an export states it: the template puts the start token before a text, if there is one.
        let before = loaded.tokenizer.start_token().into_iter().collect();
        let (spec, parameters) = (&loaded.model, &loaded.parameters);
        let (scorer, root) = (exact(spec, parameters)?, model_root(spec, parameters)?);
        let alone = last_of_beginning(&loaded.tokenizer)?;
        let (root, run, checkpoint) = (Some(root), Some(loaded.context.run), Some(loaded.id));
        Ok(Self { scorer, root, run, checkpoint, tokenizer: loaded.tokenizer, before, alone })
    }

    fn of_folder(dir: &Path) -> Result<Self, CommandError> {
        let (ends, start) = hf::ends_and_start(dir).map_err(OpenFolderError::from)?;
        let json = tokenizer_file::read(&dir.join("tokenizer.json"))?;
        let tokenizer = match ends.first() {
            Some(end) => Tokenizer::for_model(json, *end, start)?,
            None => Tokenizer::new(json, Default::default())?,
        };
        let before = if tokenizer.saved().before.is_empty() { Vec::new() } else { tokenizer.beginning("")? };
        let alone = last_of_beginning(&tokenizer)?;
        let (scorer, root) = match hf::import(dir) {
            Ok((spec, parameters)) => (exact(&spec, &parameters)?, Some(model_root(&spec, &parameters)?)),
            Err(ImportError::GenerateOnly { .. }) => (Scorer::candle(hf::open(dir)?.model), None),
            Err(error) => return Err(OpenFolderError::from(error).into()),
        };
        Ok(Self { scorer, root, run: None, checkpoint: None, tokenizer, before, alone })
    }

    /// How the texts of this model are encoded.
    pub(crate) fn encoder(&self) -> Encoder<'_> {
        Encoder::new(&self.tokenizer, self.before.clone(), self.alone, self.scorer.positions())
    }
}

/// Whether a model is named by its folder: no reference to a checkpoint has a separator, and a folder may have any
/// name.
fn is_folder(named: &str) -> bool {
    named.contains(std::path::MAIN_SEPARATOR) || Path::new(named).is_dir()
}

fn exact(spec: &ModelSpec, parameters: &[f32]) -> Result<Scorer, CommandError> {
    let device: Arc<dyn templar_device::Device> = for_arithmetic(Arithmetic::F32);
    Ok(Scorer::exact(spec, parameters, device)?)
}

/// The token before a text that has nothing else before it: the start token, or else the end token.
fn last_of_beginning(tokenizer: &Tokenizer) -> Result<u32, TokenizerError> {
    Ok(tokenizer.beginning("")?.last().copied().unwrap_or_else(|| tokenizer.end_token()))
}

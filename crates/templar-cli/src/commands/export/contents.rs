//! What an exported folder is made of: tokenizer, weights and model card.

use templar_data::HuggingFaceFiles;
use templar_export::card::{Card, CardEvaluation};
use templar_home::access::Access;
use templar_manifest::{Initial, PublicKey};
use templar_model::hf;
use templar_query::log::RunLog;
use templar_query::measured::{SignedEvaluation, signed_evaluations};

use crate::commands::generate::Loaded;
use crate::error::CommandError;

/// The tokenizer that training saw, as files of a folder.
pub(super) fn tokenizer_files(loaded: &Loaded) -> Result<HuggingFaceFiles, CommandError> {
    Ok(loaded.tokenizer.hugging_face_files(loaded.model.positions(), loaded.chat_template.as_ref())?)
}

/// What a folder of a checkpoint is made of.
pub(super) fn contents<'a>(loaded: &'a Loaded, files: &'a HuggingFaceFiles) -> hf::FolderContents<'a> {
    let tokenizer = &loaded.tokenizer;
    hf::FolderContents {
        spec: &loaded.model,
        params: &loaded.parameters,
        special: hf::SpecialIds { start: tokenizer.start_token(), end: tokenizer.end_token() },
        tokenizer: &files.tokenizer,
        tokenizer_config: &files.config,
    }
}

/// The model card, from the manifests and records of the run.
pub(super) fn card(access: &Access, loaded: &Loaded, dtype: &'static str) -> Result<String, CommandError> {
    let Loaded { context, manifest, .. } = loaded;
    let (genesis, dataset) = (&context.genesis, &context.dataset);
    let windows = manifest.window.0;
    let log = RunLog::read(access, context)?;
    let evaluations = signed_evaluations(access, context.run)?.remove(&loaded.id).unwrap_or_default();
    let losses = log.windows.iter().filter(|row| row.window.0 < windows);
    let card = Card {
        run_name: &genesis.name,
        run: context.run.to_string(),
        checkpoint: loaded.id.to_string(),
        windows,
        parameters: loaded.parameters.len(),
        positions: loaded.model.positions(),
        weights: dtype,
        is_exact: dtype == "f32",
        dataset_name: &dataset.name,
        dataset: genesis.dataset.to_string(),
        source: &dataset.source,
        training_tokens: dataset.training_tokens(),
        licence: &dataset.licence,
        start: match genesis.initial {
            Initial::Seed(_) => "drawn from a seed",
            _ => "those of another model, named by the run's genesis",
        },
        losses: losses.map(|row| (row.window.0, row.held_out_loss)).collect(),
        evaluations: evaluations.into_iter().map(on_card).collect(),
    };
    Ok(card.text())
}

fn on_card(found: SignedEvaluation) -> CardEvaluation {
    CardEvaluation {
        result: found.in_words(),
        task: found.task,
        shots: found.shots,
        questions: found.questions,
        document: found.evaluation.to_string(),
        signers: found.signers.iter().map(PublicKey::to_string).collect(),
    }
}

//! The facts about a dataset, for people.

use templar_manifest::Dataset;

use crate::printer::count;

/// The facts about a dataset, one line each.
pub(super) fn describe(dataset: &Dataset) -> String {
    let tokens = |tokens: u64, shards: usize| format!("{tokens} tokens in {}", count(shards as u64, "shard"));
    let lines = [
        ("name", dataset.name.clone()),
        ("licence", dataset.licence.clone()),
        ("source", dataset.source.clone()),
        ("tokenizer", dataset.tokenizer.short()),
        ("vocabulary", format!("{} tokens, {} bytes each", dataset.vocab_size, dataset.token_bytes)),
        ("documents", dataset.documents.to_string()),
        ("training", tokens(dataset.training_tokens(), dataset.training.len())),
        ("held out", tokens(dataset.validation_tokens(), dataset.validation.len())),
        ("rule", format!("one block of {} tokens in {}", dataset.held_out.block_tokens, dataset.held_out.every)),
    ];
    let template = dataset.chat_template.map(|id| ("chat", format!("template {}", id.short())));
    lines.iter().chain(&template).map(|(name, value)| format!("{name:<11}{value}\n")).collect()
}

//! The notes of an import about its tokenizer: the token that ends documents, and the settings of the file that are
//! not obeyed.

use templar_data::Tokenizer;
use templar_manifest::BlobId;

/// The notes, one line each.
pub(super) fn of(tokenizer: &Tokenizer, chat_template: Option<BlobId>) -> Vec<String> {
    let name = |id| tokenizer.token(id).unwrap_or_default();
    let mut notes = vec![match tokenizer.start_token() {
        Some(start) => format!("documents start with {:?} and end with {:?}", name(start), name(tokenizer.end_token())),
        None => format!("documents end with {:?}", name(tokenizer.end_token())),
    }];
    let saved = tokenizer.saved();
    if let Some(length) = saved.truncation {
        notes.push(format!("the tokenizer's saved truncation to {length} tokens is off: documents are taken whole"));
    }
    if saved.padding {
        notes.push("the tokenizer's saved padding is off: no document is filled up".to_owned());
    }
    let place = |names: &[String], place: &str| (!names.is_empty()).then(|| format!("{} {place}", listed(names)));
    let template: Vec<String> =
        [place(&saved.before, "before"), place(&saved.after, "after")].into_iter().flatten().collect();
    if !template.is_empty() {
        let hint = match saved.before.first() {
            Some(start) if tokenizer.start_token().is_none() => format!("; --start-token {start:?} puts it there"),
            _ => String::new(),
        };
        notes.push(format!("the tokenizer's template, which puts {} a text, is off{hint}", template.join(" and ")));
    }
    if let Some(template) = chat_template {
        notes.push(format!(
            "the chat template {} joins the turns of conversations, and is kept with the dataset",
            template.short()
        ));
    }
    notes
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" ")
}

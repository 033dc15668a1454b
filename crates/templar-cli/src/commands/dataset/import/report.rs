//! The words of an import that is done, and of a dry run.

use serde_json::{Value, json};
use templar_data::{DocumentSample, Duplicates, Imported, LeftOut, Listing, OnDuplicate, ReadOptions};
use templar_manifest::DatasetId;

use super::listed;
use crate::commands::dataset::{facts, reading};
use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{count, shown};

/// The most characters of a sample that a person sees.
const SAMPLE_CHARS: usize = 400;

/// Prints the hash of a dataset as data, and talks about the dataset and its files.
pub(crate) fn imported(
    invocation: &Invocation,
    id: DatasetId,
    imported: &Imported,
    left_out: &[LeftOut],
    read: &ReadOptions,
) {
    let Imported { dataset, files, duplicates, report, .. } = imported;
    let shards = dataset.training.len() + dataset.validation.len();
    let value = json!({
        "dataset": id, "name": dataset.name, "tokenizer": dataset.tokenizer, "chat_template": dataset.chat_template,
        "documents": dataset.documents,
        "training_tokens": dataset.training_tokens(), "held_out_tokens": dataset.validation_tokens(), "shards": shards,
        "files": listed::files_json(files), "left_out": listed::left_out_json(left_out), "duplicates": duplicates,
        "read": reading::to_json(report),
    });
    invocation.printer.data(&value, id);
    // Parts that are joined were read and reported before.
    if report.rows > 0 {
        invocation.printer.talk(reading::describe(dataset.documents, report, read, dataset.chat_template));
    }
    invocation.printer.talk(facts::describe(dataset));
    invocation.printer.talk(listed::files(files));
    if let Some(text) = removed(duplicates, imported.on_duplicate) {
        invocation.printer.talk(text);
    }
    if let Some(text) = warning(duplicates, imported.on_duplicate) {
        invocation.printer.warn(text);
    }
}

fn removed(found: &Duplicates, on_duplicate: OnDuplicate) -> Option<String> {
    (on_duplicate == OnDuplicate::Remove && found.documents > 0).then(|| {
        format!("left out {} equal to an earlier one, {} tokens", count(found.documents, "document"), found.tokens)
    })
}

/// A warning where documents that occur again are part of the dataset.
fn warning(found: &Duplicates, on_duplicate: OnDuplicate) -> Option<String> {
    if on_duplicate == OnDuplicate::Remove || found.documents == 0 {
        return None;
    }
    let are = if found.documents == 1 { "is" } else { "are" };
    let mut text =
        format!("{} {are} equal to an earlier one ({} tokens)", count(found.documents, "document"), found.tokens);
    if found.in_both_parts > 0 {
        text.push_str(&format!(
            "; {} of them {} in the training part and again in the held-out part, so the held-out loss will look better \
             than it is",
            found.in_both_parts,
            if found.in_both_parts == 1 { "lies" } else { "lie" }
        ));
    }
    text.push_str("; --dedup leaves repeats out");
    Some(text)
}

/// Shows what a dry run found.
pub(super) fn samples(invocation: &Invocation, listing: &Listing, samples: &[DocumentSample]) -> CommandResult {
    let mut value = listed::listing_json(listing);
    value["samples"] = samples.iter().map(sample_json).collect();
    let text: Vec<String> = samples.iter().map(sample).collect();
    invocation.printer.data(&value, text.join("\n"));
    invocation.printer.talk("nothing was imported (--dry-run)");
    Ok(Code::Ok)
}

fn sample_json(sample: &DocumentSample) -> Value {
    json!({
        "path": sample.path.to_string_lossy(), "row": sample.row, "tokens": sample.tokens, "text": sample.text,
    })
}

fn sample(sample: &DocumentSample) -> String {
    let mut text: String = sample.text.chars().take(SAMPLE_CHARS).collect();
    let characters = sample.text.chars().count();
    if characters > SAMPLE_CHARS {
        text.push_str(&format!(" [and {} characters more]", characters - SAMPLE_CHARS));
    }
    format!("--- {}, row {}, {}\n{text}\n", shown(&sample.path), sample.row, count(sample.tokens, "token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_told_with_their_harm() {
        let found = |documents, in_both_parts| Duplicates { documents, tokens: 50, in_both_parts };
        assert_eq!(warning(&found(0, 0), OnDuplicate::Count), None);
        assert_eq!(warning(&found(3, 0), OnDuplicate::Remove), None);
        assert_eq!(
            warning(&found(1, 0), OnDuplicate::Count).unwrap(),
            "1 document is equal to an earlier one (50 tokens); --dedup leaves repeats out"
        );
        assert!(warning(&found(3, 2), OnDuplicate::Count).unwrap().contains("2 of them lie in the training part"));
        assert_eq!(removed(&found(3, 0), OnDuplicate::Count), None);
        let text = removed(&found(3, 0), OnDuplicate::Remove).unwrap();
        assert_eq!(text, "left out 3 documents equal to an earlier one, 50 tokens");
    }
}

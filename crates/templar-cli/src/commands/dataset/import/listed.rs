//! Lists the files that an import takes, leaves out and has read, for people and for programs.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use templar_data::{ImportedFile, LeftOut, Listing, Reason};

use crate::printer::{bytes, count, shown, table};

/// The most files that are named to a person, and the most that are left out for one reason.
const SHOWN: usize = 20;
const SHOWN_EACH: usize = 5;

/// The listing, for people.
pub(super) fn listing(listing: &Listing) -> String {
    let mut text = format!("takes {}, {}\n", count(listing.taken.len() as u64, "file"), bytes(listing.bytes()));
    let rows: Vec<Vec<String>> = listing
        .taken
        .iter()
        .take(SHOWN)
        .map(|file| {
            let link = file.link.as_ref().map(|target| format!("-> {}", shown(target))).unwrap_or_default();
            vec![format!("  {}", shown(&file.path)), bytes(file.bytes), link]
        })
        .collect();
    text.push_str(&table(&rows));
    more(&mut text, listing.taken.len(), SHOWN);
    if !listing.left_out.is_empty() {
        text.push_str(&left_out(&listing.left_out));
    }
    text
}

fn left_out(left_out: &[LeftOut]) -> String {
    let mut by_reason: BTreeMap<Reason, Vec<&LeftOut>> = BTreeMap::new();
    for one in left_out {
        by_reason.entry(one.reason).or_default().push(one);
    }
    let mut text = format!("leaves out {}; name one on the command line to take it\n", left_out.len());
    for (reason, found) in by_reason {
        let named = found.iter().take(SHOWN_EACH);
        let rows: Vec<_> =
            named.map(|one| vec![format!("  {}", shown(&one.path)), reason.words().to_owned()]).collect();
        text.push_str(&table(&rows));
        more(&mut text, found.len(), SHOWN_EACH);
    }
    text
}

/// The documents and tokens of each file, for people.
pub(super) fn files(files: &[ImportedFile]) -> String {
    let heading = ["file", "documents", "tokens"].map(str::to_owned).to_vec();
    let row = |file: &ImportedFile| vec![shown(&file.name), file.documents.to_string(), file.tokens.to_string()];
    let rows: Vec<_> = std::iter::once(heading).chain(files.iter().take(SHOWN).map(row)).collect();
    let mut text = table(&rows);
    more(&mut text, files.len(), SHOWN);
    text
}

fn more(text: &mut String, count: usize, shown: usize) {
    if count > shown {
        text.push_str(&format!("  and {} more (`--json` names all)\n", count - shown));
    }
}

/// The listing, for programs.
pub(super) fn listing_json(listing: &Listing) -> Value {
    let taken: Vec<Value> =
        listing.taken.iter().map(|file| json!({"path": file.path.to_string_lossy(), "bytes": file.bytes})).collect();
    json!({"takes": taken, "leaves_out": left_out_json(&listing.left_out)})
}

/// The files that were left out, for programs.
pub(super) fn left_out_json(left_out: &[LeftOut]) -> Value {
    left_out.iter().map(|one| json!({"path": one.path.to_string_lossy(), "reason": one.reason})).collect()
}

/// The files that were read, for programs.
pub(super) fn files_json(files: &[ImportedFile]) -> Value {
    let file = |file: &ImportedFile| json!({"path": file.name.to_string_lossy(), "documents": file.documents, "tokens": file.tokens});
    files.iter().map(file).collect()
}

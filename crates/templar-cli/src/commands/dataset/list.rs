//! `templar dataset list`: the datasets of a home in a table.

use templar_query::datasets::{DatasetList, ListedDataset, Look};

use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{Printer, amount, count, table};

/// List the datasets of this home, with the runs that train on them
///
/// The last column says how much of a dataset is here. The store does not notice every damage of a disk: --verify reads
/// every byte. The exit code is 5 where something is damaged here.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Read every shard and check it, as `dataset verify` does
    #[arg(long)]
    verify: bool,
}

pub(crate) fn run(invocation: &Invocation, args: &ListArgs) -> CommandResult {
    let look = if args.verify { Look::AtEveryByte } else { Look::AtTheStore };
    let list = DatasetList::read(&invocation.read()?, look)?;
    let printer = invocation.printer;
    let mut rows = vec![HEADING.map(str::to_owned).to_vec()];
    rows.extend(list.datasets.iter().map(row));
    let is_empty = list.datasets.is_empty();
    printer.document(&list, if is_empty { String::new() } else { table(&rows) });
    tell(printer, &list);
    Ok(if list.is_sound() { Code::Ok } else { Code::Partial })
}

const HEADING: [&str; 8] = ["name", "dataset", "tokens", "shards", "tokenizer", "licence", "runs", "here"];

fn row(listed: &ListedDataset) -> Vec<String> {
    let id = listed.dataset.short();
    let runs = match &listed.runs[..] {
        [] => "none".to_owned(),
        runs => runs.iter().map(|using| using.name.as_str()).collect::<Vec<_>>().join(", "),
    };
    let Some(facts) = &listed.facts else {
        let unknown = || "?".to_owned();
        return vec![unknown(), id, unknown(), unknown(), unknown(), unknown(), runs, here(listed, 1)];
    };
    let tokens = amount(facts.training_tokens.saturating_add(facts.held_out_tokens) as f64);
    vec![
        facts.name.clone(),
        id,
        tokens,
        facts.shards.to_string(),
        facts.tokenizer.short(),
        facts.licence.clone(),
        runs,
        here(listed, facts.blobs),
    ]
}

/// How much of a dataset of so many blobs is here.
fn here(listed: &ListedDataset, blobs: u64) -> String {
    let missing = listed.missing.len() as u64;
    match (listed.faults.is_empty(), missing) {
        (false, _) => "damaged".to_owned(),
        (true, 0) => "all".to_owned(),
        (true, missing) if missing >= blobs => "nothing".to_owned(),
        (true, missing) => format!("{} of {}", blobs - missing, count(blobs, "blob")),
    }
}

/// What is damaged or missing, and what to do.
fn tell(printer: Printer, list: &DatasetList) {
    for listed in &list.datasets {
        for fault in &listed.faults {
            printer.warn(format_args!("dataset {}: {fault}", listed.dataset.short()));
        }
    }
    for blob in &list.unread {
        printer.warn(format_args!("blob {blob} is damaged here, and may be the manifest of a dataset"));
    }
    let lacks = |listed: &&ListedDataset| !listed.missing.is_empty();
    if !list.is_sound() {
        printer.talk("hint: `templar store scrub` repairs what is damaged, from peers");
    } else if let Some(lacking) = list.datasets.iter().find(lacks) {
        let fetch = match lacking.runs.first() {
            Some(using) => format!("`templar fetch {}` fetches the run with its dataset", using.name),
            None => format!("`templar fetch {}` asks peers for a blob", lacking.missing[0]),
        };
        printer.talk(format_args!("hint: {fetch}"));
    } else if list.datasets.is_empty() {
        printer.talk(
            "this home has no dataset; `templar dataset import` makes one of your files, and `templar dataset import --bundled` \
             of nine plays of Shakespeare",
        );
    }
}

#[cfg(test)]
mod tests {
    use templar_manifest::{BlobId, Hash};

    use super::*;

    #[test]
    fn the_last_column_says_how_much_is_here() {
        let blob = |number: u8| BlobId::new(Hash::of(&[number]));
        let listed = |missing: u8, faults: &[&str]| ListedDataset {
            dataset: Hash::default().into(),
            runs: Vec::new(),
            facts: None,
            missing: (0..missing).map(blob).collect(),
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
        };
        assert_eq!(here(&listed(0, &[]), 4), "all");
        assert_eq!(here(&listed(1, &[]), 4), "3 of 4 blobs");
        assert_eq!(here(&listed(4, &[]), 4), "nothing");
        assert_eq!(here(&listed(1, &["a shard is cut off"]), 4), "damaged");
        assert_eq!(row(&listed(1, &[]))[6..], ["none", "nothing"]);
    }
}

//! The datasets of a home, and how much of each is here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use templar_data::verify;
use templar_home::access::Access;
use templar_home::context::read_manifest;
use templar_manifest::{BlobId, Dataset, DatasetId, Genesis, Hash, Kind, RunId};

use crate::error::{QueryError, error_line};
use crate::index::HomeIndex;

/// The datasets of a home, sorted by hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatasetList {
    /// The datasets, one row each.
    pub datasets: Vec<ListedDataset>,
    /// Small blobs that are damaged here. Each may be the manifest of a dataset that no run uses.
    pub unread: Vec<Hash>,
}

/// A dataset in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedDataset {
    /// The hash of the manifest.
    pub dataset: DatasetId,
    /// The runs of this home that train on it.
    pub runs: Vec<UsingRun>,
    /// The contents of the manifest; `None` where that cannot be read.
    #[serde(flatten)]
    pub facts: Option<DatasetFacts>,
    /// The blobs of the dataset that are missing here.
    pub missing: Vec<BlobId>,
    /// What is damaged here, as sentences.
    pub faults: Vec<String>,
}

/// The contents of a dataset's manifest in figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatasetFacts {
    /// The short name.
    pub name: String,
    /// The licence of the text, as an SPDX expression.
    pub licence: String,
    /// The tokenizer.
    pub tokenizer: BlobId,
    /// The number of documents.
    pub documents: u64,
    /// The number of tokens to train on.
    pub training_tokens: u64,
    /// The number of tokens that are held out.
    pub held_out_tokens: u64,
    /// The number of shards of both parts.
    pub shards: u64,
    /// The number of different blobs, with the tokenizer.
    pub blobs: u64,
}

/// A run that trains on a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsingRun {
    /// The id of the run.
    pub run: RunId,
    /// Its name.
    pub name: String,
}

/// How closely a list looks at the blobs of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The store says which blobs are here. It does not know of every damage.
    AtTheStore,
    /// Every byte is read and hashed.
    AtEveryByte,
}

impl DatasetList {
    /// Lists the datasets of a home: those of its runs, and those that were imported and that no run uses yet.
    ///
    /// # Errors
    /// The store cannot be listed, or the directory of the runs cannot be read.
    pub fn read(access: &Access, look: Look) -> Result<Self, QueryError> {
        let stock = access.stock()?;
        let whole: BTreeSet<Hash> = stock.whole.into_iter().map(|(id, _)| id).collect();
        let index = HomeIndex::of_manifests(access)?;
        let mut runs: BTreeMap<Hash, Vec<UsingRun>> =
            index.manifests(Kind::Dataset).map(|(id, _)| (*id, Vec::new())).collect();
        for run in access.home.runs()? {
            if let Ok(Genesis { name, dataset, .. }) = read_manifest(access.blobs(), &run.hash()) {
                runs.entry(dataset.hash()).or_default().push(UsingRun { run, name });
            }
        }
        let mut damaged: BTreeSet<Hash> = index.unread().keys().copied().collect();
        let whole = whole.difference(&damaged).copied().collect();
        damaged.extend(&stock.torn);
        let here = Here { whole, damaged };
        let (mut datasets, mut unread) = (Vec::new(), index.unread().keys().copied().collect::<BTreeSet<Hash>>());
        for (id, runs) in runs {
            let (listed, named) = ListedDataset::of(access, id, runs, &here, look);
            unread.retain(|blob| !named.contains(blob));
            datasets.push(listed);
        }
        Ok(Self { datasets, unread: unread.into_iter().collect() })
    }

    /// Whether nothing of the datasets is damaged here, as far as the list has looked.
    pub fn is_sound(&self) -> bool {
        self.unread.is_empty() && self.datasets.iter().all(|listed| listed.faults.is_empty())
    }
}

/// The blobs of a home, as far as a look at its store and its small blobs tells.
struct Here {
    whole: BTreeSet<Hash>,
    damaged: BTreeSet<Hash>,
}

impl ListedDataset {
    /// The row of a dataset, and the blobs that belong to it.
    fn of(access: &Access, id: Hash, runs: Vec<UsingRun>, here: &Here, look: Look) -> (Self, BTreeSet<Hash>) {
        let mut listed = Self { dataset: id.into(), runs, facts: None, missing: Vec::new(), faults: Vec::new() };
        let mut named = BTreeSet::from([id]);
        let damaged = |blob: &Hash| format!("blob {blob} is damaged here");
        if here.damaged.contains(&id) {
            listed.faults.push(damaged(&id));
            return (listed, named);
        }
        if !here.whole.contains(&id) {
            // A run names it, and its manifest has not been fetched.
            listed.missing.push(BlobId::new(id));
            return (listed, named);
        }
        let dataset: Dataset = match read_manifest(access.blobs(), &id) {
            Ok(dataset) => dataset,
            Err(error) => {
                listed.faults.push(error_line(&error));
                return (listed, named);
            }
        };
        let blobs: BTreeSet<Hash> = dataset.blobs().map(|blob| blob.hash()).collect();
        let is_missing = |blob: &Hash| !here.whole.contains(blob) && !here.damaged.contains(blob);
        listed.missing = blobs.iter().filter(|blob| is_missing(blob)).copied().map(BlobId::new).collect();
        listed.faults = match look {
            Look::AtTheStore => blobs.intersection(&here.damaged).map(damaged).collect(),
            Look::AtEveryByte => {
                let found = verify(&dataset, access.blobs()).faults;
                let faults = found.iter().filter(|fault| fault.unread().is_none_or(|(blob, _)| !is_missing(&blob)));
                faults.map(|fault| error_line(fault)).collect()
            }
        };
        listed.facts = Some(DatasetFacts {
            documents: dataset.documents,
            training_tokens: dataset.training_tokens(),
            held_out_tokens: dataset.validation_tokens(),
            shards: (dataset.training.len() + dataset.validation.len()) as u64,
            blobs: blobs.len() as u64,
            name: dataset.name,
            licence: dataset.licence,
            tokenizer: dataset.tokenizer,
        });
        named.extend(blobs);
        (listed, named)
    }
}

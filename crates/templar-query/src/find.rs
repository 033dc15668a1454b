//! Finds runs, datasets, checkpoints and objects of a home by the names that people type.

use std::collections::BTreeSet;

use templar_home::access::Access;
use templar_home::context::{RunContext, read_manifest};
use templar_manifest::{
    CheckpointId, Dataset, DatasetId, Genesis, Hash, Kind, PublicKey, RunId, ValidatorSpec, WindowIndex, payload,
};
use templar_protocol::{ClosedWindow, Node};

use crate::error::QueryError;
use crate::index::HomeIndex;
use crate::reference::{NameError, Reference, resolve};

/// Opens the run that `named` stands for, by hash, prefix or name; the home's current run when it is `None`.
///
/// # Errors
/// The home has no such run, or the run cannot be opened.
pub fn run_context(access: &Access, named: Option<&str>) -> Result<RunContext, QueryError> {
    let named = named.map(|text| run_id(access, text)).transpose()?;
    Ok(access.run(named)?)
}

/// Finds a run of the home by hash, prefix or name.
///
/// # Errors
/// The home has no such run, or a name or a prefix fits several.
pub fn run_id(access: &Access, text: &str) -> Result<RunId, QueryError> {
    let runs = access.home.runs()?;
    match &runs_named(access, text)?[..] {
        [] => {}
        [(run, _)] => return Ok(*run),
        several => {
            let candidates = several.iter().map(|(run, _)| run.hash()).collect();
            return Err(NameError::AmbiguousRun { name: text.to_owned(), candidates }.into());
        }
    }
    let known: BTreeSet<Hash> = runs.iter().map(RunId::hash).collect();
    match text.parse() {
        Ok(Reference::Whole(hash)) if known.contains(&hash) => Ok(hash.into()),
        Ok(Reference::Prefix(prefix)) => Ok(resolve(&prefix, &known)?.into()),
        _ => Err(NameError::UnknownRun(text.to_owned()).into()),
    }
}

/// The runs of a home that have this name, each with its genesis. A run whose genesis cannot be read has no name.
///
/// # Errors
/// The directory of the runs cannot be read.
pub fn runs_named(access: &Access, name: &str) -> Result<Vec<(RunId, Genesis)>, QueryError> {
    let named = |run: RunId| {
        let genesis = read_manifest::<Genesis>(access.blobs(), &run.hash()).ok()?;
        (genesis.name == name).then_some((run, genesis))
    };
    Ok(access.home.runs()?.into_iter().filter_map(named).collect())
}

/// A run of the home in which a validator has a hash chain that a validator of `genesis` has too, and the latter
/// validator; `None` if each chain is new here.
///
/// # Errors
/// The home cannot be read.
pub fn seen_chain(access: &Access, genesis: &Genesis) -> Result<Option<(RunId, PublicKey)>, QueryError> {
    for run in access.home.runs()? {
        let Ok(other) = read_manifest::<Genesis>(access.blobs(), &run.hash()) else { continue };
        let is_seen = |new: &&ValidatorSpec| other.validators.iter().any(|old| old.chain_anchor == new.chain_anchor);
        if let Some(validator) = genesis.validators.iter().find(is_seen) {
            return Ok(Some((run, validator.key)));
        }
    }
    Ok(None)
}

/// Finds a dataset of the home by hash, prefix or name, and reads its manifest.
///
/// # Errors
/// The home has no such dataset, several have the name, or the manifest cannot be read.
pub fn dataset(access: &Access, text: &str) -> Result<(DatasetId, Dataset), QueryError> {
    let found = match text.parse() {
        Ok(Reference::Whole(hash)) => Some(hash),
        parsed => {
            let index = HomeIndex::of_manifests(access)?;
            let decoded = |payload: &Vec<u8>| payload::decode::<Dataset>(payload).ok();
            let datasets: Vec<(Hash, Dataset)> =
                index.manifests(Kind::Dataset).filter_map(|(id, bytes)| Some((*id, decoded(bytes)?))).collect();
            let named: BTreeSet<Hash> =
                datasets.iter().filter(|(_, dataset)| dataset.name == text).map(|(id, _)| *id).collect();
            match (named.len(), parsed) {
                (0, Ok(Reference::Prefix(prefix))) => {
                    let known = datasets.iter().map(|(id, _)| *id).collect();
                    Some(resolve(&prefix, &known)?)
                }
                (0, _) => match index.into_unread() {
                    // It may have the name.
                    Some(error) => return Err(error.into()),
                    None => None,
                },
                (1, _) => named.first().copied(),
                _ => {
                    let candidates = named.into_iter().collect();
                    return Err(NameError::AmbiguousDataset { name: text.to_owned(), candidates }.into());
                }
            }
        }
    };
    let id = found.ok_or_else(|| NameError::UnknownDataset(text.to_owned()))?;
    Ok((id.into(), read_manifest(access.blobs(), &id)?))
}

/// The hash that a reference stands for; `None` for `@` and `wN`, which need a run.
///
/// # Errors
/// A prefix fits no object, or several.
pub fn object(index: &HomeIndex, reference: &Reference) -> Result<Option<Hash>, NameError> {
    match reference {
        Reference::Whole(hash) => Ok(Some(*hash)),
        Reference::Prefix(prefix) => resolve(prefix, &index.hashes()).map(Some),
        Reference::Current | Reference::Window(_) => Ok(None),
    }
}

/// Finds a checkpoint by hash, by prefix, by `@` (the current one), or by `wN` (the one after window N). The
/// last two need the folded `node` of a run.
///
/// # Errors
/// The text is no reference or fits nothing here; `node` is `None` where it is needed; window N is not closed.
pub fn checkpoint(access: &Access, node: Option<&Node>, text: &str) -> Result<CheckpointId, QueryError> {
    let node = || node.ok_or_else(|| NameError::NeedsRun(text.to_owned()));
    match text.parse::<Reference>().map_err(NameError::from)? {
        Reference::Whole(hash) => Ok(hash.into()),
        Reference::Prefix(prefix) => {
            let index = HomeIndex::build(access, None)?;
            let known = index.manifests(Kind::Checkpoint).map(|(id, _)| *id).collect();
            Ok(resolve(&prefix, &known)?.into())
        }
        Reference::Current => Ok(node()?.state().checkpoint()),
        Reference::Window(window) => Ok(closed_window(node()?, window)?.window.header.checkpoint),
    }
}

/// A closed window of a run.
///
/// # Errors
/// The window is still open, or lies in the future or behind the end of the run.
pub fn closed_window(node: &Node, window: WindowIndex) -> Result<&ClosedWindow, NameError> {
    let found = node.closed_window(window);
    found.ok_or_else(|| NameError::NotClosed { window, open: node.state().window(), is_over: node.is_over() })
}

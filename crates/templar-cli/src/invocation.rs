//! One run of the program: the home that it means, and what names on the command line stand for there.

use std::collections::BTreeSet;
use std::path::PathBuf;

use templar_home::access::Access;
use templar_home::context::{RunContext, read_manifest};
use templar_manifest::{CheckpointId, Dataset, DatasetId, Genesis, Hash, Kind, RunId, WindowIndex, payload};
use templar_node::settings::NetworkSettings;
use templar_protocol::Node;

use crate::error::{Code, CommandError};
use crate::index::Index;
use crate::printer::Printer;
use crate::reference::{Reference, resolve};

/// The home and the voice of a command.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    /// The home, which may not be there.
    pub root: Option<PathBuf>,
    /// What the environment says of the network.
    pub network: NetworkSettings,
    /// How to speak.
    pub printer: Printer,
}

impl Invocation {
    /// The directory of the home.
    pub(crate) fn root(&self) -> Result<&PathBuf, CommandError> {
        self.root.as_ref().ok_or_else(|| {
            CommandError::says(Code::NoHome, "no home is named and the user has no home directory")
                .hint("name one with --home DIR or TEMPLAR_HOME")
        })
    }

    /// The home, to read.
    pub(crate) fn read(&self) -> Result<Access, CommandError> {
        Ok(Access::read(self.root()?)?)
    }

    /// The home, to write.
    pub(crate) fn write(&self) -> Result<Access, CommandError> {
        Ok(Access::write(self.root()?)?)
    }
}

/// The run that `--run` names by hash, prefix or name; without it the home's current one.
pub(crate) fn run_context(access: &Access, named: Option<&str>) -> Result<RunContext, CommandError> {
    let named = named.map(|text| run_id(access, text)).transpose()?;
    Ok(access.run(named)?)
}

/// A run of the home by hash, prefix or name.
pub(crate) fn run_id(access: &Access, text: &str) -> Result<RunId, CommandError> {
    let runs = access.home.runs()?;
    let mut by_name = Vec::new();
    for run in &runs {
        // A run whose genesis cannot be read can still be named by its hash.
        let genesis = read_manifest::<Genesis>(access.blobs(), &run.hash());
        if genesis.is_ok_and(|genesis| genesis.name == text) {
            by_name.push(*run);
        }
    }
    if let [run] = by_name[..] {
        return Ok(run);
    }
    let known: BTreeSet<Hash> = runs.iter().map(RunId::hash).collect();
    let missing = || {
        CommandError::says(Code::NotFound, format_args!("this home has no run {text:?}"))
            .hint("`templar run list` lists the runs of this home")
    };
    match text.parse() {
        Ok(Reference::Whole(hash)) if known.contains(&hash) => Ok(hash.into()),
        Ok(Reference::Prefix(prefix)) => resolve(&prefix, &known).map(RunId::new),
        _ => Err(missing()),
    }
}

/// A dataset of the home by hash, prefix or name.
pub(crate) fn dataset(access: &Access, text: &str) -> Result<(DatasetId, Dataset), CommandError> {
    let found = match text.parse() {
        Ok(Reference::Whole(hash)) => Some(hash),
        parsed => {
            let index = Index::build(access, None)?;
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
                (0, _) => None,
                (1, _) => named.first().copied(),
                _ => {
                    let ids: Vec<String> = named.iter().map(ToString::to_string).collect();
                    let text = format!("{} datasets here are called {text:?}:\n{}", ids.len(), ids.join("\n"));
                    return Err(CommandError::says(Code::Usage, text).hint("give the hash"));
                }
            }
        }
    };
    let Some(id) = found else {
        let error = CommandError::says(Code::NotFound, format_args!("this home has no dataset {text:?}"));
        return Err(error.hint("`templar dataset import --bundled` imports the one that comes with the program"));
    };
    Ok((id.into(), read_manifest(access.blobs(), &id)?))
}

/// An object of the home by hash, or prefix.
pub(crate) fn object(index: &Index, reference: &Reference) -> Result<Option<Hash>, CommandError> {
    match reference {
        Reference::Whole(hash) => Ok(Some(*hash)),
        Reference::Prefix(prefix) => resolve(prefix, &index.hashes()).map(Some),
        Reference::Current | Reference::Window(_) => Ok(None),
    }
}

/// A checkpoint by hash or prefix, `@` (the current one), or `wN` (the one after window N).
pub(crate) fn checkpoint(access: &Access, node: Option<&Node>, text: &str) -> Result<CheckpointId, CommandError> {
    let no_run = || CommandError::says(Code::NotFound, format_args!("{text} needs a run, and this home has none"));
    match text.parse::<Reference>().map_err(|error| CommandError::new(Code::Usage, error))? {
        Reference::Whole(hash) => Ok(hash.into()),
        Reference::Prefix(prefix) => {
            let index = Index::build(access, None)?;
            let known = index.manifests(Kind::Checkpoint).map(|(id, _)| *id).collect();
            resolve(&prefix, &known).map(CheckpointId::new)
        }
        Reference::Current => Ok(node.ok_or_else(no_run)?.state().checkpoint()),
        Reference::Window(window) => {
            let node = node.ok_or_else(no_run)?;
            closed_window(node, window).map(|closed| closed.window.checkpoint)
        }
    }
}

/// A closed window, or an error that says which one is open.
pub(crate) fn closed_window(node: &Node, window: WindowIndex) -> Result<&templar_protocol::ClosedWindow, CommandError> {
    let found = usize::try_from(window.0).ok().and_then(|index| node.closed().get(index));
    found.ok_or_else(|| {
        let open = node.state().window();
        let state = if node.is_over() {
            format!("the run ended before window {open}")
        } else {
            format!("window {open} is open")
        };
        CommandError::says(Code::NotFound, format_args!("window {window} is not closed: {state}"))
    })
}

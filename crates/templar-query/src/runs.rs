//! The runs of a home.

use serde::Serialize;
use templar_home::access::Access;
use templar_home::context::{RunContext, read_manifest};
use templar_manifest::{CheckpointId, Genesis, ModelSpec, RunId};

use crate::error::QueryError;

/// The runs of a home, sorted by hash.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunList {
    /// The runs, one row each.
    pub runs: Vec<ListedRun>,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListedRun {
    /// The id of the run.
    pub run: RunId,
    /// The name; `None` when the genesis is not here.
    pub name: Option<String>,
    /// Whether it is the home's current run.
    #[serde(rename = "current")]
    pub is_current: bool,
    /// The model; `None` when the genesis is not here.
    #[serde(skip)]
    pub model: Option<ModelSpec>,
}

impl RunList {
    /// Lists the runs of a home.
    ///
    /// # Errors
    /// The directory of the runs cannot be read.
    pub fn read(access: &Access) -> Result<Self, QueryError> {
        let current = access.home.current_run()?;
        let listed = |run: RunId| {
            let genesis = read_manifest::<Genesis>(access.blobs(), &run.hash()).ok();
            let (name, model) = genesis.map(|genesis| (genesis.name, genesis.model)).unzip();
            ListedRun { run, name, is_current: current == Some(run), model }
        };
        Ok(Self { runs: access.home.runs()?.into_iter().map(listed).collect() })
    }
}

/// The configuration of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunView {
    /// The id of the run.
    pub run: RunId,
    /// The checkpoint that the first window starts from.
    pub checkpoint: CheckpointId,
    /// The whole configuration of the run.
    pub genesis: Genesis,
}

impl RunView {
    /// The configuration of an open run.
    pub fn of(context: &RunContext) -> Self {
        Self { run: context.run, checkpoint: context.first_checkpoint(), genesis: Genesis::clone(&context.genesis) }
    }
}

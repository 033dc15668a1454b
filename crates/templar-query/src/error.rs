//! The errors of the read model.

use templar_audit::InputError;
use templar_blob::ReadError;
use templar_home::HomeError;
use templar_home::access::AccessError;
use templar_home::context::RunError;
use templar_home::evaluations::KeptError;
use templar_home::inventory::InventoryError;
use templar_home::journal::JournalError;
use templar_manifest::{PayloadError, WindowIndex};
use templar_store::ListError;

use crate::reference::NameError;

/// The reason why a question about a home has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The home, or the current run in it, cannot be opened.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A file of the home cannot be read.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The journal of a run is damaged or cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A run cannot be opened, or its journal does not fold.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The blobs of the home cannot be classified.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The store does not list its blobs.
    #[error(transparent)]
    List(#[from] ListError),
    /// A blob cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A name on the command line or in a request stands for nothing here, or for several things.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The bytes of a manifest do not decode.
    #[error(transparent)]
    Manifest(#[from] PayloadError),
    /// The bytes of a delta do not decode.
    #[error(transparent)]
    Delta(#[from] templar_delta::DeltaError),
    /// The windows before this one do not fold again, so it cannot be audited.
    #[error("the windows before {0} do not fold again")]
    Unfoldable(WindowIndex),
    /// A kept evaluation cannot be read.
    #[error(transparent)]
    Evaluation(#[from] KeptError),
    /// An input of an audit is missing or broken.
    #[error(transparent)]
    Audit(#[from] InputError),
}

/// An error and its causes on one line, joined by `: `. A cause that the line before already quotes is left out.
pub fn error_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let line = error.to_string();
        if lines.last().is_none_or(|last| !last.contains(&line)) {
            lines.push(line);
        }
        next = error.source();
    }
    lines.join(": ")
}

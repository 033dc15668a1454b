//! Errors of a demo and of its processes.

use templar_data::ImportError;
use templar_eval::ContinueError;
use templar_home::HomeError;
use templar_home::access::AccessError;
use templar_home::configure::ConfigureError;
use templar_home::context::RunError;

/// A demo ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A demo needs at least one honest miner besides the cheat.
    #[error("a demo needs at least 2 miners, one of which cheats, not {0}")]
    TooFewMiners(u32),
    /// A demo needs at least one window.
    #[error("a demo needs at least 1 window")]
    NoWindows,
    /// A home cannot be made.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A home cannot be opened.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The genesis is refused.
    #[error(transparent)]
    Configure(#[from] ConfigureError),
    /// The run cannot be set up.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The bundled dataset cannot be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A process of the demo failed.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A deadline passed: this machine is too slow, or a process hung. The result would not be the documented one.
    #[error("the {phase} deadline of window {window} passed with somebody missing")]
    Deadline {
        /// The window of the deadline.
        window: u64,
        /// `commit`, `reveal` or `judge`.
        phase: String,
    },
    /// The model cannot generate text.
    #[error(transparent)]
    Generate(#[from] ContinueError),
    /// The demo was asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A process of the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The process cannot be started.
    #[error("{name} cannot be started")]
    Start {
        /// The name of the process.
        name: String,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// The process ended before the run did.
    #[error("{name} ended with {status} before the run was over: {said}")]
    Ended {
        /// The name of the process.
        name: String,
        /// The exit status of the process.
        status: String,
        /// The last line of its standard error.
        said: String,
    },
    /// The process printed something unexpected.
    #[error("{0}")]
    Unusable(String),
}

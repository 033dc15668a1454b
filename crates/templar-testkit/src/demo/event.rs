//! The reports of a demo: the nodes that take part, its events, and its result.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use templar_manifest::{CheckpointId, EmissionSpec, PublicKey, RunId};
use templar_node::event::NodeEvent;

use super::forecast::Forecast;
use super::pay::Pay;

/// A node of the demo.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DemoParticipant {
    /// Its name, such as `validator-1` or `miner-3`.
    pub name: String,
    /// The public key of the node.
    pub key: PublicKey,
    /// Whether the node cheats.
    pub cheats: bool,
}

/// An event of a demo.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum DemoEvent {
    /// The demo begins.
    Planned {
        /// The directory of the homes.
        #[serde(serialize_with = "as_text")]
        home: PathBuf,
        /// The number of validators.
        validators: u32,
        /// The number of miners, the cheat among them.
        miners: u32,
    },
    /// Homes and genesis have been made, and a part of the work was timed.
    Forecast {
        /// How long the parts of the demo take on this machine.
        forecast: Forecast,
    },
    /// The untrained model has been measured, and the nodes start.
    Ready {
        /// The directory of the homes.
        #[serde(serialize_with = "as_text")]
        home: PathBuf,
        /// The id of the run.
        run: RunId,
        /// The nodes that take part.
        participants: Vec<DemoParticipant>,
        /// The number of the model's parameters.
        parameters: usize,
        /// The size of the vocabulary.
        vocab_size: u32,
        /// The number of training tokens.
        training_tokens: u64,
        /// Held-out loss of the untrained model, in nats.
        held_out_loss: f64,
        /// The number of inner steps that a miner takes in a window.
        steps: u32,
        /// The pay of a window and its shares.
        emission: EmissionSpec,
    },
    /// A node reports an event.
    Node {
        /// The name of the node.
        node: String,
        /// The event of the node.
        event: NodeEvent,
    },
    /// The audit begins, on a copy.
    Auditing {
        /// The directory of the copy.
        #[serde(serialize_with = "as_text")]
        home: PathBuf,
    },
    /// A line of the audit's own report.
    Audit {
        /// The line as the audit prints it.
        report: serde_json::Value,
    },
    /// Text that a model has generated.
    Text {
        /// When the model was trained: `before` or `after` the run.
        when: &'static str,
        /// The prompt and its continuation.
        text: String,
    },
}

/// A refused contribution of the demo.
#[derive(Debug, Clone, Serialize)]
pub struct Rejected {
    /// The miner, by its owner key.
    pub miner: PublicKey,
    /// The window of the contribution.
    pub window: u64,
    /// The reason of the refusal.
    pub reason: String,
}

/// The result of a demo.
#[derive(Debug, Clone, Serialize)]
pub struct DemoResult {
    /// The final model of the run.
    pub checkpoint: CheckpointId,
    /// Held-out loss of the untrained model, in nats.
    pub loss_first: f64,
    /// Held-out loss of the final model, in nats.
    pub loss_last: f64,
    /// The number of closed windows.
    pub windows: u64,
    /// The audit's verdict: `match`, `mismatch` or `unavailable`.
    pub audit: String,
    /// Whether the audit's process was cut off from the network: `unshared`, or the reason why not.
    pub audit_network: String,
    /// All refused contributions of the run.
    pub rejected: Vec<Rejected>,
    /// The pay minted in the whole run, in ALPHA.
    pub minted: f64,
    /// The pay of each participant in the whole run.
    pub pay: Pay,
    /// The room that the homes take on the disk, in bytes.
    pub disk_bytes: u64,
    /// The directory of the homes.
    #[serde(serialize_with = "as_text")]
    pub home: PathBuf,
    /// The id of the run.
    pub run: RunId,
}

/// Writes a path as text. JSON is UTF-8, so other bytes of a path are replaced.
fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

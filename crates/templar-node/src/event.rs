//! What a node reports while it works: one JSON line each with `--json`, a sentence each without.

use serde::{Deserialize, Serialize};
use templar_manifest::{CheckpointId, ContributionId, Hash, PublicKey, RecordId, Refusal, RunId};

/// Something happened. Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// The node serves its run.
    Started {
        /// Its key.
        key: PublicKey,
        /// The run.
        run: RunId,
        /// What others join with.
        ticket: String,
        /// What others fetch one blob with, where one is shared.
        blob_ticket: Option<String>,
        /// The window that is open.
        window: u64,
    },
    /// Metrics are answered.
    Metrics {
        /// Where.
        addr: std::net::SocketAddr,
    },
    /// An inner step was taken.
    Step {
        /// The window.
        window: u64,
        /// The inner step, from 1.
        step: u32,
        /// Inner steps of the window.
        steps: u32,
        /// Mean loss in nats.
        loss: f64,
        /// Gradient norm before clipping.
        norm: f64,
        /// Learning rate.
        learning_rate: f32,
        /// Tokens per second; the only field here that a clock made.
        tokens_per_second: f64,
    },
    /// A miner committed.
    Contributed {
        /// The window.
        window: u64,
        /// The miner.
        miner: PublicKey,
        /// The contribution.
        contribution: ContributionId,
        /// The delta.
        delta: Hash,
        /// Its length.
        delta_bytes: u64,
        /// How many times smaller than the parameters as fp32.
        ratio_fp32: f64,
        /// How many times smaller than the parameters as bf16.
        ratio_bf16: f64,
        /// Mean training loss of the last inner step, in nats.
        loss: f64,
    },
    /// A validator judged a contribution.
    Judged {
        /// The window.
        window: u64,
        /// Who judged.
        validator: PublicKey,
        /// The miner.
        miner: PublicKey,
        /// `match`, `not-drawn` or the reason of a refusal.
        replay: String,
        /// By how much the trial step lowers the loss on unassigned pages, in nats; null where that was not measured.
        improvement: Option<f64>,
    },
    /// A validator signed.
    Signed {
        /// The window.
        window: u64,
        /// The kind of manifest.
        kind: String,
        /// Its id.
        id: Hash,
        /// Who signed.
        signer: PublicKey,
    },
    /// A window closed.
    Closed {
        /// The window.
        window: u64,
        /// Its record.
        record: RecordId,
        /// The model after it.
        checkpoint: CheckpointId,
        /// Held-out loss of that model, in nats.
        held_out_loss: f64,
        /// Miners whose deltas are in it.
        aggregated: Vec<PublicKey>,
        /// Contributions that are not, with the reason.
        refused: Vec<Refused>,
        /// What was minted, in ALPHA.
        minted: f64,
        /// What miners were paid of it, in ALPHA.
        minted_to_miners: Vec<(PublicKey, f64)>,
        /// Signatures on the record.
        signatures: usize,
    },
    /// A window decided about a registration.
    Admitted {
        /// The window.
        window: u64,
        /// Who owns the slot, or wanted one.
        owner: PublicKey,
        /// What became of it.
        verdict: String,
    },
    /// This node trains for a slot from now on.
    Registered {
        /// Who owns it.
        owner: PublicKey,
        /// The slot.
        slot: u32,
        /// The first window.
        since: u64,
    },
    /// The run has as many windows as genesis says.
    Finished {
        /// The model.
        checkpoint: CheckpointId,
    },
    /// A deadline of the window passed with somebody missing.
    Deadline {
        /// The window.
        window: u64,
        /// `commit`, `reveal` or `judge`.
        phase: String,
    },
    /// Blobs were removed that no run needs any more.
    Pruned {
        /// How many.
        blobs: u64,
        /// How many bytes they had together.
        bytes: u64,
    },
    /// Something went wrong that the node goes on from.
    Warning {
        /// What.
        message: String,
    },
}

/// A refused contribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// The miner.
    pub miner: PublicKey,
    /// Why.
    pub reason: String,
}

impl Refused {
    /// A refusal in words.
    pub fn new(miner: PublicKey, refusal: &Refusal) -> Self {
        Self { miner, reason: refusal.to_string() }
    }
}

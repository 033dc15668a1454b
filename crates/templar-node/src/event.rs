//! The events that a node reports while it works. The command line prints each as a JSON line or as a sentence.

use serde::{Deserialize, Serialize};
use templar_manifest::{
    Admission, CheckpointId, ContributionId, Hash, MintKind, PublicKey, RecordId, Refusal, RunId, Verdict,
};
use templar_net::Reach;
use templar_protocol::ClosedWindow;
use templar_train::nats;

/// An event of a node. The JSON form is stable: fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum NodeEvent {
    /// The node has started and serves its run.
    Started {
        /// The public key of the node.
        key: PublicKey,
        /// The id of the run.
        run: RunId,
        /// The ticket with which others join the run.
        ticket: String,
        /// The ticket with which others fetch the shared blob, if one is shared.
        blob_ticket: Option<String>,
        /// The window that is open.
        window: u64,
        /// The addresses of this node that its tickets hold.
        addresses: Vec<String>,
        /// The machines that can reach one of these addresses: `machine`, `local` or `global`; null if there is none.
        reach: Option<Reach>,
    },
    /// Metrics can be read from now on.
    Metrics {
        /// The address of the metrics server.
        addr: std::net::SocketAddr,
    },
    /// An inner step was taken.
    Step {
        /// The window under training.
        window: u64,
        /// The inner step, from 1.
        step: u32,
        /// Inner steps of the window.
        steps: u32,
        /// Mean loss in nats.
        loss: f64,
        /// Gradient norm before clipping.
        norm: f64,
        /// The learning rate of the step.
        learning_rate: f32,
        /// Tokens per second; the only field here that a clock made.
        tokens_per_second: f64,
    },
    /// A miner has contributed to a window.
    Contributed {
        /// The window contributed to.
        window: u64,
        /// The miner, by its owner key.
        miner: PublicKey,
        /// The id of the contribution.
        contribution: ContributionId,
        /// The hash of the delta.
        delta: Hash,
        /// The length of the delta in bytes.
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
        /// The window of the contribution.
        window: u64,
        /// The validator that judged.
        validator: PublicKey,
        /// The miner, by its owner key.
        miner: PublicKey,
        /// `match`, `not-drawn` or the reason of a refusal.
        replay: String,
        /// By how much the trial step lowers the loss on unassigned pages, in nats; null where that was not measured.
        improvement: Option<f64>,
    },
    /// A validator has signed a manifest.
    Signed {
        /// The window of the manifest.
        window: u64,
        /// The kind of manifest.
        kind: String,
        /// The id of the manifest.
        id: Hash,
        /// The key of the signer.
        signer: PublicKey,
    },
    /// A window has closed.
    Closed {
        /// The window that has closed.
        window: u64,
        /// The id of its record.
        record: RecordId,
        /// The model after the window.
        checkpoint: CheckpointId,
        /// Held-out loss of that model, in nats.
        held_out_loss: f64,
        /// Miners whose deltas are in the new model.
        aggregated: Vec<PublicKey>,
        /// Refused contributions, each with the reason.
        refused: Vec<Refused>,
        /// The pay minted in the window, in ALPHA.
        minted: f64,
        /// The part of it that each miner got, in ALPHA.
        minted_to_miners: Vec<(PublicKey, f64)>,
        /// The number of signatures on the record.
        signatures: usize,
    },
    /// A window has decided on a registration.
    Admitted {
        /// The window that has decided.
        window: u64,
        /// The owner that asked for a slot.
        owner: PublicKey,
        /// The decision, such as `admitted`.
        verdict: String,
    },
    /// This node has a slot and trains for it from now on.
    Registered {
        /// The owner of the slot.
        owner: PublicKey,
        /// The number of the slot.
        slot: u32,
        /// The first window of the membership.
        since: u64,
    },
    /// The run is over: it has as many windows as its genesis says.
    Finished {
        /// The final model of the run.
        checkpoint: CheckpointId,
    },
    /// A deadline of a window has passed while somebody was missing.
    Deadline {
        /// The window of the deadline.
        window: u64,
        /// `commit`, `reveal` or `judge`.
        phase: String,
    },
    /// Blobs were removed that no run needs any more.
    Pruned {
        /// The number of removed blobs.
        blobs: u64,
        /// The length of these blobs together, in bytes.
        bytes: u64,
    },
    /// A peer knows a statement with this node's key that this node did not sign. A node that signs ends with it.
    KeyElsewhere {
        /// The window of the statement.
        window: u64,
        /// The kind of the statement, such as `vote`.
        kind: String,
        /// The id of the statement's entry.
        entry: Hash,
    },
    /// Other nodes or a relay answer again, after a warning that they did not.
    Reconnected {
        /// The time without them, in seconds.
        seconds: u64,
    },
    /// Something went wrong, and the node continues.
    Warning {
        /// The problem, as a sentence for people.
        message: String,
        /// The number of times that it happened since it was last reported.
        times: u64,
    },
}

impl NodeEvent {
    /// A warning that is reported for the first time.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::Warning { message: message.into(), times: 1 }
    }

    /// The event of a closed window.
    pub fn closed(closed: &ClosedWindow) -> Self {
        let record = &closed.window.body;
        let aggregated = record.outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Aggregated);
        let refused = record.outcomes.iter().filter_map(|outcome| match &outcome.verdict {
            Verdict::Refused(refusal) => Some(Refused::new(outcome.miner, refusal)),
            Verdict::Aggregated | Verdict::Reserve | Verdict::Excluded => None,
        });
        Self::Closed {
            window: record.window.0,
            record: closed.record,
            checkpoint: closed.window.header.checkpoint,
            held_out_loss: nats(record.held_out_loss_nanonats),
            aggregated: aggregated.map(|outcome| outcome.miner).collect(),
            refused: refused.collect(),
            minted: record.mints.iter().map(|mint| mint.amount_micros).sum::<u64>() as f64 / 1e6,
            minted_to_miners: record
                .mints
                .iter()
                .filter(|mint| mint.kind == MintKind::Miner)
                .map(|mint| (mint.account, mint.amount_micros as f64 / 1e6))
                .collect(),
            signatures: closed.record_certificate.witnesses.len(),
        }
    }

    /// The decisions of a closed window on registrations.
    pub(crate) fn admissions(closed: &ClosedWindow) -> impl Iterator<Item = Self> {
        let window = closed.window.header.window.0;
        let event = move |admission: &Admission| Self::Admitted {
            window,
            owner: admission.owner,
            verdict: admission.verdict.to_string(),
        };
        closed.window.body.admissions.iter().map(event)
    }
}

/// A refused contribution and the reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// The miner, by its owner key.
    pub miner: PublicKey,
    /// The reason of the refusal, for people.
    pub reason: String,
}

impl Refused {
    /// A refusal with its reason in words.
    pub fn new(miner: PublicKey, refusal: &Refusal) -> Self {
        Self { miner, reason: refusal.to_string() }
    }
}

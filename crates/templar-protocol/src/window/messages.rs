//! What a node is told and what it answers.
//!
//! Inputs carry integers and bytes only; outputs name work and never how it is done. A driver may carry out
//! outputs in any order and more than once.

use templar_manifest::{
    BlobId, Cut, Hash, Inbox, LateVerdict, Outcome, PublicKey, RecordId, Refusal, Replay, Score, ScoreEntry, SecretKey,
    Signed, Vote, VoteOn, WindowIndex, WindowRecord,
};

use super::reject::Reject;
use super::verified::Verified;
use crate::entry::Entry;
use crate::run::replay::ReplayTask;
use crate::run::{JudgePlan, Stepped};

/// The phases of a window that have a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Until the inboxes.
    Commit,
    /// Until the seed.
    Reveal,
    /// Until the record.
    Judge,
    /// A wait in an attempt to agree on cut or record.
    Vote {
        /// On what.
        on: VoteOn,
        /// Which attempt.
        attempt: u32,
        /// For what.
        wait: VoteWait,
    },
}

/// What a validator waits for in an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VoteWait {
    /// For a proposal that it finds right. Without one it prevotes none.
    Prevote,
    /// For a polka, when enough have prevoted. Without one it precommits none.
    Precommit,
    /// For a certificate, when enough have precommitted. Without one it goes on to the next attempt.
    Next,
}

/// What can happen to a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// An entry came: from a peer, from the journal, or from this node's own key.
    Entry(Entry),
    /// The same, where this process has checked the signature already.
    Verified(Verified),
    /// The time of a phase is up.
    Deadline {
        /// The window.
        window: WindowIndex,
        /// The phase.
        phase: Phase,
    },
    /// Work that an output asked for is done.
    Measured(Measured),
}

/// Results of work with tensors.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    /// [`Output::Judge`] is done.
    Judged {
        /// The window.
        window: WindowIndex,
        /// The plan's seed.
        seed: Hash,
        /// One entry for each contribution of the cut, sorted by miner.
        entries: Vec<ScoreEntry>,
        /// What was found of the plan's late tasks, sorted by window, then miner. What could not be replayed
        /// yet is left out.
        verdicts: Vec<LateVerdict>,
    },
    /// [`Output::Confirm`] is done.
    Confirmed {
        /// The open window.
        window: WindowIndex,
        /// What was asked about.
        subject: Subject,
        /// What this node found by replaying the contribution itself: a match or a refusal.
        replay: Replay,
        /// Of a match, the short form of the claim that each drawn validator must make, in the order of their keys.
        witnesses: Vec<u64>,
    },
    /// [`Output::Apply`] is done.
    Applied {
        /// The window.
        window: WindowIndex,
        /// The outcomes that were applied.
        outcomes: Vec<Outcome>,
        /// What the outer step came to.
        stepped: Stepped,
    },
}

impl Measured {
    /// The window that was measured.
    pub fn window(&self) -> WindowIndex {
        match self {
            Self::Judged { window, .. } | Self::Confirmed { window, .. } | Self::Applied { window, .. } => *window,
        }
    }
}

/// A contribution about which validators contradict each other, as seen with one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The seed of the open window, with which replays of its contributions were drawn.
    pub seed: Hash,
    /// The contribution's window.
    pub window: WindowIndex,
    /// Its miner.
    pub miner: PublicKey,
}

/// What a node is asked to sign.
#[derive(Debug, Clone, PartialEq)]
pub enum Unsigned {
    /// What it has received.
    Inbox(Inbox),
    /// The cut, for all to vote on.
    Cut(Cut),
    /// Its judgement.
    Score(Score),
    /// The record, for all to vote on.
    Window(Box<WindowRecord>),
    /// Its vote on a cut or record.
    Vote(Vote),
}

impl Unsigned {
    /// Signs the document. The entry must be in the journal before it is sent.
    pub fn sign(self, key: &SecretKey) -> Entry {
        Entry::Envelope(match self {
            Self::Inbox(inbox) => Signed::sign(inbox, key).envelope(),
            Self::Cut(cut) => Signed::sign(cut, key).envelope(),
            Self::Score(score) => Signed::sign(score, key).envelope(),
            Self::Window(window) => Signed::sign(*window, key).envelope(),
            Self::Vote(vote) => Signed::sign(vote, key).envelope(),
        })
    }
}

/// What happened, and what is to do. The first five are events; the others are said again by
/// [`crate::Node::todo`] until they are done or are no longer wanted.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// An entry is new and valid: keep it in the journal, then pass it on.
    Accepted {
        /// Its window.
        window: WindowIndex,
        /// The entry.
        entry: Verified,
    },
    /// An entry that was held turned out to be invalid.
    Dropped {
        /// The entry.
        entry: Verified,
        /// Why.
        reject: Reject,
    },
    /// A cut or record that was taken in turned out to be wrong. Its signer knew.
    Wrong {
        /// `cut` or `window`.
        kind: &'static str,
        /// Who signed it.
        signer: PublicKey,
        /// Its id.
        id: Hash,
        /// Why.
        reject: Reject,
    },
    /// Somebody said two things where one is allowed.
    Equivocation {
        /// `contribution`, `inbox`, `score` or `vote`.
        kind: &'static str,
        /// Who.
        signer: PublicKey,
        /// Id of the first payload.
        first: Hash,
        /// Id of the second payload.
        second: Hash,
    },
    /// A window is closed; the state has moved on.
    Closed {
        /// Its record.
        record: RecordId,
        /// The window.
        window: WindowIndex,
    },
    /// As a miner: train and sign a contribution.
    Train {
        /// The window.
        window: WindowIndex,
    },
    /// As a validator: sign this.
    Sign(Unsigned),
    /// As a validator: release the window's hash-chain value.
    Reveal {
        /// The window.
        window: WindowIndex,
    },
    /// As a validator: replay and evaluate, then [`Measured::Judged`].
    Judge(JudgePlan),
    /// As a validator: replay a contribution that others refuse, or of which they claim replays that contradict
    /// each other, then [`Measured::Confirmed`].
    Confirm {
        /// The open window.
        window: WindowIndex,
        /// What it is about.
        subject: Subject,
        /// What it takes.
        task: Box<ReplayTask>,
        /// What another validator says; nothing where matches contradict each other.
        claimed: Option<Refusal>,
    },
    /// As a validator: apply the aggregated deltas to the window's checkpoint, then [`Measured::Applied`].
    Apply {
        /// The window.
        window: WindowIndex,
        /// The outcomes, to be given back with the result.
        outcomes: Vec<Outcome>,
        /// The aggregated deltas in miner order.
        deltas: Vec<(PublicKey, BlobId)>,
    },
    /// As a validator: give [`Input::Deadline`] after this time, counted from the first time that this was said.
    Timer {
        /// The window.
        window: WindowIndex,
        /// The phase.
        phase: Phase,
        /// Milliseconds.
        after_ms: u64,
    },
    /// As a validator: something that another validator says is not what this node finds, so it does not vote for it.
    Dispute(Dispute),
}

/// Two nodes of a run find different facts. One of them is wrong; the slow kernels and an audit tell which.
#[derive(Debug, Clone, PartialEq)]
pub enum Dispute {
    /// A refusal that this node's own replay does not bear out.
    Refusal {
        /// Who refuses.
        validator: PublicKey,
        /// Whom.
        miner: PublicKey,
        /// The reason.
        claimed: Refusal,
        /// What this node found.
        found: Replay,
    },
    /// A match whose proof is not what this node's own replay gives.
    Proof {
        /// Who claims it.
        validator: PublicKey,
        /// The contribution's window.
        window: WindowIndex,
        /// Its miner.
        miner: PublicKey,
    },
    /// A record whose aggregate, checkpoint or held-out loss is not this node's.
    Record {
        /// The record.
        record: RecordId,
        /// What this node computed.
        found: Stepped,
    },
}

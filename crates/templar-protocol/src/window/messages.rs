//! The inputs and outputs of a node.
//!
//! Inputs carry integers and bytes only. Outputs name work and never how it is done. A driver may carry out
//! outputs in any order and more than once.

use std::sync::Arc;

use templar_manifest::{
    BlobId, Contest, Cut, Envelope, Hash, Inbox, Kind, LateVerdict, Outcome, Payload, PublicKey, RecordId, Refusal,
    Replay, RevealSet, Score, ScoreEntry, SecretKey, Signed, Vote, VoteOn, WindowIndex, WindowRecord, payload,
};

use super::reject::Reject;
use super::verified::{Opened, ProposedRecord, Verified};
use crate::entry::{Entry, RecordEntry};
use crate::run::replay::ReplayTask;
use crate::run::{EvaluationTask, JudgePlan, Stepped, Tried};

/// The phases of a window that have a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Miners contribute; it ends with the inboxes and the cut.
    Commit,
    /// Validators reveal their values; it ends with the agreed set of values and the seed.
    Reveal,
    /// Validators judge; it ends with the record.
    Judge,
    /// A wait in an attempt to agree on a cut or record.
    Vote {
        /// The decision that the attempt is on.
        on: VoteOn,
        /// The number of the attempt.
        attempt: u32,
        /// The message that the validator waits for.
        wait: VoteWait,
    },
}

/// The message that a validator waits for in an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VoteWait {
    /// A proposal that it finds right. Without one it prevotes none.
    Prevote,
    /// A polka, which are prevotes for one value by more than two thirds of the stake, once enough have
    /// prevoted. Without one it precommits none.
    Precommit,
    /// A certificate, once enough have precommitted. Without one it goes on to the next attempt.
    Next,
}

/// An input of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// An entry arrived: from a peer, from the journal, or from this node's own key.
    Entry(Entry),
    /// An entry arrived whose signature this process has checked already.
    Verified(Verified),
    /// The deadline of a phase has passed.
    Deadline {
        /// The window that it concerns.
        window: WindowIndex,
        /// The phase that it concerns.
        phase: Phase,
    },
    /// The work that an output asked for is done.
    Measured(Measured),
}

/// The result of work that needs tensors.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    /// The work of [`Output::Judge`] is done.
    Judged {
        /// The window that it concerns.
        window: WindowIndex,
        /// The seed of the plan.
        seed: Hash,
        /// One entry for each contribution of the cut, sorted by miner.
        entries: Vec<ScoreEntry>,
        /// The verdicts on the plan's late tasks, sorted by window, then miner. Tasks that could not be
        /// replayed yet are left out.
        verdicts: Vec<LateVerdict>,
        /// What the plan's spot checks found wrong.
        contests: Vec<Contest>,
    },
    /// The work of [`Output::Confirm`] is done.
    Confirmed {
        /// The window that is open.
        window: WindowIndex,
        /// The subject that was asked about.
        subject: Subject,
        /// The last leaf that was compared, as the task says.
        upto: Option<u32>,
        /// The result of this node's own replay: a match up to there, or a refusal.
        replay: Replay,
        /// For a match, the short form of the claim that each drawn validator must make, for the draws of the task in
        /// their order. Empty for a refusal.
        witnesses: Vec<u64>,
    },
    /// The work of [`Output::Remeasure`] is done.
    Remeasured {
        /// The window that is open.
        window: WindowIndex,
        /// The subject that was asked about.
        subject: Subject,
        /// The result of this node's own measurement.
        found: Tried,
    },
    /// The work of [`Output::Apply`] is done.
    Applied {
        /// The window that it concerns.
        window: WindowIndex,
        /// The outcomes whose deltas were applied.
        outcomes: Vec<Outcome>,
        /// The result of the outer step.
        stepped: Stepped,
    },
}

impl Measured {
    /// The open window when the work was asked for.
    pub fn window(&self) -> WindowIndex {
        match self {
            Self::Judged { window, .. }
            | Self::Confirmed { window, .. }
            | Self::Remeasured { window, .. }
            | Self::Applied { window, .. } => *window,
        }
    }
}

/// A contribution about which validators contradict each other, together with the seed of their scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The seed of the open window, with which replays of its contributions were drawn.
    pub seed: Hash,
    /// The window of the contribution.
    pub window: WindowIndex,
    /// The miner of the contribution.
    pub miner: PublicKey,
}

/// A manifest that a node is asked to sign.
#[derive(Debug, Clone, PartialEq)]
pub enum Unsigned {
    /// The contributions and registrations that it has received.
    Inbox(Inbox),
    /// The cut, for all to vote on.
    Cut(Cut),
    /// The values that count, for all to vote on.
    Reveals(RevealSet),
    /// Its judgement of the window.
    Score(Score),
    /// The record, for all to vote on. Its header is signed.
    Window(Box<WindowRecord>),
    /// A vote on a cut, reveal set or record.
    Vote(Vote),
}

impl Unsigned {
    /// The kind of the manifest.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Inbox(_) => Kind::Inbox,
            Self::Cut(_) => Kind::Cut,
            Self::Reveals(_) => Kind::Reveals,
            Self::Score(_) => Kind::Score,
            Self::Window(_) => Kind::Window,
            Self::Vote(_) => Kind::Vote,
        }
    }

    /// Signs the manifest. The entry must be in the journal before it is sent.
    pub fn sign(self, key: &SecretKey) -> Entry {
        self.seal(key).entry().clone()
    }

    /// Signs the manifest, and gives the entry as one whose signature needs no verification. It must be in the journal
    /// before it is sent. `key` must be that of the validator for which the node made the manifest, since nobody checks
    /// it here.
    pub fn seal(self, key: &SecretKey) -> Verified {
        let (opened, envelope) = match self {
            Self::Window(record) => {
                let WindowRecord { header, body } = *record;
                let bytes = payload::encode(&body);
                let (signed, header) = Signed::seal(header, key);
                let entry = Entry::Record(Box::new(RecordEntry { header, body: bytes }));
                return Verified::of(entry, Opened::Window(ProposedRecord::of(&signed, body)));
            }
            Self::Inbox(inbox) => sealed(inbox, key, Opened::Inbox),
            Self::Cut(cut) => sealed(cut, key, Opened::Cut),
            Self::Reveals(set) => sealed(set, key, Opened::Reveals),
            Self::Score(score) => sealed(score, key, Opened::Score),
            Self::Vote(vote) => sealed(vote, key, Opened::Vote),
        };
        Verified::of(Entry::Envelope(envelope), opened)
    }
}

fn sealed<T: Payload>(payload: T, key: &SecretKey, open: fn(Signed<T>) -> Opened) -> (Opened, Envelope) {
    let (signed, envelope) = Signed::seal(payload, key);
    (open(signed), envelope)
}

/// An event, or work to do. The first five are events. The others are work, which [`crate::Node::todo`] repeats
/// until it is done or no longer wanted.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// An entry is new and valid: keep it in the journal, then pass it on.
    Accepted {
        /// The window of the entry.
        window: WindowIndex,
        /// The entry with its checked signature.
        entry: Verified,
    },
    /// An entry that was held turned out to be invalid.
    Dropped {
        /// The entry with its checked signature.
        entry: Verified,
        /// The rule that it breaks.
        reject: Reject,
    },
    /// A cut, reveal set or record that was taken in turned out to be wrong. Its signer could have known.
    Wrong {
        /// The kind of the manifest: `cut`, `reveals` or `window`.
        kind: &'static str,
        /// The key that signed it.
        signer: PublicKey,
        /// The id of the cut, reveal set or record.
        id: Hash,
        /// The rule that it breaks.
        reject: Reject,
    },
    /// A signer made two statements where one is allowed.
    Equivocation {
        /// `contribution`, `inbox`, `score` or `vote`.
        kind: &'static str,
        /// The key that signed both.
        signer: PublicKey,
        /// Id of the first payload.
        first: Hash,
        /// Id of the second payload.
        second: Hash,
    },
    /// A window is closed, and the state has moved on.
    Closed {
        /// The id of its record.
        record: RecordId,
        /// The window that it concerns.
        window: WindowIndex,
    },
    /// Work of a miner: train and sign a contribution.
    Train {
        /// The window that it concerns.
        window: WindowIndex,
    },
    /// Work of a validator: sign this manifest.
    Sign(Unsigned),
    /// Work of a validator: release the hash-chain value of the window.
    Reveal {
        /// The window that it concerns.
        window: WindowIndex,
    },
    /// Work of a validator: replay and measure what was drawn, then give [`Measured::Judged`].
    Judge(Arc<JudgePlan>),
    /// Work of a validator: replay a contribution that others refuse, or about which their proofs contradict
    /// each other, then give [`Measured::Confirmed`].
    Confirm {
        /// The window that is open.
        window: WindowIndex,
        /// The contribution in question.
        subject: Subject,
        /// The task of replaying it, as far as the statements differ.
        task: Box<ReplayTask>,
        /// The refusal of another validator; none if matches contradict each other.
        claimed: Option<Refusal>,
    },
    /// Work of a validator: measure a contribution about which the measurements of others contradict each other, or
    /// one of the window before whose measurement is contested, then give [`Measured::Remeasured`].
    Remeasure {
        /// The window that is open.
        window: WindowIndex,
        /// The contribution in question.
        subject: Subject,
        /// The task of measuring it.
        task: Box<EvaluationTask>,
    },
    /// Work of a validator: apply the aggregated deltas to the window's checkpoint, then give
    /// [`Measured::Applied`].
    Apply {
        /// The window that it concerns.
        window: WindowIndex,
        /// The outcomes, which [`Measured::Applied`] repeats.
        outcomes: Vec<Outcome>,
        /// The miners and blobs of the aggregated deltas, in the order of miners.
        deltas: Vec<(PublicKey, BlobId)>,
    },
    /// Work of a validator: give [`Input::Deadline`] after this time, counted from the first time that this
    /// output was given.
    Timer {
        /// The window that it concerns.
        window: WindowIndex,
        /// The phase that it concerns.
        phase: Phase,
        /// The time in milliseconds.
        after_ms: u64,
    },
    /// A validator disagrees with another one's statement and does not vote for it.
    Dispute(Dispute),
}

/// A difference between the findings of two nodes. One of them is wrong. The slow kernels and an audit tell
/// which.
#[derive(Debug, Clone, PartialEq)]
pub enum Dispute {
    /// A refusal that this node's own replay does not confirm.
    Refusal {
        /// The validator that refuses.
        validator: PublicKey,
        /// The miner that is refused.
        miner: PublicKey,
        /// The refusal that the validator claims.
        claimed: Refusal,
        /// The result of this node's own replay.
        found: Replay,
    },
    /// A match whose proof differs from what this node's own replay gives.
    Proof {
        /// The validator that claims the match.
        validator: PublicKey,
        /// The window of the contribution.
        window: WindowIndex,
        /// The miner of the contribution.
        miner: PublicKey,
    },
    /// A measurement that differs from what this node measures.
    Measurement {
        /// The validator that states it.
        validator: PublicKey,
        /// The miner of the contribution.
        miner: PublicKey,
    },
    /// A record whose aggregate, checkpoint or held-out loss differs from what this node computed.
    Record {
        /// The id of the record.
        record: RecordId,
        /// The outer step that this node computed.
        found: Stepped,
    },
}

//! The rules of a run as a pure state machine: no clock, no randomness, no sockets, no files, and no floats but those
//! in which a rating is computed, exact to the bit, between integers.
//!
//! Everything that nodes decide is decided here, from bytes that anybody can check, so that a simulator, a node and an
//! audit cannot disagree about the rules.
//!
//! * **Entries** ([`Entry`]) are what nodes exchange and keep: signed manifests, and hash-chain values.
//! * **The state** ([`RunState`]) is the fold over the closed windows: who continues from which state, standings, ledger,
//!   unused pages, the seed. Each rule is one of its functions, and each is a function of its arguments alone.
//! * **The members** ([`Members`]) have the slots. Whoever pays with work or by burning joins, from the next window on; a
//!   validator can refuse nobody, and where all slots are taken the member that was worth least is replaced.
//! * **The Gauntlet** is what a window does to a [`Standing`]: [`RunState::assessment`] gives every step of it as a
//!   [`Change`], from the numbers of a score and the table of penalties in genesis. Whoever has the records has all
//!   standings, rows and weights to the integer.
//! * **Replay** makes cheating lose money: each validator draws what it replays with its own hash-chain value and proves that it
//!   did, verdicts come before the record or within some windows of it, pay vests, and a mismatch burns what has not.
//!   [`ReplayTask`] is the work; the inequality that genesis must hold is derived in [`replay`].
//! * **Challenges** keep a miner from hiding what it did: whoever was drawn and cannot have the state that a replay begins with says so in
//!   its score, everybody looks for it, and a miner that more than half of all stake asked in vain pays as for a mismatch
//!   (`run/challenges.rs` says why a minority can neither burn nor shield).
//! * **Evidence** ([`evidence`]) is two statements that cannot both be meant, handed in by anybody, shown in a score, and costs their
//!   signer its pay.
//! * **The node** ([`Node`]) is the open window on top of the state. [`Node::step`] takes one input and says what
//!   happened; [`Node::todo`] says what should be under way now and is derived from the state alone, so that a node that
//!   restarts folds its journal and goes on.
//!
//! The way of a window: contributions and registrations → inboxes → cut (certified) → reveals → seed → scores → record (certified).
//! Certified means that validators with more than two thirds of the stake have voted so in one attempt; whoever is silent
//! or lies, with less than a third no two cuts or records are certified, and the window closes (`window/ballot.rs` says why).
//! Validity of an entry never depends on when it came: what cannot be checked yet is held, within bounds, and looked at
//! again; and what others build on is taken, whatever its signer has said besides.
//!
//! What is not here yet, and so is not claimed:
//!
//! * Evidence of anything but contradictions: two statements of one signer are shown, and the record burns for it. A proof or refusal that replays refute is found and not counted while its window is open, and nothing is burnt for it; a
//!   loss that was not measured is found by audits, and nothing follows.
//! * Challenges before the record: a state that is kept there keeps the contribution out and unpaid, mostly as `not-replayed`, and
//!   costs nothing else.
//! * A proof that losses were measured. They are of pages drawn for their validator alone, so that a copied loss is a wrong one,
//!   which an audit finds and other validators do not look for.
//! * Comparison of proofs where one validator alone replays a contribution, or where the others that were drawn are away.
//! * Changes of validators and of their keys, bonds, and transfers: what is burnt for a slot was earned in the run.
//! * Two certified records of one window: with less than a third of the stake faulty there are none.

mod cache;
mod entry;
mod gauntlet;
mod ledger;
mod run;
pub mod stake;
mod window;

#[cfg(test)]
mod tests;

pub use entry::{Entry, EntryError, EvidenceEntry, MAX_ENTRY_BYTES, RevealEntry};
pub use gauntlet::{Assessment, Cause, Change, Copied, History, Rating, Standing};
pub use ledger::{Account, Grant, Ledger};
pub use run::members::{Anchor, Member, Members};
pub use run::replay::ReplayTask;
pub use run::{
    AdvanceError, Assignment, ClosedWindow, CutError, GenesisError, JudgePlan, Judgement, Judging, JudgingError,
    PageDraw, Parent, RecordField, RegistrationError, RunState, ScoreError, Stepped, VerdictError, VoteCertificate,
    Witness, evidence, replay,
};
pub use window::{Dispute, Input, Measured, Node, Output, Phase, Reject, Subject, Unsigned, Verified, VoteWait};

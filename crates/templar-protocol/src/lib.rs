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
//! * **Evidence** ([`evidence`]) is two statements that cannot both be meant, shown in a score, and costs their signer its pay.
//! * **The node** ([`Node`]) is the open window on top of the state. [`Node::step`] takes one input and says what
//!   happened; [`Node::todo`] says what should be under way now and is derived from the state alone, so that a node that
//!   restarts folds its journal and goes on.
//!
//! The way of a window: contributions → inboxes → cut (certified) → reveals → seed → scores → record (certified).
//! Certified means that validators with more than two thirds of the stake have voted so in one attempt; whoever is silent
//! or lies, with less than a third no two cuts or records are certified, and the window closes (`node/ballot.rs` says why).
//! Validity of an entry never depends on when it came: what cannot be checked yet is held, within bounds, and looked at
//! again; and what others build on is taken, whatever its signer has said besides.
//!
//! What is not here yet, and so is not claimed:
//!
//! * A penalty for a validator that signs two things where one is allowed, or refuses falsely ([`Output::Equivocation`],
//!   [`Dispute`]): it is found out, and loses nothing but what it does not earn.
//! * A second replay of what a validator was drawn to replay whose score is left out: the contribution is `not-replayed`.
//! * Sampled replay: every contribution is replayed before its window closes.
//! * A price for a validator that withholds its hash-chain value, and proof that a validator's numbers are its own work.
//! * Changes of validators and of their keys, bonds, and transfers: what is burnt for a slot was earned in the run.
//! * Expulsion: whoever is refused keeps its slot until a newcomer takes it.
//! * Two certified records of one window: with less than a third of the stake faulty there are none.

mod consensus;
mod draw;
mod entry;
pub mod evidence;
mod gauntlet;
mod ledger;
mod members;
mod node;
pub mod replay;
pub mod stake;
mod state;

#[cfg(test)]
mod tests;

pub use draw::PageDraw;
pub use entry::{Entry, EntryError, MAX_ENTRY_BYTES, RevealEntry};
pub use gauntlet::{Assessment, Cause, Change, Copied, History, Rating, Standing};
pub use ledger::{Account, Grant, Ledger};
pub use node::{Dispute, Document, Input, Measured, Node, Output, Phase, Reject, Verified, VoteWait};
pub use state::{
    AdvanceError, Assignment, Certificate, ClosedWindow, CutError, GenesisError, JudgePlan, Judging, JudgingError,
    Parent, RunState, ScoreError, Stepped, Witness,
};

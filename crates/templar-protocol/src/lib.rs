//! The rules of a run as a pure state machine: no clock, no randomness, no sockets, no files, no floats.
//!
//! Everything that nodes decide is decided here, from bytes that anybody can check, so that a simulator, a node and an
//! audit cannot disagree about the rules.
//!
//! * **Entries** ([`Entry`]) are what nodes exchange and keep: signed manifests, and hash-chain values.
//! * **The state** ([`RunState`]) is the fold over the closed windows: who continues from which state, ratings, ledger,
//!   unused pages, the seed. Each rule is one of its functions, and each is a function of its arguments alone.
//! * **The node** ([`Node`]) is the open window on top of the state. [`Node::step`] takes one input and says what
//!   happened; [`Node::todo`] says what should be under way now and is derived from the state alone, so that a node that
//!   restarts folds its journal and goes on.
//!
//! The way of a window: contributions → inboxes → cut (certified) → reveals → seed → scores → record (certified).
//! Certified means signed by validators with more than two thirds of the stake. Validity of an entry never depends on
//! when it came: what cannot be checked yet is held, within bounds, and looked at again.
//!
//! What is not here yet, and so is not claimed:
//!
//! * Rotation of a proposer that is silent: window `N` is proposed by validator `N mod n`, and without it the window
//!   waits. The same holds where validators contradict each other about a refusal, see [`Dispute`].
//! * Sampled replay: every contribution is replayed before its window closes.
//! * Overlap between deltas, the proof-of-computation sign, OpenSkill: a rating is a moving average of the gain on
//!   unassigned pages.
//! * Registration after genesis, changes of validators, bonds, transfers, penalties for withholding.
//! * Two certified records of one window: with less than a third of the stake faulty there are none.

mod consensus;
mod draw;
mod entry;
mod ledger;
mod node;
pub mod stake;
mod state;

#[cfg(test)]
mod tests;

pub use draw::PageDraw;
pub use entry::{Entry, EntryError, MAX_ENTRY_BYTES, RevealEntry};
pub use ledger::{Account, Grant, Ledger};
pub use node::{Dispute, Document, Input, Measured, Node, Output, Phase, Reject};
pub use state::{
    AdvanceError, Assignment, ClosedWindow, CutError, GenesisError, JudgePlan, Judging, JudgingError, Parent, RunState,
    ScoreError, Stepped, Witness,
};

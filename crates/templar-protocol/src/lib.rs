//! The rules of a run as a pure state machine.
//!
//! This crate decides everything that the nodes of a run decide together. It has no clock, no randomness, no
//! sockets and no files, and no floats except those of the rating, whose arithmetic is exact to the bit. Every
//! decision follows from bytes that anybody can check, so a simulator, a node and an audit cannot disagree
//! about the rules. Losses, overlaps and the results of replays need tensors; they come in as integers.
//!
//! # A window
//!
//! 1. **Contribute.** Miners train and sign contributions. Newcomers sign registrations.
//! 2. **Cut.** Each validator signs an inbox: the contributions and registrations that it received. The *cut*
//!    follows from the inboxes, and validators certify it by votes.
//! 3. **Reveal.** Miners serve their deltas, and validators reveal their hash-chain values and certify the set
//!    of those that count. The *seed* follows from cut and set, and never changes.
//! 4. **Judge.** The seed decides who replays and who measures which contribution, and on which pages. Each
//!    validator signs a score.
//! 5. **Close.** The *record* follows from the cut, the reveals and the scores. Its body has outcomes, weights
//!    and pay. Its header names the body, the next checkpoint, the root of the state after the window, and the
//!    root of the next validators. Validators certify the header, and the next window opens.
//!
//! Certified means that validators with more than two thirds of the stake have voted for it in one attempt.
//! With less than a third of the stake faulty, no two cuts, reveal sets or records of one window are certified, and
//! every window closes. `window/ballot.rs` has the rules of voting and the argument.
//!
//! # The parts
//!
//! * **Entries** ([`Entry`]) are what nodes exchange and keep in a journal: signed manifests, hash-chain
//!   values, and evidence.
//! * **The run** ([`RunState`], `run/`) is the fold over the closed windows: members, standings, ledger, unused
//!   pages, the seed. Each rule is a method of it and a function of its arguments alone.
//! * **The state tree** ([`StateKey`], `run/state.rs`) has one entry for every fact that the next window follows
//!   from. Its root is in the header of each record, so a single balance, member or standing can be proven.
//! * **A certified state** ([`CertifiedState`], `run/certified.rs`) is a copy of the state with the header that names
//!   its root. It proves itself, so a node begins from it as well as from genesis.
//! * **Members** ([`Members`]) hold the slots. Anybody joins from the next window on by proof of work or by
//!   burning ALPHA. No validator can refuse a newcomer. Where all slots are taken, the member with the lowest
//!   average weight is replaced, and of equal ones the newest.
//! * **Evaluation** (`run/evaluation.rs`) makes losses facts. All deltas of a window are tried on the same pages.
//!   A few drawn validators measure each and prove it, and the record repeats their integers.
//! * **The Gauntlet** (`gauntlet/`) is how a window changes the [`Standing`] of a miner.
//!   [`RunState::assessment`] gives every step of it as a [`Change`], so anybody with the records can explain
//!   every weight.
//! * **The ledger** ([`Ledger`], `ledger/`) mints for proven work, and lets pay vest.
//! * **Replay** ([`replay`]) makes cheating lose money. Each validator draws contributions with its own
//!   hash-chain value, replays them and proves it. Pay vests, and a mismatch slashes the pay that has not. The
//!   module derives the inequality that a genesis must satisfy.
//! * **Challenges** (`run/challenges.rs`) keep a miner from hiding the bytes that a replay needs. If more than
//!   half of all stake cannot fetch them in time, the miner pays as for a mismatch.
//! * **Evidence** ([`evidence`]) is a proof that a signer contradicted itself. Anybody hands it in, a score
//!   shows it, and the record slashes the signer's unvested pay.
//! * **The node** ([`Node`], `window/`) is the open window on top of the run. [`Node::step`] takes one input
//!   and says what happened. [`Node::todo`] says what the node should do now. It follows from the state alone,
//!   so a node that restarts folds its journal and goes on.
//!
//! The validity of an entry never depends on when it came. An entry that cannot be checked yet is held, within
//! bounds, and checked later. An entry that others build on is taken in even beyond the bounds of its signer.
//!
//! # Limits
//!
//! * Only contradictions are evidence. If a node's own computation refutes a replay or a measurement while the
//!   window is open, the score is not counted, and its signer is not slashed.
//! * A challenge needs a closed window. If a miner withholds its state before the record, its contribution is
//!   refused (mostly as `not-replayed`) and unpaid, and that is all.
//! * Validators that share measurements in private cannot be told apart from validators that each measured.
//!   If all validators that are drawn for a contribution lie alike, only an audit finds it.
//! * A validator that reveals and then gives no score is not replaced in its measurements. If none of those drawn
//!   for a contribution has a counted score, it counts as not measured, which costs the miner nothing.
//! * Proofs of replay are compared only where at least two validators replay a contribution and are present.
//! * Validators and their keys never change, and there are no bonds and no transfers: ALPHA that is burnt for a
//!   slot was earned in the run.
//! * If a third of the stake or more is faulty, a window may have two certified records. The crate does not
//!   resolve that.
//!
//! # Example
//!
//! The start of a run, and the pages that its first miner trains on in window 0:
//!
//! ```
//! use std::sync::Arc;
//!
//! use templar_manifest::chain::Chain;
//! use templar_manifest::testing::GenesisBuilder;
//! use templar_manifest::{CheckpointId, SecretKey, StateId, ValidatorSpec, WindowIndex};
//! use templar_protocol::RunState;
//!
//! let (validator, miner) = (SecretKey::from_bytes(&[1; 32]), SecretKey::from_bytes(&[2; 32]));
//! let name = "an example run";
//! let anchor = Chain::insecure(&validator, name).anchor();
//! let genesis = GenesisBuilder::tiny(name)
//!     .validators([ValidatorSpec { key: validator.public(), stake: 1, chain_anchor: anchor }])
//!     .members_and_cheap_slots(vec![miner.public()])
//!     .build();
//!
//! let dataset_tokens = 1_601; // 100 pages of 16 tokens
//! let state = RunState::new(Arc::new(genesis), CheckpointId::default(), StateId::default(), dataset_tokens)?;
//! assert_eq!(state.window(), WindowIndex(0));
//! // Three inner steps of two sequences are six pages, drawn from the seed: the same on every machine.
//! assert_eq!(state.pages_of(&miner.public()).map(|pages| pages.len()), Some(6));
//! # Ok::<(), templar_protocol::GenesisError>(())
//! ```

mod cache;
mod entry;
mod gauntlet;
mod ledger;
mod run;
pub mod stake;
mod window;

#[cfg(test)]
mod tests;

pub use entry::{Entry, EntryError, EvidenceEntry, MAX_ENTRY_BYTES, RecordEntry, RevealEntry};
pub use gauntlet::{Assessment, Cause, Change, Copied, History, Payable, Rating, Standing, Worth};
pub use ledger::{Account, Grant, Ledger};
pub use run::members::{Anchor, Member, Members};
pub use run::replay::ReplayTask;
pub use run::{
    AdvanceError, Assignment, CertifiedState, CertifiedStateError, ClosedWindow, ContestError, CutError,
    EvaluationTask, GenesisError, JudgePlan, Judgement, Judging, JudgingError, MAX_STATE_BYTES, PageDraw, Parent,
    RecordField, RegistrationError, RunState, ScoreError, SpotCheck, StateKey, Stepped, Tried, VerdictError,
    VoteCertificate, WindowPay, Witness, evidence, replay,
};
pub use window::{Dispute, Input, Measured, Node, Output, Phase, Reject, Subject, Unsigned, Verified, VoteWait};

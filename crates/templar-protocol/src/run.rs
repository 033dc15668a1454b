//! The state of a run before a window: the fold over the closed windows.
//!
//! Two nodes with the same records have equal states, even if they received different entries. The rules are
//! methods of [`RunState`], here and in the files of `run/`, one file for each step of a window: contribution
//! ([`RunState::check_claims`]), `cut`, `judge`, `score`, `close`, `advance`.

mod advance;
mod assignment;
mod by_stake;
mod certified;
mod challenges;
mod close;
mod closed;
mod closing;
mod cut;
mod difference;
pub(crate) mod draw;
mod evaluation;
mod evaluation_task;
pub mod evidence;
mod findings;
mod judge;
mod judged;
mod judging;
mod late;
mod measurements;
pub(crate) mod members;
mod pending;
mod refuted;
mod registration;
pub mod replay;
mod score;
mod slashes;
mod spot_checks;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::{
    CheckpointId, Contradiction, Contribution, ContributionId, Cut, CutId, Genesis, Hash, InboxId, Payload as _,
    PublicKey, RecordId, Refuted, RunId, ScoreId, StateId, WindowIndex, chain, page_count, payload, tree::Tree,
};

pub use assignment::Assignment;
pub use certified::{CertifiedState, CertifiedStateError, MAX_STATE_BYTES};
pub use close::WindowPay;
pub use closed::{AdvanceError, ClosedWindow, VoteCertificate, Witness};
pub(crate) use closing::OwnRecord;
pub use closing::Stepped;
pub use cut::CutError;
pub use difference::RecordField;
pub use draw::PageDraw;
pub(crate) use evaluation_task::StatedTrial;
pub use evaluation_task::{EvaluationTask, SpotCheck, Tried};
pub use judge::JudgingError;
pub(crate) use judging::most_contests;
pub use judging::{JudgePlan, Judgement, Judging};
pub use late::VerdictError;
pub use registration::RegistrationError;
pub use score::ScoreError;
pub use spot_checks::ContestError;
pub use state::StateKey;

use crate::cache::Cache;
use crate::gauntlet::{Standing, Standings};
use crate::ledger::Ledger;
use evidence::EvidenceError;
use measurements::Measurements;
use members::Members;
use pending::Pending;

const FIRST_SEED_CONTEXT: &str = "templar/1 seed before the first window";

/// Why a run cannot be started from a genesis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// A field of the genesis breaks a rule of its kind.
    #[error("genesis breaks a rule: {0}")]
    Rule(String),
    /// The dataset is too small for the pages that one window needs.
    #[error(
        "dataset has {pages} training pages of {length} tokens and window {window} needs {needed}: {slots} slots of \
         {per_slot}, and {unassigned} that nobody is assigned"
    )]
    TooFewPages {
        /// The first window that needs so many pages.
        window: u64,
        /// The number of tokens that a page predicts from that window on.
        length: u32,
        /// The number of training pages of the dataset.
        pages: u64,
        /// The number of pages that the window needs; `u128` because a hostile genesis may ask for anything.
        needed: u128,
        /// The number of slots.
        slots: u64,
        /// The number of pages that each slot is assigned.
        per_slot: u64,
        /// The number of pages that stay unassigned, for evaluation.
        unassigned: u64,
    },
    /// The run has more windows than a hash chain has values.
    #[error("genesis asks for {windows} windows, a hash chain serves {limit}")]
    TooManyWindows {
        /// The windows that genesis asks for.
        windows: u64,
        /// The windows that a chain has values for.
        limit: u64,
    },
    /// The emission of the longest run does not fit into 64 bits.
    #[error("emission.per_window_micros {0} over the longest run does not fit into 64 bits")]
    Emission(u64),
}

/// A miner's last recorded contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The id of the contribution.
    pub contribution: ContributionId,
    /// The state that the contribution left, from which the miner goes on.
    pub state_out: StateId,
}

/// Facts that follow from genesis by tensors and files, which this crate does not have. Its caller tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    zero_state: StateId,
    training_tokens: u64,
}

/// Facts about past contributions that later rules need.
#[derive(Debug, Clone, PartialEq, Default)]
struct Contributed {
    /// Each miner's last recorded contribution, from whose state it may go on.
    parents: BTreeMap<PublicKey, Parent>,
    /// The first miner and window with each delta's body, for as many windows as genesis says. So a later copy
    /// is recognised.
    bodies: BTreeMap<Hash, (WindowIndex, PublicKey)>,
    /// The closed windows for which verdicts still count.
    pending: BTreeMap<WindowIndex, Arc<Pending>>,
}

/// Past offences, and the keys that can still be held to account.
#[derive(Debug, Clone, PartialEq, Default)]
struct Offences {
    /// Former node keys, each with its owner and the window that recorded the change, as long as their
    /// statements may be evidence.
    former_nodes: BTreeMap<PublicKey, (PublicKey, WindowIndex)>,
    /// The window that recorded each miner's last mismatch that counts as one.
    strikes: BTreeMap<PublicKey, WindowIndex>,
    /// The owners that lost their slot for good.
    expelled: BTreeSet<PublicKey>,
    /// The accounts that have paid for contradicting themselves in a window, as long as the same evidence could
    /// be shown again.
    convicted: BTreeSet<(WindowIndex, PublicKey)>,
}

/// Everything that the closed windows decide about the open one. It is built by [`RunState::new`] and moved on by
/// [`RunState::advance`].
#[derive(Debug, Clone, PartialEq)]
pub struct RunState {
    genesis: Arc<Genesis>,
    run: RunId,
    told: Told,
    window: WindowIndex,
    seed: Hash,
    checkpoint: CheckpointId,
    record: Option<RecordId>,
    members: Members,
    contributed: Contributed,
    /// The measurements of the window before that scores may contest; `None` where no spot checks are made.
    measurements: Option<Arc<Measurements>>,
    standings: Standings,
    ledger: Ledger,
    pages: PageDraw,
    /// The last recorded chain value of each validator, and its window.
    chains: BTreeMap<PublicKey, (WindowIndex, Hash)>,
    offences: Offences,
    /// All of the above but window, record and checkpoint, as entries of one tree.
    tree: Tree,
    /// Results that follow from this state and from entries of the open window, for all nodes of a process that
    /// share the state.
    shared: SharedWork,
}

/// Results that nodes at the same state compute once for all of them.
#[derive(Debug, Clone, PartialEq, Default)]
struct SharedWork {
    /// The cut and its id, by the ids of its inboxes, ascending.
    cuts: Cache<Vec<InboxId>, (CutId, Cut)>,
    /// The judging, by the cut and the reveals.
    judgings: Cache<(CutId, Vec<(PublicKey, Hash)>), Judging>,
    /// The record and what follows, by the scores, ascending, and the outer step. Scores name cut and seed.
    records: Cache<(Vec<ScoreId>, Vec<Refuted>, Stepped), OwnRecord<RunState>>,
}

/// The seed before window 0: BLAKE3 (context `templar/1 seed before the first window`) of the run's id.
fn first_seed(run: RunId) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key(FIRST_SEED_CONTEXT);
    hasher.update(run.hash().as_bytes());
    hasher.finalize().into()
}

impl RunState {
    /// Checks that a run can begin from this genesis, on a dataset with `training_tokens` tokens, the held-out
    /// ones not counted.
    ///
    /// # Errors
    /// [`GenesisError`]
    pub fn check(genesis: &Genesis, training_tokens: u64) -> Result<(), GenesisError> {
        genesis.check().map_err(GenesisError::Rule)?;
        let limit = chain::CHAIN_LENGTH + 1;
        if genesis.windows > limit {
            return Err(GenesisError::TooManyWindows { windows: genesis.windows, limit });
        }
        let longest = if genesis.windows == 0 { limit } else { genesis.windows };
        if genesis.emission.per_window_micros.checked_mul(longest).is_none() {
            return Err(GenesisError::Emission(genesis.emission.per_window_micros));
        }
        let slots = u64::from(genesis.registration.slots);
        let unassigned = u64::from(genesis.gauntlet.unassigned_pages);
        for context in genesis.contexts() {
            let (window, length) = (context.from_window, context.sequence_length);
            let (pages, per_slot) = (page_count(training_tokens, length), genesis.pages_per_slot(window));
            let needed = u128::from(slots) * u128::from(per_slot) + u128::from(unassigned);
            if u128::from(pages) < needed {
                return Err(GenesisError::TooFewPages { window, length, pages, needed, slots, per_slot, unassigned });
            }
        }
        Ok(())
    }

    /// The state before window 0.
    ///
    /// Three facts follow from genesis by tensors and files, which this crate does not have, so the caller
    /// computes them: `initial_checkpoint` is the checkpoint that genesis starts from, `zero_state` names the
    /// state of a miner that joins, and `training_tokens` counts the dataset's tokens without the held-out
    /// ones.
    ///
    /// # Errors
    /// [`GenesisError`], as of [`RunState::check`].
    pub fn new(
        genesis: Arc<Genesis>,
        initial_checkpoint: CheckpointId,
        zero_state: StateId,
        training_tokens: u64,
    ) -> Result<Self, GenesisError> {
        Self::check(&genesis, training_tokens)?;
        let run = RunId::new(payload::id_of(&*genesis));
        let seed = first_seed(run);
        let mut state = Self {
            run,
            told: Told { zero_state, training_tokens },
            window: WindowIndex(0),
            seed,
            checkpoint: initial_checkpoint,
            record: None,
            members: Members::first(&genesis.registration, seed),
            contributed: Contributed::default(),
            measurements: None,
            standings: BTreeMap::new(),
            ledger: Ledger::new(genesis.emission.vesting_windows),
            pages: PageDraw::new(page_count(training_tokens, genesis.model.sequence_length)),
            chains: BTreeMap::new(),
            offences: Offences::default(),
            tree: Tree::new(),
            shared: SharedWork::default(),
            genesis,
        };
        state.tree = state.written();
        Ok(state)
    }

    /// The state before window 0 of a run with another id. A vector of draws does not change when a test's
    /// genesis does.
    #[cfg(test)]
    pub(crate) fn of_run(mut self, run: RunId) -> Self {
        self.run = run;
        self.seed = first_seed(run);
        self.members = Members::first(&self.genesis.registration, self.seed);
        self.tree = self.written();
        self
    }

    /// The genesis of the run.
    pub fn genesis(&self) -> &Arc<Genesis> {
        &self.genesis
    }

    /// The id of the run.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The index of the open window.
    pub fn window(&self) -> WindowIndex {
        self.window
    }

    /// The seed of the window before, from which this one's assignment is drawn.
    pub fn seed(&self) -> Hash {
        self.seed
    }

    /// The checkpoint that the open window starts from.
    pub fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// The record of the window before; `None` in window 0.
    pub fn record(&self) -> Option<RecordId> {
        self.record
    }

    /// The zero state, from which every miner may begin.
    pub fn zero_state(&self) -> StateId {
        self.told.zero_state
    }

    /// The members of the open window: they may contribute to it.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// A miner's last recorded contribution.
    pub fn parent(&self, miner: &PublicKey) -> Option<&Parent> {
        self.contributed.parents.get(miner)
    }

    /// The standing of a miner; [`Standing::NEW`] for one that was never judged.
    pub fn standing(&self, miner: &PublicKey) -> Standing {
        self.standings.get(miner).copied().unwrap_or(Standing::NEW)
    }

    /// Whether a miner has lost its slot for good, see `expulsion_windows` of
    /// [`ReplaySpec`](templar_manifest::ReplaySpec).
    pub fn is_expelled(&self, miner: &PublicKey) -> bool {
        self.offences.expelled.contains(miner)
    }

    /// The window that recorded a miner's last strike. A further mismatch soon after it costs the slot.
    pub fn strike(&self, miner: &PublicKey) -> Option<WindowIndex> {
        self.offences.strikes.get(miner).copied()
    }

    /// Checks that two statements are evidence for which a record would slash their signer now.
    ///
    /// # Errors
    /// [`EvidenceError`]: they prove nothing, the signer has no account, its pay of that window is free
    /// already, or it has paid.
    pub fn check_evidence(&self, evidence: &Contradiction) -> Result<(), EvidenceError> {
        let (signer, window) = (&evidence.signer, evidence.window);
        let Some(account) = self.account_of(signer) else {
            return Err(EvidenceError::Stranger(signer.short()));
        };
        if window > self.window || self.window.0 - window.0 > self.genesis.emission.vesting_windows {
            return Err(EvidenceError::Window { signer: signer.short(), window });
        }
        if self.offences.convicted.contains(&(window, account)) {
            return Err(EvidenceError::Paid(signer.short()));
        }
        evidence::check(&self.run, evidence)
    }

    /// The account that pays for the statements of a key: a validator's own, or for a node key its owner's. A
    /// former node key still belongs to its owner.
    pub(crate) fn account_of(&self, signer: &PublicKey) -> Option<PublicKey> {
        let former = || self.offences.former_nodes.get(signer).map(|(owner, _)| *owner);
        match (self.genesis.validator(signer), self.members.by_node(signer)) {
            (Some(validator), _) => Some(validator.key),
            (None, Some(member)) => Some(member.owner),
            (None, None) => former(),
        }
    }

    /// The ledger with all balances.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The pages of the epoch before this window takes its own. A page has this window's sequence length.
    pub fn pages(&self) -> &PageDraw {
        &self.pages
    }

    /// Whether the last window is closed.
    pub fn is_over(&self) -> bool {
        let windows = self.genesis.windows;
        (windows != 0 && self.window.0 >= windows) || self.window.0 > chain::CHAIN_LENGTH
    }

    /// The validator that proposes the cut and the record of the open window in an attempt. Validators take
    /// turns from window to window and from attempt to attempt.
    pub fn proposer(&self, attempt: u32) -> PublicKey {
        let validators = &self.genesis.validators;
        let turn = u128::from(self.window.0) + u128::from(attempt);
        validators[(turn % validators.len() as u128) as usize].key
    }

    /// Checks a contribution's claims against the open window and the miner's last recorded contribution.
    ///
    /// # Errors
    /// The name of the first field that does not fit.
    pub fn check_claims(&self, contribution: &Contribution) -> Result<(), &'static str> {
        let genesis = &self.genesis;
        let state_in = match contribution.parent {
            None => Some(self.told.zero_state),
            Some(parent) => self
                .contributed
                .parents
                .get(&contribution.miner)
                .filter(|last| last.contribution == parent)
                .map(|last| last.state_out),
        };
        let context = genesis.context_at(self.window.0);
        let tokens =
            u128::from(contribution.steps) * u128::from(context.batch_sequences) * u128::from(context.sequence_length);
        for (field, fits) in [
            ("run", contribution.run == self.run),
            ("window", contribution.window == self.window),
            ("miner", self.members.by_owner(&contribution.miner).is_some()),
            ("parent", state_in.is_some()),
            ("state_in", state_in == Some(contribution.state_in)),
            ("steps", (1..=genesis.inner.steps).contains(&contribution.steps)),
            ("tokens", u128::from(contribution.tokens) == tokens),
        ] {
            if !fits {
                return Err(field);
            }
        }
        Ok(())
    }

    /// Whether `value` is the open window's value of a validator's hash chain.
    pub fn check_reveal(&self, validator: &PublicKey, value: &Hash) -> bool {
        let Some(spec) = self.genesis.validator(validator) else { return false };
        let (follower, previous) = match self.chains.get(validator) {
            Some((window, previous)) => (window.next(), previous),
            None => (WindowIndex(0), &spec.chain_anchor),
        };
        if follower == self.window {
            return chain::follows(previous, value);
        }
        // The validator missed windows. The anchor proves the value as well, with a longer walk.
        chain::follows_anchor(&spec.chain_anchor, self.window, value)
    }
}

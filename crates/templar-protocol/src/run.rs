//! The state of a run before a window: the fold over the windows that are closed.
//!
//! Two nodes with the same records have equal states, whatever else they have seen. The rules are methods here and in
//! the files below, one step of a window each: contribution ([`RunState::check_claims`]), cut, judging, score, close,
//! advance.

mod advance;
mod assignment;
mod challenges;
mod close;
mod closed;
mod closing;
mod cut;
mod difference;
mod draw;
pub mod evidence;
mod judge;
mod judging;
mod late;
pub(crate) mod members;
mod pending;
mod registration;
pub mod replay;
mod score;
mod slashes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::{
    CheckpointId, Contradiction, Contribution, ContributionId, Cut, CutId, Genesis, Hash, InboxId, Payload as _,
    PublicKey, RecordId, RunId, StateId, WindowIndex, chain, page_count, payload,
};

pub use assignment::Assignment;
pub use closed::{AdvanceError, ClosedWindow, VoteCertificate, Witness};
pub(crate) use closing::Closing;
pub use closing::Stepped;
pub use cut::CutError;
pub use difference::RecordField;
pub use draw::PageDraw;
pub use judge::JudgingError;
pub(crate) use judging::reveals_of;
pub use judging::{JudgePlan, Judgement, Judging};
pub use late::VerdictError;
pub use registration::RegistrationError;
pub use score::ScoreError;

use crate::cache::Cache;
use crate::gauntlet::{Standing, Standings};
use crate::ledger::Ledger;
use evidence::EvidenceError;
use members::Members;
use pending::Pending;

const FIRST_SEED_CONTEXT: &str = "templar/1 seed before the first window";

/// Why a run cannot be started from a genesis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// A field breaks a rule of the kind.
    #[error("genesis breaks a rule: {0}")]
    Rule(String),
    /// The dataset is too small for one window and its evaluation.
    #[error(
        "dataset has {pages} training pages of {length} tokens and window {window} needs {needed}: {slots} slots of \
         {per_slot}, and {unassigned} that nobody is assigned"
    )]
    TooFewPages {
        /// The first window that needs so many.
        window: u64,
        /// Tokens that a page predicts from that window on.
        length: u32,
        /// What there is.
        pages: u64,
        /// What is needed; `u128` because a hostile genesis may ask for anything.
        needed: u128,
        /// Members that there may be.
        slots: u64,
        /// Pages of a slot.
        per_slot: u64,
        /// Pages for evaluation.
        unassigned: u64,
    },
    /// More windows than a hash chain has values.
    #[error("genesis asks for {windows} windows, a hash chain serves {limit}")]
    TooManyWindows {
        /// What genesis says.
        windows: u64,
        /// What a chain serves.
        limit: u64,
    },
    /// The emission of the longest run does not fit into 64 bits.
    #[error("emission.per_window_micros {0} over the longest run does not fit into 64 bits")]
    Emission(u64),
}

/// A miner's last recorded contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Its id.
    pub contribution: ContributionId,
    /// The state that it left.
    pub state_out: StateId,
}

/// Facts that follow from genesis and that this crate, which knows no tensors and no files, is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    zero_state: StateId,
    training_tokens: u64,
}

/// What is remembered of contributions after their window.
#[derive(Debug, Clone, PartialEq, Default)]
struct Contributed {
    /// Each miner's last recorded contribution, from whose state it may go on.
    parents: BTreeMap<PublicKey, Parent>,
    /// The first miner and window with each delta's body, as far back as genesis says.
    bodies: BTreeMap<Hash, (WindowIndex, PublicKey)>,
    /// The closed windows of which verdicts still count.
    pending: BTreeMap<WindowIndex, Arc<Pending>>,
}

/// Who can be held to account for what, and who was.
#[derive(Debug, Clone, PartialEq, Default)]
struct Offences {
    /// Node keys that trained for an owner and do not any more, with the window that recorded it, as long as what they
    /// signed may be evidence.
    former_nodes: BTreeMap<PublicKey, (PublicKey, WindowIndex)>,
    /// The window that recorded each miner's last mismatch that counts as one.
    strikes: BTreeMap<PublicKey, WindowIndex>,
    /// Owners who lost their slot for good.
    expelled: BTreeSet<PublicKey>,
    /// Accounts that have paid for contradicting themselves, and in which window, as long as it could be shown again.
    convicted: BTreeSet<(WindowIndex, PublicKey)>,
}

/// Everything that the closed windows decide about the next one.
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
    standings: Standings,
    ledger: Ledger,
    pages: PageDraw,
    /// The last window of which each validator's chain value is recorded, and the value.
    chains: BTreeMap<PublicKey, (WindowIndex, Hash)>,
    offences: Offences,
    /// What follows from this state and what was said in the open window, for all nodes of a process that share the state.
    shared: SharedWork,
}

/// What nodes at the same place need not each work out.
#[derive(Debug, Clone, PartialEq, Default)]
struct SharedWork {
    /// The inboxes that can be part of the cut.
    inboxes: Cache<InboxId, ()>,
    /// The cut of inboxes, which ascend by id, and its id.
    cuts: Cache<Vec<InboxId>, (CutId, Cut)>,
    /// The seed of a cut and of reveals, by validator.
    seeds: Cache<(CutId, Vec<(PublicKey, Hash)>), Hash>,
    /// What there is to judge, by the same.
    judgings: Cache<(CutId, Vec<(PublicKey, Hash)>), Judging>,
}

impl RunState {
    /// Whether a run can begin from this genesis, on a dataset with so many tokens without the held-out ones.
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
    /// `initial_checkpoint` is what genesis starts from, `zero_state` names the state of a miner that joins,
    /// and `training_tokens` counts the dataset's tokens without the held-out ones: three facts that follow from genesis
    /// and that this crate, which knows no tensors and no files, is told.
    pub fn new(
        genesis: Arc<Genesis>,
        initial_checkpoint: CheckpointId,
        zero_state: StateId,
        training_tokens: u64,
    ) -> Result<Self, GenesisError> {
        Self::check(&genesis, training_tokens)?;
        let run = RunId::new(payload::id_of(&*genesis));
        let mut hasher = blake3::Hasher::new_derive_key(FIRST_SEED_CONTEXT);
        hasher.update(run.hash().as_bytes());
        let seed: Hash = hasher.finalize().into();
        Ok(Self {
            run,
            told: Told { zero_state, training_tokens },
            window: WindowIndex(0),
            seed,
            checkpoint: initial_checkpoint,
            record: None,
            members: Members::first(&genesis.registration, seed),
            contributed: Contributed::default(),
            standings: BTreeMap::new(),
            ledger: Ledger::new(genesis.emission.vesting_windows),
            pages: PageDraw::new(page_count(training_tokens, genesis.model.sequence_length)),
            chains: BTreeMap::new(),
            offences: Offences::default(),
            shared: SharedWork::default(),
            genesis,
        })
    }

    /// The run's configuration.
    pub fn genesis(&self) -> &Arc<Genesis> {
        &self.genesis
    }

    /// The run.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The open window.
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

    /// The record of the window before.
    pub fn record(&self) -> Option<RecordId> {
        self.record
    }

    /// The state of a miner that joins.
    pub fn zero_state(&self) -> StateId {
        self.told.zero_state
    }

    /// Who may contribute to the open window.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// A miner's last recorded contribution.
    pub fn parent(&self, miner: &PublicKey) -> Option<&Parent> {
        self.contributed.parents.get(miner)
    }

    /// What a validator thinks of a miner.
    pub fn standing(&self, validator: &PublicKey, miner: &PublicKey) -> Standing {
        self.standings.get(validator).and_then(|miners| miners.get(miner)).copied().unwrap_or(Standing::NEW)
    }

    /// Whether a miner has lost its slot for good, see [`ReplaySpec`](templar_manifest::ReplaySpec).
    pub fn is_expelled(&self, miner: &PublicKey) -> bool {
        self.offences.expelled.contains(miner)
    }

    /// The window that recorded a miner's last mismatch, from which a second one counts.
    pub fn strike(&self, miner: &PublicKey) -> Option<WindowIndex> {
        self.offences.strikes.get(miner).copied()
    }

    /// Whether two statements are evidence for which a record would slash its signer now.
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

    /// Who pays for what a key signs: a validator itself, for a node key its owner, also when the owner has another one by now.
    pub(crate) fn account_of(&self, signer: &PublicKey) -> Option<PublicKey> {
        let former = || self.offences.former_nodes.get(signer).map(|(owner, _)| *owner);
        match (self.genesis.validator(signer), self.members.by_node(signer)) {
            (Some(validator), _) => Some(validator.key),
            (None, Some(member)) => Some(member.owner),
            (None, None) => former(),
        }
    }

    /// All balances.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The pages of the epoch, which are of this window's sequence length, before this window takes its own.
    pub fn pages(&self) -> &PageDraw {
        &self.pages
    }

    /// Whether the last window is closed.
    pub fn is_over(&self) -> bool {
        let windows = self.genesis.windows;
        (windows != 0 && self.window.0 >= windows) || self.window.0 > chain::CHAIN_LENGTH
    }

    /// Who proposes the cut and the record of the open window in an attempt to agree on it: the validators in turn, from
    /// one window to the next and from one attempt to the next.
    pub fn proposer(&self, attempt: u32) -> PublicKey {
        let validators = &self.genesis.validators;
        let turn = u128::from(self.window.0) + u128::from(attempt);
        validators[(turn % validators.len() as u128) as usize].key
    }

    /// Whether a contribution's claims fit the open window and the miner's record; else the first field that does not.
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
        // It missed windows; the anchor is as good a witness and a longer walk.
        chain::follows_anchor(&spec.chain_anchor, self.window, value)
    }
}

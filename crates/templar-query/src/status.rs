//! The state of a run: the open window, the members and their slots, the current model, and the balances.

use std::time::Duration;

use serde::Serialize;
use templar_home::access::Access;
use templar_home::context::RunContext;
use templar_home::memory::Memory;
use templar_home::now::NodeNow;
use templar_home::registration::{Application, ApplicationStatus};
use templar_manifest::{CheckpointId, Hash, PublicKey, RecordId, RunId, WindowIndex};
use templar_protocol::{Member, Members, Node, RunState};
use templar_train::nats;

use crate::error::QueryError;
use crate::participation::{Awaited, Participation, WindowStage};

/// A run as it stands now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunStatus {
    /// The id of the run.
    pub run: RunId,
    /// The name of the run.
    pub name: String,
    /// The open window, or the number of windows of a run that is over.
    pub window: WindowIndex,
    /// The stage of the open window.
    #[serde(rename = "phase")]
    pub stage: WindowStage,
    /// The number of windows of the run; 0 for a run without an end.
    pub windows: u64,
    /// The miners that have contributed to the open window.
    pub contributed: Vec<PublicKey>,
    /// The members that the open window waits for.
    pub awaited: Vec<Awaited>,
    /// The members that have slots.
    pub members: Vec<MemberView>,
    /// The slots, their prices, and this home's own slot.
    pub registration: SlotsView,
    /// The checkpoint that the open window starts from.
    pub checkpoint: CheckpointId,
    /// The record of the last closed window; `None` before the first.
    pub record: Option<RecordId>,
    /// The loss of the current checkpoint on held-out text, in nats a token; `None` before the first window is
    /// closed.
    pub held_out_loss: Option<f64>,
    /// The balances of all accounts.
    pub balances: Balances,
    /// Why this home signs nothing in the open window; `None` if it may sign.
    pub silence: Option<String>,
    /// How old this is, and what the node of this home says.
    pub now: StatusAge,
}

/// The age of a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusAge {
    /// Milliseconds since the last entry was written to the journal; `None` if there is none, or the clock was set
    /// back.
    pub journal_age_ms: Option<u64>,
    /// The answer of the node that runs in this home for this run; `None` if none runs.
    pub node: Option<NodeNow>,
}

impl StatusAge {
    fn of(access: &Access, context: &RunContext) -> Self {
        let journal = std::fs::metadata(access.home.run_dir(&context.run).join("journal"));
        let written = journal.ok().filter(|file| file.len() > 0).and_then(|file| file.modified().ok());
        let age = written.and_then(|written| written.elapsed().ok());
        Self {
            journal_age_ms: age.and_then(|age| u64::try_from(age.as_millis()).ok()),
            node: access.now().filter(|now| now.run == context.run),
        }
    }

    /// The time since the last entry was written to the journal.
    pub fn journal_age(&self) -> Option<Duration> {
        self.journal_age_ms.map(Duration::from_millis)
    }
}

/// A member and its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// The number of the slot.
    pub slot: u32,
    /// The owner key: it owns the slot and the account that is paid.
    pub owner: PublicKey,
    /// The node key: it trains for the owner.
    pub node: PublicKey,
    /// The first window to which the member may contribute.
    pub since: WindowIndex,
    /// The member's consensus weight, averaged over windows, in 1e-9.
    pub merit_nanos: u64,
}

impl From<&Member> for MemberView {
    fn from(member: &Member) -> Self {
        let Member { owner, node, slot, since, merit_nanos, .. } = *member;
        Self { slot, owner, node, since, merit_nanos }
    }
}

/// The progress of this home's application for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ApplicationProgress {
    /// The registration is accepted.
    #[serde(rename = "counts")]
    Accepted,
    /// The registration is submitted for the open window.
    #[serde(rename = "shown in this window")]
    Submitted,
    /// A node can still submit the registration for the open window.
    #[serde(rename = "to be shown by a node in this window")]
    ToSubmit,
    /// The certificate is anchored too long ago.
    #[serde(rename = "too old; `templar register` makes another")]
    Expired,
}

/// The slots of a run, and this home's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SlotsView {
    /// The number of slots.
    pub slots: u32,
    /// The number of slots that are taken.
    pub members: usize,
    /// The price of a slot as proof of work, in hashes.
    pub hashes: u64,
    /// The price of a slot as tokens that are burnt, in micro-ALPHA.
    pub burn_micros: u64,
    /// The slot for which this home's key trains; `None` as well if the key cannot be read.
    pub slot: Option<u32>,
    /// The owner of that slot.
    pub owner: Option<PublicKey>,
    /// The first window of this home in that slot.
    #[serde(skip)]
    pub since: Option<WindowIndex>,
    /// The progress of this home's application for a slot, when it has one.
    #[serde(rename = "application")]
    pub progress: Option<ApplicationProgress>,
    /// The owner for whom this home has applied.
    #[serde(skip)]
    pub applicant: Option<PublicKey>,
}

/// The ledger of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Balances {
    /// The accounts, sorted by key.
    pub accounts: Vec<AccountBalance>,
    /// The treasury, in micro-ALPHA.
    pub treasury_micros: u64,
    /// Everything that was ever minted, in micro-ALPHA.
    pub minted_micros: u64,
    /// The part of it that was burnt, in micro-ALPHA.
    pub burnt_micros: u64,
    /// The root of the whole state, balances included, as the header of the newest record names it.
    pub root: Hash,
}

/// The balance of an account, in micro-ALPHA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AccountBalance {
    /// The owner key of the account.
    pub account: PublicKey,
    /// The part that is free to use.
    pub free_micros: u64,
    /// The part that still vests, and can be slashed.
    pub vesting_micros: u64,
}

impl RunStatus {
    /// Reads the state of a run from its journal.
    ///
    /// # Errors
    /// The journal does not fold or has lost its end, or a file of the home cannot be read.
    pub fn read(access: &Access, context: &RunContext) -> Result<Self, QueryError> {
        let (node, records) = access.recent(context)?;
        let participation = Participation::of(&node, &records);
        let (genesis, state) = (&context.genesis, node.state());
        let last = node.closed().last();
        let application = Application::kept(&access.home, &context.run)?;
        // A copy of the home may lack its key, and another user may not read it.
        let me = access.home.key().ok().map(|key| key.public());
        Ok(Self {
            run: context.run,
            name: genesis.name.clone(),
            window: state.window(),
            stage: participation.stage(),
            windows: genesis.windows,
            contributed: participation.contributions.keys().copied().collect(),
            awaited: participation.awaited(state),
            members: state.members().iter().map(MemberView::from).collect(),
            registration: SlotsView::of(&node, me, application.as_ref()),
            checkpoint: state.checkpoint(),
            record: state.record(),
            held_out_loss: last.map(|closed| nats(closed.window.body.held_out_loss_nanonats)),
            balances: Balances::of(state),
            silence: Memory::read(&access.home.run_dir(&context.run))?
                .may_sign(state.window())
                .err()
                .map(|silence| silence.to_string()),
            now: StatusAge::of(access, context),
        })
    }
}

impl SlotsView {
    /// The slots of the run, as the home with the node key `me` sees them. Without a key, no slot is its own.
    fn of(node: &Node, me: Option<PublicKey>, application: Option<&Application>) -> Self {
        let members: &Members = node.state().members();
        let own = me.and_then(|me| members.by_node(&me));
        let progress = application.map(|application| match application.progress(node) {
            ApplicationStatus::Counts(_) => ApplicationProgress::Accepted,
            ApplicationStatus::Wait => ApplicationProgress::Submitted,
            ApplicationStatus::Ask => ApplicationProgress::ToSubmit,
            ApplicationStatus::Stale => ApplicationProgress::Expired,
        });
        Self {
            slots: node.state().genesis().registration.slots,
            members: members.len(),
            hashes: members.hashes(),
            burn_micros: members.burn_micros(),
            slot: own.map(|member| member.slot),
            owner: own.map(|member| member.owner),
            since: own.map(|member| member.since),
            progress,
            applicant: application.map(Application::owner),
        }
    }
}

impl Balances {
    fn of(state: &RunState) -> Self {
        let ledger = state.ledger();
        let accounts = ledger.accounts().iter().map(|(key, account)| AccountBalance {
            account: *key,
            free_micros: account.free_micros(),
            vesting_micros: account.vesting_micros(),
        });
        Self {
            accounts: accounts.collect(),
            treasury_micros: ledger.treasury_micros(),
            minted_micros: ledger.minted_micros(),
            burnt_micros: ledger.burnt_micros(),
            root: state.root(),
        }
    }
}

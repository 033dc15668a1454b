//! What a simulation comes to.

use std::collections::BTreeMap;

use serde::Serialize;
use templar_manifest::{Hash, PublicKey};

use crate::checks::{Checks, Notice};
use crate::member::Member;
use crate::strategy::{Role, Strategy};

const STATE_CONTEXT: &str = "templar-sim 1 final state";

/// How far a simulation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Windows that every node has closed.
    pub windows: u64,
    /// The simulated clock.
    pub simulated_ms: u64,
    /// Events so far.
    pub events: u64,
    /// Inputs that nodes took so far.
    pub inputs: u64,
    /// Invariants checked so far.
    pub checked: u64,
}

/// What one member came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Earned {
    /// Who.
    #[serde(serialize_with = "as_text")]
    pub key: PublicKey,
    /// `miner` or `validator`.
    pub role: &'static str,
    /// Its strategy; null where it is honest.
    pub strategy: Option<&'static str>,
    /// What it owns at the end, vested or not, in micro-ALPHA.
    pub micros: u64,
    /// Windows whose cut names a contribution of it.
    pub in_cut: u64,
    /// Windows in which its contribution was refused.
    pub refused: u64,
    /// Contributions of it that something was slashed for after their record.
    #[serde(rename = "burnt")]
    pub slashed: u64,
    /// Windows whose record has no hash-chain value of it, of a validator.
    pub unrevealed: u64,
    /// Whether it lost its slot for good.
    pub expelled: bool,
    /// The first thing that anybody found out about it, and in which window.
    pub noticed: Option<Notice>,
}

fn as_text<S: serde::Serializer>(key: &PublicKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(key)
}

/// What became of windows in which miners planted something and of those that went on from there (the strategy `plant`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Planted {
    /// Contributions with something planted that cuts named.
    pub sent: u64,
    /// Those of them that were aggregated: they are in the model for ever.
    pub aggregated: u64,
    /// Those that a replay found, before the record or after it.
    pub seen: u64,
    /// Later honest contributions that were aggregated and go on from what was planted.
    pub carried: u64,
    /// Matches that validators found for contributions that go on from there.
    pub matched: u64,
}

impl Planted {
    /// The sum of both.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            aggregated: self.aggregated + other.aggregated,
            seen: self.seen + other.seen,
            carried: self.carried + other.carried,
            matched: self.matched + other.matched,
        }
    }
}

/// A simulation in which every invariant held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How far it went.
    #[serde(flatten)]
    pub progress: Progress,
    /// How often each invariant was checked.
    pub invariants: BTreeMap<&'static str, u64>,
    /// Hash of the last record and of the ledger after it.
    #[serde(serialize_with = "hash_as_text")]
    pub state: Hash,
    /// Loss of the model on the held-out pages after the last window, in 1e-9 nats.
    pub held_out_loss_nanonats: u64,
    /// Honest contributions that were refused because no validator drawn to replay them had a score in the record.
    pub unreplayed: u64,
    /// Attempts that the slowest of all decisions on a cut or record took.
    pub attempts: u32,
    /// Registrations that gave a slot.
    pub joined: u64,
    /// Those of them that took it from another.
    pub replaced: u64,
    /// Those of them that gave it to a key that no member has.
    pub strangers: u64,
    /// What was planted.
    pub planted: Planted,
    /// What genesis says that a slot costs, in micro-ALPHA.
    pub slot_cost_micros: u64,
    /// Every member, validators first.
    pub members: Vec<Earned>,
}

fn hash_as_text<S: serde::Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(hash)
}

impl Report {
    pub(crate) fn of(members: &[Member], checks: &Checks, progress: Progress) -> Self {
        let state = members[0].node.state();
        let mut hasher = blake3::Hasher::new_derive_key(STATE_CONTEXT);
        hasher.update(state.record().map(|record| record.hash()).unwrap_or_default().as_bytes());
        hasher.update(state.ledger().root().as_bytes());
        let earned = |member: &Member, role, key| {
            let account = state.ledger().accounts().get(&key);
            Earned {
                key,
                role,
                strategy: member.strategy.map(Strategy::name),
                micros: account.map_or(0, |account| account.free_micros() + account.vesting_micros()),
                in_cut: checks.in_cut(&key),
                refused: checks.refused(&key),
                slashed: checks.slashed(&key),
                unrevealed: if member.role == Role::Validator { checks.unrevealed(&key) } else { 0 },
                expelled: state.is_expelled(&key),
                noticed: checks.noticed(&key).cloned(),
            }
        };
        let validators = members.iter().filter(|member| member.role == Role::Validator);
        let validators = validators.map(|member| earned(member, "validator", member.key.public()));
        let miners = members.iter().flat_map(|member| member.miners().map(|key| earned(member, "miner", key)));
        Self {
            progress,
            invariants: checks.counts().clone(),
            state: hasher.finalize().into(),
            held_out_loss_nanonats: checks.held_out_loss_nanonats(),
            unreplayed: checks.unreplayed(),
            attempts: checks.most_attempts(),
            joined: checks.joined().0,
            replaced: checks.joined().1,
            strangers: checks.joined().2,
            planted: checks.planted(),
            slot_cost_micros: state.genesis().emission.registration_cost_micros,
            members: validators.chain(miners).collect(),
        }
    }

    /// What the members of a role with this strategy (`None`: the honest) own together, and how many they are.
    pub fn earned(&self, role: Role, strategy: Option<Strategy>) -> (u64, usize) {
        let name = if role == Role::Miner { "miner" } else { "validator" };
        let those =
            self.members.iter().filter(|member| member.role == name && member.strategy == strategy.map(Strategy::name));
        those.fold((0, 0), |(micros, count), member| (micros + member.micros, count + 1))
    }
}

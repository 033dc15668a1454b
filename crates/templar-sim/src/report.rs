//! The result of a simulation: the earnings of every member, and the findings about it.

use std::collections::BTreeMap;

use serde::Serialize;
use templar_manifest::{Hash, PublicKey};

use crate::member::SimMember;
use crate::strategy::{MemberRole, Strategy};
use crate::tally::{Notice, Planted, SimTally};

/// Context under which [`Report::state`] is hashed.
const STATE_CONTEXT: &str = "templar-sim 1 final state";

/// How far a simulation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SimProgress {
    /// Windows that every node has closed.
    pub windows: u64,
    /// The virtual clock, in milliseconds since the run began.
    pub simulated_ms: u64,
    /// Events that were handled so far.
    pub events: u64,
    /// Inputs that were given to nodes so far.
    pub inputs: u64,
    /// How often invariants were checked so far.
    pub checked: u64,
}

/// The earnings and the history of one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Earned {
    /// The member's public key.
    #[serde(serialize_with = "key_as_text")]
    pub key: PublicKey,
    /// The role as text: `miner` or `validator`.
    pub role: &'static str,
    /// The name of its strategy; `None` (null in JSON) for an honest member.
    pub strategy: Option<&'static str>,
    /// Its account at the end, vested or not, in micro-ALPHA.
    pub micros: u64,
    /// Windows whose cut names a contribution of it.
    pub in_cut: u64,
    /// Windows in which its contribution was refused.
    pub refused: u64,
    /// Its contributions for which unvested pay was slashed after their record.
    #[serde(rename = "burnt")]
    pub slashed: u64,
    /// Windows whose record has no hash-chain value of this validator; 0 for a miner.
    pub unrevealed: u64,
    /// Whether it lost its slot for good.
    pub expelled: bool,
    /// The first thing that an honest node found out about it.
    pub noticed: Option<Notice>,
}

fn key_as_text<S: serde::Serializer>(key: &PublicKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(key)
}

/// The result of a simulation in which every invariant held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How far the simulation went.
    #[serde(flatten)]
    pub progress: SimProgress,
    /// How often each invariant was checked.
    pub invariants: BTreeMap<&'static str, u64>,
    /// A hash of the last record's id and of the ledger's root after it. Two runs with equal histories have
    /// equal hashes.
    #[serde(serialize_with = "hash_as_text")]
    pub state: Hash,
    /// Loss of the model on the held-out pages after the last window, in 1e-9 nats.
    pub held_out_loss_nanonats: u64,
    /// Honest contributions that were refused because no validator drawn to replay them had a score in the record.
    pub unreplayed: u64,
    /// The most attempts that any decision took.
    pub attempts: u32,
    /// Registrations that gave a slot.
    pub joined: u64,
    /// Registrations of `joined` that took the slot from another member.
    pub replaced: u64,
    /// Registrations of `joined` by a key that belongs to no simulated member.
    pub strangers: u64,
    /// The fate of planted triggers.
    pub planted: Planted,
    /// The cost of a slot that genesis states, in micro-ALPHA.
    pub slot_cost_micros: u64,
    /// Every member, validators first.
    pub members: Vec<Earned>,
}

fn hash_as_text<S: serde::Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(hash)
}

impl Report {
    pub(crate) fn of(members: &[SimMember], tally: &SimTally, progress: SimProgress) -> Self {
        let state = members[0].node.state();
        let mut hasher = blake3::Hasher::new_derive_key(STATE_CONTEXT);
        hasher.update(state.record().map(|record| record.hash()).unwrap_or_default().as_bytes());
        hasher.update(state.root().as_bytes());
        let earned = |member: &SimMember, role: MemberRole, key| {
            let account = state.ledger().accounts().get(&key);
            let counts = tally.of(&key);
            Earned {
                key,
                role: role.name(),
                strategy: member.strategy.map(Strategy::name),
                micros: account.map_or(0, |account| account.free_micros() + account.vesting_micros()),
                in_cut: counts.in_cut,
                refused: counts.refused,
                slashed: counts.slashed,
                unrevealed: if role == MemberRole::Validator { counts.unrevealed } else { 0 },
                expelled: state.is_expelled(&key),
                noticed: counts.noticed,
            }
        };
        let validators = members.iter().filter(|member| member.role == MemberRole::Validator);
        let validators = validators.map(|member| earned(member, MemberRole::Validator, member.key.public()));
        let of_node = |member| SimMember::miners(member).map(move |key| (member, key));
        let miners = members.iter().flat_map(of_node).map(|(member, key)| earned(member, MemberRole::Miner, key));
        Self {
            progress,
            invariants: tally.invariants().clone(),
            state: hasher.finalize().into(),
            held_out_loss_nanonats: tally.held_out_loss_nanonats,
            unreplayed: tally.unreplayed,
            attempts: tally.most_attempts,
            joined: tally.registrations.joined,
            replaced: tally.registrations.replaced,
            strangers: tally.registrations.strangers,
            planted: tally.planted,
            slot_cost_micros: state.genesis().emission.registration_cost_micros,
            members: validators.chain(miners).collect(),
        }
    }

    /// The micro-ALPHA that the members of a role with this strategy own together, and the number of these members.
    /// `None` selects the honest ones.
    pub fn earned(&self, role: MemberRole, strategy: Option<Strategy>) -> (u64, usize) {
        let strategy = strategy.map(Strategy::name);
        let those = self.members.iter().filter(|member| member.role == role.name() && member.strategy == strategy);
        those.fold((0, 0), |(micros, count), member| (micros + member.micros, count + 1))
    }
}

//! The effect of a record on the standings of miners, step by step.

use serde::Serialize;
use templar_manifest::{PublicKey, Score, Signed, WindowIndex};
use templar_protocol::{Cause, Change, ClosedWindow, Node, RunState, Standing};

/// A miner's standing, in integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StandingView {
    /// The mean of the rating, in 1e-12.
    pub mu_picos: i64,
    /// The uncertainty of the rating, in 1e-12.
    pub sigma_picos: u64,
    /// The rating that counts, mu − 3 sigma, in 1e-12.
    pub ordinal_picos: i64,
    /// The proof of computation, from −1e9 to 1e9.
    pub proof_nanos: i64,
    /// The recent windows without a contribution, one bit each.
    pub missing: u8,
    /// The recent contributions whose delta was withheld, one bit each.
    pub withheld: u8,
    /// The recent contributions that raised the loss on unassigned pages, one bit each.
    pub negative: u8,
    /// The first window in which the miner's deltas may be aggregated and paid again.
    pub excluded_until: WindowIndex,
    /// The factor of pay, in 1e-9.
    pub factor_nanos: u64,
}

impl From<&Standing> for StandingView {
    fn from(standing: &Standing) -> Self {
        Self {
            mu_picos: standing.rating.mu_picos,
            sigma_picos: standing.rating.sigma_picos,
            ordinal_picos: standing.rating.ordinal_picos(),
            proof_nanos: standing.proof_nanos,
            missing: standing.missing.bits(),
            withheld: standing.withheld.bits(),
            negative: standing.negative.bits(),
            excluded_until: standing.excluded_until,
            factor_nanos: standing.factor_nanos,
        }
    }
}

/// One step from a standing to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StandingChange {
    /// The rule that changes the standing, in the words of the protocol.
    pub why: String,
    /// The same rule as a value.
    #[serde(skip)]
    pub cause: Cause,
    /// The standing before the step.
    pub before: StandingView,
    /// The standing after the step.
    pub after: StandingView,
}

/// A window's effect on one miner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MinerStanding {
    /// The miner whose standing it is.
    pub miner: PublicKey,
    /// The standing before the window.
    pub before: StandingView,
    /// The standing after the window.
    pub after: StandingView,
    /// The score in 1e-12; `None` for a miner that can be neither aggregated nor paid.
    pub score_picos: Option<u64>,
    /// The weight of the miner in the record, in millionths.
    pub weight_ppm: u32,
    /// The steps from `before` to `after`.
    pub changes: Vec<StandingChange>,
}

/// The effect of the record of a window on all miners, sorted by key; `None` when `node` has not closed the window, or
/// with another record than `is_this` asks for.
pub(super) fn of_record(
    node: &Node,
    window: WindowIndex,
    is_this: impl Fn(&ClosedWindow) -> bool,
) -> Option<Vec<MinerStanding>> {
    let closed = node.closed_window(window).filter(|closed| is_this(closed))?;
    of_window(&node.state_at(window)?, closed)
}

/// The effect of a closed window on all miners, sorted by key. `state` is the state before the window; `None` when the
/// window does not follow from it.
pub fn of_window(state: &RunState, closed: &ClosedWindow) -> Option<Vec<MinerStanding>> {
    let judging = state.judging_of(closed).ok()?;
    let scores: Vec<&Score> = closed.scores.iter().map(Signed::payload).collect();
    let found = state.assessment(&judging, &scores);
    let miner = |(miner, after): (&PublicKey, &Standing)| {
        let weight = closed.window.body.weights.iter().find(|weight| weight.miner == *miner);
        let changes = found.changes.iter().filter(|change| change.miner == *miner);
        let step = |change: &Change| StandingChange {
            why: change.cause.to_string(),
            cause: change.cause,
            before: (&change.before).into(),
            after: (&change.after).into(),
        };
        MinerStanding {
            miner: *miner,
            before: (&state.standing(miner)).into(),
            after: after.into(),
            score_picos: found.scores.get(miner).copied(),
            weight_ppm: weight.map_or(0, |weight| weight.weight_ppm),
            changes: changes.map(step).collect(),
        }
    };
    Some(found.standings.iter().map(miner).collect())
}

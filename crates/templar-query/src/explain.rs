//! The pay of one miner in one window, from its contribution to its account, down to each integer.
//!
//! Every number is computed again from the journal, by the rules that decided it.

use serde::Serialize;
use templar_manifest::{
    Contribution, ContributionId, Hash, Losses, MintKind, Outcome, PublicKey, RecordId, Replay, Score, Signed, Slash,
    Verdict, WeightRule, WindowIndex,
};
use templar_protocol::{Cause, ClosedWindow, Node, Payable, RunState, WindowPay};

use crate::error::QueryError;
use crate::find::closed_window;
use crate::reference::{NameError, Reference, resolve};

/// How the pay of a miner in a window came about. A part is `None` where the way ends before it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PayExplanation {
    /// The miner.
    pub miner: PublicKey,
    /// The window.
    pub window: WindowIndex,
    /// The record that closed the window.
    pub record: RecordId,
    /// The contribution in the cut.
    pub contribution: Option<ContributionPart>,
    /// The verdict of the record.
    pub verdict: Option<VerdictPart>,
    /// The measurement.
    pub losses: Option<LossesPart>,
    /// The change of the factor of pay.
    pub factor: Option<FactorPart>,
    /// The weight.
    pub weight: Option<WeightPart>,
    /// The pay.
    pub mint: Option<MintPart>,
    /// When the pay is free, and what has been slashed of it.
    pub vesting: Option<VestingPart>,
}

/// A contribution in the cut.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ContributionPart {
    /// Its id.
    pub id: ContributionId,
    /// The inner steps that it claims.
    pub steps: u32,
    /// The inner steps that a window has at most.
    pub most_steps: u32,
    /// The tokens that it trained on.
    pub tokens: u64,
}

/// The verdict on a contribution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictPart {
    /// The verdict in words: `aggregated`, `in reserve`, `excluded`, or the reason of a refusal.
    pub verdict: String,
    /// Whether it was accepted.
    pub is_accepted: bool,
    /// The validators whose counted scores say that its replay matches.
    pub matched: Vec<PublicKey>,
}

/// The losses of a contribution, in 1e-9 nats.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LossesPart {
    /// The validators that measured them.
    pub measured_by: Vec<PublicKey>,
    /// The losses of the record.
    pub losses: Losses,
    /// The loss that a trial step removed on pages that nobody trains on.
    pub gain_nanonats: i64,
    /// The loss that it removed on the miner's own pages.
    pub own_gain_nanonats: i64,
}

/// The change of a factor of pay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FactorPart {
    /// The gain of one step, in 1e-12 nats.
    pub gain_piconats: i64,
    /// The median of all gains of a step, in 1e-12 nats.
    pub median_piconats: i64,
    /// The value of the window in the average, in ppm.
    pub ratio_ppm: u32,
    /// The weight of the window in the average, in ppm.
    pub newest_ppm: u32,
    /// The factor before, in 1e-9.
    pub before_nanos: u64,
    /// The factor after all changes of the window, in 1e-9.
    pub after_nanos: u64,
}

/// A weight, as a part of the merits of all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WeightPart {
    /// How the rule of the run makes a merit.
    pub rule: &'static str,
    /// The merit of the miner, in the unit of the rule.
    pub merit: u64,
    /// The merits of all miners together, in the same unit.
    pub merits: u128,
    /// The weight, in ppm.
    pub weight_ppm: u32,
}

/// The pay, as a part of what the window mints.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MintPart {
    /// The inner steps that all miners proved together.
    pub proven_steps: u64,
    /// The inner steps for which a window mints everything.
    pub target_steps: u64,
    /// The emission of a full window, in micro-ALPHA.
    pub full_micros: u64,
    /// The greatest amount that this window mints, in micro-ALPHA.
    pub emission_micros: u64,
    /// The miners' part of it, in ppm.
    pub miners_ppm: u32,
    /// The pay of the miner, in micro-ALPHA.
    pub amount_micros: u64,
}

/// The vesting of the pay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct VestingPart {
    /// The window whose closing frees the pay.
    pub free_from: WindowIndex,
    /// Whether it is free by now.
    pub is_free: bool,
    /// The rest of the grant, in micro-ALPHA; 0 once it is free. A grant holds all pay of an account for the
    /// window.
    pub vesting_micros: u64,
    /// The part of the account's unvested pay, for this or other windows, that later records have slashed, in
    /// micro-ALPHA.
    pub slashed_micros: u64,
}

impl PayExplanation {
    /// Explains the pay of a miner in a closed window; in the newest one where `window` is `None`.
    ///
    /// # Errors
    /// The window is not closed, or does not fold.
    pub fn of(node: &Node, miner: &PublicKey, window: Option<WindowIndex>) -> Result<Self, QueryError> {
        let newest = WindowIndex(node.state().window().0.saturating_sub(1));
        let closed = closed_window(node, window.unwrap_or(newest))?;
        let window = closed.window.header.window;
        let state = node.state_at(window).ok_or(QueryError::Unfoldable(window))?;
        Self::from_state(node.state(), node.closed(), &state, closed, miner)
    }

    /// Explains the pay of a miner in the window `closed`, for a caller that has the state `before` it already. `now`
    /// is the state after `all` closed windows.
    ///
    /// # Errors
    /// The window does not follow from this state.
    pub fn from_state(
        now: &RunState,
        all: &[ClosedWindow],
        before: &RunState,
        closed: &ClosedWindow,
        miner: &PublicKey,
    ) -> Result<Self, QueryError> {
        let window = closed.window.header.window;
        let pay = before.pay_of(closed).map_err(|_| QueryError::Unfoldable(window))?;
        let place = closed.contributions.iter().find(|signed| signed.payload().miner == *miner);
        let outcome = closed.window.body.outcomes.iter().find(|outcome| outcome.miner == *miner);
        Ok(Self {
            miner: *miner,
            window,
            record: closed.record,
            contribution: place.map(|signed| contribution_part(before, signed)),
            verdict: outcome.map(|outcome| verdict_part(closed, outcome)),
            losses: outcome.and_then(|outcome| losses_part(closed, outcome)),
            factor: factor_part(&pay, miner),
            weight: weight_part(before, closed, &pay, miner),
            mint: mint_part(before, closed, &pay, miner),
            vesting: vesting_part(now, all, closed, miner),
        })
    }
}

/// The miner that a text stands for: its whole key, or four or more of its first digits. It is a member, or had a
/// contribution in some cut.
///
/// # Errors
/// The text is no reference, or fits no miner or several.
pub fn miner(node: &Node, text: &str) -> Result<PublicKey, NameError> {
    let members = node.state().members().iter().map(|member| member.owner);
    let outcomes = node.closed().iter().flat_map(|closed| &closed.window.body.outcomes).map(|outcome| outcome.miner);
    let known = members.chain(outcomes).map(|miner| Hash::from_bytes(*miner.as_bytes())).collect();
    let found = match text.parse::<Reference>()? {
        Reference::Whole(key) => key,
        Reference::Prefix(prefix) => resolve(&prefix, &known)?,
        Reference::Current | Reference::Window(_) => return Err(NameError::UnknownPrefix(text.to_owned())),
    };
    Ok(PublicKey::from_bytes(*found.as_bytes()))
}

fn contribution_part(state: &RunState, signed: &Signed<Contribution>) -> ContributionPart {
    let claimed = signed.payload();
    ContributionPart {
        id: signed.id().into(),
        steps: claimed.steps,
        most_steps: state.genesis().inner.steps,
        tokens: claimed.tokens,
    }
}

/// The validators of the counted scores whose entry about a miner fits.
fn who(closed: &ClosedWindow, miner: &PublicKey, fits: impl Fn(&Score, usize) -> bool) -> Vec<PublicKey> {
    let scores = closed.scores.iter().map(Signed::payload);
    let said = scores.filter(|score| {
        let place = score.entries.binary_search_by_key(miner, |entry| entry.miner);
        place.is_ok_and(|place| fits(score, place))
    });
    said.map(|score| score.validator).collect()
}

fn verdict_part(closed: &ClosedWindow, outcome: &Outcome) -> VerdictPart {
    let verdict = match &outcome.verdict {
        Verdict::Aggregated => "aggregated".to_owned(),
        Verdict::Reserve => "in reserve".to_owned(),
        Verdict::Excluded => "excluded".to_owned(),
        Verdict::Refused(refusal) => refusal.to_string(),
    };
    let matched = who(closed, &outcome.miner, |score, place| score.entries[place].replay == Replay::Match);
    VerdictPart { verdict, is_accepted: !matches!(outcome.verdict, Verdict::Refused(_)), matched }
}

fn losses_part(closed: &ClosedWindow, outcome: &Outcome) -> Option<LossesPart> {
    let losses = outcome.losses?;
    let measured_by =
        who(closed, &outcome.miner, |score, place| score.entries[place].evaluation.losses() == Some(losses));
    let (gain_nanonats, own_gain_nanonats) = (losses.gain_nanonats() as i64, losses.own_gain_nanonats() as i64);
    Some(LossesPart { measured_by, losses, gain_nanonats, own_gain_nanonats })
}

fn factor_part(pay: &WindowPay, miner: &PublicKey) -> Option<FactorPart> {
    let after_nanos = pay.assessment.standings.get(miner)?.factor_nanos;
    pay.assessment.changes.iter().find_map(|change| match change.cause {
        Cause::Worth(worth) if change.miner == *miner => Some(FactorPart {
            gain_piconats: worth.gain_piconats as i64,
            median_piconats: worth.median_piconats as i64,
            ratio_ppm: worth.ratio_ppm,
            newest_ppm: worth.newest_ppm,
            before_nanos: change.before.factor_nanos,
            after_nanos,
        }),
        _ => None,
    })
}

fn weight_part(state: &RunState, closed: &ClosedWindow, pay: &WindowPay, miner: &PublicKey) -> Option<WeightPart> {
    let genesis = state.genesis();
    let rule = &genesis.gauntlet.weights;
    let merit = |payable: &Payable| payable.merit(rule, genesis.inner.steps);
    let own = pay.payable.iter().find(|payable| payable.miner == *miner)?;
    let weight = closed.window.body.weights.iter().find(|weight| weight.miner == *miner);
    let rule = match rule {
        WeightRule::MeasuredSteps { .. } => "steps times the factor, which counts as at most 1 below all steps",
        WeightRule::ProvenSteps => "steps",
        WeightRule::ScorePower { .. } => "score, raised to the power of the run",
        WeightRule::RankRamp { .. } => "score, of which only the rank counts",
    };
    Some(WeightPart {
        rule,
        merit: merit(own),
        merits: pay.payable.iter().map(|payable| u128::from(merit(payable))).sum(),
        weight_ppm: weight.map_or(0, |weight| weight.weight_ppm),
    })
}

fn mint_part(state: &RunState, closed: &ClosedWindow, pay: &WindowPay, miner: &PublicKey) -> Option<MintPart> {
    pay.payable.iter().find(|payable| payable.miner == *miner)?;
    let emission = &state.genesis().emission;
    let paid = closed.window.body.mints.iter().find(|mint| mint.account == *miner && mint.kind == MintKind::Miner);
    Some(MintPart {
        proven_steps: pay.payable.iter().map(|payable| u64::from(payable.steps)).sum(),
        target_steps: emission.target_steps,
        full_micros: emission.per_window_micros,
        emission_micros: pay.emission_micros,
        miners_ppm: emission.miners_ppm,
        amount_micros: paid.map_or(0, |mint| mint.amount_micros),
    })
}

fn vesting_part(
    state: &RunState,
    all: &[ClosedWindow],
    closed: &ClosedWindow,
    miner: &PublicKey,
) -> Option<VestingPart> {
    closed.window.body.mints.iter().find(|mint| mint.account == *miner && mint.kind == MintKind::Miner)?;
    let window = closed.window.header.window;
    let free_from = WindowIndex(window.0.saturating_add(state.genesis().emission.vesting_windows));
    let grants = state.ledger().accounts().get(miner).map_or(&[][..], |account| account.grants());
    let left = grants.iter().find(|grant| grant.window == window);
    let later = all.iter().filter(|later| later.window.header.window > window);
    let slashes = later.flat_map(|later| &later.window.body.slashes).filter(|slash| slash.account == *miner);
    Some(VestingPart {
        free_from,
        is_free: state.window() > free_from,
        vesting_micros: left.map_or(0, |grant| grant.amount_micros),
        slashed_micros: slashes.map(|slash: &Slash| slash.amount_micros).sum(),
    })
}

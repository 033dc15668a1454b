//! The invariants, checked in every build whenever a node closes a window.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use templar_manifest::{
    Admitted, ContributionId, Hash, Initial, MintKind, PublicKey, RecordId, Refusal, Replay, SlashCause, Verdict,
    WindowIndex,
};
use templar_protocol::{ClosedWindow, RunState, Standing, stake};

use crate::config::{Config, Faults};
use crate::member::Member;
use crate::report::Planted;
use crate::strategy::{Role, Strategy, plants_in};

/// An invariant that does not hold, and how to see it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("violated: {invariant}; {member} in window {window} at {at_ms} ms: {detail}")]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// What was found instead.
    pub detail: String,
    /// The open window of the node where it was found.
    pub window: u64,
    /// That node.
    pub member: String,
    /// The simulated clock.
    pub at_ms: u64,
    /// The command that runs into it again.
    pub command: String,
}

/// Something that honest nodes found out about somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// The window.
    pub window: u64,
    /// What.
    pub how: String,
}

/// What the first node to close a window found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Agreed {
    record: RecordId,
    seed: Hash,
    ledger: Hash,
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    counts: BTreeMap<&'static str, u64>,
    agreed: BTreeMap<WindowIndex, Agreed>,
    minted_micros: u64,
    in_cut: BTreeMap<PublicKey, u64>,
    refused: BTreeMap<PublicKey, u64>,
    /// Contributions of each miner for which something was slashed after their record.
    slashed: BTreeMap<PublicKey, u64>,
    /// Windows whose record has no value of a validator.
    unrevealed: BTreeMap<PublicKey, u64>,
    noticed: BTreeMap<PublicKey, Notice>,
    held_out_loss_nanonats: u64,
    /// Honest contributions that nobody replayed in time.
    unreplayed: u64,
    planted: Planted,
    /// Miners whose recorded state goes on from what they planted.
    poisoned: BTreeSet<PublicKey>,
    /// Contributions that go on from there, by window and miner.
    carried: BTreeSet<(WindowIndex, PublicKey)>,
    most_attempts: u32,
    joined: u64,
    replaced: u64,
    strangers: u64,
    /// What honest validators think of honest miners, by validator and miner.
    thought: BTreeMap<(PublicKey, PublicKey), Standing>,
}

/// How often pages are looked at where no member has come or gone.
const PAGES_EVERY: u64 = 64;

type Failed = (&'static str, String);

/// Whether a key is a member's that plays no strategy.
pub(crate) fn is_honest(members: &[Member], by_key: &BTreeMap<PublicKey, usize>, key: &PublicKey) -> bool {
    by_key.get(key).is_some_and(|&who| members[who].is_honest())
}

impl Checks {
    pub(crate) fn count(&mut self, invariant: &'static str) {
        *self.counts.entry(invariant).or_default() += 1;
    }

    pub(crate) fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    pub(crate) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(crate) fn notice(&mut self, about: &PublicKey, window: u64, how: &str) {
        self.noticed.entry(*about).or_insert_with(|| Notice { window, how: how.to_owned() });
    }

    pub(crate) fn noticed(&self, key: &PublicKey) -> Option<&Notice> {
        self.noticed.get(key)
    }

    /// Windows whose cut names a contribution of this miner.
    pub(crate) fn in_cut(&self, key: &PublicKey) -> u64 {
        self.in_cut.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn refused(&self, key: &PublicKey) -> u64 {
        self.refused.get(key).copied().unwrap_or(0)
    }

    /// Contributions that something was slashed for after their record.
    pub(crate) fn slashed(&self, key: &PublicKey) -> u64 {
        self.slashed.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn unrevealed(&self, key: &PublicKey) -> u64 {
        self.unrevealed.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn unreplayed(&self) -> u64 {
        self.unreplayed
    }

    pub(crate) fn planted(&self) -> Planted {
        self.planted
    }

    pub(crate) fn most_attempts(&self) -> u32 {
        self.most_attempts
    }

    pub(crate) fn held_out_loss_nanonats(&self) -> u64 {
        self.held_out_loss_nanonats
    }

    /// Registrations that gave a slot, those of them that took it from another, and those of keys that no member has.
    pub(crate) fn joined(&self) -> (u64, u64, u64) {
        (self.joined, self.replaced, self.strangers)
    }

    fn hold(&mut self, invariant: &'static str, holds: bool, detail: impl FnOnce() -> String) -> Result<(), Failed> {
        self.count(invariant);
        if holds { Ok(()) } else { Err((invariant, detail())) }
    }

    /// Member `who` has just closed a window.
    pub(crate) fn closed(
        &mut self,
        members: &[Member],
        who: usize,
        by_key: &BTreeMap<PublicKey, usize>,
        config: &Config,
    ) -> Result<(), Failed> {
        let faults = config.faults;
        let node = &members[who].node;
        let state = node.state();
        let Some(closed) = node.closed().last() else {
            return Err(("a closed window is kept", "it is not".to_owned()));
        };
        let window = closed.window.window;
        let own = Agreed { record: closed.record, seed: state.seed(), ledger: state.ledger().root() };
        for (kind, certificate) in [("cut", &closed.cut_certificate), ("record", &closed.record_certificate)] {
            let signers = certificate.witnesses.iter().map(|witness| &witness.signer);
            self.hold("more than two thirds have signed", stake::is_quorum(state.genesis(), signers), || {
                format!("the {kind} of window {window}")
            })?;
        }
        let attempts = 1 + closed.cut_certificate.attempt.max(closed.record_certificate.attempt);
        self.most_attempts = self.most_attempts.max(attempts);
        if faults == Faults::None {
            let liars = members.iter().filter(|member| member.role == Role::Validator && !member.is_honest()).count();
            self.hold(
                "a decision needs one attempt, one more, and one for each liar",
                attempts as usize <= 2 + liars,
                || format!("window {window} needed {attempts}, with {liars} that lie"),
            )?;
        }
        if let Some(first) = self.agreed.get(&window).cloned() {
            return self.hold("all close the same record", first == own, || {
                format!("window {window} is {} here and was {} elsewhere", own.record, first.record)
            });
        }
        self.hold("a record recomputes its ledger", own.ledger == closed.window.ledger_root, || {
            format!("window {window}")
        })?;
        self.agreed.insert(window, own);
        while self.agreed.len() > 64 {
            self.agreed.pop_first();
        }
        self.held_out_loss_nanonats = closed.window.held_out_loss_nanonats;
        let certified = closed.check_certificates(state.genesis());
        self.hold("certificates verify", certified.is_ok(), || format!("window {window}: {certified:?}"))?;
        self.nested(closed, state.genesis().outer.max_contributions as usize)?;
        self.paid(closed)?;
        self.conserved(closed, state)?;
        self.seated(closed, state, by_key)?;
        self.follow_plants(closed, &state.genesis().initial, members, by_key);
        self.honest(closed, state, members, by_key, faults)?;
        self.blameless(state, members, config.real)
    }

    /// committed ⊇ revealed ⊇ valid ⊇ aggregated.
    fn nested(&mut self, closed: &ClosedWindow, limit: usize) -> Result<(), Failed> {
        let committed: Vec<ContributionId> = closed.contributions.iter().map(|signed| signed.id().into()).collect();
        let cut: Vec<ContributionId> = closed.cut.contributions.iter().map(|entry| entry.contribution).collect();
        let outcomes: Vec<ContributionId> = closed.window.outcomes.iter().map(|outcome| outcome.contribution).collect();
        let invariant = "committed, revealed, valid, aggregated: each a part of the one before";
        self.hold(invariant, committed == cut && cut == outcomes, || {
            format!("{} committed, {} in the cut, {} outcomes", committed.len(), cut.len(), outcomes.len())
        })?;
        let count = |verdict: fn(&Verdict) -> bool| {
            closed.window.outcomes.iter().filter(|outcome| verdict(&outcome.verdict)).count()
        };
        let withheld = count(|verdict| *verdict == Verdict::Refused(Refusal::Withheld));
        let refused = count(|verdict| matches!(verdict, Verdict::Refused(_)));
        let excluded = count(|verdict| *verdict == Verdict::Excluded);
        let aggregated = count(|verdict| *verdict == Verdict::Aggregated);
        let (revealed, valid) = (outcomes.len() - withheld, outcomes.len() - refused);
        self.hold(invariant, revealed >= valid && aggregated == (valid - excluded).min(limit), || {
            format!("{revealed} revealed, {valid} valid, {excluded} excluded, {aggregated} aggregated")
        })
    }

    /// Who is refused or excluded, or has sent nothing, is paid nothing.
    fn paid(&mut self, closed: &ClosedWindow) -> Result<(), Failed> {
        let window = &closed.window;
        let valid: BTreeSet<PublicKey> = window
            .outcomes
            .iter()
            .filter(|outcome| matches!(outcome.verdict, Verdict::Aggregated | Verdict::Reserve))
            .map(|outcome| outcome.miner)
            .collect();
        for mint in window.mints.iter().filter(|mint| mint.kind == MintKind::Miner) {
            self.hold("only valid contributions are paid", valid.contains(&mint.account), || {
                format!("{} is paid {} in window {}", mint.account.short(), mint.amount_micros, window.window)
            })?;
        }
        Ok(())
    }

    /// What was minted is somewhere, and no more than genesis allows.
    fn conserved(&mut self, closed: &ClosedWindow, state: &RunState) -> Result<(), Failed> {
        let minted: u64 = closed.window.mints.iter().map(|mint| mint.amount_micros).sum();
        self.minted_micros += minted;
        let limit = state.genesis().emission.per_window_micros;
        self.hold("a window mints no more than its emission", minted <= limit, || format!("{minted} of {limit}"))?;
        let ledger = state.ledger();
        let accounts = ledger.accounts().values();
        let held: u64 = accounts.map(|account| account.free_micros() + account.vesting_micros()).sum();
        let somewhere = held + ledger.treasury_micros() + ledger.burnt_micros();
        let (recorded, counted) = (self.minted_micros, ledger.minted_micros());
        let whole = somewhere == counted && counted == recorded;
        self.hold("what was minted is somewhere", whole, || {
            format!("{somewhere} held, {counted} minted, {recorded} in the records")
        })
    }

    /// There are never more members than slots, each is one member, and no page is two members'.
    fn seated(
        &mut self,
        closed: &ClosedWindow,
        state: &RunState,
        by_key: &BTreeMap<PublicKey, usize>,
    ) -> Result<(), Failed> {
        let (members, slots) = (state.members(), state.genesis().registration.slots);
        let owners: BTreeSet<PublicKey> = members.iter().map(|member| member.owner).collect();
        let nodes: BTreeSet<PublicKey> = members.iter().map(|member| member.node).collect();
        let whole = members.iter().all(|member| member.slot < slots);
        let seated = members.len() <= slots as usize && owners.len() == members.len() && nodes.len() == members.len();
        self.hold("slots are not exceeded, and each member has one", whole && seated, || {
            format!("{} members of {} owners in {slots} slots", members.len(), owners.len())
        })?;
        let admissions = &closed.window.admissions;
        for admission in admissions {
            if let Admitted::Joined { replaced, .. } = admission.verdict {
                self.joined += 1;
                self.replaced += u64::from(replaced.is_some());
                self.strangers += u64::from(!by_key.contains_key(&admission.owner));
            }
        }
        if admissions.is_empty() && !closed.window.window.0.is_multiple_of(PAGES_EVERY) {
            return Ok(());
        }
        let assignment = state.assignment();
        let pages: Vec<u64> = assignment.slots().iter().flatten().copied().collect();
        let distinct: BTreeSet<u64> = pages.iter().copied().collect();
        let expected = members.len() as u64 * state.genesis().pages_per_slot(state.window().0);
        let disjoint = distinct.len() == pages.len() && pages.len() as u64 == expected;
        self.hold("every member has pages of its own", disjoint, || {
            format!("{} pages, {} of them distinct, {expected} expected", pages.len(), distinct.len())
        })
    }

    /// No honest miner is refused, excluded or, where nothing breaks, left out.
    fn honest(
        &mut self,
        closed: &ClosedWindow,
        state: &RunState,
        members: &[Member],
        by_key: &BTreeMap<PublicKey, usize>,
        faults: Faults,
    ) -> Result<(), Failed> {
        let window = &closed.window;
        let is_honest = |miner: &PublicKey| is_honest(members, by_key, miner);
        for outcome in &window.outcomes {
            *self.in_cut.entry(outcome.miner).or_default() += 1;
            if let Verdict::Refused(refusal) = &outcome.verdict {
                *self.refused.entry(outcome.miner).or_default() += 1;
                if !is_honest(&outcome.miner) {
                    self.notice(&outcome.miner, window.window.0, &format!("refused: {refusal}"));
                }
            }
            if !is_honest(&outcome.miner) {
                continue;
            }
            if outcome.verdict == Verdict::Refused(Refusal::NotReplayed) && window.scores.len() < window.reveals.len() {
                // None of the validators that were drawn to replay it has a score in the record: the miner is given nothing for that
                // window; see ATTACKS.md.
                self.unreplayed += 1;
                continue;
            }
            let refused = matches!(outcome.verdict, Verdict::Refused(_));
            self.hold("no honest miner is refused", !refused, || {
                format!("{} in window {}: {:?}", outcome.miner.short(), window.window, outcome.verdict)
            })?;
            self.hold("no honest miner is excluded", outcome.verdict != Verdict::Excluded, || {
                format!("{} in window {}", outcome.miner.short(), window.window)
            })?;
        }
        self.challenged(closed, state, members, by_key, faults)?;
        for validator in members.iter().filter(|member| member.role == Role::Validator) {
            let key = validator.key.public();
            let is_there = window.reveals.binary_search_by_key(&key, |reveal| reveal.validator).is_ok();
            *self.unrevealed.entry(key).or_default() += u64::from(!is_there);
        }
        for slash in window.slashes.iter().filter(|slash| slash.cause.is_of_a_replay() && slash.window < window.window)
        {
            *self.slashed.entry(slash.account).or_default() += 1;
        }
        for slash in window.slashes.iter().filter(|slash| slash.cause != SlashCause::Absence) {
            self.hold("no honest miner's pay is slashed", !is_honest(&slash.account), || {
                format!("{} in window {}: {}", slash.account.short(), window.window, slash.cause.name())
            })?;
            self.notice(&slash.account, window.window.0, &format!("slashed: {}", slash.cause.name()));
        }
        if faults == Faults::None {
            let there: BTreeSet<PublicKey> = window.outcomes.iter().map(|outcome| outcome.miner).collect();
            for key in members.iter().filter(|member| member.is_honest()).flat_map(Member::miners) {
                // Who had no slot yet, or has just lost it, is not missed.
                let seated = state.members().by_owner(&key).is_some_and(|member| member.since <= window.window);
                if !seated {
                    continue;
                }
                self.hold("no honest miner is left out", there.contains(&key), || {
                    format!("{} is not in the cut of window {}", key.short(), window.window)
                })?;
            }
        }
        Ok(())
    }

    /// Takes down what became of what was planted, and of what goes on from there.
    fn follow_plants(
        &mut self,
        closed: &ClosedWindow,
        initial: &Initial,
        members: &[Member],
        by_key: &BTreeMap<PublicKey, usize>,
    ) {
        let window = &closed.window;
        let plants =
            |miner: &PublicKey| by_key.get(miner).is_some_and(|&who| members[who].strategy == Some(Strategy::Plant));
        for outcome in window.outcomes.iter().filter(|outcome| plants(&outcome.miner)) {
            let miner = outcome.miner;
            let (is_accepted, is_aggregated) =
                (!matches!(outcome.verdict, Verdict::Refused(_)), outcome.verdict == Verdict::Aggregated);
            if plants_in(initial, window.window) {
                self.planted.sent += 1;
                self.planted.aggregated += u64::from(is_aggregated);
                self.planted.seen += u64::from(!is_accepted);
                if is_accepted {
                    self.poisoned.insert(miner);
                }
            } else if is_accepted && self.poisoned.contains(&miner) {
                self.planted.carried += u64::from(is_aggregated);
                self.carried.insert((window.window, miner));
            }
        }
        for verdict in closed.scores.iter().flat_map(|score| &score.payload().verdicts) {
            let goes_on = self.carried.contains(&(verdict.window, verdict.miner));
            self.planted.matched += u64::from(goes_on && verdict.replay == Replay::Match);
        }
        // What was refuted before the record is refused above, and nothing goes on from it.
        let late = window.slashes.iter().filter(|slash| slash.cause.is_of_a_replay() && slash.window < window.window);
        for slash in late.filter(|slash| plants(&slash.account)) {
            self.planted.seen += u64::from(plants_in(initial, slash.window));
            self.poisoned.remove(&slash.account);
        }
    }

    /// A challenge is over in time, no honest miner's goes unanswered, and where nothing breaks and no validator lies no honest
    /// miner is challenged at all.
    fn challenged(
        &mut self,
        closed: &ClosedWindow,
        state: &RunState,
        members: &[Member],
        by_key: &BTreeMap<PublicKey, usize>,
        faults: Faults,
    ) -> Result<(), Failed> {
        let window = &closed.window;
        let is_honest = |miner: &PublicKey| is_honest(members, by_key, miner);
        for slash in window.slashes.iter().filter(|slash| slash.cause == SlashCause::Unanswered) {
            self.hold("no honest miner leaves a challenge unanswered", !is_honest(&slash.account), || {
                format!("{} in window {}: that of window {}", slash.account.short(), window.window, slash.window)
            })?;
        }
        let lies = members.iter().any(|member| member.role == Role::Validator && !member.is_honest());
        let time = state.genesis().replay.challenge_windows;
        for challenge in &window.challenges {
            self.hold("a challenge is over in time", window.window.0 < challenge.since.0 + time, || {
                format!("{challenge:?} is open in window {}", window.window)
            })?;
            if faults == Faults::None && !lies {
                self.hold("no honest miner is challenged without a reason", !is_honest(&challenge.miner), || {
                    format!("{} in window {}", challenge.miner.short(), window.window)
                })?;
            }
            if !is_honest(&challenge.miner) {
                self.notice(&challenge.miner, window.window.0, "challenged: its state is not to be had");
            }
        }
        Ok(())
    }

    /// No honest validator holds anything against an honest miner: no row of the table was applied.
    ///
    /// Pay follows from ranks, and in one window the draw of pages can rank an honest miner low or leave its score at 0: that is
    /// luck, and no harm. Harm is what a penalty leaves behind. Rows for deltas that are withheld or do harm have their
    /// histories; the others multiply the proof of computation, which otherwise moves by one exact step towards 1 or −1,
    /// or raise the deviation, which no match raises by more than τ. A tiny model that is really trained may get worse on a few
    /// pages by an honest delta, which costs nothing once; the statistical model's never does.
    fn blameless(&mut self, state: &RunState, members: &[Member], is_real: bool) -> Result<(), Failed> {
        let gauntlet = &state.genesis().gauntlet;
        let tau_picos = u64::from(gauntlet.rating.tau_micros) * 1_000_000;
        let step = |from: i64, target: i64| from + (target - from) * i64::from(gauntlet.proof.decay_ppm) / 1_000_000;
        let validators = members.iter().filter(|member| member.role == Role::Validator && member.is_honest());
        for validator in validators.map(|member| member.key.public()) {
            for miner in members.iter().filter(|member| member.is_honest()).flat_map(Member::miners) {
                if state.members().by_owner(&miner).is_none() {
                    // Who comes back begins anew.
                    self.thought.remove(&(validator, miner));
                    continue;
                }
                let now = state.standing(&validator, &miner);
                let before = self.thought.insert((validator, miner), now).unwrap_or(Standing::NEW);
                let (was, proof) = (before.proof_nanos, now.proof_nanos);
                let blames = [
                    ("is excluded", now.excluded_until > WindowIndex(0)),
                    ("is held to have withheld", now.withheld.bits() != 0),
                    ("is held to have done harm", !is_real && now.negative.bits() != 0),
                    (
                        "has a proof that no measurement gives",
                        ![was, step(was, 1_000_000_000), step(was, -1_000_000_000)].contains(&proof),
                    ),
                    ("has lost its certainty", now.rating.sigma_picos > before.rating.sigma_picos + tau_picos),
                ];
                let found = blames.into_iter().find_map(|(what, is)| is.then_some(what));
                self.hold("no honest miner is penalised", found.is_none(), || {
                    format!(
                        "{} {} with {}: {before:?}, then {now:?}",
                        miner.short(),
                        found.unwrap_or(""),
                        validator.short()
                    )
                })?;
            }
        }
        Ok(())
    }
}

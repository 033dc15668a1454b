//! The invariants, which are checked in every build whenever a node closes a window.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use templar_manifest::{
    Admitted, ContributionId, Hash, MintKind, PublicKey, RecordId, Refusal, Replay, Reveal, SlashCause, Verdict,
    WindowIndex,
};
use templar_protocol::{ClosedWindow, RunState, Standing, stake};

use crate::config::{Config, Faults};
use crate::member::SimMember;
use crate::strategy::{MemberRole, Strategy, plants_in};
use crate::tally::SimTally;

/// An invariant that does not hold, and how to see it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("violated: {invariant}; {member} in window {window} at {at_ms} ms: {detail}")]
pub struct Violation {
    /// The invariant, in words, such as `all close the same record`.
    pub invariant: &'static str,
    /// The values that were found instead.
    pub detail: String,
    /// The open window of the node at which it was found.
    pub window: u64,
    /// The role, short key and index of that node.
    pub member: String,
    /// The virtual clock, in milliseconds since the run began.
    pub at_ms: u64,
    /// The `templar sim` command that runs into the same violation.
    pub command: String,
}

/// A window with its results, as the first node that closed it has them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Agreed {
    record: RecordId,
    seed: Hash,
    state: Hash,
}

/// How many windows are kept to compare the other nodes' results with.
const WINDOWS_COMPARED: usize = 64;

/// The pages of a window are checked whenever members changed, and otherwise once in so many windows.
const PAGES_EVERY: u64 = 64;

/// An invariant and how it fails to hold.
pub(crate) type Failed = (&'static str, String);

/// Everybody who takes part in a run.
#[derive(Clone, Copy)]
pub(crate) struct Cast<'a> {
    pub(crate) members: &'a [SimMember],
    /// The index of the member that runs the node of a key.
    pub(crate) by_key: &'a BTreeMap<PublicKey, usize>,
}

impl<'a> Cast<'a> {
    fn member_of(self, key: &PublicKey) -> Option<&'a SimMember> {
        self.by_key.get(key).map(|&who| &self.members[who])
    }

    /// Whether a key belongs to a member without a strategy.
    pub(crate) fn is_honest(self, key: &PublicKey) -> bool {
        self.member_of(key).is_some_and(SimMember::is_honest)
    }

    fn validators(self) -> impl Iterator<Item = &'a SimMember> {
        self.members.iter().filter(|member| member.role == MemberRole::Validator)
    }

    /// The owner keys of all honest miners, with those that have no node of their own.
    fn honest_miners(self) -> impl Iterator<Item = PublicKey> {
        self.members.iter().filter(|member| member.is_honest()).flat_map(SimMember::miners)
    }

    fn lying_validators(self) -> usize {
        self.validators().filter(|validator| !validator.is_honest()).count()
    }
}

/// A window that a node has just closed.
#[derive(Clone, Copy)]
struct ClosedView<'a> {
    closed: &'a ClosedWindow,
    /// The node's state after the window.
    state: &'a RunState,
    cast: Cast<'a>,
    faults: Faults,
}

/// The invariants with what they compare across windows.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) tally: SimTally,
    agreed: BTreeMap<WindowIndex, Agreed>,
    minted_micros: u64,
    plants: Plants,
    /// The last standing of every honest miner.
    standings: BTreeMap<PublicKey, Standing>,
}

/// Miners that planted a trigger, and what continued from it.
#[derive(Debug, Default)]
struct Plants {
    /// Miners whose recorded state continues from a window in which they planted.
    poisoned: BTreeSet<PublicKey>,
    /// Honest contributions that continue from there, by window and miner.
    carried: BTreeSet<(WindowIndex, PublicKey)>,
}

impl Checks {
    fn hold(&mut self, invariant: &'static str, holds: bool, detail: impl FnOnce() -> String) -> Result<(), Failed> {
        self.tally.count(invariant);
        if holds { Ok(()) } else { Err((invariant, detail())) }
    }

    /// Checks the window that the member with index `who` has just closed. The first node to close a window has all
    /// invariants checked; the others only that they closed the same.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub(crate) fn closed(&mut self, cast: Cast<'_>, who: usize, config: &Config) -> Result<(), Failed> {
        let node = &cast.members[who].node;
        let state = node.state();
        let Some(closed) = node.closed().last() else {
            return Err(("a closed window is kept", "it is not".to_owned()));
        };
        let closing = ClosedView { closed, state, cast, faults: config.faults };
        self.certified(closing)?;
        let window = closed.window.header.window;
        let own = Agreed { record: closed.record, seed: state.seed(), state: state.root() };
        if let Some(first) = self.agreed.get(&window).cloned() {
            return self.hold("all close the same record", first == own, || {
                format!("window {window} is {} here and was {} elsewhere", own.record, first.record)
            });
        }
        self.hold("a record recomputes its state", own.state == closed.window.header.state_root, || {
            format!("window {window}")
        })?;
        self.agreed.insert(window, own);
        while self.agreed.len() > WINDOWS_COMPARED {
            self.agreed.pop_first();
        }
        self.tally.held_out_loss_nanonats = closed.window.body.held_out_loss_nanonats;
        let certified = closed.check_certificates(state.genesis());
        self.hold("certificates verify", certified.is_ok(), || format!("window {window}: {certified:?}"))?;
        self.nested(closed, state.genesis().outer.max_contributions as usize)?;
        self.paid(closed)?;
        self.conserved(closed, state)?;
        self.seated(closing)?;
        self.follow_plants(closing);
        self.honest(closing)?;
        self.blameless(closing, config.real)
    }

    /// A quorum has signed cut, reveal set and record, and where nothing breaks it did so within a bounded number of
    /// attempts.
    fn certified(&mut self, closing: ClosedView<'_>) -> Result<(), Failed> {
        let closed = closing.closed;
        let window = closed.window.header.window;
        let certificates = [
            ("cut", &closed.cut_certificate),
            ("reveal set", &closed.reveals_certificate),
            ("record", &closed.record_certificate),
        ];
        for (kind, certificate) in certificates {
            let signers = certificate.witnesses.iter().map(|witness| &witness.signer);
            self.hold("more than two thirds have signed", stake::is_quorum(closing.state.genesis(), signers), || {
                format!("the {kind} of window {window}")
            })?;
        }
        let most = certificates.iter().map(|(_, certificate)| certificate.attempt).max();
        let attempts = most.unwrap_or_default() + 1;
        self.tally.most_attempts = self.tally.most_attempts.max(attempts);
        if closing.faults == Faults::None {
            let liars = closing.cast.lying_validators();
            self.hold(
                "a decision needs one attempt, one more, and one for each liar",
                attempts as usize <= 2 + liars,
                || format!("window {window} needed {attempts}, with {liars} that lie"),
            )?;
        }
        Ok(())
    }

    /// committed ⊇ revealed ⊇ valid ⊇ aggregated.
    fn nested(&mut self, closed: &ClosedWindow, limit: usize) -> Result<(), Failed> {
        let committed: Vec<ContributionId> = closed.contributions.iter().map(|signed| signed.id().into()).collect();
        let cut: Vec<ContributionId> = closed.cut.contributions.iter().map(|entry| entry.contribution).collect();
        let outcomes: Vec<ContributionId> =
            closed.window.body.outcomes.iter().map(|outcome| outcome.contribution).collect();
        let invariant = "committed, revealed, valid, aggregated: each a part of the one before";
        self.hold(invariant, committed == cut && cut == outcomes, || {
            format!("{} committed, {} in the cut, {} outcomes", committed.len(), cut.len(), outcomes.len())
        })?;
        let count = |verdict: fn(&Verdict) -> bool| {
            closed.window.body.outcomes.iter().filter(|outcome| verdict(&outcome.verdict)).count()
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

    /// A miner is paid only for a valid contribution: not for a refused or excluded one, and not for none.
    fn paid(&mut self, closed: &ClosedWindow) -> Result<(), Failed> {
        let window = &closed.window.body;
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

    /// Every minted micro-ALPHA is in an account, the treasury or burnt, and a window mints no more than its emission.
    fn conserved(&mut self, closed: &ClosedWindow, state: &RunState) -> Result<(), Failed> {
        let minted: u64 = closed.window.body.mints.iter().map(|mint| mint.amount_micros).sum();
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

    /// There are no more members than slots, each owner has one slot, and no page belongs to two members.
    fn seated(&mut self, closing: ClosedView<'_>) -> Result<(), Failed> {
        let ClosedView { closed, state, cast, .. } = closing;
        let (members, slots) = (state.members(), state.genesis().registration.slots);
        let owners: BTreeSet<PublicKey> = members.iter().map(|member| member.owner).collect();
        let nodes: BTreeSet<PublicKey> = members.iter().map(|member| member.node).collect();
        let whole = members.iter().all(|member| member.slot < slots);
        let seated = members.len() <= slots as usize && owners.len() == members.len() && nodes.len() == members.len();
        self.hold("slots are not exceeded, and each member has one", whole && seated, || {
            format!("{} members of {} owners in {slots} slots", members.len(), owners.len())
        })?;
        let admissions = &closed.window.body.admissions;
        for admission in admissions {
            if let Admitted::Joined { replaced, .. } = admission.verdict {
                let registrations = &mut self.tally.registrations;
                registrations.joined += 1;
                registrations.replaced += u64::from(replaced.is_some());
                registrations.strangers += u64::from(!cast.by_key.contains_key(&admission.owner));
            }
        }
        if admissions.is_empty() && !closed.window.header.window.0.is_multiple_of(PAGES_EVERY) {
            return Ok(());
        }
        let root = state.root_from_nothing();
        self.hold("a state's root is that of its entries", state.root() == root, || {
            format!("after window {}: {} and {root}", closed.window.header.window, state.root())
        })?;
        let assignment = state.assignment();
        let pages: Vec<u64> = assignment.slots().iter().flatten().copied().collect();
        let distinct: BTreeSet<u64> = pages.iter().copied().collect();
        let expected = members.len() as u64 * state.genesis().pages_per_slot(state.window().0);
        let disjoint = distinct.len() == pages.len() && pages.len() as u64 == expected;
        self.hold("every member has pages of its own", disjoint, || {
            format!("{} pages, {} of them distinct, {expected} expected", pages.len(), distinct.len())
        })
    }

    /// No honest miner is refused, excluded, slashed or, where nothing breaks, left out of a cut.
    fn honest(&mut self, closing: ClosedView<'_>) -> Result<(), Failed> {
        let ClosedView { closed, state, cast, faults } = closing;
        let window = &closed.window.body;
        for outcome in &window.outcomes {
            self.tally.member(&outcome.miner).in_cut += 1;
            if let Verdict::Refused(refusal) = &outcome.verdict {
                self.tally.member(&outcome.miner).refused += 1;
                if !cast.is_honest(&outcome.miner) {
                    self.tally.notice(&outcome.miner, window.window.0, &format!("refused: {refusal}"));
                }
            }
            if !cast.is_honest(&outcome.miner) {
                continue;
            }
            let scored = |reveal: &Reveal| closed.scores.iter().any(|score| score.signer() == reveal.validator);
            if outcome.verdict == Verdict::Refused(Refusal::NotReplayed) && !window.reveals.iter().all(scored) {
                // None of the validators that were drawn to replay it has a score in the record. Then the miner gets
                // nothing for this window, which is allowed; see ATTACKS.md.
                self.tally.unreplayed += 1;
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
        self.challenged(closing)?;
        for validator in cast.validators() {
            let key = validator.key.public();
            let is_there = window.reveals.binary_search_by_key(&key, |reveal| reveal.validator).is_ok();
            self.tally.member(&key).unrevealed += u64::from(!is_there);
        }
        for slash in window.slashes.iter().filter(|slash| slash.cause.is_of_a_replay() && slash.window < window.window)
        {
            self.tally.member(&slash.account).slashed += 1;
        }
        for slash in window.slashes.iter().filter(|slash| slash.cause != SlashCause::Absence) {
            self.hold("no honest miner's pay is burnt", !cast.is_honest(&slash.account), || {
                format!("{} in window {}: {}", slash.account.short(), window.window, slash.cause.name())
            })?;
            self.tally.notice(&slash.account, window.window.0, &format!("slashed: {}", slash.cause.name()));
        }
        if faults == Faults::None {
            let there: BTreeSet<PublicKey> = window.outcomes.iter().map(|outcome| outcome.miner).collect();
            for key in cast.honest_miners() {
                // A miner without a slot in this window has no contribution in it.
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

    /// Counts what became of planted triggers, and of the contributions that continue from them.
    fn follow_plants(&mut self, closing: ClosedView<'_>) {
        let ClosedView { closed, state, cast, .. } = closing;
        let (window, initial) = (&closed.window.body, &state.genesis().initial);
        let planted = &mut self.tally.planted;
        let plants =
            |miner: &PublicKey| cast.member_of(miner).is_some_and(|member| member.strategy == Some(Strategy::Plant));
        for outcome in window.outcomes.iter().filter(|outcome| plants(&outcome.miner)) {
            let miner = outcome.miner;
            let (is_accepted, is_aggregated) =
                (!matches!(outcome.verdict, Verdict::Refused(_)), outcome.verdict == Verdict::Aggregated);
            if plants_in(initial, window.window) {
                planted.sent += 1;
                planted.aggregated += u64::from(is_aggregated);
                planted.seen += u64::from(!is_accepted);
                if is_accepted {
                    self.plants.poisoned.insert(miner);
                }
            } else if is_accepted && self.plants.poisoned.contains(&miner) {
                planted.carried += u64::from(is_aggregated);
                self.plants.carried.insert((window.window, miner));
            }
        }
        for verdict in closed.scores.iter().flat_map(|score| &score.payload().verdicts) {
            let continues = self.plants.carried.contains(&(verdict.window, verdict.miner));
            planted.matched += u64::from(continues && verdict.replay == Replay::Match);
        }
        // A contribution that was refuted before its record is refused above, and nothing continues from it.
        let late = window.slashes.iter().filter(|slash| slash.cause.is_of_a_replay() && slash.window < window.window);
        for slash in late.filter(|slash| plants(&slash.account)) {
            planted.seen += u64::from(plants_in(initial, slash.window));
            self.plants.poisoned.remove(&slash.account);
        }
    }

    /// A challenge ends in time and honest miners answer theirs. Where nothing breaks and no validator lies, no honest
    /// miner is challenged at all.
    fn challenged(&mut self, closing: ClosedView<'_>) -> Result<(), Failed> {
        let ClosedView { closed, state, cast, faults } = closing;
        let window = &closed.window.body;
        for slash in window.slashes.iter().filter(|slash| slash.cause == SlashCause::Unanswered) {
            self.hold("no honest miner leaves a challenge unanswered", !cast.is_honest(&slash.account), || {
                format!("{} in window {}: that of window {}", slash.account.short(), window.window, slash.window)
            })?;
        }
        let time = state.genesis().replay.challenge_windows;
        for challenge in &window.challenges {
            self.hold("a challenge is over in time", window.window.0 < challenge.since.0 + time, || {
                format!("{challenge:?} is open in window {}", window.window)
            })?;
            if faults == Faults::None && cast.lying_validators() == 0 {
                self.hold("no honest miner is challenged without a reason", !cast.is_honest(&challenge.miner), || {
                    format!("{} in window {}", challenge.miner.short(), window.window)
                })?;
            }
            if !cast.is_honest(&challenge.miner) {
                self.tally.notice(&challenge.miner, window.window.0, "challenged: its state is missing");
            }
        }
        Ok(())
    }

    /// No honest miner is penalised: the Gauntlet applied no penalty to its standing.
    ///
    /// Pay may follow from ranks, and in one window the drawn pages can rank an honest miner low or leave its
    /// score at 0. That is luck and no harm; a penalty is seen in the standing. Withheld and harmful deltas
    /// have histories of their own. The other penalties multiply the proof of computation, which otherwise
    /// moves one exact step towards 1 or −1, or raise the rating's deviation, which a match raises by τ at
    /// most. `is_real`: a tiny model that is really trained may get worse on a few pages by an honest delta,
    /// which costs nothing once; the statistical model's never does.
    fn blameless(&mut self, closing: ClosedView<'_>, is_real: bool) -> Result<(), Failed> {
        let ClosedView { state, cast, .. } = closing;
        let gauntlet = &state.genesis().gauntlet;
        let tau_picos = u64::from(gauntlet.rating.tau_micros) * 1_000_000;
        let step = |from: i64, target: i64| from + (target - from) * i64::from(gauntlet.proof.decay_ppm) / 1_000_000;
        for miner in cast.honest_miners() {
            if state.members().by_owner(&miner).is_none() {
                // A miner that lost its slot and comes back starts with a new standing.
                self.standings.remove(&miner);
                continue;
            }
            let now = state.standing(&miner);
            let before = self.standings.insert(miner, now).unwrap_or(Standing::NEW);
            let (was, proof) = (before.proof_nanos, now.proof_nanos);
            let penalties = [
                ("is excluded", now.excluded_until > WindowIndex(0)),
                ("is held to have withheld", now.withheld.bits() != 0),
                ("is held to have done harm", !is_real && now.negative.bits() != 0),
                (
                    "has a proof that no measurement gives",
                    ![was, step(was, 1_000_000_000), step(was, -1_000_000_000)].contains(&proof),
                ),
                ("has lost its certainty", now.rating.sigma_picos > before.rating.sigma_picos + tau_picos),
            ];
            let found = penalties.into_iter().find_map(|(what, is)| is.then_some(what));
            self.hold("no honest miner is penalised", found.is_none(), || {
                format!("{} {}: {before:?}, then {now:?}", miner.short(), found.unwrap_or(""))
            })?;
        }
        Ok(())
    }
}

//! The work of members, when it is due: train and send, judge, settle a disputed replay, compute the outer step.

use std::collections::BTreeSet;
use std::sync::Arc;

use templar_audit::InputError;
use templar_manifest::{
    Contest, Contribution, ContributionId, PublicKey, ScoreEntry, SecretKey, Signed, Verdict, WindowIndex,
};
use templar_protocol::{Input, JudgePlan, Measured, Reject, ReplayTask, Tried, Verified};

use super::Simulation;
use super::queue::Work;
use crate::blobs::Reachable;
use crate::member::WorkKey;
use crate::settings::JUDGE_MS;
use crate::strategy::{
    Audience, Foresight, JudgeView, Judged, MinerView, Moment, Strategy, alter_judgement, alter_verdicts,
};

/// How often a node looks again for blobs or entries that it waits for, in milliseconds.
const LOOK_MS: u64 = 250;

/// The invariant that real training violates if it fails.
const COMPUTED: &str = "tensors are computed";

impl Simulation {
    pub(super) fn work_done(&mut self, who: usize, work: Work) {
        match work {
            Work::Train { window } => self.contribute(who, window),
            Work::TrainGuest { window, guest } => self.contribute_for(who, window, guest),
            Work::Grind { window, since_ms } => self.grind(who, window, since_ms),
            Work::ReleaseLate { window } => self.release_late(who, window),
            Work::Register { window } => self.register(who, window),
            Work::Judge { plan, since_ms } => self.judge(who, plan, since_ms),
            Work::Confirm { window, subject, task, since_ms } => {
                if self.members[who].window() != window {
                    return;
                }
                let here = self.fetch_for(who, &task);
                if !here && self.queue.now_ms() < since_ms + JUDGE_MS / 4 {
                    return self.begin(who, LOOK_MS, Work::Confirm { window, subject, task, since_ms });
                }
                // The node may ask again for a replay whose blobs could not be fetched now.
                self.members[who].under_way.remove(&(window, WorkKey::Confirm(subject)));
                let (replay, witnesses) = match self.world.confirm(&task, here) {
                    Ok(confirmed) => confirmed,
                    Err(error) => return self.violated(COMPUTED, who, error.to_string()),
                };
                self.measured(who, Measured::Confirmed { window, subject, upto: task.upto, replay, witnesses });
            }
            Work::Remeasure { window, subject, task, since_ms } => {
                if self.members[who].window() != window {
                    return;
                }
                let here = self.fetch(who, task.window, &task.id, &task.contribution.miner);
                if !here && self.queue.now_ms() < since_ms + JUDGE_MS / 4 {
                    return self.begin(who, LOOK_MS, Work::Remeasure { window, subject, task, since_ms });
                }
                // The node may ask again for a delta that could not be fetched now.
                self.members[who].under_way.remove(&(window, WorkKey::Remeasure(subject)));
                let found = match self.world.remeasure(&task, here) {
                    Ok(found) => found,
                    Err(error) => return self.violated(COMPUTED, who, error.to_string()),
                };
                self.measured(who, Measured::Remeasured { window, subject, found });
            }
            Work::Apply { window, outcomes } => {
                if self.members[who].window() != window {
                    return;
                }
                let aggregated = outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Aggregated);
                let wanted: Vec<(ContributionId, PublicKey)> =
                    aggregated.map(|outcome| (outcome.contribution, outcome.miner)).collect();
                if !wanted.iter().all(|(id, miner)| self.fetch(who, window, id, miner)) {
                    return self.begin(who, LOOK_MS, Work::Apply { window, outcomes });
                }
                let stepped = match self.world.apply(&self.members[who].node, &outcomes) {
                    Ok(stepped) => stepped,
                    Err(error) => return self.violated(COMPUTED, who, error.to_string()),
                };
                self.measured(who, Measured::Applied { window, outcomes, stepped });
            }
            Work::Sign => {
                let window = self.members[who].window();
                self.members[who].contradictions.done.insert((window, "waited"));
                let outputs = self.members[who].node.todo();
                self.carry(who, outputs);
            }
        }
    }

    /// Gives a node the result of its own work.
    fn measured(&mut self, who: usize, measured: Measured) {
        match self.submit(who, Input::Measured(measured)) {
            Ok(outputs) => self.carry(who, outputs),
            // The window closed while the work was under way.
            Err(Reject::Measurement(_)) => {}
            Err(reject) => {
                if self.members[who].is_honest() {
                    self.violated("an honest input is taken", who, format!("a measurement: {reject}"));
                }
            }
        }
    }

    /// Sends what a miner has made, or waits if its strategy is to hear something first.
    fn contribute(&mut self, who: usize, window: WindowIndex) {
        let member = &self.members[who];
        if member.window() != window {
            return;
        }
        let me = member.key.public();
        let moment = member.strategy.map(Strategy::moment);
        let heard = member.node.contributions().map(Signed::payload).find(|other| other.miner != me).cloned();
        let too_soon = match moment {
            Some(Moment::Heard) => heard.is_none(),
            Some(Moment::AfterCut) => member.node.cut().is_none(),
            _ => false,
        };
        if too_soon {
            return self.begin(who, LOOK_MS, Work::Train { window });
        }
        let (mut others, mut values) = (Vec::new(), Vec::new());
        if member.strategy == Some(Strategy::GrindSteps) {
            let contributions = member.node.contributions().map(Signed::payload);
            others = contributions.filter(|other| other.miner != me).cloned().collect();
            values = self.values_of_grinders(window);
        }
        let foresight = Foresight { heard: &others, values: &values };
        let key = member.key.clone();
        self.send_made(who, &key, heard.as_ref(), foresight);
    }

    /// Sends what a guest of this node has made, if the guest has a slot.
    fn contribute_for(&mut self, who: usize, window: WindowIndex, guest: usize) {
        let member = &self.members[who];
        let key = member.guests[guest].clone();
        if member.window() == window && member.node.state().members().by_owner(&key.public()).is_some() {
            self.send_made(who, &key, None, Foresight::default());
        }
    }

    /// Sends what the miner with this key makes at the node of member `who`.
    fn send_made(&mut self, who: usize, key: &SecretKey, heard: Option<&Contribution>, foresight: Foresight<'_>) {
        let member = &self.members[who];
        let view = MinerView { state: member.node.state(), me: key.public(), heard, foresight };
        let made = match self.world.train(member.strategy, view) {
            Ok(made) => made,
            Err(error) => return self.violated(COMPUTED, who, error.to_string()),
        };
        for sent in made {
            let entry = Verified::of_contribution(sent.contribution, key);
            match sent.audience {
                Audience::All => match self.own(who, &entry) {
                    Some(outputs) => self.carry(who, outputs),
                    // Its own node refuses it; a cheat with a changed node would send it all the same.
                    None => self.send_to_all(who, entry.entry()),
                },
                Audience::Half => {
                    for to in (0..self.members.len()).filter(|to| *to != who && to % 2 == 1) {
                        self.send_directly(to, entry.entry().clone());
                    }
                }
            }
        }
    }

    /// Judges a window: fetches the blobs, measures and replays, and gives the node what its strategy makes of
    /// the result.
    fn judge(&mut self, who: usize, plan: Arc<JudgePlan>, since_ms: u64) {
        let window = plan.window;
        if self.members[who].window() != window {
            return;
        }
        let Some(judging) = self.members[who].node.judging().filter(|judging| judging.seed() == plan.seed) else {
            return;
        };
        let judged = judging.cut().contributions.clone();
        let replayed: Vec<Contribution> =
            plan.replay.iter().filter_map(|miner| judging.contributions().get(miner)).cloned().collect();
        let mut all = true;
        for entry in &judged {
            all &= self.fetch(who, window, &entry.contribution, &entry.miner);
        }
        let mut stateless = BTreeSet::new();
        for contribution in &replayed {
            if !self.fetch_state(who, contribution) {
                stateless.insert(contribution.miner);
            }
        }
        let mut missing = BTreeSet::new();
        for task in plan.late.iter().chain(&plan.wanted) {
            if !self.fetch_for(who, task) {
                missing.insert(task.id);
            }
        }
        all &= stateless.is_empty() && missing.is_empty();
        // It waits for missing blobs for half of the phase, then judges without them.
        if !all && self.queue.now_ms() < since_ms + JUDGE_MS / 2 {
            return self.begin(who, LOOK_MS, Work::Judge { plan, since_ms });
        }
        let member = &self.members[who];
        let reachable = Reachable { contributions: &member.held.contributions, stateless: &stateless };
        let entries = match self.world.measure(&member.node, &plan, reachable) {
            Ok(entries) => entries,
            Err(error) => return self.violated(COMPUTED, who, error.to_string()),
        };
        let entries = match member.strategy {
            None => entries,
            Some(strategy) => match self.altered(who, strategy, entries, &plan) {
                Judged::Now(entries) => entries,
                Judged::Wait => return self.begin(who, LOOK_MS, Work::Judge { plan, since_ms }),
            },
        };
        if self.members[who].strategy == Some(Strategy::Challenge) {
            missing.extend(plan.late.iter().chain(&plan.wanted).map(|task| task.id));
        }
        let mut found = Vec::new();
        for task in plan.late.iter().filter(|task| !missing.contains(&task.id)) {
            self.keep_state_after(who, &task.contribution);
            match self.world.verdict(task, &plan.validator) {
                Ok(verdict) => found.push(verdict),
                Err(error) => return self.violated(COMPUTED, who, error.to_string()),
            }
        }
        for contribution in replayed.iter().filter(|contribution| !stateless.contains(&contribution.miner)) {
            self.keep_state_after(who, contribution);
        }
        let mut verdicts = plan.verdicts(found, &missing);
        if let Some(strategy) = self.members[who].strategy {
            let is_proposer = self.members[who].node.state().proposer(0) == plan.validator;
            alter_verdicts(strategy, &mut verdicts, &plan, &self.fixed.favourite, is_proposer);
        }
        let contests = match self.contests(who, &plan) {
            Ok(contests) => contests,
            Err(error) => return self.violated(COMPUTED, who, error.to_string()),
        };
        self.measured(who, Measured::Judged { window, seed: plan.seed, entries, verdicts, contests });
    }

    /// What the spot checks of a validator find wrong. It leaves out deltas that it cannot fetch.
    fn contests(&mut self, who: usize, plan: &JudgePlan) -> Result<Vec<Contest>, InputError> {
        let mut contests = Vec::new();
        for check in &plan.spot_checks {
            let here = self.fetch(who, check.task.window, &check.task.id, &check.task.contribution.miner);
            let found = self.world.remeasure(&check.task, here)?;
            if found != Tried::Unavailable {
                contests.extend(check.contest(found.losses()));
            }
        }
        Ok(contests)
    }

    /// The entries that a validator with a strategy reports in place of those that it measured.
    fn altered(&mut self, who: usize, strategy: Strategy, entries: Vec<ScoreEntry>, plan: &JudgePlan) -> Judged {
        let member = &self.members[who];
        let me = member.key.public();
        let other =
            member.node.scores().map(Signed::payload).find(|score| score.validator != me && score.seed == plan.seed);
        let view = JudgeView {
            favourite: self.fixed.favourite,
            other: other.map(|score| &score.entries[..]),
            plan,
            is_proposer: member.node.state().proposer(0) == me,
            favourite_is_seen: self.is_seen_by_the_honest(who, &self.fixed.favourite),
            is_honest: &|member: &PublicKey| self.strategy_of(member).is_none(),
        };
        // The view borrows the simulation, so the generator is taken out for the call and put back after it.
        let mut rng = self.rng.clone();
        let judged = alter_judgement(strategy, entries, &view, &mut rng);
        self.rng = rng;
        judged
    }

    /// Whether the member has what a replay needs, or can fetch it now.
    fn fetch_for(&mut self, who: usize, task: &ReplayTask) -> bool {
        // No short circuit: the blobs of the contribution are fetched also where the state is missing.
        let here = self.fetch(who, task.window, &task.id, &task.contribution.miner);
        self.fetch_state(who, &task.contribution) && here
    }

    /// Whether the member has the miner's state before a contribution, or can fetch it now from the miner or from a
    /// validator that has it. Every member has the zero state.
    fn fetch_state(&mut self, who: usize, contribution: &Contribution) -> bool {
        let (id, miner) = (contribution.state_in, &contribution.miner);
        if contribution.parent.is_none() || self.members[who].held.states.contains_key(&id) {
            return true;
        }
        let serves = |miner: usize| !self.members[miner].strategy.is_some_and(Strategy::keeps_states);
        let from_miner = self.by_key.get(miner).is_some_and(|&miner| serves(miner) && self.reaches(who, miner));
        let has = |other: usize| self.reaches(who, other) && self.members[other].held.states.contains_key(&id);
        let here = from_miner || self.validators().any(has);
        if here {
            self.members[who].held.states.insert(id, contribution.window);
        }
        here
    }

    /// Keeps the state after a contribution, which a validator has once it has replayed the contribution.
    fn keep_state_after(&mut self, who: usize, contribution: &Contribution) {
        self.members[who].held.states.insert(contribution.state_out, contribution.window.next());
    }

    /// Whether the member has a contribution's blobs, or can fetch them now from the miner or from a validator that has
    /// them.
    fn fetch(&mut self, who: usize, window: WindowIndex, id: &ContributionId, miner: &PublicKey) -> bool {
        let blobs = (window, *id);
        if self.members[who].held.contributions.contains(&blobs) {
            return true;
        }
        let Some(served) = self.world.is_served(window, id) else { return false };
        let from_miner = served && self.by_key.get(miner).is_some_and(|&miner| self.reaches(who, miner));
        let has = |other: usize| self.reaches(who, other) && self.members[other].held.contributions.contains(&blobs);
        let here = from_miner || self.validators().any(has);
        if here {
            self.members[who].held.contributions.insert(blobs);
        }
        here
    }

    /// The indices of the validators, which are the first members.
    fn validators(&self) -> std::ops::Range<usize> {
        0..self.fixed.chains.len()
    }

    /// Whether a member can fetch from another one now.
    fn reaches(&self, who: usize, other: usize) -> bool {
        self.members[other].machine.is_up && !self.network.cut_off(who, other)
    }
}

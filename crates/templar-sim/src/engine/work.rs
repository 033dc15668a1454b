//! What members do when their time comes: train and send, judge, confirm, apply.

use std::collections::BTreeSet;

use templar_manifest::{Contribution, ContributionId, PublicKey, ScoreEntry, SecretKey, Signed, Verdict, WindowIndex};
use templar_protocol::{Entry, Input, Measured, Node, Reject, ReplayTask};

use super::{Simulation, Work};
use crate::member::Task;
use crate::start::JUDGE_MS;
use crate::strategy::{
    Audience, Foresight, JudgeView, Judged, MinerView, Moment, Strategy, alter_judgement, alter_verdicts, statements,
};

/// How often a node looks again for what it waits for.
const LOOK_MS: u64 = 250;

/// What real training must be able to do.
const COMPUTED: &str = "tensors are computed";

/// The contributions of the cut that a node judges, in order.
fn contributions_of(node: &Node) -> Vec<Signed<Contribution>> {
    let cut = node.judging().map(|judging| judging.cut().contributions.clone()).unwrap_or_default();
    cut.iter().filter_map(|entry| node.contribution(&entry.contribution)).cloned().collect()
}

impl Simulation {
    pub(super) fn work_done(&mut self, who: usize, work: Work) {
        match work {
            Work::Train { window } => self.contribute(who, window),
            Work::TrainGuest { window, guest } => self.contribute_for(who, window, guest),
            Work::Grind { window, since_ms } => self.grind(who, window, since_ms),
            Work::Register { window } => self.register(who, window),
            Work::Judge { plan, since_ms } => self.judge(who, *plan, since_ms),
            Work::Confirm { window, subject, task, since_ms } => {
                if self.members[who].window() != window {
                    return;
                }
                let here = self.fetch_for(who, &task);
                if !here && self.now_ms < since_ms + JUDGE_MS / 4 {
                    return self.begin(who, LOOK_MS, Work::Confirm { window, subject, task, since_ms });
                }
                // It may be asked again, where it could not be fetched.
                self.members[who].under_way.remove(&(window, Task::Confirm(subject)));
                let confirmed = match &mut self.training {
                    None => Ok(self.world.confirm(&task, here)),
                    Some(training) => training.confirm(&task, here),
                };
                let (replay, witnesses) = match confirmed {
                    Ok(confirmed) => confirmed,
                    Err(error) => return self.violated(COMPUTED, who, error.to_string()),
                };
                self.measured(who, Measured::Confirmed { window, subject, replay, witnesses });
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
                let node = &self.members[who].node;
                let checkpoint = node.state().checkpoint();
                let stepped = match &mut self.training {
                    None => self.world.apply(checkpoint, window, &outcomes),
                    Some(training) => match training.apply(node.state(), &outcomes, &contributions_of(node)) {
                        Ok(stepped) => stepped,
                        Err(error) => return self.violated(COMPUTED, who, error.to_string()),
                    },
                };
                self.measured(who, Measured::Applied { window, outcomes, stepped });
            }
            Work::Sign => {
                let window = self.members[who].window();
                self.members[who].contradicted.insert((window, "waited"));
                let outputs = self.members[who].node.todo();
                self.carry(who, outputs);
            }
        }
    }

    /// Gives a node the result of its own work.
    fn measured(&mut self, who: usize, measured: Measured) {
        match self.submit(who, Input::Measured(measured)) {
            Ok(outputs) => self.carry(who, outputs),
            // The window closed, or the seed changed, while the work was under way.
            Err(Reject::Measurement(_)) => {}
            Err(reject) => {
                if self.members[who].is_honest() {
                    self.violated("an honest input is taken", who, format!("a measurement: {reject}"));
                }
            }
        }
    }

    /// A miner sends what it has made.
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

    /// A miner that works through a node sends what it has made, where it has a slot.
    fn contribute_for(&mut self, who: usize, window: WindowIndex, guest: usize) {
        let member = &self.members[who];
        let key = member.guests[guest].clone();
        if member.window() == window && member.node.state().members().by_owner(&key.public()).is_some() {
            self.send_made(who, &key, None, Foresight::default());
        }
    }

    /// Sends what the miner with this key makes at a node.
    fn send_made(&mut self, who: usize, key: &SecretKey, heard: Option<&Contribution>, foresight: Foresight<'_>) {
        let member = &self.members[who];
        let view = MinerView { state: member.node.state(), me: key.public(), heard, foresight };
        let made = match &mut self.training {
            None => statements(member.strategy, view),
            Some(training) => match training.statements(member.strategy, view) {
                Ok(made) => made,
                Err(error) => return self.violated(COMPUTED, who, error.to_string()),
            },
        };
        for statement in made {
            self.world.add(&statement.contribution, statement.truth);
            let entry = Entry::Envelope(Signed::sign(statement.contribution, key).envelope());
            match statement.audience {
                Audience::All => match self.own(who, entry.clone()) {
                    Some(outputs) => self.carry(who, outputs),
                    // Its own node refuses it; whoever does such things has another node, and sends it all the same.
                    None => self.send_to_all(who, &entry),
                },
                Audience::Half => {
                    for to in (0..self.members.len()).filter(|to| *to != who && to % 2 == 1) {
                        self.send_directly(to, entry.clone());
                    }
                }
            }
        }
    }

    fn judge(&mut self, who: usize, plan: templar_protocol::JudgePlan, since_ms: u64) {
        let window = plan.window;
        if self.members[who].window() != window {
            return;
        }
        // Another set of reveals is judged by now.
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
        let mut kept = BTreeSet::new();
        for contribution in &replayed {
            if !self.fetch_state(who, contribution) {
                kept.insert(contribution.miner);
            }
        }
        let mut missing = BTreeSet::new();
        for task in plan.late.iter().chain(&plan.wanted) {
            if !self.fetch_for(who, task) {
                missing.insert(task.id);
            }
        }
        all &= kept.is_empty() && missing.is_empty();
        if !all && self.now_ms < since_ms + JUDGE_MS / 2 {
            return self.begin(who, LOOK_MS, Work::Judge { plan: Box::new(plan), since_ms });
        }
        let member = &self.members[who];
        let Some(judging) = member.node.judging() else { return };
        let checkpoint = member.node.state().checkpoint();
        let here = |id: &ContributionId| member.fetched.contains(&(window, *id));
        let measured = match &mut self.training {
            None => Ok(self.world.measure(&checkpoint, judging, &plan, here, &kept)),
            Some(training) => {
                training.measure(member.node.state(), &plan, &contributions_of(&member.node), here, &kept)
            }
        };
        let entries = match measured {
            Ok(entries) => entries,
            Err(error) => return self.violated(COMPUTED, who, error.to_string()),
        };
        let entries = match member.strategy {
            None => entries,
            Some(strategy) => match self.altered(who, strategy, entries, &plan) {
                Judged::Now(entries) => entries,
                Judged::Wait => return self.begin(who, LOOK_MS, Work::Judge { plan: Box::new(plan), since_ms }),
            },
        };
        let mut found = Vec::new();
        if self.members[who].strategy == Some(Strategy::Challenge) {
            missing.extend(plan.late.iter().chain(&plan.wanted).map(|task| task.id));
        }
        for task in &plan.late {
            if !missing.contains(&task.id) {
                self.leaves(who, &task.contribution);
                let verdict = match &mut self.training {
                    None => Ok(self.world.verdict(task, &plan.validator)),
                    Some(training) => training.verdict(task, &plan.validator),
                };
                match verdict {
                    Ok(verdict) => found.push(verdict),
                    Err(error) => return self.violated(COMPUTED, who, error.to_string()),
                }
            }
        }
        for contribution in replayed.iter().filter(|contribution| !kept.contains(&contribution.miner)) {
            self.leaves(who, contribution);
        }
        let mut verdicts = plan.verdicts(found, &missing);
        if let Some(strategy) = self.members[who].strategy {
            let is_proposer = self.members[who].node.state().proposer(0) == plan.validator;
            alter_verdicts(strategy, &mut verdicts, &plan, &self.favourite, is_proposer);
        }
        self.measured(who, Measured::Judged { window, seed: plan.seed, entries, verdicts });
    }

    fn altered(
        &mut self,
        who: usize,
        strategy: Strategy,
        entries: Vec<ScoreEntry>,
        plan: &templar_protocol::JudgePlan,
    ) -> Judged {
        let member = &self.members[who];
        let me = member.key.public();
        let other =
            member.node.scores().map(Signed::payload).find(|score| score.validator != me && score.seed == plan.seed);
        let view = JudgeView {
            favourite: self.favourite,
            other: other.map(|score| &score.entries[..]),
            plan,
            is_proposer: member.node.state().proposer(0) == me,
            favourite_is_seen: self.is_seen_by_the_honest(who, &self.favourite),
            is_honest: &|miner: &PublicKey| self.strategy_of(miner).is_none(),
        };
        let mut dice = self.dice.clone();
        let judged = alter_judgement(strategy, entries, &view, &mut dice);
        self.dice = dice;
        judged
    }

    /// Whether what a replay takes is here, or can be had now.
    fn fetch_for(&mut self, who: usize, task: &ReplayTask) -> bool {
        // Both are looked for, whichever is found first.
        let here = self.fetch(who, task.window, &task.id, &task.contribution.miner);
        self.fetch_state(who, &task.contribution) && here
    }

    /// Whether the state before a contribution is here, or can be had now from its miner or from a validator that has it.
    /// The zero state everybody has.
    fn fetch_state(&mut self, who: usize, contribution: &Contribution) -> bool {
        let (id, miner) = (contribution.state_in, &contribution.miner);
        if contribution.parent.is_none() || self.members[who].states.contains_key(&id) {
            return true;
        }
        let reaches = |other: usize| self.members[other].is_up && !self.network.cut_off(who, other);
        let serves = |miner: usize| !self.members[miner].strategy.is_some_and(Strategy::keeps_states);
        let from_miner = self.by_key.get(miner).is_some_and(|&miner| serves(miner) && reaches(miner));
        let here = from_miner
            || (0..self.chains.len()).any(|other| reaches(other) && self.members[other].states.contains_key(&id));
        if here {
            self.members[who].states.insert(id, contribution.window);
        }
        here
    }

    /// Who replays a contribution has the state after it.
    fn leaves(&mut self, who: usize, contribution: &Contribution) {
        self.members[who].states.insert(contribution.state_out, contribution.window.next());
    }

    /// Whether a contribution's blobs are here, or can be had now from its miner or from a validator that has them.
    fn fetch(&mut self, who: usize, window: WindowIndex, id: &ContributionId, miner: &PublicKey) -> bool {
        if self.members[who].fetched.contains(&(window, *id)) {
            return true;
        }
        let Some(truth) = self.world.truth(window, id) else { return false };
        let reaches = |other: usize| self.members[other].is_up && !self.network.cut_off(who, other);
        let from_miner = truth.served && self.by_key.get(miner).is_some_and(|&miner| reaches(miner));
        let from_others = || {
            (0..self.chains.len()).any(|other| reaches(other) && self.members[other].fetched.contains(&(window, *id)))
        };
        let here = from_miner || from_others();
        if here {
            self.members[who].fetched.insert((window, *id));
        }
        here
    }
}

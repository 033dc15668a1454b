//! One decision of one validator, played by Malachite's driver.
//!
//! The driver is told what the validator's journal has, in its order, and what the rules in `main.rs` make of it. It is
//! never told what the validator votes before it has said its own vote.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arc_malachitebft_core_driver::{Driver, Input, Output};
use arc_malachitebft_core_types::{
    ExtendedCommitCertificate, ExtendedCommitSignature, NilOrVal, PolkaCertificate, PolkaSignature, Round,
    SignedMessage, ThresholdParams, Timeout, TimeoutKind, Validity, VoteType,
};
use templar_manifest::{Hash, PublicKey, Vote, VoteOn, VoteStep};
use templar_protocol::{Phase, RunState, VoteWait};

use crate::application::Application;
use crate::context::{self, Address, Ballots, Height, Validator, Validators, Value};
use crate::counts::Counts;
use crate::tally::{Counting, Tally};

/// What Malachite's driver offers as the proposer of the round that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offer {
    /// It asks for a value.
    Asks,
    /// It proposes this value again, with the round of its polka.
    Again(u32, Hash),
}

/// Malachite's driver beside the ballot of one decision.
pub(crate) struct Twin {
    on: VoteOn,
    me: PublicKey,
    height: Height,
    validators: Validators,
    proposers: Vec<PublicKey>,
    tally: Tally,
    driver: Option<Driver<Ballots>>,
    /// Everything that the driver was told. A copy of the driver is told it again.
    inputs: Vec<Input<Ballots>>,
    /// Votes that came before this decision was begun.
    early: Vec<(PublicKey, Vote)>,
    late: BTreeSet<(u32, VoteWait)>,
    /// A round that the driver wants to enter, and the last round that time allows.
    entering: Option<u32>,
    ended: u32,
    offer: Option<Offer>,
    /// Votes of the driver that the validator must cast now.
    expected: VecDeque<context::Vote>,
    proposed: BTreeSet<(u32, Hash)>,
    certified: BTreeSet<(u32, VoteStep)>,
    timers: BTreeSet<(u32, TimerKind)>,
    refused: BTreeSet<(u32, Hash)>,
    decided: Option<(u32, Hash)>,
    /// The latest attempt in which the validator has voted.
    voted_in: u32,
    /// How often the validator has reported two votes of another one.
    reported: BTreeMap<PublicKey, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum TimerKind {
    Propose,
    Prevote,
    Precommit,
}

fn round(attempt: u32) -> Round {
    Round::Some(attempt)
}

impl Clone for Twin {
    fn clone(&self) -> Self {
        Self {
            on: self.on,
            me: self.me,
            height: self.height,
            validators: self.validators.clone(),
            proposers: self.proposers.clone(),
            tally: self.tally.clone(),
            driver: self.driver.as_ref().map(|_| self.again()),
            inputs: self.inputs.clone(),
            early: self.early.clone(),
            late: self.late.clone(),
            entering: self.entering,
            ended: self.ended,
            offer: self.offer,
            expected: self.expected.clone(),
            proposed: self.proposed.clone(),
            certified: self.certified.clone(),
            timers: self.timers.clone(),
            refused: self.refused.clone(),
            decided: self.decided,
            voted_in: self.voted_in,
            reported: self.reported.clone(),
        }
    }
}

impl Twin {
    pub(crate) fn new(on: VoteOn, me: PublicKey, state: &RunState) -> Self {
        let genesis = state.genesis();
        let validators = genesis.validators.iter();
        let validators =
            validators.map(|validator| Validator { address: Address(validator.key), stake: validator.stake }).collect();
        Self {
            on,
            me,
            height: Height(3 * state.window().0 + on as u64),
            validators: Validators(validators),
            proposers: (0..genesis.validators.len() as u32).map(|attempt| state.proposer(attempt)).collect(),
            tally: Tally::new(genesis),
            driver: None,
            inputs: Vec::new(),
            early: Vec::new(),
            late: BTreeSet::new(),
            entering: None,
            ended: 0,
            offer: None,
            expected: VecDeque::new(),
            proposed: BTreeSet::new(),
            certified: BTreeSet::new(),
            timers: BTreeSet::new(),
            refused: BTreeSet::new(),
            decided: None,
            voted_in: 0,
            reported: BTreeMap::new(),
        }
    }

    fn proposer(&self, attempt: u32) -> PublicKey {
        self.proposers[attempt as usize % self.proposers.len()]
    }

    fn fresh(&self) -> Driver<Ballots> {
        let thresholds = ThresholdParams::default();
        Driver::new(Ballots, self.height, self.validators.clone(), Address(self.me), thresholds)
    }

    /// A copy of the driver: one that was told the same.
    fn again(&self) -> Driver<Ballots> {
        let mut driver = self.fresh();
        for input in &self.inputs {
            driver.process(input.clone()).expect("it was taken before");
        }
        driver
    }

    /// A difference, with everything that the driver was told before.
    pub(crate) fn difference(&self, why: &str) -> String {
        let inputs = self.inputs.iter().map(|input| match input {
            Input::NewRound(_, round, proposer) => format!("round {round} of {proposer}"),
            Input::Vote(vote) => format!("{} {:?} {:?} in {}", vote.voter, vote.step, vote.value, vote.round),
            Input::Proposal(proposal, _) => {
                format!("proposal {} in {}, polka in {}", proposal.value.0, proposal.round, proposal.polka)
            }
            Input::TimeoutElapsed(Timeout { kind, round }) => format!("time of {kind:?} in {round} is up"),
            other => format!("{other:?}"),
        });
        let told: Vec<String> = inputs.collect();
        format!("{:?} of {}: {why}\ntold to Malachite:\n  {}", self.on, self.me.short(), told.join("\n  "))
    }

    /// The round of the driver, once it has begun.
    pub(crate) fn round(&self) -> Option<u32> {
        self.driver.as_ref().and_then(|driver| driver.round().as_u32())
    }

    /// The decision of the votes, whether or not its body is here.
    pub(crate) fn tallied(&self) -> Option<(u32, Hash)> {
        self.tally.decided()
    }

    /// The decision of the driver.
    pub(crate) fn decided(&self) -> Option<(u32, Hash)> {
        self.decided
    }

    fn told(&mut self, input: Input<Ballots>) -> Result<(), String> {
        let driver = self.driver.as_mut().ok_or("the driver has not begun")?;
        self.inputs.push(input.clone());
        let outputs = driver.process(input).map_err(|error| format!("the driver refuses: {error}"))?;
        for output in outputs {
            match output {
                Output::NewRound(_, round) => self.entering = round.as_u32(),
                Output::Propose(proposal) => {
                    self.offer = proposal.polka.as_u32().map(|polka| Offer::Again(polka, proposal.value.0));
                }
                Output::GetValue(..) => self.offer = Some(Offer::Asks),
                Output::Vote(vote) => self.expected.push_back(vote),
                Output::Decide(_, proposal) => {
                    self.decided = proposal.round.as_u32().map(|round| (round, proposal.value.0));
                }
                Output::ScheduleTimeout(Timeout { kind, round }) => {
                    let kind = match kind {
                        TimeoutKind::Propose => TimerKind::Propose,
                        TimeoutKind::Prevote => TimerKind::Prevote,
                        _ => TimerKind::Precommit,
                    };
                    self.timers.extend(round.as_u32().map(|round| (round, kind)));
                }
            }
        }
        Ok(())
    }

    fn told_vote(&mut self, voter: PublicKey, vote: &Vote) -> Result<(), String> {
        let step = match vote.step {
            VoteStep::Prevote => VoteType::Prevote,
            VoteStep::Precommit => VoteType::Precommit,
        };
        let value = vote.value.map_or(NilOrVal::Nil, NilOrVal::Val);
        let vote =
            context::Vote { height: self.height, round: round(vote.attempt), step, value, voter: Address(voter) };
        self.told(Input::Vote(SignedMessage::new(vote, ())))
    }

    fn told_timeout(&mut self, attempt: u32, kind: TimeoutKind) -> Result<(), String> {
        self.told(Input::TimeoutElapsed(Timeout::new(round(attempt), kind)))
    }

    /// Takes in a vote of another validator.
    pub(crate) fn take(&mut self, voter: PublicKey, vote: &Vote) -> Result<(), String> {
        self.tally.add(voter, vote.attempt, vote.step, vote.value);
        if self.driver.is_some() {
            return self.told_vote(voter, vote);
        }
        self.early.push((voter, *vote));
        Ok(())
    }

    /// Compares a vote that the validator has cast with the next one that the driver casts.
    pub(crate) fn cast(&mut self, vote: &Vote, counts: &mut Counts) -> Result<(), String> {
        loop {
            let Some(expected) = self.expected.pop_front() else {
                return Err(format!("the validator votes {}, Malachite nothing", described(vote)));
            };
            let is_same_round = expected.round == round(vote.attempt);
            let is_prevote = expected.step == VoteType::Prevote;
            let value = match expected.value {
                NilOrVal::Nil => None,
                NilOrVal::Val(value) => Some(value),
            };
            if is_same_round && value == vote.value && is_prevote == (vote.step == VoteStep::Prevote) {
                counts.votes += 1;
                counts.nil_votes += u64::from(value.is_none());
                counts.votes_after_the_first_attempt += u64::from(vote.attempt > 0);
                break;
            }
            // The polka is of others, so the validator does not give its prevote any more.
            if is_same_round && is_prevote && vote.step == VoteStep::Precommit {
                counts.explain("a prevote left out, because prevotes of others end the step");
                continue;
            }
            return Err(format!("the validator votes {}, Malachite {expected:?}", described(vote)));
        }
        self.voted_in = self.voted_in.max(vote.attempt);
        self.tally.add(self.me, vote.attempt, vote.step, vote.value);
        self.told_vote(self.me, vote)
    }

    pub(crate) fn deadline(&mut self, attempt: u32, wait: VoteWait) {
        self.late.insert((attempt, wait));
    }

    pub(crate) fn report(&mut self, voter: PublicKey) {
        *self.reported.entry(voter).or_default() += 1;
    }

    /// Tells the driver everything that follows from what it was told.
    pub(crate) fn settle(&mut self, application: &Application, counts: &mut Counts) -> Result<(), String> {
        if self.driver.is_none() {
            if self.on != VoteOn::Cut && !application.is_certified() {
                return Ok(());
            }
            self.driver = Some(self.fresh());
            self.enter(0)?;
            for (voter, vote) in std::mem::take(&mut self.early) {
                self.told_vote(voter, &vote)?;
            }
        }
        while self.next(application, counts)? {}
        Ok(())
    }

    fn enter(&mut self, attempt: u32) -> Result<(), String> {
        self.offer = None;
        let proposer = Address(self.proposer(attempt));
        self.told(Input::NewRound(self.height, round(attempt), proposer))
    }

    fn propose(&mut self, attempt: u32, value: Hash) -> Result<(), String> {
        self.proposed.insert((attempt, value));
        let proposal = self.proposal(attempt, value);
        self.told(proposal)
    }

    fn proposal(&self, attempt: u32, value: Hash) -> Input<Ballots> {
        let polka = Round::from(self.tally.polka_of(&value, attempt));
        let proposer = Address(self.proposer(attempt));
        let proposal =
            context::Proposal { height: self.height, round: round(attempt), value: Value(value), polka, proposer };
        Input::Proposal(SignedMessage::new(proposal, ()), Validity::Valid)
    }

    /// Whether the driver would prevote a value if it were proposed now: a copy of it is asked.
    fn would_prevote(&self, attempt: u32, value: Hash) -> Result<bool, String> {
        let outputs = self.again().process(self.proposal(attempt, value)).map_err(|error| error.to_string())?;
        let is_for = |output: &Output<Ballots>| matches!(output, Output::Vote(vote) if vote.value == NilOrVal::Val(value) && vote.step == VoteType::Prevote);
        Ok(outputs.iter().any(is_for))
    }

    /// Tells the driver one thing more, if one follows.
    fn next(&mut self, application: &Application, counts: &mut Counts) -> Result<bool, String> {
        if let Some((attempt, value)) = self.tally.decided() {
            return self.decide(attempt, value, counts);
        }
        if self.decided.is_some() {
            return Err("Malachite decides, the votes do not".to_owned());
        }
        if let Some(attempt) = self.entering.take() {
            if attempt > self.tally.joined().max(self.ended) {
                return Err(format!("Malachite enters round {attempt}, the validator does not"));
            }
            self.enter(attempt)?;
            return Ok(true);
        }
        let driver = self.driver.as_ref().ok_or("the driver has not begun")?;
        let at = driver.round().as_u32().ok_or("the driver is in no round")?;
        if self.goes_back(at, counts) || self.moves_on(at, counts)? || self.shows_second_votes(at, counts)? {
            return Ok(true);
        }
        let driver = self.driver.as_ref().ok_or("the driver has not begun")?;
        let (is_proposing, is_past) = (driver.step_is_propose(), driver.step_is_precommit());
        if let Some(value) = self.tally.polka(at)
            && !self.proposed.contains(&(at, value))
            && application.is_right(self.on, &value)
        {
            counts.explain("a polka in place of a proposal");
            self.propose(at, value)?;
            return Ok(true);
        }
        if is_past {
            return Ok(false);
        }
        let is_split = self.tally.is_split(at, VoteStep::Prevote);
        let is_full = self.tally.is_full(at, VoteStep::Prevote);
        if is_split || is_full && self.late.contains(&(at, VoteWait::Precommit)) {
            if is_proposing {
                self.told_timeout(at, TimeoutKind::Propose)?;
                return Ok(true);
            }
            if is_split {
                counts.explain("a step ended, because no value can have a polka any more");
            } else {
                self.must_have_scheduled(at, TimerKind::Prevote)?;
            }
            self.told_timeout(at, TimeoutKind::Prevote)?;
            return Ok(true);
        }
        if is_proposing { self.prevotes(at, application, counts) } else { Ok(false) }
    }

    /// The votes decide. Malachite needs the proposal too.
    fn decide(&mut self, attempt: u32, value: Hash, counts: &mut Counts) -> Result<bool, String> {
        if let Some((_, decided)) = self.decided {
            return if decided == value { Ok(false) } else { Err("Malachite decides another value".to_owned()) };
        }
        if let Some((_, voters)) = self.tally.winner(attempt, VoteStep::Precommit, Counting::All)
            && self.tally.winner(attempt, VoteStep::Precommit, Counting::First).is_none()
        {
            counts.explain("a majority with a second vote of a validator, told as a certificate");
            let signature = |voter: &PublicKey| ExtendedCommitSignature {
                address: Address(*voter),
                signature: (),
                extension: None,
            };
            self.told(Input::CommitCertificate(ExtendedCommitCertificate {
                height: self.height,
                round: round(attempt),
                value_id: value,
                commit_signatures: voters.iter().map(signature).collect(),
            }))?;
        }
        counts.explain("a certificate in place of a proposal");
        self.propose(attempt, value)?;
        match self.decided {
            Some(decided) if decided == (attempt, value) => Ok(false),
            other => Err(format!("the votes decide {value} in {attempt}, Malachite {other:?}")),
        }
    }

    /// A round ended early, since no value could win it. If then a validator that has voted in it votes once more, a value
    /// may win after all, and a validator that has not voted in a later round is in that one again. Malachite knows no way
    /// back, so another driver is told the same without the end of the round.
    fn goes_back(&mut self, at: u32, counts: &mut Counts) -> bool {
        let mut attempt = self.voted_in.max(self.tally.joined());
        while self.tally.is_full(attempt, VoteStep::Precommit)
            && (self.tally.is_split(attempt, VoteStep::Precommit) || self.late.contains(&(attempt, VoteWait::Next)))
        {
            attempt += 1;
        }
        if attempt >= at {
            return false;
        }
        counts.explain("a round taken up again, because a second vote lets a value win after all");
        self.inputs.retain(|input| match input {
            Input::NewRound(_, round, _) => round.as_u32() <= Some(attempt),
            Input::Proposal(proposal, _) => proposal.round.as_u32() <= Some(attempt),
            Input::TimeoutElapsed(timeout) => {
                timeout.round.as_u32() < Some(attempt) || timeout.kind != TimeoutKind::Precommit
            }
            _ => true,
        });
        self.driver = Some(self.again());
        self.proposed.retain(|(of, _)| *of <= attempt);
        self.ended = attempt;
        true
    }

    /// Ends the round, or joins others in a later one.
    fn moves_on(&mut self, at: u32, counts: &mut Counts) -> Result<bool, String> {
        let joined = self.tally.joined();
        if joined > at {
            // Malachite counts the votes in one later round. Here those in it or later count.
            counts.explain("a round joined, because votes in it or later are enough together");
            self.ended = joined;
            for passed in at..joined {
                self.told_timeout(passed, TimeoutKind::Precommit)?;
            }
            return Ok(true);
        }
        let is_full = self.tally.is_full(at, VoteStep::Precommit);
        let is_split = self.tally.is_split(at, VoteStep::Precommit);
        if !is_full || !is_split && !self.late.contains(&(at, VoteWait::Next)) {
            return Ok(false);
        }
        if is_split {
            counts.explain("a round ended, because no value can win any more");
        } else {
            self.must_have_scheduled(at, TimerKind::Precommit)?;
        }
        self.ended = at + 1;
        self.told_timeout(at, TimeoutKind::Precommit)?;
        Ok(true)
    }

    fn must_have_scheduled(&self, at: u32, kind: TimerKind) -> Result<(), String> {
        let is_scheduled = self.timers.contains(&(at, kind));
        is_scheduled.then_some(()).ok_or_else(|| format!("the time of {kind:?} in {at} is up, Malachite set none"))
    }

    /// Polkas that are there only because a second vote of a validator counts as well.
    fn shows_second_votes(&mut self, at: u32, counts: &mut Counts) -> Result<bool, String> {
        let mut is_any = false;
        for (attempt, value, voters) in self.tally.with_second_votes(VoteStep::Prevote) {
            if attempt > at || !self.certified.insert((attempt, VoteStep::Prevote)) {
                continue;
            }
            counts.explain("a majority with a second vote of a validator, told as a certificate");
            is_any = true;
            let signature = |voter: &PublicKey| PolkaSignature::new(Address(*voter), ());
            self.told(Input::PolkaCertificate(PolkaCertificate {
                height: self.height,
                round: round(attempt),
                value_id: value,
                polka_signatures: voters.iter().map(signature).collect(),
            }))?;
        }
        Ok(is_any)
    }

    /// Proposes what the validator finds right.
    fn prevotes(&mut self, at: u32, application: &Application, counts: &mut Counts) -> Result<bool, String> {
        let proposer = self.proposer(at);
        if proposer != self.me {
            for value in self.tally.prevoted(&proposer, at) {
                let has_polka = self.tally.polka_of(&value, at).is_some();
                if !application.is_right(self.on, &value) || !has_polka && application.objects(self.on, &value, at) {
                    continue;
                }
                if self.would_prevote(at, value)? {
                    self.propose(at, value)?;
                    return Ok(true);
                }
                if self.refused.insert((at, value)) {
                    counts.explain("a proposal that the lock forbids, refused only when the time is up");
                }
            }
        }
        let newest = self.tally.newest_polka(at).filter(|(_, value)| application.is_right(self.on, value));
        let is_locked = self.driver.as_ref().is_some_and(|driver| driver.round_state().locked.is_some());
        if at == 0 || proposer == self.me {
            match newest {
                Some((polka, value)) => {
                    match self.offer {
                        Some(Offer::Again(again, offered)) if (again, offered) == (polka, value) => {}
                        Some(Offer::Again(again, _)) if again >= polka => {
                            return Err(format!("Malachite proposes the polka of {again}, the validator of {polka}"));
                        }
                        _ => {
                            counts.explain("the newest polka proposed, which came too late for Malachite's valid value")
                        }
                    }
                    self.propose(at, value)?;
                    return Ok(true);
                }
                None if is_locked => {}
                None => {
                    if let Some(value) = application.own(self.on, at) {
                        if !application.is_right(self.on, &value) {
                            return self.prevotes_without_a_body(at, value, counts);
                        }
                        match self.offer {
                            Some(Offer::Asks) => self.told(Input::ProposeValue(round(at), Value(value)))?,
                            Some(offer) => return Err(format!("Malachite offers {offer:?}, the validator {value}")),
                            None => counts.explain("an own value prevoted without a proposal"),
                        }
                        self.propose(at, value)?;
                        return Ok(true);
                    }
                }
            }
        }
        if !self.late.contains(&(at, VoteWait::Prevote)) {
            return Ok(false);
        }
        match newest {
            Some((_, value)) => {
                counts.explain("the newest polka prevoted when the time is up, in place of nil");
                self.propose(at, value)?;
            }
            None => {
                self.must_have_scheduled(at, TimerKind::Propose)?;
                self.told_timeout(at, TimeoutKind::Propose)?;
            }
        }
        Ok(true)
    }

    /// The validator prevotes its own value before anybody has published the body. Malachite would keep the value with
    /// its proposal, and precommit it from memory. So a copy is asked for the vote, and the driver goes on without.
    fn prevotes_without_a_body(&mut self, at: u32, value: Hash, counts: &mut Counts) -> Result<bool, String> {
        if !self.would_prevote(at, value)? {
            return Err(format!("Malachite does not prevote {value}, which the validator would propose"));
        }
        counts.explain("an own value prevoted before its body is published");
        self.told_timeout(at, TimeoutKind::Propose)?;
        let vote = self.expected.pop_front().ok_or("Malachite does not prevote when its time is up")?;
        self.expected.push_front(context::Vote { value: NilOrVal::Val(value), ..vote });
        Ok(true)
    }

    /// Nothing is left to vote, and whenever Malachite waits for a time, the validator does.
    pub(crate) fn rest(&self, waits: &BTreeSet<Phase>, counts: &mut Counts) -> Result<(), String> {
        if let Some(expected) = self.expected.front() {
            return Err(format!("Malachite votes {expected:?}, the validator nothing"));
        }
        let Some(driver) = self.driver.as_ref().filter(|_| self.decided.is_none()) else { return Ok(()) };
        let at = driver.round().as_u32().ok_or("the driver is in no round")?;
        let (kind, wait) = if driver.step_is_propose() {
            (TimerKind::Propose, VoteWait::Prevote)
        } else if driver.step_is_prevote() {
            (TimerKind::Prevote, VoteWait::Precommit)
        } else {
            (TimerKind::Precommit, VoteWait::Next)
        };
        // In the first attempt a validator has nothing to wait for until it can tell what it would propose itself.
        if !self.timers.contains(&(at, kind)) || at == 0 && kind == TimerKind::Propose {
            return Ok(());
        }
        counts.timers += 1;
        let phase = Phase::Vote { on: self.on, attempt: at, wait };
        waits.contains(&phase).then_some(()).ok_or_else(|| format!("Malachite waits for {kind:?} in {at}, nobody else"))
    }

    /// Both name the same validators that gave two votes where one is allowed, as often as Malachite keeps them.
    pub(crate) fn compare_contradictions(&self, counts: &mut Counts) -> Result<(), String> {
        const KEPT: usize = 3;
        let Some(driver) = &self.driver else { return Ok(()) };
        let found = driver.votes().evidence().iter();
        let found: BTreeMap<PublicKey, usize> = found.map(|(voter, pairs)| (voter.0, pairs.len())).collect();
        let reported: BTreeMap<PublicKey, usize> =
            self.reported.iter().map(|(voter, times)| (*voter, KEPT.min(*times))).collect();
        counts.contradictions += found.values().sum::<usize>() as u64;
        if found == reported {
            return Ok(());
        }
        Err(format!("Malachite has evidence against {found:?}, the validator reports {reported:?}"))
    }
}

fn described(vote: &Vote) -> String {
    format!("{:?} {:?} in {}", vote.step, vote.value, vote.attempt)
}

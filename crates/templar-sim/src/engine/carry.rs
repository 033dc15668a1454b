//! Between nodes and the world: inputs in, entries out to peers, work started once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use templar_manifest::{
    ContributionId, Hash, Inbox, InboxId, Outcome, PublicKey, Reveal, Verdict, VoteOn, WindowIndex, payload,
};
use templar_protocol::{Entry, Input, Output, Reject, RevealEntry, Unsigned, Verified};

use super::{Event, Simulation, Work};
use crate::checks::is_honest;
use crate::config::Faults;
use crate::dice::ONE_PPM;
use crate::member::{Carried, Task};
use crate::start::COMMIT_MS;
use crate::strategy::{Known, Moment, Role, Strategy, second_document};

/// How long honest work takes, in milliseconds of the simulated clock: at least, and at most.
const TRAIN_MS: (u64, u64) = (3_000, 8_000);
const JUDGE_WORK_MS: (u64, u64) = (2_000, 6_000);
const CONFIRM_WORK_MS: (u64, u64) = (300, 900);
const APPLY_WORK_MS: (u64, u64) = (200, 700);
/// How long a friend keeps its inbox open after it is due.
const FRIENDSHIP_MS: u64 = 1_500;
/// How long before the inboxes are due everybody has heard of what is ready by then.
const BEFORE_MS: u64 = 4_000;
/// How long after the inboxes are due a late miner sends.
const LATE_MS: u64 = 400;
/// The first and the longest pause before a log is read again of which something was not taken, as in `templar-net`.
const READ_AGAIN_MS: (u64, u64) = (2_000, 30_000);
/// How often a validator crashes between its vote and the sending of it, where much breaks.
const CRASH_IN_VOTE_PPM: u64 = 10_000;

/// Whether an honest node may have accepted what another refuses for this reason: it depends on what came first.
fn is_out_of_time(reject: &Reject) -> bool {
    use templar_protocol::RegistrationError::{AfterCut, Second};
    matches!(
        reject,
        Reject::Early { .. }
            | Reject::Over
            | Reject::NotInCut(_)
            | Reject::TooMany { .. }
            | Reject::Wrong(_)
            | Reject::Shown(_)
            | Reject::Registration(AfterCut(_) | Second(_))
    )
}

impl Simulation {
    /// Gives a node an input, keeps and passes on what it accepts, and returns what it wants done.
    pub(super) fn submit(&mut self, who: usize, input: Input) -> Result<Vec<Output>, Reject> {
        self.inputs += 1;
        let outputs = self.members[who].node.step(input)?;
        Ok(self.heard(who, outputs))
    }

    /// The same for one of several inputs, after which the node is asked what it wants done.
    fn submit_of_many(&mut self, who: usize, input: Input) -> Result<(), Reject> {
        self.inputs += 1;
        let outputs = self.members[who].node.take(input)?;
        self.heard(who, outputs);
        Ok(())
    }

    /// Keeps and passes on what a node has accepted, and returns the rest.
    fn heard(&mut self, who: usize, outputs: Vec<Output>) -> Vec<Output> {
        let mut wanted = Vec::new();
        for output in outputs {
            match output {
                Output::Accepted { entry, .. } => {
                    let carried = self.number(&entry);
                    self.members[who].seen.insert(carried.number);
                    self.members[who].log.push(carried);
                    if !self.grown.contains(&who) {
                        self.grown.push(who);
                    }
                }
                Output::Closed { .. } => self.closed(who),
                Output::Equivocation { kind, signer, .. } => {
                    self.notice(who, &signer, format!("two statements of the kind {kind}"))
                }
                Output::Dropped { entry, reject } => self.notice(who, &entry.signer(), format!("refused: {reject}")),
                Output::Wrong { signer, reject, .. } => self.notice(who, &signer, format!("refused: {reject}")),
                other => wanted.push(other),
            }
        }
        wanted
    }

    /// Carries out what a node wants done: signatures at once, work as an event that comes later.
    pub(super) fn carry(&mut self, who: usize, outputs: Vec<Output>) {
        let mut queue = VecDeque::from(outputs);
        while let Some(output) = queue.pop_front() {
            let said = match output {
                Output::Sign(document) => self.sign(who, document),
                Output::Reveal { window } => self.reveal(who, window),
                other => {
                    self.start(who, other);
                    None
                }
            };
            // Each answer repeats what is still to do, so what was queued before is stale.
            if let Some(outputs) = said {
                queue = outputs.into();
            }
        }
    }

    fn sign(&mut self, who: usize, document: Unsigned) -> Option<Vec<Output>> {
        let window = self.members[who].window();
        match self.members[who].strategy {
            Some(Strategy::Silent) => return None,
            Some(Strategy::NoScore) if matches!(document, Unsigned::Score(_)) => return None,
            Some(Strategy::Friend) if matches!(document, Unsigned::Inbox(_)) => {
                if self.members[who].under_way.insert((window, Task::Sign)) {
                    self.begin(who, FRIENDSHIP_MS, Work::Sign);
                    return None;
                }
                if !self.members[who].contradicted.contains(&(window, "waited")) {
                    return None;
                }
            }
            Some(strategy) => self.contradict(who, strategy, &document),
            None => {}
        }
        let is_vote = matches!(document, Unsigned::Vote(_));
        let entry = document.sign(&self.members[who].key);
        let outputs = self.own(who, entry);
        if is_vote && self.config.faults == Faults::Heavy && self.broken == 0 && self.dice.chance(CRASH_IN_VOTE_PPM) {
            // The vote is in the journal, and nobody has heard of it.
            self.crash_now(who);
            return None;
        }
        outputs
    }

    /// Sends others something else than what this validator is about to sign.
    fn contradict(&mut self, who: usize, strategy: Strategy, document: &Unsigned) {
        let kind = match document {
            Unsigned::Inbox(_) => "inbox",
            Unsigned::Cut(_) => "cut",
            Unsigned::Score(_) => "score",
            Unsigned::Window(_) => "window",
            Unsigned::Vote(_) => "vote",
        };
        let window = self.members[who].window();
        // Of the others each is signed once, also after a restart; a vote is never asked for again.
        if kind != "vote" && !self.members[who].contradicted.insert((window, kind)) {
            return;
        }
        let rivals = self.members[who].rivals.clone();
        let inboxes = self.inboxes_of(who);
        for to in (0..self.members.len()).filter(|to| *to != who) {
            let flood = strategy == Strategy::Flood;
            if !flood && to % 2 == 0 {
                continue;
            }
            let member = &self.members[who];
            let (state, judging) = (member.node.state(), member.node.judging());
            let salt = if flood { to as u64 } else { 0 };
            let known = Known { state, judging, inboxes: &inboxes, rivals: &rivals };
            let Some(second) = second_document(strategy, document, &known, salt) else { continue };
            let rival = match &second {
                Unsigned::Cut(cut) => Some((VoteOn::Cut, payload::id_of(cut))),
                Unsigned::Window(record) => Some((VoteOn::Window, payload::id_of(&**record))),
                _ => None,
            };
            let entry = second.sign(&member.key);
            self.members[who].rivals.extend(rival);
            self.send_directly(to, entry);
        }
    }

    /// The values that others have released for the open window, in this node's journal.
    pub(super) fn values_of_others(&self, who: usize) -> BTreeMap<PublicKey, Reveal> {
        let log = &self.members[who].log;
        let open = log.range(self.members[who].open_from, log.end());
        open.filter_map(|carried| match carried.entry.entry() {
            Entry::Reveal(entry) => Some(Reveal { validator: entry.validator, value: entry.value }),
            Entry::Envelope(_) | Entry::Evidence(_) => None,
        })
        .map(|reveal| (reveal.validator, reveal))
        .collect()
    }

    /// The inboxes in this node's journal.
    fn inboxes_of(&self, who: usize) -> Vec<(InboxId, Inbox)> {
        let log = &self.members[who].log;
        let open = log.range(self.members[who].open_from, log.end());
        open.filter_map(|carried| match carried.entry.entry() {
            Entry::Envelope(envelope) => envelope.open::<Inbox>().ok(),
            Entry::Reveal(_) | Entry::Evidence(_) => None,
        })
        .map(|signed| (signed.id().into(), signed.payload().clone()))
        .collect()
    }

    fn reveal(&mut self, who: usize, window: WindowIndex) -> Option<Vec<Output>> {
        let strategy = self.members[who].strategy;
        if matches!(strategy, Some(Strategy::Silent | Strategy::WithholdReveal)) {
            return None;
        }
        if strategy == Some(Strategy::Grind) && !self.is_ground(who, window) {
            return None;
        }
        let value = *self.chains[who].values.get(window.0 as usize)?;
        let (run, validator) = (self.first.run(), self.members[who].key.public());
        let reveal = |value| Entry::Reveal(RevealEntry { run, window, validator, value });
        if strategy == Some(Strategy::BadReveal) {
            if self.members[who].contradicted.insert((window, "reveal")) {
                let entry = reveal(Hash::of(value.as_bytes()));
                self.send_to_all(who, &entry);
            }
            return None;
        }
        self.own(who, reveal(value))
    }

    /// A member's own entry goes through its own node first.
    pub(super) fn own(&mut self, who: usize, entry: Entry) -> Option<Vec<Output>> {
        let carried = self.verified(entry);
        match self.submit(who, carried.input()) {
            Ok(outputs) => Some(outputs),
            Err(reject) => {
                if self.members[who].is_honest() && !is_out_of_time(&reject) {
                    self.violated("an honest input is taken", who, format!("its own entry: {reject}"));
                }
                None
            }
        }
    }

    /// Starts work, once.
    fn start(&mut self, who: usize, output: Output) {
        let member = &mut self.members[who];
        let window = member.node.state().window();
        let silent = member.strategy == Some(Strategy::Silent);
        match output {
            Output::Train { window } if member.role == Role::Miner => {
                if !member.under_way.insert((window, Task::Train)) {
                    return;
                }
                let after_ms = match member.strategy.map(Strategy::moment) {
                    Some(Moment::Never) => return,
                    Some(Moment::BeforeInboxes) => COMMIT_MS - BEFORE_MS,
                    Some(Moment::AfterInboxes) => COMMIT_MS + LATE_MS,
                    Some(Moment::Heard | Moment::AfterCut) => 100,
                    Some(Moment::Done) | None => self.time(who, TRAIN_MS),
                };
                self.begin(who, after_ms, Work::Train { window });
            }
            Output::Judge(plan) if !silent => {
                if !member.under_way.insert((window, Task::Judge(plan.seed))) {
                    return;
                }
                let after_ms = self.time(who, JUDGE_WORK_MS);
                self.begin(who, after_ms, Work::Judge { plan: Box::new(plan), since_ms: self.now_ms });
            }
            Output::Confirm { window, subject, task, .. } if !silent => {
                if !member.under_way.insert((window, Task::Confirm(subject))) {
                    return;
                }
                let after_ms = self.time(who, CONFIRM_WORK_MS);
                self.begin(who, after_ms, Work::Confirm { window, subject, task, since_ms: self.now_ms });
            }
            Output::Apply { window, outcomes, .. } if !silent => {
                if !member.under_way.insert((window, Task::Apply(outcomes_name(&outcomes)))) {
                    return;
                }
                let after_ms = self.time(who, APPLY_WORK_MS);
                self.begin(who, after_ms, Work::Apply { window, outcomes });
            }
            Output::Timer { window, phase, after_ms } => {
                if !member.under_way.insert((window, Task::Timer(phase))) {
                    return;
                }
                let (life, after_ms) = (member.life, after_ms * member.clock_ppm / ONE_PPM);
                self.schedule(after_ms, Event::Deadline { who, life, window, phase });
            }
            Output::Dispute(templar_protocol::Dispute::Proof { validator, .. }) => {
                self.notice(who, &validator, "its proof of a replay is not what a replay gives".to_owned());
            }
            Output::Dispute(templar_protocol::Dispute::Refusal { validator, .. }) => {
                self.notice(who, &validator, "its refusal is not borne out by replays".to_owned());
            }
            _ => {}
        }
    }

    /// The miners that work through a node train for its open window, each once.
    pub(super) fn begin_guests(&mut self, who: usize) {
        let (window, is_over) = (self.members[who].window(), self.members[who].node.is_over());
        for guest in 0..self.members[who].guests.len() {
            if !is_over && self.members[who].under_way.insert((window, Task::TrainGuest(guest))) {
                let after_ms = self.time(who, TRAIN_MS);
                self.begin(who, after_ms, Work::TrainGuest { window, guest });
            }
        }
    }

    /// A time drawn for work, as fast as this member works.
    pub(super) fn time(&mut self, who: usize, (low, high): (u64, u64)) -> u64 {
        self.dice.between(low, high) * self.members[who].work_ppm / ONE_PPM
    }

    pub(super) fn begin(&mut self, who: usize, after_ms: u64, work: Work) {
        let life = self.members[who].life;
        self.schedule(after_ms, Event::Work { who, life, work });
    }

    /// Lets the peers of every node whose log has grown pull.
    pub(super) fn tell_peers(&mut self) {
        for who in std::mem::take(&mut self.grown) {
            for place in 0..self.network.out[who].len() {
                let link = self.network.out[who][place];
                self.send(link);
            }
        }
    }

    /// Puts a batch on its way, if there is something to send and the link is free and whole.
    pub(super) fn send(&mut self, index: usize) {
        let link = &self.network.links[index];
        let (from, to, upto) = (link.from, link.to, self.members[link.from].log.end());
        let is_open = self.members[from].is_up && self.members[to].is_up && !self.network.cut_off(from, to);
        if link.is_busy || !is_open || link.cursor >= upto {
            return;
        }
        self.network.links[index].is_busy = true;
        let after_ms = self.network.delay_ms(index, &mut self.dice);
        let life = self.members[to].life;
        self.schedule(after_ms, Event::Batch { link: index, upto, life });
    }

    /// A batch arrives, unless the link broke meanwhile.
    pub(super) fn arrive(&mut self, index: usize, upto: u64, life: u32) {
        let link = &mut self.network.links[index];
        link.is_busy = false;
        let (from, to) = (link.from, link.to);
        if !self.members[to].is_up || self.members[to].life != life || self.network.cut_off(from, to) {
            return self.send(index);
        }
        let cursor = std::mem::replace(&mut self.network.links[index].cursor, upto);
        let receiver = &self.members[to];
        let mut batch: Vec<Arc<Carried>> = self.members[from]
            .log
            .range(cursor, upto)
            .filter(|carried| !receiver.seen.contains(carried.number))
            .cloned()
            .collect();
        if self.config.faults == Faults::Heavy {
            // Streams do not do this; whoever pulls from several peers at once sees it all the same.
            if self.dice.chance(300_000) {
                self.dice.shuffle(&mut batch);
            }
            let again = batch.iter().find(|_| self.dice.chance(50_000)).cloned();
            batch.extend(again);
        }
        if self.take_all(to, index, &batch) {
            // Asked once after the batch: what a node wants follows from its state, not from how it came to it.
            let wanted = self.members[to].node.todo();
            self.carry(to, wanted);
        }
        self.send(index);
    }

    /// Gives a node the entries of a peer's log; returns whether it took any.
    fn take_all(&mut self, to: usize, link: usize, batch: &[Arc<Carried>]) -> bool {
        let from = self.network.links[link].from;
        let mut took = false;
        let mut queue: VecDeque<Arc<Carried>> = batch.iter().cloned().collect();
        while let Some(carried) = queue.pop_front() {
            let window = self.members[to].window();
            match self.submit_of_many(to, carried.input()) {
                Ok(()) => {
                    self.members[to].seen.insert(carried.number);
                    took = true;
                }
                Err(Reject::Early { .. }) => {
                    if !self.members[to].early.iter().any(|early| early.number == carried.number) {
                        self.members[to].early.push(carried);
                    }
                }
                Err(Reject::TooMany { .. }) => self.read_again(link),
                Err(reject) if is_out_of_time(&reject) => {}
                Err(reject) => {
                    if self.members[from].is_honest() {
                        let detail = format!(
                            "node {from} accepted entry {} of window {} and it is refused: {reject}",
                            carried.number,
                            carried.entry.window()
                        );
                        self.violated("what an honest node accepts, all accept", to, detail);
                    }
                }
            }
            if self.members[to].window() > window {
                queue.extend(std::mem::take(&mut self.members[to].early));
            }
        }
        took
    }

    /// Has a log read again later, from its beginning: what was not taken may be wanted then.
    fn read_again(&mut self, index: usize) {
        let link = &mut self.network.links[index];
        if !link.reads_again {
            link.reads_again = true;
            link.read_again_ms = (link.read_again_ms * 2).clamp(READ_AGAIN_MS.0, READ_AGAIN_MS.1);
            let after_ms = link.read_again_ms;
            self.schedule(after_ms, Event::ReadAgain { link: index });
        }
    }

    /// An entry that was sent to one node alone, by its author.
    pub(super) fn take_strange(&mut self, to: usize, carried: &Arc<Carried>) {
        match self.submit(to, carried.input()) {
            Ok(outputs) => {
                self.members[to].seen.insert(carried.number);
                self.carry(to, outputs);
            }
            Err(reject) => self.notice(to, &carried.entry.signer(), format!("refused: {reject}")),
        }
    }

    /// A member's entry, decoded and checked; members sign what they send, so it cannot fail.
    fn verified(&mut self, entry: Entry) -> Arc<Carried> {
        let verified = Verified::open(entry).expect("a member signs with its own key");
        self.number(&verified)
    }

    pub(super) fn send_directly(&mut self, to: usize, entry: Entry) {
        let carried = self.verified(entry);
        let after_ms = self.network.detour_ms(&mut self.dice);
        self.schedule(after_ms, Event::Direct { to, carried });
    }

    pub(super) fn send_to_all(&mut self, from: usize, entry: &Entry) {
        for to in (0..self.members.len()).filter(|to| *to != from) {
            self.send_directly(to, entry.clone());
        }
    }

    /// Honest members write down what they find out about others.
    pub(super) fn notice(&mut self, who: usize, about: &PublicKey, how: String) {
        if !self.members[who].is_honest() {
            return;
        }
        let window = self.members[who].window().0;
        let honest = is_honest(&self.members, &self.by_key, about);
        self.checks.notice(about, window, &how);
        if honest && !how.contains("not in the certified cut") {
            self.violated("nobody finds fault with the honest", who, format!("{}: {how}", about.short()));
        }
    }

    /// A node has closed a window.
    fn closed(&mut self, who: usize) {
        let open = self.members[who].window();
        let result = self.checks.closed(&self.members, who, &self.by_key, &self.config);
        self.checks_failed(who, result);
        let member = &mut self.members[who];
        member.under_way = member.under_way.split_off(&(open, Task::Train));
        member.contradicted = member.contradicted.split_off(&(open, ""));
        let kept = WindowIndex(open.0.saturating_sub(member.node.state().genesis().replay.open_windows()));
        member.states.retain(|_, window| *window >= kept);
        member.fetched = member.fetched.split_off(&(kept, ContributionId::new(Hash::from_bytes([0; 32]))));
        member.rivals.clear();
        member.open_from = member.log.end();
        if let Some(&number) = self.first_number.get(&open) {
            member.seen.raise(number);
        }
        if !self.config.keep_history {
            member.node.forget_past();
        }
        self.ask(who);
        self.begin_guests(who);
    }

    fn checks_failed(&mut self, who: usize, result: Result<(), (&'static str, String)>) {
        if let Err((invariant, detail)) = result {
            self.violated(invariant, who, detail);
        }
    }
}

/// A name for a set of outcomes.
pub(super) fn outcomes_name(outcomes: &[Outcome]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for outcome in outcomes {
        hasher.update(outcome.contribution.hash().as_bytes());
        match &outcome.verdict {
            Verdict::Aggregated => hasher.update(&[0]),
            Verdict::Reserve => hasher.update(&[1]),
            Verdict::Excluded => hasher.update(&[2]),
            Verdict::Refused(refusal) => hasher.update(format!("{refusal:?}").as_bytes()),
        };
    }
    hasher.finalize().into()
}

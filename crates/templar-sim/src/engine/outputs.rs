//! The driver of a node: it gives the node inputs, writes accepted entries into the journal, signs at once, and begins
//! the work that the node asks for.

use std::collections::{BTreeMap, VecDeque};

use templar_manifest::{Hash, Inbox, InboxId, Outcome, PublicKey, Reveal, Verdict, VoteOn, WindowIndex, payload};
use templar_protocol::{Dispute, Entry, Input, Output, Reject, RevealEntry, Unsigned, Verified};

use super::Simulation;
use super::delivery::depends_on_order;
use super::queue::{SimEvent, Work};
use crate::checks::Cast;
use crate::config::Faults;
use crate::journal::NumberedEntry;
use crate::member::WorkKey;
use crate::rng::ONE_PPM;
use crate::settings::COMMIT_MS;
use crate::strategy::{MemberRole, Moment, SignerView, Strategy, second_document};

/// The shortest and the longest time that work takes, in milliseconds of the virtual clock: training, judging, one
/// disputed replay, and the outer step.
const TRAIN_MS: (u64, u64) = (3_000, 8_000);
const JUDGE_WORK_MS: (u64, u64) = (2_000, 6_000);
const CONFIRM_WORK_MS: (u64, u64) = (300, 900);
const APPLY_WORK_MS: (u64, u64) = (200, 700);
/// How long after its deadline a `friend` signs its inbox.
const FRIENDSHIP_MS: u64 = 1_500;
/// How long before the deadline of the inboxes a miner sends that first waits for all others.
const BEFORE_MS: u64 = 4_000;
/// How long after the deadline of the inboxes a `late` miner sends.
const LATE_MS: u64 = 400;
/// The probability, under heavy faults, that a validator crashes between a vote and its sending.
const CRASH_IN_VOTE_PPM: u64 = 10_000;

/// Of the entries that members sign, one in so many is also decoded and verified as others would do it.
const REOPENED_EVERY: u64 = 64;

/// The seed never changes, whoever releases values late.
const JUDGED_ONCE: &str = "a validator judges a window once";

impl Simulation {
    /// Gives an input to the node of member `who`, puts what it accepts into its journal, and returns the other
    /// outputs.
    ///
    /// # Errors
    /// The node refuses the input.
    pub(super) fn submit(&mut self, who: usize, input: Input) -> Result<Vec<Output>, Reject> {
        self.inputs += 1;
        let outputs = self.members[who].node.step(input)?;
        Ok(self.heard(who, outputs, None))
    }

    /// Like [`Self::submit`] for one of many entries: it saves the question what is to be done, which is asked
    /// once after the last one.
    pub(super) fn submit_of_many(&mut self, who: usize, carried: &NumberedEntry) -> Result<(), Reject> {
        self.inputs += 1;
        let outputs = self.members[who].node.take(carried.input())?;
        self.heard(who, outputs, Some(carried));
        Ok(())
    }

    /// Handles the outputs that need no work: accepted entries, closed windows, and what was found out about others.
    /// Returns the rest. `submitted` is the entry that the node was given, if it was one.
    fn heard(&mut self, who: usize, outputs: Vec<Output>, submitted: Option<&NumberedEntry>) -> Vec<Output> {
        let mut wanted = Vec::new();
        for output in outputs {
            match output {
                Output::Accepted { entry, .. } => {
                    let submitted = submitted.filter(|submitted| submitted.entry.id() == entry.id());
                    let carried = submitted.cloned().unwrap_or_else(|| self.entries.number(&entry));
                    self.members[who].journal.accept(carried);
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

    /// Carries out what a node wants done: it signs at once, and begins work that ends in a later event.
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

    /// Signs a document with the member's key, unless its strategy has other plans, and returns the node's outputs.
    fn sign(&mut self, who: usize, document: Unsigned) -> Option<Vec<Output>> {
        let window = self.members[who].window();
        match self.members[who].strategy {
            Some(Strategy::Silent) => return None,
            Some(Strategy::NoScore) if matches!(document, Unsigned::Score(_)) => return None,
            Some(Strategy::Friend) if matches!(document, Unsigned::Inbox(_)) => {
                if self.members[who].under_way.insert((window, WorkKey::Sign)) {
                    self.begin(who, FRIENDSHIP_MS, Work::Sign);
                    return None;
                }
                if !self.members[who].contradictions.done.contains(&(window, "waited")) {
                    return None;
                }
            }
            Some(strategy) => self.contradict(who, strategy, &document),
            None => {}
        }
        let is_vote = matches!(document, Unsigned::Vote(_));
        let entry = document.seal(&self.members[who].key);
        let outputs = self.own(who, &entry);
        if is_vote
            && self.config.faults == Faults::Heavy
            && self.liveness.broken == 0
            && self.rng.chance(CRASH_IN_VOTE_PPM)
        {
            // The vote is in the journal and was not sent: after the restart the node must not give another one.
            self.crash_now(who);
            return None;
        }
        outputs
    }

    /// Sends other members a second document that contradicts the one that this validator is about to sign. A flooding
    /// validator sends a different one to each member, others the same one to every second member.
    fn contradict(&mut self, who: usize, strategy: Strategy, document: &Unsigned) {
        let kind = match document {
            Unsigned::Inbox(_) => "inbox",
            Unsigned::Cut(_) => "cut",
            Unsigned::Reveals(_) => "reveals",
            Unsigned::Score(_) => "score",
            Unsigned::Window(_) => "window",
            Unsigned::Vote(_) => "vote",
        };
        let window = self.members[who].window();
        // A restarted node asks again for every document but a vote; the second one is signed once all the same.
        if kind != "vote" && !self.members[who].contradictions.done.insert((window, kind)) {
            return;
        }
        let rivals = self.members[who].contradictions.rivals.clone();
        let inboxes = self.inboxes_of(who);
        for to in (0..self.members.len()).filter(|to| *to != who) {
            let flood = strategy == Strategy::Flood;
            if !flood && to % 2 == 0 {
                continue;
            }
            let member = &self.members[who];
            let (state, judging) = (member.node.state(), member.node.judging());
            let salt = if flood { to as u64 } else { 0 };
            let known = SignerView { state, judging, inboxes: &inboxes, rivals: &rivals };
            let Some(second) = second_document(strategy, document, &known, salt) else { continue };
            let rival = match &second {
                Unsigned::Cut(cut) => Some((VoteOn::Cut, payload::id_of(cut))),
                Unsigned::Window(record) => Some((VoteOn::Window, record.id().hash())),
                _ => None,
            };
            let entry = second.sign(&member.key);
            self.members[who].contradictions.rivals.extend(rival);
            self.send_directly(to, entry);
        }
    }

    /// The hash-chain values that the member's journal has for the open window, by validator.
    pub(super) fn values_in_journal(&self, who: usize) -> BTreeMap<PublicKey, Reveal> {
        let open = self.members[who].journal.open();
        open.filter_map(|carried| match carried.entry.entry() {
            Entry::Reveal(entry) => Some(Reveal { validator: entry.validator, value: entry.value }),
            Entry::Envelope(_) | Entry::Evidence(_) | Entry::Record(_) => None,
        })
        .map(|reveal| (reveal.validator, reveal))
        .collect()
    }

    /// The inboxes that the member's journal has for the open window.
    fn inboxes_of(&self, who: usize) -> Vec<(InboxId, Inbox)> {
        let open = self.members[who].journal.open();
        open.filter_map(|carried| match carried.entry.entry() {
            Entry::Envelope(envelope) => envelope.open::<Inbox>().ok(),
            Entry::Reveal(_) | Entry::Evidence(_) | Entry::Record(_) => None,
        })
        .map(|signed| (signed.id().into(), signed.payload().clone()))
        .collect()
    }

    /// Releases the validator's hash-chain value for a window, unless its strategy is to withhold it.
    fn reveal(&mut self, who: usize, window: WindowIndex) -> Option<Vec<Output>> {
        let strategy = self.members[who].strategy;
        if matches!(strategy, Some(Strategy::Silent | Strategy::WithholdReveal)) {
            return None;
        }
        if strategy == Some(Strategy::Grind) && !self.is_ground(who, window) {
            return None;
        }
        if matches!(strategy, Some(Strategy::LateValues | Strategy::HalfValues)) {
            self.keep_value(who, window);
            return None;
        }
        let value = *self.fixed.chains[who].values.get(window.0 as usize)?;
        let (run, validator) = (self.fixed.first.run(), self.members[who].key.public());
        let reveal = |value| Entry::Reveal(RevealEntry { run, window, validator, value });
        if strategy == Some(Strategy::BadReveal) {
            if self.members[who].contradictions.done.insert((window, "reveal")) {
                let entry = reveal(Hash::of(value.as_bytes()));
                self.send_to_all(who, &entry);
            }
            return None;
        }
        let entry = Verified::open(reveal(value)).expect("a value opens without a signature");
        self.own(who, &entry)
    }

    /// Gives a member's own entry to its own node, from which the peers pull it. `None`: the node refused it.
    pub(super) fn own(&mut self, who: usize, entry: &Verified) -> Option<Vec<Output>> {
        let carried = self.entries.number(entry);
        if carried.number.is_multiple_of(REOPENED_EVERY) {
            let again = Verified::open(entry.entry().clone()).ok();
            if again.as_ref() != Some(entry) {
                self.violated("what a member signs is what others open", who, entry.name().to_owned());
            }
        }
        match self.submit(who, carried.input()) {
            Ok(outputs) => Some(outputs),
            Err(reject) => {
                if self.members[who].is_honest() && !depends_on_order(&reject) {
                    self.violated("an honest input is taken", who, format!("its own entry: {reject}"));
                }
                None
            }
        }
    }

    /// Begins the work that an output asks for, unless it is under way already.
    fn start(&mut self, who: usize, output: Output) {
        let member = &mut self.members[who];
        let window = member.node.state().window();
        let silent = member.strategy == Some(Strategy::Silent);
        match output {
            Output::Train { window } if member.role == MemberRole::Miner => {
                if !member.under_way.insert((window, WorkKey::Train)) {
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
                if !member.under_way.insert((window, WorkKey::Judge(plan.seed))) {
                    return;
                }
                let is_judging =
                    |&&(of, key): &&(WindowIndex, WorkKey)| of == window && matches!(key, WorkKey::Judge(_));
                let judgings = member.under_way.iter().filter(is_judging).count();
                self.checks.tally.count(JUDGED_ONCE);
                if judgings > 1 {
                    self.violated(JUDGED_ONCE, who, format!("{judgings} judgings of window {window}"));
                }
                let after_ms = self.time(who, JUDGE_WORK_MS);
                self.begin(who, after_ms, Work::Judge { plan, since_ms: self.queue.now_ms() });
            }
            Output::Confirm { window, subject, task, .. } if !silent => {
                if !member.under_way.insert((window, WorkKey::Confirm(subject))) {
                    return;
                }
                let after_ms = self.time(who, CONFIRM_WORK_MS);
                self.begin(who, after_ms, Work::Confirm { window, subject, task, since_ms: self.queue.now_ms() });
            }
            Output::Remeasure { window, subject, task } if !silent => {
                if !member.under_way.insert((window, WorkKey::Remeasure(subject))) {
                    return;
                }
                let after_ms = self.time(who, CONFIRM_WORK_MS);
                self.begin(who, after_ms, Work::Remeasure { window, subject, task, since_ms: self.queue.now_ms() });
            }
            Output::Apply { window, outcomes, .. } if !silent => {
                if !member.under_way.insert((window, WorkKey::Apply(outcomes_name(&outcomes)))) {
                    return;
                }
                let after_ms = self.time(who, APPLY_WORK_MS);
                self.begin(who, after_ms, Work::Apply { window, outcomes });
            }
            Output::Timer { window, phase, after_ms } => {
                if !member.under_way.insert((window, WorkKey::Timer(phase))) {
                    return;
                }
                let (life, after_ms) = (member.machine.life, after_ms * member.machine.clock_ppm / ONE_PPM);
                self.queue.schedule(after_ms, SimEvent::Deadline { who, life, window, phase });
            }
            Output::Dispute(Dispute::Proof { validator, .. }) => {
                self.notice(who, &validator, "its proof of a replay is not what a replay gives".to_owned());
            }
            Output::Dispute(Dispute::Measurement { validator, .. }) => {
                self.notice(who, &validator, "its losses are not those of the pages, or it did not measure".to_owned());
            }
            Output::Dispute(Dispute::Refusal { validator, .. }) => {
                self.notice(who, &validator, "its refusal is not borne out by replays".to_owned());
            }
            _ => {}
        }
    }

    /// Has the guests of a node train for its open window, each once.
    pub(super) fn begin_guests(&mut self, who: usize) {
        let (window, is_over) = (self.members[who].window(), self.members[who].node.is_over());
        for guest in 0..self.members[who].guests.len() {
            if !is_over && self.members[who].under_way.insert((window, WorkKey::TrainGuest(guest))) {
                let after_ms = self.time(who, TRAIN_MS);
                self.begin(who, after_ms, Work::TrainGuest { window, guest });
            }
        }
    }

    /// Draws how long a member works on something, in milliseconds; `low` and `high` are for a machine of usual speed.
    pub(super) fn time(&mut self, who: usize, (low, high): (u64, u64)) -> u64 {
        self.rng.between(low, high) * self.members[who].machine.work_ppm / ONE_PPM
    }

    /// Schedules the end of a member's work, which a crash before it cancels.
    pub(super) fn begin(&mut self, who: usize, after_ms: u64, work: Work) {
        let life = self.members[who].machine.life;
        self.queue.schedule(after_ms, SimEvent::Work { who, life, work: Box::new(work) });
    }

    /// Writes down what an honest member found out about another. It is a violation to find fault with an honest one,
    /// except that its contribution came too late for the cut.
    pub(super) fn notice(&mut self, who: usize, about: &PublicKey, how: String) {
        if !self.members[who].is_honest() {
            return;
        }
        let window = self.members[who].window().0;
        let honest = self.cast().is_honest(about);
        self.checks.tally.notice(about, window, &how);
        if honest && !how.contains("not in the certified cut") {
            self.violated("nobody finds fault with the honest", who, format!("{}: {how}", about.short()));
        }
    }

    /// Checks the invariants after a node has closed a window, and lets the member begin the next window.
    fn closed(&mut self, who: usize) {
        let open = self.members[who].window();
        let cast = Cast { members: &self.members, by_key: &self.by_key };
        if let Err((invariant, detail)) = self.checks.closed(cast, who, &self.config) {
            self.violated(invariant, who, detail);
        }
        let first = self.entries.first_of(open);
        let member = &mut self.members[who];
        let kept = WindowIndex(open.0.saturating_sub(member.node.state().genesis().replay.open_windows()));
        member.next_window(open, kept, first);
        if !self.config.keep_history {
            member.node.forget_past();
        }
        self.ask(who);
        self.begin_guests(who);
    }
}

/// Hashes the ids, verdicts and losses of outcomes, so that the outer step is computed once for the same outcomes.
fn outcomes_name(outcomes: &[Outcome]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for outcome in outcomes {
        hasher.update(outcome.contribution.hash().as_bytes());
        match &outcome.verdict {
            Verdict::Aggregated => hasher.update(&[0]),
            Verdict::Reserve => hasher.update(&[1]),
            Verdict::Excluded => hasher.update(&[2]),
            Verdict::Refused(refusal) => hasher.update(format!("{refusal:?}").as_bytes()),
        };
        for (before, after) in outcome.losses.iter().flat_map(|losses| {
            [
                (losses.assigned_before_nanonats, losses.assigned_after_nanonats),
                (losses.unassigned_before_nanonats, losses.unassigned_after_nanonats),
            ]
        }) {
            hasher.update(&before.to_le_bytes()).update(&after.to_le_bytes());
        }
    }
    hasher.finalize().into()
}

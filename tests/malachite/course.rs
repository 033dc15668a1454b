//! One random course of a run: who hears what and when, which times are up, and what the faulty validator says.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use templar_manifest::{Cut, CutEntry, Hash, Inbox, SecretKey, Vote, VoteOn, VoteStep, WindowIndex};
use templar_protocol::{Entry, Input, Measured, Output, RevealEntry, Verified};

use crate::counts::Counts;
use crate::member::{Member, Setting, WINDOWS, stepped};
use crate::said::{Library, Said, sign};

/// How often all that is under way is delivered before a course counts as stalled.
const MOST_ROUNDS: usize = 80;

/// SplitMix64.
pub(crate) struct Order(pub(crate) u64);

impl Order {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// The faulty validator.
struct Faulty {
    key: SecretKey,
    place: usize,
    /// Whether it does its part as well.
    has_node: bool,
    /// Whether it says nothing.
    is_silent: bool,
}

/// A run under way.
pub(crate) struct Course<'a> {
    setting: &'a Setting,
    order: Order,
    library: Rc<Library>,
    members: Vec<Member>,
    faulty: Option<Faulty>,
    /// A validator whose outer steps come out wrong.
    wrong_machine: Option<usize>,
    windows: u64,
    queue: Vec<(usize, Input)>,
    /// What was lost and comes when the network has recovered.
    lost: Vec<(usize, Input)>,
    under_way: BTreeSet<(usize, WindowIndex, String)>,
    /// Everything that anybody has voted for.
    values: BTreeMap<(WindowIndex, VoteOn), BTreeSet<Hash>>,
}

impl<'a> Course<'a> {
    pub(crate) fn new(setting: &'a Setting, seed: u64) -> Self {
        let mut order = Order(seed);
        let library = Rc::new(Library::default());
        let place = order.below(setting.keys.len());
        let is_faulty = !order.one_in(5) && setting.may_be_faulty(place);
        let faulty = is_faulty.then(|| Faulty {
            key: setting.keys[place].clone(),
            place,
            has_node: order.one_in(2),
            is_silent: order.one_in(6),
        });
        let members = (0..setting.keys.len())
            .map(|who| Member::new(setting, who, faulty.as_ref().is_some_and(|faulty| faulty.place == who), &library))
            .collect();
        // Who finds another checkpoint does not prevote, so with a silent one there would be too few.
        let wrong_machine = (!is_faulty && setting.may_be_faulty(place) && order.one_in(3)).then_some(place);
        let windows = if order.one_in(4) { WINDOWS } else { 1 };
        Self {
            setting,
            order,
            library,
            members,
            faulty,
            wrong_machine,
            windows,
            queue: Vec::new(),
            lost: Vec::new(),
            under_way: BTreeSet::new(),
            values: BTreeMap::new(),
        }
    }

    /// Plays the course to the end.
    ///
    /// # Errors
    /// The first difference between a validator and Malachite that no rule explains, or that the run stalls.
    pub(crate) fn play(mut self, counts: &mut Counts) -> Result<(), String> {
        counts.courses += 1;
        for who in 0..self.members.len() {
            self.members[who].waits = self.waits_of(who);
        }
        let (loss, slow) = (self.order.below(30), self.order.below(self.members.len()));
        let (timers, lies) = (1 + self.order.below(12), self.order.below(30));
        let is_slow = self.order.one_in(2);
        for _ in 0..self.order.below(600) {
            match self.order.below(100) {
                chance if chance < timers => self.a_time_is_up(counts)?,
                chance if chance < timers + lies => self.lie(),
                _ if self.queue.is_empty() => self.a_time_is_up(counts)?,
                _ => {
                    let place = self.order.below(self.queue.len());
                    if is_slow && self.queue[place].0 == slow && !self.order.one_in(8) {
                        continue;
                    }
                    let (to, input) = self.queue.swap_remove(place);
                    if self.order.below(100) < loss {
                        self.lost.push((to, input));
                    } else {
                        self.deliver(to, input, counts)?;
                    }
                }
            }
        }
        self.recover(counts)?;
        let members = self.members.iter().filter_map(|member| member.beside.as_ref());
        members.into_iter().try_for_each(|beside| beside.compare_contradictions(counts))
    }

    fn waits_of(&self, who: usize) -> BTreeSet<templar_protocol::Phase> {
        let timers = self.members[who].node.todo().into_iter().filter_map(|output| match output {
            Output::Timer { phase, .. } => Some(phase),
            _ => None,
        });
        timers.collect()
    }

    /// Everything arrives from now on, and every wait ends, until all windows are closed.
    fn recover(&mut self, counts: &mut Counts) -> Result<(), String> {
        for _ in 0..MOST_ROUNDS {
            self.queue.append(&mut self.lost);
            while !self.queue.is_empty() {
                let place = self.order.below(self.queue.len());
                let (to, input) = self.queue.swap_remove(place);
                self.deliver(to, input, counts)?;
            }
            let honest = self.members.iter().filter(|member| member.beside.is_some());
            if honest.into_iter().all(|member| member.closed >= self.windows) {
                return Ok(());
            }
            for who in 0..self.members.len() {
                let window = self.members[who].node.state().window();
                for phase in self.members[who].waits.clone() {
                    self.deliver(who, Input::Deadline { window, phase }, counts)?;
                }
            }
        }
        Err("the run stalls".to_owned())
    }

    fn a_time_is_up(&mut self, counts: &mut Counts) -> Result<(), String> {
        let who = self.order.below(self.members.len());
        let waits: Vec<_> = self.members[who].waits.iter().copied().collect();
        if waits.is_empty() {
            return Ok(());
        }
        let phase = waits[self.order.below(waits.len())];
        let window = self.members[who].node.state().window();
        self.deliver(who, Input::Deadline { window, phase }, counts)
    }

    fn deliver(&mut self, to: usize, input: Input, counts: &mut Counts) -> Result<(), String> {
        let is_faulty = |faulty: &Faulty| faulty.place == to && (!faulty.has_node || faulty.is_silent);
        if self.members[to].closed >= self.windows || self.faulty.as_ref().is_some_and(is_faulty) {
            return Ok(());
        }
        let taken = self.members[to].take(input, counts).map_err(|why| format!("validator {to}: {why}"))?;
        self.lost.extend(taken.again.map(|input| (to, input)));
        for entry in taken.accepted {
            if let Said::Vote(_, Vote { window, on, value: Some(value), .. }) = &*self.library.read(&entry) {
                self.values.entry((*window, *on)).or_default().insert(*value);
            }
            let others = (0..self.members.len()).filter(|other| *other != to);
            self.queue.extend(others.map(|other| (other, Input::Verified(entry.clone()))));
        }
        for work in taken.work {
            self.work(to, work);
        }
        Ok(())
    }

    /// Begins work whose result comes later.
    fn work(&mut self, who: usize, work: Output) {
        let member = &self.members[who];
        let window = member.node.state().window();
        let (name, input) = match work {
            Output::Reveal { window } => {
                let validator = member.key.public();
                let value = self.setting.value(&validator, window);
                let entry = RevealEntry { run: member.node.state().run(), window, validator, value };
                ("reveal", Input::Entry(Entry::Reveal(entry)))
            }
            Output::Judge(plan) => {
                let (entries, verdicts, contests) = (Vec::new(), Vec::new(), Vec::new());
                let judged = Measured::Judged { window, seed: plan.seed, entries, verdicts, contests };
                ("judge", Input::Measured(judged))
            }
            Output::Apply { window, outcomes, .. } => {
                let stepped = stepped(window, self.wrong_machine != Some(who));
                ("apply", Input::Measured(Measured::Applied { window, outcomes, stepped }))
            }
            _ => return,
        };
        if self.under_way.insert((who, window, name.to_owned())) {
            self.queue.push((who, input));
        }
    }

    /// The faulty validator says something to one of the others, or to all.
    fn lie(&mut self) {
        let Some(faulty) = self.faulty.as_ref().filter(|faulty| !faulty.is_silent) else { return };
        let key = faulty.key.clone();
        let to = self.order.below(self.members.len());
        let node = &self.members[to].node;
        let (run, window) = (node.state().run(), node.state().window());
        let on = match (node.cut(), node.judging()) {
            (None, _) => VoteOn::Cut,
            (Some(_), None) => VoteOn::Reveals,
            (Some(_), Some(_)) => VoteOn::Window,
        };
        let entry = match self.order.below(12) {
            0 => {
                let contribution = Hash::of(&[self.order.below(3) as u8]).into();
                let contributions = vec![CutEntry { miner: self.setting.miner, contribution }];
                sign(Inbox { run, window, validator: key.public(), contributions, registrations: vec![] }, &key)
            }
            1 if node.cut().is_some() => {
                let (validator, value) = (key.public(), self.setting.value(&key.public(), window));
                let entry = Entry::Reveal(RevealEntry { run, window, validator, value });
                Verified::open(entry).expect("it has no signature")
            }
            2 if on == VoteOn::Cut => {
                let inboxes = vec![Hash::of(&[self.order.below(2) as u8]).into()];
                let cut = Cut { run, window, inboxes, contributions: vec![], registrations: vec![] };
                let entry = sign(cut, &key);
                if let Said::Cut(id, _) = &*self.library.read(&entry) {
                    self.values.entry((window, on)).or_default().insert(id.hash());
                }
                entry
            }
            _ => {
                let values = self.values.get(&(window, on)).into_iter().flatten().copied();
                let values: BTreeSet<Hash> = values.chain(node.proposed(on)).collect();
                let values: Vec<Option<Hash>> = [None].into_iter().chain(values.into_iter().map(Some)).collect();
                let value = values[self.order.below(values.len())];
                let latest = if self.order.one_in(6) { 9 } else { 3 };
                let latest = self.order.below(latest);
                let attempt = self.order.below(1 + latest) as u32;
                let step = if self.order.one_in(2) { VoteStep::Prevote } else { VoteStep::Precommit };
                sign(Vote { run, window, on, attempt, step, value }, &key)
            }
        };
        let all = self.order.one_in(3);
        let others = (0..self.members.len()).filter(|other| all || *other == to);
        self.queue.extend(others.map(|other| (other, Input::Verified(entry.clone()))));
    }
}

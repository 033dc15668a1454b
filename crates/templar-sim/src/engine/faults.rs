//! What breaks: nodes crash and fold their journals again, and the network falls apart and heals.
//!
//! No fault but one lasts longer than half of the time for which validators look for a delta, so that what is merely
//! unreachable is not taken for withheld. The exception is a validator that is away for a while, which everybody does without.
//! A validator may also crash between a vote and its sending.

use super::{Event, Simulation};
use crate::config::Faults;
use crate::member::difference;
use crate::start::JUDGE_MS;
use crate::strategy::Role;

/// The longest that anything but a validator's absence lasts, in milliseconds.
const LONGEST_MS: u64 = JUDGE_MS / 8;

impl Simulation {
    pub(super) fn schedule_fault(&mut self) {
        let mean_ms = match self.config.faults {
            Faults::None => return,
            Faults::Light => 40_000,
            Faults::Heavy => 8_000,
        };
        let after_ms = self.dice.between(1, 2 * mean_ms);
        self.schedule(after_ms, Event::Fault);
    }

    pub(super) fn fault(&mut self) {
        self.schedule_fault();
        // One thing at a time is broken, so that every fault's end is followed by a time in which the run must go on.
        if self.broken > 0 {
            return;
        }
        match self.dice.below(10) {
            0..=5 => {
                let who = self.dice.below(self.members.len() as u64) as usize;
                let for_ms = self.dice.between(0, LONGEST_MS);
                self.crash(who, for_ms);
            }
            6..=8 => {
                self.network.split(&mut self.dice);
                self.broken += 1;
                let for_ms = self.dice.between(100, LONGEST_MS);
                self.schedule(for_ms, Event::Heal);
            }
            _ => {
                let who = self.dice.below(self.chains.len() as u64) as usize;
                let for_ms = self.dice.between(JUDGE_MS, 6 * JUDGE_MS);
                self.crash(who, for_ms);
            }
        }
    }

    /// A node crashes in the middle of what it does.
    pub(super) fn crash_now(&mut self, who: usize) {
        let for_ms = self.dice.between(0, LONGEST_MS);
        self.crash(who, for_ms);
    }

    fn crash(&mut self, who: usize, for_ms: u64) {
        let member = &mut self.members[who];
        debug_assert!(member.is_up && (member.role == Role::Miner || who < self.chains.len()));
        member.is_up = false;
        member.life += 1;
        self.broken += 1;
        self.schedule(for_ms, Event::Restart { who });
    }

    pub(super) fn mended(&mut self) {
        self.broken -= 1;
    }

    /// A node starts again: it is what its journal says, asks its peers for everything, and goes on.
    pub(super) fn restart(&mut self, who: usize) {
        self.mended();
        let Some(node) = self.check_journal(who) else { return };
        let member = &mut self.members[who];
        member.start_again(node);
        // What it only held is gone, so it reads its peers' logs again; what it had accepted is not taken twice.
        member.fetched.clear();
        member.states.clear();
        let mut seen = crate::member::Seen::default();
        if let Some(&number) = self.first_number.get(&member.node.state().window()) {
            seen.raise(number);
        }
        member.log.range(member.open_from, member.log.end()).for_each(|carried| seen.insert(carried.number));
        member.seen = seen;
        for place in 0..self.network.into[who].len() {
            let link = self.network.into[who][place];
            let from = self.network.links[link].from;
            self.network.links[link].cursor = self.members[from].log.start();
            self.network.links[link].is_busy = false;
        }
        let outputs = self.members[who].node.todo();
        self.carry(who, outputs);
        self.ask(who);
        self.begin_guests(who);
        for place in 0..self.network.into[who].len() {
            self.send(self.network.into[who][place]);
        }
        for place in 0..self.network.out[who].len() {
            self.send(self.network.out[who][place]);
        }
    }

    /// The node that a member's journal gives, which must be the one that it was.
    pub(super) fn check_journal(&mut self, who: usize) -> Option<templar_protocol::Node> {
        let first = self.config.keep_history.then_some(&self.first);
        let member = &self.members[who];
        let found = match member.refolded(first) {
            Err(reason) => Err(reason),
            Ok(node) => match difference(&member.node, &node) {
                Some(what) => Err(format!("{what} of the node that its journal gives are not those that it had")),
                None => Ok(node),
            },
        };
        self.checks.count("a journal gives the same node again");
        found.map_err(|detail| self.violated("a journal gives the same node again", who, detail)).ok()
    }
}

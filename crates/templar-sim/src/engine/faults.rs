//! Faults: nodes crash and rebuild themselves from their journals, and the network splits and heals.
//!
//! With one exception no fault lasts longer than half of the time for which validators look for a delta. So a
//! delta that is unreachable for a moment is not taken for withheld. The exception is a validator that is away
//! for longer; the others must do without it. A validator may also crash between a vote and its sending.

use templar_protocol::Node;

use super::Simulation;
use super::queue::SimEvent;
use crate::config::Faults;
use crate::member::difference;
use crate::settings::JUDGE_MS;
use crate::strategy::MemberRole;

/// The longest that any fault but a validator's absence lasts, in milliseconds.
const LONGEST_MS: u64 = JUDGE_MS / 8;

impl Simulation {
    /// Schedules the next fault, at a drawn time.
    pub(super) fn schedule_fault(&mut self) {
        let mean_ms = match self.config.faults {
            Faults::None => return,
            Faults::Light => 40_000,
            Faults::Heavy => 8_000,
        };
        let after_ms = self.rng.between(1, 2 * mean_ms);
        self.queue.schedule(after_ms, SimEvent::Fault);
    }

    /// Begins a drawn fault: six of ten are crashes, three partitions, and one is the absence of a validator.
    pub(super) fn fault(&mut self) {
        self.schedule_fault();
        // One fault at a time, so that after each there is calm in which the run must progress.
        if self.liveness.broken > 0 {
            return;
        }
        match self.rng.below(10) {
            0..=5 => {
                let who = self.rng.below(self.members.len() as u64) as usize;
                let for_ms = self.rng.between(0, LONGEST_MS);
                self.crash(who, for_ms);
            }
            6..=8 => {
                self.network.split(&mut self.rng);
                self.liveness.broken += 1;
                let for_ms = self.rng.between(100, LONGEST_MS);
                self.queue.schedule(for_ms, SimEvent::Heal);
            }
            _ => {
                let who = self.rng.below(self.fixed.chains.len() as u64) as usize;
                let for_ms = self.rng.between(JUDGE_MS, 6 * JUDGE_MS);
                self.crash(who, for_ms);
            }
        }
    }

    /// Crashes a node in the middle of its work, for a drawn time.
    pub(super) fn crash_now(&mut self, who: usize) {
        let for_ms = self.rng.between(0, LONGEST_MS);
        self.crash(who, for_ms);
    }

    fn crash(&mut self, who: usize, for_ms: u64) {
        let member = &mut self.members[who];
        debug_assert!(
            member.machine.is_up && (member.role == MemberRole::Miner || who < self.fixed.chains.len()),
            "a node that is down does not crash"
        );
        member.machine.is_up = false;
        member.machine.life += 1;
        self.liveness.broken += 1;
        self.queue.schedule(for_ms, SimEvent::Restart { who });
    }

    pub(super) fn mended(&mut self) {
        self.liveness.broken -= 1;
    }

    /// Starts a crashed node again from its journal, which must give the node that crashed. It then reads the
    /// logs of all its peers from the beginning, because what it held in memory alone is lost.
    pub(super) fn restart(&mut self, who: usize) {
        self.mended();
        let Some(node) = self.check_journal(who) else { return };
        let first = self.entries.first_of(node.state().window());
        self.members[who].restart(node, first);
        for place in 0..self.network.into[who].len() {
            let link = self.network.into[who][place];
            let from = self.network.links[link].from;
            self.network.links[link].cursor = self.members[from].journal.log.start();
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

    /// Builds a node from a member's journal and compares it with the member's node; a difference is a violation.
    pub(super) fn check_journal(&mut self, who: usize) -> Option<Node> {
        let first = self.config.keep_history.then_some(&self.fixed.first);
        let member = &self.members[who];
        let found = match member.refolded(first) {
            Err(reason) => Err(reason),
            Ok(node) => match difference(&member.node, &node) {
                Some(what) => Err(format!("{what} of the node that its journal gives are not those that it had")),
                None => Ok(node),
            },
        };
        self.checks.tally.count("a journal gives the same node again");
        found.map_err(|detail| self.violated("a journal gives the same node again", who, detail)).ok()
    }
}

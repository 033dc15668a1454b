//! Validators that release their hash-chain values when the others no longer wait for them, or to half of them.

use templar_manifest::WindowIndex;
use templar_protocol::{Entry, RevealEntry};

use super::Simulation;
use super::queue::Work;
use crate::member::WorkKey;
use crate::settings::REVEAL_MS;
use crate::strategy::Strategy;

/// The first late value comes so long after the deadline, and each further one so long after the one before, in
/// milliseconds. Some come before the others have agreed on the values that count, and some after it.
const APART_MS: u64 = 150;
/// A value for one half of the nodes is sent so long before the deadline, in milliseconds.
const BEFORE_MS: u64 = 60;

impl Simulation {
    /// Has a validator release its value later.
    pub(super) fn keep_value(&mut self, who: usize, window: WindowIndex) {
        if !self.members[who].under_way.insert((window, WorkKey::ReleaseLate)) {
            return;
        }
        let after_ms = match self.members[who].strategy {
            Some(Strategy::HalfValues) => REVEAL_MS - BEFORE_MS,
            _ => REVEAL_MS + APART_MS * (1 + who as u64),
        };
        self.begin(who, after_ms, Work::ReleaseLate { window });
    }

    /// Sends a value that was kept until now to all nodes or to half of them, past the validator's own node.
    pub(super) fn release_late(&mut self, who: usize, window: WindowIndex) {
        let member = &self.members[who];
        let Some(value) = self.fixed.chains[who].values.get(window.0 as usize).copied() else { return };
        let is_for_half = member.strategy == Some(Strategy::HalfValues);
        let (run, validator) = (self.fixed.first.run(), member.key.public());
        let entry = Entry::Reveal(RevealEntry { run, window, validator, value });
        for to in (0..self.members.len()).filter(|to| !is_for_half || (to + who).is_multiple_of(2)) {
            self.send_directly(to, entry.clone());
        }
    }
}

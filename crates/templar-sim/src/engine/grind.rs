//! Validators that try to choose the seed: they wait for the values of all others and tell each other their own.

use std::collections::BTreeMap;

use templar_manifest::{PublicKey, Reveal, Signed, WindowIndex};

use super::Simulation;
use super::queue::Work;
use crate::member::WorkKey;
use crate::settings::REVEAL_MS;
use crate::setup::ChainValues;
use crate::strategy::{Grinding, Strategy};

/// How often a grinding validator looks for the values of others, in milliseconds.
const LOOK_MS: u64 = 50;
/// A grinding validator decides so long before the others stop waiting for its value, in milliseconds.
const SPARE_MS: u64 = 1_000;

impl Simulation {
    /// The values of the open window that grinding validators know of each other, and tell the miners they help.
    pub(super) fn values_of_grinders(&self, window: WindowIndex) -> Vec<Reveal> {
        let grinders = self.members.iter().zip(&self.fixed.chains);
        let grinders = grinders.filter(|(member, _)| member.strategy == Some(Strategy::Grind));
        let value = |chain: &ChainValues| chain.values.get(window.0 as usize).copied();
        let mut values: Vec<Reveal> = grinders
            .filter_map(|(member, chain)| Some(Reveal { validator: member.key.public(), value: value(chain)? }))
            .collect();
        values.sort_unstable_by_key(|reveal| reveal.validator);
        values
    }

    /// Whether a grinding validator has decided to release its value. Until then it looks for the values of others.
    pub(super) fn is_ground(&mut self, who: usize, window: WindowIndex) -> bool {
        let member = &mut self.members[who];
        if member.contradictions.done.contains(&(window, "released")) {
            return true;
        }
        if member.under_way.insert((window, WorkKey::Grind)) {
            let since_ms = self.queue.now_ms();
            self.begin(who, LOOK_MS, Work::Grind { window, since_ms });
        }
        false
    }

    /// Decides whether to release the value, once all others have released theirs or the time is almost over.
    pub(super) fn grind(&mut self, who: usize, window: WindowIndex, since_ms: u64) {
        let member = &self.members[who];
        let (node, me) = (&member.node, member.key.public());
        if member.window() != window {
            return;
        }
        let Some((_, cut)) = node.cut() else { return };
        if self.strategy_of(&self.fixed.favourite) == Some(Strategy::GrindSteps) {
            // This friend sends true deltas only, so there is nothing to hide by withholding.
            return self.release(who, window);
        }
        let own = self.values_of_grinders(window);
        let mut others: BTreeMap<PublicKey, Reveal> = self.values_in_journal(who);
        others.retain(|validator, _| own.iter().all(|reveal| reveal.validator != *validator));
        let all = others.len() + own.len() == self.fixed.chains.len();
        if !all && self.queue.now_ms() + SPARE_MS < since_ms + REVEAL_MS {
            return self.begin(who, LOOK_MS, Work::Grind { window, since_ms });
        }
        let grinding = Grinding {
            state: node.state(),
            cut,
            contributions: node.contributions().map(Signed::payload).collect(),
            registrations: node.registrations().map(Signed::payload).collect(),
            others,
            own,
            friend: self.fixed.favourite,
        };
        if grinding.released().contains(&me) {
            self.release(who, window);
        }
    }

    fn release(&mut self, who: usize, window: WindowIndex) {
        self.members[who].contradictions.done.insert((window, "released"));
        let outputs = self.members[who].node.todo();
        self.carry(who, outputs);
    }

    /// Whether an honest validator is drawn to replay a miner's contribution to the open window.
    pub(super) fn is_seen_by_the_honest(&self, who: usize, miner: &PublicKey) -> bool {
        let judging = self.members[who].node.judging();
        let drawn = judging.and_then(|judging| judging.replayers().get(miner)).map_or(&[][..], Vec::as_slice);
        drawn.iter().any(|validator| self.strategy_of(validator).is_none())
    }
}

//! Validators that would choose the seed: they wait for the values of all others, and tell each other their own.

use templar_manifest::{PublicKey, Reveal, Signed, WindowIndex};

use super::{Simulation, Work};
use crate::member::Task;
use crate::start::REVEAL_MS;
use crate::strategy::{Grinding, Strategy};

/// How often it looks for the values of others.
const LOOK_MS: u64 = 50;
/// How long before the others stop waiting for it a validator must have released its value.
const SPARE_MS: u64 = 1_000;

impl Simulation {
    /// The values of the open window that validators which grind have told each other, and their friends.
    pub(super) fn values_of_grinders(&self, window: WindowIndex) -> Vec<Reveal> {
        let grinders = self.members.iter().zip(&self.chains);
        let grinders = grinders.filter(|(member, _)| member.strategy == Some(Strategy::Grind));
        let value = |chain: &crate::start::ChainValues| chain.values.get(window.0 as usize).copied();
        let mut values: Vec<Reveal> = grinders
            .filter_map(|(member, chain)| Some(Reveal { validator: member.key.public(), value: value(chain)? }))
            .collect();
        values.sort_unstable_by_key(|reveal| reveal.validator);
        values
    }

    /// Whether a validator that grinds has decided to release its value; where it has not, it begins to look.
    pub(super) fn is_ground(&mut self, who: usize, window: WindowIndex) -> bool {
        let member = &mut self.members[who];
        if member.contradicted.contains(&(window, "released")) {
            return true;
        }
        if member.under_way.insert((window, Task::Grind)) {
            self.begin(who, LOOK_MS, Work::Grind { window, since_ms: self.now_ms });
        }
        false
    }

    /// Looks whether all others have released their values, and decides.
    pub(super) fn grind(&mut self, who: usize, window: WindowIndex, since_ms: u64) {
        let member = &self.members[who];
        let (node, me) = (&member.node, member.key.public());
        if member.window() != window {
            return;
        }
        let Some((_, cut)) = node.cut() else { return };
        if self.strategy_of(&self.favourite) == Some(Strategy::GrindSteps) {
            // It does what it says, and has nothing to hide.
            return self.release(who, window);
        }
        let own = self.values_of_grinders(window);
        let mut others = self.values_of_others(who);
        others.retain(|validator, _| own.iter().all(|reveal| reveal.validator != *validator));
        let all = others.len() + own.len() == self.chains.len();
        if !all && self.now_ms + SPARE_MS < since_ms + REVEAL_MS {
            return self.begin(who, LOOK_MS, Work::Grind { window, since_ms });
        }
        let grinding = Grinding {
            state: node.state(),
            cut,
            contributions: node.contributions().map(Signed::payload).collect(),
            registrations: node.registrations().map(Signed::payload).collect(),
            others,
            own,
            friend: self.favourite,
        };
        if grinding.released().contains(&me) {
            self.release(who, window);
        }
    }

    fn release(&mut self, who: usize, window: WindowIndex) {
        self.members[who].contradicted.insert((window, "released"));
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

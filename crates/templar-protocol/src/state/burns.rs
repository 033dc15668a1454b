//! What is burnt when a window closes, and who loses its slot.
//!
//! A first proven mismatch may be a faulty machine: it costs what has not vested, and the standing. A second one soon after
//! is fraud as far as anybody can tell, and costs the slot. A challenge that nobody answered is the same as a mismatch
//! (`challenges.rs` says why). Who is shown to have signed two statements where one is allowed loses
//! what has not vested, miner or validator. A validator that does not reveal its hash-chain value loses a
//! part: it cannot choose the seed for nothing.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{Burn, BurnCause, Outcome, PublicKey, Refusal, Reveal, Score, Verdict, WindowIndex};

use super::RunState;
use super::challenges::Challenged;
use crate::consensus::{ONE_PPM, fraction};
use crate::gauntlet::Standings;
use crate::ledger::Ledger;

impl RunState {
    /// The burns of the open window, taken from `ledger` as they are found. Sorted by account, cause and window.
    pub(super) fn burns(
        &self,
        reveals: &[Reveal],
        outcomes: &[Outcome],
        scores: &[&Score],
        challenged: &Challenged,
        ledger: &mut Ledger,
    ) -> Vec<Burn> {
        let mut deeds: BTreeMap<(WindowIndex, PublicKey), BurnCause> =
            self.refuted(scores).into_iter().map(|deed| (deed, BurnCause::Mismatch)).collect();
        let departed = |outcome: &&Outcome| matches!(outcome.verdict, Verdict::Refused(Refusal::Mismatch { .. }));
        let departed = outcomes.iter().filter(departed).map(|outcome| (self.window, outcome.miner));
        deeds.extend(departed.map(|deed| (deed, BurnCause::Mismatch)));
        deeds.extend(challenged.unanswered.iter().map(|deed| (*deed, BurnCause::Unanswered)));
        let mut burns: Vec<Burn> = Vec::new();
        let mut strikes = self.strikes.clone();
        let mut expelled = self.expelled.clone();
        for ((window, account), first) in deeds {
            if expelled.contains(&account) {
                continue;
            }
            // What was done before the first was recorded may be the same faulty machine.
            let repeats = strikes.get(&account).map(|last| window.0.checked_sub(last.0).filter(|after| *after > 0));
            let cause = match repeats {
                Some(Some(after)) if after <= self.genesis.replay.expulsion_windows => {
                    expelled.insert(account);
                    BurnCause::Expulsion
                }
                Some(None) => first,
                Some(Some(_)) | None => {
                    strikes.insert(account, self.window);
                    first
                }
            };
            let amount_micros = ledger.burn(&account, u64::MAX);
            burns.push(Burn { account, cause, window, amount_micros });
        }
        let shown: BTreeSet<(PublicKey, WindowIndex)> = scores
            .iter()
            .flat_map(|score| &score.evidence)
            .filter_map(|evidence| Some((self.account_of(&evidence.signer)?, evidence.window)))
            .collect();
        for (account, window) in shown {
            let (cause, amount_micros) = (BurnCause::Contradiction, ledger.burn(&account, u64::MAX));
            burns.push(Burn { account, cause, window, amount_micros });
        }
        for validator in &self.genesis.validators {
            let account = validator.key;
            if reveals.binary_search_by_key(&account, |reveal| reveal.validator).is_ok() {
                continue;
            }
            let unvested = ledger.accounts().get(&account).map_or(0, |account| account.vesting_micros());
            let amount_micros = fraction(unvested, self.genesis.replay.absence_ppm.into(), ONE_PPM);
            if amount_micros > 0 {
                ledger.burn(&account, amount_micros);
                burns.push(Burn { account, cause: BurnCause::Absence, window: self.window, amount_micros });
            }
        }
        burns.sort_unstable_by_key(|burn| (burn.account, burn.cause, burn.window));
        burns
    }

    /// What burns leave behind: strikes, lost slots, and state that nobody may continue from.
    pub(super) fn remember_burns(&mut self, burns: &[Burn]) {
        for burn in burns {
            match burn.cause {
                BurnCause::Mismatch | BurnCause::Unanswered => {
                    if self.strikes.get(&burn.account).is_none_or(|last| burn.window > *last) {
                        self.strikes.insert(burn.account, self.window);
                    }
                }
                BurnCause::Expulsion => {
                    self.expelled.insert(burn.account);
                }
                BurnCause::Contradiction => {
                    self.convicted.insert((burn.window, burn.account));
                    continue;
                }
                BurnCause::Absence => continue,
            }
            if burn.window < self.window {
                // Records have accepted contributions that follow from what is refuted, or that nobody could look at.
                self.parents.remove(&burn.account);
            }
        }
        let oldest = WindowIndex(self.window.0.saturating_sub(self.genesis.emission.vesting_windows));
        self.convicted = self.convicted.split_off(&(oldest, PublicKey::from_bytes([0; 32])));
    }

    /// A mismatch that comes after the record, or a challenge that nobody answered, was no part of its window's assessment: every validator forgets what it thought
    /// of the miner, and remembers that it is not certain.
    pub(super) fn burn_standings(&self, burns: &[Burn], standings: &mut Standings) {
        let late = |burn: &&Burn| burn.cause.is_of_a_replay() && burn.window < self.window;
        for burn in burns.iter().filter(late) {
            for miners in standings.values_mut() {
                if let Some(standing) = miners.get_mut(&burn.account) {
                    standing.forfeit();
                }
            }
        }
    }
}

//! The slashes of a window, and the loss of slots.
//!
//! * A first proven mismatch may be a faulty machine. It costs the unvested pay and the standing.
//! * A second one soon after it is treated as fraud and also costs the slot.
//! * An unanswered challenge costs as much as a mismatch (`challenges.rs` says why).
//! * A signer that contradicted itself loses its unvested pay, be it a miner or a validator.
//! * A validator of whose score the record refutes a statement loses its unvested pay (`refuted.rs`).
//! * A validator that does not reveal its hash-chain value loses a part of its unvested pay, so that it cannot
//!   influence the seed for free by withholding.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{Outcome, PublicKey, Refusal, Reveal, Slash, SlashCause, Verdict, WindowIndex};

use super::RunState;
use super::challenges::Challenged;
use super::closing::Counted;
use super::refuted;
use crate::ledger::{Ledger, ONE_PPM, fraction};

impl RunState {
    /// The slashes of the open window, taken from `ledger` as they are found. Sorted by account, cause and
    /// window.
    pub(super) fn slashes(
        &self,
        reveals: &[Reveal],
        counted: Counted<'_>,
        challenged: &Challenged,
        ledger: &mut Ledger,
    ) -> Vec<Slash> {
        let Counted { scores, refuted, outcomes } = counted;
        // A miner's deeds of one window are one deed. An unanswered challenge replaces a mismatch of the same window.
        let mut deeds: BTreeMap<(WindowIndex, PublicKey), SlashCause> =
            self.refuted(scores).into_iter().map(|deed| (deed, SlashCause::Mismatch)).collect();
        let departed = |outcome: &&Outcome| matches!(outcome.verdict, Verdict::Refused(Refusal::Mismatch { .. }));
        let departed = outcomes.iter().filter(departed).map(|outcome| (self.window, outcome.miner));
        deeds.extend(departed.map(|deed| (deed, SlashCause::Mismatch)));
        deeds.extend(challenged.unanswered.iter().map(|deed| (*deed, SlashCause::Unanswered)));
        let mut slashes: Vec<Slash> = Vec::new();
        let mut strikes = self.offences.strikes.clone();
        let mut expelled = self.offences.expelled.clone();
        for ((window, account), first) in deeds {
            if expelled.contains(&account) {
                continue;
            }
            // A deed from before the last strike was recorded may be the same faulty machine, so it is no
            // repetition.
            let repeats = strikes.get(&account).map(|last| window.0.checked_sub(last.0).filter(|after| *after > 0));
            let cause = match repeats {
                Some(Some(after)) if after <= self.genesis.replay.expulsion_windows => {
                    expelled.insert(account);
                    SlashCause::Expulsion
                }
                Some(None) => first,
                Some(Some(_)) | None => {
                    strikes.insert(account, self.window);
                    first
                }
            };
            let amount_micros = ledger.slash(&account, u64::MAX);
            slashes.push(Slash { account, cause, window, amount_micros });
        }
        // Several scores may show the same evidence, and it is slashed once.
        let shown: BTreeSet<(PublicKey, WindowIndex)> = scores
            .iter()
            .flat_map(|score| &score.evidence)
            .filter_map(|evidence| Some((self.account_of(&evidence.signer)?, evidence.window)))
            .collect();
        for (account, window) in shown {
            let (cause, amount_micros) = (SlashCause::Contradiction, ledger.slash(&account, u64::MAX));
            slashes.push(Slash { account, cause, window, amount_micros });
        }
        for account in refuted::liars(refuted) {
            let (cause, amount_micros) = (SlashCause::Falsehood, ledger.slash(&account, u64::MAX));
            slashes.push(Slash { account, cause, window: self.window, amount_micros });
        }
        // Validators without a reveal lose a part of what the slashes above have left them.
        for validator in &self.genesis.validators {
            let account = validator.key;
            if reveals.binary_search_by_key(&account, |reveal| reveal.validator).is_ok() {
                continue;
            }
            let unvested = ledger.accounts().get(&account).map_or(0, |account| account.vesting_micros());
            let amount_micros = fraction(unvested, self.genesis.replay.absence_ppm.into(), ONE_PPM);
            if amount_micros > 0 {
                ledger.slash(&account, amount_micros);
                slashes.push(Slash { account, cause: SlashCause::Absence, window: self.window, amount_micros });
            }
        }
        slashes.sort_unstable_by_key(|slash| (slash.account, slash.cause, slash.window));
        slashes
    }

    /// Remembers the consequences of slashes: strikes, lost slots, and states from which nobody may go on.
    pub(super) fn remember_slashes(&mut self, slashes: &[Slash]) {
        for slash in slashes {
            match slash.cause {
                SlashCause::Mismatch | SlashCause::Unanswered => {
                    if self.offences.strikes.get(&slash.account).is_none_or(|last| slash.window > *last) {
                        self.offences.strikes.insert(slash.account, self.window);
                    }
                }
                SlashCause::Expulsion => {
                    self.offences.expelled.insert(slash.account);
                }
                SlashCause::Contradiction => {
                    self.offences.convicted.insert((slash.window, slash.account));
                    continue;
                }
                SlashCause::Absence | SlashCause::Falsehood => continue,
            }
            if slash.window < self.window {
                // Records may have accepted contributions that go on from the refuted one, so the miner begins
                // anew.
                self.contributed.parents.remove(&slash.account);
            }
        }
        let oldest = WindowIndex(self.window.0.saturating_sub(self.genesis.emission.vesting_windows));
        self.offences.convicted = self.offences.convicted.split_off(&(oldest, PublicKey::from_bytes([0; 32])));
    }

    /// Resets the standings of miners that this record slashes for an earlier window. A late mismatch or
    /// unanswered challenge was not in its window's assessment, so the miner's standing is reset and marked
    /// uncertain now.
    pub(super) fn reset_slashed_standings(&mut self, slashes: &[Slash]) {
        let late = |slash: &&Slash| slash.cause.is_of_a_replay() && slash.window < self.window;
        for slash in slashes.iter().filter(late) {
            if let Some(standing) = self.standings.get_mut(&slash.account) {
                standing.forfeit();
            }
        }
    }
}

//! The findings of the counted scores: one verdict and one set of integers for each contribution.
//!
//! Replays, losses, bodies and overlaps are facts about bytes. Honest validators find the same, and no node signs
//! a record with a contradiction that it has not computed itself (`window/rechecks.rs`). The rules here choose
//! among contradicting statements all the same, so that any set of scores gives one record.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{Hash, Losses, Outcome, PublicKey, Refusal, Replay, Score, ScoreEntry, Verdict};

use super::RunState;
use super::closing::Settlement;
use super::evaluation_task::StatedTrial;
use super::judging::Judging;
use crate::gauntlet::{Assessment, Conduct, Conducts, Copied, MinerConduct, assess};
use crate::ledger::ONE_PPM;
use crate::stake;

/// The findings about one contribution.
pub(super) struct Finding {
    pub(super) refusal: Option<Refusal>,
    pub(super) evaluated: Evaluated,
    /// The delta that it may be a copy of.
    copied: Option<Copied>,
    /// Whether the delta decodes.
    decodes: bool,
}

/// The result of trying a delta.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evaluated {
    /// No validator that was drawn to measure it has a counted score.
    Unknown,
    Untried,
    Measured(Losses),
}

/// The value with the most stake behind it, and that stake. Of equals it is the lowest.
fn most_supported<T: Ord>(said: impl Iterator<Item = (T, u64)>) -> Option<(T, u64)> {
    let mut support = BTreeMap::<T, u64>::new();
    said.for_each(|(value, stake)| *support.entry(value).or_default() += stake);
    support.into_iter().reduce(|best, next| if next.1 > best.1 { next } else { best })
}

impl RunState {
    /// The findings about each contribution of the cut, by miner.
    ///
    /// First the replays decide:
    ///
    /// 1. The first refusal for another reason than `withheld` refuses it.
    /// 2. Otherwise it is refused as `withheld` if scores with more than half of the counted stake say so.
    /// 3. Otherwise any match accepts it.
    /// 4. Otherwise nobody replayed it. Where verdicts come before the record it is refused as `not-replayed`,
    ///    else it is accepted.
    ///
    /// The losses are those that validators with the most stake measured. Body and overlap are those that scores
    /// with more than half of the counted stake state.
    pub(super) fn findings(&self, judging: &Judging, scores: &[&Score]) -> BTreeMap<PublicKey, Finding> {
        let mut scores: Vec<(&Score, u64)> =
            scores.iter().map(|score| (*score, stake::stake_of(&self.genesis, [&score.validator]))).collect();
        scores.sort_unstable_by_key(|(score, _)| score.validator);
        let counted = stake::stake_of(&self.genesis, scores.iter().map(|(score, _)| &score.validator));
        let is_most = |stake: u64| u128::from(stake) * 2 > u128::from(counted);
        let finding = |miner: &PublicKey| {
            let entries: Vec<(&ScoreEntry, u64)> =
                scores.iter().filter_map(|(score, stake)| Some((entry_of(score, miner)?, *stake))).collect();
            let said = |entry| match StatedTrial::of(entry)? {
                StatedTrial::Untried => Some(Evaluated::Untried),
                StatedTrial::Measured(losses, _) => Some(Evaluated::Measured(losses)),
            };
            let evaluated = most_supported(entries.iter().filter_map(|(entry, stake)| Some((said(entry)?, *stake))));
            let body = most_supported(entries.iter().map(|(entry, stake)| (entry.body, *stake)));
            let body = body.filter(|(_, stake)| is_most(*stake)).and_then(|(body, _)| body);
            let nearest =
                most_supported(entries.iter().map(|(entry, stake)| ((entry.nearest, entry.overlap_ppm), *stake)));
            let nearest = nearest.filter(|(_, stake)| is_most(*stake)).map(|(nearest, _)| nearest);
            Finding {
                refusal: self.refusal(&entries, is_most),
                evaluated: evaluated.map_or(Evaluated::Unknown, |(evaluated, _)| evaluated),
                copied: self.copied(body, nearest),
                decodes: body.is_some(),
            }
        };
        judging.contributions().keys().map(|miner| (*miner, finding(miner))).collect()
    }

    /// The refusal that these entries about one contribution give, if they refuse it.
    fn refusal(&self, entries: &[(&ScoreEntry, u64)], is_most: impl Fn(u64) -> bool) -> Option<Refusal> {
        let (mut matches, mut withheld) = (false, 0u64);
        for (entry, stake) in entries {
            match &entry.replay {
                Replay::NotDrawn => {}
                Replay::Match => matches = true,
                Replay::Refused(Refusal::Withheld) => withheld += stake,
                Replay::Refused(refusal) => return Some(refusal.clone()),
            }
        }
        if is_most(withheld) {
            return Some(Refusal::Withheld);
        }
        (self.genesis.replay.before_close && !matches).then_some(Refusal::NotReplayed)
    }

    /// The delta that this one may be a copy of: an earlier one with the same body, or else its nearest delta
    /// of this window.
    ///
    /// Likeness alone is no offence, and it does not matter which of two like deltas came first. Every delta is
    /// replayed, and a replay that reproduces the delta acquits it, however like another it is. Only a delta
    /// whose replay departs pays for the likeness as well. For example, of a delta and two copies of it both
    /// copies lose and the original does not.
    fn copied(&self, body: Option<Hash>, nearest: Option<(Option<PublicKey>, u32)>) -> Option<Copied> {
        let earlier = body.and_then(|body| self.contributed.bodies.get(&body));
        let whole = ONE_PPM as u32;
        let earlier = earlier.map(|&(window, of)| Copied { overlap_ppm: whole, of, window });
        let nearest = nearest.and_then(|(of, overlap_ppm)| Some(Copied { overlap_ppm, of: of?, window: self.window }));
        earlier.or(nearest)
    }

    /// The conduct of every member. `not-replayed` is no fault of the miner.
    fn conducts(&self, judging: &Judging, findings: &BTreeMap<PublicKey, Finding>) -> Conducts {
        let conduct = |miner: &PublicKey| {
            let Some(finding) = findings.get(miner) else { return MinerConduct::Missing };
            match &finding.refusal {
                Some(Refusal::Withheld) => MinerConduct::Withheld,
                Some(Refusal::Malformed { .. } | Refusal::WrongClaim { .. }) => MinerConduct::Invalid,
                Some(Refusal::Mismatch { step, .. }) => {
                    MinerConduct::Departed { at_start: *step == 0, copied: finding.copied }
                }
                Some(Refusal::NotReplayed) | None => match finding.evaluated {
                    Evaluated::Measured(losses) => MinerConduct::Measured {
                        gain_nanonats: losses.gain_nanonats(),
                        own_gain_nanonats: losses.own_gain_nanonats(),
                    },
                    Evaluated::Unknown if finding.decodes => MinerConduct::Unmeasured,
                    Evaluated::Unknown | Evaluated::Untried => MinerConduct::Invalid,
                },
            }
        };
        let members = self.members.iter().map(|member| &member.owner);
        let of_member = |miner: &PublicKey| {
            let contribution = judging.contributions().get(miner);
            let restarted =
                contribution.is_some_and(|claimed| claimed.parent.is_none()) && self.parent(miner).is_some();
            Conduct { of: conduct(miner), restarted, steps: contribution.map_or(0, |claimed| claimed.steps) }
        };
        members.map(|miner| (*miner, of_member(miner))).collect()
    }

    /// The assessment of a window: how the counted scores change the standings, with every step.
    pub fn assessment(&self, judging: &Judging, scores: &[&Score]) -> Assessment {
        self.assessed(judging, &self.findings(judging, scores))
    }

    fn assessed(&self, judging: &Judging, findings: &BTreeMap<PublicKey, Finding>) -> Assessment {
        assess(&self.genesis.gauntlet, self.window, &self.standings, &self.conducts(judging, findings))
    }

    /// The outcomes and the assessment of a window with these counted scores.
    pub(super) fn settlement(&self, judging: &Judging, scores: &[&Score]) -> Settlement {
        let mut findings = self.findings(judging, scores);
        let assessment = self.assessed(judging, &findings);
        let accepted = findings.iter().filter(|(_, finding)| finding.refusal.is_none());
        let accepted: BTreeSet<PublicKey> = accepted.map(|(miner, _)| *miner).collect();
        let (aggregated, excluded) = self.chosen(judging, &assessment, accepted);
        let outcome = |entry: &templar_manifest::CutEntry| {
            let finding = findings.remove(&entry.miner);
            let losses = finding.as_ref().and_then(|finding| match finding.evaluated {
                Evaluated::Measured(losses) => Some(losses),
                Evaluated::Unknown | Evaluated::Untried => None,
            });
            let verdict = match finding.and_then(|finding| finding.refusal) {
                Some(refusal) => Verdict::Refused(refusal),
                None if aggregated.contains(&entry.miner) => Verdict::Aggregated,
                None if excluded.contains(&entry.miner) => Verdict::Excluded,
                None => Verdict::Reserve,
            };
            Outcome { miner: entry.miner, contribution: entry.contribution, verdict, losses }
        };
        Settlement { outcomes: judging.cut().contributions.iter().map(outcome).collect(), assessment }
    }
}

fn entry_of<'a>(score: &'a Score, miner: &PublicKey) -> Option<&'a ScoreEntry> {
    score.entries.binary_search_by_key(miner, |entry| entry.miner).ok().map(|index| &score.entries[index])
}

/// The number of measurements of each validator of these scores that the record repeats.
pub(super) fn proven_evaluations(scores: &[&Score], outcomes: &[Outcome]) -> Vec<(PublicKey, u64)> {
    let follows = |entry: &&ScoreEntry| {
        let index = outcomes.binary_search_by_key(&entry.miner, |outcome| outcome.miner);
        let recorded = index.ok().and_then(|index| outcomes[index].losses);
        entry.evaluation.losses().is_some_and(|losses| recorded == Some(losses))
    };
    scores.iter().map(|score| (score.validator, score.entries.iter().filter(follows).count() as u64)).collect()
}

//! The assessment: how one window changes the standings of all members.
//!
//! The steps, in this order:
//!
//! 1. A miner that began anew from zero state although it had another loses the certainty of its rating.
//! 2. All miners that committed to a delta play one match.
//! 3. Measured deltas move the proof of computation, and where pay follows measured steps the factor of pay
//!    (`worth.rs`).
//! 4. Every offence is looked up in genesis' table of penalties.
//!
//! Each step is a [`Change`] with the standing before and after, so a score can be explained to the last
//! integer.
//!
//! The places of the match: measured deltas come first, by the loss that they removed on unassigned pages,
//! equal gains on one place. Behind them come all deltas that were served and are wrong, and last all that were
//! withheld. A miner without a contribution does not play. It gains nothing, and the table says what else it
//! costs (in the customary table nothing). A contribution that nobody replayed in time is measured like any
//! other, since the miner is not to blame for an absent validator. One that nobody measured does not play.
//!
//! In a run whose genesis measures nothing there is no match. Histories and penalties are kept all the same.
//!
//! A negative gain counts against a miner only in a window in which most measured deltas gained. Where most did
//! not, the cause is the window and not the miner.

use std::collections::BTreeMap;
use std::fmt;

use templar_manifest::{GauntletSpec, Offence, Penalty, PublicKey, WeightRule, WindowIndex};

use super::worth::{StepGain, Worth, median_piconats, worth};
use super::{Standing, rating};

/// The conduct of one miner in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MinerConduct {
    /// The cut has no contribution of the miner.
    Missing,
    /// The miner committed to a delta and did not serve it.
    Withheld,
    /// The delta does not decode, makes an impossible claim, or cannot be tried.
    Invalid,
    /// The replay departs: at the start, from another checkpoint or state than the recorded ones, or later.
    Departed {
        /// Whether it departs at the start already.
        at_start: bool,
        /// The earlier or nearest delta, of which this one may be a copy.
        copied: Option<Copied>,
    },
    /// The delta is sound, and nobody measured it.
    Unmeasured,
    /// The delta was tried: the trial step was taken and losses were measured.
    Measured {
        /// The loss that it removed on unassigned pages, in 1e-9 nats; negative where the loss rose.
        gain_nanonats: i128,
        /// The loss that it removed on the miner's own pages, in 1e-9 nats.
        own_gain_nanonats: i128,
    },
}

/// Another delta that this one overlaps with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The fraction of sent positions that both have, in ppm.
    pub overlap_ppm: u32,
    /// The miner of the other delta.
    pub of: PublicKey,
    /// The window of the other delta.
    pub window: WindowIndex,
}

/// The conduct of a miner in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conduct {
    pub(crate) of: MinerConduct,
    /// Whether it began anew from zero state although it had another.
    pub(crate) restarted: bool,
    /// The inner steps that its contribution claims.
    pub(crate) steps: u32,
}

/// The conduct of every member.
pub(crate) type Conducts = BTreeMap<PublicKey, Conduct>;

/// The reason for one change of a standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The contribution starts from zero state although the miner has a recorded one.
    Restarted,
    /// The miner played in the match of the window.
    Match {
        /// The miner's place, from 1; equal gains share one.
        place: u32,
        /// The number of miners that played.
        entrants: u32,
    },
    /// The delta was tried and losses were measured.
    Measured {
        /// The loss that it removed on unassigned pages, in 1e-9 nats.
        gain_nanonats: i128,
        /// The loss that it removed on the miner's own pages, in 1e-9 nats.
        own_gain_nanonats: i128,
    },
    /// The worth of the miner's steps moved its factor of pay.
    Worth(Worth),
    /// The miner has no contribution in the cut.
    Missing,
    /// The miner did not serve its delta.
    Withheld,
    /// A row of the table of penalties applied.
    Penalty {
        /// The row that applied.
        row: Penalty,
        /// The measure of the offence: how often, or how much.
        measure: u32,
        /// The delta that was copied, if the offence is a copy.
        copied: Option<Copied>,
    },
}

/// One step of an assessment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The miner whose standing changed.
    pub miner: PublicKey,
    /// The reason of the change.
    pub cause: Cause,
    /// The standing before the step.
    pub before: Standing,
    /// The standing after the step.
    pub after: Standing,
}

/// The result of a window for the standings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// The standing of every member after the window.
    pub standings: BTreeMap<PublicKey, Standing>,
    /// The changes in the order of the steps, and within a step in the order of the miners.
    pub changes: Vec<Change>,
    /// Scores in 1e-12 of the miners that can be paid and aggregated: those with a sound delta that are not
    /// excluded.
    pub scores: BTreeMap<PublicKey, u64>,
}

/// Assesses a window. `before` holds the standings of the miners that were ever judged; others begin with
/// [`Standing::NEW`].
pub(crate) fn assess(
    spec: &GauntletSpec,
    window: WindowIndex,
    before: &BTreeMap<PublicKey, Standing>,
    conducts: &Conducts,
) -> Assessment {
    let standing = |miner: &PublicKey| before.get(miner).copied().unwrap_or(Standing::NEW);
    let standings = conducts.keys().map(|miner| (*miner, standing(miner))).collect();
    let mut found = Assessing { standings, changes: Vec::new() };
    for (index, conduct) in conducts.values().enumerate() {
        if conduct.restarted {
            found.change(index, Cause::Restarted, |standing| standing.rating = standing.rating.uncertain());
        }
    }
    if spec.measures() {
        found.play(spec, conducts);
    }
    let gains: Vec<StepGain> = conducts.values().filter_map(Conduct::gain).collect();
    let (gained, measured) = (gains.iter().filter(|gain| gain.gain_nanonats > 0).count(), gains.len());
    // A window in which most deltas gained nothing says something about the window and not about its miners.
    let blames = gained * 2 > measured;
    let median = median_piconats(gains);
    for (index, Conduct { of: conduct, .. }) in conducts.values().enumerate() {
        found.record(spec, index, conduct, blames);
        found.value(&spec.weights, index, conducts, median);
        for fault in found.faults(index, conduct, blames) {
            found.penalise(spec, window, index, fault);
        }
    }
    let counts = |conduct: &MinerConduct, standing: &Standing| {
        matches!(conduct, MinerConduct::Measured { .. } | MinerConduct::Unmeasured) && !standing.is_excluded(window)
    };
    let all = conducts.values().zip(&found.standings);
    let scores = all
        .filter(|(conduct, (_, standing))| counts(&conduct.of, standing))
        .map(|(_, (miner, standing))| (*miner, standing.score_picos(&spec.proof, window)))
        .collect();
    Assessment { standings: found.standings.into_iter().collect(), changes: found.changes, scores }
}

/// An offence of a miner, for which the table of penalties may have a row.
struct FoundFault {
    offence: Offence,
    /// The measure of the offence: how often, or how much.
    measure: u32,
    /// The delta that was copied, if the offence is a copy.
    copied: Option<Copied>,
}

/// An assessment in the making.
struct Assessing {
    /// The standings in the order of the conducts.
    standings: Vec<(PublicKey, Standing)>,
    changes: Vec<Change>,
}

impl Assessing {
    fn change(&mut self, index: usize, cause: Cause, change: impl FnOnce(&mut Standing)) {
        let (miner, standing) = &mut self.standings[index];
        let before = *standing;
        change(standing);
        self.changes.push(Change { miner: *miner, cause, before, after: *standing });
    }

    /// Plays the match of all miners that committed to a delta.
    fn play(&mut self, spec: &GauntletSpec, conducts: &Conducts) {
        let entrants: Vec<(usize, (u8, i128))> =
            conducts.values().enumerate().filter_map(|(index, conduct)| Some((index, merit(&conduct.of)?))).collect();
        let mut merits: Vec<(u8, i128)> = entrants.iter().map(|(_, merit)| *merit).collect();
        merits.sort_unstable_by(|a, b| b.cmp(a));
        merits.dedup();
        let place = |merit: &(u8, i128)| merits.partition_point(|better| better > merit) as u32;
        let playing: Vec<_> =
            entrants.iter().map(|(index, merit)| (self.standings[*index].1.rating, place(merit))).collect();
        if playing.len() < 2 {
            return;
        }
        let after = rating::play(&spec.rating, &playing);
        for ((index, merit), rating) in entrants.iter().zip(after) {
            let cause = Cause::Match { place: place(merit) + 1, entrants: entrants.len() as u32 };
            self.change(*index, cause, |standing| standing.rating = rating);
        }
    }

    /// Updates the histories and the proof of computation of one miner.
    fn record(&mut self, spec: &GauntletSpec, index: usize, conduct: &MinerConduct, blames: bool) {
        match *conduct {
            MinerConduct::Missing => self.change(index, Cause::Missing, |standing| standing.missing.push(true)),
            MinerConduct::Withheld => self.change(index, Cause::Withheld, |standing| {
                standing.missing.push(false);
                standing.withheld.push(true);
            }),
            MinerConduct::Invalid | MinerConduct::Departed { .. } | MinerConduct::Unmeasured => {
                let (_, standing) = &mut self.standings[index];
                standing.missing.push(false);
                standing.withheld.push(false);
            }
            MinerConduct::Measured { gain_nanonats, own_gain_nanonats } => {
                let cause = Cause::Measured { gain_nanonats, own_gain_nanonats };
                self.change(index, cause, |standing| {
                    standing.missing.push(false);
                    standing.withheld.push(false);
                    if blames {
                        standing.negative.push(gain_nanonats < 0);
                    }
                    standing.prove(&spec.proof, own_gain_nanonats > gain_nanonats);
                });
            }
        }
    }

    /// Moves the factor of pay of one miner, if it was measured and pay follows measured steps.
    fn value(&mut self, rule: &WeightRule, index: usize, conducts: &Conducts, median: i128) {
        let (miner, _) = &self.standings[index];
        let Some(gain) = conducts.get(miner).and_then(Conduct::gain) else { return };
        let Some(worth) = worth(rule, &gain, median) else { return };
        self.change(index, Cause::Worth(worth), |standing| standing.follow(&worth));
    }

    /// The offences of one miner in the window. `blames`: whether a negative gain counts as one.
    fn faults(&self, index: usize, conduct: &MinerConduct, blames: bool) -> Vec<FoundFault> {
        let (_, standing) = &self.standings[index];
        let mut offences: Vec<(Offence, u32)> = Vec::new();
        let mut copied = None;
        match *conduct {
            MinerConduct::Missing => offences.push((Offence::Missing, standing.missing.in_a_row())),
            MinerConduct::Withheld => {
                offences.push((Offence::Withheld, standing.withheld.in_a_row()));
                offences.push((Offence::WithheldOften, standing.withheld.often()));
            }
            MinerConduct::Invalid => offences.push((Offence::Invalid, 1)),
            MinerConduct::Departed { at_start, copied: of } => {
                offences.push((if at_start { Offence::OutOfSync } else { Offence::Mismatch }, 1));
                offences.extend(of.map(|of| (Offence::Copied, of.overlap_ppm)));
                copied = of;
            }
            MinerConduct::Unmeasured => {}
            MinerConduct::Measured { gain_nanonats, .. } => {
                if blames && gain_nanonats < 0 {
                    offences.push((Offence::Negative, standing.negative.in_a_row()));
                    offences.push((Offence::NegativeOften, standing.negative.often()));
                }
            }
        }
        let fault =
            |(offence, measure)| FoundFault { offence, measure, copied: copied.filter(|_| offence == Offence::Copied) };
        offences.into_iter().map(fault).collect()
    }

    /// Applies the row of the table that this fault reaches, if any does.
    fn penalise(&mut self, spec: &GauntletSpec, window: WindowIndex, index: usize, fault: FoundFault) {
        let FoundFault { offence, measure, copied } = fault;
        let Some(row) = lookup(&spec.penalties, offence, measure) else { return };
        self.change(index, Cause::Penalty { row, measure, copied }, |standing| apply(standing, &row, window));
    }
}

impl Conduct {
    /// The measured gain, if there is one.
    fn gain(&self) -> Option<StepGain> {
        match self.of {
            MinerConduct::Measured { gain_nanonats, .. } => Some(StepGain { gain_nanonats, steps: self.steps }),
            _ => None,
        }
    }
}

/// The merit by which places of the match are given: first the class, then the gain. `None` for a miner that
/// does not play.
fn merit(conduct: &MinerConduct) -> Option<(u8, i128)> {
    match conduct {
        MinerConduct::Missing | MinerConduct::Unmeasured => None,
        MinerConduct::Withheld => Some((0, 0)),
        MinerConduct::Invalid | MinerConduct::Departed { .. } => Some((1, 0)),
        MinerConduct::Measured { gain_nanonats, .. } => Some((2, *gain_nanonats)),
    }
}

/// The row with the largest `from` that this measure reaches, if any.
fn lookup(penalties: &[Penalty], offence: Offence, measure: u32) -> Option<Penalty> {
    penalties.iter().rev().find(|row| row.offence == offence && row.from <= measure).copied()
}

/// Applies a row to a standing. Nothing of it ever raises a score.
fn apply(standing: &mut Standing, row: &Penalty, window: WindowIndex) {
    standing.scale(row.factor_ppm);
    if row.resets {
        standing.rating = standing.rating.reset();
    }
    let until = WindowIndex(window.0.saturating_add(row.excluded_windows));
    if row.excluded_windows > 0 && until > standing.excluded_until {
        standing.excluded_until = until;
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restarted => f.write_str("began anew from zero state"),
            Self::Match { place, entrants } => write!(f, "place {place} of {entrants} in the match"),
            Self::Measured { gain_nanonats, own_gain_nanonats } => {
                let sign = if own_gain_nanonats > gain_nanonats { "more" } else { "no more" };
                write!(f, "gained {gain_nanonats} on others' pages, {own_gain_nanonats} on its own: {sign}")
            }
            Self::Worth(worth) => write!(
                f,
                "gained {} in 1e-12 nats a step, where the median is {}: counts {}.{:06}",
                worth.gain_piconats,
                worth.median_piconats,
                worth.ratio_ppm / 1_000_000,
                worth.ratio_ppm % 1_000_000
            ),
            Self::Missing => f.write_str("no contribution"),
            Self::Withheld => f.write_str("committed to a delta and did not serve it"),
            Self::Penalty { row, measure, copied } => {
                write!(f, "penalty: {} ({measure})", row.offence)?;
                if let Some(copied) = copied {
                    write!(f, " of {} in window {}", copied.of.short(), copied.window)?;
                }
                write!(f, ", x {}.{:06}", row.factor_ppm / 1_000_000, row.factor_ppm % 1_000_000)?;
                if row.resets {
                    f.write_str(", certainty lost")?;
                }
                if row.excluded_windows > 0 {
                    write!(f, ", excluded for {} windows", row.excluded_windows)?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;

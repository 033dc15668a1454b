//! The part of genesis about the Gauntlet: the choice of measurers, and the way from measurements to standings and
//! from standings to weights.
//!
//! Every constant of the rules is data here, with its own bound. The rules themselves are in `templar-protocol`.

use serde::{Deserialize, Serialize};

use super::replay::ReplaySpec;
use super::rules::positive;
use super::validators::ValidatorSpec;

/// One in parts per million.
const ONE_PPM: u32 = 1_000_000;
/// The most rows that the table of penalties may have.
const MAX_PENALTIES: usize = 64;
/// The most validators that may be drawn to measure one contribution.
const MAX_EVALUATORS: u32 = 64;
/// For how many windows a standing remembers each kind of fault.
const REMEMBERED: u32 = 8;

/// The measurements that are made of every contribution, and the rules that turn them into weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GauntletSpec {
    /// How many of the miner's assigned pages are drawn to measure on. 0 where nothing is measured, see
    /// [`WeightRule::ProvenSteps`].
    pub assigned_pages: u32,
    /// How many unassigned pages are drawn to measure on. 0 where nothing is measured.
    pub unassigned_pages: u32,
    /// k: how many validators are drawn to measure each contribution, as far as so many reveal their values. 0
    /// where nothing is measured.
    pub evaluators: u32,
    /// The probability with which a validator measures a contribution again after the record, in ppm. It is drawn from
    /// the value that the validator has not released yet, so whoever measures first cannot know who looks. 0 where
    /// nothing is measured, or where more validators measure each contribution than can be faulty.
    pub spot_checks_ppm: u32,
    /// The size of the trial step, as a fraction of the outer learning rate.
    pub trial_step_ppm: u32,
    /// The number of held-out pages on which every record states the loss.
    pub held_out_pages: u32,
    /// The constants of the rating.
    pub rating: RatingSpec,
    /// The constants of the proof of computation.
    pub proof: ProofSpec,
    /// The table of penalties, ascending by offence, then by `from`.
    pub penalties: Vec<Penalty>,
    /// For how many windows the bodies of deltas are remembered, so that a later copy is recognised.
    pub copy_memory_windows: u64,
    /// How many places of the aggregate are drawn by the seed among those whom the best leave over.
    pub exploration_contributions: u32,
    /// The rule that gives the weights by which the miners' pay is shared.
    pub weights: WeightRule,
}

/// The Plackett–Luce rating of OpenSkill; it begins with a mean of 25 and a deviation of 25/3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatingSpec {
    /// β, the deviation of a single performance, in 1e-6.
    pub beta_micros: u32,
    /// τ, the deviation that every match adds, in 1e-6.
    pub tau_micros: u32,
}

/// Proof of computation: a moving average of the sign of (gain on assigned pages − gain on unassigned pages).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofSpec {
    /// The weight of the newest sign in the average, in ppm.
    pub decay_ppm: u32,
    /// An average below this counts as 0, once the run is warm.
    pub threshold_ppm: u32,
    /// The first window in which the threshold holds.
    pub warm_up_windows: u64,
}

/// One row of the table of penalties. Of the rows of one offence the one with the largest `from` that is
/// reached applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Penalty {
    /// The offence that the row is for.
    pub offence: Offence,
    /// The least measure of the offence for which the row applies: a number of windows, or for a copy the
    /// overlap in ppm.
    pub from: u32,
    /// The factor by which the factor of pay and the proof of computation are multiplied, the latter where it is
    /// positive.
    pub factor_ppm: u32,
    /// Whether the rating also loses its certainty.
    pub resets: bool,
    /// The number of windows, this one included, in which the miner is neither aggregated nor paid.
    pub excluded_windows: u64,
}

/// An offence that a row of the table of penalties is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offence {
    /// The cut has no contribution of the miner, for so many windows in a row.
    Missing,
    /// The miner did not serve a committed delta, for so many contributions in a row.
    Withheld,
    /// The miner did not serve the delta in so many of its last eight contributions.
    WithheldOften,
    /// The delta does not decode, makes an impossible claim, or cannot be tried.
    Invalid,
    /// The replay departs after the start, so nobody computed this delta by the rules.
    Mismatch,
    /// The replay departs at the start: the miner began with another checkpoint or state than the recorded ones.
    OutOfSync,
    /// The trial step made unassigned pages worse, in so many measured windows in a row.
    Negative,
    /// The trial step made unassigned pages worse in so many of the last eight measured windows.
    NegativeOften,
    /// The replay departs, and the delta overlaps so much with another, in ppm.
    Copied,
}

impl Offence {
    /// All offences, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::Missing,
        Self::Withheld,
        Self::WithheldOften,
        Self::Invalid,
        Self::Mismatch,
        Self::OutOfSync,
        Self::Negative,
        Self::NegativeOften,
        Self::Copied,
    ];

    /// The largest possible measure of the offence.
    const fn most(self) -> u32 {
        match self {
            Self::Missing | Self::Withheld | Self::WithheldOften | Self::Negative | Self::NegativeOften => REMEMBERED,
            Self::Invalid | Self::Mismatch | Self::OutOfSync => 1,
            Self::Copied => ONE_PPM,
        }
    }

    /// The name in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Withheld => "withheld",
            Self::WithheldOften => "withheld-often",
            Self::Invalid => "invalid",
            Self::Mismatch => "mismatch",
            Self::OutOfSync => "out-of-sync",
            Self::Negative => "negative",
            Self::NegativeOften => "negative-often",
            Self::Copied => "copied",
        }
    }
}

impl std::fmt::Display for Offence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How the miners' pay of a window is shared among those that can be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WeightRule {
    /// In proportion to the inner steps that replay proves, times a factor: the moving average of how much each
    /// step gained beside the others' steps. A window enters the average as gain per step divided by the median
    /// of gains per step, which counts each miner by its steps. It is clipped before it enters, and 1 where the
    /// median is not positive. A contribution of fewer than `inner.steps` steps counts with a factor of at most 1.
    MeasuredSteps {
        /// The least that one window counts.
        least_ppm: u32,
        /// The most that one window counts.
        most_ppm: u32,
        /// The weight of the newest window in the average, in ppm.
        newest_ppm: u32,
    },
    /// By rank alone: a linear ramp over the best miners, then a geometric tail.
    RankRamp {
        /// The number of places of the ramp.
        places: u32,
        /// The number of places of the tail.
        tail_places: u32,
        /// The part of the ramp, before the tail is bounded by half of the ramp's last place.
        ramp_share_ppm: u32,
        /// The weight of the ramp's first place as a multiple of its last.
        top_ratio_ppm: u32,
        /// The weight of each place of the tail as a fraction of the place before.
        tail_decay_ppm: u32,
    },
    /// In proportion to a power of the score.
    ScorePower {
        /// The exponent, 1 to 3.
        exponent: u32,
    },
    /// In proportion to the inner steps that the miner's contribution claims and replay proves. Under this rule
    /// nothing is measured, and every accepted contribution is aggregated. So a genesis with pages to measure
    /// on, or with more slots than `outer.max_contributions`, is refused.
    ProvenSteps,
}

impl WeightRule {
    /// Proven steps times a factor from ½ to 3⁄2, whose average follows by a sixteenth of each window.
    pub const fn measured_steps() -> Self {
        Self::MeasuredSteps { least_ppm: 500_000, most_ppm: 1_500_000, newest_ppm: 62_500 }
    }

    /// The ramp of 20 places and the tail of 10 of Covenant-72B.
    pub const fn rank_ramp() -> Self {
        Self::RankRamp {
            places: 20,
            tail_places: 10,
            ramp_share_ppm: 750_000,
            top_ratio_ppm: 2_000_000,
            tail_decay_ppm: 500_000,
        }
    }
}

impl GauntletSpec {
    /// The rules of the Gauntlet as in the final code of Covenant-72B (β = 7, τ = 0.1, a proof that follows by a
    /// twentieth), with the changes that replay makes possible, and pay by measured steps. A run chooses how many
    /// pages it measures on, and how many validators measure each contribution.
    pub fn customary() -> Self {
        let row = |offence, from, factor_ppm| Penalty { offence, from, factor_ppm, resets: false, excluded_windows: 0 };
        Self {
            assigned_pages: 2,
            unassigned_pages: 2,
            evaluators: 3,
            spot_checks_ppm: 0,
            trial_step_ppm: 200_000,
            held_out_pages: 8,
            rating: RatingSpec { beta_micros: 7_000_000, tau_micros: 100_000 },
            proof: ProofSpec { decay_ppm: 50_000, threshold_ppm: 100_000, warm_up_windows: 10 },
            penalties: vec![
                row(Offence::Withheld, 1, 750_000),
                row(Offence::Withheld, 2, 500_000),
                row(Offence::Withheld, 3, 0),
                Penalty { resets: true, excluded_windows: 20, ..row(Offence::WithheldOften, 4, 0) },
                row(Offence::Invalid, 1, 0),
                Penalty { resets: true, ..row(Offence::Mismatch, 1, 0) },
                row(Offence::OutOfSync, 1, 750_000),
                Penalty { excluded_windows: 1, ..row(Offence::Negative, 3, ONE_PPM) },
                row(Offence::NegativeOften, 5, 250_000),
                row(Offence::Copied, 400_000, 500_000),
                Penalty { resets: true, ..row(Offence::Copied, 500_000, 0) },
                Penalty { resets: true, excluded_windows: 20, ..row(Offence::Copied, 600_000, 0) },
            ],
            copy_memory_windows: 100,
            exploration_contributions: 2,
            weights: WeightRule::measured_steps(),
        }
    }

    /// How often validators with these stakes have to check each other's measurements, in ppm. 0 if so many `evaluators`
    /// measure each contribution that one of them is honest. Otherwise 3 for each honest validator: then a false
    /// measurement stays unseen once in twenty times, since (1 − 3 ÷ h)^h is at most e^-3.
    pub fn spot_checks_for(evaluators: u32, validators: &[ValidatorSpec]) -> u32 {
        let faulty = ReplaySpec::most_faulty(validators);
        if evaluators as usize > faulty {
            return 0;
        }
        let honest = (validators.len() - faulty).max(1) as u32;
        (3 * ONE_PPM).div_ceil(honest).min(ONE_PPM)
    }

    /// Whether validators measure how much deltas lower the loss.
    pub fn measures(&self) -> bool {
        self.weights != WeightRule::ProvenSteps
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (path, number) in [
            ("gauntlet.assigned_pages", self.assigned_pages),
            ("gauntlet.unassigned_pages", self.unassigned_pages),
            ("gauntlet.evaluators", self.evaluators),
            ("gauntlet.spot_checks_ppm", self.spot_checks_ppm),
        ] {
            let is_optional = path == "gauntlet.spot_checks_ppm";
            if !self.measures() && number > 0 {
                return Err(format!("{path} is {number} and must be 0: proven-steps pays for no measurement"));
            }
            if self.measures() && !is_optional {
                positive(path, number.into())?;
            }
        }
        at_most("gauntlet.spot_checks_ppm", self.spot_checks_ppm, ONE_PPM)?;
        at_most("gauntlet.evaluators", self.evaluators, MAX_EVALUATORS)?;
        positive("gauntlet.held_out_pages", self.held_out_pages.into())?;
        at_most("gauntlet.trial_step_ppm", self.trial_step_ppm, ONE_PPM)?;
        positive("gauntlet.rating.beta_micros", self.rating.beta_micros.into())?;
        at_most("gauntlet.rating.beta_micros", self.rating.beta_micros, 1_000_000_000)?;
        at_most("gauntlet.rating.tau_micros", self.rating.tau_micros, 1_000_000_000)?;
        positive("gauntlet.proof.decay_ppm", self.proof.decay_ppm.into())?;
        at_most("gauntlet.proof.decay_ppm", self.proof.decay_ppm, ONE_PPM)?;
        at_most("gauntlet.proof.threshold_ppm", self.proof.threshold_ppm, ONE_PPM)?;
        check_penalties(&self.penalties)?;
        at_most("gauntlet.copy_memory_windows", self.copy_memory_windows, 1 << 16)?;
        self.weights.check()
    }
}

impl WeightRule {
    fn check(&self) -> Result<(), String> {
        match *self {
            Self::RankRamp { places, tail_places, ramp_share_ppm, top_ratio_ppm, tail_decay_ppm } => {
                let path = |field: &str| format!("gauntlet.weights.rank-ramp.{field}");
                positive(&path("places"), places.into())?;
                at_most(&path("places"), places, 4096)?;
                at_most(&path("tail_places"), tail_places, 4096)?;
                positive(&path("ramp_share_ppm"), ramp_share_ppm.into())?;
                at_most(&path("ramp_share_ppm"), ramp_share_ppm, ONE_PPM)?;
                if top_ratio_ppm < ONE_PPM {
                    return Err(format!("{} {top_ratio_ppm} is below {ONE_PPM}", path("top_ratio_ppm")));
                }
                at_most(&path("top_ratio_ppm"), top_ratio_ppm, 1_000_000_000)?;
                at_most(&path("tail_decay_ppm"), tail_decay_ppm, ONE_PPM)
            }
            Self::MeasuredSteps { least_ppm, most_ppm, newest_ppm } => {
                let path = |field: &str| format!("gauntlet.weights.measured-steps.{field}");
                at_most(&path("least_ppm"), least_ppm, ONE_PPM)?;
                if most_ppm < ONE_PPM {
                    return Err(format!("{} {most_ppm} is below {ONE_PPM}", path("most_ppm")));
                }
                at_most(&path("most_ppm"), most_ppm, 1_000_000_000)?;
                positive(&path("newest_ppm"), newest_ppm.into())?;
                at_most(&path("newest_ppm"), newest_ppm, ONE_PPM)
            }
            Self::ScorePower { exponent } => {
                positive("gauntlet.weights.score-power.exponent", exponent.into())?;
                at_most("gauntlet.weights.score-power.exponent", exponent, 3)
            }
            Self::ProvenSteps => Ok(()),
        }
    }
}

fn at_most<T: PartialOrd + std::fmt::Display>(field: &str, value: T, most: T) -> Result<(), String> {
    if value > most { Err(format!("{field} {value} is above {most}")) } else { Ok(()) }
}

/// Checks that no penalty raises a score, and that a higher measure of an offence never costs less.
fn check_penalties(penalties: &[Penalty]) -> Result<(), String> {
    if penalties.len() > MAX_PENALTIES {
        return Err(format!("gauntlet.penalties has {} rows, at most {MAX_PENALTIES} are allowed", penalties.len()));
    }
    for row in penalties {
        let path = |field: &str| format!("gauntlet.penalties.{}.{field}", row.offence);
        positive(&path("from"), row.from.into())?;
        at_most(&path("from"), row.from, row.offence.most())?;
        at_most(&path("factor_ppm"), row.factor_ppm, ONE_PPM)?;
        at_most(&path("excluded_windows"), row.excluded_windows, 1 << 32)?;
    }
    for pair in penalties.windows(2) {
        let (mild, grave) = (&pair[0], &pair[1]);
        if (mild.offence, mild.from) >= (grave.offence, grave.from) {
            return Err("gauntlet.penalties is not strictly ascending by offence and from".to_owned());
        }
        let milder = grave.factor_ppm > mild.factor_ppm
            || (mild.resets && !grave.resets)
            || grave.excluded_windows < mild.excluded_windows;
        if mild.offence == grave.offence && milder {
            return Err(format!("gauntlet.penalties.{}: {} is milder than {}", grave.offence, grave.from, mild.from));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(change: impl FnOnce(&mut GauntletSpec)) -> String {
        let mut spec = GauntletSpec::customary();
        spec.check().unwrap();
        change(&mut spec);
        spec.check().unwrap_err()
    }

    fn ramp(change: impl FnOnce(&mut [u32; 5])) -> WeightRule {
        let mut values = [20, 10, 750_000, 2_000_000, 500_000];
        change(&mut values);
        let [places, tail_places, ramp_share_ppm, top_ratio_ppm, tail_decay_ppm] = values;
        WeightRule::RankRamp { places, tail_places, ramp_share_ppm, top_ratio_ppm, tail_decay_ppm }
    }

    fn steps(least_ppm: u32, most_ppm: u32, newest_ppm: u32) -> WeightRule {
        WeightRule::MeasuredSteps { least_ppm, most_ppm, newest_ppm }
    }

    #[test]
    fn every_parameter_is_bounded_by_name() {
        let row = Penalty { offence: Offence::Copied, from: 1, factor_ppm: 0, resets: true, excluded_windows: 0 };
        let cases: Vec<(String, &str)> = vec![
            (error(|spec| spec.assigned_pages = 0), "gauntlet.assigned_pages is zero"),
            (error(|spec| spec.unassigned_pages = 0), "gauntlet.unassigned_pages is zero"),
            (error(|spec| spec.evaluators = 0), "gauntlet.evaluators is zero"),
            (error(|spec| spec.evaluators = 65), "gauntlet.evaluators 65 is above 64"),
            (error(|spec| spec.spot_checks_ppm = 1_000_001), "gauntlet.spot_checks_ppm 1000001 is above 1000000"),
            (error(|spec| spec.held_out_pages = 0), "gauntlet.held_out_pages is zero"),
            (error(|spec| spec.trial_step_ppm = 1_000_001), "gauntlet.trial_step_ppm 1000001 is above 1000000"),
            (error(|spec| spec.rating.beta_micros = 0), "gauntlet.rating.beta_micros is zero"),
            (error(|spec| spec.rating.beta_micros = u32::MAX), "gauntlet.rating.beta_micros 4294967295 is above"),
            (error(|spec| spec.rating.tau_micros = u32::MAX), "gauntlet.rating.tau_micros 4294967295 is above"),
            (error(|spec| spec.proof.decay_ppm = 0), "gauntlet.proof.decay_ppm is zero"),
            (error(|spec| spec.proof.decay_ppm = 1_000_001), "gauntlet.proof.decay_ppm 1000001 is above"),
            (error(|spec| spec.proof.threshold_ppm = 1_000_001), "gauntlet.proof.threshold_ppm 1000001 is above"),
            (error(|spec| spec.copy_memory_windows = 65_537), "gauntlet.copy_memory_windows 65537 is above 65536"),
            (error(|spec| spec.penalties = vec![row; 65]), "gauntlet.penalties has 65 rows"),
            (error(|spec| spec.penalties[0].from = 0), "gauntlet.penalties.withheld.from is zero"),
            (error(|spec| spec.penalties[3].from = 9), "gauntlet.penalties.withheld-often.from 9 is above 8"),
            (error(|spec| spec.penalties[4].from = 2), "gauntlet.penalties.invalid.from 2 is above 1"),
            (error(|spec| spec.penalties[0].factor_ppm = 1_000_001), "gauntlet.penalties.withheld.factor_ppm 1000001"),
            (error(|spec| spec.penalties[3].excluded_windows = u64::MAX), "gauntlet.penalties.withheld-often.excluded"),
            (error(|spec| spec.penalties.swap(0, 1)), "gauntlet.penalties is not strictly ascending"),
            (error(|spec| spec.penalties[1].factor_ppm = 750_001), "gauntlet.penalties.withheld: 2 is milder than 1"),
            (
                error(|spec| spec.penalties[11].resets = false),
                "gauntlet.penalties.copied: 600000 is milder than 500000",
            ),
            (error(|spec| spec.weights = WeightRule::ProvenSteps), "gauntlet.assigned_pages is 2 and must be 0"),
            (
                error(|spec| (spec.weights, spec.assigned_pages) = (WeightRule::ProvenSteps, 0)),
                "gauntlet.unassigned_pages is 2 and must be 0",
            ),
            (
                error(|spec| {
                    (spec.weights, spec.assigned_pages, spec.unassigned_pages) = (WeightRule::ProvenSteps, 0, 0);
                }),
                "gauntlet.evaluators is 3 and must be 0",
            ),
            (
                error(|spec| spec.weights = steps(1_000_001, 1_500_000, 1)),
                "gauntlet.weights.measured-steps.least_ppm 1000001 is above",
            ),
            (
                error(|spec| spec.weights = steps(500_000, 999_999, 1)),
                "gauntlet.weights.measured-steps.most_ppm 999999 is below",
            ),
            (
                error(|spec| spec.weights = steps(500_000, u32::MAX, 1)),
                "gauntlet.weights.measured-steps.most_ppm 4294967295 is above",
            ),
            (
                error(|spec| spec.weights = steps(500_000, 1_500_000, 0)),
                "gauntlet.weights.measured-steps.newest_ppm is zero",
            ),
            (
                error(|spec| spec.weights = steps(500_000, 1_500_000, 1_000_001)),
                "gauntlet.weights.measured-steps.newest_ppm 1000001 is above",
            ),
            (error(|spec| spec.weights = ramp(|v| v[0] = 0)), "gauntlet.weights.rank-ramp.places is zero"),
            (error(|spec| spec.weights = ramp(|v| v[0] = 4097)), "gauntlet.weights.rank-ramp.places 4097 is above"),
            (error(|spec| spec.weights = ramp(|v| v[1] = 4097)), "gauntlet.weights.rank-ramp.tail_places 4097"),
            (error(|spec| spec.weights = ramp(|v| v[2] = 0)), "gauntlet.weights.rank-ramp.ramp_share_ppm is zero"),
            (
                error(|spec| spec.weights = ramp(|v| v[2] = 1_000_001)),
                "gauntlet.weights.rank-ramp.ramp_share_ppm 1000001",
            ),
            (
                error(|spec| spec.weights = ramp(|v| v[3] = 999_999)),
                "gauntlet.weights.rank-ramp.top_ratio_ppm 999999 is below",
            ),
            (
                error(|spec| spec.weights = ramp(|v| v[3] = u32::MAX)),
                "gauntlet.weights.rank-ramp.top_ratio_ppm 4294967295",
            ),
            (
                error(|spec| spec.weights = ramp(|v| v[4] = 1_000_001)),
                "gauntlet.weights.rank-ramp.tail_decay_ppm 1000001",
            ),
            (
                error(|spec| spec.weights = WeightRule::ScorePower { exponent: 0 }),
                "gauntlet.weights.score-power.exponent is",
            ),
            (
                error(|spec| spec.weights = WeightRule::ScorePower { exponent: 4 }),
                "gauntlet.weights.score-power.exponent 4",
            ),
        ];
        for (found, expected) in cases {
            assert!(found.starts_with(expected), "{found:?}, not {expected:?}");
        }
    }

    #[test]
    fn offences_are_in_order_and_named_as_they_are_encoded() {
        assert!(Offence::ALL.is_sorted());
        for offence in Offence::ALL {
            let spelled = serde_ipld_dagcbor::to_vec(&offence).unwrap();
            assert_eq!(&spelled[1..], offence.name().as_bytes());
        }
    }
}

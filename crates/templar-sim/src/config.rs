//! The configuration of a simulation, and the command that repeats it.

use std::fmt::Write as _;

use templar_manifest::{ReplaySpec, WeightRule};
use templar_protocol::stake::more_than_two_thirds;

use crate::strategy::{MemberRole, Strategy};

/// The most miners or validators of a simulation. A run has fewer slots; tests may ask for more members than slots.
const MAX_MEMBERS: u32 = 4096;
/// The largest stake of a validator, in the units of [`Config::stakes`].
const MAX_STAKE: u32 = 1_000_000;

/// How the network and the machines behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Faults {
    /// Links have latencies, and nothing breaks.
    None,
    /// Sometimes a node crashes, a message is lost and sent again, or the network splits for a moment.
    #[default]
    Light,
    /// The same often; entries also arrive in any order and twice, and clocks run at different speeds.
    Heavy,
}

impl Faults {
    /// Every variant, in the order of declaration.
    pub const ALL: [Self; 3] = [Self::None, Self::Light, Self::Heavy];

    /// The variant's name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Light => "light",
            Self::Heavy => "heavy",
        }
    }
}

/// Which contributions validators replay, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplayMode {
    /// One validator replays each contribution before its window closes.
    One,
    /// Three validators replay each contribution before its window closes. Of seven validators two can be faulty.
    #[default]
    Three,
    /// Each validator replays a fifth of the contributions within two windows after the close, and at least two
    /// validators replay each.
    Late,
    /// Each validator replays a fifth of the contributions within two windows after the close, and nobody
    /// replays some. A slot costs what the rules of genesis demand in this case.
    Sparse,
}

impl ReplayMode {
    /// Every variant, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::One, Self::Three, Self::Late, Self::Sparse];

    /// The variant's name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Three => "three",
            Self::Late => "late",
            Self::Sparse => "sparse",
        }
    }
}

/// The rule by which miners are paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayRule {
    /// By proven steps and what they are worth, as the customary genesis says.
    #[default]
    Measured,
    /// By rank, as Templar pays.
    Ranks,
    /// By the square of the score.
    Scores,
    /// By the inner steps that replays confirm.
    Steps,
}

impl PayRule {
    /// Every variant, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::Measured, Self::Ranks, Self::Scores, Self::Steps];

    /// The variant's name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Ranks => "ranks",
            Self::Scores => "scores",
            Self::Steps => "steps",
        }
    }
}

/// Whether a stake is less than a third of the whole, which is all that the rules ask of adversaries: the others then
/// have more than two thirds.
pub(crate) fn is_below_a_third(stake: u64, whole: u64) -> bool {
    more_than_two_thirds(whole - stake, whole)
}

/// The configuration of a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Miners that genesis knows.
    pub miners: u32,
    /// So many of `miners`, all honest, have no node of their own and work through the node of another honest
    /// miner, as several keys on one machine do. They are cheap to simulate: a node takes in every entry of a
    /// window, and a hosted miner adds only its own entries. A hosted miner that loses its slot does not ask
    /// for another.
    pub hosted: u32,
    /// Miners that genesis does not know and that register. There are free slots for half of them.
    pub newcomers: u32,
    /// Validators.
    pub validators: u32,
    /// The stakes of the validators in the order of their keys. A shorter list is repeated; with an empty one all have
    /// the same stake. Adversaries are drawn so that they have less than a third of the stake, however many they are.
    pub stakes: Vec<u32>,
    /// Windows of the run.
    pub windows: u64,
    /// The seed of all random draws.
    pub seed: u64,
    /// The faults of network and machines.
    pub faults: Faults,
    /// Which contributions are replayed, and when.
    pub replays: ReplayMode,
    /// The rule by which miners are paid.
    pub pay: PayRule,
    /// The strategies that members play, with the number of members that play each.
    pub adversaries: Vec<(Strategy, u32)>,
    /// Whether nodes keep all windows and every restart folds the journal from its beginning. Without it a restart
    /// begins with the state before the open window, and memory does not grow with the run.
    pub keep_history: bool,
    /// Whether a tiny model is really trained, in place of the statistical model of losses and replays.
    pub real: bool,
}

/// Why a configuration makes no simulation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimConfigError {
    /// A number is out of its range.
    #[error("{what} must be from 1 to {limit}, not {found}")]
    Range {
        /// The name of the number.
        what: &'static str,
        /// The largest number allowed.
        limit: u64,
        /// The number that was given.
        found: u64,
    },
    /// There are more adversaries than members of their role.
    #[error("{wanted} adversarial {role} were asked for, and there are only {there}")]
    TooMany {
        /// The role in the plural: `miners` or `validators`.
        role: &'static str,
        /// The number of adversaries asked for.
        wanted: u64,
        /// The number of members of that role.
        there: u32,
    },
    /// There are hosted miners, and no honest miner has a node to host them.
    #[error("{hosted} hosted miners leave no honest miner of {miners} with a node to host them")]
    NoHost {
        /// The number of hosted miners asked for.
        hosted: u32,
        /// The number of miners that genesis knows.
        miners: u32,
    },
    /// Real training cannot be set up as asked.
    #[error("real training: {0}")]
    Training(String),
    /// Adversaries have a third of the stake or more, also if they are those with the least. The rules promise nothing in
    /// this case.
    #[error(
        "{adversaries} of {validators} validators have {stake} of the stake of {total} or more, which is a third; the \
         rules hold below a third"
    )]
    AThird {
        /// The number of adversarial validators.
        adversaries: u64,
        /// The number of all validators.
        validators: u32,
        /// The stake of so many validators, of those with the least.
        stake: u64,
        /// The stake of all validators.
        total: u64,
    },
}

impl Default for Config {
    /// Twelve honest miners and seven validators for twenty windows, with seed 0 and light faults.
    fn default() -> Self {
        Self {
            miners: 12,
            hosted: 0,
            newcomers: 0,
            validators: 7,
            stakes: Vec::new(),
            windows: 20,
            seed: 0,
            faults: Faults::default(),
            replays: ReplayMode::default(),
            pay: PayRule::default(),
            adversaries: Vec::new(),
            keep_history: false,
            real: false,
        }
    }
}

impl Config {
    /// The number of slots in genesis.
    pub(crate) fn slots(&self) -> u32 {
        self.miners + self.newcomers / 2
    }

    /// Checks that the configuration makes a run.
    ///
    /// # Errors
    /// The first number that is out of range, or the first rule that the numbers break together.
    pub fn check(&self) -> Result<(), SimConfigError> {
        let limit = templar_manifest::chain::CHAIN_LENGTH;
        if let Some(found) = self.stakes.iter().copied().find(|stake| !(1..=MAX_STAKE).contains(stake)) {
            return Err(SimConfigError::Range { what: "stakes", limit: MAX_STAKE.into(), found: found.into() });
        }
        for (what, found, limit) in [
            ("miners", self.miners.into(), u64::from(MAX_MEMBERS)),
            ("validators", self.validators.into(), u64::from(MAX_MEMBERS)),
            ("windows", self.windows, limit),
        ] {
            if !(1..=limit).contains(&found) {
                return Err(SimConfigError::Range { what, limit, found });
            }
        }
        if self.newcomers > MAX_MEMBERS - self.miners {
            let limit = u64::from(MAX_MEMBERS - self.miners);
            return Err(SimConfigError::Range { what: "newcomers", limit, found: self.newcomers.into() });
        }
        let wanted = |role: MemberRole| -> u64 {
            let of_role = self.adversaries.iter().filter(|(strategy, _)| strategy.role() == role);
            of_role.map(|(_, count)| u64::from(*count)).sum()
        };
        for (role, name, there) in [
            (MemberRole::Miner, "miners", self.miners + self.newcomers),
            (MemberRole::Validator, "validators", self.validators),
        ] {
            if wanted(role) > there.into() {
                return Err(SimConfigError::TooMany { role: name, wanted: wanted(role), there });
            }
        }
        if self.hosted > 0 && u64::from(self.hosted) + wanted(MemberRole::Miner) >= self.miners.into() {
            return Err(SimConfigError::NoHost { hosted: self.hosted, miners: self.miners });
        }
        if self.real && self.adversaries.iter().any(|(strategy, _)| *strategy == Strategy::Nan) {
            return Err(SimConfigError::Training(
                "the strategy nan is not available: no compressor writes such a delta".to_owned(),
            ));
        }
        let adversaries = wanted(MemberRole::Validator);
        let mut stakes: Vec<u64> = (0..self.validators).map(|validator| self.stake_of(validator)).collect();
        stakes.sort_unstable();
        let (stake, total) = (stakes.iter().take(adversaries as usize).sum(), stakes.iter().sum());
        if adversaries > 0 && !is_below_a_third(stake, total) {
            return Err(SimConfigError::AThird { adversaries, validators: self.validators, stake, total });
        }
        Ok(())
    }

    /// The stake of the validator at this place in the order of keys, in the units of [`Config::stakes`].
    pub(crate) fn stake_of(&self, validator: u32) -> u64 {
        let place = (validator as usize).checked_rem(self.stakes.len());
        place.map_or(1, |place| self.stakes[place].into())
    }

    /// The weight rule in genesis.
    pub(crate) fn weights(&self) -> WeightRule {
        match self.pay {
            PayRule::Measured => WeightRule::measured_steps(),
            PayRule::Ranks => WeightRule::rank_ramp(),
            PayRule::Scores => WeightRule::ScorePower { exponent: 2 },
            PayRule::Steps => WeightRule::ProvenSteps,
        }
    }

    /// The replay rules in genesis.
    pub(crate) fn replay(&self) -> ReplaySpec {
        let before = |least_replays| ReplaySpec { fraction_ppm: 0, least_replays, ..ReplaySpec::whole() };
        let late = |least_replays| ReplaySpec {
            before_close: false,
            fraction_ppm: 200_000,
            verdict_windows: 2,
            challenge_windows: 1,
            ..before(least_replays)
        };
        match self.replays {
            ReplayMode::One => before(1),
            ReplayMode::Three => before(3),
            ReplayMode::Late => late(2),
            ReplayMode::Sparse => late(0),
        }
    }

    /// The `templar sim` command that repeats the simulation.
    pub fn command(&self) -> String {
        let mut command = format!(
            "templar sim --miners {} --validators {} --windows {} --seed {} --faults {}",
            self.miners,
            self.validators,
            self.windows,
            self.seed,
            self.faults.name()
        );
        if self.replays != ReplayMode::default() {
            let _ = write!(command, " --replays {}", self.replays.name());
        }
        if self.pay != PayRule::default() {
            let _ = write!(command, " --pay {}", self.pay.name());
        }
        if !self.stakes.is_empty() {
            let stakes: Vec<String> = self.stakes.iter().map(u32::to_string).collect();
            let _ = write!(command, " --stakes {}", stakes.join(","));
        }
        if self.hosted > 0 {
            let _ = write!(command, " --hosted {}", self.hosted);
        }
        if self.newcomers > 0 {
            let _ = write!(command, " --newcomers {}", self.newcomers);
        }
        for (strategy, count) in &self.adversaries {
            let _ = write!(command, " --adversary {}:{count}", strategy.name());
        }
        if self.keep_history {
            command.push_str(" --history");
        }
        if self.real {
            command.push_str(" --real");
        }
        command
    }
}

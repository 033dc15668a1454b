//! What is simulated, and the command that does it again.

use std::fmt::Write as _;

use templar_manifest::{GauntletSpec, ReplaySpec, WeightRule};

use crate::strategy::{Role, Strategy};

/// Most miners and validators of a simulation: as many as a run has slots, with room for tests of more.
const MAX_MEMBERS: u32 = 4096;

/// How the network and the machines behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Faults {
    /// Links have their latencies, and nothing breaks.
    None,
    /// Now and then a node crashes, a message is lost and sent again, the network falls apart for a moment.
    #[default]
    Light,
    /// All of it often, entries come in any order and twice, clocks run at different speeds.
    Heavy,
}

impl Faults {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Light, Self::Heavy];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Light => "light",
            Self::Heavy => "heavy",
        }
    }
}

/// Which contributions are replayed, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replays {
    /// Each by one validator before its window closes.
    One,
    /// Each by three validators before its window closes: of seven, more than can be faulty.
    #[default]
    Three,
    /// A fifth of them by each validator and each by two at least, within two windows after the close.
    Late,
    /// A fifth of them by each validator and some by nobody, within two windows after the close; a slot costs what genesis then
    /// demands.
    Sparse,
}

impl Replays {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::One, Self::Three, Self::Late, Self::Sparse];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Three => "three",
            Self::Late => "late",
            Self::Sparse => "sparse",
        }
    }
}

/// What miners are paid by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pay {
    /// Ranks, as the original does and the customary genesis says.
    #[default]
    Ranks,
    /// The square of the score.
    Scores,
    /// Steps that replays bear out.
    Steps,
}

impl Pay {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ranks, Self::Scores, Self::Steps];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ranks => "ranks",
            Self::Scores => "scores",
            Self::Steps => "steps",
        }
    }
}

/// A simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Miners.
    pub miners: u32,
    /// So many of the miners, all honest, have no node of their own and work through another honest miner's, as the keys of one
    /// machine do: a node more costs what all entries of a window cost, a miner more only its own. They do not ask for a slot
    /// again that they lost.
    pub hosted: u32,
    /// Miners that genesis does not know, and that ask for slots; there are slots for half of them.
    pub newcomers: u32,
    /// Validators.
    pub validators: u32,
    /// Windows until the run is over.
    pub windows: u64,
    /// From which everything is drawn.
    pub seed: u64,
    /// What breaks.
    pub faults: Faults,
    /// Which contributions are replayed.
    pub replays: Replays,
    /// What miners are paid by.
    pub pay: Pay,
    /// Who does not do what it should, and how many.
    pub adversaries: Vec<(Strategy, u32)>,
    /// Whether nodes keep all windows, and every restart folds the journal from its beginning. Without it a restart
    /// folds the open window on the state before it, and memory does not grow with the run.
    pub keep_history: bool,
    /// Whether a tiny model is really trained, in place of the statistical model of what deltas are worth.
    pub real: bool,
}

/// Why there is no such simulation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A number that makes no sense.
    #[error("{what} must be from 1 to {limit}, not {found}")]
    Range {
        /// Of what.
        what: &'static str,
        /// The most.
        limit: u64,
        /// What was given.
        found: u64,
    },
    /// More adversaries than there are members of their role.
    #[error("{wanted} adversarial {role} and there are {there}")]
    TooMany {
        /// `miners` or `validators`.
        role: &'static str,
        /// How many were asked for.
        wanted: u64,
        /// How many there are.
        there: u32,
    },
    /// Miners are hosted, and no honest one has a node.
    #[error("{hosted} hosted miners leave no honest miner of {miners} with a node to host them")]
    NoHost {
        /// How many were to be hosted.
        hosted: u32,
        /// All miners that genesis knows.
        miners: u32,
    },
    /// Real training cannot be set up as asked.
    #[error("real training: {0}")]
    Training(String),
    /// A third of the stake or more: nothing is promised then.
    #[error(
        "{adversaries} of {validators} validators of equal stake are a third or more; the rules hold below a third"
    )]
    AThird {
        /// Adversarial validators.
        adversaries: u64,
        /// All validators.
        validators: u32,
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
            windows: 20,
            seed: 0,
            faults: Faults::default(),
            replays: Replays::default(),
            pay: Pay::default(),
            adversaries: Vec::new(),
            keep_history: false,
            real: false,
        }
    }
}

impl Config {
    /// Slots of the run.
    pub(crate) fn slots(&self) -> u32 {
        self.miners + self.newcomers / 2
    }

    /// Checks that the numbers make a run.
    pub fn check(&self) -> Result<(), ConfigError> {
        let limit = templar_manifest::chain::CHAIN_LENGTH;
        for (what, found, limit) in [
            ("miners", self.miners.into(), u64::from(MAX_MEMBERS)),
            ("validators", self.validators.into(), u64::from(MAX_MEMBERS)),
            ("windows", self.windows, limit),
        ] {
            if !(1..=limit).contains(&found) {
                return Err(ConfigError::Range { what, limit, found });
            }
        }
        if self.newcomers > MAX_MEMBERS - self.miners {
            let limit = u64::from(MAX_MEMBERS - self.miners);
            return Err(ConfigError::Range { what: "newcomers", limit, found: self.newcomers.into() });
        }
        let wanted = |role: Role| -> u64 {
            let of_role = self.adversaries.iter().filter(|(strategy, _)| strategy.role() == role);
            of_role.map(|(_, count)| u64::from(*count)).sum()
        };
        for (role, name, there) in
            [(Role::Miner, "miners", self.miners + self.newcomers), (Role::Validator, "validators", self.validators)]
        {
            if wanted(role) > there.into() {
                return Err(ConfigError::TooMany { role: name, wanted: wanted(role), there });
            }
        }
        if self.hosted > 0 && u64::from(self.hosted) + wanted(Role::Miner) >= self.miners.into() {
            return Err(ConfigError::NoHost { hosted: self.hosted, miners: self.miners });
        }
        if self.real && self.adversaries.iter().any(|(strategy, _)| *strategy == Strategy::Nan) {
            return Err(ConfigError::Training("nan is not played: no compressor writes such a delta".to_owned()));
        }
        let adversaries = wanted(Role::Validator);
        if adversaries > 0 && adversaries * 3 >= self.validators.into() {
            return Err(ConfigError::AThird { adversaries, validators: self.validators });
        }
        Ok(())
    }

    /// The rule of genesis by which miners are paid.
    pub(crate) fn weights(&self) -> WeightRule {
        match self.pay {
            Pay::Ranks => GauntletSpec::customary().weights,
            Pay::Scores => WeightRule::ScorePower { exponent: 2 },
            Pay::Steps => WeightRule::ProvenSteps,
        }
    }

    /// The part of genesis that says which contributions are replayed.
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
            Replays::One => before(1),
            Replays::Three => before(3),
            Replays::Late => late(2),
            Replays::Sparse => late(0),
        }
    }

    /// The command that runs the same simulation again.
    pub fn command(&self) -> String {
        let mut command = format!(
            "templar sim --miners {} --validators {} --windows {} --seed {} --faults {}",
            self.miners,
            self.validators,
            self.windows,
            self.seed,
            self.faults.name()
        );
        if self.replays != Replays::default() {
            let _ = write!(command, " --replays {}", self.replays.name());
        }
        if self.pay != Pay::default() {
            let _ = write!(command, " --pay {}", self.pay.name());
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

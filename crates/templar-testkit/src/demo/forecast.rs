//! How long a demo takes on this machine, computed from the time in which it evaluates a page with the untrained model.

use serde::Serialize;
use templar_manifest::Genesis;

/// A training step costs as much as so many evaluations of its tokens. By its arithmetic it would be three, but it has
/// more rows for the cores to share.
const TRAINING: f64 = 2.5;

/// Seconds of a window in which the nodes only exchange messages.
const EXCHANGE_S: f64 = 0.3;

/// Seconds that a demo takes besides its windows: starting and ending its processes, copying, writing text.
const REST_S: f64 = 3.0;

/// The seconds that the parts of a demo take on this machine. It decides nothing but what people are told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Forecast {
    /// Training one window, all honest miners at the same time.
    pub training_s: f64,
    /// Replaying and measuring one window, all validators at the same time.
    pub judging_s: f64,
    /// Auditing one window.
    pub audit_s: f64,
    /// The number of windows.
    pub windows: u64,
}

impl Forecast {
    /// The forecast of a run in which `honest` miners train. `token_s` are the seconds in which this machine evaluates
    /// one token of the run's model.
    pub(super) fn of(genesis: &Genesis, honest: u32, token_s: f64) -> Self {
        let context = genesis.context_at(0);
        let (honest, miners) = (f64::from(honest), genesis.miners().len() as f64);
        let validators = genesis.validators.len().max(1) as f64;
        let sequence = f64::from(context.sequence_length);
        let contribution = TRAINING * f64::from(genesis.inner.steps) * f64::from(context.batch_sequences) * sequence;
        let gauntlet = &genesis.gauntlet;
        let (assigned, unassigned) = (f64::from(gauntlet.assigned_pages), f64::from(gauntlet.unassigned_pages));
        let evaluators = f64::from(gauntlet.evaluators).min(validators);
        let measuring = (evaluators / validators * miners * (2.0 * assigned + unassigned) + unassigned) * sequence;
        let held_out = f64::from(gauntlet.held_out_pages) * sequence;
        Self {
            training_s: honest * contribution * token_s,
            judging_s: validators * (honest * contribution + measuring + held_out) * token_s + EXCHANGE_S,
            audit_s: (honest * contribution + validators * measuring + held_out) * token_s,
            windows: genesis.windows,
        }
    }

    /// The seconds of one window, without its audit.
    pub fn window_s(&self) -> f64 {
        self.training_s + self.judging_s
    }

    /// The seconds of the whole demo.
    pub fn total_s(&self) -> f64 {
        self.windows as f64 * (self.window_s() + self.audit_s) + REST_S
    }
}

#[cfg(test)]
mod tests {
    use templar_manifest::testing::GenesisBuilder;

    use super::*;

    #[test]
    fn twice_the_machine_takes_half_the_time_and_more_windows_take_more() {
        let genesis = GenesisBuilder::tiny("forecast").build();
        let slow = Forecast::of(&genesis, 3, 2e-6);
        let fast = Forecast::of(&genesis, 3, 1e-6);
        assert!((slow.training_s - 2.0 * fast.training_s).abs() < 1e-12);
        assert!(slow.audit_s > slow.training_s, "an audit also measures");
        let longer = Forecast { windows: slow.windows + 1, ..slow };
        assert!((longer.total_s() - slow.total_s() - slow.window_s() - slow.audit_s).abs() < 1e-9);
    }
}

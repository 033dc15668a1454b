//! The simulation: a virtual clock with its queue of events, and the nodes that the events happen to.
//!
//! It gives inputs to `templar_protocol::Node` and carries out the outputs, as the driver of a real node does,
//! and has no rules of its own. All randomness is drawn from one generator in the order of the events. So the
//! seed and the program repeat a simulation exactly, also beside others in the same process.

mod delivery;
mod faults;
mod grind;
mod late_values;
mod outputs;
mod queue;
mod registration;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use templar_manifest::{CheckpointId, PublicKey, StateId, WindowIndex};
use templar_protocol::{Input, RunState};

use self::queue::{EventQueue, SimEvent};
use crate::checks::{Cast, Checks, Violation};
use crate::config::{Config, Faults, SimConfigError, is_below_a_third};
use crate::journal::EntryNumbers;
use crate::kept::KeptRun;
use crate::member::SimMember;
use crate::network::SimNetwork;
use crate::report::{Report, SimProgress};
use crate::rng::{ONE_PPM, SimRng};
use crate::settings::{COMMIT_MS, JUDGE_MS, REVEAL_MS};
use crate::setup::{ChainValues, RunSetup};
use crate::strategy::{MemberRole, Strategy};
use crate::world::World;

/// The most time, in milliseconds of the virtual clock, that a window may stay open while nothing is broken. It
/// is enough for every phase to run out once, for a restarted validator to judge again, and for messages to
/// arrive.
pub const LIVENESS_MS: u64 = 3 * (COMMIT_MS + REVEAL_MS + JUDGE_MS);

/// How often liveness is checked, in milliseconds of the virtual clock.
const WATCH_MS: u64 = 1_000;

/// A simulation that has been set up, and then runs.
pub struct Simulation {
    config: Config,
    rng: SimRng,
    queue: EventQueue,
    members: Vec<SimMember>,
    /// The index of the member that runs the node of a key.
    by_key: BTreeMap<PublicKey, usize>,
    fixed: FixedFacts,
    network: SimNetwork,
    world: World,
    entries: EntryNumbers,
    checks: Checks,
    liveness: Liveness,
    /// Members whose log has grown since their peers were last told.
    grown: Vec<usize>,
    /// The number of inputs given to nodes.
    inputs: u64,
    violation: Option<Violation>,
}

/// Facts of the run that stay the same from the first window to the last.
struct FixedFacts {
    /// The state before window 0.
    first: Arc<RunState>,
    /// The hash chains of the validators. Validators are the first members, in the same order.
    chains: Vec<ChainValues>,
    /// The miner that a favouring validator favours.
    favourite: PublicKey,
}

/// Whether the run progresses.
#[derive(Default)]
struct Liveness {
    /// How many faults last at the moment.
    broken: u32,
    /// Time without a fault since the slowest node last closed a window, in milliseconds.
    calm_ms: u64,
    /// The open window of the slowest node.
    slowest: WindowIndex,
}

impl Simulation {
    /// Sets up a simulation.
    ///
    /// # Errors
    /// If the configuration makes no run, as [`Config::check`] says, or real training can't be set up.
    pub fn new(config: Config) -> Result<Self, SimConfigError> {
        config.check()?;
        Self::of(config)
    }

    /// Sets up a simulation also where a third or more of the validators lie.
    pub(crate) fn of(config: Config) -> Result<Self, SimConfigError> {
        let mut rng = SimRng::new(config.seed);
        let RunSetup { validators, chains, mut miners, newcomers, state, training } = RunSetup::new(&config)?;
        let guests = miners.split_off(miners.len() - config.hosted as usize);
        let keys = validators
            .iter()
            .map(|key| (MemberRole::Validator, key))
            .chain(miners.iter().chain(&newcomers).map(|key| (MemberRole::Miner, key)));
        let mut members: Vec<SimMember> =
            keys.map(|(role, key)| SimMember::new(role, key.clone(), state.clone())).collect();
        assign(&config, &mut members, &mut rng);
        if config.faults == Faults::Heavy {
            for member in &mut members {
                member.machine.work_ppm = rng.between(ONE_PPM / 2, 2 * ONE_PPM);
                member.machine.clock_ppm = rng.between(ONE_PPM * 9 / 10, ONE_PPM * 11 / 10);
            }
        }
        for member in members.iter_mut().rev().take(newcomers.len()) {
            member.asks_from = WindowIndex(rng.below(config.windows.div_ceil(2)));
        }
        let network = SimNetwork::new(members.len(), config.faults, &mut rng);
        let of_genesis = validators.len()..validators.len() + miners.len();
        let hosts: Vec<usize> = of_genesis.filter(|&who| members[who].is_honest()).collect();
        for (guest, host) in guests.into_iter().zip(hosts.into_iter().cycle()) {
            members[host].guests.push(guest);
        }
        let keys = |(who, member): (usize, &SimMember)| {
            let own = std::iter::once(member.key.public()).chain(member.miners());
            own.map(move |key| (key, who)).collect::<Vec<_>>()
        };
        let by_key = members.iter().enumerate().flat_map(keys).collect();
        let mut of_role = members.iter().filter(|member| member.role == MemberRole::Miner);
        let favourite = of_role.clone().find(|member| !member.is_honest()).or_else(|| of_role.next());
        let favourite = favourite.expect("there is a miner").key.public();
        Ok(Self {
            rng,
            queue: EventQueue::default(),
            members,
            by_key,
            fixed: FixedFacts { first: state, chains, favourite },
            network,
            world: World::new(training),
            entries: EntryNumbers::default(),
            checks: Checks::default(),
            liveness: Liveness::default(),
            grown: Vec::new(),
            inputs: 0,
            violation: None,
            config,
        })
    }

    /// Runs to the end of the last window. `progress` is called for every window that all members have closed.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn run(mut self, progress: &mut dyn FnMut(&SimProgress)) -> Result<Report, Box<Violation>> {
        self.play(progress)?;
        Ok(self.report())
    }

    /// As [`Simulation::run`], and gives what an honest validator accepted, for a check by others.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn run_and_keep(mut self, progress: &mut dyn FnMut(&SimProgress)) -> Result<(Report, KeptRun), Box<Violation>> {
        self.play(progress)?;
        Ok((self.report(), KeptRun::of(&self.members, &self.fixed.first)))
    }

    fn play(&mut self, progress: &mut dyn FnMut(&SimProgress)) -> Result<(), Box<Violation>> {
        for who in 0..self.members.len() {
            let outputs = self.members[who].node.todo();
            self.carry(who, outputs);
            self.ask(who);
            self.begin_guests(who);
        }
        self.tell_peers();
        self.queue.schedule(WATCH_MS, SimEvent::Watch);
        self.schedule_fault();
        let mut told = WindowIndex(0);
        while let Some(event) = self.queue.next() {
            self.handle(event);
            self.tell_peers();
            if let Some(violation) = self.violation.take() {
                return Err(Box::new(violation));
            }
            if told < self.liveness.slowest {
                told = self.liveness.slowest;
                progress(&self.progress());
            }
            if self.liveness.slowest.0 >= self.config.windows {
                break;
            }
        }
        for who in 0..self.members.len() {
            self.check_journal(who);
        }
        self.violation.take().map_or(Ok(()), |violation| Err(Box::new(violation)))
    }

    fn report(&self) -> Report {
        Report::of(&self.members, &self.checks.tally, self.progress())
    }

    fn progress(&self) -> SimProgress {
        SimProgress {
            windows: self.liveness.slowest.0,
            simulated_ms: self.queue.now_ms(),
            events: self.queue.handled(),
            inputs: self.inputs,
            checked: self.checks.tally.checked(),
        }
    }

    fn handle(&mut self, event: SimEvent) {
        match event {
            SimEvent::Batch { link, upto, life } => self.arrive(link, upto, life),
            SimEvent::Direct { to, carried } => {
                if self.members[to].machine.is_up {
                    self.take_direct(to, &carried);
                }
            }
            SimEvent::Work { who, life, work } => {
                if self.members[who].lives(life) {
                    self.work_done(who, *work);
                }
            }
            SimEvent::Deadline { who, life, window, phase } => {
                if self.members[who].lives(life) {
                    match self.submit(who, Input::Deadline { window, phase }) {
                        Ok(outputs) => self.carry(who, outputs),
                        Err(reject) => self.violated("an honest input is taken", who, format!("a deadline: {reject}")),
                    }
                }
            }
            SimEvent::Fault => self.fault(),
            SimEvent::Heal => {
                self.network.heal();
                self.mended();
                (0..self.network.links.len()).for_each(|link| self.send(link));
            }
            SimEvent::Restart { who } => self.restart(who),
            SimEvent::ReadAgain { link } => self.read_now(link),
            SimEvent::Watch => self.watch(),
        }
    }

    /// Checks that the run progresses: the slowest node closes its window within [`LIVENESS_MS`] of calm.
    fn watch(&mut self) {
        let slowest = self.members.iter().map(SimMember::window).min().unwrap_or_default();
        if slowest > self.liveness.slowest {
            self.liveness.slowest = slowest;
            self.liveness.calm_ms = 0;
            self.forget();
        } else if self.liveness.broken == 0 {
            self.liveness.calm_ms += WATCH_MS;
        }
        if self.liveness.calm_ms > LIVENESS_MS {
            let behind = self.members.iter().position(|member| member.window() == slowest).unwrap_or_default();
            let detail = format!(
                "window {slowest} is open after {} s in which nothing was broken; it waits in phase {:?}",
                self.liveness.calm_ms / 1000,
                self.members[behind].node.phase(),
            );
            self.violated("a window closes in time", behind, detail);
        }
        self.checks.tally.count("a window closes in time");
        self.queue.schedule(WATCH_MS, SimEvent::Watch);
    }

    /// Drops what no node needs any more, so that memory does not grow with the run.
    fn forget(&mut self) {
        if self.config.keep_history {
            return;
        }
        let before = WindowIndex(self.liveness.slowest.0.saturating_sub(1));
        self.entries.forget(before);
        let late = self.fixed.first.genesis().replay.open_windows();
        let judged = WindowIndex(before.0.saturating_sub(late));
        let members = &self.members;
        let leads_on = |state: &RunState, id: &StateId| {
            let mut parents = state.members().iter().filter_map(|member| state.parent(&member.owner));
            parents.any(|parent| parent.state_out == *id)
        };
        let starts_from = |state: &RunState, id: &CheckpointId| {
            state.checkpoint() == *id || state.contestable_checkpoint() == Some(*id)
        };
        self.world.forget(
            judged,
            |id| members.iter().any(|member| starts_from(member.node.state(), id)),
            |id| members.iter().any(|member| leads_on(member.node.state(), id)),
        );
        for who in 0..self.members.len() {
            // A reader that is away continues where it stopped, and a node that restarts reads the open window again.
            let links = self.network.out[who].iter();
            let read = links.map(|&link| self.network.links[link].cursor).min().unwrap_or(u64::MAX);
            let journal = &mut self.members[who].journal;
            journal.log.forget(read.min(journal.open_from));
        }
    }

    fn cast(&self) -> Cast<'_> {
        Cast { members: &self.members, by_key: &self.by_key }
    }

    /// The genesis of the run.
    #[cfg(test)]
    pub(crate) fn genesis(&self) -> &templar_manifest::Genesis {
        self.fixed.first.genesis()
    }

    pub(crate) fn strategy_of(&self, key: &PublicKey) -> Option<Strategy> {
        self.by_key.get(key).and_then(|&who| self.members[who].strategy)
    }

    /// Records that an invariant does not hold at the member `who`. The first violation ends the simulation.
    fn violated(&mut self, invariant: &'static str, who: usize, detail: String) {
        if self.violation.is_none() {
            let member = &self.members[who];
            self.violation = Some(Violation {
                invariant,
                detail,
                window: member.window().0,
                member: format!("{} {} (node {who})", member.role.name(), member.key.public().short()),
                at_ms: self.queue.now_ms(),
                command: self.config.command(),
            });
        }
    }
}

/// Gives each strategy to as many members of its role as the configuration asks for, drawn at random. Where so many
/// validators can have less than a third of the stake, those that are drawn have.
fn assign(config: &Config, members: &mut [SimMember], rng: &mut SimRng) {
    for role in [MemberRole::Miner, MemberRole::Validator] {
        let mut places: Vec<usize> = (0..members.len()).filter(|&who| members[who].role == role).collect();
        rng.shuffle(&mut places);
        let of_role = config.adversaries.iter().filter(|(strategy, _)| strategy.role() == role);
        if role == MemberRole::Validator {
            let wanted: u32 = of_role.clone().map(|(_, count)| *count).sum();
            places = below_a_third(config, places, wanted as usize);
        }
        let mut places = places.into_iter();
        for (strategy, count) in of_role {
            for who in places.by_ref().take(*count as usize) {
                members[who].strategy = Some(*strategy);
            }
        }
    }
}

/// The validators in the drawn order, without those with which the first `wanted` would have a third of the stake. All
/// of them where any `wanted` would. Validators are the first members, in the order of their keys.
fn below_a_third(config: &Config, drawn: Vec<usize>, wanted: usize) -> Vec<usize> {
    let stake_of = |who: &usize| config.stake_of(*who as u32);
    let total: u64 = drawn.iter().map(stake_of).sum();
    let (mut taken, mut stake) = (Vec::new(), 0);
    for (place, who) in drawn.iter().enumerate() {
        if taken.len() == wanted {
            break;
        }
        let mut later: Vec<u64> = drawn[place + 1..].iter().map(stake_of).collect();
        later.sort_unstable();
        // One is left out if even those with the least stake among the later ones would be too much beside it.
        let missing = wanted - taken.len() - 1;
        let least = stake + stake_of(who) + later.iter().take(missing).sum::<u64>();
        if later.len() >= missing && is_below_a_third(least, total) {
            stake += stake_of(who);
            taken.push(*who);
        }
    }
    if taken.len() == wanted { taken } else { drawn }
}

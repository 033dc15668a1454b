//! The simulation: one queue of events in the order of a virtual clock, and the nodes that they happen to.
//!
//! It carries inputs to `templar_protocol::Node::step` and carries out what comes back, as a real node's driver does, and
//! has no rules of its own. Everything random is drawn from one generator, in the order of events; so the seed and the
//! program replay a simulation exactly, whatever else the process does.

mod carry;
mod faults;
mod grind;
mod register;
mod work;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use templar_manifest::{Hash, Outcome, PublicKey, StateId, WindowIndex};
use templar_protocol::{JudgePlan, Node, Phase, ReplayTask, RunState, Subject, Verified};

use crate::checks::{Checks, Violation};
use crate::config::{Config, ConfigError, Faults};
use crate::dice::{Dice, ONE_PPM};
use crate::member::{Carried, Log, Member, Seen};
use crate::network::Network;
use crate::report::{Progress, Report};
use crate::start::{COMMIT_MS, ChainValues, JUDGE_MS, REVEAL_MS, Start};
use crate::strategy::{Role, Strategy};
use crate::training::Training;
use crate::worth::World;

/// A window closes within this time of the simulated clock in which nothing is broken: each phase runs out once, a
/// restarted validator judges again, and messages find their way.
pub const LIVENESS_MS: u64 = 3 * (COMMIT_MS + REVEAL_MS + JUDGE_MS);

/// How often progress is looked at, in milliseconds of the simulated clock.
const WATCH_MS: u64 = 1_000;

/// Something that will happen.
#[derive(Debug)]
enum Event {
    /// A batch of a log arrives: up to this position.
    Batch { link: usize, upto: u64, life: u32 },
    /// An entry arrives that was sent to this node alone.
    Direct { to: usize, carried: Arc<Carried> },
    /// Work is done, or is to be looked at again.
    Work { who: usize, life: u32, work: Work },
    /// A phase's time is up.
    Deadline { who: usize, life: u32, window: WindowIndex, phase: Phase },
    /// Something breaks.
    Fault,
    /// The network is whole again.
    Heal,
    /// A node starts again.
    Restart { who: usize },
    /// A log is read from its beginning, for what was not taken of it.
    ReadAgain { link: usize },
    /// Whether there was progress.
    Watch,
}

#[derive(Debug)]
enum Work {
    Train {
        window: WindowIndex,
    },
    TrainGuest {
        window: WindowIndex,
        guest: usize,
    },
    Register {
        window: WindowIndex,
    },
    /// A validator that grinds looks at what it could release.
    Grind {
        window: WindowIndex,
        since_ms: u64,
    },
    Judge {
        plan: Box<JudgePlan>,
        since_ms: u64,
    },
    Confirm {
        window: WindowIndex,
        subject: Subject,
        task: Box<ReplayTask>,
        since_ms: u64,
    },
    Apply {
        window: WindowIndex,
        outcomes: Vec<Outcome>,
    },
    /// A friend has waited for its late miner.
    Sign,
}

/// An event with its place in time; the number settles what happens at the same time.
struct Scheduled {
    at_ms: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ms, self.number) == (other.at_ms, other.number)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.number).cmp(&(other.at_ms, other.number))
    }
}

/// A simulation under way.
pub struct Simulation {
    config: Config,
    dice: Dice,
    now_ms: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    members: Vec<Member>,
    /// Of the validators, by member.
    chains: Vec<ChainValues>,
    by_key: BTreeMap<PublicKey, usize>,
    network: Network,
    world: World,
    /// Without it the world is a statistical model.
    training: Option<Box<Training>>,
    first: Arc<RunState>,
    /// Every entry by its id, until all have closed its window.
    entries: BTreeMap<Hash, Arc<Carried>>,
    /// The number of the first entry of each window.
    first_number: BTreeMap<WindowIndex, u64>,
    numbered: u64,
    /// The miner that a favouring validator favours.
    favourite: PublicKey,
    checks: Checks,
    /// Nodes whose log has grown since their peers were told.
    grown: Vec<usize>,
    broken: u32,
    calm_ms: u64,
    /// The window that the slowest node is in.
    slowest: WindowIndex,
    events: u64,
    inputs: u64,
    violation: Option<Violation>,
}

impl Simulation {
    /// Sets up a simulation.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        Self::of(config)
    }

    pub(crate) fn of(config: Config) -> Result<Self, ConfigError> {
        let mut dice = Dice::new(config.seed);
        let Start { validators, chains, mut miners, newcomers, state, training } = Start::new(&config)?;
        let guests = miners.split_off(miners.len() - config.hosted as usize);
        let keys = validators
            .iter()
            .map(|key| (Role::Validator, key))
            .chain(miners.iter().chain(&newcomers).map(|key| (Role::Miner, key)));
        let mut members: Vec<Member> = keys
            .map(|(role, key)| Member {
                role,
                key: key.clone(),
                guests: Vec::new(),
                strategy: None,
                node: Node::new(state.clone(), Some(key.public())),
                log: Log::default(),
                open_from: 0,
                seen: Seen::default(),
                early: Vec::new(),
                under_way: std::collections::BTreeSet::new(),
                fetched: std::collections::BTreeSet::new(),
                states: BTreeMap::new(),
                is_up: true,
                life: 0,
                work_ppm: ONE_PPM,
                clock_ppm: ONE_PPM,
                contradicted: std::collections::BTreeSet::new(),
                rivals: BTreeMap::new(),
                asks_from: WindowIndex(0),
            })
            .collect();
        assign(&config, &mut members, &mut dice);
        if config.faults == Faults::Heavy {
            for member in &mut members {
                member.work_ppm = dice.between(ONE_PPM / 2, 2 * ONE_PPM);
                member.clock_ppm = dice.between(ONE_PPM * 9 / 10, ONE_PPM * 11 / 10);
            }
        }
        for member in members.iter_mut().rev().take(newcomers.len()) {
            member.asks_from = WindowIndex(dice.below(config.windows.div_ceil(2)));
        }
        let network = Network::new(members.len(), config.faults, &mut dice);
        let of_genesis = validators.len()..validators.len() + miners.len();
        let hosts: Vec<usize> = of_genesis.filter(|&who| members[who].is_honest()).collect();
        for (guest, host) in guests.into_iter().zip(hosts.into_iter().cycle()) {
            members[host].guests.push(guest);
        }
        let keys = |(who, member): (usize, &Member)| {
            let own = std::iter::once(member.key.public()).chain(member.miners());
            own.map(move |key| (key, who)).collect::<Vec<_>>()
        };
        let by_key = members.iter().enumerate().flat_map(keys).collect();
        let mut of_role = members.iter().filter(|member| member.role == Role::Miner);
        let favourite = of_role.clone().find(|member| !member.is_honest()).or_else(|| of_role.next());
        let favourite = favourite.expect("there is a miner").key.public();
        Ok(Self {
            dice,
            now_ms: 0,
            queue: BinaryHeap::new(),
            scheduled: 0,
            members,
            chains,
            by_key,
            network,
            world: World::default(),
            training,
            first: state,
            entries: BTreeMap::new(),
            first_number: BTreeMap::new(),
            numbered: 0,
            favourite,
            checks: Checks::default(),
            grown: Vec::new(),
            broken: 0,
            calm_ms: 0,
            slowest: WindowIndex(0),
            events: 0,
            inputs: 0,
            violation: None,
            config,
        })
    }

    /// Runs to the end. `progress` hears of every window that all have closed.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn run(mut self, progress: &mut dyn FnMut(&Progress)) -> Result<Report, Box<Violation>> {
        for who in 0..self.members.len() {
            let outputs = self.members[who].node.todo();
            self.carry(who, outputs);
            self.ask(who);
            self.begin_guests(who);
        }
        self.tell_peers();
        self.schedule(WATCH_MS, Event::Watch);
        self.schedule_fault();
        let mut told = WindowIndex(0);
        while let Some(Reverse(next)) = self.queue.pop() {
            self.now_ms = next.at_ms;
            self.events += 1;
            self.handle(next.event);
            self.tell_peers();
            if let Some(violation) = self.violation.take() {
                return Err(Box::new(violation));
            }
            if told < self.slowest {
                told = self.slowest;
                progress(&self.progress());
            }
            if self.slowest.0 >= self.config.windows {
                break;
            }
        }
        self.finish()
    }

    fn finish(mut self) -> Result<Report, Box<Violation>> {
        for who in 0..self.members.len() {
            self.check_journal(who);
        }
        match self.violation.take() {
            Some(violation) => Err(Box::new(violation)),
            None => Ok(Report::of(&self.members, &self.checks, self.progress())),
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            windows: self.slowest.0,
            simulated_ms: self.now_ms,
            events: self.events,
            inputs: self.inputs,
            checked: self.checks.total(),
        }
    }

    fn schedule(&mut self, after_ms: u64, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled { at_ms: self.now_ms + after_ms, number: self.scheduled, event }));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Batch { link, upto, life } => self.arrive(link, upto, life),
            Event::Direct { to, carried } => {
                if self.members[to].is_up {
                    self.take_strange(to, &carried);
                }
            }
            Event::Work { who, life, work } => {
                if self.members[who].is_up && self.members[who].life == life {
                    self.work_done(who, work);
                }
            }
            Event::Deadline { who, life, window, phase } => {
                if self.members[who].is_up && self.members[who].life == life {
                    let input = templar_protocol::Input::Deadline { window, phase };
                    match self.submit(who, input) {
                        Ok(outputs) => self.carry(who, outputs),
                        Err(reject) => self.violated("an honest input is taken", who, format!("a deadline: {reject}")),
                    }
                }
            }
            Event::Fault => self.fault(),
            Event::Heal => {
                self.network.heal();
                self.mended();
                (0..self.network.links.len()).for_each(|link| self.send(link));
            }
            Event::Restart { who } => self.restart(who),
            Event::ReadAgain { link: index } => {
                let start = self.members[self.network.links[index].from].log.start();
                let link = &mut self.network.links[index];
                link.reads_again = false;
                link.cursor = start;
                self.send(index);
            }
            Event::Watch => self.watch(),
        }
    }

    /// Whether the run goes on: time in which nothing is broken is counted until the slowest node closes a window.
    fn watch(&mut self) {
        let slowest = self.members.iter().map(Member::window).min().unwrap_or_default();
        if slowest > self.slowest {
            self.slowest = slowest;
            self.calm_ms = 0;
            self.forget();
        } else if self.broken == 0 {
            self.calm_ms += WATCH_MS;
        }
        if self.calm_ms > LIVENESS_MS {
            let behind = self.members.iter().position(|member| member.window() == slowest).unwrap_or_default();
            let detail = format!(
                "window {slowest} is open after {} s in which nothing was broken; it waits in phase {:?}",
                self.calm_ms / 1000,
                self.members[behind].node.phase(),
            );
            self.violated("a window closes in time", behind, detail);
        }
        self.checks.count("a window closes in time");
        self.schedule(WATCH_MS, Event::Watch);
    }

    /// Forgets what no node needs any more.
    fn forget(&mut self) {
        if self.config.keep_history {
            return;
        }
        let before = WindowIndex(self.slowest.0.saturating_sub(1));
        self.entries.retain(|_, carried| carried.entry.window() >= before);
        self.first_number = self.first_number.split_off(&before);
        let late = self.first.genesis().replay.open_windows();
        let judged = WindowIndex(before.0.saturating_sub(late));
        self.world.forget(judged);
        let members = &self.members;
        self.world.keep_models(|id| members.iter().any(|member| member.node.state().checkpoint() == *id));
        if let Some(training) = &mut self.training {
            let leads_on = |state: &RunState, id: &StateId| {
                let mut parents = state.members().iter().filter_map(|member| state.parent(&member.owner));
                parents.any(|parent| parent.state_out == *id)
            };
            training.forget(judged, |id| members.iter().any(|member| leads_on(member.node.state(), id)));
        }
        for who in 0..self.members.len() {
            // Whoever is away reads on where it stopped, and a node that restarts reads the open window again.
            let links = self.network.out[who].iter();
            let read = links.map(|&link| self.network.links[link].cursor).min().unwrap_or(u64::MAX);
            let member = &mut self.members[who];
            member.log.forget(read.min(member.open_from));
        }
    }

    fn strategy_of(&self, key: &PublicKey) -> Option<Strategy> {
        self.by_key.get(key).and_then(|&who| self.members[who].strategy)
    }

    fn violated(&mut self, invariant: &'static str, who: usize, detail: String) {
        if self.violation.is_none() {
            let member = &self.members[who];
            let role = if member.role == Role::Miner { "miner" } else { "validator" };
            self.violation = Some(Violation {
                invariant,
                detail,
                window: member.window().0,
                member: format!("{role} {} (node {who})", member.key.public().short()),
                at_ms: self.now_ms,
                command: self.config.command(),
            });
        }
    }

    /// An entry with its number; the same for everybody, its signature checked when it is first seen.
    fn number(&mut self, entry: &Verified) -> Arc<Carried> {
        if let Some(known) = self.entries.get(&entry.id()) {
            return known.clone();
        }
        let number = self.numbered;
        self.numbered += 1;
        self.first_number.entry(entry.window()).or_insert(number);
        let carried = Arc::new(Carried { number, entry: entry.clone() });
        self.entries.insert(entry.id(), carried.clone());
        carried
    }
}

/// Gives each strategy to as many members of its role as it should have, drawn at random.
fn assign(config: &Config, members: &mut [Member], dice: &mut Dice) {
    for role in [Role::Miner, Role::Validator] {
        let mut places: Vec<usize> = (0..members.len()).filter(|&who| members[who].role == role).collect();
        dice.shuffle(&mut places);
        let mut places = places.into_iter();
        for (strategy, count) in config.adversaries.iter().filter(|(strategy, _)| strategy.role() == role) {
            for who in places.by_ref().take(*count as usize) {
                members[who].strategy = Some(*strategy);
            }
        }
    }
}

//! The attack table: every strategy played beside honest members and against nobody, in runs of the same seeds.
//!
//! Three runs of every seed are compared: one in which one member plays the strategy, one in which all are honest, and, for
//! miners, one in which that member is silent. The last two are the same for all strategies. What is compared is what
//! accounts own at the end, vested or not.
//!
//! Pay follows ranks, and ranks follow the draw of pages: one honest miner's pay in one run says little. So the attacker is
//! compared with the mean of all honest members of its role, and [`Baseline::luck`] says what an honest one that is looked at
//! alone would show.

use std::fmt::Write as _;

use crate::checks::Violation;
use crate::config::{Config, Faults, Pay, Replays};
use crate::engine::Simulation;
use crate::report::{Earned, Report};
use crate::strategy::{Role, Strategy};

/// Seeds of the table.
pub const SEEDS: u64 = 8;

/// The runs without an attacker that strategies are compared with, by seed.
#[derive(Debug)]
pub struct Baseline {
    replays: Replays,
    pay: Pay,
    honest: Vec<Report>,
    absent: Vec<Report>,
}

fn modelled(config: Config) -> Simulation {
    Simulation::of(config).expect("only real training can fail to be set up")
}

impl Baseline {
    /// Makes them.
    ///
    /// # Errors
    /// An invariant that does not hold.
    pub fn new(replays: Replays, pay: Pay) -> Result<Self, Box<Violation>> {
        let runs = |adversary| -> Result<Vec<Report>, Box<Violation>> {
            (0..SEEDS).map(|seed| modelled(config(seed, replays, pay, adversary)).run(&mut |_| ())).collect()
        };
        Ok(Self { replays, pay, honest: runs(None)?, absent: runs(Some(Strategy::Absent))? })
    }

    /// What one member of a role, the first by key, owns in each honest run, in parts per thousand of the mean of its role,
    /// sorted: how far from 1000 luck alone leads.
    pub fn luck(&self, role: Role) -> Vec<u64> {
        let name = if role == Role::Miner { "miner" } else { "validator" };
        let part = |report: &Report| {
            let (whole, count) = report.earned(role, None);
            let first = report.members.iter().find(|member| member.role == name)?;
            (first.micros * 1000 * count as u64).checked_div(whole)
        };
        let mut parts: Vec<u64> = self.honest.iter().filter_map(part).collect();
        parts.sort_unstable();
        parts
    }
}

/// One row, from all seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The strategy.
    pub strategy: Strategy,
    /// What was found out about it, and after how many windows at most; nothing where nobody noticed.
    pub noticed: Option<(String, u64)>,
    /// What it owned at the end, in parts per thousand of what an honest member of its role owned in the mean; nothing where
    /// a run stopped.
    pub earned_per_mille: Option<u64>,
    /// What all honest miners together owned less than without the attacker, in parts per thousand; less than 0: more.
    pub lost_per_mille: Option<i64>,
    /// Runs that stopped.
    pub stopped: u64,
}

fn config(seed: u64, replays: Replays, pay: Pay, adversary: Option<Strategy>) -> Config {
    Config {
        miners: 12,
        hosted: 0,
        newcomers: 0,
        validators: 7,
        windows: 16,
        seed,
        faults: Faults::None,
        replays,
        pay,
        adversaries: adversary.map(|strategy| (strategy, 1)).into_iter().collect(),
        keep_history: false,
        real: false,
    }
}

/// What the honest miners of the run with the attacker own in a report. The same seed gives the same roles, so they are
/// found by their keys.
fn owned(report: &Report, with: &Report, is: impl Fn(&Earned) -> bool) -> u64 {
    let those = with.members.iter().zip(&report.members).filter(|(member, _)| is(member));
    those.map(|(_, member)| member.micros).sum()
}

/// Plays one strategy.
pub fn row(strategy: Strategy, baseline: &Baseline) -> Row {
    let mut row = Row { strategy, noticed: None, earned_per_mille: None, lost_per_mille: None, stopped: 0 };
    let (mut own, mut fair, mut others, mut others_without) = (0u64, 0u64, 0u64, 0u64);
    for (seed, (honest, absent)) in baseline.honest.iter().zip(&baseline.absent).enumerate() {
        let Ok(with) = modelled(config(seed as u64, baseline.replays, baseline.pay, Some(strategy))).run(&mut |_| ())
        else {
            row.stopped += 1;
            continue;
        };
        let without = if strategy.role() == Role::Miner { absent } else { honest };
        let is_attacker = |member: &Earned| member.strategy.is_some();
        let is_honest_miner = |member: &Earned| member.strategy.is_none() && member.role == "miner";
        own += owned(&with, &with, is_attacker);
        let (whole, count) = honest.earned(strategy.role(), None);
        fair += whole / (count as u64).max(1);
        others += owned(&with, &with, is_honest_miner);
        others_without += owned(without, &with, is_honest_miner);
        if let Some(found) =
            with.members.iter().find(|member| is_attacker(member)).and_then(|member| member.noticed.clone())
        {
            let worst = row.noticed.get_or_insert((found.how, 0));
            worst.1 = worst.1.max(found.window);
        }
    }
    if row.stopped < SEEDS {
        let lost = (i128::from(others_without) - i128::from(others)) * 1000;
        row.earned_per_mille = (own * 1000).checked_div(fair);
        row.lost_per_mille = Some((lost / i128::from(others_without.max(1))) as i64);
    }
    row
}

/// The rows of these strategies as a table of Markdown.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| strategy | what it does | cost | noticed | in window | earned | honest miners lost |\n|---|---|---|---|---|---|---|\n",
    );
    let percent = |per_mille: i64| {
        format!("{}{}.{} %", if per_mille < 0 { "−" } else { "" }, per_mille.abs() / 10, per_mille.abs() % 10)
    };
    for row in rows {
        let (how, window) = match &row.noticed {
            Some((how, window)) => (how.clone(), window.to_string()),
            None => ("no".to_owned(), "–".to_owned()),
        };
        let stopped = (row.stopped > 0).then(|| format!("stops the run ({} of {SEEDS})", row.stopped));
        let part = |value: Option<i64>| match (value, &stopped) {
            (Some(value), None) => percent(value),
            (_, Some(stopped)) => stopped.clone(),
            (None, None) => "–".to_owned(),
        };
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {how} | {window} | {} | {} |",
            row.strategy.name(),
            row.strategy.describe(),
            percent(row.strategy.cost_per_mille().into()),
            part(row.earned_per_mille.map(|earned| earned as i64)),
            part(row.lost_per_mille),
        );
    }
    text
}

//! The attack table: every strategy played against an honest twin and against nobody, in the same run of the same seeds.
//!
//! Three runs of every seed are compared: one in which one member plays the strategy, one in which that member is honest
//! (its twin), and, for miners, one in which it is silent. The last two are the same for all strategies. What is compared
//! is what accounts own at the end.

use std::fmt::Write as _;

use crate::checks::Violation;
use crate::config::{Config, Faults};
use crate::engine::Simulation;
use crate::report::{Earned, Report};
use crate::strategy::{Role, Strategy};

/// Seeds of the table.
pub const SEEDS: u64 = 2;

/// The runs without an attacker that strategies are compared with, by seed.
#[derive(Debug)]
pub struct Baseline {
    honest: Vec<Report>,
    absent: Vec<Report>,
}

impl Baseline {
    /// Makes them.
    ///
    /// # Errors
    /// An invariant that does not hold.
    pub fn new() -> Result<Self, Box<Violation>> {
        let runs = |adversary| -> Result<Vec<Report>, Box<Violation>> {
            (0..SEEDS).map(|seed| Simulation::of(config(seed, adversary)).run(&mut |_| ())).collect()
        };
        Ok(Self { honest: runs(None)?, absent: runs(Some(Strategy::Absent))? })
    }
}

/// One row, from all seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The strategy.
    pub strategy: Strategy,
    /// What was found out about it, and after how many windows at most; nothing where nobody noticed.
    pub noticed: Option<(String, u64)>,
    /// What it owned at the end, in parts per thousand of what its honest twin owned; nothing where the run stopped.
    pub earned_per_mille: Option<u64>,
    /// What all honest miners together owned less than without the attacker, in parts per thousand; less than 0: more.
    pub lost_per_mille: Option<i64>,
    /// Runs that stopped.
    pub stopped: u64,
}

fn config(seed: u64, adversary: Option<Strategy>) -> Config {
    Config {
        miners: 12,
        validators: 7,
        windows: 12,
        seed,
        faults: Faults::None,
        adversaries: adversary.map(|strategy| (strategy, 1)).into_iter().collect(),
        keep_history: false,
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
    let (mut own, mut twin, mut others, mut others_without) = (0u64, 0u64, 0u64, 0u64);
    for (seed, (honest, absent)) in baseline.honest.iter().zip(&baseline.absent).enumerate() {
        let Ok(with) = Simulation::of(config(seed as u64, Some(strategy))).run(&mut |_| ()) else {
            row.stopped += 1;
            continue;
        };
        let without = if strategy.role() == Role::Miner { absent } else { honest };
        let is_attacker = |member: &Earned| member.strategy.is_some();
        let is_honest_miner = |member: &Earned| member.strategy.is_none() && member.role == "miner";
        own += owned(&with, &with, is_attacker);
        twin += owned(honest, &with, is_attacker);
        others += owned(&with, &with, is_honest_miner);
        others_without += owned(without, &with, is_honest_miner);
        if let Some(found) =
            with.members.iter().find(|member| is_attacker(member)).and_then(|member| member.noticed.clone())
        {
            let worst = row.noticed.get_or_insert_with(|| (found.how, 0));
            worst.1 = worst.1.max(found.window);
        }
    }
    if row.stopped < SEEDS {
        let lost = (i128::from(others_without) - i128::from(others)) * 1000;
        row.earned_per_mille = (own * 1000).checked_div(twin);
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

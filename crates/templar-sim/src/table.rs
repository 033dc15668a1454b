//! The attack table: every strategy played against an honest twin and against nobody, in the same run of the same seeds.
//!
//! For each strategy three runs are made of every seed: one in which one member plays it, one in which that member is
//! honest (its twin), and, for miners, one in which it is silent. What is compared is what accounts own at the end.

use std::fmt::Write as _;

use crate::config::{Config, Faults};
use crate::engine::Simulation;
use crate::report::Report;
use crate::strategy::{Role, Strategy};

/// Runs of each kind for each strategy.
const SEEDS: u64 = 5;

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

fn run(config: Config) -> Option<Report> {
    Simulation::of(config).run(&mut |_| ()).ok()
}

/// What the honest miners of the run with the attacker own in a report. The same seed gives the same roles, so they are
/// found by their keys.
fn owned(report: &Report, with: &Report, is: impl Fn(&crate::report::Earned) -> bool) -> u64 {
    let those = with.members.iter().zip(&report.members).filter(|(member, _)| is(member));
    those.map(|(_, member)| member.micros).sum()
}

/// Plays one strategy.
pub fn row(strategy: Strategy) -> Row {
    let mut row = Row { strategy, noticed: None, earned_per_mille: None, lost_per_mille: None, stopped: 0 };
    let (mut own, mut twin, mut others, mut others_without) = (0u64, 0u64, 0u64, 0u64);
    for seed in 0..SEEDS {
        let Some(with) = run(config(seed, Some(strategy))) else {
            row.stopped += 1;
            continue;
        };
        let Some(honest) = run(config(seed, None)) else { continue };
        let without = match strategy.role() {
            Role::Miner => run(config(seed, Some(Strategy::Absent))),
            Role::Validator => Some(honest.clone()),
        };
        let Some(without) = without else { continue };
        own += owned(&with, &with, |member| member.strategy.is_some());
        twin += owned(&honest, &with, |member| member.strategy.is_some());
        let is_miner = |member: &crate::report::Earned| member.strategy.is_none() && member.role == "miner";
        others += owned(&with, &with, is_miner);
        others_without += owned(&without, &with, is_miner);
        let found =
            with.members.iter().find(|member| member.strategy.is_some()).and_then(|member| member.noticed.clone());
        if let Some(found) = found {
            let later = row.noticed.as_ref().map_or(0, |(_, windows)| *windows).max(found.window);
            // Names of members differ from seed to seed; the reason does not.
            row.noticed.get_or_insert_with(|| (found.how, 0)).1 = later;
        }
    }
    if row.stopped < SEEDS {
        row.earned_per_mille = (own * 1000).checked_div(twin);
        row.lost_per_mille = (i128::from(others_without) - i128::from(others))
            .checked_mul(1000)
            .map(|lost| (lost / i128::from(others_without.max(1))) as i64);
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

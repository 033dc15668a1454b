//! The attack table: every strategy played beside honest members and against nobody, in runs of the same seeds.
//!
//! For each strategy three runs are made of every seed: one in which one member plays it, one in which all are honest, and, for
//! miners, one in which that member is silent. The last two are the same for all strategies of a role and made once. What is
//! compared is what accounts own at the end, vested or not.
//!
//! Pay follows ranks, and ranks follow the draw of pages: one honest miner's pay in one run says little. So the attacker is
//! compared with the mean of all honest members of its role, over many seeds, and [`luck`] says what an honest one
//! that is looked at alone would show.

use std::fmt::Write as _;
use std::sync::OnceLock;

use crate::checks::Violation;
use crate::config::{Config, Faults};
use crate::engine::Simulation;
use crate::report::{Earned, Report};
use crate::strategy::{Role, Strategy};

/// Runs of each kind for each strategy.
const SEEDS: u64 = 20;

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

fn config(seed: u64, adversary: Option<Strategy>) -> Config {
    Config {
        miners: 12,
        validators: 7,
        windows: 24,
        seed,
        faults: Faults::None,
        adversaries: adversary.map(|strategy| (strategy, 1)).into_iter().collect(),
        keep_history: false,
    }
}

fn run(config: Config) -> Option<Report> {
    Simulation::of(config).run(&mut |_| ()).ok()
}

/// The runs of one seed with which all strategies are compared.
struct Beside {
    honest: Option<Report>,
    without_a_miner: Option<Report>,
}

fn beside() -> &'static [Beside] {
    static RUNS: OnceLock<Vec<Beside>> = OnceLock::new();
    RUNS.get_or_init(|| {
        let of = |seed| Beside {
            honest: run(config(seed, None)),
            without_a_miner: run(config(seed, Some(Strategy::Absent))),
        };
        (0..SEEDS).map(of).collect()
    })
}

/// What those members own in a report that are such members in the run with the attacker. The same seed gives the same
/// roles, so they are found by their places.
fn owned(report: &Report, with: &Report, is: impl Fn(&Earned) -> bool) -> u64 {
    let those = with.members.iter().zip(&report.members).filter(|(member, _)| is(member));
    those.map(|(_, member)| member.micros).sum()
}

/// What the same member as the attacker owns in the honest runs, one after the other, in parts per thousand of the mean of
/// its role: how far from 1000 luck alone leads, in each seed and over all.
pub fn luck(role: Role) -> (Vec<u64>, u64) {
    let (mut each, mut own, mut mean) = (Vec::new(), 0u64, 0u64);
    for report in beside().iter().filter_map(|runs| runs.honest.as_ref()) {
        let (whole, count) = report.earned(role, None);
        let name = if role == Role::Miner { "miner" } else { "validator" };
        let Some(first) = report.members.iter().find(|member| member.role == name) else { continue };
        each.push(first.micros * 1000 * count as u64 / whole.max(1));
        own += first.micros * count as u64;
        mean += whole;
    }
    each.sort_unstable();
    (each, own * 1000 / mean.max(1))
}

/// Plays one strategy.
pub fn row(strategy: Strategy, baseline: &Baseline) -> Row {
    let mut row = Row { strategy, noticed: None, earned_per_mille: None, lost_per_mille: None, stopped: 0 };
    let (mut own, mut fair, mut others, mut others_without) = (0u64, 0u64, 0u64, 0u64);
    for (seed, runs) in beside().iter().enumerate() {
        let Some(with) = run(config(seed as u64, Some(strategy))) else {
            row.stopped += 1;
            continue;
        };
        let without = if strategy.role() == Role::Miner { &runs.without_a_miner } else { &runs.honest };
        let (Some(honest), Some(without)) = (&runs.honest, without) else { continue };
        own += owned(&with, &with, |member| member.strategy.is_some());
        let (whole, count) = honest.earned(strategy.role(), None);
        fair += whole / (count as u64).max(1);
        let is_miner = |member: &Earned| member.strategy.is_none() && member.role == "miner";
        others += owned(&with, &with, is_miner);
        others_without += owned(without, &with, is_miner);
        let found =
            with.members.iter().find(|member| member.strategy.is_some()).and_then(|member| member.noticed.clone());
        if let Some(found) = found {
            let later = row.noticed.as_ref().map_or(0, |(_, windows)| *windows).max(found.window);
            // Names of members differ from seed to seed; the reason does not.
            row.noticed.get_or_insert_with(|| (found.how, 0)).1 = later;
        }
    }
    if row.stopped < SEEDS {
        row.earned_per_mille = (own * 1000).checked_div(fair);
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

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
use crate::report::{Earned, Planted, Report};
use crate::strategy::{Role, Strategy};

/// Seeds of the table.
pub const SEEDS: u64 = 8;
/// Windows of each run.
pub const WINDOWS: u64 = 16;

/// The runs without an attacker that strategies are compared with, by seed.
#[derive(Debug)]
pub struct Baseline {
    replays: Replays,
    pay: Pay,
    windows: u64,
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
        Self::over(replays, pay, WINDOWS)
    }

    /// The same of runs of so many windows.
    ///
    /// # Errors
    /// An invariant that does not hold.
    pub fn over(replays: Replays, pay: Pay, windows: u64) -> Result<Self, Box<Violation>> {
        let runs = |cast: &[(Strategy, u32)]| -> Result<Vec<Report>, Box<Violation>> {
            (0..SEEDS).map(|seed| modelled(config(seed, replays, pay, windows, cast)).run(&mut |_| ())).collect()
        };
        Ok(Self { replays, pay, windows, honest: runs(&[])?, absent: runs(&[(Strategy::Absent, 1)])? })
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
    /// Who plays what: first the attacker's strategy, then those of its helpers.
    pub cast: Vec<(Strategy, u32)>,
    /// What was found out about the attacker, and after how many windows at most; nothing where nobody noticed.
    pub noticed: Option<(String, u64)>,
    /// What it owned at the end, in parts per thousand of what an honest member of its role owned in the mean; nothing where
    /// a run stopped.
    pub earned_per_mille: Option<u64>,
    /// The same of its helpers.
    pub helpers_per_mille: Option<u64>,
    /// The same of the validators that are honest in these runs.
    pub validators_per_mille: Option<u64>,
    /// What the attacker owned without the cost that genesis states for each slot that it lost, likewise.
    pub net_per_mille: Option<i64>,
    /// What all honest miners together owned less than without the attacker, in parts per thousand; less than 0: more.
    pub lost_per_mille: Option<i64>,
    /// Contributions of attackers that cuts name, in parts per thousand of one in each window.
    pub in_cut_per_mille: u64,
    /// Those of them that were refused, or that something was slashed for later, in parts per thousand of those that cuts name.
    pub found_per_mille: u64,
    /// Values that helpers withheld.
    pub withheld: u64,
    /// What became of what attackers planted.
    pub planted: Planted,
    /// Slots that attackers lost.
    pub slots_lost: u64,
    /// Runs that stopped.
    pub stopped: u64,
}

fn config(seed: u64, replays: Replays, pay: Pay, windows: u64, cast: &[(Strategy, u32)]) -> Config {
    let adversaries = cast.to_vec();
    Config { windows, seed, faults: Faults::None, replays, pay, adversaries, ..Config::default() }
}

/// What the honest miners of the run with the attacker own in a report. The same seed gives the same roles, so they are
/// found by their keys.
fn owned(report: &Report, with: &Report, is: impl Fn(&Earned) -> bool) -> u64 {
    let those = with.members.iter().zip(&report.members).filter(|(member, _)| is(member));
    those.map(|(_, member)| member.micros).sum()
}

/// Plays one strategy, of one member.
pub fn row(strategy: Strategy, baseline: &Baseline) -> Row {
    row_of(&[(strategy, 1)], baseline)
}

/// Plays these together: the first is the attacker's, the others are its helpers'. Unlike elsewhere, validators with a third
/// of the stake or more may be among them: what is promised below a third is not then.
///
/// # Panics
/// If nobody plays.
pub fn row_of(cast: &[(Strategy, u32)], baseline: &Baseline) -> Row {
    let (strategy, attackers) = cast[0];
    let role = strategy.role();
    let (mut own, mut fair, mut others, mut others_without) = (0u64, 0u64, 0u64, 0u64);
    let (mut helped, mut fair_helped, mut cost) = (0u64, 0u64, 0u64);
    let (mut judged, mut fair_judged) = (0u64, 0u64);
    let (mut planted, mut found, mut withheld) = (Planted::default(), 0, 0);
    let (mut noticed, mut in_cut, mut slots_lost, mut stopped) = (None::<(String, u64)>, 0, 0, 0);
    for (seed, (honest, absent)) in baseline.honest.iter().zip(&baseline.absent).enumerate() {
        let config = config(seed as u64, baseline.replays, baseline.pay, baseline.windows, cast);
        let Ok(with) = modelled(config).run(&mut |_| ()) else {
            stopped += 1;
            continue;
        };
        let without = if role == Role::Miner { absent } else { honest };
        let is_attacker = |member: &Earned| member.strategy == Some(strategy.name());
        let is_helper = |member: &Earned| member.strategy.is_some() && !is_attacker(member);
        let is_honest_miner = |member: &Earned| member.strategy.is_none() && member.role == "miner";
        let fair_part = |role: Role| {
            let (whole, count) = honest.earned(role, None);
            whole / (count as u64).max(1)
        };
        own += owned(&with, &with, is_attacker);
        fair += fair_part(role) * u64::from(attackers);
        helped += owned(&with, &with, is_helper);
        fair_helped +=
            cast[1..].iter().map(|(helper, count)| fair_part(helper.role()) * u64::from(*count)).sum::<u64>();
        let (whole, count) = with.earned(Role::Validator, None);
        judged += whole;
        fair_judged += fair_part(Role::Validator) * count as u64;
        others += owned(&with, &with, is_honest_miner);
        others_without += owned(without, &with, is_honest_miner);
        planted = planted.and(&with.planted);
        in_cut += with.members.iter().filter(|member| is_attacker(member)).map(|member| member.in_cut).sum::<u64>();
        found += with
            .members
            .iter()
            .filter(|member| is_attacker(member))
            .map(|member| member.refused + member.slashed)
            .sum::<u64>();
        withheld += with.members.iter().filter(|member| is_helper(member)).map(|member| member.unrevealed).sum::<u64>();
        let lost = with.members.iter().filter(|member| is_attacker(member) && member.expelled).count() as u64;
        slots_lost += lost;
        cost += lost * with.slot_cost_micros;
        if let Some(found) =
            with.members.iter().find(|member| is_attacker(member)).and_then(|member| member.noticed.clone())
        {
            let worst = noticed.get_or_insert((found.how, 0));
            worst.1 = worst.1.max(found.window);
        }
    }
    let per_mille = |part: i128, whole: u64| (part * 1000).checked_div(whole.into()).map(|part| part as i64);
    let played = stopped < SEEDS;
    let earned = |micros: u64, whole: u64| per_mille(micros.into(), whole).filter(|_| played).map(|part| part as u64);
    let lost = i128::from(others_without) - i128::from(others);
    Row {
        cast: cast.to_vec(),
        noticed,
        earned_per_mille: earned(own, fair),
        helpers_per_mille: earned(helped, fair_helped),
        validators_per_mille: earned(judged, fair_judged),
        net_per_mille: per_mille(i128::from(own) - i128::from(cost), fair).filter(|_| played),
        lost_per_mille: per_mille(lost, others_without.max(1)).filter(|_| played),
        in_cut_per_mille: in_cut * 1000 / (u64::from(attackers) * baseline.windows * (SEEDS - stopped)).max(1),
        found_per_mille: (found * 1000u64).checked_div(in_cut).unwrap_or_default(),
        withheld,
        planted,
        slots_lost,
        stopped,
    }
}

fn percent(per_mille: i64) -> String {
    format!("{}{}.{} %", if per_mille < 0 { "−" } else { "" }, per_mille.abs() / 10, per_mille.abs() % 10)
}

impl Row {
    /// A part, or why there is none.
    fn part(&self, value: Option<i64>) -> String {
        match value {
            _ if self.stopped > 0 => format!("stops the run ({} of {SEEDS})", self.stopped),
            Some(value) => percent(value),
            None => "–".to_owned(),
        }
    }

    /// How it was noticed, and in which window.
    fn notice(&self) -> (String, String) {
        match &self.noticed {
            Some((how, window)) => (how.clone(), window.to_string()),
            None => ("no".to_owned(), "–".to_owned()),
        }
    }
}

/// The rows of these strategies as a table of Markdown.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| strategy | what it does | cost | noticed | in window | earned | honest miners lost |\n|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let (strategy, (how, window)) = (row.cast[0].0, row.notice());
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {how} | {window} | {} | {} |",
            strategy.name(),
            strategy.describe(),
            percent(strategy.cost_per_mille().into()),
            row.part(row.earned_per_mille.map(|earned| earned as i64)),
            row.part(row.lost_per_mille),
        );
    }
    text
}

/// Rows of those who play together, as a table of Markdown.
pub fn markdown_together(rows: &[Row]) -> String {
    let mut text = String::from(
        "| attacker | helpers | cost | noticed | in window | in the cut | found | values withheld | slots lost | earned | less the \
         slots | helpers earned | other validators | honest miners lost |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let (how, window) = row.notice();
        let name = |&(strategy, count): &(Strategy, u32)| match count {
            1 => format!("`{}`", strategy.name()),
            _ => format!("{count} `{}`", strategy.name()),
        };
        let helpers: Vec<String> = row.cast[1..].iter().map(name).collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {how} | {window} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            name(&row.cast[0]),
            if helpers.is_empty() { "–".to_owned() } else { helpers.join(", ") },
            percent(row.cast[0].0.cost_per_mille().into()),
            percent(row.in_cut_per_mille as i64),
            percent(row.found_per_mille as i64),
            row.withheld,
            row.slots_lost,
            row.part(row.earned_per_mille.map(|earned| earned as i64)),
            row.part(row.net_per_mille),
            row.part(row.helpers_per_mille.map(|earned| earned as i64)),
            row.part(row.validators_per_mille.map(|earned| earned as i64)),
            row.part(row.lost_per_mille),
        );
    }
    text
}

/// Rows of those who plant something, by how contributions are replayed, as a table of Markdown.
pub fn markdown_planted(rows: &[(Replays, Row)]) -> String {
    let mut text = String::from(
        "| replays | cost | in the cut | planted | seen | in the model | went on from it | and matched | slots lost | earned | less the \
         slots | honest miners lost |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (replays, row) in rows {
        let planted = &row.planted;
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            replays.name(),
            percent(row.cast[0].0.cost_per_mille().into()),
            percent(row.in_cut_per_mille as i64),
            planted.sent,
            planted.seen,
            planted.aggregated,
            planted.carried,
            planted.matched,
            row.slots_lost,
            row.part(row.earned_per_mille.map(|earned| earned as i64)),
            row.part(row.net_per_mille),
            row.part(row.lost_per_mille),
        );
    }
    text
}

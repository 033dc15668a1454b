//! The attack table: the earnings of each strategy, compared with honest members in runs of the same seeds.
//!
//! For every seed three runs are compared: one member plays the strategy; all members are honest; and, for
//! miners, that member is silent. The last two runs serve all strategies. The compared amounts are those in the
//! accounts at the end, vested or not.
//!
//! One honest miner's pay in one run says little where pay follows ranks, because ranks follow the drawn pages. So the
//! attacker is compared with the mean of all honest members of its role, and [`Baseline::luck`] shows how much a single
//! honest member's pay varies.

use std::fmt::Write as _;

use crate::checks::Violation;
use crate::config::{Config, Faults, PayRule, ReplayMode};
use crate::engine::Simulation;
use crate::report::{Earned, Report};
use crate::strategy::{MemberRole, Strategy};
use crate::tally::Planted;

/// The number of seeds, which are 0 and the numbers after it.
pub const SEEDS: u64 = 8;
/// The number of windows of each run.
pub const WINDOWS: u64 = 16;

/// The runs without an attacker that strategies are compared with, by seed.
#[derive(Debug)]
pub struct Baseline {
    replays: ReplayMode,
    pay: PayRule,
    windows: u64,
    validators: u32,
    stakes: Vec<u32>,
    honest: Vec<Report>,
    absent: Vec<Report>,
}

fn modelled(config: Config) -> Simulation {
    Simulation::of(config).expect("only real training can fail to be set up")
}

impl Baseline {
    /// Runs the baseline, over [`WINDOWS`] windows.
    ///
    /// # Errors
    /// An invariant that does not hold.
    pub fn new(replays: ReplayMode, pay: PayRule) -> Result<Self, Box<Violation>> {
        Self::of(replays, pay, WINDOWS, Config::default().validators)
    }

    /// Runs the baseline over the given number of windows.
    ///
    /// # Errors
    /// An invariant that does not hold.
    pub fn over(replays: ReplayMode, pay: PayRule, windows: u64) -> Result<Self, Box<Violation>> {
        Self::of(replays, pay, windows, Config::default().validators)
    }

    /// Runs the baseline over the given number of windows, with so many validators.
    ///
    /// # Errors
    /// An invariant that does not hold.
    pub fn of(replays: ReplayMode, pay: PayRule, windows: u64, validators: u32) -> Result<Self, Box<Violation>> {
        Self { replays, pay, windows, validators, stakes: Vec::new(), honest: Vec::new(), absent: Vec::new() }.run()
    }

    /// Runs the baseline over the given number of windows, with a validator of each of these stakes.
    ///
    /// # Errors
    /// An invariant that does not hold.
    pub fn with_stakes(
        replays: ReplayMode,
        pay: PayRule,
        windows: u64,
        stakes: Vec<u32>,
    ) -> Result<Self, Box<Violation>> {
        let validators = stakes.len() as u32;
        Self { replays, pay, windows, validators, stakes, honest: Vec::new(), absent: Vec::new() }.run()
    }

    fn run(mut self) -> Result<Self, Box<Violation>> {
        self.honest = self.runs(&[])?;
        self.absent = self.runs(&[(Strategy::Absent, 1)])?;
        Ok(self)
    }

    fn runs(&self, cast: &[(Strategy, u32)]) -> Result<Vec<Report>, Box<Violation>> {
        (0..SEEDS).map(|seed| modelled(self.config(seed, cast)).run(&mut |_| ())).collect()
    }

    fn config(&self, seed: u64, cast: &[(Strategy, u32)]) -> Config {
        let (windows, validators, replays, pay) = (self.windows, self.validators, self.replays, self.pay);
        let (adversaries, stakes) = (cast.to_vec(), self.stakes.clone());
        Config {
            windows,
            validators,
            stakes,
            seed,
            faults: Faults::None,
            replays,
            pay,
            adversaries,
            ..Config::default()
        }
    }

    /// The first member's share of each honest run, in parts per thousand of the mean of its role, sorted. The
    /// first is by key. The distance from 1000 is luck alone.
    pub fn luck(&self, role: MemberRole) -> Vec<u64> {
        let part = |report: &Report| {
            let (whole, count) = report.earned(role, None);
            let first = report.members.iter().find(|member| member.role == role.name())?;
            (first.micros * 1000 * count as u64).checked_div(whole)
        };
        let mut parts: Vec<u64> = self.honest.iter().filter_map(part).collect();
        parts.sort_unstable();
        parts
    }
}

/// One row of the table, over all seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttackRow {
    /// The strategies with the numbers of members that play them: first the attacker's, then those of its helpers.
    pub cast: Vec<(Strategy, u32)>,
    /// How the attacker was found out, and in which window at the latest; `None` where nobody noticed.
    pub noticed: Option<(String, u64)>,
    /// Earnings of the attackers at the end, in parts per thousand of the average of honest members of their
    /// role; `None` where every run stopped.
    pub earned_per_mille: Option<u64>,
    /// Earnings of the helpers, likewise.
    pub helpers_per_mille: Option<u64>,
    /// Earnings of the validators without a strategy, likewise.
    pub validators_per_mille: Option<u64>,
    /// Earnings of the attackers less the stated cost of each slot that they lost, likewise.
    pub net_per_mille: Option<i64>,
    /// By how much all honest miners together owned less than without the attacker, in parts per thousand.
    /// Negative: they owned more.
    pub lost_per_mille: Option<i64>,
    /// Contributions of attackers in cuts, in parts per thousand of one per attacker and window.
    pub in_cut_per_mille: u64,
    /// Contributions of attackers that were refused, or slashed later, in parts per thousand of those in cuts.
    pub found_per_mille: u64,
    /// The number of hash-chain values that helpers withheld.
    pub withheld: u64,
    /// The fate of planted triggers.
    pub planted: Planted,
    /// The number of slots that attackers lost.
    pub slots_lost: u64,
    /// The number of runs that an invariant stopped.
    pub stopped: u64,
}

/// The micro-ALPHA that certain members own in `report`: those that `is` selects in `with`, the run with the
/// attacker. Both reports list the same members in the same order.
fn owned(report: &Report, with: &Report, is: impl Fn(&Earned) -> bool) -> u64 {
    let those = with.members.iter().zip(&report.members).filter(|(member, _)| is(member));
    those.map(|(_, member)| member.micros).sum()
}

/// Measures one strategy, which one member plays.
pub fn row(strategy: Strategy, baseline: &Baseline) -> AttackRow {
    row_of(&[(strategy, 1)], baseline)
}

/// Measures strategies that are played together: the first one is the attacker's, the others are its helpers'. Here
/// adversarial validators may have a third of the stake or more, although the rules promise nothing in this case.
///
/// # Panics
/// If `cast` is empty.
pub fn row_of(cast: &[(Strategy, u32)], baseline: &Baseline) -> AttackRow {
    let (strategy, attackers) = cast[0];
    let role = strategy.role();
    let (mut own, mut fair, mut others, mut others_without) = (0u64, 0u64, 0u64, 0u64);
    let (mut helped, mut fair_helped, mut cost) = (0u64, 0u64, 0u64);
    let (mut judged, mut fair_judged) = (0u64, 0u64);
    let (mut planted, mut found, mut withheld) = (Planted::default(), 0, 0);
    let (mut noticed, mut in_cut, mut slots_lost, mut stopped) = (None::<(String, u64)>, 0, 0, 0);
    for (seed, (honest, absent)) in baseline.honest.iter().zip(&baseline.absent).enumerate() {
        let Ok(with) = modelled(baseline.config(seed as u64, cast)).run(&mut |_| ()) else {
            stopped += 1;
            continue;
        };
        let without = if role == MemberRole::Miner { absent } else { honest };
        let is_attacker = |member: &Earned| member.strategy == Some(strategy.name());
        let is_helper = |member: &Earned| member.strategy.is_some() && !is_attacker(member);
        let is_honest_miner = |member: &Earned| member.strategy.is_none() && member.role == "miner";
        let fair_part = |role: MemberRole| {
            let (whole, count) = honest.earned(role, None);
            whole / (count as u64).max(1)
        };
        own += owned(&with, &with, is_attacker);
        fair += fair_part(role) * u64::from(attackers);
        helped += owned(&with, &with, is_helper);
        fair_helped +=
            cast[1..].iter().map(|(helper, count)| fair_part(helper.role()) * u64::from(*count)).sum::<u64>();
        let (whole, count) = with.earned(MemberRole::Validator, None);
        judged += whole;
        fair_judged += fair_part(MemberRole::Validator) * count as u64;
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
    AttackRow {
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

impl AttackRow {
    /// A part as text, or the reason why there is none.
    fn part(&self, value: Option<i64>) -> String {
        match value {
            _ if self.stopped > 0 => format!("stops the run ({} of {SEEDS})", self.stopped),
            Some(value) => percent(value),
            None => "–".to_owned(),
        }
    }

    /// The texts for how the attacker was noticed, and in which window.
    fn notice(&self) -> (String, String) {
        match &self.noticed {
            Some((how, window)) => (how.clone(), window.to_string()),
            None => ("no".to_owned(), "–".to_owned()),
        }
    }
}

/// The rows of single strategies as a Markdown table.
pub fn markdown(rows: &[AttackRow]) -> String {
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

/// The rows of strategies that are played together as a Markdown table.
pub fn markdown_together(rows: &[AttackRow]) -> String {
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

/// The rows of the strategy `plant`, by which contributions are replayed, as a Markdown table.
pub fn markdown_planted(rows: &[(ReplayMode, AttackRow)]) -> String {
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

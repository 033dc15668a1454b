//! A second implementation of the Gauntlet, from the text of `manifests/README.md`: standings, scores and
//! weights.

use std::collections::BTreeMap;

use templar_manifest::*;
use templar_numerics::twin::exp_f64;

/// The unit of ratings: 10^12 stands for 1.
const PICO: i128 = 1_000_000_000_000;
const NEW_SIGMA: i128 = 8_333_333_333_334;

/// μ, σ, proof, the histories missing, withheld and negative, excluded until, and the factor of pay.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Standing {
    mu: i128,
    sigma: i128,
    proof: i128,
    missing: u8,
    withheld: u8,
    negative: u8,
    excluded_until: u64,
    factor: i128,
}

const NEW: Standing = Standing {
    mu: 25 * PICO,
    sigma: NEW_SIGMA,
    proof: 0,
    missing: 0,
    withheld: 0,
    negative: 0,
    excluded_until: 0,
    factor: 1_000_000_000,
};

#[derive(Clone, Copy, PartialEq)]
enum Conduct {
    Missing,
    Withheld,
    Invalid,
    Departed { at_start: bool, alike: Option<u32> },
    Measured { gain: i128, own: i128, steps: i128 },
}

/// The conduct of a miner in a first window, in which no body is known and no miner has an earlier
/// contribution. In the example all scores agree about bodies and nearest deltas, and all evaluators are there.
fn conduct(genesis: &Genesis, miner: &PublicKey, scores: &[Score], record: &WindowBody) -> Conduct {
    let Some(outcome) = record.outcomes.iter().find(|outcome| outcome.miner == *miner) else { return Conduct::Missing };
    let refusal = match &outcome.verdict {
        Verdict::Refused(Refusal::NotReplayed) => None,
        Verdict::Refused(refusal) => Some(refusal),
        _ => None,
    };
    let entry = scores[0].entries.iter().find(|entry| entry.miner == *miner).unwrap();
    match (refusal, outcome.losses) {
        (Some(Refusal::Withheld), _) => Conduct::Withheld,
        (Some(Refusal::Malformed { .. } | Refusal::WrongClaim { .. }), _) => Conduct::Invalid,
        (Some(Refusal::Mismatch { step, .. }), _) => {
            Conduct::Departed { at_start: *step == 0, alike: entry.nearest.map(|_| entry.overlap_ppm) }
        }
        (_, None) => Conduct::Invalid,
        (_, Some(losses)) => {
            let gain = |before: u64, after: u64| i128::from(before) - i128::from(after);
            Conduct::Measured {
                gain: gain(losses.unassigned_before_nanonats, losses.unassigned_after_nanonats),
                own: gain(losses.assigned_before_nanonats, losses.assigned_after_nanonats),
                // Both miners of the example take all steps.
                steps: genesis.inner.steps.into(),
            }
        }
    }
}

/// The class and the gain that decide a miner's place; a larger pair is better.
fn merit(conduct: &Conduct) -> (u8, i128) {
    match conduct {
        Conduct::Measured { gain, .. } => (2, *gain),
        Conduct::Invalid | Conduct::Departed { .. } => (1, 0),
        _ => (0, 0),
    }
}

fn play(spec: &GauntletSpec, standings: &mut BTreeMap<PublicKey, Standing>, conducts: &BTreeMap<PublicKey, Conduct>) {
    let mut entrants: Vec<(PublicKey, (u8, i128))> = conducts
        .iter()
        .filter(|(_, conduct)| **conduct != Conduct::Missing)
        .map(|(miner, conduct)| (*miner, merit(conduct)))
        .collect();
    if entrants.len() < 2 {
        return;
    }
    entrants.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let real = |picos: i128| picos as f64 / 1e12;
    let (beta, tau) = (f64::from(spec.rating.beta_micros) / 1e6, f64::from(spec.rating.tau_micros) / 1e6);
    let before: Vec<(f64, f64)> = entrants
        .iter()
        .map(|(miner, _)| (real(standings[miner].mu), real(standings[miner].sigma)))
        .map(|(mu, sigma)| (mu, sigma * sigma + tau * tau))
        .collect();
    let mut square = 0.0;
    for (_, v) in &before {
        square += v + beta * beta;
    }
    let c = f64::sqrt(square);
    let largest = before.iter().map(|(mu, _)| *mu).fold(f64::MIN, f64::max);
    let e: Vec<f64> = before.iter().map(|(mu, _)| exp_f64(f64::max((mu - largest) / c, -300.0))).collect();
    let (mut a_sum, mut b_sum) = (0.0, 0.0);
    for i in 0..entrants.len() {
        let place = entrants[i].1;
        let first = entrants.iter().position(|entrant| entrant.1 == place).unwrap();
        let of_place = entrants.iter().filter(|entrant| entrant.1 == place).count();
        if i == first {
            let mut s = 0.0;
            for strength in e[first..].iter().rev() {
                s += strength;
            }
            a_sum += 1.0 / s;
            b_sum += (1.0 / s) * (1.0 / s);
        }
        let (mu, v) = before[i];
        let omega = 1.0 / of_place as f64 - e[i] * a_sum;
        let delta = e[i] * a_sum - (e[i] * e[i]) * b_sum;
        let f = f64::max(1.0 - (delta * (v / (c * c))) * (v.sqrt() / c), 0.0001);
        let standing = standings.get_mut(&entrants[i].0).unwrap();
        let limit = 9_000 * PICO;
        standing.mu = (((mu + omega * (v / c)) * 1e12).round() as i128).clamp(-limit, limit);
        standing.sigma = (((v.sqrt() * f.sqrt()) * 1e12).round() as i128).clamp(1, limit);
    }
}

fn punish(spec: &GauntletSpec, standing: &mut Standing, window: u64, offence: Offence, measure: u32) {
    let reached = spec.penalties.iter().filter(|row| row.offence == offence && row.from <= measure);
    let Some(row) = reached.max_by_key(|row| row.from) else { return };
    standing.factor = standing.factor * i128::from(row.factor_ppm) / 1_000_000;
    if standing.proof > 0 {
        standing.proof = standing.proof * i128::from(row.factor_ppm) / 1_000_000;
    }
    if row.resets {
        standing.mu = standing.mu.min(NEW.mu);
        standing.sigma = standing.sigma.max(NEW_SIGMA);
    }
    if row.excluded_windows > 0 {
        standing.excluded_until = standing.excluded_until.max(window + row.excluded_windows);
    }
}

/// The standings after the first window, and the scores of those that can be paid.
pub(super) fn assess(
    genesis: &Genesis,
    said: &[Score],
    record: &WindowBody,
) -> (BTreeMap<PublicKey, Standing>, BTreeMap<PublicKey, u64>) {
    let (spec, window) = (&genesis.gauntlet, record.window.0);
    let conducts: BTreeMap<PublicKey, Conduct> =
        genesis.miners().iter().map(|miner| (*miner, conduct(genesis, miner, said, record))).collect();
    let mut standings: BTreeMap<PublicKey, Standing> = genesis.miners().iter().map(|miner| (*miner, NEW)).collect();
    play(spec, &mut standings, &conducts);
    let gains: Vec<i128> = conducts
        .values()
        .filter_map(|conduct| if let Conduct::Measured { gain, .. } = conduct { Some(*gain) } else { None })
        .collect();
    let blames = gains.iter().filter(|gain| **gain > 0).count() * 2 > gains.len();
    let median = median(&conducts);
    let mut scores = BTreeMap::new();
    for (miner, conduct) in &conducts {
        let standing = standings.get_mut(miner).unwrap();
        standing.missing = standing.missing << 1 | u8::from(*conduct == Conduct::Missing);
        if *conduct != Conduct::Missing {
            standing.withheld = standing.withheld << 1 | u8::from(*conduct == Conduct::Withheld);
        }
        let mut fault = |offence, measure| punish(spec, standing, window, offence, measure);
        match *conduct {
            // All histories were empty, so the first fault is the first in a row and the only one of the last
            // eight.
            Conduct::Missing => fault(Offence::Missing, 1),
            Conduct::Withheld => {
                fault(Offence::Withheld, 1);
                fault(Offence::WithheldOften, 1);
            }
            Conduct::Invalid => fault(Offence::Invalid, 1),
            Conduct::Departed { at_start, alike } => {
                fault(if at_start { Offence::OutOfSync } else { Offence::Mismatch }, 1);
                if let Some(alike) = alike {
                    fault(Offence::Copied, alike);
                }
            }
            Conduct::Measured { gain, own, steps } => {
                if blames {
                    standing.negative = standing.negative << 1 | u8::from(gain < 0);
                }
                let target = if own > gain { 1_000_000_000 } else { -1_000_000_000 };
                standing.proof += (target - standing.proof) * i128::from(spec.proof.decay_ppm) / 1_000_000;
                let WeightRule::MeasuredSteps { least_ppm, most_ppm, newest_ppm } = spec.weights else {
                    panic!("the example pays by measured steps")
                };
                let of_step = (1_000 * gain).div_euclid(steps);
                let ratio = if median > 0 { of_step * 1_000_000 / median } else { 1_000_000 };
                let ratio = ratio.max(least_ppm.into()).min(most_ppm.into());
                standing.factor += (1_000 * ratio - standing.factor) * i128::from(newest_ppm) / 1_000_000;
                if blames && gain < 0 {
                    punish(spec, standing, window, Offence::Negative, 1);
                    punish(spec, standing, window, Offence::NegativeOften, 1);
                }
                if window >= standing.excluded_until {
                    scores.insert(*miner, score_of(spec, standing, window));
                }
            }
        }
    }
    (standings, scores)
}

fn score_of(spec: &GauntletSpec, standing: &Standing, window: u64) -> u64 {
    let ordinal = standing.mu - 3 * standing.sigma;
    let warm = window >= spec.proof.warm_up_windows;
    if ordinal <= 0 || standing.proof <= 0 || (warm && standing.proof < 1_000 * i128::from(spec.proof.threshold_ppm)) {
        return 0;
    }
    (ordinal * standing.proof / 1_000_000_000) as u64
}

/// The least gain of a step such that contributions with at most this gain have half of the measured steps or more.
fn median(conducts: &BTreeMap<PublicKey, Conduct>) -> i128 {
    let mut gains: Vec<(i128, i128)> = conducts
        .values()
        .filter_map(|conduct| match conduct {
            Conduct::Measured { gain, steps, .. } => Some(((1_000 * gain).div_euclid(*steps), *steps)),
            _ => None,
        })
        .collect();
    gains.sort();
    let all: i128 = gains.iter().map(|(_, steps)| steps).sum();
    let up_to = |gain: i128| gains.iter().filter(|(other, _)| *other <= gain).map(|(_, steps)| steps).sum::<i128>();
    gains.iter().map(|(gain, _)| *gain).find(|gain| up_to(*gain) * 2 >= all).unwrap_or(0)
}

/// The weights of these miners by measured steps.
pub(super) fn weights(
    genesis: &Genesis,
    payable: &[PublicKey],
    standings: &BTreeMap<PublicKey, Standing>,
    steps: impl Fn(&PublicKey) -> u64,
) -> BTreeMap<PublicKey, u64> {
    let merit = |miner: &PublicKey| {
        let factor = standings[miner].factor;
        let is_whole = steps(miner) == u64::from(genesis.inner.steps);
        i128::from(steps(miner)) * if is_whole { factor } else { factor.min(1_000_000_000) }
    };
    let whole: i128 = payable.iter().map(merit).sum();
    let weights = payable.iter().map(|miner| (*miner, (1_000_000 * merit(miner) / whole) as u64));
    weights.filter(|(_, weight)| *weight > 0).collect()
}

/// The value of a standing in the state's tree.
pub(super) fn value(standing: &Standing) -> Vec<u8> {
    let mut bytes: Vec<u8> = [standing.mu, standing.sigma, standing.proof]
        .iter()
        .flat_map(|number| (*number as i64).to_le_bytes())
        .collect();
    let histories = [standing.missing, standing.withheld, standing.negative].map(u64::from);
    let last = [standing.excluded_until, standing.factor as u64];
    bytes.extend(histories.into_iter().chain(last).flat_map(u64::to_le_bytes));
    bytes
}

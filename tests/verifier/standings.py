"""What a run remembers of a miner's deltas, and the score that follows from it.

Follows: "Conduct", "Standings", "Rating" and "Score" of manifests/README.md, and exp_f64 of the documentation of
`templar-numerics`. Python's floats are the f64 of that text: each operation is rounded once.
"""

import math
from dataclasses import dataclass, replace

from .schema import variant

PICO, NANO, PPM = 10**12, 10**9, 10**6
NEW_MU, NEW_SIGMA = 25 * PICO, 8_333_333_333_334


@dataclass(frozen=True)
class Standing:
    mu: int = NEW_MU                # 1e-12
    sigma: int = NEW_SIGMA          # 1e-12
    proof: int = 0                  # 1e-9
    missing: int = 0                # three histories of eight bits, the newest is the lowest
    withheld: int = 0
    negative: int = 0
    excluded_until: int = 0
    factor: int = NANO              # 1e-9

    def less_certain(self):
        return replace(self, mu=min(self.mu, NEW_MU), sigma=max(self.sigma, NEW_SIGMA))


@dataclass(frozen=True)
class Conduct:
    """What a member did in a window: `kind` is missing, withheld, invalid, departed, measured or unmeasured."""

    kind: str
    gain: int = 0                   # on unassigned pages
    own_gain: int = 0               # on assigned pages
    steps: int = 0
    at_start: bool = False          # departed in leaf 0
    overlap_ppm: int = 0            # of the nearest, 1,000,000 if the body is older than this window
    restarts: bool = False          # without a parent although it has one


def conduct(finding, contribution, restarts, is_old_body):
    """The conduct of a member that has a contribution in the cut."""
    steps, refusal = contribution["steps"], finding.refusal
    overlap = PPM if is_old_body else finding.overlap_ppm
    name, content = variant(refusal) if refusal else (None, None)
    if name in (None, "not-replayed"):
        if finding.losses:
            of = finding.losses
            gain = of["unassigned_before_nanonats"] - of["unassigned_after_nanonats"]
            own_gain = of["assigned_before_nanonats"] - of["assigned_after_nanonats"]
            return Conduct("measured", gain, own_gain, steps, restarts=restarts)
        is_unmeasured = finding.body is not None and not finding.is_untried
        return Conduct("unmeasured" if is_unmeasured else "invalid", steps=steps, restarts=restarts)
    if name == "mismatch":
        return Conduct("departed", steps=steps, at_start=content["step"] == 0, overlap_ppm=overlap, restarts=restarts)
    return Conduct("withheld" if name == "withheld" else "invalid", steps=steps, restarts=restarts)


def cut_towards_zero(a, b):
    return abs(a) // b * (1 if a >= 0 else -1)


def assess(standings, conducts, genesis, window):
    """The standings after a window. Both arguments are {miner: …}, for every member."""
    rule = genesis["gauntlet"]
    kind, weights = variant(rule["weights"])
    after = {}
    for miner, done in conducts.items():
        standing = standings.get(miner, Standing())
        if done.restarts:
            standing = replace(standing, sigma=max(standing.sigma, NEW_SIGMA))
        after[miner] = standing
    if kind != "proven-steps":
        match(after, conducts, rule["rating"])
    measured = {miner: done for miner, done in conducts.items() if done.kind == "measured"}
    blames = 2 * sum(done.gain > 0 for done in measured.values()) > len(measured)
    median = median_gain(measured.values()) if kind == "measured-steps" else 0
    for miner, done in conducts.items():
        standing = histories(after[miner], done, blames)
        if done.kind == "measured":
            sign = NANO if done.own_gain > done.gain else -NANO
            moved = cut_towards_zero((sign - standing.proof) * rule["proof"]["decay_ppm"], PPM)
            standing = replace(standing, proof=standing.proof + moved)
            if kind == "measured-steps":
                standing = replace(standing, factor=worth(standing.factor, done, median, weights))
        after[miner] = penalties(standing, done, blames, rule["penalties"], window)
    return after


def histories(standing, done, blames):
    missing = (standing.missing * 2 + (done.kind == "missing")) % 256
    withheld, negative = standing.withheld, standing.negative
    if done.kind != "missing":
        withheld = (withheld * 2 + (done.kind == "withheld")) % 256
    if blames and done.kind == "measured":
        negative = (negative * 2 + (done.gain < 0)) % 256
    return replace(standing, missing=missing, withheld=withheld, negative=negative)


def step_gain(done):
    """The gain of one step."""
    return 1000 * done.gain // done.steps


def median_gain(measured):
    """The least gain of a step such that contributions with at most this much have half of all steps or more."""
    steps = sum(done.steps for done in measured)
    reached = 0
    for done in sorted(measured, key=step_gain):
        reached += done.steps
        if 2 * reached >= steps:
            return step_gain(done)
    return 0


def worth(factor, done, median, weights):
    ratio = cut_towards_zero(step_gain(done) * PPM, median) if median > 0 else PPM
    ratio = min(max(ratio, weights["least_ppm"]), weights["most_ppm"])
    return factor + cut_towards_zero((1000 * ratio - factor) * weights["newest_ppm"], PPM)


def in_a_row(history):
    """How many of the newest eight are 1 without a gap."""
    return (f"{history:08b}"[::-1] + "0").index("0")


def measures(standing, done, blames):
    """The offences that were committed in this window, with their measures, in the order of the union."""
    if done.kind == "missing":
        yield "missing", in_a_row(standing.missing)
    if done.kind == "withheld":
        yield "withheld", in_a_row(standing.withheld)
        yield "withheld-often", bin(standing.withheld).count("1")
    if done.kind == "invalid":
        yield "invalid", 1
    if done.kind == "departed":
        yield ("out-of-sync" if done.at_start else "mismatch"), 1
    if done.kind == "measured" and blames and done.gain < 0:
        yield "negative", in_a_row(standing.negative)
        yield "negative-often", bin(standing.negative).count("1")
    if done.kind == "departed":
        yield "copied", done.overlap_ppm


def penalties(standing, done, blames, rows, window):
    for offence, measure in measures(standing, done, blames):
        row = None
        for other in rows:
            if other["offence"] == offence and other["from"] <= measure:
                row = other
        if row is None:
            continue
        proof = standing.proof * row["factor_ppm"] // PPM if standing.proof > 0 else standing.proof
        standing = replace(standing, factor=standing.factor * row["factor_ppm"] // PPM, proof=proof)
        if row["resets"]:
            standing = standing.less_certain()
        if row["excluded_windows"]:
            until = max(standing.excluded_until, window + row["excluded_windows"])
            standing = replace(standing, excluded_until=until)
    return standing


def match(after, conducts, rating):
    """Changes the ratings of all that took part in the window's match."""
    entrants = [(miner, done) for miner, done in conducts.items() if done.kind not in ("missing", "unmeasured")]
    if len(entrants) < 2:
        return
    rank = {"measured": 0, "invalid": 1, "departed": 1, "withheld": 2}
    order = sorted((rank[done.kind], -done.gain if done.kind == "measured" else 0, miner) for miner, done in entrants)
    places = []                     # lists of miners on one place
    for number, (kind, gain, miner) in enumerate(order):
        if number and order[number - 1][:2] == (kind, gain):
            places[-1].append(miner)
        else:
            places.append([miner])
    beta, tau = rating["beta_micros"] / 1e6, rating["tau_micros"] / 1e6
    mus = {miner: after[miner].mu / 1e12 for _, _, miner in order}
    variances = {}
    for miner in mus:
        sigma = after[miner].sigma / 1e12
        variances[miner] = sigma * sigma + tau * tau
    total = 0.0
    for miner in mus:
        total += variances[miner] + beta * beta
    c = math.sqrt(total)
    largest = max(mus.values())
    strength = {miner: exp_f64(max((mu - largest) / c, -300.0)) for miner, mu in mus.items()}
    sums, behind = [], 0.0
    for place in reversed(places):
        for miner in reversed(place):
            behind += strength[miner]
        sums.append(behind)
    sums.reverse()
    a, b = 0.0, 0.0
    for place, strengths in zip(places, sums):
        a += 1 / strengths
        b += (1 / strengths) * (1 / strengths)
        for miner in place:
            e, v = strength[miner], variances[miner]
            omega = 1 / len(place) - e * a
            delta = e * a - (e * e) * b
            mu = mus[miner] + omega * (v / c)
            f = max(1 - (delta * (v / (c * c))) * (math.sqrt(v) / c), 0.0001)
            sigma = math.sqrt(v) * math.sqrt(f)
            after[miner] = replace(after[miner], mu=pico(mu), sigma=max(pico(sigma), 1))


def pico(number):
    """A number in 1e-12, rounded half away from zero, within ±9·10^15."""
    scaled = number * 1e12
    whole = math.floor(abs(scaled))
    whole += abs(scaled) - whole >= 0.5
    return max(min(whole if scaled >= 0 else -whole, 9 * 10**15), -9 * 10**15)


LOG2_E, LN2_HIGH, LN2_LOW = (float.fromhex(text) for text in (
    "0x1.71547652b82fep+0", "0x1.62e42feep-1", "0x1.a39ef35793c76p-33"))


def exp_f64(x):
    """The exponential function as `templar-numerics` specifies it to the bit."""
    if x < -746:
        return 0.0
    rounder = 1.5 * 2.0**52
    n = x * LOG2_E + rounder - rounder
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    q = 1 / math.factorial(13)
    for k in range(12, 1, -1):
        q = q * r + 1 / math.factorial(k)
    p = (r + (r * r) * q) + 1
    half = math.floor(n / 2)
    return (p * 2.0**half) * 2.0**(int(n) - half)


def score(standing, done, genesis, window):
    """The miner's score, or None where it has none."""
    proof_rule = genesis["gauntlet"]["proof"]
    if done.kind not in ("measured", "unmeasured") or window < standing.excluded_until:
        return None
    is_proven = window < proof_rule["warm_up_windows"] or standing.proof >= 1000 * proof_rule["threshold_ppm"]
    low = standing.mu - 3 * standing.sigma
    return low * standing.proof // NANO if low > 0 and standing.proof > 0 and is_proven else 0

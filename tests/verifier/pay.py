"""What a window pays, and to whom: weights and mints.

Follows: "Weights" and "Mints" of manifests/README.md.
"""

from .hashing import ZERO
from .schema import MINT_KINDS, variant

PPM, NANO = 10**6, 10**9


def weights(able, genesis):
    """[(miner, weight_ppm)], ascending. `able` has the members that can have a weight: {miner: (steps, factor, score)}."""
    kind, rule = variant(genesis["gauntlet"]["weights"])
    merits = []
    for miner, (steps, factor, score) in able.items():
        if kind == "measured-steps":
            merit = steps * (factor if steps >= genesis["inner"]["steps"] else min(factor, NANO))
        else:
            merit = steps if kind == "proven-steps" else score
        if merit:
            merits.append((miner, merit))
    merits.sort(key=lambda of: (-of[1], of[0]))
    if kind == "score-power":
        largest = max((merit for _, merit in merits), default=1)
        parts = [(NANO * merit // largest)**rule["exponent"] for _, merit in merits]
    elif kind == "rank-ramp":
        parts = shared_by_equals(merits, ramp(len(merits), rule))
    else:
        parts = [merit for _, merit in merits]
    total = sum(parts)
    shares = sorted((miner, PPM * part // total) for (miner, _), part in zip(merits, parts) if total)
    return [share for share in shares if share[1]]


def ramp(number, rule):
    """The parts of the places of a ramp and its tail; as many as there are, the others get 0."""
    n, r, share = min(number, rule["places"]), rule["top_ratio_ppm"], rule["ramp_share_ppm"]
    steps = [r * (n - 1) - i * (r - PPM) if n > 1 else 1 for i in range(n)]
    parts = [share * 10**12 * step // sum(steps) for step in steps]
    length = min(number - n, rule["tail_places"])
    decaying = [10**18]
    while len(decaying) < length:
        decaying.append(decaying[-1] * rule["tail_decay_ppm"] // PPM)
    decaying = decaying[:length]
    tail = [(PPM - share) * 10**12 * q // sum(decaying) for q in decaying]
    half = parts[-1] // 2 if parts else 0
    if tail and tail[0] > half:
        tail = [part * half // tail[0] for part in tail]
    return parts + tail + [0] * (number - n - length)


def shared_by_equals(merits, parts):
    """Equal scores have the same part: the mean of the parts of their places."""
    shared = []
    for _, merit in merits:
        equal = [part for (_, other), part in zip(merits, parts) if other == merit]
        shared.append(sum(equal) // len(equal))
    return shared


def mints(paid, steps, replays, measurements, genesis):
    """The mints of a window, in the order of a record. `paid` are the weights, `steps` the steps of all members that
    can have one, `replays` and `measurements` {validator: number proven}."""
    if not paid:
        return []
    rule = genesis["emission"]
    emitted = rule["per_window_micros"] * min(steps, rule["target_steps"]) // rule["target_steps"]
    pots = {name: emitted * rule[f"{name}_ppm"] // PPM for name in ("miners", "validators", "treasury")}
    for_replays = pots["validators"] * rule["replays_ppm"] // PPM
    if not sum(replays.values()):
        for_replays = 0
    elif not sum(measurements.values()):
        for_replays = pots["validators"]
    found = [(miner, "miner", pots["miners"] * weight // PPM) for miner, weight in paid]
    found += shares(replays, "replays", for_replays)
    found += shares(measurements, "evaluations", pots["validators"] - for_replays)
    found.append((ZERO, "treasury", pots["treasury"]))
    found.sort(key=lambda mint: (mint[0], MINT_KINDS.index(mint[1])))
    return [{"account": account, "kind": kind, "amount_micros": amount} for account, kind, amount in found if amount]


def shares(numbers, kind, pot):
    total = sum(numbers.values())
    return [(validator, kind, pot * number // total) for validator, number in numbers.items() if number]

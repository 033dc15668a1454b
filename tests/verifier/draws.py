"""Everything that a window draws: seeds, hash chains, pages, replays, evaluators, and the proofs that name them.

Follows: "Seeds" to "Assignment", "Replays", "Proof of a replay", "Evaluation pages", "Evaluators", "Proof of an
evaluation" and "Spot checks" of manifests/README.md.
"""

from collections import namedtuple

from .hashing import Draw, derived, keyed_hash, u64

CHAIN_VALUES = 65_537

# What is fixed when a window's reveals are agreed. `reveals` is {validator: value}, `miners` those of the cut in order.
Drawing = namedtuple("Drawing", "run window seed before contributions reveals")


def first_seed(run):
    """seed(-1)."""
    return derived("templar/1 seed before the first window", run)


def of_contributions(contributions):
    return b"".join(c["miner"] + c["delta"] + c["state_out"] for c in contributions)


def seed_of(run, window, before, contributions, reveals):
    """seed(N). `contributions` are sorted by miner, `reveals` is a list of (validator, value)."""
    return derived("templar/1 window seed", run, u64(window), before, u64(len(contributions)),
                   of_contributions(contributions), u64(len(reveals)), b"".join(v + x for v, x in sorted(reveals)))


def chain_step(value, times=1):
    for _ in range(times):
        value = derived("templar/1 hash chain step", value)
    return value


class Epoch:
    """The pages of an epoch in a row, of which some are taken. Only the places that were swapped are kept."""

    def __init__(self, pages):
        self.pages, self.taken, self.moved = pages, 0, {}

    def take(self, count, draw):
        pages = []
        for _ in range(count):
            t = self.taken
            j = t + draw.below(self.pages - t)
            page = self.moved.get(j, j)
            self.moved[j] = self.moved.pop(t, t)
            pages.append(page)
            self.taken += 1
        return pages


def assignment_draw(run, window, seed_before):
    return Draw("templar/1 assignment", run, u64(window), seed_before)


def pages_of(tokens, length):
    """How many pages a stream has at this sequence length."""
    return max(tokens - 1, 0) // length


def by_stake(draw, stakes, revealed, count):
    """The first validators in rank that have revealed, ascending. `stakes` is {validator: stake}."""
    left, taken = sorted(stakes), []
    while left and len(taken) < count:
        t = draw.below(sum(stakes[validator] for validator in left))
        for validator in left:
            if t < stakes[validator]:
                break
            t -= stakes[validator]
        left.remove(validator)
        if validator in revealed:
            taken.append(validator)
    return sorted(taken)


def numbers_by_chance(drawing, validator):
    """The validator's number for each contribution, by chance."""
    commitment = derived("templar/1 commitment of a cut", drawing.run, u64(drawing.window), drawing.before,
                         u64(len(drawing.contributions)), of_contributions(drawing.contributions))
    chance = Draw("templar/1 replay by chance", drawing.run, commitment, validator, drawing.reveals[validator])
    return [chance.next() for _ in drawing.contributions]


def replayers(drawing, stakes, rule):
    """For each contribution of the cut, in order, the validators that are drawn to replay it, ascending."""
    numbers = {validator: numbers_by_chance(drawing, validator) for validator in sorted(drawing.reveals)}
    drawn = []
    for place, contribution in enumerate(drawing.contributions):
        draw = Draw("templar/1 replayers of a contribution", drawing.run, drawing.seed, contribution["miner"])
        places = by_stake(draw, stakes, drawing.reveals, rule["least_replays"])
        drawn.append([validator for validator, of in numbers.items()
                      if validator in places or of[place] * 10**6 < rule["fraction_ppm"] * 2**64])
    return drawn


def witness(claim):
    """The short form of a claim, which the other drawn validators state."""
    return int.from_bytes(derived("templar/1 witness of a proof of replay", claim)[:8], "little")


def place_of_proof(drawing, validator, contribution, steps, tensors):
    """The key, step and tensor of a proof of replay."""
    parts = (drawing.run, drawing.seed, validator, drawing.reveals[validator], contribution)
    draw = Draw("templar/1 place of a proof of replay", *parts)
    a, b = draw.next(), draw.next()
    first = max(1, steps // 2)
    last = max(first, steps - 1)
    return derived("templar/1 proof of replay", *parts), first + a % (last - first + 1), b % tensors


def evaluation_key(drawing, validator, contribution):
    """The key of a proof of evaluation."""
    return derived("templar/1 proof of evaluation", drawing.run, drawing.seed, validator, contribution)


def evaluation_claim(key, hidden_states):
    """The claim of an evaluation, from the four hashes of hidden states."""
    return keyed_hash(key, derived("templar/1 hidden states of an evaluation", *hidden_states))


def evaluators(drawing, miner, stakes, count):
    """The validators that measure a miner's contribution, ascending. `stakes` is {validator: stake}."""
    draw = Draw("templar/1 evaluators of a contribution", drawing.run, drawing.seed, miner)
    return by_stake(draw, stakes, drawing.reveals, count)


def spot_check(run, seed, miner, value):
    """A number below 10^6, by which a validator measures again what was measured in the window of this seed. `value` is
    that of the validator in the next window."""
    return Draw("templar/1 spot check of a measurement", run, seed, miner, value).below(10**6)


def taken_from(pages, count, draw):
    """Some of a list of pages, drawn as an epoch draws, sorted."""
    return sorted(pages[i] for i in Epoch(len(pages)).take(min(count, len(pages)), draw))


def unassigned_pages(drawing, all_pages, assigned, count):
    """The pages of nobody on which a window's deltas are tried."""
    free = [page for page in range(all_pages) if page not in assigned]
    return taken_from(free, count, Draw("templar/1 unassigned pages of a window", drawing.run, drawing.seed))


def assigned_pages(drawing, miner, trained, count):
    """The pages, of those that the miner trained on, on which its delta is tried."""
    draw = Draw("templar/1 assigned pages of a contribution", drawing.run, drawing.seed, miner)
    return taken_from(trained, count, draw)

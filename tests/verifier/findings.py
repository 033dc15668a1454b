"""What the counted scores of a window say together about each contribution, and what becomes of it.

Follows: "Findings", "Bodies" and "Outcomes" of manifests/README.md.
"""

from collections import namedtuple

from .hashing import derived
from .schema import variant

# `refusal` is a refusal of a record or None; `losses` what the evaluators measured or None.
Finding = namedtuple("Finding", "refusal losses is_untried body nearest overlap_ppm")

LOSSES = ("assigned_before_nanonats", "assigned_after_nanonats", "unassigned_before_nanonats",
          "unassigned_after_nanonats")


def refusal_of(entry):
    """The refusal that an entry of a score states, or None."""
    name, content = variant(entry["replay"])
    return content if name == "refused" else None


def losses_of(losses):
    return tuple(losses[name] for name in LOSSES)


def result_of(entry):
    """The result of a trial that an entry states: losses and witnesses, the empty tuple for `untried`, or None."""
    name, measured = variant(entry["evaluation"])
    refusal = refusal_of(entry)
    if name == "measured":
        return losses_of(measured["losses"]), tuple(measured["witnesses"])
    is_unread = refusal and variant(refusal)[0] in ("withheld", "malformed")
    return () if name == "untried" and not is_unread else None


def said_by_most(stakes, said, of_all):
    """What validators with more than half of `of_all` stake say alike, or None. `said` is [(validator, value)]."""
    for _, value in said:
        if 2 * sum(stakes[validator] for validator, other in said if other == value) > of_all:
            return value
    return None


def find(place, scores, state, evaluators):
    """The finding about the contribution at `place` of the cut, from the counted scores: [(validator, score)]."""
    entries = [(validator, score["entries"][place]) for validator, score in scores]
    counted = state.stake_of(validator for validator, _ in entries)
    losses, is_untried = measured_by_most(entries, evaluators, state.stakes)
    body = said_by_most(state.stakes, [(validator, entry["body"]) for validator, entry in entries], counted)
    near = said_by_most(state.stakes, [(v, (e["nearest"], e["overlap_ppm"])) for v, e in entries], counted)
    nearest, overlap = near or (None, 0)
    return Finding(refusal_by(entries, counted, state), losses, is_untried, body, nearest, overlap if nearest else 0)


def refusal_by(entries, counted, state):
    refusals = [(validator, refusal_of(entry)) for validator, entry in entries]
    for _, refusal in refusals:
        if refusal not in (None, "withheld"):
            return refusal
    if 2 * state.stake_of(v for v, refusal in refusals if refusal == "withheld") > counted:
        return "withheld"
    if any(entry["replay"] == "match" for _, entry in entries):
        return None
    return "not-replayed" if state.genesis["replay"]["before_close"] else None


def measured_by_most(entries, evaluators, stakes):
    """The losses that most stake of evaluators states, and whether it states that the delta cannot be tried."""
    results = {}
    for validator, entry in entries:
        if validator not in evaluators:
            continue
        result = result_of(entry)
        if result is not None:
            losses = result[0] if result else ()
            results[losses] = results.get(losses, 0) + stakes[validator]
    if not results:
        return None, False
    # Of equals the least: the empty tuple, which stands for `untried`, is below all losses.
    best = min(results, key=lambda result: (-results[result], result))
    return (dict(zip(LOSSES, best)), False) if best else (None, True)


def remembered_body(place, scores, state):
    """The body that validators with more than half of all stake state, or None."""
    said = [(validator, score["entries"][place]["body"]) for validator, score in scores]
    return said_by_most(state.stakes, said, state.stake)


def outcomes(contributions, found, scores_of, seed, genesis):
    """The verdicts of a record: {miner: verdict}. `scores_of` is {miner: score or None}."""
    verdicts, ranked = {}, []
    for miner in contributions:
        if found[miner].refusal is not None:
            verdicts[miner] = {"refused": found[miner].refusal}
        elif scores_of[miner] is None:
            verdicts[miner] = "excluded"
        else:
            verdicts[miner] = "reserve"
            ranked.append((-scores_of[miner], derived("templar/1 selection order", seed, miner), miner))
    ranked.sort()
    outer, explored = genesis["outer"]["max_contributions"], genesis["gauntlet"]["exploration_contributions"]
    chosen = ranked[:outer - explored]
    chosen += sorted(ranked[outer - explored:], key=lambda of: of[1])[:explored]
    for _, _, miner in chosen:
        verdicts[miner] = "aggregated"
    return verdicts

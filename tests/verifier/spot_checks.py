"""Measurements of the window before, which scores may contest and records must then refute.

Follows: "Spot checks", and the paragraph on `refuted` under "Slashes", of manifests/README.md. Whether a contest is
true needs tensors, and is not checked here.
"""

from .cbor import Refused
from .draws import assigned_pages, pages_of, spot_check, unassigned_pages
from .findings import losses_of, result_of
from .state import Measured, Measurements


def remember(checkpoint, counted, of, state):
    """Keeps what the counted scores, signed payloads in the order of validators, say about the open window."""
    rule = state.genesis["gauntlet"]
    state.measured, state.measurements = {}, None
    if rule["spot_checks_ppm"] == 0:
        return
    context = state.context(state.window)
    for place, signed in enumerate(of.contributions):
        said = [(score.signer, score.payload.id, result_of(score.payload.body["entries"][place])) for score in counted]
        said = [of_one for of_one in said if of_one[2] is not None]
        if not said or any(result != said[0][2] for _, _, result in said):
            continue
        miner, steps = signed.payload.body["miner"], signed.payload.body["steps"]
        trained = state.pages[miner][:steps * context.batch]
        state.measured[miner] = Measured(
            signed.payload.id, of.evaluators[place],
            assigned_pages(of.drawing, miner, trained, rule["assigned_pages"]), said[0][2],
            {validator: score for validator, score, _ in said})
    if state.measured:
        taken = {page for pages in state.pages.values() for page in pages}
        pages = pages_of(state.training_tokens, context.sequence_length)
        state.measurements = Measurements(
            checkpoint, of.drawing.seed, unassigned_pages(of.drawing, pages, taken, rule["unassigned_pages"]))


def check_contest(contest, validator, drawing, state):
    """Raises `Refused` if a validator may not contest this measurement, whatever it has found."""
    miner = contest["miner"]
    said = state.measured.get(miner)
    if said is None:
        raise contests(miner, "nobody measured that contribution in the window before")
    value, ppm = drawing.reveals.get(validator), state.genesis["gauntlet"]["spot_checks_ppm"]
    if value is None or validator in said.by or spot_check(state.run, state.measurements.seed, miner, value) >= ppm:
        raise contests(miner, "that spot check was not drawn for its validator")
    if contest["contribution"] != said.contribution:
        raise contests(miner, "nobody measured that contribution in the window before")
    found = contest["found"]
    if (losses_of(found) if found else None) == (said.result[0] if said.result else None):
        raise contests(miner, "it states what the record states")


def contests(miner, text):
    return Refused(f"score contests the measurement of {miner.hex()}: {text}")


def is_of_past_score(refuted, window):
    """Whether a refuted statement is a measurement of a window before this one, and so is of a score of that window."""
    return refuted["statement"] == "evaluation" and refuted["window"] < window


def is_contested(refuted, contested, state):
    """Whether the score of a measurement of the window before made it, and a counted score contests it. `contested` has
    the miners whose measurements counted scores contest."""
    said = state.measured.get(refuted["miner"])
    return (said is not None and refuted["window"] == state.window - 1 and refuted["miner"] in contested
            and said.by.get(refuted["validator"]) == refuted["score"])


def must_be_refuted(contested, state):
    """The validators that state a contested measurement."""
    return sorted({validator for miner in contested for validator in state.measured[miner].by})

"""Whether a validator may sign a score: what was drawn for it is there, and nothing else.

Follows: "Entries of a score", "Replays", "Challenges", "Contradictions" and the paragraphs on evidence and `refuted`
under "Slashes" of manifests/README.md. Whether a loss or a replay is *true* needs tensors, and is not checked here.
"""

from . import payload
from .cbor import Refused
from .draws import witness
from .schema import variant
from .spot_checks import check_contest

MOST_WITHHELD = 8
BLOBS_SHOW = ("mismatch", "malformed", "wrong-claim")


def says(validator, text):
    return Refused(f"score says of {validator.hex()}: {text}")


def check(score, cut, drawing, drawn, evaluators, state):
    """Raises `Refused` if the score of a validator does not follow from the draws. `drawn` and `evaluators` have the
    validators of each contribution of the cut, in order."""
    if score["cut"] != cut.id:
        raise Refused("score is of another cut than the certified one")
    if score["seed"] != drawing.seed:
        raise Refused("score is of another seed")
    named = [(entry["miner"], entry["contribution"]) for entry in score["entries"]]
    if named != [(entry["miner"], entry["contribution"]) for entry in cut.body["contributions"]]:
        raise Refused("score does not judge the contributions of the cut")
    before_close = state.genesis["replay"]["before_close"]
    if before_close and score["verdicts"]:
        raise Refused("score lists more than there are miners or validators")
    for entry, replay_by, measured_by in zip(score["entries"], drawn, evaluators):
        check_replay(entry, score["validator"], replay_by if before_close else [])
        check_evaluation(entry, score["validator"], measured_by)
    check_verdicts(score, state)
    for evidence in score["evidence"]:
        check_evidence(evidence, state)
    for contest in score["contests"]:
        check_contest(contest, score["validator"], drawing, state)


def check_replay(entry, validator, drawn):
    miner = entry["miner"]
    name, refusal = variant(entry["replay"])
    reason = variant(refusal)[0] if name == "refused" else None
    if reason == "not-replayed":
        raise says(miner, "not-replayed is for the record to say")
    if validator in drawn:
        if name == "not-drawn":
            raise says(miner, "a replay that was drawn is missing")
        check_proof(entry, validator, drawn, miner)
    elif name == "match" or reason == "mismatch":
        raise says(miner, "a replay that was not drawn")


def check_proof(entry, validator, drawn, miner):
    if entry["proof"] is None:
        return
    witnesses = entry["proof"]["witnesses"]
    if len(witnesses) != len(drawn):
        raise says(miner, "a proof with more or fewer witnesses than validators are drawn")
    if witnesses[drawn.index(validator)] != witness(entry["proof"]["claim"]):
        raise says(miner, "a proof whose claim is not its own witness")


def check_evaluation(entry, validator, evaluators):
    miner = entry["miner"]
    name, measured = variant(entry["evaluation"])
    replay, refusal = variant(entry["replay"])
    reason = variant(refusal)[0] if replay == "refused" else None
    if reason in ("withheld", "malformed"):
        if entry["body"] is not None:
            text = "could not be read" if reason == "withheld" else "does not decode"
            raise says(miner, f"the body of a delta that {text}")
    if name == "measured" and entry["body"] is None:
        raise says(miner, "losses of a delta that does not decode")
    if validator not in evaluators:
        if name != "not-drawn":
            raise says(miner, "a measurement that was not drawn")
        return
    if name == "not-drawn":
        raise says(miner, "a measurement that was drawn is missing")
    if name == "measured":
        if len(measured["witnesses"]) != len(evaluators):
            raise Refused("score lists more than there are miners or validators")
        if measured["witnesses"][evaluators.index(validator)] != witness(measured["claim"]):
            raise says(miner, "a proof whose claim is not its own witness")


def check_verdicts(score, state):
    """The verdicts on contributions of closed windows."""
    validator, begun, replay = score["validator"], 0, state.genesis["replay"]
    for verdict in score["verdicts"]:
        miner, of = verdict["miner"], state.judged.get((verdict["window"], verdict["miner"]))
        if of is None or of.id != verdict["contribution"] or not of.accepted:
            raise says(miner, "a verdict on what no verdict counts for")
        is_withheld = verdict["replay"] == {"refused": "withheld"}
        if validator in of.counted:
            raise says(miner, "a verdict that it has given already")
        if is_withheld and of.is_refuted:
            raise says(miner, "a challenge of what is refuted")
        if is_withheld and of.since is not None:
            continue                                # everybody says whether it can get challenged bytes
        last = verdict["window"] + replay["verdict_windows"]
        if of.was_challenged and not is_withheld:
            last += replay["challenge_windows"]
        if state.window > last:
            raise says(miner, "a verdict that comes too late")
        if validator not in of.drawn:
            raise says(miner, "a replay that was not drawn")
        begun += is_withheld
        if begun > MOST_WITHHELD:
            raise says(miner, "more challenges than a score may begin")
        check_proof(verdict, validator, of.drawn, miner)


def makes_statement(score, refuted, window):
    """Whether a score of this window makes the statement that a record calls false."""
    if refuted["statement"] == "contest":
        return refuted["window"] + 1 == window and any(of["miner"] == refuted["miner"] for of in score["contests"])
    listed = score["entries"] if refuted["window"] == window else [
        verdict for verdict in score["verdicts"] if verdict["window"] == refuted["window"]]
    for entry in listed:
        if entry["miner"] != refuted["miner"]:
            continue
        if refuted["statement"] == "replay":
            return entry["replay"] not in ("not-drawn", {"refused": "withheld"})
        name = variant(entry.get("evaluation", "not-drawn"))[0]
        return name == "measured" or name == "untried" and entry["body"] is not None
    return False


def contradiction(scores):
    """The first two statements of counted scores of which one must be false, in words, or None."""
    replays, measurements = {}, {}
    for validator, score in scores:
        for entry in score["entries"] + score["verdicts"]:
            name, refusal = variant(entry["replay"])
            if name == "match":
                said = ("match", tuple(entry["proof"]["witnesses"]))
            elif name == "refused" and variant(refusal)[0] in BLOBS_SHOW:
                said = ("refused", str(refusal))
            else:
                continue
            other = replays.setdefault(entry["contribution"], said)
            if other != said and "match" in (other[0], said[0]):
                return f"counted scores contradict each other about the replay of {entry['contribution'].hex()}"
        for entry in score["entries"]:
            name, measured = variant(entry["evaluation"])
            if name == "measured":
                said = (sorted(measured["losses"].items()), measured["witnesses"])
                if measurements.setdefault(entry["contribution"], said) != said:
                    return f"counted scores contradict each other about the losses of {entry['contribution'].hex()}"
    return None


def check_evidence(evidence, state):
    """Evidence is valid: two statements where one is allowed, by somebody who can lose pay for it."""
    first, second = (payload.open_signed(of["payload"], of["signer"], of["signature"])
                     for of in (evidence["first"], evidence["second"]))
    check_contradiction(first, second, evidence["signer"], evidence["window"], state)


def check_contradiction(first, second, signer, window, state):
    if not first.payload.id < second.payload.id:
        raise Refused("evidence: the statements are not in the order of their ids")
    for statement in (first, second):
        body = statement.payload.body
        if statement.payload.kind not in ("contribution", "inbox", "score", "vote"):
            raise Refused(f"evidence: a {statement.payload.kind} is no statement")
        if statement.signer != signer or body["window"] != window or body["run"] != state.run:
            raise Refused("evidence: a statement of another signer, run or window")
    if first.payload.kind != second.payload.kind:
        raise Refused("evidence: statements of two kinds")
    if first.payload.kind == "vote":
        if any(first.payload.body[name] != second.payload.body[name] for name in ("on", "attempt", "step")):
            raise Refused("evidence: votes of different decisions, attempts or steps")
    if account_of(signer, state) is None:
        raise Refused(f"evidence: {signer.hex()} has no pay that could be slashed")
    if not window <= state.window <= window + state.genesis["emission"]["vesting_windows"]:
        raise Refused("evidence: a window for which evidence does not count")
    if (window, account_of(signer, state)) in state.convicted:
        raise Refused(f"evidence: {signer.hex()} was slashed for window {window} already")


def account_of(signer, state):
    """The account that pays for a contradiction of this signer, or None."""
    if signer in state.stakes:
        return signer
    for member in state.members.values():
        if member.node == signer:
            return member.owner
    former = state.former_nodes.get(signer)
    return former[0] if former else None

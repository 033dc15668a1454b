"""A record: everything in it that needs no tensors is computed again, and then the state after it.

Follows: "From a window to the next" of manifests/README.md, from "Seeds" to "Ledger", in the order of time. Every
field that differs is named as `templar` names it: `record does not recompute: mints differs`.
"""

from collections import namedtuple

from . import draws, findings, members, pay, scores, slashes, spot_checks, standings
from .schema import variant
from .state import Closed, Judged
from .statements import check_reveal, check_validator, check_window, need

# What is agreed before validators judge. `contributions` and `registrations` are signed payloads in the cut's order,
# `replayers` and `evaluators` have the drawn validators of each contribution.
Judging = namedtuple("Judging", "cut contributions registrations drawing replayers evaluators")


def differs(name, recorded, computed):
    need(recorded == computed, f"record does not recompute: {name} differs")


def judging(cut, contributions, registrations, reveals, state):
    """What follows from a certified cut and a certified set of reveals, {validator: value}."""
    for validator, value in reveals.items():
        check_reveal(validator, value, state)
    need(state.is_super_majority(reveals), "reveals of too little stake")
    bodies = [signed.payload.body for signed in contributions]
    seed = draws.seed_of(state.run, state.window, state.seed, bodies, list(reveals.items()))
    drawing = draws.Drawing(state.run, state.window, seed, state.seed, bodies, reveals)
    count = state.genesis["gauntlet"]["evaluators"]
    return Judging(cut, contributions, registrations, drawing, draws.replayers(drawing, state.stakes, state.genesis["replay"]),
                   [draws.evaluators(drawing, body["miner"], state.stakes, count) for body in bodies])


def check_score(signed, of, state):
    check_window(signed.payload.body, state)
    check_validator(signed.signer, state)
    scores.check(signed.payload.body, of.cut, of.drawing, of.replayers, of.evaluators, state)


def check(header, body, counted, refuted, of, state):
    """Checks a record, and moves the state behind it. `counted` are the signed scores that it names, each checked
    already, and `refuted` those of this window that it calls false, by id."""
    header, body = header.body, body.body
    check_window(header, state)
    check_window(body, state)
    differs("previous", header["previous"], state.previous)
    differs("checkpoint_before", body["checkpoint_before"], state.checkpoint or body["checkpoint_before"])
    need(body["cut"] == of.cut.id, "window is of another cut than the certified one")
    reveals = [{"validator": validator, "value": value} for validator, value in sorted(of.drawing.reveals.items())]
    differs("reveals", body["reveals"], reveals)
    differs("seed", body["seed"], of.drawing.seed)
    check_counted(counted, state)
    check_refuted(body["refuted"], refuted, counted, state)
    spot_checks.remember(body["checkpoint_before"], counted, of, state)
    check_results(header, body, [(signed.signer, signed.payload.body) for signed in counted], of, state)


def check_counted(counted, state):
    """A record counts scores of enough stake, one of each validator, that do not contradict each other."""
    order = [signed.signer for signed in counted]
    for number, validator in enumerate(order):
        need(validator not in order[:number], f"two scores of validator {validator.hex()}")
    stake = state.stake_of(order)
    need(state.is_super_majority(order),
         f"scores of {stake} of the stake of {state.stake}, more than two thirds are needed")
    differs("scores", order, sorted(order))
    contradiction = scores.contradiction([(signed.signer, signed.payload.body) for signed in counted])
    need(contradiction is None, contradiction)


def check_refuted(listed, refuted, counted, state):
    """A refuted score makes the statement that the record calls false; if it is of the window before, a counted score
    contests it. Everybody whose measurement a counted score contests is among them."""
    contested = {contest["miner"] for signed in counted for contest in signed.payload.body["contests"]}
    for entry in listed:
        if spot_checks.is_of_past_score(entry, state.window):
            is_made = spot_checks.is_contested(entry, contested, state)
        else:
            signed = refuted[entry["score"]]
            is_made = (signed.signer == entry["validator"]
                       and scores.makes_statement(signed.payload.body, entry, state.window))
        need(is_made, "the record refutes a statement that the score of validator "
                      f"{entry['validator'].hex()} does not make")
    validators = {entry["validator"] for entry in listed}
    for validator in spot_checks.must_be_refuted(contested, state):
        need(validator in validators, "the record counts a score that contests a measurement of validator "
                                      f"{validator.hex()}, and does not refute it")


def check_results(header, body, counted, of, state):
    """Outcomes, slashes, weights, mints and admissions, and the state after all of them."""
    genesis, window = state.genesis, state.window
    contributions = {signed.payload.body["miner"]: signed.payload for signed in of.contributions}
    found = {miner: findings.find(place, counted, state, of.evaluators[place])
             for place, miner in enumerate(contributions)}
    conducts = {member.owner: conduct(member.owner, contributions, found, state)
                for _, member in sorted(state.members.items())}
    state.standings = standings.assess(state.standings, conducts, genesis, window)
    scored = {miner: standings.score(state.standings[miner], conducts[miner], genesis, window) for miner in conducts}
    verdicts = findings.outcomes(contributions, found, scored, of.drawing.seed, genesis)
    differs("outcomes", body["outcomes"], [
        {"miner": miner, "contribution": contribution.id, "verdict": verdicts[miner], "losses": found[miner].losses}
        for miner, contribution in contributions.items()])
    accepted = {miner for miner, verdict in verdicts.items() if variant(verdict)[0] != "refused"}
    note_bodies(of.drawing, counted, state)

    refuted, unanswered = slashes.take_verdicts(counted, state)
    state.vest()
    slashing = slashes.Slashing(state)
    slashing.punish(slashes.deeds(verdicts, refuted, unanswered, window))
    punished = {burn["account"] for burn in slashing.burns}
    slashing.convict(counted)
    slashing.disprove(body["refuted"])
    slashing.absent(of.drawing.reveals)
    differs("burns", body["burns"], slashing.listed())
    differs("challenges", body["challenges"], slashes.open_challenges(state))

    able = {miner: (contributions[miner].body["steps"], state.standings[miner].factor, scored[miner])
            for miner in accepted if scored[miner] is not None and miner not in punished}
    weights = pay.weights(able, genesis)
    differs("weights", body["weights"], [{"miner": miner, "weight_ppm": weight} for miner, weight in weights])
    replays, measurements = proven(counted, found, verdicts)
    mints = pay.mints(weights, sum(steps for steps, _, _ in able.values()), replays, measurements, genesis)
    differs("mints", body["mints"], mints)
    for mint in mints:
        state.mint(mint["account"], mint["amount_micros"], mint["kind"] == "treasury")

    for miner in accepted:
        state.parents[miner] = (contributions[miner].id, contributions[miner].body["state_out"])
    slashes.lower_standings(slashing.burns, state)
    note_contributions(body, of, accepted, state)
    change_members(body, of, dict(weights), accepted, slashing.expelled, state)
    state.finish_window(of.drawing)
    differs("state_root", header["state_root"], state.root())
    differs("validators_root", header["validators_root"], state.validators_root())
    need(state.supply_is_whole(), "accounts, grants and treasury are not what was minted and not burnt")


def conduct(miner, contributions, found, state):
    if miner not in contributions:
        return standings.Conduct("missing")
    restarts = contributions[miner].body["parent"] is None and miner in state.parents
    return standings.conduct(found[miner], contributions[miner].body, restarts, found[miner].body in state.bodies)


def note_bodies(drawing, counted, state):
    """The bodies of deltas that are remembered from this window on, and those that are forgotten."""
    for place, contribution in enumerate(drawing.contributions):
        body = findings.remembered_body(place, counted, state)
        if body is not None and body not in state.bodies:
            state.bodies[body] = (state.window, contribution["miner"])
    memory = state.genesis["gauntlet"]["copy_memory_windows"]
    state.bodies = {body: of for body, of in state.bodies.items() if of[0] + memory > state.window}


def proven(counted, found, verdicts):
    """How many replays and how many measurements each counted validator has proven."""
    replays = {validator: 0 for validator, _ in counted}
    measurements = dict(replays)
    for validator, score in counted:
        for entry in score["entries"]:
            miner, refusal = entry["miner"], findings.refusal_of(entry)
            if entry["replay"] == "match":
                replays[validator] += variant(verdicts[miner])[0] != "refused"
            elif refusal and variant(refusal)[0] == "mismatch":
                replays[validator] += verdicts[miner] == {"refused": refusal}
            name, measured = variant(entry["evaluation"])
            measurements[validator] += name == "measured" and measured["losses"] == found[miner].losses
        replays[validator] += sum(findings.refusal_of(verdict) != "withheld" for verdict in score["verdicts"])
    return replays, measurements


def note_contributions(body, of, accepted, state):
    """Keeps what later verdicts need, and drops what none can name any more."""
    rule = state.genesis["replay"]
    reach = rule["verdict_windows"] + rule["challenge_windows"]
    if reach:
        for signed, validators in zip(of.contributions, of.replayers):
            miner = signed.payload.body["miner"]
            state.judged[state.window, miner] = Judged(
                signed.payload.id, miner in accepted, validators, state.pages[miner])
        state.closed[state.window] = Closed(body["checkpoint_before"], of.cut.id, of.drawing)
    state.judged = {key: judged for key, judged in state.judged.items() if key[0] + reach > state.window}
    state.closed = {window: closed for window, closed in state.closed.items() if window + reach > state.window}


def change_members(body, of, weights, accepted, expelled, state):
    """Merit, admissions, the expelled, the burns of those who joined, and resets."""
    for owner in expelled:
        members.expel(owner, state)
    members.change_merits(state, weights, accepted)
    asked = [(signed.payload.id, signed.payload.body) for signed in of.registrations]
    verdicts, burns = members.admit(asked, state)
    differs("admissions", body["admissions"], [
        {"owner": r["certificate"]["owner"], "registration": digest, "verdict": verdicts[r["certificate"]["owner"]]}
        for digest, r in asked])
    for owner, amount in burns:
        state.accounts[owner] -= amount
        state.burnt += amount
    every = state.genesis["state_reset_every"]
    for slot, member in state.members.items():
        if every and (state.window + 1 + slot) % every == 0:
            state.parents.pop(member.owner, None)

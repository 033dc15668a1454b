"""Statements about an open window: whether the state before it allows them.

Follows: "Cut", "Contribution", "Registrations", "Hash chains" and the tables of the kinds in manifests/README.md.
"""

from . import draws, members
from .cbor import Refused

NAMES = (("contributions", "miner", "contribution"), ("registrations", "owner", "registration"))


class Mismatch(Refused):
    """A statement or a record breaks a rule. The text says which."""


def need(holds, text):
    if not holds:
        raise Mismatch(text)


def check_window(body, state):
    need(body["run"] == state.run, "entry is of another run")
    need(body["window"] == state.window, f"entry is of window {body['window']}, window {state.window} is open")


def check_validator(key, state):
    need(key in state.stakes, f"{key.hex()} is not a validator")


def check_contribution(signed, state):
    """A contribution is by its miner's node key, and claims what it can."""
    c = signed.payload.body
    check_window(c, state)
    miner = c["miner"]
    need(state.member(miner) is not None, f"{miner.hex()} is not registered")
    need(state.node_of(miner) == signed.signer, f"contribution of {miner.hex()} is not signed by its node key")
    parent, state_in = state.parents.get(miner), state.zero_state
    if c["parent"] is not None:
        need(parent and parent[0] == c["parent"], "contribution makes a wrong claim: parent")
        state_in = parent[1]
    need(c["state_in"] == state_in, "contribution makes a wrong claim: state_in")
    need(c["steps"] <= state.genesis["inner"]["steps"], "contribution makes a wrong claim: steps")
    context = state.context(state.window)
    need(c["tokens"] == c["steps"] * context.batch * context.sequence_length,
         "contribution makes a wrong claim: tokens")


def check_registration(signed, state):
    check_window(signed.payload.body, state)
    fault = members.fault(signed.payload.body, state)
    need(fault is None, fault)


def check_inbox(signed, state):
    body = signed.payload.body
    check_window(body, state)
    check_validator(signed.signer, state)
    for entry in body["contributions"]:
        need(state.member(entry["miner"]) is not None,
             f"inbox {signed.payload.id.hex()} names {entry['miner'].hex()}, who is not registered")
    number, most = len(body["registrations"]), members.most_registrations(state.genesis)
    need(number <= most, f"inbox {signed.payload.id.hex()} names {number} registrations, an honest one at most {most}")


def check_reveal(validator, value, state):
    """A revealed value steps to the one before it, or to the anchor of its chain."""
    check_validator(validator, state)
    window, before = state.chain.get(validator, (-1, state.anchors_of_chains[validator]))
    need(draws.chain_step(value, state.window - window) == before,
         f"value of validator {validator.hex()} is not on its hash chain")


def check_cut(cut, inboxes, state):
    """A cut follows from its inboxes, a list of signed payloads in the order in which it names them."""
    check_window(cut, state)
    validators = [inbox.signer for inbox in inboxes]
    for number, validator in enumerate(validators):
        need(validator not in validators[:number], f"two inboxes of validator {validator.hex()}")
    stake = state.stake_of(validators)
    need(state.is_super_majority(validators),
         f"inboxes of {stake} of the stake of {state.stake}, more than two thirds are needed")
    need(validators == sorted(validators), "cut is not what its inboxes give")
    for kind, who, what in NAMES:
        namers = {}
        for inbox in inboxes:
            for entry in inbox.payload.body[kind]:
                namers.setdefault((entry[who], entry[what]), set()).add(inbox.signer)
        pairs = {}
        for (owner, named), by in sorted(namers.items()):
            if 3 * state.stake_of(by) > state.stake:
                pairs.setdefault(owner, named)          # of two pairs of one owner the lower one comes first
        need(cut[kind] == [{who: owner, what: pairs[owner]} for owner in sorted(pairs)],
             "cut is not what its inboxes give")

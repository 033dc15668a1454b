"""The state of a run between two windows, and its root.

Follows: "State" of manifests/README.md, for the entries of the tree, and "Ledger" for accounts and grants. The rules by
which a record changes the state are in `window.py` and in the modules that it calls.
"""

from collections import namedtuple
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

from . import draws, tree
from .hashing import hash_of, hash_of_zeros, u64
from .payload import encode
from .rules_of_genesis import order_of_tensors

Member = namedtuple("Member", "owner node first_window anchor merit idle_since")
Context = namedtuple("Context", "sequence_length batch")


@dataclass
class Judged:
    """A contribution of a closed window on which verdicts still count."""

    id: bytes
    accepted: bool
    drawn: List[bytes]
    pages: List[int]
    is_refuted: bool = False
    was_challenged: bool = False
    counted: List[bytes] = field(default_factory=list)      # validators whose verdicts are counted
    since: Optional[int] = None                             # of the open challenge
    waiting: List[bytes] = field(default_factory=list)      # validators that cannot get its bytes


@dataclass
class Closed:
    """What is kept of a closed window on which verdicts still count."""

    checkpoint_before: bytes
    cut: bytes
    drawing: draws.Drawing


@dataclass
class Measured:
    """What the counted scores of a window say about a contribution, and its next window may contest."""

    contribution: bytes
    evaluators: List[bytes]
    assigned: List[int]
    result: tuple                                           # losses and witnesses, or () for `untried`
    by: Dict[bytes, bytes]                                  # by validator, its score


@dataclass
class Measurements:
    """On what the contributions of that window were measured."""

    checkpoint: bytes
    seed: bytes
    unassigned: List[int]


class State:
    """Everything that the rules know before window `window`."""

    def __init__(self, genesis, run, zero, training_tokens):
        self.genesis, self.run, self.window = genesis, run, 0
        self.stakes = {validator["key"]: validator["stake"] for validator in genesis["validators"]}
        self.anchors_of_chains = {v["key"]: v["chain_anchor"] for v in genesis["validators"]}
        self.stake = sum(self.stakes.values())
        self.zero_state, self.training_tokens = zero, training_tokens
        self.checkpoint = None                              # not a part of the tree; each record names it
        self.previous = None                                # the record before
        self.seed = draws.first_seed(run)                   # seed(window - 1)
        registration = genesis["registration"]
        self.members = {slot: Member(owner, owner, 0, 0, 0, 0) for slot, owner in enumerate(registration["members"])}
        self.prices = {way: registration[way]["first"] for way in ("hashcash", "burn")}
        self.accounts: Dict[bytes, int] = {}                # free
        self.grants: Dict[Tuple[bytes, int], int] = {}      # not vested, by account and window
        self.minted = self.burnt = self.treasury = 0
        self.standings, self.parents, self.strikes = {}, {}, {}
        self.chain = {}                                     # validator: (window, value)
        self.seeds = {0: self.seed}                         # by window, the seed before it
        self.bodies = {}                                    # of deltas: (window, miner)
        self.judged: Dict[Tuple[int, bytes], Judged] = {}   # by window and miner
        self.closed: Dict[int, Closed] = {}
        self.measured: Dict[bytes, Measured] = {}           # by miner; of the window before
        self.measurements: Optional[Measurements] = None
        self.convicted, self.expelled, self.former_nodes = set(), set(), {}
        self.pages = {}                                     # of the open window: miner: pages in training order
        self.begin_epoch(0)
        self.begin_window()

    def context(self, window):
        return context_of(self.genesis, window)

    def begin_epoch(self, number):
        """All pages are there again, and none is taken."""
        self.epoch_number, self.taken_by = number, {}           # by window: the seed before it, and how many it took
        length = self.context(self.window).sequence_length
        self.epoch = draws.Epoch(draws.pages_of(self.training_tokens, length))

    def begin_window(self):
        """Takes the pages of the open window."""
        each = self.genesis["inner"]["steps"] * self.context(self.window).batch
        count = len(self.members) * each
        if self.epoch.pages - self.epoch.taken < count:
            self.begin_epoch(self.epoch_number + 1)
        taken = self.epoch.take(count, draws.assignment_draw(self.run, self.window, self.seed))
        self.taken_by[self.window] = (self.seed, count)
        order = [self.members[slot].owner for slot in sorted(self.members)]
        self.pages = {miner: taken[i * each:(i + 1) * each] for i, miner in enumerate(order)}

    def finish_window(self, drawing):
        """Goes to the next window. Its pages are not taken yet, but pages of another length are another epoch."""
        for validator, value in drawing.reveals.items():
            self.chain[validator] = (self.window, value)
        self.seed, self.window = drawing.seed, self.window + 1
        self.seeds[self.window] = self.seed
        if self.context(self.window).sequence_length != self.context(self.window - 1).sequence_length:
            self.begin_epoch(self.epoch_number + 1)
        anchors = self.genesis["registration"]["anchor_windows"]
        self.seeds = {of: seed for of, seed in self.seeds.items() if of + anchors > self.window}
        oldest = self.window - 1 - self.genesis["emission"]["vesting_windows"]
        self.convicted = {of for of in self.convicted if of[0] >= oldest}
        in_use = {member.node for member in self.members.values()}
        self.former_nodes = {node: of for node, of in self.former_nodes.items()
                             if of[1] >= oldest and node not in in_use}

    def member(self, owner):
        """The slot of an owner, or None."""
        return next((slot for slot, member in self.members.items() if member.owner == owner), None)

    def node_of(self, owner):
        slot = self.member(owner)
        return None if slot is None else self.members[slot].node

    def is_super_majority(self, validators):
        """Whether these validators hold more than two thirds of the stake."""
        return 3 * self.stake_of(validators) > 2 * self.stake

    def stake_of(self, validators):
        return sum(self.stakes[validator] for validator in validators)

    def unvested(self, account):
        return sum(amount for (owner, _), amount in self.grants.items() if owner == account)

    def mint(self, account, amount, is_treasury):
        """Creates pay of the open window: a grant, or free at once."""
        self.minted += amount
        if is_treasury:
            self.treasury += amount
            return
        self.accounts.setdefault(account, 0)
        if self.genesis["emission"]["vesting_windows"] == 0:
            self.accounts[account] += amount
        else:
            self.grants[account, self.window] = self.grants.get((account, self.window), 0) + amount

    def vest(self):
        """Grants that have waited long enough become free."""
        for account, window in sorted(self.grants):
            if window + self.genesis["emission"]["vesting_windows"] <= self.window:
                self.accounts[account] += self.grants.pop((account, window))

    def slash(self, account, amount):
        """Destroys pay that has not vested, the newest first."""
        self.burnt += amount
        for key in sorted((key for key in self.grants if key[0] == account), reverse=True):
            taken = min(amount, self.grants[key])
            self.grants[key] -= taken
            amount -= taken
            if not self.grants[key]:
                del self.grants[key]

    def supply_is_whole(self):
        """Whether accounts, grants and treasury are what was minted and not burnt."""
        held = sum(self.accounts.values()) + sum(self.grants.values()) + self.treasury
        return held == self.minted - self.burnt

    def forget(self, owner):
        """What a run does not remember of an owner without a slot."""
        self.standings.pop(owner, None)
        self.parents.pop(owner, None)

    def replace_member(self, slot, **changes):
        self.members[slot] = self.members[slot]._replace(**changes)

    def root(self):
        return tree.root(self.entries())

    def validators_root(self):
        return tree.root({key_of("validator", validator): u64(stake) + self.anchors_of_chains[validator]
                          for validator, stake in self.stakes.items()})

    def entries(self):
        """The tree: {key: value}."""
        found = {}

        def put(name, parts, *values):
            found[key_of(name, *parts)] = b"".join(map(value_of, values))

        for account, free in self.accounts.items():
            put("account", [account], free)
        for window, seed in self.seeds.items():
            put("anchor", [window], seed)
        for validator, (window, value) in self.chain.items():
            put("chain", [validator], window, value)
        for (window, miner), of in self.judged.items():
            put("contribution", [window, miner], of.id, of.accepted, of.is_refuted, of.was_challenged, of.drawn,
                of.counted, *([False] if of.since is None else [True, of.since, of.waiting]), of.pages)
        for window, account in self.convicted:
            put("convicted", [window, account])
        for body, (window, miner) in self.bodies.items():
            put("delta-body", [body], window, miner)
        for window, (seed, pages) in self.taken_by.items():
            put("draw", [window], seed, pages)
        for owner in self.expelled:
            put("expelled", [owner])
        for node, (owner, window) in self.former_nodes.items():
            put("former-node", [node], owner, window)
        for (account, window), amount in self.grants.items():
            put("grant", [account, window], amount)
        for miner, of in self.measured.items():
            losses, witnesses = of.result or ((), ())
            result = [True, *losses, list(witnesses)] if of.result else [False]
            put("measured", [miner], of.contribution, of.evaluators, of.assigned, *result, len(of.by),
                b"".join(validator + score for validator, score in of.by.items()))
        if self.measurements:
            put("measurements", [], self.measurements.checkpoint, self.measurements.seed, self.measurements.unassigned)
        for slot, member in self.members.items():
            put("member", [slot], *member)
        put("pages", [], self.epoch.pages, self.epoch_number, self.epoch.taken)
        for miner, (contribution, state_out) in self.parents.items():
            put("parent", [miner], contribution, state_out)
        for window, of in self.closed.items():
            reveals = b"".join(v + x for v, x in sorted(of.drawing.reveals.items()))
            put("pending", [window], of.checkpoint_before, of.cut, of.drawing.seed, len(of.drawing.reveals), reveals)
        put("prices", [], self.prices["hashcash"], self.prices["burn"])
        put("run", [], self.zero_state, self.training_tokens)
        put("seed", [], self.seed)
        for miner, s in self.standings.items():
            put("standing", [miner], s.mu, s.sigma, s.proof, s.missing, s.withheld, s.negative, s.excluded_until,
                s.factor)
        for miner, window in self.strikes.items():
            put("strike", [miner], window)
        put("supply", [], self.minted, self.burnt, self.treasury)
        return found


def context_of(genesis, window):
    """Sequence length and batch of a window."""
    found = Context(genesis["model"]["sequence_length"], genesis["inner"]["batch_sequences"])
    for context in genesis["context"]:
        if context["from_window"] <= window:
            found = Context(context["sequence_length"], context["batch_sequences"])
    return found


def key_of(name, *parts):
    """The key of an entry: numbers are big-endian, so that entries lie in the order of windows."""
    return name.encode() + b"\0" + b"".join(p if isinstance(p, bytes) else p.to_bytes(8, "big") for p in parts)


def value_of(value):
    if isinstance(value, bytes):
        return value
    if isinstance(value, list):
        return u64(len(value)) + b"".join(map(value_of, value))
    return int(value).to_bytes(8, "little", signed=value < 0)


def zero_state(genesis, run):
    """The id of the state that begins every chain of contributions."""
    tensors = []
    for name, shape in order_of_tensors(genesis["model"]):
        elements = shape[0] * (shape[1] if len(shape) == 2 else 1)
        tensors.append({"spec": {"name": name, "shape": shape}, "blob": hash_of_zeros(12 * elements)})
    return hash_of(encode("state", {"run": run, "optimizer_steps": 0, "tensors": tensors}))

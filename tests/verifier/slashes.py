"""Challenges, late verdicts, and who loses pay that has not vested.

Follows: "Challenges", "Slashes" and the second step of "Ledger" of manifests/README.md.
"""

from dataclasses import replace

from .findings import refusal_of
from .rules_of_genesis import PPM
from .schema import SLASH_CAUSES, variant
from .scores import account_of
from .standings import NANO, NEW_MU, NEW_SIGMA


def take_verdicts(scores, state):
    """Changes what is known of closed windows by the counted scores. Gives the (window, miner) of contributions that
    they refute, and of those whose challenge was not answered."""
    refuted, unanswered = [], []
    for of in state.judged.values():
        of.waiting = [validator for validator in of.waiting if validator not in dict(scores)]
    for validator, score in scores:
        for verdict in score["verdicts"]:
            key = (verdict["window"], verdict["miner"])
            of = state.judged[key]
            refusal = refusal_of(verdict)
            if refusal == "withheld":
                of.waiting = sorted(of.waiting + [validator])
                if of.since is None:
                    of.since = state.window
                continue
            of.counted = sorted(of.counted + [validator])
            if refusal and not of.is_refuted:
                of.is_refuted = True
                refuted.append(key)
    limit = state.genesis["replay"]["challenge_windows"]
    for key, of in sorted(state.judged.items()):
        if of.since is None:
            continue
        if not of.waiting or key in refuted:
            of.since, of.waiting = None, []
        elif state.window >= of.since + limit:
            if 2 * state.stake_of(of.waiting) > state.stake and not of.is_refuted:
                of.is_refuted = True
                unanswered.append(key)
            of.since, of.waiting = None, []
        else:
            of.was_challenged = True
    return refuted, unanswered


def open_challenges(state):
    """The list of a record."""
    return [{"window": window, "miner": miner, "contribution": of.id, "since": of.since}
            for (window, miner), of in sorted(state.judged.items()) if of.since is not None]


def deeds(verdicts, refuted, unanswered, window):
    """[(window, miner, cause)] of miners, in the order in which they are punished."""
    found = [(window, miner, "mismatch") for miner, verdict in verdicts.items()
             if variant(verdict)[0] == "refused" and variant(variant(verdict)[1])[0] == "mismatch"]
    found += [(of, miner, "mismatch") for of, miner in refuted]
    found += [(of, miner, "unanswered") for of, miner in unanswered]
    return sorted(found)


class Slashing:
    """The slashes of one record, in their order."""

    def __init__(self, state):
        self.state, self.burns, self.expelled = state, [], []

    def take(self, account, cause, window, amount):
        self.state.slash(account, amount)
        self.burns.append({"account": account, "cause": cause, "window": window, "amount_micros": amount})

    def take_all(self, account, cause, window):
        self.take(account, cause, window, self.state.unvested(account))

    def punish(self, listed):
        """The deeds of miners."""
        state, expulsion_windows = self.state, self.state.genesis["replay"]["expulsion_windows"]
        for window, miner, cause in listed:
            if miner in state.expelled:
                continue
            last = state.strikes.get(miner)
            if last is None or window > last + expulsion_windows:
                state.strikes[miner] = state.window
            elif window > last:
                cause = "expulsion"
                state.expelled.add(miner)
                self.expelled.append(miner)
            self.take_all(miner, cause, window)

    def convict(self, scores):
        """Those whose contradictions the counted scores show."""
        shown = {(account_of(evidence["signer"], self.state), evidence["window"])
                 for _, score in scores for evidence in score["evidence"]}
        for account, window in sorted(shown):
            self.state.convicted.add((window, account))
            self.take_all(account, "contradiction", window)

    def disprove(self, refuted):
        for entry in refuted:
            self.take_all(entry["validator"], "falsehood", self.state.window)

    def absent(self, present):
        rate = self.state.genesis["replay"]["absence_ppm"]
        for validator in sorted(self.state.stakes):
            amount = self.state.unvested(validator) * rate // PPM
            if validator not in present and amount:
                self.take(validator, "absence", self.state.window, amount)

    def listed(self):
        """The list of a record."""
        return sorted(self.burns, key=lambda of: (of["account"], SLASH_CAUSES.index(of["cause"]), of["window"]))


def lower_standings(burns, state):
    """Whoever is slashed for a contribution of a closed window also loses standing, and begins anew."""
    for burn in burns:
        miner = burn["account"]
        if burn["cause"] not in ("mismatch", "unanswered", "expulsion") or burn["window"] == state.window:
            continue
        state.parents.pop(miner, None)
        of = state.standings.get(miner)
        if of:
            state.standings[miner] = replace(of, mu=min(of.mu, NEW_MU), sigma=max(of.sigma, NEW_SIGMA),
                                             proof=min(of.proof, 0), factor=min(of.factor, NANO))

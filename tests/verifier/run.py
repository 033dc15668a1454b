"""A whole run: its windows one after another, from the genesis to the last record that is here.

Follows: "Certificate", "Agreement" and "From a window to the next" of manifests/README.md. This module finds what
belongs to a window among the entries, in the order of time, and counts what was checked; the modules that it calls
have the rules.
"""

import copy
from collections import Counter, defaultdict

from . import entries, links, record, scores, spot_checks, statements
from .cbor import Refused
from .draws import pages_of
from .folder import Fault
from .hashing import hash_of
from .payload import encode
from .state import State, context_of, zero_state
from .statements import Mismatch

OF_THE_CUT = ("contribution", "registration")


class Missing(Exception):
    """Something that is named is not here."""


class Stopped(Exception):
    """A fault was noted, and what follows cannot be checked without what it is about."""


class Run:
    """A run that is checked. `faults` and `missing` say what was found; `judgings` what was drawn for each window."""

    def __init__(self, folder, told=None):
        """`told` has the zero state and the number of training tokens of a simulated run, which has no tensors."""
        self.folder, self.told, self.counts = folder, told, Counter()
        self.faults, self.missing = list(folder.faults), []
        self.by_window = defaultdict(lambda: defaultdict(list))     # window, kind: [(place, entry)]
        self.judgings, self.pages = [], []
        self.records, self.headers, self.bodies = [], [], []        # ids, and the payloads' fields
        self.state = self.genesis = None

    def fault(self, where, why):
        self.faults.append(Fault(where, str(why)))

    def check(self):
        """Checks everything that is here."""
        self.genesis = self.find_genesis()
        if self.genesis is None:
            return
        for place, entry in self.folder.entries:
            self.sort(place, entry)
        try:
            self.begin()
            while self.check_window():
                self.state.begin_window()
            self.check_end()
        except Stopped:
            pass
        except Missing as error:
            self.missing.append(f"{self.place()}: {error}")
        except Refused as error:
            self.fault(self.place(), error)
        links.check(self)

    def place(self):
        return f"window {self.state.window}" if self.state else "genesis"

    def begin(self):
        """The state before window 0."""
        g = self.genesis.body
        if self.told:
            self.state = State(g, self.genesis.id, *self.told)
            return
        dataset = self.folder.payloads.get(g["dataset"])
        if dataset is None:
            raise Missing(f"dataset {g['dataset'].hex()} is not here")
        tokens = sum(shard["tokens"] for shard in dataset.body["training"])
        self.check_genesis(dataset.body, tokens)
        self.state = State(g, self.genesis.id, zero_state(g, self.genesis.id), tokens)

    def find_genesis(self):
        found = self.folder.of_kind("genesis")
        if self.folder.run is not None:
            found = [genesis for genesis in found if genesis.id == self.folder.run]
        if len(found) != 1:
            name = self.folder.run.hex() if self.folder.run else ""
            self.missing.append(f"genesis {name} is not here" if name else f"{len(found)} geneses are here, not one")
            return None
        return found[0]

    def check_genesis(self, dataset, tokens):
        """What a genesis must be beside its dataset."""
        g = self.genesis.body
        if dataset["tokenizer"] != g["tokenizer"] or dataset["vocab_size"] > g["model"]["vocab_size"]:
            raise Mismatch("genesis has another tokenizer or vocabulary than its dataset")
        begins = [0] + [context["from_window"] for context in g["context"]]
        for context in (context_of(g, window) for window in begins):
            pages = pages_of(tokens, context.sequence_length)
            wanted = g["registration"]["slots"] * g["inner"]["steps"] * context.batch
            if wanted + g["gauntlet"]["unassigned_pages"] > pages:
                raise Mismatch("genesis needs more pages than its dataset has")

    def sort(self, place, entry):
        """Puts an entry to its window."""
        if isinstance(entry, entries.Reveal):
            run, window, kind = entry.run, entry.window, "reveal"
        elif isinstance(entry, entries.Evidence):
            run, window, kind = entry.run, entry.window, "evidence"
        else:
            is_record = isinstance(entry, entries.Record)
            body = (entry.header.payload if is_record else entry.payload).body
            run, window, kind = body["run"], body["window"], "record" if is_record else entry.payload.kind
        if run != self.genesis.id:
            return self.fault(place, "entry is of another run")
        self.by_window[window][kind].append((place, entry))

    def here(self, kind):
        """The entries of a kind in the open window, each with its place."""
        return self.by_window[self.state.window][kind]

    def each(self, kind, check):
        """Checks the entries of a kind in the open window."""
        for place, entry in self.here(kind):
            self.at(place, check, entry)
            self.counts[kind] += 1

    def at(self, place, check, *arguments):
        """Does a check, and stops with a fault in this place if it does not hold."""
        try:
            return check(*arguments)
        except Refused as error:
            self.fault(f"{self.place()}, {place}", error)
            raise Stopped from None

    def named(self, kind, digest):
        """The signed payload of this id."""
        for _, signed in self.here(kind):
            if signed.payload.id == digest:
                return signed
        raise Missing(f"{kind} {digest.hex()}{' of the cut' if kind in OF_THE_CUT else ''} is missing")

    def certified(self, on):
        """The id on which precommits of more than two thirds of the stake agree in one attempt, or None."""
        precommits = defaultdict(set)
        for _, vote in self.here("vote"):
            body = vote.payload.body
            if body["on"] == on and body["step"] == "precommit" and body["value"] is not None:
                precommits[body["attempt"], body["value"]].add(vote.signer)
        found = {value for (_, value), by in precommits.items() if self.state.is_super_majority(by)}
        if len(found) > 1:
            raise Mismatch(f"two ids are certified as the {on} of one window")
        return next(iter(found), None)

    def check_window(self):
        """Checks the open window as far as it has come. Gives whether its record is certified, and the state is then
        behind it."""
        state = self.state
        self.each("contribution", lambda of: statements.check_contribution(of, state))
        self.each("registration", lambda of: statements.check_registration(of, state))
        self.each("inbox", lambda of: statements.check_inbox(of, state))
        self.each("vote", lambda of: statements.check_validator(of.signer, state))
        certified = {on: self.certified(on) for on in ("cut", "reveals", "window")}
        self.counts["certificates"] += sum(digest is not None for digest in certified.values())
        self.proposed("cut", certified["cut"], self.check_cut)
        self.each("reveal", lambda of: statements.check_reveal(of.validator, of.value, state))
        self.each("evidence", lambda of: scores.check_contradiction(of.first, of.second, of.signer, of.of, state))
        judging = self.judging(certified["cut"], certified["reveals"])
        if judging is None:
            return False
        self.each("score", lambda of: record.check_score(of, judging, state))
        after = self.proposed("record", certified["window"], lambda entry: self.after(entry, judging))
        return certified["window"] is not None and self.close(certified["window"], judging, after)

    def close(self, certified, judging, after):
        """Goes on behind the certified record, where it is here. `after` has the states behind all records."""
        if certified not in after:
            raise Missing(f"record {certified.hex()} is certified and not here")
        self.counts["windows"] += 1
        self.judgings.append(judging)
        self.pages.append(self.state.pages)
        self.records.append(certified)
        entry = next(entry for _, entry in self.here("record") if entry.header.payload.id == certified)
        self.headers.append(entry.header.payload.body)
        self.bodies.append(entry.body.body)
        self.counts["refuted"] += len(entry.body.body["refuted"])
        for digest in entry.body.body["scores"]:
            self.counts["contest"] += len(self.named("score", digest).payload.body["contests"])
        self.state = after[certified]
        return True

    def proposed(self, kind, certified, check):
        """Checks the cuts or records of the open window, and gives what the check gives, by id. A node takes in what a
        vote names before it can tell whether it is right, and whether all of it is here. So only what is certified, or
        what no vote names, makes a fault."""
        found, voted = {}, {vote.payload.body["value"] for _, vote in self.here("vote")}
        for place, entry in self.here(kind):
            digest = (entry.header if kind == "record" else entry).payload.id
            try:
                found[digest] = check(entry)
                self.counts[kind] += 1
            except Refused as error:
                if digest == certified or digest not in voted:
                    self.fault(f"{self.place()}, {place}", error)
                    raise Stopped from None
            except Missing:
                if digest == certified:
                    raise
        return found

    def check_cut(self, signed):
        statements.check_validator(signed.signer, self.state)
        cut = signed.payload.body
        statements.check_cut(cut, [self.named("inbox", digest) for digest in cut["inboxes"]], self.state)

    def judging(self, cut_id, set_id):
        """What validators judge, where cut and reveals are certified."""
        if cut_id is None or set_id is None:
            return None
        cut = self.named("cut", cut_id).payload
        return record.judging(
            cut, [self.named("contribution", entry["contribution"]) for entry in cut.body["contributions"]],
            [self.named("registration", entry["registration"]) for entry in cut.body["registrations"]],
            self.reveals(set_id, cut_id), self.state)

    def reveals(self, set_id, cut_id):
        """The reveals of the certified set, which stands in an entry of its own or in a record."""
        bodies = [signed.payload.body for _, signed in self.here("reveals")]
        for _, entry in self.here("record"):
            body = entry.body.body
            bodies.append({name: body[name] for name in ("run", "window", "cut", "reveals")})
        for body in bodies:
            if hash_of(encode("reveals", body)) == set_id:
                if body["cut"] != cut_id:
                    raise Mismatch("reveals are of another cut than the certified one")
                return {reveal["validator"]: reveal["value"] for reveal in body["reveals"]}
        raise Missing(f"set of reveals {set_id.hex()} is certified and not here")

    def after(self, entry, judging):
        """The state after a record of the open window, which is computed again."""
        state, body = copy.deepcopy(self.state), entry.body.body
        statements.check_validator(entry.header.signer, state)
        counted = [self.named("score", digest) for digest in body["scores"]]
        refuted = {of["score"]: self.named("score", of["score"]) for of in body["refuted"]
                   if not spot_checks.is_of_past_score(of, state.window)}
        record.check(entry.header.payload, entry.body, counted, refuted, judging, state)
        state.previous, state.checkpoint = entry.header.payload.id, entry.header.payload.body["checkpoint"]
        return state

    def check_end(self):
        """Behind the last window that is closed there may be nothing but the open one."""
        for window in sorted(window for window in self.by_window if window > self.state.window):
            for entries_of_kind in self.by_window[window].values():
                for place, _ in entries_of_kind:
                    self.fault(place, f"entry is of window {window}, window {self.state.window} is open")
                    return

    def expect(self, digest):
        """Whether this record is one of those that were checked."""
        if digest not in self.records:
            self.fault(f"record {digest.hex()}", "window is not certified by more than two thirds of the stake")

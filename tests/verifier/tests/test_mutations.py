"""One integer, link, signature, mint or weight of a run is changed and all is signed again: the verifier names it.

The run is the example of manifests/, and that of a demo where the variable VERIFIER_DEMO names its folder.
"""

import os
import unittest

from verifier import entries, payload
from verifier.cbor import Refused
from verifier.run import Run
from verifier.tests.forge import change_at, demo, example, integers

# What follows from tensors alone, so that this verifier takes it as it is.
OF_TENSORS = {"aggregate", "aggregate_bytes", "held_out_loss_nanonats"}


def other(digest):
    return bytes([digest[0] ^ 1]) + digest[1:]


class Mutations(unittest.TestCase):
    forge = None

    @classmethod
    def setUpClass(cls):
        cls.forge = example()

    @property
    def last(self):
        return self.forge.windows - 1

    def named(self, forged, pattern, what=""):
        verdict = self.forge.verdict(forged)
        self.assertIsNotNone(verdict, f"{what}: not found")
        self.assertRegex(verdict, pattern, what)

    def test_nothing_changed_is_nothing_found(self):
        self.assertIsNone(self.forge.verdict(self.forge.with_record(self.last)))

    def test_each_integer_of_a_record(self):
        body = self.forge.run.bodies[self.last]
        for path in integers(body):
            if path[0] in OF_TENSORS:
                continue
            field = "entry is of window" if path == ("window",) else path[0]
            forged = self.attempt(path, body)
            if forged:
                self.named(forged, f"{field}", path)

    def attempt(self, path, body):
        """A record with one more, or with one less where a rule of the kind forbids one more."""
        for by in (1, -1):
            try:
                return self.forge.with_record(self.last, change_at(path, lambda value: max(value + by, 0)))
            except Refused as error:
                self.assertIn("breaks a rule", str(error))
        return None

    def test_each_link_of_a_record(self):
        for name in ("cut", "seed"):
            self.named(self.forge.with_record(self.last, change_at((name,), other)), name)
        forged = self.forge.with_record(self.last, change_at(("scores", 0), other))
        self.named(forged, "score [0-9a-f]{64} is missing")
        for name in ("state_root", "validators_root"):
            self.named(self.forge.with_record(self.last, None, change_at((name,), other)), f"{name} differs")
        forged = self.forge.with_record(self.last, change_at(("reveals", 0, "value"), other))
        self.named(forged, "reveals")
        if self.last:
            self.named(self.forge.with_record(self.last, None, change_at(("previous",), other)), "previous differs")
            self.named(self.forge.with_record(self.last, change_at(("checkpoint_before",), other)),
                       "checkpoint_before differs")

    def test_whom_a_mint_and_a_weight_are_for(self):
        for field, name in (("mints", "account"), ("weights", "miner")):
            forged = self.forge.with_record(self.last, change_at((field, -1, name), lambda key: b"\xff" * 32))
            self.named(forged, f"{field} differs")
            self.named(self.forge.with_record(self.last, lambda body: body[field].pop()), f"{field} differs")

    def test_an_outcome(self):
        forged = self.forge.with_record(self.last, change_at(("outcomes", 0, "verdict"), lambda _: "reserve"))
        self.named(forged, "outcomes differs")
        forged = self.forge.with_record(self.last, change_at(("outcomes", 0, "losses"), lambda _: None))
        self.named(forged, "outcomes differs")

    def test_each_signature(self):
        for number, (_, entry) in enumerate(self.forge.read.entries):
            if isinstance(entry, payload.Signed):
                for bit in (3, 300):
                    self.named(self.forge.with_signature(number, bit), "signature by [0-9a-f]{64} does not verify")

    def test_claims_of_a_contribution(self):
        for name, change in (("steps", lambda n: n + 1), ("tokens", lambda n: n - 1), ("state_in", other),
                             ("parent", lambda _: b"\1" * 32)):
            forged = self.forge.with_statement("contribution", self.last, change_at((name,), change))
            self.named(forged, f"wrong claim: {name}")

    def test_links_of_a_score(self):
        for name in ("cut", "seed"):
            forged = self.forge.with_statement("score", self.last, change_at((name,), other))
            self.named(forged, f"score is of another {name}")
        forged = self.forge.with_statement("score", self.last, change_at(("entries", 0, "contribution"), other))
        self.named(forged, "score does not judge the contributions of the cut")

    def test_integers_of_a_score(self):
        """A loss that differs contradicts the other evaluators', or the record; a witness its claim or the others'."""
        scores = self.forge.run.by_window[self.last]["score"]
        for number, (_, signed) in enumerate(scores):
            for path in integers(signed.payload.body["entries"]):
                if path[-1] == "overlap_ppm" or path[1] == "replay":
                    continue
                change = change_at(("entries",) + path, lambda n: n ^ 1)
                forged = self.forge.with_statement("score", self.last, change, number)
                self.named(forged, "contradict each other|not its own witness|outcomes differs|mints differs", path)

    def test_a_cut_that_its_inboxes_do_not_give(self):
        forged = self.forge.with_statement("cut", self.last, lambda cut: cut["contributions"].pop())
        self.named(forged, "cut is not what its inboxes give")
        forged = self.forge.with_statement("cut", self.last, lambda cut: cut["inboxes"].reverse())
        self.named(forged, "cut is not what its inboxes give")

    def test_a_wrong_proposal_that_nobody_certified(self):
        """It is no fault of the run once a vote names it, since whoever kept it could not tell yet; else it is one."""
        old, state = self.forge.run.by_window[self.last]["cut"][0][1], self.forge.run.state
        wrong = self.forge.sign("cut", {**old.payload.body, "contributions": []}, old.signer)
        elsewhere = self.forge.sign("cut", {**old.payload.body, "inboxes": [b"\1" * 32]}, old.signer)
        vote = {"run": state.run, "window": self.last, "on": "cut", "attempt": 9, "step": "prevote"}
        for proposal, alone in ((wrong, "cut is not what its inboxes give"), (elsewhere, None)):
            forged = self.forge.copy()
            forged.entries.append(("a proposal", proposal))
            self.assertRegex(self.forge.verdict(forged) or "nothing", alone or "nothing")
            named = {**vote, "value": proposal.payload.id}
            forged.entries.append(("a vote", self.forge.sign("vote", named, old.signer)))
            self.assertIsNone(self.forge.verdict(forged))
        record = self.forge.certified(self.last)
        body = payload.decode(payload.encode("body", {**record.body.body, "outcomes": []}))
        header = {**record.header.payload.body, "body_root": body.id}
        forged = self.forge.copy()
        signed = self.forge.sign("window", header, record.header.signer)
        forged.entries.append(("a proposal", entries.Record(signed, body)))
        self.named(forged, "outcomes differs")
        forged.entries.append(("a vote", self.forge.sign(
            "vote", {**vote, "on": "window", "value": signed.payload.id}, record.header.signer)))
        self.assertIsNone(self.forge.verdict(forged))

    def test_votes_of_too_little_stake(self):
        forged = self.forge.copy()
        gone = None
        for place, entry in list(forged.entries):
            if getattr(getattr(entry, "payload", None), "kind", None) == "vote":
                if entry.payload.body["value"] == self.forge.run.records[0] and gone in (None, entry.signer):
                    gone = entry.signer
                    forged.entries.remove((place, entry))
        self.forge.until(0, forged)
        run = Run(forged)
        run.check()
        run.expect(self.forge.run.records[0])
        self.assertIn("is not certified by more than two thirds of the stake", str(run.faults[0]))

    def test_a_registration_for_another_owner(self):
        asked = self.forge.run.by_window[self.last]["registration"]
        for _, signed in asked:
            with self.assertRaisesRegex(Refused, "owner_signature"):
                change = change_at(("certificate", "owner"), lambda _: signed.signer)
                self.forge.with_statement("registration", self.last, change)


@unittest.skipUnless(os.environ.get("VERIFIER_DEMO"), "VERIFIER_DEMO does not name the folder of a demo")
class MutationsOfADemo(Mutations):
    @classmethod
    def setUpClass(cls):
        cls.forge = demo(os.environ["VERIFIER_DEMO"])

"""Contests of measurements: which are valid, and what a record that counts one must refute.

The window is that of manifests/, as if its genesis drew spot checks. Where VERIFIER_DEMO names a demo with spot checks,
a contest is also forged into its last window, with everything that follows from it.
"""

import copy
import os
import unittest
from types import SimpleNamespace
from unittest import mock

from verifier import payload, record, spot_checks
from verifier.cbor import Refused
from verifier.draws import spot_check
from verifier.findings import LOSSES
from verifier.hashing import u64
from verifier.rules_of_genesis import Broken
from verifier.rules_of_genesis import check as check_genesis
from verifier.schema import SLASH_CAUSES
from verifier.state import State
from verifier.tests.forge import demo, example


def changed_losses(losses):
    return {**losses, LOSSES[0]: losses[LOSSES[0]] + 1}


class Contests(unittest.TestCase):
    """Of the two validators, `liar` has a counted score that measures, and `checker` makes the spot check."""

    @classmethod
    def setUpClass(cls):
        cls.forge = example()

    def setUp(self):
        run = self.forge.run
        genesis = copy.deepcopy(run.genesis.body)
        genesis["gauntlet"]["spot_checks_ppm"] = 10**6
        self.of = run.judgings[0]
        self.state = State(genesis, run.state.run, run.state.zero_state, run.state.training_tokens)
        scores = {signed.payload.id: signed for _, signed in run.by_window[0]["score"]}
        self.first, self.second = (scores[digest] for digest in run.bodies[0]["scores"])
        self.liar, self.checker = self.first.signer, self.second.signer
        self.remember([self.first])
        self.state.window = 1
        self.miner = next(miner for miner, of in sorted(self.state.measured.items()) if of.result)
        self.said = self.state.measured[self.miner]
        self.drawing = SimpleNamespace(reveals={self.liar: b"\1" * 32, self.checker: b"\2" * 32})
        self.contest = {"miner": self.miner, "contribution": self.said.contribution,
                        "found": changed_losses(dict(zip(LOSSES, self.said.result[0])))}

    def remember(self, counted):
        spot_checks.remember(self.of.drawing.run, counted, self.of, self.state)

    def refused(self, text, contest, validator=None):
        with self.assertRaisesRegex(Refused, text):
            spot_checks.check_contest(contest, validator or self.checker, self.drawing, self.state)

    def with_contests(self, signed, contests, window=1):
        body = {**signed.payload.body, "window": window, "contests": contests}
        return payload.Signed(payload.decode(payload.encode("score", body)), signed.signer, b"")

    def test_a_valid_contest(self):
        spot_checks.check_contest(self.contest, self.checker, self.drawing, self.state)
        cannot_be_tried = {**self.contest, "found": None}
        spot_checks.check_contest(cannot_be_tried, self.checker, self.drawing, self.state)

    def test_a_contest_of_what_nobody_measured(self):
        unmeasured = "nobody measured that contribution in the window before"
        self.refused(unmeasured, {**self.contest, "miner": b"\3" * 32})
        self.refused(unmeasured, {**self.contest, "contribution": b"\3" * 32})
        self.state.measured = {}
        self.refused(unmeasured, self.contest)

    def test_a_contest_that_was_not_drawn(self):
        not_drawn, gauntlet = "that spot check was not drawn for its validator", self.state.genesis["gauntlet"]
        value = self.drawing.reveals[self.checker]
        number = spot_check(self.state.run, self.state.measurements.seed, self.miner, value)
        gauntlet["spot_checks_ppm"] = number
        self.refused(not_drawn, self.contest)
        gauntlet["spot_checks_ppm"] = number + 1
        spot_checks.check_contest(self.contest, self.checker, self.drawing, self.state)
        self.refused(not_drawn, self.contest, self.liar)
        del self.drawing.reveals[self.checker]
        self.refused(not_drawn, self.contest)

    def test_a_contest_that_agrees(self):
        agrees = "it states what the record states"
        self.refused(agrees, {**self.contest, "found": dict(zip(LOSSES, self.said.result[0]))})
        self.said.result = ()
        self.refused(agrees, {**self.contest, "found": None})
        spot_checks.check_contest(self.contest, self.checker, self.drawing, self.state)

    def test_what_a_record_must_refute(self):
        counted = [self.with_contests(self.second, [self.contest])]
        right = {"validator": self.liar, "score": self.said.by[self.liar], "window": 0, "miner": self.miner,
                 "statement": "evaluation"}
        record.check_refuted([right], {}, counted, self.state)
        with self.assertRaisesRegex(Refused, f"contests a measurement of validator {self.liar.hex()}, and does not"):
            record.check_refuted([], {}, counted, self.state)
        others = [("validator", self.checker), ("score", b"\3" * 32), ("miner", b"\3" * 32)]
        for name, value in others:
            with self.assertRaisesRegex(Refused, "refutes a statement that the score of validator"):
                record.check_refuted([{**right, name: value}], {}, counted, self.state)
        with self.assertRaisesRegex(Refused, "refutes a statement that the score of validator"):
            record.check_refuted([right], {}, [self.with_contests(self.second, [])], self.state)
        self.state.window = 2
        with self.assertRaisesRegex(Refused, "refutes a statement that the score of validator"):
            record.check_refuted([right], {}, counted, self.state)

    def test_a_false_contest_is_refuted(self):
        score = self.with_contests(self.second, [self.contest])
        right = {"validator": self.checker, "score": score.payload.id, "window": 0, "miner": self.miner,
                 "statement": "contest"}
        here = {score.payload.id: score}
        record.check_refuted([right], here, [], self.state)
        for name, value in (("validator", self.liar), ("window", 1), ("miner", b"\3" * 32)):
            with self.assertRaisesRegex(Refused, "refutes a statement that the score of validator"):
                record.check_refuted([{**right, name: value}], here, [], self.state)
        silent = self.with_contests(self.second, [])
        with self.assertRaisesRegex(Refused, "refutes a statement that the score of validator"):
            record.check_refuted([{**right, "score": silent.payload.id}], {silent.payload.id: silent}, [], self.state)
        body = {**self.forge.run.bodies[0], "refuted": [{**right, "score": self.first.payload.id}]}
        with self.assertRaisesRegex(Refused, f"refuted: score {self.first.payload.id.hex()} is counted"):
            payload.decode(payload.encode("body", body))

    def test_what_is_remembered(self):
        self.state.window = 0
        self.remember([self.first, self.second])
        self.assertEqual(list(self.state.measured[self.miner].by), [self.liar, self.checker])
        body = copy.deepcopy(self.second.payload.body)
        entry = next(entry for entry in body["entries"] if entry["miner"] == self.miner)
        entry["evaluation"]["measured"]["losses"] = self.contest["found"]
        self.remember([self.first, payload.Signed(payload.decode(payload.encode("score", body)), self.checker, b"")])
        self.assertNotIn(self.miner, self.state.measured)
        self.state.genesis["gauntlet"]["spot_checks_ppm"] = 0
        self.remember([self.first])
        self.assertEqual((self.state.measured, self.state.measurements), ({}, None))

    def test_entries_of_the_state(self):
        def row(numbers):
            return u64(len(numbers)) + b"".join(map(u64, numbers))

        of, said = self.state.measurements, self.said
        self.assertEqual(len(of.unassigned), self.state.genesis["gauntlet"]["unassigned_pages"])
        entries = self.state.entries()
        self.assertEqual(entries[b"measurements\0"], self.of.drawing.run + self.of.drawing.seed + row(of.unassigned))
        begin = said.contribution + u64(2) + b"".join(sorted([self.liar, self.checker])) + row(said.assigned)
        end = u64(1) + self.liar + self.first.payload.id
        key = b"measured\0" + self.miner
        losses, witnesses = said.result
        self.assertEqual(entries[key], begin + u64(1) + b"".join(map(u64, losses)) + row(witnesses) + end)
        said.result = ()
        self.assertEqual(self.state.entries()[key], begin + u64(0) + end)

    def test_rules_of_the_payloads(self):
        contests = [{**self.contest, "miner": bytes([n]) * 32} for n in range(5)]
        self.with_contests(self.second, contests[:4])
        with self.assertRaisesRegex(Refused, "contests has more than 4 entries"):
            self.with_contests(self.second, contests)
        with self.assertRaisesRegex(Refused, "contests is not strictly ascending"):
            self.with_contests(self.second, contests[:2] + contests[1:2])
        genesis = self.state.genesis
        check_genesis(genesis)
        genesis["gauntlet"]["spot_checks_ppm"] = 10**6 + 1
        with self.assertRaisesRegex(Broken, "gauntlet.spot_checks_ppm 1000001 is above 1000000"):
            check_genesis(genesis)
        genesis["gauntlet"]["spot_checks_ppm"], genesis["state_retention_windows"] = 1, 0
        with self.assertRaisesRegex(Broken, "gauntlet.spot_checks_ppm needs the model before"):
            check_genesis(genesis)


def has_spot_checks():
    path = os.environ.get("VERIFIER_DEMO")
    return path and demo(path).run.genesis.body["gauntlet"]["spot_checks_ppm"] == 10**6


@unittest.skipUnless(has_spot_checks(), "VERIFIER_DEMO does not name a demo in which all spot checks are drawn")
class ContestsOfADemo(unittest.TestCase):
    """A score of the last window contests a measurement of the one before. Field by field, the record is made to say
    what then follows."""

    def test_a_contest_in_a_run(self):
        forge = demo(os.environ["VERIFIER_DEMO"])
        run, last = forge.run, forge.windows - 1
        before = forge.state_before(last)
        scores = [signed for _, signed in run.by_window[last]["score"]]
        number, miner, said = next((number, miner, said) for number, signed in enumerate(scores)
                                   for miner, said in sorted(before.measured.items())
                                   if said.result and signed.signer not in said.by)
        contest = {"miner": miner, "contribution": said.contribution,
                   "found": changed_losses(dict(zip(LOSSES, said.result[0])))}

        def forged(contest, *of_record):
            return forge.with_statement("score", last, lambda score: score["contests"].append(contest), number,
                                        *of_record)

        agrees = {**contest, "found": dict(zip(LOSSES, said.result[0]))}
        self.assertRegex(forge.verdict(forged(agrees)), "it states what the record states")
        self.assertRegex(forge.verdict(forged(contest)), "contests a measurement of validator .*, and does not refute")
        (liar, score), = said.by.items()
        before.vest()
        slash = {"account": liar, "cause": "falsehood", "window": last, "amount_micros": before.unvested(liar)}
        self.assertGreater(slash["amount_micros"], 0)

        def refute(body):
            body["refuted"] = [{"validator": liar, "score": score, "window": last - 1, "miner": miner,
                                "statement": "evaluation"}]

        def punish(body):
            refute(body)
            body["burns"] = sorted(body["burns"] + [slash], key=lambda of: (
                of["account"], SLASH_CAUSES.index(of["cause"]), of["window"]))

        self.assertRegex(forge.verdict(forged(contest, refute)), "burns differs")
        with mock.patch("verifier.record.differs", side_effect=record.differs) as differs:
            self.assertRegex(forge.verdict(forged(contest, punish)), "state_root differs")
        root = differs.call_args.args[2]
        self.assertIsNone(forge.verdict(forged(contest, punish, lambda header: header.update(state_root=root))))

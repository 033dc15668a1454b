"""Draws by stake are those of the program, which has frozen them in a file."""

import json
import re
import unittest
from pathlib import Path

from verifier.draws import Drawing, replayers
from verifier.rules_of_genesis import all_faulty

ROOT = Path(__file__).resolve().parents[3]
VECTOR = ROOT / "crates" / "templar-protocol" / "vectors" / "draws-by-stake.txt"
CASE = re.compile(r"stakes (.*) absent (.*) places (\d+) alone (\d+)$")


def cases():
    """(stakes, absent, places, alone, {miner: drawn}) of each case in the file, in places instead of keys."""
    found = []
    for line in VECTOR.read_text(encoding="ascii").splitlines():
        head = CASE.match(line)
        if head:
            found.append((json.loads(head[1]), json.loads(head[2]), int(head[3]), int(head[4]), {}))
        else:
            miner, drawn = re.match(r"miner (\d+) by (.*)$", line).groups()
            found[-1][4][int(miner)] = json.loads(drawn)
    return found


def repeated(byte):
    return bytes([byte]) * 32


class DrawsByStake(unittest.TestCase):
    def test_the_program_draws_the_same(self):
        self.assertEqual(len(cases()), 5)
        for stakes, absent, places, _, expected in cases():
            with self.subTest(stakes):
                contributions = [{"miner": repeated(miner), "delta": b"", "state_out": b""} for miner in expected]
                reveals = {repeated(i): repeated(50) for i in range(len(stakes)) if i not in absent}
                drawing = Drawing(repeated(1), 0, repeated(3), repeated(4), contributions, reveals)
                rule = {"least_replays": places, "fraction_ppm": 0}
                drawn = replayers(drawing, {repeated(i): stake for i, stake in enumerate(stakes)}, rule)
                self.assertEqual([[key[0] for key in of] for of in drawn], list(expected.values()))

    def test_the_bound_of_genesis_is_the_same(self):
        for stakes, _, places, alone, _ in cases():
            with self.subTest(stakes):
                self.assertEqual(all_faulty(places, sorted(stakes)), alone)

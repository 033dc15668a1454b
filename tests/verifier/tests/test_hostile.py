"""Bytes that were changed at random, and runs of which parts are missing: an answer, and never another exception."""

import random
import tempfile
import unittest
from pathlib import Path

from verifier import entries, folder, journal, payload
from verifier.cbor import Refused
from verifier.hashing import hash_of
from verifier.report import Report
from verifier.run import Run
from verifier.tests.forge import ROOT, bytes_of, example

FILES = sorted((ROOT / "manifests").glob("*"))


def changed(data, dice):
    """The bytes with one thing done to them that a disk or a stranger might do."""
    data = bytearray(data)
    at = dice.randrange(len(data))
    kind = dice.randrange(5)
    if kind == 0:
        data[at] ^= 1 << dice.randrange(8)
    elif kind == 1:
        data[at] = dice.choice(b"\x00\x18\x1b\x5b\x5f\x7b\x80\x9b\x9f\xa0\xbf\xf6\xf9\xff")
    elif kind == 2:
        del data[at:at + dice.randrange(1, 40)]
    elif kind == 3:
        data[at:at] = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 12)))
    else:
        data[at:at + 8] = (2**dice.randrange(64)).to_bytes(8, "big")
    return bytes(data)


def framed(number, data):
    """A record of a journal."""
    covered = number.to_bytes(8, "little") + len(data).to_bytes(4, "little") + data
    return b"r" + hash_of(covered) + covered + b"\n"


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


class Hostile(unittest.TestCase):
    def test_changed_payloads_and_entries(self):
        dice = random.Random(1)
        for file in FILES:
            if file.suffix not in (".cbor", ".bin") or file.name.startswith(("delta", "trace")):
                continue
            data, decode = file.read_bytes(), payload.decode if file.suffix == ".cbor" else entries.decode
            for _ in range(150):
                try:
                    decode(changed(data, dice))
                except Refused:
                    pass

    def test_runs_without_some_of_their_entries(self):
        dice, whole = random.Random(2), example()
        for _ in range(60):
            forged = whole.copy()
            forged.entries = [entry for entry in forged.entries if dice.random() < 0.9]
            run = Run(forged)
            run.check()
            self.assertIn(Report([run]).code, (0, 4, 5))

    def test_folders_that_are_something_else(self):
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            for missing in (place, place / "nowhere"):
                with self.assertRaises(folder.NotFound):
                    folder.read(missing)
            (place / f"inbox-{'0' * 64}.cbor").write_bytes(b"\xa3dbody" + b"\x9b" + b"\xff" * 8)
            (place / f"delta-{'0' * 64}.bin").write_bytes(b"other bytes")
            (place / f"vote-{'0' * 64}.witness.json").write_text("[" * 100_000)
            (place / f"entry-{'0' * 64}.bin").write_bytes(b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
            run = Run(folder.read(place)[0])
            run.check()
            self.assertEqual(Report([run]).verdict, "mismatch")

    def journal(self, data):
        """What is read of a journal of these bytes: how many entries, and what is said of the rest."""
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "journal").write_bytes(data)
            read = folder.read(name)[0]
            self.assertTrue(all(fault.is_ours for fault in read.faults), read.faults)
            return len(read.entries), "".join(fault.why for fault in read.faults)

    @property
    def entries(self):
        signed = [entry for _, entry in example().read.entries if isinstance(entry, payload.Signed)]
        return [bytes_of(entry, entry.signature) for entry in signed]

    def test_a_journal(self):
        records = [framed(number, data) for number, data in enumerate(self.entries)]
        count, whole = len(records), journal.MAGIC + b"".join(records)
        before = len(whole) - len(records[-1])
        for what, data, entries_read, said in (
            ("whole", whole, count, ""),
            ("its first writer came no further", whole[:9], 0, "its last 9 bytes are no whole entry"),
            ("the last record has no end", whole[:-7], count - 1,
             f"last {len(records[-1]) - 7} bytes are no whole entry"),
            ("the last record has half a head", whole[:before + 20], count - 1, "its last 20 bytes are no whole entry"),
            ("zeros follow", whole + bytes(700), count, "its last 700 bytes are no whole entry"),
            ("a sector of the last record is zero", whole[:before] + b"r" + bytes(1200), count - 1,
             "its last 1201 bytes are no whole entry"),
            ("sectors before whole records are zero", whole[:16] + bytes(1200) + whole[1216:], 0, "at byte 16"),
            ("a bit of the first record", flipped(whole, 100), 0, "is damaged at byte 16"),
            ("a bit of the last record", flipped(whole, len(whole) - 2), count - 1, f"is damaged at byte {before}"),
            ("the last byte", flipped(whole, len(whole) - 1), count - 1, f"is damaged at byte {before}"),
            ("the length of the last record", flipped(whole, before + 42), count - 1, f"is damaged at byte {before}"),
            ("the length of the first record", flipped(whole, 16 + 44), 0, "is damaged at byte 16"),
            ("the first byte", flipped(whole, 0), 0, "is damaged at byte 0"),
            ("a record that is there twice", whole + records[-1], count,
             f"record {count - 1} where record {count} belongs"),
            ("a record that is missing", journal.MAGIC + b"".join(records[:1] + records[2:]), 1,
             "it has record 2 where record 1 belongs"),
        ):
            with self.subTest(what):
                found = self.journal(data)
                self.assertEqual(found[0], entries_read)
                self.assertTrue(found[1].endswith(said) if said else not found[1], found)

    def test_a_journal_of_the_first_form(self):
        records = self.entries
        whole = b"".join(len(data).to_bytes(4, "little") + hash_of(data) + data for data in records)
        for data, said in ((whole, ""), (whole[:-7], "bytes are no whole entry"),
                           (whole + bytes(50), "its last 50 bytes"), (flipped(whole, 100), "is damaged at byte 0"),
                           (whole[:-1] + b"\xff", "is damaged at byte"),
                           (b"\xff" * 4 + whole[4:], "is damaged at byte 0")):
            count, found = self.journal(data)
            self.assertIn(said, found)
            self.assertEqual((count == len(records), bool(found)), (data.startswith(whole), data != whole))

    def test_changed_journals(self):
        dice = random.Random(3)
        whole = journal.MAGIC + b"".join(framed(number, data) for number, data in enumerate(self.entries[:4]))
        for _ in range(150):
            try:
                self.assertLessEqual(len(list(journal.records(changed(whole, dice)))), 4)
            except journal.Damaged:
                pass

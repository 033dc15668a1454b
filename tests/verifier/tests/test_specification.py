"""The tables of manifests/README.md name every field and variant of `schema.py`, with its type, and no other."""

import re
import unittest
from pathlib import Path

from verifier import schema
from verifier.schema import KINDS, List, Map, Maybe, Union

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "manifests" / "README.md").read_text(encoding="utf-8")
UNIONS = {of.name[6:]: of for of in vars(schema).values() if isinstance(of, Union)}


def rows(heading):
    """The cells of the table under a heading of the third level."""
    part = TEXT.split(f"\n### {heading}\n")[1].split("\n#")[0]
    return [re.split(r" \| ", line.strip("| ")) for line in part.splitlines() if line.startswith("| `")]


def documented(kind):
    """{path: type} of a table, with the types in the words of `schema.py`."""
    found = {}
    for name, text, *_ in rows(kind):
        text = re.sub(r"^hash of an? \w+", "hash", text)
        text = re.sub(r"^list of hashes.*", "list of hash", text).replace("list of keys", "list of key")
        found[name.strip("`")] = text
    return found


def specified(of, path=""):
    """{path: type} of a schema, as tables write it."""
    found = {}
    for name, inner in of.fields.items():
        here = f"{path}{name}"
        if isinstance(inner, List) and isinstance(inner.inner, Map):
            found.update(specified(inner.inner, here + "[]."))
        elif isinstance(inner, Map):
            found.update(specified(inner, here + "."))
        else:
            found[here] = inner.name
            if isinstance(inner, Maybe) and isinstance(inner.inner, Map):
                found.update(specified(inner.inner, here + "."))
    return found


class Specification(unittest.TestCase):
    def test_every_field_and_its_type(self):
        for kind, of in KINDS.items():
            with self.subTest(kind):
                self.assertEqual(documented(kind), specified(of))

    def test_every_variant_and_its_fields(self):
        for name, of in UNIONS.items():
            with self.subTest(name):
                found = {}
                for cell, *_ in rows(name):
                    text = cell.strip("`")
                    full = re.match(r'\{"([a-z0-9-]+)": (.*)\}$', text)
                    fields = re.match(r"\{(.*)\}$", full[2]) if full else None
                    found[full[1] if full else text.strip('"')] = fields and sorted(fields[1].split(", "))
                known = {variant: None for variant in of.bare}
                known.update({variant: sorted(inner.fields) if isinstance(inner, Map) and inner not in (
                    schema.REFUSAL,) else None for variant, inner in of.full.items()})
                self.assertEqual(found, known)

    def test_every_kind_has_a_signer(self):
        table = TEXT.split("Signers, by kind:")[1].split("\nAmounts")[0]
        self.assertEqual(sorted(re.findall(r"`([a-z]+)`", "\n".join(
            line.split(" | ")[0] for line in table.splitlines()))), sorted(KINDS))

    def test_every_context_is_in_the_text(self):
        """Contexts are what keeps one use of the hash apart from another, so a typing error would be fatal."""
        sources = "".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "tests/verifier").glob("*.py")))
        used = set(re.findall(r'derived\(\s*"(templar/1 [^"]+)"|Draw\("(templar/1 [^"]+)"', sources))
        used = {one or other for one, other in used}
        known = set(re.findall(r'\["(templar/1 [^"]+)"\]', TEXT))
        self.assertGreater(len(used), 15)
        self.assertEqual(used - known, set())
        self.assertEqual(known - used, {"templar/1 entry id", "templar/1 hash chain secret"})

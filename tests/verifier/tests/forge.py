"""Changes one thing in a run and signs again whatever is then to be signed, as whoever has all keys could.

The keys of the examples follow from texts, and those of a demo lie in its homes; they are worth nothing.
"""

import copy
from pathlib import Path

from verifier import ed25519, entries, folder, payload
from verifier.hashing import hash_of
from verifier.run import Run

ROOT = Path(__file__).resolve().parents[3]


def example():
    """The window of manifests/, with its keys."""
    names = ["validator 0", "validator 1", "miner 0", "miner 1", "newcomer's node"]
    secrets = [hash_of(f"templar example key of {name}".encode()) for name in names]
    return Forge(folder.read(ROOT / "manifests")[0], secrets)


def demo(path):
    """The run of a demo, as its auditor has it, with the keys of all homes."""
    secrets = [bytes.fromhex(file.read_text().strip()) for file in sorted(Path(path).glob("*/key"))]
    return Forge(folder.read(Path(path) / "audit")[0], secrets)


class Forge:
    def __init__(self, read, secrets):
        self.read = read
        self.secrets = {ed25519.public_key(secret): secret for secret in secrets}
        run = Run(copy.copy(read))
        run.check()
        self.run, self.windows = run, run.counts["windows"]
        assert not run.faults and not run.missing, (run.faults, run.missing)

    def copy(self):
        """The same files, of which the entries may be changed."""
        copied = copy.copy(self.read)
        copied.entries, copied.faults = list(self.read.entries), []
        return copied

    def sign(self, kind, body, signer):
        made = payload.decode(payload.encode(kind, body))
        return payload.Signed(made, signer, ed25519.sign(self.secrets[signer], payload.message(made)))

    def verdict(self, forged):
        """The first thing that is found wrong, or None."""
        run = Run(forged)
        run.check()
        return str(run.faults[0]) if run.faults else run.missing[0] if run.missing else None

    def until(self, window, forged):
        """Drops what is later than a window, which would not follow any more."""
        def number(entry):
            if isinstance(entry, entries.Record):
                return entry.header.payload.body["window"]
            return entry.payload.body["window"] if isinstance(entry, payload.Signed) else entry.window
        forged.entries = [(place, entry) for place, entry in forged.entries if number(entry) <= window]

    def certified(self, window):
        """The record of a window."""
        for _, entry in self.read.entries:
            if isinstance(entry, entries.Record) and entry.header.payload.id == self.run.records[window]:
                return entry
        raise KeyError(window)

    def with_record(self, window, change_body=None, change_header=None, scores=None):
        """Another record in place of the certified one, signed and certified again. `scores` replaces ids of scores."""
        forged, old = self.copy(), self.certified(window)
        body, header = copy.deepcopy(old.body.body), copy.deepcopy(old.header.payload.body)
        body["scores"] = [(scores or {}).get(digest, digest) for digest in body["scores"]]
        if change_body:
            change_body(body)
        made = payload.decode(payload.encode("body", body))
        header["body_root"] = made.id
        if change_header:
            change_header(header)
        signed = self.sign("window", header, old.header.signer)
        self.until(window, forged)
        forged.entries = [(place, self.other(entry, old, signed, made)) for place, entry in forged.entries]
        return forged

    def other(self, entry, old, signed, made):
        """An entry, or what replaces it where a record is replaced by another."""
        if isinstance(entry, entries.Record) and entry.header.payload.id == old.header.payload.id:
            return entries.Record(signed, made)
        if isinstance(entry, payload.Signed) and entry.payload.kind == "vote":
            if entry.payload.body["value"] == old.header.payload.id:
                return self.sign("vote", {**entry.payload.body, "value": signed.payload.id}, entry.signer)
        return entry

    def state_before(self, window):
        """The state before a window."""
        forged = self.copy()
        self.until(window - 1, forged)
        run = Run(forged)
        run.check()
        return run.state

    def with_statement(self, kind, window, change, number=0, *of_record):
        """Another statement in place of one, signed again by the same signer. A record that counts a score counts the
        changed one, and may be changed as well."""
        found = [signed for _, signed in self.run.by_window[window][kind]]
        old = found[number]
        body = copy.deepcopy(old.payload.body)
        change(body)
        new = self.sign(kind, body, old.signer)
        named = {old.payload.id: new.payload.id}
        forged = self.with_record(window, *of_record, scores=named) if kind == "score" else self.copy()
        self.until(window, forged)
        forged.entries = [(place, new if entry is old else entry) for place, entry in forged.entries]
        return forged

    def with_signature(self, number, bit):
        """One bit of the signature of an entry is flipped, and the entry is read again."""
        forged = self.copy()
        place, entry = forged.entries.pop(number)
        signed = entry.header if isinstance(entry, entries.Record) else entry
        changed = bytearray(signed.signature)
        changed[bit // 8] ^= 1 << bit % 8
        forged.add_entry(bytes_of(entry, bytes(changed)), place)
        return forged


def varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def bytes_of(entry, signature):
    """The bytes of a signed entry, with this signature."""
    is_record = isinstance(entry, entries.Record)
    signed = entry.header if is_record else entry
    data = signed.payload.bytes
    out = varint(3 if is_record else 0) + varint(len(data)) + data + b"\x20" + signed.signer + b"\x40" + signature
    return out + varint(len(entry.body.bytes)) + entry.body.bytes if is_record else out


def integers(value, path=()):
    """The paths of all integers in a payload's fields."""
    if type(value) is int:
        yield path
    elif isinstance(value, dict):
        for name, inner in sorted(value.items()):
            yield from integers(inner, path + (name,))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from integers(inner, path + (place,))


def change_at(path, change):
    """A function that changes the value at a path."""
    def apply(body):
        for step in path[:-1]:
            body = body[step]
        body[path[-1]] = change(body[path[-1]])
    return apply

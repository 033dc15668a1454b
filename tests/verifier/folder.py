"""The files of a run: which payloads, entries and blobs a folder holds.

Follows: "The examples" of manifests/README.md for a folder of files that are named `<kind>-<hash>`. A home of the
program is read as well. Its own files are private to the program, so as little as possible is taken for granted there:
`journal.py` reads its journal, and whatever else is wanted is named by its hash and is looked for wherever it may lie.
Nothing that is read is trusted.
"""

import json
import mmap
import os
import re
from pathlib import Path

from . import cbor, entries, journal, payload
from .cbor import Refused
from .hashing import Stream, hash_of

MOST_PAYLOADS = 1 << 20
NAMED = re.compile(r"^([a-z]+)-([0-9a-f]{64})\.(cbor|bin|witness\.json)$")


class NotFound(Exception):
    """There is no run here."""


class Fault(Exception):
    """A file that is not what it should be: where it is, and why. `is_ours` says that the folder has lost something,
    which says nothing about anybody else."""

    def __init__(self, where, why, is_ours=False):
        super().__init__(f"{where}: {why}")
        self.where, self.why, self.is_ours = where, why, is_ours


class Folder:
    """What was found. `entries` has (place, entry) in the order of the files, `payloads` payloads by id."""

    def __init__(self):
        self.run = None             # the id of the genesis, where the folder says it
        self.entries, self.payloads, self.signed, self.faults = [], {}, {}, []
        self.blobs, self.blob_bytes, self.entry_count = {}, 0, 0

    def fault(self, where, why, is_ours=False):
        self.faults.append(Fault(where, why, is_ours))

    def of_kind(self, kind):
        return [found for found in self.payloads.values() if found.kind == kind]

    def add_payload(self, data, where):
        try:
            found = payload.decode(data)
        except Refused as error:
            return self.fault(where, str(error))
        self.payloads[found.id] = found
        return found

    def add_entry(self, data, where):
        self.entry_count += 1
        try:
            entry = entries.decode(data)
        except Refused as error:
            return self.fault(where, str(error))
        self.entries.append((where, entry))
        return entry


def read(path):
    """Reads a folder or a home."""
    path = Path(path)
    if not path.is_dir():
        raise NotFound(f"{path} is no folder")
    runs = sorted((path / "runs").glob("*/journal"))
    if runs:
        return [read_home(path, file) for file in runs]
    folder = read_examples(path)
    if not (folder.entries or folder.payloads or folder.faults):
        raise NotFound(f"{path} holds neither a home nor files of a run")
    return [folder]


def read_examples(path):
    """A folder of files `<kind>-<hash>.cbor`, their witnesses, and blobs."""
    folder, witnesses = Folder(), []
    for name in sorted(os.listdir(path)):
        named = NAMED.match(name)
        if not named or not (path / name).is_file():
            continue
        kind, digest, ending = named.groups()
        file = path / name
        if ending == "witness.json":
            witnesses.append((name, bytes.fromhex(digest)))
        elif ending == "cbor":
            found = folder.add_payload(bounded(file, payload.MAX_BYTES), name)
            if found and (found.kind, found.id.hex()) != (kind, digest):
                folder.fault(name, "its name is not its kind and hash", True)
        elif kind == "entry":
            data = bounded(file, entries.MAX_BYTES)
            if hash_of(data).hex() != digest:
                folder.fault(name, "its name is not its hash", True)
            folder.add_entry(data, name)
        else:
            check_blob(folder, file, digest)
    if (path / "journal").is_file():
        read_journal(folder, path / "journal")
    for name, digest in witnesses:
        read_witnesses(folder, path / name, digest)
    add_witnessed(folder)
    return folder


def bounded(file, most):
    """At most one byte more than anything of this sort may have."""
    with open(file, "rb") as opened:
        return opened.read(most + 1)


def read_witnesses(folder, file, digest):
    found = folder.payloads.get(digest)
    if found is None:
        return folder.fault(file.name, "there is no payload beside it", True)
    try:
        listed = json.loads(bounded(file, payload.MAX_BYTES))
        pairs = [(bytes.fromhex(of["signer"]), bytes.fromhex(of["signature"])) for of in listed]
    except (ValueError, KeyError, TypeError, RecursionError):
        return folder.fault(file.name, "is no list of signers and signatures")
    for signer, signature in pairs:
        try:
            payload.check_signature(found, signer, signature)
            folder.signed.setdefault(digest, []).append(payload.Signed(found, signer, signature))
        except Refused as error:
            folder.fault(file.name, str(error))


def add_witnessed(folder):
    """Payloads with witnesses are entries too, and a body belongs to the header that names it."""
    known = {entry.payload.id for _, entry in folder.entries if isinstance(entry, payload.Signed)}
    for digest, signed in folder.signed.items():
        kind = signed[0].payload.kind
        if kind in entries.KINDS and digest not in known:
            folder.entries += [(f"{kind}-{digest.hex()[:10]}", one) for one in signed]
        elif kind == "window":
            body = folder.payloads.get(signed[0].payload.body["body_root"])
            if body:
                folder.entries.append((f"window-{digest.hex()[:10]}", entries.Record(signed[0], body)))


def read_home(home, file):
    """A home, of which `file` is the journal of a run."""
    folder = Folder()
    try:
        folder.run = bytes.fromhex(file.parent.name)
    except ValueError:
        folder.fault(file.parent.name, "is not the id of a run", True)
    read_journal(folder, file)
    store = home / "store"
    for file in sorted(store.rglob("*")) if store.is_dir() else []:
        if file.is_symlink() or not file.is_file():
            continue
        if re.fullmatch(r"[0-9a-f]{64}\.data", file.name):
            check_blob(folder, file, file.name[:64])
        elif file.suffix == ".db":
            look_through(folder, file)
    return folder


def read_journal(folder, file):
    if not os.path.getsize(file):
        return
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            for number, entry in enumerate(journal.records(data)):
                folder.add_entry(entry, f"entry {number} of the journal")
        except journal.Damaged as damage:
            folder.fault("journal", str(damage), True)


def check_blob(folder, file, digest):
    """Hashes a file piece by piece."""
    stream = Stream()
    with open(file, "rb") as opened:
        for piece in iter(lambda: opened.read(1 << 20), b""):
            stream.update(piece)
            folder.blob_bytes += len(piece)
    if stream.digest().hex() != digest:
        folder.fault(f"blob {digest}", "its bytes are not what its name says", True)
    else:
        folder.blobs[bytes.fromhex(digest)] = file


def look_through(folder, file):
    """Finds payloads in a file of any form, by how they begin. A payload is named by its hash, so what is found cannot
    be anything else than it says."""
    if not os.path.getsize(file):
        return
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at, tried = data.find(b"\xa3dbody"), 0
        while at >= 0 and tried < MOST_PAYLOADS:
            reader, tried = cbor.Reader(data, at, min(at + payload.MAX_BYTES, len(data))), tried + 1
            try:
                reader.value()
                found = payload.decode(data[at:reader.at])
                folder.payloads[found.id] = found
            except Refused:
                pass
            at = data.find(b"\xa3dbody", at + 1)

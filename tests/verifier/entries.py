"""Entries: the messages that nodes exchange and keep.

Follows: "Entries" of manifests/README.md. The encoding is Postcard; a number that is spelled longer than it must be,
or a byte behind the end, is another spelling and refused.
"""

from collections import namedtuple

from . import payload
from .cbor import Refused

MAX_BYTES = 4_195_072
KINDS = ("contribution", "registration", "inbox", "cut", "reveals", "score", "vote")

# A hash-chain value.
Reveal = namedtuple("Reveal", "run window validator value")
# A record: its header, signed, and its body.
Record = namedtuple("Record", "header body")
# Two statements that contradict each other, handed in for a window.
Evidence = namedtuple("Evidence", "run window signer of first second")

TOO_SHORT = "entry does not decode: Hit the end of buffer, expected more data"
OTHER = "entry does not decode: Serde Deserialization Error"
SPELLED = "entry is not canonical: the same value is spelled differently"


class Reader:
    def __init__(self, data):
        self.data, self.at, self.is_canonical = data, 0, True

    def take(self, length):
        if length > len(self.data) - self.at:
            raise Refused(TOO_SHORT)
        self.at += length
        return self.data[self.at - length:self.at]

    def number(self):
        """A varint of at most 64 bits."""
        value, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                self.is_canonical &= byte != 0 or shift == 0
                if value >= 2**64:
                    raise Refused("entry does not decode: a number is too large")
                return value
            shift += 7
            if shift > 63:
                raise Refused("entry does not decode: a number is too large")

    def fixed(self, length):
        """Bytes with their length before them, which is known."""
        if self.number() != length:
            raise Refused(OTHER)
        return self.take(length)

    def long(self):
        return self.take(self.number())

    def signed(self):
        return self.long(), self.fixed(32), self.fixed(64)


def decode(data):
    """The entry of these bytes: a `Signed` payload, a `Reveal`, a `Record` or an `Evidence`, with every signature
    verified."""
    if len(data) > MAX_BYTES:
        raise Refused(f"entry of {len(data)} bytes is longer than the {MAX_BYTES} that any may have")
    reader = Reader(data)
    variant = reader.number()
    parts = {0: envelope, 1: reveal, 2: evidence, 3: record}.get(variant)
    if parts is None:
        raise Refused(OTHER)
    opened = parts(reader)
    if reader.at != len(data) or not reader.is_canonical:
        raise Refused(SPELLED)
    return opened()


def envelope(reader):
    data, signer, signature = reader.signed()

    def opened():
        read = payload.decode(data)
        if read.kind not in KINDS:
            raise Refused(f"a manifest of the kind {read.kind} is not an entry")
        payload.check_signature(read, signer, signature)
        return payload.Signed(read, signer, signature)
    return opened


def reveal(reader):
    found = Reveal(reader.fixed(32), reader.number(), reader.fixed(32), reader.fixed(32))
    return lambda: found


def record(reader):
    data, signer, signature = reader.signed()
    body = reader.long()

    def opened():
        header = payload.open_signed(data, signer, signature, "window")
        inner = payload.decode(body, "body")
        if inner.id != header.payload.body["body_root"]:
            raise Refused(f"record by {signer.hex()} has another body than its header names")
        return Record(header, inner)
    return opened


def evidence(reader):
    run, window, signer, of = reader.fixed(32), reader.number(), reader.fixed(32), reader.number()
    first, second = reader.signed(), reader.signed()

    def opened():
        return Evidence(run, window, signer, of, payload.open_signed(*first), payload.open_signed(*second))
    return opened

"""Hashes, and numbers drawn from hashes.

Follows: "Conventions" and "Draws" of manifests/README.md. The PyPI package `blake3` does the work where it is
installed, and `blake3_twin.py` otherwise; tests hold the two against each other and against the published vectors.
"""

from functools import lru_cache

from . import blake3_twin as twin

try:
    import blake3 as package
except ImportError:
    package = None

ZERO = bytes(32)


def hash_of(data):
    """BLAKE3 of bytes: 32 bytes."""
    return package.blake3(data).digest() if package else twin.plain().update(data).digest()


def keyed_hash(key, data):
    return package.blake3(data, key=key).digest() if package else twin.keyed(key).update(data).digest()


class Stream:
    """A hash of bytes that come in pieces."""

    def __init__(self):
        self.hasher = package.blake3() if package else twin.plain()

    def update(self, data):
        self.hasher.update(data)

    def digest(self):
        return self.hasher.digest()


def deriving(context, *parts):
    """`hash[context](parts joined)` before its output is read."""
    hasher = package.blake3(derive_key_context=context) if package else twin.deriving(context)
    for part in parts:
        hasher.update(part)
    return hasher


def derived(context, *parts):
    """The specification's `hash[context](x)`: 32 bytes."""
    return deriving(context, *parts).digest()


@lru_cache(maxsize=None)
def hash_of_zeros(length):
    """BLAKE3 of so many zero bytes: the blobs of the zero state."""
    stream, block = Stream(), bytes(1 << 20)
    for start in range(0, length, len(block)):
        stream.update(block[:length - start])
    return stream.digest()


def u32(number):
    return number.to_bytes(4, "little")


def u64(number):
    return number.to_bytes(8, "little")


class Draw:
    """The specification's `draw[context](x)`: numbers from the extendable output of `hash[context](x)`."""

    PIECE = 1 << 12

    def __init__(self, context, *parts):
        self.hasher = deriving(context, *parts)
        self.piece, self.at = b"", 0

    def next(self):
        """The next u64."""
        if self.at % self.PIECE == 0:
            self.piece = self.hasher.digest(length=self.PIECE, seek=self.at)
        start = self.at % self.PIECE
        self.at += 8
        return int.from_bytes(self.piece[start:start + 8], "little")

    def below(self, bound):
        """The next number below `bound`, each equally likely."""
        while True:
            number = self.next()
            if number <= 2**64 - 1 - 2**64 % bound:
                return number % bound

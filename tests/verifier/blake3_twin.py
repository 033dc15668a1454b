"""BLAKE3, from its specification (https://github.com/BLAKE3-team/BLAKE3-specs), with the standard library alone.

Follows: "Conventions" of manifests/README.md, which names the hash and its key-derivation mode.

Used where the PyPI package `blake3` is not installed; `hashing.py` chooses. There is one trick. A word of the hash's
state is here an integer with one 32-bit word in each of its 64-bit lanes, so that one `+` or `^` works on all lanes.
Chunks do not depend on each other: one lane is the textbook algorithm, and a thousand lanes hash a thousand chunks in
the time of some ten.
"""

import struct
from functools import lru_cache

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED_HASH, DERIVE_KEY_CONTEXT, DERIVE_KEY_MATERIAL = (1 << n for n in range(7))
CHUNK, BLOCK, LANES = 1024, 64, 1024


def spread(lanes):
    """The integer with a 1 in each lane: multiplied with it, a word stands in every lane."""
    return int.from_bytes(b"\1\0\0\0\0\0\0\0" * lanes, "little")


def pack(words):
    """One word for each lane, as one integer."""
    return int.from_bytes(struct.pack(f"<{len(words)}Q", *words), "little")


def unpack(value, lanes):
    return struct.unpack(f"<{lanes}Q", value.to_bytes(8 * lanes, "little"))


def compress(chaining, block, counter, length, flags, ones):
    """The compression function on all lanes at once: 16 words. `chaining` and `block` are lists of lane integers,
    `counter` is a pair of them (low and high word), `length` and `flags` are the same in all lanes."""
    mask = 0xFFFFFFFF * ones
    v = list(chaining) + [word * ones for word in IV[:4]] + [counter[0], counter[1], length * ones, flags * ones]
    m = list(block)

    def mix(a, b, c, d, x, y):
        v[a] = (v[a] + v[b] + x) & mask
        v[d] ^= v[a]
        v[d] = ((v[d] >> 16) | (v[d] << 16)) & mask
        v[c] = (v[c] + v[d]) & mask
        v[b] ^= v[c]
        v[b] = ((v[b] >> 12) | (v[b] << 20)) & mask
        v[a] = (v[a] + v[b] + y) & mask
        v[d] ^= v[a]
        v[d] = ((v[d] >> 8) | (v[d] << 24)) & mask
        v[c] = (v[c] + v[d]) & mask
        v[b] ^= v[c]
        v[b] = ((v[b] >> 7) | (v[b] << 25)) & mask

    for turn in range(7):
        mix(0, 4, 8, 12, m[0], m[1])
        mix(1, 5, 9, 13, m[2], m[3])
        mix(2, 6, 10, 14, m[4], m[5])
        mix(3, 7, 11, 15, m[6], m[7])
        mix(0, 5, 10, 15, m[8], m[9])
        mix(1, 6, 11, 12, m[10], m[11])
        mix(2, 7, 8, 13, m[12], m[13])
        mix(3, 4, 9, 14, m[14], m[15])
        if turn < 6:
            m = [m[place] for place in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)] + [v[i + 8] ^ chaining[i] for i in range(8)]


def whole_chunks(data, first, key, flags):
    """The chaining values of chunks of exactly 1,024 bytes, none of them the root. `first` is the number of the first."""
    lanes = len(data) // CHUNK
    ones = spread(lanes)
    words = struct.unpack(f"<{len(data) // 4}I", data)
    numbers = range(first, first + lanes)
    counter = (pack([n & 0xFFFFFFFF for n in numbers]), pack([n >> 32 for n in numbers]))
    chaining = [word * ones for word in key]
    for block in range(CHUNK // BLOCK):
        here = [pack(words[block * 16 + place::CHUNK // 4]) for place in range(16)]
        edge = (CHUNK_START if block == 0 else 0) | (CHUNK_END if block == CHUNK // BLOCK - 1 else 0)
        chaining = compress(chaining, here, counter, BLOCK, flags | edge, ones)[:8]
    return list(zip(*(unpack(word, lanes) for word in chaining)))


class Node:
    """The last compression of a chunk or a parent, not yet done: it is another one if the node is the root."""

    def __init__(self, chaining, block, counter, length, flags):
        self.input = (chaining, block, counter, length)
        self.flags = flags

    def value(self):
        chaining, block, counter, length = self.input
        words = (counter & 0xFFFFFFFF, counter >> 32)
        return tuple(compress(chaining, block, words, length, self.flags, 1)[:8])

    def output(self, start, length):
        """Bytes of the extendable output, from `start` on: one lane for each block of it."""
        chaining, block, _, size = self.input
        first, skip = divmod(start, BLOCK)
        lanes = (skip + length + BLOCK - 1) // BLOCK
        ones, numbers = spread(lanes), range(first, first + lanes)
        counter = (pack([n & 0xFFFFFFFF for n in numbers]), pack([n >> 32 for n in numbers]))
        words = compress([word * ones for word in chaining], [word * ones for word in block], counter, size,
                         self.flags | ROOT, ones)
        blocks = zip(*(unpack(word, lanes) for word in words))
        return b"".join(struct.pack("<16I", *of) for of in blocks)[skip:skip + length]


def last_chunk(data, number, key, flags):
    chaining, flags_here = key, flags | CHUNK_START
    for at in range(0, max(len(data) - 1, 0) // BLOCK * BLOCK, BLOCK):
        block = struct.unpack("<16I", data[at:at + BLOCK])
        words = (number & 0xFFFFFFFF, number >> 32)
        chaining, flags_here = compress(chaining, block, words, BLOCK, flags_here, 1)[:8], flags
    rest = data[max(len(data) - 1, 0) // BLOCK * BLOCK:]
    return Node(chaining, struct.unpack("<16I", rest.ljust(BLOCK, b"\0")), number, len(rest), flags_here | CHUNK_END)


class Hasher:
    """A hash under way. Chunks whose successor has begun are hashed; `stack` has the subtrees, largest first."""

    def __init__(self, key=IV, flags=0):
        self.key, self.flags = key, flags
        self.stack, self.chunks, self.rest = [], 0, b""

    def update(self, data):
        data = self.rest + data
        at = 0
        while len(data) - at > CHUNK:
            lanes = min((len(data) - at - 1) // CHUNK, LANES)
            for value in whole_chunks(data[at:at + lanes * CHUNK], self.chunks, self.key, self.flags):
                self.push(value)
            at += lanes * CHUNK
        self.rest = data[at:]
        return self

    def push(self, value):
        """Takes the next chunk's chaining value, and joins two subtrees as often as they are of one size."""
        self.chunks += 1
        size = self.chunks
        while size % 2 == 0:
            value = self.parent(self.stack.pop(), value).value()
            size //= 2
        self.stack.append(value)

    def parent(self, left, right):
        return Node(self.key, left + right, 0, BLOCK, self.flags | PARENT)

    def output(self, start, length):
        node = last_chunk(self.rest, self.chunks, self.key, self.flags)
        for left in reversed(self.stack):
            node = self.parent(left, node.value())
        return node.output(start, length)

    def digest(self, length=32, seek=0):
        return self.output(seek, length)


def plain():
    return Hasher()


def keyed(key):
    """A hash with a key of 32 bytes."""
    return Hasher(struct.unpack("<8I", key), KEYED_HASH)


@lru_cache(maxsize=None)
def key_of_context(context):
    return struct.unpack("<8I", Hasher(flags=DERIVE_KEY_CONTEXT).update(context.encode()).digest())


def deriving(context):
    """The key-derivation mode with this context, a text."""
    return Hasher(key_of_context(context), DERIVE_KEY_MATERIAL)

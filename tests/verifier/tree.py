"""Trees: keys with values, and one root that stands for all of them.

Follows: "Trees" of manifests/README.md.
"""

from .hashing import ZERO, derived, u32


def bits(key):
    """The bits of a key, as text of 0 and 1: nine for each byte, a 1 and then its eight. Behind them all are 0."""
    return "".join(f"1{byte:08b}" for byte in key)


def root(entries):
    """The root of {key: value}."""
    return root_of(sorted((bits(key), key, value) for key, value in entries.items()))


def root_of(leaves):
    if not leaves:
        return ZERO
    if len(leaves) == 1:
        _, key, value = leaves[0]
        return derived("templar/1 tree leaf", u32(len(key)), key, value)
    first, last = leaves[0][0], leaves[-1][0]
    longest = max(len(first), len(last))
    first, last = first.ljust(longest, "0"), last.ljust(longest, "0")
    fork = next(number for number in range(longest) if first[number] != last[number])
    split = next(place for place, leaf in enumerate(leaves) if leaf[0][fork:fork + 1] == "1")
    return derived("templar/1 tree fork", u32(fork), root_of(leaves[:split]), root_of(leaves[split:]))

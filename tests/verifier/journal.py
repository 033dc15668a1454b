"""A journal's bytes: the entries in it, in the order in which a node accepted them.

A journal is private to the program, so no text specifies it. It begins with 16 bytes, and then records follow:

    "r" ‖ checksum (32) ‖ number (u64) ‖ length (u32) ‖ entry ‖ line feed

The checksum is the hash of number, length and entry, and the numbers count from 0. In the first form, which is read as
well, nothing stands at the beginning, and a record is length (u32) ‖ hash of the entry ‖ entry.

A crash may have left a part of the last record: its end is missing, or a sector of it is zero. (A node that is running
may be writing it.) Everything else that is not whole has been damaged later. The two are told apart, but of either the
records before are read, and the rest is not here.
"""

import struct

from .hashing import hash_of

MAGIC = b"templar journal\n"
HEAD = struct.Struct("<c32sQI")
COVERED_FROM = 33                           # the checksum is of everything from here on but for the line feed
MOST_BYTES = 2**22 + 4096                   # of an entry
SECTOR = 512


class Damaged(Exception):
    """A record that is not whole."""


def torn(data, at):
    return Damaged(f"its last {len(data) - at} bytes are no whole entry")


def records(data):
    """The entries of a journal, one after the other."""
    if data[:16] == MAGIC:
        return numbered(data)
    if MAGIC.startswith(data[:16]):
        raise torn(data, 0)                 # its first writer came no further
    if whole(data, len(MAGIC)):
        raise Damaged("is damaged at byte 0")
    return first_form(data)


def numbered(data):
    at, number = len(MAGIC), 0
    while at < len(data):
        found = whole(data, at)
        if found is None:
            raise torn(data, at) if is_torn(data, at) else Damaged(f"is damaged at byte {at}")
        if found[0] != number:
            raise Damaged(f"is damaged at byte {at}: it has record {found[0]} where record {number} belongs")
        yield found[1]
        at, number = at + HEAD.size + len(found[1]) + 1, number + 1


def whole(data, at):
    """The number and the entry of the record that begins here, or None if it is not whole."""
    if at + HEAD.size >= len(data):
        return None
    first, checksum, number, length = HEAD.unpack_from(data, at)
    end = at + HEAD.size + length
    if first != b"r" or length > MOST_BYTES or data[end:end + 1] != b"\n":
        return None
    return (number, data[at + HEAD.size:end]) if hash_of(data[at + COVERED_FROM:end]) == checksum else None


def is_torn(data, at):
    """Whether the rest, which begins with no whole record, is what a crash has left of the last one."""
    rest = data[at:]
    if not rest.strip(b"\0"):
        return True
    if len(rest) > HEAD.size + MOST_BYTES + 1 or has_whole(data, at + 1):
        return False
    sectors = (data[max(begin, at):begin + SECTOR] for begin in range(at - at % SECTOR, len(data), SECTOR))
    return any(not sector.strip(b"\0") for sector in sectors) or ends_early(rest)


def has_whole(data, at):
    """Whether a whole record begins here or later."""
    while (at := data.find(b"r", at)) >= 0:
        if whole(data, at):
            return True
        at += 1
    return False


def ends_early(rest):
    """Whether the end of a record is missing. If all of it is here and its length has changed, then it is whole once it
    has the length of what is here."""
    if rest[:1] != b"r":
        return False
    if len(rest) < HEAD.size:
        return True
    _, checksum, number, length = HEAD.unpack_from(rest)
    here = len(rest) - HEAD.size
    if length > MOST_BYTES or here > length:
        return False
    head = struct.pack("<QI", number, max(here - 1, 0))
    return not (rest[-1:] == b"\n" and hash_of(head + rest[HEAD.size:-1]) == checksum)


def first_form(data):
    at = 0
    while at < len(data):
        head, length = data[at:at + 36], int.from_bytes(data[at:at + 4], "little")
        entry = data[at + 36:at + 36 + min(length, MOST_BYTES + 1)]
        if len(head) < 36 or len(entry) < length <= MOST_BYTES or not head.strip(b"\0"):
            raise torn(data, at)
        if len(entry) != length or hash_of(entry) != head[4:]:
            if at + 36 + len(entry) < len(data) or entry[-8:] != bytes(8):
                raise Damaged(f"is damaged at byte {at}")
            raise torn(data, at)
        yield entry
        at += 36 + length

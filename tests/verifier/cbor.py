"""Canonical DAG-CBOR: bytes to plain Python values, and back.

Follows: "Payloads" of manifests/README.md. Maps become dict, lists list, byte strings bytes, text str, and integers,
true, false and null themselves. There is one encoding of a value, and every other one is refused. Nothing is allocated
that the input does not have: an announced length is compared with the bytes that are there, and nesting has a bound.
"""

MAX_DEPTH = 16


class Refused(Exception):
    """Bytes that are not what they should be. The text says what is wrong, in the words of tests/attacks/README.md."""


def other_type(head):
    return Refused(f"a value is of another type than its field: head byte 0x{head:02x}")


class Reader:
    """Reads values from `data`, from the offset `at` on and never behind `end`."""

    def __init__(self, data, at=0, end=None):
        self.data, self.at, self.end = data, at, len(data) if end is None else end

    def take(self, length):
        if length > self.end - self.at:
            raise Refused("it ends too early")
        self.at += length
        return self.data[self.at - length:self.at]

    def head(self):
        """Major type, its number, and the first byte."""
        first = self.take(1)[0]
        major, short = first >> 5, first & 31
        if major == 7 and short not in (20, 21, 22) or major in (1, 6) and short != 31:
            raise other_type(first)
        if short < 24:
            return major, short, first
        if short == 31:
            raise Refused("a length is left open")
        if short > 27:
            raise other_type(first)
        number = int.from_bytes(self.take(1 << short - 24), "big")
        if number < (24, 1 << 8, 1 << 16, 1 << 32)[short - 24]:
            raise Refused("a number is longer than it must be")
        return major, number, first

    def text(self, length):
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise Refused("a text is not UTF-8") from None

    def key(self):
        major, number, first = self.head()
        if major != 3:
            raise other_type(first)
        return self.text(number)

    def value(self, depth=0):
        if depth > MAX_DEPTH:
            raise Refused("it is nested too deep")
        major, number, _ = self.head()
        if major == 0:
            return number
        if major == 2:
            return self.take(number)
        if major == 3:
            return self.text(number)
        if major == 7:
            return {20: False, 21: True, 22: None}[number]
        if number * (2 if major == 5 else 1) > self.end - self.at:
            raise Refused("it ends too early")
        if major == 4:
            return [self.value(depth + 1) for _ in range(number)]
        fields, last = {}, (-1, b"")
        for _ in range(number):
            name = self.key()
            order = (len(name.encode()), name.encode())
            if order <= last:
                raise Refused("fields are out of order or repeated")
            fields[name], last = self.value(depth + 1), order
        return fields


def decode(data):
    """The value of canonical bytes. Raises `Refused` for any other bytes."""
    reader = Reader(data)
    value = reader.value()
    if reader.at != len(data):
        raise Refused("bytes follow its end")
    return value


def head(major, number):
    if number < 24:
        return bytes([major << 5 | number])
    for short, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes([major << 5 | short]) + number.to_bytes(size, "big")
    raise ValueError("an integer of more than 64 bits")


def encode(value):
    """The canonical bytes of a value."""
    if value is None or value is True or value is False:
        return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(encode, value))
    fields = sorted((len(name.encode()), name.encode(), value[name]) for name in value)
    return head(5, len(fields)) + b"".join(head(3, size) + name + encode(inner) for size, name, inner in fields)

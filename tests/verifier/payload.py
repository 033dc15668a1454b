"""Payloads and their signatures: bytes that are read, checked by the rules of their kind, and named by their hash.

Follows: "Payloads", "Signatures" and the table of signers under "Kinds" of manifests/README.md.
"""

from collections import namedtuple

from . import cbor, ed25519, rules
from .cbor import Refused
from .hashing import ZERO, hash_of, u32
from .rules_of_genesis import Broken
from .schema import KINDS, WITHOUT_RUN

MAX_BYTES = 4_194_304
VERSION = 0

# A payload that was read: its kind, its id, the fields of its body, and its bytes.
Payload = namedtuple("Payload", "kind id body bytes")
# A payload with a signature that was verified.
Signed = namedtuple("Signed", "payload signer signature")


def decode(data, expected=None):
    """The payload of these bytes, of the expected kind if one is named. Raises `Refused` otherwise."""
    if len(data) > MAX_BYTES:
        raise Refused(f"payload of {len(data)} bytes is longer than the {MAX_BYTES} that any manifest may have")
    try:
        value = cbor.decode(data)
        kind = kind_of(value)
        if kind not in KINDS:
            raise Unknown(f'unknown kind of manifest "{kind}"')
        if expected and kind != expected:
            raise Unknown(f"manifest is of the kind {kind}, not {expected}")
        if value["version"] != VERSION:
            raise Unknown(f"{kind} manifest of version {value['version']}, this program reads version {VERSION}")
        KINDS[kind].check(value["body"])
    except Unknown:
        raise
    except Refused as error:
        raise Refused(f"payload does not decode: {error}") from None
    if cbor.encode(value) != data:
        raise Refused("payload does not decode: it is not canonical")
    try:
        rules.check(kind, value["body"])
    except Broken as error:
        raise Refused(f"{kind} manifest breaks a rule: {error}") from None
    return Payload(kind, hash_of(data), value["body"], data)


class Unknown(Refused):
    """Another kind or version."""


def kind_of(value):
    if type(value) is not dict:
        raise cbor.other_type(cbor.encode(value)[0])
    for name in value:
        if name not in ("body", "kind", "version"):
            raise Refused(f"unknown field `{name}`")
    for name, of in (("body", dict), ("kind", str), ("version", int)):
        if name not in value:
            raise Refused(f"missing field `{name}`")
        if type(value[name]) is not of:
            raise cbor.other_type(cbor.encode(value[name])[0])
    return value["kind"]


def encode(kind, body):
    """The bytes of a payload."""
    return cbor.encode({"body": body, "kind": kind, "version": VERSION})


def message(payload):
    """What a signature of a payload is over."""
    run = ZERO if payload.kind in WITHOUT_RUN else payload.body["run"]
    return b"templar/1\0" + payload.kind.encode() + b"\0" + u32(VERSION) + run + payload.id


def named_signer(payload):
    """The key that the payload itself names as its signer, or None."""
    body = payload.body
    return {"inbox": lambda: body["validator"], "score": lambda: body["validator"], "audit": lambda: body["auditor"],
            "registration": lambda: body["certificate"]["node"]}.get(payload.kind, lambda: None)()


def open_signed(data, signer, signature, expected=None):
    """A payload whose signature verifies, by the signer that it names."""
    payload = decode(data, expected)
    check_signature(payload, signer, signature)
    return Signed(payload, signer, signature)


def check_signature(payload, signer, signature):
    named = named_signer(payload)
    if named is not None and named != signer:
        raise Refused(f"{payload.kind} manifest names {named.hex()} and is signed by {signer.hex()}")
    if not ed25519.is_point(signer):
        raise Refused(f"public key {signer.hex()} is not a point of the curve")
    if not ed25519.verify(signer, message(payload), signature):
        raise Refused(f"signature by {signer.hex()} does not verify")

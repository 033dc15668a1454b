"""The rules that a payload keeps beside the types of its fields, kind by kind.

Follows: the tables under "Kinds" and "Unions" of manifests/README.md. Everything here needs the payload alone; what
needs other payloads is in the modules about a window.
"""

from . import ed25519, rules_of_genesis
from .hashing import u64
from .rules_of_genesis import PPM, ascending, ascii_text, at_most, need, not_zero
from .schema import MINT_KINDS, SLASH_CAUSES, variant

MAX_LIST = 4096
MAX_SHARD_BYTES = 2**28
KINDS_OF_EVIDENCE = ("contribution", "inbox", "score", "vote")


def check(kind, body):
    """Raises `Broken` with the rule that does not hold."""
    RULES[kind](body)


def lengths(body, *names, least=0):
    for name in names:
        need(len(body[name]) >= least, f"{name} has {len(body[name])} entries")
        need(len(body[name]) <= MAX_LIST, f"{name} has {len(body[name])} entries, at most {MAX_LIST} are allowed")


def listed(body, name, *keys, least=0):
    """A list that is strictly ascending by these fields."""
    lengths(body, name, least=least)
    ascending([tuple(entry[key] for key in keys) for entry in body[name]], name)


def dataset(d):
    ascii_text(d["name"], "name", 64)
    ascii_text(d["licence"], "licence", 128)
    ascii_text(d["source"], "source", 512)
    not_zero(d["vocab_size"], "vocab_size")
    for name in ("end_token", "start_token"):
        token = d[name]
        need(token is None or token < d["vocab_size"],
             f"{name} {token} is outside the vocabulary of {d['vocab_size']}")
    width = 2 if d["vocab_size"] <= 65536 else 4
    need(d["token_bytes"] == width,
         f"token_bytes is {d['token_bytes']}, a vocabulary of {d['vocab_size']} takes {width}")
    not_zero(d["shard_tokens"], "shard_tokens")
    not_zero(d["held_out"]["block_tokens"], "held_out.block_tokens")
    need(d["held_out"]["every"] >= 2, "held_out.every is below 2: nothing would be left to train on")
    for name in ("training", "validation"):
        for number, shard in enumerate(d[name]):
            tokens, is_last = shard["tokens"], number == len(d[name]) - 1
            fits = 1 <= tokens <= d["shard_tokens"] if is_last else tokens == d["shard_tokens"]
            need(fits and tokens * width <= MAX_SHARD_BYTES, f"{name} shard {number} has {tokens} tokens")


def contribution(c):
    for name in ("steps", "delta_bytes", "trace_bytes"):
        not_zero(c[name], name)


def certificate_message(run, certificate):
    """What the owner of a registration signs: see "Registrations"."""
    way, paid = variant(certificate["payment"])
    number = {"hashcash": "nonce", "burn": "amount_micros"}.get(way)
    return (b"templar/1\0certificate\0" + run + u64(certificate["anchor"]) + certificate["owner"] + certificate["node"]
            + bytes([("hashcash", "burn", "rotation").index(way)]) + u64(paid[number] if number else 0))


def registration(r):
    certificate = r["certificate"]
    way, paid = variant(certificate["payment"])
    need(way != "burn" or paid["amount_micros"], "payment.burn.amount_micros is zero")
    need(certificate["anchor"] <= r["window"], "certificate.anchor is above window")
    owner = certificate["owner"]
    need(ed25519.is_point(owner), f"owner_signature: public key {owner.hex()} is not a point of the curve")
    need(ed25519.verify(owner, certificate_message(r["run"], certificate), r["owner_signature"]),
         f"owner_signature: signature by {owner.hex()} does not verify")


def inbox(i):
    listed(i, "contributions", "miner")
    listed(i, "registrations", "owner")


def cut(c):
    lengths(c, "inboxes", least=1)
    inbox(c)


def reveals(r):
    listed(r, "reveals", "validator", least=1)


def refusal(value):
    name, content = variant(value)
    if name == "malformed":
        ascii_text(content["error"], "malformed.error", 512)
    elif name == "wrong-claim":
        ascii_text(content["field"], "wrong-claim.field", 64)
    elif name == "mismatch":
        ascii_text(content["tensor"], "mismatch.tensor", 256)


def replayed(entry):
    name, content = variant(entry["replay"])
    if name == "refused":
        refusal(content)
    need((entry["proof"] is not None) == (name == "match"), "proof is there exactly for a match")
    if entry["proof"]:
        need(len(entry["proof"]["witnesses"]) <= MAX_LIST, f"proof.witnesses has more than {MAX_LIST} entries")


def alike(entries):
    """The nearest deltas of a score do not contradict each other."""
    by_miner = {entry["miner"]: entry for entry in entries}
    for entry in entries:
        nearest = entry["nearest"]
        at_most(entry["overlap_ppm"], PPM, "entries.overlap_ppm")
        others = any(other["body"] for other in entries if other is not entry)
        if nearest is None:
            need(entry["overlap_ppm"] == 0, "entries: an overlap with nobody")
            need(not (entry["body"] and others), "entries: a delta without a nearest beside others")
            continue
        other = by_miner.get(nearest)
        need(other is not None and other is not entry and other["body"] and entry["body"],
             "entries: a nearest that is no other delta")
        need(entry["overlap_ppm"] <= other["overlap_ppm"], "entries: an overlap that the other entry contradicts")
        if entry["body"] == other["body"]:
            need(entry["overlap_ppm"] == PPM, "entries: equal bodies that do not overlap whole")


def score(s):
    listed(s, "entries", "miner")
    for entry in s["entries"]:
        replayed(entry)
        name, measured = variant(entry["evaluation"])
        if name == "measured":
            need(len(measured["witnesses"]) <= MAX_LIST, f"evaluation.witnesses has more than {MAX_LIST} entries")
    alike(s["entries"])
    listed(s, "verdicts", "window", "miner")
    for verdict in s["verdicts"]:
        replayed(verdict)
        name, content = variant(verdict["replay"])
        said = variant(content)[0] if name == "refused" else name
        need(said in ("match", "mismatch", "malformed", "wrong-claim", "withheld"),
             "verdicts: neither a match nor a refusal that can come late")
    listed(s, "evidence", "signer", "window")
    need(len(s["evidence"]) <= 4, f"evidence has {len(s['evidence'])} entries, at most 4 are allowed")
    listed(s, "contests", "miner")
    need(len(s["contests"]) <= 4, "contests has more than 4 entries")


def window(w):
    need((w["previous"] is None) == (w["window"] == 0), "previous is null exactly for window 0")


def body(b):
    listed(b, "reveals", "validator", least=1)
    lengths(b, "scores", least=1)
    listed(b, "outcomes", "miner")
    for outcome in b["outcomes"]:
        name, content = variant(outcome["verdict"])
        if name == "refused":
            refusal(content)
    listed(b, "weights", "miner")
    need(all(weight["weight_ppm"] for weight in b["weights"]), "weights lists a weight of zero")
    need(sum(weight["weight_ppm"] for weight in b["weights"]) <= PPM, f"weights adds up to more than {PPM}")
    ascending([(mint["account"], MINT_KINDS.index(mint["kind"])) for mint in b["mints"]], "mints")
    listed(b, "refuted", "validator")
    need(all(refuted["window"] <= b["window"] for refuted in b["refuted"]),
         "refuted: a statement on a window that is not closed")
    for refuted in b["refuted"]:
        need(refuted["score"] not in b["scores"], f"refuted: score {refuted['score'].hex()} is counted")
    ascending([(burn["account"], SLASH_CAUSES.index(burn["cause"]), burn["window"]) for burn in b["burns"]], "burns")
    ascending([(challenge["window"], challenge["miner"]) for challenge in b["challenges"]], "challenges")
    for challenge in b["challenges"]:
        need(challenge["window"] < challenge["since"] <= b["window"],
             "challenges: one since a window that is not behind its own, or not closed")
    listed(b, "admissions", "owner")


def vote(_):
    """A vote has no rule beside its types."""


def tensors(payload):
    lengths(payload, "tensors", least=1)
    for tensor in payload["tensors"]:
        name, shape = tensor["spec"]["name"], tensor["spec"]["shape"]
        ascii_text(name, "tensor's name", 256)
        need(1 <= len(shape) <= 2 and all(shape), f"tensor {name} has the shape {shape}")
        elements = shape[0] * (shape[1] if len(shape) == 2 else 1)
        need(elements * 12 < 2**63, f"tensor {name} does not fit in memory")


def state(s):
    need(s["optimizer_steps"] <= 2**48, f"optimizer_steps is above {2**48}")
    tensors(s)


def audit(a):
    listed(a, "contributions", "miner")
    verdicts = [a["record_verdict"], a["checkpoint_verdict"], a["ledger_verdict"]]
    for verdict in verdicts + [entry["verdict"] for entry in a["contributions"]]:
        name, content = variant(verdict)
        if name != "match":
            ascii_text(content["what"], "what", 1024)


RULES = {
    "genesis": rules_of_genesis.check, "dataset": dataset, "contribution": contribution, "registration": registration,
    "inbox": inbox, "cut": cut, "reveals": reveals, "score": score, "window": window, "body": body, "vote": vote,
    "checkpoint": tensors, "state": state, "audit": audit,
}

"""Links between payloads and blobs that no rule of a window needs, as far as both ends are here.

Follows: the tables "checkpoint", "state" and "audit", and "Trace" under "Blobs" of manifests/README.md. Nothing here
reads an element of a tensor; but a blob that is here has the hash that its name says (`folder.py`).
"""

import os

from .hashing import u64
from .rules_of_genesis import order_of_tensors


def check(run):
    """Checks every checkpoint, state, trace and audit that is here, and notes faults and counts in the run."""
    model = [{"name": name, "shape": shape} for name, shape in order_of_tensors(run.genesis.body["model"])]
    for kind in ("checkpoint", "state"):
        for payload in run.folder.of_kind(kind):
            if payload.body["run"] != run.genesis.id:
                continue
            run.counts[kind] += 1
            if [tensor["spec"] for tensor in payload.body["tensors"]] != model:
                run.fault(f"{kind} {payload.id.hex()}", "its tensors are not the model's, in their order")
    for window, header in enumerate(run.headers):
        checkpoint = run.folder.payloads.get(header["checkpoint"])
        if checkpoint and (checkpoint.kind != "checkpoint" or checkpoint.body["window"] != window + 1
                           or checkpoint.body["run"] != run.genesis.id):
            run.fault(f"window {window}", "the checkpoint of the record is not one of the next window")
    for judging, body in zip(run.judgings, run.bodies):
        verdicts = {outcome["miner"]: outcome["verdict"] for outcome in body["outcomes"]}
        for signed in judging.contributions:
            if verdicts[signed.payload.body["miner"]] in ("aggregated", "reserve", "excluded"):
                check_contribution(signed.payload.body, signed.payload.id, run, len(model))
    for audit in run.folder.of_kind("audit"):
        if audit.body["run"] == run.genesis.id and audit.body["window"] < len(run.records):
            check_audit(audit, run)


def check_contribution(c, digest, run, tensors):
    """An accepted contribution: the states that it names are as many steps apart as it took, and its delta and trace
    are as long as it says."""
    place = f"contribution {digest.hex()}"
    before, after = (run.folder.payloads.get(c[name]) for name in ("state_in", "state_out"))
    steps = before.body["optimizer_steps"] if before else 0 if c["parent"] is None else None
    if after and steps is not None and after.body["optimizer_steps"] != steps + c["steps"]:
        run.fault(place, "its states are not as many steps apart as it says")
    for name in ("delta", "trace"):
        file = run.folder.blobs.get(c[name])
        if file is None:
            continue
        run.counts["linked blobs"] += 1
        if os.path.getsize(file) != c[f"{name}_bytes"]:
            run.fault(place, f"{name}_bytes is not the length of the {name}")
        elif name == "trace":
            with open(file, "rb") as opened:
                check_trace(opened.read(c["trace_bytes"]), c, after, place, run, tensors)


def check_trace(data, c, after, place, run, tensors):
    head = (b"tplrtrc0" + c["run"] + u64(c["window"]) + c["miner"] + c["steps"].to_bytes(4, "little")
            + tensors.to_bytes(4, "little"))
    leaf = 8 + 32 * tensors
    if data[:88] != head or len(data) != 88 + (c["steps"] + 2) * leaf:
        return run.fault(place, "its trace is not one of this contribution")
    if after and data[-leaf:] != bytes(8) + b"".join(tensor["blob"] for tensor in after.body["tensors"]):
        run.fault(place, "the last leaf of its trace is not its state_out")


def check_audit(audit, run):
    """An audit is of a record of this run, and says something about each of its contributions."""
    run.counts["audit"] += 1
    number = audit.body["window"]
    named = [(of["miner"], of["contribution"]) for of in audit.body["contributions"]]
    outcomes = [(of["miner"], of["contribution"]) for of in run.bodies[number]["outcomes"]]
    if audit.body["record"] != run.records[number]:
        run.fault(f"audit {audit.id.hex()}", "it is of another record than the one of its window")
    elif named != outcomes:
        run.fault(f"audit {audit.id.hex()}", "it is not about the contributions of its record")

"""Judges inputs one by one: for the tests that compare this implementation's answers with those of `templar`.

Follows: tests/attacks/README.md, which has one hostile input for each rule with the answer of the program. It reads
lines of JSON and prints one line for each, with the answer, or null where nothing is wrong:

    {"kind": "inbox", "payload": "a364…"}       a payload that should be of this kind
    {…, "signer": …, "signature": …}            the same with a signature; "expected" is who should have signed
    {"entry": "00…"}                            an entry
    {"key": …, "passes": [four hashes]}         a measurement: prints the claim of a proof of evaluation
    {"files": […], "entries": […], "expect": …} a run: payloads, entries, and a record that must be there
"""

import json
import sys

from . import entries, folder, payload
from .cbor import Refused
from .draws import evaluation_claim
from .run import Run


def judge(line):
    if "entries" in line:
        return judge_run(line)
    if "passes" in line:
        return evaluation_claim(bytes.fromhex(line["key"]), map(bytes.fromhex, line["passes"])).hex()
    try:
        if "entry" in line:
            entries.decode(bytes.fromhex(line["entry"]))
            return None
        data = bytes.fromhex(line["payload"])
        if "signer" not in line:
            payload.decode(data, line["kind"])
            return None
        signer = bytes.fromhex(line["signer"])
        signed = payload.open_signed(data, signer, bytes.fromhex(line["signature"]), line["kind"])
        if line.get("expected", line["signer"]) != line["signer"]:
            return f"{signed.payload.kind} manifest names {line['expected']} and is signed by {signer.hex()}"
    except Refused as error:
        return str(error)
    return None


def judge_run(line):
    found = folder.Folder()
    for data in line["files"]:
        found.add_payload(bytes.fromhex(data), "a file")
    for number, data in enumerate(line["entries"]):
        found.add_entry(bytes.fromhex(data), f"entry {number}")
    run = Run(found)
    run.check()
    if "expect" in line and not run.faults and not run.missing:
        run.expect(bytes.fromhex(line["expect"]))
    for fault in run.faults:
        return fault.why
    for missing in run.missing:
        return missing.partition(": ")[2]
    return None


if __name__ == "__main__":
    for text in sys.stdin:
        print(json.dumps(judge(json.loads(text))), flush=True)

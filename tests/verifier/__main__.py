"""The command line: `python3 -m verifier RUN_FOLDER`, or `python3 tests/verifier RUN_FOLDER`.

See README.md in this folder for what is checked, what is not, and the exit codes.
"""

import argparse
import json
import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = "verifier"
    import verifier  # noqa: F401

from verifier import folder, hashing
from verifier.report import Report
from verifier.run import Run


def digest(text):
    value = bytes.fromhex(text)
    if len(value) != 32:
        raise ValueError
    return value


def told(text):
    """ZERO_STATE:TOKENS"""
    zero, _, tokens = text.partition(":")
    return digest(zero), int(tokens)


def arguments(given):
    parser = argparse.ArgumentParser(prog="verifier", description="Check a run of templar with a second "
                                     "implementation of its rules. Exit codes: 0 match, 4 mismatch, 5 something is "
                                     "missing or damaged here, 3 no run here, 2 wrong command line.")
    parser.add_argument("folder", metavar="RUN_FOLDER", help="a home of templar, or a folder of files <kind>-<hash>")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--expect", type=digest, metavar="RECORD", help="a record that must be there and certified")
    parser.add_argument("--derived", action="store_true", help="add to the JSON what was drawn for every window")
    parser.add_argument("--simulated", type=told, metavar="ZERO_STATE:TOKENS",
                        help="a simulated run, which has no dataset: its zero state and number of training tokens")
    return parser.parse_args(given)


def main(given=None):
    options = arguments(given)
    try:
        found = folder.read(options.folder)
    except folder.NotFound as error:
        print(json.dumps({"error": str(error)}) if options.json else f"error: {error}",
              file=sys.stdout if options.json else sys.stderr)
        return 3
    if hashing.package is None and not options.json:
        print("hint: BLAKE3 is computed in Python; `pip install blake3` makes this faster", file=sys.stderr)
    runs = []
    for each in found:
        run = Run(each, options.simulated)
        run.check()
        if options.expect:
            run.expect(options.expect)
        runs.append(run)
    report = Report(runs)
    if options.json:
        answer = report.json()
        if options.derived:
            from verifier.derived import of_run
            for part, run in zip(answer["runs"], runs):
                part["derived"] = of_run(run)
        print(json.dumps(answer))
    else:
        print(report.text())
    return report.code


if __name__ == "__main__":
    sys.exit(main())

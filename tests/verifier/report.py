"""What was checked and what was found, for people and for programs.

The words and exit codes are those of `templar verify`: `match` (0), `mismatch` (4) for what is whole and breaks the
rules, and `unavailable` (5) for what this folder has lost.
"""

EXIT = {"match": 0, "mismatch": 4, "unavailable": 5}
DAMAGED = "damaged here: "
NAMES = (("contribution", "contributions"), ("registration", "registrations"), ("inbox", "inboxes"), ("cut", "cuts"),
         ("reveal", "hash-chain values"), ("score", "scores"), ("vote", "votes"), ("record", "records"),
         ("evidence", "pieces of evidence"), ("checkpoint", "checkpoints"), ("state", "states"), ("audit", "audits"))


class Report:
    """The answer about one or more runs of a folder."""

    def __init__(self, runs):
        self.runs = runs
        broken = [fault for run in runs for fault in run.faults if not fault.is_ours]
        lost = [DAMAGED + str(fault) for run in runs for fault in run.faults if fault.is_ours]
        lost += [line for run in runs for line in run.missing]
        self.verdict = "mismatch" if broken else "unavailable" if lost else "match"
        self.what = str(broken[0]) if broken else lost[0] if lost else None
        self.code = EXIT[self.verdict]

    def json(self):
        return {"verdict": self.verdict, "what": self.what, "runs": [self.run(run) for run in self.runs]}

    def run(self, run):
        state = run.state
        return {
            "run": run.genesis.id.hex() if run.genesis else None,
            "name": run.genesis.body["name"] if run.genesis else None,
            "windows": run.counts["windows"],
            "records": [record.hex() for record in run.records],
            "state_root": run.headers[-1]["state_root"].hex() if run.headers else None,
            "entries": run.folder.entry_count,
            "checked": {name: run.counts[kind] for kind, name in NAMES},
            "certificates": run.counts["certificates"],
            "contests": run.counts["contest"], "refuted": run.counts["refuted"],
            "blobs": len(run.folder.blobs), "blob_bytes": run.folder.blob_bytes,
            "minted_micros": state.minted if state else 0, "burnt_micros": state.burnt if state else 0,
            "treasury_micros": state.treasury if state else 0,
            "faults": [{"where": fault.where, "why": fault.why, "damaged_here": fault.is_ours} for fault in run.faults],
            "missing": run.missing,
        }

    def text(self):
        return "\n".join([line for run in self.runs for line in self.lines(run)] + [self.last_line()])

    def lines(self, run):
        if run.genesis is None:
            return []
        counted = ", ".join(f"{run.counts[kind]:,} {name}" for kind, name in NAMES if run.counts[kind])
        number = run.counts["windows"]
        name = f"{run.genesis.id.hex()} ({run.genesis.body['name']})"
        lines = [f"run {name}: {windows(number)} closed, from the genesis on",
                 f"  decoded and encoded again to the same bytes, with valid signatures: {counted}",
                 f"  certificates of more than two thirds of the stake: {run.counts['certificates']:,}"]
        if run.counts["refuted"]:
            lines += [f"  statements of scores that records refute: {run.counts['refuted']:,}; counted contests of "
                      f"measurements: {run.counts['contest']:,}"]
        if number:
            held = run.state
            lines += [f"  computed again in {windows(number)}: cut, seed, pages, drawn replays and evaluators, what "
                      "scores may say,",
                      "    findings, standings, outcomes, weights, mints, slashes, members, and the root of the state",
                      f"  supply: {held.minted:,} micro-ALPHA minted, {held.burnt:,} burnt, {held.treasury:,} in the "
                      "treasury; the accounts add up"]
        if run.folder.blobs:
            lines.append(f"  hashed: {len(run.folder.blobs):,} files of tensors and tokens, "
                         f"{run.folder.blob_bytes:,} bytes")
        lines += [f"  {DAMAGED if fault.is_ours else ''}{fault}" for fault in run.faults]
        return lines + [f"  missing: {line}" for line in run.missing]

    def last_line(self):
        if self.verdict == "match":
            return "match: nothing was found that breaks a rule (no replay of training and no loss was computed)"
        return f"{self.verdict}: {self.what}"


def windows(number):
    return "1 window" if number == 1 else f"{number:,} windows"

#!/usr/bin/env python3
"""Training and evaluation, side by side: this program, PyTorch and candle's automatic differentiation.

    python3 tests/compare/step.py --torch PYTHON [--model medium|100M] [--threads 1 2] [--rounds 20]

PYTHON is an interpreter that has PyTorch (and needs nothing else); without it that row is left out. The contestants start from
the same parameters and see the same tokens. Each is a process that waits for a line, does one step and answers with its loss
and time, so they take turns, and none runs while another is measured. Printed are finished rows of the tables in
crates/templar-model/BENCH.md, and the losses, which show that all compute the same.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTEST = ROOT / "target/release/examples/contest"


class Contestant:
    def __init__(self, name, command, threads):
        self.name = name
        environment = os.environ | {
            key: str(threads) for key in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        }
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.expect("ready")
        self.before = self.memory("VmRSS")
        self.say("load")
        self.expect("loaded")
        self.results = {"train": [], "eval": []}

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended early")
        return line.strip()

    def expect(self, word):
        line = self.hear()
        if line != word:
            sys.exit(f"{self.name} says {line!r}, not {word!r}")

    def memory(self, field):
        """Megabytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024 / 1e6

    def cpu(self):
        """Seconds of all threads so far, to a hundredth."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def do(self, what):
        before = self.cpu()
        self.say(what)
        loss, seconds = self.hear().split()
        self.results[what].append((float(loss), float(seconds), self.cpu() - before))

    def end(self):
        self.peak = self.memory("VmHWM")
        self.process.stdin.close()
        self.process.wait()


def rates(results, tokens):
    """Tokens a second, best and median, and CPU seconds; the first step left out."""
    seconds = [seconds for _, seconds, _ in results[1:]]
    cpu = statistics.mean(cpu for _, _, cpu in results[1:])
    return tokens / min(seconds), tokens / statistics.median(seconds), cpu


def table(what, contestants, tokens, threads):
    memory = what == "train"
    print(f"\n{'training step' if memory else 'evaluation'}, threads {threads}\n")
    heading = "| | tokens/s best | ours / it | tokens/s median | ours / it | CPU s a step |"
    print(heading + (" peak RSS, MB | ours / it | of it before the model |" if memory else ""))
    print("|---" * (9 if memory else 6) + "|")
    ours = rates(contestants[0].results[what], tokens)
    for contestant in contestants:
        best, median, cpu = rates(contestant.results[what], tokens)
        row = f"| {contestant.name} | {best:,.0f} | {ours[0] / best:.2f} | {median:,.0f} | {ours[1] / median:.2f} | {cpu:.2f} |"
        if memory:
            row += f" {contestant.peak:,.0f} | {contestants[0].peak / contestant.peak:.2f} | {contestant.before:,.0f} |"
        print(row)


def losses(contestants):
    print("\n| loss of step | " + " | ".join(c.name for c in contestants) + " |")
    print("|---|" + "---|" * len(contestants))
    count = len(contestants[0].results["train"])
    for step in sorted({0, 1, 2, 3, 4, count - 1}):
        row = [f"{c.results['train'][step][0]:.6f}" for c in contestants if step < len(c.results["train"])]
        print(f"| {step + 1} | " + " | ".join(row) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter that has PyTorch")
    parser.add_argument("--model", default="medium", choices=["medium", "100M"])
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--without-candle", action="store_true")
    arguments = parser.parse_args()
    build = ["cargo", "build", "--release", "--locked", "-p", "templar", "-p", "templar-model", "--example", "contest"]
    subprocess.run(build, cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([CONTEST, "prepare", folder, arguments.model], check=True)
        tokens = int((Path(folder) / "step_tokens").read_text())
        for threads in arguments.threads:
            commands = [("templar", [CONTEST, "templar", folder]), ("templar, recomputing", [CONTEST, "recompute", folder])]
            if arguments.torch:
                script = ROOT / "tests/compare/torch/train.py"
                version = [arguments.torch, "-c", "import torch; print(torch.__version__)"]
                version = subprocess.run(version, check=True, capture_output=True, text=True).stdout.strip()
                commands.append((f"PyTorch {version}", [arguments.torch, script, folder]))
            if not arguments.without_candle:
                commands.append(("candle autograd", [CONTEST, "candle", folder]))
            contestants = [Contestant(name, command, threads) for name, command in commands]
            for what in ["train"] * arguments.rounds + ["eval"] * arguments.rounds:
                for contestant in contestants:
                    # What the one before it leaves spinning comes to rest first.
                    time.sleep(0.1)
                    contestant.do(what)
            for contestant in contestants:
                contestant.end()
            table("train", contestants, tokens, threads)
            table("eval", contestants, tokens, threads)
            losses(contestants)


main()

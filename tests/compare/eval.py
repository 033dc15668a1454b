#!/usr/bin/env python3
"""Compares `templar eval` with lm-evaluation-harness, question by question, on the same model and the same files.

    python3 -m venv V && V/bin/pip install lm_eval==0.4.13 torch transformers accelerate pyarrow
    V/bin/python tests/compare/eval.py --program target/release/templar --model DIR --task arc_easy=TEST.parquet
    V/bin/python tests/compare/eval.py --program target/release/templar --model DIR \\
        --task mmlu=TEST.jsonl --fewshot 5 --fewshot-from DEV.jsonl

The harness runs on the CPU with `dtype=float32` and `batch_size=1`, unless --batch says otherwise, and offline: the files
stand in for the published data sets. `--task` may be given several times; `--fewshot` then holds for all of them, with the
files of --fewshot-from in the same order (or none, where the task shows its own questions).

Every question of which the two choose another answer, or count another result, is printed with both lists of sums. Two
arithmetics differ in the last bits, so where the two best sums lie closer together than 1e-4 nats either choice counts as
right. A question that differs otherwise, or a sum that differs by more than 1e-2 nats, ends the script with exit code 1.
`--invented` makes small files of the shape of each task, with invented text, and compares on them.

Times are CPU seconds, because a clock says nothing on a machine that other people use. Those of the harness are of its
log-likelihoods alone, tokenisation included; those of templar are the whole process.
"""

import argparse
import functools
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

CLOSE = 1e-4
FAR = 1e-2
# Which split of the harness the questions and the examples stand for.
SPLITS = {
    "arc_easy": ("test", "train"),
    "arc_challenge": ("test", "train"),
    "hellaswag": ("validation", "train"),
    "piqa": ("validation", "train"),
    "winogrande": ("validation", "train"),
    "openbookqa": ("test", "train"),
    "sciq": ("test", "train"),
    "mmlu": ("test", "dev"),
    "lambada_openai": ("test", "test"),
}


def rows_of(path):
    """The rows of a file in any of the three formats."""
    import pyarrow.ipc
    import pyarrow.parquet

    path = pathlib.Path(path)
    start = path.open("rb").read(8)
    if start.startswith(b"PAR1"):
        return pyarrow.parquet.read_table(path).to_pylist()
    if start.startswith(b"ARROW1"):
        return pyarrow.ipc.open_file(path).read_all().to_pylist()
    if start.startswith(b"\xff\xff\xff\xff"):
        return pyarrow.ipc.open_stream(path).read_all().to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def parquet(rows, path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return str(path)


@functools.cache
def definitions():
    """Where the harness defines each task. It reads thousands of files for that."""
    return manager().task_index


@functools.cache
def manager():
    import lm_eval.tasks

    return lm_eval.tasks.TaskManager()


def configs(task, rows, examples, folder):
    """The harness' own definitions of a task, over local files: one, or of MMLU one for each subject in the files."""
    from lm_eval.tasks._yaml_loader import load_yaml

    split, shown = SPLITS[task]
    index = definitions()

    def config(name, rows, examples):
        config = dict(load_yaml(index[name].yaml_path, resolve_func=True))
        files = {split: parquet(rows, folder / f"{name}-{split}.parquet")}
        if shown != split:
            # A split that is not used must exist all the same.
            files[shown] = parquet(examples or rows[:1], folder / f"{name}-{shown}.parquet")
        elif examples and examples != rows:
            raise SystemExit(f"{task} shows its own questions: give the same file to both")
        config.update(dataset_path="parquet", dataset_name=None, dataset_kwargs={"data_files": files})
        config.pop("tag", None)
        return config

    if task != "mmlu":
        return [(config(task, rows, examples), rows)]
    found = []
    for subject in sorted({row["subject"] for row in rows}):
        of = lambda rows: [row for row in rows if row["subject"] == subject]
        found.append((config(f"mmlu_{subject}", of(rows), of(examples)), of(rows)))
    return found


def harness(timed, task, rows, examples, shots, limit, folder):
    """The sums, greedy flags and results of each question by the harness, and the CPU seconds that it took."""
    import lm_eval

    found, before = [], timed.seconds
    for config, _ in configs(task, rows, examples, folder):
        result = lm_eval.simple_evaluate(
            model=timed,
            tasks=[config],
            num_fewshot=shots,
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
            task_manager=manager(),
        )
        samples = sorted(result["samples"][config["task"]], key=lambda sample: sample["doc_id"])
        for sample in samples:
            answers = [response[0] if isinstance(response[0], (list, tuple)) else response for response in sample["resps"]]
            found.append(
                {
                    "sums": [float(answer[0]) for answer in answers],
                    "greedy": [str(answer[1]) == "True" for answer in answers],
                    "correct": bool(sample["acc"]),
                    "correct_normalised": bool(sample["acc_norm"]) if "acc_norm" in sample else None,
                    "contexts": [list(argument) for argument in arguments_of(sample)],
                }
            )
    return found, timed.seconds - before


def arguments_of(sample):
    arguments = sample["arguments"]
    if isinstance(arguments, dict):
        arguments = [[request["arg_0"], request["arg_1"]] for request in arguments.values()]
    return arguments


def templar(program, model, task, file, examples, shots, limit, folder):
    """The same by templar."""
    samples = folder / "samples.jsonl"
    command = [program, "eval", "--json", "--task", task, "--file", file, "--model", model, "--samples", str(samples)]
    if shots:
        command += ["--fewshot", str(shots), "--fewshot-from", examples]
    if limit:
        command += ["--limit", str(limit)]
    started = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    found = []
    for line in samples.read_text().splitlines():
        row = json.loads(line)
        normalised = row["chosen_normalised"]
        found.append(
            {
                "sums": row["log_likelihoods"],
                "greedy": row["greedy"],
                "correct": row["correct"],
                "correct_normalised": None if normalised is None else normalised == row["gold"],
            }
        )
    return found, seconds, json.loads(done.stdout)


def gap(numbers):
    """How far the two largest numbers lie apart."""
    best = sorted(numbers, reverse=True)
    return best[0] - best[1] if len(best) > 1 else float("inf")


def compare(task, ours, theirs):
    """The questions that differ, the number of them that may not, and the largest difference of two sums."""
    if len(ours) != len(theirs):
        raise SystemExit(f"{task}: {len(ours)} questions against {len(theirs)}")
    differing, wrong, largest = [], 0, 0.0
    for number, (our, their) in enumerate(zip(ours, theirs, strict=True), 1):
        apart = max(abs(one - other) for one, other in zip(our["sums"], their["sums"], strict=True))
        largest = max(largest, apart)
        lengths = [max(len(text[1]) - 1, 1) for text in their["contexts"]]
        fields = [("acc", "correct", gap(their["sums"]))]
        if their["correct_normalised"] is not None:
            by_length = [total / length for total, length in zip(their["sums"], lengths, strict=True)]
            fields.append(("acc_norm", "correct_normalised", gap(by_length)))
        for name, field, distance in fields:
            if our[field] != their[field]:
                is_wrong = distance > CLOSE
                wrong += is_wrong
                differing.append((number, name, distance, our["sums"], their["sums"], is_wrong))
        if our["greedy"] != their["greedy"] and task == "lambada_openai" and our["correct"] == their["correct"]:
            differing.append((number, "greedy", float("nan"), our["sums"], their["sums"], True))
            wrong += 1
        if apart > FAR:
            wrong += 1
            differing.append((number, f"sums {apart:.2e} apart", float("nan"), our["sums"], their["sums"], True))
    return differing, wrong, largest


def invented(folder):
    """A small file of each task, and one with examples, all of invented text."""
    things = ["a lamp", "the red barn", "two geese", "an old map", "her brother", "wet sand", "the small drum"]
    places = ["by the river", "under a roof", "in March", "behind the mill", "on a Monday", "near home"]

    def text(seed, words=2):
        return ", ".join(f"{things[(seed * 3 + word) % 7]} {places[(seed + word * 5) % 6]}" for word in range(words))

    def labelled(field):
        return lambda n: {
            field: f"What is seen with {text(n)}?",
            "choices": {"text": [text(n + k, 1 + k % 2) for k in range(4)], "label": ["A", "B", "C", "D"]},
            "answerKey": "ABCD"[n % 4],
        }

    rows = {
        "arc_easy": labelled("question"),
        "arc_challenge": labelled("question"),
        "openbookqa": labelled("question_stem"),
        "hellaswag": lambda n: {
            "activity_label": f"Carrying {things[n % 7]}",
            "ctx_a": f"[header] How to carry {things[n % 7]} [title] Begin early.  Then wait." if n % 3 else "A man waits.",
            "ctx_b": f"then Ann and BEA [step] look at {text(n, 1)}" if n % 2 else "",
            "endings": [f"[substeps] {text(n + k)}." if k % 2 else f" {text(n + k, 1)}  ends." for k in range(4)],
            "label": str(n % 4),
        },
        "piqa": lambda n: {
            "goal": f"How to hold {text(n, 1)}{' ' if n % 5 == 0 else ''}",
            "sol1": f"Use {text(n + 1)}.",
            "sol2": f" Use {text(n + 2)}, gently.",
            "label": n % 2,
        },
        "winogrande": lambda n: {
            "sentence": f"Ann gave Bea {text(n, 1)} because _ was {'late' if n % 2 else 'early'}.",
            "option1": "Ann",
            "option2": "Bea",
            "answer": "12"[n % 2],
        },
        "sciq": lambda n: {
            "question": f"What stands beside {text(n, 1)}?",
            "support": f"\n It is known that {text(n + 3)}." if n % 3 else "",
            "distractor1": text(n + 1, 1),
            "distractor2": text(n + 2, 1),
            "distractor3": text(n + 3, 1),
            "correct_answer": text(n + 4, 1),
        },
        "mmlu": lambda n: {
            "subject": ["abstract_algebra", "world_religions"][n % 2],
            "question": f" Which holds for {text(n)}?",
            "choices": [text(n + k, 1) for k in range(4)],
            "answer": n % 4,
        },
        "lambada_openai": lambda n: {"text": f"Once there was {text(n, 3)}, and in the end there was{chr(10) if n % 2 else ' '}rain{n % 3}"},
    }
    found = []
    for task, row in rows.items():
        made = [row(n) | {"id": f"{n}"} for n in range(40)]
        path, more = folder / f"{task}.jsonl", folder / f"{task}-more.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in made))
        shown = made if task == "lambada_openai" else [row(n) | {"id": f"{n}"} for n in range(30, 70)]
        more.write_text("".join(json.dumps(row) + "\n" for row in shown))
        found.append((task, str(path), str(more)))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/templar")
    parser.add_argument("--model", required=True, help="a Hugging Face folder of the Llama architecture")
    parser.add_argument("--task", action="append", default=[], metavar="TASK=FILE")
    parser.add_argument("--fewshot", type=int, default=0)
    parser.add_argument("--fewshot-from", action="append", default=[], metavar="FILE")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--batch", type=int, default=1, help="sequences that the harness computes together")
    parser.add_argument("--threads", type=int, help="threads of both")
    parser.add_argument("--invented", action="store_true")
    arguments = parser.parse_args()

    import torch
    import transformers
    from lm_eval.models.huggingface import HFLM

    class Timed(HFLM):
        """The model, with the CPU seconds that its log-likelihoods took."""

        seconds = 0.0

        def loglikelihood(self, *arguments, **named):
            started = time.process_time()
            found = super().loglikelihood(*arguments, **named)
            self.seconds += time.process_time() - started
            return found

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)
    config = json.loads((pathlib.Path(arguments.model) / "config.json").read_text())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        # A folder without tokenizer_config.json gives a tokenizer that knows neither beginning nor end.
        tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)
        for role in ("bos_token", "eos_token"):
            number = config.get(f"{role}_id")
            if getattr(tokenizer, role) is None and isinstance(number, int):
                setattr(tokenizer, role, tokenizer.convert_ids_to_tokens(number))
        model = Timed(
            pretrained=arguments.model, tokenizer=tokenizer, dtype="float32", batch_size=arguments.batch, device="cpu"
        )
        jobs = [(*task.split("=", 1), None) for task in arguments.task]
        jobs = [(task, file, more) for (task, file, _), more in zip(
            jobs, arguments.fewshot_from + [None] * len(jobs), strict=False)]
        if arguments.invented:
            jobs += invented(folder)
        total = 0
        print("| task | examples | questions | acc: ours, theirs | acc_norm: ours, theirs | differ | largest difference of "
              "sums | CPU seconds: ours, theirs |\n|---|---|---|---|---|---|---|---|")
        for task, file, more in jobs:
            shots = arguments.fewshot
            rows, examples = rows_of(file), rows_of(more or file) if shots else []
            theirs, their_seconds = harness(model, task, rows, examples, shots, arguments.limit, folder)
            ours, our_seconds, _ = templar(
                arguments.program, arguments.model, task, sorted_file(task, rows, file, folder), more or file, shots,
                arguments.limit, folder,
            )
            differing, wrong, largest = compare(task, ours, theirs)
            share = lambda found, field: sum(question[field] for question in found) / len(found)
            norm = "–"
            if ours[0]["correct_normalised"] is not None:
                norm = f"{share(ours, 'correct_normalised'):.4f}, {share(theirs, 'correct_normalised'):.4f}"
            print(f"| {task} | {shots} | {len(ours)} | {share(ours, 'correct'):.4f}, {share(theirs, 'correct'):.4f} | {norm} "
                  f"| {len(differing)}, of these wrong: {wrong} | {largest:.1e} | {our_seconds:.1f}, {their_seconds:.1f} |",
                  flush=True)
            for number, what, distance, our, their, is_wrong in differing:
                verdict = "WRONG" if is_wrong else f"the two best are {distance:.1e} apart"
                print(f"    question {number}, {what}: {verdict}\n      ours   {our}\n      theirs {their}")
            total += wrong
    print("no question differs" if total == 0 else f"{total} questions differ")
    return 1 if total else 0


def sorted_file(task, rows, file, folder):
    """The questions in the order of the harness, which takes the subjects of MMLU one after the other."""
    if task != "mmlu":
        return file
    path = folder / "mmlu-sorted.jsonl"
    rows = sorted(rows, key=lambda row: row["subject"])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


if __name__ == "__main__":
    sys.exit(main())

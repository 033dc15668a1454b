#!/usr/bin/env bash
# lm-eval shows a question other few-shot examples when it is evaluated through --samples.
#
# Expected: picking single questions with --samples repeats what the full evaluation asked, so that one answer can be looked into.
# Observed: the examples come from one random generator per task, which moves on with each question that is built. --limit builds
#   the questions from the first on and gives the same prompts as a full run; --samples skips questions, so the generator stands
#   elsewhere and the prompt has other examples.
# Matters:  a re-run of disputed questions, and an evaluation split into parts by question, score other prompts than the full run.
# Seen:     2026-11-30, Python 3.11 on Linux (a toy task with two examples, question 7):
#   lm_eval 0.4.13
#   full run:     example 1, example 22, question 7
#   limit=8:      example 1, example 22, question 7
#   samples=[7]:  example 49, example 28, question 7
# Needs:    python3 with venv; about 800 MB in the temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet 'lm_eval[api]==0.4.13' datasets==5.2.0
mkdir "$dir/task"
cd "$dir/task"
HF_HUB_OFFLINE=1 HF_HOME="$dir/hf" "$dir/venv/bin/python" - 2> "$dir/log" <<'PY' || { cat "$dir/log" >&2; exit 1; }
import importlib.metadata
import json
import pathlib
import re

import lm_eval
from lm_eval.tasks import TaskManager

here = pathlib.Path.cwd()
rows = lambda word, n: "".join(json.dumps({"q": f"{word} {i}", "a": f"answer {i}"}) + "\n" for i in range(n))
(here / "test.jsonl").write_text(rows("question", 20))
(here / "train.jsonl").write_text(rows("example", 50))
(here / "toy.yaml").write_text(f"""
task: toy
dataset_path: json
dataset_kwargs:
  data_files: {{test: {here}/test.jsonl, train: {here}/train.jsonl}}
test_split: test
fewshot_split: train
num_fewshot: 2
output_type: generate_until
doc_to_text: "Q: {{{{q}}}}\\nA:"
doc_to_target: "{{{{a}}}}"
generation_kwargs: {{until: ["\\n"]}}
metric_list: [{{metric: exact_match}}]
""")


def prompt(**selection):
    """What question 7 is asked with, in short."""
    manager = TaskManager(include_path=str(here), include_defaults=False)
    results = lm_eval.simple_evaluate(
        model="dummy", tasks=["toy"], task_manager=manager, log_samples=True, bootstrap_iters=0, **selection
    )
    sample = next(sample for sample in results["samples"]["toy"] if sample["doc_id"] == 7)
    arguments = sample["arguments"]
    text = arguments["gen_args_0"]["arg_0"] if isinstance(arguments, dict) else arguments[0][0]
    return ", ".join(re.findall(r"(?:example|question) \d+", text))


full, limited, sampled = prompt(), prompt(limit=8), prompt(samples={"toy": [7]})
print(f"lm_eval {importlib.metadata.version('lm_eval')}")
print(f"full run:     {full}\nlimit=8:      {limited}\nsamples=[7]:  {sampled}")
assert full == limited, "changed: limit gives other examples than the full run"
assert full != sampled and full.endswith("question 7"), "changed: samples gives the examples of the full run"
PY

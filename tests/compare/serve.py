#!/usr/bin/env python3
"""Asks a running `templar serve` as its clients do: PyPI's `openai`, `lm_eval` with `local-completions`, and curl.

    python3 -m venv V && V/bin/pip install openai 'lm_eval[api]' transformers
    V/bin/python tests/compare/serve.py --program target/release/templar --model FOLDER [--arc ARC.parquet] [--limit N]

FOLDER is a Hugging Face folder of a small Llama model, and ARC.parquet the questions of ARC-Easy as published. The script starts
the server itself. Log-likelihoods are compared with a forward pass in 64 bits that is written out below with numpy, and
between the ways in which lm-eval can ask: tokens or text, one request at a time or several. Every check prints a line, and
the exit code is 1 if one fails.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

# A script beside this one has the name of a package.
sys.path = [path for path in sys.path if path != str(pathlib.Path(__file__).resolve().parent)]
FAILED = []
TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


def check(name, holds, detail=""):
    print(f"{'ok  ' if holds else 'FAIL'} {name}{': ' if detail else ''}{detail}", flush=True)
    if not holds:
        FAILED.append(name)


class Server:
    """A server that is stopped at the end, in order."""

    def __init__(self, program, arguments):
        command = [program, "serve", "--bind", "127.0.0.1:0", "--json", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.said = json.loads(self.process.stdout.readline())
        self.url = self.said["url"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        check("a signal stops the server", self.process.wait(timeout=60) == 0)


def reference(folder):
    """A function from tokens to the log-probabilities of each next token, in 64 bits, [tokens, vocabulary]."""
    import numpy as np

    config = json.loads((folder / "config.json").read_text())
    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    weights = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = np.frombuffer(data[8 + length + begin : 8 + length + end], dtype="<f4")
            weights[name.removeprefix("model.").removesuffix(".weight")] = values.reshape(entry["shape"]).astype("f8")
    heads, kv, eps = config["num_attention_heads"], config["num_key_value_heads"], config["rms_norm_eps"]
    width = config["hidden_size"] // heads

    def norm(x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weights[name]

    def turn(x):
        angles = np.arange(len(x))[:, None] / config["rope_theta"] ** (np.arange(0, width, 2) / width)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        a, b = x[..., : width // 2], x[..., width // 2 :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def logprobs(tokens):
        x = weights["embed_tokens"][tokens]
        mask = np.triu(np.full((len(x), len(x)), -np.inf), 1)
        for layer in range(config["num_hidden_layers"]):
            at = f"layers.{layer}."
            n = norm(x, at + "input_layernorm")
            q = turn((n @ weights[at + "self_attn.q_proj"].T).reshape(len(x), heads, width))
            k = turn((n @ weights[at + "self_attn.k_proj"].T).reshape(len(x), kv, width)).repeat(heads // kv, 1)
            v = (n @ weights[at + "self_attn.v_proj"].T).reshape(len(x), kv, width).repeat(heads // kv, 1)
            scores = np.einsum("qhw,khw->hqk", q, k) / math.sqrt(width) + mask
            p = np.exp(scores - scores.max(-1, keepdims=True))
            context = np.einsum("hqk,khw->qhw", p / p.sum(-1, keepdims=True), v).reshape(len(x), -1)
            x = x + context @ weights[at + "self_attn.o_proj"].T
            n = norm(x, at + "post_attention_layernorm")
            gate = n @ weights[at + "mlp.gate_proj"].T
            x = x + (gate / (1 + np.exp(-gate)) * (n @ weights[at + "mlp.up_proj"].T)) @ weights[at + "mlp.down_proj"].T
        logits = norm(x, "norm") @ weights.get("lm_head", weights["embed_tokens"]).T
        highest = logits.max(-1, keepdims=True)
        return logits - highest - np.log(np.exp(logits - highest).sum(-1, keepdims=True))

    return logprobs


def with_openai(server, program, folder, logprobs):
    import openai

    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
    name = client.models.list().data[0].id
    check("openai: models", name == folder.name, name)
    ask = lambda **more: client.completions.create(model=name, **{"max_tokens": 30, "temperature": 0, **more})
    said = ask(prompt="Once upon a time", logprobs=2)
    own = [program, "generate", "--from", folder, "--prompt", "Once upon a time", "--greedy", "--tokens", "30", "--json"]
    generated = json.loads(subprocess.run(own, check=True, capture_output=True, text=True).stdout)["text"]
    check("openai: the greedy text is that of `templar generate`", said.choices[0].text == generated, repr(generated[:50]))
    check("openai: usage", said.usage.completion_tokens == 30 and said.choices[0].finish_reason == "length")
    tokens = said.choices[0].logprobs.tokens
    check("openai: the tokens are the text", "".join(tokens) == said.choices[0].text)
    stream = list(ask(prompt="Once upon a time", stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].text for chunk in stream if chunk.choices)
    check("openai: a stream says the same", text == generated and stream[-1].usage.completion_tokens == 30)
    many = ask(prompt=["Once upon a time", "One day"], n=2, temperature=1, seed=7)
    again = ask(prompt="One day", temperature=1, seed=7)
    check("openai: a batch changes no text", many.choices[2].text == again.choices[0].text and len(many.choices) == 4)
    stopped = ask(prompt="Once upon a time", stop=["girl"])
    check("openai: a stop sequence", stopped.choices[0].text == generated.split("girl")[0] and stopped.choices[0].finish_reason == "stop")
    ids = [1, 403, 407, 261, 378]
    scored = ask(prompt=ids, echo=True, logprobs=1, max_tokens=0).choices[0].logprobs.token_logprobs
    expected = logprobs(ids)
    worst = max(abs(scored[i] - expected[i - 1][ids[i]]) for i in range(1, len(ids)))
    check("openai: scores of a prompt as numpy computes them", scored[0] is None and worst < 1e-4, f"{worst:.1e} nats apart")
    turns = [{"role": "user", "content": "Once upon a time"}]
    chat = client.chat.completions.create(model=name, messages=turns, max_tokens=12, temperature=0)
    parts = client.chat.completions.create(model=name, messages=turns, max_tokens=12, temperature=0, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in parts)
    check("openai: chat, whole and as a stream", chat.choices[0].message.content == text and chat.choices[0].message.role == "assistant", repr(text))
    for error, wrong in [
        (openai.BadRequestError, {"prompt": [512]}),
        (openai.BadRequestError, {"prompt": [5] * 600}),
        (openai.NotFoundError, {"prompt": "a", "model": "gpt-4"}),
    ]:
        try:
            client.completions.create(**{"model": name, **wrong})
            check(f"openai: {error.__name__}", False)
        except error as raised:
            check(f"openai: {error.__name__}", bool(raised.param and raised.code), str(raised)[:90])


def with_curl(server):
    def curl(*arguments):
        ran = subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, timeout=120)
        return ran.stdout

    body = json.dumps({"prompt": "Once", "max_tokens": 5, "temperature": 0})
    form = json.loads(curl("-d", body, f"{server.url}/completions"))
    typed = json.loads(curl("--json", body, f"{server.url}/completions"))
    check("curl: a form is read as JSON", form["choices"] == typed["choices"], repr(form["choices"][0]["text"]))
    stream = curl("-N", "-d", json.dumps({"prompt": "Once", "max_tokens": 5, "stream": True}), f"{server.url}/completions")
    check("curl: events", stream.endswith("\n\ndata: [DONE]\n\n"))
    health = curl(server.url.removesuffix("/v1") + "/health")
    check("curl: health", json.loads(health) == {"status": "ok"})
    metrics = curl(server.url.removesuffix("/v1") + "/metrics")
    check("curl: metrics", "templar_serve_requests_answered_total" in metrics)
    with tempfile.NamedTemporaryFile() as large:
        large.truncate(1 << 30)
        begun = time.monotonic()
        status = curl("-o", os.devnull, "-w", "%{http_code}", "-X", "POST", "-T", large.name, f"{server.url}/completions")
        check("curl: a gigabyte is refused", status == "413", f"{time.monotonic() - begun:.1f} s")


TASK = """\
task: arc_easy_here
dataset_path: parquet
dataset_kwargs: {{data_files: {{test: {arc}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: "{{{{choices.label.index(answerKey)}}}}"
doc_to_choice: "{{{{choices.text}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
metadata: {{version: 1.0}}
"""


def with_lm_eval(server, folder, arc, limit, positions, logprobs):
    import lm_eval
    from lm_eval.tasks import TaskManager
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as dir:
        (pathlib.Path(dir) / "arc.yaml").write_text(TASK.format(arc=arc))
        manager = TaskManager(include_path=dir, include_defaults=False)

        def run(**more):
            arguments = {"model": folder.name, "base_url": f"{server.url}/completions", "tokenizer": str(folder),
                         "tokenizer_backend": "huggingface", "max_length": positions + 2, **more}
            begun = time.monotonic()
            ran = lm_eval.simple_evaluate("local-completions", model_args=arguments, tasks=["arc_easy_here"], limit=limit,
                                          task_manager=manager, log_samples=True, bootstrap_iters=0)
            scores = [[(r[0], r[1]) for r in sample["filtered_resps"]] for sample in ran["samples"]["arc_easy_here"]]
            return ran, scores, time.monotonic() - begun

        alone, scores, seconds = run()
        result = alone["results"]["arc_easy_here"]
        shown = f"acc {result['acc,none']:.4f}, acc_norm {result['acc_norm,none']:.4f}, {len(scores)} questions, {seconds:.0f} s"
        check("lm_eval: one request at a time", len(scores) > 0, shown)
        for more in [{"num_concurrent": 4}, {"batch_size": 8}]:
            _, others, seconds = run(**more)
            check(f"lm_eval: {more} gives every log-likelihood to the bit", others == scores, f"{seconds:.0f} s")
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        worst = 0.0
        for sample, row in zip(alone["samples"]["arc_easy_here"], scores):
            for (context, choice), (score, greedy) in zip([a for a in sample["arguments"]] if isinstance(sample["arguments"], list) else [tuple(g.values()) for g in sample["arguments"].values()], row):
                context_ids = tokenizer.encode(context, add_special_tokens=False)
                whole = tokenizer.encode(context + choice, add_special_tokens=False)[-(positions + 1):]
                count = len(tokenizer.encode(context + choice, add_special_tokens=False)) - len(context_ids)
                table = logprobs(whole[:-1])
                expected = sum(table[i - 1][whole[i]] for i in range(len(whole) - count, len(whole)))
                worst = max(worst, abs(expected - score))
        check("lm_eval: every log-likelihood as numpy computes it", worst < 1e-3, f"{worst:.1e} nats apart at most")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True, type=pathlib.Path)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--arc", type=pathlib.Path)
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    folder, logprobs = arguments.model.resolve(), reference(arguments.model)
    positions = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    with tempfile.NamedTemporaryFile("w", suffix=".jinja") as template:
        template.write(TEMPLATE)
        template.flush()
        with Server(arguments.program.resolve(), ["--model", folder, "--chat-template", template.name]) as server:
            with_openai(server, arguments.program.resolve(), folder, logprobs)
            with_curl(server)
            if arguments.arc:
                with_lm_eval(server, folder, arguments.arc.resolve(), arguments.limit, positions, logprobs)
    from importlib.metadata import version

    packages = ["openai", "lm_eval", "transformers"] if arguments.arc else ["openai"]
    print("with", ", ".join(f"{package} {version(package)}" for package in packages))
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Runs the page "From a folder to a folder" of the guide as it is written, but asks with PyPI's `openai` in place of curl.

    python3 -m venv V && V/bin/pip install openai==3.57.0 transformers==5.24.0 torch==2.15.0 xllamacpp==2026.10.11549
    V/bin/python tests/compare/session.py --program target/release/templar --model FOLDER --arc ARC.parquet

FOLDER is a Hugging Face folder of a small Llama model, and ARC.parquet the questions of ARC-Easy as published. The text is that of
the bundled dataset. --folder names a new folder for everything that the session makes; without it nothing stays. The client must
get the text that `templar generate --greedy` gives, and so must transformers from the exported folder and llama.cpp from the GGUF
file. Every check prints a line, and the exit code is 1 if one fails.
"""

import argparse
import json
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
ASK = """
import json, sys, openai
client = openai.OpenAI(base_url=sys.argv[1], api_key="none")
name = client.models.list().data[0].id
answer = client.completions.create(model=name, prompt="Once upon a time", max_tokens=20, temperature=0)
print(json.dumps({"model": name, "text": answer.choices[0].text, "tokens": answer.usage.completion_tokens}))
"""
# Each continues the same tokens in a process of its own: the exported folder and its file are all that it sees.
WITH_TRANSFORMERS = """
import json, sys, torch, transformers
model = transformers.AutoModelForCausalLM.from_pretrained("model", dtype=torch.float32).eval()
tokenizer = transformers.AutoTokenizer.from_pretrained("model")
tokens = json.loads(sys.argv[1]) + tokenizer.encode("Once upon a time", add_special_tokens=False)
with torch.no_grad():
    answer = model.generate(torch.tensor([tokens]), max_new_tokens=20, do_sample=False)[0][len(tokens):]
print("ANSWER" + json.dumps([tokens, tokenizer.decode(answer)]))
"""
WITH_LLAMA = """
import json, sys, urllib.request
import xllamacpp as x
params = x.CommonParams()
params.model.path = "model.gguf"
params.n_ctx, params.n_parallel, params.warmup = 256, 1, False
params.cache_type_k = params.cache_type_v = x.ggml_type.GGML_TYPE_F32
params.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = x.Server(params)
body = {"prompt": json.loads(sys.argv[1]), "n_predict": 20, "temperature": 0, "cache_prompt": False}
request = urllib.request.Request(server.listening_address + "/completion", json.dumps(body).encode(),
                                 {"content-type": "application/json"})
print("ANSWER" + json.dumps(json.loads(urllib.request.urlopen(request, timeout=60).read())["content"]))
"""
FAILED = []


def check(name, holds, detail=""):
    print(f"{'ok  ' if holds else 'FAIL'} {name}{': ' if detail else ''}{detail}", flush=True)
    if not holds:
        FAILED.append(name)


def page():
    text = (ROOT / "crates/GUIDE.md").read_text()
    return text.split("## From a folder to a folder")[1].split("```sh\n")[1].split("```")[0]


def asked(folder, code, tokens):
    """What another program answers that sees the files of the session; None if it fails."""
    command = [sys.executable, "-c", code, json.dumps(tokens)]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    line = next((line for line in said.stdout.splitlines() if line.startswith("ANSWER")), None)
    if line is None:
        print(said.stderr[-600:])
    return line and json.loads(line.removeprefix("ANSWER"))


def handed_on(folder, text):
    """The folder and the file continue the text as the server does. A document follows the end token, and so does a prompt."""
    end = json.loads((folder / "model/config.json").read_text())["eos_token_id"]
    read = asked(folder, WITH_TRANSFORMERS, [end])
    check("transformers continues alike from the folder", read is not None and read[1] == text)
    if read is not None:
        written = asked(folder, WITH_LLAMA, read[0])
        check("llama.cpp continues alike from the file", written == text, repr(written))


def session(options, folder):
    program = pathlib.Path(options.program).resolve()
    shutil.copytree(options.model, folder / "base")
    shutil.copy(options.arc, folder / "ARC-Easy.parquet")
    shutil.copy(ROOT / "datasets/shakespeare/shakespeare.parquet", folder / "plays.parquet")
    (folder / "ask.py").write_text(ASK)
    lines = page().splitlines()
    asks = [number for number, line in enumerate(lines) if line.startswith("curl ")]
    check("the page asks once", len(asks) == 1)
    lines[asks[0]] = f"{shlex.quote(sys.executable)} ask.py $(cat url) > answer.json"
    start = ["set -eu", f"export PATH={shlex.quote(str(program.parent))}:$PATH", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    said = subprocess.run(["bash", "-c", "\n".join(start + lines)], cwd=folder, stdout=subprocess.PIPE, text=True)
    check("every command ends well", said.returncode == 0)
    if said.returncode:
        return
    check("both folders are the checkpoint", said.stdout.count("match: the weights are checkpoint") == 2)
    answer = json.loads((folder / "answer.json").read_text())
    command = [program, "--home", folder / "home", "generate", "--greedy", "--tokens", "20", "--prompt", "Once upon a time"]
    text = json.loads(subprocess.run([*command, "--json"], stdout=subprocess.PIPE, check=True).stdout)["text"]
    check("openai gets the greedy text", answer["text"] == text, f"{answer['tokens']} tokens: {answer['text']!r}")
    handed_on(folder, text)
    check("the card has the evaluation", "## Evaluation" in (folder / "model/README.md").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/templar")
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--arc", required=True, type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path)
    options = parser.parse_args()
    if options.folder:
        options.folder.mkdir(parents=True)
        session(options, options.folder.resolve())
    else:
        with tempfile.TemporaryDirectory() as folder:
            session(options, pathlib.Path(folder))
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()

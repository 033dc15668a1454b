#!/usr/bin/env python3
"""Reads exported GGUF files with PyPI's `gguf`, and computes with them in llama.cpp (PyPI's `xllamacpp`).

    python3 -m venv V && V/bin/pip install gguf xllamacpp tokenizers numpy
    V/bin/python tests/compare/gguf_readers.py --program target/release/templar [--model FOLDER]

The script makes a home with two runs: one of the bundled dataset with the model `tiny`, and one that starts from FOLDER, a
Hugging Face folder of a small Llama model, and its tokenizer. Of each it exports a folder, a file in f32 and one in f16. Every
tensor is compared with the folder's, llama.cpp's tokens with those of `tokenizers`, and its probabilities with the forward pass
of serve.py. A line is printed for every check, and the exit code is 1 if one fails. Each file is opened in a process of its own.
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TEXTS = ["Once upon a time", "To be, or not to be: that is the question", " 12 345  blanks\n\nand lines\t", "Größe 漢字 🙂", "it's"]


def load(name):
    """A script beside this one, as a module."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


serve = load("serve")
check = serve.check


def templar(program, home, *arguments):
    command = [program, "--home", home, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {ran.stderr}")
    return ran.stdout.strip()


def tensors(folder):
    """The tensors of a folder, and its config."""
    import numpy as np

    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    read = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            read[name] = np.frombuffer(data[8 + length + begin : 8 + length + end], dtype="<f4").reshape(entry["shape"])
    return read, json.loads((folder / "config.json").read_text())


def with_gguf(name, file, folder, half):
    """Every tensor by the package's own table of names and its reader."""
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(file)
    found = {tensor.name: tensor for tensor in reader.tensors}
    own, config = tensors(folder)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    wrong = []
    for theirs, values in own.items():
        tensor = found.pop(names.get_name(theirs, try_suffixes=[".weight"]))
        count = next((count for part, count in heads.items() if part in theirs), None)
        if count:
            values = values.reshape(count, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        dtype = np.float16 if half and values.ndim == 2 else np.float32
        if tensor.data.dtype != dtype or not np.array_equal(tensor.data.reshape(values.shape), values.astype(dtype)):
            wrong.append(theirs)
    check(f"{name}: gguf reads every tensor", not wrong and not found, f"{len(own)} tensors" if not wrong else str(wrong))


# What a process of its own answers about a file: tokens of texts, and probabilities of the next token.
ASK = """
import json, sys, urllib.request
import xllamacpp as x
params = x.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx, params.n_parallel, params.warmup = 256, 1, False
params.cache_type_k = params.cache_type_v = x.ggml_type.GGML_TYPE_F32
params.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = x.Server(params)
def post(path, body):
    request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode(), {"content-type": "application/json"})
    return json.loads(urllib.request.urlopen(request, timeout=60).read())
answers = []
for text in json.load(sys.stdin):
    tokens = post("/tokenize", {"content": text, "add_special": False})["tokens"]
    said = post("/completion", {"prompt": tokens, "n_predict": 1, "n_probs": 5, "temperature": 0, "cache_prompt": False})
    answers.append([tokens, [[p["id"], p["logprob"]] for p in said["completion_probabilities"][0]["top_logprobs"]]])
print("ANSWERS" + json.dumps(answers))
"""


def with_llama(name, file, folder, nats):
    import tokenizers

    ran = subprocess.run([sys.executable, "-c", ASK, str(file)], input=json.dumps(TEXTS), capture_output=True, text=True, timeout=600)
    line = next((line for line in ran.stdout.splitlines() if line.startswith("ANSWERS")), None)
    if line is None:
        return check(f"{name}: llama.cpp loads it", False, ran.stderr[-600:])
    answers = json.loads(line.removeprefix("ANSWERS"))
    own = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = [own.encode(text, add_special_tokens=False).ids for text in TEXTS]
    check(f"{name}: llama.cpp gives the tokens of the tokenizer", [tokens for tokens, _ in answers] == expected)
    logprobs, worst = serve.reference(folder), 0.0
    for tokens, top in answers:
        last = logprobs(tokens)[-1]
        worst = max([worst] + [abs(last[token] - logprob) for token, logprob in top])
    check(f"{name}: llama.cpp's probabilities are the model's", worst < nats, f"{worst:.1e} nats apart at most")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True, type=pathlib.Path)
    parser.add_argument("--model", type=pathlib.Path)
    arguments = parser.parse_args()
    program = arguments.program.resolve()
    with tempfile.TemporaryDirectory() as dir:
        dir = pathlib.Path(dir)
        home = dir / "home"
        templar(program, home, "init")
        templar(program, home, "dataset", "import", "--bundled")
        key = templar(program, home, "key", "show").split()[0]
        runs = {"tiny": ["--dataset", "shakespeare", "--size", "tiny"]}
        if arguments.model:
            text = dir / "text.txt"
            text.write_text("Once upon a time there was a little girl.\n" * 20000)
            templar(program, home, "dataset", "import", text, "--name", "stories", "--licence", "CC0-1.0",
                    "--tokenizer", arguments.model / "tokenizer.json")
            runs["folder"] = ["--dataset", "stories", "--from", arguments.model]
        for name, more in runs.items():
            templar(program, home, "run", "new", name, "--miner", key, *more)
            folder = dir / f"{name}-hf"
            templar(program, home, "export", "@", "--hf", folder)
            verified = templar(program, home, "verify", folder)
            check(f"{name}: `templar verify` knows the folder", "match" in verified, verified)
            for dtype, nats in [("f32", 1e-4), ("f16", 5e-2)]:
                file = dir / f"{name}-{dtype}.gguf"
                templar(program, home, "export", "@", "--gguf", file, "--dtype", dtype)
                with_gguf(f"{name} {dtype}", file, folder, dtype == "f16")
                with_llama(f"{name} {dtype}", file, folder, nats)
    from importlib.metadata import version

    print("with", ", ".join(f"{package} {version(package)}" for package in ["gguf", "xllamacpp", "tokenizers"]))
    sys.exit(1 if serve.FAILED else 0)


if __name__ == "__main__":
    main()

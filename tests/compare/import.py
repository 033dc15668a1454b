#!/usr/bin/env python3
"""Compares `templar dataset import` with Hugging Face `tokenizers` and `datasets` on the same files.

    python3 -m venv V && V/bin/pip install tokenizers datasets pyarrow
    V/bin/python tests/compare/import.py --program target/release/templar --text TEXT

TEXT is a file of plain text in UTF-8. It is cut into documents at blank lines and written as jsonl, jsonl.gz and parquet,
and a byte-level BPE is trained on it, unless --tokenizer names one. Each round runs these three, one after the other, so
that a machine that other people use is slow for all of them:

templar      the whole process `dataset import FILE`, from the file to shards on the disk
tokenizers   `encode_batch_fast` of texts that lie in memory already, and nothing else
datasets     `load_dataset` of the file, then `map` with `encode_batch_fast`, into an empty cache

All have the same number of threads. The table has the medians, and the median of the ratios of each round. The number of
tokens must be the same, or the script fails.
"""

import argparse
import gzip
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

END = "<|endoftext|>"


def documents(text, least=2048):
    """The text in documents of at least so many bytes, cut at blank lines."""
    found, size = [[]], 0
    for passage in text.split("\n\n"):
        found[-1].append(passage)
        size += len(passage)
        if size >= least:
            found.append([])
            size = 0
    return ["\n\n".join(passages) for passages in found if any(passages)]


def train(texts, path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=32_000, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts[::8], trainer)
    tokenizer.save(str(path))


def make(texts, folder):
    import pyarrow
    import pyarrow.parquet

    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
    (folder / "text.jsonl").write_bytes(lines)
    (folder / "text.jsonl.gz").write_bytes(gzip.compress(lines, 6))
    table = pyarrow.table({"text": texts})
    pyarrow.parquet.write_table(table, folder / "text.parquet", compression="zstd", row_group_size=10_000)
    return [folder / name for name in ("text.jsonl", "text.jsonl.gz", "text.parquet")]


def opened(path):
    """The tokenizer, reading names of special tokens as text, as an import does."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def read(path):
    """The texts of a file."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(path)["text"].to_pylist()
    lines = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
    return [json.loads(line)["text"] for line in lines]


def run_tokenizers(path, tokenizer, batch=1000):
    tokenizer, texts = opened(tokenizer), read(path)
    start = time.perf_counter()
    tokens = 0
    for first in range(0, len(texts), batch):
        encoded = tokenizer.encode_batch_fast(texts[first : first + batch], add_special_tokens=False)
        tokens += sum(len(one.ids) + 1 for one in encoded)
    return time.perf_counter() - start, tokens


def run_datasets(path, tokenizer, threads):
    import datasets

    datasets.disable_progress_bars()
    tokenizer = opened(tokenizer)

    def encode(rows):
        encoded = tokenizer.encode_batch_fast(rows["text"], add_special_tokens=False)
        return {"ids": [one.ids for one in encoded]}

    kind = "parquet" if path.suffix == ".parquet" else "json"
    with tempfile.TemporaryDirectory(dir=path.parent) as cache:
        start = time.perf_counter()
        rows = datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=cache)
        ids = rows.map(encode, batched=True, remove_columns=["text"])
        seconds = time.perf_counter() - start
        lengths = ids.with_format("arrow")
        tokens = sum(len(batch["ids"].combine_chunks().values) for batch in lengths.iter(10_000)) + len(ids)
    return seconds, tokens


def child(command, env):
    """Runs a command. Returns what it prints, its seconds, and its largest memory in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    out, err = process.stdout.read(), None
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        err = process.stderr.read().decode()
        sys.exit(f"{' '.join(map(str, command))} failed: {err}")
    return out.decode(), seconds, usage.ru_maxrss / 1024


def measure(name, path, args, folder, env):
    """Seconds, tokens and memory of one run."""
    if name != "templar":
        command = [sys.executable, __file__, "--one", name, "--text", path, "--tokenizer", args.tokenizer]
        out, _, memory = child(command + ["--threads", str(args.threads)], env)
        seconds, tokens = json.loads(out.splitlines()[-1])
        return seconds, tokens, memory
    with tempfile.TemporaryDirectory(dir=folder) as home:
        child([args.program, "--home", home, "init"], env)
        command = [args.program, "--home", home, "--json", "dataset", "import", path, "--tokenizer", args.tokenizer]
        out, seconds, memory = child(command + ["--licence", "CC0-1.0", "--name", "compared"], env)
    made = json.loads(out)
    return seconds, made["training_tokens"] + made["held_out_tokens"], memory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--program", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=["tokenizers", "datasets"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one == "tokenizers":
        return print(json.dumps(run_tokenizers(args.text, args.tokenizer)))
    if args.one == "datasets":
        return print(json.dumps(run_datasets(args.text, args.tokenizer, args.threads)))

    env = os.environ | {"RAYON_NUM_THREADS": str(args.threads), "TOKENIZERS_PARALLELISM": "true"}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        texts = documents(args.text.read_text())
        size = sum(len(text.encode()) for text in texts)
        if args.tokenizer is None:
            args.tokenizer = folder / "tokenizer.json"
            train(texts, args.tokenizer)
        files = make(texts, folder)
        print(f"{len(texts)} documents, {size / 1e6:.1f} MB of text, {args.threads} threads, {args.rounds} rounds\n")
        print("| file | | MB/s | tokens/s | of `tokenizers` | memory |\n|---|---|---|---|---|---|")
        names = ["templar", "tokenizers", "datasets"]
        for path in files:
            runs = [{name: measure(name, path, args, folder, env) for name in names} for _ in range(args.rounds)]
            counts = {run[name][1] for run in runs for name in names}
            if len(counts) != 1:
                sys.exit(f"{path.name}: the numbers of tokens differ: {sorted(counts)}")
            for name in names:
                seconds = statistics.median(run[name][0] for run in runs)
                ratio = statistics.median(run["tokenizers"][0] / run[name][0] for run in runs)
                memory = max(run[name][2] for run in runs)
                row = f"{size / 1e6 / seconds:.1f} | {counts.copy().pop() / seconds:,.0f} | {ratio:.2f} | {memory:.0f} MiB"
                print(f"| `{path.name}` | {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# transformers 5 splits text by config.json's model_type, not by tokenizer.json: for qwen2 and gpt2 the file's normalizer is dropped.
#
# Expected: tokenizer.json is the whole tokenizer. AutoTokenizer of a folder gives the ids that tokenizers gives for this file, whatever
#   model stands beside it; at most tokenizer_config.json names another class.
# Observed: the same tokenizer.json, with a normalizer that makes letters small, stands beside configurations that differ in model_type
#   alone. For llama and mistral AutoTokenizer obeys it. For qwen2, qwen3 and gpt2 it takes the vocabulary and the merges and puts the
#   normalizer and the pattern of that model in place of the file's: other ids, no warning. If tokenizer_config.json names
#   PreTrainedTokenizerFast, qwen3 and gpt2 obey the file, and qwen2 still does not.
# Matters:  a model with a tokenizer of its own, trained with one program and evaluated or served with another. A folder whose
#   model_type is changed, say from llama to qwen2 since biases were added, is read with other ids, and benchmark numbers move.
# Seen:     2026-12-01, CPython 3.11 on x86-64 Linux:
#   transformers 5.24.0, tokenizers 0.23.3; 4 ids by the file
#   llama     file alone: the file's ids | with PreTrainedTokenizerFast: the file's ids
#   mistral   file alone: the file's ids | with PreTrainedTokenizerFast: the file's ids
#   qwen2     file alone: 9 other ids, Qwen2Tokenizer | with PreTrainedTokenizerFast: 9 other ids, Qwen2Tokenizer
#   qwen3     file alone: 9 other ids, Qwen2Tokenizer | with PreTrainedTokenizerFast: the file's ids
#   gpt2      file alone: 9 other ids, GPT2Tokenizer | with PreTrainedTokenizerFast: the file's ids
# Needs:    python3 with venv; installs some 100 MB.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet transformers==5.24.0 tokenizers==0.23.3
cd "$dir"
HF_HUB_OFFLINE=1 "$dir/venv/bin/python" - <<'PYTHON'
import json
import os
import sys

import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXT = "To Be OR not"
END = "<|endoftext|>"


def lower_case():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["to be or not to be"] * 8, trainer)
    return tokenizer


def by_transformers(folder, model_type, tokenizer_class):
    os.makedirs(folder)
    tokenizer.save(f"{folder}/tokenizer.json")
    with open(f"{folder}/config.json", "w") as file:
        json.dump({"model_type": model_type}, file)
    if tokenizer_class:
        with open(f"{folder}/tokenizer_config.json", "w") as file:
            json.dump({"tokenizer_class": tokenizer_class, "eos_token": END}, file)
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    ids = loaded(TEXT, add_special_tokens=False)["input_ids"]
    return "the file's ids" if ids == by_file else f"{len(ids)} other ids, {type(loaded).__name__}"


tokenizer = lower_case()
by_file = tokenizer.encode(TEXT, add_special_tokens=False).ids
print(f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}; {len(by_file)} ids by the file")
same = "the file's ids"
expected = {
    "llama": (same, same),
    "mistral": (same, same),
    "qwen2": ("9 other ids, Qwen2Tokenizer", "9 other ids, Qwen2Tokenizer"),
    "qwen3": ("9 other ids, Qwen2Tokenizer", same),
    "gpt2": ("9 other ids, GPT2Tokenizer", same),
}
good = True
for model_type, wanted in expected.items():
    found = tuple(
        by_transformers(f"{model_type}-{name}", model_type, name) for name in (None, "PreTrainedTokenizerFast")
    )
    print(f"{model_type:9} file alone: {found[0]} | with PreTrainedTokenizerFast: {found[1]}")
    good &= found == wanted
if not good:
    sys.exit("changed: which model types obey the normalizer of tokenizer.json")
PYTHON

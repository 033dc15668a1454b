#!/usr/bin/env bash
# Training a WordPiece or Unigram tokenizer twice gives two different tokenizers.
#
# Expected: the same corpus, settings and release give the same tokenizer.json, as they do for BPE.
# Observed: WordPieceTrainer gives several tokens other ids in each run, although the set of tokens is the same, and UnigramTrainer
#   gives scores that differ in the last digits. It is not the threads: one thread does the same. BPE is the same each time.
# Matters:  ids are what a model is trained on. A corpus that is tokenised after a second training does not fit the model of the
#   first, and a tokenizer cannot be checked by training it again. Keep the file, and name it by its hash.
# Seen:     2026-11-30, Python 3.11 on Linux (six runs in one process with one thread, a made-up corpus, 500 tokens):
#   tokenizers 0.23.3
#   BPE:       6 runs, 1 set of tokens, 1 assignment of ids, 1 file
#   WordPiece: 6 runs, 1 set of tokens, 6 assignments of ids, 6 files
#   Unigram:   6 runs, 1 set of tokens, 6 assignments of ids, 6 files
# Needs:    python3 with venv.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet tokenizers==0.23.3
cd "$dir"
RAYON_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false "$dir/venv/bin/python" - <<'PY'
import importlib.metadata
import json
import random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

RUNS = 6
draw = random.Random(1)
syllables = ["ka", "lo", "mi", "ter", "un", "ing", "the", "re", "st", "on", "ab", "qu"]
words = ["".join(draw.choice(syllables) for _ in range(draw.randint(1, 4))) for _ in range(3000)]
corpus = [" ".join(draw.choice(words) for _ in range(12)) for _ in range(4000)]
kinds = {
    "BPE": lambda: (models.BPE(), trainers.BpeTrainer(vocab_size=500, show_progress=False)),
    "WordPiece": lambda: (
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=500, special_tokens=["[UNK]"], show_progress=False),
    ),
    "Unigram": lambda: (models.Unigram(), trainers.UnigramTrainer(vocab_size=500, show_progress=False)),
}


def trained(kind):
    model, trainer = kinds[kind]()
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


print(f"tokenizers {importlib.metadata.version('tokenizers')}")
counts = {}
for kind in kinds:
    runs = [trained(kind) for _ in range(RUNS)]
    tokens = len({frozenset(run.get_vocab()) for run in runs})
    ids = len({frozenset(run.get_vocab().items()) for run in runs})
    # Compared as parsed JSON with sorted keys, so that the order of a map in the file does not count.
    files = len({json.dumps(json.loads(run.to_str()), sort_keys=True) for run in runs})
    counts[kind] = (tokens, ids, files)
    plural = lambda n, word: f"{n} {word}{'' if n == 1 else 's'}"
    print(f"{kind + ':':10} {RUNS} runs, {tokens} set of tokens, {plural(ids, 'assignment')} of ids, {plural(files, 'file')}")
assert counts["BPE"] == (1, 1, 1), "changed: BPE differs between runs"
assert counts["WordPiece"][1] > 1, "changed: WordPiece gives the same ids each time"
assert counts["Unigram"][2] > 1, "changed: Unigram gives the same scores each time"
PY

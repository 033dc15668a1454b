#!/usr/bin/env bash
# tokenizers calls a tokenizer.json with one further field at the top malformed JSON; everywhere deeper it drops the field.
#
# Expected: a reader of JSON steps over a field that it does not know, or names it. `version` is there so that the format can grow.
# Observed: at the top the name of such a field is read and its value is not, so the next thing found is a colon where a comma should be.
#   The error speaks of a missing comma, at a place where none is missing. In the model, a normalizer, a decoder or an added token the
#   field is stepped over, and it is gone when the tokenizer is saved.
# Matters:  whoever notes provenance, a licence or a hash in tokenizer.json makes it unreadable for every program on this library, and so
#   would any field of a later version of the format.
# Seen:     2026-12-01, CPython 3.11 on x86-64 Linux:
#   tokenizers 0.23.3
#   the file                 expected `,` or `}`
#   the model, BPE           read, and gone when saved
#   the model, WordPiece     read, and gone when saved
#   the model, WordLevel     read, and gone when saved
#   the model, Unigram       read, and gone when saved
#   the normalizer           read, and gone when saved
#   the decoder              read, and gone when saved
#   an added token           read, and gone when saved
# Needs:    python3 with venv.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet tokenizers==0.23.3
"$dir/venv/bin/python" - <<'PYTHON'
import json
import sys

import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

print(f"tokenizers {tokenizers.__version__}")
VOCABULARY = {"[UNK]": 0, "a": 1, "b": 2}
MODELS = {
    "BPE": models.BPE(vocab=VOCABULARY, merges=[], unk_token="[UNK]"),
    "WordPiece": models.WordPiece(vocab=VOCABULARY, unk_token="[UNK]"),
    "WordLevel": models.WordLevel(vocab=VOCABULARY, unk_token="[UNK]"),
    "Unigram": models.Unigram([(piece, -1.0) for piece in VOCABULARY], unk_id=0),
}


def saved(model):
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([AddedToken("[END]")])
    return json.loads(tokenizer.to_str())


def outcome(fields, path):
    """What becomes of the file with one more field in the object at `path`."""
    part = fields
    for step in path:
        part = part[step]
    part["note"] = "made by us"
    try:
        again = Tokenizer.from_str(json.dumps(fields)).to_str()
    except Exception as error:
        return str(error).split(" at line ")[0]
    return "read, and kept" if "made by us" in again else "read, and gone when saved"


found = {"the file": outcome(saved(MODELS["BPE"]), [])}
found |= {f"the model, {name}": outcome(saved(model), ["model"]) for name, model in MODELS.items()}
paths = {"the normalizer": ["normalizer"], "the decoder": ["decoder"], "an added token": ["added_tokens", 0]}
found |= {name: outcome(saved(MODELS["BPE"]), path) for name, path in paths.items()}
for name, what in found.items():
    print(f"{name:24} {what}")
if found.pop("the file") != "expected `,` or `}`" or set(found.values()) != {"read, and gone when saved"}:
    sys.exit("this has changed")
PYTHON

#!/usr/bin/env bash
# tiktoken's own split pattern means something else in Hugging Face tokenizers.
#
# Expected: a tokenizer that is converted with its vocabulary, its merges and its regular expression gives the same ids.
# Observed: the wheel of tokenizers matches with Oniguruma in Ruby's dialect, where "{1,3}+" is no possessive interval but a repetition
#   of it. So cl100k's pattern, copied letter by letter, takes any run of digits for one piece, and tiktoken three digits at a
#   time. Nothing warns.
# Matters:  numbers get other ids than the model was trained on. Write "{1,3}" without the possessive sign when you convert, and
#   compare ids on long numbers.
# Seen:     2026-11-30, Python 3.11 on Linux (cl100k's pattern, a vocabulary of bytes and a few merges):
#   tiktoken 0.14.0, tokenizers 0.23.3
#   '1234': tiktoken ['12', '3', '4'], tokenizers ['1234']
#   '1234567': tiktoken ['12', '3', '4', '56', '7'], tokenizers ['1234', '567']
#   with {1,3} for {1,3}+: tokenizers ['12', '3', '4']
# Needs:    python3 with venv.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet tiktoken==0.14.0 tokenizers==0.23.3
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import importlib.metadata
import inspect
import re

import tiktoken
import tiktoken_ext.openai_public
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

# The pattern is read from tiktoken's source, without the download of the vocabulary.
source = inspect.getsource(tiktoken_ext.openai_public.cl100k_base)
pattern = re.search(r'"pat_str": r"""(.*?)"""', source).group(1)
merges = [("1", "2"), ("3", "4"), ("12", "34"), ("5", "6"), ("56", "7")]
ranks = {bytes([byte]): byte for byte in range(256)}
ranks |= {(a + b).encode(): 256 + i for i, (a, b) in enumerate(merges)}
theirs = tiktoken.Encoding("toy", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def spelled(text):
    """The text in the letters that byte-level tokenizers use."""
    return "".join(piece for piece, _ in pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text))


def converted(pattern):
    letters = {chr(i): spelled(chr(i)) for i in range(128)}
    spell = lambda text: "".join(letters[c] for c in text)
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {spell(a + b): 256 + i for i, (a, b) in enumerate(merges)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [(spell(a), spell(b)) for a, b in merges]))
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def pieces(tokenizer, text):
    return [tokenizer.decode([i]) for i in tokenizer.encode(text).ids]


def reference(text):
    return [piece.decode() for piece in theirs.decode_tokens_bytes(theirs.encode(text))]


ours, careful = converted(pattern), converted(pattern.replace("{1,3}+", "{1,3}"))
version = importlib.metadata.version
print(f"tiktoken {version('tiktoken')}, tokenizers {version('tokenizers')}")
for text in ("1234", "1234567"):
    print(f"{text!r}: tiktoken {reference(text)}, tokenizers {pieces(ours, text)}")
print(f"with {{1,3}} for {{1,3}}+: tokenizers {pieces(careful, '1234')}")
assert reference("1234") == ["12", "3", "4"], "changed: tiktoken splits digits otherwise"
assert pieces(ours, "1234") == ["1234"], "changed: tokenizers reads the interval as possessive"
assert pieces(careful, "1234") == reference("1234"), "changed: the careful pattern"
PY

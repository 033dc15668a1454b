#!/usr/bin/env bash
# llama.cpp: an F32 cache of keys and values changes nothing on a CPU unless flash attention is turned off as well.
#
# Expected: a file with f32 matrices and `cache_type_k = cache_type_v = F32` (`-ctk f32 -ctv f32`) is computed in f32, and its
#   log-probabilities are those of the model to some 1e-6 nats. Flash attention is another order of the same sums.
# Observed: with the default setting of flash attention, which takes it where it can, the error stays that of a 16-bit cache, some
#   3e-3 nats, the same whether the cache is F32 or not. With flash attention off an F32 cache gives 4e-6. Each of the two
#   settings alone gives nothing.
# Matters:  comparing a converted model with the original, and benchmarks by log-likelihood: a thousandth of a nat a token looks like a
#   fault of the conversion, and it swaps answers that are close. One who asks for F32 to be exact, and pays twice the memory
#   for it, is not told.
# Seen:     2026-12-01, CPython 3.11 on x86-64 Linux:
#   xllamacpp 2026.10.11549, gguf 0.19.0; farthest of 20 log-probabilities from float64, in nats
#   cache default  flash attention default  3.3e-03
#   cache default  flash attention off      2.5e-03
#   cache F32      flash attention default  3.3e-03
#   cache F32      flash attention off      3.8e-06
# Needs:    python3 with venv; installs some 100 MB.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet xllamacpp==2026.10.11549 gguf==0.19.0 numpy
cd "$dir"
"$dir/venv/bin/python" - <<'PYTHON'
import json
import subprocess
import sys
from importlib.metadata import version

import gguf
import numpy as np

HEADS, LAYERS, WIDTH, INNER, VOCAB, EPS = 4, 2, 64, 128, 259, 1e-5
MATRICES = {
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (WIDTH, WIDTH),
    "attn_v": (WIDTH, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_gate": (INNER, WIDTH),
    "ffn_up": (INNER, WIDTH),
    "ffn_down": (WIDTH, INNER),
}
PROMPT = [3 + byte for byte in b"what a cache of keys holds is rounded, and what attention does with it too"]


def model():
    rng = np.random.default_rng(1)

    def matrix(*shape):
        return (rng.standard_normal(shape) / np.sqrt(shape[-1]) * 2).astype(np.float32)

    one = np.ones(WIDTH, np.float32)
    weights = {"token_embd.weight": matrix(VOCAB, WIDTH), "output.weight": matrix(VOCAB, WIDTH), "output_norm.weight": one}
    for layer in range(LAYERS):
        weights |= {f"blk.{layer}.{name}.weight": matrix(*shape) for name, shape in MATRICES.items()}
        weights |= {f"blk.{layer}.{name}_norm.weight": one for name in ("attn", "ffn")}
    return weights


def write(path):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([b"<unk>", b"<s>", b"</s>"] + [f"<0x{byte:02X}>".encode() for byte in range(256)])
    writer.add_token_scores([0.0] * VOCAB)
    writer.add_token_types([2, 3, 3] + [6] * 256)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    for name, values in weights.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def log_probabilities(tokens):
    """Of the next token, in float64."""
    values = {name: value.astype(np.float64) for name, value in weights.items()}
    count, size = len(tokens), WIDTH // HEADS
    angles = np.arange(count)[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    seen = np.tril(np.ones((count, count), bool))

    def norm(x):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS)

    def rotated(x):
        x = x.reshape(count, HEADS, size)
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(x.shape)

    x = values["token_embd.weight"][tokens]
    for layer in range(LAYERS):
        w = {name: values[f"blk.{layer}.{name}.weight"].T for name in MATRICES}
        h = norm(x)
        q, k, v = rotated(h @ w["attn_q"]), rotated(h @ w["attn_k"]), (h @ w["attn_v"]).reshape(count, HEADS, size)
        scores = np.where(seen, np.einsum("thd,shd->hts", q, k) / np.sqrt(size), -np.inf)
        parts = np.exp(scores - scores.max(-1, keepdims=True))
        parts /= parts.sum(-1, keepdims=True)
        x = x + np.einsum("hts,shd->thd", parts, v).reshape(count, WIDTH) @ w["attn_output"]
        h = norm(x)
        gate = h @ w["ffn_gate"]
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w["ffn_up"])) @ w["ffn_down"]
    logits = norm(x)[-1] @ values["output.weight"].T
    return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())


# One process for each setting.
ASK = """
import json, sys, urllib.request
import xllamacpp as x
params = x.CommonParams()
params.model.path = "model.gguf"
params.n_ctx, params.n_parallel, params.warmup = 256, 1, False
if sys.argv[1] == "F32":
    params.cache_type_k = params.cache_type_v = x.ggml_type.GGML_TYPE_F32
if sys.argv[2] == "off":
    params.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = x.Server(params)
body = {"prompt": json.loads(sys.argv[3]), "n_predict": 1, "n_probs": 20, "temperature": 0, "cache_prompt": False}
request = urllib.request.Request(
    server.listening_address + "/completion", json.dumps(body).encode(), {"content-type": "application/json"})
said = json.loads(urllib.request.urlopen(request, timeout=600).read())
print("ANSWER" + json.dumps([[p["id"], p["logprob"]] for p in said["completion_probabilities"][0]["top_logprobs"]]))
"""


def farthest(cache, flash):
    command = [sys.executable, "-c", ASK, cache, flash, json.dumps(PROMPT)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = next(line for line in ran.stdout.splitlines() if line.startswith("ANSWER"))
    return max(abs(expected[token] - said) for token, said in json.loads(answer.removeprefix("ANSWER")))


weights = model()
write("model.gguf")
expected = log_probabilities(PROMPT)
print(f"xllamacpp {version('xllamacpp')}, gguf {version('gguf')}; farthest of 20 log-probabilities from float64, in nats")
good = True
for cache in ("default", "F32"):
    for flash in ("default", "off"):
        nats = farthest(cache, flash)
        print(f"cache {cache:7}  flash attention {flash:7}  {nats:.1e}")
        good &= nats < 1e-5 if (cache, flash) == ("F32", "off") else nats > 1e-3
if not good:
    sys.exit("changed: which settings of llama.cpp compute a prompt in f32")
PYTHON

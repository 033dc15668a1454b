#!/usr/bin/env bash
# safetensors writes header metadata in a random order.
#
# Expected: the same tensors and the same metadata give the same bytes, as the format has no timestamp and no padding to fill.
# Observed: with two or more metadata keys, each write may order the keys differently. The tensors are equal and the hash of the
#   file is not. With no key or one key the bytes are always the same.
# Matters:  a model file cannot be named or compared by the hash of a fresh write. Write at most one metadata key (a JSON text, for
#   example), or sort the header yourself.
# Seen:     2026-11-30, Python 3.11 on Linux:
#   safetensors 0.8.0: 50 writes with 0, 1, 2, 3, 4 metadata keys gave 1, 1, 2, 6, 22 different files
#   (the last numbers vary from run to run)
#   all files hold equal tensors and equal metadata
# Needs:    python3 with venv.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import hashlib
import importlib.metadata
import json

import numpy as np
from safetensors.numpy import load, save

tensors = {"weight": np.arange(4, dtype=np.float32)}
counts = []
for keys in range(5):
    metadata = {f"key{i}": f"value{i}" for i in range(keys)}
    files = {save(tensors, metadata=metadata or None) for _ in range(50)}
    counts.append(len({hashlib.sha256(file).hexdigest() for file in files}))
    for file in files:
        header = json.loads(file[8 : 8 + int.from_bytes(file[:8], "little")])
        assert header.get("__metadata__", {}) == metadata
        assert np.array_equal(load(file)["weight"], tensors["weight"])
version = importlib.metadata.version("safetensors")
print(f"safetensors {version}: 50 writes with 0, 1, 2, 3, 4 metadata keys gave {', '.join(map(str, counts))} different files")
print("all files hold equal tensors and equal metadata")
assert counts[:2] == [1, 1] and counts[4] > 1, "changed: the order of metadata is not random any more"
PY

#!/usr/bin/env bash
# datasets' WebDataset loader silently drops what the first five samples do not have.
#
# Expected: a field or file that appears later in the archive is kept, or loading fails.
# Observed: columns and types are fixed from the first five samples. A member with another suffix, a JSON key that comes later, and
#   the fraction of a number that was an integer at first are dropped without an error or a warning, also with streaming.
# Matters:  a training set loses text, labels and precision, and two archives of the same samples in another order give different
#   datasets. Put a sample with every member and every type first, or pass `features`.
# Seen:     2026-11-30, Python 3.11 on Linux (eight samples; from the sixth on "len" is 5.5, 6.5, 7.5, with a key and a member more):
#   datasets 5.2.0: columns json, txt; json has len
#   len: [0, 1, 2, 3, 4, 5, 6, 7], in the archive [0, 1, 2, 3, 4, 5.5, 6.5, 7.5]
#   key "lang" and member "note.txt" of the last three samples: gone
#   streaming gives the same
# Needs:    python3 with venv; about 500 MB in the temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet datasets==5.2.0
cd "$dir"
HF_HUB_OFFLINE=1 HF_HOME="$dir/hf" "$dir/venv/bin/python" - <<'PY'
import importlib.metadata
import io
import json
import tarfile

import datasets

datasets.disable_progress_bars()
lengths = [i if i < 5 else i + 0.5 for i in range(8)]
with tarfile.open("samples.tar", "w") as archive:
    for i, length in enumerate(lengths):
        members = {"json": json.dumps({"len": length} | ({"lang": "en"} if i >= 5 else {})), "txt": f"text {i}"}
        if i >= 5:
            members["note.txt"] = "a later member"
        for suffix, text in members.items():
            info = tarfile.TarInfo(f"{i:04d}.{suffix}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))

loaded = datasets.load_dataset("webdataset", data_files={"train": "samples.tar"}, split="train")
columns = [name for name in loaded.column_names if not name.startswith("__")]
read = [row["json"]["len"] for row in loaded]
print(f"datasets {importlib.metadata.version('datasets')}: columns {', '.join(columns)}; json has {', '.join(loaded[7]['json'])}")
print(f"len: {read}, in the archive {lengths}")
assert columns == ["json", "txt"] and list(loaded[7]["json"]) == ["len"], "changed: later members or keys are kept"
print('key "lang" and member "note.txt" of the last three samples: gone')
assert read == list(range(8)), "changed: a later fraction is kept"
streamed = list(datasets.load_dataset("webdataset", data_files={"train": "samples.tar"}, split="train", streaming=True))
assert streamed == list(loaded), "changed: streaming gives something else"
print("streaming gives the same")
PY

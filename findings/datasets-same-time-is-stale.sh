#!/usr/bin/env bash
# datasets' load_dataset returns the old rows of a local file that was replaced, if both have the same time of change.
#
# Expected: the cache of a local file notices other bytes, or at least another length, and reads the file again.
# Observed: only the path and the time of change (mtime) count. After another release of a dataset was unpacked over the first one from
#   an archive whose members all have one time, the rows of the first release come back, without a warning: of a folder, of
#   `data_files`, of parquet and of jsonl. `streaming=True` reads the new ones. `download_mode="force_redownload"` fails, because the
#   new rows are not as many as the cache has noted; with `verification_mode="no_checks"` as well it reads them.
# Matters:  reproducible archives (`tar --mtime`, SOURCE_DATE_EPOCH), stores such as Nix, and `cp -p` give files a fixed time. Training and
#   evaluation then go on with the data of an earlier release, and every hash of the files on the disk is right.
# Seen:     2026-12-01, CPython 3.11 on x86-64 Linux:
#   datasets 5.2.0, pyarrow 26.0.1
#   folder, parquet      first [1, 2, 3] | replaced by [7, 8, 9, 10, 11]: [1, 2, 3] | streaming: [7, 8, 9, 10, 11]
#   data_files, parquet  first [1, 2, 3] | replaced by [7, 8, 9, 10, 11]: [1, 2, 3] | streaming: [7, 8, 9, 10, 11]
#   data_files, json     first [1, 2, 3] | replaced by [7, 8, 9, 10, 11]: [1, 2, 3] | streaming: [7, 8, 9, 10, 11]
#   download_mode="force_redownload": NonMatchingSplitsSizesError
#   the same with verification_mode="no_checks", and a file with another time: [7, 8, 9, 10, 11]
# Needs:    python3 with venv; about 500 MB in the temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1
cd "$dir"
HF_HUB_OFFLINE=1 HF_HOME="$dir/hf" "$dir/venv/bin/python" - <<'PYTHON'
import io
import json
import os
import sys
import tarfile

import datasets
import pyarrow
import pyarrow.parquet

datasets.disable_progress_bars()
print(f"datasets {datasets.__version__}, pyarrow {pyarrow.__version__}")
OLD, NEW = [1, 2, 3], [7, 8, 9, 10, 11]


def archive(numbers):
    """A release: an archive whose members all have one time, as `tar --mtime` makes it."""
    parquet, packed = io.BytesIO(), io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"x": numbers}), parquet)
    lines = "".join(json.dumps({"x": number}) + "\n" for number in numbers).encode()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in [("set/train.parquet", parquet.getvalue()), ("lines/train.jsonl", lines)]:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 946684800
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def unpack(numbers):
    with tarfile.open(fileobj=io.BytesIO(archive(numbers))) as tar:
        tar.extractall(".", filter="data")


WAYS = {
    "folder, parquet": lambda **more: datasets.load_dataset("./set", split="train", **more),
    "data_files, parquet": lambda **more: datasets.load_dataset("parquet", data_files="set/train.parquet", split="train", **more),
    "data_files, json": lambda **more: datasets.load_dataset("json", data_files="lines/train.jsonl", split="train", **more),
}
unpack(OLD)
first = {name: [row["x"] for row in way()] for name, way in WAYS.items()}
unpack(NEW)
good = True
for name, way in WAYS.items():
    again, streamed = [row["x"] for row in way()], [row["x"] for row in way(streaming=True)]
    print(f"{name:20} first {first[name]} | replaced by {NEW}: {again} | streaming: {streamed}")
    good &= first[name] == OLD and again == OLD and streamed == NEW
way = WAYS["data_files, parquet"]
try:
    forced = [row["x"] for row in way(download_mode="force_redownload")]
except datasets.exceptions.NonMatchingSplitsSizesError as error:
    forced = type(error).__name__
print(f'download_mode="force_redownload": {forced}')
unchecked = [row["x"] for row in way(download_mode="force_redownload", verification_mode="no_checks")]
os.utime("lines/train.jsonl", (946684801, 946684801))
later = [row["x"] for row in WAYS["data_files, json"]()]
print(f'the same with verification_mode="no_checks", and a file with another time: {later}')
good &= forced == "NonMatchingSplitsSizesError" and unchecked == NEW and later == NEW
if not good:
    sys.exit("changed: what is read of a file that was replaced")
PYTHON

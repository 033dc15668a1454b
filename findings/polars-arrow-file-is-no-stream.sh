#!/usr/bin/env bash
# An Arrow IPC file by polars does not hold the streaming format between its marks, as the format's document says a file does.
#
# Expected: an Arrow file is the mark `ARROW1`, two bytes of padding, the streaming format, and a footer. So a reader without random
#   access may begin at byte 8 and read messages until the end mark, as it does with files by pyarrow.
# Observed: in files by polars no message begins at byte 8: the mark FF FF FF FF of one is not there. Readers that begin at the
#   footer, which has a schema of its own, notice nothing; one that reads from front to back fails at once. Uncompressed, lz4 and zstd
#   are alike. A stream by polars (write_ipc_stream) is as documented.
# Matters:  a dataset that is read while it is downloaded, or from a pipe. Such a reader must ask for a stream, or keep the file until
#   its footer is there; that it reads files by pyarrow proves nothing.
# Seen:     2026-11-30, CPython 3.11 on x86-64 Linux:
#   polars 2.1.0, pyarrow 26.0.1
#   pyarrow file          from the footer: 2 rows | from byte 8: 2 rows
#   polars uncompressed   from the footer: 2 rows | from byte 8: ArrowInvalid or OSError
#   polars lz4            from the footer: 2 rows | from byte 8: ArrowInvalid or OSError
#   polars zstd           from the footer: 2 rows | from byte 8: ArrowInvalid or OSError
#   polars stream         from its beginning: 2 rows
# Needs:    python3 with venv; installs some 100 MB.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet polars==2.1.0 pyarrow==26.0.1
"$dir/venv/bin/python" - <<'PYTHON'
import io
import sys

import polars
import pyarrow
from pyarrow import ipc

print(f"polars {polars.__version__}, pyarrow {pyarrow.__version__}")


def rows(open_it, content):
    try:
        return f"{open_it(pyarrow.BufferReader(content)).read_all().num_rows} rows"
    except (pyarrow.ArrowInvalid, OSError):
        return "ArrowInvalid or OSError"


def by_pyarrow():
    table, sink = pyarrow.table({"text": ["a", "b"]}), io.BytesIO()
    with ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def by_polars(compression):
    sink = io.BytesIO()
    polars.DataFrame({"text": ["a", "b"]}).write_ipc(sink, compression=compression)
    return sink.getvalue()


good = True
files = {"pyarrow file": by_pyarrow()}
files |= {f"polars {name}": by_polars(name) for name in ("uncompressed", "lz4", "zstd")}
for name, content in files.items():
    footer, front = rows(ipc.open_file, content), rows(ipc.open_stream, content[8:])
    print(f"{name:21} from the footer: {footer} | from byte 8: {front}")
    is_framed = content[8:12] == b"\xff\xff\xff\xff"
    expected = "2 rows" if name == "pyarrow file" else "ArrowInvalid or OSError"
    good &= footer == "2 rows" and front == expected and is_framed == (name == "pyarrow file")
sink = io.BytesIO()
polars.DataFrame({"text": ["a", "b"]}).write_ipc_stream(sink)
stream = rows(ipc.open_stream, sink.getvalue())
print(f"{'polars stream':21} from its beginning: {stream}")
good &= stream == "2 rows"
if not good:
    sys.exit("changed: what is read of files by polars, and from where")
PYTHON

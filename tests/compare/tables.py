#!/usr/bin/env python3
"""Opens what `templar export tables` and `templar dataset export` write with pyarrow, polars, duckdb and datasets.

    python3 -m venv V && V/bin/pip install pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1 datasets==5.2.0 \\
        tokenizers==0.23.3 matplotlib==3.11.2 nbclient==0.11.0 ipykernel==7.4.0
    V/bin/python tests/compare/tables.py --program target/release/templar --home HOME

HOME is a home with a run of some closed windows, such as those that `templar demo` leaves. Each library reads each table in
each format. Types, rows and sums must be the same everywhere, and the sums those of `templar status` and `templar log`. The
notebook beside the query crate runs as it is, and must draw its three plots. Every check prints a line, and the exit code is 1
if one fails.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

# A script beside this one has the name of a package.
sys.path = [path for path in sys.path if path != str(pathlib.Path(__file__).resolve().parent)]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
ROOT = pathlib.Path(__file__).resolve().parents[2]
FORMATS = ["parquet", "arrow", "csv"]
FAILED = []


def check(name, holds, detail=""):
    print(f"{'ok  ' if holds else 'FAIL'} {name}{': ' if detail else ''}{detail}", flush=True)
    if not holds:
        FAILED.append(name)


def templar(options, *arguments):
    command = [options.program, "--home", options.home, *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def by_pyarrow(path, columns):
    import pyarrow
    import pyarrow.csv
    import pyarrow.feather
    import pyarrow.parquet

    types = {"integer": pyarrow.int64(), "flag": pyarrow.bool_(), "text": pyarrow.string()}
    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
    elif path.suffix == ".arrow":
        table = pyarrow.feather.read_table(path)
    else:
        wanted = {column["name"]: types[column["type"]] for column in columns}
        convert = pyarrow.csv.ConvertOptions(column_types=wanted, strings_can_be_null=True, quoted_strings_can_be_null=False)
        table = pyarrow.csv.read_csv(path, convert_options=convert)
    assert [field.type for field in table.schema] == [types[column["type"]] for column in columns], table.schema
    return table.to_pylist()


def by_polars(path, columns):
    import polars

    types = {"integer": polars.Int64, "flag": polars.Boolean, "text": polars.String}
    wanted = {column["name"]: types[column["type"]] for column in columns}
    if path.suffix == ".parquet":
        frame = polars.read_parquet(path)
    elif path.suffix == ".arrow":
        frame = polars.read_ipc(path)
    else:
        frame = polars.read_csv(path, schema=wanted)
    assert dict(frame.schema) == wanted, frame.schema
    return frame.to_dicts()


def by_duckdb(path, columns):
    import duckdb
    import pyarrow.feather

    types = {"integer": "BIGINT", "flag": "BOOLEAN", "text": "VARCHAR"}
    wanted = {column["name"]: types[column["type"]] for column in columns}
    if path.suffix == ".parquet":
        found = duckdb.read_parquet(str(path))
    elif path.suffix == ".arrow":
        held = pyarrow.feather.read_table(path)
        found = duckdb.from_arrow(held)
    else:
        text = {"auto_detect": False, "header": True, "delimiter": ",", "quotechar": '"', "allow_quoted_nulls": False}
        found = duckdb.read_csv(str(path), columns=wanted, **text)
    assert [str(kind) for kind in found.types] == list(wanted.values()), found.types
    return [dict(zip(found.columns, row)) for row in found.fetchall()]


def tables(options, folder):
    rows = {}
    for form in FORMATS:
        written = templar(options, "export", "tables", "--format", form, "--out", folder / form)
        for table in written["tables"]:
            path = folder / form / table["file"]
            for read in [by_pyarrow, by_polars, by_duckdb]:
                name = f"{table['name']}, {form}, {read.__name__}"
                try:
                    found = read(path, table["columns"])
                except Exception as error:  # Whatever a library says, the other tables are read too.
                    check(name, False, f"{type(error).__name__}: {error}")
                    continue
                first = rows.setdefault(table["name"], found)
                check(name, found == first and len(found) == table["rows"], f"{len(found)} rows")
    return rows


def sums(options, rows):
    status = templar(options, "status")["balances"]
    log = templar(options, "log")["windows"]
    minted = sum(row["amount_micros"] for row in rows["mints"])
    check("the mints add up to what was minted", minted == status["minted_micros"], str(minted))
    slashed = sum(row["amount_micros"] for row in rows["slashes"])
    check("the slashes are within what was burnt", slashed <= status["burnt_micros"], str(slashed))
    last = [row for row in rows["balances"] if row["window"] == len(log) - 1]
    accounts = {row["account"]: (row["free_micros"], row["vesting_micros"]) for row in last}
    expected = {row["account"]: (row["free_micros"], row["vesting_micros"]) for row in status["accounts"]}
    expected["0" * 64] = (status["treasury_micros"], 0)
    check("the last balances are those of `status`", accounts == expected, f"{len(accounts)} accounts")
    check("the records are those of `log`", [row["record"] for row in rows["windows"]] == [row["record"] for row in log])
    check("there is a row for each contribution", len(rows["contributions"]) == sum(row["contributions"] for row in log))


def notebook(folder):
    """Runs the notebook on the tables in parquet, as a stranger would; nothing that it prints is kept."""
    import nbclient
    import nbformat

    read = nbformat.read(ROOT / "crates/templar-query/tables.ipynb", as_version=4)
    kept = [cell.outputs or cell.execution_count for cell in read.cells if cell.cell_type == "code"]
    check("the notebook has no outputs", not any(kept))
    os.environ.update(TABLES=str(folder / "parquet"), MPLBACKEND="module://matplotlib_inline.backend_inline")
    try:
        nbclient.NotebookClient(read, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    except nbclient.exceptions.CellExecutionError as error:
        return check("the notebook runs", False, str(error))
    outputs = [output for cell in read.cells if cell.cell_type == "code" for output in cell.outputs]
    plots = [output for output in outputs if "image/png" in output.get("data", {})]
    check("the notebook draws loss, pay and bytes", len(plots) == 3, f"{len(plots)} plots")


def dataset(options, folder):
    import datasets

    datasets.disable_progress_bars()
    lists = {}
    named = templar(options, "run", "show")["genesis"]["dataset"]
    manifest = templar(options, "dataset", "show", named)["manifest"]
    for form in ["parquet", "arrow"]:
        place = folder / f"tokens-{form}"
        templar(options, "dataset", "export", named, "--format", form, "--out", place, "--length", 256)
        for split, part in [("train", "training"), ("validation", "validation")]:
            loaded = datasets.load_dataset(str(place), split=split, cache_dir=str(folder / "cache"))
            tokens = [token for row in loaded for token in row["input_ids"]]
            expected = sum(shard["tokens"] for shard in manifest[part])
            check(f"datasets, {form}, {split}", len(tokens) == expected, f"{len(tokens)} tokens, {loaded.features}")
            check("  the tokens of both formats", lists.setdefault(split, tokens) == tokens)
            whole = [len(row) for row in loaded["input_ids"]]
            check("  lists have their length", all(length == 256 for length in whole[:-1]) or len(manifest[part]) > 1)
            if form == "parquet" and split == "train":
                page = templar(options, "dataset", "sample", named, "--page", 0, "--length", 255)["text"]
                text = decoded(place / "tokenizer.json", tokens[:256])
                check("  the first list is the first page", text is None or text == page)


def decoded(path, tokens):
    try:
        import tokenizers
    except ImportError:
        print("     (no `tokenizers` here: the text is not compared)")
        return None
    return tokenizers.Tokenizer.from_file(str(path)).decode(tokens, skip_special_tokens=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/templar")
    parser.add_argument("--home", required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rows = tables(options, folder)
        sums(options, rows)
        notebook(folder)
        dataset(options, folder)
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Compares what chat templates make of conversations here and in transformers.

    python3 -m venv V && V/bin/pip install transformers jinja2
    V/bin/python tests/compare/chat_templates.py --program target/release/templar --tokenizer TOKENIZER.json TEMPLATE...

Each TEMPLATE is a Jinja file. `dataset import --dry-run` joins a conversation by it and shows its text; transformers renders
the same conversation. The tokenizer must be a byte-level one, so that its tokens give the text back. Its end token is the
template's `eos_token`, and a token that the script adds to a copy of it is the `bos_token`. Texts are compared without one of
each at their ends. A conversation that transformers refuses must be refused here. What differs is printed.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

BEGIN = "<|begin_of_document|>"
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "weather", "arguments": {"town": "Zürich", "days": [1, 2.5], "a": None, "metric": True}},
}
USER = {"role": "user", "content": " Größe — 漢字?\n"}
ANSWER = {"role": "assistant", "content": "Yes, \"quoted\" & <b>\n\n```x```"}
CONVERSATIONS = {
    "one turn": [USER, ANSWER],
    "system": [{"role": "system", "content": "Be brief."}, USER, ANSWER],
    "three turns": [USER, ANSWER, {"role": "user", "content": "And?"}, {"role": "assistant", "content": "So."}],
    "reasoning": [USER, {"role": "assistant", "content": "<think>hm</think>fine"}, USER, ANSWER],
    "call": [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": '{"t": 3}'},
        ANSWER,
    ],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, ANSWER],
    "assistant first": [ANSWER, USER],
    "two users": [USER, USER, ANSWER],
}


def expected(template, turns, end):
    """The text that transformers renders, or its refusal."""
    # A script beside this one has the name of the package.
    sys.path = [path for path in sys.path if path != str(pathlib.Path(__file__).resolve().parent)]
    from transformers.utils.chat_template_utils import render_jinja_template

    if "strftime_now" in template:
        # Tokens must not depend on the day, so templates that have a date for that case take it.
        template = template.replace("strftime_now is defined", "false")
    try:
        return render_jinja_template([turns], chat_template=template, bos_token=BEGIN, eos_token=end)[0][0], None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def found(args, template, turns, folder, end):
    """The text of the document that an import would make, or its refusal."""
    rows = pathlib.Path(folder) / "chat.jsonl"
    rows.write_text(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")
    command = [args.program, "--json", "dataset", "import", rows, "--dry-run", "--column", "messages"]
    command += ["--tokenizer", pathlib.Path(folder) / "tokenizer.json", "--start-token", BEGIN, "--licence", "CC0-1.0"]
    command += ["--chat-template", template, "--name", "chat"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None, done.stderr.strip()
    return json.loads(done.stdout)["samples"][0]["text"], None


def with_begin(tokenizer):
    """The tokenizer with one more special token."""
    saved = json.loads(tokenizer.read_text())
    number = 1 + max([*saved["model"]["vocab"].values(), *(token["id"] for token in saved["added_tokens"])])
    settings = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    saved["added_tokens"].append({"id": number, "content": BEGIN, "special": True, **settings})
    return json.dumps(saved, ensure_ascii=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--end", default="<|endoftext|>")
    parser.add_argument("template", type=pathlib.Path, nargs="+")
    args = parser.parse_args()
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    same = refused = 0
    differ = []
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "tokenizer.json").write_text(with_begin(args.tokenizer))
        for path in args.template:
            for name, turns in CONVERSATIONS.items():
                theirs, their_refusal = expected(path.read_text(), turns, args.end)
                ours, our_refusal = found(args, path, turns, folder, args.end)
                bare = [text and text.removeprefix(BEGIN).removesuffix(args.end) for text in (theirs, ours)]
                if bare[0] == bare[1]:
                    same, refused = same + (ours is not None), refused + (ours is None)
                    continue
                differ.append(f"{path.name}, {name}")
                print(f"--- {path.name}, {name}\ntransformers: {theirs!r} {their_refusal or ''}")
                print(f"templar:      {ours!r} {our_refusal or ''}")
    print(f"{len(args.template)} templates: {same} texts are the same, {refused} refused by both, {len(differ)} differ")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()

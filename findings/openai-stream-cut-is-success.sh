#!/usr/bin/env bash
# The openai client takes a stream that ends too early for a complete answer.
#
# Expected: a stream without a finish_reason and without "[DONE]", or one that ends in the middle of an event, raises an error.
# Observed: iteration ends normally and the rest is missing. The unfinished last event is dropped. The chat helper returns the part
#   as its final completion, with finish_reason None. An answer without Content-Length whose server stops looks the same.
# Matters:  a crashed or restarted server turns into shortened answers that count as answers, in evaluations and in data made by
#   models. Check finish_reason on the client, and send Content-Length or chunked framing as a server.
# Seen:     2026-11-30, Python 3.11 on Linux (the whole answer is "one two three"):
#   openai 3.57.0
#   complete stream:          'one two three', finish_reason stop
#   ends after "one ":        'one ', finish_reason None, no error
#   ends within an event:     'one ', finish_reason None, no error
#   server closes, no length: 'one ', finish_reason None, no error
#   chat helper:              'one ', finish_reason None, no error
# Needs:    python3 with venv.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet openai==3.57.0
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import importlib.metadata
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai


def event(text, finish=None, kind="text_completion"):
    choice = {"index": 0, "text": text, "delta": {"content": text}, "finish_reason": finish}
    return "data: " + json.dumps({"id": "1", "object": kind, "created": 0, "model": "m", "choices": [choice]}) + "\n\n"


whole = event("one ") + event("two ") + event("three", "stop") + "data: [DONE]\n\n"
streams = {
    "complete stream": whole,
    'ends after "one "': event("one "),
    "ends within an event": event("one ") + event("two ")[:-20],
    "server closes, no length": event("one ") + event("two ")[:-20],
    "chat helper": event("one ", kind="chat.completion.chunk"),
}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = streams[body["model"]].encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        if "no length" not in body["model"]:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none", max_retries=0)
print(f"openai {importlib.metadata.version('openai')}")
for name in list(streams)[:-1]:
    choices = [chunk.choices[0] for chunk in client.completions.create(model=name, prompt="p", stream=True)]
    text, finish = "".join(choice.text for choice in choices), choices[-1].finish_reason
    print(f"{name + ':':25} {text!r}, finish_reason {finish}{'' if finish else ', no error'}")
    expected = ("one two three", "stop") if name == "complete stream" else ("one ", None)
    assert (text, finish) == expected, "changed"
with client.chat.completions.stream(model="chat helper", messages=[{"role": "user", "content": "p"}]) as stream:
    final = stream.get_final_completion().choices[0]
print(f"{'chat helper:':25} {final.message.content!r}, finish_reason {final.finish_reason}, no error")
assert (final.message.content, final.finish_reason) == ("one ", None), "changed"
PY

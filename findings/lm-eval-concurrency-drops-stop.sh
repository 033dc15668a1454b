#!/usr/bin/env bash
# lm-eval does not send the end-of-sequence stop when it runs requests concurrently.
#
# Expected: num_concurrent changes how fast an evaluation runs, and not what is asked of the server.
# Observed: with num_concurrent=1 the end-of-sequence text (eos_string, or the tokenizer's) is appended to every "stop" list. With
#   num_concurrent=2 it is missing, also when the user names it, and a task without stops of its own sends "stop": [].
# Matters:  generated answers, and so scores, can differ between two runs of one evaluation that differ in speed settings alone. A
#   server should end at the model's end token whatever "stop" says.
# Seen:     2026-11-30, Python 3.11 on Linux:
#   lm_eval 0.4.13, num_concurrent=1: until [] sends stop ['</s>'], until ['\n'] sends stop ['\n', '</s>']
#   lm_eval 0.4.13, num_concurrent=2: until [] sends stop [], until ['\n'] sends stop ['\n']
# Needs:    python3 with venv; about 800 MB in the temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet 'lm_eval[api]==0.4.13' datasets==5.2.0
cd "$dir"
"$dir/venv/bin/python" - 2> "$dir/log" <<'PY' || { cat "$dir/log" >&2; exit 1; }
import importlib.metadata
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI

bodies = []


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        bodies.append(body)
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        answer = json.dumps({"choices": [{"index": i, "text": "x"} for i in range(len(prompts))]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
sent = {}
for concurrent in (1, 2):
    model = LocalCompletionsAPI(
        model="toy",
        base_url=f"http://127.0.0.1:{server.server_port}/v1/completions",
        num_concurrent=concurrent,
        tokenizer_backend=None,
        tokenized_requests=False,
        eos_string="</s>",
    )
    for until in ([], ["\n"]):
        bodies.clear()
        arguments = ("a prompt", {"until": until, "max_gen_toks": 8})
        instance = Instance(request_type="generate_until", doc={}, arguments=arguments, idx=0)
        model.generate_until([instance], disable_tqdm=True)
        sent[concurrent, bool(until)] = bodies[0]["stop"]
    version = importlib.metadata.version("lm_eval")
    none, some = sent[concurrent, False], sent[concurrent, True]
    print(f"lm_eval {version}, num_concurrent={concurrent}: until [] sends stop {none}, until ['\\n'] sends stop {some}")
assert sent[1, False] == ["</s>"] and sent[1, True] == ["\n", "</s>"], "changed: the stop of one request at a time"
assert sent[2, False] == [] and sent[2, True] == ["\n"], "changed: concurrent requests send another stop"
PY

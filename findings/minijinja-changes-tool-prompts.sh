#!/usr/bin/env bash
# The same chat template gives a model another text for its tools in minijinja than in transformers.
#
# Expected: a template that prints `tools | tojson` renders equally, so that a server in Rust shows a model the prompt of training.
# Observed: minijinja sorts the keys of every object, although serde_json keeps their order with its feature preserve_order;
#   minijinja needs a feature of the same name. It also writes <, > and & as \u003c, \u003e and \u0026, with every feature.
#   transformers replaces the filter by one that does neither.
# Matters:  tool calls get worse without an error, since names and descriptions of tools are not what the model saw in training.
#   Turn on minijinja's preserve_order, and register a `tojson` of your own that does not escape.
# Seen:     2026-11-30, Python 3.11 and Rust 1.95 on Linux:
#   transformers 5.24.0:             {"type": "function", "function": {"name": "compare", "description": "if a < b & b > c"}}
#   minijinja 3.1.0:                 {"function": {"description": "if a \u003c b \u0026 b \u003e c", "name": "compare"}, "type": "function"}
#   minijinja 3.1.0, preserve_order: {"type": "function", "function": {"name": "compare", "description": "if a \u003c b \u0026 b \u003e c"}}
# Needs:    python3 with venv, and cargo; compiles about 15 crates.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet transformers==5.24.0 jinja2==3.1.6
mkdir "$dir/src"
cat > "$dir/src/tools.json" <<'JSON'
[{"type": "function", "function": {"name": "compare", "description": "if a < b & b > c"}}]
JSON
printf '{%% for tool in tools %%}{{ tool | tojson }}{%% endfor %%}' > "$dir/src/chat.jinja"
cat > "$dir/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[features]
ordered = ["minijinja/preserve_order"]

[dependencies]
minijinja = { version = "=3.1.0", features = ["json", "serde"] }
serde_json = { version = "1", features = ["preserve_order"] }
TOML
cat > "$dir/src/main.rs" <<'RUST'
fn main() {
    let tools: serde_json::Value = serde_json::from_str(include_str!("tools.json")).unwrap();
    let tools = minijinja::Value::from(minijinja::value::Serde(tools));
    let environment = minijinja::Environment::new();
    println!("{}", environment.render_str(include_str!("chat.jinja"), minijinja::context! { tools }).unwrap());
}
RUST
cd "$dir"
theirs=$("$dir/venv/bin/python" - 2>/dev/null <<'PY'
import json

from transformers.utils.chat_template_utils import render_jinja_template

tools = json.load(open("src/tools.json"))
rendered, _ = render_jinja_template(
    conversations=[[{"role": "user", "content": "x"}]], tools=tools, chat_template=open("src/chat.jinja").read()
)
print(rendered[0])
PY
)
target="${CARGO_TARGET_DIR:-$dir/target}"
plain=$(cargo run --quiet --target-dir "$target")
ordered=$(cargo run --quiet --target-dir "$target" --features ordered)
echo "transformers 5.24.0:             $theirs"
echo "minijinja 3.1.0:                 $plain"
echo "minijinja 3.1.0, preserve_order: $ordered"
function='"function": {"name": "compare", "description": '
[ "$theirs" = '{"type": "function", '"$function"'"if a < b & b > c"}}' ] || { echo "changed: transformers" >&2; exit 1; }
escaped='"if a \u003c b \u0026 b \u003e c"'
[ "$plain" = '{"function": {"description": '"$escaped"', "name": "compare"}, "type": "function"}' ] ||
    { echo "changed: minijinja" >&2; exit 1; }
[ "$ordered" = '{"type": "function", '"$function$escaped"'}}' ] || { echo "changed: minijinja, preserve_order" >&2; exit 1; }

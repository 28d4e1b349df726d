#!/bin/bash
# Builds the transforms in JavaScript and Python, runs them on captured orders, and compares what they write with the rows.
# It takes npm, python3 with venv, and the registries of both; everything goes into target/foreign. The program is
# target/debug/tidegate, or the one that TIDEGATE_PROGRAM names.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$root/target/foreign
program=${TIDEGATE_PROGRAM:-$root/target/debug/tidegate}
[ -x "$program" ] || { echo "$program is not built: cargo build --workspace --bins" >&2; exit 1; }
mkdir -p "$out" && cd "$out"

[ -x node_modules/.bin/componentize-qjs ] || npm install --silent --no-fund --no-audit componentize-qjs@0.4.5
node_modules/.bin/componentize-qjs -w "$root/wit" -j "$root/tests/guests/order_cache.js" -n transform \
  --stub-wasi --sync -m -o javascript.wasm
[ -x venv/bin/componentize-py ] || { python3 -m venv venv && venv/bin/pip -q install componentize-py==0.25.1; }
venv/bin/componentize-py -d "$root/wit" -w transform componentize --stub-wasi -p "$root/tests/guests" app -o python.wasm

for guest in javascript python; do
  rm -rf "$guest" && mkdir "$guest" && cd "$guest"
  cat > tidegate.toml <<TOML
[source.file]
paths = ["$root/tests/corpus/order-cache/dbserver1.public.orders.jsonl"]
[sinks.store.sqlite]
path = "store.db"
[engine]
cache = "compiled"
[[pipelines]]
name = "orders"
topics = ["dbserver1.public.orders"]
format = "debezium-flattened"
sinks = { cache = "store" }
[[pipelines.transforms]]
name = "order-cache"
module = "../$guest.wasm"
grants = { cache = ["order:*"] }
TOML
  "$program" check tidegate.toml
  "$program" run tidegate.toml --log warn
  cd ..
  python3 "$root/tests/guests/compare.py" "$root/tests/corpus/order-cache/dbserver1.public.orders.jsonl" "$guest/store.db"
done

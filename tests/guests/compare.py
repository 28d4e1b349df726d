"""Compares a store with recorded events: each order that was not deleted last is there, with its last row."""
import json
import sqlite3
import sys

events, store = sys.argv[1:]
wanted = {}
for line in open(events, encoding="utf-8"):
    event = json.loads(line)
    if event.get("key") is None:
        continue
    key = "order:" + json.loads(event["key"])["id"]
    row = None if event.get("value") is None else json.loads(event["value"], parse_float=str)
    if row is None or row.get("__deleted") == "true":
        wanted.pop(key, None)
    else:
        wanted[key] = {name: value for name, value in row.items() if not name.startswith("__")}
found = {}
for key, value in sqlite3.connect(store).execute("SELECT key, value FROM tidegate_cache"):
    row = json.loads(value, parse_float=str)
    found[key] = {name: value for name, value in row.items() if not name.startswith("__")}
unsent = "__debezium_unavailable_value"
for key, row in wanted.items():
    # A column that was not sent is not in what the transform got.
    wanted[key] = {name: value for name, value in row.items() if value != unsent}
different = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
if different or not wanted:
    sys.exit(f"{store}: {len(different)} of {len(wanted)} orders differ: {sorted(different)[:5]}")
print(f"{store}: {len(wanted)} orders, all as their last rows")

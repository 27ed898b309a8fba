#!/usr/bin/env python3
"""smoke.py VARVE-BENCH: the rows that count bytes, which are the same on every machine and take a second, and those that
start threads: they run to their end, what they write can be read by programs, and the scratch directory is gone
afterwards."""
import json
import os
import subprocess
import sys
import tempfile

KEYS = ["name", "unit", "floor", "value", "ratio", "goal", "runs"]

with tempfile.TemporaryDirectory(dir=".") as place:
    def run(row, least):
        out = os.path.join(place, "bench.json")
        done = subprocess.run([sys.argv[1], "--quick", "--only", row, "--dir", place, "--json", out],
                              stdout=subprocess.PIPE, text=True)
        print(done.stdout)
        if done.returncode != 0:
            sys.exit("varve-bench: exit code %d" % done.returncode)
        with open(out, encoding="utf-8") as file:
            rows = json.load(file)
        if len(rows) < least:
            sys.exit("%s: %d rows" % (row, len(rows)))
        return rows, done.stdout

    run("commits at once", 3)
    rows, table = run("bytes per commit, images", 4)
    for row in rows:
        if list(row) != KEYS:
            sys.exit("keys: %s" % list(row))
        if abs(row["ratio"] - row["value"] / row["floor"]) > row["ratio"] * 1e-4:
            sys.exit("%s: the ratio is not value / floor" % row["name"])
        if row["name"].split(": ")[1] not in table:
            sys.exit("%s: not in the table" % row["name"])
    one = [row for row in rows if "1 page, 1 word" in row["name"]]
    if len(one) != 1 or one[0]["ratio"] > one[0]["goal"]:
        sys.exit("a commit of one word takes more than its word, 48 for the page and 512 bytes")
    if os.listdir(place) != ["bench.json"]:
        sys.exit("left behind: %s" % os.listdir(place))

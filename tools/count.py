#!/usr/bin/env python3
"""count.py TESTLOG.json - count the tests that a run of meson logged; see test.sh."""
import json
import re
import sys

CMOCKA = {name: re.compile(r"^\[ +%s *\] (\d+) test\(s\)" % name, re.M) for name in ("PASSED", "FAILED", "SKIPPED")}
LINE = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.M)


def counts(result):
    """(passed, failed, skipped) of one program, by its own words."""
    said = result.get("stdout", "") + "\n" + result.get("stderr", "")
    line = LINE.findall(said)
    if line:
        passed, failed, skipped = (int(number or 0) for number in line[-1])
    else:
        passed, failed, skipped = (sum(map(int, found.findall(said))) for found in CMOCKA.values())
    if result["result"] == "EXPECTEDFAIL":
        return 0, 0, 1  # known not to hold yet: no success
    if result["result"] == "SKIP" and passed + failed + skipped == 0:
        return 0, 0, 1
    good = result["result"] in ("OK", "SKIP")
    if good and passed + failed + skipped == 0:
        return 1, 0, 0
    # A program that crashed or ran out of time failed, whatever it still said.
    return passed, (0 if good else max(failed, 1)), skipped


def main():
    try:
        with open(sys.argv[1], encoding="utf-8") as log:
            results = [json.loads(line) for line in log]
    except OSError:
        results = []
    passed, failed, skipped = (sum(column) for column in zip((0, 0, 0), *map(counts, results)))
    print("%d passed, %d failed" % (passed, failed) + (", %d skipped" % skipped if skipped else ""))
    # No test at all is not a success.
    return 0 if passed and not failed else 1


sys.exit(main())

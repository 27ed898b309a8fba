#!/usr/bin/env python3
"""crash.py TESTLOG.json - what the crash harnesses of a run of meson tried, by the `tally:` lines that they print."""
import json
import re
import sys

WORDS = {
    "kill": "points killed",
    "fault": "faults injected",
    "replay": "states after a power loss",
    "corrupt": "files damaged",
    "full": "full disks",
    "hold": "openings beside another",
    "drive": "operations at random",
    "flat-power": "flat: after a power loss",
    "clone-power": "clones after a power loss",
    "chain-power": "chain: after a power loss",
}
LINE = re.compile(r"^tally: (\S+) (\d+) (\d+)$", re.M)


def main():
    sums = {}
    seconds = failed = 0
    with open(sys.argv[1], encoding="utf-8") as log:
        for result in map(json.loads, log):
            if result["name"].endswith("crash/sweep"):
                continue  # it sweeps bugs, to see that the sweep finds them
            seconds += result["duration"]
            failed += result["result"] not in ("OK", "SKIP")
            for harness, count, violations in LINE.findall(result.get("stdout", "")):
                one = sums.setdefault(harness, [0, 0])
                one[0] += int(count)
                one[1] += int(violations)
    print("%-28s %9s %10s" % ("", "tried", "violations"))
    for harness in [*WORDS, *sorted(sums.keys() - WORDS.keys())]:
        if harness in sums:
            print("%-28s %9d %10d" % (WORDS.get(harness, harness), *sums[harness]))
    violations = sum(one[1] for one in sums.values())
    print("%-28s %9d %10d" % ("all", sum(one[0] for one in sums.values()), violations))
    print("%d s of programs, %d programs failed" % (seconds, failed))
    return 0 if sums and not violations and not failed else 1


sys.exit(main())

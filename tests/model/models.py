#!/usr/bin/env python3
"""models.py [--deep] [NAME...] - let spin search all states of the models here, and those of their planted variants.

A model must have no error in any reachable state; a variant, which leaves out one thing that the model says is
needed, must have one. --deep: with more processes and more rounds, the models alone. Each line says how many states were searched. Without spin all is skipped, with the reason.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = {
    "hold": ["HOLD_AFTER_LOOKUP", "NO_SECOND_LOOK", "UNLOCK_FIRST", "HEAD_LATE", "DROP_AT_ONCE",
             "HEAD_LEFT_BEHIND"],
    "image": ["NO_EXCLUSIVE", "STAMP_BEFORE_LOCK", "SPARE_TRUSTED", "STAMP_NOT_SYNCED", "PAGES_NOT_SYNCED",
              "RENAMED_BEFORE_SYNC"],
    "group": ["REVEAL_BEFORE_SYNC", "SYNC_TRIED_AGAIN", "END_AFTER_SYNC", "REF_IN_FLIGHT", "VISIBLE_BEFORE_WRITE"],
}

DEEP = {"hold": ["-DLAST=3"], "image": ["-DMAPPERS=2"], "group": ["-DCOMMITTERS=4"]}
FLAGS = {"image": ["-E"]}  # after the crash nobody goes on: no deadlock


def search(name, define, variant):
    """(errors, states, whether all were searched)"""
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(["spin"] + define + ["-a", os.path.join(HERE, name + ".pml")], cwd=work, check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run(["cc", "-w", "-O1" if not variant else "-O0", "-DSAFETY", "-DMEMLIM=4096", "-o", "pan", "pan.c"], cwd=work, check=True)
        said = subprocess.run(["./pan", "-m200000"] + FLAGS.get(name, []), cwd=work, check=True, stdout=subprocess.PIPE, text=True).stdout
    errors = int(re.search(r"errors: (\d+)", said)[1])
    states = int(re.search(r"(\d+) states, stored", said)[1])
    return errors, states, "Search not completed" not in said and "max search depth too small" not in said


def main():
    passed = failed = 0
    deep = "--deep" in sys.argv
    wanted = [name for name in sys.argv[1:] if name != "--deep"] or list(MODELS)
    count = sum(1 if deep else 1 + len(MODELS[name]) for name in wanted)
    for program in ("spin", "cc"):
        if not shutil.which(program):
            print("SKIPPED: no %s (tools/setup.sh long)" % program)
            print("0 passed, 0 failed, %d skipped" % count)
            return 77
    for name in wanted:
        for variant in [""] + ([] if deep else MODELS[name]):
            errors, states, complete = search(name, DEEP[name] if deep else ["-D" + variant] if variant else [], variant)
            good = errors > 0 if variant else errors == 0 and complete
            verdict = "refuted" if errors else "holds" if complete else "holds as far as was searched"
            print("%-6s %-22s %9d states: %s%s" % (name, variant, states, verdict, "" if good else "  WRONG"))
            sys.stdout.flush()
            passed, failed = passed + good, failed + (not good)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


sys.exit(main())

#!/usr/bin/env python3
"""plant.py BUILD [--all] [--markdown] [PLANT]... - switch on each planted bug in turn and see whether its harness finds it.

BUILD is configured with -Dplant=true. A row of the table below is a bug, the harness that must find it, and what it
is; the bugs themselves are where src/ says VV_PLANT("name"). The last row is the sound build, in which nobody may find
anything. With --all each bug is shown to every harness: that takes four times as long and decides nothing. Ends with
a table: violations by harness, '-' for none; a harness that the bug ends by a signal: 'died'; and how long it took: each
row's harnesses, one after the other, and all of it. With --markdown the table is that of docs/reliability.md.
"""
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))

# Program of the build, arguments, and what it tells of.
PROGRAMS = (
    ("crash_journal", ("commit", "refs", "code", "pairs", "pairs-in-use"), ("kill", "fault")),
    ("replay", ("little",), ("replay",)),
    ("corrupt", (), ("corrupt",)),
    ("hold", (), ("hold",)),
    ("crash_line flat-commit", ("flat-restore",), ("flat",)),
    ("crash_line_power flat", (), ("flat-power",)),
    ("crash_line chain-commit", ("chain-restore", "chain-again", "chain-delete"), ("chain",)),
    ("crash_line_power chain", (), ("chain-power",)),
    ("crash_tree", ("commit", "refs", "again", "held"), ("tree",)),
    ("replay --layout tree", ("little",), ("tree-power",)),
)
HARNESSES = [name for _, _, names in PROGRAMS for name in names]

# The longest in the sound build come first, so that none of them is the last to end.
FIRST = ("replay", "crash_line_power chain", "crash_journal", "crash_line chain-commit", "replay --layout tree")

PLANTS = (
    ("sync-log", "replay", "the log is not synced"),
    ("sync-dir-segment", "replay", "the name of a new segment is not synced"),
    ("ack-before-sync", "replay", "a commit is acknowledged before its sync"),
    ("settle-skipped", "replay", "what a killed process left unsynced is promised"),
    ("rename-before-sync", "replay", "a file is renamed into place before its bytes are synced"),
    ("sync-code", "replay", "bytecode is not synced before a record names it"),
    ("sync-code-dir", "replay", "the name of the pool of bytecode is not synced"),
    ("ref-outside-record", "kill", "a ref moves in a record of its own, after the commit"),
    ("debris-accepted", "replay", "a record at the log's end is taken without its sums"),
    ("epoch-kept", "replay", "an opening goes on in the epoch of the one before"),
    ("sector-rewritten", "replay", "a block that holds acknowledged bytes is written again"),
    ("image-in-place", "kill", "an image file is written into while it is mapped"),
    ("spare-trusted", "kill", "an image file that was left half-written is mapped"),
    ("image-sync", "replay", "an image file is called whole before its pages are synced"),
    ("drop-early", "replay", "a segment goes before the checkpoint that needs none of it is durable"),
    ("repair-sync", "replay", "a repair's record is not synced"),
    ("failure-kept", "fault", "a record whose write failed stays in the log"),
    ("retry-sync", "fault", "a failed sync is tried again and believed"),
    ("sync-error-ignored", "fault", "nobody looks whether a sync failed"),
    ("poison-forgotten", "fault", "after a failed sync the store goes on writing"),
    ("sum-without-header", "corrupt", "a record's sums do not cover its header"),
    ("hold-ignored", "hold", "space goes while holds and readers of other processes still look at it"),
    ("lock-ignored", "hold", "nobody looks whether a lock was taken"),
    ("lock-of-process", "hold", "locks are the process's, and go with any close"),
    ("last-alone", "flat", "flat: pointers `_last` stay where a crash left them, each on its own"),
    ("persist-unsynced", "flat-power", "flat: `commits` names files that are not synced"),
    ("persist-dir-unsynced", "flat-power", "flat: `commits` names files whose names are not synced"),
    ("flat-settle-skipped", "flat-power", "flat: what a killed process left unsynced is promised and built on"),
    ("nodes-same-block", "flat-power", "saved nodes are written into a block that holds durable ones"),
    ("ordinal-reused", "chain", "chain: a delta is written over one of an equal version"),
    ("delta-unsynced", "chain-power", "chain: `commits` names deltas that are not synced"),
    ("newest-in-place", "chain", "chain: the newest image is written into while it is mapped"),
    ("stamp-kept", "chain-power", "chain: a newest image is written into while its stamp says that it is whole"),
    ("first-unsynced", "chain-power", "chain: the oldest versions go before the next first image is synced"),
    ("chain-settle-skipped", "chain-power", "chain: what a killed process left unsynced is promised and built on"),
    ("diff-in-place", "tree", "tree: a diff is written into the file that an older commit has too"),
    ("directory-in-place", "tree", "tree: a directory is deleted where it is, and not renamed first"),
    ("tree-hold-ignored", "tree", "tree: a directory goes while a hold still looks at it"),
    ("tree-ref-apart", "tree", "tree: a ref moves in a record of its own, after the commit"),
    ("tree-failure-kept", "tree", "tree: a record whose write failed stays in the history"),
    ("tree-file-sync", "tree-power", "tree: a directory gets its name before its files are synced"),
    ("tree-names-sync", "tree-power", "tree: a directory gets its name before the names in it are synced"),
    ("tree-root-sync", "tree-power", "tree: a commit is made before the name of its directory is synced"),
    ("tree-ack-before-sync", "tree-power", "tree: a commit is acknowledged before its record is synced"),
    ("tree-settle-skipped", "tree-power", "tree: what a killed process left unsynced is promised"),
)
SOUND = ("", None, "the sound build")


def sites():
    """The names that src/ plants."""
    found = set()
    for folder, _, names in os.walk(os.path.join(ROOT, "src")):
        for name in names:
            if name.endswith(".c"):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    found |= set(re.findall(r'VV_PLANT\("([^"]+)"\)', file.read()))
    return found


def run(build, program, arguments, plant):
    """Violations or 'died', by harness, of one program with one bug; and how many seconds it took."""
    begun = time.monotonic()
    names = next(names for name, _, names in PROGRAMS if name == program)
    environment = dict(os.environ, VARVE_PLANT=plant, VARVE_TEST_QUICK="1")
    try:
        done = subprocess.run([os.path.join(build, "tests", "crash", *program.split()[:1]), *program.split()[1:],
                               *arguments], env=environment, timeout=600,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    except subprocess.TimeoutExpired:
        return {name: "hung" for name in names}, time.monotonic() - begun
    told = dict.fromkeys(names, "died" if done.returncode < 0 else "ended")
    for name, _, violations in re.findall(r"^tally: (\S+) (\d+) (\d+)$", done.stdout.decode(), re.M):
        name = name if name in names else names[0]
        told[name] = int(violations) + (told[name] if isinstance(told[name], int) else 0)
    return told, time.monotonic() - begun


def main():
    begun = time.monotonic()
    build, *asked = [argument for argument in sys.argv[1:] if argument not in ("--all", "--markdown")]
    chosen = [row for row in PLANTS if not asked or row[0] in asked]
    everybody = "--all" in sys.argv
    markdown = "--markdown" in sys.argv
    shown = [(plant, program, arguments) for plant, harness, _ in [*chosen, SOUND]
             for program, arguments, names in PROGRAMS if everybody or harness is None or harness in names]
    wrong = ["%s: no such row" % name for name in asked if name not in [row[0] for row in PLANTS]]
    wrong += ["%s: planted nowhere" % name for name, _, _ in PLANTS if name not in sites()]
    wrong += ["%s: planted, and not in the table" % name for name in sites() - {row[0] for row in PLANTS}]
    shown.sort(key=lambda job: (job[0] != "", FIRST.index(job[1]) if job[1] in FIRST else len(FIRST)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {(plant, program): pool.submit(run, build, program, arguments, plant)
                for plant, program, arguments in shown}
    if markdown:
        print("| planted | harness | violations | what |\n|---|---|---|---|")
    else:
        print("%-20s %s %4s  %s" % ("planted", " ".join("%11s" % name for name in HARNESSES), "s", "what"))
    for plant, harness, words in [*chosen, SOUND]:
        told, seconds = {}, 0
        for program, _, _ in PROGRAMS:
            if (plant, program) in jobs:
                found, took = jobs[plant, program].result()
                told.update(found)
                seconds += took
        cells = " ".join("%11s" % (told.get(name, "") or ("-" if name in told else "")) for name in HARNESSES)
        if not markdown:
            print("%-20s %s %4d  %s" % (plant or "none", cells, seconds, words), flush=True)
        elif harness is not None:
            print("| %s | %s | %s | %s |" % (plant, harness, told.get(harness), words), flush=True)
        if harness is not None and not isinstance(told.get(harness), int) or told.get(harness) == 0:
            wrong.append("%s: %s does not find it" % (plant, harness))
        if harness is None and any(told.values()):
            wrong.append("the sound build: something is found")
    for text in wrong:
        print(text)
    print("%d planted bugs, %d problems, %d s" % (len(chosen), len(wrong), time.monotonic() - begun))
    return 1 if wrong else 0


sys.exit(main())

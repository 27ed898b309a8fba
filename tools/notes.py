#!/usr/bin/env python3
"""notes.py BUILD MODULES - replay the five design notes step by step, with two real modules, and print the directory
after each step beside what the note says of it.

BUILD has the command; MODULES has sqlite3.wasm and quickjs.wasm. Ids are replaced by the notes' names (ModId1, Commit1) and
the two lists of files are compared: a difference is printed and ends with 1. All else that is printed is the same on every
machine, and is kept in tests/golden/notes.md.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

BUILD, MODULES = (os.path.abspath(path) for path in sys.argv[1:3])
MARK = "@@ "
failed = 0


def say(text=""):
    print(text)


def varve(folder, *words, stdin=None, code=0):
    """The output of one command on the store in `folder`."""
    environment = {"PATH": BUILD + ":" + os.environ["PATH"], "HOME": os.environ.get("HOME", "/"),
                   "VARVE_TIME": "2026-11-20T12:00:00Z", "VARVE_SEED": "11" * 32, "NO_COLOR": "1",
                   "VARVE_CACHE": os.environ.get("VARVE_CACHE", os.path.join(tempfile.gettempdir(), "varve-notes-cache"))}
    done = subprocess.run(["varve", "-q", *words], input=stdin, cwd=folder, env=environment, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != code:
        sys.exit(f"notes: varve {' '.join(words)}: exit {done.returncode}, expected {code}: {done.stderr}")
    return done.stdout


def rows_of(text):
    """(file, comment) of each row of a table that `ls --files` printed."""
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and cells[0] != "Base directory" and not cells[1].startswith("--"):
            rows.append((cells[1], cells[2]))
    return rows


def run(folder, steps):
    """Run steps (name, statements) as one session; the directory after each, by name."""
    script = ""
    for name, statements in steps:
        script += statements + f"\necho '{MARK}{name}'\nls --files\necho '{MARK}'\n"
    text = varve(folder, "run", "-", stdin=script)
    return {name: rows_of(table)
            for name, table in re.findall(MARK + r"(.+)\n(.*?)" + MARK.strip() + r" ?\n", text, re.S)}


class Names:
    """The notes' names for ids, in the order in which they were met."""

    def __init__(self, modules):
        self.known = {hex_id: f"ModId{i + 1}" for i, hex_id in enumerate(modules)}
        self.commits = {}

    def meet(self, rows, number):
        """Module commits that are new after session commit `number`."""
        for path, _ in rows:
            for module, commit in re.findall(r"([0-9A-F]{64})_([0-9A-F]{64})", path):
                self.commits.setdefault((module, commit), f"Commit{number}")

    def short(self, text):
        def pair(match):
            module, commit = match.group(1), match.group(2)
            name = self.known.get(module, module)
            return f"{name}_{self.commits.get((module, commit), commit)}"

        text = re.sub(r"([0-9A-F]{64})_([0-9A-F]{64})", pair, text)
        return re.sub(r"[0-9A-F]{64}", lambda match: self.known.get(match.group(0), match.group(0)), text)


def beside(title, noted, rows, short):
    """The note's list of files beside ours."""
    global failed
    ours = sorted((short(path), short(what)) for path, what in rows)
    noted = sorted(noted)
    names = sorted(set(noted) | {path for path, _ in ours})
    say(f"\n#### {title}\n")
    table = [("The note", "varve", "Comment")]
    comments = dict(ours)
    for name in names:
        here, there = name if name in noted else "", name if name in comments else ""
        table.append((here, there, comments.get(name, "")))
        if here != there:
            failed += 1
    widths = [max(len(row[i]) for row in table) for i in range(3)]
    for i, row in enumerate(table):
        say("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if i == 0:
            say("|-" + "-|-".join("-" * width for width in widths) + "-|")
    if noted != [path for path, _ in ours]:
        say("\nDIFFERENT: the two lists are not the same")


OPEN = """deploy ../sqlite3.wasm module_1
deploy ../quickjs.wasm module_2 --missing trap
pp = call module_1 malloc 4
call module_1 sqlite3_open_v2 s::memory: $pp 6 0
expect 0
h = peek module_1 $pp --type i32
call module_1 sqlite3_exec $h 's:create table t(a); insert into t with recursive n(x) as (select 1 union all select x + 1 from n limit 50000) select x from n' 0 0 0
expect 0
call module_2 qjs_init"""
SQL = """h = peek module_1 $pp --type i32
call module_1 sqlite3_exec $h 's:insert into t values(7)' 0 0 0
expect 0"""
JS = "call module_2 qjs_eval 'd:globalThis.n = (globalThis.n || 40) + 1' s:varve 0"


def make(root, layout):
    folder = os.path.join(root, layout)
    varve(root, "init", folder, "--layout", layout)
    for name in ("sqlite3.wasm", "quickjs.wasm"):
        os.symlink(os.path.join(MODULES, name), os.path.join(root, name)) if not os.path.exists(
            os.path.join(root, name)) else None
    return folder


def ids(folder):
    lines = varve(folder, "ls", "--json").splitlines()
    by_name = {json.loads(line)["name"]: json.loads(line)["id"] for line in lines}
    return [by_name[name] for name in sorted(by_name)]


def main():
    root = tempfile.mkdtemp(prefix="varve-notes-")
    try:
        for replay in REPLAYS:
            if len(sys.argv) < 4 or replay.__name__ in sys.argv[3:]:
                replay(root)
    finally:
        shutil.rmtree(root)
    if failed:
        sys.exit(f"notes: {failed} files are not where the notes have them")


def commits_store(folder, names):
    """The map of maps: session commit, module, module commit; from what `ls --files` says of each file."""
    say("\n#### Commits store\n")
    say("| Session Commits | Module Ids | Module Commits |")
    say("|-----------------|------------|----------------|")
    for number in range(1, len(varve(folder, "log").splitlines()) + 1):
        first = True
        for line in varve(folder, "ls", "--at", f"r{number}", "--json").splitlines():
            module = json.loads(line)
            name, commit = names.known[module["id"]], names.commits.get((module["id"], module["leaf"]), "?")
            say(f"| {'Commit' + str(number) if first else '':15} | {name:10} | {commit:14} |")
            first = False


def flat(root):
    say("\n## Seeds 000 and 002: flat\n")
    folder = make(root, "flat")
    steps = run(folder, [
        ("Initial State", OPEN),
        ("After Session Commit 1", 'commit "session commit 1"'),
        ("After Session Commit 2", SQL + "\n" + JS + '\ncommit "session commit 2"'),
        ("After VM Persist", "persist"),
    ])
    names = Names(ids(folder))
    names.meet(steps["After Session Commit 1"], 1)
    names.meet(steps["After Session Commit 2"], 2)
    modules = ["ModId1", "ModId2"]
    one = modules + [m + "_Commit1" for m in modules] + [m + "_last" for m in modules]
    two = one + [m + "_Commit2" for m in modules]
    beside("Initial State", modules, steps["Initial State"], names.short)
    beside("After Session Commit 1", one, steps["After Session Commit 1"], names.short)
    beside("After Session Commit 2", two, steps["After Session Commit 2"], names.short)
    beside("After VM Persist", two + ["commits"], steps["After VM Persist"], names.short)
    commits_store(folder, names)
    varve(folder, "restore", "r1")
    beside("After VM Restore Commit 1", two + ["commits"], rows_of(varve(folder, "ls", "--files")), names.short)


def chain(root):
    say("\n## Seed 001: chain\n")
    folder = make(root, "chain")
    steps = run(folder, [
        ("Initial State", OPEN),
        ("After Session Commit 1", 'commit "session commit 1"'),
        ("After Session Commit 2", SQL + "\n" + JS + '\ncommit "session commit 2"'),
        ("After VM Persist", "persist"),
    ])
    names = Names(ids(folder))
    names.meet(steps["After Session Commit 1"], 1)
    names.meet(steps["After Session Commit 2"], 2)
    modules = ["ModId1", "ModId2"]
    one = modules + [m + "_Commit1" for m in modules]
    two = one + [m + "_Commit2" for m in modules]
    beside("Initial State", modules, steps["Initial State"], names.short)
    beside("After Session Commit 1", one, steps["After Session Commit 1"], names.short)
    beside("After Session Commit 2", two, steps["After Session Commit 2"], names.short)
    beside("After VM Persist", two + ["commits"], steps["After VM Persist"], names.short)
    commits_store(folder, names)
    varve(folder, "restore", "r1")
    beside("After VM Restore Commit 1", two + ["commits"], rows_of(varve(folder, "ls", "--files")), names.short)

    # The listing of the note: deltas between, and ordinals where the same module commit comes again. A byte that goes
    # back and forth gives a module the same memory, so the same module commit id, again and again.
    varve(folder, "restore", "r2")
    flip = ["poke module_2 100 u8:1", "poke module_2 100 u8:0", "poke module_2 100 u8:1", "poke module_2 101 u8:7"]
    steps = run(folder, [(f"commit {i + 3}", text + f'\ncommit "session commit {i + 3}"') for i, text in enumerate(flip)])
    for i in range(len(flip)):
        names.meet(steps[f"commit {i + 3}"], i + 3)
    noted = ["ModId1", "ModId1_Commit1", "ModId1_Commit2", "ModId2", "ModId2_Commit1", "ModId2_Commit2_0",
             "ModId2_Commit3_0", "ModId2_Commit2_1", "ModId2_Commit3_1", "ModId2_Commit6", "commits"]
    beside("Deltas of commits: module 2 was in its second state twice, in its third twice", noted, steps["commit 6"],
           names.short)


def tree(root):
    say("\n## Seed 003: tree\n")
    folder = make(root, "tree")
    steps = run(folder, [
        ("The genesis commit", OPEN + '\ncommit "genesis"'),
        ("Another commit", SQL + "\ndeploy ../sqlite3.wasm module_3\ncommit another"),
        ("Yet another commit", JS + "\ncommit 'yet another'"),
    ])
    names = Names(ids(folder))
    roots = {}
    for number in (1, 2, 3):
        roots[json.loads(varve(folder, "show", f"r{number}", "--json"))["root"]] = f"root_{number}"

    def short(text):
        text = re.sub(r"[0-9A-F]{64}", lambda match: roots.get(match.group(0), match.group(0)), text)
        return re.sub(r"ModId", "module_", names.short(text))

    def files(number, modules, changed):
        found = [f"root_{number}/index"]
        for module in modules:
            found += [f"root_{number}/bytecode/module_{module}", f"root_{number}/memory/module_{module}"]
        return found + [f"root_{number}/memory/module_{module}.diff" for module in changed]

    genesis = files(1, [1, 2], [])
    another = genesis + files(2, [1, 2, 3], [1])
    beside("The genesis commit", genesis, steps["The genesis commit"], short)
    beside("Another commit", another, steps["Another commit"], short)
    beside("Yet another commit", another + files(3, [1, 2, 3], [1, 2]), steps["Yet another commit"], short)
    varve(folder, "delete", "r2")
    beside("A commit deleted on its own: all others stay whole", genesis + files(3, [1, 2, 3], [1, 2]),
           rows_of(varve(folder, "ls", "--files")), short)


def journal(root):
    say("\n## Seed 004: journal\n")
    folder = make(root, "journal")
    varve(folder, "run", "-", stdin=OPEN + '\ncommit "session commit 1"\n')
    names = Names(ids(folder))

    def step(title, noted):
        beside(title, noted, rows_of(varve(folder, "ls", "--files")), lambda text: names.short(text.replace(
            "log.0000000000001000", "log")))

    step("Deltas go to an append-only log", ["head", "log"])
    varve(folder, "gc", "--snapshot")
    step("A snapshot: the exact memory at that point, to be mapped", ["head", "image/ModId1.0", "image/ModId2.0", "log"])
    varve(folder, "run", "-", stdin=JS + "\ncommit\n")
    varve(folder, "gc", "--snapshot")
    step("The next one goes to the other file, most of whose pages are right already",
         ["head", "image/ModId1.0", "image/ModId2.0", "image/ModId2.1", "log"])


REPLAYS = [flat, chain, tree, journal]

if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""notes.py BUILD MODULES [LAYOUT...] - replay the design notes step by step, with two real modules, and print the
directory after each step beside what the note says of it.
notes.py BUILD MODULES --check FILE - is that what FILE has behind its line "<!-- make notes -->"? --write FILE: put it there.

BUILD has the command; MODULES has sqlite3.wasm and quickjs.wasm (exit 77, skipped, when it has not). Ids are replaced by the
notes' names (ModId1, Commit1), and the files are compared with the note's: a difference is marked and ends with 1. What is
printed is the same on every machine.
"""
import contextlib
import difflib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

BUILD, WASM = (os.path.abspath(path) for path in sys.argv[1:3])
MARK = "@@ "
failed = 0


def say(text=""):
    print(text)


def varve(folder, *words, stdin=None, code=0):
    """The output of one command on the store in `folder`."""
    environment = {"PATH": BUILD + ":" + os.environ["PATH"], "HOME": os.environ.get("HOME", "/"),
                   "VARVE_TIME": "2026-11-20T12:00:00Z", "VARVE_SEED": "11" * 32, "NO_COLOR": "1"}
    environment.update({name: os.environ[name] for name in ("VARVE_CACHE", "LD_LIBRARY_PATH") if name in os.environ})
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
            for name, table in re.findall(MARK + r"([^\n]+)\n(.*?)" + MARK.strip() + r" ?\n", text, re.S)}


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


def beside(title, noted, rows, short, more=None):
    """The note's files, each with its comment where the note has one (a dictionary), beside ours. `more`: a pattern of
    files that we need and the note does not have."""
    global failed
    ours = {short(path): short(what) for path, what in rows}
    say(f"\n#### {title}\n")
    table = [("The note", "varve", "Comment")]
    for name in sorted(set(noted) | set(ours)):
        here, there = name if name in noted else "", name if name in ours else ""
        comment = ours.get(name, "")
        wanted = here == there or (more is not None and not here and re.search(more, name))
        if not wanted or (noted.get(name) and noted[name] != comment):
            failed += 1
            comment += " DIFFERENT"
        table.append((here, there, comment))
    widths = [max(len(row[i]) for row in table) for i in range(3)]
    for i, row in enumerate(table):
        say("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if i == 0:
            say("|-" + "-|-".join("-" * width for width in widths) + "-|")


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


FLIP = ["poke module_2 100 u8:1", "poke module_2 100 u8:0", "poke module_2 100 u8:1", "poke module_2 101 u8:7"]


def make(root, layout):
    folder = os.path.join(root, layout)
    varve(root, "init", folder, "--layout", layout)
    for name in ("sqlite3.wasm", "quickjs.wasm"):
        if not os.path.exists(os.path.join(root, name)):
            os.symlink(os.path.join(WASM, name), os.path.join(root, name))
    return folder


def ids(folder):
    lines = varve(folder, "ls", "--json").splitlines()
    by_name = {json.loads(line)["name"]: json.loads(line)["id"] for line in lines}
    return [by_name[name] for name in sorted(by_name)]


def commits_store(folder, names, count):
    """The map of maps: session commit, module, module commit, whose id is the module's leaf."""
    say("\n#### Commits Store\n")
    say("| Session Commits | Module Ids | Module Commits |")
    say("|-----------------|------------|----------------|")
    for number in range(1, count + 1):
        rows = []
        for line in varve(folder, "ls", "--at", f"r{number}", "--json").splitlines():
            module = json.loads(line)
            rows.append((names.known[module["id"]], "Mod" + names.commits.get((module["id"], module["leaf"]), "?")))
        for i, (module, commit) in enumerate(sorted(rows)):
            say(f"| {'' if i else f'Commit{number}':15} | {module:10} | {commit:14} |")


def digests(folder):
    found = {}
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                found[name] = hashlib.sha256(file.read()).hexdigest()
    return found


def changed_alone(folder, before, wanted, short):
    """Only these files have other bytes than `before`."""
    global failed
    after = digests(folder)
    changed = sorted(short(name) for name in set(before) | set(after) if before.get(name) != after.get(name))
    say(f"\nFiles whose bytes have changed: {', '.join(changed)}")
    failed += changed != wanted


def in_real_life(title, rows):
    say(f"\n{title}\n\n```")
    for path, _ in sorted(rows):
        say(path)
    say("```")


BACKING = "mmap backing file"
STORE = "contains commits' store"
MODULES = ["ModId1", "ModId2"]


def each(suffix, comment=""):
    return {module + suffix: comment for module in MODULES}


def flat(root):
    say("\n## Seeds 000 and 002: flat")
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
    backing = each("", BACKING)
    first = {**backing, **each("_Commit1")}
    both = {**first, **each("_Commit2")}
    last1, last2, store = each("_last", "points to commit1"), each("_last", "points to commit2"), {"commits": STORE}
    beside("Initial State", backing, steps["Initial State"], names.short)
    beside("After Session Commit 1", {**first, **last1}, steps["After Session Commit 1"], names.short)
    in_real_life("Here is how the contents of the directory look in real life:", steps["After Session Commit 1"])
    beside("After Session Commit 2", {**both, **last2}, steps["After Session Commit 2"], names.short)
    beside("After VM Persist", {**both, **last2, **store}, steps["After VM Persist"], names.short)
    commits_store(folder, names, 2)
    varve(folder, "restore", "r1")
    restored = {**both, **last1, **store}
    beside("After VM Restore Commit 1", restored, rows_of(varve(folder, "ls", "--files")), names.short)
    varve(folder, "run", "-", stdin=FLIP[0] + '\ncommit "never persisted"\nkill\n', code=-9)
    rows = run(folder, [("again", "echo a writer opens it")])["again"]
    names.meet(rows, 3)
    beside("A third commit, the process is killed, another begins: what was persisted, and a file that gc removes",
           {**restored, "ModId2_Commit3": ""}, rows, names.short)
    varve(folder, "gc")
    beside("After gc", restored, rows_of(varve(folder, "ls", "--files")), names.short)


def chain(root):
    say("\n## Seed 001: chain")
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
    backing = each("", BACKING)
    first = {**backing, **each("_Commit1")}
    both = {**first, **each("_Commit2")}
    store = {"commits": STORE}
    beside("Initial State", backing, steps["Initial State"], names.short)
    beside("After Session Commit 1", first, steps["After Session Commit 1"], names.short)
    beside("After Session Commit 2", both, steps["After Session Commit 2"], names.short)
    beside("After VM Persist", {**both, **store}, steps["After VM Persist"], names.short)
    commits_store(folder, names, 2)
    before = digests(folder)
    varve(folder, "restore", "r1")
    beside("After VM Restore Commit 1", {**both, **store}, rows_of(varve(folder, "ls", "--files")), names.short)
    changed_alone(folder, before, ["commits"], names.short)

    # A byte that goes back and forth gives a module the same memory, and so the same module commit id, once more.
    varve(folder, "restore", "r2")
    steps = run(folder, [(f"commit {i + 3}", text + f'\ncommit "session commit {i + 3}"')
                         for i, text in enumerate(FLIP)])
    for i in range(len(FLIP)):
        names.meet(steps[f"commit {i + 3}"], i + 3)
    noted = ["ModId1_Commit1", "ModId1_Commit2", "ModId2_Commit1", "ModId2_Commit2_0", "ModId2_Commit3_0",
             "ModId2_Commit2_1", "ModId2_Commit3_1", "ModId2_Commit6"]
    beside("Deltas: module 2 has had its second and its third state twice", {**backing, **store, **dict.fromkeys(noted, "")},
           steps["commit 6"], names.short)
    in_real_life("Here is how that looks in real life:", steps["commit 6"])


def tree(root):
    say("\n## Seed 003: tree")
    folder = make(root, "tree")
    steps = run(folder, [
        ("Genesis Commit", OPEN + '\ncommit "genesis"'),
        ("Another Commit", SQL + "\ndeploy ../sqlite3.wasm module_3\ncommit another"),
        ("Yet Another Commit", JS + "\ncommit 'yet another'"),
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
        deltas = [f"root_{number}/memory/module_{module}.diff" for module in changed]
        return dict.fromkeys(found + deltas, "")

    def step(title, noted, rows):
        beside(title, noted, rows, short, r"/tree/")

    genesis = files(1, [1, 2], [])
    another = {**genesis, **files(2, [1, 2, 3], [1])}
    third = files(3, [1, 2, 3], [1, 2])
    step("Genesis Commit", genesis, steps["Genesis Commit"])
    step("Another Commit", another, steps["Another Commit"])
    step("Yet Another Commit", {**another, **third}, steps["Yet Another Commit"])
    varve(folder, "delete", "r2")
    step("A commit deleted on its own: the others stay whole", {**genesis, **third},
         rows_of(varve(folder, "ls", "--files")))


def journal(root):
    say("\n## Seed 004: journal")
    folder = make(root, "journal")
    varve(folder, "run", "-", stdin=OPEN + '\ncommit "session commit 1"\n')
    names = Names(ids(folder))

    def step(title, noted):
        beside(title, dict.fromkeys(noted, ""), rows_of(varve(folder, "ls", "--files")),
               lambda text: names.short(text.replace("log.0000000000001000", "log")), r"^log\.")

    step("Deltas go to an append-only log", ["head", "log"])
    varve(folder, "gc", "--snapshot")
    step("A snapshot: the exact memory at that point, to be mapped", ["head", "image/ModId1.0", "image/ModId2.0", "log"])
    varve(folder, "run", "-", stdin=JS + "\ncommit\n")
    varve(folder, "gc", "--snapshot")
    step("The next one goes to the other file, most of whose pages are right already",
         ["head", "image/ModId1.0", "image/ModId2.0", "image/ModId2.1", "log"])


REPLAYS = (flat, chain, tree, journal)
LINE = "<!-- make notes -->\n"


def replay_all(names):
    root = tempfile.mkdtemp(prefix="varve-notes-")
    try:
        for replay in REPLAYS:
            if not names or replay.__name__ in names:
                replay(root)
    finally:
        shutil.rmtree(root)


def main():
    for name in ("sqlite3.wasm", "quickjs.wasm"):
        if not os.path.exists(os.path.join(WASM, name)):
            print(f"notes: skipped: no {name} in {WASM}: run tools/setup.sh modules", file=sys.stderr)
            sys.exit(77)
    words = sys.argv[3:]
    if words[:1] in (["--check"], ["--write"]):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            replay_all([])
        with open(words[1], encoding="utf-8") as file:
            kept, _, golden = file.read().partition(LINE)
        if words[0] == "--write":
            with open(words[1], "w", encoding="utf-8") as file:
                file.write(kept + LINE + out.getvalue())
        elif golden != out.getvalue():
            sys.stdout.writelines(difflib.unified_diff(golden.splitlines(True), out.getvalue().splitlines(True),
                                                       words[1], "now"))
            sys.exit("notes: what is printed is not what is kept: if that is as it should be, make notes ARGS='--write FILE'")
    else:
        replay_all(words)
    if failed:
        sys.exit(f"notes: {failed} files are not where the notes have them")


if __name__ == "__main__":
    main()

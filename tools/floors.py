#!/usr/bin/env python3
"""floors.py [ROOT] - check that the house stands on its floors, and that the tree holds nothing foreign.

The order of dependency is written once, in the lists of src/**/meson.build. A file may include its own header,
headers of floors below, and on its own floor those of files listed above it. A header without a .c of its own
stands just above what it includes. Further: who may speak to the engine, to the operating system and to malloc;
calls that nobody may use; and, in a git checkout, no path of the machine that it was written on.
"""
import os
import re
import subprocess
import sys

ROOT = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), ".."))
SRC = os.path.join(ROOT, "src")
FLOORS = {"base": 0, "page": 1, "store": 2, "vm": 3, "varve.c": 4, "varve_vm.c": 4, "varve_novm.c": 4,
          "door.h": 4, "cli": 5, "tools": 5}
USERS = ("cli", "tools")  # they include varve.h and their own, and may use the system as they like

ENGINE = re.compile(r"^(wasm|wasi|wasmtime)\.h$|^wasmtime/")
FILES = ("open openat openat2 creat close read pread preadv write pwrite pwritev writev fsync fdatasync syncfs "
         "sync_file_range rename renameat renameat2 unlink unlinkat link linkat symlink symlinkat mkdir mkdirat "
         "rmdir ftruncate truncate fallocate posix_fallocate flock fcntl stat fstat lstat fstatat opendir fdopendir "
         "fopen fdopen").split()
MAPS = "mmap munmap mprotect mremap madvise msync mlock munlock ioctl syscall".split()
HEAP = "malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf".split()
NEVER = "strcpy strcat sprintf vsprintf gets atoi atol atoll alloca strtok".split()
TALK = "printf puts putchar perror exit _exit abort".split()

# Which files of the library may make which calls.
RULES = (
    (FILES, "files are touched through base/vfs.h only", ("base/vfs.c", "base/process.c", "page/dirty.c")),
    (MAPS, "mappings are made where images live", ("base/vfs.c", "base/process.c", "page/dirty.c",
                                                    "page/image.c", "vm/stack.c", "vm/fault.c")),
    (HEAP, "memory comes from base/alloc.h", ("base/alloc.c",)),
    (TALK, "a library neither prints nor exits", ("base/error.c", "base/process.c")),
    (NEVER, "never", ()),
)

problems = []


def problem(path, line, text):
    problems.append("%s:%d: %s" % (os.path.relpath(path, ROOT), line, text))


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def listed(folder):
    """The .c files that a folder's meson.build lists, in order, those of its subdirs where they are named."""
    text = re.sub(r"#.*", "", read(os.path.join(folder, "meson.build")))
    found = []
    for subdir, name in re.findall(r"subdir\('([^']+)'\)|'([^']+\.c)'", text):
        if subdir:
            found += listed(os.path.join(folder, subdir))
        else:
            found.append(os.path.relpath(os.path.join(folder, name), SRC))
    return found


def without_comments(text):
    """The text with comments and strings blanked, lines kept; #include lines keep theirs."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|^[ \t]*#[ \t]*include[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'',
                         re.S | re.M)

    def blank(match):
        found = match.group(0)
        if found.lstrip().startswith("#"):
            return found
        return re.sub(r"[^\n]", " ", found) if found.startswith("/") else '""'

    return pattern.sub(blank, text)


class House:
    def __init__(self):
        self.order = {name: place for place, name in enumerate(listed(SRC))}
        self.files = sorted(
            os.path.relpath(os.path.join(folder, name), SRC)
            for folder, _, names in os.walk(SRC) for name in names if name.endswith((".c", ".h")))
        self.text = {name: without_comments(read(os.path.join(SRC, name))) for name in self.files}
        self.ranks = {}

    def includes(self, name):
        """(line, words, file of src or None) for each #include."""
        for number, line in enumerate(self.text[name].split("\n"), 1):
            match = re.match(r'\s*#\s*include\s*(["<])([^">]+)', line)
            if not match:
                continue
            words = match.group(2)
            for candidate in (os.path.normpath(os.path.join(os.path.dirname(name), words)), words):
                if match.group(1) == '"' and candidate in self.text:
                    yield number, words, candidate
                    break
            else:
                yield number, words, None

    def rank(self, name, above=()):
        """The place on its floor: a list's, or just above what a header without a .c includes there."""
        own = name[:-2] + ".c"
        if own in self.order:
            return float(self.order[own])
        if name not in self.ranks:
            if name in above:
                problem(os.path.join(SRC, name), 1, "headers include each other: " + " ".join(above))
                return 0.0
            below = [self.rank(found, above + (name,)) for _, _, found in self.includes(name)
                     if found and floor(found) == floor(name)]
            self.ranks[name] = max(below, default=-1.0) + 0.001
        return self.ranks[name]


def floor(name):
    return FLOORS.get(name.split("/")[0], -1)


def check_includes(house, name):
    for number, words, found in house.includes(name):
        path = os.path.join(SRC, name)
        if found is None:
            if ENGINE.match(words) and name != "vm/engine.c":
                problem(path, number, "only vm/engine.c includes the engine's headers")
        elif found[:-2] == name[:-2]:
            continue
        elif name.split("/")[0] in USERS:
            if floor(found) != floor(name):
                problem(path, number, "%s: programs include varve.h and their own headers only" % words)
        elif floor(found) > floor(name):
            problem(path, number, "%s is a floor above" % words)
        elif floor(found) == floor(name) and house.rank(found) >= house.rank(name):
            problem(path, number, "%s is listed below %s in meson.build" % (words, name))


def check_calls(house, name):
    if name.split("/")[0] in USERS:
        return
    for words, why, allowed in RULES:
        if name in allowed:
            continue
        # A member's call (table->open) and a declaration of one ((*open)(...)) are the vfs at work; a call whose
        # first argument is `context` goes to a callback.
        pattern = re.compile(r"(?<![\w.>])(%s)\s*\((?!context\b)" % "|".join(words))
        for number, line in enumerate(house.text[name].split("\n"), 1):
            for call in pattern.findall(line):
                problem(os.path.join(SRC, name), number, "%s(): %s" % (call, why))


def check_listed(house):
    for name in house.files:
        if name.endswith(".c") and name not in house.order:
            problem(os.path.join(SRC, name), 1, "no meson.build lists it")
        if floor(name) < 0:
            problem(os.path.join(SRC, name), 1, "no floor for it: see FLOORS")


def check_foreign():
    """No tracked file names a path of this machine, and the lock files name the public registry only."""
    try:
        tracked = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return  # not a checkout: nothing is tracked
    home = os.path.expanduser("~").rstrip("/")
    # A path begins where no word and no closing bracket ends: page/root and <scratch>/work are none.
    begin, end = rb"(?<![\w.)}>\]])", rb"(?![\w.-])"
    paths = [begin + re.escape(path.encode()) + end for path in (ROOT, home) if len(path) > 1]
    paths += [begin + rb"/" + rb"work/\w", begin + rb"/(?:home|Users)/\w+/"]
    pattern = re.compile(b"|".join(paths))
    for name in tracked.decode().split("\0"):
        path = os.path.join(ROOT, name)
        if not name or not os.path.isfile(path):
            continue
        with open(path, "rb") as file:
            for number, line in enumerate(file.read().split(b"\n"), 1):
                if name != "tools/floors.py" and pattern.search(line):
                    problem(path, number, "a path of this machine")
                if name.endswith("Cargo.lock") and line.startswith(b"source") and b"crates.io-index" not in line:
                    problem(path, number, "not the public registry")


def main():
    house = House()
    check_listed(house)
    for name in house.files:
        check_includes(house, name)
        check_calls(house, name)
    check_foreign()
    for text in problems:
        print(text)
    print("%d files, %d problems" % (len(house.files), len(problems)))
    return 1 if problems else 0


sys.exit(main())

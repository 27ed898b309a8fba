#!/usr/bin/env python3
"""exports.py varve.h LIBRARY... - each library shows what the header declares: all of it, and nothing else."""
import re
import subprocess
import sys


def declared(header):
    with open(header, encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/|^\s*#(?:\\\n|[^\n])*", "", file.read(), flags=re.S | re.M)
    # The name is the word before the first parenthesis of a declaration.
    return set(re.findall(r"\bVARVE_(?:API|CALL)\b[^;(]*?(\w+)\(", text))


def shown(library):
    dynamic = [] if library.endswith(".a") else ["-D"]
    lines = subprocess.run(["nm", *dynamic, "-g", "--defined-only", library], check=True, capture_output=True,
                           text=True).stdout.splitlines()
    return {line.split()[2] for line in lines if len(line.split()) == 3}


def main():
    header, *libraries = sys.argv[1:]
    promised = declared(header)
    code = 0
    for library in libraries:
        names = shown(library)
        print("%s: %d of %d names" % (library, len(names & promised), len(promised)))
        for what, wrong in (("shown, not declared", names - promised), ("declared, not there", promised - names)):
            if wrong:
                print("%s: %s" % (what, " ".join(sorted(wrong)[:20])))
                code = 1
    return code


sys.exit(main())

#!/usr/bin/env python3
"""exports.py strange|absent varve.h LIBRARY... - no library shows a name that the header does not declare; none lacks
one that it does."""
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
    question, header, *libraries = sys.argv[1:]
    promised = declared(header)
    code = 0
    for library in libraries:
        names = shown(library)
        wrong = sorted(names - promised if question == "strange" else promised - names)
        print("%s: %d of %d names; %s: %s" % (library, len(names & promised), len(promised), question,
                                              " ".join(wrong) or "none"))
        code |= bool(wrong)
    return code


sys.exit(main())

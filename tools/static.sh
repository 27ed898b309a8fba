#!/bin/sh
# static.sh OUT.a CORE.a DEPENDENCY.a... - make the static library, which shows the same names as the shared one.
#
# An archive cannot hide what its members share among themselves, so they are linked into one object first: only
# what varve_* reaches, every other name made local. A program that has a wasmtime of its own can link it too.
# Embedded bitcode goes: two pieces of it under one name are no bitcode, and archivers choke on it.
set -eu
out=$1
core=$2
shift

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
roots=$(nm -g --defined-only "$core" 2>/dev/null | sed -n 's/^[0-9a-f]* [TDRB] \(varve_[a-z0-9_]*\)$/-u \1/p')
ld -r --gc-sections -e 0 $roots -o "$work/varve.o" "$@"
objcopy --remove-section .llvmbc --remove-section .llvmcmd --wildcard --keep-global-symbol 'varve_*' \
    --strip-unneeded "$work/varve.o"
rm -f "$out"
ar rcs "$out" "$work/varve.o"

#!/bin/sh
# run-script.sh SCRIPT.sh VARVE - run a test of the command line in a fresh folder.
#
# The script finds the command in $VARVE and first in PATH, its own folder in $HERE, and time and chance fixed.
# It passes if it exits with 0 and, where SCRIPT.stdout exists, printed exactly that; 77 means skipped.
set -eu
script=$(realpath "$1")
VARVE=$(realpath "$2")
HERE=$(dirname "$script")
PATH=$(dirname "$VARVE"):$PATH
VARVE_TIME=2026-01-01T00:00:00Z
VARVE_SEED=0000000000000000000000000000000000000000000000000000000000000001
unset VARVE_STORE VARVE_BRANCH VARVE_WAIT
export VARVE HERE PATH VARVE_TIME VARVE_SEED

folder=$(mktemp -d)
trap 'chmod -R u+w "$folder" 2>/dev/null; rm -rf "$folder"' EXIT
mkdir "$folder/work"
cd "$folder/work"
code=0
sh -eu "$script" >"$folder/stdout" || code=$?
if [ "$code" != 0 ]; then
    cat "$folder/stdout"
    echo "$script: exit code $code" >&2
    exit "$code"
fi
expected=${script%.sh}.stdout
if [ -f "$expected" ]; then diff -u "$expected" "$folder/stdout"; else cat "$folder/stdout"; fi

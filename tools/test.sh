#!/bin/sh
# test.sh BUILD [ARGUMENT OF meson test]... - build, run the tests, and end with one line:
#
#   N passed, N failed[, N skipped]
#
# A program counts as many tests as it says that it ran, in cmocka's words or in that line's; one that says
# nothing counts as one. The exit code is 0 only if nothing failed.
set -eu
build=$1
shift

ninja -C "$build" --quiet
rm -f "$build/meson-logs/testlog.json"
meson test -C "$build" --no-rebuild --print-errorlogs "$@" || true
exec "$(dirname "$0")/count.py" "$build/meson-logs/testlog.json"

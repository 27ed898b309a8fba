#!/bin/sh
# tsan.sh BUILD SECONDS - the stress test under the thread sanitizer, in a build of its own inside BUILD.
set -eu
build=$1/tsan
cd "$(dirname "$0")/../.."

if ! echo 'int main(void) { return 0; }' | cc -fsanitize=thread -x c -o /dev/null - 2>/dev/null; then
    echo 'SKIPPED: the compiler has no thread sanitizer'
    exit 77
fi
tools/configure.sh "$build" tsan disabled -Dtests=enabled -Db_sanitize=thread -Db_lundef=false
ninja -C "$build" --quiet tests/long/stress
# What a report has said once it need not say again; any report ends the run with 66.
TSAN_OPTIONS="halt_on_error=0 exitcode=66 history_size=4 die_after_fork=0" exec "$build/tests/long/stress" --seconds "$2"

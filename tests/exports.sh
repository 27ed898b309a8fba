#!/bin/sh
# exports.sh LIBRARY... - each library shows names that begin with varve_, and no other.
set -eu
code=0
for library in "$@"; do
    case $library in
    *.a) names=$(nm -g --defined-only "$library") ;;
    *) names=$(nm -D --defined-only "$library") ;;
    esac
    # Lines of three words are symbols; the version names itself as a fourth kind of line, and is skipped.
    strange=$(printf '%s\n' "$names" | awk 'NF == 3 && $3 !~ /^varve_/ { print $3 }')
    count=$(printf '%s\n' "$names" | awk 'NF == 3 && $3 ~ /^varve_/' | wc -l)
    printf '%s: %s names\n' "$(basename "$library")" "$count"
    if [ -n "$strange" ]; then
        printf 'not ours, and shown:\n%s\n' "$strange" | head -n 20
        code=1
    fi
done
exit $code

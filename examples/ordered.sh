#!/bin/sh
# ordered.sh PROGRAM - a structure with pointers inside, process after process: killed in the middle, branched, undone.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
program=$1
map() { "$program" "$dir/s" "$@"; }
expect() {
    want=$1
    shift
    got=$("$@")
    [ "$got" = "$want" ] || { echo "$*: $got, not $want" >&2; exit 1; }
}
map fill 5000 # which grows the heap several times
map put zebra striped
map put aardvark first
expect 5002 map count
expect striped map get zebra
expect 'aardvark first' sh -c '"$1" "$2/s" list | head -n 1' - "$program" "$dir"
code=0
map crash 2>/dev/null || code=$?
[ $code = 137 ] || { echo "crash: exit $code" >&2; exit 1; }
expect 5002 map count # half a change was in memory: nothing of it is anywhere
map try
expect 5002 map count
map branch side
map put zebra spotted
ORDERED_BRANCH=side map del zebra
expect spotted map get zebra
expect '(none)' env ORDERED_BRANCH=side "$program" "$dir/s" get zebra
map undo
expect striped map get zebra
map del key000007 && map put key000007 again
expect again map get key000007
expect 5002 map count
expect 5001 env ORDERED_BRANCH=side "$program" "$dir/s" count
for round in 1 2 3 4 5; do # killed at any moment: each run did all of its change or nothing
    "$program" "$dir/s" fill 5100 & pid=$!
    sleep 0.0$round
    kill -9 $pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
    count=$(map count)
    case $count in 5002 | 5102) ;; *) echo "killed in fill: $count" >&2; exit 1 ;; esac
    [ "$(map list | wc -l)" = "$count" ] || { echo "list and count differ" >&2; exit 1; }
done

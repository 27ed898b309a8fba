#!/bin/sh
# vm.sh PROGRAM COUNTER.wasm - three runs of the example count on where the one before left off.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
{ "$1" "$2" "$dir/s"; "$1" "$2" "$dir/s"; "$1" "$2" "$dir/s"; } > "$dir/out"
cat > "$dir/want" <<'WANT'
the counter stands at 5
the counter stands at 10
the counter stands at 15
WANT
diff "$dir/want" "$dir/out"

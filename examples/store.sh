#!/bin/sh
# store.sh PROGRAM - three runs of the example are three commits, and each goes on from the one before.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
{ "$1" "$dir/s" Ada; "$1" "$dir/s" Grace; "$1" "$dir/s"; } > "$dir/out"
cat > "$dir/want" <<'WANT'
visit 1, the last one was by ""
visit 2, the last one was by "Ada"
visit 3, the last one was by "Grace"
WANT
diff "$dir/want" "$dir/out"

#!/bin/sh
# make.sh VARVE - write the golden stores of this version anew: tests/golden/1/LAYOUT.tar.gz, and what they must say.
#
# Only when a format changes that was not released yet: a released version's stores stay as they are, for ever.
set -eu
here=$(dirname "$(realpath "$0")")/1
PATH=$(dirname "$(realpath "${1:?the command}")"):$PATH
VARVE_TIME=2026-01-01T00:00:00Z
VARVE_SEED=0000000000000000000000000000000000000000000000000000000000000001
export PATH VARVE_TIME VARVE_SEED
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# Two images that change in turn, growth of the state, a removal, named values, a tag, and a restore.
steps() {
    varve -q image ledger 256k
    varve -q image heap 64k
    for n in 1 2 3 4 5 6; do
        varve -q poke ledger $((n * 8192)) "s:entry number $n"
        varve -q poke heap $((n * 16)) "u32:$((n * n))"
    done
    varve -q meta greeting hello
    varve -q image scratch 4k
    varve -q remove scratch
    varve -q tag v1 HEAD~3
    varve -q restore HEAD~2 >/dev/null
    varve -q poke heap 0 u8:255
}
for layout in journal tree chain flat; do
    varve -q init "$layout" --layout "$layout" >/dev/null
    (cd "$layout" && steps)
    tar -czf "$here/$layout.tar.gz" "$layout"
done
(
    cd journal
    varve log --json | jq -r '"\(.id) \(.root)"'
) >"$here/commits"
ls -l "$here"

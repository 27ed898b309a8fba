# golden.sh - stores that earlier versions wrote open, say what they said, and go on (make.sh wrote them).
. "$HERE/../cli/checks.inc"

for version in "$HERE"/[0-9]*; do
    for layout in journal tree chain flat; do
        [ -f "$version/$layout.tar.gz" ] || continue
        store="format $(basename "$version"), $layout"
        tar -xzf "$version/$layout.tar.gz"
        cd "$layout"
        is "$store: its commits" "$(cat "$version/commits")" sh -c "varve log --json | jq -r '\"\\(.id) \\(.root)\"'"
        is "$store: no damage" 'no damage' varve fsck
        is "$store: bytes" 'entry number 6' varve peek ledger 49152 --type str
        is "$store: of the past" 'entry number 2' varve peek ledger 16384 --type str --at v1~6
        is "$store: numbers" 36 varve peek heap 96 --type u32
        is "$store: a tag" 0 varve peek heap 0 --type u8 --at v1
        is "$store: named values" hello varve meta greeting
        is "$store: moves" restore sh -c "varve log --moves --json | jq -r .move | sed -n 2p"
        exits "$store: it goes on" 0 varve -q poke ledger 0 s:on
        is "$store: from there" on varve peek ledger 0 --type str
        is "$store: no damage" 'no damage' varve fsck
        exits "$store: gc" 0 varve gc
        is "$store: no damage" 'no damage' varve fsck
        is "$store: all is there" 'entry number 6' varve peek ledger 49152 --type str
        cd ..
    done
done
finish

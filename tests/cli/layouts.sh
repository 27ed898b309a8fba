# layouts.sh - the four layouts through the command: the same answers, and what one cannot it refuses by name.
. "$HERE/checks.inc"

steps() {
    varve -q image i 64k
    for n in 1 2 3 4; do varve -q poke i $((n * 4096)) "u8:$n"; done
    varve -q meta greeting hello
    varve -q tag v1 HEAD~2
}
roots() {
    varve log --json | jq -r '.root'
}

varve -q init journal >/dev/null
(cd journal && steps)
same=$(cd journal && roots)
head=$(cd journal && varve show --json | jq -r .id)

for layout in journal tree chain flat; do
    is "$layout: made" "created a $layout store in l" varve init l --layout "$layout"
    cd l
    steps
    is "$layout: the same roots" "$same" roots
    is "$layout: the same ids" "$head" sh -c 'varve show --json | jq -r .id'
    is "$layout: stat says so" "$layout" sh -c 'varve stat --json | jq -r .layout'
    is "$layout: for people" "layout $layout, format 1" sh -c 'varve stat | grep "^layout" | tr -s " "'
    is "$layout: a process later all is there" 4 varve peek i 16384 --type u8
    is "$layout: and as it was" 0 varve peek i 16384 --type u8 --at v1
    is "$layout: no damage" 'no damage' varve fsck
    is "$layout: restore" 0 sh -c 'varve restore HEAD~3 >/dev/null; varve peek i 12288 --type u8'
    is "$layout: a process later it stands there" r3 sh -c 'varve log -n 1 | cut -d" " -f1'
    is "$layout: and back" 4 sh -c 'varve restore main@{1} >/dev/null; varve peek i 16384 --type u8'
    exits "$layout: a script that is killed" 137 sh -c 'printf "poke i 16384 u8:9\nkill\n" | varve -q run -'
    is "$layout: leaves what was" 4 varve peek i 16384 --type u8
    exits "$layout: a script that persists and is killed" 137 sh -c 'printf "poke i 16384 u8:5\ncommit five\npersist\nkill\n" | varve -q run -'
    is "$layout: has that" 5 varve peek i 16384 --type u8
    exits "$layout: an error after a commit" 1 sh -c 'printf "poke i 16384 u8:6\ncommit six\npeek nope\n" | varve -q run -'
    is "$layout: keeps the commit" 6 varve peek i 16384 --type u8
    says "$layout: its files" '^\| Base directory +\| Files +\| Comment +\|$' varve ls --files
    is "$layout: each with a comment" true sh -c 'varve ls --files --json | jq -s "length > 0 and all(.what | length > 0)"'
    exits "$layout: gc" 0 varve gc
    is "$layout: no damage after it" 'no damage' varve fsck
    is "$layout: nor loss" 6 varve peek i 16384 --type u8
    cd ..

    for other in journal tree chain flat; do
        is "$layout to $other" "cloned 8 commits into a $other store in copy" varve clone l copy --layout "$other"
        is "$layout to $other: the same roots" "$(cd l && roots)" sh -c 'cd copy && varve log --json | jq -r .root'
        is "$layout to $other: the tag" 0 varve -s copy peek i 16384 --type u8 --at v1
        is "$layout to $other: no damage" 'no damage' varve -s copy fsck
        exits "$layout to $other: it goes on" 0 varve -q -s copy poke i 0 u8:77
        is "$layout to $other: the source does not" 0 varve -s l peek i 0 --type u8
        chmod -R u+w copy
        rm -rf copy
    done
    exits "$layout: cloned onto what is there" 1 varve clone l journal
    chmod -R u+w l
    rm -rf l
done

for layout in chain flat; do
    varve -q init l --layout "$layout" >/dev/null
    cd l
    steps
    exits "$layout: no branches" 1 varve branch side
    says "$layout: says who has" 'tree and journal' varve branch side
    exits "$layout: nor by a commit" 1 varve poke -b side i 0 u8:1
    exits "$layout: not durable by itself" 1 varve config durability durable
    says "$layout: says what to do" 'persist' varve config durability durable
    exits "$layout: buffered is what it is" 0 varve config durability buffered
    cd ..
    chmod -R u+w l
    rm -rf l
    exits "$layout: nor made so" 1 varve init l --layout "$layout" --durability durable
    chmod -R u+w l
    rm -rf l
done

# One commit's memory is gone: the clone says so, or salvages all others.
varve -q init l --layout flat >/dev/null
(cd l && steps)
second=$(varve -s l ls --files --json | jq -r 'select(.what == "module commit of r3").path')
rm -f "l/$second"
says 'flat: fsck names the file' "$second" varve -s l fsck
exits 'flat: no clone of a damaged store' 5 varve clone l copy
says 'flat: which says what to do' 'salvage' varve clone l copy
exits 'flat: nothing was made' 1 test -e copy
is 'flat: salvaged' 'cloned 5 commits into a journal store in copy' varve clone --salvage l copy --layout journal
rm -rf copy
says 'flat: naming what was left out' 'r3 was left out' varve clone --salvage l copy
is 'flat: no damage there' 'no damage' varve -s copy fsck
is 'flat: the line goes on' 5 sh -c 'varve -s copy log | wc -l | tr -d " "'
is 'flat: after it' 4 varve -s copy peek i 16384 --type u8
is 'flat: before it' 1 varve -s copy peek i 4096 --type u8 --at r2
exits 'flat: it is written to' 0 varve -q -s copy poke i 0 u8:1
chmod -R u+w l copy
rm -rf l copy

varve -q init l --layout chain >/dev/null
cd l
steps
exits 'chain: no commit in the middle goes' 1 varve delete r3
says 'says who can' 'flat.*tree.*journal|tree.*flat|journal' varve delete r3
exits 'the oldest does' 0 varve delete r1
is 'the rest reads' 2 varve peek i 8192 --type u8 --at r3
is 'no damage' 'no damage' varve fsck
cd ..
varve -q init b >/dev/null
varve -q -s b image i 4k
varve -q -s b branch side
exits 'branches have no place in a chain' 1 varve clone b c --layout chain
says 'which one' 'side' varve clone b c --layout chain
exits 'nothing was made' 1 test -e c
exits 'no such layout' 2 varve clone b c --layout round
exits 'no such source' 1 varve clone nowhere c
exits 'no target' 2 varve clone b
finish

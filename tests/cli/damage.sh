# damage.sh - one damaged byte, anywhere: a command works or fails with words that name the file; nothing aborts, no
# undamaged commit is lost, and nothing is written over what is damaged.
. "$HERE/checks.inc"

varve init whole >/dev/null
printf 'first' >greeting
varve -q --store whole image text 64k greeting
varve -q --store whole poke text 4096 s:second
varve -q --store whole tag v1
varve -q --store whole meta k v
varve -q --store whole poke text 0 s:third
varve -q --store whole poke text 8192 s:fourth
log=$(cd whole && ls log.* | head -n 1) # the one behind it is made ahead, and empty
# Where the last record ends; and behind it, where the last writer said that it left, which is nothing that can be lost.
set -- $(od -A d -v -t x1 "whole/$log" | awk '
    $2 $3 $4 $5 == "76456e64" && $1 % 4096 == 0 { closed = $1 + 56; exit }
    { for (i = 2; i <= NF; i++) if ($i != "00") last = $1 }
    END { print last + 16, closed }')
used=$1 closed=$2

# try WHAT FILE COMMAND...: it may work, or fail and name the file.
try() {
    where=$1 named=$2
    shift 2
    code=0
    varve --store s "$@" >out 2>&1 || code=$?
    case $code in
    0 | 1 | 5) ;;
    *) bad "$where: $* exits $code: $(head -n 1 out)" ;;
    esac
    if [ $code != 0 ] && ! grep -q "$named" out; then bad "$where: $*: no word about $named: $(head -n 1 out)"; fi
}
damage() {
    file=$1 offset=$2
    rm -rf s
    cp -r whole s
    printf '\377' | dd of="s/$file" bs=1 seek="$offset" conv=notrunc 2>/dev/null
    if cmp -s "whole/$file" "s/$file"; then printf '\376' | dd of="s/$file" bs=1 seek="$offset" conv=notrunc 2>/dev/null; fi
    try "$file at $offset" "$3" fsck
    checked=$code
    try "$file at $offset" "$3" log
    try "$file at $offset" "$3" peek text 0 --type str --at v1
    [ $code != 0 ] || [ "$(grep -v damage out)" = first ] || bad "$file at $offset: v1 reads $(cat out)"
    if [ $checked = 0 ] && [ $code != 0 ]; then bad "$file at $offset: fsck finds nothing, but v1 is lost"; fi
    try "$file at $offset" "$3" meta k2 v2
    if [ $checked = 5 ] && [ $code = 0 ]; then bad "$file at $offset: written to, though damaged"; fi
    case $file in log.*) [ $checked = 0 ] || repaired "$file at $offset" ;; esac
    ok
}
# repaired WHERE: what is damaged is given up, what could be read is read, and the store goes on.
repaired() {
    before=$(varve --store s peek text 0 --type str --at v1 2>/dev/null || true)
    varve --store s fsck --repair >out 2>&1 || bad "$1: repair: $(head -n 1 out)"
    grep -q 'repaired' out || bad "$1: the repair tells nothing"
    varve --store s fsck >out 2>&1 || bad "$1: after the repair: $(head -n 1 out)"
    [ -z "$before" ] || [ "$before" = "$(varve --store s peek text 0 --type str --at v1)" ] ||
        bad "$1: the repair took v1 with it"
    varve --store s log >/dev/null 2>out || [ -z "$before" ] || bad "$1: no log after the repair: $(head -n 1 out)"
    [ -z "$before" ] || varve -q --store s tag after v1 2>out || bad "$1: not written after the repair: $(head -n 1 out)"
}
offset=0
while [ $offset -lt 16 ]; do
    damage .varve/format $offset format
    offset=$((offset + 3))
done
offset=0
while [ $offset -lt 8192 ]; do
    damage head $offset 'head\|log'
    offset=$((offset + 509))
done
offset=0
while [ $offset -lt "$used" ]; do
    damage "$log" $offset "log\.0"
    offset=$((offset + 397))
done
offset=$((closed - 56))
while [ $offset -lt "$closed" ]; do
    damage "$log" $offset "log\.0"
    [ "$checked" = 0 ] || bad "a closed end at $offset: fsck exits $checked"
    offset=$((offset + 11))
done

# What stands before the damage stays, and what the command says is one line of JSON.
rm -rf s
cp -r whole s
last=$(varve --store s show --json | jq -r .id)
exits 'the whole store' 0 varve --store s fsck
printf '\377' | dd of="s/$log" bs=1 seek=$((used - 100)) conv=notrunc 2>/dev/null
exits 'damage at the end' 5 varve --store s fsck
is 'older commits open' first varve --store s peek text --type str --at v1
is 'fsck counts in JSON' true sh -c 'varve --store s fsck --json | jq -s "last.damage > 0 and all(.[:-1][]; .severity and .text)"'
is 'the failure is JSON' CORRUPT sh -c 'varve --store s meta a b --json 2>/dev/null | jq -r .error.status'

# What a repair says: the commit that is dropped, the branch that goes back, and nothing the second time.
exits 'a repair' 0 sh -c 'varve --store s fsck --repair --json >told'
is 'the dropped commit by its id' "$last" jq -r 'select(.repaired and .severity == "damage" and (.text | test("^commit r[0-9]+ is dropped"))) | .commit' told
is 'the branch that goes back' true jq -s 'any(.[:-1][]; .repaired and (.text | test("main named.*goes back to r")))' told
is 'no damage is left' 0 jq -s 'last.damage' told
is 'a second repair has nothing to do' 0 sh -c 'varve --store s fsck --repair --json | jq -s "map(select(.repaired)) | length"'
exits 'and it is written again' 0 varve -q --store s meta a b
is 'on top of what was whole' b varve --store s meta a
is 'older commits stay' first varve --store s peek text --type str --at v1

# Files that are cut, empty, strange or missing.
each() {
    rm -rf s
    cp -r whole s
    (cd s && eval "$1")
    for words in fsck log 'meta k2 v2'; do
        code=0
        varve --store s $words >out 2>&1 || code=$?
        case $code in
        0 | 1 | 5) ok ;;
        *) bad "$1: $words exits $code: $(head -n 1 out)" ;;
        esac
    done
}
each ": >$log"
each ": >head"
each ": >.varve/format"
each "rm head"
each "rm $log"
each "rm .varve/format"
each "rm .varve/lock"
each "truncate -s 5000 $log"
each "truncate -s 100 head"
each "head -c 100000 /dev/urandom >>$log"
each "head -c 70000 /dev/zero >.varve/format"
each "echo hello >.varve/lock"
each "rm head && mkdir head"
each "rm .varve/lock && mkdir .varve/lock"
each "echo 'varve 1 journa' >.varve/format"
each "printf 'varve 18446744073709551616 journal\n' >.varve/format"
each "cp $log log.0000000000000000"
each "cp $log log.00000000FFFFF000"
each "ln -s /nowhere log.0000000000200000"

# A store by other names.
rm -rf s
cp -r whole s
ln -s s linked
is 'through a symbolic link' third varve --store linked peek text --type str
exits 'and written' 0 varve --store linked meta k2 v2
mv s moved
is 'a store that moved' v2 varve --store moved meta k2
exits 'is whole' 0 varve --store moved fsck
printf 'varve 2 journal\n' >moved/.varve/format
exits 'a newer store' 1 varve --store moved log
says 'is named' 'newer' varve --store moved log
is 'with its status' NEWER sh -c 'varve --store moved log --json 2>/dev/null | jq -r .error.status'
finish

# bad-input.sh - whatever is typed or fed: one clear line, the right exit code, and the store as before.
. "$HERE/checks.inc"

# refuses WHAT CODE PATTERN COMMAND...: the exit code, exactly one line "varve: ..." that matches, nothing changed.
refuses() {
    what=$1 expected=$2 pattern=$3
    shift 3
    got=0
    "$@" >"$notes/stdout.txt" 2>"$notes/stderr.txt" || got=$?
    if [ "$got" = "$expected" ] && [ "$(wc -l <"$notes/stderr.txt")" = 1 ] && [ ! -s "$notes/stdout.txt" ] &&
        grep -Eq "^varve: .*($pattern)" "$notes/stderr.txt"; then ok; else
        bad "$what: expected exit $expected and one line with '$pattern', got exit $got and"
        cat "$notes/stdout.txt" "$notes/stderr.txt" | head -n 5 | cut -c1-300 | sed 's/^/    /'
    fi
}
long=$(printf '%03000d' 0 | tr 0 a)
digits=$(printf '%064d' 7)

refuses 'no store' 1 'varve init' varve log
refuses 'a store that is not there' 1 'no store' varve --store nowhere log
refuses 'a file as a store' 1 'no store' varve --store /etc/passwd log
refuses 'a long path' 1 'File name too long' varve --store "$long" log
refuses 'no path' 2 'no DIR' varve --store '' log
refuses 'an option without its value' 2 'needs a value' varve log --store
refuses 'retention of nothing' 2 'how many' varve init s --retain 0
refuses 'another durability' 2 'durable or buffered' varve init s --durability lazy
refuses 'a layout of never' 2 'journal' varve init s --layout round
refuses 'a folder that is not empty' 1 'not empty' sh -c 'mkdir full && : >full/file && exec varve init full'
varve init s >/dev/null
cd s
varve -q image i 64k
varve -q poke i 0 s:hello
before=$(varve show --json | jq -r .id)
refuses 'no verb' 2 'unknown verb' varve frobnicate
refuses 'a near verb' 2 'did you mean peek' varve peec
refuses 'a verb of git' 2 'run' varve commit
refuses 'a path as a verb' 2 'unknown verb' varve ../x
refuses 'an empty verb' 2 'unknown verb' varve ''
refuses 'an option before the verb' 2 'unknown option' varve --frobnicate log
refuses 'a colour' 2 'auto, always or never' varve --color blue log
vm=yes
! varve --version | grep -q 'store only' || vm=
for words in 'peek i --no' 'init --no' 'show --no' ${vm:+'deploy x.wasm --replace' \
    'deploy x.wasm --init x:00' 'call i f --hex' 'call i f --caller 00'}; do
    refuses "an option of later: $words" 2 'unknown option' varve $words
done
for words in ${vm:+'call' 'call i' 'query i' 'deploy' 'inspect'} 'peek' 'poke i 0' 'image a' 'meta a b c' 'remove' 'show a b' 'diff' 'restore' 'branch a b c' \
    'prove i' 'verify' 'log a b' 'ls a' 'stat a' 'fsck a' 'run a b' 'init a b'; do
    refuses "words: $words" 2 'too (few|many) arguments|not NAME=VALUE' varve $words
done
for name in ../x -x HEAD r5 '' 'a b' a..b a~1 .a a.lock "$digits" "$long"; do
    refuses "the name of a branch: $name" 2 'cannot be the name|too long' varve branch -- "$name"
    refuses "the name of a tag: $name" 2 'cannot be the name|too long' varve tag -- "$name"
done
for name in ../x -x '' 'a b' 1a "$digits" "$long"; do
    refuses "the name of an image: $name" 2 'NAME' varve image -- "$name" 4k
done
for revision in 'HEAD~' 'HEAD~~x' 'a b' '' 'main@{' 'main@{x}' 'HEAD~99999999999999999999' "$long" 'root:' 'root:xyz' '-1' '~1' 'HEAD^2x'; do
    code=0
    varve show -- "$revision" >out 2>err || code=$?
    case "$code:$revision" in 2:* | '0:HEAD~') ok ;; *) bad "revision '$revision': exit $code: $(cat err)" ;; esac
    rm -f out err
done
for revision in nope r99 HEAD~99 ABCDEF00 "$digits" "root:$digits" 'main@{99}' 'main@{1999-01-01T00:00:00Z}' tags/x; do
    refuses "nothing has the revision $revision" 1 'revision' varve show "$revision"
done
refuses 'no such module' 1 'no module nope' varve peek nope
refuses 'a name that is near' 1 'did you mean i' varve remove ii
refuses 'no such branch' 1 'no branch nope' varve poke i 0 s:x -b nope
refuses 'a branch that is there' 1 'exists' varve branch main
refuses 'no branch to delete' 1 'no branch nope' varve branch -d nope
refuses 'no tag to delete' 1 'no tag main' varve tag -d main
for size in 0 100 -4096 4096x x '' 99999999999999999999 17179869184G; do
    refuses "an image of size $size" 2 'SIZE' varve image -- j "$size"
done
refuses 'an image larger than may be' 3 'limit' varve image j 5G
refuses 'an image smaller than its file' 2 'bytes' sh -c 'head -c 5000 /dev/zero >../f; exec varve image j 4k ../f'
refuses 'an image from a folder' 1 'Is a directory' varve image j 4k .
refuses 'an image from nothing' 1 'No such file' varve image j 4k ../nope
for words in '65536 s:x' '65535 s:xx' '18446744073709551615 s:x' '-1 s:x' 'x s:x' '99999999999999999999 s:x' '0 i8:300' '0 u8:-1' \
    '0 i32:x' '0 x:0' '0 x:zz' '0 out:5' '0 f32:' '0 u64:18446744073709551616'; do
    refuses "poke i $words" 2 'inside|ADDR|number|digits|out:' varve poke i $words
done
for words in '65537' '0 65537' '1 18446744073709551615' '65533 --type i32' '65536 --type str' 'x' '0 x' '0 --type i128' '-1'; do
    refuses "peek i $words" 2 'inside|ADDR|--type' varve peek i $words
done
refuses 'a key that is too long' 2 'most is 255' varve meta "$long" v
refuses 'no key' 2 'name' varve meta '' v
refuses 'a value that is too long' 2 'most is 4096' varve meta k "$long$long"
refuses 'a key of varve' 2 'own' varve meta varve:x y
refuses 'a value that is empty' 2 'unset' varve meta k ''
refuses 'a count that is none' 2 'not a number' varve log -n many
refuses 'no time' 2 'RFC 3339' env VARVE_TIME=today varve meta k v
refuses 'a month that is none' 2 'RFC 3339' env VARVE_TIME=2026-13-01T00:00:00Z varve meta k v
refuses 'the time that means now' 2 'now' env VARVE_TIME=1970-01-01T00:00:00Z varve meta k v
refuses 'no seed' 2 'hexadecimal' env VARVE_SEED=5 varve meta k v
refuses 'no wait' 2 'milliseconds' env VARVE_WAIT=-1 varve meta k v
refuses 'no such branch in the environment' 1 'no branch x' env VARVE_BRANCH=x varve meta k v
refuses 'a page that is not there' 2 'pages' varve prove i 1G
refuses 'a proof that cannot be written' 1 'Not a directory' varve prove i 0 -o /dev/null/x
refuses 'no root' 2 'root' varve verify ../f --root 12
is 'nothing of it changed anything' "$before" sh -c 'varve show --json | jq -r .id'

# Streams that are closed or full: who cannot be told has changed nothing.
if [ -w /dev/full ]; then
    exits 'a full stdout' 1 sh -c 'varve log >/dev/full'
    exits 'a full stdout of a commit' 1 sh -c 'printf "peek i 0 16\npoke i 0 s:no\n" | varve run >/dev/full'
    exits 'a full stderr is not fatal' 0 sh -c 'varve meta full stderr 2>/dev/full'
fi
exits 'a closed stdout' 1 sh -c 'varve log >&-'
exits 'a closed stdin' 0 sh -c 'varve run <&-'
exits 'no stream at all' 1 sh -c 'varve log >&- <&- 2>&-'
exits 'a closed pipe' 0 sh -c 'varve log | true'
exits 'no HOME' 0 env -u HOME varve meta home none
exits 'an empty environment' 0 env -i "$VARVE" ls
is 'the store is whole' 'no damage' varve fsck
is 'the image too' hello varve peek i --type str

# A folder that may be read only, as a user who may only read.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    cp -r . ../shut
    chmod -R a=rX ../shut ../../work && chmod a+x ../..
    reader="setpriv --reuid 65534 --regid 65534 --clear-groups"
    if $reader test -x "$VARVE" 2>/dev/null; then
        is 'a reader reads' hello $reader "$VARVE" --store ../shut peek i --type str
        refuses 'and does not write' 1 'Permission denied|read-only' $reader "$VARVE" --store ../shut meta k v
        refuses 'nor makes a store' 1 'Permission denied' $reader "$VARVE" init ../shut/new
        chmod -R a=,u=rwX ../shut
        refuses 'a store of somebody else' 1 'Permission denied' $reader "$VARVE" --store ../shut log
    else
        echo 'the command cannot be run by another user here: read-only folders are not tested'
    fi
    chmod -R u+w ..
else
    echo 'not root, or no setpriv: read-only folders are tested in store.sh alone'
fi
finish

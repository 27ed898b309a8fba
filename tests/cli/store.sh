# store.sh - the commands that need no engine: images, meta, history, proofs, damage, and two at once.
. "$HERE/checks.inc"

exits 'no store here' 1 varve log
says 'says what to do' 'varve init' varve log
exits 'unknown verb' 2 varve frobnicate
exits 'unknown option' 2 varve log --frobnicate
exits 'a file is no store' 1 varve --store /etc/passwd log
varve init s >/dev/null
cd s
printf 'hello, memory' >../greeting
exits 'an image from a file' 0 varve image text 64k ../greeting
is 'read back' 'hello, memory' varve peek text 0 --type str
exits 'poke' 0 varve poke text 7 s:world!
is 'changed' 'hello, world!' varve peek text --type str
is 'the past' 'hello, memory' varve peek text --type str --at HEAD~1
is 'typed' 1819043176 varve peek text 0 --type i32
exits 'poke a number' 0 varve poke text 0x100 u64:18446744073709551615
is 'unsigned' 18446744073709551615 varve peek text 0x100 --type u64
is 'signed' -1 varve peek text 256 --type i64
is 'raw' 'hello' varve peek text 0 5 --raw
exits 'outside' 2 varve poke text 65535 s:xx
exits 'the name is taken' 1 varve image text 64k
exits 'no multiple of a page' 2 varve image other 100
exits 'meta set' 0 varve meta height i32:7
exits 'meta set' 0 varve meta title s:varve
is 'meta get' varve varve meta title
is 'meta list' 'height title' sh -c 'varve meta | cut -f1 | tr "\n" " " | sed "s/ $//"'
exits 'meta unset' 0 varve meta title --unset
exits 'is gone' 1 varve meta title
says 'the same value again' 'nothing changed' varve meta height i32:7
is 'log' 6 sh -c 'varve log | wc -l | tr -d " "'
is 'a range' 2 sh -c 'varve log HEAD~2..HEAD | wc -l | tr -d " "'
is 'of one module' 3 sh -c 'varve log --module text | wc -l | tr -d " "'
exits 'tag' 0 varve tag v1 HEAD~1
is 'by its name' "$(varve show HEAD~1 --json | jq -r .id)" sh -c 'varve show v1 --json | jq -r .id'
exits 'a tag stays' 1 varve tag v1 HEAD
exits 'branch' 0 varve branch side r2
is 'branch head' 'hello, world!' varve peek text -b side --type str
exits 'a branch that is not there' 1 varve poke text 0 s:x -b nowhere
exits 'branch delete' 0 varve branch -d side
exits 'gone' 1 varve show side
exits 'no such revision' 1 varve show r999
exits 'malformed revision' 2 varve show 'HEAD~x'
exits 'restore' 0 varve restore r2
is 'restored' 'hello, world!' varve peek text --type str
is 'moves are told' restore sh -c 'varve log --moves --json -n 1 | jq -r .move'
exits 'back' 0 varve restore 'main@{1}'
is 'diff' 'text  1 page, 8 bytes' varve diff r2 r3

id=$(varve show HEAD --json | jq -r .id)
is 'by prefix, lower case' "$id" sh -c "varve show $(printf '%.8s' "$id" | tr A-F a-f) --json | jq -r .id"
root=$(varve show HEAD --json | jq -r .root)
is 'by root' "$root" sh -c "varve show root:$(printf '%.8s' "$root") --json | jq -r .root"

exits 'prove' 0 varve prove text 0 -o ../page.proof
exits 'verify' 0 varve verify ../page.proof --root "$root"
exits 'against another root' 1 varve verify ../page.proof --root "$(printf '%064d' 1)"
absent=$(printf '%064d' 5)
exits 'prove absence' 0 varve prove "$absent" 0 -o ../none.proof
is 'is proved' false sh -c "varve verify ../none.proof --root $root --json | jq -r .present"

exits 'dry run' 0 varve poke text 0 s:zzz --dry-run
is 'changed nothing' 'hello, world!' varve peek text --type str
is 'run: an answer can be kept' 'text is hello, world!' sh -c 'printf "x = peek text --type str\necho text is \$x\n" | varve run -'
exits 'run: savepoints' 0 sh -c 'printf "savepoint a\npoke text 0 s:AAA\npeek text --type str\nexpect \"AAAlo, world!\"\nrollback a\npeek text --type str\nexpect \"hello, world!\"\nfails NOT_FOUND remove nothing\n" | varve run -'
exits 'run: a wrong expectation' 1 sh -c 'printf "echo a\nexpect b\n" | varve run -'
exits 'run: commit in the middle, then kill' 137 sh -c 'printf "poke text 0 s:J\ncommit one\npoke text 0 s:K\nkill\n" | varve run -'
is 'run: the commit stayed, the rest never was' 'Jello, world!' varve peek text --type str
exits 'remove' 0 varve remove text
exits 'removed' 1 varve peek text
is 'the past keeps it' 'Jello, world!' varve peek text --type str --at HEAD~1

mkfifo ../hold
(varve run - <../hold >../holder.txt 2>&1) &
holder=$!
exec 3>../hold
echo 'echo ready' >&3
n=0
until grep -q ready ../holder.txt || [ $n -gt 100 ]; do
    n=$((n + 1))
    sleep 0.1
done
exits 'two writers: busy' 4 varve meta k2 s:v
is 'reading beside a writer' 'Jello, world!' varve peek text --type str --at HEAD~1
exits 'the log beside a writer' 0 varve log
says 'stat names the writer' 'writer +process [0-9]+' varve stat
says 'names the other process' 'process [0-9]+|pid [0-9]+' varve meta k2 s:v
exec 3>&-
wait $holder || true
exits 'free again' 0 varve meta k3 s:v

chmod -R a-w . 2>/dev/null
if [ "$(id -u)" != 0 ]; then exits 'a read-only directory' 1 varve meta k4 s:v; fi
chmod -R u+w .

is 'fsck finds nothing' 'no damage' varve fsck
log=$(ls log.* | head -n 1)
commits=$(varve log | wc -l)
size=$(varve stat --json | jq .journal_bytes)
cp "$log" ../whole
printf '\377' | dd of="$log" bs=1 seek=4300 conv=notrunc 2>/dev/null
exits 'fsck finds one byte' 5 varve fsck
says 'names the file' "$log" varve fsck
cp ../whole "$log"
is 'whole again' 'no damage' varve fsck
is 'nothing was lost' "$commits" sh -c 'varve log | wc -l'
printf 'varve 99 journal\n' >.varve/format
exits 'a newer store' 1 varve log
says 'is named' 'newer' varve log
finish

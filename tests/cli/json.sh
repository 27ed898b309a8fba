# json.sh - with --json every verb prints objects of the shape that is promised, one a line, whatever the texts hold.
. "$HERE/checks.inc"

# shape WHAT FILTER COMMAND...: each line of stdout is an object for which the filter is true.
shape() {
    what=$1 filter=$2
    shift 2
    "$@" >"$notes/stdout.txt" 2>"$notes/stderr.txt" || true
    if [ -s "$notes/stdout.txt" ] && [ "$(jq -s "all(.[]; $filter)" <"$notes/stdout.txt" 2>&1)" = true ]; then ok; else
        bad "$what: not of the shape $filter:"
        head -c 600 "$notes/stdout.txt" | sed 's/^/    /'
    fi
}
hex='test("^[0-9A-F]{64}$")'
commit="(.id | $hex) and (.root | $hex) and (.parent == null or (.parent | $hex)) and (.number >= 1)
    and (.branch | type == \"string\") and (.message | type == \"string\")
    and (.time | test(\"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}[.][0-9]{9}Z$\")) and (.engine | type == \"string\")
    and (.modules | type == \"number\") and (.modules_changed | type == \"number\")
    and (.pages_changed | type == \"number\") and (.bytes_written | type == \"number\")
    and (.refs | type == \"array\")"
bytes='(.size | type == "number") and ((.text | type == "string") or (.base64 | type == "string"))'
module="(.id | $hex) and (.name | type == \"string\") and (.kind | IN(\"image\", \"plain\", \"contract\"))
    and (.code | $hex) and (.owner | $hex) and (.memory_size | type == \"number\") and (.memory_root | $hex) and (.leaf | $hex)
    and (.globals | type == \"number\")"
changed="(.commit | $commit) and .branch == \"main\" and (.nanoseconds | type == \"number\")"
failure='(.error.status | test("^[A-Z_]+$")) and (.error.code >= 10) and (.error.message | length > 0)
    and (.error.trace | type == "string")'

shape 'init' '.store == "s" and .layout == "journal" and .format == 1' varve init s --json
shape 'init again' "$failure and .error.status == \"EXISTS\"" varve init s --json
cd s
shape 'image' "$changed" varve image i 64k --json
shape 'poke' "$changed" varve --json poke i 0 s:hello
shape 'poke nothing new' '.commit == null and .branch == "main"' varve --json poke i 0 s:hello
shape 'dry run' '.commit == null' varve --json poke i 0 s:other --dry-run
shape 'meta set' "$changed" varve --json meta k x:00ff
shape 'meta get' ".key == \"k\" and (.value | $bytes) and .value.base64 == \"AP8=\"" varve --json meta k
shape 'meta list' ".key and (.value | $bytes)" varve --json meta
shape 'meta unset' "$changed" varve --json meta k --unset
shape 'ls' "$module" varve --json ls
shape 'peek' ".address == 0 and (.data | $bytes) and .data.text == \"hello\"" varve --json peek i 0 5
shape 'peek a number' '.type == "u8" and .value == "104"' varve --json peek i 0 --type u8
shape 'tag' "(.commit | $commit) and .name == \"v1\"" varve --json tag v1
shape 'tags' ".name == \"v1\" and (.commit | $hex) and (.number | type == \"number\") and (.moves | type == \"number\")" varve --json tag
shape 'branch' "(.commit | $commit) and .name == \"side\"" varve --json branch side
shape 'branches' '.name and .commit and .number and .moves' varve --json branch
shape 'delete' '.deleted == "side"' varve --json branch -d side
shape 'log' "$commit" varve --json log
shape 'log of moves' "$commit and (.move | IN(\"commit\", \"restore\", \"create\"))" varve --json log --moves
shape 'show' "$commit and (.changed | type == \"array\")" varve --json show
shape 'show what changed' '.changed == [{module: .changed[0].module, name: "i", pages: 1, bytes: 5}]' varve --json show r2
shape 'diff' '.change == "page" and .name == "i" and .index == 0 and (has("before") | not)' varve --json diff r1 r2
shape 'diff of bytes' ".before == null and (.after | $bytes) and .after.size == 4096" varve --json diff r1 r2 --bytes
shape 'diff of meta' ".change == \"meta\" and .key == \"k\" and (.after | $bytes)" varve --json diff r2 r3
shape 'restore' ".branch == \"main\" and (.from | $commit) and (.to | $commit)" varve --json restore HEAD~1
shape 'stat' '.layout == "journal" and .format == 1 and .commits >= 4 and .refs >= 2 and .bytes_stored > 0
    and .journal_bytes > 0 and has("writer")' varve --json stat
shape 'fsck' '.damage == 0' varve --json fsck
shape 'prove' "(.root | $hex) and (.proof | $bytes)" varve --json prove i 0
varve prove i 0 -o ../proof
shape 'verify' ".proved == true and (.module | $hex) and .present == true and .page == 0 and (.bytes | $bytes)" \
    varve --json verify ../proof --root "$(varve show --json | jq -r .root)"
shape 'not proved' '.proved == false' varve --json verify ../proof --root "$(printf '%064d' 1)"
shape 'remove' "$changed" varve --json remove i
for words in 'show nope' 'show HEAD~x' 'peek nope' 'poke nope 0 s:x' 'log -n x' 'log --bad' 'branch HEAD' 'tag -d x' \
    'restore r99' 'diff r1 r99' 'run nofile' 'verify nofile --root 00' 'image a 5' 'frobnicate' 'commit'; do
    shape "failure: $words" "$failure" varve --json $words
done
shape 'a message that is no UTF-8' "$changed" varve --json image j 4k -m "$(printf 'a\377b')"
shape 'and in the log' "$commit" varve --json log
shape 'a name that is no UTF-8' "$failure" varve --json show "$(printf 'a\377b')"
is 'a message with an escape stays on its line' 1 sh -c 'varve meta e v -m "$(printf "one\ntwo\033[31m")" 2>/dev/null; varve log -n 1 | wc -l | tr -d " "'
is 'and none reaches the terminal' 0 sh -c 'varve log -n 1 | tr -cd "\033" | wc -c | tr -d " "'
long=$(printf 'ä%.0s' $(seq 100))
shape 'a default message is cut between characters' '(.message | test("^meta k ä+$"))' sh -c "varve meta k '$long' 2>/dev/null; varve --json log -n 1"

# run: objects carry their line; what a name or expect sees is the text.
printf 'savepoint a\nx = peek j 0 --type u8\necho $x\nls\nexpect "%s"\nfails NOT_FOUND remove nope\nroot\npoke j 0 s:x\ncommit\n' "$(varve ls)" >../script
shape 'run' '.line >= 1' varve --json run ../script
is 'run: every line' '1 2 3 4 5 6 7 8 9' sh -c "jq -r .line <../stdout.txt | uniq | tr '\n' ' ' | sed 's/ \$//'"
is 'run: echo is an object' '"0"' sh -c "jq -c 'select(.line == 3).text' <../stdout.txt"
printf '\npoke nope 0 s:x\n' >../script
shape 'run: the failure has its place' "$failure and .error.place == \"../script:2\" and .line == 2" varve --json run ../script

if ! varve --version | grep -q 'store only'; then
    value='(.type | IN("i32", "i64", "f32", "f64", "v128")) and (.value | type == "string")'
    receipt="(.status | type == \"string\") and (.message | type == \"string\") and (.trace | type == \"string\")
        and (.data | $bytes) and (.gas_used | type == \"number\") and (.gas_limit | type == \"number\")
        and (.pages_changed | type == \"number\") and (.events | type == \"array\") and (.digest | $hex)
        and all(.frames[]; (.module | $hex) and (.function | type == \"string\") and (.depth | type == \"number\")
            and .status and (.gas_used | type == \"number\") and (.gas_limit | type == \"number\"))"
    wat2wasm "$HERE/../vm/counter.wat" -o ../c.wasm
    shape 'deploy' "(.module | $module) and (.receipt | . == null or ($receipt)) and $changed" varve --json deploy ../c.wasm
    shape 'call' "all(.results[]; $value) and .outs == [] and (.receipt | $receipt) and $changed" varve --json call c inc
    shape 'query' "all(.results[]; $value) and (.receipt | $receipt) and (has(\"commit\") | not)" varve --json query c inc
    shape 'trap' "$failure and .error.status == \"TRAP\" and (.error.trace | length > 0)" varve --json call c boom
    shape 'inspect' '(.kind | IN("plain", "contract")) and has("memory") and (.globals | type == "number") and .imports == [] and .refused == []
        and all(.exports[]; .name and (.params | type == "array") and (.results | type == "array"))' varve --json inspect ../c.wasm
fi
finish

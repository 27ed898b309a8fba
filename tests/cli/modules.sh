# modules.sh - modules that mean harm: refused by name, or run within limits of time and memory; the store stays whole.
. "$HERE/checks.inc"
varve --version | grep -q 'store only' && exit 77

varve init s >/dev/null
# bounded SECONDS COMMAND...: killed, which no test expects, after so long.
bounded() {
    seconds=$1
    shift
    timeout -s KILL "$seconds" varve --store s "$@"
}
leb() { awk -v n="$1" 'BEGIN { do { b = n % 128; n = int(n / 128); printf "\\%03o", n ? b + 128 : b } while (n) }'; }
# module NAME SECTIONS...: the header and what printf makes of the rest.
module() {
    name=$1
    shift
    { printf '\0asm\1\0\0\0'; for part; do printf "$part"; done; } >"$name.wasm"
}
repeat() { awk -v s="$1" -v n="$2" 'BEGIN { for (i = 0; i < n; i++) printf "%s", s }'; }
# section ID ENTRIES...: framed.
section() {
    id=$1
    shift
    printf "$*" >part
    printf '\\%03o%s' "$id" "$(leb "$(wc -c <part)")"
    printf '%s' "$*"
}
type=$(section 1 '\1\140\0\0')
one=$(section 3 '\1\0')
export=$(section 7 '\1\3run\0\0')
empty=$(section 10 '\1\2\0\13')

refused() {
    exits "$1 is refused" 1 bounded 20 deploy "$1.wasm"
    says "$1: why" "$2" bounded 20 deploy "$1.wasm"
    exits "$1: inspect agrees" 1 bounded 20 inspect "$1.wasm"
}
: >nothing.wasm
refused nothing 'not a valid module'
echo 'int main(void) { return 0; }' >text.wasm
refused text 'text.wasm: not a valid module'
module version '' && printf '\0asm\2\0\0\0' >version.wasm
refused version 'version 1'
module cut "$type" "$one" "$export" '\12\100\1'
refused cut 'offset'
module huge-section '\1\377\377\377\377\17\1\140\0\0'
refused huge-section 'offset'
module huge-count "$(section 1 '\377\377\377\377\17\140\0\0')"
refused huge-count 'offset'
module bad-name "$(section 0 '\4\377\376\375\374')" "$type"
refused bad-name 'UTF-8'
module table-10m "$type" "$one" "$(section 4 "\\1\\160\\0$(leb 10000000)")" "$export" "$empty"
refused table-10m 'limit'
module table-4g "$type" "$one" "$(section 4 '\1\160\0\377\377\377\377\17')" "$export" "$empty"
refused table-4g 'limit'
module locals-4g "$type" "$one" "$export" "$(section 10 '\1\11\1\377\377\377\377\17\176\13')"
refused locals-4g 'locals|offset'
{
    printf '\0asm\1\0\0\0'
    printf "$type"
    printf "\\3$(leb 1000003)$(leb 1000000)"
    head -c 1000000 /dev/zero
    printf "\\12$(leb 3000003)$(leb 1000000)"
    repeat '#' 1000000 | sed 's/#/\x02\x00\x0b/g'
} >functions-1m.wasm
refused functions-1m 'functions'
{
    printf '\0asm\1\0\0\0'
    printf "$type$one"
    printf "\\12$(leb 300010)\\1$(leb 300002)\\0"
    repeat '#' 100000 | sed 's/#/\x02\x40/g'
    repeat '#' 100000 | sed 's/#/\x0b/g'
    printf '\13'
} >nesting.wasm
refused nesting 'nesting|offset'

# wat NAME TEXT [OPTION]: what the engine has not.
wat() {
    printf '%s' "$2" >"$1.wat"
    if wat2wasm ${3:-} "$1.wat" -o "$1.wasm" 2>/dev/null; then return 0; fi
    echo "wat2wasm makes no $1 here: not tested"
    return 1
}
wat threads '(module (memory (export "memory") 1 2 shared))' --enable-threads && refused threads 'shared|thread|atomic'
wat two-memories '(module (memory 1) (memory 1))' --enable-multi-memory && refused two-memories 'memor'
wat exceptions '(module (tag $e) (func (export "f") (try (do (throw $e)) (catch $e))))' --enable-exceptions && refused exceptions 'exception|tag|try|legacy'
wat missing '(module (import "env" "a" (func)) (import "env" "b" (func (param i32))) (func (export "f") (call 0)))'
refused missing 'env.*a'
says 'all that is missing is listed' 'b' bounded 20 deploy missing.wasm
exits 'or traps when called' 0 bounded 20 deploy missing.wasm --missing trap
exits 'as it does' 3 bounded 20 call missing f
wat trap-at-start '(module (memory (export "memory") 1) (func $s unreachable) (start $s))'
exits 'a start that traps' 3 bounded 20 deploy trap-at-start.wasm
wat spin-at-start '(module (func $s (loop (br 0))) (start $s))'
exits 'a start without an end, with gas' 3 bounded 20 deploy spin-at-start.wasm --gas 1000000
exits 'and with an interrupt' 130 timeout --preserve-status -s INT -k 10 1 varve --store s deploy spin-at-start.wasm

wat guest '(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $bye (param i32)))
  (memory (export "memory") 1 65536)
  (data (i32.const 0) "\10\00\00\00\40\00\00\00")
  (data (i32.const 16) "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n")
  (func (export "spin") (i32.store (i32.const 1024) (i32.const 7)) (loop (br 0)))
  (func $deep (export "deep") (local i64 i64 i64 i64 i64 i64 i64 i64) (call $deep))
  (func (export "eat") (loop (drop (memory.grow (i32.const 1)))
    (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const 1)) (br 0)))
  (func (export "print") (param i32) (loop
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br_if 0 (local.get 0))))
  (func (export "out") (drop (i32.load (i32.const 0x7fffffff))))
  (func (export "zero") (param i32) (result i32) (i32.div_s (i32.const 1) (local.get 0)))
  (func (export "exit") (param i32) (call $bye (local.get 0)))
  (func (export "get") (result i32) (i32.load (i32.const 1024))))'
exits 'a guest' 0 bounded 20 deploy guest.wasm g
before=$(varve --store s show --json | jq -r .id)
exits 'endless, with gas' 3 bounded 20 call g spin --gas 1000000
is 'by its status' OUT_OF_GAS sh -c 'varve --store s call g spin --gas 1000 --json 2>/dev/null | jq -r .error.status'
exits 'endless, without: an interrupt' 130 timeout --preserve-status -s INT -k 10 1 varve --store s call g spin
# Long enough to be in the call on a busy machine, too: an interrupt before it ends the command without a word.
is 'by its status' CANCELLED sh -c 'timeout --preserve-status -s INT -k 10 4 varve --store s call g spin --json 2>/dev/null | jq -r .error.status'
exits 'endless, in a run' 130 sh -c 'echo "call g spin" | timeout --preserve-status -s INT -k 10 1 varve --store s run'
exits 'endless recursion' 3 bounded 20 call g deep
exits 'outside of memory' 3 bounded 20 call g out
exits 'a division by zero' 3 bounded 20 call g zero 0
exits 'an exit with a code' 3 bounded 20 call g exit 3
exits 'an exit with 0 is success' 0 bounded 20 call g exit 0
exits 'more memory than there is gas for' 3 bounded 30 call g eat --gas 3000
exits 'a megabyte of print' 0 bounded 20 query g print 16384
is 'all of it' 16384 sh -c 'varve --store s query g print 16384 2>&1 >/dev/null | wc -l | tr -d " "'
is 'in JSON too' 1048576 sh -c 'varve --store s query g print 16384 --json | jq .stdout.size'
exits 'into a closed pipe' 0 sh -c 'varve --store s query g print 16384 2>&1 | true'
is 'nothing of it is left' 0 varve --store s query g get
is 'nor a commit' "$before" sh -c 'varve --store s show --json | jq -r .id'
exits 'with no cache to write' 0 env VARVE_CACHE=/dev/null/x "$VARVE" --store s query g get
says 'it says so' 'note: VARVE_CACHE' env VARVE_CACHE=/dev/null/x "$VARVE" --store s query g get
says 'a function that is not there' 'did you mean spin' varve --store s call g spinn

# Numbers that a module imports are given at deploy.
wat globals '(module
  (import "GOT.mem" "base" (global $base i32)) (import "env" "scale" (global $scale f64))
  (func (export "base") (result i32) (global.get $base))
  (func (export "scale") (result f64) (global.get $scale)))'
exits 'a global without a value' 1 varve --store s deploy globals.wasm
says 'it is named' 'GOT.mem.base' varve --store s deploy globals.wasm
exits 'no value' 2 varve --store s deploy globals.wasm --global GOT.mem.base
exits 'no number' 2 varve --store s deploy globals.wasm --global GOT.mem.base=x
exits 'both given' 0 varve --store s deploy globals.wasm --global GOT.mem.base=-7 --global env.scale=f64:0.5
is 'the first' -7 varve --store s query globals base
is 'the second' 0.5 varve --store s query globals scale
is 'fsck' 'no damage' varve --store s fsck
finish

# acceptance.sh - the command line's own promises, in the order in which a user meets them.
. "$HERE/checks.inc"
varve --version | grep -q 'store only' && exit 77
wat2wasm "$HERE/../vm/counter.wat" -o counter.wasm

is 'init says what it made' 'created a journal store in s' varve init s
exits 'init finds a store there' 1 varve init s
says 'and says so' 'already a store' varve init s
cd s
is 'a new store has no history' '' varve log
exits 'which is no failure' 0 varve log
exits 'no such module' 1 varve call nope f
is 'deploy names the module' 'c ' sh -c 'varve deploy ../counter.wasm c | cut -c1-2'
is 'first call' 1 varve call c inc
is 'second call' 2 varve call c inc
is 'two commits after the deploy' 3 sh -c 'varve log | wc -l | tr -d " "'
is 'a query answers' 3 varve query c inc
is 'and leaves nothing' 2 varve call c get
is 'a call that changes nothing commits nothing' 3 sh -c 'varve log | wc -l | tr -d " "'
is 'the past answers' 1 varve query c get --at HEAD~1
exits 'a trap is the guest failing' 3 varve call c boom
says 'and shows a trace' 'unreachable' varve call c boom
is 'a trap left nothing' 2 varve query c get
is 'nor a commit' 3 sh -c 'varve log | wc -l | tr -d " "'
exits 'out of gas' 3 varve call c inc --gas 1
is 'by its name' OUT_OF_GAS sh -c 'varve call c inc --gas 1 --json | jq -r .error.status'
exits 'an endless loop ends with its gas' 3 varve call c spin --gas 100000
is 'a branch is quiet' '' varve branch try HEAD~1
is 'and goes its own way' 2 varve call -b try c inc
is 'the same parent, root, time and message are the same commit' 2 varve query c get
is 'branches are listed' 2 sh -c 'varve branch | wc -l | tr -d " "'
is 'restore says the way back' 'main r3 -> r2; back with: varve restore main@{1}' varve restore HEAD~1
is 'and moved' 1 varve query c get
is 'the way back' 'main r2 -> r3; back with: varve restore main@{1}' varve restore 'main@{1}'
is 'is good' 2 varve query c get
is 'diff counts pages and bytes' 'c  1 page, 1 bytes' varve diff HEAD~1 HEAD
exits 'and tells by its exit code' 1 varve diff HEAD~1 HEAD --exit-code
exits 'equal commits' 0 varve diff HEAD HEAD --exit-code
exits 'out of range' 2 varve call c add 99999999999
says 'is told by argument' 'argument 1: not an i32' varve call c add 99999999999
exits 'too few arguments' 2 varve call c add
root=$(varve show HEAD --json | jq -r .root)
is 'a root has 64 digits' 64 sh -c "printf '%s' $root | wc -c | tr -d ' '"
is 'a run shows the same root' "$root" sh -c 'echo root | varve run -'
exits 'killed in the middle' 137 sh -c 'printf "call c inc\nkill\n" | varve run -'
is 'never happened' 2 varve query c get
exits 'an error drops the run' 3 sh -c 'printf "call c inc\ncall c boom\n" | varve run -'
says 'and names its line' '^varve: -:2: ' sh -c 'printf "call c inc\ncall c boom\n" | varve run - 2>&1'
is 'nothing of it is left' 2 varve query c get
finish

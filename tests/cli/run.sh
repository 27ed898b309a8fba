# run.sh - scripts: names, words, savepoints, branches; an error drops what is uncommitted and names its line.
. "$HERE/checks.inc"

varve init s >/dev/null
cd s
varve -q image i 4k
# script TEXT [OPTION]...: run it.
script() {
    text=$1
    shift
    printf '%b' "$text" >../script
    varve -q run ../script "$@"
}
is 'a name' 'x is 104' script 'poke i 0 s:h\nx = peek i 0 --type u8\necho "x is" ${x}\nabort\n'
is 'quotes' "a  b \$x c'd # e" script "echo 'a  b' '\$x' \"c'd\" '#' e # comment\n"
is 'a last line without an end' end script 'echo end'
is 'values of the command line' 'one=1 2' script 'echo $a $b' a=one=1 b=2
exits 'a name that is none' 2 script 'echo x' 1a=2
exits 'a name that is not set' 2 script 'echo $nope'
exits 'a quote that is not closed' 2 script "echo 'abc\n"
exits 'an unknown statement' 2 script 'frobnicate\n'
says 'with a hint' 'did you mean poke' script 'pok i 0 s:x\n'
exits 'a name without spaces' 2 script 'x=peek i\n'
exits 'a name without a statement' 2 script 'x =\n'
exits 'a folder is no script' 1 varve run ..
exits 'no such script' 1 varve run ../nope
head -c 100 /dev/zero >../zeros
exits 'nor are zeros' 2 varve run ../zeros
exits 'an option that the statement has not' 2 script 'poke i 0 s:x -b main\n'
says 'an error names its line' '^varve: ../script:3: ' script 'poke i 0 s:A\n\npoke nope 0 s:x\n'
is 'and all is dropped' 0 varve peek i 0 --type u8
exits 'a commit stays' 1 script 'poke i 0 s:A\ncommit "one two"\npoke i 1 s:B\nexpect no\n'
is 'that which was committed' A varve peek i --type str
says 'under its own message' 'one two$' varve log -n 1
is 'the end commits' AC sh -c 'printf "poke i 1 s:C\n" | varve -q run && varve peek i --type str'
is 'quit does' AD sh -c 'printf "poke i 1 s:D\nquit\nnonsense\n" | varve -q run - && varve peek i --type str'
exits 'abort drops' 0 script 'poke i 0 s:ZZ\nabort\npeek i --type str\nexpect AD\n'
exits 'savepoints' 0 script 'savepoint a\npoke i 0 s:1\nsavepoint b\npoke i 0 s:2\nrollback b\npeek i --type str\nexpect 1D\nrollback a\nrelease a\nfails NOT_FOUND rollback b\nfails NOT_FOUND release a\npeek i --type str\nexpect AD\n'
exits 'savepoints end with a commit' 1 script 'savepoint a\npoke i 3 s:x\ncommit\nrollback a\n'
exits 'more savepoints than there may be' 2 script "$(for i in $(seq 65); do printf 'savepoint a%s\\n' "$i"; done)"
exits 'fails' 0 script 'fails NOT_FOUND peek nope\nfails MISUSE peek i 9999999\nfails EXISTS image i 4k\n'
exits 'fails: it did not' 1 script 'fails NOT_FOUND peek i 0 1\n'
exits 'fails: another status' 1 script 'fails TRAP peek nope\n'
exits 'fails: no status' 2 script 'fails NOPE peek nope\n'
exits 'a branch' 0 script 'branch try\npoke i 0 s:try\ncommit there\n'
is 'is another' tryx varve peek i --type str -b try
exits 'uncommitted changes stay where they are' 2 script 'poke i 0 s:x\nbranch other\n'
exits 'a branch that exists leaves the session' 0 script 'fails EXISTS branch try\npeek i 1 --type u8\nfails INVALID branch HEAD\nls\n'
exits 'restore' 0 script 'restore HEAD~1\npoke i 5 s:x\n'
says 'went on from there' 'restore' varve log --moves -n 2
is 'root' "$(varve show --json | jq -r .root)" script 'root\n'
exits 'persist' 0 script 'persist\n'
exits '--at looks' 0 script 'peek i 0 --type u8\nexpect 0\npoke i 0 s:x\n' --at r1
exits '--at commits nothing' 2 script 'poke i 0 s:x\ncommit\n' --at r1
before=$(varve show --json | jq -r .id)
exits '--dry-run' 0 script 'poke i 9 s:dry\ncommit a\npoke i 9 s:run\n' --dry-run
exits '--dry-run moves no ref' 2 script 'branch dry\n' --dry-run
is 'nor the head' "$before" sh -c 'varve show --json | jq -r .id'
exits 'a failing script with names in JSON is the same' 0 script 'x = peek i 0 --type u8\necho $x\nexpect "$x"\n' --json
exits 'a very long line' 2 script "$(head -c 1200000 /dev/zero | tr '\0' a)"
exits 'many words' 2 script "echo $(seq 300 | tr '\n' ' ')"
exits 'kill' 137 script 'poke i 0 s:gone\nkill\n'

# On a terminal it prompts, and a mistake is no end.
if command -v script >/dev/null && command script --version >/dev/null 2>&1; then
    printf 'peek i 9999999\npoke i 20 s:typed\nroot\n\004' >../typed
    command script -qec 'varve run' /dev/null <../typed >../screen 2>&1 || true
    says 'a prompt' 'varve> ' cat ../screen
    says 'a mistake is told' 'not inside' cat ../screen
    is 'and the session went on' typed varve peek i 20 --type str
else
    echo 'no script(1): the prompt is not tested'
fi
finish

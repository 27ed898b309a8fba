# programs.sh - SQLite and QuickJS, unmodified: state outlives processes, the past answers, branches part.
. "$HERE/checks.inc"
varve --version | grep -q 'store only' && exit 77
[ -n "${VARVE_TEST_MODULES:-}" ] || exit 77
sqlite=$VARVE_TEST_MODULES/sqlite3.wasm
quickjs=$VARVE_TEST_MODULES/quickjs.wasm

varve init s >/dev/null
cd s
exits 'sql --new' 0 varve sql --new "$sqlite"
exits 'create and insert' 0 varve sql 'create table t(a); insert into t values(1)'
exits 'update' 0 varve sql 'update t set a=2'
is 'the head' 2 varve sql 'select a from t'
is 'the past' 1 varve sql --at HEAD~1 'select a from t'
exits 'a mistake in the SQL' 1 varve sql 'selec'
says 'tells what SQLite says' 'syntax error' varve sql 'selec'
is 'nothing changed' 3 sh -c 'varve log | wc -l | tr -d " "'
is 'JSON rows' '{"a":2,"b":"x","c":null,"d":1.5}' varve --json sql "select a, 'x' as b, null as c, 1.5 as d from t"
exits 'an unended transaction is refused' 1 varve sql 'begin; update t set a=9'
is 'and undone' 2 varve sql 'select a from t'
varve branch other
exits 'a branch' 0 varve sql -b other 'update t set a=7'
is 'has its own rows' '7' varve sql -b other 'select a from t'
is 'main has the old ones' '2' varve sql 'select a from t'

exits 'js --new' 0 varve js --new "$quickjs"
is 'a closure' 1 varve js 'let n=0; globalThis.inc=()=>++n; inc()'
is 'counts on' 2 varve js 'inc()'
is 'in the past it does not' 2 varve js --at HEAD~1 'inc()'
exits 'a thrown error' 3 varve js 'inc(); throw new Error("no")'
says 'is told' 'Error: no' varve js 'inc(); throw new Error("no")'
is 'and undone' 3 varve js 'inc()'
is 'promises run before the commit' '[object Promise]' varve js 'globalThis.p = Promise.resolve(5).then(v => { globalThis.q = v })'
is 'and leave their value' 5 varve js 'q'
exits 'an endless loop is killed' 137 timeout -s KILL 2 varve js 'for (;;) inc()'
is 'and never happened' 4 varve js 'inc()'
finish

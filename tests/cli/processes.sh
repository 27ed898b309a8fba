# processes.sh - every step in a process of its own, committed and reopened, ends where one uninterrupted session
# ends: the same answers and the same state root (same VARVE_TIME and VARVE_SEED).
. "$HERE/checks.inc"
varve --version | grep -q 'store only' && exit 77

# begin NAME: two stores; step STATEMENT...: a process now, a line of the script for later.
begin() {
    mkdir "$1" && cd "$1"
    varve init many >/dev/null
    varve init one >/dev/null
    : >script
    : >many.out
}
step() {
    for word; do printf "'%s' " "$word"; done >>script
    echo >>script
    code=0
    varve -q --store many "$@" >answer 2>error || code=$?
    if [ $code != 0 ]; then
        bad "$* exits $code"
        cat error
    fi
    cat answer >>many.out
}
# The answer of a step, for those that come after it.
value() {
    step "$@"
    answer=$(cat answer)
}
# The step must fail, here and in the session.
fails() {
    status=$1
    shift
    printf 'fails %s ' "$status" >>script
    for word; do printf "'%s' " "$word"; done >>script
    echo >>script
    if varve -q --store many "$@" >/dev/null 2>&1; then bad "$* did not fail"; fi
}
end() {
    varve --store many show --json | jq -r .root >>many.out
    echo root >>script
    varve -q --store one run script >one.out 2>error || { bad "the session of $1"; cat error; }
    if cmp -s many.out one.out; then ok; else
        bad "$1: processes and session differ"
        diff many.out one.out | head -n 20
    fi
    echo "$1: $(varve --store many log | wc -l) commits, root $(tail -n 1 many.out | cut -c1-12)"
    exits "$1: fsck" 0 varve --store many fsck
    cd ..
}

wat2wasm "$HERE/state.wat" -o state.wasm
begin globals-table-segment
step deploy ../state.wasm m
for x in 1 2 3 5 8 13 -21; do step call m step "$x"; done
step call m mean
step call m small
step call m lane
step call m apply 0 7
step call m swap
step call m apply 0 7
step call m append
step call m apply 2 9
step call m clear 1
fails TRAP call m apply 1 7
step call m copy
step call m drop
fails TRAP call m copy
step peek m 128 --type str
step call m step 100
step call m mean
end globals-table-segment

if [ -n "${VARVE_TEST_MODULES:-}" ]; then
    begin sqlite
    step deploy "$VARVE_TEST_MODULES/sqlite3.wasm" db
    value call db malloc 4
    slot=$answer
    step call db sqlite3_open_v2 s::memory: "$slot" 6 0
    value peek db "$slot" --type i32
    handle=$answer
    step call db sqlite3_exec "$handle" 's:create table t(a integer primary key, b text)' 0 0 0
    for i in 1 2 3 4 5 6 7 8; do
        step call db sqlite3_exec "$handle" "s:insert into t(b) select hex(randomblob($i)) from (values(1),(2),(3),(4))" 0 0 0
    done
    step call db sqlite3_exec "$handle" 's:update t set b = upper(b) || a where a % 3 = 0' 0 0 0
    value call db malloc 4
    result=$answer
    step call db sqlite3_prepare_v2 "$handle" "s:select group_concat(b) from t" -1 "$result" 0
    value peek db "$result" --type i32
    statement=$answer
    step call db sqlite3_step "$statement"
    value call db sqlite3_column_text "$statement" 0
    step peek db "$answer" --type str
    step call db sqlite3_finalize "$statement"
    end sqlite

    begin quickjs
    step deploy "$VARVE_TEST_MODULES/quickjs.wasm" js --missing trap
    step call js qjs_init
    evaluate() {
        printf '%s' "$1" >code.js
        value call js qjs_eval "s:$1" "$(wc -c <code.js | tr -d ' ')" s:test.js 0
        handle=$answer
        value call js qjs_get_string "$handle"
        step peek js "$answer" --type str
        step call js qjs_free_cstring "$answer"
        step call js qjs_free_value "$handle"
    }
    evaluate 'globalThis.M = new Map(); globalThis.put = (k, v) => { M.set(k, { v, r: Math.random() }); return M.size }'
    for i in 1 2 3 4 5 6; do evaluate "for (let j = 0; j < 200; j++) put($i * 200 + j, j * j)"; done
    evaluate 'globalThis.g = (function* () { let a = 0, b = 1; for (;;) { yield a; [a, b] = [b, a + b] } })(); g.next().value'
    for i in 1 2 3 4 5; do evaluate 'g.next().value'; done
    evaluate '[...M.values()].reduce((a, b) => a + b.v + b.r, 0) + " " + Date.now()'
    end quickjs

    begin lua
    step deploy "$VARVE_TEST_MODULES/lua.wasm" lua --missing trap
    step call lua emscripten_stack_init # what the JavaScript around such a module does first
    step call lua __wasm_call_ctors
    value call lua luaL_newstate
    state=$answer
    step call lua luaL_openlibs "$state"
    dostring() {
        step call lua luaL_loadstring "$state" "s:$1"
        step call lua lua_pcallk "$state" 0 1 0 0 0
        value call lua luaL_tolstring "$state" -1 0
        step peek lua "$answer" --type str
        step call lua lua_settop "$state" 0
    }
    dostring 'T = {} co = coroutine.wrap(function() for i = 1, 1000000 do T[i] = i * i coroutine.yield(i .. "," .. T[i]) end end)'
    for i in 1 2 3 4 5 6; do dostring 'return co()'; done
    dostring 'return pcall(error, "caught")'
    dostring 'return #T .. co()'
    end lua
fi
finish

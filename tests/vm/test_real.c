/* Programs that nobody here wrote, unmodified, each in two ways: one session from start to end, and every step
 * committed, closed and reopened. All answers and the final root must be the same. */
#include "vm_world.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- Talking to a guest ---------------------------------------------------------------------------- */

struct talk {
    struct world w;
    char *said; /* all answers so far */
    size_t said_size;
};

static void say(struct talk *t, const char *text)
{
    const size_t size = strlen(text);

    t->said = realloc(t->said, t->said_size + size + 2);
    memcpy(t->said + t->said_size, text, size);
    t->said_size += size;
    t->said[t->said_size++] = '\n';
    t->said[t->said_size] = '\0';
}

static uint32_t put_text(struct talk *t, const char *module, const char *allocate, const char *text)
{
    const uint32_t at = (uint32_t)world_i32(&t->w, module, allocate, 1, (int)strlen(text) + 1);

    world_poke(&t->w, module, at, text, strlen(text) + 1);
    return at;
}

static void get_text(struct talk *t, const char *module, uint32_t at, char *text, size_t room)
{
    const uint64_t memory = world_memory(&t->w, module);
    const size_t size = memory - at < room ? (size_t)(memory - at) : room;

    world_peek(&t->w, module, at, text, size);
    text[room - 1] = '\0';
}

/* ---- SQLite ---------------------------------------------------------------------------------------- */

static uint32_t u32_at(struct talk *t, const char *module, uint32_t at)
{
    uint32_t value = 0;

    world_peek(&t->w, module, at, &value, sizeof value);
    return value;
}

static void sqlite_query(struct talk *t, uint32_t db, const char *query)
{
    struct world *w = &t->w;
    const uint32_t text = put_text(t, "db", "sqlite3_malloc", query);
    const uint32_t out = (uint32_t)world_i32(w, "db", "sqlite3_malloc", 1, 4);
    char line[256];

    (void)snprintf(line, sizeof line, "%d",
                   (int)world_i32(w, "db", "sqlite3_prepare_v2", 5, db, text, -1, out, 0));
    say(t, line);
    const uint32_t statement = u32_at(t, "db", out);
    while (statement != 0 && world_i32(w, "db", "sqlite3_step", 1, statement) == 100) {
        get_text(t, "db", (uint32_t)world_i32(w, "db", "sqlite3_column_text", 2, statement, 0), line,
                 sizeof line);
        say(t, line);
    }
    world_i32(w, "db", "sqlite3_finalize", 1, statement);
    world_i32(w, "db", "sqlite3_free", 1, text);
    world_i32(w, "db", "sqlite3_free", 1, out);
}

static bool sqlite_step(struct talk *t, int step)
{
    struct world *w = &t->w;
    static uint32_t db;
    char text[160];

    if (step == 0) {
        world_i32(w, "db", "__wasm_call_ctors", 0);
        world_i32(w, "db", "sqlite3_initialize", 0);
        const uint32_t out = (uint32_t)world_i32(w, "db", "sqlite3_malloc", 1, 4);
        const uint32_t name = put_text(t, "db", "sqlite3_malloc", ":memory:");
        assert_int_equal(world_i32(w, "db", "sqlite3_open_v2", 4, name, out, 6, 0), 0);
        db = u32_at(t, "db", out);
        sqlite_query(t, db, "create table a(id integer primary key, owner text, balance integer)");
        return true;
    }
    if (step <= 12) {
        (void)snprintf(text, sizeof text,
                       "with recursive n(i) as (select 1 union all select i+1 from n where i<40)"
                       " insert into a(owner,balance) select 'u'||(i*%d%%17), i*%d from n",
                       step, step);
        sqlite_query(t, db, text);
        return true;
    }
    switch (step) {
    case 13:
        sqlite_query(t, db,
                     "select owner||':'||count(*)||':'||sum(balance) from a group by owner order by owner");
        return true;
    case 14:
        sqlite_query(t, db, "begin"); /* a transaction that stays open across the reopen */
        sqlite_query(t, db, "delete from a where id%3=0");
        return true;
    case 15:
        sqlite_query(t, db, "commit");
        sqlite_query(t, db, "vacuum");
        return true;
    case 16:
        sqlite_query(
            t, db,
            "select datetime('now')||' '||printf('%.3f', sum(balance)/7.0)||' '||typeof(random()) from a");
        sqlite_query(t, db, "selec nonsense");
        sqlite_query(t, db, "pragma integrity_check");
        return true;
    default:
        return false;
    }
}

/* ---- QuickJS --------------------------------------------------------------------------------------- */

static void js_eval(struct talk *t, const char *source)
{
    struct world *w = &t->w;
    const uint32_t text = put_text(t, "js", "wasm_malloc", source),
                   file = put_text(t, "js", "wasm_malloc", "m.js");
    char line[256];
    uint32_t value = (uint32_t)world_i32(w, "js", "qjs_eval", 4, text, (int)strlen(source), file, 0);

    world_i32(w, "js", "wasm_free", 1, text);
    world_i32(w, "js", "wasm_free", 1, file);
    if (world_i32(w, "js", "qjs_is_exception", 1, value) != 0)
        value = (uint32_t)world_i32(w, "js", "qjs_get_exception", 0);
    const uint32_t string = (uint32_t)world_i32(w, "js", "qjs_get_string", 1, value);
    get_text(t, "js", string, line, sizeof line);
    say(t, line);
    world_i32(w, "js", "qjs_free_cstring", 1, string);
    world_i32(w, "js", "qjs_free_value", 1, value);
}

static bool quickjs_step(struct talk *t, int step)
{
    char text[160];

    if (step == 0) {
        world_i32(&t->w, "js", "qjs_init", 0);
        js_eval(t, "globalThis.M=new Map();globalThis.put=(k,v)=>{M.set(k,{v,t:String(v)});return M.size};"
                   "function* G(){let a=0,b=1;for(;;){yield a;[a,b]=[b,a+b]}};globalThis.it=G();"
                   "globalThis.counter=(()=>{let n=0;return ()=>++n})();1");
        return true;
    }
    if (step <= 10) {
        (void)snprintf(text, sizeof text,
                       "for(let j=0;j<50;j++)put('k'+(%d*50+j),j*j+Math.random()); "
                       "it.next().value+','+M.size+','+counter()",
                       step);
        js_eval(t, text);
        return true;
    }
    switch (step) {
    case 11:
        js_eval(t, "[...M.values()].reduce((a,b)=>a+b.v,0)+','+M.size");
        return true;
    case 12:
        js_eval(t, "throw new Error('boom')");
        js_eval(t, "JSON.stringify([...M].slice(3,6))");
        return true;
    case 13:
        js_eval(t, "new Date().toISOString()");
        return true;
    default:
        return false;
    }
}

/* ---- Lua ------------------------------------------------------------------------------------------- */

static void lua_do(struct talk *t, uint32_t lua, const char *source)
{
    struct world *w = &t->w;
    const uint32_t text = put_text(t, "lua", "malloc", source);
    char line[256];
    uint64_t rc = world_i32(w, "lua", "luaL_loadstring", 2, lua, text);

    world_i32(w, "lua", "free", 1, text);
    if (rc == 0)
        rc = world_i32(w, "lua", "lua_pcallk", 6, lua, 0, 1, 0, 0, 0);
    (void)snprintf(line, sizeof line, "%d", (int)rc);
    say(t, line);
    get_text(t, "lua", (uint32_t)world_i32(w, "lua", "luaL_tolstring", 3, lua, -1, 0), line, sizeof line);
    say(t, line);
    world_i32(w, "lua", "lua_settop", 2, lua, 0);
}

static bool lua_step(struct talk *t, int step)
{
    static uint32_t lua;

    if (step == 0) {
        world_i32(&t->w, "lua", "emscripten_stack_init", 0);
        world_i32(&t->w, "lua", "__wasm_call_ctors", 0);
        lua = (uint32_t)world_i32(&t->w, "lua", "luaL_newstate", 0);
        world_i32(&t->w, "lua", "luaL_openlibs", 1, lua);
        lua_do(t, lua,
               "T={} n=0 function step(k) for i=1,k do n=n+1 T['k'..n]={n,n*2,tostring(n)} end return n end "
               "co=coroutine.wrap(function() local i=0 while true do i=i+1 coroutine.yield(i*i) end end)");
        return true;
    }
    if (step <= 10) {
        lua_do(t, lua, "return step(100)..','..co()"); /* a coroutine that waits across the reopen */
        return true;
    }
    switch (step) {
    case 11:
        lua_do(t, lua, "local s=0 for k,v in pairs(T) do s=s+v[2] end return n..','..s");
        return true;
    case 12:
        lua_do(t, lua, "error('boom')"); /* longjmp */
        lua_do(t, lua, "return select(2, pcall(function() return pcall(error, {}) end))");
        lua_do(t, lua,
               "local function f(n) if n == 0 then error('deep') end return pcall(f, n-1) end"
               " return tostring(f(100))");
        return true;
    case 13:
        lua_do(t, lua, "return os.time()..' '..os.date('!%Y-%m-%d %H:%M:%S')..' '..os.date('%A %B %j')");
        lua_do(
            t, lua,
            "return tostring(io.open('/etc/passwd'))..(string.gsub('hello','l','L'))..tostring(math.random() "
            "< 1)");
        return true;
    default:
        return false;
    }
}

/* ---- Every kind of state ---------------------------------------------------------------------------- */

static void zoo_say(struct talk *t)
{
    char line[160];
    uint64_t digest = 0;

    assert_ok(&t->w, world_call(&t->w, "zoo", "digest", &digest, ""));
    (void)snprintf(line, sizeof line, "%llx %d %d %d", (unsigned long long)digest,
                   (int)world_i32(&t->w, "zoo", "n", 0), (int)world_i32(&t->w, "zoo", "table_size", 0),
                   (int)world_i32(&t->w, "zoo", "call", 1, 0));
    say(t, line);
}

static bool zoo_step(struct talk *t, int step)
{
    struct world *w = &t->w;

    switch (step % 4) {
    case 0:
        world_i32(w, "zoo", "inc", 1, step + 1);
        world_i32(w, "zoo", "store", 2, step * 4096, step);
        break;
    case 1:
        world_i32(w, "zoo", "swap", 0);
        (void)world_i32(w, "zoo", "grow_table", 1, 1);
        break;
    case 2:
        if (step == 2)
            world_i32(w, "zoo", "put", 1, 2);
        else if (step == 6)
            world_i32(w, "zoo", "drop_later", 0);
        else
            world_i32(w, "zoo", "keep_ref", 0);
        break;
    default:
        if (step == 11)
            world_i32(w, "zoo", "drop_hello", 0);
        assert_status(w, world_call(w, "zoo", "mess", NULL, "i32 i32 i32", 256, step, 1), VARVE_TRAP);
        (void)world_i32(w, "zoo", "grow", 1, 1);
        break;
    }
    zoo_say(t);
    return step < 16;
}

/* ---- Both ways --------------------------------------------------------------------------------------- */

static varve_status answer_zero(void *context, varve_guest *guest, const varve_value *args,
                                varve_value *results)
{
    (void)context;
    (void)guest;
    (void)args;
    results[0].of.i32 = 0;
    return VARVE_OK;
}

/* What quickjs-wasi asks of its embedder. */
static void define_quickjs(struct world *w)
{
    static const char *const functions[][2] = {
        { "host_get_timezone_offset", "i32 i32 -> i32" }, { "host_interrupt", "-> i32" },
        { "host_promise_rejection", "i32 i32 i32" },      { "host_module_normalize", "i32 i32 -> i32" },
        { "host_module_load", "i32 i32 -> i32" },         { "host_call", "i32 i32 i32 i32 i32 -> i32" },
    };

    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        varve_host_function f = VARVE_INIT(varve_host_function);
        f.module = "env";
        f.name = functions[i][0];
        f.signature = functions[i][1];
        f.call = answer_zero;
        assert_ok(w, varve_vm_define(w->vm, &f, &w->error));
    }
}

struct program {
    const char *file, *name;
    bool (*step)(struct talk *t, int step);
    const char *must_say; /* in the answers */
};

static varve_root play(const struct program *p, struct talk *t, bool reopen)
{
    size_t size = 0;
    uint8_t *code = world_module(p->file, &size);

    *t = (struct talk){ .said = NULL };
    if (code == NULL)
        skip();
    world_new(&t->w);
    define_quickjs(&t->w);
    world_begin(&t->w);
    assert_ok(&t->w, world_deploy_bytes(&t->w, p->name, code, size, NULL));
    free(code);
    for (int step = 0;; step++) {
        if (reopen)
            world_reopen(&t->w);
        if (!p->step(t, step))
            break;
    }
    return world_root(&t->w);
}

static void resumes_exactly(const struct program *p)
{
    struct talk straight, resumed;
    const varve_root a = play(p, &straight, false), b = play(p, &resumed, true);

    if (strstr(straight.said, p->must_say) == NULL) {
        print_error("%s said:\n%s\n", p->name, straight.said);
        fail();
    }
    assert_string_equal(straight.said, resumed.said);
    assert_memory_equal(&a, &b, sizeof a);
    world_free(&straight.w);
    world_free(&resumed.w);
    free(straight.said);
    free(resumed.said);
}

static void sqlite_resumes_exactly(void **state)
{
    (void)state;
    resumes_exactly(&(struct program){ "sqlite3", "db", sqlite_step, "2023-11-14 22:13:20" });
}

static void quickjs_resumes_exactly(void **state)
{
    (void)state;
    resumes_exactly(&(struct program){ "quickjs", "js", quickjs_step, "2023-11-14T22:13:20.123Z" });
}

static void lua_resumes_exactly_with_a_live_coroutine(void **state)
{
    (void)state;
    resumes_exactly(
        &(struct program){ "lua", "lua", lua_step, "1700000000 2023-11-14 22:13:20 Tuesday November 318" });
}

static void globals_tables_and_segments_resume_exactly(void **state)
{
    (void)state;
    resumes_exactly(&(struct program){ "zoo", "zoo", zoo_step, "" });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sqlite_resumes_exactly),
        cmocka_unit_test(quickjs_resumes_exactly),
        cmocka_unit_test(lua_resumes_exactly_with_a_live_coroutine),
        cmocka_unit_test(globals_tables_and_segments_resume_exactly),
    };

    return cmocka_run_group_tests_name("vm real", tests, NULL, NULL);
}

/* row_guests.c - what commits of SQLite and of QuickJS write, programs that nobody wrote for varve.
 *
 * The modules are those that tools/setup.sh fetched, in the user's cache or beside the installed programs. */
#include "bytes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct program {
    struct product p;
    varve_module_id id;
    varve_image *memory;
};

static FILE *module_file(const char *name)
{
    const char *cache = getenv("VARVE_CACHE"), *home = getenv("HOME");
    char path[1024];
    FILE *file;

    if (cache != NULL)
        snprintf(path, sizeof path, "%s/modules/%s", cache, name);
    else
        snprintf(path, sizeof path, "%s/.cache/varve/modules/%s", home != NULL ? home : "", name);
    file = fopen(path, "re");
    if (file != NULL)
        return file;
    snprintf(path, sizeof path, "%s/%s", VARVE_LIBEXEC_DIR, name);
    return fopen(path, "re");
}

static uint8_t *read_module(const char *name, size_t *size)
{
    enum { MOST = 16 * 1048576 };
    FILE *file = module_file(name);

    if (file == NULL)
        return NULL;
    uint8_t *bytes = malloc(MOST);
    if (bytes == NULL)
        bench_die("no memory");
    *size = fread(bytes, 1, MOST, file);
    fclose(file);
    return bytes;
}

static int32_t call(struct program *g, const char *function, size_t count, const int32_t *numbers)
{
    varve_value args[6], result = { .type = VARVE_I32 };
    varve_signature signature = VARVE_INIT(varve_signature);
    varve_error error = { 0 };

    must(varve_session_signature(g->p.session, &g->id, function, &signature, &error), &error, function);
    for (size_t i = 0; i < count; i++)
        args[i] = (varve_value){ .type = VARVE_I32, .of.i32 = numbers[i] };
    must(varve_session_call(g->p.session, &g->id, function, args, count, &result, signature.result_count,
                            NULL, NULL, &error),
         &error, function);
    return result.of.i32;
}
#define CALL(g, function, ...) \
    call(g, function, sizeof((int32_t[]){ __VA_ARGS__ }) / sizeof(int32_t), (int32_t[]){ __VA_ARGS__ })

static void find_memory(struct program *g)
{
    varve_error error = { 0 };

    must(varve_image_open(g->p.session, &g->id, NULL, &g->memory, &error), &error, "the memory");
}

/* A copy of a text in the guest, made by its own allocator. */
static int32_t text_in(struct program *g, const char *allocate, const char *text)
{
    varve_error error = { 0 };
    const int32_t at = CALL(g, allocate, (int32_t)strlen(text) + 1);

    must(varve_image_write(g->memory, (uint32_t)at, text, strlen(text) + 1, &error), &error, "a text");
    return at;
}

/* Returns whether the module was there. */
static bool program_open(struct program *g, struct bench *b, const char *store, const char *file)
{
    varve_deploy_options deploy = VARVE_INIT(varve_deploy_options);
    varve_vm_options options = VARVE_INIT(varve_vm_options);
    varve_error error = { 0 };
    size_t size = 0;
    uint8_t *code = read_module(file, &size);

    if (code == NULL) {
        bench_note("left out: no %s in the cache (tools/setup.sh modules)", file);
        return false;
    }
    must(varve_vm_new(&options, &g->p.vm, &error), &error, "make a VM");
    product_create(&g->p, b, store);
    product_begin(&g->p, NULL);
    deploy.name = "program";
    deploy.flags = VARVE_DEPLOY_TRAP_MISSING; /* QuickJS imports hooks that nothing here calls */
    must(varve_session_deploy(g->p.session, code, size, &deploy, &g->id, NULL, &error), &error, file);
    free(code);
    find_memory(g);
    return true;
}

static void program_close(struct program *g)
{
    product_close(&g->p);
    varve_vm_free(g->p.vm);
}

/* ---- SQLite ------------------------------------------------------------------------------------- */

static void sql(struct program *g, int32_t db, const char *text)
{
    const int32_t at = text_in(g, "sqlite3_malloc", text);
    const int32_t rc = CALL(g, "sqlite3_exec", db, at, 0, 0, 0);

    if (rc != 0)
        bench_die("SQLite: error %d of %s", rc, text);
    CALL(g, "sqlite3_free", at);
}

/* A table of 1000 rows. */
static int32_t make_accounts(struct program *g)
{
    varve_error error = { 0 };
    int32_t db = 0;
    char text[160];

    const int32_t out = CALL(g, "sqlite3_malloc", 4), name = text_in(g, "sqlite3_malloc", ":memory:");
    if (CALL(g, "sqlite3_open_v2", name, out, 6, 0) != 0)
        bench_die("SQLite does not open a database");
    must(varve_image_read(g->memory, (uint32_t)out, &db, sizeof db, &error), &error, "the handle");
    sql(g, db, "create table account(id integer primary key, owner text, balance integer); begin");
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "insert into account(owner, balance) values('owner %d', %d)",
                 i * 7919 % 1000, i);
        sql(g, db, text);
    }
    sql(g, db, "commit");
    return db;
}

static void update_account(struct program *g, int32_t db, unsigned i)
{
    char text[160];

    snprintf(text, sizeof text, "update account set balance = balance + 1 where id = %u", i * 37 % 1000 + 1);
    sql(g, db, text);
}

static void sqlite(struct bench *b)
{
    struct program g = { .memory = NULL };
    struct bytes_sum sum = { .commits = 0 };

    if (!program_open(&g, b, "sqlite", "sqlite3.wasm"))
        return;
    const int32_t db = make_accounts(&g);
    product_commit(&g.p, VARVE_DURABLE, NULL);
    for (unsigned i = 0; i < bench_of(b, 200, 30); i++) {
        update_account(&g, db, i);
        bytes_commit(&g.p, &sum);
    }
    bytes_tell(b, "SQLite, an update of one row of 1000", &sum);
    program_close(&g);
}

/* ---- The same commits in each layout ------------------------------------------------------------ */

struct layout_facts {
    const char *name;
    varve_layout layout;
    varve_durability durability;
    double commit, persist, stored; /* us, the median; us, of all of them; MiB */
};

static bool run_layout(struct bench *b, struct layout_facts *facts)
{
    enum { MOST = 200 };
    struct program g = { .memory = NULL, .p.layout = facts->layout };
    varve_store_info info = VARVE_INIT(varve_store_info);
    varve_error error = { 0 };
    double times[MOST];
    const unsigned count = bench_of(b, MOST, 30);

    if (!program_open(&g, b, facts->name, "sqlite3.wasm"))
        return false;
    const int32_t db = make_accounts(&g);
    product_commit(&g.p, facts->durability, NULL);
    for (unsigned i = 0; i < count; i++) {
        update_account(&g, db, i);
        const double start = bench_now();
        product_commit(&g.p, facts->durability, NULL);
        times[i] = (bench_now() - start) / 1e3;
    }
    facts->commit = bench_median(times, count);
    const double start = bench_now();
    must(varve_store_persist(g.p.store, &error), &error, "persist");
    facts->persist = (bench_now() - start) / 1e3;
    must(varve_store_stat(g.p.store, &info, &error), &error, "stat");
    facts->stored = (double)info.bytes_stored / (double)MIB;
    program_close(&g);
    return true;
}

void bench_layouts(struct bench *b)
{
    struct layout_facts facts[] = {
        { .name = "journal", .layout = VARVE_LAYOUT_JOURNAL, .durability = VARVE_DURABLE },
        { .name = "tree", .layout = VARVE_LAYOUT_TREE, .durability = VARVE_DURABLE },
        { .name = "chain", .layout = VARVE_LAYOUT_CHAIN, .durability = VARVE_BUFFERED },
        { .name = "flat", .layout = VARVE_LAYOUT_FLAT, .durability = VARVE_BUFFERED },
    };

    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        struct bench_result result = { .unit = "us", .runs = bench_of(b, 200, 30) };
        if (!run_layout(b, &facts[i]))
            return;
        snprintf(result.name, sizeof result.name, "%s: a commit%s", facts[i].name,
                 facts[i].durability == VARVE_DURABLE ? ", durable" : "");
        result.floor = facts[0].commit;
        result.value = facts[i].commit;
        bench_tell(b, &result);
        snprintf(result.name, sizeof result.name, "%s: disk after them", facts[i].name);
        snprintf(result.unit, sizeof result.unit, "MiB");
        snprintf(result.note, sizeof result.note, "persist after them: %.0f us", facts[i].persist);
        result.floor = facts[0].stored;
        result.value = facts[i].stored;
        bench_tell(b, &result);
    }
}

/* ---- QuickJS ------------------------------------------------------------------------------------ */

static void js(struct program *g, int32_t file, const char *text)
{
    const int32_t at = text_in(g, "wasm_malloc", text);
    const int32_t value = CALL(g, "qjs_eval", at, (int32_t)strlen(text), file, 0);

    if (CALL(g, "qjs_is_exception", value) != 0)
        bench_die("QuickJS: an exception in %s", text);
    CALL(g, "qjs_free_value", value);
    CALL(g, "wasm_free", at);
}

static void quickjs(struct bench *b)
{
    struct program g = { .memory = NULL };
    struct bytes_sum sum = { .commits = 0 };
    char text[160];

    if (!program_open(&g, b, "quickjs", "quickjs.wasm"))
        return;
    call(&g, "qjs_init", 0, NULL);
    const int32_t file = text_in(&g, "wasm_malloc", "bench.js");
    js(&g, file,
       "globalThis.M = new Map(); globalThis.put = (k, v) => { M.set(k, {v, t: String(v)}); return M.size }");
    js(&g, file, "for (let j = 0; j < 2000; j++) put('k' + j, j * j)");
    product_commit(&g.p, VARVE_DURABLE, NULL);
    for (unsigned i = 0; i < bench_of(b, 200, 30); i++) {
        snprintf(text, sizeof text, "put('k%u', %u)", i * 37 % 2000, i);
        js(&g, file, text);
        bytes_commit(&g.p, &sum);
    }
    bytes_tell(b, "QuickJS, one put into a map of 2000", &sum);
    program_close(&g);
}

void bench_bytes_guests(struct bench *b)
{
    sqlite(b);
    quickjs(b);
}

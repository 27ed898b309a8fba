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

static void sqlite(struct bench *b)
{
    struct program g = { .memory = NULL };
    struct bytes_sum sum = { .commits = 0 };
    varve_error error = { 0 };
    int32_t db = 0;
    char text[160];

    if (!program_open(&g, b, "sqlite", "sqlite3.wasm"))
        return;
    const int32_t out = CALL(&g, "sqlite3_malloc", 4), name = text_in(&g, "sqlite3_malloc", ":memory:");
    if (CALL(&g, "sqlite3_open_v2", name, out, 6, 0) != 0)
        bench_die("SQLite does not open a database");
    must(varve_image_read(g.memory, (uint32_t)out, &db, sizeof db, &error), &error, "the handle");
    sql(&g, db, "create table account(id integer primary key, owner text, balance integer); begin");
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "insert into account(owner, balance) values('owner %d', %d)",
                 i * 7919 % 1000, i);
        sql(&g, db, text);
    }
    sql(&g, db, "commit");
    product_commit(&g.p, VARVE_DURABLE, NULL);
    for (unsigned i = 0; i < bench_of(b, 200, 30); i++) {
        snprintf(text, sizeof text, "update account set balance = balance + 1 where id = %u",
                 i * 37 % 1000 + 1);
        sql(&g, db, text);
        bytes_commit(&g.p, &sum);
    }
    bytes_tell(b, "SQLite, an update of one row of 1000", &sum);
    program_close(&g);
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

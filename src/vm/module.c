/* module.c - see module.h.
 *
 *   codes   hash of (bytecode hash, flags) -> code; held by the pool until it ends
 *   files   <key>: "varvecod", format, checksum of the rest, machine code. The key covers bytecode, values of
 *           imported globals, rewriter, engine and settings, so that a file is right or absent
 * A file is believed only in a folder that nobody else can write to: what is in it is run. */
#include "vm/module.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"

enum {
    FILE_FORMAT = 1,
    FILE_HEAD = 8 + 4 + VV_HASH_SIZE,
    FILE_MAX = 1 << 30,
    MISSING_SHOWN = 380 /* bytes of the list of unanswered imports */
};
static const char file_magic[] = "varvecod";

/* ---- Files of machine code ----------------------------------------------------------------------- */

/* Make `path` and what leads to it; failure shows when it is opened. */
static void make_folders(char *path)
{
    for (char *p = path + 1; *p != '\0'; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        (void)vv_dir_create(&vv_vfs_system, path, NULL);
        *p = '/';
    }
    (void)vv_dir_create(&vv_vfs_system, path, NULL);
}

static void open_files(struct vv_code_pool *pool, const char *cache)
{
    char path[PATH_MAX];
    const int size = snprintf(path, sizeof path, "%s/code", cache);

    if (size < 0 || (size_t)size >= sizeof path)
        return;
    make_folders(path);
    if (vv_dir_open(&vv_vfs_system, path, &pool->files) != VARVE_OK)
        pool->files = VV_DIR_NONE;
    else if (vv_dir_private(&pool->files) != VARVE_OK)
        vv_dir_close(&pool->files);
}

static void hash_values(struct vv_hasher *hasher, const struct vv_code_request *request)
{
    vv_hasher_u64(hasher, request->value_count);
    for (size_t i = 0; i < request->value_count; i++) {
        const struct vv_import_value *value = &request->values[i];
        vv_hasher_u64(hasher, strlen(value->module));
        vv_hasher_put(hasher, value->module, strlen(value->module));
        vv_hasher_u64(hasher, strlen(value->name));
        vv_hasher_put(hasher, value->name, strlen(value->name));
        vv_hasher_u64(hasher, (uint64_t)value->value.type);
        vv_hasher_put(hasher, value->value.bits, sizeof value->value.bits);
    }
}

static void file_name(const struct vv_code_request *request, char name[65])
{
    struct vv_hasher hasher;
    uint8_t key[VV_HASH_SIZE];

    vv_hasher_init(&hasher, VV_HASH_CACHE);
    vv_hasher_put(&hasher, request->hash, VV_HASH_SIZE);
    hash_values(&hasher, request);
    vv_hasher_u64(&hasher, VV_REWRITE_VERSION);
    vv_hasher_put(&hasher, vv_engine_settings(), strlen(vv_engine_settings()));
    vv_hasher_end(&hasher, key);
    for (size_t i = 0; i < sizeof key; i++)
        (void)snprintf(name + 2 * i, 3, "%02x", key[i]);
}

static bool load_file(struct vv_code_pool *pool, const char *name, struct vv_native **native)
{
    uint8_t *data = NULL, sum[VV_HASH_SIZE];
    size_t size = 0;
    bool loaded = false;

    if (pool->files.fd < 0 || vv_dir_read(&pool->files, name, FILE_MAX, &data, &size) != VARVE_OK)
        return false;
    if (size > FILE_HEAD && memcmp(data, file_magic, 8) == 0 && vv_get_u32(data + 8) == FILE_FORMAT) {
        vv_hash(VV_HASH_CACHE, data + FILE_HEAD, size - FILE_HEAD, sum);
        loaded = vv_hash_equal(sum, data + 12) &&
                 vv_native_load(pool->engine, data + FILE_HEAD, size - FILE_HEAD, native) == VARVE_OK;
    }
    vv_free(data);
    return loaded;
}

/* A cache: what goes wrong here costs a compilation another time. */
static void save_file(struct vv_code_pool *pool, const char *name, const struct vv_native *native)
{
    struct vv_bytes bytes = VV_BYTES_NONE;

    if (pool->files.fd < 0)
        return;
    vv_bytes_zero(&bytes, FILE_HEAD);
    if (vv_native_save(native, &bytes) == VARVE_OK) {
        memcpy(bytes.data, file_magic, 8);
        vv_put_u32(bytes.data + 8, FILE_FORMAT);
        vv_hash(VV_HASH_CACHE, bytes.data + FILE_HEAD, bytes.size - FILE_HEAD, bytes.data + 12);
        (void)vv_dir_publish(&pool->files, name, bytes.data, bytes.size);
    }
    vv_bytes_release(&bytes);
}

/* ---- Making code ------------------------------------------------------------------------------- */

static varve_status trap_missing(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    const struct vv_plan_import *import = context;

    (void)instance;
    (void)slots;
    return vv_fail(VARVE_TRAP, "import %s.%s was called and nobody answers it", import->module.data,
                   import->name.data);
}

/* Find who answers each import; list those that nobody does, and those answered with another signature. */
static varve_status answer_imports(struct vv_code_pool *pool, struct vv_code *code, bool missing_traps)
{
    varve_status rc = VARVE_OK;
    char list[MISSING_SHOWN] = "";
    size_t used = 0, missing = 0;

    TRY(vv_alloc(&code->answers, code->plan.import_count, sizeof *code->answers));
    for (uint32_t i = 0; i < code->plan.import_count; i++) {
        const struct vv_plan_import *import = &code->plan.imports[i];
        struct vv_answer answer = { .by = NULL };
        TRY(pool->answer(pool->context, import, &answer));
        if (answer.outside.call == NULL && missing_traps)
            answer.outside = (struct vv_outside){ .call = trap_missing, .context = (void *)import };
        if (answer.outside.call == NULL) {
            if (used < sizeof list)
                used += (size_t)snprintf(list + used, sizeof list - used, "%s%s.%s", missing > 0 ? ", " : "",
                                         import->module.data, import->name.data);
            missing++;
        }
        code->answers[i] = answer.outside;
    }
    if (missing > 0)
        rc = vv_fail(VARVE_REFUSED, "nobody answers %zu import%s: %s%s", missing, missing == 1 ? "" : "s",
                     list, used >= sizeof list ? "..." : "");
out:
    return rc;
}

/* Machine code from a file is of bytes that were validated before it was made; all others are now, in their original
 * form: the rewritten one may have lost what is wrong with them. */
static varve_status make_native(struct vv_code_pool *pool, const struct vv_code_request *request,
                                struct vv_code *code)
{
    varve_status rc = VARVE_OK;
    char name[65];

    file_name(request, name);
    if (load_file(pool, name, &code->native))
        return VARVE_OK;
    TRY(vv_engine_validate(pool->engine, request->bytes, request->size));
    TRY(vv_native_compile(pool->engine, code->plan.code.data, code->plan.code.size, &code->native));
    save_file(pool, name, code->native);
out:
    return rc;
}

static void free_code(struct vv_code *code)
{
    vv_program_free(code->program);
    vv_native_free(code->native);
    vv_free(code->answers);
    vv_plan_release(&code->plan);
    vv_free(code);
}

static bool same_text(const struct vv_text *a, const char *b)
{
    return a->size == strlen(b) && memcmp(a->data, b, a->size) == 0;
}

/* A value that no import takes is a slip of the pen: MISUSE. */
static varve_status check_values(const struct vv_wasm *module, const struct vv_code_request *request)
{
    for (size_t i = 0; i < request->value_count; i++) {
        const struct vv_import_value *value = &request->values[i];
        bool taken = false;
        for (uint32_t k = 0; k < module->import_count && !taken; k++)
            taken = module->imports[k].kind == VV_WASM_GLOBAL &&
                    same_text(&module->imports[k].module, value->module) &&
                    same_text(&module->imports[k].name, value->name);
        if (!taken)
            return vv_fail(VARVE_MISUSE, "the module imports no global %.80s.%.80s", value->module,
                           value->name);
    }
    return VARVE_OK;
}

static varve_status make_code(struct vv_code_pool *pool, const struct vv_code_request *request,
                              struct vv_code **out)
{
    varve_status rc = VARVE_OK;
    struct vv_code *code = NULL;
    struct vv_wasm module = { .bytes = NULL };
    const struct vv_rewrite_options options = { .values = request->values,
                                                .value_count = request->value_count };

    TRY(vv_alloc(&code, 1, sizeof *code));
    code->holders = 1;
    memcpy(code->hash, request->hash, sizeof code->hash);
    code->limits = vv_wasm_limits_of(request->limits);
    TRY(vv_wasm_read(request->bytes, request->size, &code->limits, &module));
    TRY(check_values(&module, request));
    /* Before the engine looks: our refusals name instruction, function and offset. Where the rewriter only noticed
     * that the module is invalid, the engine knows why. */
    rc = vv_rewrite(&module, &options, &code->plan);
    if (rc == VARVE_INVALID)
        TRY(vv_engine_validate(pool->engine, request->bytes, request->size));
    TRY(rc);
    TRY(answer_imports(pool, code, request->trap_missing));
    TRY(make_native(pool, request, code));
    TRY(vv_program_new(pool->engine, code->native, code->answers, code->plan.import_count, &code->program));
    vv_bytes_release(&code->plan.code);
out:
    vv_wasm_release(&module);
    if (rc != VARVE_OK && code != NULL)
        free_code(code);
    else
        *out = code;
    return rc;
}

/* ---- The pool ----------------------------------------------------------------------------------- */

varve_status vv_code_pool_init(struct vv_code_pool *pool, struct vv_engine *engine, const char *cache,
                               vv_answer_fn answer, void *context)
{
    *pool =
        (struct vv_code_pool){ .engine = engine, .answer = answer, .context = context, .files = VV_DIR_NONE };
    vv_table_init(&pool->codes, VV_HASH_SIZE);
    (void)pthread_mutex_init(&pool->mutex, NULL);
    if (cache != NULL)
        open_files(pool, cache);
    return VARVE_OK;
}

void vv_code_pool_release(struct vv_code_pool *pool)
{
    const void *key;
    union vv_value *value;
    size_t cursor = 0;

    while (vv_table_next(&pool->codes, &cursor, &key, &value))
        vv_code_drop(value->pointer);
    vv_table_release(&pool->codes);
    vv_dir_close(&pool->files);
    (void)pthread_mutex_destroy(&pool->mutex);
}

static void code_key(const struct vv_code_request *request, uint8_t key[VV_HASH_SIZE])
{
    struct vv_hasher hasher;

    memcpy(key, request->hash, VV_HASH_SIZE);
    if (request->value_count > 0) {
        vv_hasher_init(&hasher, VV_HASH_CACHE);
        vv_hasher_put(&hasher, request->hash, VV_HASH_SIZE);
        hash_values(&hasher, request);
        vv_hasher_end(&hasher, key);
    }
    key[0] ^=
        request->trap_missing; /* hashes are spread evenly: one bit more than never makes two of them meet */
}

struct vv_code *vv_code_find(struct vv_code_pool *pool, const struct vv_code_request *request)
{
    uint8_t key[VV_HASH_SIZE];
    struct vv_code *code = NULL;

    code_key(request, key);
    (void)pthread_mutex_lock(&pool->mutex);
    const union vv_value *value = vv_table_get(&pool->codes, key);
    if (value != NULL) {
        code = value->pointer;
        atomic_fetch_add(&code->holders, 1);
    }
    (void)pthread_mutex_unlock(&pool->mutex);
    return code;
}

/* Make room for one more: code that only the pool holds goes, for a server of many modules runs for ever. */
static void evict(struct vv_code_pool *pool)
{
    const void *key = NULL;
    union vv_value *value = NULL;
    size_t cursor = 0;

    if (pool->codes.count < VV_CODES_MAX)
        return;
    while (vv_table_next(&pool->codes, &cursor, &key, &value)) {
        struct vv_code *code = value->pointer;
        if (atomic_load(&code->holders) > 1)
            continue;
        uint8_t copy[VV_HASH_SIZE];
        memcpy(copy, key, sizeof copy);
        (void)vv_table_remove(&pool->codes, copy, NULL);
        vv_code_drop(code);
        return;
    }
}

/* Code that was made under other limits must hold under these too. */
static varve_status check_limits(const struct vv_code *code, const struct vv_code_request *request)
{
    const struct vv_wasm_limits limits = vv_wasm_limits_of(request->limits);
    struct vv_wasm module = { .bytes = NULL };

    if (memcmp(&limits, &code->limits, sizeof limits) == 0)
        return VARVE_OK;
    const varve_status rc = vv_wasm_read(request->bytes, request->size, &limits, &module);
    vv_wasm_release(&module);
    return rc;
}

varve_status vv_code_get(struct vv_code_pool *pool, const struct vv_code_request *request,
                         struct vv_code **out)
{
    varve_status rc = VARVE_OK;
    uint8_t key[VV_HASH_SIZE];
    struct vv_code *code = vv_code_find(pool, request);

    if (code != NULL) {
        rc = check_limits(code, request);
        if (rc != VARVE_OK)
            vv_code_drop(code);
        else
            *out = code;
        return rc;
    }
    /* Compiled without the lock; when two threads make the same, the second's is thrown away. */
    rc = make_code(pool, request, &code);
    if (rc != VARVE_OK)
        return rc;
    code_key(request, key);
    (void)pthread_mutex_lock(&pool->mutex);
    evict(pool);
    const union vv_value *other = vv_table_get(&pool->codes, key);
    if (other != NULL) {
        vv_code_drop(code);
        code = other->pointer;
        atomic_fetch_add(&code->holders, 1);
    } else if (vv_table_put(&pool->codes, key, (union vv_value){ .pointer = code }) == VARVE_OK) {
        atomic_fetch_add(&code->holders,
                         1); /* the pool's; without memory for its place it is just not kept */
    }
    (void)pthread_mutex_unlock(&pool->mutex);
    *out = code;
    return VARVE_OK;
}

void vv_code_drop(struct vv_code *code)
{
    if (code != NULL && atomic_fetch_sub(&code->holders, 1) == 1)
        free_code(code);
}

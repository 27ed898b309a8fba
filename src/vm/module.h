/* module.h - code that can be run: read, checked, rewritten, compiled, its imports answered; made once, shared.
 *
 * A pool belongs to a VM. In it code is found by what it was made from: hash of the bytecode, the flags under
 * which its imports are answered, the values of the globals that it imports. Machine code also waits in files of the
 * user's cache, outside any store; a store from somebody else can thus never bring machine code along. Thread safe. */
#ifndef VV_MODULE_H
#define VV_MODULE_H

#include <pthread.h>

#include "base/table.h"
#include "base/vfs.h"
#include "page/hash.h"
#include "vm/engine.h"
#include "vm/rewrite.h"

/* One import, and who answers it. */
struct vv_answer {
    struct vv_outside outside; /* call NULL: nobody */
    const char *by;            /* "host", "wasi", "emscripten"; NULL: nobody */
};
/* Finds who answers `import`. Not VARVE_OK: somebody would, but not with this signature. `import` lives as long
 * as the code does. */
typedef varve_status (*vv_answer_fn)(void *context, const struct vv_plan_import *import,
                                     struct vv_answer *answer);

struct vv_code {
    unsigned _Atomic holders;
    uint8_t hash[VV_HASH_SIZE];
    struct vv_wasm_limits limits; /* under which it was read */
    struct vv_plan plan;
    struct vv_native *native;
    struct vv_program *program;
    struct vv_outside *answers; /* one per import of the plan */
};

enum { VV_CODES_MAX = 1024 };

struct vv_code_pool {
    struct vv_engine *engine;
    vv_answer_fn answer;
    void *context;
    struct vv_dir files; /* of machine code; fd -1: none */
    pthread_mutex_t mutex;
    struct vv_table codes; /* key -> struct vv_code, held; beyond VV_CODES_MAX none that nobody else holds */
};

/* `cache`: a folder, made when absent; NULL: none. A cache that cannot be used is done without. */
varve_status vv_code_pool_init(struct vv_code_pool *pool, struct vv_engine *engine, const char *cache,
                               vv_answer_fn answer, void *context);
void vv_code_pool_release(struct vv_code_pool *pool);

struct vv_code_request {
    const uint8_t *hash; /* of the bytes */
    const void *bytes;
    size_t size;
    const varve_limits *limits;
    bool trap_missing;                    /* imports that nobody answers trap when called */
    const struct vv_import_value *values; /* for the globals that it imports */
    size_t value_count;
};
/* The code for these bytes, made if need be; the limits hold either way. REFUSED, INVALID: it cannot be run; the words
 * say all reasons that fit. The caller ends it with vv_code_drop. */
varve_status vv_code_get(struct vv_code_pool *pool, const struct vv_code_request *request,
                         struct vv_code **code);
/* It, if it is here already; else NULL. */
struct vv_code *vv_code_find(struct vv_code_pool *pool, const struct vv_code_request *request);
void vv_code_drop(struct vv_code *code); /* NULL is fine */

#endif

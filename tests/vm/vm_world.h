/* vm_world.h - what tests of guests stand on: a VM, a store in memory, and calls in one line. */
#ifndef VM_WORLD_H
#define VM_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <varve.h>

struct vv_place;

struct world {
    varve_vm *vm;
    struct vv_place *place; /* of the layout in memory; outlives the store */
    varve_store *store;
    varve_session *session; /* NULL: none is open */
    varve_error error;      /* of the last call */
    varve_receipt *receipt; /* of the last call; freed by the next */
    uint64_t gas;           /* of calls; 0: no limit */
    uint32_t flags;         /* of calls */
    char output[4096];      /* what guests printed since it was emptied */
    size_t output_size, output_reverted;
};

extern const int64_t world_time; /* of every session */

void world_signals(void); /* give traps to the engine: cmocka takes them. Done by all below */
void world_new(struct world *w);
void world_free(struct world *w);
void world_begin(struct world *w);        /* a session on main */
varve_root world_commit(struct world *w); /* ends it; the root of what was committed */
void world_abort(struct world *w);
void world_reopen(struct world *w); /* commit, close the store, open it, begin */

/* The bytes of `name`: NAME.wasm of the test's own folder, or a program of the user's cache. NULL: not there. */
uint8_t *world_module(const char *name, size_t *size);

/* Deploy under a name; the status, with words in w->error. */
varve_status world_deploy(struct world *w, const char *name, const char *file,
                          const varve_deploy_options *options);
varve_status world_deploy_bytes(struct world *w, const char *name, const void *code, size_t size,
                                const varve_deploy_options *options);

/* Call module.function with arguments as the signature says ("i32 i64 f64"). The status; one result at most, in
 * *result as 64 bits (i32 zero-extended). */
varve_status world_call(struct world *w, const char *module, const char *function, uint64_t *result,
                        const char *types, ...);
/* The same with only i32 arguments; must succeed. */
uint64_t world_i32(struct world *w, const char *module, const char *function, int count, ...);

/* Memory of a module, checked copies. */
void world_peek(struct world *w, const char *module, uint64_t offset, void *data, size_t size);
void world_poke(struct world *w, const char *module, uint64_t offset, const void *data, size_t size);
uint64_t world_memory(struct world *w, const char *module); /* its size in bytes */
varve_root world_root(struct world *w);

#define assert_ok(w, call) assert_status(w, call, VARVE_OK)
/* Fails with the words. */
#define assert_status(w, call, expected) assert_status_at(w, call, expected, __FILE__, __LINE__)
void assert_status_at(struct world *w, varve_status got, varve_status expected, const char *file, int line);
void assert_words(const struct world *w, const char *part);

#endif

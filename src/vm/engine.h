/* engine.h - the machine that runs compiled code, seen through nothing but our own types.
 *
 *   engine    settings, which are part of what every machine must agree on
 *   native    one module's machine code: any thread, any number of programs
 *   program   native code with an answer to each of its imports
 *   instance  one running copy over one image; one thread at a time
 *
 * What goes in is a module that vm/rewrite.h made: one memory at most, nothing imported but functions, no start
 * function and no active data, so that making an instance changes no byte of its image.
 * Every failure inside arrives as a status with words; the trace of a failed call waits in the instance. */
#ifndef VV_ENGINE_H
#define VV_ENGINE_H

#include "base/bytes.h"
#include "page/image.h"

struct vv_engine;
struct vv_native;
struct vv_program;
struct vv_instance;

/* An argument, a result or a global as the machine keeps it. Bytes that the type does not use are zero. */
union vv_slot {
    uint32_t i32;
    uint64_t i64;
    float f32;
    double f64;
    uint8_t v128[16];
    uint64_t bits[2];
};

/* Things inside an instance. They may be used with that instance only: another one asserts. */
struct vv_function {
    uint64_t owner;
    void *place;
};
struct vv_global {
    uint64_t opaque[3];
    struct vv_function get, set; /* of one that holds a reference */
};
struct vv_gtable {
    uint64_t opaque[3];
    struct vv_function get, set, grow;
};

enum { VV_ENGINE_NAME_MAX = 160 };

/* Fuel that no call uses up: some centuries of it. */
#define VV_FUEL_PLENTY (UINT64_C(1) << 62)

varve_status vv_engine_new(struct vv_engine **engine);
void vv_engine_free(struct vv_engine *engine);
/* What it is, for commits: "wasmtime 48.0.8". */
const char *vv_engine_version(void);
/* All that makes compiled code differ, for keys of the cache. */
const char *vv_engine_settings(void);
/* Make every instance that runs look up (its `tick`), soon. Any thread. */
void vv_engine_tick(struct vv_engine *engine);

/* REFUSED, with the reason and offset, unless `code` is a module that this engine accepts. */
varve_status vv_engine_validate(struct vv_engine *engine, const void *code, size_t size);

varve_status vv_native_compile(struct vv_engine *engine, const void *code, size_t size,
                               struct vv_native **native);
/* Only bytes that vv_native_save gave to us, unchanged, may be loaded: they are run as they are. */
varve_status vv_native_load(struct vv_engine *engine, const void *bytes, size_t size,
                            struct vv_native **native);
varve_status vv_native_save(const struct vv_native *native, struct vv_bytes *out);
void vv_native_free(struct vv_native *native);

/* A function outside the guest. `slots` hold the arguments and take the results. A status other than VARVE_OK
 * ends the guest's call with that status and the thread's words. */
typedef varve_status (*vv_outside_fn)(void *context, struct vv_instance *instance, union vv_slot *slots);
struct vv_outside {
    vv_outside_fn call;
    void *context;
};
/* `answers`: one for each import, in order; they must live as long as the program. */
varve_status vv_program_new(struct vv_engine *engine, const struct vv_native *native,
                            const struct vv_outside *answers, size_t answer_count,
                            struct vv_program **program);
void vv_program_free(struct vv_program *program);

struct vv_instance_config {
    struct vv_image *image; /* NULL: the module has no memory */
    const char *memory;     /* the export's name; NULL: none */
    uint64_t table_entries; /* most that any of its tables may have */
    /* The guest asks for more memory. LIMIT: it is told no. Another failure ends its call with that. */
    varve_status (*grow)(void *context, uint64_t size);
    /* The engine ticked: not VARVE_OK ends the guest's call with that. */
    varve_status (*tick)(void *context);
    void *context;
};
varve_status vv_instance_new(struct vv_engine *engine, const struct vv_program *program,
                             const struct vv_instance_config *config, struct vv_instance **instance);
void vv_instance_free(struct vv_instance *instance); /* NULL is fine; it must not be running */
void *vv_instance_context(const struct vv_instance *instance);

/* Find an export; false: there is none of that kind. Lookups cost 0.25 us: keep what they give. */
bool vv_instance_function(struct vv_instance *instance, const char *name, struct vv_function *function);
/* A number; a reference to a function, mutable; a table of functions. Making a handle of the last two takes 2 us. */
bool vv_instance_global(struct vv_instance *instance, const char *name, struct vv_global *global);
bool vv_instance_reference(struct vv_instance *instance, const char *name, struct vv_global *global);
bool vv_instance_table(struct vv_instance *instance, const char *name, struct vv_gtable *table);

uint64_t vv_instance_fuel(const struct vv_instance *instance);
void vv_instance_set_fuel(struct vv_instance *instance, uint64_t fuel);

/* Call. `slots` has room for the larger of arguments and results; nothing checks types here. */
varve_status vv_instance_call(struct vv_instance *instance, const struct vv_function *function,
                              union vv_slot *slots, size_t count);
/* After a failed call: its frames, one a line, innermost first. Lent until the next call. */
/* An I/O error took part of the memory away during a call, which therefore failed: what is there is not to be used. */
bool vv_instance_faulted(const struct vv_instance *instance);
const char *vv_instance_trace(const struct vv_instance *instance);

/* Bits of a numeric global; identity of a function in a global (NULL: null).
 *
 * What follows on references runs code of ours in the instance. Under a guest that runs it fails where any call
 * would: TRAP at the end of the stack, CANCELLED when the guest is to stop. Else it succeeds. */
void vv_global_get(struct vv_instance *instance, const struct vv_global *global, union vv_slot *slot);
void vv_global_set(struct vv_instance *instance, const struct vv_global *global, varve_type type,
                   const union vv_slot *slot);
varve_status vv_global_get_function(struct vv_instance *instance, const struct vv_global *global,
                                    void **identity);
varve_status vv_global_set_function(struct vv_instance *instance, const struct vv_global *global,
                                    const struct vv_function *function); /* NULL: null */

uint64_t vv_table_size(struct vv_instance *instance, const struct vv_gtable *table);
/* The function at `index`. Not `found`: null there, or beyond the end. */
varve_status vv_table_function(struct vv_instance *instance, const struct vv_gtable *table, uint64_t index,
                               struct vv_function *function, bool *found);
/* `index` must be inside. */
varve_status vv_table_set(struct vv_instance *instance, const struct vv_gtable *table, uint64_t index,
                          const struct vv_function *function); /* NULL: null */
varve_status vv_table_grow(struct vv_instance *instance, const struct vv_gtable *table, uint64_t count);
/* The same for the same function of the same instance, NULL for none else. */
void *vv_function_identity(struct vv_instance *instance, const struct vv_function *function);
/* Whether a function found in a table takes and gives exactly these. */
bool vv_function_fits(struct vv_instance *instance, const struct vv_function *function,
                      const varve_type *params, size_t param_count, const varve_type *results,
                      size_t result_count);

/* Grow by `bytes` (rounded up to WASM pages) as memory.grow does. LIMIT when it is refused. */
varve_status vv_instance_grow(struct vv_instance *instance, uint64_t bytes, uint64_t *before);
/* The image's length was changed behind the instance: read it again. */
varve_status vv_instance_reread(struct vv_instance *instance);

#endif

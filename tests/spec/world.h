/* world.h - the instances of one script, run in one of four ways.
 *
 *   PLAIN      the engine alone: what the others are compared with
 *   REWRITTEN  every module rewritten; data and start function by the host, as at a deploy
 *   RESUMED    the same, and world_between throws the engine's store away: each instance is captured (memory, and
 *              the instance state as its canonical bytes), made again in a new store, restored, captured again and
 *              compared
 *   COMMITTED  the product through its public API: world_between commits, closes the store, opens it and begins
 * Of the first three: every module of a script lies in one store of the engine, so that functions can be imported from each other.
 * Memories, tables, globals and tags that are imported are the importer's own once it is rewritten: what two
 * modules share in that way comes apart, and `shared` says that it happened. */
#ifndef SPEC_WORLD_H
#define SPEC_WORLD_H

#include <wasmtime.h>

#include "base/error.h"

enum world_kind { WORLD_PLAIN, WORLD_REWRITTEN, WORLD_RESUMED, WORLD_COMMITTED };

/* What a faulty machine would not restore: bits. The tests must notice each. */
enum { FORGET_MEMORY = 1, FORGET_GLOBALS = 2, FORGET_TABLES = 4, FORGET_SEGMENTS = 8 };

enum made {
    MADE,
    MADE_TRAPPED,    /* by the start function, an active segment, or a call */
    MADE_UNLINKABLE, /* an import that is not there, or of another type */
    MADE_INVALID,    /* the engine does not accept the module */
    MADE_REFUSED     /* it does, but the rewriter does not */
};

enum { WORLD_WORDS = 400 };

struct slot; /* one module instance; outlives stores */
struct world {
    enum world_kind kind;
    unsigned forget;
    wasm_engine_t *engine;
    wasmtime_store_t *store;
    wasmtime_context_t *context;
    struct product *product; /* of a COMMITTED world, and then no engine */
    struct slot **slots;     /* all that were made, in order */
    size_t slot_count;
    struct registered {
        char *name;
        struct slot *slot;
    } * registry;
    size_t registered_count;
    struct native *natives;  /* compiled code of this script */
    char words[WORLD_WORDS]; /* why the last thing failed */
    bool shared;             /* a module imported a memory, table, mutable global or tag of another one */
    const char *frozen;      /* something cannot be saved: no more teardowns */
    unsigned teardowns, restored;
    bool restore_differs;
};

/* Both end the program with words when the engine or memory fails: there is no test then. */
wasm_engine_t *world_engine(void);
struct world *world_new(wasm_engine_t *engine, enum world_kind kind, unsigned forget);
void world_free(struct world *world);

/* Instantiate the module in `bytes`, which must outlive the world; `slot` is lent by it. */
enum made world_make(struct world *world, const uint8_t *bytes, size_t size, struct slot **slot);
/* Only whether it is a module. */
enum made world_check(struct world *world, const uint8_t *bytes, size_t size);
/* `slot` NULL: forget the name. */
void world_register(struct world *world, const char *name, struct slot *slot);

struct results {
    wasmtime_val_t *values; /* the caller frees them */
    size_t count;
};
/* MADE, or MADE_TRAPPED: `words` begins with "trap NUMBER". MADE_UNLINKABLE: there is no such export. */
enum made world_call(struct world *world, struct slot *slot, const char *name, size_t name_size,
                     const wasmtime_val_t *args, size_t arg_count, struct results *results);
enum made world_get(struct world *world, struct slot *slot, const char *name, size_t name_size,
                    struct results *results);

/* Between two commands. `live`: what the script can still name, besides what is registered. */
void world_between(struct world *world, struct slot *const *live, size_t live_count);

/* What every machine says for the trap `code`; NULL: another code. */
const char *world_trap_text(unsigned code);

#endif

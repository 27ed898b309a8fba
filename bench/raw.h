/* raw.h - floors that run code: Wasmtime alone, with the settings of src/vm/engine.c, on a mapping of ours.
 *
 * The program holds an engine of its own beside the library's: both chain their signal handlers, and a guest's
 * fault is taken by the one that compiled it. */
#ifndef BENCH_RAW_H
#define BENCH_RAW_H

#include <wasm.h>
#include <wasmtime.h>

#include "bench.h"

struct raw_code {
    wasm_byte_vec_t wasm; /* the binary: what the product deploys */
    wasmtime_module_t *module;
    wasmtime_instance_pre_t *pre;
};
struct raw_guest {
    uint8_t *bytes; /* reservation of 4 GiB and guard */
    size_t size;
    wasmtime_store_t *store;
    wasmtime_context_t *context;
    wasmtime_instance_t instance;
};

wasm_engine_t *raw_engine(void); /* one a process */
void raw_code_new(struct raw_code *code, const char *text);

/* Address space for a memory; map what it holds over its start. */
uint8_t *raw_reserve(void);
void raw_unreserve(uint8_t *bytes);

/* A store with an instance whose memory is `bytes`, which are the caller's. */
void raw_guest_new(struct raw_guest *guest, const struct raw_code *code, uint8_t *bytes, size_t size);
void raw_guest_free(struct raw_guest *guest);
wasmtime_func_t raw_function(struct raw_guest *guest, const char *name);
/* Set fuel and call, unchecked; ends the row if it traps. */
static inline void raw_call(struct raw_guest *guest, const wasmtime_func_t *function,
                            wasmtime_val_raw_t *values, size_t count)
{
    wasm_trap_t *trap = NULL;

    if (wasmtime_context_set_fuel(guest->context, UINT64_C(1) << 60) != NULL ||
        wasmtime_func_call_unchecked(guest->context, function, values, count, &trap) != NULL || trap != NULL)
        bench_die("a call of Wasmtime alone failed");
}

#endif

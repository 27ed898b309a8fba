/* raw.c - see raw.h. */
#include "raw.h"

#include <string.h>
#include <sys/mman.h>

#define RESERVATION ((size_t)4 << 30)
#define GUARD ((size_t)32 << 20)
#define WASM_STACK ((size_t)1 << 20)

static _Thread_local struct raw_guest *pending; /* whose memory is being made */

static void check(wasmtime_error_t *error, const char *what)
{
    wasm_name_t text;

    if (error == NULL)
        return;
    wasmtime_error_message(error, &text);
    bench_die("%s: %.*s", what, (int)text.size, text.data);
}

static uint8_t *memory_get(void *context, size_t *size, size_t *capacity)
{
    const struct raw_guest *guest = context;

    *size = guest->size;
    *capacity = RESERVATION;
    return guest->bytes;
}

static wasmtime_error_t *memory_grow(void *context, size_t size)
{
    (void)context;
    (void)size;
    return wasmtime_error_new("refused");
}

static wasmtime_error_t *memory_make(void *context, const wasm_memorytype_t *type, size_t minimum,
                                     size_t maximum, size_t reserved, size_t guard,
                                     wasmtime_linear_memory_t *memory)
{
    (void)context;
    (void)type;
    (void)maximum;
    if (pending == NULL || minimum > pending->size || reserved > RESERVATION || guard > GUARD)
        return wasmtime_error_new("no memory waits, or a smaller one");
    *memory =
        (wasmtime_linear_memory_t){ .env = pending, .get_memory = memory_get, .grow_memory = memory_grow };
    return NULL;
}

wasm_engine_t *raw_engine(void)
{
    static wasm_engine_t *engine;
    wasmtime_memory_creator_t creator = { .new_memory = memory_make };

    if (engine != NULL)
        return engine;
    wasm_config_t *c = wasm_config_new();
    wasmtime_config_host_memory_creator_set(c, &creator);
    wasmtime_config_memory_init_cow_set(c, false);
    wasmtime_config_memory_may_move_set(c, false);
    wasmtime_config_memory_reservation_set(c, RESERVATION);
    wasmtime_config_memory_guard_size_set(c, GUARD);
    wasmtime_config_max_wasm_stack_set(c, WASM_STACK);
    wasmtime_config_consume_fuel_set(c, true);
    wasmtime_config_epoch_interruption_set(c, true);
    wasmtime_config_cranelift_nan_canonicalization_set(c, true);
    wasmtime_config_cranelift_opt_level_set(c, WASMTIME_OPT_LEVEL_SPEED);
    wasmtime_config_wasm_relaxed_simd_set(c, false);
    wasmtime_config_wasm_simd_set(c, true);
    wasmtime_config_wasm_bulk_memory_set(c, true);
    wasmtime_config_wasm_multi_value_set(c, true);
    wasmtime_config_wasm_tail_call_set(c, true);
    wasmtime_config_wasm_multi_memory_set(c, false);
    wasmtime_config_wasm_memory64_set(c, false);
    wasmtime_config_gc_support_set(c, false);
    wasmtime_config_shared_memory_set(c, false);
    engine = wasm_engine_new_with_config(c);
    if (engine == NULL)
        bench_die("Wasmtime makes no engine");
    return engine;
}

void raw_code_new(struct raw_code *code, const char *text)
{
    wasmtime_linker_t *linker = wasmtime_linker_new(raw_engine());

    check(wasmtime_wat2wasm(text, strlen(text), &code->wasm), "text to binary");
    check(wasmtime_module_new(raw_engine(), (const uint8_t *)code->wasm.data, code->wasm.size, &code->module),
          "compile");
    check(wasmtime_linker_instantiate_pre(linker, code->module, &code->pre), "link");
    wasmtime_linker_delete(linker);
}

uint8_t *raw_reserve(void)
{
    uint8_t *bytes =
        mmap(NULL, RESERVATION + GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (bytes == MAP_FAILED)
        bench_die("no address space");
    madvise(bytes, RESERVATION, MADV_NOHUGEPAGE);
    return bytes;
}

void raw_unreserve(uint8_t *bytes)
{
    munmap(bytes, RESERVATION + GUARD);
}

void raw_guest_new(struct raw_guest *guest, const struct raw_code *code, uint8_t *bytes, size_t size)
{
    wasm_trap_t *trap = NULL;

    *guest = (struct raw_guest){ .bytes = bytes, .size = size };
    guest->store = wasmtime_store_new(raw_engine(), NULL, NULL);
    guest->context = wasmtime_store_context(guest->store);
    check(wasmtime_context_set_fuel(guest->context, UINT64_C(1) << 60), "fuel");
    wasmtime_context_set_epoch_deadline(guest->context, 1u << 30);
    pending = guest;
    check(wasmtime_instance_pre_instantiate(code->pre, guest->context, &guest->instance, &trap),
          "instantiate");
    pending = NULL;
    if (trap != NULL)
        bench_die("instantiate trapped");
}

void raw_guest_free(struct raw_guest *guest)
{
    wasmtime_store_delete(guest->store);
}

wasmtime_func_t raw_function(struct raw_guest *guest, const char *name)
{
    wasmtime_extern_t found;

    if (!wasmtime_instance_export_get(guest->context, &guest->instance, name, strlen(name), &found) ||
        found.kind != WASMTIME_EXTERN_FUNC)
        bench_die("no function %s", name);
    return found.of.func;
}

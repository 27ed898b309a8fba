/* engine.c - Wasmtime behind engine.h: the only file that knows it.
 *
 *   vv_engine    the configured engine; one epoch counter, raised by vv_engine_tick
 *   vv_program   pre-linked module; its host functions point at the caller's answers
 *   vv_instance  a store with one instance; its memory is the image, handed over by the creator's callback
 *   hands        two tiny modules of ours that reach into tables and into globals that hold references: the C API
 *                aborts the process on a reference unless it is built with the garbage collector
 * Laws:
 *   (E1) No error or trap of the engine outlives the call in which it came: it becomes a status here.
 *   (E2) Fuel and the epoch deadline are set before anything is instantiated: both start at 0, which traps.
 *   (E3) Which image a new memory is travels in `pending`, set around the one call that makes memories.
 * Settings are consensus: every proposal is named, on or off, and vv_engine_settings must change with them. */
#include "vm/engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <wasm.h>
#include <wasmtime.h>

#include "base/alloc.h"
#include "vm/fault.h"

#define RESERVATION (UINT64_C(4) << 30)
#define GUARD (UINT64_C(32) << 20)

/* The native stack that guests may use: the most that does not abort the process. Stacks of ours are larger. */
#define WASM_STACK ((size_t)2 << 20)

/* A store's instances: the module and a hand for each global and table that holds references. */
enum { TRACE_FRAMES = 32, NAME_SHOWN = 120, STORE_INSTANCES = 50000 };

enum hand { TABLE_HAND, GLOBAL_HAND, HANDS };

struct vv_engine {
    wasm_engine_t *engine;
    pthread_mutex_t mutex;           /* guards `hands` */
    wasmtime_module_t *hands[HANDS]; /* NULL: not needed yet */
};

struct vv_native {
    wasmtime_module_t *module;
};

struct vv_program {
    wasmtime_instance_pre_t *pre;
};

struct vv_instance {
    wasmtime_store_t *store;
    wasmtime_context_t *context;
    wasmtime_instance_t instance;
    wasmtime_memory_t memory; /* valid when `has_memory` */
    bool has_memory;
    struct vv_instance_config config;
    varve_status failed;   /* what a function outside or the grow callback raised; else VARVE_OK */
    struct vv_bytes trace; /* text of the last failure */
    char words[504];       /* of `failed`: kept, for other words may come before the call returns */
    bool faulted;          /* memory was lost to an I/O error */
    struct vv_engine *engine;
};

static_assert(sizeof(union vv_slot) == sizeof(wasmtime_val_raw_t), "slots are passed as they are");
static_assert(sizeof(struct vv_function) == sizeof(wasmtime_func_t), "handles are copied");
static_assert(sizeof((struct vv_global *)0)->opaque >= sizeof(wasmtime_global_t), "handles are copied");
static_assert(sizeof((struct vv_gtable *)0)->opaque >= sizeof(wasmtime_table_t), "handles are copied");

static _Thread_local struct vv_instance *pending;

/* ---- Words ------------------------------------------------------------------------------------ */

/* The engine's report is a paragraph: take its lines, innermost cause last, as one line. */
static void flatten(const char *text, size_t size, char *out, size_t room)
{
    size_t used = 0;
    bool start = true; /* of a line: indentation, numbers and headings are dropped */

    for (size_t i = 0; i < size && used + 3 < room; i++) {
        const char c = text[i];
        if (c == '\n') {
            start = true;
            continue;
        }
        if (start) {
            if (c == ' ' || c == '\t')
                continue;
            if (size - i >= 10 && memcmp(text + i, "Caused by:", 10) == 0) {
                i += 9;
                continue;
            }
            if (c >= '0' && c <= '9' && i + 1 < size && text[i + 1] == ':') {
                i++;
                continue;
            }
            if (used > 0) {
                out[used++] = ':';
                out[used++] = ' ';
            }
            start = false;
        }
        out[used++] = (unsigned char)c < 0x20 ? ' ' : c;
    }
    out[used] = '\0';
}

/* Raise an error of the engine as `status` and delete it. */
static varve_status raise_error(wasmtime_error_t *error, varve_status status, const char *what)
{
    wasm_name_t text;
    char flat[400];

    wasmtime_error_message(error, &text);
    flatten(text.data, text.size, flat, sizeof flat);
    wasm_byte_vec_delete(&text);
    wasmtime_error_delete(error);
    return vv_fail(status, "%s: %s", what, flat);
}

/* What the machine says of a trap, for people; and the status it stands for. */
static varve_status status_of_code(wasmtime_trap_code_t code, const char **text)
{
    *text = "trap";
    switch (code) {
    case WASMTIME_TRAP_CODE_STACK_OVERFLOW:
        *text = "call stack exhausted";
        return VARVE_TRAP;
    case WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS:
        *text = "out of bounds memory access";
        return VARVE_TRAP;
    case WASMTIME_TRAP_CODE_HEAP_MISALIGNED:
        *text = "misaligned memory access";
        return VARVE_TRAP;
    case WASMTIME_TRAP_CODE_TABLE_OUT_OF_BOUNDS:
        *text = "undefined element: out of bounds table access";
        return VARVE_TRAP;
    case WASMTIME_TRAP_CODE_INDIRECT_CALL_TO_NULL:
        *text = "uninitialized element: indirect call to null";
        return VARVE_TRAP;
    case WASMTIME_TRAP_CODE_BAD_SIGNATURE:
        *text = "indirect call type mismatch";
        return VARVE_TRAP;
    case WASMTIME_TRAP_CODE_INTEGER_OVERFLOW:
        *text = "integer overflow";
        return VARVE_TRAP;
    case WASMTIME_TRAP_CODE_INTEGER_DIVISION_BY_ZERO:
        *text = "integer divide by zero";
        return VARVE_TRAP;
    case WASMTIME_TRAP_CODE_BAD_CONVERSION_TO_INTEGER:
        *text = "invalid conversion to integer";
        return VARVE_TRAP;
    case WASMTIME_TRAP_CODE_UNREACHABLE_CODE_REACHED:
        *text = "unreachable";
        return VARVE_TRAP;
    case WASMTIME_TRAP_CODE_INTERRUPT:
        *text = "interrupted";
        return VARVE_CANCELLED;
    case WASMTIME_TRAP_CODE_OUT_OF_FUEL:
        *text = "all gas was used";
        return VARVE_OUT_OF_GAS;
    case WASMTIME_TRAP_CODE_NULL_REFERENCE:
        *text = "null reference";
        return VARVE_TRAP;
    default:
        return VARVE_TRAP;
    }
}

/* The name that a frame's function has in the module, made harmless for a terminal; "function 12" without one. */
static void frame_name(const wasm_frame_t *frame, char *out, size_t room)
{
    const wasm_name_t *name = wasmtime_frame_func_name(frame);
    size_t used = 0;

    if (name == NULL || name->size == 0) {
        (void)snprintf(out, room, "function %u", wasm_frame_func_index(frame));
        return;
    }
    for (; used < name->size && used + 1 < room; used++) {
        const unsigned char c = (unsigned char)name->data[used];
        out[used] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
    }
    out[used] = '\0';
}

/* Keep the frames as text; `top` gets the innermost one's name. */
static void keep_trace(struct vv_instance *instance, const wasm_frame_vec_t *frames, char *top, size_t room)
{
    top[0] = '\0';
    vv_bytes_clear(&instance->trace);
    for (size_t i = 0; i < frames->size && i < TRACE_FRAMES; i++) {
        const size_t offset = wasm_frame_func_offset(frames->data[i]);
        char name[NAME_SHOWN], line[NAME_SHOWN + 32];
        frame_name(frames->data[i], name, sizeof name);
        if (i == 0)
            (void)snprintf(top, room, "%s", name);
        /* No offset is known where the stack ends. */
        const int size = offset == SIZE_MAX ? snprintf(line, sizeof line, "%s\n", name)
                                            : snprintf(line, sizeof line, "%s +0x%zx\n", name, offset);
        vv_bytes_put(&instance->trace, line, (size_t)size);
    }
    vv_bytes_u8(&instance->trace, 0);
}

/* A call came back without having returned. One of `error` and `trap` may be set; both end here (E1). */
static varve_status explain(struct vv_instance *instance, wasmtime_error_t *error, wasm_trap_t *trap)
{
    wasm_frame_vec_t frames = { .size = 0, .data = NULL };
    wasmtime_trap_code_t code = 0;
    char top[NAME_SHOWN], flat[300];
    varve_status status = VARVE_TRAP;
    const char *text = "trap";

    if (trap != NULL)
        wasm_trap_trace(trap, &frames);
    else if (error != NULL)
        wasmtime_error_wasm_trace(error, &frames);
    keep_trace(instance, &frames, top, sizeof top);
    wasm_frame_vec_delete(&frames);

    if (instance->failed != VARVE_OK) {
        status = vv_fail(instance->failed, "%s", instance->words);
    } else if (trap != NULL && wasmtime_trap_code(trap, &code)) {
        status = status_of_code(code, &text);
        status = top[0] != '\0' ? vv_fail(status, "%s in %s", text, top) : vv_fail(status, "%s", text);
    } else {
        wasm_name_t message;
        if (trap != NULL)
            wasm_trap_message(trap, &message);
        else
            wasmtime_error_message(error, &message);
        flatten(message.data, message.size, flat, sizeof flat);
        wasm_byte_vec_delete(&message);
        status = vv_fail(VARVE_TRAP, "%s", flat);
    }
    instance->failed = VARVE_OK;
    if (trap != NULL)
        wasm_trap_delete(trap);
    if (error != NULL)
        wasmtime_error_delete(error);
    return status;
}

static void note_failure(struct vv_instance *instance, varve_status status)
{
    instance->failed = status;
    (void)snprintf(instance->words, sizeof instance->words, "%s", vv_words());
}

static void note_fault(struct vv_instance *instance)
{
    (void)vv_fail(VARVE_TRAP,
                  "an I/O error under the module's memory: the file that it is mapped from cannot be "
                  "read there, or was cut");
    note_failure(instance, VARVE_TRAP);
}

/* ---- Memory: images handed to the engine -------------------------------------------------------- */

static uint8_t *memory_get(void *context, size_t *size, size_t *capacity)
{
    const struct vv_instance *instance = context;

    *size = (size_t)vv_image_size(instance->config.image);
    *capacity = (size_t)vv_image_reserve(instance->config.image);
    return vv_image_bytes(instance->config.image);
}

static wasmtime_error_t *memory_grow(void *context, size_t size)
{
    struct vv_instance *instance = context;
    const varve_status rc = instance->config.grow(instance->config.context, size);

    if (rc == VARVE_OK)
        return NULL;
    if (rc != VARVE_LIMIT && instance->failed == VARVE_OK) {
        /* The guest must not see that the host ran out: no answer, but the end of its call at the next check. */
        note_failure(instance, rc);
        vv_engine_tick(instance->engine);
    }
    return wasmtime_error_new("refused");
}

static wasmtime_error_t *memory_new(void *context, const wasm_memorytype_t *type, size_t minimum,
                                    size_t maximum, size_t reserved, size_t guard,
                                    wasmtime_linear_memory_t *memory)
{
    struct vv_instance *instance = pending;

    (void)context;
    (void)type;
    pending = NULL;
    if (instance == NULL || instance->config.image == NULL)
        return wasmtime_error_new("no image was given for the module's memory");
    const uint64_t size = vv_image_size(instance->config.image);
    if (size < minimum || size > maximum)
        return wasmtime_error_new("the image is smaller or larger than the module allows");
    if (reserved > vv_image_reserve(instance->config.image) || guard > GUARD)
        return wasmtime_error_new("the image reserves too little address space to hold a module's memory");
    *memory =
        (wasmtime_linear_memory_t){ .env = instance, .get_memory = memory_get, .grow_memory = memory_grow };
    return NULL;
}

/* ---- Engine ----------------------------------------------------------------------------------- */

const char *vv_engine_version(void)
{
    return "wasmtime " WASMTIME_VERSION;
}

const char *vv_engine_settings(void)
{
    return "wasmtime " WASMTIME_VERSION " cranelift speed fuel epoch canonical-nan stack=2097152 "
           "multi-value bulk-memory simd tail-call";
}

varve_status vv_engine_new(struct vv_engine **out)
{
    varve_status rc = VARVE_OK;
    struct vv_engine *engine = NULL;
    wasm_config_t *c = NULL;
    wasmtime_memory_creator_t creator = { .new_memory = memory_new };

    TRY(vv_alloc(&engine, 1, sizeof *engine));
    c = wasm_config_new();
    wasmtime_config_host_memory_creator_set(c, &creator);
    wasmtime_config_memory_init_cow_set(c, false); /* with a creator, `true` aborts the process */
    wasmtime_config_memory_may_move_set(c, false);
    wasmtime_config_memory_reservation_set(c, RESERVATION);
    wasmtime_config_memory_guard_size_set(c, GUARD);
    wasmtime_config_max_wasm_stack_set(c, WASM_STACK); /* over 2 MiB aborts the process */
    wasmtime_config_consume_fuel_set(c, true);
    wasmtime_config_epoch_interruption_set(c, true);
    wasmtime_config_cranelift_nan_canonicalization_set(c, true);
    wasmtime_config_cranelift_opt_level_set(c, WASMTIME_OPT_LEVEL_SPEED);
    wasmtime_config_parallel_compilation_set(c, true);
    /* Relaxed SIMD goes before SIMD: the other order can make a configuration that aborts the process. */
    wasmtime_config_wasm_relaxed_simd_set(c, false);
    wasmtime_config_wasm_relaxed_simd_deterministic_set(c, true);
    wasmtime_config_wasm_simd_set(c, true);
    wasmtime_config_wasm_bulk_memory_set(c, true);
    wasmtime_config_wasm_multi_value_set(c, true);
    wasmtime_config_wasm_tail_call_set(c, true);
    wasmtime_config_wasm_multi_memory_set(c, false);
    wasmtime_config_wasm_memory64_set(c, false);
    wasmtime_config_wasm_wide_arithmetic_set(c, false);
    wasmtime_config_wasm_custom_page_sizes_set(c, false);
    wasmtime_config_wasm_stack_switching_set(c, false);
    wasmtime_config_wasm_branch_hinting_set(c, false);
    wasmtime_config_gc_support_set(c, false);
    wasmtime_config_shared_memory_set(c, false);
    engine->engine = wasm_engine_new_with_config(c); /* takes c */
    if (engine->engine == NULL)
        TRY(vv_fail(VARVE_MEMORY, "the engine could not be made"));
    rc = vv_fault_install(); /* after the engine's own handlers */
    if (rc != VARVE_OK) {
        wasm_engine_delete(engine->engine);
        goto out;
    }
    (void)pthread_mutex_init(&engine->mutex, NULL);
out:
    if (rc != VARVE_OK)
        vv_free(engine);
    else
        *out = engine;
    return rc;
}

void vv_engine_free(struct vv_engine *engine)
{
    if (engine == NULL)
        return;
    for (size_t i = 0; i < HANDS; i++) {
        if (engine->hands[i] != NULL)
            wasmtime_module_delete(engine->hands[i]);
    }
    (void)pthread_mutex_destroy(&engine->mutex);
    wasm_engine_delete(engine->engine);
    vv_free(engine);
}

void vv_engine_tick(struct vv_engine *engine)
{
    wasmtime_engine_increment_epoch(engine->engine);
}

varve_status vv_engine_validate(struct vv_engine *engine, const void *code, size_t size)
{
    wasmtime_error_t *error = wasmtime_module_validate(engine->engine, code, size);

    return error == NULL ? VARVE_OK : raise_error(error, VARVE_REFUSED, "not a valid module");
}

/* ---- Native code ------------------------------------------------------------------------------ */

static varve_status wrap_native(wasmtime_module_t *module, struct vv_native **native)
{
    const varve_status rc = vv_alloc(native, 1, sizeof **native);

    if (rc == VARVE_OK)
        (*native)->module = module;
    else
        wasmtime_module_delete(module);
    return rc;
}

varve_status vv_native_compile(struct vv_engine *engine, const void *code, size_t size,
                               struct vv_native **native)
{
    wasmtime_module_t *module = NULL;
    wasmtime_error_t *error = wasmtime_module_new(engine->engine, code, size, &module);

    if (error != NULL)
        return raise_error(error, VARVE_REFUSED, "the module cannot be compiled");
    return wrap_native(module, native);
}

varve_status vv_native_load(struct vv_engine *engine, const void *bytes, size_t size,
                            struct vv_native **native)
{
    wasmtime_module_t *module = NULL;
    wasmtime_error_t *error = wasmtime_module_deserialize(engine->engine, bytes, size, &module);

    if (error != NULL)
        return raise_error(error, VARVE_CORRUPT, "compiled code of another engine or machine");
    return wrap_native(module, native);
}

varve_status vv_native_save(const struct vv_native *native, struct vv_bytes *out)
{
    wasm_byte_vec_t bytes;
    wasmtime_error_t *error = wasmtime_module_serialize(native->module, &bytes);

    if (error != NULL)
        return raise_error(error, VARVE_MEMORY, "compiled code cannot be saved");
    vv_bytes_put(out, bytes.data, bytes.size);
    wasm_byte_vec_delete(&bytes);
    return vv_bytes_done(out);
}

void vv_native_free(struct vv_native *native)
{
    if (native == NULL)
        return;
    wasmtime_module_delete(native->module);
    vv_free(native);
}

/* ---- Programs: imports answered ---------------------------------------------------------------- */

static wasm_trap_t *outside(void *context, wasmtime_caller_t *caller, wasmtime_val_raw_t *values,
                            size_t count)
{
    const struct vv_outside *answer = context;
    struct vv_instance *instance = wasmtime_context_get_data(wasmtime_caller_context(caller));

    (void)count;
    const varve_status rc = answer->call(answer->context, instance, (union vv_slot *)values);
    if (rc == VARVE_OK)
        return NULL;
    note_failure(instance, rc);
    return wasmtime_trap_new("", 0);
}

static varve_status define_import(wasmtime_linker_t *linker, const wasm_importtype_t *import,
                                  const struct vv_outside *answer)
{
    const wasm_name_t *module = wasm_importtype_module(import), *name = wasm_importtype_name(import);
    const wasm_functype_t *type = wasm_externtype_as_functype_const(wasm_importtype_type(import));

    if (type == NULL)
        return vv_fail(VARVE_REFUSED, "import %.*s.%.*s is no function", (int)module->size, module->data,
                       (int)name->size, name->data);
    wasmtime_error_t *error = wasmtime_linker_define_func_unchecked(
        linker, module->data, module->size, name->data, name->size, type, outside, (void *)answer, NULL);
    return error == NULL ? VARVE_OK : raise_error(error, VARVE_REFUSED, "an import cannot be answered");
}

varve_status vv_program_new(struct vv_engine *engine, const struct vv_native *native,
                            const struct vv_outside *answers, size_t answer_count, struct vv_program **out)
{
    varve_status rc = VARVE_OK;
    struct vv_program *program = NULL;
    wasmtime_linker_t *linker = wasmtime_linker_new(engine->engine);
    wasm_importtype_vec_t imports;

    wasmtime_module_imports(native->module, &imports);
    VV_ASSERT(imports.size == answer_count);
    /* The same name may be imported more than once; the last definition serves all, so they must agree. */
    wasmtime_linker_allow_shadowing(linker, true);
    TRY(vv_alloc(&program, 1, sizeof *program));
    for (size_t i = 0; i < imports.size; i++)
        TRY(define_import(linker, imports.data[i], &answers[i]));
    wasmtime_error_t *error = wasmtime_linker_instantiate_pre(linker, native->module, &program->pre);
    if (error != NULL)
        rc = raise_error(error, VARVE_REFUSED, "the imports cannot be answered");
out:
    wasm_importtype_vec_delete(&imports);
    wasmtime_linker_delete(linker);
    if (rc != VARVE_OK)
        vv_free(program);
    else
        *out = program;
    return rc;
}

void vv_program_free(struct vv_program *program)
{
    if (program == NULL)
        return;
    wasmtime_instance_pre_delete(program->pre);
    vv_free(program);
}

/* ---- Instances -------------------------------------------------------------------------------- */

static wasmtime_error_t *deadline(wasmtime_context_t *context, void *data, uint64_t *delta,
                                  wasmtime_update_deadline_kind_t *kind)
{
    struct vv_instance *instance = data;

    (void)context;
    *delta = 1;
    *kind = WASMTIME_UPDATE_DEADLINE_CONTINUE;
    if (instance->faulted && instance->failed == VARVE_OK)
        note_fault(instance);
    if (instance->failed == VARVE_OK && instance->config.tick != NULL) {
        const varve_status rc = instance->config.tick(instance->config.context);
        if (rc != VARVE_OK)
            note_failure(instance, rc);
    }
    return instance->failed == VARVE_OK ? NULL : wasmtime_error_new("stopped");
}

varve_status vv_instance_new(struct vv_engine *engine, const struct vv_program *program,
                             const struct vv_instance_config *config, struct vv_instance **out)
{
    varve_status rc = VARVE_OK;
    struct vv_instance *instance = NULL;
    wasmtime_error_t *error = NULL;
    wasm_trap_t *trap = NULL;
    wasmtime_extern_t item;

    TRY(vv_alloc(&instance, 1, sizeof *instance));
    instance->config = *config;
    instance->engine = engine;
    instance->store = wasmtime_store_new(engine->engine, instance, NULL);
    instance->context = wasmtime_store_context(instance->store);
    wasmtime_store_limiter(instance->store, -1, (int64_t)config->table_entries, STORE_INSTANCES, -1, -1);
    wasmtime_store_epoch_deadline_callback(instance->store, deadline, instance, NULL);
    vv_instance_set_fuel(instance, VV_FUEL_PLENTY); /* (E2) */
    wasmtime_context_set_epoch_deadline(instance->context, 1);

    pending = instance; /* (E3) */
    error = wasmtime_instance_pre_instantiate(program->pre, instance->context, &instance->instance, &trap);
    pending = NULL;
    if (error != NULL) {
        rc = raise_error(error, VARVE_LIMIT, "the module cannot be started");
        goto out;
    }
    if (trap != NULL) {
        rc = explain(instance, NULL, trap);
        goto out;
    }
    if (config->memory != NULL) {
        if (!wasmtime_instance_export_get(instance->context, &instance->instance, config->memory,
                                          strlen(config->memory), &item) ||
            item.kind != WASMTIME_EXTERN_MEMORY) {
            rc = vv_fail(VARVE_REFUSED, "the module has no memory named %s", config->memory);
            goto out;
        }
        instance->memory = item.of.memory;
        instance->has_memory = true;
    }
out:
    if (rc != VARVE_OK)
        vv_instance_free(instance);
    else
        *out = instance;
    return rc;
}

void vv_instance_free(struct vv_instance *instance)
{
    if (instance == NULL)
        return;
    if (instance->store != NULL)
        wasmtime_store_delete(instance->store);
    vv_bytes_release(&instance->trace);
    vv_free(instance);
}

void *vv_instance_context(const struct vv_instance *instance)
{
    return instance->config.context;
}

static bool find_export(struct vv_instance *instance, const char *name, wasmtime_extern_kind_t kind,
                        wasmtime_extern_t *item)
{
    return wasmtime_instance_export_get(instance->context, &instance->instance, name, strlen(name), item) &&
           item->kind == kind;
}

bool vv_instance_function(struct vv_instance *instance, const char *name, struct vv_function *function)
{
    wasmtime_extern_t item;

    if (!find_export(instance, name, WASMTIME_EXTERN_FUNC, &item))
        return false;
    memcpy(function, &item.of.func, sizeof item.of.func);
    return true;
}

bool vv_instance_global(struct vv_instance *instance, const char *name, struct vv_global *global)
{
    wasmtime_extern_t item;

    if (!find_export(instance, name, WASMTIME_EXTERN_GLOBAL, &item))
        return false;
    memcpy(global->opaque, &item.of.global, sizeof item.of.global);
    return true;
}

uint64_t vv_instance_fuel(const struct vv_instance *instance)
{
    uint64_t fuel = 0;
    wasmtime_error_t *error = wasmtime_context_get_fuel(instance->context, &fuel);

    VV_ASSERT(error == NULL); /* only when fuel is off */
    return fuel;
}

void vv_instance_set_fuel(struct vv_instance *instance, uint64_t fuel)
{
    wasmtime_error_t *error = wasmtime_context_set_fuel(instance->context, fuel);

    VV_ASSERT(error == NULL); /* only when fuel is off */
}

/* ---- Hands ------------------------------------------------------------------------------------ */

static const char *const hand_texts[HANDS] = {
    [TABLE_HAND] = "(module (import \"\" \"\" (table $t 0 funcref))"
                   " (func (export \"get\") (param i32) (result funcref) (table.get $t (local.get 0)))"
                   " (func (export \"set\") (param i32 funcref) (table.set $t (local.get 0) (local.get 1)))"
                   " (func (export \"grow\") (param i32) (result i32)"
                   "  (table.grow $t (ref.null func) (local.get 0))))",
    [GLOBAL_HAND] = "(module (import \"\" \"\" (global $g (mut funcref)))"
                    " (func (export \"get\") (result funcref) (global.get $g))"
                    " (func (export \"set\") (param funcref) (global.set $g (local.get 0))))",
};

static wasmtime_module_t *compile_hand(struct vv_engine *engine, enum hand hand)
{
    wasm_byte_vec_t code;
    wasmtime_module_t *module = NULL;
    wasmtime_error_t *error = wasmtime_wat2wasm(hand_texts[hand], strlen(hand_texts[hand]), &code);

    if (error == NULL) {
        error = wasmtime_module_new(engine->engine, (const uint8_t *)code.data, code.size, &module);
        wasm_byte_vec_delete(&code);
    }
    VV_ASSERT(error == NULL);
    return module;
}

static const wasmtime_module_t *hand_of(struct vv_engine *engine, enum hand hand)
{
    (void)pthread_mutex_lock(&engine->mutex);
    if (engine->hands[hand] == NULL)
        engine->hands[hand] = compile_hand(engine, hand);
    const wasmtime_module_t *module = engine->hands[hand];
    (void)pthread_mutex_unlock(&engine->mutex);
    return module;
}

/* Put a hand on `item`; false when it is of another type than the hand takes. It lives as long as the store. */
static bool take_hand(struct vv_instance *instance, enum hand hand, const wasmtime_extern_t *item,
                      wasmtime_instance_t *made)
{
    wasm_trap_t *trap = NULL;
    const uint64_t fuel = vv_instance_fuel(instance);

    vv_instance_set_fuel(instance, VV_FUEL_PLENTY);
    wasmtime_error_t *error =
        wasmtime_instance_new(instance->context, hand_of(instance->engine, hand), item, 1, made, &trap);
    vv_instance_set_fuel(instance, fuel);
    if (trap != NULL)
        wasm_trap_delete(trap);
    if (error != NULL)
        wasmtime_error_delete(error);
    return error == NULL && trap == NULL;
}

static void finger(struct vv_instance *instance, const wasmtime_instance_t *hand, const char *name,
                   struct vv_function *function)
{
    wasmtime_extern_t item;

    VV_ASSERT(wasmtime_instance_export_get(instance->context, hand, name, strlen(name), &item));
    memcpy(function, &item.of.func, sizeof item.of.func);
}

/* Call one: it costs the guest no fuel. It fails only under a guest that runs: where its stack ends, or when it is to
 * stop. */
static varve_status use_hand(struct vv_instance *instance, const struct vv_function *function,
                             wasmtime_val_raw_t *values, size_t count)
{
    wasmtime_func_t copy;
    wasm_trap_t *trap = NULL;
    const uint64_t fuel = vv_instance_fuel(instance);

    memcpy(&copy, function, sizeof copy);
    vv_instance_set_fuel(instance, VV_FUEL_PLENTY);
    wasmtime_error_t *error = wasmtime_func_call_unchecked(instance->context, &copy, values, count, &trap);
    vv_instance_set_fuel(instance, fuel);
    return error == NULL && trap == NULL ? VARVE_OK : explain(instance, error, trap);
}

bool vv_instance_reference(struct vv_instance *instance, const char *name, struct vv_global *global)
{
    wasmtime_extern_t item;
    wasmtime_instance_t hand;

    if (!find_export(instance, name, WASMTIME_EXTERN_GLOBAL, &item) ||
        !take_hand(instance, GLOBAL_HAND, &item, &hand))
        return false;
    memcpy(global->opaque, &item.of.global, sizeof item.of.global);
    finger(instance, &hand, "get", &global->get);
    finger(instance, &hand, "set", &global->set);
    return true;
}

bool vv_instance_table(struct vv_instance *instance, const char *name, struct vv_gtable *table)
{
    wasmtime_extern_t item;
    wasmtime_instance_t hand;

    if (!find_export(instance, name, WASMTIME_EXTERN_TABLE, &item) ||
        !take_hand(instance, TABLE_HAND, &item, &hand))
        return false;
    memcpy(table->opaque, &item.of.table, sizeof item.of.table);
    finger(instance, &hand, "get", &table->get);
    finger(instance, &hand, "set", &table->set);
    finger(instance, &hand, "grow", &table->grow);
    return true;
}

/* A handle used with another store aborts the process: find out first. */
static const wasmtime_func_t *own_function(const struct vv_instance *instance,
                                           const struct vv_function *function, wasmtime_func_t *copy)
{
    VV_ASSERT(function->owner == instance->instance.store_id);
    memcpy(copy, function, sizeof *copy);
    return copy;
}

/* In a signal handler: raising the epoch is one atomic addition. */
static void stop_running(void *context)
{
    struct vv_instance *instance = context;

    instance->faulted = true;
    vv_engine_tick(instance->engine);
}

varve_status vv_instance_call(struct vv_instance *instance, const struct vv_function *function,
                              union vv_slot *slots, size_t count)
{
    wasmtime_func_t copy;
    wasm_trap_t *trap = NULL;
    struct vv_fault fault = { .stop = stop_running, .context = instance };

    if (instance->config.image != NULL) {
        fault.bytes = vv_image_bytes(instance->config.image);
        fault.size = (size_t)vv_image_reserve(instance->config.image);
    }
    vv_fault_enter(&fault);
    wasmtime_error_t *error =
        wasmtime_func_call_unchecked(instance->context, own_function(instance, function, &copy),
                                     (wasmtime_val_raw_t *)slots, count, &trap);
    vv_fault_leave(&fault);
    if (instance->faulted && instance->failed == VARVE_OK)
        note_fault(instance);
    if (error == NULL && trap == NULL && instance->failed == VARVE_OK)
        return VARVE_OK;
    return explain(instance, error, trap);
}

bool vv_instance_faulted(const struct vv_instance *instance)
{
    return instance->faulted;
}

const char *vv_instance_trace(const struct vv_instance *instance)
{
    return instance->trace.failed || instance->trace.size == 0 ? "" : (const char *)instance->trace.data;
}

/* ---- Globals and tables ------------------------------------------------------------------------ */

static wasmtime_global_t global_of(const struct vv_global *global)
{
    wasmtime_global_t copy;

    memcpy(&copy, global->opaque, sizeof copy);
    return copy;
}

static wasmtime_table_t table_of(const struct vv_gtable *table)
{
    wasmtime_table_t copy;

    memcpy(&copy, table->opaque, sizeof copy);
    return copy;
}

void vv_global_get(struct vv_instance *instance, const struct vv_global *global, union vv_slot *slot)
{
    const wasmtime_global_t g = global_of(global);
    wasmtime_val_t value;

    memset(slot, 0, sizeof *slot);
    wasmtime_global_get(instance->context, &g, &value);
    /* Bits are copied as they lie: through a float a signalling NaN could change. */
    switch (value.kind) {
    case WASMTIME_I32:
    case WASMTIME_F32:
        memcpy(slot, &value.of, 4);
        break;
    case WASMTIME_I64:
    case WASMTIME_F64:
        memcpy(slot, &value.of, 8);
        break;
    case WASMTIME_V128:
        memcpy(slot, &value.of, 16);
        break;
    default:
        break;
    }
}

void vv_global_set(struct vv_instance *instance, const struct vv_global *global, varve_type type,
                   const union vv_slot *slot)
{
    static const wasmtime_valkind_t kinds[] = { [VARVE_I32] = WASMTIME_I32,
                                                [VARVE_I64] = WASMTIME_I64,
                                                [VARVE_F32] = WASMTIME_F32,
                                                [VARVE_F64] = WASMTIME_F64,
                                                [VARVE_V128] = WASMTIME_V128 };
    const wasmtime_global_t g = global_of(global);
    wasmtime_val_t value;

    memset(&value, 0, sizeof value);
    value.kind = kinds[type];
    memcpy(&value.of, slot, sizeof *slot);
    wasmtime_error_t *error = wasmtime_global_set(instance->context, &g, &value);
    VV_ASSERT(error == NULL); /* only for another type or an immutable one: both were checked */
}

/* A reference as the machine keeps it: the function's address in its instance, NULL for null. */
static wasmtime_val_raw_t raw_of(struct vv_instance *instance, const struct vv_function *function)
{
    wasmtime_val_raw_t raw;

    memset(&raw, 0, sizeof raw);
    if (function != NULL)
        raw.funcref = vv_function_identity(instance, function);
    return raw;
}

varve_status vv_global_get_function(struct vv_instance *instance, const struct vv_global *global,
                                    void **identity)
{
    wasmtime_val_raw_t value = raw_of(instance, NULL);
    const varve_status rc = use_hand(instance, &global->get, &value, 1);

    *identity = rc == VARVE_OK ? value.funcref : NULL;
    return rc;
}

varve_status vv_global_set_function(struct vv_instance *instance, const struct vv_global *global,
                                    const struct vv_function *function)
{
    wasmtime_val_raw_t value = raw_of(instance, function);

    return use_hand(instance, &global->set, &value, 1);
}

uint64_t vv_table_size(struct vv_instance *instance, const struct vv_gtable *table)
{
    const wasmtime_table_t t = table_of(table);

    return wasmtime_table_size(instance->context, &t);
}

varve_status vv_table_function(struct vv_instance *instance, const struct vv_gtable *table, uint64_t index,
                               struct vv_function *function, bool *found)
{
    varve_status rc = VARVE_OK;
    wasmtime_val_raw_t value = raw_of(instance, NULL);
    wasmtime_func_t place;

    *found = false;
    if (index >= vv_table_size(instance, table))
        return VARVE_OK;
    value.i32 = (int32_t)(uint32_t)index;
    TRY(use_hand(instance, &table->get, &value, 1));
    if (value.funcref == NULL)
        return VARVE_OK;
    wasmtime_func_from_raw(instance->context, value.funcref, &place);
    memcpy(function, &place, sizeof *function);
    *found = true;
out:
    return rc;
}

varve_status vv_table_set(struct vv_instance *instance, const struct vv_gtable *table, uint64_t index,
                          const struct vv_function *function)
{
    wasmtime_val_raw_t values[2] = { raw_of(instance, NULL), raw_of(instance, function) };

    VV_ASSERT(index < vv_table_size(instance, table));
    values[0].i32 = (int32_t)(uint32_t)index;
    return use_hand(instance, &table->set, values, 2);
}

varve_status vv_table_grow(struct vv_instance *instance, const struct vv_gtable *table, uint64_t count)
{
    varve_status rc = VARVE_OK;
    wasmtime_val_raw_t value = raw_of(instance, NULL);

    if (count <= UINT32_MAX) {
        value.i32 = (int32_t)(uint32_t)count;
        TRY(use_hand(instance, &table->grow, &value, 1));
    }
    if (count > UINT32_MAX || value.i32 == -1)
        rc = vv_fail(VARVE_LIMIT, "a table cannot grow by %llu entries", (unsigned long long)count);
out:
    return rc;
}

void *vv_function_identity(struct vv_instance *instance, const struct vv_function *function)
{
    wasmtime_func_t copy;

    return wasmtime_func_to_raw(instance->context, own_function(instance, function, &copy));
}

static bool same_types(const wasm_valtype_vec_t *have, const varve_type *want, size_t count)
{
    static const wasmtime_valtype_kind_t kinds[] = {
        [VARVE_I32] = WASMTIME_VALTYPE_KIND_I32,   [VARVE_I64] = WASMTIME_VALTYPE_KIND_I64,
        [VARVE_F32] = WASMTIME_VALTYPE_KIND_F32,   [VARVE_F64] = WASMTIME_VALTYPE_KIND_F64,
        [VARVE_V128] = WASMTIME_VALTYPE_KIND_V128,
    };
    bool same = have->size == count;

    for (size_t i = 0; same && i < count; i++) {
        wasmtime_valtype_t type; /* wasm_valtype_kind would abort the process on a vector */
        wasmtime_valtype_new(have->data[i], &type);
        same = type.kind == kinds[want[i]];
        wasmtime_valtype_delete(&type);
    }
    return same;
}

bool vv_function_fits(struct vv_instance *instance, const struct vv_function *function,
                      const varve_type *params, size_t param_count, const varve_type *results,
                      size_t result_count)
{
    wasmtime_func_t copy;
    wasm_functype_t *type = wasmtime_func_type(instance->context, own_function(instance, function, &copy));
    const bool fits = same_types(wasm_functype_params(type), params, param_count) &&
                      same_types(wasm_functype_results(type), results, result_count);

    wasm_functype_delete(type);
    return fits;
}

/* ---- Growth from outside the guest ------------------------------------------------------------- */

varve_status vv_instance_grow(struct vv_instance *instance, uint64_t bytes, uint64_t *before)
{
    uint64_t pages = 0;

    if (!instance->has_memory)
        return vv_fail(VARVE_LIMIT, "the module has no memory to grow");
    const uint64_t wanted = bytes / VV_WASM_PAGE_SIZE + (bytes % VV_WASM_PAGE_SIZE != 0);
    wasmtime_error_t *error = wasmtime_memory_grow(instance->context, &instance->memory, wanted, &pages);
    if (error != NULL && instance->failed != VARVE_OK) {
        wasmtime_error_delete(error);
        return vv_fail(instance->failed, "%s", instance->words);
    }
    if (error != NULL)
        return raise_error(error, VARVE_LIMIT, "the memory cannot grow");
    *before = pages * VV_WASM_PAGE_SIZE;
    return VARVE_OK;
}

varve_status vv_instance_reread(struct vv_instance *instance)
{
    uint64_t pages = 0;

    if (!instance->has_memory)
        return VARVE_OK;
    wasmtime_error_t *error = wasmtime_memory_grow(instance->context, &instance->memory, 0, &pages);
    return error == NULL ? VARVE_OK : raise_error(error, VARVE_MEMORY, "the memory's length cannot be read");
}

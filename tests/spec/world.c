/* world.c - see world.h.
 *
 * Moves:  MAKE     validate the original, read, link, rewrite, compile, instantiate, write data, start  [world_make]
 *         BETWEEN  drop what nobody can name, capture, new store, instantiate, restore              [world_between]
 * Links are checked here as the engine would: functions by the engine itself, the rest by matches(). */
#include "world.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "product.h"
#include "vm/instance_state.h"

enum { PAGE = 4096 };

/* A tiny module that reaches into a table or global that it imports: the C API aborts the process when a reference
 * passes through it, for the engine is built without its garbage collector; raw values of a call may hold one. */
struct hand {
    bool made;
    wasmtime_func_t get, set, grow;
};
enum hand_kind { TABLE_HAND, TABLE64_HAND, GLOBAL_HAND, CONSTANT_HAND, HAND_KINDS };
#define TABLE_FUNCTIONS(INDEX)                                                                   \
    " (func (export \"get\") (param " INDEX ") (result funcref) (table.get (local.get 0)))"      \
    " (func (export \"set\") (param " INDEX " funcref) (table.set (local.get 0) (local.get 1)))" \
    " (func (export \"grow\") (param " INDEX " funcref) (result " INDEX ")"                      \
    "  (table.grow (local.get 1) (local.get 0))))"
static const char *const hand_texts[HAND_KINDS] = {
    [TABLE_HAND] = ("(module (import \"\" \"\" (table 0 funcref))" TABLE_FUNCTIONS("i32")),
    [TABLE64_HAND] = ("(module (import \"\" \"\" (table i64 0 funcref))" TABLE_FUNCTIONS("i64")),
    [GLOBAL_HAND] = ("(module (import \"\" \"\" (global $g (mut funcref)))"
                     " (func (export \"get\") (result funcref) (global.get $g))"
                     " (func (export \"set\") (param funcref) (global.set $g (local.get 0))))"),
    [CONSTANT_HAND] = ("(module (import \"\" \"\" (global $g funcref))"
                       " (func (export \"get\") (result funcref) (global.get $g)))"),
};

/* Machine code, shared by all instances of the same bytes. */
struct native {
    uint8_t *bytes;
    size_t size;
    wasmtime_module_t *module;
    struct native *next;
};

struct link {
    struct slot *from;
    struct vv_text name;
};

struct slot {
    const uint8_t *bytes;
    size_t size;
    struct vv_wasm wasm;
    struct vv_plan plan; /* not of a PLAIN world */
    wasmtime_module_t *module;
    wasmtime_instance_t instance;
    struct link *links; /* per function import of the plan */
    bool live;
    char name[24]; /* of a COMMITTED world: all there is */
    struct identity {
        void *raw;
        uint32_t function;
    } * identities;     /* of this instance's directory; NULL: not read yet */
    struct hand *hands; /* to the plan's tables, then to its globals; empty until used */
    struct saved {
        struct vv_bytes state;
        uint64_t memory_size;
        uint64_t *page_indices; /* of pages that are not zero */
        uint8_t *pages;
        size_t page_count;
    } saved;
};

static const char spectest[] =
    "(module"
    " (func (export \"print\")) (func (export \"print_i32\") (param i32)) (func (export \"print_i64\") "
    "(param i64))"
    " (func (export \"print_f32\") (param f32)) (func (export \"print_f64\") (param f64))"
    " (func (export \"print_i32_f32\") (param i32 f32)) (func (export \"print_f64_f64\") (param f64 f64))"
    " (global (export \"global_i32\") i32 (i32.const 666)) (global (export \"global_i64\") i64 (i64.const "
    "666))"
    " (global (export \"global_f32\") f32 (f32.const 666.6)) (global (export \"global_f64\") f64 (f64.const "
    "666.6))"
    " (table (export \"table\") 10 20 funcref) (table (export \"table64\") i64 10 20 funcref)"
    " (memory (export \"memory\") 1 2))";

_Noreturn static void give_up(const char *what)
{
    (void)fprintf(stderr, "spec: %s: %s\n", what, vv_words());
    exit(2);
}

static void *grown(void *array, size_t count, size_t size)
{
    void *const larger = reallocarray(array, count == 0 ? 1 : count, size);

    if (larger == NULL)
        give_up("out of memory");
    return larger;
}

/* Everything that this library can do on: the rewriter shall meet all of it. */
wasm_engine_t *world_engine(void)
{
    wasm_config_t *const config = wasm_config_new();

    wasmtime_config_memory_init_cow_set(config, false);
    wasmtime_config_memory_may_move_set(config, false);
    wasmtime_config_memory_reservation_set(config, UINT64_C(4) << 30);
    wasmtime_config_cranelift_nan_canonicalization_set(config, true);
    wasmtime_config_cranelift_opt_level_set(config, WASMTIME_OPT_LEVEL_NONE);
    wasmtime_config_parallel_compilation_set(config, false);
    wasmtime_config_gc_support_set(config, false);
    wasmtime_config_wasm_simd_set(config, true);
    wasmtime_config_wasm_relaxed_simd_set(config, true);
    wasmtime_config_wasm_relaxed_simd_deterministic_set(config, true);
    wasmtime_config_wasm_bulk_memory_set(config, true);
    wasmtime_config_wasm_multi_value_set(config, true);
    wasmtime_config_wasm_tail_call_set(config, true);
    wasmtime_config_wasm_multi_memory_set(config, true);
    wasmtime_config_wasm_memory64_set(config, true);
    wasmtime_config_wasm_wide_arithmetic_set(config, true);
    wasmtime_config_wasm_custom_page_sizes_set(config, true);
    return wasm_engine_new_with_config(config);
}

/* ---- what the engine says ---- */

static const struct {
    unsigned code;
    const char *text;
} traps[] = {
    { WASMTIME_TRAP_CODE_STACK_OVERFLOW, "call stack exhausted" },
    { WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS, "out of bounds memory access" },
    { WASMTIME_TRAP_CODE_HEAP_MISALIGNED, "unaligned atomic" },
    { WASMTIME_TRAP_CODE_TABLE_OUT_OF_BOUNDS, "out of bounds table access" },
    { WASMTIME_TRAP_CODE_INDIRECT_CALL_TO_NULL, "uninitialized element" },
    { WASMTIME_TRAP_CODE_BAD_SIGNATURE, "indirect call type mismatch" },
    { WASMTIME_TRAP_CODE_INTEGER_OVERFLOW, "integer overflow" },
    { WASMTIME_TRAP_CODE_INTEGER_DIVISION_BY_ZERO, "integer divide by zero" },
    { WASMTIME_TRAP_CODE_BAD_CONVERSION_TO_INTEGER, "invalid conversion to integer" },
    { WASMTIME_TRAP_CODE_UNREACHABLE_CODE_REACHED, "unreachable" },
    { WASMTIME_TRAP_CODE_NULL_REFERENCE, "null reference" },
};

const char *world_trap_text(unsigned code)
{
    for (size_t i = 0; i < sizeof traps / sizeof traps[0]; i++) {
        if (traps[i].code == code)
            return traps[i].text;
    }
    return NULL;
}

static void take_words(struct world *world, wasm_byte_vec_t *text)
{
    (void)snprintf(world->words, sizeof world->words, "%.*s", (int)text->size, text->data);
    for (char *c = world->words; *c != '\0'; c++)
        *c = *c == '\n' ? ' ' : *c;
    wasm_byte_vec_delete(text);
}

static void take_error(struct world *world, wasmtime_error_t *error)
{
    wasm_byte_vec_t text;

    wasmtime_error_message(error, &text);
    take_words(world, &text);
    wasmtime_error_delete(error);
}

static enum made take_trap(struct world *world, wasm_trap_t *trap)
{
    wasmtime_trap_code_t code = 0;

    if (wasmtime_trap_code(trap, &code)) {
        (void)snprintf(world->words, sizeof world->words, "trap %u", code);
    } else {
        wasm_byte_vec_t text;
        wasm_trap_message(trap, &text);
        take_words(world, &text);
    }
    wasm_trap_delete(trap);
    return MADE_TRAPPED;
}

static void say(struct world *world, const char *words)
{
    (void)snprintf(world->words, sizeof world->words, "%s", words);
}

/* ---- compiled code ---- */

/* NULL: the engine does not accept it; `words` says why. */
static wasmtime_module_t *compile(struct world *world, const uint8_t *bytes, size_t size)
{
    for (const struct native *native = world->natives; native != NULL; native = native->next) {
        if (native->size == size && memcmp(native->bytes, bytes, size) == 0)
            return native->module;
    }
    wasmtime_module_t *module = NULL;
    wasmtime_error_t *const error = wasmtime_module_new(world->engine, bytes, size, &module);
    if (error != NULL) {
        take_error(world, error);
        return NULL;
    }
    struct native *const native = grown(NULL, 1, sizeof *native);
    *native = (struct native){
        .bytes = grown(NULL, size, 1), .size = size, .module = module, .next = world->natives
    };
    memcpy(native->bytes, bytes, size);
    world->natives = native;
    return module;
}

/* ---- exports ---- */

static bool find(struct world *world, const struct slot *slot, const char *name, size_t size,
                 wasmtime_extern_t *item)
{
    return wasmtime_instance_export_get(world->context, &slot->instance, name, size, item);
}

/* One of ours, which the plan promised. */
static wasmtime_extern_t reserved(struct world *world, const struct slot *slot, const char *name)
{
    wasmtime_extern_t item;

    if (!find(world, slot, name, strlen(name), &item))
        give_up(name);
    return item;
}

/* `slots` hold the arguments and take the results. */
static enum made call(struct world *world, const wasmtime_func_t *function, wasmtime_val_raw_t *slots,
                      size_t count)
{
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *const error =
        wasmtime_func_call_unchecked(world->context, function, slots, count, &trap);

    if (trap != NULL)
        return take_trap(world, trap);
    if (error == NULL)
        return MADE;
    take_error(world, error);
    return MADE_TRAPPED;
}

static enum made call_reserved(struct world *world, const struct slot *slot, const char *name)
{
    const wasmtime_extern_t item = reserved(world, slot, name);
    wasmtime_val_raw_t none;

    return call(world, &item.of.func, &none, 1);
}

/* ---- hands ---- */

static struct hand make_hand(struct world *world, enum hand_kind kind, const wasmtime_extern_t *item)
{
    static wasm_byte_vec_t codes[HAND_KINDS];
    struct hand hand = { .made = true };
    wasmtime_instance_t instance;
    wasmtime_extern_t found;
    wasm_trap_t *trap = NULL;

    if (codes[kind].size == 0) {
        wasmtime_error_t *const error =
            wasmtime_wat2wasm(hand_texts[kind], strlen(hand_texts[kind]), &codes[kind]);
        if (error != NULL)
            give_up("a hand is no module");
    }
    const wasmtime_module_t *const module =
        compile(world, (const uint8_t *)codes[kind].data, codes[kind].size);
    wasmtime_error_t *const error = wasmtime_instance_new(world->context, module, item, 1, &instance, &trap);
    if (error != NULL || trap != NULL)
        give_up("a hand does not fit");
    if (wasmtime_instance_export_get(world->context, &instance, "get", 3, &found))
        hand.get = found.of.func;
    if (wasmtime_instance_export_get(world->context, &instance, "set", 3, &found))
        hand.set = found.of.func;
    if (wasmtime_instance_export_get(world->context, &instance, "grow", 4, &found))
        hand.grow = found.of.func;
    return hand;
}

/* Get or set: what a hand does cannot fail. */
static void use_hand(struct world *world, const wasmtime_func_t *function, wasmtime_val_raw_t *slots,
                     size_t count)
{
    if (call(world, function, slots, count) != MADE)
        give_up(world->words);
}

static void *table_get(struct world *world, const struct hand *hand, uint64_t index)
{
    wasmtime_val_raw_t slots[2] = { { .i64 = (int64_t)index } };

    use_hand(world, &hand->get, slots, 2);
    return slots[0].funcref;
}

static struct hand table_hand(struct world *world, struct slot *slot, uint32_t place)
{
    const struct vv_plan_table *const table = &slot->plan.tables[place];
    const wasmtime_extern_t item = reserved(world, slot, table->name);

    if (!slot->hands[place].made)
        slot->hands[place] = make_hand(world, table->range.is64 ? TABLE64_HAND : TABLE_HAND, &item);
    return slot->hands[place];
}

static struct hand global_hand(struct world *world, struct slot *slot, uint32_t place)
{
    struct hand *const hand = &slot->hands[slot->plan.table_count + place];
    const wasmtime_extern_t item = reserved(world, slot, slot->plan.globals[place].name);

    if (!hand->made)
        *hand = make_hand(world, GLOBAL_HAND, &item);
    return *hand;
}

/* ---- what scripts do ---- */

/* References are only told from null: their handle is not to be used. */
static void value_of(wasmtime_val_t *value, wasmtime_valkind_t kind, const wasmtime_val_raw_t *raw)
{
    memset(value, 0, sizeof *value);
    value->kind = kind;
    if (kind > WASMTIME_V128)
        value->of.funcref.store_id = raw->funcref != NULL;
    else
        memcpy(&value->of, raw, 16);
}

/* WASMTIME_I32 to _V128, else WASMTIME_FUNCREF: the only references that there are. */
static wasmtime_valkind_t kind_of(const wasm_valtype_t *type)
{
    wasmtime_valtype_t copy; /* wasm_valtype_kind would abort on a vector */

    wasmtime_valtype_new(type, &copy);
    const wasmtime_valkind_t kind = copy.kind;
    wasmtime_valtype_delete(&copy);
    return kind;
}

enum made world_call(struct world *world, struct slot *slot, const char *name, size_t name_size,
                     const wasmtime_val_t *args, size_t arg_count, struct results *results)
{
    wasmtime_extern_t item;

    if (world->kind == WORLD_COMMITTED)
        return product_call(world->product, slot->name, name, name_size, args, arg_count, results,
                            world->words);
    if (!find(world, slot, name, name_size, &item) || item.kind != WASMTIME_EXTERN_FUNC) {
        say(world, "there is no such function");
        return MADE_UNLINKABLE;
    }
    wasm_functype_t *const type = wasmtime_func_type(world->context, &item.of.func);
    const wasm_valtype_vec_t *const types = wasm_functype_results(type);
    if (wasm_functype_params(type)->size != arg_count)
        give_up("a script calls with another number of arguments");
    results->count = types->size;
    const size_t count = (types->size > arg_count ? types->size : arg_count) + 1;
    wasmtime_val_raw_t *const slots = grown(NULL, count, sizeof *slots);
    memset(slots, 0, count * sizeof *slots);
    for (size_t i = 0; i < arg_count; i++) {
        if (args[i].kind <= WASMTIME_V128)
            memcpy(&slots[i], &args[i].of, 16);
    }
    const enum made made = call(world, &item.of.func, slots, count);
    results->values = grown(NULL, results->count, sizeof *results->values);
    for (size_t i = 0; i < results->count && made == MADE; i++)
        value_of(&results->values[i], kind_of(types->data[i]), &slots[i]);
    wasm_functype_delete(type);
    free(slots);
    return made;
}

static void global_value(struct world *world, const wasmtime_extern_t *item, wasmtime_val_t *value)
{
    wasm_globaltype_t *const type = wasmtime_global_type(world->context, &item->of.global);
    const wasmtime_valkind_t kind = kind_of(wasm_globaltype_content(type));

    if (kind <= WASMTIME_V128) {
        wasmtime_global_get(world->context, &item->of.global, value);
    } else {
        const bool is_mutable = wasm_globaltype_mutability(type) == WASM_VAR;
        const struct hand hand = make_hand(world, is_mutable ? GLOBAL_HAND : CONSTANT_HAND, item);
        wasmtime_val_raw_t raw;
        use_hand(world, &hand.get, &raw, 1);
        value_of(value, kind, &raw);
    }
    wasm_globaltype_delete(type);
}

enum made world_get(struct world *world, struct slot *slot, const char *name, size_t name_size,
                    struct results *results)
{
    wasmtime_extern_t item;

    if (world->kind == WORLD_COMMITTED) {
        say(world, "a global is read from outside");
        return MADE_REFUSED;
    }
    if (!find(world, slot, name, name_size, &item) || item.kind != WASMTIME_EXTERN_GLOBAL) {
        say(world, "there is no such global");
        return MADE_UNLINKABLE;
    }
    results->count = 1;
    results->values = grown(NULL, 1, sizeof *results->values);
    global_value(world, &item, results->values);
    return MADE;
}

void world_register(struct world *world, const char *name, struct slot *slot)
{
    for (size_t i = 0; i < world->registered_count; i++) {
        if (strcmp(world->registry[i].name, name) == 0) {
            world->registry[i].slot = slot;
            return;
        }
    }
    world->registry = grown(world->registry, world->registered_count + 1, sizeof *world->registry);
    struct registered *const entry = &world->registry[world->registered_count++];
    entry->name = strdup(name);
    entry->slot = slot;
    if (entry->name == NULL)
        give_up("out of memory");
}

static struct slot *registered(const struct world *world, const char *name, size_t size)
{
    for (size_t i = 0; i < world->registered_count; i++) {
        if (strlen(world->registry[i].name) == size && memcmp(world->registry[i].name, name, size) == 0)
            return world->registry[i].slot;
    }
    return NULL;
}

/* ---- links of a plain module: all by the engine ---- */

static enum made instantiate(struct world *world, struct slot *slot, const wasmtime_extern_t *imports,
                             size_t count)
{
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *const error =
        wasmtime_instance_new(world->context, slot->module, imports, count, &slot->instance, &trap);

    if (trap != NULL)
        return take_trap(world, trap);
    if (error == NULL)
        return MADE;
    take_error(world, error);
    return MADE_UNLINKABLE;
}

static enum made link_plain(struct world *world, struct slot *slot)
{
    wasm_importtype_vec_t types;
    enum made made = MADE;

    wasmtime_module_imports(slot->module, &types);
    wasmtime_extern_t *const imports = grown(NULL, types.size, sizeof *imports);
    for (size_t i = 0; i < types.size && made == MADE; i++) {
        const wasm_name_t *const module = wasm_importtype_module(types.data[i]);
        const wasm_name_t *const name = wasm_importtype_name(types.data[i]);
        const struct slot *const from = registered(world, module->data, module->size);
        if (from == NULL || !find(world, from, name->data, name->size, &imports[i])) {
            say(world, "unknown import");
            made = MADE_UNLINKABLE;
        }
    }
    if (made == MADE)
        made = instantiate(world, slot, imports, types.size);
    free(imports);
    wasm_importtype_vec_delete(&types);
    return made;
}

/* ---- links of a rewritten module ---- */

static enum made unlinkable(struct world *world, const char *words)
{
    say(world, words);
    return MADE_UNLINKABLE;
}

/* What the source of an import exports under that name, in the source's own terms. */
static const struct vv_wasm_export *source(struct world *world, const struct vv_wasm_import *import,
                                           struct slot **from)
{
    *from = registered(world, import->module.data, import->module.size);
    return *from == NULL ? NULL : vv_wasm_find_export(&(*from)->wasm, import->name.data, import->name.size);
}

/* The current length becomes the least one, as the importer would see it. */
static bool range_fits(const struct vv_wasm_range *theirs, uint64_t length, struct vv_wasm_range *ours)
{
    if (length < ours->min || theirs->is64 != ours->is64 || theirs->shared != ours->shared ||
        (ours->has_max && (!theirs->has_max || theirs->max > ours->max)))
        return false;
    ours->min = length;
    ours->has_max = theirs->has_max;
    ours->max = theirs->max;
    return true;
}

static bool spans_equal(const struct slot *a, struct vv_span x, const struct slot *b, struct vv_span y)
{
    return x.size == y.size && memcmp(a->bytes + x.offset, b->bytes + y.offset, x.size) == 0;
}

static size_t number_size(varve_type type)
{
    return type == VARVE_V128 ? 16 : type == VARVE_I32 || type == VARVE_F32 ? 4 : 8;
}

static const char *text_of(struct vv_text text)
{
    char *const copy = strndup(text.data, text.size);

    if (copy == NULL)
        give_up("out of memory");
    return copy;
}

/* The value of an imported global, to be written in. */
static enum made give_global(struct world *world, struct slot *slot, const struct vv_wasm_import *import,
                             struct slot *from, uint32_t index, struct vv_import_value *given)
{
    const struct vv_wasm_global *const ours = &slot->wasm.globals[import->index];
    const struct vv_wasm_global *const theirs = &from->wasm.globals[index];
    wasmtime_extern_t item;
    wasmtime_val_t value;

    if (ours->is_mutable != theirs->is_mutable || ours->type != theirs->type ||
        (ours->is_mutable && !spans_equal(slot, ours->type_bytes, from, theirs->type_bytes)))
        return unlinkable(world, "incompatible import type");
    if (ours->is_mutable)
        world->shared = true;
    if (!find(world, from, import->name.data, import->name.size, &item))
        give_up("a global that was there");
    global_value(world, &item, &value);
    if (vv_wasm_is_number(ours->type)) {
        given->module = text_of(import->module);
        given->name = text_of(import->name);
        given->value = (struct vv_wasm_value){ .type = ours->type };
        memcpy(given->value.bits, &value.of, number_size(ours->type));
    } else if (!wasmtime_funcref_is_null(&value.of.funcref)) {
        say(world, "imports a reference of another module");
        return MADE_REFUSED;
    }
    return MADE;
}

static enum made link_one(struct world *world, struct slot *slot, const struct vv_wasm_import *import,
                          struct vv_import_value *given)
{
    struct slot *from;
    const struct vv_wasm_export *const export = source(world, import, &from);
    wasmtime_extern_t item;

    if (export == NULL || export->kind != import->kind)
        return unlinkable(world, "unknown import");
    if (import->kind == VV_WASM_GLOBAL)
        return give_global(world, slot, import, from, export->index, given);
    if (import->kind == VV_WASM_FUNCTION)
        return MADE;
    if (from != world->slots[0]) /* spectest */
        world->shared = true;
    if (!find(world, from, import->name.data, import->name.size, &item))
        give_up("an export that was there");
    if (import->kind == VV_WASM_MEMORY) {
        if (!range_fits(&from->wasm.memories[export->index].range,
                        wasmtime_memory_size(world->context, &item.of.memory),
                        &slot->wasm.memories[import->index].range))
            return unlinkable(world, "incompatible import type");
    } else if (import->kind == VV_WASM_TABLE) {
        const struct vv_wasm_table *const theirs = &from->wasm.tables[export->index];
        struct vv_wasm_table *const ours = &slot->wasm.tables[import->index];
        if (ours->type != theirs->type || ours->nullable != theirs->nullable ||
            !range_fits(&theirs->range, wasmtime_table_size(world->context, &item.of.table), &ours->range))
            return unlinkable(world, "incompatible import type");
    }
    return MADE;
}

/* Check every link and take what stands for the imports that are no functions. Among reasons, a link that cannot be
 * comes before one that we refuse. */
static enum made link_rewritten(struct world *world, struct slot *slot, struct vv_import_value *given,
                                size_t *count)
{
    enum made worst = MADE;
    char words[WORLD_WORDS];

    for (uint32_t i = 0; i < slot->wasm.import_count; i++) {
        const enum made made = link_one(world, slot, &slot->wasm.imports[i], &given[*count]);
        *count += given[*count].module != NULL;
        if (made == MADE_UNLINKABLE)
            return made;
        if (made == MADE_REFUSED) {
            worst = made;
            (void)snprintf(words, sizeof words, "%s", world->words);
        }
    }
    if (worst != MADE)
        say(world, words);
    return worst;
}

static enum made refused(struct world *world)
{
    say(world, vv_words());
    return MADE_REFUSED;
}

static enum made rewrite(struct world *world, struct slot *slot, const struct vv_import_value *given,
                         size_t count)
{
    const struct vv_rewrite_options options = { .values = given, .value_count = count, .features = ~0u };

    if (vv_rewrite(&slot->wasm, &options, &slot->plan) != VARVE_OK)
        return refused(world);
    slot->module = compile(world, slot->plan.code.data, slot->plan.code.size);
    if (slot->module == NULL) {
        char words[WORLD_WORDS];
        (void)snprintf(words, sizeof words, "%s", world->words);
        (void)snprintf(world->words, sizeof world->words, "REWRITTEN CODE IS NOT VALID: %.300s", words);
        return MADE_REFUSED;
    }
    slot->links = grown(NULL, slot->plan.import_count, sizeof *slot->links);
    for (uint32_t i = 0; i < slot->plan.import_count; i++) {
        const struct vv_plan_import *const import = &slot->plan.imports[i];
        slot->links[i].from = registered(world, import->module.data, import->module.size);
        slot->links[i].name = import->name;
    }
    return MADE;
}

static enum made instantiate_rewritten(struct world *world, struct slot *slot)
{
    wasmtime_extern_t *const imports = grown(NULL, slot->plan.import_count, sizeof *imports);

    for (uint32_t i = 0; i < slot->plan.import_count; i++) {
        if (!find(world, slot->links[i].from, slot->links[i].name.data, slot->links[i].name.size,
                  &imports[i]))
            give_up("a function that was there");
    }
    const enum made made = instantiate(world, slot, imports, slot->plan.import_count);
    free(imports);
    free(slot->identities);
    slot->identities = NULL;
    const size_t hands = (size_t)slot->plan.table_count + slot->plan.global_count;
    slot->hands = grown(slot->hands, hands, sizeof *slot->hands);
    memset(slot->hands, 0, hands * sizeof *slot->hands);
    return made;
}

/* What the host does once, at deploy: data in order, the first out of bounds traps; then start. */
static enum made boot(struct world *world, struct slot *slot)
{
    if (slot->plan.write_count > 0) {
        const wasmtime_extern_t memory = reserved(world, slot, VV_EXPORT_MEMORY);
        const uint64_t size = wasmtime_memory_data_size(world->context, &memory.of.memory);
        uint8_t *const data = wasmtime_memory_data(world->context, &memory.of.memory);
        for (uint32_t i = 0; i < slot->plan.write_count; i++) {
            const struct vv_plan_write *const write = &slot->plan.writes[i];
            if (write->offset > size || write->bytes.size > size - write->offset) {
                (void)snprintf(world->words, sizeof world->words, "trap %d",
                               WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS);
                return MADE_TRAPPED;
            }
            if (write->bytes.size > 0)
                memcpy(data + write->offset, slot->bytes + write->bytes.offset, write->bytes.size);
        }
    }
    return slot->plan.has_start ? call_reserved(world, slot, VV_EXPORT_START) : MADE;
}

static enum made make_rewritten(struct world *world, struct slot *slot)
{
    const struct vv_wasm_limits limits = vv_wasm_limits_of(NULL);

    if (vv_wasm_read(slot->bytes, slot->size, &limits, &slot->wasm) != VARVE_OK)
        return refused(world);
    struct vv_import_value *const given = grown(NULL, slot->wasm.import_count, sizeof *given);
    for (uint32_t i = 0; i < slot->wasm.import_count; i++)
        given[i] = (struct vv_import_value){ .module = NULL };
    size_t count = 0;
    enum made made = link_rewritten(world, slot, given, &count);
    if (made == MADE)
        made = rewrite(world, slot, given, count);
    for (size_t i = 0; i < count; i++) {
        free((void *)(uintptr_t)given[i].module);
        free((void *)(uintptr_t)given[i].name);
    }
    free(given);
    if (made == MADE)
        made = instantiate_rewritten(world, slot);
    if (made == MADE)
        made = boot(world, slot);
    return made;
}

/* ---- instances ---- */

static void free_slot(struct slot *slot)
{
    vv_wasm_release(&slot->wasm);
    vv_plan_release(&slot->plan);
    vv_bytes_release(&slot->saved.state);
    free(slot->saved.page_indices);
    free(slot->saved.pages);
    free(slot->links);
    free(slot->identities);
    free(slot->hands);
    free(slot);
}

enum made world_check(struct world *world, const uint8_t *bytes, size_t size)
{
    if (world->kind == WORLD_COMMITTED)
        return product_check(world->product, bytes, size, world->words);
    return compile(world, bytes, size) == NULL ? MADE_INVALID : MADE;
}

static struct slot *add_slot(struct world *world)
{
    struct slot *const slot = grown(NULL, 1, sizeof *slot);

    *slot = (struct slot){ .saved.state = VV_BYTES_NONE };
    world->slots = grown(world->slots, world->slot_count + 1, sizeof(struct slot *));
    world->slots[world->slot_count++] = slot;
    return slot;
}

static bool imports_state(const uint8_t *bytes, size_t size)
{
    const struct vv_wasm_limits limits = vv_wasm_limits_of(NULL);
    struct vv_wasm wasm;
    bool found = false;

    if (vv_wasm_read(bytes, size, &limits, &wasm) != VARVE_OK)
        return false;
    for (uint32_t i = 0; i < wasm.import_count; i++)
        found = found || wasm.imports[i].kind != VV_WASM_FUNCTION;
    vv_wasm_release(&wasm);
    return found;
}

/* Slots of failed modules stay: each attempt has a name of its own. */
static enum made make_committed(struct world *world, const uint8_t *bytes, size_t size, struct slot **out)
{
    struct slot *const slot = add_slot(world);

    (void)snprintf(slot->name, sizeof slot->name, "module-%zu", world->slot_count);
    world->shared = world->shared || imports_state(bytes, size);
    const enum made made = product_make(world->product, slot->name, bytes, size, world->words);
    if (made == MADE)
        *out = slot;
    return made;
}

/* The engine without its collector accepts some of what needs it, and aborts the process when that is run. */
static bool needs_collector(struct world *world, const uint8_t *bytes, size_t size)
{
    const struct vv_wasm_limits limits = vv_wasm_limits_of(NULL);
    struct vv_wasm wasm;

    if (vv_wasm_read(bytes, size, &limits, &wasm) != VARVE_OK)
        return false;
    const char *const used = wasm.features[VV_WASM_GC].instruction;
    if (used != NULL)
        (void)snprintf(world->words, sizeof world->words, "%s needs garbage collection", used);
    vv_wasm_release(&wasm);
    return used != NULL;
}

enum made world_make(struct world *world, const uint8_t *bytes, size_t size, struct slot **out)
{
    if (world->kind == WORLD_COMMITTED)
        return make_committed(world, bytes, size, out);
    if (world_check(world, bytes, size) != MADE || needs_collector(world, bytes, size))
        return MADE_INVALID;
    struct slot *const slot = add_slot(world);
    slot->bytes = bytes;
    slot->size = size;
    slot->module = compile(world, bytes, size);
    const enum made made = world->kind == WORLD_PLAIN ? link_plain(world, slot) : make_rewritten(world, slot);
    if (made == MADE) {
        *out = slot;
    } else {
        world->slot_count--;
        free_slot(slot);
    }
    return made;
}

static void open_store(struct world *world)
{
    world->store = wasmtime_store_new(world->engine, NULL, NULL);
    world->context = wasmtime_store_context(world->store);
}

struct world *world_new(wasm_engine_t *engine, enum world_kind kind, unsigned forget)
{
    struct world *const world = grown(NULL, 1, sizeof *world);
    static wasm_byte_vec_t bytes; /* of spectest; lives on, for slots point into it */
    struct slot *slot;

    *world = (struct world){ .kind = kind, .forget = forget, .engine = engine };
    if (kind == WORLD_COMMITTED) {
        world->product = product_new();
        return world;
    }
    open_store(world);
    if (bytes.size == 0) {
        wasmtime_error_t *const error = wasmtime_wat2wasm(spectest, sizeof spectest - 1, &bytes);
        if (error != NULL)
            give_up("spectest is no module");
    }
    if (world_make(world, (const uint8_t *)bytes.data, bytes.size, &slot) != MADE)
        give_up(world->words);
    world_register(world, "spectest", slot);
    return world;
}

void world_free(struct world *world)
{
    for (size_t i = 0; i < world->slot_count; i++)
        free_slot(world->slots[i]);
    if (world->product != NULL)
        product_free(world->product);
    if (world->store != NULL)
        wasmtime_store_delete(world->store);
    while (world->natives != NULL) {
        struct native *const native = world->natives;
        world->natives = native->next;
        wasmtime_module_delete(native->module);
        free(native->bytes);
        free(native);
    }
    for (size_t i = 0; i < world->registered_count; i++)
        free(world->registry[i].name);
    free(world->registry);
    free(world->slots);
    free(world);
}

/* ---- capture ---- */

static void freeze(struct world *world, const char *why)
{
    if (world->frozen == NULL)
        world->frozen = why;
}

static void read_directory(struct world *world, struct slot *slot)
{
    if (slot->identities != NULL || !slot->plan.has_refs)
        return;
    const wasmtime_extern_t item = reserved(world, slot, VV_EXPORT_REFS);
    const struct hand hand = make_hand(world, TABLE_HAND, &item);
    slot->identities = grown(NULL, slot->plan.ref_count, sizeof *slot->identities);
    for (uint32_t i = 0; i < slot->plan.ref_count; i++)
        slot->identities[i] =
            (struct identity){ .raw = table_get(world, &hand, i), .function = slot->plan.refs[i] };
}

static uint32_t function_of(struct world *world, struct slot *slot, const void *raw)
{
    if (raw == NULL)
        return VV_WASM_NONE;
    read_directory(world, slot);
    for (uint32_t i = 0; i < slot->plan.ref_count; i++) {
        if (slot->identities[i].raw == raw)
            return slot->identities[i].function;
    }
    freeze(world, "a reference to a function of another module");
    return VV_WASM_NONE;
}

static void capture_state(struct world *world, struct slot *slot, struct vv_bytes *out)
{
    struct vv_instance_state state;

    if (vv_instance_state_new(&slot->plan, &state) != VARVE_OK)
        give_up("capture");
    for (uint32_t i = 0; i < state.global_count; i++) {
        const wasmtime_extern_t item = reserved(world, slot, slot->plan.globals[i].name);
        struct vv_wasm_value *const value = &state.globals[i].value;
        if (vv_wasm_is_number(value->type)) {
            wasmtime_val_t got;
            wasmtime_global_get(world->context, &item.of.global, &got);
            memcpy(value->bits, &got.of, number_size(value->type));
        } else {
            const struct hand hand = global_hand(world, slot, i);
            wasmtime_val_raw_t raw;
            use_hand(world, &hand.get, &raw, 1);
            value->function = function_of(world, slot, raw.funcref);
        }
    }
    for (uint32_t i = 0; i < state.table_count; i++) {
        const wasmtime_extern_t item = reserved(world, slot, slot->plan.tables[i].name);
        const struct hand hand = table_hand(world, slot, i);
        const uint64_t length = wasmtime_table_size(world->context, &item.of.table);
        if (vv_instance_state_resize(&state.tables[i], (uint32_t)length) != VARVE_OK)
            give_up("capture");
        for (uint32_t k = 0; k < length; k++)
            state.tables[i].entries[k] = function_of(world, slot, table_get(world, &hand, k));
    }
    for (uint32_t i = 0; i < state.segment_count; i++)
        state.segments[i].dropped = call_reserved(world, slot, slot->plan.segments[i].probe) != MADE;
    vv_bytes_clear(out);
    if (vv_instance_state_encode(&state, out) != VARVE_OK)
        give_up("encode");
    vv_instance_state_release(&state);
}

static void keep_page(struct saved *saved, uint64_t index, const uint8_t *page)
{
    saved->page_indices = grown(saved->page_indices, saved->page_count + 1, sizeof *saved->page_indices);
    saved->pages = grown(saved->pages, saved->page_count + 1, PAGE);
    saved->page_indices[saved->page_count] = index;
    memcpy(saved->pages + saved->page_count++ * PAGE, page, PAGE);
}

/* Only pages that the kernel has: a memory may be vast and empty. */
static void capture_memory(struct world *world, struct slot *slot, struct saved *saved)
{
    enum { AT_ONCE = 512 };
    static const uint8_t zeros[PAGE];
    const wasmtime_extern_t item = reserved(world, slot, VV_EXPORT_MEMORY);
    const uint8_t *const data = wasmtime_memory_data(world->context, &item.of.memory);
    const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t entries[AT_ONCE];

    saved->memory_size = wasmtime_memory_data_size(world->context, &item.of.memory);
    saved->page_count = 0;
    const uint64_t count = (saved->memory_size + PAGE - 1) / PAGE;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t left = count - i < AT_ONCE ? count - i : AT_ONCE;
        const uint8_t *const page = data + i * PAGE;
        const size_t size = (i + 1) * PAGE <= saved->memory_size ? PAGE : saved->memory_size % PAGE;
        if (i % AT_ONCE == 0 &&
            pread(pagemap, entries, left * sizeof entries[0],
                  (off_t)((uintptr_t)page / PAGE * sizeof entries[0])) != (ssize_t)(left * sizeof entries[0]))
            give_up("/proc/self/pagemap cannot be read");
        if (entries[i % AT_ONCE] >> 62 == 0 || memcmp(page, zeros, size) == 0)
            continue;
        keep_page(saved, i, page); /* what is mapped behind the end of a small page is zeros */
    }
    (void)close(pagemap);
}

static void capture(struct world *world, struct slot *slot, struct saved *saved)
{
    capture_state(world, slot, &saved->state);
    if (slot->plan.has_memory)
        capture_memory(world, slot, saved);
}

/* ---- restore ---- */

static wasmtime_val_raw_t reference(struct world *world, struct slot *slot, uint32_t function)
{
    wasmtime_val_raw_t raw = { .funcref = NULL };

    if (function == VV_WASM_NONE)
        return raw;
    read_directory(world, slot);
    for (uint32_t i = 0; i < slot->plan.ref_count; i++) {
        if (slot->identities[i].function == function)
            raw.funcref = slot->identities[i].raw;
    }
    return raw;
}

static void must(struct world *world, wasmtime_error_t *error, const char *what)
{
    if (error == NULL)
        return;
    take_error(world, error);
    (void)fprintf(stderr, "spec: %s: %s\n", what, world->words);
    exit(2);
}

static void restore_globals(struct world *world, struct slot *slot, const struct vv_instance_state *state)
{
    static const wasmtime_valkind_t kinds[] = { [VARVE_I32] = WASMTIME_I32,
                                                [VARVE_I64] = WASMTIME_I64,
                                                [VARVE_F32] = WASMTIME_F32,
                                                [VARVE_F64] = WASMTIME_F64,
                                                [VARVE_V128] = WASMTIME_V128 };

    for (uint32_t i = 0; i < state->global_count; i++) {
        const wasmtime_extern_t item = reserved(world, slot, slot->plan.globals[i].name);
        const struct vv_wasm_value *const saved = &state->globals[i].value;
        if (vv_wasm_is_number(saved->type)) {
            wasmtime_val_t value = { .kind = kinds[saved->type] };
            memcpy(&value.of, saved->bits, 16);
            must(world, wasmtime_global_set(world->context, &item.of.global, &value), "set a global");
        } else {
            const struct hand hand = global_hand(world, slot, i);
            wasmtime_val_raw_t raw = reference(world, slot, saved->function);
            use_hand(world, &hand.set, &raw, 1);
        }
    }
}

static void restore_tables(struct world *world, struct slot *slot, const struct vv_instance_state *state)
{
    for (uint32_t i = 0; i < state->table_count; i++) {
        const wasmtime_extern_t item = reserved(world, slot, slot->plan.tables[i].name);
        const struct hand hand = table_hand(world, slot, i);
        const struct vv_state_table *const table = &state->tables[i];
        const uint64_t length = wasmtime_table_size(world->context, &item.of.table);
        if (table->length > length) {
            wasmtime_val_raw_t slots[2] = { { .i64 = (int64_t)(table->length - length) },
                                            reference(world, slot, table->entries[length]) };
            use_hand(world, &hand.grow, slots, 2);
        }
        for (uint32_t k = 0; k < table->length; k++) {
            wasmtime_val_raw_t slots[2] = { { .i64 = k }, reference(world, slot, table->entries[k]) };
            use_hand(world, &hand.set, slots, 2);
        }
    }
}

static void restore_memory(struct world *world, struct slot *slot)
{
    const wasmtime_extern_t item = reserved(world, slot, VV_EXPORT_MEMORY);
    const struct saved *const saved = &slot->saved;
    const uint64_t size = wasmtime_memory_data_size(world->context, &item.of.memory);
    uint64_t before;

    if (size < saved->memory_size)
        must(world,
             wasmtime_memory_grow(world->context, &item.of.memory,
                                  (saved->memory_size - size) /
                                      wasmtime_memory_page_size(world->context, &item.of.memory),
                                  &before),
             "grow a memory");
    uint8_t *const data = wasmtime_memory_data(world->context, &item.of.memory);
    for (size_t i = 0; i < saved->page_count && (world->forget & FORGET_MEMORY) == 0; i++)
        memcpy(data + saved->page_indices[i] * PAGE, saved->pages + i * PAGE, PAGE);
}

static void restore(struct world *world, struct slot *slot)
{
    struct vv_instance_state state;

    if (vv_instance_state_decode(slot->saved.state.data, slot->saved.state.size, UINT32_MAX, &state) !=
            VARVE_OK ||
        vv_instance_state_check(&state, &slot->plan) != VARVE_OK)
        give_up("the state that was just saved");
    if (slot->plan.has_memory)
        restore_memory(world, slot);
    if ((world->forget & FORGET_GLOBALS) == 0)
        restore_globals(world, slot, &state);
    if ((world->forget & FORGET_TABLES) == 0)
        restore_tables(world, slot, &state);
    for (uint32_t i = 0; i < state.segment_count && (world->forget & FORGET_SEGMENTS) == 0; i++) {
        if (state.segments[i].dropped && call_reserved(world, slot, slot->plan.segments[i].drop) != MADE)
            give_up("drop a segment");
    }
    vv_instance_state_release(&state);
}

static bool saved_equal(const struct saved *a, const struct saved *b)
{
    return a->state.size == b->state.size && memcmp(a->state.data, b->state.data, a->state.size) == 0 &&
           a->memory_size == b->memory_size && a->page_count == b->page_count &&
           (a->page_count == 0 ||
            (memcmp(a->page_indices, b->page_indices, a->page_count * sizeof *a->page_indices) == 0 &&
             memcmp(a->pages, b->pages, a->page_count * PAGE) == 0));
}

/* What was restored must give the very same bytes when it is captured again. */
static void check_restored(struct world *world, struct slot *slot)
{
    struct saved again = { .state = VV_BYTES_NONE };

    capture(world, slot, &again);
    if (!saved_equal(&again, &slot->saved))
        world->restore_differs = true;
    vv_bytes_release(&again.state);
    free(again.page_indices);
    free(again.pages);
    world->restored++;
}

/* ---- between two commands ---- */

/* An instance lives while the script can name it or a living one imports from it; those come earlier. */
static void drop_dead(struct world *world, struct slot *const *live, size_t live_count)
{
    size_t kept = 0;

    for (size_t i = 0; i < world->slot_count; i++)
        world->slots[i]->live = i == 0;
    for (size_t i = 0; i < live_count; i++)
        live[i]->live = true;
    for (size_t i = 0; i < world->registered_count; i++) {
        if (world->registry[i].slot != NULL)
            world->registry[i].slot->live = true;
    }
    for (size_t i = world->slot_count; i > 0; i--) {
        const struct slot *const slot = world->slots[i - 1];
        for (uint32_t k = 0; slot->live && k < slot->plan.import_count; k++)
            slot->links[k].from->live = true;
    }
    for (size_t i = 0; i < world->slot_count; i++) {
        if (world->slots[i]->live)
            world->slots[kept++] = world->slots[i];
        else
            free_slot(world->slots[i]);
    }
    world->slot_count = kept;
}

void world_between(struct world *world, struct slot *const *live, size_t live_count)
{
    if (world->kind == WORLD_COMMITTED) {
        product_reopen(world->product);
        world->teardowns++;
    }
    if (world->kind != WORLD_RESUMED || world->frozen != NULL)
        return;
    drop_dead(world, live, live_count);
    for (size_t i = 0; i < world->slot_count; i++)
        capture(world, world->slots[i], &world->slots[i]->saved);
    if (world->frozen != NULL)
        return;
    wasmtime_store_delete(world->store);
    open_store(world);
    for (size_t i = 0; i < world->slot_count; i++) {
        if (instantiate_rewritten(world, world->slots[i]) != MADE) {
            (void)fprintf(stderr, "spec: an instance cannot be made again: %s\n", world->words);
            exit(2);
        }
        restore(world, world->slots[i]);
        if (world->forget == 0)
            check_restored(world, world->slots[i]);
    }
    world->teardowns++;
}

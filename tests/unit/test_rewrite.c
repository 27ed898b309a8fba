/* Rewriting: the laws (R1) to (R4), and a plan that says all that a host must do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "guest.h"
#include "vm/rewrite.h"

/* What state.wat imports: base is 100, step starts at -5. */
static const struct vv_import_value given[] = {
    { "env", "base", { .type = VARVE_I32, .function = VV_WASM_NONE, .bits = { 100 } } },
    { "env",
      "step",
      { .type = VARVE_I64,
        .function = VV_WASM_NONE,
        .bits = { 0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } } },
};
static const struct vv_rewrite_options with_values = { .values = given, .value_count = 2 };

struct fixture {
    struct guest guest;
    struct vv_wasm before, after; /* `after`: the rewritten module, read again */
    struct vv_plan plan;
};

static struct vv_wasm read_well(const void *bytes, size_t size)
{
    const struct vv_wasm_limits limits = vv_wasm_limits_of(NULL);
    struct vv_wasm module;

    if (vv_wasm_read(bytes, size, &limits, &module) != VARVE_OK)
        fail_msg("%s", vv_words());
    return module;
}

static void open_with(struct fixture *f, const char *name, const struct vv_rewrite_options *options)
{
    f->guest = guest_load(name);
    f->before = read_well(f->guest.bytes, f->guest.size);
    if (vv_rewrite(&f->before, options, &f->plan) != VARVE_OK)
        fail_msg("%s", vv_words());
    f->after = read_well(f->plan.code.data, f->plan.code.size);
}

static void close_fixture(struct fixture *f)
{
    vv_wasm_release(&f->after);
    vv_plan_release(&f->plan);
    vv_wasm_release(&f->before);
    guest_free(&f->guest);
}

/* The words of the refusal. Lent until the next failure. */
static const char *refusal_of(const char *name, const struct vv_rewrite_options *options)
{
    struct guest guest = guest_load(name);
    struct vv_wasm module = read_well(guest.bytes, guest.size);
    struct vv_plan plan;

    assert_int_equal(vv_rewrite(&module, options, &plan), VARVE_REFUSED);
    assert_null(plan.code.data);
    vv_wasm_release(&module);
    guest_free(&guest);
    return vv_words();
}

static void assert_words(const char *words, const char *wanted)
{
    if (strstr(words, wanted) == NULL)
        fail_msg("\"%s\" is not in: %s", wanted, words);
}

static void assert_same_bytes(const struct fixture *f, struct vv_span before, struct vv_span after)
{
    assert_int_equal(before.size, after.size);
    assert_memory_equal(f->before.bytes + before.offset, f->after.bytes + after.offset, before.size);
}

static uint32_t exported(const struct vv_wasm *module, const char *name, enum vv_wasm_kind kind)
{
    const struct vv_wasm_export *const export = vv_wasm_find_export(module, name, strlen(name));

    if (export == NULL)
        fail_msg("%s is not exported", name);
    assert_int_equal(export->kind, kind);
    return export->index;
}

/* (R1) and (R2): every index names what it named; bodies and custom sections are the same bytes. */
static void nothing_shifts_and_code_stays(void **state)
{
    static const char *const names[] = { "state", "plain", "contract", "instructions" };

    (void)state;
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        struct fixture f;
        open_with(&f, names[n], &with_values);
        assert_int_equal(f.after.function_count, f.before.function_count + f.plan.functions_appended);
        for (uint32_t i = 0; i < f.before.function_count; i++) {
            assert_int_equal(f.after.functions[i].type, f.before.functions[i].type);
            assert_same_bytes(&f, f.before.functions[i].body, f.after.functions[i].body);
        }
        assert_int_equal(f.after.table_count, f.before.table_count + (f.plan.has_refs ? 1 : 0));
        for (uint32_t i = 0; i < f.before.table_count; i++) {
            assert_int_equal(f.after.tables[i].type, f.before.tables[i].type);
            assert_int_equal(f.after.tables[i].range.min, f.before.tables[i].range.min);
            assert_int_equal(f.after.tables[i].range.max, f.before.tables[i].range.max);
            assert_int_equal(f.after.tables[i].import, VV_WASM_NONE);
        }
        assert_int_equal(f.after.global_count, f.before.global_count);
        for (uint32_t i = 0; i < f.before.global_count; i++) {
            assert_int_equal(f.after.globals[i].type, f.before.globals[i].type);
            assert_int_equal(f.after.globals[i].is_mutable, f.before.globals[i].is_mutable);
            assert_int_equal(f.after.globals[i].import, VV_WASM_NONE);
        }
        assert_int_equal(f.after.memory_count, f.before.memory_count);
        assert_int_equal(f.after.import_count, f.before.imported_functions);
        for (uint32_t i = 0; i < f.before.export_count; i++) {
            assert_int_equal(f.after.exports[i].index, f.before.exports[i].index);
            assert_int_equal(f.after.exports[i].kind, f.before.exports[i].kind);
        }
        const struct vv_wasm_section *const custom = &f.before.sections[f.before.section_count - 1];
        assert_int_equal(custom->id, VV_WASM_CUSTOM_SECTION);
        assert_same_bytes(&f, custom->whole, f.after.sections[f.after.section_count - 1].whole);
        close_fixture(&f);
    }
}

/* (R3): no start function, no active data. */
static void instantiation_does_nothing(void **state)
{
    static const char *const names[] = { "state", "plain", "contract", "instructions" };

    (void)state;
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        struct fixture f;
        open_with(&f, names[n], &with_values);
        assert_int_equal(f.after.start, VV_WASM_NONE);
        for (uint32_t i = 0; i < f.after.data_count; i++)
            assert_int_equal(f.after.datas[i].mode, VV_WASM_PASSIVE);
        assert_int_equal(f.plan.has_start, f.before.start != VV_WASM_NONE);
        if (f.plan.has_start)
            assert_int_equal(exported(&f.after, VV_EXPORT_START, VV_WASM_FUNCTION), f.before.start);
        close_fixture(&f);
    }
}

/* (R4), and that what the plan names is there. */
static void the_plan_names_all_state(void **state)
{
    struct fixture f;

    (void)state;
    open_with(&f, "state", &with_values);
    const struct vv_plan *const plan = &f.plan;

    for (uint32_t i = f.before.export_count; i < f.after.export_count; i++)
        assert_true(vv_export_is_reserved(f.after.exports[i].name.data, f.after.exports[i].name.size));
    assert_true(plan->has_memory);
    assert_int_equal(plan->memory.min, 2);
    assert_int_equal(plan->memory.max, 9);
    assert_int_equal(exported(&f.after, VV_EXPORT_MEMORY, VV_WASM_MEMORY), 0);

    static const uint32_t globals[] = { 1, 3, 4, 5, 7 };
    assert_int_equal(plan->global_count, 5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(plan->globals[i].index, globals[i]);
        assert_int_equal(plan->globals[i].type, f.before.globals[globals[i]].type);
        assert_int_equal(exported(&f.after, plan->globals[i].name, VV_WASM_GLOBAL), globals[i]);
    }
    assert_true(vv_get_u64(plan->globals[0].initial.bits) == (uint64_t)-5);
    assert_true(vv_get_u64(plan->globals[1].initial.bits) == UINT64_C(0x3fe0000000000000));
    assert_int_equal(vv_get_u32(plan->globals[2].initial.bits), 1100);
    assert_int_equal(plan->globals[3].initial.function, 1);

    assert_int_equal(plan->table_count, 1);
    assert_int_equal(plan->tables[0].index, 1);
    assert_int_equal(plan->tables[0].range.max, 10);
    assert_int_equal(exported(&f.after, plan->tables[0].name, VV_WASM_TABLE), 1);

    static const uint32_t refs[] = { 0, 1, 2, 4 };
    assert_true(plan->has_refs);
    assert_int_equal(plan->ref_count, 4);
    assert_memory_equal(plan->refs, refs, sizeof refs);
    const uint32_t directory = exported(&f.after, VV_EXPORT_REFS, VV_WASM_TABLE);
    const struct vv_wasm_element *const last = &f.after.elements[f.after.element_count - 1];
    assert_int_equal(f.after.tables[directory].range.min, 4);
    assert_int_equal(last->table, directory);
    assert_int_equal(last->count, 4);
    assert_memory_equal(f.after.bytes + last->entries.offset, "\0\1\2\4", 4);

    assert_int_equal(plan->segment_count, 2);
    assert_false(plan->segments[0].is_element);
    assert_int_equal(plan->segments[0].index, 1);
    assert_true(plan->segments[1].is_element);
    assert_int_equal(plan->segments[1].index, 1);
    close_fixture(&f);
}

/* A probe is an init of nothing at the segment's end; a dropper drops. Both are () -> (). */
static void probes_and_droppers_are_these_instructions(void **state)
{
    static const struct {
        const char *code;
        size_t size;
    } wanted[] = {
        { "\0\x41\0\x41\x0b\x41\0\xfc\x08\1\0\x0b", 12 },
        { "\0\xfc\x09\1\x0b", 5 },
        { "\0\x41\0\x41\3\x41\0\xfc\x0c\1\1\x0b", 12 },
        { "\0\xfc\x0d\1\x0b", 5 },
    };
    struct fixture f;

    (void)state;
    open_with(&f, "state", &with_values);
    for (uint32_t i = 0; i < 4; i++) {
        const struct vv_plan_segment *const segment = &f.plan.segments[i / 2];
        const uint32_t function =
            exported(&f.after, i % 2 == 0 ? segment->probe : segment->drop, VV_WASM_FUNCTION);
        const struct vv_signature signature = vv_wasm_signature(&f.after, function);
        assert_int_equal(signature.param_count + signature.result_count, 0);
        assert_int_equal(f.after.functions[function].body.size, wanted[i].size);
        assert_memory_equal(f.after.bytes + f.after.functions[function].body.offset, wanted[i].code,
                            wanted[i].size);
    }
    close_fixture(&f);
}

/* Offsets come from constants, imports and arithmetic; the order is the module's. */
static void active_data_is_the_hosts_to_write(void **state)
{
    struct fixture f;

    (void)state;
    open_with(&f, "state", &with_values);
    assert_int_equal(f.plan.write_count, 2);
    assert_int_equal(f.plan.writes[0].offset, 100);
    assert_memory_equal(f.guest.bytes + f.plan.writes[0].bytes.offset, "first", 5);
    assert_int_equal(f.plan.writes[1].offset, 70000 - 200);
    assert_memory_equal(f.guest.bytes + f.plan.writes[1].bytes.offset, "second", 6);
    /* Segments keep their indices; the active ones are empty now, the others whole. */
    static const size_t sizes[] = { 0, 11, 0, 7 };
    assert_int_equal(f.after.data_count, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(f.after.datas[i].bytes.size, sizes[i]);
    close_fixture(&f);

    open_with(&f, "plain", NULL); /* no instruction names a segment: none is left */
    assert_int_equal(f.plan.write_count, 2);
    assert_int_equal(f.plan.writes[1].offset, 2048);
    assert_int_equal(f.after.data_count, 0);
    assert_false(f.after.has_data_count);
    assert_int_equal(f.plan.functions_appended, 0);
    close_fixture(&f);
}

static void values_of_imports_are_written_in(void **state)
{
    struct fixture f;

    (void)state;
    open_with(&f, "state", &with_values);
    assert_memory_equal(f.after.bytes + f.after.globals[0].init.offset, "\x41\xe4\0\x0b", 4);
    assert_memory_equal(f.after.bytes + f.after.globals[1].init.offset, "\x42\x7b\x0b", 3);
    assert_memory_equal(f.after.bytes + f.after.globals[2].init.offset, "\xd0\x6f\x0b", 3);
    assert_memory_equal(f.after.bytes + f.after.globals[6].init.offset, "\x41\xe4\0\x0b", 4);
    assert_memory_equal(f.after.bytes + f.after.elements[0].offset.offset, "\x41\xe4\0\x0b", 4);
    close_fixture(&f);

    assert_words(refusal_of("state", NULL), "import env.base: a global (i32) that has no value");
    assert_words(vv_words(), "import env.step: a global (i64) that has no value");
    open_with(&f, "state", &(struct vv_rewrite_options){ .missing_is_zero = true });
    assert_int_equal(f.plan.writes[1].offset, 70000);
    close_fixture(&f);
    struct vv_import_value wrong[2] = { given[0], given[1] };
    wrong[0].value.type = VARVE_F32;
    assert_words(refusal_of("state", &(struct vv_rewrite_options){ .values = wrong, .value_count = 2 }),
                 "import env.base: the value given is not the global's type, i32");
}

static void imports_and_exports_are_told(void **state)
{
    struct fixture f;
    char text[32];

    (void)state;
    open_with(&f, "state", &with_values);
    /* The plan must do without module and bytes. */
    vv_wasm_release(&f.before);
    memset(f.guest.bytes, 0xee, f.guest.size);
    assert_int_equal(f.plan.import_count, 2);
    assert_string_equal(f.plan.imports[0].module.data, "env");
    assert_string_equal(f.plan.imports[1].name.data, "twice");
    assert_string_equal(vv_signature_format(&f.plan.imports[0].signature, text, sizeof text), "i32 i64 f64");

    assert_int_equal(f.plan.export_count, 5);
    const struct vv_plan_export *const call = vv_plan_find_export(&f.plan, "call", 4);
    assert_non_null(call);
    assert_int_equal(call->index, 5);
    assert_string_equal(vv_signature_format(&call->signature, text, sizeof text), "i32 -> i32");
    static const char *const names[] = { "change", "call", "memory", "top", "again" };
    for (size_t i = 0; i < 5; i++)
        assert_ptr_equal(vv_plan_find_export(&f.plan, names[i], strlen(names[i])), &f.plan.exports[i]);
    assert_null(vv_plan_find_export(&f.plan, "cal", 3));
    assert_null(vv_plan_find_export(&f.plan, "calls", 5));
    assert_null(vv_plan_find_export(&f.plan, VV_EXPORT_MEMORY, strlen(VV_EXPORT_MEMORY)));
    assert_false(f.plan.is_contract);
    close_fixture(&f);

    open_with(&f, "contract", NULL);
    assert_true(f.plan.is_contract);
    assert_int_equal(f.plan.argument_buffer, 65536);
    close_fixture(&f);
}

static void what_cannot_be_resumed_is_refused_with_its_place(void **state)
{
    (void)state;
    assert_words(refusal_of("atomics", NULL),
                 "function 0 (bump), offset 0x2c: an atomic instruction is not supported");
    assert_words(vv_words(), "(threads)");
    assert_words(refusal_of("shared", NULL), "2 memories: one is supported");
    assert_words(vv_words(), "memory 0 is shared");
    assert_words(refusal_of("exceptions", NULL), "try is not supported (legacy exceptions)");
    assert_words(refusal_of("reserved", NULL), "export varve:m: names that begin with varve: are reserved");
    assert_words(vv_words(), "export varve::");
}

/* A rewritten module is one that exports reserved names. */
/* The engine without its collector accepts subtypes of functions, and aborts the process when one is called. */
static void subtypes_and_groups_of_types_are_refused(void **state)
{
    static const uint8_t subtype[] = "\0asm\1\0\0\0\1\6\1\x50\0\x60\0\0";
    static const uint8_t group[] = "\0asm\1\0\0\0\1\6\1\x4e\1\x60\0\0";
    static const struct {
        const uint8_t *bytes;
        const char *words;
    } cases[] = { { subtype, "offset 0xb: a subtype is not supported (garbage collection)" },
                  { group, "offset 0xb: a group of types is not supported (garbage collection)" } };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vv_wasm module = read_well(cases[i].bytes, sizeof subtype - 1);
        struct vv_plan plan;
        assert_int_equal(vv_rewrite(&module, NULL, &plan), VARVE_REFUSED);
        assert_words(vv_words(), cases[i].words);
        const struct vv_rewrite_options all = { .features = ~0u };
        assert_int_equal(vv_rewrite(&module, &all, &plan), VARVE_OK);
        vv_plan_release(&plan);
        vv_wasm_release(&module);
    }
}

/* The accessors of state know one type of reference: any function, or null. */
static void typed_references_as_state_are_refused(void **state)
{
    /* (type (func)) (global (mut (ref null 0)) (ref.null 0)) */
    static const uint8_t global[] = "\0asm\1\0\0\0\1\4\1\x60\0\0\6\7\1\x63\0\1\xd0\0\x0b";
    /* (type (func)) (func (table.set 0 (i32.const 0) (ref.null 0))) (table 1 (ref null 0)) */
    static const uint8_t table[] = "\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0\4\5\1\x63\0\0\1"
                                   "\x0a\x0a\1\x08\0\x41\0\xd0\0\x26\0\x0b";
    static const struct {
        const uint8_t *bytes;
        size_t size;
        const char *words;
    } cases[] = {
        { global, sizeof global - 1, "global 0 is mutable and holds typed references: that cannot be saved" },
        { table, sizeof table - 1, "table.set changes table 0, which holds typed references" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vv_wasm module = read_well(cases[i].bytes, cases[i].size);
        struct vv_plan plan;
        assert_int_equal(vv_rewrite(&module, NULL, &plan), VARVE_REFUSED);
        assert_words(vv_words(), cases[i].words);
        vv_wasm_release(&module);
    }
}

static void a_rewritten_module_is_not_rewritten_again(void **state)
{
    struct fixture f;
    struct vv_plan again;

    (void)state;
    open_with(&f, "plain", NULL);
    assert_int_equal(vv_rewrite(&f.after, NULL, &again), VARVE_REFUSED);
    assert_words(vv_words(), "are reserved");
    close_fixture(&f);
}

static void refusals_are_listed_one_by_one(void **state)
{
    struct guest guest = guest_load("exceptions");
    struct vv_wasm module = read_well(guest.bytes, guest.size);
    struct vv_refusals refusals;

    (void)state;
    assert_int_equal(vv_rewrite_refusals(&module, NULL, &refusals), VARVE_OK);
    assert_int_equal(refusals.count, 2);
    assert_int_equal(refusals.list[0].function, 0);
    assert_true(refusals.list[0].offset > refusals.list[1].offset); /* throw lies in try */
    vv_refusals_release(&refusals);
    vv_wasm_release(&module);
    guest_free(&guest);

    guest = guest_load("state");
    module = read_well(guest.bytes, guest.size);
    assert_int_equal(vv_rewrite_refusals(&module, &with_values, &refusals), VARVE_OK);
    assert_int_equal(refusals.count, 0);
    vv_refusals_release(&refusals);
    vv_wasm_release(&module);
    guest_free(&guest);
}

static void the_same_bytes_come_out_each_time(void **state)
{
    struct fixture a, b;

    (void)state;
    open_with(&a, "state", &with_values);
    open_with(&b, "state", &with_values);
    assert_int_equal(a.plan.code.size, b.plan.code.size);
    assert_memory_equal(a.plan.code.data, b.plan.code.data, a.plan.code.size);
    close_fixture(&a);
    close_fixture(&b);
}

/* Fail the 1st, 2nd, 3rd... allocation until none is left to fail. */
static void running_out_of_memory_leaves_nothing(void **state)
{
    struct guest guest = guest_load("state");
    struct vv_wasm module = read_well(guest.bytes, guest.size);
    struct vv_plan plan;
    unsigned nth = 1;

    (void)state;
    for (;; nth++) {
        vv_alloc_fail_at(nth);
        const varve_status rc = vv_rewrite(&module, &with_values, &plan);
        if (!vv_alloc_disarm()) {
            assert_int_equal(rc, VARVE_OK);
            break;
        }
        assert_int_equal(rc, VARVE_MEMORY);
        assert_null(plan.globals);
    }
    assert_true(nth > 20);
    vv_plan_release(&plan);
    vv_wasm_release(&module);
    guest_free(&guest);
}

/* Every bit of a module changed: what still reads is rewritten to what reads, or refused. */
static void no_changed_byte_does_harm(void **state)
{
    const struct vv_wasm_limits limits = vv_wasm_limits_of(NULL);
    struct guest guest = guest_load("state");

    (void)state;
    for (size_t bit = 0; bit < guest.size * 8; bit++) {
        struct vv_wasm module, after;
        struct vv_plan plan;
        guest.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (vv_wasm_read(guest.bytes, guest.size, &limits, &module) == VARVE_OK) {
            const varve_status rc = vv_rewrite(&module, &with_values, &plan);
            if (rc == VARVE_OK) {
                after = read_well(plan.code.data, plan.code.size);
                vv_wasm_release(&after);
                vv_plan_release(&plan);
            } else {
                assert_true(rc == VARVE_INVALID || rc == VARVE_REFUSED);
            }
            vv_wasm_release(&module);
        }
        guest.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    guest_free(&guest);
}

/* SQLite, QuickJS and Lua, where the set-up has fetched them: all within the default limits, and code
 * untouched. */
static void real_programs_are_rewritten(void **state)
{
    static const char *const names[] = { "sqlite3", "quickjs", "lua" };
    const char *const folder = getenv("VARVE_TEST_MODULES");

    (void)state;
    if (folder == NULL)
        skip();
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        struct guest guest = guest_load_from(folder, names[n]);
        struct vv_wasm before = read_well(guest.bytes, guest.size);
        struct vv_plan plan;
        if (vv_rewrite(&before, NULL, &plan) != VARVE_OK)
            fail_msg("%s: %s", names[n], vv_words());
        struct vv_wasm after = read_well(plan.code.data, plan.code.size);
        const struct vv_span a = vv_wasm_find_section(&before, VV_WASM_CODE_SECTION)->whole;
        const struct vv_span b = vv_wasm_find_section(&after, VV_WASM_CODE_SECTION)->whole;
        assert_int_equal(a.size, b.size);
        assert_memory_equal(before.bytes + a.offset, after.bytes + b.offset, a.size);
        assert_true(plan.has_memory && plan.global_count > 0 && plan.write_count > 0);
        assert_int_equal(plan.functions_appended, 0);
        vv_wasm_release(&after);
        vv_plan_release(&plan);
        vv_wasm_release(&before);
        guest_free(&guest);
    }
}

/* Another reader than ours, where it is installed. */
static void wabt_finds_the_output_valid(void **state)
{
    static const char *const names[] = { "state", "plain", "contract", "instructions" };

    (void)state;
    if (system("wasm-validate --version >wabt.version 2>&1") != 0)
        skip();
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        struct fixture f;
        open_with(&f, names[n], &with_values);
        FILE *const file = fopen("rewritten.wasm", "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(f.plan.code.data, 1, f.plan.code.size, file), f.plan.code.size);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(system("wasm-validate --enable-tail-call --enable-extended-const rewritten.wasm"),
                         0);
        close_fixture(&f);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_shifts_and_code_stays),
        cmocka_unit_test(instantiation_does_nothing),
        cmocka_unit_test(the_plan_names_all_state),
        cmocka_unit_test(probes_and_droppers_are_these_instructions),
        cmocka_unit_test(active_data_is_the_hosts_to_write),
        cmocka_unit_test(values_of_imports_are_written_in),
        cmocka_unit_test(imports_and_exports_are_told),
        cmocka_unit_test(what_cannot_be_resumed_is_refused_with_its_place),
        cmocka_unit_test(subtypes_and_groups_of_types_are_refused),
        cmocka_unit_test(typed_references_as_state_are_refused),
        cmocka_unit_test(a_rewritten_module_is_not_rewritten_again),
        cmocka_unit_test(refusals_are_listed_one_by_one),
        cmocka_unit_test(the_same_bytes_come_out_each_time),
        cmocka_unit_test(running_out_of_memory_leaves_nothing),
        cmocka_unit_test(no_changed_byte_does_harm),
        cmocka_unit_test(real_programs_are_rewritten),
        cmocka_unit_test(wabt_finds_the_output_valid),
    };

    guest_folder(argc > 1 ? argv[1] : ".");
    return cmocka_run_group_tests(tests, NULL, NULL);
}

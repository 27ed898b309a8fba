/* Reading modules: what is in them is found, and nothing that is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "guest.h"
#include "vm/wasm/constant.h"

static varve_status read_with(const struct guest *guest, const varve_limits *limits, struct vv_wasm *module)
{
    const struct vv_wasm_limits all = vv_wasm_limits_of(limits);

    return vv_wasm_read(guest->bytes, guest->size, &all, module);
}

static struct vv_wasm read_well(const struct guest *guest)
{
    struct vv_wasm module;
    const varve_status rc = read_with(guest, NULL, &module);

    if (rc != VARVE_OK)
        fail_msg("%s", vv_words());
    return module;
}

static void assert_text(struct vv_text text, const char *wanted)
{
    assert_int_equal(text.size, strlen(wanted));
    assert_memory_equal(text.data, wanted, text.size);
}

/* ---- modules put together here: LEB128 by vv_bytes_varint, which is the same ---- */

static void start_module(struct vv_bytes *bytes)
{
    vv_bytes_put(bytes, "\0asm\1\0\0\0", 8);
}

static void put_section(struct vv_bytes *module, uint8_t id, struct vv_bytes *body)
{
    vv_bytes_u8(module, id);
    vv_bytes_blob(module, body->data, body->size);
    vv_bytes_release(body);
}

/* A section of `count` entries, each the same `size` bytes. */
static void put_repeated(struct vv_bytes *module, uint8_t id, uint32_t count, const void *entry, size_t size)
{
    struct vv_bytes body = VV_BYTES_NONE;

    vv_bytes_varint(&body, count);
    for (uint32_t i = 0; i < count; i++)
        vv_bytes_put(&body, entry, size);
    put_section(module, id, &body);
}

/* One function () -> () with this body: locals and instructions, its end included. */
static struct guest function_guest(const void *body, size_t size)
{
    struct vv_bytes module = VV_BYTES_NONE, code = VV_BYTES_NONE;

    start_module(&module);
    put_repeated(&module, 1, 1, "\x60\0\0", 3);
    put_repeated(&module, 3, 1, "\0", 1);
    vv_bytes_varint(&code, 1);
    vv_bytes_blob(&code, body, size);
    put_section(&module, 10, &code);
    assert_int_equal(vv_bytes_done(&module), VARVE_OK);
    struct guest guest = guest_copy(module.data, module.size);
    vv_bytes_release(&module);
    return guest;
}

static struct guest sections_guest(uint8_t id, const void *body, size_t size)
{
    struct vv_bytes module = VV_BYTES_NONE;

    start_module(&module);
    vv_bytes_u8(&module, id);
    vv_bytes_blob(&module, body, size);
    struct guest guest = guest_copy(module.data, module.size);
    vv_bytes_release(&module);
    return guest;
}

/* The module is answered with `status`, and with words that hold `words`. */
static void expect(struct guest guest, const varve_limits *limits, varve_status status, const char *words)
{
    struct vv_wasm module;
    const varve_status rc = read_with(&guest, limits, &module);

    if (rc != status || (rc != VARVE_OK && strstr(vv_words(), words) == NULL))
        fail_msg("wanted status %d with \"%s\", got %d: %s", status, words, rc,
                 rc == VARVE_OK ? "" : vv_words());
    if (rc == VARVE_OK)
        vv_wasm_release(&module);
    guest_free(&guest);
}

/* ---- tests ---- */

static void everything_in_a_module_is_found(void **state)
{
    struct guest guest = guest_load("state");
    struct vv_wasm m = read_well(&guest);

    (void)state;
    assert_int_equal(m.import_count, 7);
    assert_int_equal(m.imported_functions, 2);
    assert_int_equal(m.function_count, 6);
    assert_int_equal(m.table_count, 3);
    assert_int_equal(m.memory_count, 1);
    assert_int_equal(m.global_count, 8);
    assert_int_equal(m.export_count, 5);
    assert_int_equal(m.element_count, 3);
    assert_int_equal(m.data_count, 4);
    assert_int_equal(m.start, 3);
    assert_text(m.imports[5].module, "env");
    assert_text(m.imports[5].name, "table");
    assert_int_equal(m.imports[5].kind, VV_WASM_TABLE);
    assert_int_equal(m.imports[5].index, 0);

    assert_int_equal(m.memories[0].range.min, 2);
    assert_int_equal(m.memories[0].range.max, 9);
    assert_true(m.memories[0].range.has_max);
    assert_int_equal(m.globals[1].type, VARVE_I64);
    assert_true(m.globals[1].is_mutable);
    assert_int_equal(m.globals[2].type, VV_WASM_EXTERNREF);
    assert_int_equal(m.globals[5].type, VV_WASM_FUNCREF);
    assert_int_equal(m.globals[7].type, VARVE_V128);

    /* $inner is changed, first by table.init; $outer and $fixed are not. */
    assert_null(m.tables[0].changed.instruction);
    assert_string_equal(m.tables[1].changed.instruction, "table.init");
    assert_int_equal(m.tables[1].changed.function, 4);
    assert_null(m.tables[2].changed.instruction);
    assert_true(m.calls_indirect);

    assert_int_equal(m.datas[0].mode, VV_WASM_ACTIVE);
    assert_null(m.datas[0].inited.instruction);
    assert_int_equal(m.datas[1].mode, VV_WASM_PASSIVE);
    assert_string_equal(m.datas[1].inited.instruction, "memory.init");
    assert_string_equal(m.datas[1].dropped.instruction, "data.drop");
    assert_memory_equal(m.bytes + m.datas[1].bytes.offset, "spare bytes", 11);
    assert_string_equal(m.datas[2].inited.instruction, "memory.init");
    assert_null(m.datas[2].dropped.instruction);
    assert_int_equal(m.datas_named, 2);
    assert_int_equal(m.elements_named, 1);
    assert_int_equal(m.elements[1].inited_table, 1);

    /* $begin alone cannot be referred to, nor $call, which no element names. */
    for (uint32_t i = 0; i < m.function_count; i++)
        assert_int_equal(m.functions[i].referenced, i == 0 || i == 1 || i == 2 || i == 4);
    vv_wasm_release(&m);
    guest_free(&guest);
}

static void names_and_signatures_are_told(void **state)
{
    struct guest guest = guest_load("state");
    struct vv_wasm m = read_well(&guest);
    char text[64];

    (void)state;
    const struct vv_wasm_export *const change = vv_wasm_find_export(&m, "change", 6);
    assert_non_null(change);
    assert_int_equal(change->index, 4);
    assert_null(vv_wasm_find_export(&m, "chang", 5));
    struct vv_signature signature = vv_wasm_signature(&m, 0);
    assert_true(signature.numbers);
    assert_string_equal(vv_signature_format(&signature, text, sizeof text), "i32 i64 f64");
    assert_string_equal(vv_signature_format(&signature, text, 10), "i32 i6...");
    signature = vv_wasm_signature(&m, 1);
    assert_string_equal(vv_signature_format(&signature, text, sizeof text), "i32 -> i32");
    signature = vv_wasm_signature(&m, 3);
    assert_string_equal(vv_signature_format(&signature, text, sizeof text), "");

    assert_text(vv_wasm_function_name(&m, 3), "begin");
    const struct vv_wasm_place place = { .instruction = "nop", .function = 3, .offset = 0x123 };
    assert_string_equal(vv_wasm_place_format(&m, &place, text, sizeof text),
                        "function 3 (begin), offset 0x123");
    vv_wasm_release(&m);
    guest_free(&guest);
}

static void every_kind_of_immediate_is_stepped_over(void **state)
{
    struct guest guest = guest_load("instructions");
    struct vv_wasm m = read_well(&guest);

    (void)state;
    assert_int_equal(m.deepest, 4);
    assert_string_equal(m.tables[0].changed.instruction, "table.init");
    assert_non_null(m.features[VV_WASM_SIMD].instruction);
    assert_non_null(m.features[VV_WASM_BULK_MEMORY].instruction);
    assert_non_null(m.features[VV_WASM_REFERENCES].instruction);
    assert_string_equal(m.features[VV_WASM_TAIL_CALLS].instruction, "return_call");
    assert_int_equal(m.features[VV_WASM_TAIL_CALLS].function, 0);
    assert_null(m.features[VV_WASM_THREADS].instruction);
    assert_null(m.features[VV_WASM_RELAXED_SIMD].instruction);
    vv_wasm_release(&m);
    guest_free(&guest);
}

/* Each proposal's instructions with their immediates, and the place where they were first seen. */
static void features_are_told_by_their_first_place(void **state)
{
    static const struct {
        const char *body;
        size_t size;
        enum vv_wasm_feature feature;
        const char *instruction;
    } cases[] = {
        { "\0\x1f\x40\x02\0\0\0\x03\0\x0b\x0b", 11, VV_WASM_EXCEPTIONS, "try_table" },
        { "\0\x06\x40\x19\x0b\x0b", 6, VV_WASM_LEGACY_EXCEPTIONS, "try" },
        { "\0\x06\x40\x18\0\x0b", 6, VV_WASM_LEGACY_EXCEPTIONS, "try" },
        { "\0\xfe\x10\x02\x80\x01\x0b", 7, VV_WASM_THREADS, "an atomic instruction" },
        { "\0\xfe\x03\0\x0b", 5, VV_WASM_THREADS, "atomic.fence" },
        { "\0\xfb\x18\x03\0\x6e\x6d\x0b", 8, VV_WASM_GC, "br_on_cast" },
        { "\0\xfb\x08\0\x80\x01\x0b", 7, VV_WASM_GC, "array.new_fixed" },
        { "\0\xfd\x80\x02\x0b", 5, VV_WASM_RELAXED_SIMD, "a relaxed vector instruction" },
        { "\0\x14\0\x0b", 4, VV_WASM_TYPED_REFERENCES, "call_ref" },
        { "\0\xfc\x13\x0b", 4, VV_WASM_WIDE_ARITHMETIC, "i64.add128" },
        { "\0\x28\x42\x01\x80\x01\x0b", 7, VV_WASM_MULTI_MEMORY, "a memory argument" },
        { "\0\x28\x42\x01\x80\x01\x28\x42\x01\0\x0b", 11, VV_WASM_MULTI_MEMORY, "a memory argument" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct guest guest = function_guest(cases[i].body, cases[i].size);
        struct vv_wasm m = read_well(&guest);
        for (int k = 0; k < VV_WASM_FEATURES; k++) {
            if (k == (int)cases[i].feature)
                assert_string_equal(m.features[k].instruction, cases[i].instruction);
            else
                assert_null(m.features[k].instruction);
        }
        assert_int_equal(m.features[cases[i].feature].offset, m.functions[0].body.offset + 1);
        vv_wasm_release(&m);
        guest_free(&guest);
    }
}

static void unknown_instructions_are_refused_with_their_place(void **state)
{
    uint8_t import[3 + 256 + 3] = { 1, 0x80, 2, [260] = 5 }; /* a module of 256 bytes, no name, kind 5 */

    (void)state;
    expect(function_guest("\0\x01\xff\x0b", 4), NULL, VARVE_REFUSED,
           "function 0, offset 0x18: an unknown instruction, 0xff");
    expect(function_guest("\0\xfc\x12\0\x0b", 5), NULL, VARVE_REFUSED, "an unknown instruction, 0xfc0012");
    expect(function_guest("\0\xfd\x94\x02\x0b", 5), NULL, VARVE_REFUSED, "an unknown instruction, 0xfd0114");
    expect(function_guest("\0\xfe\x04\x0b", 4), NULL, VARVE_REFUSED, "an unknown instruction, 0xfe0004");
    expect(sections_guest(2, "\x01\0\0\x05\0", 5), NULL, VARVE_REFUSED, "an unknown kind of import, 5");
    memset(import + 3, 'm', 256);
    expect(sections_guest(2, import, sizeof import), NULL, VARVE_REFUSED, "import mmm");
}

/* Structure that later code relies on. */
static void broken_modules_are_invalid(void **state)
{
    (void)state;
    expect(guest_copy("", 0), NULL, VARVE_INVALID, "does not begin as a module");
    expect(guest_copy("\0asm\x0d\0\x01\0", 8), NULL, VARVE_INVALID, "does not begin as a module");
    expect(function_guest("\0", 1), NULL, VARVE_INVALID, "it ends inside a block");
    expect(function_guest("\0\x0b\x01", 3), NULL, VARVE_INVALID, "goes on behind its end");
    expect(function_guest("\0\x02\x40\x0b", 4), NULL, VARVE_INVALID, "it ends inside a block");
    expect(function_guest("\0\x41\x80\x80\x80\x80\x08\x0b", 8), NULL, VARVE_INVALID, "too long");
    expect(function_guest("\0\x41\x80\x80\x80\x80\x78\x1a\x0b", 9), NULL, VARVE_OK, "");
    expect(function_guest("\0\x28\x80\x01\0\x0b", 6), NULL, VARVE_INVALID, "no such alignment");
    expect(function_guest("\x01\x01\x40\x0b", 4), NULL, VARVE_INVALID, "its locals");
    expect(function_guest("\0\xfc\x09\0\x0b", 5), NULL, VARVE_INVALID, "a data segment that does not exist");
    expect(function_guest("\0\xfc\x0d\0\x0b", 5), NULL, VARVE_INVALID,
           "an element segment that does not exist");
    expect(function_guest("\0\x26\0\x0b", 4), NULL, VARVE_INVALID, "a table that does not exist");
    expect(function_guest("\0\xd2\x01\x0b", 4), NULL, VARVE_INVALID, "a function that does not exist");
    expect(sections_guest(3, "\x01\0", 2), NULL, VARVE_INVALID, "no such function type");
    expect(sections_guest(8, "\0", 1), NULL, VARVE_INVALID, "start function does not exist");
    expect(sections_guest(14, "\0", 1), NULL, VARVE_INVALID, "no such section");
    expect(sections_guest(5, "\x01\0\x01\0", 4), NULL, VARVE_INVALID, "bytes are left over");
    expect(sections_guest(5, "\x01\x01\x02\x01", 4), NULL, VARVE_INVALID, "a maximum below its minimum");
    expect(sections_guest(5, "\x01\0\x81\x80\x04", 5), NULL, VARVE_INVALID,
           "larger than its addresses reach");
    expect(sections_guest(12, "\x01", 1), NULL, VARVE_INVALID, "not as many data segments");
    expect(sections_guest(1, "\xff\xff\xff\xff\x0f", 5), NULL, VARVE_INVALID, "ends early");
    expect(sections_guest(6, "\x01\x7f\0\x23\0\x0b", 6), NULL, VARVE_INVALID, "a global that does not exist");
    expect(sections_guest(7, "\x01\x01m\x02\0", 5), NULL, VARVE_INVALID, "an export of something");
    expect(sections_guest(0, "\x02\xc3\x28", 3), NULL, VARVE_INVALID, "not UTF-8");
    expect(sections_guest(0, "\x03\xed\xa0\x80", 4), NULL, VARVE_INVALID, "not UTF-8");
    expect(sections_guest(0, "\x03\xe2\x82\xac", 4), NULL, VARVE_OK, "");
}

/* Each limit at its number, and one above it. */
static void every_limit_is_named_when_it_is_met(void **state)
{
    const struct {
        uint8_t section;
        const char *entry;
        size_t size;
        varve_limits limits;
        const char *words;
    } cases[] = {
        { 2, "\1e\1m\2\0\1", 7, { .imports = 3 }, "4 imports: the limit is 3" },
        { 4, "\x70\0\x64", 3, { .table_entries = 300 }, "100 table entries: the limit is 300" },
    };
    struct vv_bytes bytes = VV_BYTES_NONE;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (uint32_t count = 3; count <= 4; count++) {
            vv_bytes_clear(&bytes);
            start_module(&bytes);
            put_repeated(&bytes, cases[i].section, count, cases[i].entry, cases[i].size);
            expect(guest_copy(bytes.data, bytes.size), &cases[i].limits,
                   count == 3 ? VARVE_OK : VARVE_REFUSED, cases[i].words);
        }
    }
    /* A 64-bit memory of 2^48 pages: 2^64 bytes, which is no size. One page fewer is for the engine to judge.
     * */
    expect(sections_guest(5, "\1\4\x80\x80\x80\x80\x80\x80\x40", 9), NULL, VARVE_REFUSED,
           "WASM pages of memory");
    expect(sections_guest(5, "\1\4\xff\xff\xff\xff\xff\xff\x3f", 9), NULL, VARVE_OK, "");
    for (uint32_t count = 3; count <= 4; count++) {
        const varve_status wanted = count == 3 ? VARVE_OK : VARVE_REFUSED;
        struct vv_bytes type = VV_BYTES_NONE;
        vv_bytes_clear(&bytes);
        start_module(&bytes);
        vv_bytes_put(&type, "\1\x60", 2);
        vv_bytes_blob(&type, "\x7f\x7f\x7f\x7f", count);
        vv_bytes_u8(&type, 0);
        put_section(&bytes, 1, &type);
        expect(guest_copy(bytes.data, bytes.size), &(varve_limits){ .params = 3 }, wanted,
               "4 params of a function: the limit is 3");

        vv_bytes_clear(&bytes);
        start_module(&bytes);
        put_repeated(&bytes, 1, 1, "\x60\0\0", 3);
        put_repeated(&bytes, 3, count, "\0", 1);
        put_repeated(&bytes, 7, count, "\1f\0\0", 4);
        put_repeated(&bytes, 10, count, "\2\0\x0b", 3);
        expect(guest_copy(bytes.data, bytes.size), &(varve_limits){ .functions = 3 }, wanted,
               "4 functions: the limit is 3");
        expect(guest_copy(bytes.data, bytes.size), &(varve_limits){ .exports = 3 }, wanted,
               "4 exports: the limit is 3");
        expect(guest_copy(bytes.data, bytes.size), &(varve_limits){ .code_bytes = bytes.size + 3 - count },
               wanted, "bytes of code (code_bytes)");

        const uint8_t locals[] = { 2, 2, 0x7f, (uint8_t)(count - 2), 0x7e, 0x0b };
        expect(function_guest(locals, sizeof locals), &(varve_limits){ .locals = 3 }, wanted,
               "4 locals: the limit is 3");
    }
    vv_bytes_release(&bytes);
}

/* The limits that have no option of their own, at the default: nesting, br_table, counts. */
static void fixed_limits_hold_too(void **state)
{
    const struct vv_wasm_limits limits = vv_wasm_limits_of(NULL);
    struct vv_bytes body = VV_BYTES_NONE, module = VV_BYTES_NONE;

    (void)state;
    for (uint32_t more = 0; more <= 1; more++) {
        const varve_status wanted = more == 0 ? VARVE_OK : VARVE_REFUSED;
        vv_bytes_clear(&body);
        vv_bytes_u8(&body, 0);
        for (uint32_t i = 0; i < limits.nesting + more; i++)
            vv_bytes_put(&body, "\x02\x40", 2);
        for (uint32_t i = 0; i <= limits.nesting + more; i++)
            vv_bytes_u8(&body, 0x0b);
        expect(function_guest(body.data, body.size), NULL, wanted, "(nesting): the limit is 20000");

        vv_bytes_clear(&body);
        vv_bytes_put(&body, "\0\x0e", 2);
        vv_bytes_varint(&body, limits.branches + more);
        vv_bytes_zero(&body, limits.branches + more + 1);
        vv_bytes_u8(&body, 0x0b);
        expect(function_guest(body.data, body.size), NULL, wanted, "(branches): the limit is 65520");

        vv_bytes_clear(&module);
        start_module(&module);
        put_repeated(&module, 6, VV_WASM_GLOBALS_MAX + more, "\x7f\1\x41\0\x0b", 5);
        expect(guest_copy(module.data, module.size), NULL, wanted, "32769 globals: the limit is 32768");

        vv_bytes_clear(&module);
        start_module(&module);
        for (uint32_t i = 0; i < 1000 + more; i++)
            vv_bytes_put(&module, "\0\1\0", 3);
        expect(guest_copy(module.data, module.size), NULL, wanted, "1001 sections: the limit is 1000");

        vv_bytes_clear(&module);
        start_module(&module);
        put_repeated(&module, 4, 99 + more, "\x70\0\0", 3);
        expect(guest_copy(module.data, module.size), NULL, wanted, "100 tables: the limit is 99");
    }
    vv_bytes_release(&body);
    vv_bytes_release(&module);
}

/* Cut everywhere: a whole module only where a section ends and nothing that it promised is missing. */
static void a_module_cut_anywhere_is_invalid(void **state)
{
    static const char *const names[] = { "state", "instructions", "contract" };

    (void)state;
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        struct guest guest = guest_load(names[n]);
        struct vv_wasm whole = read_well(&guest), module;
        for (size_t cut = 0; cut < guest.size; cut++) {
            struct guest part = guest_copy(guest.bytes, cut);
            const varve_status rc = read_with(&part, NULL, &module);
            bool at_end = cut == 8;
            for (uint32_t i = 0; i < whole.section_count; i++)
                at_end = at_end || whole.sections[i].whole.offset + whole.sections[i].whole.size == cut;
            if (rc == VARVE_OK) {
                assert_true(at_end);
                vv_wasm_release(&module);
            } else {
                assert_int_equal(rc, VARVE_INVALID);
            }
            guest_free(&part);
        }
        vv_wasm_release(&whole);
        guest_free(&guest);
    }
}

/* Every byte changed in every bit: read or refused, never believed; all that can be asked is asked. */
static void no_changed_byte_does_harm(void **state)
{
    static const char *const names[] = { "state", "instructions" };
    char text[128];

    (void)state;
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        struct guest guest = guest_load(names[n]);
        for (size_t bit = 0; bit < guest.size * 8; bit++) {
            struct vv_wasm module;
            guest.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            const varve_status rc = read_with(&guest, NULL, &module);
            if (rc == VARVE_OK) {
                for (uint32_t i = 0; i < module.function_count; i++) {
                    const struct vv_signature signature = vv_wasm_signature(&module, i);
                    (void)vv_signature_format(&signature, text, sizeof text);
                    (void)vv_wasm_function_name(&module, i);
                }
                (void)vv_wasm_is_contract(&module);
                vv_wasm_release(&module);
            } else {
                assert_true(rc == VARVE_INVALID || rc == VARVE_REFUSED);
            }
            guest.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        guest_free(&guest);
    }
}

/* Fail the 1st, 2nd, 3rd... allocation until none is left to fail. */
static void running_out_of_memory_leaves_nothing(void **state)
{
    struct guest guest = guest_load("state");
    struct vv_wasm module;
    unsigned nth = 1;

    (void)state;
    for (;; nth++) {
        vv_alloc_fail_at(nth);
        const varve_status rc = read_with(&guest, NULL, &module);
        if (!vv_alloc_disarm()) {
            assert_int_equal(rc, VARVE_OK);
            break;
        }
        assert_int_equal(rc, VARVE_MEMORY);
        assert_null(module.sections);
    }
    assert_true(nth > 20);
    vv_wasm_release(&module);
    guest_free(&guest);
}

static void constants_are_evaluated(void **state)
{
    struct guest guest = guest_load("state");
    struct vv_wasm m = read_well(&guest);
    struct vv_wasm_value globals[8] = { { .type = VARVE_I32 } }, value;

    (void)state;
    vv_put_u32(globals[0].bits, 100);
    assert_int_equal(vv_wasm_evaluate(&m, m.globals[4].init, globals, 4, &value), VARVE_OK);
    assert_int_equal(value.type, VARVE_I32);
    assert_int_equal(vv_get_u32(value.bits), 1100);
    assert_int_equal(vv_wasm_evaluate(&m, m.datas[2].offset, globals, 8, &value), VARVE_OK);
    assert_int_equal(vv_get_u32(value.bits), 69800);
    assert_int_equal(vv_wasm_evaluate(&m, m.globals[5].init, globals, 5, &value), VARVE_OK);
    assert_int_equal(value.type, VV_WASM_FUNCREF);
    assert_int_equal(value.function, 1);
    assert_int_equal(vv_wasm_evaluate(&m, m.globals[7].init, globals, 7, &value), VARVE_OK);
    assert_int_equal(vv_get_u32(value.bits + 8), 3);
    /* Not before it is known, and no wrap into the upper half. */
    assert_int_equal(vv_wasm_evaluate(&m, m.globals[4].init, globals, 0, &value), VARVE_INVALID);
    vv_put_u32(globals[0].bits, UINT32_MAX);
    assert_int_equal(vv_wasm_evaluate(&m, m.globals[4].init, globals, 4, &value), VARVE_OK);
    assert_int_equal(vv_get_u64(value.bits), 999);
    vv_wasm_release(&m);
    guest_free(&guest);
}

static void contracts_are_known_by_their_exports(void **state)
{
    static const struct {
        const char *name;
        bool is_contract;
    } cases[] = { { "contract", true }, { "plain", false }, { "state", false } };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct guest guest = guest_load(cases[i].name);
        struct vv_wasm m = read_well(&guest);
        assert_int_equal(vv_wasm_is_contract(&m), cases[i].is_contract);
        vv_wasm_release(&m);
        guest_free(&guest);
    }
    /* `A` mutable: one flag away from a contract. */
    struct guest guest = guest_load("contract");
    struct vv_wasm m = read_well(&guest);
    guest.bytes[m.globals[0].init.offset - 1] = 1;
    vv_wasm_release(&m);
    m = read_well(&guest);
    assert_false(vv_wasm_is_contract(&m));
    vv_wasm_release(&m);
    guest_free(&guest);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_in_a_module_is_found),
        cmocka_unit_test(names_and_signatures_are_told),
        cmocka_unit_test(every_kind_of_immediate_is_stepped_over),
        cmocka_unit_test(features_are_told_by_their_first_place),
        cmocka_unit_test(unknown_instructions_are_refused_with_their_place),
        cmocka_unit_test(broken_modules_are_invalid),
        cmocka_unit_test(every_limit_is_named_when_it_is_met),
        cmocka_unit_test(fixed_limits_hold_too),
        cmocka_unit_test(a_module_cut_anywhere_is_invalid),
        cmocka_unit_test(no_changed_byte_does_harm),
        cmocka_unit_test(running_out_of_memory_leaves_nothing),
        cmocka_unit_test(constants_are_evaluated),
        cmocka_unit_test(contracts_are_known_by_their_exports),
    };

    guest_folder(argc > 1 ? argv[1] : ".");
    return cmocka_run_group_tests(tests, NULL, NULL);
}

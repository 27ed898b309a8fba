/* Deploying: what is refused, with words that say why; and that a refusal leaves the state as it was. */
#include "vm_world.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "vm/machine.h"

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    world_new(w);
    world_begin(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    world_free(*state);
    free(*state);
    return 0;
}

/* A module of these sections, each given as id, size, bytes; all sizes below 128. */
struct bytes {
    uint8_t data[512];
    size_t size;
};

static void section(struct bytes *out, uint8_t id, const void *data, size_t size)
{
    if (out->size == 0) {
        memcpy(out->data, "\0asm\1\0\0\0", 8);
        out->size = 8;
    }
    out->data[out->size++] = id;
    out->data[out->size++] = (uint8_t)size;
    memcpy(out->data + out->size, data, size);
    out->size += size;
}
#define SECTION(out, id, text) section(out, id, text, sizeof(text) - 1)

static void refused(struct world *w, const struct bytes *module, varve_status expected, const char *words)
{
    const varve_root root = world_root(w);

    assert_status(w, world_deploy_bytes(w, "m", module->data, module->size, NULL), expected);
    assert_words(w, words);
    const varve_root after = world_root(w);
    assert_memory_equal(&root, &after, sizeof root);
    assert_status(w, world_call(w, "m", "x", NULL, ""), VARVE_NOT_FOUND);
}

static void what_is_no_module_is_invalid(void **state)
{
    struct world *w = *state;
    struct bytes m = { .size = 0 };

    assert_status(w, world_deploy_bytes(w, "m", "hello there", 11, NULL), VARVE_INVALID);
    assert_status(w, world_deploy_bytes(w, "m", "", 0, NULL), VARVE_INVALID);
    SECTION(&m, 1, "\1\x60\0");
    m.size--; /* cut short */
    assert_status(w, world_deploy_bytes(w, "m", m.data, m.size, NULL), VARVE_INVALID);
}

static void invalid_code_is_refused_with_its_place(void **state)
{
    struct bytes m = { .size = 0 };

    SECTION(&m, 1, "\1\x60\0\1\x7f"); /* () -> i32 */
    SECTION(&m, 3, "\1\0");
    SECTION(&m, 10, "\1\2\0\x0b"); /* gives nothing */
    refused(*state, &m, VARVE_REFUSED, "offset");
}

static void unsupported_features_are_refused_by_name(void **state)
{
    struct bytes two = { .size = 0 }, shared = { .size = 0 }, wide = { .size = 0 };

    SECTION(&two, 5, "\2\0\1\0\1");
    refused(*state, &two, VARVE_REFUSED, "memor");
    SECTION(&shared, 5, "\1\3\1\1");
    refused(*state, &shared, VARVE_REFUSED, "shared");
    SECTION(&wide, 5, "\1\4\1");
    refused(*state, &wide, VARVE_REFUSED, "memory");
}

/* The words are ours, with function and offset, not the engine's. */
static void unsupported_instructions_are_refused_with_function_and_offset(void **state)
{
    struct world *w = *state;
    struct bytes m = { .size = 0 };
    char *json = NULL;

    SECTION(&m, 1, "\1\x60\0\0");
    SECTION(&m, 3, "\1\0");
    SECTION(&m, 10, "\1\5\0\xfe\3\0\x0b"); /* atomic.fence */
    refused(w, &m, VARVE_REFUSED, "function 0, offset 0x17: atomic.fence is not supported (threads)");
    assert_ok(w, varve_vm_inspect(w->vm, m.data, m.size, &json, &w->error));
    assert_non_null(strstr(json, "\"function\":0,\"offset\":23"));
    varve_free(json);
}

/* A handle for each: the engine must bear as many as we let pass. */
static void thousands_of_references_are_state_like_any_other(void **state)
{
    enum { COUNT = 12000 };
    struct world *w = *state;
    struct vv_bytes m = VV_BYTES_NONE, globals = VV_BYTES_NONE;

    vv_bytes_put(&m, "\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0", 18);
    vv_bytes_varint(&globals, COUNT);
    for (int i = 0; i < COUNT; i++)
        vv_bytes_put(&globals, "\x70\1\xd2\0\x0b", 5);
    vv_bytes_u8(&m, 6);
    vv_bytes_blob(&m, globals.data, globals.size);
    vv_bytes_put(&m, "\7\5\1\1f\0\0\x0a\4\1\2\0\x0b", 13);
    assert_ok(w, world_deploy_bytes(w, "m", m.data, m.size, NULL));
    assert_ok(w, world_call(w, "m", "f", NULL, ""));
    vv_bytes_release(&globals);
    vv_bytes_release(&m);
}

/* Code that one session compiled under wide limits is refused in a session whose limits are narrow. */
static void limits_hold_for_code_that_is_there_already(void **state)
{
    struct world *w = *state;
    varve_limits limits = VARVE_INIT(varve_limits);
    varve_session_options begin = VARVE_INIT(varve_session_options);

    assert_ok(w, world_deploy(w, "m", "zoo", NULL));
    world_abort(w);
    limits.functions = 1;
    begin.vm = w->vm;
    begin.limits = &limits;
    assert_ok(w, varve_session_begin(w->store, &begin, &w->session, &w->error));
    assert_status(w, world_deploy(w, "m", "zoo", NULL), VARVE_REFUSED);
    assert_words(w, "functions");
}

static void imported_globals_get_their_values_at_deploy(void **state)
{
    struct world *w = *state;
    varve_deploy_options options = VARVE_INIT(varve_deploy_options);
    varve_global_value globals[4] = {
        { "env", "base", { .type = VARVE_I32, .of.i32 = 4096 } },
        { "env", "scale", { .type = VARVE_F64, .of.f64 = 2.5 } },
        { "env", "count", { .type = VARVE_I64, .of.i64 = INT64_C(1) << 40 } },
        { "env", "typo", { .type = VARVE_I32 } },
    };
    uint64_t result = 0;
    double scale = 0;

    assert_status(w, world_deploy(w, "none", "globals", NULL), VARVE_REFUSED);
    assert_words(w, "env.base");
    options.globals = globals;
    options.global_count = 4;
    assert_status(w, world_deploy(w, "typo", "globals", &options), VARVE_MISUSE);
    assert_words(w, "env.typo");
    options.global_count = 3;
    globals[1].value.type = VARVE_F32;
    assert_status(w, world_deploy(w, "type", "globals", &options), VARVE_REFUSED);
    assert_words(w, "f64");
    globals[1].value.type = VARVE_F64;
    assert_ok(w, world_deploy(w, "a", "globals", &options));
    globals[0].value.of.i32 = 128; /* the same code with other values is another program */
    globals[1].value.of.f64 = -1;
    assert_ok(w, world_deploy(w, "b", "globals", &options));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(world_i32(w, "a", "base", 0), 0x65726568);
        assert_int_equal(world_i32(w, "b", "base", 0), 0x65726568);
        assert_ok(w, world_call(w, "a", "scale", &result, ""));
        memcpy(&scale, &result, sizeof scale);
        assert_true(scale == 2.5);
        assert_ok(w, world_call(w, "b", "scale", &result, ""));
        memcpy(&scale, &result, sizeof scale);
        assert_true(scale == -1);
        assert_ok(w, world_call(w, "a", "next", &result, ""));
        assert_true(result == (UINT64_C(1) << 40) + 1 + (uint64_t)i);
        world_reopen(w);
    }
    uint32_t word = 0;
    world_peek(w, "b", 4096, &word, sizeof word);
    assert_int_equal(word, 0);
}

/* A server of many modules: code that nobody uses goes, but not while a signature of it is lent. */
static void compiled_code_in_memory_is_bounded(void **state)
{
    struct world *w = *state;
    varve_signature signature = VARVE_INIT(varve_signature);
    varve_vm_options options = VARVE_INIT(varve_vm_options);
    varve_module_id id;

    world_abort(w);
    varve_vm_free(w->vm);
    options.flags = VARVE_VM_NO_CACHE; /* a thousand files are nobody's wish */
    assert_ok(w, varve_vm_new(&options, &w->vm, &w->error));
    world_begin(w);
    assert_ok(w, world_deploy(w, "zoo", "zoo", NULL));
    assert_int_equal(varve_module_id_of("zoo", &id), VARVE_OK);
    assert_ok(w, varve_session_signature(w->session, &id, "inc", &signature, &w->error));
    assert_ok(w, varve_session_remove(w->session, &id, &w->error));
    for (uint32_t i = 0; i < VV_CODES_MAX + 40; i++) {
        uint8_t code[] = "\0asm\1\0\0\0\0\5\0....";
        uint32_t savepoint = 0;
        memcpy(code + 11, &i, sizeof i);
        assert_ok(w, varve_session_savepoint(w->session, &savepoint, &w->error));
        assert_ok(w, world_deploy_bytes(w, "m", code, sizeof code - 1, NULL));
        assert_ok(w, varve_session_rollback(w->session, savepoint, &w->error));
        assert_ok(w, varve_session_release(w->session, savepoint, &w->error));
    }
    assert_in_range(w->vm->pool.codes.count, VV_CODES_MAX / 2, VV_CODES_MAX);
    assert_int_equal(signature.param_count, 1);
    assert_int_equal(signature.params[0], VARVE_I32);
}

static void all_imports_that_nobody_answers_are_listed(void **state)
{
    struct bytes m = { .size = 0 };

    SECTION(&m, 1, "\1\x60\0\0");
    SECTION(&m, 2, "\2\3env\3one\0\0\3env\3two\0\0");
    refused(*state, &m, VARVE_REFUSED, "nobody answers 2 imports: env.one, env.two");
}

static void a_missing_import_may_trap_when_called(void **state)
{
    struct world *w = *state;
    struct bytes m = { .size = 0 };
    varve_deploy_options options = VARVE_INIT(varve_deploy_options);

    SECTION(&m, 1, "\1\x60\0\0");
    SECTION(&m, 2, "\1\3env\3one\0\0");
    SECTION(&m, 3, "\1\0");
    SECTION(&m, 7, "\2\1x\0\1\1y\0\0");
    SECTION(&m, 10, "\1\4\0\x10\0\x0b");
    options.flags = VARVE_DEPLOY_TRAP_MISSING;
    assert_ok(w, world_deploy_bytes(w, "m", m.data, m.size, &options));
    assert_status(w, world_call(w, "m", "x", NULL, ""), VARVE_TRAP);
    assert_words(w, "env.one");
    world_reopen(w); /* that it may is part of the module */
    assert_status(w, world_call(w, "m", "x", NULL, ""), VARVE_TRAP);
}

static void an_import_answered_with_another_signature_is_refused(void **state)
{
    struct bytes m = { .size = 0 };

    SECTION(&m, 1, "\1\x60\0\0");
    SECTION(&m, 2,
            "\1\x16wasi_snapshot_preview1\x08"
            "fd_close\0\0");
    refused(*state, &m, VARVE_REFUSED, "i32 -> i32");
}

static void data_outside_the_memory_is_refused(void **state)
{
    struct bytes m = { .size = 0 };

    SECTION(&m, 5, "\1\0\1");
    SECTION(&m, 11, "\2\0\x41\0\x0b\3abc\0\x41\xfe\xff\3\x0b\3abc"); /* the second: 65534 */
    refused(*state, &m, VARVE_REFUSED, "data segment 1: 3 bytes at 65534");
}

static void data_that_just_fits_is_written(void **state)
{
    struct world *w = *state;
    struct bytes m = { .size = 0 };
    char text[4] = "";

    SECTION(&m, 5, "\1\0\1");
    SECTION(&m, 11, "\1\0\x41\xfd\xff\3\x0b\3abc"); /* 65533 */
    assert_ok(w, world_deploy_bytes(w, "m", m.data, m.size, NULL));
    world_peek(w, "m", 65533, text, 3);
    assert_string_equal(text, "abc");
}

static void a_start_function_that_traps_undoes_the_deploy(void **state)
{
    struct bytes m = { .size = 0 };

    SECTION(&m, 1, "\1\x60\0\0");
    SECTION(&m, 3, "\1\0");
    SECTION(&m, 8, "\0");
    SECTION(&m, 10, "\1\3\0\0\x0b"); /* unreachable */
    refused(*state, &m, VARVE_TRAP, "unreachable");
}

static void a_start_function_is_under_gas(void **state)
{
    struct world *w = *state;
    struct bytes m = { .size = 0 };
    varve_deploy_options options = VARVE_INIT(varve_deploy_options);

    SECTION(&m, 1, "\1\x60\0\0");
    SECTION(&m, 3, "\1\0");
    SECTION(&m, 5, "\1\0\1");
    SECTION(&m, 8, "\0");
    SECTION(&m, 10, "\1\7\0\3\x40\x0c\0\x0b\x0b"); /* loop br 0 */
    options.gas = 10000;
    assert_status(w, world_deploy_bytes(w, "m", m.data, m.size, &options), VARVE_OUT_OF_GAS);
    assert_int_equal(varve_receipt_get(w->receipt)->gas_used, 10000);
    assert_status(w, world_call(w, "m", "x", NULL, ""), VARVE_NOT_FOUND);
}

static void a_reserved_export_is_refused(void **state)
{
    struct bytes m = { .size = 0 };

    SECTION(&m, 5, "\1\0\1");
    SECTION(&m, 7, "\1\7varve:m\2\0");
    refused(*state, &m, VARVE_REFUSED, "varve:");
}

static void a_name_can_be_deployed_once(void **state)
{
    struct world *w = *state;

    assert_ok(w, world_deploy(w, "m", "zoo", NULL));
    world_i32(w, "m", "inc", 1, 3);
    assert_status(w, world_deploy(w, "m", "zoo", NULL), VARVE_EXISTS);
    assert_int_equal(world_i32(w, "m", "n", 0), 3);
    assert_ok(w, world_deploy(w, "other", "zoo", NULL));
    assert_int_equal(world_i32(w, "other", "n", 0), 0);
}

static void ids_are_of_the_name_or_given_or_of_the_code(void **state)
{
    struct world *w = *state;
    varve_deploy_options options = VARVE_INIT(varve_deploy_options);
    varve_module_info info = VARVE_INIT(varve_module_info);
    varve_module_id given = { .bytes = { 1, 2, 3 } }, id, hash;
    const uint8_t owner[32] = "an owner";
    size_t size = 0;
    uint8_t *code = world_module("zoo", &size);

    world_signals();
    options.id = &given;
    options.owner = owner;
    assert_ok(w, varve_session_deploy(w->session, code, size, &options, &id, NULL, &w->error));
    assert_memory_equal(&id, &given, sizeof id);
    assert_ok(w, varve_session_deploy(w->session, code, size, NULL, &hash, NULL, &w->error));
    assert_ok(w, varve_session_module(w->session, &hash, &info, &w->error));
    assert_memory_equal(info.code, hash.bytes, 32);
    assert_int_equal(info.kind, VARVE_KIND_MODULE);
    assert_int_equal(info.code_size, size);
    assert_ok(w, varve_session_module(w->session, &given, &info, &w->error));
    assert_memory_equal(info.owner, owner, 32);
    options.name = "both";
    assert_status(w, varve_session_deploy(w->session, code, size, &options, NULL, NULL, &w->error),
                  VARVE_MISUSE);
    options.id = NULL;
    options.name = "no spaces please";
    assert_int_not_equal(varve_session_deploy(w->session, code, size, &options, NULL, NULL, &w->error),
                         VARVE_OK);
    free(code);
}

static void every_limit_holds_at_its_number(void **state)
{
    struct world *w = *state;
    varve_limits limits = VARVE_INIT(varve_limits);
    varve_vm_options options = VARVE_INIT(varve_vm_options);
    varve_session_options begin = VARVE_INIT(varve_session_options);
    size_t size = 0;
    uint8_t *code = world_module("zoo", &size);
    static const struct {
        size_t offset;
        bool wide;
        uint64_t at; /* the least that the zoo fits into */
        const char *word;
    } cases[] = {
        { offsetof(varve_limits, code_bytes), true, 0, "code" },
        { offsetof(varve_limits, memory_bytes), true, 65536, "memory_bytes" },
        { offsetof(varve_limits, functions), false, 29, "function" },
        { offsetof(varve_limits, table_entries), false, 4, "table" },
        { offsetof(varve_limits, params), false, 3, "param" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (uint64_t less = 0; less < 2; less++) {
            const uint64_t at = (cases[i].at != 0 ? cases[i].at : size) - less;
            const uint32_t narrow = (uint32_t)at;
            varve_vm *vm = NULL;
            limits = VARVE_INIT(varve_limits);
            memcpy((uint8_t *)&limits + cases[i].offset, cases[i].wide ? (const void *)&at : &narrow,
                   cases[i].wide ? 8 : 4);
            options.limits = &limits;
            world_abort(w);
            assert_ok(w, varve_vm_new(&options, &vm, &w->error));
            begin.vm = vm;
            assert_ok(w, varve_session_begin(w->store, &begin, &w->session, &w->error));
            const varve_status rc = world_deploy_bytes(w, "m", code, size, NULL);
            if (less == 0) {
                assert_status(w, rc, VARVE_OK);
            } else {
                if (rc == VARVE_OK)
                    print_error("%s: %llu\n", cases[i].word, (unsigned long long)at);
                assert_status(w, rc, VARVE_REFUSED);
                assert_words(w, cases[i].word);
            }
            world_abort(w);
            varve_vm_free(vm);
            world_begin(w);
        }
    }
    free(code);
}

static void inspection_tells_all_in_json(void **state)
{
    struct world *w = *state;
    size_t size = 0;
    uint8_t *code = world_module("wasi", &size);
    char *json = NULL;
    struct bytes m = { .size = 0 };

    assert_ok(w, varve_vm_inspect(w->vm, code, size, &json, &w->error));
    assert_non_null(strstr(json, "\"by\":\"wasi\""));
    assert_non_null(strstr(json, "\"refused\":[]"));
    assert_non_null(
        strstr(json, "{\"name\":\"print\",\"params\":[\"i32\",\"i32\",\"i32\"],\"results\":[\"i32\"]}"));
    varve_free(json);
    free(code);
    SECTION(&m, 1, "\1\x60\0\0");
    SECTION(&m, 2, "\1\3\"\n\\\1\x7f\0\0");
    SECTION(&m, 5, "\2\0\1\0\1");
    assert_ok(w, varve_vm_inspect(w->vm, m.data, m.size, &json, &w->error));
    assert_non_null(strstr(json, "\"module\":\"\\\"\\u000a\\\\\",\"name\":\"\\u007f\""));
    assert_non_null(strstr(json, "\"by\":\"none\""));
    assert_non_null(strstr(json, "\"why\":"));
    varve_free(json);
    assert_status(w, varve_vm_inspect(w->vm, "no", 2, &json, &w->error), VARVE_INVALID);
    assert_null(json);
}

static void compiled_code_comes_from_the_cache_and_a_bad_file_does_not_matter(void **state)
{
    struct world *w = *state;
    varve_vm_options options = VARVE_INIT(varve_vm_options);
    varve_session_options begin = VARVE_INIT(varve_session_options);
    char folder[64] = "cache-XXXXXX", command[256];

    assert_non_null(mkdtemp(folder));
    options.cache = folder;
    for (int i = 0; i < 3; i++) {
        varve_vm *vm = NULL;
        world_abort(w);
        assert_ok(w, varve_vm_new(&options, &vm, &w->error));
        begin.vm = vm;
        assert_ok(w, varve_session_begin(w->store, &begin, &w->session, &w->error));
        assert_ok(w, world_deploy(w, "m", "zoo", NULL));
        assert_int_equal(world_i32(w, "m", "inc", 1, 3), 3);
        world_abort(w);
        varve_vm_free(vm);
        (void)snprintf(command, sizeof command, "test $(ls %s/code | wc -l) = 1", folder);
        assert_int_equal(system(command), 0);
        if (i == 1) { /* flip one byte of the machine code */
            (void)snprintf(
                command, sizeof command,
                "printf '\\125' | dd of=$(ls -d %s/code/*) bs=1 seek=5000 conv=notrunc 2>/dev/null", folder);
            assert_int_equal(system(command), 0);
        }
        world_begin(w);
    }
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_no_module_is_invalid),
        TEST(invalid_code_is_refused_with_its_place),
        TEST(unsupported_features_are_refused_by_name),
        TEST(unsupported_instructions_are_refused_with_function_and_offset),
        TEST(thousands_of_references_are_state_like_any_other),
        TEST(limits_hold_for_code_that_is_there_already),
        TEST(imported_globals_get_their_values_at_deploy),
        TEST(compiled_code_in_memory_is_bounded),
        TEST(all_imports_that_nobody_answers_are_listed),
        TEST(a_missing_import_may_trap_when_called),
        TEST(an_import_answered_with_another_signature_is_refused),
        TEST(data_outside_the_memory_is_refused),
        TEST(data_that_just_fits_is_written),
        TEST(a_start_function_that_traps_undoes_the_deploy),
        TEST(a_start_function_is_under_gas),
        TEST(a_reserved_export_is_refused),
        TEST(a_name_can_be_deployed_once),
        TEST(ids_are_of_the_name_or_given_or_of_the_code),
        TEST(every_limit_holds_at_its_number),
        TEST(inspection_tells_all_in_json),
        TEST(compiled_code_comes_from_the_cache_and_a_bad_file_does_not_matter),
    };

    return cmocka_run_group_tests_name("vm deploy", tests, NULL, NULL);
}

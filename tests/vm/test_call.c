/* Calls: what they give, how they fail, and that a failure leaves nothing behind. */
#include "vm_world.h"

#include <stdlib.h>

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    world_new(w);
    world_begin(w);
    assert_ok(w, world_deploy(w, "zoo", "zoo", NULL));
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    world_free(*state);
    free(*state);
    return 0;
}

static uint64_t digest(struct world *w)
{
    uint64_t value = 0;

    assert_ok(w, world_call(w, "zoo", "digest", &value, ""));
    return value;
}

static void a_call_takes_and_gives_numbers(void **state)
{
    struct world *w = *state;
    uint64_t bits = 0;
    double real = 0;

    assert_ok(w, world_call(w, "zoo", "add", &bits, "i64 f64", INT64_C(40), 2.5));
    memcpy(&real, &bits, sizeof real);
    assert_true(real == 42.5);
    assert_int_equal(world_i32(w, "zoo", "inc", 1, 5), 5);
    assert_int_equal(world_i32(w, "zoo", "inc", 1, -2), 3);
    assert_int_equal(world_i32(w, "zoo", "divide", 2, 7, 2), 3);
}

static void a_wrong_call_is_misuse_and_says_the_signature(void **state)
{
    struct world *w = *state;
    varve_module_id id;

    assert_status(w, world_call(w, "zoo", "inc", NULL, ""), VARVE_MISUSE);
    assert_words(w, "i32 -> i32");
    assert_status(w, world_call(w, "zoo", "inc", NULL, "i64", INT64_C(1)), VARVE_MISUSE);
    assert_words(w, "argument 1 is an i64");
    assert_status(w, world_call(w, "zoo", "inc", NULL, "i32 i32", 1, 2), VARVE_MISUSE);
    assert_status(w, world_call(w, "zoo", "nosuch", NULL, ""), VARVE_NOT_FOUND);
    assert_words(w, "nosuch");
    assert_status(w, world_call(w, "zoo", "memory", NULL, ""), VARVE_NOT_FOUND);
    assert_status(w, world_call(w, "zoo", "varve:m", NULL, ""), VARVE_NOT_FOUND);
    assert_words(w, "varve's own");
    assert_status(w, world_call(w, "zoo", "refs", NULL, ""), VARVE_UNSUPPORTED);
    assert_status(w, world_call(w, "nobody", "inc", NULL, "i32", 1), VARVE_NOT_FOUND);
    assert_int_equal(varve_module_id_of("zoo", &id), VARVE_OK);
    assert_status(w, varve_session_call(w->session, &id, "nothing", NULL, 0, NULL, 1, NULL, NULL, &w->error),
                  VARVE_MISUSE);
    assert_int_equal(world_i32(w, "zoo", "n", 0), 0);
}

static void an_image_has_no_code_to_call(void **state)
{
    struct world *w = *state;
    varve_image_options options = VARVE_INIT(varve_image_options);
    varve_module_id id;
    varve_image *image = NULL;

    options.name = "plain";
    options.create_size = 4096;
    assert_int_equal(varve_module_id_of("plain", &id), VARVE_OK);
    assert_ok(w, varve_image_open(w->session, &id, &options, &image, &w->error));
    assert_status(w, world_call(w, "plain", "run", NULL, ""), VARVE_NOT_FOUND);
}

/* Do `call` and expect it to fail; all state of the zoo must be what it was, before and after a commit. */
static void fails_and_leaves_nothing(struct world *w, varve_status expected, const char *function,
                                     const char *types, int a, int b, int c)
{
    const uint64_t before = digest(w), n = world_i32(w, "zoo", "n", 0);
    const uint64_t table = world_i32(w, "zoo", "table_size", 0), pages = world_i32(w, "zoo", "size", 0);
    const uint64_t first = world_i32(w, "zoo", "call", 1, 0), cell = world_i32(w, "zoo", "load", 1, 256);
    const varve_root root = world_root(w);

    assert_status(w, world_call(w, "zoo", function, NULL, types, a, b, c), expected);
    const varve_root after = world_root(w);
    assert_memory_equal(&root, &after, sizeof root);
    assert_int_equal(digest(w), before);
    assert_int_equal(world_i32(w, "zoo", "n", 0), n);
    assert_int_equal(world_i32(w, "zoo", "table_size", 0), table);
    assert_int_equal(world_i32(w, "zoo", "size", 0), pages);
    assert_int_equal(world_i32(w, "zoo", "call", 1, 0), first);
    assert_int_equal(world_i32(w, "zoo", "load", 1, 256), cell);
    world_i32(w, "zoo", "say", 1, 512); /* would trap if the segment were dropped */
    world_i32(w, "zoo", "put", 1, 2);   /* likewise */
}

static void a_trap_undoes_memory_length_globals_tables_and_drops(void **state)
{
    struct world *w = *state;

    world_i32(w, "zoo", "inc", 1, 5);
    world_i32(w, "zoo", "store", 2, 256, 99);
    for (int i = 0; i < 3; i++) {
        fails_and_leaves_nothing(w, VARVE_TRAP, "mess", "i32 i32 i32", 256, 7, 1);
        assert_words(w, "unreachable");
        world_i32(w, "zoo", "inc", 1, i);
        if (i == 1)
            world_reopen(w);
    }
}

static void no_gas_undoes_the_call(void **state)
{
    struct world *w = *state;

    w->gas = 100000;
    fails_and_leaves_nothing(w, VARVE_OUT_OF_GAS, "spin", "", 0, 0, 0);
    assert_words(w, "gas");
    w->gas = 5000;
    fails_and_leaves_nothing(w, VARVE_OUT_OF_GAS, "recurse", "", 0, 0, 0);
    w->gas = 12;
    assert_status(w, world_call(w, "zoo", "mess", NULL, "i32 i32 i32", 256, 7, 0), VARVE_OUT_OF_GAS);
    w->gas = 0;
    assert_int_equal(world_i32(w, "zoo", "size", 0), 1);
}

static void receipts_tell_what_was_used(void **state)
{
    struct world *w = *state;
    varve_frame frame = VARVE_INIT(varve_frame);

    w->gas = 1000;
    world_i32(w, "zoo", "store", 2, 8192, 5);
    const varve_receipt_info *info = varve_receipt_get(w->receipt);
    assert_int_equal(info->status, VARVE_OK);
    assert_int_equal(info->pages_changed, 1);
    assert_int_equal(info->gas_limit, 1000);
    assert_in_range(info->gas_used, 1, 20);
    assert_int_equal(info->frame_count, 1);
    assert_int_equal(varve_receipt_frame(w->receipt, 0, &frame), VARVE_OK);
    assert_string_equal(frame.function, "store");
    assert_int_equal(varve_receipt_frame(w->receipt, 1, &frame), VARVE_END);
    world_i32(w, "zoo", "store", 2, 8192, 5);
    assert_int_equal(varve_receipt_get(w->receipt)->pages_changed, 0); /* written, but not changed */
    assert_status(w, world_call(w, "zoo", "spin", NULL, ""), VARVE_OUT_OF_GAS);
    assert_int_equal(varve_receipt_get(w->receipt)->gas_used, 1000);
    w->gas = 0;
    assert_status(w, world_call(w, "zoo", "divide", NULL, "i32 i32", 1, 0), VARVE_TRAP);
    info = varve_receipt_get(w->receipt);
    assert_string_equal(info->message, w->error.message);
    assert_non_null(strstr(info->message, "divide by zero"));
    assert_non_null(strstr(info->trace, "function"));
}

static void the_same_calls_have_the_same_digest(void **state)
{
    struct world *w = *state;
    uint8_t first[32], other[32];

    w->gas = 5000;
    world_i32(w, "zoo", "store", 2, 4096, 1);
    memcpy(first, varve_receipt_get(w->receipt)->digest, 32);
    world_i32(w, "zoo", "store", 2, 4096, 2);
    memcpy(other, varve_receipt_get(w->receipt)->digest, 32);
    assert_memory_equal(first, other, 32); /* it binds how many pages changed, not which bytes */
    world_i32(w, "zoo", "store", 2, 4096, 2);
    assert_memory_not_equal(first, varve_receipt_get(w->receipt)->digest, 32);
}

static void a_query_answers_and_leaves_no_trace(void **state)
{
    struct world *w = *state;
    uint64_t result = 0;
    const varve_root root = world_root(w);

    w->flags = VARVE_CALL_QUERY;
    for (int i = 0; i < 5; i++) {
        assert_ok(w, world_call(w, "zoo", "mess", &result, "i32 i32 i32", 256, 7, 0));
        assert_int_equal(result, 1000);
        assert_true(varve_receipt_get(w->receipt)->pages_changed >= 2);
        assert_int_equal(world_i32(w, "zoo", "inc", 1, 3), 3);
    }
    w->flags = 0;
    const varve_root after = world_root(w);
    assert_memory_equal(&root, &after, sizeof root);
    assert_int_equal(world_i32(w, "zoo", "size", 0), 1);
}

static void an_unguarded_failure_taints_the_session(void **state)
{
    struct world *w = *state;
    uint32_t savepoint = 0;

    world_i32(w, "zoo", "inc", 1, 4);
    assert_ok(w, varve_session_savepoint(w->session, &savepoint, &w->error));
    w->flags = VARVE_CALL_UNGUARDED;
    assert_int_equal(world_i32(w, "zoo", "inc", 1, 1), 5);
    assert_status(w, world_call(w, "zoo", "mess", NULL, "i32 i32 i32", 256, 7, 1), VARVE_TRAP);
    w->flags = 0;
    assert_status(w, world_call(w, "zoo", "n", NULL, ""), VARVE_MISUSE);
    assert_words(w, "unguarded");
    assert_ok(w, varve_session_rollback(w->session, savepoint, &w->error));
    assert_int_equal(world_i32(w, "zoo", "n", 0), 4);
    assert_int_equal(world_i32(w, "zoo", "load", 1, 256), 0);
    assert_int_equal(world_i32(w, "zoo", "call", 1, 0), 1);
    assert_ok(w, varve_session_release(w->session, savepoint, &w->error));
}

static void everything_an_instance_holds_survives_a_reopen(void **state)
{
    struct world *w = *state;

    world_i32(w, "zoo", "inc", 1, 5);
    world_i32(w, "zoo", "swap", 0);
    world_i32(w, "zoo", "put", 1, 2);
    assert_int_equal(world_i32(w, "zoo", "grow_table", 1, 3), 4);
    world_i32(w, "zoo", "keep_ref", 0);
    world_i32(w, "zoo", "drop_later", 0);
    world_i32(w, "zoo", "say", 1, 600);
    world_i32(w, "zoo", "drop_hello", 0);
    assert_int_equal(world_i32(w, "zoo", "grow", 1, 2), 1);
    world_i32(w, "zoo", "store", 2, 3 * 65536 - 4, 11);
    const uint64_t before = digest(w);
    for (int i = 0; i < 2; i++) {
        const varve_root root = world_root(w);
        world_reopen(w);
        assert_int_equal(digest(w), before);
        assert_int_equal(world_i32(w, "zoo", "call", 1, 0), 2);
        assert_int_equal(world_i32(w, "zoo", "call", 1, 1), 1);
        assert_int_equal(world_i32(w, "zoo", "call", 1, 2), 3);
        assert_int_equal(world_i32(w, "zoo", "table_size", 0), 7);
        assert_int_equal(world_i32(w, "zoo", "size", 0), 3);
        assert_int_equal(world_i32(w, "zoo", "load", 1, 3 * 65536 - 4), 11);
        assert_status(w, world_call(w, "zoo", "put", NULL, "i32", 0), VARVE_TRAP);
        assert_status(w, world_call(w, "zoo", "say", NULL, "i32", 0), VARVE_TRAP);
        const varve_root after = world_root(w);
        assert_memory_equal(&root, &after, sizeof root);
    }
    assert_int_equal(world_i32(w, "zoo", "use_ref", 0), 3);
}

static void savepoints_span_calls(void **state)
{
    struct world *w = *state;
    uint32_t outer = 0, inner = 0;

    world_i32(w, "zoo", "store", 2, 0, 1);
    assert_ok(w, varve_session_savepoint(w->session, &outer, &w->error));
    world_i32(w, "zoo", "store", 2, 0, 2);
    world_i32(w, "zoo", "grow", 1, 1);
    assert_ok(w, varve_session_savepoint(w->session, &inner, &w->error));
    world_i32(w, "zoo", "store", 2, 70000, 3);
    world_i32(w, "zoo", "inc", 1, 3);
    assert_ok(w, varve_session_rollback(w->session, inner, &w->error));
    assert_int_equal(world_i32(w, "zoo", "n", 0), 0);
    assert_int_equal(world_i32(w, "zoo", "load", 1, 70000), 0);
    assert_int_equal(world_i32(w, "zoo", "load", 1, 0), 2);
    assert_ok(w, varve_session_rollback(w->session, outer, &w->error));
    assert_int_equal(world_i32(w, "zoo", "size", 0), 1);
    assert_int_equal(world_i32(w, "zoo", "load", 1, 0), 1);
    assert_status(w, world_call(w, "zoo", "load", NULL, "i32", 70000), VARVE_TRAP);
    assert_ok(w, varve_session_release(w->session, outer, &w->error));
}

static void memory_grows_to_its_limit_and_no_further(void **state)
{
    struct world *w = *state;

    assert_int_equal(world_i32(w, "zoo", "grow", 1, 63), 1);
    assert_int_equal((int32_t)world_i32(w, "zoo", "grow", 1, 1), -1);
    assert_int_equal(world_i32(w, "zoo", "size", 0), 64);
    assert_int_equal(world_memory(w, "zoo"), 64 * 65536);
    world_i32(w, "zoo", "store", 2, 64 * 65536 - 4, 5);
    assert_status(w, world_call(w, "zoo", "store", NULL, "i32 i32", 64 * 65536 - 3, 5), VARVE_TRAP);
    assert_words(w, "out of bounds");
}

static void deep_recursion_is_a_trap(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < 3; i++) {
        assert_status(w, world_call(w, "zoo", "recurse", NULL, ""), VARVE_TRAP);
        assert_words(w, "stack");
    }
    assert_int_equal(world_i32(w, "zoo", "inc", 1, 1), 1);
}

static void a_chained_session_goes_on(void **state)
{
    struct world *w = *state;
    varve_commit_options options = VARVE_INIT(varve_commit_options);

    options.flags = VARVE_COMMIT_CHAIN;
    for (int i = 1; i < 5; i++) {
        assert_int_equal(world_i32(w, "zoo", "inc", 1, 1), i);
        world_i32(w, "zoo", "store", 2, 4096 * i, i);
        assert_ok(w, varve_session_commit(w->session, &options, NULL, &w->error));
    }
    world_reopen(w);
    assert_int_equal(world_i32(w, "zoo", "n", 0), 4);
    assert_int_equal(world_i32(w, "zoo", "load", 1, 4096 * 3), 3);
}

static void a_removed_module_is_gone_and_comes_back_by_rollback(void **state)
{
    struct world *w = *state;
    uint32_t savepoint = 0;
    varve_module_id id;

    world_i32(w, "zoo", "inc", 1, 9);
    assert_int_equal(varve_module_id_of("zoo", &id), VARVE_OK);
    assert_ok(w, varve_session_savepoint(w->session, &savepoint, &w->error));
    assert_ok(w, varve_session_remove(w->session, &id, &w->error));
    assert_status(w, world_call(w, "zoo", "n", NULL, ""), VARVE_NOT_FOUND);
    assert_ok(w, world_deploy(w, "zoo", "zoo", NULL));
    assert_int_equal(world_i32(w, "zoo", "inc", 1, 1), 1);
    assert_ok(w, varve_session_rollback(w->session, savepoint, &w->error));
    assert_int_equal(world_i32(w, "zoo", "n", 0), 9);
}

static void migration_keeps_memory_and_globals(void **state)
{
    struct world *w = *state;
    varve_module_id id;
    size_t size = 0, other_size = 0;
    uint8_t *same = world_module("zoo", &size), *other = world_module("wasi", &other_size);

    world_i32(w, "zoo", "inc", 1, 9);
    world_i32(w, "zoo", "store", 2, 100, 6);
    assert_int_equal(varve_module_id_of("zoo", &id), VARVE_OK);
    /* The same code with a custom section more is other code. */
    same = realloc(same, size + 5);
    memcpy(same + size, "\0\3\2hi", 5);
    assert_ok(w, varve_session_migrate(w->session, &id, same, size + 5, NULL, NULL, NULL, NULL, &w->error));
    assert_int_equal(world_i32(w, "zoo", "n", 0), 9);
    assert_int_equal(world_i32(w, "zoo", "load", 1, 100), 6);
    assert_status(
        w, varve_session_migrate(w->session, &id, other, other_size, NULL, NULL, NULL, NULL, &w->error),
        VARVE_REFUSED);
    assert_words(w, "global");
    world_reopen(w);
    assert_int_equal(world_i32(w, "zoo", "inc", 1, 1), 10);
    free(same);
    free(other);
}

/* The same code deployed in another way is another program: its arguments are the new ones at once. */
static void migration_to_the_same_code_takes_the_new_arguments(void **state)
{
    struct world *w = *state;
    const char *const one[] = { "a", NULL }, *const two[] = { "a", "b", NULL };
    varve_deploy_options options = VARVE_INIT(varve_deploy_options);
    varve_module_id id;
    size_t size = 0;
    uint32_t count = 0;
    uint8_t *code = world_module("wasi", &size);

    options.args = one;
    assert_ok(w, world_deploy(w, "wasi", "wasi", &options));
    assert_int_equal(varve_module_id_of("wasi", &id), VARVE_OK);
    (void)world_i32(w, "wasi", "args_sizes", 2, 300, 304);
    options.args = two;
    assert_ok(w, varve_session_migrate(w->session, &id, code, size, &options, NULL, NULL, NULL, &w->error));
    (void)world_i32(w, "wasi", "args_sizes", 2, 300, 304);
    world_peek(w, "wasi", 300, &count, sizeof count);
    assert_int_equal(count, 2);
    free(code);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_call_takes_and_gives_numbers),
        TEST(a_wrong_call_is_misuse_and_says_the_signature),
        TEST(an_image_has_no_code_to_call),
        TEST(a_trap_undoes_memory_length_globals_tables_and_drops),
        TEST(no_gas_undoes_the_call),
        TEST(receipts_tell_what_was_used),
        TEST(the_same_calls_have_the_same_digest),
        TEST(a_query_answers_and_leaves_no_trace),
        TEST(an_unguarded_failure_taints_the_session),
        TEST(everything_an_instance_holds_survives_a_reopen),
        TEST(savepoints_span_calls),
        TEST(memory_grows_to_its_limit_and_no_further),
        TEST(deep_recursion_is_a_trap),
        TEST(a_chained_session_goes_on),
        TEST(a_removed_module_is_gone_and_comes_back_by_rollback),
        TEST(migration_keeps_memory_and_globals),
        TEST(migration_to_the_same_code_takes_the_new_arguments),
    };

    return cmocka_run_group_tests_name("vm call", tests, NULL, NULL);
}

/* Host functions: what they are given, what they may do, and what becomes of it when the call is undone. */
#include "vm_world.h"

#include <stdlib.h>

struct told {
    struct world *w;
    int kept, dropped, released;
};

static struct told told;

static void outcome(void *context, bool kept)
{
    (void)context;
    *(kept ? &told.kept : &told.dropped) += 1;
}

static void release(void *context)
{
    ((struct told *)context)->released++;
}

/* What to do comes in the first argument; what it came to goes back as the result. */
static varve_status host(void *context, varve_guest *guest, const varve_value *args, varve_value *results)
{
    varve_value arg = { .type = VARVE_I32, .of.i32 = 5 }, result = { .type = VARVE_I32 };
    const varve_guest_info *info = varve_guest_get(guest);
    uint64_t size = 0, before = 0;
    const void *data = NULL;
    size_t data_size = 0;
    uint32_t word = 0;

    (void)context;
    switch (args[0].of.i32) {
    case 0: /* plain values */
        results[0].of.i32 = (int32_t)(args[1].of.i64 >> 32);
        return VARVE_OK;
    case 1: /* memory */
        word = 0xabcd;
        if (varve_guest_write(guest, 100, &word, 4) != VARVE_OK ||
            varve_guest_read(guest, 100, &word, 4) != VARVE_OK)
            return varve_guest_fail(guest, VARVE_PANIC, "copies");
        results[0].of.i32 =
            (int32_t)(word + (((uint8_t *)varve_guest_memory(guest, &size))[100] == 0xcd) + size);
        return VARVE_OK;
    case 2: /* outside of it */
        return varve_guest_read(guest, 65533, &word, 4);
    case 3:
        return varve_guest_fail(guest, VARVE_PANIC, "the host says no");
    case 4:
        return varve_guest_fail(guest, VARVE_VETOED, "vetoed");
    case 5: /* call back, guarded: by name */
        results[0].of.i32 = (int32_t)varve_guest_call(guest, "plain", &arg, 1, &result, 1, 0);
        return VARVE_OK;
    case 6: /* a trap, guarded: undone alone */
        results[0].of.i32 = (int32_t)varve_guest_call(guest, "trapping", &arg, 1, &result, 1, 0);
        return VARVE_OK;
    case 7: /* a trap, unguarded: its writes stay */
        results[0].of.i32 =
            (int32_t)varve_guest_call(guest, "trapping", &arg, 1, &result, 1, VARVE_CALL_UNGUARDED);
        return VARVE_OK;
    case 8: /* through the table */
        if (varve_guest_call_table(guest, 0, &arg, 1, &result, 1, 0) != VARVE_OK)
            return varve_guest_fail(guest, VARVE_PANIC, "table");
        results[0].of.i32 = result.of.i32;
        return varve_guest_call_table(guest, 2, &arg, 1, &result, 1, 0) == VARVE_TRAP &&
                       varve_guest_call_table(guest, 0, &arg, 1, NULL, 0, 0) == VARVE_TRAP
                   ? VARVE_OK
                   : varve_guest_fail(guest, VARVE_PANIC, "an empty or other entry was called");
    case 9: /* deeper and deeper */
        return varve_guest_call(guest, "deep", &arg, 1, &result, 1, VARVE_CALL_UNGUARDED);
    case 10:
        return varve_guest_charge(guest, 1000);
    case 11:
        return varve_guest_emit(guest, "topic", "data", 4);
    case 12: /* more than a call may emit */
        for (int i = 0; i < 100000; i++) {
            const varve_status rc = varve_guest_emit(guest, "t", NULL, 0);
            if (rc != VARVE_OK)
                return rc;
        }
        return VARVE_OK;
    case 13:
        if (varve_guest_input(guest, "given", &data, &data_size) != VARVE_OK)
            return varve_guest_fail(guest, VARVE_PANIC, "no input");
        results[0].of.i32 = (int32_t)data_size;
        return varve_guest_input(guest, "other", &data, &data_size) == VARVE_NOT_FOUND ? VARVE_OK
                                                                                       : VARVE_MISUSE;
    case 14:
        return varve_guest_on_outcome(guest, outcome, NULL);
    case 15: /* an effect, then a failure */
        if (varve_guest_on_outcome(guest, outcome, NULL) != VARVE_OK)
            return VARVE_MEMORY;
        return varve_guest_fail(guest, VARVE_TRAP, "after an effect");
    case 16: /* grow, then see it */
        if (varve_guest_grow(guest, 1, &before) != VARVE_OK || before != 65536)
            return varve_guest_fail(guest, VARVE_PANIC, "growth");
        (void)varve_guest_memory(guest, &size);
        results[0].of.i32 = (int32_t)(size / 65536);
        return varve_guest_grow(guest, UINT64_C(1) << 32, &before) == VARVE_LIMIT ? VARVE_OK : VARVE_MISUSE;
    case 17:
        results[0].of.i32 = info->time_ns == world_time && !info->has_caller && info->depth == 1;
        return VARVE_OK;
    case 18: /* the session is taken */
        results[0].of.i32 = (int32_t)varve_session_savepoint(told.w->session, &word, NULL);
        return VARVE_OK;
    default:
        results[0].type = VARVE_F64;
        return VARVE_OK;
    }
}

static varve_status quiet(void *context, varve_guest *guest, const varve_value *args, varve_value *results)
{
    (void)context;
    (void)guest;
    (void)args;
    (void)results;
    return VARVE_OK;
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    varve_host_function f = VARVE_INIT(varve_host_function);
    static const varve_input input = { "given", "12345", 5 };
    varve_session_options begin = VARVE_INIT(varve_session_options);

    told = (struct told){ .w = w };
    world_new(w);
    f.module = "env";
    f.name = "host";
    f.signature = "i32 i64 -> i32";
    f.call = host;
    f.context = &told;
    f.release = release;
    assert_ok(w, varve_vm_define(w->vm, &f, &w->error));
    assert_status(w, varve_vm_define(w->vm, &f, &w->error), VARVE_EXISTS);
    f.name = "quiet";
    f.signature = "";
    f.call = quiet;
    f.release = NULL;
    f.gas = 50;
    assert_ok(w, varve_vm_define(w->vm, &f, &w->error));
    f.name = "bad";
    f.signature = "i32 i33";
    assert_status(w, varve_vm_define(w->vm, &f, &w->error), VARVE_MISUSE);
    begin.vm = w->vm;
    begin.time_ns = world_time;
    begin.inputs = &input;
    begin.input_count = 1;
    assert_ok(w, varve_session_begin(w->store, &begin, &w->session, &w->error));
    f.name = "late";
    f.signature = "";
    assert_status(w, varve_vm_define(w->vm, &f, &w->error), VARVE_MISUSE);
    assert_ok(w, world_deploy(w, "h", "host", NULL));
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    world_free(*state);
    assert_int_equal(told.released, 1);
    free(*state);
    return 0;
}

static varve_status run(struct world *w, int what, int64_t number, uint64_t *result)
{
    return world_call(w, "h", "run", result, "i32 i64", what, number);
}

static int run_ok(struct world *w, int what)
{
    uint64_t result = 0;

    assert_ok(w, run(w, what, 0, &result));
    return (int)(int32_t)result;
}

static void values_and_memory_pass_both_ways(void **state)
{
    struct world *w = *state;
    uint64_t result = 0;

    assert_ok(w, run(w, 0, INT64_C(-5) * (INT64_C(1) << 32), &result));
    assert_int_equal((int32_t)result, -5);
    assert_int_equal(run_ok(w, 1), 0xabcd + 1 + 65536);
    assert_int_equal(run_ok(w, 16), 2);
    assert_int_equal(run_ok(w, 17), 1);
    assert_int_equal(run_ok(w, 13), 5);
}

static void a_failure_in_the_host_ends_the_call(void **state)
{
    struct world *w = *state;

    assert_status(w, run(w, 2, 0, NULL), VARVE_TRAP);
    assert_words(w, "65533");
    assert_status(w, run(w, 3, 0, NULL), VARVE_PANIC);
    assert_words(w, "the host says no");
    assert_non_null(strstr(varve_receipt_get(w->receipt)->trace, "function"));
    assert_status(w, run(w, 4, 0, NULL), VARVE_VETOED);
    assert_status(w, run(w, 99, 0, NULL), VARVE_MISUSE);
    assert_words(w, "another type");
    assert_int_equal(world_i32(w, "h", "n", 0), 7);
}

static void the_guest_is_called_back(void **state)
{
    struct world *w = *state;

    assert_int_equal(run_ok(w, 5), VARVE_OK);
    assert_int_equal(world_i32(w, "h", "n", 0), 12);
    assert_int_equal(run_ok(w, 8), 17);
    assert_int_equal(world_i32(w, "h", "n", 0), 17);
}

static void a_guarded_call_back_is_undone_alone(void **state)
{
    struct world *w = *state;
    uint32_t word = 0;

    world_i32(w, "h", "plain", 1, 3);
    assert_int_equal(run_ok(w, 6), VARVE_TRAP);
    assert_int_equal(world_i32(w, "h", "n", 0), 10);
    world_peek(w, "h", 64, &word, 4);
    assert_int_equal(word, 10);
    assert_int_equal(world_memory(w, "h"), 65536);
    assert_int_equal(run_ok(w, 7),
                     VARVE_TRAP); /* unguarded: as the trap left it, and the outer call succeeded */
    assert_int_equal((int32_t)world_i32(w, "h", "n", 0), -1);
    assert_int_equal(world_memory(w, "h"), 2 * 65536);
    world_reopen(w);
    assert_int_equal((int32_t)world_i32(w, "h", "n", 0), -1);
}

static void calls_in_one_another_meet_a_limit(void **state)
{
    struct world *w = *state;

    assert_status(w, run(w, 9, 0, NULL), VARVE_LIMIT);
    assert_words(w, "call_depth");
    assert_int_equal(world_i32(w, "h", "n", 0), 7);
}

static void host_functions_cost_gas(void **state)
{
    struct world *w = *state;

    w->gas = 5000;
    assert_ok(w, world_call(w, "h", "quiet", NULL, ""));
    assert_in_range(varve_receipt_get(w->receipt)->gas_used, 50, 60);
    assert_int_equal(run_ok(w, 10), 0);
    assert_in_range(varve_receipt_get(w->receipt)->gas_used, 1000, 1020);
    w->gas = 900;
    assert_status(w, run(w, 10, 0, NULL), VARVE_OUT_OF_GAS);
    assert_int_equal(varve_receipt_get(w->receipt)->gas_used, 900);
}

static void events_are_in_the_receipt_and_bounded(void **state)
{
    struct world *w = *state;
    varve_event event = VARVE_INIT(varve_event);

    (void)run_ok(w, 11);
    assert_int_equal(varve_receipt_get(w->receipt)->event_count, 1);
    assert_int_equal(varve_receipt_event(w->receipt, 0, &event), VARVE_OK);
    assert_string_equal(event.topic, "topic");
    assert_int_equal(event.data_size, 4);
    assert_false(event.reverted);
    assert_int_equal(varve_receipt_event(w->receipt, 1, &event), VARVE_END);
    assert_status(w, run(w, 12, 0, NULL), VARVE_LIMIT);
    assert_words(w, "limit: events");
    assert_int_equal(varve_receipt_event(w->receipt, 0, &event), VARVE_OK);
    assert_true(event.reverted);
}

static void effects_learn_what_became_of_them(void **state)
{
    struct world *w = *state;
    uint32_t savepoint = 0;

    (void)run_ok(w, 14);
    assert_int_equal(told.kept + told.dropped, 0);
    assert_status(w, run(w, 15, 0, NULL), VARVE_TRAP);
    assert_int_equal(told.dropped, 1);
    assert_ok(w, varve_session_savepoint(w->session, &savepoint, &w->error));
    (void)run_ok(w, 14);
    (void)run_ok(w, 14);
    assert_ok(w, varve_session_rollback(w->session, savepoint, &w->error));
    assert_int_equal(told.dropped, 3);
    (void)run_ok(w, 14);
    assert_ok(w, varve_session_release(w->session, savepoint, &w->error));
    assert_int_equal(told.kept, 0);
    (void)world_commit(w);
    assert_int_equal(told.kept, 2);
    world_begin(w);
    (void)run_ok(w, 14);
    world_abort(w);
    assert_int_equal(told.kept, 2);
    assert_int_equal(told.dropped, 4);
}

static void the_session_is_closed_to_callbacks(void **state)
{
    assert_int_equal(run_ok(*state, 18), VARVE_MISUSE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(values_and_memory_pass_both_ways),
        TEST(a_failure_in_the_host_ends_the_call),
        TEST(the_guest_is_called_back),
        TEST(a_guarded_call_back_is_undone_alone),
        TEST(calls_in_one_another_meet_a_limit),
        TEST(host_functions_cost_gas),
        TEST(events_are_in_the_receipt_and_bounded),
        TEST(effects_learn_what_became_of_them),
        TEST(the_session_is_closed_to_callbacks),
    };

    return cmocka_run_group_tests_name("vm host", tests, NULL, NULL);
}

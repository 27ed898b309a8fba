/* Guests that turn on the functions that answer them: bad pointers, huge counts, floods, the end of the stack, an
 * interrupt at the wrong moment. Each ends as a status or an errno, and costs gas for what the host does. */
#include "vm_world.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { FAULT = 21, INVAL = 28 };

/* Call back what longjmps, guarded and not, and tell the guest that all is well. */
static varve_status swallow(void *context, varve_guest *guest, const varve_value *args, varve_value *results)
{
    (void)context;
    (void)args;
    (void)results;
    varve_status rc = varve_guest_call(guest, "throws", NULL, 0, NULL, 0, 0);
    if (rc != VARVE_OK)
        rc = varve_guest_call(guest, "throws", NULL, 0, NULL, 0, VARVE_CALL_UNGUARDED);
    return rc == VARVE_OK ? VARVE_PANIC : VARVE_OK;
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    varve_host_function f = VARVE_INIT(varve_host_function);
    const char *const args[] = { "a", "bb", NULL };
    varve_deploy_options options = VARVE_INIT(varve_deploy_options);

    world_new(w);
    f.module = "env";
    f.name = "swallow";
    f.signature = "";
    f.call = swallow;
    assert_ok(w, varve_vm_define(w->vm, &f, &w->error));
    world_begin(w);
    options.args = args;
    assert_ok(w, world_deploy(w, "h", "hostile", &options));
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    world_free(*state);
    free(*state);
    return 0;
}

static void the_end_of_the_stack_may_lie_in_a_host_function(void **state)
{
    struct world *w = *state;
    const varve_root before = world_root(w);

    assert_status(w, world_call(w, "h", "deep", NULL, ""), VARVE_TRAP);
    for (int i = 0; i < 4; i++)
        assert_status(w, world_call(w, "h", "deep2", NULL, "i64", (int64_t)i), VARVE_TRAP);
    w->gas = 1000000; /* the engine walks the stack for each failure: that is paid for */
    assert_status(w, world_call(w, "h", "deep2", NULL, "i64", INT64_C(0)), VARVE_OUT_OF_GAS);
    w->gas = 0;
    const varve_root after = world_root(w);
    assert_memory_equal(&before, &after, sizeof before);
    world_i32(w, "h", "many", 1, 1);
}

/* A handle made for each call would end at the engine's number of instances. */
static void a_guest_may_call_through_its_table_for_ever(void **state)
{
    world_i32(*state, "h", "many", 1, 200000);
}

static void *interrupt_until_told(void *context)
{
    struct world *w = context;
    const struct timespec pause = { .tv_nsec = 2 * 1000 * 1000 };

    (void)nanosleep(&pause, NULL);
    varve_session_interrupt(w->session);
    return NULL;
}

static void an_interrupt_may_come_inside_a_host_function(void **state)
{
    struct world *w = *state;
    pthread_t thread;

    for (int i = 0; i < 40; i++) {
        assert_int_equal(pthread_create(&thread, NULL, interrupt_until_told, w), 0);
        assert_status(w, world_call(w, "h", "endless", NULL, ""), VARVE_CANCELLED);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
}

static void a_longjmp_that_the_host_took_catches_no_later_trap(void **state)
{
    struct world *w = *state;

    assert_status(w, world_call(w, "h", "swallowed_jump", NULL, ""), VARVE_TRAP);
    assert_status(w, world_call(w, "h", "jump_swallowed_inside", NULL, ""), VARVE_TRAP);
    assert_int_equal(world_i32(w, "h", "threw", 0), 0);
}

static void bad_pointers_are_answered_and_write_nothing(void **state)
{
    struct world *w = *state;
    const uint32_t vectors[] = { 64, 1, 0xfffffff0u, 0x20 }; /* the second runs over the end of everything */
    const uint64_t end = world_memory(w, "h");

    assert_int_equal(world_i32(w, "h", "write", 3, 1, 8, -1), FAULT);
    assert_int_equal(world_i32(w, "h", "write", 3, 1, -8, 2), FAULT);
    world_poke(w, "h", 8, vectors, sizeof vectors);
    assert_int_equal(world_i32(w, "h", "write", 3, 1, 8, 2), FAULT);
    assert_int_equal(w->output_size, 0); /* not even the first */
    assert_int_equal(world_i32(w, "h", "random", 2, 0, -1), FAULT);
    assert_int_equal(world_i32(w, "h", "random", 2, (int)end - 1, 2), FAULT);
    assert_int_equal(world_i32(w, "h", "random", 2, (int)end, 0), 0);
    assert_int_equal(world_i32(w, "h", "random", 2, (int)end + 1, 0), FAULT);
    assert_int_equal(world_i32(w, "h", "poll", 1, 0), INVAL);
    assert_int_equal(world_i32(w, "h", "poll", 1, -1), FAULT);
    assert_int_equal(world_i32(w, "h", "args", 2, 0, (int)end - 1), FAULT);
    assert_int_equal(world_i32(w, "h", "args", 2, (int)end - 7, 0), FAULT);
    assert_int_equal(world_i32(w, "h", "args", 2, (int)end - 8, 0), 0);
}

/* After growth in the same session the new pages count, and after an undo they do not. */
static void pointers_are_checked_against_the_memory_as_it_is(void **state)
{
    struct world *w = *state;
    const uint64_t end = world_memory(w, "h");
    uint32_t savepoint = 0;

    assert_ok(w, varve_session_savepoint(w->session, &savepoint, &w->error));
    world_i32(w, "h", "grow", 1, 1);
    assert_int_equal(world_i32(w, "h", "random", 2, (int)end, 65536), 0);
    assert_int_equal(world_i32(w, "h", "random", 2, (int)end, 65537), FAULT);
    assert_ok(w, varve_session_rollback(w->session, savepoint, &w->error));
    assert_int_equal(world_i32(w, "h", "random", 2, (int)end, 1), FAULT);
}

static void gas_pays_for_what_the_host_does(void **state)
{
    struct world *w = *state;

    world_i32(w, "h", "grow", 1, 1000);
    w->gas = 1000000;
    assert_status(w, world_call(w, "h", "random", NULL, "i32 i32", 0, 50 << 20), VARVE_OUT_OF_GAS);
    assert_status(w, world_call(w, "h", "write", NULL, "i32 i32 i32", 1, 65536, 6 << 20), VARVE_OUT_OF_GAS);
    assert_status(w, world_call(w, "h", "poll", NULL, "i32", 1 << 20), VARVE_OUT_OF_GAS);
    assert_ok(w, world_call(w, "h", "random", NULL, "i32 i32", 0, 500000));
    assert_in_range(varve_receipt_get(w->receipt)->gas_used, 500000, 500100);
}

static void a_flood_of_small_pieces_meets_the_limit_early(void **state)
{
    struct world *w = *state;

    assert_status(w, world_call(w, "h", "flood", NULL, ""), VARVE_LIMIT);
    assert_in_range(w->output_reverted, 1, 1 << 18);
}

/* The bytes of the text that the guest's strftime makes of a fixed time. */
static int format(struct world *w, const char *format, char text[256], int room)
{
    const uint32_t time[11] = { 5, 4, 3, 2, 0, 100, 0, 1 }; /* Sunday, 2 January 2000, 03:04:05 */

    world_poke(w, "h", 1024, time, sizeof time);
    world_poke(w, "h", 2048, format, strlen(format) + 1);
    const int size = (int)world_i32(w, "h", "format", 1, room);
    world_peek(w, "h", 4096, text, 255);
    text[size] = '\0';
    return size;
}

static void times_are_formatted_the_same_everywhere(void **state)
{
    struct world *w = *state;
    char text[256];

    assert_int_equal(setenv("TZ", "America/New_York", 1), 0);
    tzset();
    (void)format(w, "%Y-%m-%d %H:%M:%S %a %b %j %y%%", text, 200);
    assert_string_equal(text, "2000-01-02 03:04:05 Sun Jan 002 00%");
    (void)format(w, "%s", text, 200);
    assert_string_equal(text, "946782245");
    (void)format(w, "%z|%Z", text, 200);
    assert_string_equal(text, "+0000|UTC");
    assert_int_equal(format(w, "%900000000d", text, 200), 0);
    assert_int_equal(format(w, "%Y", text, 4), 0); /* its NUL has no room */
    assert_int_equal(format(w, "%Y", text, 5), 4);
    assert_int_equal(unsetenv("TZ"), 0);
    tzset();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_end_of_the_stack_may_lie_in_a_host_function),
        TEST(a_guest_may_call_through_its_table_for_ever),
        TEST(an_interrupt_may_come_inside_a_host_function),
        TEST(a_longjmp_that_the_host_took_catches_no_later_trap),
        TEST(bad_pointers_are_answered_and_write_nothing),
        TEST(pointers_are_checked_against_the_memory_as_it_is),
        TEST(gas_pays_for_what_the_host_does),
        TEST(a_flood_of_small_pieces_meets_the_limit_early),
        TEST(times_are_formatted_the_same_everywhere),
    };

    return cmocka_run_group_tests_name("vm boundary", tests, NULL, NULL);
}

/* WASI: the same everywhere and every time, and no pointer is believed. */
#include "vm_world.h"

#include <stdlib.h>

enum { OK = 0, BADF = 8, FAULT = 21, INVAL = 28, SPIPE = 70, END = 65536 };

static int set_up(void **state)
{
    static const char *const args[] = { "prog", "two words", NULL }, *const env[] = { "HOME=/", NULL };
    struct world *w = calloc(1, sizeof *w);
    varve_deploy_options options = VARVE_INIT(varve_deploy_options);

    world_new(w);
    world_begin(w);
    options.args = args;
    options.env = env;
    assert_ok(w, world_deploy(w, "p", "wasi", &options));
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    world_free(*state);
    free(*state);
    return 0;
}

static void initialize_runs_once_at_deploy(void **state)
{
    struct world *w = *state;

    assert_int_equal(world_i32(w, "p", "initialized", 0), 1);
    world_reopen(w);
    assert_int_equal(world_i32(w, "p", "initialized", 0), 1);
}

static void what_is_printed_arrives_when_the_call_has_ended(void **state)
{
    struct world *w = *state;

    assert_int_equal(world_i32(w, "p", "print", 3, 1, 1024, 13), OK);
    assert_string_equal(w->output, "hello, world\n");
    assert_int_equal(world_i32(w, "p", "load", 1, 24), 13);
    assert_int_equal(w->output_reverted, 0);
    assert_int_equal(world_i32(w, "p", "print", 3, 3, 1024, 13), BADF);
    assert_int_equal(world_i32(w, "p", "print", 3, 0, 1024, 13), BADF);
    assert_int_equal(world_i32(w, "p", "print", 3, 1, END - 4, 13), FAULT);
    assert_int_equal(world_i32(w, "p", "print", 3, 1, -1, 2), FAULT);
    assert_int_equal(world_i32(w, "p", "fd_write", 4, 1, 16, -1, 24), FAULT);
    assert_int_equal(world_i32(w, "p", "fd_write", 4, 1, 16, 1, END - 3), FAULT);
    assert_string_equal(w->output, "hello, world\n");
}

static void what_a_failed_call_printed_is_marked(void **state)
{
    struct world *w = *state;

    assert_status(w, world_call(w, "p", "print_then", NULL, "i32", -1), VARVE_TRAP);
    assert_string_equal(w->output, "hello, world\n");
    assert_int_equal(w->output_reverted, 13);
}

static void exit_with_0_is_success_and_keeps_what_was_written(void **state)
{
    struct world *w = *state;

    assert_ok(w, world_call(w, "p", "print_then", NULL, "i32", 0));
    assert_int_equal(world_i32(w, "p", "load", 1, 2048), 77);
    assert_int_equal(w->output_reverted, 0);
}

static void exit_with_another_code_is_undone_and_told(void **state)
{
    struct world *w = *state;

    assert_status(w, world_call(w, "p", "print_then", NULL, "i32", 3), VARVE_EXITED);
    assert_int_equal(w->error.system, 3);
    assert_words(w, "code 3");
    assert_int_equal(world_i32(w, "p", "load", 1, 2048), 0);
}

static void standard_input_is_at_its_end_and_there_are_no_files(void **state)
{
    struct world *w = *state;

    assert_int_equal(world_i32(w, "p", "fd_read", 4, 0, 16, 0, 32), OK);
    assert_int_equal(world_i32(w, "p", "load", 1, 32), 0);
    assert_int_equal(world_i32(w, "p", "fd_read", 4, 1, 16, 0, 32), BADF);
    assert_int_equal(world_i32(w, "p", "fd_read", 4, 0, 16, 0, END), FAULT);
    assert_int_equal(world_i32(w, "p", "fd_prestat_get", 2, 3, 32), BADF);
    assert_int_equal(world_i32(w, "p", "path_open", 1, 3), BADF);
    assert_int_equal(world_i32(w, "p", "fd_close", 1, 3), BADF);
    assert_int_equal(world_i32(w, "p", "fd_close", 1, 1), OK);
    assert_int_equal(world_i32(w, "p", "fd_seek", 2, 1, 32), SPIPE);
    assert_int_equal(world_i32(w, "p", "fd_seek", 2, 4, 32), BADF);
    assert_int_equal(world_i32(w, "p", "fd_fdstat_get", 2, 1, 64), OK);
    assert_int_equal(world_i32(w, "p", "load", 1, 64) & 0xff, 2); /* a character device */
    assert_int_equal(world_i32(w, "p", "fd_fdstat_get", 2, 5, 64), BADF);
    assert_int_equal(world_i32(w, "p", "fd_fdstat_get", 2, 1, END - 23), FAULT);
    assert_int_equal(world_i32(w, "p", "yield", 0), OK);
}

static void the_clock_is_the_sessions_and_stands_still(void **state)
{
    struct world *w = *state;
    int64_t time = 0;

    for (int clock = 0; clock < 4; clock++) {
        assert_int_equal(world_i32(w, "p", "clock", 2, clock, 128), OK);
        world_peek(w, "p", 128, &time, sizeof time);
        assert_true(time == world_time);
    }
    assert_int_equal(world_i32(w, "p", "clock", 2, 4, 128), INVAL);
    assert_int_equal(world_i32(w, "p", "clock", 2, 0, END - 7), FAULT);
    assert_int_equal(world_i32(w, "p", "clock_res", 2, 0, 128), OK);
    assert_int_equal(world_i32(w, "p", "clock_res", 2, 9, 128), INVAL);
}

static void chance_is_a_stream_that_an_undo_rewinds(void **state)
{
    struct world *w = *state;
    uint8_t first[40], again[40], next[40];
    uint32_t savepoint = 0;

    assert_ok(w, varve_session_savepoint(w->session, &savepoint, &w->error));
    assert_int_equal(world_i32(w, "p", "random", 2, 256, 40), OK);
    world_peek(w, "p", 256, first, sizeof first);
    assert_int_equal(world_i32(w, "p", "random", 2, 256, 40), OK);
    world_peek(w, "p", 256, next, sizeof next);
    assert_memory_not_equal(first, next, sizeof first);
    assert_ok(w, varve_session_rollback(w->session, savepoint, &w->error));
    assert_int_equal(world_i32(w, "p", "random", 2, 256, 40), OK);
    world_peek(w, "p", 256, again, sizeof again);
    assert_memory_equal(first, again, sizeof first);
    assert_ok(w, varve_session_release(w->session, savepoint, &w->error));
    world_reopen(w); /* the position is part of the state */
    assert_int_equal(world_i32(w, "p", "random", 2, 256, 40), OK);
    world_peek(w, "p", 256, again, sizeof again);
    assert_memory_equal(next, again, sizeof next);
    assert_int_equal(world_i32(w, "p", "random", 2, END - 3, 4), FAULT);
}

static void arguments_and_environment_are_recorded_with_the_module(void **state)
{
    struct world *w = *state;
    char text[32];
    uint32_t at = 0;

    world_reopen(w);
    assert_int_equal(world_i32(w, "p", "args_sizes", 2, 300, 304), OK);
    assert_int_equal(world_i32(w, "p", "load", 1, 300), 2);
    assert_int_equal(world_i32(w, "p", "load", 1, 304), 15);
    assert_int_equal(world_i32(w, "p", "args", 2, 310, 400), OK);
    world_peek(w, "p", 314, &at, sizeof at);
    world_peek(w, "p", at, text, 10);
    assert_string_equal(text, "two words");
    assert_int_equal(world_i32(w, "p", "environ_sizes", 2, 300, 304), OK);
    assert_int_equal(world_i32(w, "p", "load", 1, 304), 7);
    assert_int_equal(world_i32(w, "p", "environ", 2, 310, 400), OK);
    world_peek(w, "p", 400, text, 7);
    assert_string_equal(text, "HOME=/");
    assert_int_equal(world_i32(w, "p", "args", 2, END - 4, 400), FAULT);
    assert_int_equal(world_i32(w, "p", "args", 2, 310, END - 2), FAULT);
}

static void a_wait_is_over_at_once(void **state)
{
    struct world *w = *state;
    const uint8_t subscription[48] = { 7, 7, 7, 7, 7, 7, 7, 7, 1 };
    uint8_t event[32];

    world_poke(w, "p", 512, subscription, sizeof subscription);
    assert_int_equal(world_i32(w, "p", "poll", 4, 512, 600, 1, 700), OK);
    assert_int_equal(world_i32(w, "p", "load", 1, 700), 1);
    world_peek(w, "p", 600, event, sizeof event);
    assert_memory_equal(event, subscription, 8);
    assert_int_equal(event[10], 1);
    assert_int_equal(world_i32(w, "p", "poll", 4, 512, 600, 0, 700), INVAL);
    assert_int_equal(world_i32(w, "p", "poll", 4, 512, 600, 0x7fffffff, 700), FAULT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(initialize_runs_once_at_deploy),
        TEST(what_is_printed_arrives_when_the_call_has_ended),
        TEST(what_a_failed_call_printed_is_marked),
        TEST(exit_with_0_is_success_and_keeps_what_was_written),
        TEST(exit_with_another_code_is_undone_and_told),
        TEST(standard_input_is_at_its_end_and_there_are_no_files),
        TEST(the_clock_is_the_sessions_and_stands_still),
        TEST(chance_is_a_stream_that_an_undo_rewinds),
        TEST(arguments_and_environment_are_recorded_with_the_module),
        TEST(a_wait_is_over_at_once),
    };

    return cmocka_run_group_tests_name("vm wasi", tests, NULL, NULL);
}

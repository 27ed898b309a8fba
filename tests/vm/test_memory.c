/* Every allocation of deploy, call and query fails once: the answer is MEMORY, and the state is as before. */
#include "vm_world.h"

#include <stdlib.h>

#include "base/alloc.h"

typedef varve_status (*attempt_fn)(struct world *w);

static varve_status deploy(struct world *w)
{
    return world_deploy(w, "m", "zoo", NULL);
}

static varve_status call(struct world *w)
{
    return world_call(w, "zoo", "mess", NULL, "i32 i32 i32", 256, 7, 0);
}

static varve_status failing_call(struct world *w)
{
    const varve_status rc = world_call(w, "zoo", "mess", NULL, "i32 i32 i32", 256, 7, 1);

    return rc == VARVE_TRAP ? VARVE_OK : rc;
}

static varve_status query(struct world *w)
{
    w->flags = VARVE_CALL_QUERY;
    const varve_status rc = world_call(w, "zoo", "mess", NULL, "i32 i32 i32", 256, 7, 0);
    w->flags = 0;
    return rc;
}

static void begin(struct world *w)
{
    world_begin(w);
    assert_ok(w, world_deploy(w, "zoo", "zoo", NULL));
    world_i32(w, "zoo", "inc", 1, 5);
}

static void sweep(attempt_fn attempt, bool changes, unsigned least)
{
    struct world w;
    unsigned failures = 0, dead = 0;

    world_new(&w);
    for (unsigned nth = 1;; nth++) {
        begin(&w);
        const varve_root root = world_root(&w);
        vv_alloc_fail_at(nth);
        const varve_status rc = attempt(&w);
        const bool failed = vv_alloc_disarm();
        if (!failed)
            assert_ok(&w, rc);
        /* What only makes things faster may do without its memory. */
        assert_true(rc == VARVE_OK || rc == VARVE_MEMORY);
        failures += rc != VARVE_OK;
        varve_root after;
        if (varve_session_root(w.session, &after, &w.error) != VARVE_OK)
            dead++; /* an undo that found no memory: the session can only be aborted */
        else if (rc != VARVE_OK || !changes)
            assert_memory_equal(&root, &after, sizeof root);
        world_abort(&w);
        if (!failed)
            break;
    }
    print_message("%u failures, %u sessions given up\n", failures, dead);
    assert_true(failures >= least);
    assert_true(dead * 4 <= failures);
    world_free(&w);
}

static void a_deploy_without_memory_changes_nothing(void **state)
{
    (void)state;
    sweep(deploy, true, 20);
}

static void a_call_without_memory_changes_nothing(void **state)
{
    (void)state;
    sweep(call, true, 3);
}

static void a_failing_call_without_memory_changes_nothing(void **state)
{
    (void)state;
    sweep(failing_call, false, 0);
}

static void a_query_without_memory_changes_nothing(void **state)
{
    (void)state;
    sweep(query, false, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_deploy_without_memory_changes_nothing),
        cmocka_unit_test(a_call_without_memory_changes_nothing),
        cmocka_unit_test(a_failing_call_without_memory_changes_nothing),
        cmocka_unit_test(a_query_without_memory_changes_nothing),
    };

    return cmocka_run_group_tests_name("vm memory", tests, NULL, NULL);
}

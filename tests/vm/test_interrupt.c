/* Interrupts: a call that would never end is stopped from another thread, undone, and nobody else notices. */
#include "vm_world.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

static void *interrupt_until_told(void *context)
{
    struct world *w = context;
    const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };

    (void)nanosleep(&pause, NULL);
    varve_session_interrupt(w->session);
    return NULL;
}

static void an_endless_call_is_stopped_and_undone(void **state)
{
    struct world w;
    pthread_t thread;

    (void)state;
    world_new(&w);
    world_begin(&w);
    assert_ok(&w, world_deploy(&w, "zoo", "zoo", NULL));
    world_i32(&w, "zoo", "inc", 1, 3);
    varve_session_interrupt(w.session); /* nothing runs: nothing happens */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&thread, NULL, interrupt_until_told, &w), 0);
        assert_status(&w, world_call(&w, "zoo", "spin", NULL, ""), VARVE_CANCELLED);
        assert_words(&w, "interrupted");
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(world_i32(&w, "zoo", "n", 0), 3);
    }
    world_free(&w);
}

struct bystander {
    struct world w;
    bool _Atomic stop;
    uint64_t calls;
};

static void *count_on(void *context)
{
    struct bystander *b = context;

    while (!b->stop) {
        varve_module_id id;
        varve_value arg = { .type = VARVE_I32, .of.i32 = 1 }, result;
        if (varve_module_id_of("zoo", &id) != VARVE_OK ||
            varve_session_call(b->w.session, &id, "inc", &arg, 1, &result, 1, NULL, NULL, &b->w.error) !=
                VARVE_OK ||
            result.of.i32 != (int32_t)++b->calls)
            return context; /* failed */
    }
    return NULL;
}

static void an_interrupt_stops_its_own_session_alone(void **state)
{
    static struct bystander b;
    struct world w;
    pthread_t thread, other;
    void *failed = NULL;

    (void)state;
    world_new(&w);
    world_begin(&w);
    assert_ok(&w, world_deploy(&w, "zoo", "zoo", NULL));
    /* The bystander shares the VM, and so the engine. */
    world_new(&b.w);
    varve_vm_free(b.w.vm);
    b.w.vm = w.vm;
    world_begin(&b.w);
    assert_ok(&b.w, world_deploy(&b.w, "zoo", "zoo", NULL));
    assert_int_equal(pthread_create(&other, NULL, count_on, &b), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(pthread_create(&thread, NULL, interrupt_until_told, &w), 0);
        assert_status(&w, world_call(&w, "zoo", "spin", NULL, ""), VARVE_CANCELLED);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    b.stop = true;
    assert_int_equal(pthread_join(other, &failed), 0);
    assert_null(failed);
    assert_true(b.calls > 0);
    b.w.vm = NULL;
    world_abort(&b.w);
    world_free(&b.w);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_endless_call_is_stopped_and_undone),
        cmocka_unit_test(an_interrupt_stops_its_own_session_alone),
    };

    return cmocka_run_group_tests_name("vm interrupt", tests, NULL, NULL);
}

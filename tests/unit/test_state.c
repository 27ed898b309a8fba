/* test_state.c - store/state: copies of a state against arrays of what each should hold. */
#include "store/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"

static uint64_t seed = 1;
static uint64_t chance(uint64_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (seed >> 20) % below;
}

/* ---- The model: per id the module's number of globals, which tells one version from another; 0: absent -------- */

enum { STATES = 6, IDS = 150 };

struct pair {
    struct vv_state state;
    uint64_t model[IDS];
    bool live;
};

static varve_module_id id_of(size_t number)
{
    varve_module_id id = { .bytes = { 0 } };

    id.bytes[0] = (uint8_t)(number * 71);
    id.bytes[31] = (uint8_t)number;
    return id;
}

static struct vv_module *module_of(size_t number, uint64_t version)
{
    struct vv_module *module = NULL;

    assert_int_equal(vv_module_new(&module), VARVE_OK);
    module->id = id_of(number);
    module->globals = version;
    module->owner[0] = (uint8_t)version; /* so that versions differ in their leaves too */
    module->owner[1] = (uint8_t)(version >> 8);
    return module;
}

static void assert_holds_what_the_model_says(struct pair *pair)
{
    struct vv_module *module = NULL;
    uint64_t count = 0, expected = 0;

    for (size_t i = 0; i < IDS; i++) {
        const varve_module_id id = id_of(i);
        assert_int_equal(vv_state_get(&pair->state, &id, &module), VARVE_OK);
        assert_int_equal(module == NULL ? 0 : module->globals, pair->model[i]);
        expected += pair->model[i] != 0;
    }
    assert_int_equal(vv_state_count(&pair->state, &count), VARVE_OK);
    assert_int_equal(count, expected);
}

static void set_up_empty(struct pair *pair)
{
    memset(pair->model, 0, sizeof pair->model);
    assert_int_equal(vv_state_init(&pair->state, NULL, NULL), VARVE_OK);
    pair->live = true;
}

/* Set, remove, copy and drop at random, with bursts, so that few and many modules are shared when one changes. Every
 * few steps all states are compared with their arrays. */
static void copies_do_not_see_each_others_modules(void **context)
{
    static struct pair pairs[STATES];
    uint64_t version = 0;

    (void)context;
    for (size_t i = 0; i < STATES; i++)
        set_up_empty(&pairs[i]);
    for (unsigned step = 0; step < 6000; step++) {
        const size_t one = chance(STATES), other = chance(STATES);
        const uint64_t kind = chance(20);
        for (uint64_t burst = kind == 0 ? chance(80) : 1; kind < 12 && burst > 0; burst--) {
            const size_t number = chance(IDS);
            struct vv_module *module = module_of(number, ++version);
            assert_int_equal(vv_state_set(&pairs[one].state, module), VARVE_OK);
            vv_module_drop(module);
            pairs[one].model[number] = version;
        }
        if (kind >= 12 && kind < 17) {
            const size_t number = chance(IDS);
            const varve_module_id id = id_of(number);
            assert_int_equal(vv_state_remove(&pairs[one].state, &id), VARVE_OK);
            pairs[one].model[number] = 0;
        } else if (kind >= 17 && one != other) {
            vv_state_release(&pairs[other].state);
            assert_int_equal(vv_state_copy(&pairs[other].state, &pairs[one].state), VARVE_OK);
            memcpy(pairs[other].model, pairs[one].model, sizeof pairs[one].model);
        }
        for (size_t i = 0; i < STATES && step % 16 == 0; i++)
            assert_holds_what_the_model_says(&pairs[i]);
    }
    for (size_t i = 0; i < STATES; i++)
        vv_state_release(&pairs[i].state);
}

/* Fail the 1st, 2nd, 3rd... allocation while a shared state of few, then of many modules changes: it holds what it
 * held, or what it should, and its copy is as it was. */
static void a_change_without_memory_changes_nothing(void **context)
{
    (void)context;
    for (size_t held = 1; held < IDS; held += 60) {
        for (unsigned nth = 1;; nth++) {
            static struct pair one, copy;
            set_up_empty(&one);
            for (size_t i = 0; i < held; i++) {
                struct vv_module *module = module_of(i, i + 1);
                assert_int_equal(vv_state_set(&one.state, module), VARVE_OK);
                vv_module_drop(module);
                one.model[i] = i + 1;
            }
            assert_int_equal(vv_state_copy(&copy.state, &one.state), VARVE_OK);
            memcpy(copy.model, one.model, sizeof one.model);
            const size_t number = nth % 2 == 0 ? 0 : IDS - 1; /* there already; not there */
            struct vv_module *module = module_of(number, 1000);
            vv_alloc_fail_at(nth);
            const varve_status rc = vv_state_set(&one.state, module);
            const bool failed = vv_alloc_disarm();
            vv_module_drop(module);
            assert_int_equal(rc, failed ? VARVE_MEMORY : VARVE_OK);
            if (rc == VARVE_OK)
                one.model[number] = 1000;
            assert_holds_what_the_model_says(&one);
            assert_holds_what_the_model_says(&copy);
            vv_state_release(&one.state);
            vv_state_release(&copy.state);
            if (!failed && nth > 1)
                break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_do_not_see_each_others_modules),
        cmocka_unit_test(a_change_without_memory_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

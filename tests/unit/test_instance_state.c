/* Instance state: one canonical string of bytes, and no other is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "guest.h"
#include "vm/instance_state.h"

enum { ENTRIES_MAX = 100 };

struct fixture {
    struct guest guest;
    struct vv_wasm module;
    struct vv_plan plan;
    struct vv_instance_state state; /* filled: no field at its initial value */
    struct vv_bytes bytes;
};

static int setup(void **state)
{
    static struct fixture f;
    const struct vv_wasm_limits limits = vv_wasm_limits_of(NULL);
    const struct vv_rewrite_options options = { .missing_is_zero = true };

    f = (struct fixture){ .guest = guest_load("state") };
    assert_int_equal(vv_wasm_read(f.guest.bytes, f.guest.size, &limits, &f.module), VARVE_OK);
    assert_int_equal(vv_rewrite(&f.module, &options, &f.plan), VARVE_OK);
    assert_int_equal(vv_instance_state_new(&f.plan, &f.state), VARVE_OK);
    vv_put_u64(f.state.globals[0].value.bits, UINT64_C(0x0123456789abcdef));
    vv_put_u64(f.state.globals[1].value.bits, UINT64_C(0x7ff0000000000001)); /* a signalling NaN */
    vv_put_u32(f.state.globals[2].value.bits, 7);
    f.state.globals[3].value.function = 4;
    memset(f.state.globals[4].value.bits, 0xa5, 16);
    assert_int_equal(vv_instance_state_resize(&f.state.tables[0], 5), VARVE_OK);
    f.state.tables[0].entries[1] = 2;
    f.state.tables[0].entries[4] = 0;
    f.state.segments[1].dropped = true;
    assert_int_equal(vv_instance_state_encode(&f.state, &f.bytes), VARVE_OK);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    vv_bytes_release(&f->bytes);
    vv_instance_state_release(&f->state);
    vv_plan_release(&f->plan);
    vv_wasm_release(&f->module);
    guest_free(&f->guest);
    return 0;
}

static void the_bytes_are_these(void **state)
{
    struct fixture *f = *state;
    static const uint8_t wanted[] = {
        1,                                                          /* format */
        5,                                                          /* globals */
        1,    2,    0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 1,    /* i64 */
        3,    4,    1,    0,    0,    0,    0,    0,    0xf0, 0x7f, /* f64 */
        4,    1,    7,    0,    0,    0,                            /* i32 */
        5,    6,    5,                                              /* funcref: function 4 */
        7,    5,    0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5,
        0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5,    /* v128 */
        1,    1,    6,    5,    0,    3,    0,    0,    1, /* table 1: five entries */
        2,    0,    1,    0,    1,    1,    1              /* data 1 is there, element 1 dropped */
    };

    assert_int_equal(f->bytes.size, sizeof wanted);
    assert_memory_equal(f->bytes.data, wanted, sizeof wanted);
}

static void what_was_encoded_is_decoded(void **state)
{
    struct fixture *f = *state;
    struct vv_instance_state again;
    struct vv_bytes bytes = VV_BYTES_NONE;

    assert_int_equal(vv_instance_state_decode(f->bytes.data, f->bytes.size, ENTRIES_MAX, &again), VARVE_OK);
    assert_int_equal(vv_instance_state_check(&again, &f->plan), VARVE_OK);
    assert_int_equal(again.global_count, 5);
    assert_memory_equal(&again.globals[1].value, &f->state.globals[1].value, sizeof again.globals[1].value);
    assert_int_equal(again.globals[3].value.function, 4);
    assert_int_equal(again.tables[0].length, 5);
    assert_memory_equal(again.tables[0].entries, f->state.tables[0].entries, 5 * sizeof(uint32_t));
    assert_false(again.segments[0].dropped);
    assert_true(again.segments[1].dropped);
    assert_int_equal(vv_instance_state_encode(&again, &bytes), VARVE_OK);
    assert_int_equal(bytes.size, f->bytes.size);
    assert_memory_equal(bytes.data, f->bytes.data, bytes.size);
    vv_bytes_release(&bytes);
    vv_instance_state_release(&again);
}

/* Whatever decodes must encode to the very same bytes: so each state has one form. */
static void no_other_bytes_are_read(void **state)
{
    struct fixture *f = *state;
    struct vv_bytes bytes = VV_BYTES_NONE;
    struct vv_instance_state again;

    for (size_t cut = 0; cut < f->bytes.size; cut++) {
        struct guest part = guest_copy(f->bytes.data, cut);
        assert_int_equal(vv_instance_state_decode(part.bytes, cut, ENTRIES_MAX, &again), VARVE_CORRUPT);
        guest_free(&part);
    }
    struct guest copy = guest_copy(f->bytes.data, f->bytes.size);
    for (size_t bit = 0; bit < copy.size * 8; bit++) {
        copy.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        const varve_status rc = vv_instance_state_decode(copy.bytes, copy.size, ENTRIES_MAX, &again);
        if (rc == VARVE_OK) {
            vv_bytes_clear(&bytes);
            assert_int_equal(vv_instance_state_encode(&again, &bytes), VARVE_OK);
            assert_int_equal(bytes.size, copy.size);
            assert_memory_equal(bytes.data, copy.bytes, bytes.size);
            (void)vv_instance_state_check(&again, &f->plan);
            vv_instance_state_release(&again);
        } else {
            assert_true(rc == VARVE_CORRUPT || (rc == VARVE_NEWER && bit / 8 == 0));
        }
        copy.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    guest_free(&copy);
    vv_bytes_release(&bytes);
}

static void lengths_are_bounded_before_memory_is_taken(void **state)
{
    struct fixture *f = *state;
    struct vv_instance_state again;
    static const uint8_t many[] = { 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0 };

    assert_int_equal(vv_instance_state_decode(f->bytes.data, f->bytes.size, 5, &again), VARVE_OK);
    vv_instance_state_release(&again);
    assert_int_equal(vv_instance_state_decode(f->bytes.data, f->bytes.size, 4, &again), VARVE_CORRUPT);
    assert_int_equal(vv_instance_state_decode(many, sizeof many, ENTRIES_MAX, &again), VARVE_CORRUPT);
}

/* One thing at a time that the module has not. */
static void a_state_of_another_module_does_not_fit(void **state)
{
    struct fixture *f = *state;
    struct vv_instance_state *s = &f->state;

    assert_int_equal(vv_instance_state_check(s, &f->plan), VARVE_OK);
    s->globals[0].index = 2; /* not mutable */
    assert_int_equal(vv_instance_state_check(s, &f->plan), VARVE_CORRUPT);
    s->globals[0].index = 1;
    s->globals[2].value.type = VARVE_F32;
    assert_int_equal(vv_instance_state_check(s, &f->plan), VARVE_CORRUPT);
    s->globals[2].value.type = VARVE_I32;
    s->globals[3].value.function = 3; /* nobody can refer to it */
    assert_int_equal(vv_instance_state_check(s, &f->plan), VARVE_CORRUPT);
    s->globals[3].value.function = VV_WASM_NONE;
    assert_int_equal(vv_instance_state_check(s, &f->plan), VARVE_OK);
    s->tables[0].entries[0] = 77;
    assert_int_equal(vv_instance_state_check(s, &f->plan), VARVE_CORRUPT);
    s->tables[0].entries[0] = 1;
    s->tables[0].index = 0; /* code cannot change it */
    assert_int_equal(vv_instance_state_check(s, &f->plan), VARVE_CORRUPT);
    s->tables[0].index = 1;
    assert_int_equal(vv_instance_state_resize(&s->tables[0], 11), VARVE_OK); /* its maximum is 10 */
    assert_int_equal(vv_instance_state_check(s, &f->plan), VARVE_CORRUPT);
    assert_int_equal(vv_instance_state_resize(&s->tables[0], 2), VARVE_OK); /* and its minimum 3 */
    assert_int_equal(vv_instance_state_check(s, &f->plan), VARVE_CORRUPT);
    assert_int_equal(vv_instance_state_resize(&s->tables[0], 10), VARVE_OK);
    assert_int_equal(s->tables[0].entries[9], VV_WASM_NONE);
    assert_int_equal(vv_instance_state_check(s, &f->plan), VARVE_OK);
    s->segments[0].index = 3;
    assert_int_equal(vv_instance_state_check(s, &f->plan), VARVE_CORRUPT);
}

static void running_out_of_memory_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct vv_instance_state again;
    unsigned nth = 1;

    for (;; nth++) {
        vv_alloc_fail_at(nth);
        varve_status rc = vv_instance_state_decode(f->bytes.data, f->bytes.size, ENTRIES_MAX, &again);
        if (!vv_alloc_disarm()) {
            assert_int_equal(rc, VARVE_OK);
            break;
        }
        assert_int_equal(rc, VARVE_MEMORY);
        assert_null(again.globals);
    }
    assert_int_equal(nth, 5); /* globals, tables, entries, segments */
    vv_instance_state_release(&again);
    for (nth = 1;; nth++) {
        vv_alloc_fail_at(nth);
        const varve_status rc = vv_instance_state_new(&f->plan, &again);
        if (!vv_alloc_disarm()) {
            assert_int_equal(rc, VARVE_OK);
            break;
        }
        assert_int_equal(rc, VARVE_MEMORY);
    }
    vv_instance_state_release(&again);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_bytes_are_these, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_encoded_is_decoded, setup, teardown),
        cmocka_unit_test_setup_teardown(no_other_bytes_are_read, setup, teardown),
        cmocka_unit_test_setup_teardown(lengths_are_bounded_before_memory_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(a_state_of_another_module_does_not_fit, setup, teardown),
        cmocka_unit_test_setup_teardown(running_out_of_memory_leaves_nothing, setup, teardown),
    };

    guest_folder(argc > 1 ? argv[1] : ".");
    return cmocka_run_group_tests(tests, NULL, NULL);
}

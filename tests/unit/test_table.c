/* Table: it answers what the last put said, whatever was put, replaced and removed in between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/table.h"

enum { KEYS = 1500, OPERATIONS = 100000 };

static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Keys of `size` bytes that differ in the end only (the worst for a hash that forgets a tail). */
static void make_key(uint8_t *key, size_t size, unsigned number)
{
    memset(key, 0xa5, size);
    key[size - 1] = (uint8_t)number;
    if (size > 1)
        key[size - 2] = (uint8_t)(number >> 8);
}

struct model {
    bool present[KEYS];
    uint64_t value[KEYS];
    size_t count;
};

static void assert_table_is_the_model(const struct vv_table *table, const struct model *model,
                                      size_t key_size, unsigned keys)
{
    uint8_t key[64];
    size_t cursor = 0;
    size_t seen = 0;
    const void *at = NULL;
    union vv_value *value = NULL;

    assert_int_equal(table->count, model->count);
    for (unsigned number = 0; number < keys; number++) {
        make_key(key, key_size, number);
        const union vv_value *found = vv_table_get(table, key);
        assert_int_equal(found != NULL, model->present[number]);
        if (found != NULL)
            assert_true(found->number == model->value[number]);
    }
    while (vv_table_next(table, &cursor, &at, &value)) {
        const uint8_t *bytes = at;
        const unsigned number = bytes[key_size - 1] | (key_size > 1 ? bytes[key_size - 2] << 8 : 0);
        assert_true(number < keys && model->present[number]);
        assert_true(value->number == model->value[number]);
        seen++;
    }
    assert_int_equal(seen, model->count); /* each once, for there are as many as there should be */
}

/* Random operations against an array. Every fiftieth put may not allocate: then nothing changes. */
static void it_is_as_an_array_would_be(void **state)
{
    static const size_t key_sizes[] = { 1, 3, 8, 16, 32, 33 };
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);

    (void)state;
    for (size_t i = 0; i < sizeof key_sizes / sizeof key_sizes[0]; i++) {
        const unsigned keys = key_sizes[i] == 1 ? 256 : KEYS;
        struct vv_table table;
        struct model model = { .count = 0 };
        uint8_t key[64];
        unsigned refused = 0;
        vv_table_init(&table, key_sizes[i]);
        for (unsigned step = 0; step < OPERATIONS; step++) {
            const unsigned number = (unsigned)(random_next(&seed) % keys);
            /* Long stretches of mostly putting, then of mostly removing: the table grows full and empties. */
            const bool put = random_next(&seed) % 10 < ((step / 5000) % 2 == 0 ? 7 : 3);
            make_key(key, key_sizes[i], number);
            if (put) {
                const union vv_value value = { .number = random_next(&seed) };
                vv_alloc_fail_at(step % 50 == 0 ? 1 : 0);
                const varve_status rc = vv_table_put(&table, key, value);
                const bool failed = vv_alloc_disarm();
                assert_int_equal(rc, failed ? VARVE_MEMORY : VARVE_OK);
                refused += failed;
                if (!failed) {
                    model.count += !model.present[number];
                    model.present[number] = true;
                    model.value[number] = value.number;
                }
            } else {
                union vv_value value = { .number = 0 };
                assert_int_equal(vv_table_remove(&table, key, step % 2 == 0 ? &value : NULL),
                                 model.present[number]);
                if (model.present[number] && step % 2 == 0)
                    assert_true(value.number == model.value[number]);
                model.count -= model.present[number];
                model.present[number] = false;
            }
            if (step % 2000 == 0)
                assert_table_is_the_model(&table, &model, key_sizes[i], keys);
        }
        assert_table_is_the_model(&table, &model, key_sizes[i], keys);
        if (i == 0)
            assert_true(refused > 0); /* step 0 needs the first slots: the refusal was rehearsed */
        vv_table_release(&table);
    }
}

/* Fail each growth on the way to 1000 keys: what was in the table before is in it after. */
static void running_out_of_memory_changes_nothing(void **state)
{
    struct vv_table table;
    unsigned refused = 0;
    uint8_t key[32];

    (void)state;
    vv_table_init(&table, sizeof key);
    for (unsigned number = 0; number < 1000; number++) {
        const union vv_value value = { .number = number };
        make_key(key, sizeof key, number);
        vv_alloc_fail_at(1);
        const varve_status rc = vv_table_put(&table, key, value);
        if (!vv_alloc_disarm()) {
            assert_int_equal(rc, VARVE_OK);
            continue;
        }
        assert_int_equal(rc, VARVE_MEMORY);
        assert_null(vv_table_get(&table, key));
        assert_int_equal(table.count, number);
        refused++;
        assert_int_equal(vv_table_put(&table, key, value), VARVE_OK);
    }
    assert_int_equal(refused, 9); /* 8, 16, ... 2048 slots */
    for (unsigned number = 0; number < 1000; number++) {
        make_key(key, sizeof key, number);
        assert_int_equal(vv_table_get(&table, key)->number, number);
    }
    vv_table_release(&table);
}

static void an_empty_table_answers_too(void **state)
{
    struct vv_table table;
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    (void)state;
    vv_table_init(&table, 4);
    assert_null(vv_table_get(&table, "none"));
    assert_false(vv_table_remove(&table, "none", NULL));
    assert_false(vv_table_next(&table, &cursor, &key, &value));
    vv_table_release(&table);
    vv_table_release(&table);
    assert_int_equal(vv_table_put(&table, "some", (union vv_value){ .number = 1 }),
                     VARVE_OK); /* usable again */
    vv_table_release(&table);
}

/* A value's place is the caller's to write, and holds pointers as well as numbers. */
static void a_value_may_be_changed_in_its_place(void **state)
{
    struct vv_table table;
    int target = 0;

    (void)state;
    vv_table_init(&table, 1);
    assert_int_equal(vv_table_put(&table, "k", (union vv_value){ .number = 0 }), VARVE_OK);
    vv_table_get(&table, "k")->pointer = &target;
    assert_ptr_equal(vv_table_get(&table, "k")->pointer, &target);
    vv_table_release(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_as_an_array_would_be),
        cmocka_unit_test(running_out_of_memory_changes_nothing),
        cmocka_unit_test(an_empty_table_answers_too),
        cmocka_unit_test(a_value_may_be_changed_in_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

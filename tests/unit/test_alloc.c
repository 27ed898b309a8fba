/* Heap: it answers or says MEMORY, and a rehearsed failure comes exactly where it was asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "base/alloc.h"

static void new_memory_is_zero(void **state)
{
    uint8_t *bytes = NULL;

    (void)state;
    assert_int_equal(vv_alloc(&bytes, 1000, 3), VARVE_OK);
    for (size_t i = 0; i < 3000; i++)
        assert_int_equal(bytes[i], 0);
    vv_free(bytes);
    assert_int_equal(vv_alloc(&bytes, 0, 8), VARVE_OK);
    assert_non_null(bytes);
    vv_free(bytes);
    vv_free(NULL);
}

static void a_size_that_wraps_is_refused(void **state)
{
    uint64_t *numbers = NULL;

    (void)state;
    assert_int_equal(vv_alloc(&numbers, SIZE_MAX / 4, 8), VARVE_MEMORY);
    assert_null(numbers);
    assert_int_equal(vv_alloc(&numbers, 2, 8), VARVE_OK);
    numbers[1] = 7;
    assert_int_equal(vv_resize(&numbers, SIZE_MAX / 4, 8), VARVE_MEMORY);
    assert_int_equal(numbers[1], 7); /* as before */
    assert_int_equal(vv_resize(&numbers, 100, 8), VARVE_OK);
    assert_int_equal(numbers[1], 7);
    vv_free(numbers);
}

/* Each of the ways to get memory, with the first, second... allocation failing. */
static void the_nth_allocation_fails_and_no_other(void **state)
{
    (void)state;
    for (unsigned nth = 1; nth <= 6; nth++) {
        uint8_t *bytes = NULL;
        uint8_t *copy = NULL;
        char *text = NULL;
        char *made = NULL;
        vv_alloc_fail_at(nth);
        assert_int_equal(vv_alloc(&bytes, 4, 1), nth == 1 ? VARVE_MEMORY : VARVE_OK);
        assert_int_equal(vv_resize(&bytes, 8, 1), nth == 2 ? VARVE_MEMORY : VARVE_OK);
        assert_int_equal(vv_memdup(&copy, "abc", 3), nth == 3 ? VARVE_MEMORY : VARVE_OK);
        assert_int_equal(vv_strdup(&text, "varve"), nth == 4 ? VARVE_MEMORY : VARVE_OK);
        assert_int_equal(vv_format(&made, "r%d", 12), nth == 5 ? VARVE_MEMORY : VARVE_OK);
        assert_int_equal(vv_alloc_disarm(), nth <= 5);
        assert_true(nth == 3 ? copy == NULL : memcmp(copy, "abc", 3) == 0);
        assert_true(nth == 4 ? text == NULL : strcmp(text, "varve") == 0);
        assert_true(nth == 5 ? made == NULL : strcmp(made, "r12") == 0);
        vv_free(bytes);
        vv_free(copy);
        vv_free(text);
        vv_free(made);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_memory_is_zero),
        cmocka_unit_test(a_size_that_wraps_is_refused),
        cmocka_unit_test(the_nth_allocation_fails_and_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

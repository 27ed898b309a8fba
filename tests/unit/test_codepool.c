/* The code pool: what is put is there, whole, under its hash, or it is told that it is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/double.h"
#include "page/root.h"
#include "scratch.h"
#include "store/codepool.h"

struct fixture {
    char path[SCRATCH_PATH];
    struct vv_double d;
    struct vv_dir dir;
    uint8_t hash[VV_HASH_SIZE];
    char name[65];
    unsigned good, odd, damaged;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->path);
    vv_double_init(&f->d, &vv_vfs_system);
    assert_int_equal(vv_dir_open(&f->d.table, f->path, &f->dir), VARVE_OK);
    assert_int_equal(vv_dir_create_at(&f->dir, ".varve"), VARVE_OK);
    vv_code_hash("bytecode", 8, f->hash);
    varve_hex_format(f->hash, f->name);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    vv_dir_close(&f->dir);
    scratch_remove(f->path);
    free(f);
    return 0;
}

static varve_status put(struct fixture *f)
{
    return vv_codepool_put(&f->dir, f->hash, "bytecode", 8);
}

static varve_status get(struct fixture *f)
{
    uint8_t *code = NULL;
    size_t size = 0;
    const varve_status rc = vv_codepool_get(&f->dir, f->hash, &code, &size);

    if (rc == VARVE_OK) {
        assert_int_equal(size, 8);
        assert_memory_equal(code, "bytecode", 8);
    } else {
        assert_null(code);
    }
    vv_free(code);
    return rc;
}

static void overwrite(struct fixture *f, const char *bytes, size_t size)
{
    struct vv_dir own = VV_DIR_NONE;
    struct vv_dir pool = VV_DIR_NONE;

    assert_int_equal(vv_dir_open_at(&f->dir, ".varve", &own), VARVE_OK);
    assert_int_equal(vv_dir_open_at(&own, "code", &pool), VARVE_OK);
    assert_int_equal(vv_dir_publish(&pool, f->name, bytes, size), VARVE_OK);
    assert_int_equal(vv_dir_publish(&pool, "stray", "x", 1), VARVE_OK);
    vv_dir_close(&pool);
    vv_dir_close(&own);
}

static void what_is_put_is_there(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(get(f), VARVE_NOT_FOUND);
    assert_int_equal(put(f), VARVE_OK);
    assert_int_equal(get(f), VARVE_OK);
    assert_int_equal(put(f), VARVE_OK);
}

/* Whoever put it first may have died before the name was durable: a second put syncs it, and writes nothing. */
static void what_is_there_already_is_synced_again(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(put(f), VARVE_OK);
    vv_double_arm(&f->d, VV_DOUBLE_FAIL, 1, 5);
    assert_int_equal(put(f), VARVE_UNCERTAIN);
    assert_int_equal(f->d.fired_call, VV_CALL_SYNC_DIR);
}

static void count(void *context, const char *name, varve_status status)
{
    struct fixture *f = context;

    (void)name;
    f->good += status == VARVE_OK;
    f->odd += status == VARVE_INVALID;
    f->damaged += status == VARVE_CORRUPT;
}

static void damaged_code_is_named_and_can_be_put_anew(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(vv_codepool_check(&f->dir, count, f), VARVE_OK); /* no pool yet */
    assert_int_equal(put(f), VARVE_OK);
    overwrite(f, "bytecodE", 8);
    assert_int_equal(get(f), VARVE_CORRUPT);
    assert_non_null(strstr(vv_words(), f->name));
    assert_int_equal(vv_codepool_check(&f->dir, count, f), VARVE_OK);
    assert_int_equal(f->damaged, 1);
    assert_int_equal(f->odd, 1);
    assert_int_equal(put(f), VARVE_OK);
    assert_int_equal(get(f), VARVE_OK);
    assert_int_equal(vv_codepool_check(&f->dir, count, f), VARVE_OK);
    assert_int_equal(f->good, 1);
}

static void a_put_that_fails_at_any_call_leaves_nothing_or_the_code(void **state)
{
    struct fixture *f = *state;

    for (unsigned nth = 1;; nth++) {
        vv_double_arm(&f->d, VV_DOUBLE_FAIL, nth, 28);
        const varve_status rc = put(f);
        const bool fired = vv_double_fired(&f->d);
        vv_double_arm(&f->d, VV_DOUBLE_PASS, 0, 0);
        const varve_status there = get(f);
        assert_true(there == VARVE_OK || there == VARVE_NOT_FOUND);
        assert_true(rc != VARVE_OK || there == VARVE_OK);
        if (!fired) {
            assert_int_equal(rc, VARVE_OK);
            assert_true(nth > 1);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_put_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_there_already_is_synced_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_code_is_named_and_can_be_put_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_put_that_fails_at_any_call_leaves_nothing_or_the_code, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

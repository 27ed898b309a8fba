/* test_backing.c - store/plain/backing: the file shows the memory, whatever was there before and whatever fails. */
#include "store/plain/backing.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/double.h"
#include "scratch.h"

enum { PAGES = 300, STORED = 4096 };

static uint64_t seed = 1;
static uint64_t chance(uint64_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (seed >> 20) % below;
}

/* A memory, its tree, and the pages that a layout would have stored: what a leaf's locator minus 1 counts. */
struct vv_place {
    uint8_t stored[STORED][VV_PAGE_SIZE];
    size_t stored_count;
    varve_status fail;
};
struct fixture {
    char root[SCRATCH_PATH], name[65];
    struct vv_dir dir;
    struct vv_double d;
    struct vv_place place;
    struct vv_backings backings;
    varve_module_id id;
    uint8_t bytes[PAGES * VV_PAGE_SIZE];
    struct vv_pagetree tree;
};

static varve_status read_stored(struct vv_place *place, const struct vv_leaf *leaf, uint8_t page[VV_PAGE_SIZE])
{
    assert_true(leaf->locator > 0 && leaf->locator <= place->stored_count);
    if (place->fail != VARVE_OK)
        return vv_fail(place->fail, "told to fail");
    memcpy(page, place->stored[leaf->locator - 1], VV_PAGE_SIZE);
    return VARVE_OK;
}

static void begin_life(struct fixture *f)
{
    vv_backings_release(&f->backings);
    vv_backings_init(&f->backings, &f->dir, &f->place, read_stored);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->root);
    vv_double_init(&f->d, &vv_vfs_system);
    assert_int_equal(vv_dir_open(&f->d.table, f->root, &f->dir), VARVE_OK);
    memset(f->id.bytes, 0xab, sizeof f->id.bytes);
    vv_hex_format(f->id.bytes, f->name);
    vv_pagetree_init(&f->tree, 0, NULL);
    begin_life(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    vv_backings_release(&f->backings);
    vv_pagetree_release(&f->tree);
    vv_dir_close(&f->dir);
    scratch_remove(f->root);
    free(f);
    return 0;
}

static void put_page(struct fixture *f, uint64_t index, bool zero)
{
    uint8_t *page = f->bytes + index * VV_PAGE_SIZE;
    const uint8_t *pages[1] = { page };
    uint8_t hash[1][VV_HASH_SIZE];
    struct vv_leaf leaf = { .locator = f->place.stored_count + 1 };

    memset(page, 0, VV_PAGE_SIZE);
    if (zero) {
        assert_int_equal(vv_pagetree_set(&f->tree, index, NULL), VARVE_OK);
        return;
    }
    vv_put_u64(page, chance(UINT64_C(1) << 40));
    page[VV_PAGE_SIZE - 1] = 1;
    vv_hash_pages(pages, 1, hash);
    memcpy(leaf.hash, hash[0], VV_HASH_SIZE);
    assert_true(f->place.stored_count < STORED);
    memcpy(f->place.stored[f->place.stored_count++], page, VV_PAGE_SIZE);
    assert_int_equal(vv_pagetree_set(&f->tree, index, &leaf), VARVE_OK);
}

static void resize(struct fixture *f, uint64_t page_count)
{
    assert_true(page_count <= PAGES);
    for (uint64_t i = page_count; i < f->tree.page_count; i++)
        memset(f->bytes + i * VV_PAGE_SIZE, 0, VV_PAGE_SIZE);
    assert_int_equal(vv_pagetree_resize(&f->tree, page_count), VARVE_OK);
}

static varve_status live(struct fixture *f, bool given)
{
    return vv_backings_live(&f->backings, &f->id, &f->tree, given ? f->bytes : NULL);
}

static void path_of(const struct fixture *f, char path[2 * SCRATCH_PATH])
{
    (void)snprintf(path, 2 * SCRATCH_PATH, "%s/%s", f->root, f->name);
}

static void assert_shown(struct fixture *f)
{
    uint8_t *data = NULL;
    size_t size = 0;

    assert_int_equal(vv_dir_read(&f->dir, f->name, sizeof f->bytes, &data, &size), VARVE_OK);
    assert_int_equal(size, f->tree.page_count * VV_PAGE_SIZE);
    if (size > 0)
        assert_memory_equal(data, f->bytes, size);
    vv_free(data);
}

static unsigned calls_of_live(struct fixture *f, bool given)
{
    vv_double_arm(&f->d, VV_DOUBLE_PASS, 0, 0);
    assert_int_equal(live(f, given), VARVE_OK);
    return f->d.count;
}

/* ---- Tests -------------------------------------------------------------------------------------- */

/* Pages and lengths change at random; now the bytes are given, now they are the store's; now a new life begins. */
static void the_file_is_as_the_memory(void **state)
{
    struct fixture *f = *state;

    for (unsigned round = 0; round < 300; round++) {
        if (chance(4) == 0)
            resize(f, chance(PAGES + 1));
        for (uint64_t i = chance(12); f->tree.page_count > 0 && i > 0; i--)
            put_page(f, chance(f->tree.page_count), chance(4) == 0);
        if (chance(5) == 0)
            begin_life(f);
        assert_int_equal(live(f, chance(2) == 0), VARVE_OK);
        assert_shown(f);
    }
}

static void only_what_differs_is_written(void **state)
{
    struct fixture *f = *state;

    resize(f, 200);
    for (uint64_t i = 0; i < 200; i++)
        put_page(f, i, false);
    assert_int_equal(calls_of_live(f, true), 1 + 4 + 1); /* create, 64 pages at once, the length */
    assert_int_equal(calls_of_live(f, true), 0);
    put_page(f, 7, false);
    put_page(f, 8, false);
    put_page(f, 100, false);
    assert_int_equal(calls_of_live(f, true), 2);
    begin_life(f);
    assert_int_equal(calls_of_live(f, true), 0); /* learnt */
    put_page(f, 9, false);
    begin_life(f);
    assert_int_equal(calls_of_live(f, false), 1);
    assert_shown(f);
}

static void zero_pages_are_holes(void **state)
{
    struct fixture *f = *state;
    char path[2 * SCRATCH_PATH];
    struct stat before, after;

    resize(f, 64);
    for (uint64_t i = 0; i < 64; i++)
        put_page(f, i, false);
    assert_int_equal(live(f, true), VARVE_OK);
    path_of(f, path);
    assert_int_equal(stat(path, &before), 0);
    for (uint64_t i = 8; i < 64; i++)
        put_page(f, i, true);
    assert_int_equal(live(f, true), VARVE_OK);
    assert_int_equal(stat(path, &after), 0);
    assert_shown(f);
    assert_true(before.st_blocks >= 64 * 8); /* the scratch is in memory, where there are holes */
    assert_true(after.st_blocks <= 8 * 8 + 8);
}

static void a_module_that_is_gone_has_no_file(void **state)
{
    struct fixture *f = *state;
    char path[2 * SCRATCH_PATH];

    resize(f, 3);
    put_page(f, 1, false);
    assert_int_equal(live(f, true), VARVE_OK);
    assert_int_equal(vv_backings_live(&f->backings, &f->id, NULL, NULL), VARVE_OK);
    path_of(f, path);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(vv_backings_live(&f->backings, &f->id, NULL, NULL), VARVE_OK); /* it never had one */
    assert_int_equal(live(f, false), VARVE_OK);
    assert_shown(f);
    assert_int_equal(unlink(path), 0); /* somebody else did it */
    put_page(f, 2, false);
    assert_int_equal(live(f, true), VARVE_OK);
    assert_shown(f);
}

/* A store from elsewhere may have anything under this name. */
static void a_link_in_its_place_is_not_followed(void **state)
{
    struct fixture *f = *state;
    char path[2 * SCRATCH_PATH], victim[2 * SCRATCH_PATH];
    struct stat found;

    (void)snprintf(victim, sizeof victim, "%s/victim", f->root);
    FILE *file = fopen(victim, "w");
    assert_non_null(file);
    assert_int_equal(fputs("precious", file) < 0, 0);
    (void)fclose(file);
    path_of(f, path);
    assert_int_equal(symlink(victim, path), 0);
    resize(f, 3);
    put_page(f, 0, false);
    assert_int_equal(live(f, true), VARVE_OK);
    assert_int_equal(lstat(path, &found), 0);
    assert_true(S_ISREG(found.st_mode));
    assert_shown(f);
    assert_int_equal(stat(victim, &found), 0);
    assert_int_equal(found.st_size, 8);
}

/* Fail every call of a change in turn: the next one that goes well shows all of it. */
static void a_failure_is_made_good_by_the_next_call(void **state)
{
    struct fixture *f = *state;
    static const int numbers[] = { ENOSPC, EIO };
    bool fired = true;

    resize(f, 100);
    for (uint64_t i = 0; i < 100; i++)
        put_page(f, i, i % 3 == 0);
    assert_int_equal(live(f, true), VARVE_OK);
    for (unsigned nth = 1; fired; nth++)
        for (size_t i = 0; i < 2; i++) {
            for (uint64_t page = 0; page < 90; page += 7)
                put_page(f, page, chance(3) == 0);
            resize(f, 90 + nth % 5);
            vv_double_arm(&f->d, VV_DOUBLE_HALF, nth, numbers[i]);
            const varve_status rc = live(f, nth % 2 == 0);
            fired = vv_double_fired(&f->d);
            assert_int_equal(rc, !fired ? VARVE_OK : numbers[i] == ENOSPC ? VARVE_FULL : VARVE_IO);
            vv_double_arm(&f->d, VV_DOUBLE_PASS, 0, 0);
            assert_int_equal(live(f, nth % 3 == 0), VARVE_OK);
            assert_shown(f);
        }
    put_page(f, 3, false);
    f->place.fail = VARVE_CORRUPT;
    assert_int_equal(live(f, false), VARVE_CORRUPT);
    f->place.fail = VARVE_OK;
    assert_int_equal(live(f, false), VARVE_OK);
    assert_shown(f);
}

static void memory_that_runs_out_is_made_good_too(void **state)
{
    struct fixture *f = *state;

    resize(f, 40);
    for (unsigned nth = 1;; nth++) {
        put_page(f, nth % 40, false);
        put_page(f, nth % 7, true);
        begin_life(f);
        vv_alloc_fail_at(nth);
        const varve_status rc = live(f, false);
        const bool fired = vv_alloc_disarm();
        assert_int_equal(rc, fired ? VARVE_MEMORY : VARVE_OK);
        assert_int_equal(live(f, true), VARVE_OK);
        assert_shown(f);
        if (!fired)
            break;
    }
}

static void only_its_own_names_are_its_files(void **state)
{
    const struct fixture *f = *state;
    varve_module_id id;
    char name[80];

    assert_true(vv_backing_is_name(f->name, &id));
    assert_memory_equal(id.bytes, f->id.bytes, sizeof id.bytes);
    (void)snprintf(name, sizeof name, "%s_last", f->name);
    assert_false(vv_backing_is_name(name, NULL));
    (void)snprintf(name, sizeof name, "ab%s", f->name + 2);
    assert_false(vv_backing_is_name(name, NULL)); /* lower case */
    assert_false(vv_backing_is_name("commits", NULL));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_file_is_as_the_memory),
        TEST(only_what_differs_is_written),
        TEST(zero_pages_are_holes),
        TEST(a_module_that_is_gone_has_no_file),
        TEST(a_link_in_its_place_is_not_followed),
        TEST(a_failure_is_made_good_by_the_next_call),
        TEST(memory_that_runs_out_is_made_good_too),
        TEST(only_its_own_names_are_its_files),
    };

    scratch_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The pool: an image that was given is taken again, once, by its own key; the budget holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "page/pool.h"

enum { PAGE = VV_PAGE_SIZE, THREADS = 4, ROUNDS = 400, KEYS = 8 };

static struct vv_tracker *tracker;

static int make_tracker(void **state)
{
    (void)state;
    return vv_tracker_new(VV_DIRTY_BEST, &tracker) == VARVE_OK ? 0 : -1;
}

static int free_tracker(void **state)
{
    (void)state;
    vv_tracker_free(tracker);
    return 0;
}

static varve_status no_base(void *context, uint64_t index, uint8_t page[VV_PAGE_SIZE])
{
    (void)context;
    (void)index;
    (void)page;
    return vv_fail(VARVE_IO, "nobody asks");
}

/* An armed image of `pages` pages, all filled with `byte`. */
static struct vv_image *image_at(void *address, uint64_t pages, int byte)
{
    const struct vv_image_config config = { .reserve = 64 * PAGE, .guard = PAGE, .address = address };
    struct vv_image *image = NULL;
    uint8_t page[PAGE];

    memset(page, byte, sizeof page);
    if (vv_image_new(tracker, &config, &image) != VARVE_OK ||
        vv_image_set_size(image, pages * PAGE) != VARVE_OK)
        return NULL;
    for (uint64_t i = 0; i < pages; i++)
        (void)vv_image_fill(image, i, page, 1);
    return vv_image_arm(image, no_base, NULL) == VARVE_OK ? image : NULL;
}

static struct vv_image *image_of(uint64_t pages, int byte)
{
    return image_at(NULL, pages, byte);
}

struct key {
    uint8_t module[32], root[32];
};

static struct key key_of(int module, int root)
{
    struct key key = { .module = { 0 } };

    memset(key.module, module, sizeof key.module);
    memset(key.root, root, sizeof key.root);
    return key;
}

static void an_image_at_an_address_is_taken_there_alone(void **state)
{
    uint8_t *const here = (uint8_t *)UINT64_C(0x230000000000);
    struct vv_pool *pool = NULL;
    const struct key a = key_of(1, 2);

    (void)state;
    assert_int_equal(vv_pool_new(1 << 20, &pool), VARVE_OK);
    struct vv_image *placed = image_at(here, 3, 'a');
    assert_non_null(placed);
    vv_pool_give(pool, a.module, a.root, placed);
    assert_null(vv_pool_take(pool, a.module, a.root, 64 * PAGE));
    assert_null(vv_pool_take_at(pool, a.module, a.root, 64 * PAGE, here + PAGE));
    assert_ptr_equal(vv_pool_take_at(pool, a.module, a.root, 64 * PAGE, here), placed);
    vv_pool_give(pool, a.module, a.root, placed);
    struct vv_image *elsewhere = image_of(3, 'b');
    vv_pool_give(pool, a.module, a.root, elsewhere);
    vv_pool_clear(pool, here + 65 * PAGE, PAGE); /* behind its guard */
    vv_pool_clear(pool, here - PAGE, PAGE);
    assert_int_equal(vv_pool_count(pool), 2);
    vv_pool_clear(pool, vv_image_bytes(elsewhere), PAGE); /* it is there by chance, and moves nobody */
    vv_pool_clear(pool, here + 64 * PAGE, PAGE);
    assert_int_equal(vv_pool_count(pool), 1);
    assert_ptr_equal(vv_pool_take(pool, a.module, a.root, 64 * PAGE), elsewhere);
    vv_image_free(elsewhere);
    vv_pool_free(pool);
}

static void an_image_is_taken_once_and_by_its_key_alone(void **state)
{
    struct vv_pool *pool = NULL;
    const struct key a = key_of(1, 2), b = key_of(2, 1), c = key_of(1, 3);

    (void)state;
    assert_int_equal(vv_pool_new(1 << 20, &pool), VARVE_OK);
    struct vv_image *first = image_of(3, 'a'), *second = image_of(3, 'b');
    vv_pool_give(pool, a.module, a.root, first);
    vv_pool_give(pool, b.module, b.root, second); /* falls into the same bucket */
    assert_int_equal(vv_pool_count(pool), 2);
    assert_int_equal(vv_pool_bytes(pool), vv_image_private_bytes(first) + vv_image_private_bytes(second));
    assert_null(vv_pool_take(pool, c.module, c.root, 64 * PAGE));
    assert_null(vv_pool_take(pool, a.module, a.root, 63 * PAGE)); /* another limit */
    assert_ptr_equal(vv_pool_take(pool, a.module, a.root, 64 * PAGE), first);
    assert_null(vv_pool_take(pool, a.module, a.root, 64 * PAGE));
    assert_ptr_equal(vv_pool_take(pool, b.module, b.root, 64 * PAGE), second);
    assert_int_equal(vv_pool_bytes(pool), 0);
    assert_int_equal(vv_image_bytes(first)[3 * PAGE - 1], 'a');
    vv_image_free(first);
    vv_image_free(second);
    vv_pool_free(pool);
}

/* Three images of equal weight in room for two: the one given first goes; taking one out keeps the others. */
static void the_oldest_goes_when_the_budget_is_full(void **state)
{
    struct vv_pool *pool = NULL;
    struct key keys[4];

    (void)state;
    struct vv_image *image = image_of(4, 'x');
    const uint64_t weight = vv_image_private_bytes(image);
    assert_int_equal(vv_pool_new(2 * weight, &pool), VARVE_OK);
    for (int i = 0; i < 4; i++)
        keys[i] = key_of(i + 1, 9);
    vv_pool_give(pool, keys[0].module, keys[0].root, image);
    vv_pool_give(pool, keys[1].module, keys[1].root, image_of(4, 'y'));
    vv_pool_give(pool, keys[2].module, keys[2].root, image_of(4, 'z'));
    assert_int_equal(vv_pool_count(pool), 2);
    assert_null(vv_pool_take(pool, keys[0].module, keys[0].root, 64 * PAGE));
    image = vv_pool_take(pool, keys[1].module, keys[1].root, 64 * PAGE);
    assert_non_null(image);
    vv_pool_give(pool, keys[1].module, keys[1].root, image); /* now the newest */
    vv_pool_give(pool, keys[3].module, keys[3].root, image_of(4, 'w'));
    assert_null(vv_pool_take(pool, keys[2].module, keys[2].root, 64 * PAGE));
    vv_pool_give(pool, keys[2].module, keys[2].root, image_of(32, 'h')); /* above the budget alone */
    assert_int_equal(vv_pool_count(pool), 0);
    assert_int_equal(vv_pool_bytes(pool), 0);
    vv_pool_free(pool);
}

/* They cost the budget nothing, but address space. */
static void images_without_private_bytes_are_bounded_in_number(void **state)
{
    struct vv_pool *pool = NULL;

    (void)state;
    assert_int_equal(vv_pool_new(1 << 20, &pool), VARVE_OK);
    for (int i = 0; i < VV_POOL_IMAGES + 10; i++) {
        const struct key key = key_of(i % 251, i / 251);
        struct vv_image *image = image_of(0, 0);
        assert_non_null(image);
        assert_int_equal(vv_image_private_bytes(image), 0);
        vv_pool_give(pool, key.module, key.root, image);
    }
    assert_int_equal(vv_pool_count(pool), VV_POOL_IMAGES);
    const struct key first = key_of(0, 0),
                     last = key_of((VV_POOL_IMAGES + 9) % 251, (VV_POOL_IMAGES + 9) / 251);
    assert_null(vv_pool_take(pool, first.module, first.root, 64 * PAGE));
    struct vv_image *newest = vv_pool_take(pool, last.module, last.root, 64 * PAGE);
    assert_non_null(newest);
    vv_image_free(newest);
    vv_pool_free(pool);
}

static void running_out_of_memory_loses_the_image_and_nothing_else(void **state)
{
    struct vv_pool *pool = NULL;
    const struct key key = key_of(5, 6);

    (void)state;
    for (unsigned nth = 1;; nth++) {
        vv_alloc_fail_at(nth);
        const varve_status rc = vv_pool_new(1 << 20, &pool);
        if (!vv_alloc_disarm()) {
            assert_int_equal(rc, VARVE_OK);
            break;
        }
        assert_int_equal(rc, VARVE_MEMORY);
        assert_null(pool);
    }
    struct vv_image *image = image_of(1, 'm');
    vv_alloc_fail_at(1);
    vv_pool_give(pool, key.module, key.root, image);
    assert_true(vv_alloc_disarm());
    assert_int_equal(vv_pool_count(pool), 0);
    vv_pool_free(pool);
}

/* Threads take and give under few keys; an image's bytes say which key it belongs to. */
static void *take_and_give(void *context)
{
    struct vv_pool *pool = context;
    unsigned bad = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        const int which = (int)(i * 7 % KEYS);
        const struct key key = key_of(which + 1, which);
        struct vv_image *image = vv_pool_take(pool, key.module, key.root, 64 * PAGE);
        if (image == NULL)
            image = image_of(1 + i % 3, which + 1);
        if (image == NULL || vv_image_bytes(image)[PAGE - 1] != which + 1)
            bad++;
        else
            vv_pool_give(pool, key.module, key.root, image);
    }
    return bad == 0 ? NULL : context;
}

static void threads_may_share_it(void **state)
{
    struct vv_pool *pool = NULL;
    pthread_t threads[THREADS];
    void *bad = NULL;

    (void)state;
    assert_int_equal(vv_pool_new(12 * PAGE, &pool), VARVE_OK);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, pool), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &bad), 0);
        assert_null(bad);
    }
    assert_true(vv_pool_bytes(pool) <= 12 * PAGE);
    vv_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_is_taken_once_and_by_its_key_alone),
        cmocka_unit_test(an_image_at_an_address_is_taken_there_alone),
        cmocka_unit_test(the_oldest_goes_when_the_budget_is_full),
        cmocka_unit_test(images_without_private_bytes_are_bounded_in_number),
        cmocka_unit_test(running_out_of_memory_loses_the_image_and_nothing_else),
        cmocka_unit_test(threads_may_share_it),
    };
    return cmocka_run_group_tests(tests, make_tracker, free_tracker);
}

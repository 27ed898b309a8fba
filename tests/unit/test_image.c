/* Images: bytes, lengths and changes are those of a plain array in memory, on every rung, whatever the order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "page/image.h"

enum { MOST_PAGES = 96, MOST_DEPTH = 6, PAGE = VV_PAGE_SIZE };

static const enum vv_dirty_rung all_rungs[] = { VV_DIRTY_ARMED, VV_DIRTY_PRIVATE, VV_DIRTY_PAGEMAP,
                                                VV_DIRTY_COMPARE };
enum { RUNG_COUNT = sizeof all_rungs / sizeof *all_rungs };

/* VARVE_TEST_SCALE=n: n times as many rounds. */
static unsigned scale(void)
{
    const char *text = getenv("VARVE_TEST_SCALE");
    const unsigned long value = text != NULL ? strtoul(text, NULL, 10) : 1;
    return value == 0 ? 1 : (unsigned)value;
}

struct random {
    uint64_t state;
};

static uint64_t draw(struct random *random)
{
    random->state ^= random->state << 13;
    random->state ^= random->state >> 7;
    random->state ^= random->state << 17;
    return random->state;
}

static uint64_t below(struct random *random, uint64_t limit)
{
    return draw(random) % limit;
}

/* ---- The model: what an image must be, as an array and copies of it -------------------------------- */

struct moment {
    uint64_t size;
    uint8_t bytes[MOST_PAGES * PAGE];
};

struct model {
    struct vv_image *image;
    struct moment now, base, saved[MOST_DEPTH + 1];
    uint32_t depth; /* savepoints that are open: 1..depth */
    unsigned base_reads;
    unsigned fail_read; /* this read of the base fails; 0: none */
    struct random random;
};

static varve_status read_base(void *context, uint64_t index, uint8_t page[VV_PAGE_SIZE])
{
    struct model *model = context;

    model->base_reads++;
    assert_true(index < model->base.size / PAGE);
    if (model->fail_read != 0 && --model->fail_read == 0)
        return vv_fail(VARVE_IO, "rehearsed");
    memcpy(page, model->base.bytes + index * PAGE, PAGE);
    return VARVE_OK;
}

static void copy_moment(struct moment *to, const struct moment *from)
{
    to->size = from->size;
    memcpy(to->bytes, from->bytes, from->size);
    memset(to->bytes + from->size, 0, sizeof to->bytes - from->size);
}

/* A model of `pages` pages, every third of them zero, and the image beside it. */
static struct model *model_new(struct vv_tracker *tracker, uint64_t pages, uint64_t seed)
{
    const struct vv_image_config config = { .reserve = 1 << 22, .limit = MOST_PAGES * PAGE };
    struct model *model = calloc(1, sizeof *model);

    assert_non_null(model);
    model->random.state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    model->now.size = pages * PAGE;
    for (uint64_t page = 0; page < pages; page++)
        if (page % 3 != 2)
            memset(model->now.bytes + page * PAGE, (int)(page + seed) | 1, PAGE);
    copy_moment(&model->base, &model->now);
    assert_int_equal(vv_image_new(tracker, &config, &model->image), VARVE_OK);
    assert_int_equal(vv_image_set_size(model->image, model->now.size), VARVE_OK);
    for (uint64_t page = 0; page < pages; page++)
        if (page % 3 != 2)
            assert_int_equal(vv_image_fill(model->image, page, model->now.bytes + page * PAGE, 1), VARVE_OK);
    assert_int_equal(vv_image_arm(model->image, read_base, model), VARVE_OK);
    return model;
}

static void model_free(struct model *model)
{
    vv_image_free(model->image);
    free(model);
}

static void assert_as_model(const struct model *model)
{
    assert_true(vv_image_size(model->image) == model->now.size);
    assert_memory_equal(vv_image_bytes(model->image), model->now.bytes, model->now.size);
}

/* What vv_image_changes must say: every page that differs from the base, with both bytes, in order. */
static void assert_changes(struct model *model)
{
    static const uint8_t zeros[PAGE];
    const struct vv_image_change *changes = NULL;
    size_t count = 0, next = 0;

    assert_int_equal(vv_image_changes(model->image, &changes, &count), VARVE_OK);
    for (uint64_t page = 0; page < model->now.size / PAGE; page++) {
        const uint8_t *now = model->now.bytes + page * PAGE, *base = model->base.bytes + page * PAGE;
        if (memcmp(now, base, PAGE) == 0)
            continue;
        assert_true(next < count);
        assert_true(changes[next].index == page);
        assert_memory_equal(changes[next].bytes, now, PAGE);
        assert_memory_equal(changes[next].base != NULL ? changes[next].base : zeros, base, PAGE);
        if (page >= model->base.size / PAGE)
            assert_null(changes[next].base);
        next++;
    }
    assert_true(next == count);
}

static void assert_changed_since(struct model *model, uint32_t depth)
{
    const struct moment *then = &model->saved[depth];
    uint64_t wanted = 0, pages = 0;

    for (uint64_t page = 0; page < model->now.size / PAGE; page++)
        wanted += memcmp(model->now.bytes + page * PAGE, then->bytes + page * PAGE, PAGE) != 0;
    assert_int_equal(vv_image_changed_since(model->image, depth, &pages), VARVE_OK);
    assert_true(pages == wanted);
}

/* ---- Operations, on both ---------------------------------------------------------------------------- */

static void savepoint(struct model *model)
{
    if (model->depth < MOST_DEPTH)
        copy_moment(&model->saved[++model->depth], &model->now);
}

/* What a session does before anything may write. */
static varve_status settle(struct model *model)
{
    return model->depth > 0 ? vv_image_settle(model->image, model->depth) : VARVE_OK;
}

static void put(struct model *model, uint64_t offset, const void *data, size_t size)
{
    memcpy(model->now.bytes + offset, data, size);
    memcpy(vv_image_bytes(model->image) + offset, data, size);
}

/* Some writes: single bytes, whole pages of one value (zero too), words across a border, what is there already, or
 * what the base has. */
static void write_somewhere(struct model *model)
{
    struct random *random = &model->random;
    const uint64_t pages = model->now.size / PAGE;
    uint8_t block[PAGE];

    for (uint64_t i = below(random, 6); i-- > 0;) {
        const uint64_t page = below(random, pages), value = draw(random);
        const uint64_t offset = page * PAGE + below(random, PAGE - 8);
        switch (below(random, 6)) {
        case 0:
            memset(block, (int)below(random, 3), sizeof block);
            put(model, page * PAGE, block, sizeof block);
            break;
        case 1:
            memcpy(block, model->now.bytes + page * PAGE, sizeof block);
            put(model, page * PAGE, block, sizeof block);
            break;
        case 2:
            memcpy(block, model->base.bytes + page * PAGE, sizeof block);
            put(model, page * PAGE, block, sizeof block);
            break;
        case 3:
            if (page > 0)
                put(model, page * PAGE - 4, &value, sizeof value);
            break;
        default:
            put(model, offset, &value, 1 + below(random, 8));
        }
    }
}

static varve_status grow(struct model *model)
{
    const uint64_t more = below(&model->random, 5) * PAGE, size = model->now.size + more;
    const varve_status rc = vv_image_grow(model->image, size);

    if (size > MOST_PAGES * PAGE) {
        assert_int_equal(rc, VARVE_LIMIT);
        return VARVE_OK;
    }
    if (rc == VARVE_OK)
        model->now.size = size; /* what lies beyond the size is zero in the model, always */
    return rc;
}

static varve_status roll_back(struct model *model, uint32_t depth)
{
    copy_moment(&model->now, &model->saved[depth]);
    model->depth = depth - 1;
    return vv_image_rollback(model->image, depth);
}

static varve_status release(struct model *model, uint32_t depth)
{
    model->depth = depth - 1;
    return vv_image_release(model->image, depth);
}

static varve_status reset(struct model *model)
{
    copy_moment(&model->now, &model->base);
    model->depth = 0;
    return vv_image_reset(model->image);
}

/* A commit: what changed is taken, and is the base from now on. */
static varve_status commit(struct model *model)
{
    const struct vv_image_change *changes = NULL;
    size_t count = 0;
    varve_status rc = VARVE_OK;

    if (model->depth > 0)
        TRY(release(model, 1));
    TRY(vv_image_changes(model->image, &changes, &count));
    copy_moment(&model->base, &model->now);
    TRY(vv_image_rebase(model->image, read_base, model, below(&model->random, 40) * PAGE));
out:
    return rc;
}

static varve_status step(struct model *model)
{
    struct random *random = &model->random;
    varve_status rc = VARVE_OK;

    switch (below(random, 16)) {
    case 0:
    case 1:
    case 2:
        savepoint(model);
        break;
    case 3:
        if (model->depth > 0)
            TRY(roll_back(model, 1 + (uint32_t)below(random, model->depth)));
        break;
    case 4:
    case 5:
        if (model->depth > 0)
            TRY(release(model, 1 + (uint32_t)below(random, model->depth)));
        break;
    case 6:
        if (below(random, 8) == 0)
            TRY(reset(model));
        break;
    case 7:
        if (below(random, 4) == 0)
            TRY(commit(model));
        break;
    case 8:
        if (below(random, 3) == 0) {
            TRY(settle(model));
            TRY(grow(model));
        }
        break;
    case 9:
        TRY(settle(model));
        break;
    case 10:
        vv_image_enter(model->image);
        break;
    default:
        TRY(settle(model));
        write_somewhere(model);
    }
out:
    return rc;
}

static void random_nests_are_as_the_model_on(enum vv_dirty_rung rung, uint64_t seed, unsigned steps)
{
    struct vv_tracker *tracker = NULL;

    assert_int_equal(vv_tracker_new(rung, &tracker), VARVE_OK);
    struct model *model = model_new(tracker, 8 + seed % 40, seed);
    for (unsigned i = 0; i < steps; i++) {
        assert_int_equal(step(model), VARVE_OK);
        assert_as_model(model);
        if (i % 7 == 0)
            assert_changes(model);
        if (i % 5 == 0 && model->depth > 0)
            assert_changed_since(model, 1 + (uint32_t)below(&model->random, model->depth));
        if (i % 64 == 0)
            assert_int_equal(vv_image_audit(model->image), VARVE_OK);
    }
    model_free(model);
    vv_tracker_free(tracker);
}

static void random_nests_are_as_the_model_on_every_rung(void **state)
{
    const unsigned steps = 1500, seeds = 5 * scale();

    (void)state;
    for (int r = 0; r < RUNG_COUNT; r++) {
        for (uint64_t seed = 1; seed <= seeds; seed++) {
            printf("savepoints, rung %s, seed %llu\n", vv_dirty_rung_name(all_rungs[r]),
                   (unsigned long long)seed);
            random_nests_are_as_the_model_on(all_rungs[r], seed, steps);
        }
        printf("savepoints, rung %s: %u steps, 0 differences\n", vv_dirty_rung_name(all_rungs[r]),
               steps * seeds);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_nests_are_as_the_model_on_every_rung),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

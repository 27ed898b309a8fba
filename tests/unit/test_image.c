/* Images: bytes, lengths and changes are those of a plain array in memory, on every rung, whatever the order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* A tracker on this rung; false, and said, where the kernel or container has no such rung. */
static bool tracker_on(enum vv_dirty_rung rung, struct vv_tracker **tracker)
{
    const varve_status rc = vv_tracker_new(rung, tracker);

    if (rc == VARVE_UNSUPPORTED)
        print_message("SKIPPED on rung %s: %s\n", vv_dirty_rung_name(rung), vv_words());
    else
        assert_int_equal(rc, VARVE_OK);
    return rc == VARVE_OK;
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
    struct vv_tracker *tracker;
    struct vv_image *image;
    struct moment now, base, saved[MOST_DEPTH + 1];
    uint32_t depth; /* savepoints that are open: 1..depth */
    unsigned base_reads;
    unsigned fail_read; /* this read of the base fails; 0: none */
    bool backed;        /* moves to another file now and then */
    bool leans;         /* or leans on one */
    unsigned backings, releases;
    struct random random;
};

static varve_status read_base(void *context, uint64_t index, uint8_t page[VV_PAGE_SIZE])
{
    struct model *model = context;

    const uint8_t *straight = NULL;

    model->base_reads++;
    assert_true(index < model->base.size / PAGE);
    assert_false(vv_image_backed_page(model->image, index, &straight));
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
    model->tracker = tracker;
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
    assert_int_equal(model->releases, model->backings);
    free(model);
}

/* ---- Files below ------------------------------------------------------------------------------------- */

static struct vv_file temporary_file(void)
{
    char name[] = "/tmp/varve-image-XXXXXX";
    struct vv_file file = { .vfs = &vv_vfs_system, .fd = mkstemp(name) };

    assert_true(file.fd >= 0);
    assert_int_equal(unlink(name), 0);
    (void)snprintf(file.name, sizeof file.name, "image/test");
    return file;
}

static void model_released(void *context)
{
    struct model *model = context;

    model->releases++;
}

/* A file of `pages` pages, most of them the base's; `differ` are those that are not, and some that are. Pages of zeros
 * may be holes. */
static struct vv_file file_near(struct model *model, uint64_t pages, uint64_t offset,
                                uint32_t differ[MOST_PAGES], size_t *count)
{
    struct vv_file file = temporary_file();
    uint8_t block[PAGE];
    const uint64_t kinds = below(&model->random, 2) == 0 ? 8 : 64; /* much on top, or little */

    *count = 0;
    assert_int_equal(vv_file_truncate(&file, offset + pages * PAGE), VARVE_OK);
    for (uint64_t page = 0; page < pages; page++) {
        const unsigned kind = (unsigned)below(&model->random, kinds);
        memcpy(block, model->base.bytes + page * PAGE, PAGE);
        if (kind == 0)
            memset(block, (int)below(&model->random, 256), PAGE);
        if (kind == 1 || memcmp(block, model->base.bytes + page * PAGE, PAGE) != 0)
            differ[(*count)++] = (uint32_t)page;
        if (block[0] != 0 || memcmp(block, block + 1, PAGE - 1) != 0)
            assert_int_equal(vv_file_write(&file, block, PAGE, offset + page * PAGE), VARVE_OK);
    }
    return file;
}

/* As model_new, but the first pages are those of a file, with what it has not on top. */
static struct model *model_new_backed(struct vv_tracker *tracker, uint64_t pages, uint64_t seed)
{
    const struct vv_image_config config = { .reserve = 1 << 22, .limit = MOST_PAGES * PAGE };
    struct model *model = calloc(1, sizeof *model);
    uint32_t differ[MOST_PAGES];
    size_t count = 0;

    assert_non_null(model);
    model->backed = true;
    model->random.state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    model->now.size = pages * PAGE;
    for (uint64_t page = 0; page < pages; page++)
        if (page % 3 != 2)
            memset(model->now.bytes + page * PAGE, (int)(page + seed) | 1, PAGE);
    copy_moment(&model->base, &model->now);
    const uint64_t offset = below(&model->random, 3) * PAGE, in_file = 1 + below(&model->random, pages);
    struct vv_file file = file_near(model, in_file, offset, differ, &count);
    const struct vv_backing backing = {
        .file = &file, .offset = offset, .pages = in_file, .release = model_released, .context = model
    };
    assert_int_equal(vv_image_new(tracker, &config, &model->image), VARVE_OK);
    assert_int_equal(vv_image_set_size(model->image, model->now.size), VARVE_OK);
    assert_int_equal(vv_image_back(model->image, &backing), VARVE_OK);
    vv_file_close(&file);
    model->backings++;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *bytes = model->base.bytes + differ[i] * PAGE;
        assert_int_equal(vv_image_fill(model->image, differ[i], differ[i] % 3 == 2 ? NULL : bytes, 1),
                         VARVE_OK);
    }
    for (uint64_t page = in_file; page < pages; page++)
        assert_int_equal(
            vv_image_fill(model->image, page, page % 3 == 2 ? NULL : model->base.bytes + page * PAGE, 1),
            VARVE_OK);
    assert_int_equal(vv_image_arm(model->image, read_base, model), VARVE_OK);
    return model;
}

/* After a commit: another file below or beside it, of any length that the base has. */
static varve_status move(struct model *model)
{
    varve_status rc = VARVE_OK;
    uint32_t differ[2 * MOST_PAGES];
    size_t count = 0;
    const uint64_t pages = model->base.size / PAGE, in_file = 1 + below(&model->random, pages);
    const uint64_t offset = below(&model->random, 3) * PAGE;
    struct vv_file file = file_near(model, in_file, offset, differ, &count);
    const struct vv_backing backing = {
        .file = &file, .offset = offset, .pages = in_file, .release = model_released, .context = model
    };

    for (uint64_t page = in_file; page < pages; page++)
        differ[count++] = (uint32_t)page;
    if (model->leans) {
        bool taken = false;
        TRY(vv_image_lean(model->image, &backing, differ, count, &taken));
        assert_true(taken == (vv_tracker_rung(model->tracker) == VV_DIRTY_ARMED));
        if (!taken)
            goto out;
    } else {
        TRY(vv_image_move(model->image, &backing, differ, count));
    }
    model->backings++;
    assert_int_equal(model->releases, model->backings - 1);
    assert_true(vv_image_backed_pages(model->image) == in_file);
out:
    vv_file_close(&file);
    return rc;
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
    if (model->backed && below(&model->random, 2) == 0)
        TRY(move(model));
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

static void random_nests(struct model *(*new)(struct vv_tracker *tracker, uint64_t pages, uint64_t seed),
                         const char *name, unsigned seeds)
{
    const unsigned steps = 1500;
    struct vv_tracker *tracker = NULL;

    for (int r = 0; r < RUNG_COUNT; r++) {
        if (!tracker_on(all_rungs[r], &tracker))
            continue;
        for (uint64_t seed = 1; seed <= seeds; seed++) {
            struct model *model = new (tracker, 8 + seed % 40, seed);
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
            printf("%s on rung %s, seed %llu: %u steps, %u files, 0 differences\n", name,
                   vv_dirty_rung_name(all_rungs[r]), (unsigned long long)seed, steps, model->backings);
            model_free(model);
        }
        vv_tracker_free(tracker);
    }
}

static void random_nests_are_as_the_model_on_every_rung(void **state)
{
    (void)state;
    random_nests(model_new, "savepoints", 5 * scale());
}

/* The same over files that are gone as soon as they are mapped; after every second commit, over another one. */
static void random_nests_over_files_are_as_the_model_on_every_rung(void **state)
{
    (void)state;
    random_nests(model_new_backed, "savepoints over files", 8 * scale());
}

static struct model *model_new_leaning(struct vv_tracker *tracker, uint64_t pages, uint64_t seed)
{
    struct model *model = model_new(tracker, pages, seed);

    model->backed = model->leans = true;
    return model;
}

static void random_nests_that_lean_on_files_are_as_the_model_on_every_rung(void **state)
{
    (void)state;
    random_nests(model_new_leaning, "savepoints beside files", 4 * scale());
}

/* An image of `pages` pages that all are a file's, and nothing on top. */
static struct model *model_on_file(struct vv_tracker *tracker, uint64_t pages, bool exposed)
{
    const struct vv_image_config config = { .reserve = 1 << 22,
                                            .limit = MOST_PAGES * PAGE,
                                            .exposed = exposed };
    struct model *model = calloc(1, sizeof *model);
    struct vv_file file = temporary_file();

    assert_non_null(model);
    model->now.size = pages * PAGE;
    for (uint64_t page = 0; page < pages; page++)
        memset(model->now.bytes + page * PAGE, (int)page + 1, PAGE);
    copy_moment(&model->base, &model->now);
    assert_int_equal(vv_file_write(&file, model->now.bytes, model->now.size, 0), VARVE_OK);
    const struct vv_backing backing = {
        .file = &file, .pages = pages, .release = model_released, .context = model
    };
    assert_int_equal(vv_image_new(tracker, &config, &model->image), VARVE_OK);
    assert_int_equal(vv_image_set_size(model->image, model->now.size), VARVE_OK);
    assert_int_equal(vv_image_back(model->image, &backing), VARVE_OK);
    assert_int_equal(vv_image_arm(model->image, read_base, model), VARVE_OK);
    model->backings = 1;
    vv_file_close(&file);
    return model;
}

/* Open, write three pages, fail, and commit others: base bytes come from the file, and memory has what was written. */
static void what_a_file_holds_takes_no_memory_and_no_reading(void **state)
{
    const struct vv_image_change *changes = NULL;
    struct vv_tracker *tracker = NULL;
    const uint8_t *bytes = NULL;
    size_t count = 0;

    (void)state;
    for (int r = 0; r < RUNG_COUNT; r++) {
        if (!tracker_on(all_rungs[r], &tracker))
            continue;
        struct model *model = model_on_file(tracker, 64, false);
        assert_int_equal(vv_image_private_bytes(model->image), 0);
        model->depth = 1;
        copy_moment(&model->saved[1], &model->now);
        assert_int_equal(settle(model), VARVE_OK);
        for (uint64_t page = 5; page < 8; page++)
            put(model, page * PAGE + 100, "changed", 7);
        assert_int_equal(roll_back(model, 1), VARVE_OK);
        assert_as_model(model);
        put(model, 9 * PAGE, "committed", 9);
        assert_int_equal(vv_image_changes(model->image, &changes, &count), VARVE_OK);
        assert_int_equal(count, 1);
        assert_true(changes->unproven && changes->index == 9 && changes->runs != NULL);
        assert_memory_equal(changes->base, model->base.bytes + 9 * PAGE, PAGE);
        vv_image_prove(model->image, 9);
        assert_int_equal(vv_image_changes(model->image, &changes, &count), VARVE_OK);
        assert_false(changes->unproven);
        copy_moment(&model->base, &model->now);
        assert_int_equal(vv_image_rebase(model->image, read_base, model, 1 << 20), VARVE_OK);
        assert_false(vv_image_backed_page(model->image, 9, &bytes));
        assert_true(vv_image_backed_page(model->image, 8, &bytes));
        assert_memory_equal(bytes, model->base.bytes + 8 * PAGE, PAGE);
        assert_in_range(vv_image_private_bytes(model->image), 4 * PAGE, (4 + 16) * PAGE);
        assert_int_equal(model->base_reads, 0);
        model_free(model);
        vv_tracker_free(tracker);
    }
}

static void a_file_that_is_too_short_is_refused(void **state)
{
    struct vv_tracker *tracker = NULL;
    struct vv_image *image = NULL;
    struct vv_file file = temporary_file();
    const struct vv_backing backing = { .file = &file, .offset = PAGE, .pages = 4 };

    (void)state;
    assert_true(tracker_on(VV_DIRTY_BEST, &tracker));
    assert_int_equal(vv_file_truncate(&file, 5 * PAGE - 1), VARVE_OK);
    assert_int_equal(vv_image_new(tracker, NULL, &image), VARVE_OK);
    assert_int_equal(vv_image_set_size(image, 4 * PAGE), VARVE_OK);
    assert_int_equal(vv_image_back(image, &backing), VARVE_CORRUPT);
    assert_int_equal(vv_image_backed_pages(image), 0);
    vv_image_free(image);
    vv_file_close(&file);
    vv_tracker_free(tracker);
}

struct scribble {
    uint8_t *bytes;
    atomic_bool go;
};

static void *write_each_page_once(void *context)
{
    struct scribble *scribble = context;

    while (!scribble->go)
        ;
    for (uint64_t i = 0; i < MOST_PAGES; i++)
        ((volatile uint8_t *)scribble->bytes)[i * 37 % MOST_PAGES * PAGE]++;
    return NULL;
}

/* A program writes each page of a file once while looks go on: none is missed. */
static void looks_at_a_file_that_is_written_to_miss_nothing(void **state)
{
    const struct vv_image_change *changes = NULL;
    struct vv_tracker *tracker = NULL;
    const unsigned rounds = 300 * scale();
    size_t count = 0;

    (void)state;
    if (!tracker_on(VV_DIRTY_ARMED, &tracker))
        return;
    for (unsigned round = 0; round < rounds; round++) {
        struct model *model = model_on_file(tracker, MOST_PAGES, true);
        struct scribble scribble = { .bytes = vv_image_bytes(model->image) };
        pthread_t writer;
        assert_int_equal(pthread_create(&writer, NULL, write_each_page_once, &scribble), 0);
        scribble.go = true;
        for (unsigned look = 0; look < 4 + round % 5; look++)
            assert_int_equal(vv_image_changes(model->image, &changes, &count), VARVE_OK);
        assert_int_equal(pthread_join(writer, NULL), 0);
        assert_int_equal(vv_image_changes(model->image, &changes, &count), VARVE_OK);
        assert_int_equal(count, MOST_PAGES);
        model_free(model);
    }
    vv_tracker_free(tracker);
}

/* A file of zeros below an image of `pages` pages. */
static struct vv_image *image_on_zeros(struct vv_tracker *tracker, struct vv_file *file, uint64_t pages,
                                       bool exposed)
{
    const struct vv_image_config config = { .reserve = pages * PAGE, .exposed = exposed };
    const struct vv_backing backing = { .file = file, .pages = pages };
    struct vv_image *image = NULL;

    assert_int_equal(vv_image_new(tracker, &config, &image), VARVE_OK);
    assert_int_equal(vv_image_set_size(image, pages * PAGE), VARVE_OK);
    assert_int_equal(vv_image_back(image, &backing), VARVE_OK);
    return image;
}

enum { MANY_PAGES = 8192 };

static void *write_many_pages_once(void *context)
{
    volatile uint8_t *bytes = context;

    for (uint64_t i = 0; i < MANY_PAGES; i++)
        bytes[i * 1237 % MANY_PAGES * PAGE]++;
    return NULL;
}

/* The same with so many pages that a look arms the rest of them, which takes as long as many of the writes. */
static void arming_a_file_that_is_written_to_misses_nothing(void **state)
{
    const struct vv_image_change *changes = NULL;
    struct vv_tracker *tracker = NULL;
    struct vv_file file = temporary_file();
    const unsigned rounds = 30 * scale();
    size_t count = 0;

    (void)state;
    if (!tracker_on(VV_DIRTY_ARMED, &tracker))
        return;
    assert_int_equal(vv_file_truncate(&file, MANY_PAGES * PAGE), VARVE_OK);
    for (unsigned round = 0; round < rounds; round++) {
        struct vv_image *image = image_on_zeros(tracker, &file, MANY_PAGES, true);
        pthread_t writer;
        assert_int_equal(vv_image_arm(image, read_base, NULL), VARVE_OK);
        assert_int_equal(pthread_create(&writer, NULL, write_many_pages_once, vv_image_bytes(image)), 0);
        for (count = 0; count < MANY_PAGES * 9 / 10;)
            assert_int_equal(vv_image_changes(image, &changes, &count), VARVE_OK);
        assert_int_equal(pthread_join(writer, NULL), 0);
        assert_int_equal(vv_image_changes(image, &changes, &count), VARVE_OK);
        assert_int_equal(count, MANY_PAGES);
        vv_image_free(image);
    }
    vv_file_close(&file);
    vv_tracker_free(tracker);
}

static uint64_t faults_of_reading(const uint8_t *bytes, uint64_t from, uint64_t to)
{
    struct rusage before, after;

    assert_int_equal(getrusage(RUSAGE_THREAD, &before), 0);
    for (uint64_t page = from; page < to; page++)
        (void)((const volatile uint8_t *)bytes)[page * PAGE];
    assert_int_equal(getrusage(RUSAGE_THREAD, &after), 0);
    return (uint64_t)(after.ru_minflt - before.ru_minflt);
}

/* Who only reads takes as few faults as in any mapping of the file, also from the pool, and with a page on top. */
static void reading_a_file_is_as_cheap_as_mapping_it(void **state)
{
    enum { PAGES = 1024, HALF = PAGES / 2 };
    const struct vv_image_change *changes = NULL;
    struct vv_tracker *tracker = NULL;
    struct vv_file file = temporary_file();
    uint8_t block[PAGE] = { 1 };
    size_t count = 0;

    (void)state;
    for (uint64_t page = 0; page < PAGES; page++)
        assert_int_equal(vv_file_write(&file, block, PAGE, page * PAGE), VARVE_OK);
    uint8_t *plain = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file.fd, 0);
    assert_ptr_not_equal(plain, MAP_FAILED);
    const uint64_t floor = faults_of_reading(plain, 0, PAGES);
    assert_int_equal(munmap(plain, PAGES * PAGE), 0);
    for (int r = 0; r < RUNG_COUNT; r++) {
        for (int on_top = 0; on_top < 2; on_top++) {
            if (!tracker_on(all_rungs[r], &tracker))
                continue;
            struct vv_image *image = image_on_zeros(tracker, &file, PAGES, false);
            if (on_top == 1)
                assert_int_equal(vv_image_fill(image, 100, block, 1), VARVE_OK);
            assert_int_equal(vv_image_arm(image, read_base, NULL), VARVE_OK);
            vv_image_enter(image);
            uint64_t faults = faults_of_reading(vv_image_bytes(image), 0, HALF);
            assert_int_equal(vv_image_reset(image), VARVE_OK);
            faults += faults_of_reading(vv_image_bytes(image), HALF, PAGES);
            assert_in_range(faults, 0, floor + 2);
            ((volatile uint8_t *)vv_image_bytes(image))[100 * PAGE]++;
            assert_int_equal(vv_image_changes(image, &changes, &count), VARVE_OK);
            assert_int_equal(count, 1);
            assert_int_equal(changes->index, 100);
            vv_image_free(image);
            vv_tracker_free(tracker);
        }
    }
    vv_file_close(&file);
}

/* What was filled on top of a file is private, so the first write to it makes no fault, nor has it a mark. */
static void a_write_on_top_of_a_file_is_seen_at_once(void **state)
{
    const struct vv_image_change *changes = NULL;
    struct vv_tracker *tracker = NULL;
    struct vv_file file = temporary_file();
    const uint8_t block[PAGE] = { 1 };
    size_t count = 0;

    (void)state;
    assert_int_equal(vv_file_truncate(&file, 64 * PAGE), VARVE_OK);
    for (int r = 0; r < RUNG_COUNT; r++) {
        if (!tracker_on(all_rungs[r], &tracker))
            continue;
        struct vv_image *image = image_on_zeros(tracker, &file, 64, false);
        vv_image_enter(image);
        assert_int_equal(vv_image_fill(image, 5, block, 1), VARVE_OK);
        assert_int_equal(vv_image_arm(image, read_base, NULL), VARVE_OK);
        ((volatile uint8_t *)vv_image_bytes(image))[5 * PAGE + 7]++;
        assert_int_equal(vv_image_changes(image, &changes, &count), VARVE_OK);
        assert_int_equal(count, 1);
        assert_memory_equal(changes->base, block, PAGE);
        vv_image_free(image);
        vv_tracker_free(tracker);
    }
    vv_file_close(&file);
}

/* Each allocation of a move fails in turn: the image is as it was, and keeps the file that it has. */
static void moving_survives_running_out_of_memory(void **state)
{
    struct vv_tracker *tracker = NULL;
    bool failed = true;

    (void)state;
    for (int r = 0; r < RUNG_COUNT; r++) {
        if (!tracker_on(all_rungs[r], &tracker))
            continue;
        for (unsigned nth = 1; failed || nth == 1; nth++) {
            struct model *model = model_on_file(tracker, 64, false);
            put(model, 9 * PAGE, "committed", 9);
            put(model, 63 * PAGE, "committed", 9);
            assert_int_equal(commit(model), VARVE_OK);
            vv_alloc_fail_at(nth);
            const varve_status rc = move(model);
            failed = vv_alloc_disarm();
            assert_int_equal(rc, failed ? VARVE_MEMORY : VARVE_OK);
            assert_int_equal(model->releases, failed ? 0 : 1);
            assert_as_model(model);
            put(model, 10 * PAGE, "later", 5);
            assert_changes(model);
            assert_int_equal(vv_image_audit(model->image), VARVE_OK);
            model_free(model);
        }
        vv_tracker_free(tracker);
        failed = true;
    }
}

/* ---- A million writes ------------------------------------------------------------------------------- */

enum { BIG_PAGES = 1024, BIG_MOST = 1280 };

struct big {
    struct vv_image *image;
    uint8_t *now, *base, *then; /* the model: now, at the last commit, at the savepoint */
    uint64_t pages, base_pages, then_pages;
    uint64_t writes, growths, forks, reads, rollbacks, commits, named, missed, extra;
    struct random random;
};

static varve_status read_big(void *context, uint64_t index, uint8_t page[VV_PAGE_SIZE])
{
    const struct big *big = context;

    memcpy(page, big->base + index * PAGE, PAGE);
    return VARVE_OK;
}

static void big_new(struct big *big, struct vv_tracker *tracker, uint64_t seed)
{
    const struct vv_image_config config = { .reserve = (uint64_t)BIG_MOST * PAGE };

    *big = (struct big){ .pages = BIG_PAGES, .base_pages = BIG_PAGES, .random = { .state = seed } };
    big->now = calloc(BIG_MOST, PAGE);
    big->base = calloc(BIG_MOST, PAGE);
    big->then = calloc(BIG_MOST, PAGE);
    assert_true(big->now != NULL && big->base != NULL && big->then != NULL);
    for (uint64_t page = 0; page < BIG_PAGES / 2; page++)
        memset(big->base + page * PAGE, (int)page | 1, PAGE);
    memcpy(big->now, big->base, (size_t)BIG_MOST * PAGE);
    assert_int_equal(vv_image_new(tracker, &config, &big->image), VARVE_OK);
    assert_int_equal(vv_image_set_size(big->image, (uint64_t)BIG_PAGES * PAGE), VARVE_OK);
    assert_int_equal(vv_image_fill(big->image, 0, big->base, BIG_PAGES / 2), VARVE_OK);
    assert_int_equal(vv_image_arm(big->image, read_big, big), VARVE_OK);
}

static void big_free(struct big *big)
{
    vv_image_free(big->image);
    free(big->now);
    free(big->base);
    free(big->then);
}

/* A few, so that pages become hot and stay so; some more than can be hot; or most of the image. In a narrow place,
 * so that some rounds make no fault at all, or anywhere. */
static void big_write(struct big *big)
{
    static const unsigned counts[] = { 0, 25, 150, 500, 8000 };
    static const unsigned places[] = { 40, 97, 300 };
    struct random *random = &big->random;
    uint8_t *bytes = vv_image_bytes(big->image);
    const uint64_t place = below(random, 4) == 0 ? big->pages : places[below(random, 3)];

    for (uint64_t i = counts[below(random, 5)]; i-- > 0;) {
        const uint64_t value = draw(random), page = below(random, place);
        const uint64_t offset = page * PAGE + below(random, PAGE);
        switch (below(random, 16)) {
        case 0: /* a host function: a run of bytes */
            memset(bytes + page * PAGE, (int)value, PAGE);
            memset(big->now + page * PAGE, (int)value, PAGE);
            break;
        case 1: /* what is there already */
            ((volatile uint8_t *)bytes)[offset] = big->now[offset];
            break;
        case 2:
            big->missed += bytes[offset] != big->now[offset];
            big->reads++;
            continue;
        default:
            bytes[offset] = big->now[offset] = (uint8_t)value;
        }
        big->writes++;
    }
}

/* The child has no image, and its answer is an error; it may even free the handle. */
static void big_fork(struct big *big)
{
    unsigned char resident;
    int status = 0;
    const pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        const struct vv_image_change *changes;
        size_t count;
        const bool gone = mincore(vv_image_bytes(big->image), PAGE, &resident) != 0 && errno == ENOMEM;
        const bool refused = vv_image_changes(big->image, &changes, &count) == VARVE_MISUSE;
        uint8_t *own = mmap(vv_image_bytes(big->image), PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        vv_image_free(big->image); /* leaves alone what the child put there */
        *own = 1;
        _exit(gone && refused ? 0 : 1);
    }
    big_write(big);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    big->forks++;
}

static void big_judge(struct big *big)
{
    const struct vv_image_change *changes = NULL;
    size_t count = 0, next = 0;

    assert_int_equal(vv_image_changes(big->image, &changes, &count), VARVE_OK);
    for (uint64_t page = 0; page < big->pages; page++) {
        const bool differs = memcmp(big->now + page * PAGE, big->base + page * PAGE, PAGE) != 0;
        const bool named = next < count && changes[next].index == page;
        big->missed += differs && !named;
        big->extra += named && !differs;
        next += named;
    }
    big->extra += count - next;
    big->named += count;
    big->missed += memcmp(vv_image_bytes(big->image), big->now, big->pages * PAGE) != 0;
}

static void big_round(struct big *big, unsigned round)
{
    const uint64_t more = below(&big->random, 12);

    if (round % 3 == 0)
        vv_image_enter(big->image);
    assert_int_equal(vv_image_settle(big->image, 1), VARVE_OK);
    memcpy(big->then, big->now, (size_t)BIG_MOST * PAGE);
    big->then_pages = big->pages;
    if (round % 2 == 1 && big->pages + more <= BIG_MOST) {
        assert_int_equal(vv_image_grow(big->image, (big->pages + more) * PAGE), VARVE_OK);
        big->pages += more;
        big->growths++;
    }
    big_write(big);
    if (round % 16 == 5)
        big_fork(big);
    if (round % 8 == 3) {
        assert_int_equal(vv_image_rollback(big->image, 1), VARVE_OK);
        memcpy(big->now, big->then, (size_t)BIG_MOST * PAGE);
        big->pages = big->then_pages;
        big->rollbacks++;
    } else {
        assert_int_equal(vv_image_release(big->image, 1), VARVE_OK);
    }
    if (round % 2 == 0)
        big_judge(big);
    if (round % 8 == 6) {
        memcpy(big->base, big->now, (size_t)BIG_MOST * PAGE);
        big->base_pages = big->pages;
        assert_int_equal(vv_image_rebase(big->image, read_big, big, 100 * PAGE), VARVE_OK);
        big->commits++;
    }
    if (round % 64 == 63) { /* else it is full soon */
        assert_int_equal(vv_image_reset(big->image), VARVE_OK);
        memcpy(big->now, big->base, (size_t)BIG_MOST * PAGE);
        big->pages = big->base_pages;
    }
}

static void a_million_writes_are_all_seen_on_every_rung(void **state)
{
    const unsigned rounds = 660 * scale();
    struct vv_tracker *tracker = NULL;
    struct big big;

    (void)state;
    for (int r = 0; r < RUNG_COUNT; r++) {
        if (!tracker_on(all_rungs[r], &tracker))
            continue;
        big_new(&big, tracker, 20261121);
        for (unsigned round = 0; round < rounds; round++)
            big_round(&big, round);
        printf("rung %s, seed 20261121: %llu writes, %llu growths, %llu forks, %llu reads, %llu rollbacks, "
               "%llu commits; %llu pages named, %llu missed, %llu extra\n",
               vv_dirty_rung_name(all_rungs[r]), (unsigned long long)big.writes,
               (unsigned long long)big.growths, (unsigned long long)big.forks, (unsigned long long)big.reads,
               (unsigned long long)big.rollbacks, (unsigned long long)big.commits,
               (unsigned long long)big.named, (unsigned long long)big.missed, (unsigned long long)big.extra);
        assert_true(big.writes >= 1000000);
        assert_int_equal(big.missed, 0);
        assert_int_equal(big.extra, 0);
        big_free(&big);
        vv_tracker_free(tracker);
    }
}

/* ---- The laws, one by one --------------------------------------------------------------------------- */

static struct vv_tracker *best;

static int make_best(void **state)
{
    (void)state;
    return vv_tracker_new(VV_DIRTY_BEST, &best) == VARVE_OK ? 0 : -1;
}

static int free_best(void **state)
{
    (void)state;
    vv_tracker_free(best);
    return 0;
}

static void put_byte(struct model *model, uint64_t page, uint8_t byte)
{
    put(model, page * PAGE + 9, &byte, 1);
}

/* (I4) Savepoint, call, commit: no page is copied, and of the base exactly the changed pages are read. On failure
 * exactly those are read to be put back. */
static void a_one_call_session_copies_no_page(void **state)
{
    struct vv_tracker *tracker = NULL;

    (void)state;
    if (!tracker_on(VV_DIRTY_ARMED, &tracker))
        return;
    for (int fails = 0; fails < 2; fails++) {
        struct model *model = model_new(tracker, 60, 3);
        const uint64_t filled = vv_image_private_bytes(model->image);
        assert_int_equal(filled, 40 * PAGE);
        savepoint(model);
        assert_int_equal(settle(model), VARVE_OK);
        for (uint64_t page = 0; page < 10; page++)
            put_byte(model, page, 0xee);
        if (fails) {
            assert_int_equal(roll_back(model, 1), VARVE_OK);
            assert_as_model(model);
            assert_int_equal(model->base_reads, 10);
        } else {
            assert_int_equal(release(model, 1), VARVE_OK);
            assert_int_equal(vv_image_private_bytes(model->image), filled);
            assert_int_equal(model->base_reads, 0);
        }
        assert_changes(model);
        assert_int_equal(model->base_reads, 10);
        model_free(model);
    }
    vv_tracker_free(tracker);
}

/* Growth and silent stores bring in no page but those that were written. */
static void only_written_pages_take_memory(void **state)
{
    struct vv_tracker *tracker = NULL;

    (void)state;
    if (!tracker_on(VV_DIRTY_ARMED, &tracker))
        return;
    struct model *model = model_new(tracker, 30, 13);
    const uint64_t filled = vv_image_private_bytes(model->image);
    assert_int_equal(vv_image_grow(model->image, 90 * PAGE), VARVE_OK);
    model->now.size = 90 * PAGE;
    put_byte(model, 77, 1);
    assert_changes(model);
    assert_int_equal(vv_image_private_bytes(model->image), filled + PAGE);
    savepoint(model);
    assert_int_equal(settle(model), VARVE_OK);
    const uint64_t settled = vv_image_private_bytes(model->image);
    for (uint32_t i = 0; i < 40; i++) {
        put_byte(model, 77, 1);
        assert_int_equal(vv_image_settle(model->image, 2 + i), VARVE_OK);
    }
    assert_int_equal(vv_image_private_bytes(model->image), settled);
    assert_int_equal(vv_image_rollback(model->image, 1), VARVE_OK);
    assert_as_model(model);
    model_free(model);
    vv_tracker_free(tracker);
}

/* After a commit within the budget the next one reads no base; beyond it memory falls to the budget. */
static void a_chained_session_reads_no_base_within_its_budget(void **state)
{
    struct vv_tracker *tracker = NULL;
    const struct vv_image_change *changes = NULL;
    size_t count = 0;

    (void)state;
    if (!tracker_on(VV_DIRTY_ARMED, &tracker))
        return;
    struct model *model = model_new(tracker, 60, 4);
    for (int round = 0; round < 5; round++) {
        model->base_reads = 0;
        for (uint64_t page = 20; page < 30; page++)
            put_byte(model, page, (uint8_t)(0xa0 + round));
        assert_changes(model);
        assert_int_equal(model->base_reads, round == 0 ? 10 : 0);
        copy_moment(&model->base, &model->now);
        assert_int_equal(vv_image_rebase(model->image, read_base, model, 10 * PAGE), VARVE_OK);
        assert_changes(model);
    }
    /* Other pages push the old ones out. */
    for (uint64_t page = 40; page < 48; page++)
        put_byte(model, page, 1);
    assert_int_equal(vv_image_changes(model->image, &changes, &count), VARVE_OK);
    assert_int_equal(count, 8);
    copy_moment(&model->base, &model->now);
    assert_int_equal(vv_image_rebase(model->image, read_base, model, 10 * PAGE), VARVE_OK);
    model->base_reads = 0;
    put_byte(model, 20, 2);
    put_byte(model, 40, 2);
    assert_changes(model);
    assert_int_equal(model->base_reads, 1); /* page 20 */
    model_free(model);
    vv_tracker_free(tracker);
}

static void a_large_commit_gives_its_memory_back(void **state)
{
    enum { PAGES = 4000 };
    const struct vv_image_config config = { .reserve = (uint64_t)PAGES * PAGE };
    const struct vv_image_change *changes = NULL;
    struct big big = { .base = calloc(PAGES, PAGE) };
    size_t count = 0;

    (void)state;
    assert_non_null(big.base);
    assert_int_equal(vv_image_new(best, &config, &big.image), VARVE_OK);
    assert_int_equal(vv_image_set_size(big.image, (uint64_t)PAGES * PAGE), VARVE_OK);
    assert_int_equal(vv_image_arm(big.image, read_big, &big), VARVE_OK);
    assert_int_equal(vv_image_settle(big.image, 1), VARVE_OK);
    memset(vv_image_bytes(big.image), 7, (size_t)PAGES * PAGE);
    assert_int_equal(vv_image_settle(big.image, 2), VARVE_OK); /* every page is shadowed */
    memset(vv_image_bytes(big.image), 8, (size_t)PAGES * PAGE);
    assert_int_equal(vv_image_release(big.image, 1), VARVE_OK);
    assert_int_equal(vv_image_changes(big.image, &changes, &count), VARVE_OK);
    assert_int_equal(count, PAGES);
    memset(big.base, 8, (size_t)PAGES * PAGE);
    assert_int_equal(vv_image_rebase(big.image, read_big, &big, 100 * PAGE), VARVE_OK);
    assert_int_equal(vv_image_audit(big.image), VARVE_OK);
    if (vv_tracker_rung(best) == VV_DIRTY_ARMED)
        assert_true(vv_image_private_bytes(big.image) <= (PAGES + 128) * (uint64_t)PAGE);
    vv_image_free(big.image);
    free(big.base);
}

/* What an inner savepoint kept is needed by the outer one, also when that was never settled itself. */
static void release_keeps_what_an_unsettled_savepoint_needs(void **state)
{
    (void)state;
    struct model *model = model_new(best, 20, 5);
    savepoint(model);
    savepoint(model);
    savepoint(model);
    assert_int_equal(settle(model), VARVE_OK); /* depth 3 alone */
    put_byte(model, 3, 1);
    assert_int_equal(grow(model), VARVE_OK);
    assert_int_equal(release(model, 3), VARVE_OK);
    assert_int_equal(settle(model), VARVE_OK);
    put_byte(model, 4, 1);
    assert_int_equal(release(model, 2), VARVE_OK);
    put_byte(model, 5, 1);
    assert_changed_since(model, 1);
    assert_int_equal(roll_back(model, 1), VARVE_OK);
    assert_as_model(model);
    assert_changes(model);
    model_free(model);
}

/* A page written between vv_image_changes and vv_image_rebase is not in that commit: the next one has it. */
static void what_is_written_after_the_look_is_in_the_next_commit(void **state)
{
    struct vv_tracker *tracker = NULL;

    (void)state;
    if (!tracker_on(VV_DIRTY_ARMED, &tracker))
        return;
    for (int how = 0; how < 4; how++) {
        struct model *model = model_new(tracker, 20, 6);
        if (how > 0)
            vv_image_enter(model->image);
        if (how == 3) /* only the pages of the change list are looked at again */
            vv_image_expose(model->image);
        if (how == 2) { /* page 3 is hot, and nothing faults until the look */
            for (uint32_t depth = 1; depth < 4; depth++) {
                put_byte(model, 3, (uint8_t)depth);
                put_byte(model, 4, (uint8_t)depth);
                assert_int_equal(vv_image_settle(model->image, depth), VARVE_OK);
            }
            assert_int_equal(vv_image_release(model->image, 1), VARVE_OK);
        }
        put_byte(model, 3, 1);
        put_byte(model, 4, 1);
        assert_changes(model);
        copy_moment(&model->base, &model->now);
        put_byte(model, 3, 2); /* in the change list */
        put_byte(model, 9, 2); /* not in it */
        assert_int_equal(vv_image_rebase(model->image, read_base, model, UINT64_MAX), VARVE_OK);
        assert_changes(model);
        assert_int_equal(vv_image_reset(model->image), VARVE_OK);
        copy_moment(&model->now, &model->base);
        assert_as_model(model);
        model_free(model);
    }
    vv_tracker_free(tracker);
}

static void growth_has_its_limits(void **state)
{
    const struct vv_image_config config = { .reserve = 64 * PAGE, .limit = 32 * PAGE + 100 };
    struct model model = { .depth = 0 };
    struct vv_image *image = NULL, *other = NULL;

    (void)state;
    assert_int_equal(vv_image_new(best, &config, &image), VARVE_OK);
    assert_int_equal(vv_image_limit(image), 32 * PAGE);
    assert_int_equal(vv_image_reserve(image), 64 * PAGE);
    assert_int_equal(vv_image_set_size(image, 33 * PAGE), VARVE_LIMIT);
    assert_int_equal(vv_image_set_size(image, 16 * PAGE), VARVE_OK);
    assert_int_equal(vv_image_set_size(image, 8 * PAGE), VARVE_OK);
    assert_int_equal(vv_image_arm(image, read_base, &model), VARVE_OK);
    assert_int_equal(vv_image_base_size(image), 8 * PAGE);
    assert_int_equal(vv_image_grow(image, 33 * PAGE), VARVE_LIMIT);
    assert_int_equal(vv_image_grow(image, 9 * PAGE + 1), VARVE_MISUSE);
    assert_int_equal(vv_image_grow(image, 7 * PAGE), VARVE_MISUSE);
    assert_int_equal(vv_image_grow(image, 8 * PAGE), VARVE_OK);
    assert_int_equal(vv_image_grow(image, 32 * PAGE), VARVE_OK);
    assert_int_equal(vv_image_size(image), 32 * PAGE);
    assert_int_equal(vv_image_base_size(image), 8 * PAGE);
    /* Where something is, nothing else is mapped; where nothing is, it is mapped exactly there. */
    struct vv_image_config at = { .reserve = 64 * PAGE, .guard = PAGE, .address = vv_image_bytes(image) };
    assert_int_equal(vv_image_new(best, &at, &other), VARVE_HOST_LIMIT);
    assert_null(other);
    vv_image_free(image);
    assert_int_equal(vv_image_new(best, &at, &other), VARVE_OK);
    assert_ptr_equal(vv_image_bytes(other), at.address);
    vv_image_free(other);
    at = (struct vv_image_config){ .reserve = UINT64_C(1) << 46 };
    assert_int_equal(vv_image_new(best, &at, &other), VARVE_LIMIT);
}

/* Bytes beyond the length cannot be touched, neither before growth nor after it was undone. */
static void beyond_the_length_there_is_nothing(void **state)
{
    (void)state;
    struct model *model = model_new(best, 20, 8);
    for (int round = 0; round < 2; round++) {
        int status = 0;
        uint8_t *beyond = vv_image_bytes(model->image) + 20 * PAGE;
        unsigned char resident[4];
        assert_int_equal(mincore(beyond, 4 * PAGE, resident), 0);
        for (int i = 0; i < 4; i++)
            assert_int_equal(resident[i] & 1, 0);
        assert_int_equal(write(-1, beyond, 0), -1);
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        assert_int_equal(write(ends[1], beyond, 1), -1); /* the kernel looks for us, without a signal */
        assert_int_equal(errno, EFAULT);
        (void)close(ends[0]);
        (void)close(ends[1]);
        savepoint(model);
        assert_int_equal(settle(model), VARVE_OK);
        assert_int_equal(vv_image_grow(model->image, 24 * PAGE), VARVE_OK);
        model->now.size = 24 * PAGE;
        put_byte(model, 23, 5);
        assert_as_model(model);
        assert_int_equal(roll_back(model, 1), VARVE_OK);
        assert_as_model(model);
        (void)status;
    }
    model_free(model);
}

/* ---- Threads ---------------------------------------------------------------------------------------- */

struct turn {
    struct model *model;
    void (*work)(struct model *model);
};

static void *take_turn(void *context)
{
    const struct turn *turn = context;

    turn->work(turn->model);
    return NULL;
}

static void on_another_thread(struct model *model, void (*work)(struct model *model))
{
    struct turn turn = { .model = model, .work = work };
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, take_turn, &turn), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void enter_and_write(struct model *model)
{
    vv_image_enter(model->image);
    for (uint64_t page = 2; page < 7; page++)
        put_byte(model, page, (uint8_t)draw(&model->random));
}

static void write_as_a_stranger(struct model *model)
{
    for (uint64_t page = 5; page < 9; page++)
        put_byte(model, page, (uint8_t)draw(&model->random));
}

static void steps_on_a_thread(struct model *model)
{
    vv_image_enter(model->image);
    for (int i = 0; i < 10; i++) {
        if (step(model) != VARVE_OK)
            model->now.size = UINT64_MAX; /* said on the main thread */
    }
}

/* This thread looks, another writes and does not look, this one looks again: its own faults say nothing. */
static void a_thread_sees_what_another_wrote(void **state)
{
    struct vv_tracker *tracker = NULL;

    (void)state;
    for (int r = 0; r < RUNG_COUNT; r++) {
        if (!tracker_on(all_rungs[r], &tracker))
            continue;
        struct model *model = model_new(tracker, 20, 11);
        for (int round = 0; round < 30; round++) {
            vv_image_enter(model->image);
            savepoint(model);
            assert_int_equal(settle(model), VARVE_OK);
            on_another_thread(model, enter_and_write);
            vv_image_enter(model->image);
            assert_changed_since(model, 1);
            if (round % 2 == 0)
                assert_int_equal(roll_back(model, 1), VARVE_OK);
            else
                assert_int_equal(release(model, 1), VARVE_OK);
            assert_as_model(model);
            assert_changes(model);
        }
        for (int turn = 0; turn < 60; turn++) {
            on_another_thread(model, steps_on_a_thread);
            assert_as_model(model);
            assert_changes(model);
        }
        model_free(model);
        vv_tracker_free(tracker);
    }
}

/* Fault one page after another until this thread has had `target` faults. */
static long fault_until(long target)
{
    struct rusage usage;
    uint8_t *pages = mmap(NULL, 4096 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)madvise(pages, 4096 * PAGE, MADV_NOHUGEPAGE);
    (void)getrusage(RUSAGE_THREAD, &usage);
    for (uint64_t page = 0; usage.ru_minflt < target && page < 4096; page++) {
        ((volatile uint8_t *)pages)[page * PAGE] = 1;
        (void)getrusage(RUSAGE_THREAD, &usage);
    }
    (void)munmap(pages, 4096 * PAGE);
    return usage.ru_minflt;
}

static void look_at_1500_faults(struct model *model)
{
    savepoint(model);
    (void)settle(model);
    (void)fault_until(1500);
    (void)vv_image_settle(model->image, 2);
    (void)vv_image_release(model->image, 2);
}

static void write_up_to_1500_faults(struct model *model)
{
    if (fault_until(1499) == 1499)
        put_byte(model, 6, 0x66); /* the 1500th */
}

static void roll_back_here(struct model *model)
{
    write_up_to_1500_faults(model);
    (void)roll_back(model, 1);
}

/* Threads that never enter: one looks when it has had n faults, the next writes and looks at the same n. */
static void the_fault_count_of_a_stranger_says_nothing(void **state)
{
    struct vv_tracker *tracker = NULL;

    (void)state;
    if (!tracker_on(VV_DIRTY_ARMED, &tracker))
        return;
    struct model *model = model_new(tracker, 20, 14);
    vv_image_enter(model->image); /* a promise that is not kept */
    on_another_thread(model, look_at_1500_faults);
    on_another_thread(model, roll_back_here);
    assert_as_model(model);
    model_free(model);
    vv_tracker_free(tracker);
}

struct meddler {
    struct model *model;
    bool done;
};

static varve_status read_and_meddle(void *context, uint64_t index, uint8_t page[VV_PAGE_SIZE])
{
    struct meddler *meddler = context;

    if (!meddler->done)
        put_byte(meddler->model, 19, 0x99);
    meddler->done = true;
    return read_base(meddler->model, index, page);
}

/* As another thread could, on an exposed image, while a page is put back. */
static void a_write_during_the_way_back_is_not_forgotten(void **state)
{
    struct vv_tracker *tracker = NULL;

    (void)state;
    if (!tracker_on(VV_DIRTY_ARMED, &tracker))
        return;
    struct model *model = model_new(tracker, 20, 15);
    struct meddler meddler = { .model = model };
    assert_int_equal(vv_image_arm(model->image, read_and_meddle, &meddler), VARVE_OK);
    savepoint(model);
    assert_int_equal(settle(model), VARVE_OK);
    put_byte(model, 4, 1);
    assert_int_equal(roll_back(model, 1), VARVE_OK);
    assert_true(meddler.done);
    model->now.bytes[19 * PAGE + 9] = 0x99;
    assert_as_model(model);
    assert_changes(model);
    model_free(model);
    vv_tracker_free(tracker);
}

/* Whoever holds an exposed image's address writes when it likes, and never enters. */
static void an_exposed_image_hides_no_write(void **state)
{
    (void)state;
    struct model *model = model_new(best, 20, 12);
    vv_image_expose(model->image);
    assert_true(vv_image_exposed(model->image));
    for (int round = 0; round < 20; round++) {
        vv_image_enter(model->image);
        savepoint(model);
        assert_int_equal(settle(model), VARVE_OK);
        on_another_thread(model, write_as_a_stranger);
        assert_changed_since(model, 1);
        assert_int_equal(round % 2 == 0 ? roll_back(model, 1) : release(model, 1), VARVE_OK);
        assert_as_model(model);
        assert_changes(model);
    }
    model_free(model);
}

/* ---- Failures --------------------------------------------------------------------------------------- */

/* The same story with the nth allocation failing, for every n: the call says so, the bytes are as they were or as
 * they should be, and the same call succeeds the second time. `rebase` and `new` are for the end and start. */
static void tell_the_story(struct vv_tracker *tracker, unsigned nth, bool *failed)
{
    const struct vv_image_change *changes = NULL;
    size_t count = 0;
    varve_status rc = VARVE_OK;

#define TWICE(call)                      \
    do {                                 \
        rc = (call);                     \
        if (rc == VARVE_MEMORY) {        \
            assert_true(!*failed);       \
            *failed = vv_alloc_disarm(); \
            assert_true(*failed);        \
            rc = (call);                 \
        }                                \
        assert_int_equal(rc, VARVE_OK);  \
        assert_as_model(model);          \
    } while (0)

    struct model *model = model_new(tracker, 70, 21);
    vv_alloc_fail_at(nth);
    for (uint32_t depth = 1; depth <= 5; depth++) {
        savepoint(model);
        TWICE(settle(model));
        for (uint64_t page = depth; page < model->now.size / PAGE; page += 1 + depth % 3)
            put_byte(model, page, (uint8_t)(0x50 + depth));
        TWICE(grow(model));
        TWICE(vv_image_changes(model->image, &changes, &count));
    }
    uint64_t pages = 0;
    TWICE(vv_image_changed_since(model->image, 2, &pages));
    copy_moment(&model->now, &model->saved[5]);
    model->depth = 4;
    TWICE(vv_image_rollback(model->image, 5));
    model->depth = 2;
    TWICE(vv_image_release(model->image, 3));
    copy_moment(&model->now, &model->saved[2]);
    model->depth = 1;
    TWICE(vv_image_rollback(model->image, 2));
    model->depth = 0;
    TWICE(vv_image_release(model->image, 1));
    TWICE(vv_image_changes(model->image, &changes, &count));
    copy_moment(&model->base, &model->now);
    rc = vv_image_rebase(model->image, read_base, model, 20 * PAGE);
    if (rc == VARVE_OK) {
        put_byte(model, 1, 0x77);
        TWICE(vv_image_changes(model->image, &changes, &count));
        copy_moment(&model->now, &model->base);
        TWICE(vv_image_reset(model->image));
    } else {
        assert_int_equal(rc, VARVE_MEMORY);
    }
    *failed = vv_alloc_disarm() || *failed;
    model_free(model);
#undef TWICE
}

static void running_out_of_memory_changes_nothing(void **state)
{
    struct vv_tracker *tracker = NULL;

    (void)state;
    for (int r = 0; r < RUNG_COUNT; r++) {
        if (!tracker_on(all_rungs[r], &tracker))
            continue;
        bool failed = true;
        unsigned nth = 0;
        while (failed) {
            failed = false;
            tell_the_story(tracker, ++nth, &failed);
        }
        printf("rung %s: %u allocations failed, one by one\n", vv_dirty_rung_name(all_rungs[r]), nth - 1);
        assert_true(nth > 10);
        vv_tracker_free(tracker);
    }
}

static void making_and_filling_survives_running_out_of_memory(void **state)
{
    struct model model = { .depth = 0 };
    struct vv_tracker *tracker = NULL;
    const uint8_t page[PAGE] = { 1 };

    (void)state;
    for (int r = 0; r < RUNG_COUNT; r++) {
        if (!tracker_on(all_rungs[r], &tracker))
            continue;
        bool failed = true;
        for (unsigned nth = 1; failed; nth++) {
            struct vv_image *image = NULL;
            vv_alloc_fail_at(nth);
            varve_status rc = vv_image_new(tracker, NULL, &image);
            if (rc == VARVE_OK)
                rc = vv_image_set_size(image, 4 * PAGE);
            if (rc == VARVE_OK)
                rc = vv_image_fill(image, 2, page, 1);
            if (rc == VARVE_OK)
                rc = vv_image_arm(image, read_base, &model);
            failed = vv_alloc_disarm();
            assert_int_equal(rc, failed ? VARVE_MEMORY : VARVE_OK);
            vv_image_free(image);
        }
        vv_tracker_free(tracker);
    }
}

/* The nth read of the base fails, for every n: a way back that broke off is finished by the next call, whichever it
 * is; no other call sees the pages between. */
static void a_base_that_cannot_be_read_breaks_nothing(void **state)
{
    struct vv_tracker *tracker = NULL;
    const struct vv_image_change *changes = NULL;
    size_t count = 0;
    unsigned failures = 0;

    (void)state;
    if (!tracker_on(VV_DIRTY_ARMED, &tracker))
        return;
    for (int ending = 0; ending < 4; ending++) {
        bool failed = true;
        for (unsigned nth = 1; failed; nth++) {
            struct model *model = model_new(tracker, 30, 31);
            put_byte(model, 29, 1);
            savepoint(model);
            assert_int_equal(settle(model), VARVE_OK);
            for (uint64_t page = 3; page < 15; page++)
                put_byte(model, page, 9);
            assert_int_equal(vv_image_grow(model->image, 40 * PAGE), VARVE_OK);
            model->now.size = 40 * PAGE;
            put_byte(model, 35, 9);
            model->fail_read = nth;
            varve_status rc = ending == 0   ? vv_image_changes(model->image, &changes, &count)
                              : ending == 1 ? reset(model)
                                            : roll_back(model, 1);
            failed = model->fail_read == 0;
            model->fail_read = 0;
            assert_int_equal(rc, failed ? VARVE_IO : VARVE_OK);
            failures += failed;
            if (ending == 2) {
                savepoint(model); /* the next call is a settle, then work goes on */
                assert_int_equal(settle(model), VARVE_OK);
                put_byte(model, 7, 3);
            } else if (ending == 3) {
                assert_int_equal(vv_image_release(model->image, 1), VARVE_OK);
            }
            assert_changes(model);
            assert_as_model(model);
            model_free(model);
        }
    }
    printf("%u reads of a base failed, one by one\n", failures);
    assert_true(failures > 40);
    vv_tracker_free(tracker);
}

/* Something maps over a piece of the image: the kernel's marks are gone there. Every look is right all the same, and
 * when the piece can be tracked again they are quick again. */
static void an_image_that_lost_its_marks_compares(void **state)
{
    struct vv_tracker *tracker = NULL;

    (void)state;
    if (!tracker_on(VV_DIRTY_ARMED, &tracker))
        return;
    struct model *model = model_new(tracker, 30, 41);
    for (int round = 0; round < 6; round++) {
        savepoint(model);
        assert_int_equal(settle(model), VARVE_OK);
        if (round % 3 != 2)
            assert_ptr_not_equal(mmap(vv_image_bytes(model->image) + (8 + round) * PAGE, PAGE,
                                      PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                                 MAP_FAILED);
        memcpy(vv_image_bytes(model->image) + (8 + round) * PAGE, model->now.bytes + (8 + round) * PAGE,
               PAGE);
        put_byte(model, 8 + (uint64_t)round, 0xcc);
        put_byte(model, 20, (uint8_t)round);
        assert_changed_since(model, 1);
        assert_int_equal(round % 2 == 0 ? roll_back(model, 1) : release(model, 1), VARVE_OK);
        assert_as_model(model);
        assert_changes(model);
        assert_int_equal(vv_image_audit(model->image), VARVE_OK);
    }
    model_free(model);
    vv_tracker_free(tracker);
}

/* Under mlockall(MCL_FUTURE) a new image is not faulted in; under MCL_CURRENT growth can still be undone. */
static void locked_memory_dirties_nothing(void **state)
{
    struct vv_tracker *tracker = NULL;
    int status = 0;

    (void)state;
    const pid_t child = fork(); /* locks end with it */
    assert_true(child >= 0);
    if (child == 0) {
        struct model zeros = { .base = { .size = 4096 * PAGE } };
        struct vv_image *image = NULL;
        struct vv_page_list list = { .pages = NULL };
        if (mlockall(MCL_FUTURE) != 0)
            _exit(0); /* not allowed here */
        bool right = vv_tracker_new(VV_DIRTY_PRIVATE, &tracker) == VARVE_OK;
        if (right && vv_image_new(tracker, NULL, &image) == VARVE_HOST_LIMIT) /* a user's limit */
            _exit(strstr(vv_words(), "mlockall") != NULL ? 0 : 1);
        right = right && image != NULL;
        right = right && vv_image_set_size(image, 4096 * PAGE) == VARVE_OK;
        struct vv_file file = temporary_file();
        const struct vv_backing backing = { .file = &file, .pages = 1024 };
        right = right && vv_file_truncate(&file, 1024 * PAGE) == VARVE_OK;
        right = right && vv_image_back(image, &backing) == VARVE_OK;
        right = right && vv_image_arm(image, read_base, &zeros) == VARVE_OK;
        right = right && vv_image_settle(image, 1) == VARVE_OK;
        right = right && vv_image_grow(image, 8192 * PAGE) == VARVE_OK;
        right = right && vv_dirty_take(tracker, vv_image_bytes(image), 8192 * PAGE, &list) == VARVE_OK;
        right = right && list.count == 0;
        if (mlockall(MCL_CURRENT) != 0)
            _exit(right ? 0 : 1);
        vv_image_bytes(image)[8000 * PAGE] = 1;
        right = right && vv_image_rollback(image, 1) == VARVE_OK;
        right = right && vv_image_grow(image, 8192 * PAGE) == VARVE_OK;
        right = right && vv_image_bytes(image)[8000 * PAGE] == 0;
        _exit(right ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_one_call_session_copies_no_page),
        cmocka_unit_test(only_written_pages_take_memory),
        cmocka_unit_test(a_chained_session_reads_no_base_within_its_budget),
        cmocka_unit_test(a_large_commit_gives_its_memory_back),
        cmocka_unit_test(release_keeps_what_an_unsettled_savepoint_needs),
        cmocka_unit_test(what_is_written_after_the_look_is_in_the_next_commit),
        cmocka_unit_test(growth_has_its_limits),
        cmocka_unit_test(beyond_the_length_there_is_nothing),
        cmocka_unit_test(a_thread_sees_what_another_wrote),
        cmocka_unit_test(the_fault_count_of_a_stranger_says_nothing),
        cmocka_unit_test(a_write_during_the_way_back_is_not_forgotten),
        cmocka_unit_test(an_exposed_image_hides_no_write),
        cmocka_unit_test(running_out_of_memory_changes_nothing),
        cmocka_unit_test(making_and_filling_survives_running_out_of_memory),
        cmocka_unit_test(a_base_that_cannot_be_read_breaks_nothing),
        cmocka_unit_test(an_image_that_lost_its_marks_compares),
        cmocka_unit_test(locked_memory_dirties_nothing),
        cmocka_unit_test(what_a_file_holds_takes_no_memory_and_no_reading),
        cmocka_unit_test(a_file_that_is_too_short_is_refused),
        cmocka_unit_test(looks_at_a_file_that_is_written_to_miss_nothing),
        cmocka_unit_test(arming_a_file_that_is_written_to_misses_nothing),
        cmocka_unit_test(reading_a_file_is_as_cheap_as_mapping_it),
        cmocka_unit_test(a_write_on_top_of_a_file_is_seen_at_once),
        cmocka_unit_test(moving_survives_running_out_of_memory),
        cmocka_unit_test(random_nests_are_as_the_model_on_every_rung),
        cmocka_unit_test(random_nests_over_files_are_as_the_model_on_every_rung),
        cmocka_unit_test(random_nests_that_lean_on_files_are_as_the_model_on_every_rung),
        cmocka_unit_test(a_million_writes_are_all_seen_on_every_rung),
    };
    return cmocka_run_group_tests(tests, make_best, free_best);
}

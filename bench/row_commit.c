/* row_commit.c - what a commit costs: the flush, the pages, what is not touched, what went before. */
#include "disk.h"
#include "memory.h"
#include "product.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 5 };

/* ---- One page ----------------------------------------------------------------------------------- */

struct one_page {
    struct product p;
    struct disk disk;
    uint8_t *bytes;
    uint32_t pages; /* the first of the image, which are changed at random */
    size_t written; /* by the last commit */
};

static void change_page(uint8_t *bytes, uint32_t pages)
{
    const size_t at = (size_t)(bench_random() % pages) * BENCH_PAGE + bench_random() % 500 * 8;

    *(volatile uint64_t *)(bytes + at) = bench_random();
}

static double one_page_commit(void *context)
{
    struct one_page *c = context;
    varve_commit_info info;

    change_page(c->bytes, c->pages);
    const double start = bench_now();
    product_commit(&c->p, VARVE_DURABLE, &info);
    const double spent = (bench_now() - start) / 1e3;
    c->written = info.bytes_written;
    return spent;
}

static double one_page_buffered(void *context)
{
    struct one_page *c = context;

    change_page(c->bytes, c->pages);
    const double start = bench_now();
    product_commit(&c->p, VARVE_BUFFERED, NULL);
    return (bench_now() - start) / 1e3;
}

static double one_page_flush(void *context)
{
    struct one_page *c = context;

    return disk_flush(&c->disk, c->written);
}

static double one_page_direct(void *context)
{
    struct one_page *c = context;

    return disk_flush_direct(&c->disk, c->written);
}

void bench_durable_commit(struct bench *b)
{
    enum { SIZE = 64 * 1048576 };
    struct one_page c = { .pages = 100 };
    struct bench_case pair = { .unit = "us",
                               .goal = { 1.5, 0, "<= 1.5x" },
                               .runs = 600,
                               .floor = one_page_flush,
                               .other_note = "the floor is O_DIRECT|O_DSYNC",
                               .product = one_page_commit,
                               .context = &c,
                               .flushes = true };

    disk_open(&c.disk, b, bench_of(b, 64, 16) * MIB);
    product_create(&c.p, b, "store");
    product_begin(&c.p, NULL);
    c.bytes = product_image(&c.p, "image", SIZE);
    product_fill(c.bytes, SIZE);
    product_commit(&c.p, VARVE_DURABLE, NULL);
    pair.other_floor = c.disk.direct >= 0 ? one_page_direct : NULL;
    for (int i = 0; i < 1000; i++)
        one_page_buffered(&c);
    one_page_commit(&c);
    pair.name = "1 page of 64 MiB, changed before";
    bench_measure(b, &pair);
    pair.name = "the same, not waiting for the disk (BUFFERED)";
    pair.goal.times = 0;
    pair.product = one_page_buffered;
    bench_measure(b, &pair);
    product_close(&c.p);
    product_open(&c.p);
    product_begin(&c.p, NULL);
    c.bytes = product_image(&c.p, "image", 0);
    c.pages = SIZE / BENCH_PAGE;
    pair.name = "1 page, not changed since the store was opened";
    pair.goal.times = 1.5;
    pair.product = one_page_commit;
    bench_measure(b, &pair);
    product_close(&c.p);
    disk_close(&c.disk);
}

/* ---- Many pages --------------------------------------------------------------------------------- */

struct many_pages {
    struct product p;
    uint8_t *bytes, *floor, *before;
    uint32_t *pages, count, total;
};

static void change_words(uint8_t *bytes, const uint32_t *pages, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        for (int k = 0; k < WORDS; k++)
            *(volatile uint64_t *)(bytes + (size_t)pages[i] * BENCH_PAGE + bench_random() % 512 * 8) =
                bench_random();
}

static void pick_again(struct many_pages *c)
{
    free(c->pages);
    c->pages = memory_pages(c->count, c->total, true);
}

static double many_floor(void *context)
{
    struct many_pages *c = context;

    change_words(c->floor, c->pages, c->count);
    const double spent = memory_commit(c->floor, c->before, c->pages, c->count) / 1e3;
    for (uint32_t i = 0; i < c->count; i++) { /* what they were before the next run */
        const size_t at = (size_t)c->pages[i] * BENCH_PAGE;
        memcpy(c->before + at, c->floor + at, BENCH_PAGE);
    }
    return spent;
}

static double many_commit(void *context)
{
    struct many_pages *c = context;

    change_words(c->bytes, c->pages, c->count);
    const double start = bench_now();
    product_commit(&c->p, VARVE_DURABLE, NULL);
    const double spent = (bench_now() - start) / 1e3 / c->count;
    pick_again(c);
    return spent;
}

static double many_root(void *context)
{
    struct many_pages *c = context;
    varve_root root;
    varve_error error = { 0 };

    change_words(c->bytes, c->pages, c->count);
    const double start = bench_now();
    must(varve_session_root(c->p.session, &root, &error), &error, "the root");
    const double spent = (bench_now() - start) / 1e3 / c->count;
    product_commit(&c->p, VARVE_BUFFERED, NULL);
    pick_again(c);
    return spent;
}

static void many_open(struct many_pages *c, struct bench *b, size_t size)
{
    char store[32];

    *c = (struct many_pages){ .count = 10000, .total = (uint32_t)(size / BENCH_PAGE) };
    c->floor = memory_new(size);
    c->before = memory_new(size);
    memcpy(c->before, c->floor, size);
    snprintf(store, sizeof store, "store%zu", size / MIB);
    product_create(&c->p, b, store);
    product_begin(&c->p, NULL);
    c->bytes = product_image(&c->p, "image", size);
    product_fill(c->bytes, size);
    product_commit(&c->p, VARVE_DURABLE, NULL);
    pick_again(c);
}

static void many_close(struct many_pages *c)
{
    const size_t size = (size_t)c->total * BENCH_PAGE;

    product_close(&c->p);
    memory_free(c->floor, size);
    memory_free(c->before, size);
    free(c->pages);
}

static void many_commits(struct bench *b, size_t size, const char *name, unsigned before)
{
    struct many_pages c;

    many_open(&c, b, size);
    for (unsigned i = 0; i < before; i++)
        many_commit(&c);
    bench_measure(b, &(struct bench_case){ .name = name,
                                           .unit = "us",
                                           .goal = { 1.5, 0, "<= 1.5x" },
                                           .runs = 30,
                                           .floor = many_floor,
                                           .product = many_commit,
                                           .context = &c });
    many_close(&c);
}

void bench_commit_per_page(struct bench *b)
{
    many_commits(b, 64 * MIB, "10 000 pages of 64 MiB, changed before", 5);
    if (!b->quick)
        many_commits(b, 512 * MIB, "10 000 pages of 512 MiB, most of them not", 0);
}

void bench_root_per_page(struct bench *b)
{
    struct many_pages c;

    many_open(&c, b, 64 * MIB);
    many_commit(&c);
    bench_measure(b, &(struct bench_case){ .name = "10 000 pages of 64 MiB, changed before",
                                           .unit = "us",
                                           .runs = 30,
                                           .floor = many_floor,
                                           .product = many_root,
                                           .context = &c });
    many_close(&c);
}

/* ---- What is not touched, what went before -------------------------------------------------------- */

enum { SMALL = 65536 };

struct two_stores {
    struct product few, many;
    uint8_t *few_bytes, *many_bytes;
};

static double timed_commit(struct product *p, uint8_t *bytes)
{
    change_page(bytes, SMALL / BENCH_PAGE);
    const double start = bench_now();
    product_commit(p, VARVE_DURABLE, NULL);
    return (bench_now() - start) / 1e3;
}

static double commit_few(void *context)
{
    struct two_stores *c = context;

    return timed_commit(&c->few, c->few_bytes);
}

static double commit_many(void *context)
{
    struct two_stores *c = context;

    return timed_commit(&c->many, c->many_bytes);
}

/* A store with `count` images and a session on it; the memory of the one in the middle. */
static uint8_t *store_of_images(struct product *p, struct bench *b, const char *store, unsigned count)
{
    uint8_t *middle = NULL;

    product_create(p, b, store);
    product_begin(p, NULL);
    for (unsigned i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "image%u", i);
        uint8_t *bytes = product_image(p, name, SMALL);
        product_fill(bytes, BENCH_PAGE);
        if (i == count / 2)
            middle = bytes;
    }
    product_commit(p, VARVE_DURABLE, NULL);
    return middle;
}

/* Begin anew, so that only the one image is mapped. */
static uint8_t *only_one(struct product *p, unsigned count)
{
    char name[32];

    varve_session_abort(p->session);
    product_begin(p, NULL);
    snprintf(name, sizeof name, "image%u", count / 2);
    uint8_t *bytes = product_image(p, name, 0);
    product_fill(bytes, SMALL);
    product_commit(p, VARVE_DURABLE, NULL);
    return bytes;
}

void bench_commit_images(struct bench *b)
{
    struct two_stores c = { .few_bytes = NULL };

    c.few_bytes = store_of_images(&c.few, b, "few", 1);
    c.many_bytes = store_of_images(&c.many, b, "many", 1000);
    product_fill(c.few_bytes, SMALL);
    product_fill(c.many_bytes, SMALL);
    product_commit(&c.few, VARVE_DURABLE, NULL);
    product_commit(&c.many, VARVE_DURABLE, NULL);
    struct bench_case pair = { .name = "1000 images, all open, against 1",
                               .unit = "us",
                               .runs = 600,
                               .floor = commit_few,
                               .product = commit_many,
                               .context = &c,
                               .flushes = true };
    bench_measure(b, &pair); /* a program may write into any of them at any time: each must be looked at */
    c.few_bytes = only_one(&c.few, 1);
    c.many_bytes = only_one(&c.many, 1000);
    pair.name = "1000 images, one of them open, against 1";
    pair.goal = (struct bench_goal){ 1.2, 0, "<= 1.2x" };
    bench_measure(b, &pair);
    product_close(&c.few);
    product_close(&c.many);
}

void bench_commit_history(struct bench *b)
{
    struct two_stores c = { .few_bytes = NULL };
    const unsigned commits = bench_of(b, 10000, 1000);
    char name[64];

    c.few_bytes = store_of_images(&c.few, b, "young", 1);
    c.many_bytes = store_of_images(&c.many, b, "old", 1);
    product_fill(c.few_bytes, SMALL);
    product_fill(c.many_bytes, SMALL);
    for (unsigned i = 0; i < commits; i++) {
        change_page(c.many_bytes, SMALL / BENCH_PAGE);
        product_commit(&c.many, VARVE_BUFFERED, NULL);
        if (i < 10)
            timed_commit(&c.few, c.few_bytes);
    }
    snprintf(name, sizeof name, "after %u commits against after 10", commits);
    bench_measure(b, &(struct bench_case){ .name = name,
                                           .unit = "us",
                                           .goal = { 1.2, 0, "<= 1.2x" },
                                           .runs = 240,
                                           .floor = commit_few,
                                           .product = commit_many,
                                           .context = &c,
                                           .flushes = true });
    product_close(&c.few);
    product_close(&c.many);
}

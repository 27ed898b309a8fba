/* row_write.c - the first store to a page of a session's image. */
#include "disk.h"
#include "memory.h"
#include "product.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIZE = 64 * 1048576, TOTAL = SIZE / BENCH_PAGE, WRITES = 4096 };

struct writes {
    struct product p;
    int file;
    uint8_t *bytes;
    uint32_t *pages;
};

static double floor_copy(void *context)
{
    struct writes *c = context;
    uint8_t *bytes = memory_map(c->file, SIZE);
    const double spent = memory_touch(bytes, c->pages, WRITES);

    munmap(bytes, SIZE);
    return spent;
}

static double floor_clear(void *context)
{
    struct writes *c = context;
    uint8_t *bytes =
        mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (bytes == MAP_FAILED)
        bench_die("cannot map");
    madvise(bytes, SIZE, MADV_NOHUGEPAGE);
    const double spent = memory_touch(bytes, c->pages, WRITES);
    munmap(bytes, SIZE);
    return spent;
}

/* In a session just begun on a full image; dropped after. */
static double fresh_session(void *context)
{
    struct writes *c = context;

    product_begin(&c->p, NULL);
    const double spent = memory_touch(product_image(&c->p, "full", 0), c->pages, WRITES);
    varve_session_abort(c->p.session);
    c->p.session = NULL;
    return spent;
}

/* In the next session of a chain, warm. */
static double chained_session(void *context)
{
    struct writes *c = context;
    const double spent = memory_touch(c->bytes, c->pages, WRITES);

    product_commit(&c->p, VARVE_BUFFERED, NULL);
    return spent;
}

static double empty_image(void *context)
{
    struct writes *c = context;

    product_begin(&c->p, NULL);
    const double spent = memory_touch(product_image(&c->p, "empty", 0), c->pages, WRITES);
    varve_session_abort(c->p.session);
    c->p.session = NULL;
    return spent;
}

void bench_first_write(struct bench *b)
{
    struct writes c = { .file = disk_file(b, "floor", SIZE), .pages = memory_pages(WRITES, TOTAL, false) };
    struct bench_case pair = { .unit = "ns", .goal = { 1.1, 0, "<= 1.1x" }, .runs = 30, .context = &c };

    product_create(&c.p, b, "store");
    product_begin(&c.p, NULL);
    product_image(&c.p, "empty", SIZE);
    product_fill(product_image(&c.p, "full", SIZE), SIZE);
    product_commit(&c.p, VARVE_DURABLE, NULL);
    varve_session_abort(c.p.session);
    c.p.session = NULL;

    pair.name = "pages from the log, session just begun";
    pair.floor = floor_copy;
    pair.product = fresh_session;
    bench_measure(b, &pair);
    pair.name = "pages that hold nothing";
    pair.floor = floor_clear;
    pair.product = empty_image;
    bench_measure(b, &pair);
    product_begin(&c.p, NULL);
    c.bytes = product_image(&c.p, "full", 0);
    pair.name = "pages from the log, next session of a chain";
    pair.floor = floor_copy;
    pair.product = chained_session;
    bench_measure(b, &pair);
    product_close(&c.p);
    close(c.file);
    free(c.pages);
}

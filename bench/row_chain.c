/* row_chain.c - the layout chain: how long it takes to restore a commit, by how long the chain is and where it lies. */
#include "disk.h"
#include "memory.h"
#include "product.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    NOTE = 576 * 1024, /* the note's 1.67 s are of a module of this size in a chain of 200 */
    TOUCHED = 7,       /* pages that a commit changes, 64 bytes in each */
    CHANGED = 64
};

struct chains {
    struct product p;
    size_t size, live; /* bytes of the image; pages that differ from the file that is mapped */
    unsigned number;
    int file;
    uint32_t *pages; /* `live` of them, in rising order */
};

/* A chain of so many commits, each of which changes a few pages at random: half of them among a sixteenth of all. */
static void make_chain(struct chains *c, struct bench *b, const char *name, unsigned count)
{
    varve_error error = { 0 };
    const uint64_t pages = c->size / BENCH_PAGE;

    c->p.layout = VARVE_LAYOUT_CHAIN;
    product_create(&c->p, b, name);
    product_begin(&c->p, NULL);
    uint8_t *bytes = product_image(&c->p, "image", c->size);
    product_fill(bytes, c->size);
    product_commit(&c->p, VARVE_BUFFERED, NULL);
    for (unsigned i = 1; i < count; i++) {
        for (unsigned k = 0; k < TOUCHED; k++) {
            const uint64_t page = bench_random() % (k % 2 == 0 ? pages : pages / 16);
            memset(bytes + page * BENCH_PAGE + bench_random() % (BENCH_PAGE - CHANGED), (int)bench_random(),
                   CHANGED);
        }
        product_commit(&c->p, VARVE_BUFFERED, NULL);
    }
    must(varve_store_persist(c->p.store, &error), &error, "persist");
    product_close(&c->p);
}

/* In a store opened anew: nothing of it is known yet. */
static double restore(void *context)
{
    struct chains *c = context;
    varve_commit *commit = NULL;
    varve_error error = { 0 };
    char revision[16];

    snprintf(revision, sizeof revision, "r%u", c->number);
    product_open(&c->p);
    const double start = bench_now();
    must(varve_commit_open(c->p.store, revision, &commit, &error), &error, revision);
    product_begin(&c->p, commit);
    const uint8_t *bytes = product_image(&c->p, "image", 0);
    for (size_t at = 0; at < c->size; at += BENCH_PAGE)
        bench_use(bytes[at]);
    const double spent = (bench_now() - start) / 1e3;
    varve_session_abort(c->p.session);
    c->p.session = NULL;
    varve_commit_close(commit);
    product_close(&c->p);
    return spent;
}

/* Map a file, copy on write as many pages as changed, in random places, then read all. */
static double floor_copy(void *context)
{
    const struct chains *c = context;
    const double start = bench_now();
    uint8_t *bytes = memory_map(c->file, c->size);

    for (size_t i = 0; i < c->live; i++)
        memset(bytes + (size_t)c->pages[i] * BENCH_PAGE, (int)i, BENCH_PAGE);
    for (size_t at = 0; at < c->size; at += BENCH_PAGE)
        bench_use(bytes[at]);
    const double spent = (bench_now() - start) / 1e3;
    munmap(bytes, c->size);
    return spent;
}

/* How many pages a commit in the middle has on top of the nearer image, about: what its commits changed. */
static size_t live_pages(size_t size, unsigned count)
{
    const size_t pages = size / BENCH_PAGE, most = (size_t)count * TOUCHED;

    return most < pages ? most : pages;
}

static void measure(struct bench *b, struct chains *c, const struct bench_case *pair, size_t live)
{
    c->live = live;
    c->pages = memory_pages((uint32_t)live, (uint32_t)(c->size / BENCH_PAGE), true);
    bench_measure(b, pair);
    free(c->pages);
}

void bench_restore_chain(struct bench *b)
{
    const unsigned counts[] = { 10, 100, 200, 1000 };
    struct chains c = { .size = NOTE, .file = disk_file(b, "floor", 64 * MIB) };
    char name[64], store[32];
    struct bench_case pair = {
        .name = name, .unit = "us", .runs = 60, .floor = floor_copy, .product = restore, .context = &c
    };

    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++) {
        snprintf(store, sizeof store, "store%u", i);
        make_chain(&c, b, store, counts[i]);
        const unsigned numbers[] = { 1, counts[i] / 2, counts[i] };
        static const char *const which[] = { "oldest", "middle", "newest" };
        for (unsigned k = 0; k < 3; k++) {
            c.number = numbers[k];
            pair.goal =
                counts[i] == 200 ? (struct bench_goal){ 1, 5000, "<= 5 ms" } : (struct bench_goal){ 0 };
            snprintf(name, sizeof name, "576 KiB, the %s of %u", which[k], counts[i]);
            measure(b, &c, &pair, k == 1 ? live_pages(c.size, counts[i] / 2) : 0);
        }
    }
    c.size = 64 * MIB;
    make_chain(&c, b, "large", 200);
    pair.goal = (struct bench_goal){ 1.5, 0, "<= 1.5x" };
    pair.runs = 20;
    c.number = 100;
    snprintf(name, sizeof name, "64 MiB, the middle of 200");
    measure(b, &c, &pair, live_pages(c.size, 100));
    close(c.file);
}

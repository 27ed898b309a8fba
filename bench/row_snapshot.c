/* row_snapshot.c - how long a commit takes while a snapshot is written: by the store beside it, or by a forked child. */
#include "product.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 20000, ROUND = 500 };

struct latencies {
    double us[SAMPLES];
    unsigned count;
};

struct beside {
    struct product p;
    uint8_t *bytes;
    uint32_t pages;
    uint64_t round;
    atomic_bool done; /* the snapshot that a thread takes */
    struct latencies idle, during;
};

static void commit_one(struct beside *c, struct latencies *latencies)
{
    const size_t at = (size_t)(bench_random() % c->pages) * BENCH_PAGE + 8 + bench_random() % 500 * 8;

    *(volatile uint64_t *)(c->bytes + at) = bench_random();
    const double start = bench_now();
    product_commit(&c->p, VARVE_DURABLE, NULL);
    if (latencies->count < SAMPLES)
        latencies->us[latencies->count++] = (bench_now() - start) / 1e3;
}

/* So that the next snapshot has every page to write. */
static void change_all(struct beside *c)
{
    c->round++;
    for (uint32_t i = 0; i < c->pages; i++)
        *(volatile uint64_t *)(c->bytes + (size_t)i * BENCH_PAGE) = c->round << 32 | i;
    product_commit(&c->p, VARVE_DURABLE, NULL);
}

static void ask(struct beside *c, uint32_t flags)
{
    varve_maintain_options options = VARVE_INIT(varve_maintain_options);
    varve_error error = { 0 };

    options.flags = flags;
    must(varve_store_maintain(c->p.store, &options, NULL, &error), &error, "take a snapshot");
}

static void *take_snapshot(void *context)
{
    struct beside *c = context;

    ask(c, VARVE_MAINTAIN_SNAPSHOT);
    c->done = true;
    return NULL;
}

static void beside_compact(struct beside *c)
{
    pthread_t thread;

    c->done = false;
    if (pthread_create(&thread, NULL, take_snapshot, c) != 0)
        bench_die("no thread");
    while (!c->done)
        commit_one(c, &c->during);
    pthread_join(thread, NULL);
}

/* The first of these commits forks; the others go on beside its child. */
static void beside_fork(struct beside *c)
{
    ask(c, VARVE_MAINTAIN_SNAPSHOT | VARVE_MAINTAIN_FORK);
    for (unsigned i = 0; i < ROUND; i++)
        commit_one(c, &c->during);
}

static void open_beside(struct beside *c, struct bench *b, const char *name, size_t size)
{
    varve_store_options options = VARVE_INIT(varve_store_options);
    varve_error error = { 0 };

    c->pages = (uint32_t)(size / BENCH_PAGE);
    snprintf(c->p.path, sizeof c->p.path, "%s/%s", b->dir, name);
    options.flags = VARVE_STORE_CREATE;
    options.snapshot_bytes = UINT64_C(1) << 50; /* none but those that are asked for */
    must(varve_store_open(c->p.path, &options, &c->p.store, &error), &error, "make a store");
    product_begin(&c->p, NULL);
    c->bytes = product_image(&c->p, "image", size);
    change_all(c);
}

static void tell(struct bench *b, const char *name, struct beside *c)
{
    struct bench_result result = { .unit = "us", .runs = c->during.count };
    double *idle = c->idle.us, *during = c->during.us;
    const double idle_middle = bench_median(idle, c->idle.count);
    const double middle = bench_median(during, c->during.count);

    snprintf(result.name, sizeof result.name, "%s", name);
    result.floor = bench_quantile(idle, c->idle.count, 0.999);
    result.value = bench_quantile(during, c->during.count, 0.999);
    snprintf(result.note, sizeof result.note,
             "%u commits; medians %.1f and %.1f us; slowest %.0f and %.0f us", c->during.count, idle_middle,
             middle, idle[c->idle.count - 1], during[c->during.count - 1]);
    bench_tell(b, &result);
}

/* Rounds until there are enough commits to speak of one in a thousand, or time is up. */
static void measure(struct bench *b, struct beside *c, const char *name, void (*round)(struct beside *c))
{
    const unsigned wanted = bench_of(b, 2000, 500);
    const double until = bench_now() + (b->quick ? 2e9 : 15e9);

    c->idle.count = c->during.count = 0;
    do {
        change_all(c);
        const unsigned before = c->during.count;
        round(c);
        for (unsigned i = before; i < c->during.count; i++)
            commit_one(c, &c->idle);
    } while (c->during.count < wanted && bench_now() < until);
    tell(b, name, c);
}

static void both_ways(struct bench *b, size_t size, const char *words)
{
    struct beside *c = calloc(1, sizeof *c);
    char name[64];

    if (c == NULL)
        bench_die("no memory");
    snprintf(name, sizeof name, "store%zu", size / MIB);
    open_beside(c, b, name, size);
    snprintf(name, sizeof name, "%s, beside a compact one", words);
    measure(b, c, name, beside_compact);
    snprintf(name, sizeof name, "%s, beside a forked one", words);
    measure(b, c, name, beside_fork);
    product_close(&c->p);
    free(c);
}

void bench_commit_snapshot(struct bench *b)
{
    both_ways(b, 64 * MIB, "64 MiB");
    if (!b->quick)
        both_ways(b, 1024 * MIB, "1 GiB");
}

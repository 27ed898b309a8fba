/* row_open.c - how long it takes until a store, an image, an old commit can be used. */
#include "disk.h"
#include "memory.h"
#include "product.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- The head ----------------------------------------------------------------------------------- */

enum { IMAGE = 65536, SEGMENT = 64 * 1048576 };

struct heads {
    struct product p;
    char floor[600];          /* a directory with the files that the floor opens */
    char few[600], most[600]; /* the stores with the shortest and the longest history */
};

static void write_page(const char *dir, const char *name, off_t size)
{
    char path[700];
    uint8_t page[BENCH_PAGE] = { 1 };

    snprintf(path, sizeof path, "%s/%s", dir, name);
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, size) != 0 || pwrite(fd, page, sizeof page, 0) != sizeof page ||
        pwrite(fd, page, sizeof page, size - BENCH_PAGE) != sizeof page)
        bench_die("make %s: %s", path, strerror(errno));
    close(fd);
}

static int open_at(int dir, const char *name, int flags)
{
    const int fd = openat(dir, name, flags | O_CLOEXEC);

    if (fd < 0)
        bench_die("open %s: %s", name, strerror(errno));
    return fd;
}

static double floor_head(void *context)
{
    const struct heads *c = context;
    struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    uint8_t head[2 * BENCH_PAGE];
    const double start = bench_now();

    const int dir = open_at(AT_FDCWD, c->floor, O_RDONLY | O_DIRECTORY);
    const int lock = open_at(dir, "lock", O_RDWR);
    if (fcntl(lock, F_OFD_SETLK, &all) != 0)
        bench_die("lock: %s", strerror(errno));
    const int file = open_at(dir, "head", O_RDWR);
    if (pread(file, head, sizeof head, 0) != sizeof head)
        bench_die("read the head: %s", strerror(errno));
    const int log = open_at(dir, "log", O_RDWR);
    const uint8_t *bytes = mmap(NULL, SEGMENT, PROT_READ, MAP_SHARED, log, 0);
    if (bytes == MAP_FAILED)
        bench_die("map the log: %s", strerror(errno));
    bench_use(bytes[SEGMENT - BENCH_PAGE]);
    const double spent = (bench_now() - start) / 1e3;
    munmap((void *)(uintptr_t)bytes, SEGMENT);
    close(log);
    close(file);
    close(lock);
    close(dir);
    return spent;
}

static double open_store(void *context)
{
    struct heads *c = context;
    const double start = bench_now();

    product_open(&c->p);
    product_begin(&c->p, NULL);
    const double spent = (bench_now() - start) / 1e3;
    product_close(&c->p);
    return spent;
}

/* `count` commits, the last of them durable. */
static void commits(struct product *p, struct bench *b, const char *store, unsigned count)
{
    varve_error error = { 0 };

    product_create(p, b, store);
    product_begin(p, NULL);
    uint8_t *bytes = product_image(p, "image", IMAGE);
    for (unsigned i = 0; i < count; i++) {
        *(volatile uint64_t *)(bytes + (size_t)(i % (IMAGE / BENCH_PAGE)) * BENCH_PAGE) = i + 1;
        product_commit(p, VARVE_BUFFERED, NULL);
    }
    must(varve_store_persist(p->store, &error), &error, "persist");
}

/* The same by a process that ends without closing, so that no checkpoint is made at its end. */
static void commits_and_no_close(struct product *p, struct bench *b, const char *store, unsigned count)
{
    int status = 0;
    const pid_t child = fork();

    if (child == 0) {
        commits(p, b, store, count);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        bench_die("the process that makes commits failed");
    snprintf(p->path, sizeof p->path, "%s/%s", b->dir, store);
}

static double open_few(void *context)
{
    struct heads *c = context;

    snprintf(c->p.path, sizeof c->p.path, "%s", c->few);
    return open_store(c);
}

static double open_most(void *context)
{
    struct heads *c = context;

    snprintf(c->p.path, sizeof c->p.path, "%s", c->most);
    return open_store(c);
}

/* An index checkpoint comes every 256 commits and when a store is closed, so what came since and must be read is at
 * its longest just before one when nobody closed. */
void bench_open_head(struct bench *b)
{
    enum { CHECKPOINT = 256, LONGEST = 250 };
    const unsigned counts[] = { 10, 1000, bench_of(b, 100000, 10000) };
    struct heads c = { .floor = "" };
    char name[64], store[32];
    struct bench_case pair = { .name = name,
                               .unit = "us",
                               .goal = { 1.5, 0, "<= 1.5x" },
                               .runs = 150,
                               .context = &c,
                               .floor = floor_head,
                               .product = open_store };

    snprintf(c.floor, sizeof c.floor, "%s", b->dir);
    write_page(c.floor, "lock", BENCH_PAGE);
    write_page(c.floor, "head", 2 * BENCH_PAGE);
    write_page(c.floor, "log", SEGMENT);
    commits_and_no_close(&c.p, b, "killed", 3 * CHECKPOINT + LONGEST);
    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++) {
        snprintf(store, sizeof store, "store%u", i);
        commits(&c.p, b, store, counts[i]);
        product_close(&c.p);
        snprintf(name, sizeof name, "after %u commits", counts[i]);
        bench_measure(b, &pair);
        if (i == 0)
            snprintf(c.few, sizeof c.few, "%s", c.p.path);
    }
    snprintf(c.most, sizeof c.most, "%s", c.p.path);
    snprintf(name, sizeof name, "after %u commits against after %u", counts[2], counts[0]);
    pair.goal = (struct bench_goal){ 1.2, 0, "<= 1.2x" };
    pair.floor = open_few;
    pair.product = open_most;
    bench_measure(b, &pair);
    snprintf(c.p.path, sizeof c.p.path, "%s/killed", b->dir);
    snprintf(name, sizeof name, "by a writer that was killed, the longest tail");
    pair.goal.times = 0;
    pair.floor = floor_head;
    pair.product = open_store;
    bench_measure(b, &pair);
}

/* ---- One image ---------------------------------------------------------------------------------- */

enum { BIG = 16 * 1048576, MIDDLE = 1048576 };

struct images {
    struct product p;
    int file;
    unsigned next, floor_next;
};

/* Map a file, copy its first pages on write, read the others. */
static double map_and_copy(struct images *c, size_t size, size_t copied)
{
    const double start = bench_now();
    uint8_t *bytes = memory_map(c->file, size);

    for (size_t at = 0; at < copied; at += BENCH_PAGE)
        *(volatile uint8_t *)(bytes + at) = 1;
    for (size_t at = copied; at < size; at += BENCH_PAGE)
        bench_use(bytes[at]);
    const double spent = (bench_now() - start) / 1e3;
    munmap(bytes, size);
    return spent;
}

static double floor_big(void *context)
{
    return map_and_copy(context, BIG, BIG);
}

static double floor_big_read(void *context)
{
    return map_and_copy(context, BIG, 0);
}

static double floor_middle(void *context)
{
    return map_and_copy(context, MIDDLE, MIDDLE);
}

/* As many pages on top as the commit that is opened in turn has changed since, or lacks. */
static double floor_newest(void *context)
{
    struct images *c = context;

    return map_and_copy(c, MIDDLE, (size_t)(c->floor_next++ % 200) * BENCH_PAGE);
}

/* So that the store has image files of what it holds now. */
static void take_snapshot(struct product *p)
{
    varve_maintain_options options = VARVE_INIT(varve_maintain_options);
    varve_error error = { 0 };

    options.flags = VARVE_MAINTAIN_SNAPSHOT;
    must(varve_store_maintain(p->store, &options, NULL, &error), &error, "take a snapshot");
}

/* In a store opened anew, so that no warm image of it waits; every page is looked at. */
static double open_image(void *context)
{
    struct images *c = context;

    product_open(&c->p);
    const double start = bench_now();
    product_begin(&c->p, NULL);
    const uint8_t *bytes = product_image(&c->p, "image", 0);
    for (size_t at = 0; at < BIG; at += BENCH_PAGE)
        bench_use(bytes[at]);
    const double spent = (bench_now() - start) / 1e3;
    product_close(&c->p);
    return spent;
}

void bench_open_image(struct bench *b)
{
    struct images c = { .file = disk_file(b, "floor", BIG) };

    product_create(&c.p, b, "store");
    product_begin(&c.p, NULL);
    product_fill(product_image(&c.p, "image", BIG), BIG);
    product_commit(&c.p, VARVE_DURABLE, NULL);
    product_close(&c.p);
    struct bench_case pair = { .name = "16 MiB, all from the log",
                               .unit = "us",
                               .goal = { 1.5, 0, "<= 1.5x" },
                               .runs = 30,
                               .floor = floor_big,
                               .product = open_image,
                               .context = &c };
    bench_measure(b, &pair);
    product_open(&c.p);
    take_snapshot(&c.p);
    product_close(&c.p);
    pair.name = "16 MiB, from its image file";
    pair.floor = floor_big_read;
    bench_measure(b, &pair);
    close(c.file);
}

/* ---- Any commit --------------------------------------------------------------------------------- */

enum { HISTORY = 1000 };

static double open_number(struct images *c, unsigned number)
{
    varve_commit *commit = NULL;
    varve_error error = { 0 };
    char revision[16];

    snprintf(revision, sizeof revision, "r%u", number);
    const double start = bench_now();
    must(varve_commit_open(c->p.store, revision, &commit, &error), &error, revision);
    product_begin(&c->p, commit);
    const uint8_t *bytes = product_image(&c->p, "image", 0);
    for (size_t at = 0; at < MIDDLE; at += BENCH_PAGE)
        bench_use(bytes[at]);
    const double spent = (bench_now() - start) / 1e3;
    varve_session_abort(c->p.session);
    c->p.session = NULL;
    varve_commit_close(commit);
    return spent;
}

/* Commit 1 made all pages; from then on each commit changed one. */
static double open_oldest(void *context)
{
    struct images *c = context;

    return open_number(c, 1 + c->next++ % 200);
}

static double open_middle(void *context)
{
    struct images *c = context;

    return open_number(c, HISTORY / 2 + c->next++ % 200);
}

static double open_newest(void *context)
{
    struct images *c = context;

    return open_number(c, HISTORY - c->next++ % 200);
}

void bench_open_commit(struct bench *b)
{
    struct images c = { .file = disk_file(b, "floor", MIDDLE) };
    struct bench_case pair = {
        .unit = "us", .goal = { 1.5, 0, "<= 1.5x" }, .runs = 150, .context = &c, .floor = floor_middle
    };

    product_create(&c.p, b, "store");
    product_begin(&c.p, NULL);
    uint8_t *bytes = product_image(&c.p, "image", MIDDLE);
    product_fill(bytes, MIDDLE);
    for (unsigned i = 0; i < HISTORY; i++) {
        *(volatile uint64_t *)(bytes + (size_t)(i % (MIDDLE / BENCH_PAGE)) * BENCH_PAGE + 8) = bench_random();
        product_commit(&c.p, VARVE_BUFFERED, NULL);
    }
    product_close(&c.p);
    product_open(&c.p);
    take_snapshot(&c.p);
    pair.name = "the oldest of 1000";
    pair.product = open_oldest;
    bench_measure(b, &pair);
    pair.name = "in the middle";
    pair.product = open_middle;
    bench_measure(b, &pair);
    pair.name = "one of the newest 200";
    pair.floor = floor_newest;
    pair.product = open_newest;
    bench_measure(b, &pair);
    product_close(&c.p);
    close(c.file);
}

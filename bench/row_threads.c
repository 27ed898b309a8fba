/* row_threads.c - commits that are made at once by several threads, each with a session and a branch of its own. */
#include "disk.h"
#include "product.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 8, SIZE = 65536, SLICE = 1048576 };

struct crowd;
struct member {
    struct crowd *crowd;
    pthread_t thread;
    unsigned number;
    struct product p; /* the store is that of all */
    uint8_t *bytes;
    uint64_t next; /* what is written next */
    off_t at;      /* in this thread's slice of the file that the floor overwrites */
};
/* The threads wait for each other before and after a round, so that starting them is not measured. */
struct crowd {
    struct product p;
    struct disk disk;
    pthread_barrier_t begin, end;
    void (*turn)(struct member *member); /* NULL: leave */
    unsigned members, turns;
    size_t written; /* by a commit, rounded up to what the log pads it to */
    struct member member[MOST];
};

static void commit_once(struct member *member)
{
    const uint64_t at = member->next % (SIZE / BENCH_PAGE) * BENCH_PAGE + member->next / 16 % 500 * 8;

    *(volatile uint64_t *)(member->bytes + at) = ++member->next;
    product_commit(&member->p, VARVE_DURABLE, NULL);
}

static void flush_once(struct member *member)
{
    struct disk *disk = &member->crowd->disk;
    const size_t size = member->crowd->written;

    if ((size_t)member->at + size > SLICE)
        member->at = 0;
    const off_t at = (off_t)member->number * SLICE + member->at;
    member->at += (off_t)size;
    if (pwrite(disk->buffered, disk->bytes, size, at) != (ssize_t)size || fdatasync(disk->buffered) != 0)
        bench_die("flush: %s", strerror(errno));
}

static void *work(void *context)
{
    struct member *member = context;
    struct crowd *crowd = member->crowd;

    for (;;) {
        pthread_barrier_wait(&crowd->begin);
        if (crowd->turn == NULL)
            return NULL;
        for (unsigned i = 0; i < crowd->turns; i++)
            crowd->turn(member);
        pthread_barrier_wait(&crowd->end);
    }
}

/* us for each of the turns of all. */
static double run_all(struct crowd *crowd, void (*turn)(struct member *member))
{
    crowd->turn = turn;
    const double start = bench_now();
    pthread_barrier_wait(&crowd->begin);
    pthread_barrier_wait(&crowd->end);
    return (bench_now() - start) / 1e3 / (crowd->turns * crowd->members);
}

static double all_flush(void *context)
{
    return run_all(context, flush_once);
}

static double all_commit(void *context)
{
    return run_all(context, commit_once);
}

static void begin_on_branch(struct member *member, const varve_commit *base)
{
    varve_session_options options = VARVE_INIT(varve_session_options);
    varve_error error = { 0 };
    varve_commit_info info;
    char branch[16];

    snprintf(branch, sizeof branch, "branch%u", member->number);
    member->p = member->crowd->p;
    options.base = base;
    options.branch = branch;
    must(varve_session_begin(member->p.store, &options, &member->p.session, &error), &error,
         "begin a session");
    member->bytes = product_image(&member->p, branch, SIZE);
    product_fill(member->bytes, SIZE);
    product_commit(&member->p, VARVE_DURABLE, NULL);
    ++*(volatile uint64_t *)member->bytes;
    product_commit(&member->p, VARVE_DURABLE, &info);
    member->crowd->written = ((size_t)info.bytes_written + BENCH_PAGE - 1) / BENCH_PAGE * BENCH_PAGE;
}

static void start(struct crowd *crowd, unsigned members)
{
    crowd->members = members;
    pthread_barrier_init(&crowd->begin, NULL, members + 1);
    pthread_barrier_init(&crowd->end, NULL, members + 1);
    for (unsigned i = 0; i < members; i++) {
        struct member *member = &crowd->member[i];
        if (pthread_create(&member->thread, NULL, work, member) != 0)
            bench_die("no thread");
    }
}

static void stop(struct crowd *crowd)
{
    crowd->turn = NULL;
    pthread_barrier_wait(&crowd->begin);
    for (unsigned i = 0; i < crowd->members; i++)
        pthread_join(crowd->member[i].thread, NULL);
    pthread_barrier_destroy(&crowd->begin);
    pthread_barrier_destroy(&crowd->end);
}

void bench_commits_at_once(struct bench *b)
{
    static const unsigned counts[] = { 1, 2, MOST };
    struct crowd crowd = { .turns = 20 };
    varve_commit *base = NULL;
    varve_error error = { 0 };
    double flushes = 0;

    disk_open(&crowd.disk, b, (size_t)MOST * SLICE);
    product_create(&crowd.p, b, "store");
    product_begin(&crowd.p, NULL);
    product_image(&crowd.p, "image", SIZE);
    product_commit(&crowd.p, VARVE_DURABLE, NULL);
    must(varve_commit_open(crowd.p.store, "main", &base, &error), &error, "main");
    for (unsigned i = 0; i < MOST; i++) {
        crowd.member[i] = (struct member){ .crowd = &crowd, .number = i };
        begin_on_branch(&crowd.member[i], base);
    }
    varve_commit_close(base);
    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++) {
        char name[64];
        snprintf(name, sizeof name, counts[i] == 1 ? "%u session" : "%u sessions", counts[i]);
        start(&crowd, counts[i]);
        bench_measure(b, &(struct bench_case){ .name = name,
                                               .unit = "us",
                                               .runs = 90,
                                               .floor = all_flush,
                                               .product = all_commit,
                                               .context = &crowd,
                                               .flushes = true });
        stop(&crowd);
        const struct bench_result *result = &b->results[*b->count - 1];
        if (i == 0)
            flushes = 1e6 / result->floor;
        bench_note("%.0f commits a second; flushes a second: %.0f, by one thread %.0f", 1e6 / result->value,
                   1e6 / result->floor, flushes);
    }
    for (unsigned i = 0; i < MOST; i++)
        varve_session_abort(crowd.member[i].p.session);
    product_close(&crowd.p);
    disk_close(&crowd.disk);
}

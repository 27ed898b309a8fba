/* bench.h - varve against the floor: what the best plain code needs for the work that physics asks for.
 *
 *   row   one question, with a head that says what its floor is and why; runs in a process of its own, so that
 *         no row inherits another's mappings, and a failing one is told and the others still measured
 *   case  one measured pair: floor and product take turns in that one process, medians count
 * The product side uses include/varve.h alone. Floors may use anything. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BENCH_PAGE = 4096, BENCH_SAMPLES = 2000, BENCH_RESULTS = 128 };
#define MIB ((size_t)1 << 20)

struct bench_result {
    char name[96], full[160], unit[16], note[160];
    double floor, value;
    double allowed; /* the largest value that meets the goal; 0: there is none */
    double floor_low, floor_high, value_low, value_high; /* p10 and p90 */
    char goal[32];                                       /* the goal in words */
    unsigned runs;
    bool noisy; /* half of the floors were twice their p10: the ratio says nothing */
};

struct bench {
    char dir[512]; /* scratch, this row's own; removed with all in it after the row */
    bool quick;
    const char *row;              /* the running row's name */
    struct bench_result *results; /* shared by all rows' processes */
    unsigned *count;
};

struct bench_row {
    const char *name;
    const char *words;            /* the head: what is measured, what the floor is and why it is one */
    void (*run)(struct bench *b); /* NULL: this build has no engine */
};

/* One run of one side: what it measured, in the case's unit. */
typedef double (*bench_fn)(void *context);

/* The goal: value <= times * floor + plus. */
struct bench_goal {
    double times, plus; /* times 0: none */
    const char *words;
};

struct bench_case {
    const char *name, *unit;
    struct bench_goal goal;
    unsigned runs; /* of each side; fewer when time runs out; a quick bench takes a third */
    bench_fn floor;
    bench_fn other_floor;   /* another way to do the same: the better median is the floor; or NULL */
    const char *other_note; /* told when that was the better one */
    bench_fn product;
    void *context;
    bool flushes; /* the floor is a flush: tell how many were disturbed */
};
void bench_measure(struct bench *b, const struct bench_case *pair);
/* What was counted and not timed. allowed 0: no goal. */
void bench_tell(struct bench *b, const struct bench_result *result);
/* A line under the row: something to know, or why a case is left out. */
void bench_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

double bench_now(void); /* ns */
/* What was read counts as used, so that reading it is not left out. */
static inline void bench_use(uint64_t value)
{
    __asm__ volatile("" : : "r"(value));
}
uint64_t bench_random(void); /* one stream, the same in every run */
double bench_median(double *values, unsigned count);
/* The value below which `share` of the sorted values lie. */
double bench_quantile(const double *sorted, unsigned count, double share);
unsigned bench_of(const struct bench *b, unsigned full, unsigned quick);

/* Rows; those of calls are there when the build has an engine. */
void bench_durable_commit(struct bench *b);
void bench_commit_per_page(struct bench *b);
void bench_root_per_page(struct bench *b);
void bench_commit_images(struct bench *b);
void bench_commit_history(struct bench *b);
void bench_commits_at_once(struct bench *b);
void bench_commit_snapshot(struct bench *b);
void bench_first_write(struct bench *b);
void bench_open_head(struct bench *b);
void bench_open_image(struct bench *b);
void bench_open_commit(struct bench *b);
void bench_bytes(struct bench *b);
void bench_bytes_guests(struct bench *b);
void bench_layouts(struct bench *b);
void bench_tree(struct bench *b);
void bench_restore_chain(struct bench *b);
void bench_lmdb(struct bench *b);
void bench_sqlite(struct bench *b);
void bench_empty_call(struct bench *b);
void bench_writing_call(struct bench *b);
void bench_unguarded_call(struct bench *b);
void bench_begin(struct bench *b);
void bench_compute(struct bench *b);

#endif

/* bench.c - see bench.h. Clock, samples, and the lines of the table. */
#include "bench.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LEAST_RUNS = 5 };

double bench_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

uint64_t bench_random(void)
{
    static uint64_t state = UINT64_C(88172645463325252);

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

_Noreturn void bench_die(const char *format, ...)
{
    va_list args;

    fflush(stdout);
    fputs("varve-bench: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

void bench_note(const char *format, ...)
{
    va_list args;

    fputs("    ", stdout);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_quantile(const double *sorted, unsigned count, double share)
{
    return sorted[(unsigned)((double)(count - 1) * share + 0.5)];
}

double bench_median(double *values, unsigned count)
{
    qsort(values, count, sizeof *values, by_value);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

unsigned bench_of(const struct bench *b, unsigned full, unsigned quick)
{
    return b->quick ? quick : full;
}

/* Four digits are more than a busy machine can tell. */
static const char *number(char text[16], double value)
{
    const double size = value < 0 ? -value : value;

    snprintf(text, 16, "%.*f", size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3, value);
    return text;
}

void bench_tell(struct bench *b, const struct bench_result *result)
{
    char f[16], v[16], a[16], c[16], d[16], e[16];
    const char *verdict = result->allowed == 0               ? ""
                          : result->noisy                    ? "noisy"
                          : result->value <= result->allowed ? "met"
                                                             : "MISSED";

    if (*b->count == BENCH_RESULTS)
        bench_die("more than %d results", BENCH_RESULTS);
    struct bench_result *kept = &b->results[(*b->count)++];
    *kept = *result;
    snprintf(kept->full, sizeof kept->full, "%s: %s", b->row, result->name);
    printf("  %-46s %-5s %9s %9s %7.2fx  %-14s %-6s", result->name, result->unit, number(f, result->floor),
           number(v, result->value), result->value / result->floor, result->goal, verdict);
    if (result->floor_high > 0)
        printf(" %5u  %s-%s | %s-%s", result->runs, number(a, result->floor_low),
               number(c, result->floor_high), number(d, result->value_low), number(e, result->value_high));
    putchar('\n');
    if (result->note[0] != '\0')
        bench_note("%s", result->note);
    fflush(stdout);
}

static unsigned disturbed(const double *sorted, unsigned count)
{
    const double low = bench_quantile(sorted, count, 0.1);
    unsigned above = 0;

    for (unsigned i = 0; i < count; i++)
        above += sorted[i] > 2 * low;
    return above;
}

void bench_measure(struct bench *b, const struct bench_case *pair)
{
    static double floors[BENCH_SAMPLES], others[BENCH_SAMPLES], values[BENCH_SAMPLES];
    unsigned wanted = b->quick ? (pair->runs + 2) / 3 : pair->runs, runs = 0;
    struct bench_result result = { .allowed = 0 };
    double *floor = floors;
    /* Runs are cut short rather than one slow case taking the time of all: quick means under a minute. */
    const double until = bench_now() + (b->quick ? 1.5e9 : 15e9);

    if (wanted > BENCH_SAMPLES)
        wanted = BENCH_SAMPLES;
    if (wanted < LEAST_RUNS)
        wanted = LEAST_RUNS;
    for (; runs < wanted && (runs < LEAST_RUNS || bench_now() < until); runs++) {
        floors[runs] = pair->floor(pair->context);
        if (pair->other_floor != NULL)
            others[runs] = pair->other_floor(pair->context);
        values[runs] = pair->product(pair->context);
    }
    result.floor = bench_median(floors, runs);
    if (pair->other_floor != NULL && bench_median(others, runs) < result.floor) {
        floor = others;
        result.floor = bench_median(others, runs);
        snprintf(result.note, sizeof result.note, "%s", pair->other_note);
    }
    result.value = bench_median(values, runs);
    result.runs = runs;
    result.floor_low = bench_quantile(floor, runs, 0.1);
    result.floor_high = bench_quantile(floor, runs, 0.9);
    result.value_low = bench_quantile(values, runs, 0.1);
    result.value_high = bench_quantile(values, runs, 0.9);
    if (pair->goal.times > 0) {
        result.allowed = pair->goal.times * result.floor + pair->goal.plus;
        snprintf(result.goal, sizeof result.goal, "%s", pair->goal.words);
    }
    snprintf(result.name, sizeof result.name, "%s", pair->name);
    snprintf(result.unit, sizeof result.unit, "%s", pair->unit);
    const unsigned noisy = pair->flushes ? disturbed(floor, runs) : 0;
    result.noisy = noisy * 2 > runs;
    if (noisy * 10 > runs)
        snprintf(result.note + strlen(result.note), sizeof result.note - strlen(result.note),
                 "%snoisy: %u of %u floors above twice their p10", result.note[0] != '\0' ? "; " : "", noisy,
                 runs);
    bench_tell(b, &result);
}

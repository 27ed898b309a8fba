/* row_bytes.c - what commits of images write, against what differs. */
#include "bytes.h"
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t differing(const varve_change *change)
{
    const uint8_t *a = change->before, *b = change->after;
    uint64_t count = 0;

    for (size_t i = 0; i < BENCH_PAGE; i++)
        count += (a != NULL ? a[i] : 0) != (b != NULL ? b[i] : 0);
    return count;
}

/* Bytes and pages that differ between two commits, in all images. */
static void compare(varve_store *store, const varve_commit *from, const varve_commit *to,
                    struct bytes_sum *sum)
{
    varve_diff *diff = NULL;
    const varve_change *change = NULL;
    varve_error error = { 0 };
    varve_status rc;

    must(varve_diff_open(store, from, to, &diff, &error), &error, "compare");
    while ((rc = varve_diff_next(diff, &change, &error)) == VARVE_OK)
        if (change->kind == VARVE_CHANGE_PAGE) {
            sum->changed += differing(change);
            sum->pages++;
        } else if (change->kind == VARVE_CHANGE_GLOBAL || change->kind == VARVE_CHANGE_META) {
            sum->changed += change->after_size;
        }
    if (rc != VARVE_END)
        must(rc, &error, "compare");
    varve_diff_close(diff);
}

void bytes_commit(struct product *p, struct bytes_sum *sum)
{
    varve_commit_options options = VARVE_INIT(varve_commit_options);
    varve_commit *commit = NULL, *base = NULL;
    varve_error error = { 0 };

    options.flags = VARVE_COMMIT_CHAIN;
    options.durability = VARVE_BUFFERED; /* the bytes are the same, and they are what is asked */
    must(varve_commit_open(p->store, NULL, &base, &error), &error, "the base");
    must(varve_session_commit(p->session, &options, &commit, &error), &error, "commit");
    compare(p->store, base, commit, sum);
    const uint64_t written = varve_commit_get(commit)->bytes_written;
    sum->written += written;
    sum->padded +=
        (written + BENCH_PAGE - 1) / BENCH_PAGE * BENCH_PAGE; /* a record begins at a page of the log */
    sum->commits++;
    varve_commit_close(base);
    varve_commit_close(commit);
}

void bytes_tell(struct bench *b, const char *name, const struct bytes_sum *sum)
{
    struct bench_result result = { .unit = "bytes", .goal = "48/page + 512", .runs = sum->commits };
    const double n = sum->commits;

    snprintf(result.name, sizeof result.name, "%s", name);
    result.floor = (double)sum->changed / n;
    result.value = (double)sum->written / n;
    result.allowed = ((double)sum->changed + 48.0 * (double)sum->pages) / n + 512;
    snprintf(result.note, sizeof result.note,
             "%u commits; a commit: %.1f pages, %.0f bytes changed, %.0f written, %.0f with padding",
             sum->commits, (double)sum->pages / n, result.floor, result.value, (double)sum->padded / n);
    bench_tell(b, &result);
}

/* ---- Synthetic ---------------------------------------------------------------------------------- */

static void synthetic(struct bench *b, const char *name, uint32_t pages, uint32_t words)
{
    enum { SIZE = 16 * 1048576 };
    struct product p = { .vm = NULL };
    struct bytes_sum sum = { .commits = 0 };
    char store[32];

    snprintf(store, sizeof store, "store%u-%u", pages, words);
    product_create(&p, b, store);
    product_begin(&p, NULL);
    uint8_t *bytes = product_image(&p, "image", SIZE);
    product_fill(bytes, SIZE);
    product_commit(&p, VARVE_DURABLE, NULL);
    for (unsigned i = 0; i < bench_of(b, 300, 60); i++) {
        uint32_t *chosen = memory_pages(pages, SIZE / BENCH_PAGE, true);
        for (uint32_t k = 0; k < pages; k++)
            for (uint32_t w = 0; w < words; w++) {
                const uint64_t word = bench_random();
                memcpy(bytes + (size_t)chosen[k] * BENCH_PAGE + bench_random() % 512 * 8, &word, 8);
            }
        free(chosen);
        bytes_commit(&p, &sum);
    }
    bytes_tell(b, name, &sum);
    product_close(&p);
}

void bench_bytes(struct bench *b)
{
    synthetic(b, "1 page, 1 word", 1, 1);
    synthetic(b, "1 page, 5 words", 1, 5);
    synthetic(b, "100 pages, 5 words in each", 100, 5);
    synthetic(b, "1000 pages, 1 word in each", 1000, 1);
}
